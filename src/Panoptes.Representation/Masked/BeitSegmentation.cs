using Panoptes.Nn;

namespace Panoptes.Representation;

// BEiT with UPerNet's heads (Xiao et al. 2018, arXiv:1807.10221), as Hugging Face's BeitForSemanticSegmentation.

/// <summary>Convolution, batch norm, ReLU. Keys: conv, bn.</summary>
public sealed class BeitConvolution(BeitConfig c, int from, int to, int kernel) : Module
{
    public Conv2d Conv { get; } = new(from, to, kernel, padding: kernel / 2, bias: false, initializer: c.Normal);

    public BatchNorm Bn { get; } = new(to);

    /// <param name="x">[b, from, height, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return nn.functional.relu(Bn.Forward(Conv.Forward(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>One scale of the pyramid, pooled. Keys: 1 (0 is the pooling).</summary>
public sealed class BeitPyramidLevel(BeitConfig c, int scale) : Module
{
    [Key("1")]
    public BeitConvolution Conv { get; } = new(c, c.HiddenSize, c.HiddenSize, 1);

    /// <summary>Pooled to scale x scale and brought back to the size that it had.</summary>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return BeitSegmentation.Resize(Conv.Forward(nn.functional.adaptive_avg_pool2d(x, [scale, scale])), x).MoveToOuterDisposeScope();
    }
}

/// <summary>UPerNet's head over four levels. Keys: psp_modules, bottleneck, lateral_convs, fpn_convs, fpn_bottleneck, classifier.</summary>
public sealed class BeitUperHead(BeitConfig c) : Module
{
    public Conv2d Classifier { get; } = new(c.HiddenSize, c.Classes, 1, initializer: c.Normal);

    public ModuleList<BeitPyramidLevel> PspModules { get; } = new(c.PoolScales.Select(s => new BeitPyramidLevel(c, s)));

    public BeitConvolution Bottleneck { get; } = new(c, (1 + c.PoolScales.Length) * c.HiddenSize, c.HiddenSize, 3);

    public ModuleList<BeitConvolution> LateralConvs { get; } = new(BeitSegmentation.Levels - 1, _ => new BeitConvolution(c, c.HiddenSize, c.HiddenSize, 1));

    public ModuleList<BeitConvolution> FpnConvs { get; } = new(BeitSegmentation.Levels - 1, _ => new BeitConvolution(c, c.HiddenSize, c.HiddenSize, 3));

    public BeitConvolution FpnBottleneck { get; } = new(c, BeitSegmentation.Levels * c.HiddenSize, c.HiddenSize, 3);

    /// <param name="maps">Four maps [b, width, rows, columns], the largest first.</param>
    /// <returns>[b, classes, rows, columns] of the largest</returns>
    public Tensor Forward(IReadOnlyList<Tensor> maps)
    {
        using var scope = NewDisposeScope();
        var (deepest, levels) = (maps[^1], new Tensor[maps.Count]);
        levels[^1] = Bottleneck.Forward(cat([deepest, .. PspModules.Select(m => m.Forward(deepest))], 1));
        for (var i = maps.Count - 2; i >= 0; i--) levels[i] = LateralConvs[i].Forward(maps[i]) + BeitSegmentation.Resize(levels[i + 1], maps[i]);
        for (var i = 0; i < maps.Count - 1; i++) levels[i] = FpnConvs[i].Forward(levels[i]);
        for (var i = 1; i < maps.Count; i++) levels[i] = BeitSegmentation.Resize(levels[i], levels[0]);
        return Classifier.Forward(FpnBottleneck.Forward(cat(levels, 1))).MoveToOuterDisposeScope();
    }
}

/// <summary>A second, plain head on one level, that helps training. Keys: convs, conv_cat, classifier.</summary>
public sealed class BeitFcnHead(BeitConfig c) : Module
{
    public Conv2d Classifier { get; } = new(c.AuxiliaryNumConvs > 0 || c.AuxiliaryConcatInput ? c.AuxiliaryChannels : c.HiddenSize, c.Classes, 1, initializer: c.Normal);

    public ModuleList<BeitConvolution> Convs { get; } = new(c.AuxiliaryNumConvs, i => new BeitConvolution(c, i == 0 ? c.HiddenSize : c.AuxiliaryChannels, c.AuxiliaryChannels, 3));

    public BeitConvolution? ConvCat { get; } = c.AuxiliaryConcatInput ? new(c, c.HiddenSize + c.AuxiliaryChannels, c.AuxiliaryChannels, 3) : null;

    /// <param name="map">[b, width, rows, columns]</param>
    /// <returns>[b, classes, rows, columns]</returns>
    public Tensor Forward(Tensor map)
    {
        using var scope = NewDisposeScope();
        var x = map;
        foreach (var conv in Convs) x = conv.Forward(x);
        if (ConvCat is not null) x = ConvCat.Forward(cat([map, x], 1));
        return Classifier.Forward(x).MoveToOuterDisposeScope();
    }
}

/// <summary>BEiT that names the class of every pixel. Keys: beit, fpn1, fpn2, decode_head, auxiliary_head.</summary>
public sealed class BeitForSemanticSegmentation : Module
{
    /// <exception cref="PanoptesException">out_indices are not four of the encoder's states.</exception>
    public BeitForSemanticSegmentation(BeitConfig config)
    {
        if (config.OutIndices is not { Length: BeitSegmentation.Levels } levels || levels.Any(i => i > config.NumHiddenLayers + 1))
            throw new PanoptesException($"out_indices is [{string.Join(", ", config.OutIndices ?? [])}]; expected four numbers from 1 to {config.NumHiddenLayers + 1}.");
        Config = config;
        Beit = new(config, pooler: false);
        (Fpn1First, Fpn1Norm, Fpn1Second, Fpn2) = (Twice(), new(config.HiddenSize), Twice(), Twice());
        DecodeHead = new(config);
        AuxiliaryHead = config.UseAuxiliaryHead ? new(config) : null;

        ConvTranspose2d Twice() => new(config.HiddenSize, config.HiddenSize, 2, config.Normal);
    }

    public BeitConfig Config { get; }

    public BeitModel Beit { get; }

    [Key("fpn1.0")]
    public ConvTranspose2d Fpn1First { get; }

    [Key("fpn1.1")]
    public BatchNorm Fpn1Norm { get; }

    [Key("fpn1.3")]
    public ConvTranspose2d Fpn1Second { get; }

    [Key("fpn2.0")]
    public ConvTranspose2d Fpn2 { get; }

    public BeitUperHead DecodeHead { get; }

    public BeitFcnHead? AuxiliaryHead { get; }

    /// <summary>Logits [b, classes, rows, columns] at four times the patches' grid.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    public Tensor Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return DecodeHead.Forward(Maps(pixels)).MoveToOuterDisposeScope();
    }

    /// <summary>The mean cross-entropy over the pixels that have a label, the auxiliary head's added by its weight.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="labels">[b, height, width] int64</param>
    public Tensor Loss(Tensor pixels, Tensor labels)
    {
        using var scope = NewDisposeScope();
        var maps = Maps(pixels);
        var loss = Judge(DecodeHead.Forward(maps));
        if (AuxiliaryHead is not null) loss += Config.AuxiliaryLossWeight * Judge(AuxiliaryHead.Forward(maps[2]));
        return loss.MoveToOuterDisposeScope();

        Tensor Judge(Tensor logits) => nn.functional.cross_entropy(BeitSegmentation.Resize(logits.to(ScalarType.Float32), labels), labels, ignore_index: Config.SemanticLossIgnoreIndex);
    }

    /// <summary>Four of the encoder's states as maps of four, two, one and half times the patches' grid.</summary>
    List<Tensor> Maps(Tensor pixels)
    {
        var states = Beit.Forward(pixels, hiddenStates: true).HiddenStates!;
        var (rows, columns) = (pixels.shape[2] / Config.PatchSize, pixels.shape[3] / Config.PatchSize);
        Tensor[] maps = [.. Config.OutIndices!.Select(i => states[i - 1].narrow(1, 1, rows * columns).transpose(1, 2).unflatten(2, [rows, columns]))];
        return
        [
            Fpn1Second.Forward(nn.functional.gelu(Fpn1Norm.Forward(Fpn1First.Forward(maps[0])))),
            Fpn2.Forward(maps[1]),
            maps[2],
            nn.functional.max_pool2d(maps[3], 2, stride: 2),
        ];
    }
}

static class BeitSegmentation
{
    internal const int Levels = 4;

    /// <summary><paramref name="x"/> in the height and width of <paramref name="like"/>, bilinear.</summary>
    internal static Tensor Resize(Tensor x, Tensor like) =>
        nn.functional.interpolate(x, [like.shape[^2], like.shape[^1]], mode: InterpolationMode.Bilinear, align_corners: false);
}
