using System.Globalization;
using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Representation;

// DINO (Caron et al. 2021, arXiv:2104.14294) with the keys of its authors' own files: the backbone alone, as it is published, and with the head
// that it was trained with (vision_transformer.py and utils.py of facebookresearch/dino). Its loss is Objectives/DinoLoss.cs.

/// <summary>The arguments of DINO's VisionTransformer.</summary>
public sealed record DinoVitConfig : ImageModelConfig
{
    [JsonConverter(typeof(OneOrMoreConverter))]
    public int[] ImgSize { get; init; } = [224];
    public int PatchSize { get; init; } = 16;
    public int EmbedDim { get; init; } = 768;
    public int Depth { get; init; } = 12;
    public int NumHeads { get; init; } = 12;
    public double MlpRatio { get; init; } = 4;
    public bool QkvBias { get; init; } = true;

    /// <summary>The probability that a branch of the last block is left out in training; it rises evenly from 0 in the first.</summary>
    public double DropPathRate { get; init; }

    /// <summary>The config of a file that has none: all sizes follow from the shapes, and heads have 64 channels.</summary>
    /// <exception cref="PanoptesException">A key is missing or has too few dimensions.</exception>
    internal static DinoVitConfig FromShapes(Func<string, long[]?> shape, string source)
    {
        var (positions, patches, fc1) = (Shape("pos_embed", 3), Shape("patch_embed.proj.weight", 4), Shape("blocks.0.mlp.fc1.weight", 2));
        var depth = 0;
        while (shape(string.Create(CultureInfo.InvariantCulture, $"blocks.{depth}.norm1.weight")) is not null) depth++;
        var width = (int)patches[0];
        return new()
        {
            ImgSize = [(int)(Math.Round(Math.Sqrt(positions[1] - 1)) * patches[3])],
            PatchSize = (int)patches[3],
            NumChannels = (int)patches[1],
            EmbedDim = width,
            Depth = depth,
            NumHeads = Math.Max(1, width / 64),
            MlpRatio = fc1[0] / (double)Math.Max(1, width),
            QkvBias = shape("blocks.0.attn.qkv.bias") is not null,
        };

        long[] Shape(string key, int dimensions) => shape(key) is { } found && found.Length == dimensions ? found
            : throw new PanoptesException($"{source}: expected {key} of {dimensions} dimensions, as DINO's files have it.");
    }
}

/// <summary>Attention whose query, key and value are one product. Keys: qkv, proj.</summary>
public sealed class DinoAttention(DinoVitConfig c) : Module
{
    public Linear Qkv { get; } = new(Attention.Divisible(c.EmbedDim, c.NumHeads), 3 * c.EmbedDim, c.QkvBias, c.Normal);

    public Linear Proj { get; } = new(c.EmbedDim, c.EmbedDim, initializer: c.Normal);

    /// <param name="x">[b, tokens, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var qkv = Qkv.Forward(x).chunk(3, -1);
        return Proj.Forward(Attention.MergeHeads(Attention.Apply(Split(qkv[0]), Split(qkv[1]), Split(qkv[2])))).MoveToOuterDisposeScope();
    }

    /// <summary>How much every token sees of every other: [b, heads, tokens, tokens].</summary>
    internal Tensor Weights(Tensor x)
    {
        using var scope = NewDisposeScope();
        var qkv = Qkv.Forward(x).chunk(3, -1);
        var query = Split(qkv[0]);
        return (query / Math.Sqrt(query.shape[^1])).matmul(Split(qkv[1]).transpose(-2, -1)).softmax(-1).MoveToOuterDisposeScope();
    }

    Tensor Split(Tensor x) => Attention.SplitHeads(x, c.NumHeads);
}

/// <summary>A block that normalizes before attention and before the MLP. Keys: norm1, attn, norm2, mlp.</summary>
public sealed class DinoBlock(DinoVitConfig c) : Module
{
    public LayerNorm Norm1 { get; } = new(c.EmbedDim, 1e-6);

    public DinoAttention Attn { get; } = new(c);

    public LayerNorm Norm2 { get; } = new(c.EmbedDim, 1e-6);

    public Mlp Mlp { get; } = new(c.EmbedDim, (int)(c.EmbedDim * c.MlpRatio), c.HiddenAct, c.Normal, c.Normal);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="kept">[2, b] of <see cref="StochasticDepth"/>, or null.</param>
    public Tensor Forward(Tensor x, Tensor? kept = null)
    {
        using var scope = NewDisposeScope();
        x = x + StochasticDepth.Apply(Attn.Forward(Norm1.Forward(x)), kept, 0);
        return (x + StochasticDepth.Apply(Mlp.Forward(Norm2.Forward(x)), kept, 1)).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// DINO's backbone. Keys: cls_token, pos_embed, patch_embed.proj, blocks.N, norm. Images of any size, whose positions are resized to them; the
/// pooled feature is the class token after the last norm.
/// </summary>
public sealed class DinoVit(DinoVitConfig config) : Module, IImageTower, IStochasticDepth
{
    readonly int side = config.ImgSize[0] / config.PatchSize;

    public DinoVitConfig Config { get; } = config;

    public Parameter ClsToken { get; } = new([1, 1, config.EmbedDim], config.Normal);

    public Parameter PosEmbed { get; } = new([1, config.ImgSize[0] / config.PatchSize * (config.ImgSize[0] / config.PatchSize) + 1, config.EmbedDim], config.Normal);

    [Key("patch_embed.proj")]
    public PatchEmbedding PatchEmbed { get; } = new(config.NumChannels, config.EmbedDim, config.PatchSize, bias: true);

    public ModuleList<DinoBlock> Blocks { get; } = new(config.Depth, _ => new DinoBlock(config));

    public LayerNorm Norm { get; } = new(config.EmbedDim, 1e-6);

    public int ImageSize => Config.ImgSize[0];

    public int EmbeddingSize => Config.EmbedDim;

    public int PrefixTokens => 1;

    public double DropPath { get; set; } = StochasticDepth.Check(config.DropPathRate);

    public Generator? Random { get; set; }

    public LayerGroups LayerGroups => LayerGroups.Of([PatchEmbed, ClsToken, PosEmbed], Blocks, [Norm], []);

    public Tensor EmbedTokens(Tensor tokens) => tokens.alias();

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Norm.Forward(Run(Embed(pixels), Blocks.Count).select(1, 0)).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var states = hiddenStates ? new List<Tensor>() : null;
        var tokens = Norm.Forward(Run(Embed(pixels), Blocks.Count, states));
        var pooled = tokens.select(1, 0);
        TowerOutput.Keep(tokens, pooled, states);
        return new(tokens, pooled, pooled, states);
    }

    /// <summary>How much every token sees of every other in the last block, which is what DINO's pictures of objects are: [b, heads, tokens, tokens].</summary>
    public Tensor LastAttention(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Blocks[^1].Attn.Weights(Blocks[^1].Norm1.Forward(Run(Embed(pixels), Blocks.Count - 1))).MoveToOuterDisposeScope();
    }

    /// <summary>The positions of images of this size: [1, 1 + patches, width].</summary>
    /// <remarks>
    /// DINO resizes by a factor that is a tenth of a patch too large (against rounding) and takes it as the step between samples, too; other sizes
    /// are resized even where the number of patches is the same.
    /// </remarks>
    public Tensor PositionsOf(int height, int width)
    {
        using var scope = NewDisposeScope();
        var (rows, columns) = (height / Config.PatchSize, width / Config.PatchSize);
        if (rows * columns == side * side && height == width) return PosEmbed.Value.alias().MoveToOuterDisposeScope();
        var grid = PosEmbed.Value.narrow(1, 1, side * side).reshape(1, side, side, -1).permute(0, 3, 1, 2).to(ScalarType.Float32);
        var resized = nn.functional.interpolate(grid, scale_factor: [(rows + 0.1) / side, (columns + 0.1) / side], mode: InterpolationMode.Bicubic, align_corners: false);
        return cat([PosEmbed.Value.narrow(1, 0, 1), resized.flatten(2).transpose(1, 2).to(PosEmbed.Value.dtype)], 1).MoveToOuterDisposeScope();
    }

    Tensor Embed(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var patches = PatchEmbed.Forward(pixels);
        return cat([ClsToken.Value.expand(patches.shape[0], 1, -1), patches], 1).add(PositionsOf((int)pixels.shape[2], (int)pixels.shape[3])).MoveToOuterDisposeScope();
    }

    Tensor Run(Tensor x, int count, ICollection<Tensor>? states = null)
    {
        var kept = Training ? StochasticDepth.Draw(StochasticDepth.Rising(DropPath, Blocks.Count), 2, x, Random) : null;
        return BlockStack.Forward([.. Blocks.Take(count)], x, static (block, x, kept, _) => block.Forward(x, kept), kept, checkpointed: ActivationsCheckpointed, hiddenStates: states);
    }
}

/// <summary>The arguments of DINO's head.</summary>
public sealed record DinoHeadConfig : ModelConfig
{
    public int InDim { get; init; } = 768;
    public int OutDim { get; init; } = 65536;
    public int HiddenDim { get; init; } = 2048;
    public int BottleneckDim { get; init; } = 256;
    public int Nlayers { get; init; } = 3;
}

/// <summary>A linear layer whose rows have a direction and a length of their own (Salimans and Kingma 2016, arXiv:1602.07868). Keys: weight_g [out, 1], weight_v [out, in].</summary>
public sealed class WeightNormLinear(int inFeatures, int outFeatures) : Module
{
    /// <summary>The lengths, which DINO leaves at 1 (freeze it for that).</summary>
    public Parameter WeightG { get; } = new([outFeatures, 1], Init.Ones);

    public Parameter WeightV { get; } = new([outFeatures, inFeatures], Init.Uniform(1 / Math.Sqrt(inFeatures)));

    /// <param name="x">[b, in]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var weight = WeightV.Value * (WeightG.Value / WeightV.Value.norm(1, keepdim: true));
        return Native.TorchOps.Linear(x, weight, null).MoveToOuterDisposeScope();
    }
}

/// <summary>An MLP to a bottleneck, which is normalized and compared with many prototypes. Keys: mlp.0, mlp.2, …, last_layer.</summary>
public sealed class DinoHead : Module
{
    public DinoHead(DinoHeadConfig c)
    {
        if (c.Nlayers is < 2 or > 16) throw new PanoptesException($"nlayers is {c.Nlayers}; expected 2 to 16.");
        Mlp = new(Enumerable.Range(0, 2 * c.Nlayers - 1).Select(i => new DinoHeadLayer(
            i % 2 == 1 ? null : new(i == 0 ? c.InDim : c.HiddenDim, i == 2 * c.Nlayers - 2 ? c.BottleneckDim : c.HiddenDim, initializer: Init.Normal(0.02)))));
        LastLayer = new(c.BottleneckDim, c.OutDim);
    }

    /// <summary>Linear layers at the even places; the odd ones are activations.</summary>
    public ModuleList<DinoHeadLayer> Mlp { get; }

    public WeightNormLinear LastLayer { get; }

    /// <param name="x">[b, in]</param>
    /// <returns>[b, out]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        foreach (var layer in Mlp) x = layer.Linear?.Forward(x) ?? nn.functional.gelu(x);
        return LastLayer.Forward(nn.functional.normalize(x, 2, -1)).MoveToOuterDisposeScope();
    }
}

/// <summary>A linear layer or, where there is none, an activation.</summary>
public sealed class DinoHeadLayer(Linear? linear) : Module
{
    [Key("")]
    public Linear? Linear { get; } = linear;
}

/// <summary>Backbone and head, as student and teacher are trained. Keys: backbone, head.</summary>
public sealed class DinoNetwork(DinoVitConfig backbone, DinoHeadConfig head) : Module
{
    public DinoVit Backbone { get; } = new(backbone);

    public DinoHead Head { get; } = new(head);

    /// <summary>The head's outputs for several crops of each image; crops of one size that follow each other go through the backbone together.</summary>
    /// <param name="crops">Each [b, channels, height, width]: the global ones first, then local ones of another size.</param>
    /// <returns>[crops · b, out], crop by crop</returns>
    public Tensor Forward(IReadOnlyList<Tensor> crops)
    {
        using var scope = NewDisposeScope();
        var features = new List<Tensor>();
        for (var (first, next) = (0, 0); first < crops.Count; first = next)
        {
            while (next < crops.Count && crops[next].shape[2] == crops[first].shape[2] && crops[next].shape[3] == crops[first].shape[3]) next++;
            features.Add(Backbone.Encode(next - first == 1 ? crops[first] : cat([.. crops.Skip(first).Take(next - first)])));
        }
        return Head.Forward(cat(features)).MoveToOuterDisposeScope();
    }
}
