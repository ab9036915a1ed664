using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>
/// A residual block whose strided convolution is an average pool first, which keeps it free of aliasing.
/// Keys: conv1, bn1, conv2, bn2, conv3, bn3, downsample.0, downsample.1.
/// </summary>
public sealed class ResNetBottleneck(int inChannels, int planes, int stride) : Module
{
    public Conv2d Conv1 { get; } = new(inChannels, planes, 1, bias: false);

    public BatchNorm Bn1 { get; } = new(planes);

    public Conv2d Conv2 { get; } = new(planes, planes, 3, padding: 1, bias: false);

    public BatchNorm Bn2 { get; } = new(planes);

    public Conv2d Conv3 { get; } = new(planes, 4 * planes, 1, bias: false);

    // A block starts as the identity.
    public BatchNorm Bn3 { get; } = new(4 * planes, weight: Init.Zeros);

    [Key("downsample.0")]
    public Conv2d? DownsampleConv { get; } = stride > 1 || inChannels != 4 * planes ? new(inChannels, 4 * planes, 1, bias: false) : null;

    [Key("downsample.1")]
    public BatchNorm? DownsampleNorm { get; } = stride > 1 || inChannels != 4 * planes ? new(4 * planes) : null;

    /// <param name="x">[b, in, height, width]</param>
    /// <returns>[b, 4 · planes, height / stride, width / stride]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var y = nn.functional.relu(Bn1.Forward(Conv1.Forward(x)));
        y = Pool(nn.functional.relu(Bn2.Forward(Conv2.Forward(y))));
        y = Bn3.Forward(Conv3.Forward(y));
        if (DownsampleConv is not null) x = DownsampleNorm!.Forward(DownsampleConv.Forward(Pool(x)));
        return nn.functional.relu(y + x).MoveToOuterDisposeScope();
    }

    Tensor Pool(Tensor x) => stride > 1 ? nn.functional.avg_pool2d(x, stride) : x;
}

/// <summary>The mean of the map asks all places (and itself) in one attention. Keys: positional_embedding, k_proj, q_proj, v_proj, c_proj.</summary>
public sealed class AttentionPool2d(int side, int width, int heads, int outFeatures) : Module
{
    public Parameter PositionalEmbedding { get; } = new([side * side + 1, width], Init.Normal(1 / Math.Sqrt(width)));

    public Linear KProj { get; } = new(width, width, initializer: Init.Normal(1 / Math.Sqrt(width)));

    public Linear QProj { get; } = new(width, width, initializer: Init.Normal(1 / Math.Sqrt(width)));

    public Linear VProj { get; } = new(width, width, initializer: Init.Normal(1 / Math.Sqrt(width)));

    public Linear CProj { get; } = new(width, outFeatures, initializer: Init.Normal(1 / Math.Sqrt(width)));

    /// <param name="map">[b, width, side, side]</param>
    /// <returns>[b, out]</returns>
    public Tensor Forward(Tensor map)
    {
        using var scope = NewDisposeScope();
        var x = map.flatten(2).transpose(1, 2);                                                    // [b, places, width]
        x = cat([x.mean([1], keepdim: true), x], 1).add(PositionalEmbedding.Value);
        var q = Attention.SplitHeads(QProj.Forward(x.narrow(1, 0, 1)), heads);
        var k = Attention.SplitHeads(KProj.Forward(x), heads);
        var v = Attention.SplitHeads(VProj.Forward(x), heads);
        return CProj.Forward(Attention.MergeHeads(Attention.Apply(q, k, v)).squeeze(1)).MoveToOuterDisposeScope();
    }
}

/// <summary>CLIP's ResNet: three convolutions before the blocks, pooled by attention. Keys: conv1…3, bn1…3, layer1…4, attnpool.</summary>
public sealed class OpenClipResNet : OpenClipVisual
{
    readonly OpenClipVisionConfig v;

    public OpenClipResNet(OpenClipConfig c)
    {
        v = c.VisionCfg;
        if (v.Layers.Length != 4) throw new PanoptesException($"vision_cfg.layers has {v.Layers.Length} numbers; expected one (a transformer) or four (a ResNet).");
        var w = v.Width;
        EmbeddingSize = c.EmbedDim;
        (Conv1, Bn1) = (new(3, w / 2, 3, stride: 2, padding: 1, bias: false), new(w / 2));
        (Conv2, Bn2) = (new(w / 2, w / 2, 3, padding: 1, bias: false), new(w / 2));
        (Conv3, Bn3) = (new(w / 2, w, 3, padding: 1, bias: false), new(w));
        Layer1 = Stage(w, w, v.Layers[0], 1);
        Layer2 = Stage(4 * w, 2 * w, v.Layers[1], 2);
        Layer3 = Stage(8 * w, 4 * w, v.Layers[2], 2);
        Layer4 = Stage(16 * w, 8 * w, v.Layers[3], 2);
        Attnpool = new(v.ImageSize[0] / 32, 32 * w, 32 * w / v.HeadWidth, c.EmbedDim);
    }

    public Conv2d Conv1 { get; }

    public BatchNorm Bn1 { get; }

    public Conv2d Conv2 { get; }

    public BatchNorm Bn2 { get; }

    public Conv2d Conv3 { get; }

    public BatchNorm Bn3 { get; }

    public ModuleList<ResNetBottleneck> Layer1 { get; }

    public ModuleList<ResNetBottleneck> Layer2 { get; }

    public ModuleList<ResNetBottleneck> Layer3 { get; }

    public ModuleList<ResNetBottleneck> Layer4 { get; }

    public AttentionPool2d Attnpool { get; }

    public override int EmbeddingSize { get; }

    public override int ImageSize => v.ImageSize[0];

    public override int TokenSize => 32 * v.Width;

    public override LayerGroups LayerGroups =>
        LayerGroups.Of([Conv1, Bn1, Conv2, Bn2, Conv3, Bn3], [Layer1, Layer2, Layer3, Layer4], [], [Attnpool]);

    /// <summary>What the blocks are given: [b, width, height / 4, width / 4].</summary>
    public Tensor Stem(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        // Channels last, as oneDNN computes convolutions: everything that follows keeps that order, and no layer has to change it and back.
        var image = pixels.to(Conv1.Weight.Value.dtype).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2);
        var x = nn.functional.relu(Bn1.Forward(Conv1.Forward(image)));
        x = nn.functional.relu(Bn2.Forward(Conv2.Forward(x)));
        x = nn.functional.relu(Bn3.Forward(Conv3.Forward(x)));
        return nn.functional.avg_pool2d(x, 2).MoveToOuterDisposeScope();
    }

    public override Tensor Encode(Tensor pixels)
    {
        Check(pixels);
        using var scope = NewDisposeScope();
        return Attnpool.Forward(Map(pixels)).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// The tokens are the places of the last map, [b, places, 32 · width]; there is no pooled feature before the projection. The states are the places of
    /// the stem's map and of every stage's.
    /// </summary>
    public override TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        Check(pixels);
        using var scope = NewDisposeScope();
        var maps = hiddenStates ? new List<Tensor>() : null;
        var map = Map(pixels, maps);
        var (tokens, embedding, states) = (Places(map), Attnpool.Forward(map), maps?.ConvertAll(Places));
        TowerOutput.Keep(tokens, embedding, states);
        return new(tokens, embedding, embedding, states);
    }

    /// <summary>[b, channels, height, width] to [b, places, channels].</summary>
    static Tensor Places(Tensor map) => map.flatten(2).transpose(1, 2);

    void Check(Tensor pixels)
    {
        if (pixels.shape[2] != v.ImageSize[0] || pixels.shape[3] != v.ImageSize[^1])
            throw new PanoptesException($"Images of {pixels.shape[3]}x{pixels.shape[2]} pixels were given to a model for {v.ImageSize[^1]}x{v.ImageSize[0]}.");
    }

    /// <summary>The last map of images of any size, before it is pooled.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="maps">Receives the stem's map and every stage's, which are the caller's.</param>
    /// <returns>[b, 32 · width, height / 32, width / 32]</returns>
    internal Tensor Map(Tensor pixels, List<Tensor>? maps = null)
    {
        using var scope = NewDisposeScope();
        var x = Stem(pixels);
        maps?.Add(x.MoveToOuterDisposeScope());
        foreach (var stage in (ReadOnlySpan<ModuleList<ResNetBottleneck>>)[Layer1, Layer2, Layer3, Layer4])
        {
            for (var i = 0; i < stage.Count; i++)
            {
                var (block, before) = (stage[i], x);
                x = ActivationsCheckpointed ? ActivationCheckpoint.Run(block, (x, _) => block.Forward(x), x, null) : block.Forward(x);
                if (maps is null || i > 0) before.Dispose();
            }
            maps?.Add(x.MoveToOuterDisposeScope());
        }
        return maps is null ? x.MoveToOuterDisposeScope() : x;
    }

    static ModuleList<ResNetBottleneck> Stage(int inChannels, int planes, int blocks, int stride) =>
        new(blocks, i => i == 0 ? new ResNetBottleneck(inChannels, planes, stride) : new ResNetBottleneck(4 * planes, planes, 1));
}
