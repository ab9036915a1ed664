using Panoptes.Nn;

namespace Panoptes.Representation;

// iGPT (Chen et al. 2020, "Generative Pretraining from Pixels") with the keys and the config.json of Hugging Face's ImageGPTForCausalImageModeling:
// an image is a row of colors, each the nearest of 512, and every color is guessed from those before it.

/// <summary>The config ("imagegpt"). The peer's dropout is not applied.</summary>
public sealed record ImageGptConfig : ModelConfig
{
    /// <summary>The colors and, last, the token that starts an image.</summary>
    public int VocabSize { get; init; } = 513;
    public int NPositions { get; init; } = 1024;
    public int NEmbd { get; init; } = 512;

    public int NLayer { get; init; } = 24;
    public int NHead { get; init; } = 8;

    /// <summary>The MLP's width; by default four times the model's.</summary>
    public int? NInner { get; init; }
    public Activation ActivationFunction { get; init; } = Activation.QuickGelu;
    public double LayerNormEpsilon { get; init; } = 1e-5;
    public double InitializerRange { get; init; } = 0.02;
    public bool ScaleAttnWeights { get; init; } = true;
    public bool ScaleAttnByInverseLayerIdx { get; init; }
    public string ModelType { get; init; } = "imagegpt";
    public string[] Architectures { get; init; } = ["ImageGPTForCausalImageModeling"];
}

/// <summary>A linear layer stored the other way round, as in GPT-2's files. Keys: weight [in, out], bias [out].</summary>
public sealed class Conv1D(int inFeatures, int outFeatures, Initializer initializer) : Module
{
    public Parameter Weight { get; } = new([inFeatures, outFeatures], initializer);

    public Parameter Bias { get; } = new([outFeatures], Init.Zeros);

    /// <param name="x">[..., in]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return Native.TorchOps.Linear(x, Weight.Value.t(), Bias.Value).MoveToOuterDisposeScope();
    }
}

/// <summary>x / √(mean x² + eps) · weight. Key: weight.</summary>
public sealed class ImageGptNorm(int width, double eps) : Module
{
    public Parameter Weight { get; } = new([width], Init.Ones);

    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return (x * (x.square().mean([-1], keepdim: true) + eps).rsqrt()).mul(Weight.Value).MoveToOuterDisposeScope();
    }
}

/// <summary>Causal self-attention. Keys: c_attn, c_proj.</summary>
public sealed class ImageGptAttention(ImageGptConfig c, int layer) : Module
{
    public Conv1D CAttn { get; } = new(Attention.Divisible(c.NEmbd, c.NHead), 3 * c.NEmbd, Init.Normal(c.InitializerRange));

    public Conv1D CProj { get; } = new(c.NEmbd, c.NEmbd, ImageGptModel.Residual(c));

    /// <param name="x">[b, tokens, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var qkv = CAttn.Forward(x).chunk(3, -1);
        var scale = (c.ScaleAttnWeights ? 1 / Math.Sqrt(c.NEmbd / c.NHead) : 1) / (c.ScaleAttnByInverseLayerIdx ? layer + 1 : 1);
        var seen = Attention.Apply(Split(qkv[0]), Split(qkv[1]), Split(qkv[2]), causal: true, scale: scale);
        return CProj.Forward(Attention.MergeHeads(seen)).MoveToOuterDisposeScope();

        Tensor Split(Tensor t) => Attention.SplitHeads(t, c.NHead);
    }
}

/// <summary>Two layers with an activation between. Keys: c_fc, c_proj.</summary>
public sealed class ImageGptMlp(ImageGptConfig c) : Module
{
    public Conv1D CFc { get; } = new(c.NEmbd, c.NInner ?? 4 * c.NEmbd, Init.Normal(c.InitializerRange));

    public Conv1D CProj { get; } = new(c.NInner ?? 4 * c.NEmbd, c.NEmbd, ImageGptModel.Residual(c));

    /// <param name="x">[..., width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return CProj.Forward(c.ActivationFunction.Apply(CFc.Forward(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>A block. Keys: ln_1, attn, ln_2, mlp.</summary>
public sealed class ImageGptBlock(ImageGptConfig c, int layer) : Module
{
    [Key("ln_1")]
    public ImageGptNorm Ln1 { get; } = new(c.NEmbd, c.LayerNormEpsilon);

    public ImageGptAttention Attn { get; } = new(c, layer);

    [Key("ln_2")]
    public ImageGptNorm Ln2 { get; } = new(c.NEmbd, c.LayerNormEpsilon);

    public ImageGptMlp Mlp { get; } = new(c);

    /// <param name="x">[b, tokens, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = x + Attn.Forward(Ln1.Forward(x));
        return (x + Mlp.Forward(Ln2.Forward(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>The transformer. Keys: wte, wpe, h.N, ln_f.</summary>
public sealed class ImageGptTransformer(ImageGptConfig c) : Module
{
    public Embedding Wte { get; } = new(c.VocabSize, c.NEmbd, Init.Normal(c.InitializerRange));

    public Embedding Wpe { get; } = new(c.NPositions, c.NEmbd, Init.Normal(c.InitializerRange));

    public ModuleList<ImageGptBlock> H { get; } = new(c.NLayer, i => new ImageGptBlock(c, i));

    public ImageGptNorm LnF { get; } = new(c.NEmbd, c.LayerNormEpsilon);

    /// <param name="ids">[b, tokens] int64</param>
    /// <param name="hiddenStates">Receives the input and the output of every block.</param>
    /// <returns>[b, tokens, width]</returns>
    public Tensor Forward(Tensor ids, ICollection<Tensor>? hiddenStates = null)
    {
        if (ids.shape[1] > c.NPositions) throw new PanoptesException($"An image of {ids.shape[1]} colors was given to a model of images of at most {c.NPositions}.");
        using var scope = NewDisposeScope();
        var x = Wte.Forward(ids).add(Wpe.Weight.Value.narrow(0, 0, ids.shape[1]));
        x = BlockStack.Forward(H, x, static (block, x, _, _) => block.Forward(x), checkpointed: ActivationsCheckpointed, hiddenStates: hiddenStates);
        foreach (var state in hiddenStates ?? []) state.MoveToOuterDisposeScope();
        return LnF.Forward(x).MoveToOuterDisposeScope();
    }
}

/// <summary>iGPT with its head over the colors. Keys: transformer, lm_head.</summary>
public sealed class ImageGptModel(ImageGptConfig config) : Module
{
    public ImageGptConfig Config { get; } = config;

    public ImageGptTransformer Transformer { get; } = new(config);

    public Linear LmHead { get; } = new(config.NEmbd, config.VocabSize - 1, bias: false, Init.Normal(config.InitializerRange));

    /// <summary>The logits of the color that follows each token.</summary>
    /// <param name="ids">[b, tokens] int64: the start token, then colors row by row.</param>
    /// <returns>[b, tokens, colors]</returns>
    public Tensor Forward(Tensor ids)
    {
        using var scope = NewDisposeScope();
        return LmHead.Forward(Transformer.Forward(ids)).MoveToOuterDisposeScope();
    }

    /// <summary>How badly each color is guessed from those before it: the mean cross-entropy, a scalar.</summary>
    /// <param name="logits">[b, tokens, colors] of <see cref="Forward"/></param>
    /// <param name="ids">[b, tokens] int64: what they were computed from.</param>
    public static Tensor Loss(Tensor logits, Tensor ids)
    {
        using var scope = NewDisposeScope();
        var guesses = logits.narrow(1, 0, logits.shape[1] - 1).flatten(0, 1);
        return nn.functional.cross_entropy(guesses, ids.narrow(1, 1, ids.shape[1] - 1).flatten()).MoveToOuterDisposeScope();
    }

    /// <summary>The colors of pixels as the model's tokens: the nearest of its palette, after the start token.</summary>
    /// <param name="pixels">[b, 3, height, width] from -1 to 1</param>
    /// <param name="clusters">[colors, 3] from -1 to 1: the palette of preprocessor_config.json.</param>
    /// <returns>[b, height · width] int64: the last color is only ever guessed.</returns>
    public static Tensor Tokens(Tensor pixels, Tensor clusters)
    {
        using var scope = NewDisposeScope();
        var colors = pixels.flatten(2).transpose(1, 2);                                           // [b, places, 3]
        // ‖p - c‖² but for ‖p‖², which is the same for all colors.
        var distances = clusters.square().sum(-1) - 2 * colors.matmul(clusters.t());
        var tokens = distances.argmin(-1);
        return cat([full([tokens.shape[0], 1], clusters.shape[0], ScalarType.Int64), tokens.narrow(1, 0, tokens.shape[1] - 1)], 1).MoveToOuterDisposeScope();
    }

    /// <summary>Residual branches start smaller the more there are, as in GPT-2.</summary>
    internal static Initializer Residual(ImageGptConfig c) => Init.Normal(c.InitializerRange / Math.Sqrt(2 * c.NLayer));
}
