using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Representation;

// CoCa (Yu et al. 2022, arXiv:2205.01917) as open_clip builds it: a CLIP whose image tower ends in learned queries (the first gives the
// embedding, the others are what a decoder looks at), whose text tower reads a class token at the end, and whose decoder goes on from the
// text tower's tokens and writes captions. The towers are open_clip's own (OpenClipModel.cs); what is new is here.

/// <summary>
/// Attention from tokens of one width to tokens of another, as torch.nn.MultiheadAttention with kdim and vdim.
/// Keys: q_proj_weight [width, width], k_proj_weight, v_proj_weight [width, context], in_proj_bias [3 width], out_proj.
/// </summary>
public sealed class ContextAttention(int width, int contextWidth, int heads) : Module
{
    public Parameter QProjWeight { get; } = new([Attention.Divisible(width, heads), width], Init.XavierUniform);

    public Parameter KProjWeight { get; } = new([width, contextWidth], Init.XavierUniform);

    public Parameter VProjWeight { get; } = new([width, contextWidth], Init.XavierUniform);

    public Parameter InProjBias { get; } = new([3 * width], Init.Zeros);

    public Linear OutProj { get; } = new(width, width);

    /// <param name="context">[b, tokens, context width]</param>
    /// <param name="queries">[b, queries, width]</param>
    /// <returns>[b, queries, width]</returns>
    public Tensor Forward(Tensor context, Tensor queries)
    {
        using var scope = NewDisposeScope();
        var bias = InProjBias.Value.chunk(3);
        var q = Attention.SplitHeads(Native.TorchOps.Linear(queries, QProjWeight.Value, bias[0]), heads);
        var k = Attention.SplitHeads(Native.TorchOps.Linear(context, KProjWeight.Value, bias[1]), heads);
        var v = Attention.SplitHeads(Native.TorchOps.Linear(context, VProjWeight.Value, bias[2]), heads);
        return OutProj.Forward(Attention.MergeHeads(Attention.Apply(q, k, v))).MoveToOuterDisposeScope();
    }
}

/// <summary>Learned queries that ask the tokens. Keys: query [queries, width], attn, ln_q, ln_k.</summary>
public sealed class AttentionalPooler(int width, int contextWidth, int heads, int queries) : Module
{
    public Parameter Query { get; } = new([queries, width], Init.Normal(1));

    /// <summary>Where the widths are the same, torch keeps the three projections in one matrix.</summary>
    [Key("attn")]
    public FusedAttention? SameWidth { get; } = width == contextWidth ? new(width, heads) : null;

    [Key("attn")]
    public ContextAttention? OtherWidth { get; } = width == contextWidth ? null : new(width, contextWidth, heads);

    public LayerNorm LnQ { get; } = new(width);

    public LayerNorm LnK { get; } = new(contextWidth);

    /// <param name="x">[b, tokens, context width]</param>
    /// <param name="count">Only the first queries ask; null: all.</param>
    /// <returns>[b, queries, width]</returns>
    public Tensor Forward(Tensor x, int? count = null)
    {
        using var scope = NewDisposeScope();
        var asking = count is { } n ? Query.Value.narrow(0, 0, n) : Query.Value;
        var q = LnQ.Forward(asking).unsqueeze(0).expand(x.shape[0], -1, -1);
        var k = LnK.Forward(x);
        return (SameWidth?.Forward(k, queries: q) ?? OtherWidth!.Forward(k, q)).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// The text tower: a class token after the last one, causal, so that the tokens before it serve the decoder. Keys: positional_embedding
/// [context + 1, width], cls_emb [width], text_projection [width, embedding], token_embedding, transformer, ln_final.
/// </summary>
public sealed class CoCaText : Module, ITextTower
{
    readonly OpenClipTextConfig t;

    public CoCaText(OpenClipConfig c)
    {
        t = c.TextCfg;
        if (t.NoCausalMask || t.ProjBias || t.ProjType != "linear")
            throw new PanoptesException("text_cfg of a CoCa asks for no_causal_mask, proj_bias or another proj_type; expected a causal text tower with a plain projection.");
        var std = 1 / Math.Sqrt(t.Width);
        var residual = Init.Normal(std / Math.Sqrt(2 * t.Layers));
        EmbeddingSize = c.EmbedDim;
        ClsEmb = new([t.Width], Init.Normal(0.01));
        PositionalEmbedding = new([t.ContextLength + 1, t.Width], Init.Normal(0.01));
        TextProjection = new([t.Width, c.EmbedDim], Init.Normal(std));
        TokenEmbedding = new(t.VocabSize, t.Width, Init.Normal(0.02));
        Transformer = new(t.Layers, t.Width, t.Heads, t.MlpRatio, OpenClipVisual.Act(c, t.ActKwargs), t.NormKwargs?.Eps ?? 1e-5, t.LsInitValue,
            new(Init.Normal(std), residual, Init.Normal(1 / Math.Sqrt(2 * t.Width)), residual));
        LnFinal = new(t.Width, t.NormKwargs?.Eps ?? 1e-5);
    }

    public Parameter ClsEmb { get; }

    public Parameter PositionalEmbedding { get; }

    public Parameter TextProjection { get; }

    public Embedding TokenEmbedding { get; }

    public OpenClipTransformer Transformer { get; }

    public LayerNorm LnFinal { get; }

    public int EmbeddingSize { get; }

    public int ContextLength => t.ContextLength;

    public int VocabularySize => t.VocabSize;

    public int TokenSize => t.Width;

    public LayerGroups LayerGroups =>
        LayerGroups.Of([TokenEmbedding, PositionalEmbedding, ClsEmb], Transformer.Resblocks, [LnFinal], [TextProjection]);

    /// <param name="inputIds">[b, tokens] int64, padded with the config's pad_id</param>
    /// <param name="attentionMask">Not looked at: the padding is known by its id, as in open_clip.</param>
    public Tensor Encode(Tensor inputIds, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        // Padding hides the key after it (or its own), so that what comes later in every row is seen by nothing and need not be computed.
        var places = arange(inputIds.shape[1], dtype: ScalarType.Int64, device: inputIds.device);
        var last = inputIds.ne(t.PadId).to(ScalarType.Int64).mul(places).max().item<long>();
        var (x, mask) = Embed(inputIds, (int)Math.Min(inputIds.shape[1], last + 2));
        var at = full(x.shape[0], x.shape[1] - 1, dtype: ScalarType.Int64, device: x.device);
        return LnFinal.Forward(Transformer.ForwardAt(x, at, mask, causal: true)).matmul(TextProjection.Value).MoveToOuterDisposeScope();
    }

    /// <returns>The tokens without the class token and before the last norm, as the decoder takes them; the pooled class token after it.</returns>
    public TowerOutput Forward(Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false)
    {
        if (hiddenStates) throw new PanoptesException("The states between the layers are kept for Hugging Face's CLIP only.");
        using var scope = NewDisposeScope();
        var count = (int)inputIds.shape[1];
        var (x, mask) = Embed(inputIds, count);
        x = Transformer.Forward(x, mask, causal: true);
        var pooled = LnFinal.Forward(x.select(1, count));
        return new(x.narrow(1, 0, count).MoveToOuterDisposeScope(), pooled.MoveToOuterDisposeScope(), pooled.matmul(TextProjection.Value).MoveToOuterDisposeScope());
    }

    public Tensor EmbedTokens(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return LnFinal.Forward(tokens).matmul(TextProjection.Value).MoveToOuterDisposeScope();
    }

    /// <summary>The next token of every row: ids [b, 1] at <paramref name="position"/> to [b, 1, width], one cache a layer.</summary>
    internal Tensor Next(Tensor ids, int position, IReadOnlyList<KeyValueCache> caches)
    {
        using var scope = NewDisposeScope();
        var x = TokenEmbedding.Forward(ids) + PositionalEmbedding.Value[position];
        for (var i = 0; i < Transformer.Resblocks.Count; i++) x = Transformer.Resblocks[i].Next(x, caches[i]);
        return x.MoveToOuterDisposeScope();
    }

    /// <summary>The first <paramref name="count"/> tokens with the class token after them, and which keys may be seen: [b, 1, 1, count + 1] bool.</summary>
    (Tensor X, Tensor Mask) Embed(Tensor ids, int count)
    {
        if (ids.shape[1] > t.ContextLength)
            throw new PanoptesException($"A text of {ids.shape[1]} tokens was given to a model whose texts have at most {t.ContextLength}.");
        using var scope = NewDisposeScope();
        var (rows, all) = (ids.shape[0], ids.shape[1]);
        var positions = PositionalEmbedding.Value;
        var kept = ids.narrow(1, 0, count);
        var words = TokenEmbedding.Forward(kept) + positions.narrow(0, 0, count);
        var x = cat([words, (ClsEmb.Value + positions[all]).to(words.dtype).expand(rows, 1, -1)], 1);

        // open_clip's own models put the class token's place in the mask first instead of last: padding at p hides the key p + 1.
        var words0 = kept.ne(t.PadId);
        var seen = ones(rows, 1, dtype: ScalarType.Bool, device: ids.device);
        var mask = t.CorrectClsMask == true ? cat([words0, seen], 1) : cat([seen, words0.narrow(1, 0, count - 1), ids.narrow(1, all - 1, 1).ne(t.PadId)], 1);
        return (x.MoveToOuterDisposeScope(), mask.view(rows, 1, 1, -1).MoveToOuterDisposeScope());
    }
}

/// <summary>Tokens that attend to an image's. Keys: ln_1, ln_1_kv, attn, ls_1, ln_2, mlp, ls_2.</summary>
public sealed class CoCaCrossBlock(int width, int heads, Activation activation, double? scale) : Module
{
    [Key("ln_1")]
    public LayerNorm Ln1 { get; } = new(width);

    [Key("ln_1_kv")]
    public LayerNorm Ln1Kv { get; } = new(width);

    public FusedAttention Attn { get; } = new(width, heads);

    [Key("ls_1")]
    public LayerScale? Ls1 { get; } = scale is { } s ? new(width, s) : null;

    [Key("ln_2")]
    public LayerNorm Ln2 { get; } = new(width);

    public OpenClipMlp Mlp { get; } = new(width, 4 * width, activation, null, null);

    [Key("ls_2")]
    public LayerScale? Ls2 { get; } = scale is { } s ? new(width, s) : null;

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="image">[b, image tokens, width]</param>
    public Tensor Forward(Tensor x, Tensor image)
    {
        using var scope = NewDisposeScope();
        return Rest(x, Attn.Forward(Ln1Kv.Forward(image), queries: Ln1.Forward(x))).MoveToOuterDisposeScope();
    }

    /// <summary>What of the image every token asks, computed once.</summary>
    internal (Tensor Key, Tensor Value) KeysAndValues(Tensor image)
    {
        using var scope = NewDisposeScope();
        var (key, value) = Attn.KeysAndValues(Ln1Kv.Forward(image));
        return (key.MoveToOuterDisposeScope(), value.MoveToOuterDisposeScope());
    }

    internal Tensor Forward(Tensor x, Tensor key, Tensor value)
    {
        using var scope = NewDisposeScope();
        return Rest(x, Attn.Attend(Ln1.Forward(x), key, value)).MoveToOuterDisposeScope();
    }

    Tensor Rest(Tensor x, Tensor attended)
    {
        x = EncoderLayer.Residual(x, Ls1?.Forward(attended) ?? attended);
        var changed = Mlp.Forward(Ln2.Forward(x));
        return EncoderLayer.Residual(x, Ls2?.Forward(changed) ?? changed);
    }
}

/// <summary>The decoder: causal blocks and blocks that look at the image, in turn. Keys: text_projection [width, vocabulary], resblocks.N, cross_attn.N, ln_final.</summary>
public sealed class CoCaDecoder : Module
{
    public CoCaDecoder(OpenClipConfig c)
    {
        var m = c.MultimodalCfg!;
        var activation = c.QuickGelu ? Activation.QuickGelu : Activation.Gelu;
        TextProjection = new([m.Width, c.TextCfg.VocabSize], Init.Normal(1 / Math.Sqrt(m.Width)));
        Resblocks = new(m.Layers, _ => new OpenClipBlock(m.Width, m.Heads, 4 * m.Width, activation, 1e-5, m.LsInitValue, new()));
        CrossAttn = new(m.Layers, _ => new CoCaCrossBlock(m.Width, m.Heads, activation, m.LsInitValue));
        LnFinal = new(m.Width);
    }

    public Parameter TextProjection { get; }

    public ModuleList<OpenClipBlock> Resblocks { get; }

    public ModuleList<CoCaCrossBlock> CrossAttn { get; }

    public LayerNorm LnFinal { get; }

    /// <param name="image">[b, image tokens, width]</param>
    /// <param name="text">[b, tokens, width]</param>
    /// <param name="which">Indices of the tokens of all texts, in their order, that are to tell; null: all.</param>
    /// <returns>What each token says of the one after it: [b, tokens, vocabulary], or [which, vocabulary]</returns>
    public Tensor Forward(Tensor image, Tensor text, Tensor? which = null)
    {
        using var scope = NewDisposeScope();
        var x = text;
        for (var i = 0; i < Resblocks.Count; i++)
        {
            var block = Resblocks[i];
            x = ActivationsCheckpointed ? ActivationCheckpoint.Run(block, (x, _) => block.Forward(x, causal: true), x, null) : block.Forward(x, causal: true);
            x = CrossAttn[i].Forward(x, image);
        }
        if (which is not null) x = x.flatten(0, 1).index_select(0, which);
        return LnFinal.Forward(x).matmul(TextProjection.Value).MoveToOuterDisposeScope();
    }

    /// <summary>The next token of every beam: [images · beams, 1, width] to [images · beams, vocabulary]. All beams of an image share its keys and values.</summary>
    internal Tensor Next(Tensor x, IReadOnlyList<KeyValueCache> caches, IReadOnlyList<(Tensor Key, Tensor Value)> image)
    {
        using var scope = NewDisposeScope();
        var (rows, images) = (x.shape[0], image[0].Key.shape[0]);
        for (var i = 0; i < Resblocks.Count; i++)
        {
            x = Resblocks[i].Next(x, caches[i]);
            x = CrossAttn[i].Forward(x.view(images, rows / images, -1), image[i].Key, image[i].Value).view(rows, 1, -1);
        }
        return LnFinal.Forward(x.squeeze(1)).matmul(TextProjection.Value).MoveToOuterDisposeScope();
    }
}

/// <summary>What CoCa computes of a batch of pairs.</summary>
/// <param name="Pairs">The normalized embeddings, as CLIP compares them.</param>
/// <param name="Logits">[b, tokens - 1, vocabulary]: what each token but the last says of the one after it.</param>
/// <param name="Labels">[b, tokens - 1] int64: the ones that do come after.</param>
/// <param name="ImageTokens">[b, queries - 1, width]: what the decoder looked at.</param>
/// <param name="TextTokens">[b, tokens, width]: the text tower's, before its last norm.</param>
public sealed record CoCaOutput(PairFeatures Pairs, Tensor Logits, Tensor Labels, Tensor ImageTokens, Tensor TextTokens);

/// <summary>open_clip's CoCa. Keys: visual, text, text_decoder, logit_scale, logit_bias.</summary>
public sealed class CoCaModel : DualEncoder, ICaptionWriter
{
    /// <exception cref="PanoptesException">The parts of the config do not go together.</exception>
    public CoCaModel(OpenClipConfig config)
    {
        // What open_clip needs to be told, whether or not the config that we were given says so.
        Config = config with { CustomText = true, VisionCfg = config.VisionCfg with { OutputTokens = true }, TextCfg = config.TextCfg with { OutputTokens = true } };
        var decoder = config.MultimodalCfg ?? throw new PanoptesException("The config has no \"multimodal_cfg\"; expected one, which describes CoCa's decoder.");
        Visual = OpenClipVisual.Create(config) as OpenClipVision ?? throw new PanoptesException("CoCa's image tower is no vision transformer of open_clip's; only those are supported.");
        if (decoder.Width != config.TextCfg.Width || decoder.Width != Visual.TokenSize)
            throw new PanoptesException($"multimodal_cfg.width is {decoder.Width}, but text tokens are {config.TextCfg.Width} wide and image tokens {Visual.TokenSize}; expected one width.");
        if (config.VisionCfg is { AttentionalPool: true, AttnPoolerQueries: < 2 })
            throw new PanoptesException("vision_cfg.attn_pooler_queries is 1; expected one for the embedding and at least one for the decoder.");
        Text = new(config);
        TextDecoder = new(config);
        LogitScale = new(config.NonscalarLogitScale ? [1] : [], Init.Constant(config.InitLogitScale ?? Math.Log(1 / 0.07)));
        LogitBias = config.InitLogitBias is { } bias ? new(config.NonscalarLogitScale ? [1] : [], Init.Constant(bias)) : null;
    }

    public OpenClipConfig Config { get; }

    public OpenClipVision Visual { get; }

    public CoCaText Text { get; }

    public CoCaDecoder TextDecoder { get; }

    public override Parameter LogitScale { get; }

    public override Parameter? LogitBias { get; }

    public override IImageTower Images => Visual;

    public override ITextTower Texts => Text;

    /// <summary>Both towers and the decoder over the pairs, each once.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="inputIds">[b, tokens] int64, padded</param>
    /// <returns>Tensors that the caller owns, but for the bias, which is the model's.</returns>
    public CoCaOutput Forward(Tensor pixels, Tensor inputIds)
    {
        using var scope = NewDisposeScope();
        var (image, text) = (Visual.Forward(pixels), Text.Forward(inputIds));
        var tokens = ImageTokens(image.LastHiddenState);
        var logits = Caption(image.LastHiddenState, text.LastHiddenState);
        return new(new(Normalize(image.Embedding).MoveToOuterDisposeScope(), Normalize(text.Embedding).MoveToOuterDisposeScope(), LogitScale.Value.exp().MoveToOuterDisposeScope(), LogitBias?.Value),
            logits.MoveToOuterDisposeScope(), inputIds.narrow(1, 1, inputIds.shape[1] - 1).MoveToOuterDisposeScope(), tokens.MoveToOuterDisposeScope(), text.LastHiddenState.MoveToOuterDisposeScope());
    }

    /// <summary>What the decoder says of every token after the first, from the towers' tokens.</summary>
    /// <param name="images">[b, tokens, width]: the image tower's last hidden state</param>
    /// <param name="texts">[b, tokens, width]: the text tower's</param>
    /// <param name="which">Indices of those of all texts' tokens but the last of each that are to tell; null: all.</param>
    /// <returns>[b, tokens - 1, vocabulary], or [which, vocabulary]</returns>
    public Tensor Caption(Tensor images, Tensor texts, Tensor? which = null)
    {
        using var scope = NewDisposeScope();
        return TextDecoder.Forward(ImageTokens(images), texts.narrow(1, 0, texts.shape[1] - 1), which).MoveToOuterDisposeScope();
    }

    /// <summary>What the decoder looks at: all but the token that is pooled.</summary>
    static Tensor ImageTokens(Tensor tokens) => tokens.narrow(1, 1, tokens.shape[1] - 1);

    /// <inheritdoc/>
    public IReadOnlyList<GeneratedCaption> Generate(Tensor pixels, int startId, int endId, CaptionOptions? options = null)
    {
        options ??= new();
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (images, beams) = ((int)pixels.shape[0], options.Beams);
        var most = options.Most(Text.ContextLength - 1);
        var tokens = ImageTokens(Visual.Forward(pixels).LastHiddenState);
        var shown = TextDecoder.CrossAttn.Select(b => b.KeysAndValues(tokens)).ToArray();
        using var caches = new Caches(Text.Transformer.Resblocks.Count, TextDecoder.Resblocks.Count, most);
        var search = new BeamSearch(images, beams, endId, options.LengthPenalty);
        var ids = full(images * beams, 1, (long)startId, ScalarType.Int64, device: pixels.device);
        for (var step = 0; step < most; step++)
        {
            using var inner = NewDisposeScope();
            var x = Text.Next(ids, step, caches.Text);
            var said = TextDecoder.Next(x, caches.Decoder, shown).to(ScalarType.Float32).log_softmax(-1);
            // Padding is no word, even where it shares its id with one.
            if (Config.TextCfg.PadId != endId) said[TensorIndex.Colon, Config.TextCfg.PadId] = float.NegativeInfinity;
            if (step < options.MinTokens) said[TensorIndex.Colon, endId] = float.NegativeInfinity;
            if (search.Step(said, last: step == most - 1)) break;
            ids.Dispose();
            ids = tensor(search.NextIds, [images * beams, 1], device: pixels.device).MoveToOuterDisposeScope();
            using var rows = tensor(search.Origins, device: pixels.device);
            if (beams > 1) caches.Reorder(rows);
        }
        return search.Best();
    }

    sealed class Caches(int text, int decoder, int capacity) : IDisposable
    {
        public KeyValueCache[] Text { get; } = [.. Enumerable.Range(0, text).Select(_ => new KeyValueCache(capacity))];

        public KeyValueCache[] Decoder { get; } = [.. Enumerable.Range(0, decoder).Select(_ => new KeyValueCache(capacity))];

        public void Reorder(Tensor rows)
        {
            foreach (var cache in Text) cache.Reorder(rows);
            foreach (var cache in Decoder) cache.Reorder(rows);
        }

        public void Dispose()
        {
            foreach (var cache in Text) cache.Dispose();
            foreach (var cache in Decoder) cache.Dispose();
        }
    }
}
