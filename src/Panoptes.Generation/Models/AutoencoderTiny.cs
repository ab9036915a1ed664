using System.Globalization;
using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Generation;

// A tiny autoencoder distilled from a large one (TAESD, Bohan 2023, github.com/madebyollin/taesd), for previews and little memory, with the keys and the config.json of diffusers' AutoencoderTiny.

/// <summary>Encoder and decoder, under the names of diffusers.</summary>
public sealed record AutoencoderTinyConfig : ModelConfig
{
    public int InChannels { get; init; } = 3;
    public int OutChannels { get; init; } = 3;
    public int[] EncoderBlockOutChannels { get; init; } = [64, 64, 64, 64];
    public int[] DecoderBlockOutChannels { get; init; } = [64, 64, 64, 64];
    public Activation ActFn { get; init; } = Activation.Relu;
    public string UpsampleFn { get; init; } = "nearest";
    public int LatentChannels { get; init; } = 4;
    public int UpsamplingScalingFactor { get; init; } = 2;
    public int[] NumEncoderBlocks { get; init; } = [1, 3, 3, 3];
    public int[] NumDecoderBlocks { get; init; } = [3, 3, 3, 1];

    /// <summary>Latents are about as large, either way.</summary>
    public double LatentMagnitude { get; init; } = 3;
    public double LatentShift { get; init; } = 0.5;
    public bool ForceUpcast { get; init; }
    public double ScalingFactor { get; init; } = 1;
    public double ShiftFactor { get; init; }

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "AutoencoderTiny";

    [JsonIgnore]
    public override string WeightsName => "diffusion_pytorch_model";

    /// <exception cref="PanoptesException">The levels do not fit together.</exception>
    internal AutoencoderTinyConfig Checked()
    {
        foreach (var (name, channels, blocks) in (ReadOnlySpan<(string, int[], int[])>)[("encoder", EncoderBlockOutChannels, NumEncoderBlocks), ("decoder", DecoderBlockOutChannels, NumDecoderBlocks)])
            if (channels.Length is < 1 or > 16 || blocks.Length != channels.Length || channels.Max() > 1 << 15 || blocks.Max() > 1000)
                throw new PanoptesException($"{name}_block_out_channels has {channels.Length} levels, num_{name}_blocks {blocks.Length}; expected as many of each, from 1 to 16.");
        if (UpsampleFn != "nearest") throw new PanoptesException($"upsample_fn is {UpsampleFn}; expected nearest.");
        if (ScalingFactor == 0 || !double.IsFinite(ScalingFactor)) throw new PanoptesException($"scaling_factor is {ScalingFactor}; expected a number that latents can be divided by.");
        if (UpsamplingScalingFactor > 16) throw new PanoptesException($"upsampling_scaling_factor is {UpsamplingScalingFactor}; expected 1 to 16.");
        return this;
    }
}

/// <summary>Three convolutions with activations between, added to the input, and ReLU. Keys: conv.0, conv.2, conv.4, skip.</summary>
public sealed class TinyBlock(int channels, Activation activation) : Module
{
    [Key("conv.0")]
    public Conv2d First { get; } = new(channels, channels, 3, padding: 1);

    [Key("conv.2")]
    public Conv2d Second { get; } = new(channels, channels, 3, padding: 1);

    [Key("conv.4")]
    public Conv2d Third { get; } = new(channels, channels, 3, padding: 1);

    /// <param name="x">[b, channels, rows, columns]</param>
    /// <returns>The same shape.</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var y = Second.Forward(activation.Apply(First.Forward(x)));
        return Activation.Relu.Apply(Third.Forward(activation.Apply(y), added: x)).MoveToOuterDisposeScope();
    }
}

/// <summary>Layers in a row, some of which have no weights and yet a number. Keys: layers.N.</summary>
public sealed class TinyLayers : Module
{
    readonly (int Index, Module? Module, Func<Tensor, Tensor> Forward)[] layers;

    internal TinyLayers(IEnumerable<(Module? Module, Func<Tensor, Tensor> Forward)> layers) => this.layers = [.. layers.Select(static (l, i) => (i, l.Module, l.Forward))];

    internal static TinyLayers Encoder(AutoencoderTinyConfig c) => new(c.EncoderBlockOutChannels
        .SelectMany((channels, i) => Blocks(channels, c.NumEncoderBlocks[i], c.ActFn)
            .Prepend(Layer(i == 0 ? new(c.InChannels, channels, 3, padding: 1) : new Conv2d(channels, channels, 3, stride: 2, padding: 1, bias: false))))
        .Append(Layer(new(c.EncoderBlockOutChannels[^1], c.LatentChannels, 3, padding: 1))));

    internal static TinyLayers Decoder(AutoencoderTinyConfig c)
    {
        var last = c.DecoderBlockOutChannels.Length - 1;
        return new(((IEnumerable<(Module?, Func<Tensor, Tensor>)>)[Layer(new(c.LatentChannels, c.DecoderBlockOutChannels[0], 3, padding: 1)), (null, x => c.ActFn.Apply(x))])
            .Concat(c.DecoderBlockOutChannels.SelectMany((channels, i) => Blocks(channels, c.NumDecoderBlocks[i], c.ActFn)
                .Concat(i == last ? [] : [(null, x => nn.functional.interpolate(x, scale_factor: [c.UpsamplingScalingFactor, c.UpsamplingScalingFactor], mode: InterpolationMode.Nearest))])
                .Append(Layer(new(channels, i == last ? c.OutChannels : channels, 3, padding: 1, bias: i == last))))));
    }

    /// <param name="x">[b, channels, height, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = x.ChannelsLast();
        foreach (var (_, _, forward) in layers)
            using (var before = x) x = forward(before);
        return x.MoveToOuterDisposeScope();
    }

    protected override IEnumerable<(string Key, object? Child)> Children() => layers.Where(static l => l.Module is not null).Select(static l => ("layers." + l.Index.ToString(CultureInfo.InvariantCulture), (object?)l.Module));

    static (Module?, Func<Tensor, Tensor>) Layer(Conv2d convolution) => (convolution, convolution.Forward);

    static IEnumerable<(Module?, Func<Tensor, Tensor>)> Blocks(int channels, int count, Activation activation) =>
        Enumerable.Range(0, count).Select(_ => new TinyBlock(channels, activation)).Select(static block => ((Module?)block, (Func<Tensor, Tensor>)block.Forward));
}

/// <summary>Images to latents and back, without a posterior: what it gives is as a diffusion model takes it. Keys: encoder.layers.N, decoder.layers.N.</summary>
public sealed class AutoencoderTiny(AutoencoderTinyConfig config) : LatentAutoencoder
{
    public AutoencoderTinyConfig Config { get; } = config;

    public TinyLayers Encoder { get; } = TinyLayers.Encoder(config.Checked());

    public TinyLayers Decoder { get; } = TinyLayers.Decoder(config);

    public override int LatentChannels => Config.LatentChannels;

    public override int PixelsPerPlace => 1 << (Config.EncoderBlockOutChannels.Length - 1);

    /// <summary>A picture's latents are certain: nothing is drawn.</summary>
    public override Tensor ToLatents(Tensor pixels, NoiseSource? noise, AutoencoderParts? parts = null, long? draws = null)
    {
        using var scope = NewDisposeScope();
        return ((Encode(pixels, parts) - Config.ShiftFactor) * Config.ScalingFactor).MoveToOuterDisposeScope();
    }

    public override Tensor ToPixels(Tensor latents, AutoencoderParts? parts = null)
    {
        using var scope = NewDisposeScope();
        return Decode(latents / Config.ScalingFactor + Config.ShiftFactor, parts).MoveToOuterDisposeScope();
    }

    ScalarType Dtype => Encoder.Parameters().First().Dtype ?? ScalarType.Float32;

    /// <param name="pixels">[b, channels, height, width] from -1 to 1</param>
    /// <param name="parts">How it goes through in little memory; null: at once.</param>
    /// <returns>[b, latent channels, rows, columns]</returns>
    public Tensor Encode(Tensor pixels, AutoencoderParts? parts = null)
    {
        using var scope = NewDisposeScope();
        return InSlices((pixels.to(Dtype) + 1) / 2, parts, x => InTiles(x, parts, Encoder.Forward, 1, PixelsPerPlace)).MoveToOuterDisposeScope();
    }

    /// <param name="latents">[b, latent channels, rows, columns]</param>
    /// <param name="parts">How it goes through in little memory; null: at once.</param>
    /// <returns>[b, channels, height, width], about -1 to 1</returns>
    public Tensor Decode(Tensor latents, AutoencoderParts? parts = null)
    {
        using var scope = NewDisposeScope();
        return (InSlices((latents.to(Dtype) / 3).tanh() * 3, parts, x => InTiles(x, parts, Decoder.Forward, PixelsPerPlace, 1)) * 2 - 1).MoveToOuterDisposeScope();
    }

    public override void Check(AutoencoderParts? parts)
    {
        if (parts is not { Tiled: true }) return;
        Tile(parts, 1, PixelsPerPlace);
        Tile(parts, PixelsPerPlace, 1);
    }

    /// <summary>The side of a tile, and how much of it the next one covers as well, in numbers of what goes in.</summary>
    static (int Side, int Blend) Tile(AutoencoderParts parts, int finer, int coarser)
    {
        // Of TAESD's public files, which do not say it.
        const int usual = 512;
        var pixels = parts.TilePixels ?? usual;
        var (tile, overlap) = (finer > 1 ? parts.TilePlaces ?? pixels / finer : pixels, parts.Overlap ?? 0.125);
        var blend = (int)(tile * overlap);
        return overlap is >= 0 and < 1 && tile >= coarser && tile - blend >= 1 ? (tile, blend)
            : throw new PanoptesException($"Tiles of {tile} that overlap by {overlap} were asked for; expected at least a place, and an overlap from 0 to below 1.");
    }

    /// <summary>In tiles, each of which goes over into what is there already, as the peer does it: also an image of one tile, at whose end the next one begins.</summary>
    /// <param name="finer">How many times as fine what comes out is.</param>
    /// <param name="coarser">How many times as coarse.</param>
    static Tensor InTiles(Tensor x, AutoencoderParts? parts, Func<Tensor, Tensor> compute, int finer, int coarser)
    {
        if (parts is not { Tiled: true }) return compute(x);
        var (tile, blend) = Tile(parts, finer, coarser);
        var (side, over) = (tile * finer / coarser, (double)blend * finer / coarser);
        var ramp = (arange(side, dtype: ScalarType.Float32, device: x.device) / Math.Max(1, over - 1)).clamp(0, 1).to(x.dtype);
        Tensor? all = null;
        for (var top = 0L; top < x.shape[2]; top += tile - blend)
            for (var left = 0L; left < x.shape[3]; left += tile - blend)
            {
                using var scope = NewDisposeScope();
                var own = compute(x.narrow(2, top, Math.Min(tile, x.shape[2] - top)).narrow(3, left, Math.Min(tile, x.shape[3] - left)));
                all ??= zeros([x.shape[0], own.shape[1], x.shape[2] * finer / coarser, x.shape[3] * finer / coarser], x.dtype, x.device).MoveToOuterDisposeScope();
                var (rows, columns) = (own.shape[2], own.shape[3]);
                var there = all.narrow(2, top * finer / coarser, rows).narrow(3, left * finer / coarser, columns);
                if (top > 0 || left > 0)
                {
                    var share = (top > 0 ? ramp.narrow(0, 0, rows) : ones_like(ramp).narrow(0, 0, rows)).view(-1, 1) * (left > 0 ? ramp.narrow(0, 0, columns) : ones_like(ramp).narrow(0, 0, columns));
                    own = share * own + (1 - share) * there;
                }
                there.copy_(own);
            }
        return all!;
    }

    /// <summary>Latents from 0 to 1, to be kept as an image.</summary>
    public Tensor Scale(Tensor latents)
    {
        using var scope = NewDisposeScope();
        return (latents / (2 * Config.LatentMagnitude) + Config.LatentShift).clamp(0, 1).MoveToOuterDisposeScope();
    }

    /// <summary>The opposite of <see cref="Scale"/>.</summary>
    public Tensor Unscale(Tensor scaled)
    {
        using var scope = NewDisposeScope();
        return ((scaled - Config.LatentShift) * (2 * Config.LatentMagnitude)).MoveToOuterDisposeScope();
    }
}
