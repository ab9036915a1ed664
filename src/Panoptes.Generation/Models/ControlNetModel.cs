using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Generation;

// Spatial control by a trained copy of a UNet's downward path (ControlNet, Zhang et al. 2023, arXiv:2302.05543), with the keys and the config.json of diffusers' ControlNetModel.

/// <summary>The copy and what reads the condition's image, under the names of diffusers.</summary>
public sealed record ControlNetConfig : UNetEncoderConfig
{
    public int ConditioningChannels { get; init; } = 3;

    [JsonIgnore]
    internal override bool HasHeadsBySize => false;

    [JsonIgnore]
    internal override Activation ClassAct => Activation.Silu;

    /// <summary><c>rgb</c>, or <c>bgr</c>: the image's channels are turned around.</summary>
    public string ControlnetConditioningChannelOrder { get; init; } = "rgb";

    /// <summary>Of the layers that read the image; each but the first halves it.</summary>
    public int[] ConditioningEmbeddingOutChannels { get; init; } = [16, 32, 96, 256];

    /// <summary>Residuals are means over the whole map.</summary>
    public bool GlobalPoolConditions { get; init; }

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "ControlNetModel";

    /// <exception cref="PanoptesException">The levels do not fit together, or a value is not supported.</exception>
    internal ControlNetConfig Checked()
    {
        CheckEncoder();
        if (MidBlockType is null) throw new PanoptesException("mid_block_type is null; a ControlNet has a middle.");
        if (ControlnetConditioningChannelOrder is not ("rgb" or "bgr")) throw new PanoptesException($"controlnet_conditioning_channel_order is {ControlnetConditioningChannelOrder}; expected rgb or bgr.");
        if (ConditioningEmbeddingOutChannels.Length is < 1 or > 16 || ConditioningEmbeddingOutChannels.Max() > 1 << 15)
            throw new PanoptesException($"conditioning_embedding_out_channels has {ConditioningEmbeddingOutChannels.Length} layers; expected 1 to 16, of at most 32768 channels.");
        return this;
    }
}

/// <summary>Reads the image of a condition at the latents' resolution. Keys: conv_in, blocks.N, conv_out, which starts at zero.</summary>
public sealed class ControlNetConditioning(int outputs, int inputs, int[] channels) : Module
{
    public Conv2d ConvIn { get; } = new(inputs, channels[0], 3, padding: 1);

    public ModuleList<Conv2d> Blocks { get; } = new(2 * (channels.Length - 1), i => i % 2 == 0 ? new(channels[i / 2], channels[i / 2], 3, padding: 1) : new(channels[i / 2], channels[i / 2 + 1], 3, stride: 2, padding: 1));

    public Conv2d ConvOut { get; } = new(channels[^1], outputs, 3, padding: 1, initializer: Init.Zeros);

    /// <param name="image">[b, channels, height, width] from 0 to 1</param>
    public Tensor Forward(Tensor image)
    {
        using var scope = NewDisposeScope();
        var x = Activation.Silu.Apply(ConvIn.Forward(image));
        foreach (var block in Blocks)
            using (var before = x)
            using (var y = block.Forward(before)) x = Activation.Silu.Apply(y);
        return ConvOut.Forward(x).MoveToOuterDisposeScope();
    }
}

/// <summary>What a ControlNet adds to a UNet: of every skip, and of the middle.</summary>
public sealed record ControlNetResiduals(IReadOnlyList<Tensor> Down, Tensor Mid) : IDisposable
{
    public void Dispose()
    {
        foreach (var tensor in Down) tensor.Dispose();
        Mid.Dispose();
    }
}

/// <summary>
/// Looks at the image of a condition beside the latents and tells a UNet what to add. Keys as in <see cref="UNetEncoder"/>, and controlnet_cond_embedding, controlnet_down_blocks.N,
/// controlnet_mid_block, which start at zero, so that training starts from the UNet as it is.
/// </summary>
public sealed class ControlNetModel : UNetEncoder
{
    /// <param name="config">Sizes and kinds of its parts.</param>
    /// <exception cref="PanoptesException">Settings that do not go together.</exception>
    public ControlNetModel(ControlNetConfig config) : base(config.Checked())
    {
        Config = config;
        ControlnetCondEmbedding = new(config.BlockOutChannels[0], config.ConditioningChannels, config.ConditioningEmbeddingOutChannels);
        // One for conv_in's output and one for every skip of every level.
        int[] channels = [config.BlockOutChannels[0], .. DownBlocks.SelectMany((level, i) => Enumerable.Repeat(config.BlockOutChannels[i], level.Skips))];
        ControlnetDownBlocks = new(channels.Select(Zero));
        ControlnetMidBlock = Zero(config.BlockOutChannels[^1]);
        HookedAttention.NameLayers(this);

        static Conv2d Zero(int channels) => new(channels, channels, 1, initializer: Init.Zeros);
    }

    public ControlNetConfig Config { get; }

    // As in the peer: whoever projects the text for the UNet gives it projected here.
    private protected override bool ProjectsText => false;

    public ControlNetConditioning ControlnetCondEmbedding { get; }

    public ModuleList<Conv2d> ControlnetDownBlocks { get; }

    public Conv2d ControlnetMidBlock { get; }

    /// <summary>A ControlNet with the downward path of <paramref name="unet"/>, to be trained: what it adds at first is zero.</summary>
    /// <param name="unet">Its weights are copied.</param>
    /// <param name="generator">Draws the layers that read the image.</param>
    /// <param name="imageChannels">Of the condition's image.</param>
    /// <param name="embeddingChannels">Of the layers that read it, as many as the autoencoder has levels; null: those of Stable Diffusion.</param>
    public static ControlNetModel Of(UNet2DConditionModel unet, Generator generator, int imageChannels = 3, int[]? embeddingChannels = null)
    {
        var c = unet.Config;
        var config = new ControlNetConfig
        {
            InChannels = c.InChannels,
            FlipSinToCos = c.FlipSinToCos,
            FreqShift = c.FreqShift,
            DownBlockTypes = c.DownBlockTypes,
            MidBlockType = c.MidBlockType,
            OnlyCrossAttention = c.OnlyCrossAttention,
            BlockOutChannels = c.BlockOutChannels,
            LayersPerBlock = c.LayersPerBlock,
            DownsamplePadding = c.DownsamplePadding,
            MidBlockScaleFactor = c.MidBlockScaleFactor,
            ActFn = c.ActFn,
            NormNumGroups = c.NormNumGroups,
            NormEps = c.NormEps,
            CrossAttentionDim = c.CrossAttentionDim,
            TransformerLayersPerBlock = c.TransformerLayersPerBlock,
            EncoderHidDim = c.EncoderHidDim,
            EncoderHidDimType = c.EncoderHidDimType,
            AttentionHeadDim = c.AttentionHeadDim,
            UseLinearProjection = c.UseLinearProjection,
            ClassEmbedType = c.ClassEmbedType,
            AdditionEmbedType = c.AdditionEmbedType,
            AdditionTimeEmbedDim = c.AdditionTimeEmbedDim,
            NumClassEmbeds = c.NumClassEmbeds,
            UpcastAttention = c.UpcastAttention,
            ResnetTimeScaleShift = c.ResnetTimeScaleShift,
            ProjectionClassEmbeddingsInputDim = c.ProjectionClassEmbeddingsInputDim,
            AdditionEmbedTypeNumHeads = c.AdditionEmbedTypeNumHeads,
            ConditioningChannels = imageChannels,
        };
        if (embeddingChannels is not null) config = config with { ConditioningEmbeddingOutChannels = embeddingChannels };
        var model = new ControlNetModel(config);
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var theirs = unet.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter);
        var dtype = unet.ConvIn.Weight.Dtype ?? ScalarType.Float32;
        foreach (var (key, parameter) in model.NamedParameters())
            if (theirs.TryGetValue(key, out var source) && source.Shape.AsSpan().SequenceEqual(parameter.Shape)) parameter.Assign(source.Value.detach().clone());
            else parameter.Initialize(generator, dtype);
        return model;
    }

    /// <summary>What is to be added to the UNet, which gets the same sample, timestep and text.</summary>
    /// <param name="inputs">As of the UNet; residuals, features, grounding and FreeU are not looked at.</param>
    /// <param name="image">[b, channels, height, width] from 0 to 1: the condition, at the size of the picture</param>
    /// <param name="scale">Multiplies all residuals.</param>
    /// <param name="guess">Without a prompt: finer skips get less than coarser ones, from a tenth up to all.</param>
    /// <exception cref="PanoptesException">A condition is missing, or the image has another shape than the latents ask for.</exception>
    public ControlNetResiduals Forward(UNetInputs inputs, Tensor image, double scale = 1, bool guess = false)
    {
        CheckInputs(inputs);
        using var scope = NewDisposeScope();
        var (sample, side) = (inputs.Sample, 1 << (Config.ConditioningEmbeddingOutChannels.Length - 1));
        if (image.dim() != 4 || image.shape[0] != sample.shape[0] || image.shape[1] != Config.ConditioningChannels || (image.shape[2] + side - 1) / side != sample.shape[2] || (image.shape[3] + side - 1) / side != sample.shape[3])
            throw new PanoptesException($"A condition of [{string.Join(", ", image.shape)}] was given; expected [{sample.shape[0]}, {Config.ConditioningChannels}, {side * sample.shape[2]}, {side * sample.shape[3]}].");
        var condition = Condition(inputs);
        if (Config.ControlnetConditioningChannelOrder == "bgr") image = image.flip(1);
        var x = ConvIn.Forward(sample.to(Dtype).ChannelsLast()) + ControlnetCondEmbedding.Forward(image.to(Dtype).ChannelsLast());
        var skips = new List<Tensor> { x };
        foreach (var level in DownBlocks) x = level.Forward(x, condition, skips);
        var residuals = skips.Select((skip, i) => ControlnetDownBlocks[i].Forward(skip)).Append(ControlnetMidBlock.Forward(MidBlock!.Forward(x, condition))).ToArray();
        for (var i = 0; i < residuals.Length; i++)
        {
            // From 10⁻¹ to 10⁰ in equal steps of the exponent.
            var share = guess && !Config.GlobalPoolConditions ? scale * Math.Pow(10, (double)i / (residuals.Length - 1) - 1) : scale;
            if (share != 1) residuals[i] = residuals[i] * share;
            if (Config.GlobalPoolConditions) residuals[i] = residuals[i].mean([2, 3], keepdim: true);
            residuals[i].MoveToOuterDisposeScope();
        }
        return new(residuals[..^1], residuals[^1]);
    }
}
