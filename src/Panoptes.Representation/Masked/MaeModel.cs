using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Representation;

// Masked autoencoders (He et al. 2022, arXiv:2111.06377) with the keys and the config.json of Hugging Face's ViTMAEModel and
// ViTMAEForPreTraining. Weights start as in the paper's code (facebookresearch/mae, models_mae.py); its files are read by MaeOriginal.

/// <summary>Encoder, decoder and how they are trained ("vit_mae").</summary>
public sealed record MaeConfig : ImageModelConfig
{
    public int HiddenSize { get; init; } = 768;
    public int NumHiddenLayers { get; init; } = 12;
    public int NumAttentionHeads { get; init; } = 12;
    public int IntermediateSize { get; init; } = 3072;
    public double LayerNormEps { get; init; } = 1e-12;
    public int ImageSize { get; init; } = 224;
    public int PatchSize { get; init; } = 16;
    public bool QkvBias { get; init; } = true;
    public int DecoderNumAttentionHeads { get; init; } = 16;
    public int DecoderHiddenSize { get; init; } = 512;
    public int DecoderNumHiddenLayers { get; init; } = 8;
    public int DecoderIntermediateSize { get; init; } = 2048;

    /// <summary>The fraction of patches that is masked in pretraining, from 0 to below 1.</summary>
    public double MaskRatio { get; init; } = 0.75;

    /// <summary>Whether each patch's pixels are normalized before they are compared; better features, but the decoder's output is no picture.</summary>
    public bool NormPixLoss { get; init; }

    /// <summary>Whether images are pooled to the mean of their patches, normalized after that, instead of to the class token; of fine-tuned models only.</summary>
    public bool? UseMeanPooling { get; init; }
    public string ModelType { get; init; } = "vit_mae";

    /// <summary>Patches a side.</summary>
    [JsonIgnore]
    public int Side => ImageSize / PatchSize;
}

/// <summary>A transformer block under the names of Hugging Face's older vision models. Keys: attention, intermediate, output, layernorm_before, layernorm_after.</summary>
public sealed class MaeLayer(MaeConfig c, int width, int heads, int hidden) : Module
{
    /// <summary>In the paper's code query, key and value are one matrix of three times the height, which makes Glorot's bound smaller.</summary>
    static Initializer OfThree(int width) => Init.Uniform(Math.Sqrt(6.0 / (4 * width)));

    [Key("attention.attention.query")]
    public Linear Query { get; } = new(Attention.Divisible(width, heads), width, c.QkvBias, OfThree(width));

    [Key("attention.attention.key")]
    public Linear Key { get; } = new(width, width, c.QkvBias, OfThree(width));

    [Key("attention.attention.value")]
    public Linear Value { get; } = new(width, width, c.QkvBias, OfThree(width));

    [Key("attention.output.dense")]
    public Linear Projection { get; } = new(width, width, initializer: Init.XavierUniform);

    [Key("intermediate.dense")]
    public Linear Intermediate { get; } = new(width, hidden, initializer: Init.XavierUniform);

    [Key("output.dense")]
    public Linear Output { get; } = new(hidden, width, initializer: Init.XavierUniform);

    public LayerNorm LayernormBefore { get; } = new(width, c.LayerNormEps);

    public LayerNorm LayernormAfter { get; } = new(width, c.LayerNormEps);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="asking">Only these tokens go through the block (and see all); null: every token.</param>
    /// <returns>[b, tokens or asking, width]</returns>
    public Tensor Forward(Tensor x, (long Start, long Length)? asking = null)
    {
        using var scope = NewDisposeScope();
        var all = LayernormBefore.Forward(x);
        var some = all;
        if (asking is var (start, length)) (x, some) = (x.narrow(1, start, length), all.narrow(1, start, length));
        var seen = Attention.Apply(Attention.SplitHeads(Query.Forward(some), heads), Attention.SplitHeads(Key.Forward(all), heads), Attention.SplitHeads(Value.Forward(all), heads));
        x = EncoderLayer.Residual(x, Projection.Forward(Attention.MergeHeads(seen)));
        return EncoderLayer.Residual(x, Mlp.Apply(Intermediate, Output, c.HiddenAct, LayernormAfter.Forward(x))).MoveToOuterDisposeScope();
    }

    /// <summary>A stack of blocks; of the last one only the tokens <paramref name="asking"/> are computed.</summary>
    /// <param name="checkpointed">Whether blocks keep only their inputs for the gradient.</param>
    /// <param name="hiddenStates">Receives the input and the output of every block.</param>
    internal static Tensor Stack(ModuleList<MaeLayer> layers, Tensor x, bool checkpointed, (long Start, long Length)? asking = null, ICollection<Tensor>? hiddenStates = null)
    {
        hiddenStates?.Add(x);
        for (var i = 0; i < layers.Count; i++)
        {
            var (layer, before, part) = (layers[i], x, i == layers.Count - 1 ? asking : null);
            x = checkpointed ? ActivationCheckpoint.Run(layer, (x, _) => layer.Forward(x, part), x, null) : layer.Forward(x, part);
            if (hiddenStates is not null) hiddenStates.Add(x);
            else before.Dispose();                                     // the gradient keeps its own reference
        }
        return layers.Count == 0 && asking is var (start, length) ? x.narrow(1, start, length) : x;
    }
}

/// <summary>Patches with fixed positions, and a class token before them. Keys: cls_token, position_embeddings, patch_embeddings.projection.</summary>
public sealed class MaeEmbeddings(MaeConfig c) : Module
{
    public Parameter ClsToken { get; } = new([1, 1, c.HiddenSize], Init.Normal(c.InitializerRange));

    public Parameter PositionEmbeddings { get; } = Positions(c.Side, c.HiddenSize);

    [Key("patch_embeddings.projection")]
    public PatchEmbedding PatchEmbeddings { get; } = new(c.NumChannels, c.HiddenSize, c.PatchSize, bias: true,
        Init.Uniform(Math.Sqrt(6.0 / (c.HiddenSize + c.NumChannels * c.PatchSize * c.PatchSize))));

    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="kept">[b, kept] int64: all other patches are left out before they cost anything; null: none is.</param>
    /// <param name="interpolate">Whether images of another size than the config's get resized positions; otherwise they are refused.</param>
    /// <returns>[b, 1 + patches or kept, width]</returns>
    public Tensor Forward(Tensor pixels, Tensor? kept, bool interpolate)
    {
        var (height, width) = (pixels.shape[2], pixels.shape[3]);
        if (!interpolate && (height != c.ImageSize || width != c.ImageSize))
            throw new PanoptesException($"Images of {width}x{height} pixels were given to a model for {c.ImageSize}x{c.ImageSize}; resize them, or ask for interpolated positions.");
        using var scope = NewDisposeScope();
        var (rows, columns) = ((int)height / c.PatchSize, (int)width / c.PatchSize);
        var (first, positions) = (PositionEmbeddings.Value.narrow(1, 0, 1), PositionEmbeddings.Value.squeeze(0).narrow(0, 1, c.Side * c.Side));
        if (rows != c.Side || columns != c.Side) positions = Nn.Positions.ResizeBicubic(positions, c.Side, c.Side, rows, columns);
        if (kept is not null) positions = Native.TorchOps.Embedding(positions, kept);
        var patches = PatchEmbeddings.Forward(pixels, kept).add(positions);
        return cat([(ClsToken.Value + first).expand(patches.shape[0], -1, -1), patches], 1).MoveToOuterDisposeScope();
    }

    /// <summary>A table of positions that is not trained.</summary>
    internal static Parameter Positions(int side, int width) =>
        new([1, 1 + side * side, width], (t, _) => t.copy_(Nn.Positions.SinCos(side, side, width))) { Trainable = false };
}

/// <summary>
/// The encoder: Hugging Face's ViTMAEModel. As a tower it sees every patch and gives the class token; in pretraining it sees a quarter of them.
/// Keys: embeddings, encoder.layer, layernorm (or, with mean pooling, fc_norm).
/// </summary>
public sealed class MaeModel(MaeConfig config) : Module, IImageTower, IPatchDropout
{
    public MaeConfig Config { get; } = config;

    public MaeEmbeddings Embeddings { get; } = new(config);

    [Key("encoder.layer")]
    public ModuleList<MaeLayer> Layers { get; } = new(config.NumHiddenLayers, _ => new MaeLayer(config, config.HiddenSize, config.NumAttentionHeads, config.IntermediateSize));

    public LayerNorm? Layernorm { get; } = config.UseMeanPooling == true ? null : new(config.HiddenSize, config.LayerNormEps);

    public LayerNorm? FcNorm { get; } = config.UseMeanPooling == true ? new(config.HiddenSize, config.LayerNormEps) : null;

    public int ImageSize => Config.ImageSize;

    public int EmbeddingSize => Config.HiddenSize;

    public int PrefixTokens => 1;

    /// <summary>Whether images of other sizes than <see cref="ImageSize"/> are taken, with positions resized to them.</summary>
    public bool InterpolatePositions { get; set; }

    /// <summary>The fraction of patches that <see cref="Encode"/> leaves out in training (FLIP), from 0 to below 1.</summary>
    public double PatchDropout { get; set; }

    /// <summary>Draws the patches that are left out; null: libtorch's own generator.</summary>
    public Generator? Random { get; set; }

    public LayerGroups LayerGroups => LayerGroups.Of([Embeddings], Layers, [Layernorm, FcNorm], []);

    /// <summary>With mean pooling each patch as if it were the mean, which is normalized after it.</summary>
    public Tensor EmbedTokens(Tensor tokens) => FcNorm is null ? tokens.alias() : FcNorm.Forward(tokens);

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var kept = Training && PatchDropout > 0 ? Representation.PatchDropout.Kept(Noise(pixels, Random), PatchDropout) : null;
        return Pool(Norm(Blocks(pixels, kept, FcNorm is null ? (0, 1) : null, null))).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false) => Forward(pixels, null, hiddenStates);

    /// <summary>The tokens of the patches that a mask leaves to be seen; the others are not computed.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="mask">Null: every patch is seen.</param>
    /// <param name="hiddenStates">Whether the states between the layers are kept.</param>
    /// <returns>Tokens [b, 1 + seen, width] after the norm, the class token first, then patches in the mask's order.</returns>
    public TowerOutput Forward(Tensor pixels, PatchMask? mask, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var states = hiddenStates ? new List<Tensor>() : null;
        var tokens = Norm(Blocks(pixels, mask?.SeenPatches, null, states));
        var pooled = Pool(tokens);
        TowerOutput.Keep(tokens, pooled, states);
        return new(tokens, pooled, pooled, states);
    }

    /// <summary>A mask of the config's ratio.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="random">Decides it; null: <see cref="Random"/>.</param>
    public PatchMask DrawMask(Tensor pixels, Generator? random = null)
    {
        using var scope = NewDisposeScope();
        var mask = PatchMask.FromNoise(Noise(pixels, random ?? Random), Config.MaskRatio);
        mask.Order.MoveToOuterDisposeScope();
        return mask;
    }

    Tensor Norm(Tensor x) => Layernorm is null ? x : Layernorm.Forward(x);

    /// <param name="tokens">[b, tokens, width] after the norm; of a model with a class token the first is enough.</param>
    Tensor Pool(Tensor tokens) => FcNorm is null ? tokens.select(1, 0) : FcNorm.Forward(tokens.narrow(1, 1, tokens.shape[1] - 1).mean([1]));

    Tensor Noise(Tensor pixels, Generator? random) =>
        rand([pixels.shape[0], pixels.shape[2] / Config.PatchSize * (pixels.shape[3] / Config.PatchSize)], device: pixels.device, generator: random);

    /// <summary>The last block's output, before the norm.</summary>
    Tensor Blocks(Tensor pixels, Tensor? kept, (long, long)? asking, ICollection<Tensor>? hiddenStates) =>
        MaeLayer.Stack(Layers, Embeddings.Forward(pixels, kept, InterpolatePositions), ActivationsCheckpointed, asking, hiddenStates);
}

/// <summary>From what was seen to the pixels that were not. Keys: mask_token, decoder_pos_embed, decoder_embed, decoder_layers, decoder_norm, decoder_pred.</summary>
public sealed class MaeDecoder(MaeConfig c) : Module
{
    public Parameter MaskToken { get; } = new([1, 1, c.DecoderHiddenSize], Init.Normal(c.InitializerRange));

    public Parameter DecoderPosEmbed { get; } = MaeEmbeddings.Positions(c.Side, c.DecoderHiddenSize);

    public Linear DecoderEmbed { get; } = new(c.HiddenSize, c.DecoderHiddenSize, initializer: Init.XavierUniform);

    public ModuleList<MaeLayer> DecoderLayers { get; } =
        new(c.DecoderNumHiddenLayers, _ => new MaeLayer(c, c.DecoderHiddenSize, c.DecoderNumAttentionHeads, c.DecoderIntermediateSize));

    public LayerNorm DecoderNorm { get; } = new(c.DecoderHiddenSize, c.LayerNormEps);

    public Linear DecoderPred { get; } = new(c.DecoderHiddenSize, c.PatchSize * c.PatchSize * c.NumChannels, initializer: Init.XavierUniform);

    /// <summary>
    /// Predicts patches in the mask's order. Attention knows tokens by their positions alone, so nothing is put back in place, and what is
    /// masked stands together at the end.
    /// </summary>
    /// <param name="tokens">[b, 1 + seen, encoder width]</param>
    /// <param name="mask">The mask that the encoder saw them by.</param>
    /// <param name="maskedOnly">Whether only the masked patches are predicted, which is all that the loss needs.</param>
    /// <returns>[b, patches or masked, patch · patch · channels], in the mask's order</returns>
    /// <exception cref="PanoptesException">Another number of patches than the model was built for.</exception>
    public Tensor Forward(Tensor tokens, PatchMask mask, bool maskedOnly)
    {
        if (mask.Order.shape[1] != c.Side * c.Side)
            throw new PanoptesException($"{mask.Order.shape[1]} patches an image were given to a decoder for {c.Side * c.Side}; pretraining takes images of {c.ImageSize}x{c.ImageSize} pixels only.");
        using var scope = NewDisposeScope();
        var batch = tokens.shape[0];
        var at = cat([zeros(batch, 1, dtype: ScalarType.Int64, device: tokens.device), mask.Order + 1], 1);
        var positions = Native.TorchOps.Embedding(DecoderPosEmbed.Value.squeeze(0), at);           // [b, 1 + patches, d]
        var x = cat([DecoderEmbed.Forward(tokens), MaskToken.Value.expand(batch, mask.Masked, -1)], 1).add(positions);
        x = MaeLayer.Stack(DecoderLayers, x, ActivationsCheckpointed, maskedOnly ? (1 + mask.Seen, mask.Masked) : (1, mask.Order.shape[1]));
        return DecoderPred.Forward(DecoderNorm.Forward(x)).MoveToOuterDisposeScope();
    }
}

/// <summary>What <see cref="MaeForPreTraining.Reconstruct"/> returns.</summary>
/// <param name="Loss">The mean square error over the masked patches.</param>
/// <param name="Logits">[b, patches, patch · patch · channels]: the predicted pixels of every patch, row, column and channel in this order; with <see cref="MaeConfig.NormPixLoss"/> normalized by patch.</param>
/// <param name="Mask">[b, patches]: 1 where masked</param>
/// <param name="IdsRestore">[b, patches] int64: where each patch stood in the shuffled order</param>
/// <param name="Encoder">The encoder's own output, of the patches that were seen.</param>
public sealed record MaeOutput(Tensor Loss, Tensor Logits, Tensor Mask, Tensor IdsRestore, TowerOutput Encoder);

/// <summary>
/// MAE in pretraining: most patches are masked and never computed by the encoder, a light decoder predicts their pixels. As a tower it is its
/// encoder. Keys: vit, decoder.
/// </summary>
/// <example><code>
/// mae.Loss(pixels, mae.Vit.DrawMask(pixels, generator)).backward();
/// </code></example>
public sealed class MaeForPreTraining : Module, IImageTower, IPatchDropout
{
    /// <exception cref="PanoptesException">The mask ratio is not from 0 to below 1.</exception>
    public MaeForPreTraining(MaeConfig config)
    {
        if (config.MaskRatio is not (>= 0 and < 1)) throw new PanoptesException($"mask_ratio is {config.MaskRatio}; expected 0 to below 1.");
        (Config, Vit, Decoder) = (config, new(config), new(config));
    }

    public MaeConfig Config { get; }

    public MaeModel Vit { get; }

    public MaeDecoder Decoder { get; }

    public int ImageSize => Config.ImageSize;

    public int EmbeddingSize => Vit.EmbeddingSize;

    public int PrefixTokens => Vit.PrefixTokens;

    public LayerGroups LayerGroups => LayerGroups.Of([Vit.Embeddings], Vit.Layers, [Vit.Layernorm], [Decoder]);

    public double PatchDropout
    {
        get => Vit.PatchDropout;
        set => Vit.PatchDropout = value;
    }

    /// <summary>Draws masks and the patches that are left out; null: libtorch's own generator.</summary>
    public Generator? Random
    {
        get => Vit.Random;
        set => Vit.Random = value;
    }

    public Tensor EmbedTokens(Tensor tokens) => Vit.EmbedTokens(tokens);

    public Tensor Encode(Tensor pixels) => Vit.Encode(pixels);

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false) => Vit.Forward(pixels, hiddenStates);

    /// <summary>The loss alone, with its gradient; what it does not need (the seen patches' pixels) is not computed.</summary>
    /// <param name="pixels">[b, channels, size, size], normalized as the model's processor does</param>
    /// <param name="mask">Null: drawn from <see cref="Random"/>.</param>
    /// <returns>A scalar: the mean square error over the masked patches.</returns>
    public Tensor Loss(Tensor pixels, PatchMask? mask = null)
    {
        using var scope = NewDisposeScope();
        return Loss(Vit, Decoder, pixels, mask ?? Vit.DrawMask(pixels)).MoveToOuterDisposeScope();
    }

    /// <summary>The same of an encoder whose decoder stands elsewhere.</summary>
    internal static Tensor Loss(MaeModel vit, MaeDecoder decoder, Tensor pixels, PatchMask mask)
    {
        using var scope = NewDisposeScope();
        var predicted = decoder.Forward(vit.Forward(pixels, mask).LastHiddenState, mask, maskedOnly: true);
        return Loss(vit.Config, pixels, predicted, mask).MoveToOuterDisposeScope();
    }

    /// <summary>Everything that Hugging Face's ViTMAEForPreTraining gives.</summary>
    /// <param name="pixels">[b, channels, size, size]</param>
    /// <param name="mask">Null: drawn from <see cref="Random"/>.</param>
    /// <param name="hiddenStates">Whether the encoder's states between the layers are kept.</param>
    public MaeOutput Reconstruct(Tensor pixels, PatchMask? mask = null, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        mask ??= Vit.DrawMask(pixels);
        var encoded = Vit.Forward(pixels, mask, hiddenStates);
        var shuffled = Decoder.Forward(encoded.LastHiddenState, mask, maskedOnly: false);
        var restore = mask.Restore();
        var loss = Loss(Config, pixels, shuffled.narrow(1, mask.Seen, mask.Masked), mask);
        TowerOutput.Keep(encoded.LastHiddenState, encoded.Pooled, encoded.HiddenStates);
        return new(loss.MoveToOuterDisposeScope(), Rows(shuffled, restore).MoveToOuterDisposeScope(), mask.ToTensor().MoveToOuterDisposeScope(), restore.MoveToOuterDisposeScope(), encoded);
    }

    static Tensor Loss(MaeConfig c, Tensor pixels, Tensor predicted, PatchMask mask)
    {
        if (mask.Masked == 0) throw new PanoptesException($"No patch is masked (mask_ratio is {c.MaskRatio}), so there is nothing to predict.");
        var target = Rows(Patchify(c, pixels), mask.MaskedPatches);
        if (c.NormPixLoss) target = (target - target.mean([-1], keepdim: true)) / (target.var(-1, unbiased: true, keepdim: true) + 1e-6).sqrt();
        return (predicted - target).square().mean();
    }

    /// <summary>Patches as the decoder predicts them: [b, patches, patch · patch · channels], row, column and channel in this order.</summary>
    /// <param name="pixels">[b, channels, height, width], both multiples of the patch's size</param>
    public Tensor Patchify(Tensor pixels) => Patchify(Config, pixels);

    static Tensor Patchify(MaeConfig c, Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var p = c.PatchSize;
        var (rows, columns) = (pixels.shape[2] / p, pixels.shape[3] / p);
        return pixels.narrow(2, 0, rows * p).narrow(3, 0, columns * p).reshape(-1, c.NumChannels, rows, p, columns, p).permute(0, 2, 4, 3, 5, 1)
            .reshape(-1, rows * columns, p * p * c.NumChannels).MoveToOuterDisposeScope();
    }

    /// <summary>The picture of such patches: [b, channels, height, width].</summary>
    /// <param name="patches">[b, patches, patch · patch · channels]</param>
    public Tensor Unpatchify(Tensor patches)
    {
        using var scope = NewDisposeScope();
        var (p, side) = (Config.PatchSize, Config.Side);
        return patches.reshape(-1, side, side, p, p, Config.NumChannels).permute(0, 5, 1, 3, 2, 4)
            .reshape(-1, Config.NumChannels, side * p, side * p).MoveToOuterDisposeScope();
    }

    /// <summary>Rows <paramref name="index"/> [b, k] of each image's <paramref name="patches"/> [b, n, d].</summary>
    static Tensor Rows(Tensor patches, Tensor index) => patches.gather(1, index.unsqueeze(-1).expand(-1, -1, patches.shape[2]));
}

/// <summary>MAE fine-tuned to tell classes apart (the paper's models_vit.py). Keys: vit, classifier.</summary>
/// <param name="config">With the classes, and how it pools.</param>
public sealed class MaeForImageClassification(MaeConfig config) : ImageClassifier(config.HiddenSize, config)
{
    public MaeModel Vit { get; } = new(config);

    public override IImageTower Tower => Vit;
}
