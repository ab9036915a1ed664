using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Representation;

// BEiT-3 (Wang et al. 2022, arXiv:2208.10442): one transformer for images, texts and pairs of both, whose attention all tokens share while
// everything else has an expert for either. Keys of the public checkpoints (microsoft/torchscale, and unilm's beit3/modeling_finetune.py for the heads).

/// <summary>torchscale's arguments, under its names.</summary>
public sealed record Beit3Config : ModelConfig
{
    public int ImgSize { get; init; } = 224;
    public int PatchSize { get; init; } = 16;
    public int InChans { get; init; } = 3;
    public int VocabSize { get; init; } = 64010;
    public int EncoderEmbedDim { get; init; } = 768;
    public int EncoderAttentionHeads { get; init; } = 12;
    public int EncoderFfnEmbedDim { get; init; } = 3072;
    public int EncoderLayers { get; init; } = 12;

    /// <summary>Rows of the texts' table of positions, two of which are never used.</summary>
    public int MaxSourcePositions { get; init; } = 1024;

    /// <summary>Whether there is a norm after the last layer; image classification and question answering do without.</summary>
    public bool NormalizeOutput { get; init; } = true;
    public double LayernormEps { get; init; } = 1e-5;
    public Activation ActivationFn { get; init; } = Activation.Gelu;

    /// <summary>Whether images and texts have experts of their own; false: one set of weights for both.</summary>
    public bool Multiway { get; init; } = true;

    /// <summary>The probability that a branch of the last block is left out in training; it rises evenly from 0 in the first.</summary>
    public double DropPathRate { get; init; }

    /// <summary>How many classes (or answers) the head tells apart.</summary>
    public int? NumLabels { get; init; }

    /// <summary>What the classes (or answers) are called, by their number; null: nothing says so.</summary>
    public IReadOnlyDictionary<string, string>? Id2label { get; init; }

    /// <summary>How many visual tokens there are, in pretraining.</summary>
    public int VisualVocabSize { get; init; } = 8192;

    /// <summary>The id that stands where a word is hidden; null: the one that texts start with, which stands nowhere else.</summary>
    public int? MaskTokenId { get; init; }
    public string ModelType { get; init; } = "beit3";
    public string[]? Architectures { get; init; }

    /// <summary>Patches of an image.</summary>
    [JsonIgnore]
    public int Patches => ImgSize / PatchSize * (ImgSize / PatchSize);

    /// <summary>As in the papers' code: a normal of 0.02 cut off at one deviation.</summary>
    internal static Initializer Truncated { get; } = new BeitConfig().Truncated();

    internal static Linear Linear(int from, int to, bool bias = true) => new(from, to, bias, Truncated);

    internal LayerNorm Norm(int width) => new(width, LayernormEps);
}

/// <summary>A layer for image tokens and one for text tokens, or one for both. Keys: A (image), B (text); or the layer's own.</summary>
public sealed class Multiway<T>(bool experts, Func<T> make) : Module where T : Module
{
    [Key("A")]
    public T? A { get; } = experts ? make() : null;

    [Key("B")]
    public T? B { get; } = experts ? make() : null;

    [Key("")]
    public T? Shared { get; } = experts ? null : make();

    /// <summary>The layer for text tokens, or the one for image tokens.</summary>
    public T For(bool text) => Shared ?? (text ? B : A)!;
}

/// <summary>Attention over all tokens; the projections belong to the experts. Keys: k_proj, v_proj, q_proj, out_proj, inner_attn_ln.</summary>
public sealed class Beit3Attention(Beit3Config c) : Module
{
    public Multiway<Linear> KProj { get; } = Project(c);

    public Multiway<Linear> VProj { get; } = Project(c);

    public Multiway<Linear> QProj { get; } = Project(c);

    public Multiway<Linear> OutProj { get; } = Project(c);

    public Multiway<LayerNorm> InnerAttnLn { get; } = new(c.Multiway, () => c.Norm(c.EncoderEmbedDim));

    static Multiway<Linear> Project(Beit3Config c) => new(c.Multiway, () => Beit3Config.Linear(Attention.Divisible(c.EncoderEmbedDim, c.EncoderAttentionHeads), c.EncoderEmbedDim));
}

/// <summary>An expert: two linear layers, with a norm before the second. Keys: fc1, fc2, ffn_layernorm.</summary>
public sealed class Beit3FeedForward(Beit3Config c) : Module
{
    public Linear Fc1 { get; } = Beit3Config.Linear(c.EncoderEmbedDim, c.EncoderFfnEmbedDim);

    public Linear Fc2 { get; } = Beit3Config.Linear(c.EncoderFfnEmbedDim, c.EncoderEmbedDim);

    public LayerNorm FfnLayernorm { get; } = c.Norm(c.EncoderFfnEmbedDim);

    /// <param name="x">[b, tokens, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return Fc2.Forward(FfnLayernorm.Forward(Fc1.Forward(x, c.ActivationFn))).MoveToOuterDisposeScope();
    }
}

/// <summary>One block. Keys: self_attn, self_attn_layer_norm, ffn, final_layer_norm.</summary>
public sealed class Beit3Layer(Beit3Config c) : Module
{
    public Beit3Attention SelfAttn { get; } = new(c);

    public Multiway<LayerNorm> SelfAttnLayerNorm { get; } = new(c.Multiway, () => c.Norm(c.EncoderEmbedDim));

    public Multiway<Beit3FeedForward> Ffn { get; } = new(c.Multiway, () => new Beit3FeedForward(c));

    public Multiway<LayerNorm> FinalLayerNorm { get; } = new(c.Multiway, () => c.Norm(c.EncoderEmbedDim));

    /// <summary>Each modality goes its own way but for the attention, where all tokens meet.</summary>
    /// <param name="x">[b, tokens, width], image tokens first</param>
    /// <param name="images">How many of them are of the image.</param>
    /// <param name="mask">As in <see cref="Attention.Apply"/>.</param>
    /// <param name="kept">[2, b] of <see cref="StochasticDepth.Draw"/>, or null</param>
    /// <param name="first">Whether only the first token goes through the block (and sees all).</param>
    /// <param name="cache">Keys and values of earlier tokens, which these are added to.</param>
    /// <returns>[b, tokens or 1, width]</returns>
    public Tensor Forward(Tensor x, int images, Tensor? mask, Tensor? kept = null, bool first = false, Beit3Cache? cache = null)
    {
        using var scope = NewDisposeScope();
        var ways = Ways(x, images, c.Multiway);
        var (queries, keys, values) = (new List<Tensor>(), new List<Tensor>(), new List<Tensor>());
        foreach (var (text, part) in ways)
        {
            var y = SelfAttnLayerNorm.For(text).Forward(part);
            if (queries.Count == 0 || !first) queries.Add(SelfAttn.QProj.For(text).Forward(first ? y.narrow(1, 0, 1) : y));
            keys.Add(SelfAttn.KProj.For(text).Forward(y));
            values.Add(SelfAttn.VProj.For(text).Forward(y));
        }
        var (k, v) = (Heads(keys), Heads(values));
        if (cache is not null) (k, v) = cache.Add(this, k, v);
        var seen = Attention.MergeHeads(Attention.Apply(Heads(queries), k, v, mask));
        var (results, at) = (new List<Tensor>(), 0L);
        foreach (var (text, whole) in ways)
        {
            if (first && results.Count > 0) break;
            var part = first ? whole.narrow(1, 0, 1) : whole;
            var attended = SelfAttn.OutProj.For(text).Forward(SelfAttn.InnerAttnLn.For(text).Forward(seen.narrow(1, at, part.shape[1])));
            var y = EncoderLayer.Residual(part, StochasticDepth.Apply(attended, kept, 0));
            results.Add(EncoderLayer.Residual(y, StochasticDepth.Apply(Ffn.For(text).Forward(FinalLayerNorm.For(text).Forward(y)), kept, 1)));
            at += part.shape[1];
        }
        return Join(results).MoveToOuterDisposeScope();

        Tensor Heads(List<Tensor> parts) => Attention.SplitHeads(Join(parts), c.EncoderAttentionHeads);
    }

    /// <summary>The tokens by modality: image, text or both.</summary>
    internal static IReadOnlyList<(bool Text, Tensor Tokens)> Ways(Tensor x, int images, bool experts)
    {
        var texts = x.shape[1] - images;
        if (!experts || texts == 0) return [(false, x)];
        return images == 0 ? [(true, x)] : [(false, x.narrow(1, 0, images)), (true, x.narrow(1, images, texts))];
    }

    internal static Tensor Join(List<Tensor> parts) => parts.Count == 1 ? parts[0] : cat(parts, 1);
}

/// <summary>What earlier tokens of a caption left in every layer, so that each new one costs itself only.</summary>
/// <param name="room">The most text tokens after the first that it may take.</param>
public sealed class Beit3Cache(int room) : IDisposable
{
    readonly Dictionary<Beit3Layer, KeyValueCache> layers = [];

    /// <summary>How many text tokens are in it.</summary>
    public int Texts { get; internal set; }

    /// <summary>How many image tokens are in it; 0: it is empty.</summary>
    public int Images { get; internal set; }

    /// <summary>Every token's keys and values so far, these at the end: [b, heads, tokens, size].</summary>
    internal (Tensor Keys, Tensor Values) Add(Beit3Layer layer, Tensor keys, Tensor values)
    {
        if (!layers.TryGetValue(layer, out var cache)) layers[layer] = cache = new((int)keys.shape[2] + room);
        return cache.Append(keys, values);
    }

    /// <summary>Forgets the last text token.</summary>
    internal void Unsay()
    {
        Texts--;
        foreach (var cache in layers.Values) cache.Truncate(Images + Texts);
    }

    /// <summary>Every image becomes <paramref name="beams"/> rows that follow each other.</summary>
    internal void Repeat(int images, int beams)
    {
        using var rows = arange(images).repeat_interleave(beams);
        foreach (var cache in layers.Values) cache.Reorder(rows);
    }

    /// <summary>Row i goes on from the text of row <paramref name="rows"/>[i], which is of the same image.</summary>
    internal void Reorder(Tensor rows)
    {
        foreach (var cache in layers.Values) cache.Reorder(rows, Images);
    }

    public void Dispose()
    {
        foreach (var cache in layers.Values) cache.Dispose();
        layers.Clear();
    }
}

/// <summary>What the network gives for images, texts or both.</summary>
/// <param name="Tokens">[b, image tokens + text tokens, width]: the class token, the patches, the text.</param>
/// <param name="Images">How many tokens are of the image: 1 + patches, or 0.</param>
/// <param name="HiddenStates">The embeddings and the output of every layer, when asked for.</param>
public sealed record Beit3Output(Tensor Tokens, int Images, IReadOnlyList<Tensor>? HiddenStates = null);

/// <summary>The multiway transformer. Keys: text_embed, vision_embed, encoder.embed_positions, encoder.layers, encoder.layer_norm.</summary>
public sealed class Beit3Network(Beit3Config c) : Module
{
    /// <summary>Positions start at this row of their tables, a habit of fairseq's.</summary>
    internal const int FirstPosition = 2;

    /// <summary>Positions start as words do; torchscale leaves them at a deviation of 1, in which words would drown.</summary>
    static Initializer OfWords(Beit3Config c) => Init.Normal(1 / Math.Sqrt(c.EncoderEmbedDim));

    public Beit3Config Config { get; } = c;

    public Embedding TextEmbed { get; } = new(c.VocabSize, c.EncoderEmbedDim, OfWords(c));

    [Key("vision_embed.mask_token")]
    public Parameter MaskToken { get; } = new([1, 1, c.EncoderEmbedDim], Init.Zeros);

    [Key("vision_embed.cls_token")]
    public Parameter ClsToken { get; } = new([1, 1, c.EncoderEmbedDim], Init.Zeros);

    [Key("vision_embed.proj")]
    public PatchEmbedding Proj { get; } = new(c.InChans, c.EncoderEmbedDim, c.PatchSize, bias: true);

    [Key("encoder.embed_positions.A")]
    public Embedding ImagePositions { get; } = new(c.Patches + 1 + FirstPosition, c.EncoderEmbedDim, OfWords(c));

    [Key("encoder.embed_positions.B")]
    public Embedding TextPositions { get; } = new(c.MaxSourcePositions, c.EncoderEmbedDim, OfWords(c));

    [Key("encoder.layers")]
    public ModuleList<Beit3Layer> Layers { get; } = new(c.EncoderLayers, _ => new Beit3Layer(c));

    [Key("encoder.layer_norm")]
    public Multiway<LayerNorm>? LayerNorm { get; } = c.NormalizeOutput ? new(c.Multiway, () => c.Norm(c.EncoderEmbedDim)) : null;

    /// <summary>The probability that a branch of the last block is left out in training; it rises evenly from 0 in the first.</summary>
    public double DropPath { get; set; } = StochasticDepth.Check(c.DropPathRate);

    /// <summary>Draws what is left out; null: libtorch's own generator.</summary>
    public Generator? Random { get; set; }

    /// <summary>The parameters by depth, both modalities' together.</summary>
    internal LayerGroups Groups(params ReadOnlySpan<object?> head) =>
        LayerGroups.Of([TextEmbed, MaskToken, ClsToken, Proj, ImagePositions, TextPositions], Layers, [LayerNorm], head);

    /// <summary>Images, texts, or pairs of both.</summary>
    /// <param name="pixels">[b, channels, size, size], or null</param>
    /// <param name="ids">[b, tokens] int64, or null</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding; null: none</param>
    /// <param name="masked">[b, patches] bool: replaced by the mask token; null: none</param>
    /// <param name="hiddenStates">Whether the states between the layers are kept.</param>
    /// <exception cref="PanoptesException">Neither given, another size, or more tokens than there are positions.</exception>
    public Beit3Output Forward(Tensor? pixels, Tensor? ids = null, Tensor? attentionMask = null, Tensor? masked = null, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var states = hiddenStates ? new List<Tensor>() : null;
        var (x, images, padding) = Embed(pixels, ids, attentionMask, masked, 0);
        var tokens = Norm(Blocks(x, images, KeyMask.Of(padding), false, null, states), images);
        if (states is not null)
            foreach (var state in states) state.MoveToOuterDisposeScope();
        return new(ReferenceEquals(tokens, states?[^1]) ? tokens : tokens.MoveToOuterDisposeScope(), images, states);
    }

    /// <summary>The first token's features only (the image's class token, or the text's first), the last layer for it alone.</summary>
    /// <returns>[b, width]</returns>
    internal Tensor ForwardFirst(Tensor? pixels, Tensor? ids = null, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        var (x, images, padding) = Embed(pixels, ids, attentionMask, null, 0);
        return Norm(Blocks(x, images, KeyMask.Of(padding), true, null, null), Math.Min(images, 1)).select(1, 0).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// A caption's tokens: the image sees itself, each token the image and the text up to itself. With a cache the image and the first tokens are
    /// given once, and then only the tokens that follow.
    /// </summary>
    /// <returns>The text's tokens alone: [b, tokens, width]</returns>
    /// <exception cref="PanoptesException">No image, or one for a cache that has one already.</exception>
    internal Tensor ForwardCaption(Tensor? pixels, Tensor ids, Tensor? attentionMask, Beit3Cache? cache)
    {
        if ((cache?.Images ?? 0) > 0 == pixels is not null) throw new PanoptesException("A caption needs its image once, together with its first tokens.");
        using var scope = NewDisposeScope();
        var (x, images, padding) = Embed(pixels, ids, attentionMask, null, cache?.Texts ?? 0);
        var (imagesBefore, textsBefore, texts) = (cache?.Images ?? 0, cache?.Texts ?? 0, (int)ids.shape[1]);
        var seen = CaptionMask(imagesBefore + images, textsBefore + texts).to(x.device);
        if (cache is not null && imagesBefore > 0)
            seen = seen.narrow(0, imagesBefore + textsBefore, texts);                              // only the new tokens ask
        if (KeyMask.Of(padding) is { } own) seen = own.logical_and(seen);                         // [b, 1, queries, keys]
        var tokens = Norm(Blocks(x, images, seen, false, cache, null), images);
        if (cache is not null) (cache.Images, cache.Texts) = (imagesBefore + images, textsBefore + texts);
        return tokens.narrow(1, images, texts).MoveToOuterDisposeScope();
    }

    /// <summary>Which token (first the image's, then the text's) sees which in captioning: [tokens, tokens] bool.</summary>
    public static Tensor CaptionMask(int images, int texts)
    {
        using var scope = NewDisposeScope();
        var seen = ones(images + texts, images + texts, dtype: ScalarType.Bool).tril();
        seen.narrow(0, 0, images).narrow(1, 0, images).fill_(true);
        return seen.MoveToOuterDisposeScope();
    }

    (Tensor X, int Images, Tensor? Padding) Embed(Tensor? pixels, Tensor? ids, Tensor? attentionMask, Tensor? masked, int textsBefore)
    {
        var parts = new List<Tensor>();
        var (images, padding) = (0, attentionMask);
        if (pixels is not null)
        {
            if (pixels.shape[2] != Config.ImgSize || pixels.shape[3] != Config.ImgSize)
                throw new PanoptesException($"Images of {pixels.shape[3]}x{pixels.shape[2]} pixels were given to a model for {Config.ImgSize}x{Config.ImgSize}.");
            var patches = Proj.Forward(pixels);
            if (masked is not null) patches = where(masked.unsqueeze(-1), MaskToken.Value, patches);
            images = 1 + (int)patches.shape[1];
            parts.Add(cat([ClsToken.Value.expand(patches.shape[0], -1, -1), patches], 1).add(ImagePositions.Weight.Value.narrow(0, FirstPosition, images)));
        }
        if (ids is not null)
        {
            var (length, start) = (ids.shape[1], FirstPosition + textsBefore);
            if (start + length > Config.MaxSourcePositions)
                throw new PanoptesException($"A text of {textsBefore + length} tokens was given to a model whose texts have at most {Config.MaxSourcePositions - FirstPosition}.");
            var words = TextEmbed.Forward(ids).add(TextPositions.Weight.Value.narrow(0, start, length));
            if (attentionMask is not null) words = words * attentionMask.ne(0).unsqueeze(-1).to(words.dtype);
            parts.Add(words);
            if (attentionMask is not null && images > 0) padding = cat([ones(ids.shape[0], images, dtype: attentionMask.dtype, device: ids.device), attentionMask], 1);
        }
        if (parts.Count == 0) throw new PanoptesException("Neither an image nor a text was given; expected one or both.");
        return (Beit3Layer.Join(parts), images, padding);
    }

    Tensor Blocks(Tensor x, int images, Tensor? mask, bool first, Beit3Cache? cache, ICollection<Tensor>? states)
    {
        var kept = Training ? StochasticDepth.Draw(StochasticDepth.Rising(DropPath, Layers.Count), 2, x, Random) : null;
        var last = first && Layers.Count > 0 ? Layers[^1] : null;
        return BlockStack.Forward(Layers, x, (layer, x, kept, mask) => layer.Forward(x, images, mask, kept, ReferenceEquals(layer, last), cache), kept, mask, ActivationsCheckpointed, states);
    }

    Tensor Norm(Tensor x, int images) =>
        LayerNorm is null ? x : Beit3Layer.Join([.. Beit3Layer.Ways(x, images, Config.Multiway).Select(w => LayerNorm.For(w.Text).Forward(w.Tokens))]);
}

/// <summary>The network with what stands on it. As a tower it takes images and gives their class token. Keys: beit3.</summary>
public abstract class Beit3Base : Module, IMaskedImageTower, IStochasticDepth
{
    /// <param name="config">The sizes.</param>
    /// <param name="reads">Whether it is trained on texts as well.</param>
    private protected Beit3Base(Beit3Config config, bool reads)
    {
        Beit3 = new(config);
        Texts = reads ? new Beit3TextTower(Beit3, null) : null;
    }

    public Beit3Network Beit3 { get; }

    /// <summary>The network as it reads texts; null where nothing of this model does.</summary>
    public ITextTower? Texts { get; }

    public Beit3Config Config => Beit3.Config;

    public int ImageSize => Config.ImgSize;

    public int EmbeddingSize => Config.EncoderEmbedDim;

    public int PrefixTokens => 1;

    public double DropPath
    {
        get => Beit3.DropPath;
        set => Beit3.DropPath = value;
    }

    public Generator? Random
    {
        get => Beit3.Random;
        set => Beit3.Random = value;
    }

    public LayerGroups LayerGroups
    {
        get
        {
            var own = Beit3.Parameters().ToHashSet();
            return Beit3.Groups() with { Head = [.. Parameters().Where(p => p.Trainable && !own.Contains(p))] };
        }
    }

    public Tensor EmbedTokens(Tensor tokens) => tokens.alias();

    public Tensor Encode(Tensor pixels) => Beit3.ForwardFirst(pixels);

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false) => Tower(Beit3.Forward(pixels, hiddenStates: hiddenStates));

    public TowerOutput Forward(Tensor pixels, Tensor masked, bool hiddenStates = false) => Tower(Beit3.Forward(pixels, masked: masked, hiddenStates: hiddenStates));

    static TowerOutput Tower(Beit3Output output)
    {
        var pooled = output.Tokens.select(1, 0);
        return new(output.Tokens, pooled, pooled, output.HiddenStates);
    }
}

/// <summary>The pretrained network alone.</summary>
public sealed class Beit3Model(Beit3Config config) : Beit3Base(config, reads: false);

/// <summary>
/// Masked data modelling, BEiT-3's only pretraining task: the visual tokens of masked patches and the words that were masked are to be told, in
/// images, in texts and in pairs of both. Keys: beit3, mim_head, mlm_head.
/// </summary>
public sealed class Beit3ForPretraining(Beit3Config config) : Beit3Base(config, reads: true)
{
    public Linear MimHead { get; } = Beit3Config.Linear(config.EncoderEmbedDim, config.VisualVocabSize);

    public Linear MlmHead { get; } = Beit3Config.Linear(config.EncoderEmbedDim, config.VocabSize);

    /// <summary>The mean cross-entropy over the masked patches of images.</summary>
    /// <param name="pixels">[b, channels, size, size]</param>
    /// <param name="masked">[b, patches] bool</param>
    /// <param name="labels">[b, patches] (or any shape of as many) int64: every patch's visual token</param>
    public Tensor ImageLoss(Tensor pixels, Tensor masked, Tensor labels)
    {
        using var scope = NewDisposeScope();
        return OfMasked(Beit3.Forward(pixels, masked: masked).Tokens.narrow(1, 1, masked.shape[1]), masked, labels, MimHead).MoveToOuterDisposeScope();
    }

    /// <summary>The mean cross-entropy over the masked words of texts.</summary>
    /// <param name="ids">[b, tokens] int64, masked ones replaced by the tokenizer's mask token</param>
    /// <param name="masked">[b, tokens] bool</param>
    /// <param name="labels">[b, tokens] int64: the ids as they were</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding</param>
    public Tensor TextLoss(Tensor ids, Tensor masked, Tensor labels, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        return OfMasked(Beit3.Forward(null, ids, attentionMask).Tokens, masked, labels, MlmHead).MoveToOuterDisposeScope();
    }

    /// <summary>Both, of pairs: patches and words are told from what is left of the image and of its text. The sum of the two means.</summary>
    /// <inheritdoc cref="ImageLoss" path="/param"/>
    /// <param name="pixels">[b, channels, size, size]</param>
    /// <param name="maskedPatches">[b, patches] bool</param>
    /// <param name="visualLabels">[b, patches] int64: every patch's visual token</param>
    /// <param name="ids">[b, tokens] int64, masked ones replaced by the tokenizer's mask token</param>
    /// <param name="maskedWords">[b, tokens] bool</param>
    /// <param name="labels">[b, tokens] int64: the ids as they were</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding</param>
    public Tensor PairLoss(Tensor pixels, Tensor maskedPatches, Tensor visualLabels, Tensor ids, Tensor maskedWords, Tensor labels, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        var (tokens, images, _) = Beit3.Forward(pixels, ids, attentionMask, maskedPatches);
        return (OfMasked(tokens.narrow(1, 1, images - 1), maskedPatches, visualLabels, MimHead)
            + OfMasked(tokens.narrow(1, images, ids.shape[1]), maskedWords, labels, MlmHead)).MoveToOuterDisposeScope();
    }

    /// <summary>The mean cross-entropy over the masked of <paramref name="tokens"/> [b, n, width], for which alone logits are computed.</summary>
    internal static Tensor OfMasked(Tensor tokens, Tensor masked, Tensor labels, Linear head)
    {
        using var scope = NewDisposeScope();
        var rows = masked.to(ScalarType.Bool).flatten().nonzero().squeeze(1);
        if (rows.shape[0] == 0) throw new PanoptesException("Nothing is masked, so there is nothing to predict.");
        var logits = head.Forward(tokens.reshape(-1, tokens.shape[2]).index_select(0, rows));
        return nn.functional.cross_entropy(logits.to(ScalarType.Float32), labels.flatten().index_select(0, rows)).MoveToOuterDisposeScope();
    }
}

/// <summary>Classes of images, by the mean over their patches. Keys: beit3, fc_norm, head.</summary>
public sealed class Beit3ForImageClassification(Beit3Config config) : Beit3Base(config, reads: false)
{
    public LayerNorm FcNorm { get; } = config.Norm(config.EncoderEmbedDim);

    public Linear Head { get; } = Beit3Config.Linear(config.EncoderEmbedDim, config.NumLabels ?? 1000);

    /// <param name="pixels">[b, channels, size, size]</param>
    /// <returns>[b, classes]</returns>
    public Tensor Logits(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var (tokens, images, _) = Beit3.Forward(pixels);
        return Head.Forward(FcNorm.Forward(tokens.narrow(1, 1, images - 1).mean([1]))).MoveToOuterDisposeScope();
    }
}

/// <summary>Norm, linear, norm, GELU, linear. Keys: norm1, dense1, norm2, dense2.</summary>
public sealed class Beit3TwoLayerMlp(Beit3Config c, int from, int hidden, int to) : Module
{
    public LayerNorm Norm1 { get; } = c.Norm(from);

    public Linear Dense1 { get; } = Beit3Config.Linear(from, hidden);

    public LayerNorm Norm2 { get; } = c.Norm(hidden);

    public Linear Dense2 { get; } = Beit3Config.Linear(hidden, to);

    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return Dense2.Forward(nn.functional.gelu(Norm2.Forward(Dense1.Forward(Norm1.Forward(x))))).MoveToOuterDisposeScope();
    }
}

/// <summary>Whether a sentence is true of two images (NLVR2). Keys: beit3, head.</summary>
public sealed class Beit3ForVisualReasoning(Beit3Config config) : Beit3Base(config, reads: false)
{
    public Beit3TwoLayerMlp Head { get; } = new(config, 4 * config.EncoderEmbedDim, 2 * config.EncoderEmbedDim, config.NumLabels ?? 2);

    /// <param name="first">[b, channels, size, size]</param>
    /// <param name="second">[b, channels, size, size]</param>
    /// <param name="ids">[b, tokens] int64: the sentence</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding</param>
    /// <returns>[b, classes]</returns>
    public Tensor Logits(Tensor first, Tensor second, Tensor ids, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        var (tokens, images, _) = Beit3.Forward(cat([first, second]), cat([ids, ids]), attentionMask is null ? null : cat([attentionMask, attentionMask]));
        var pairs = cat([tokens.select(1, 0), tokens.select(1, images)], -1).chunk(2);              // both class tokens, of either pair
        return Head.Forward(cat(pairs, -1)).MoveToOuterDisposeScope();
    }
}

/// <summary>tanh of a linear layer on the normalized class token. Keys: norm, dense.</summary>
public sealed class Beit3Pooler(Beit3Config c) : Module
{
    public LayerNorm Norm { get; } = c.Norm(c.EncoderEmbedDim);

    public Linear Dense { get; } = Beit3Config.Linear(c.EncoderEmbedDim, c.EncoderEmbedDim);

    /// <param name="token">[b, width]</param>
    public Tensor Forward(Tensor token)
    {
        using var scope = NewDisposeScope();
        return Dense.Forward(Norm.Forward(token)).tanh().MoveToOuterDisposeScope();
    }
}

/// <summary>Answers to questions about images, out of a fixed list (VQA). Keys: beit3, pooler, head.0, head.1, head.3.</summary>
public sealed class Beit3ForVisualQuestionAnswering(Beit3Config config) : Beit3Base(config, reads: true)
{
    public Beit3Pooler Pooler { get; } = new(config);

    [Key("head.0")]
    public Linear HeadDense { get; } = Beit3Config.Linear(config.EncoderEmbedDim, 2 * config.EncoderEmbedDim);

    [Key("head.1")]
    public LayerNorm HeadNorm { get; } = config.Norm(2 * config.EncoderEmbedDim);

    [Key("head.3")]
    public Linear HeadOutput { get; } = Beit3Config.Linear(2 * config.EncoderEmbedDim, config.NumLabels ?? 3129);

    /// <summary>The answers in words, as the config names them; empty where it names none.</summary>
    public IReadOnlyList<string> Answers { get; } = config.Id2label is { } names ? [.. Enumerable.Range(0, config.NumLabels ?? names.Count).Select(i => names.GetValueOrDefault(FormattableString.Invariant($"{i}"), ""))] : [];

    /// <summary>What the answer is told from: [b, width].</summary>
    /// <inheritdoc cref="Logits" path="/param"/>
    public Tensor Pool(Tensor pixels, Tensor ids, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        return Pooler.Forward(Beit3.ForwardFirst(pixels, ids, attentionMask)).MoveToOuterDisposeScope();
    }

    /// <param name="pixels">[b, channels, size, size]</param>
    /// <param name="ids">[b, tokens] int64: the question</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding</param>
    /// <returns>[b, answers]</returns>
    public Tensor Logits(Tensor pixels, Tensor ids, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        return HeadOutput.Forward(nn.functional.gelu(HeadNorm.Forward(HeadDense.Forward(Pool(pixels, ids, attentionMask))))).MoveToOuterDisposeScope();
    }
}

/// <summary>Captions, by masked words that see the image and what stands before them. Keys: beit3, mlm_head.</summary>
public sealed class Beit3ForCaptioning(Beit3Config config) : Beit3Base(config, reads: true), ICaptionWriter
{
    public Linear MlmHead { get; } = Beit3Config.Linear(config.EncoderEmbedDim, config.VocabSize);

    /// <summary>The text's tokens: [b, tokens, width].</summary>
    /// <inheritdoc cref="Logits" path="/param"/>
    public Tensor States(Tensor? pixels, Tensor ids, Tensor? attentionMask = null, Beit3Cache? cache = null) => Beit3.ForwardCaption(pixels, ids, attentionMask, cache);

    /// <param name="pixels">[b, channels, size, size]; null for a cache that has seen the image.</param>
    /// <param name="ids">[b, tokens] int64; with a cache, those that follow.</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding; not with a cache that is filled.</param>
    /// <param name="cache">Takes what later tokens need of these; null: none is kept.</param>
    /// <returns>[b, tokens, vocabulary]</returns>
    public Tensor Logits(Tensor? pixels, Tensor ids, Tensor? attentionMask = null, Beit3Cache? cache = null)
    {
        using var scope = NewDisposeScope();
        return MlmHead.Forward(States(pixels, ids, attentionMask, cache)).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    /// <remarks>A mask token stands where the next word goes; what is said there is written, and the mask moves on. Ids that stand for no word are never said.</remarks>
    public IReadOnlyList<GeneratedCaption> Generate(Tensor pixels, int startId, int endId, CaptionOptions? options = null)
    {
        options ??= new();
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (images, beams, mask) = ((int)pixels.shape[0], options.Beams, Config.MaskTokenId ?? startId);
        var most = options.Most(Texts!.ContextLength - 1);
        using var cache = new Beit3Cache(most + 1);
        var search = new BeamSearch(images, beams, endId, options.LengthPenalty);
        for (var step = 0; step < most; step++)
        {
            using var inner = NewDisposeScope();
            var ids = step == 0 ? full(images, 1, (long)startId, ScalarType.Int64, device: pixels.device) : tensor(search.NextIds, [images * beams, 1], device: pixels.device);
            var states = States(step == 0 ? pixels : null, cat([ids, full_like(ids, (long)mask)], 1), cache: cache);
            cache.Unsay();
            var said = MlmHead.Forward(states.select(1, 1)).to(ScalarType.Float32).log_softmax(-1);
            said[TensorIndex.Colon, mask] = float.NegativeInfinity;
            said[TensorIndex.Colon, startId] = float.NegativeInfinity;
            if (step < options.MinTokens) said[TensorIndex.Colon, endId] = float.NegativeInfinity;
            if (step == 0 && beams > 1)
            {
                cache.Repeat(images, beams);
                said = said.repeat_interleave(beams, 0);
            }
            if (search.Step(said, last: step == most - 1)) break;
            if (beams > 1) cache.Reorder(tensor(search.Origins, device: pixels.device));
        }
        return search.Best();
    }

    /// <summary>The mean cross-entropy over the masked words of captions.</summary>
    /// <param name="pixels">[b, channels, size, size]</param>
    /// <param name="ids">[b, tokens] int64, masked ones replaced by the tokenizer's mask token</param>
    /// <param name="masked">[b, tokens] bool</param>
    /// <param name="labels">[b, tokens] int64: the ids as they were</param>
    /// <param name="attentionMask">[b, tokens], 0 where padding</param>
    public Tensor Loss(Tensor pixels, Tensor ids, Tensor masked, Tensor labels, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        return Beit3ForPretraining.OfMasked(States(pixels, ids, attentionMask), masked, labels, MlmHead).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Retrieval: images and texts, each by itself, in one space. The towers share the network. Keys: logit_scale, beit3, language_head, vision_head.
/// </summary>
public sealed class Beit3ForRetrieval : DualEncoder
{
    public Beit3ForRetrieval(Beit3Config config)
    {
        Beit3 = new(config);
        LanguageHead = Beit3Config.Linear(config.EncoderEmbedDim, config.EncoderEmbedDim, bias: false);
        VisionHead = Beit3Config.Linear(config.EncoderEmbedDim, config.EncoderEmbedDim, bias: false);
        (Images, Texts) = (new Beit3ImageTower(Beit3, VisionHead), new Beit3TextTower(Beit3, LanguageHead));
    }

    public Beit3Config Config => Beit3.Config;

    public override Parameter LogitScale { get; } = new([], Init.Constant(Math.Log(1 / 0.07)));

    public Beit3Network Beit3 { get; }

    public Linear LanguageHead { get; }

    public Linear VisionHead { get; }

    public override IImageTower Images { get; }

    public override ITextTower Texts { get; }
}

/// <summary>The image's side of <see cref="Beit3ForRetrieval"/>.</summary>
sealed class Beit3ImageTower(Beit3Network network, Linear head) : Module, IImageTower, IStochasticDepth
{
    public Beit3Network Network { get; } = network;

    public Linear Head { get; } = head;

    public int ImageSize => Network.Config.ImgSize;

    public int EmbeddingSize => Network.Config.EncoderEmbedDim;

    public int PrefixTokens => 1;

    public double DropPath
    {
        get => Network.DropPath;
        set => Network.DropPath = value;
    }

    public Generator? Random
    {
        get => Network.Random;
        set => Network.Random = value;
    }

    public LayerGroups LayerGroups => Network.Groups(Head);

    public Tensor EmbedTokens(Tensor tokens) => Head.Forward(tokens);

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Head.Forward(Network.ForwardFirst(pixels)).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        var (tokens, _, states) = Network.Forward(pixels, hiddenStates: hiddenStates);
        var pooled = tokens.select(1, 0);
        return new(tokens, pooled, Head.Forward(pooled), states);
    }
}

/// <summary>The text's side of <see cref="Beit3ForRetrieval"/>.</summary>
sealed class Beit3TextTower(Beit3Network network, Linear? head) : Module, ITextTower
{
    public Beit3Network Network { get; } = network;

    public Linear? Head { get; } = head;

    public bool SeesPadding => true;

    public int ContextLength => Network.Config.MaxSourcePositions - Beit3Network.FirstPosition;

    public int VocabularySize => Network.Config.VocabSize;

    public int EmbeddingSize => Network.Config.EncoderEmbedDim;

    public LayerGroups LayerGroups => Network.Groups(Head);

    public Tensor EmbedTokens(Tensor tokens) => Head is null ? tokens.alias() : Head.Forward(tokens);

    public Tensor Encode(Tensor inputIds, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        return EmbedTokens(Network.ForwardFirst(null, inputIds, attentionMask)).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false)
    {
        var (tokens, _, states) = Network.Forward(null, inputIds, attentionMask, hiddenStates: hiddenStates);
        var pooled = tokens.select(1, 0);
        return new(tokens, pooled, EmbedTokens(pooled), states);
    }
}
