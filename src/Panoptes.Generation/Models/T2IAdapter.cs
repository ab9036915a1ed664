using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Generation;

// Spatial control by a small network beside a UNet (T2I-Adapter, Mou et al. 2023, arXiv:2302.08453), with the keys and the config.json of diffusers' T2IAdapter.

/// <summary>An adapter, under the names of diffusers.</summary>
public sealed record T2IAdapterConfig : ModelConfig
{
    public int InChannels { get; init; } = 3;

    /// <summary>Of every level of the UNet's downward path, finest first.</summary>
    public int[] Channels { get; init; } = [320, 640, 1280, 1280];
    public int NumResBlocks { get; init; } = 2;

    /// <summary>How many pixels a side become channels at first.</summary>
    public int DownscaleFactor { get; init; } = 8;

    /// <summary>full_adapter, full_adapter_xl or light_adapter.</summary>
    public string AdapterType { get; init; } = "full_adapter";

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "T2IAdapter";

    [JsonIgnore]
    public override string WeightsName => "diffusion_pytorch_model";

    /// <exception cref="PanoptesException">Sizes that no adapter has.</exception>
    internal T2IAdapterConfig Checked()
    {
        if (Channels.Length is < 1 or > 16 || Channels.Max() > 1 << 15) throw new PanoptesException($"channels has {Channels.Length} levels; expected 1 to 16, of at most 32768 channels.");
        if (AdapterType is not ("full_adapter" or "full_adapter_xl" or "light_adapter")) throw new PanoptesException($"adapter_type is {AdapterType}; expected full_adapter, full_adapter_xl or light_adapter.");
        if (NumResBlocks > 100 || DownscaleFactor > 64 || InChannels > 1024) throw new PanoptesException($"num_res_blocks is {NumResBlocks}, downscale_factor {DownscaleFactor} and in_channels {InChannels}; expected at most 100, 64 and 1024.");
        return this;
    }
}

/// <summary>Two convolutions with ReLU between, added to their input. Keys: block1, block2.</summary>
public sealed class AdapterResnet(int channels, int secondKernel) : Module
{
    public Conv2d Block1 { get; } = new(channels, channels, 3, padding: 1);

    public Conv2d Block2 { get; } = new(channels, channels, secondKernel, padding: secondKernel / 2);

    /// <param name="x">[b, channels, rows, columns]</param>
    /// <returns>The same shape.</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return Block2.Forward(Activation.Relu.Apply(Block1.Forward(x)), added: x).MoveToOuterDisposeScope();
    }
}

/// <summary>A level. Keys: in_conv, resnets.N, out_conv.</summary>
public sealed class AdapterLevel(int from, int to, int resnets, bool halves, bool light) : Module
{
    public Conv2d? InConv { get; } = light ? new(from, to / 4, 1) : from == to ? null : new(from, to, 1);

    public ModuleList<AdapterResnet> Resnets { get; } = new(resnets, _ => new(light ? to / 4 : to, light ? 3 : 1));

    public Conv2d? OutConv { get; } = light ? new(to / 4, to, 1) : null;

    /// <param name="x">[b, from, height, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        if (halves) x = nn.functional.avg_pool2d(x, 2, 2, ceil_mode: true);
        if (InConv is not null) x = InConv.Forward(x);
        foreach (var resnet in Resnets) x = resnet.Forward(x);
        return (OutConv?.Forward(x) ?? x.alias()).MoveToOuterDisposeScope();
    }
}

/// <summary>What the levels hang on. Keys: conv_in, body.N.</summary>
public sealed class AdapterBody(T2IAdapterConfig c) : Module
{
    readonly bool light = c.AdapterType == "light_adapter";

    public Conv2d? ConvIn { get; } = c.AdapterType == "light_adapter" ? null : new(c.InChannels * c.DownscaleFactor * c.DownscaleFactor, c.Channels[0], 3, padding: 1);

    public ModuleList<AdapterLevel> Body { get; } = new(Levels(c));

    /// <param name="image">[b, channels, height, width]</param>
    public List<Tensor> Forward(Tensor image)
    {
        var features = new List<Tensor>();
        using var scope = NewDisposeScope();
        var x = nn.functional.pixel_unshuffle(image, c.DownscaleFactor).ChannelsLast();
        if (!light) x = ConvIn!.Forward(x);
        foreach (var level in Body)
        {
            x = level.Forward(x);
            features.Add(x.MoveToOuterDisposeScope());
        }
        return features;
    }

    static IEnumerable<AdapterLevel> Levels(T2IAdapterConfig c)
    {
        var (channels, n) = (c.Channels, c.NumResBlocks);
        return c.AdapterType switch
        {
            "full_adapter" => channels.Select((to, i) => new AdapterLevel(channels[Math.Max(0, i - 1)], to, n, halves: i > 0, light: false)),
            // Of SDXL's levels only the third halves the map, and widths change at the second and third.
            "full_adapter_xl" => channels.Select((to, i) => new AdapterLevel(i is 1 or 2 ? channels[i - 1] : to, to, n, halves: i == 2, light: false)),
            _ => channels.Append(channels[^1]).Select((to, i) => new AdapterLevel(i == 0 ? c.InChannels * c.DownscaleFactor * c.DownscaleFactor : channels[i - 1], to, n, halves: i > 0, light: true)),
        };
    }
}

/// <summary>The image of a condition to what is added inside a UNet's levels (<see cref="UNetInputs.AdapterFeatures"/>). Key: adapter.</summary>
public sealed class T2IAdapter(T2IAdapterConfig config) : Module
{
    public T2IAdapterConfig Config { get; } = config;

    public AdapterBody Adapter { get; } = new(config.Checked());

    /// <param name="image">[b, channels, height, width] from 0 to 1, sides multiples of the config's downscale_factor</param>
    /// <returns>A map for every level, finest first.</returns>
    /// <exception cref="PanoptesException">Another number of channels, or sides that are no multiples.</exception>
    public IReadOnlyList<Tensor> Forward(Tensor image)
    {
        var (side, channels) = (Config.DownscaleFactor, Config.InChannels);
        if (image.dim() != 4 || image.shape[1] != channels || image.shape[2] % side != 0 || image.shape[3] % side != 0 || image.numel() == 0)
            throw new PanoptesException($"A condition of [{string.Join(", ", image.shape)}] was given; expected [batch, {channels}, height, width] in multiples of {side} pixels.");
        using var converted = image.to(Adapter.Body[0].Resnets[0].Block1.Weight.Dtype ?? ScalarType.Float32);
        return Adapter.Forward(converted);
    }
}
