using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

/// <summary>
/// One fine map out of an open_clip image tower: a ResNet's four stages are joined from the coarsest to the finest (Lin et al. 2017, arXiv:1612.03144), a vision transformer's one map is made
/// finer. Keys: laterals.N, output, norm, upsampling.N.
/// </summary>
public sealed class FeaturePyramid : Module
{
    /// <summary>The side in pixels of a place of the result, at most.</summary>
    public const int Stride = 4;

    /// <param name="clip">Whose image tower it is put upon.</param>
    /// <param name="width">Of the result.</param>
    /// <exception cref="PanoptesException">The image tower is one of timm's.</exception>
    public FeaturePyramid(OpenClipConfig clip, int width)
    {
        var v = clip.VisionCfg;
        if (v.TimmModelName is not null) throw new PanoptesException($"A feature pyramid was to be put upon {v.TimmModelName}; expected a ResNet or a vision transformer of open_clip's own.");
        var isResNet = v.Layers.Length > 1;
        int[] channels = isResNet ? [4 * v.Width, 8 * v.Width, 16 * v.Width, 32 * v.Width] : [v.Width];
        Laterals = new(channels.Length, i => new(channels[i], width, 1));
        Output = new(width, width, 3, padding: 1);
        Norm = new(width % 8 == 0 ? 8 : 1, width);
        var doublings = 0;
        for (var stride = isResNet ? Stride : v.PatchSize ?? 16; stride > Stride; stride /= 2) doublings++;
        Upsampling = new(doublings, _ => new(width, width, 2));
    }

    public ModuleList<Conv2d> Laterals { get; }

    public Conv2d Output { get; }

    public GroupNorm Norm { get; }

    public ModuleList<ConvTranspose2d> Upsampling { get; }

    /// <param name="maps">The tower's maps from the finest to the coarsest (<see cref="Maps"/>).</param>
    /// <returns>[b, width, height, width]</returns>
    public Tensor Forward(IReadOnlyList<Tensor> maps)
    {
        using var scope = NewDisposeScope();
        var x = Laterals[^1].Forward(maps[^1]);
        for (var i = maps.Count - 2; i >= 0; i--)
            x = Laterals[i].Forward(maps[i]) + nn.functional.interpolate(x, [maps[i].shape[2], maps[i].shape[3]], mode: InterpolationMode.Nearest);
        x = Norm.Forward(Output.Forward(x)).relu();
        foreach (var doubling in Upsampling) x = doubling.Forward(x).relu();
        return x.MoveToOuterDisposeScope();
    }

    /// <summary>A tower's maps from the finest to the coarsest: every stage of a ResNet, or the patches of a vision transformer.</summary>
    /// <param name="visual">The image tower.</param>
    /// <param name="pixels">[b, 3, height, width] of any size; positions are resized to it.</param>
    /// <returns>[b, channels, rows, columns] each</returns>
    internal static IReadOnlyList<Tensor> Maps(OpenClipVisual visual, Tensor pixels)
    {
        switch (visual)
        {
            case OpenClipResNet resnet:
                var maps = new List<Tensor>();
                resnet.Map(pixels, maps);
                maps[0].Dispose();                                                      // the stem's
                return maps[1..];
            case OpenClipVision vision:
                using (var scope = NewDisposeScope())
                {
                    var patch = vision.Conv1.Weight.Shape[2];
                    var tokens = vision.Transformer.Forward(vision.Embed(pixels, null, interpolate: true));
                    return [tokens.narrow(1, 1, tokens.shape[1] - 1).transpose(1, 2).unflatten(2, [pixels.shape[2] / patch, pixels.shape[3] / patch]).MoveToOuterDisposeScope()];
                }
            default:
                throw new PanoptesException($"A feature pyramid was to be put upon a {visual.GetType().Name}; expected a ResNet or a vision transformer of open_clip's own.");
        }
    }
}

/// <summary>A block in which queries look at each other and at an image. Keys: self_norm, self_attn, cross_norm, cross_attn, mlp_norm, mlp.</summary>
public sealed class ProposalLayer(int width, int heads) : Module
{
    public LayerNorm SelfNorm { get; } = new(width);

    public SelfAttention SelfAttn { get; } = new(width, heads);

    public LayerNorm CrossNorm { get; } = new(width);

    public SelfAttention CrossAttn { get; } = new(width, heads);

    public LayerNorm MlpNorm { get; } = new(width);

    public Mlp Mlp { get; } = new(width, 4 * width, Activation.Gelu);

    /// <param name="queries">[b, queries, width]</param>
    /// <param name="places">[b, places, width]</param>
    public Tensor Forward(Tensor queries, Tensor places)
    {
        using var scope = NewDisposeScope();
        var x = queries + SelfAttn.Forward(SelfNorm.Forward(queries));
        x = x + CrossAttn.Forward(places, queries: CrossNorm.Forward(x));
        return (x + Mlp.Forward(MlpNorm.Forward(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Class-agnostic mask proposals: learned queries look at an image's map, and each is compared with every place (OpenSeg's; after Cheng et al. 2021, arXiv:2107.06278).
/// Keys: queries [queries, width], layers.N, norm, mask_embed, mask_features.
/// </summary>
public sealed class MaskProposer(int width, int queries, int layers, int heads) : Module
{
    /// <summary>The most rows and columns that queries look at.</summary>
    const int MostRows = 16;

    public Parameter Queries { get; } = new([queries, width], Init.Normal(1));

    public ModuleList<ProposalLayer> Layers { get; } = new(layers, _ => new(width, heads));

    public LayerNorm Norm { get; } = new(width);

    public Linear MaskEmbed { get; } = new(width, width);

    public Conv2d MaskFeatures { get; } = new(width, width, 1);

    /// <param name="map">[b, width, height, width] of <see cref="FeaturePyramid"/></param>
    /// <returns>[b, queries, height, width] logits</returns>
    public Tensor Forward(Tensor map)
    {
        using var scope = NewDisposeScope();
        var (rows, columns) = (Math.Min(MostRows, (int)map.shape[2]), Math.Min(MostRows, (int)map.shape[3]));
        var places = nn.functional.adaptive_avg_pool2d(map, [rows, columns]).flatten(2).transpose(1, 2);
        places = places + Positions.SinCos(rows, columns, width).narrow(0, 1, rows * columns).to(places.dtype).to(places.device);
        var x = Queries.Value.expand(map.shape[0], -1, -1);
        foreach (var layer in Layers) x = layer.Forward(x, places);
        return OpenSeg.MaskLogits(MaskEmbed.Forward(Norm.Forward(x)), MaskFeatures.Forward(map)).MoveToOuterDisposeScope();
    }
}
