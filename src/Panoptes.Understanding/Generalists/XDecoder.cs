using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// X-Decoder's decoder (Zou et al. 2023, arXiv:2212.11270) with the keys of the authors' code (microsoft/X-Decoder, modeling/body/decoder/xdecoder.py; there below
// sem_seg_head.predictor.): latent queries and text queries in, masks, meanings and words out. XDecoderModel.cs has the towers around it.

/// <summary>The decoder's sizes; the defaults are the authors'.</summary>
public sealed record XDecoderConfig : ModelConfig
{
    /// <summary>The width of queries and of the maps that they look at.</summary>
    public int HiddenSize { get; init; } = 512;
    public int NumAttentionHeads { get; init; } = 8;
    public int DecoderLayers { get; init; } = 9;
    public int FeedforwardSize { get; init; } = 2048;

    /// <summary>How many channels the map has that masks are read from.</summary>
    public int MaskSize { get; init; } = 512;

    /// <summary>The space in which queries and texts are compared.</summary>
    public int ProjectionSize { get; init; } = 512;

    /// <summary>Latent queries and, last, the one that stands for the whole image.</summary>
    public int NumQueries { get; init; } = 101;

    /// <summary>The most words of a caption.</summary>
    public int ContextLength { get; init; } = 77;

    /// <summary>How many scales the layers look at in turn, the coarsest first.</summary>
    public int NumFeatureLevels { get; init; } = 3;
}

/// <summary>What a decoder looks at in a batch of images.</summary>
/// <param name="Features">[b, width, rows, columns] a scale, the coarsest first.</param>
/// <param name="Positions">Where its places are, of the same shapes (or with a batch of 1).</param>
/// <param name="MaskFeatures">[b, mask width, rows, columns]: a mask is a query's product with every place of it.</param>
public sealed record DecoderMaps(IReadOnlyList<Tensor> Features, IReadOnlyList<Tensor> Positions, Tensor MaskFeatures)
{
    /// <summary>The rows and columns of a scale.</summary>
    public (int Rows, int Columns) Size(int level) => ((int)Features[level].shape[2], (int)Features[level].shape[3]);

    /// <summary>Images by their places in the batch, which may come several times.</summary>
    /// <param name="images">[n] int64</param>
    public DecoderMaps Select(Tensor images)
    {
        using var scope = NewDisposeScope();
        return new DecoderMaps([.. Features.Select(f => f.index_select(0, images))], [.. Positions.Select(p => p.shape[0] == 1 ? p.alias() : p.index_select(0, images))], MaskFeatures.index_select(0, images)).MoveToOuter();
    }

    internal DecoderMaps MoveToOuter()
    {
        foreach (var tensor in Features.Concat(Positions).Append(MaskFeatures)) tensor.MoveToOuterDisposeScope();
        return this;
    }
}

/// <summary>Words that a run reads along with the image.</summary>
/// <param name="Tokens">[b, tokens, width]</param>
/// <param name="Real">[b, tokens] bool, false where padding; null: all are words.</param>
public sealed record DecoderWords(Tensor Tokens, Tensor? Real = null);

/// <summary>What the heads read out of the queries before the first layer and after every one.</summary>
/// <param name="ClassEmbeddings">[b, queries, projection], of length 1: what each query means; the last is the image's.</param>
/// <param name="ClassLogits">[b, queries, classes]: cosine times scale; null where no classes were given.</param>
/// <param name="MaskLogits">[b, queries, rows, columns]</param>
/// <param name="CaptionLogits">[b, words, vocabulary]: what each word is followed by; null where no caption was given.</param>
/// <param name="Referred">What the queries found that listened to words; null where none were given.</param>
/// <param name="Seen">[b, all queries, places] bool: where each query may look in the next layer.</param>
public sealed record XDecoderStep(Tensor ClassEmbeddings, Tensor? ClassLogits, Tensor MaskLogits, Tensor? CaptionLogits, ReferredQueries? Referred, Tensor Seen);

/// <summary>Copies of the latent queries that attend to words.</summary>
/// <param name="Embeddings">[b, queries, projection], of length 1</param>
/// <param name="MaskLogits">[b, queries, rows, columns]</param>
public sealed record ReferredQueries(Tensor Embeddings, Tensor MaskLogits);

/// <summary>What a run of the decoder gives.</summary>
/// <param name="Queries">[b, all queries, width]: the object queries, those that listen to words, the caption's.</param>
/// <param name="Steps">Before the first layer and after every one: training looks at all of them, use at the last.</param>
public sealed record XDecoderOutput(Tensor Queries, IReadOnlyList<XDecoderStep> Steps)
{
    /// <summary>After the last layer.</summary>
    public XDecoderStep Last => Steps[^1];
}

/// <summary>Queries look at the image where they may. Keys: multihead_attn, norm.</summary>
public sealed class XDecoderCrossAttention(int width, int heads) : Module
{
    public FusedAttention MultiheadAttn { get; } = new(width, heads, packs: false);

    public LayerNorm Norm { get; } = new(width);

    /// <param name="x">[b, queries, width]</param>
    /// <param name="position">Added to what asks.</param>
    /// <param name="keys">[b, places, width]</param>
    /// <param name="values">[b, places, width]</param>
    /// <param name="seen">[b, queries, places] bool</param>
    public Tensor Forward(Tensor x, Tensor position, Tensor keys, Tensor values, Tensor seen)
    {
        using var scope = NewDisposeScope();
        return Norm.Forward(x + MultiheadAttn.Across(x + position, keys, values, seen.unsqueeze(1))).MoveToOuterDisposeScope();
    }
}

/// <summary>Queries look at each other where they may. Keys: self_attn, norm.</summary>
public sealed class XDecoderSelfAttention(int width, int heads) : Module
{
    public FusedAttention SelfAttn { get; } = new(width, heads, packs: false);

    public LayerNorm Norm { get; } = new(width);

    /// <param name="x">[b, queries, width]</param>
    /// <param name="position">Added to what asks and is asked, not to what is answered.</param>
    /// <param name="allowed">[b or 1, queries, queries] bool</param>
    public Tensor Forward(Tensor x, Tensor position, Tensor allowed)
    {
        using var scope = NewDisposeScope();
        var placed = x + position;
        return Norm.Forward(x + SelfAttn.Across(placed, placed, x, allowed.unsqueeze(1))).MoveToOuterDisposeScope();
    }
}

/// <summary>Two linear layers with ReLU between, normalized afterwards. Keys: linear1, linear2, norm.</summary>
public sealed class XDecoderFeedforward(int width, int hidden) : Module
{
    public Linear Linear1 { get; } = new(width, hidden);

    public Linear Linear2 { get; } = new(hidden, width);

    public LayerNorm Norm { get; } = new(width);

    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return Norm.Forward(x + Linear2.Forward(Linear1.Forward(x, Activation.Relu))).MoveToOuterDisposeScope();
    }
}

/// <summary>Linear layers with ReLU between. Keys: layers.N.</summary>
public sealed class XDecoderMlp(params int[] sizes) : Module
{
    public ModuleList<Linear> Layers { get; } = new(sizes.Length - 1, i => new Linear(sizes[i], sizes[i + 1]));

    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        for (var i = 0; i < Layers.Count; i++) x = Layers[i].Forward(x, i < Layers.Count - 1 ? Activation.Relu : null);
        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>
/// The text tower: what a text means as a whole, and its words as the decoder reads them. Keys: lang_encoder, lang_proj, and token_proj where words are not as wide as queries.
/// </summary>
public sealed class XDecoderTexts : Module
{
    /// <param name="config">A causal text transformer, so that a word's feature tells nothing of what follows.</param>
    /// <param name="projection">The space in which queries and texts are compared; as wide as the table of words, since a caption's next word is sought there.</param>
    /// <param name="width">The decoder's.</param>
    /// <exception cref="PanoptesException">The table of words is of another width than the projection.</exception>
    public XDecoderTexts(ClipTextConfig config, int projection, int width)
    {
        if (config.HiddenSize != projection) throw new PanoptesException($"The text tower's hidden_size is {config.HiddenSize}; expected the projection_size, {projection}, in which next words are sought.");
        Config = config;
        LangEncoder = new(config);
        LangProj = new([projection, projection], Init.TruncatedNormal(0.02));
        TokenProj = projection == width ? null : new(projection, width);
    }

    public ClipTextConfig Config { get; }

    public ClipTextTransformer LangEncoder { get; }

    public Parameter LangProj { get; }

    public Linear? TokenProj { get; }

    /// <summary>[words, projection]: what a caption's next word may be.</summary>
    public Tensor Vocabulary => LangEncoder.Embeddings.TokenEmbedding.Weight.Value;

    /// <summary>What texts mean: [texts, projection], of length 1.</summary>
    /// <param name="ids">[texts, tokens] int64</param>
    /// <param name="mask">[texts, tokens], 0 where padding; null: none.</param>
    public Tensor Embed(Tensor ids, Tensor? mask = null)
    {
        using var scope = NewDisposeScope();
        return XDecoder.Unit(LangEncoder.ForwardPooled(ids, mask).matmul(LangProj.Value)).MoveToOuterDisposeScope();
    }

    /// <summary>Texts word by word, as the decoder reads them.</summary>
    /// <param name="ids">[texts, tokens] int64</param>
    /// <param name="mask">[texts, tokens], 0 where padding; null: none.</param>
    public DecoderWords Words(Tensor ids, Tensor? mask = null)
    {
        using var scope = NewDisposeScope();
        var (tokens, _) = LangEncoder.Forward(ids, mask, null);
        return new((TokenProj?.Forward(tokens) ?? tokens).MoveToOuterDisposeScope(), mask?.ne(0).MoveToOuterDisposeScope());
    }
}

/// <summary>What texts are compared with. Keys: logit_scale, and those of the text tower where there is one.</summary>
public sealed class XDecoderLanguage(XDecoderTexts? texts = null) : Module
{
    /// <summary>The text tower; null where texts come embedded.</summary>
    [Key("")]
    public XDecoderTexts? Texts { get; } = texts;

    /// <summary>The logarithm of what cosines are multiplied by.</summary>
    public Parameter LogitScale { get; } = new([], Init.Constant(Math.Log(1 / 0.07)));
}

/// <summary>
/// The decoder. Object queries are latent ones and, last, the image's; text queries are a caption's words, which see everything before them; and copies of the latent queries
/// listen to words where a referring expression is given. Keys: query_feat, query_embed, level_embed, transformer_cross_attention_layers.N, transformer_self_attention_layers.N,
/// transformer_ffn_layers.N, decoder_norm, mask_embed, class_embed, caping_embed, pos_embed_caping, lang_encoder.
/// </summary>
public sealed class XDecoder : Module
{
    const double TinyLength = 1e-7;

    public XDecoder(XDecoderConfig config, XDecoderTexts? texts = null)
    {
        if (config.NumQueries < 2) throw new PanoptesException($"num_queries is {config.NumQueries}; expected 2 or more: latent queries and the image's.");
        Config = config;
        var (width, heads, layers) = (config.HiddenSize, config.NumAttentionHeads, config.DecoderLayers);
        (QueryFeat, QueryEmbed, LevelEmbed) = (new(config.NumQueries, width), new(config.NumQueries, width), new(config.NumFeatureLevels, width));
        TransformerCrossAttentionLayers = new(layers, _ => new XDecoderCrossAttention(width, heads));
        TransformerSelfAttentionLayers = new(layers, _ => new XDecoderSelfAttention(width, heads));
        TransformerFfnLayers = new(layers, _ => new XDecoderFeedforward(width, config.FeedforwardSize));
        DecoderNorm = new(width);
        MaskEmbed = new(width, width, width, config.MaskSize);
        ClassEmbed = new([width, config.ProjectionSize], Init.TruncatedNormal(0.02));
        CapingEmbed = new([width, config.ProjectionSize], Init.TruncatedNormal(0.02));
        PosEmbedCaping = new(config.ContextLength, width);
        LangEncoder = new(texts);
    }

    public XDecoderConfig Config { get; }

    public Embedding QueryFeat { get; }

    public Embedding QueryEmbed { get; }

    public Embedding LevelEmbed { get; }

    public ModuleList<XDecoderCrossAttention> TransformerCrossAttentionLayers { get; }

    public ModuleList<XDecoderSelfAttention> TransformerSelfAttentionLayers { get; }

    public ModuleList<XDecoderFeedforward> TransformerFfnLayers { get; }

    public LayerNorm DecoderNorm { get; }

    public XDecoderMlp MaskEmbed { get; }

    public Parameter ClassEmbed { get; }

    public Parameter CapingEmbed { get; }

    public Embedding PosEmbedCaping { get; }

    public XDecoderLanguage LangEncoder { get; }

    /// <summary>Runs every layer over a batch; what is not given is not computed.</summary>
    /// <param name="maps">The images.</param>
    /// <param name="classes">[classes, projection], of length 1: what queries are classified as.</param>
    /// <param name="caption">A caption's words, of which each is to tell the next. They are read without gradient; their places in the sentence carry it.</param>
    /// <param name="vocabulary">[words, projection]: what a next word may be; with a caption.</param>
    /// <param name="expression">Words that describe what is meant.</param>
    /// <exception cref="PanoptesException">Maps of another number, or a caption longer than the decoder's places.</exception>
    public XDecoderOutput Forward(DecoderMaps maps, Tensor? classes = null, DecoderWords? caption = null, Tensor? vocabulary = null, DecoderWords? expression = null)
    {
        using var scope = NewDisposeScope();
        var batch = maps.MaskFeatures.shape[0];
        var (words, listening) = ((int)(caption?.Tokens.shape[1] ?? 0), expression is null ? 0 : Config.NumQueries - 1);
        if (words > Config.ContextLength) throw new PanoptesException($"A caption of {words} tokens was given to a decoder whose captions have at most {Config.ContextLength}.");
        var sources = Sources(maps);
        var (content, position) = (Rows(QueryFeat, batch), Rows(QueryEmbed, batch));
        var (contents, positions) = (new List<Tensor> { content }, new List<Tensor> { position });
        if (listening > 0)
        {
            contents.Add(content.narrow(1, 0, listening));
            positions.Add(position.narrow(1, 0, listening));
        }
        if (caption is not null)
        {
            contents.Add(caption.Tokens.detach());
            positions.Add(caption.Tokens + PosEmbedCaping.Weight.Value.narrow(0, 0, words));
        }
        var x = cat(contents, 1);
        position = cat(positions, 1);
        var allowed = Allowed(Config.NumQueries, listening, words, expression);
        // Words are heard anew in every layer, as they have become.
        var tokens = expression?.Tokens.detach();

        var steps = new List<XDecoderStep> { Heads(x, maps, 0, listening, words, classes, vocabulary) };
        for (var i = 0; i < TransformerFfnLayers.Count; i++)
        {
            (x, tokens) = Layer(i, x, position, sources[i % sources.Length], steps[^1].Seen, allowed, tokens, expression?.Tokens);
            steps.Add(Heads(x, maps, (i + 1) % sources.Length, listening, words, classes, vocabulary));
        }
        x.MoveToOuterDisposeScope();
        foreach (var step in steps)
            foreach (var tensor in (ReadOnlySpan<Tensor?>)[step.ClassEmbeddings, step.ClassLogits, step.MaskLogits, step.CaptionLogits, step.Referred?.Embeddings, step.Referred?.MaskLogits, step.Seen])
                tensor?.MoveToOuterDisposeScope();
        return new(x, steps);
    }

    /// <summary>
    /// Who may look at whom. Latent queries see each other, the image's sees itself; a caption's words see all object queries and what stands before them; queries that listen to an
    /// expression and its words see one another, and nobody else does.
    /// </summary>
    /// <param name="objects">Latent queries and the image's.</param>
    /// <param name="listening">Queries that listen to an expression.</param>
    /// <param name="caption">A caption's words.</param>
    /// <param name="expression">The expression's words, which stand last; null: none.</param>
    /// <returns>[b or 1, all, all] bool</returns>
    public static Tensor Allowed(int objects, int listening, int caption, DecoderWords? expression = null)
    {
        using var scope = NewDisposeScope();
        var (captions, words) = (objects + listening, objects + listening + caption);
        var all = words + (int)(expression?.Tokens.shape[1] ?? 0);
        var allowed = new bool[all * all];
        for (var i = 0; i < all; i++)
            for (var j = 0; j < all; j++)
                allowed[(i * all) + j] = i < objects - 1 ? j < objects - 1
                    : i == objects - 1 ? j == i
                    : i >= captions && i < words ? j < objects || (j >= captions && j <= i)
                    : (j >= objects && j < captions) || j >= words;
        var mask = tensor(allowed, [1, all, all]);
        if (expression?.Real is { } real) mask = mask.to(real.device).logical_and(cat([ones(real.shape[0], words, dtype: ScalarType.Bool, device: real.device), real], 1).unsqueeze(1));
        return mask.MoveToOuterDisposeScope();
    }

    /// <summary>Keys and values of every scale: [b, places, width] each.</summary>
    internal (Tensor Keys, Tensor Values)[] Sources(DecoderMaps maps)
    {
        if (maps.Features.Count != Config.NumFeatureLevels) throw new PanoptesException($"Maps of {maps.Features.Count} scales were given to a decoder of {Config.NumFeatureLevels}.");
        var sources = new (Tensor, Tensor)[maps.Features.Count];
        for (var i = 0; i < sources.Length; i++)
        {
            var values = maps.Features[i].flatten(2).transpose(1, 2) + LevelEmbed.Weight.Value[i];
            sources[i] = (values + maps.Positions[i].flatten(2).transpose(1, 2), values);
        }
        return sources;
    }

    /// <summary>A learned row for every query, the same for all images: [b, queries, width].</summary>
    internal static Tensor Rows(Embedding table, long batch) => table.Weight.Value.unsqueeze(0).expand(batch, -1, -1);

    /// <summary>One layer. Tokens take part in self-attention and what follows it, and do not look at the image.</summary>
    internal (Tensor Queries, Tensor? Tokens) Layer(int i, Tensor x, Tensor position, (Tensor Keys, Tensor Values) source, Tensor seen, Tensor allowed, Tensor? tokens = null, Tensor? tokenPositions = null)
    {
        using var scope = NewDisposeScope();
        var queries = x.shape[1];
        x = TransformerCrossAttentionLayers[i].Forward(x, position, source.Keys, source.Values, seen);
        if (tokens is not null) (x, position) = (cat([x, tokens], 1), cat([position, tokenPositions!], 1));
        x = TransformerFfnLayers[i].Forward(TransformerSelfAttentionLayers[i].Forward(x, position, allowed));
        return tokens is null
            ? (x.MoveToOuterDisposeScope(), null)
            : (x.narrow(1, 0, queries).MoveToOuterDisposeScope(), x.narrow(1, queries, tokens.shape[1]).MoveToOuterDisposeScope());
    }

    XDecoderStep Heads(Tensor x, DecoderMaps maps, int level, int listening, int words, Tensor? classes, Tensor? vocabulary)
    {
        var (y, size) = (DecoderNorm.Forward(x), maps.Size(level));
        var objects = Reread(y.narrow(1, 0, Config.NumQueries));
        var (meanings, masks) = (Meanings(objects), Masks(objects, maps.MaskFeatures));
        var seen = new List<Tensor> { Seen(masks, size) };
        ReferredQueries? referred = null;
        if (listening > 0)
        {
            var found = y.narrow(1, Config.NumQueries, listening);
            referred = new(Meanings(found), Masks(found, maps.MaskFeatures));
            seen.Add(Seen(referred.MaskLogits, size));
        }
        Tensor? next = null;
        if (words > 0)
        {
            seen.Add(ones(y.shape[0], words, size.Rows * size.Columns, dtype: ScalarType.Bool, device: y.device));
            next = y.narrow(1, Config.NumQueries + listening, words).matmul(CapingEmbed.Value).matmul((vocabulary ?? throw new ArgumentNullException(nameof(vocabulary))).t());
        }
        return new(meanings, classes is null ? null : Similarity(meanings, classes), masks, next, referred, seen.Count == 1 ? seen[0] : cat(seen, 1));
    }

    /// <summary>The image's query becomes what it finds alike among the latent ones: [b, queries, width] to the same.</summary>
    internal static Tensor Reread(Tensor objects)
    {
        using var scope = NewDisposeScope();
        var (latents, image) = (objects.narrow(1, 0, objects.shape[1] - 1), objects.narrow(1, objects.shape[1] - 1, 1));
        var weights = Unit(image).matmul(Unit(latents).transpose(1, 2)).softmax(-1);
        return cat([latents, weights.matmul(latents)], 1).MoveToOuterDisposeScope();
    }

    /// <summary>What queries mean, to be compared with texts: [b, queries, projection], of length 1.</summary>
    internal Tensor Meanings(Tensor queries)
    {
        using var scope = NewDisposeScope();
        return Unit(queries.matmul(ClassEmbed.Value)).MoveToOuterDisposeScope();
    }

    /// <summary>Cosine times the learned scale.</summary>
    /// <param name="meanings">[b, queries, projection], of length 1</param>
    /// <param name="texts">[texts, projection], or [b, texts, projection], of length 1</param>
    /// <returns>[b, queries, texts]</returns>
    public Tensor Similarity(Tensor meanings, Tensor texts)
    {
        using var scope = NewDisposeScope();
        return (LangEncoder.LogitScale.Value.exp() * meanings.matmul(texts.transpose(-2, -1))).MoveToOuterDisposeScope();
    }

    /// <summary>[b, queries, rows, columns]</summary>
    internal Tensor Masks(Tensor queries, Tensor maskFeatures)
    {
        using var scope = NewDisposeScope();
        return MaskEmbed.Forward(queries).matmul(maskFeatures.flatten(2)).unflatten(2, [maskFeatures.shape[2], maskFeatures.shape[3]]).MoveToOuterDisposeScope();
    }

    /// <summary>Where queries may look in the next layer: inside their masks, and everywhere if these are empty. [b, queries, places] bool, without gradient.</summary>
    internal static Tensor Seen(Tensor masks, (int Rows, int Columns) size)
    {
        using var scope = NewDisposeScope();
        var (batch, queries, rows, columns) = (masks.shape[0], masks.shape[1], (int)masks.shape[2], (int)masks.shape[3]);
        var small = Positions.ResizeBicubicAntialiased(masks.detach().view(batch * queries, -1).t(), rows, columns, size.Rows, size.Columns);   // [places, b · queries]
        return Opened(small.t().ge(0).view(batch, queries, -1)).MoveToOuterDisposeScope();
    }

    /// <summary>Rows in which nothing may be seen see everything.</summary>
    internal static Tensor Opened(Tensor seen)
    {
        using var scope = NewDisposeScope();
        return seen.logical_or(seen.any(-1, keepdim: true).logical_not()).MoveToOuterDisposeScope();
    }

    /// <summary>v / (|v| + 1e-7), over the last dimension.</summary>
    internal static Tensor Unit(Tensor v)
    {
        using var scope = NewDisposeScope();
        return (v / (v.norm(-1, keepdim: true) + TinyLength)).MoveToOuterDisposeScope();
    }

    /// <summary>How likely each place is of each class, all queries together: the sum of class probability times mask probability.</summary>
    /// <param name="classLogits">[b, queries, classes + 1], the last being the background.</param>
    /// <param name="maskLogits">[b, queries, rows, columns]</param>
    /// <returns>[b, classes, rows, columns]</returns>
    public static Tensor Semantic(Tensor classLogits, Tensor maskLogits)
    {
        using var scope = NewDisposeScope();
        var classes = classLogits.softmax(-1).narrow(-1, 0, classLogits.shape[2] - 1);
        return classes.transpose(1, 2).matmul(maskLogits.sigmoid().flatten(2)).unflatten(2, [maskLogits.shape[2], maskLogits.shape[3]]).MoveToOuterDisposeScope();
    }
}
