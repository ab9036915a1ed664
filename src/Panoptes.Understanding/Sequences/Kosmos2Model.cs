using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// Kosmos-2 (Peng et al. 2023, arXiv:2306.14824) with the keys and the config.json of Hugging Face's Kosmos2ForConditionalGeneration: a language model (Magneto, with norms inside attention
// and MLP) among whose tokens stand an image's, which latent queries ask of a CLIP tower.

/// <summary>The language model's config ("kosmos_2_text_model"). The peer's dropout is not applied.</summary>
public sealed record Kosmos2TextConfig : ModelConfig
{
    public int VocabSize { get; init; } = 65037;
    public int MaxPositionEmbeddings { get; init; } = 2048;
    public int EmbedDim { get; init; } = 2048;
    public int Layers { get; init; } = 24;
    public int FfnDim { get; init; } = 8192;
    public int AttentionHeads { get; init; } = 32;
    public Activation ActivationFunction { get; init; } = Activation.Gelu;
    public double LayerNormEps { get; init; } = 1e-5;
    public double InitStd { get; init; } = 0.02;
    public bool ScaleEmbedding { get; init; } = true;
    public bool AddCrossAttention { get; init; }
    public int PadTokenId { get; init; } = 1;
    public int BosTokenId { get; init; }
    public int EosTokenId { get; init; } = 2;
    public string ModelType { get; init; } = "kosmos_2_text_model";
}

/// <summary>The image tower's config ("kosmos_2_vision_model"): CLIP's.</summary>
public sealed record Kosmos2VisionConfig : ModelConfig
{
    public int HiddenSize { get; init; } = 1024;
    public int IntermediateSize { get; init; } = 4096;
    public int NumHiddenLayers { get; init; } = 24;
    public int NumAttentionHeads { get; init; } = 16;
    public int NumChannels { get; init; } = 3;
    public int ImageSize { get; init; } = 224;
    public int PatchSize { get; init; } = 14;
    public Activation HiddenAct { get; init; } = Activation.QuickGelu;
    public double LayerNormEps { get; init; } = 1e-5;
    public double InitializerRange { get; init; } = 0.02;
    public double InitializerFactor { get; init; } = 1;
    public string ModelType { get; init; } = "kosmos_2_vision_model";

    internal ClipVisionConfig AsClip => new()
    {
        HiddenSize = HiddenSize,
        IntermediateSize = IntermediateSize,
        NumHiddenLayers = NumHiddenLayers,
        NumAttentionHeads = NumAttentionHeads,
        NumChannels = NumChannels,
        ImageSize = ImageSize,
        PatchSize = PatchSize,
        HiddenAct = HiddenAct,
        LayerNormEps = LayerNormEps,
        InitializerRange = InitializerRange,
        InitializerFactor = InitializerFactor,
    };
}

/// <summary>Both and what joins them ("kosmos-2").</summary>
public sealed record Kosmos2Config : ModelConfig
{
    public Kosmos2TextConfig TextConfig { get; init; } = new();
    public Kosmos2VisionConfig VisionConfig { get; init; } = new();

    /// <summary>How many tokens an image takes among the text's.</summary>
    public int LatentQueryNum { get; init; } = 64;
    public bool TieWordEmbeddings { get; init; } = true;
    public string ModelType { get; init; } = "kosmos-2";
    public string[] Architectures { get; init; } = ["Kosmos2ForConditionalGeneration"];
}

/// <summary>Attention whose heads are normalized together before the last projection. Keys: k_proj, v_proj, q_proj, out_proj, inner_attn_ln.</summary>
public sealed class Kosmos2Attention(Kosmos2TextConfig c) : Module
{
    public Linear KProj { get; } = new(Attention.Divisible(c.EmbedDim, c.AttentionHeads), c.EmbedDim, initializer: Init.Normal(c.InitStd));

    public Linear VProj { get; } = new(c.EmbedDim, c.EmbedDim, initializer: Init.Normal(c.InitStd));

    public Linear QProj { get; } = new(c.EmbedDim, c.EmbedDim, initializer: Init.Normal(c.InitStd));

    public Linear OutProj { get; } = new(c.EmbedDim, c.EmbedDim, initializer: Init.Normal(c.InitStd));

    public LayerNorm InnerAttnLn { get; } = new(c.EmbedDim, c.LayerNormEps);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="mask">[b, 1, tokens, seen] bool; null: each sees those before it and itself</param>
    /// <param name="cache">Takes the tokens and gives those before them, or null.</param>
    public Tensor Forward(Tensor x, Tensor? mask, KeyValueCache? cache = null)
    {
        using var scope = NewDisposeScope();
        var (q, k, v) = (Attention.SplitHeads(QProj.Forward(x), c.AttentionHeads), Attention.SplitHeads(KProj.Forward(x), c.AttentionHeads), Attention.SplitHeads(VProj.Forward(x), c.AttentionHeads));
        if (cache is not null) (k, v) = cache.Append(k, v);
        return OutProj.Forward(InnerAttnLn.Forward(Attention.MergeHeads(Attention.Apply(q, k, v, mask, causal: mask is null && x.shape[1] > 1)))).MoveToOuterDisposeScope();
    }
}

/// <summary>Keys: fc1, fc2, ffn_layernorm.</summary>
public sealed class Kosmos2Mlp(Kosmos2TextConfig c) : Module
{
    public Linear Fc1 { get; } = new(c.EmbedDim, c.FfnDim, initializer: Init.Normal(c.InitStd));

    public Linear Fc2 { get; } = new(c.FfnDim, c.EmbedDim, initializer: Init.Normal(c.InitStd));

    public LayerNorm FfnLayernorm { get; } = new(c.FfnDim, c.LayerNormEps);

    /// <param name="x">[b, tokens, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return Fc2.Forward(FfnLayernorm.Forward(Fc1.Forward(x, c.ActivationFunction))).MoveToOuterDisposeScope();
    }
}

/// <summary>Keys: self_attn, self_attn_layer_norm, ffn, final_layer_norm.</summary>
public sealed class Kosmos2Block(Kosmos2TextConfig c) : Module
{
    public Kosmos2Attention SelfAttn { get; } = new(c);

    public LayerNorm SelfAttnLayerNorm { get; } = new(c.EmbedDim, c.LayerNormEps);

    public Kosmos2Mlp Ffn { get; } = new(c);

    public LayerNorm FinalLayerNorm { get; } = new(c.EmbedDim, c.LayerNormEps);

    /// <inheritdoc cref="Kosmos2Attention.Forward"/>
    public Tensor Forward(Tensor x, Tensor? mask, KeyValueCache? cache = null)
    {
        using var scope = NewDisposeScope();
        x = EncoderLayer.Residual(x, SelfAttn.Forward(SelfAttnLayerNorm.Forward(x), mask, cache));
        return EncoderLayer.Residual(x, Ffn.Forward(FinalLayerNorm.Forward(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>The language model. Keys: embed_tokens, layers.N, layer_norm; positions are computed.</summary>
public sealed class Kosmos2Text : Module
{
    readonly Kosmos2TextConfig c;

    public Kosmos2Text(Kosmos2TextConfig c)
    {
        if (c.AddCrossAttention) throw new PanoptesException("text_config.add_cross_attention is true; expected false.");
        if (c.EmbedDim < 4) throw new PanoptesException($"text_config.embed_dim is {c.EmbedDim}; expected at least 4.");
        this.c = c;
        EmbedTokens = new(c.VocabSize, c.EmbedDim, Init.Normal(c.InitStd));
        Layers = new(c.Layers, _ => new(c));
        LayerNorm = new(c.EmbedDim, c.LayerNormEps);
    }

    public Embedding EmbedTokens { get; }

    public ModuleList<Kosmos2Block> Layers { get; }

    public LayerNorm LayerNorm { get; }

    /// <param name="ids">[b, tokens] int64</param>
    /// <param name="image">[b, image tokens, width] in place of the tokens that <paramref name="places"/> marks; or null</param>
    /// <param name="places">[b, tokens], not 0 where the image's tokens stand; or null</param>
    /// <param name="attentionMask">[b, tokens before and these], 0 where padding; null: none</param>
    /// <param name="caches">One a layer, or null.</param>
    /// <returns>[b, tokens, width]</returns>
    internal Tensor Forward(Tensor ids, Tensor? image, Tensor? places, Tensor? attentionMask, IReadOnlyList<KeyValueCache>? caches = null)
    {
        using var scope = NewDisposeScope();
        var (length, before) = (ids.shape[1], caches is { Count: > 0 } ? caches[0].Count : 0);
        if (before + length > c.MaxPositionEmbeddings) throw new PanoptesException($"A text of {before + length} tokens was given to a model that has room for {c.MaxPositionEmbeddings}.");
        var words = EmbedTokens.Forward(ids);
        if (image is not null)
        {
            var marked = (places ?? throw new PanoptesException("An image was given without its places among the tokens.")).ne(0);
            if (!marked.sum(-1).eq(image.shape[1]).all().item<bool>()) throw new PanoptesException($"A text has {marked.sum(-1).min().item<long>()} places for image tokens, but the image has {image.shape[1]} tokens; expected as many.");
            words = words.masked_scatter(marked.unsqueeze(-1).expand_as(words), image.to(words.dtype));
        }
        var x = (c.ScaleEmbedding ? words * Math.Sqrt(c.EmbedDim) : words).add(Positions(ids, before).to(words.dtype));
        var mask = Seen(attentionMask, length);
        foreach (var (layer, i) in Layers.Select(static (l, i) => (l, i)))
            x = ActivationsCheckpointed && caches is null ? ActivationCheckpoint.Run(layer, (x, mask) => layer.Forward(x, mask), x, mask) : layer.Forward(x, mask, caches?[i]);
        return LayerNorm.Forward(x).MoveToOuterDisposeScope();
    }

    /// <summary>Sines, then cosines, of the place among the row's own tokens, which begin after the padding id's row; padding has zeros.</summary>
    Tensor Positions(Tensor ids, int before)
    {
        using var scope = NewDisposeScope();
        var own = ids.ne(c.PadTokenId).to(ScalarType.Int64);
        var places = (own.cumsum(1) + before + c.PadTokenId).to(ScalarType.Float32);
        var half = c.EmbedDim / 2;
        var angles = places.unsqueeze(-1) * (arange(half, dtype: ScalarType.Float32, device: ids.device) * (float)-(Math.Log(10000) / (half - 1))).exp();
        var table = cat([angles.sin(), angles.cos()], -1);
        if (c.EmbedDim % 2 == 1) table = nn.functional.pad(table, [0, 1]);
        return (table * own.unsqueeze(-1)).MoveToOuterDisposeScope();
    }

    /// <summary>Which of all tokens each of the last sees; a padding token sees itself at least, so that it is a number. Null: those before it, and there is no padding.</summary>
    static Tensor? Seen(Tensor? attentionMask, long length)
    {
        if (attentionMask is null) return null;
        using var scope = NewDisposeScope();
        var own = KeyMask.Of(attentionMask);
        if (own is null) return null;
        var all = attentionMask.shape[1];
        var causal = ones(all, all, dtype: ScalarType.Bool, device: own.device).tril();
        var seen = own.logical_and(causal).logical_or(eye(all, dtype: ScalarType.Bool, device: own.device));   // [b, 1, all, all]
        return seen.narrow(2, all - length, length).MoveToOuterDisposeScope();
    }
}

/// <summary>Latent queries that ask an image's tokens and each other. Keys: dense, latent_query [queries, width], x_attn.</summary>
public sealed class Kosmos2Projection(Kosmos2Config c) : Module
{
    public Linear Dense { get; } = new(c.VisionConfig.HiddenSize, c.TextConfig.EmbedDim, initializer: Init.Normal(c.TextConfig.InitStd));

    public Parameter LatentQuery { get; } = new([c.LatentQueryNum, c.TextConfig.EmbedDim], Init.Normal(1));

    public SelfAttention XAttn { get; } = new(c.TextConfig.EmbedDim, c.TextConfig.AttentionHeads, Init.Normal(c.TextConfig.InitStd), Init.Normal(c.TextConfig.InitStd));

    /// <param name="features">[b, image tokens, width of the tower]</param>
    /// <returns>[b, queries, width]</returns>
    public Tensor Forward(Tensor features)
    {
        using var scope = NewDisposeScope();
        var tokens = Dense.Forward(features);
        var queries = LatentQuery.Value.unsqueeze(0).expand(tokens.shape[0], -1, -1).to(tokens.dtype);
        return XAttn.Forward(cat([tokens, queries], 1), queries: queries).MoveToOuterDisposeScope();
    }
}

/// <summary>What Kosmos-2 computes of texts with images.</summary>
/// <param name="Logits">[b, tokens, vocabulary]: what each says of the one after it.</param>
/// <param name="ImageEmbeds">[b, queries, width]: the image's tokens among the text's.</param>
public sealed record Kosmos2Output(Tensor Logits, Tensor ImageEmbeds);

/// <summary>Kosmos-2. Keys: text_model.model, text_model.lm_head.weight (the table of tokens), vision_model.model, image_to_text_projection.</summary>
public sealed class Kosmos2Model : Module
{
    /// <exception cref="PanoptesException">Weights that are not tied, or another kind of text model.</exception>
    public Kosmos2Model(Kosmos2Config config)
    {
        if (!config.TieWordEmbeddings) throw new PanoptesException("tie_word_embeddings is false; expected true, as in every Kosmos-2.");
        Config = config;
        Text = new(config.TextConfig);
        Vision = new(config.VisionConfig.AsClip);
        ImageToTextProjection = new(config);
    }

    public Kosmos2Config Config { get; }

    [Key("text_model.model")]
    public Kosmos2Text Text { get; }

    [Key("text_model.lm_head.weight")]
    public Parameter LmHead => Text.EmbedTokens.Weight;

    [Key("vision_model.model")]
    public ClipVisionTransformer Vision { get; }

    public Kosmos2Projection ImageToTextProjection { get; }

    /// <summary>An image's tokens for the text: computed once, asked many times.</summary>
    /// <param name="pixels">[b, 3, size, size]</param>
    /// <returns>[b, queries, width]</returns>
    public Tensor ImageEmbeds(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var (tokens, _) = Vision.Forward(pixels, interpolate: false, null);
        var features = nn.functional.normalize(Vision.PostLayernorm.Forward(tokens), dim: -1);
        return ImageToTextProjection.Forward(features).MoveToOuterDisposeScope();
    }

    /// <summary>What every token says of the one after it.</summary>
    /// <param name="pixels">[b, 3, size, size]</param>
    /// <param name="inputIds">[b, tokens] int64</param>
    /// <param name="imagePlaces">[b, tokens], 1 where the image's tokens stand, as many as there are queries</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding; null: none</param>
    public Kosmos2Output Forward(Tensor pixels, Tensor inputIds, Tensor imagePlaces, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        var image = ImageEmbeds(pixels);
        return new(TorchOps.Linear(Text.Forward(inputIds, image, imagePlaces, attentionMask), LmHead, null).MoveToOuterDisposeScope(), image.MoveToOuterDisposeScope());
    }

    /// <summary>The likeliest continuation of every text that a beam search finds.</summary>
    /// <param name="imageEmbeds">[b, queries, width]: <see cref="ImageEmbeds"/></param>
    /// <param name="inputIds">[b, tokens] int64: two tokens or more; texts of other lengths are filled up on the left</param>
    /// <param name="imagePlaces">As in <see cref="Forward"/>; the last token is none of them.</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding; null: none</param>
    /// <returns>The ids after the given ones, without the end.</returns>
    public IReadOnlyList<GeneratedCaption> Generate(Tensor imageEmbeds, Tensor inputIds, Tensor imagePlaces, Tensor? attentionMask = null, SequenceOptions? options = null)
    {
        options ??= new();
        var (images, length, beams) = ((int)inputIds.shape[0], (int)inputIds.shape[1], options.Beams);
        if (length < 2) throw new PanoptesException("A text of one token was to be continued; expected the image's tokens and one more at least.");
        var room = Config.TextConfig.MaxPositionEmbeddings - length + 1;
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var writer = new Writer(this, length + Math.Min(options.Most(room), room), attentionMask);
        // All but the last token once an image, then the last one as the start of every beam.
        writer.Read(inputIds.narrow(1, 0, length - 1), imageEmbeds, imagePlaces.narrow(1, 0, length - 1));
        var start = inputIds.narrow(1, length - 1, 1);
        if (beams > 1)
        {
            var rows = arange(images, device: inputIds.device).repeat_interleave(beams);
            writer.Reorder(rows);
            start = start.index_select(0, rows);
        }
        return SequenceSearch.Run(writer, start, images, Config.TextConfig.EosTokenId, room, options, images == 1 && options.NoRepeatNgram > 0 ? [.. inputIds.cpu().data<long>().Select(static i => (int)i)] : null);
    }

    sealed class Writer(Kosmos2Model model, int room, Tensor? attentionMask) : ISequenceDecoder
    {
        readonly KeyValueCache[] caches = [.. model.Text.Layers.Select(_ => new KeyValueCache(room))];

        // Padding counts only where there is any.
        Tensor? mask = KeyMask.Of(attentionMask) is null ? null : attentionMask!.alias();

        internal void Read(Tensor ids, Tensor image, Tensor places)
        {
            using var scope = NewDisposeScope();
            model.Text.Forward(ids, image, places, mask?.narrow(1, 0, ids.shape[1]), caches);
        }

        public Tensor Next(Tensor ids)
        {
            using var scope = NewDisposeScope();
            var count = caches.Length > 0 ? caches[0].Count : 0;
            var seen = mask is null ? null : nn.functional.pad(mask, [0, Math.Max(0, count + 1 - mask.shape[1])], value: 1).narrow(1, 0, count + 1);
            return TorchOps.Linear(model.Text.Forward(ids, null, null, seen, caches).squeeze(1), model.LmHead, null).MoveToOuterDisposeScope();
        }

        public void Reorder(Tensor rows)
        {
            foreach (var cache in caches) cache.Reorder(rows);
            if (mask is null) return;
            using var before = mask;
            mask = before.index_select(0, rows).DetachFromDisposeScope();
        }

        public void Dispose()
        {
            foreach (var cache in caches) cache.Dispose();
            mask?.Dispose();
        }
    }
}
