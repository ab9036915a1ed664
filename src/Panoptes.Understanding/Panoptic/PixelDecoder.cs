using Panoptes.Nn;

namespace Panoptes.Understanding;

// What Mask2Former and OneFormer share: the pixel decoder, masked attention and the head that makes masks of queries.

/// <summary>Sizes of a <see cref="PixelDecoder"/>, by whatever names the models' configs have for them.</summary>
/// <param name="Channels">Of the backbone's maps, the largest map first.</param>
/// <param name="Width">Of the decoder.</param>
/// <param name="MaskWidth">Of the features that masks are made of.</param>
/// <param name="Heads">Of attention.</param>
/// <param name="Hidden">Of the encoder's feed-forward layers.</param>
/// <param name="Layers">Of the encoder.</param>
/// <param name="Strides">How many pixels apart the places of the backbone's maps are.</param>
/// <param name="CommonStride">The same of the features that masks are made of.</param>
/// <param name="NormEps">Of layer norms.</param>
sealed record PixelDecoderSizes(IReadOnlyList<int> Channels, int Width, int MaskWidth, int Heads, int Hidden, int Layers, IReadOnlyList<int> Strides, int CommonStride, double NormEps = 1e-5);

/// <summary>A convolution and a group norm of 32 groups. Keys: 0, 1.</summary>
public sealed class NormalizedConv(int inChannels, int outChannels, int kernel, bool bias) : Module
{
    [Key("0")]
    public Conv2d Conv { get; } = new(inChannels, outChannels, kernel, padding: kernel / 2, bias: bias);

    [Key("1")]
    public GroupNorm Norm { get; } = new(32, outChannels);

    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return Norm.Forward(Conv.Forward(x)).MoveToOuterDisposeScope();
    }
}

/// <summary>A layer over the places of all levels. Keys: self_attn, self_attn_layer_norm, fc1, fc2, final_layer_norm.</summary>
public sealed class PixelEncoderLayer : Module
{
    internal PixelEncoderLayer(PixelDecoderSizes s)
    {
        SelfAttn = new(s.Width, s.Heads, PixelDecoder.Levels, points: 4);
        (SelfAttnLayerNorm, FinalLayerNorm) = (new(s.Width, s.NormEps), new(s.Width, s.NormEps));
        (Fc1, Fc2) = (new(s.Width, s.Hidden), new(s.Hidden, s.Width));
    }

    public DeformableAttention SelfAttn { get; }

    public LayerNorm SelfAttnLayerNorm { get; }

    public Linear Fc1 { get; }

    public Linear Fc2 { get; }

    public LayerNorm FinalLayerNorm { get; }

    /// <param name="x">[b, places, width]</param>
    /// <param name="positions">[1, places, width]</param>
    /// <param name="centers">[1, places, 1, 2] of <see cref="DeformableAttention.Centers"/></param>
    /// <param name="levels">Their sizes.</param>
    public Tensor Forward(Tensor x, Tensor positions, Tensor centers, IReadOnlyList<(int Height, int Width)> levels)
    {
        using var scope = NewDisposeScope();
        x = SelfAttnLayerNorm.Forward(x + SelfAttn.Forward(x + positions, x, centers, levels));
        return FinalLayerNorm.Forward(x + Mlp.Apply(Fc1, Fc2, Activation.Relu, x)).MoveToOuterDisposeScope();
    }
}

/// <summary>The encoder's layers. Keys: layers.N.</summary>
public sealed class PixelEncoder : Module
{
    internal PixelEncoder(PixelDecoderSizes s) => Layers = new(s.Layers, _ => new PixelEncoderLayer(s));

    public ModuleList<PixelEncoderLayer> Layers { get; }
}

/// <summary>
/// From a backbone's maps to features of every pixel that masks are made of, and to three levels that queries look at: deformable attention over the three coarsest maps, then a
/// feature pyramid (Cheng et al. 2022, arXiv:2112.01527, section 3.2.2). Keys: level_embed, input_projections.N, encoder, mask_projection, adapter_N, layer_N.
/// </summary>
public sealed class PixelDecoder : Module
{
    /// <summary>How many maps attention sees.</summary>
    internal const int Levels = 3;

    readonly PixelDecoderSizes sizes;
    readonly NormalizedConv[] adapters, smoothers;

    /// <exception cref="PanoptesException">Strides that are no powers of two, or fewer than three maps.</exception>
    internal PixelDecoder(PixelDecoderSizes s)
    {
        sizes = s;
        if (s.Channels.Count <= Levels || s.Strides.Count != s.Channels.Count || s.Strides.Append(s.CommonStride).Any(static v => !int.IsPow2(v)))
            throw new PanoptesException($"feature_strides is [{string.Join(", ", s.Strides)}], common_stride {s.CommonStride}, and the backbone has {s.Channels.Count} maps; expected as many powers of two as maps, four or more.");
        LevelEmbed = new([Levels, s.Width], Init.Normal(1));
        InputProjections = new(Levels, i => new NormalizedConv(s.Channels[^(i + 1)], s.Width, 1, bias: true));
        Encoder = new(s);
        MaskProjection = new(s.Width, s.MaskWidth, 1);
        var finer = int.Log2(s.Strides.Skip(s.Strides.Count - Levels).Min()) - int.Log2(s.CommonStride);
        if (finer < 0 || finer > s.Channels.Count) throw new PanoptesException($"common_stride is {s.CommonStride}; expected a stride that leads to no more than {s.Channels.Count} finer maps.");
        adapters = [.. Enumerable.Range(0, finer).Select(i => new NormalizedConv(s.Channels[i], s.Width, 1, bias: false))];
        smoothers = [.. Enumerable.Range(0, finer).Select(_ => new NormalizedConv(s.Width, s.Width, 3, bias: false))];
    }

    public Parameter LevelEmbed { get; }

    public ModuleList<NormalizedConv> InputProjections { get; }

    public PixelEncoder Encoder { get; }

    public Conv2d MaskProjection { get; }

    protected override IEnumerable<(string Key, object? Child)> Children()
    {
        foreach (var child in base.Children()) yield return child;
        for (var i = 0; i < adapters.Length; i++)
        {
            yield return (FormattableString.Invariant($"adapter_{i + 1}"), adapters[i]);
            yield return (FormattableString.Invariant($"layer_{i + 1}"), smoothers[i]);
        }
    }

    /// <param name="maps">The backbone's, [b, channels, rows, columns], the largest first.</param>
    /// <returns>Features [b, mask width, rows, columns] of the finest map, and three levels [b, width, rows, columns], the coarsest first.</returns>
    public (Tensor Features, IReadOnlyList<Tensor> Levels) Forward(IReadOnlyList<Tensor> maps)
    {
        using var scope = NewDisposeScope();
        var projected = InputProjections.Select((p, i) => p.Forward(maps[^(i + 1)])).ToArray();
        (int Height, int Width)[] grids = [.. projected.Select(static p => ((int)p.shape[2], (int)p.shape[3]))];
        var x = cat([.. projected.Select(static p => p.flatten(2).transpose(1, 2))], 1);           // [b, places, width]
        var positions = cat([.. grids.Select((g, i) => MaskedAttention.Positions(g, sizes.Width, x) + LevelEmbed.Value[i])], 1);
        using var centers = DeformableAttention.Centers(grids, x.device);
        foreach (var layer in Encoder.Layers) x = layer.Forward(x, positions, centers, grids);

        var outputs = new List<Tensor>();
        for (var (i, start) = (0, 0L); i < grids.Length; start += (long)grids[i].Height * grids[i].Width, i++)
            outputs.Add(x.narrow(1, start, (long)grids[i].Height * grids[i].Width).transpose(1, 2).unflatten(2, [grids[i].Height, grids[i].Width]).contiguous());
        var finest = outputs[^1];
        for (var i = adapters.Length - 1; i >= 0; i--)
        {
            var fine = adapters[i].Forward(maps[i]);
            var grown = nn.functional.interpolate(finest, [fine.shape[2], fine.shape[3]], mode: InterpolationMode.Bilinear, align_corners: false);
            finest = smoothers[i].Forward(fine + grown).relu_();
        }
        return (MaskProjection.Forward(finest).MoveToOuterDisposeScope(), [.. outputs.Select(static o => o.MoveToOuterDisposeScope())]);
    }
}

/// <summary>Attention of queries among themselves, their positions added to queries and keys alone. Keys: k_proj, v_proj, q_proj, out_proj.</summary>
public sealed class QueryAttention(int width, int heads) : Module
{
    public Linear KProj { get; } = new(width, width, initializer: Init.XavierUniform);

    public Linear VProj { get; } = new(width, width, initializer: Init.XavierUniform);

    public Linear QProj { get; } = new(width, Attention.Divisible(width, heads), initializer: Init.XavierUniform);

    public Linear OutProj { get; } = new(width, width, initializer: Init.XavierUniform);

    /// <param name="x">[b, queries, width]</param>
    /// <param name="positions">[queries, width]</param>
    public Tensor Forward(Tensor x, Tensor positions)
    {
        using var scope = NewDisposeScope();
        var placed = x + positions;
        return OutProj.Forward(Attention.MergeHeads(Attention.Apply(Split(QProj, placed), Split(KProj, placed), Split(VProj, x)))).MoveToOuterDisposeScope();

        Tensor Split(Linear projection, Tensor of) => Attention.SplitHeads(projection.Forward(of), heads);
    }
}

/// <summary>Linear layers with ReLU between. Keys: N.0.</summary>
public sealed class MaskMlp(int width, int hidden, int outputs, int layers) : Module
{
    readonly Linear[] all = [.. Enumerable.Range(0, layers).Select(i => new Linear(i == 0 ? width : hidden, i == layers - 1 ? outputs : hidden))];

    protected override IEnumerable<(string Key, object? Child)> Children() => all.Select(static (l, i) => (FormattableString.Invariant($"{i}.0"), (object?)l));

    /// <param name="x">[..., width]</param>
    /// <returns>[..., outputs]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        for (var i = 0; i < all.Length; i++) x = all[i].Forward(x, i < all.Length - 1 ? Activation.Relu : null);
        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>What one layer's queries say: a class and a mask each.</summary>
/// <param name="Classes">[b, queries, classes + 1] logits; the last class is "nothing".</param>
/// <param name="Masks">[b, queries, rows, columns] logits.</param>
public sealed record MaskPrediction(Tensor Classes, Tensor Masks);

/// <summary>A model whose queries say a class and a mask each.</summary>
interface IMaskSegmenter
{
    /// <summary>The classes' names by index.</summary>
    IReadOnlyList<string> Labels { get; }

    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="task">[b, tokens] ids where the model is told its task, or null.</param>
    MaskPrediction Predict(Tensor pixels, Tensor? task);
}

/// <summary>Attention of queries to the places that their own masks cover (Cheng et al. 2022, section 3.2.1).</summary>
static class MaskedAttention
{
    /// <summary>DETR's sines and cosines of a whole map's places: [1, rows · columns, width] in the type and on the device of <paramref name="like"/>.</summary>
    internal static Tensor Positions((int Height, int Width) grid, int width, Tensor like)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var all = ones([1, grid.Height, grid.Width], ScalarType.Bool, like.device);
        return SinePositions.Of(all, width / 2, 10000).to(like.dtype).MoveToOuterDisposeScope();
    }

    /// <summary>Masks of queries: the product of their embedding with every pixel's features.</summary>
    /// <param name="embedding">[b, queries, width]</param>
    /// <param name="features">[b, width, rows, columns]</param>
    /// <returns>[b, queries, rows, columns]</returns>
    internal static Tensor Masks(Tensor embedding, Tensor features)
    {
        using var scope = NewDisposeScope();
        return embedding.matmul(features.flatten(2)).unflatten(2, [features.shape[2], features.shape[3]]).MoveToOuterDisposeScope();
    }

    /// <summary>Which places of a level a query may see: those of its mask, or all where it has none.</summary>
    /// <param name="masks">[b, queries, rows, columns] logits</param>
    /// <param name="level">The level's size.</param>
    /// <returns>[b, 1, queries, places] bool, true: may be seen</returns>
    internal static Tensor Seen(Tensor masks, (int Height, int Width) level)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var resized = nn.functional.interpolate(masks.detach(), [level.Height, level.Width], mode: InterpolationMode.Bilinear, align_corners: false);
        var seen = resized.sigmoid_().lt(0.5).logical_not_().flatten(2);
        return seen.logical_or(seen.any(-1, true).logical_not()).unsqueeze(1).MoveToOuterDisposeScope();
    }
}
