using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Generation;

// The denoiser of pixels without a text (Ho et al. 2020, arXiv:2006.11239; Song et al. 2021, arXiv:2011.13456), perhaps told a class, with the keys and the config.json of diffusers' UNet2DModel.

/// <summary>A UNet without a text, under the names of diffusers.</summary>
public sealed record UNet2DConfig : ModelConfig
{
    /// <summary>The sides of the images that it was made for; it takes others as well.</summary>
    public OneOrMany<int>? SampleSize { get; init; }
    public int InChannels { get; init; } = 3;
    public int OutChannels { get; init; } = 3;
    public bool CenterInputSample { get; init; }

    /// <summary>positional, fourier (random frequencies of the logarithm, for continuous noise levels) or learned (a table of <see cref="NumTrainTimesteps"/>).</summary>
    public string TimeEmbeddingType { get; init; } = "positional";
    public int? TimeEmbeddingDim { get; init; }
    public double FreqShift { get; init; }
    public bool FlipSinToCos { get; init; } = true;

    /// <summary>Of every level, finest first: DownBlock2D, AttnDownBlock2D or ResnetDownsampleBlock2D.</summary>
    public string[] DownBlockTypes { get; init; } = ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"];

    /// <summary>UNetMidBlock2D, or null: none.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? MidBlockType { get; init; } = "UNetMidBlock2D";

    /// <summary>Of every level, coarsest first: UpBlock2D, AttnUpBlock2D or ResnetUpsampleBlock2D.</summary>
    public string[] UpBlockTypes { get; init; } = ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"];
    public int[] BlockOutChannels { get; init; } = [224, 448, 672, 896];
    public int LayersPerBlock { get; init; } = 2;
    public double MidBlockScaleFactor { get; init; } = 1;
    public byte DownsamplePadding { get; init; } = 1;

    /// <summary>conv or resnet: how levels with attention halve the map.</summary>
    public string DownsampleType { get; init; } = "conv";

    /// <summary>conv or resnet: how levels with attention double it.</summary>
    public string UpsampleType { get; init; } = "conv";
    public double Dropout { get; init; }
    public Activation ActFn { get; init; } = Activation.Silu;

    /// <summary>The size of a head; null: one head.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public int? AttentionHeadDim { get; init; } = 8;
    public int NormNumGroups { get; init; } = 32;

    /// <summary>Of the middle's attention; null: as elsewhere, or no norm where the time scales and shifts.</summary>
    public int? AttnNormNumGroups { get; init; }
    public double NormEps { get; init; } = 1e-5;
    public string ResnetTimeScaleShift { get; init; } = "default";
    public bool AddAttention { get; init; } = true;

    /// <summary>timestep, identity, or null: a table of <see cref="NumClassEmbeds"/>, if any.</summary>
    public string? ClassEmbedType { get; init; }
    public int? NumClassEmbeds { get; init; }
    public int? NumTrainTimesteps { get; init; }

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "UNet2DModel";

    [JsonIgnore]
    public override string WeightsName => "diffusion_pytorch_model";

    [JsonIgnore]
    internal int Levels => BlockOutChannels.Length;

    [JsonIgnore]
    internal int TimeWidth => TimeEmbeddingDim ?? BlockOutChannels[0] * 4;

    [JsonIgnore]
    internal UNetBlockOptions Blocks => new()
    {
        TimeWidth = TimeWidth,
        Groups = NormNumGroups,
        Eps = NormEps,
        Act = ActFn,
        ScaleShift = ResnetTimeScaleShift == "scale_shift",
        DownsamplePadding = DownsamplePadding,
        Dropout = Dropout,
    };

    internal UNetLevelOptions Down(int i) => new()
    {
        Type = Simple(DownBlockTypes[i], "Down"),
        From = BlockOutChannels[Math.Max(0, i - 1)],
        To = BlockOutChannels[i],
        Layers = LayersPerBlock,
        Resamples = i < Levels - 1,
        HeadSize = AttentionHeadDim ?? BlockOutChannels[i],
    };

    internal UNetLevelOptions Up(int i) => Down(Levels - 1 - i) with
    {
        Type = Simple(UpBlockTypes[i], "Up"),
        From = BlockOutChannels[Math.Min(Levels - i, Levels - 1)],
        Skip = BlockOutChannels[Math.Max(0, Levels - 2 - i)],
        Layers = LayersPerBlock + 1,
        Resamples = i < Levels - 1,
    };

    static string Simple(string type, string direction) => type.StartsWith("UNetRes", StringComparison.Ordinal) ? type[7..]
        : type.Contains("CrossAttn", StringComparison.Ordinal) ? throw new PanoptesException($"The block {type} attends to a text, which a UNet2DModel has none of; expected {direction}Block2D or Attn{direction}Block2D.") : type;

    internal UNetMiddle? Middle()
    {
        var channels = BlockOutChannels[^1];
        var groups = AttnNormNumGroups ?? (ResnetTimeScaleShift == "default" ? NormNumGroups : null);
        return MidBlockType switch
        {
            null => null,
            "UNetMidBlock2D" => new(Blocks, channels, 1, MidBlockScaleFactor, false, AddAttention ? () => new PlaceAttention(channels, UNetBlocks.Heads(channels, AttentionHeadDim ?? channels), groups, NormEps, MidBlockScaleFactor) : null),
            _ => throw new PanoptesException($"mid_block_type is {MidBlockType}; expected UNetMidBlock2D or null."),
        };
    }

    /// <exception cref="PanoptesException">The levels do not fit together, or a value is not supported.</exception>
    internal UNet2DConfig Checked()
    {
        if (Levels is < 1 or > 16 || DownBlockTypes.Length != Levels || UpBlockTypes.Length != Levels)
            throw new PanoptesException($"block_out_channels has {Levels} levels, down_block_types {DownBlockTypes.Length} and up_block_types {UpBlockTypes.Length}; expected as many of each, from 1 to 16.");
        if (DownBlockTypes.Concat(UpBlockTypes).Any(static t => t is null)) throw new PanoptesException("down_block_types or up_block_types has a null; expected the names of blocks.");
        OneOrMany.CheckSides(SampleSize, "sample_size");
        if (BlockOutChannels.Max() > 1 << 15 || Math.Max(InChannels, OutChannels) > 1 << 10 || LayersPerBlock > 1000)
            throw new PanoptesException($"{LayersPerBlock} layers of up to {BlockOutChannels.Max()} channels were asked for; expected at most 1000 of 32768, and 1024 of an image.");
        foreach (var (field, value, allowed) in (ReadOnlySpan<(string, string?, string[])>)[("resnet_time_scale_shift", ResnetTimeScaleShift, ["default", "scale_shift"]),
            ("time_embedding_type", TimeEmbeddingType, ["positional", "fourier", "learned"]), ("downsample_type", DownsampleType, ["conv", "resnet"]), ("upsample_type", UpsampleType, ["conv", "resnet"]),
            ("class_embed_type", ClassEmbedType ?? "timestep", ["timestep", "identity"])])
            if (!allowed.Contains(value)) throw new PanoptesException($"{field} is {value}; expected {string.Join(" or ", allowed)}.");
        if (TimeEmbeddingType == "learned" && NumTrainTimesteps is null) throw new PanoptesException("time_embedding_type learned needs num_train_timesteps; found null.");
        return this;
    }
}

/// <summary>Sines and cosines of the logarithm of a noise level at random frequencies, which are kept and not trained. Key: weight.</summary>
public sealed class GaussianFourier(int frequencies) : Module
{
    public Parameter Weight { get; } = new([frequencies], Init.Normal(16)) { Trainable = false };

    /// <param name="levels">[b]</param>
    /// <returns>[b, 2 · frequencies]</returns>
    public Tensor Forward(Tensor levels)
    {
        using var scope = NewDisposeScope();
        var angles = levels.to(ScalarType.Float32).log().unsqueeze(1) * Weight.Value.to(ScalarType.Float32) * (2 * Math.PI);
        return cat([angles.sin(), angles.cos()], 1).MoveToOuterDisposeScope();
    }
}

/// <summary>Predicts the noise of pixels. Keys: conv_in, time_proj, time_embedding, class_embedding, down_blocks, mid_block, up_blocks, conv_norm_out, conv_out.</summary>
public sealed class UNet2DModel : Module
{
    /// <param name="config">Sizes and kinds of its parts.</param>
    /// <exception cref="PanoptesException">Settings that do not go together.</exception>
    public UNet2DModel(UNet2DConfig config)
    {
        Config = config.Checked();
        var (first, width) = (config.BlockOutChannels[0], config.TimeWidth);
        ConvIn = new(config.InChannels, first, 3, padding: 1);
        TimeProj = config.TimeEmbeddingType switch { "fourier" => new GaussianFourier(first), "learned" => new Embedding(config.NumTrainTimesteps!.Value, first), _ => null };
        var inputs = TimeProj is GaussianFourier ? 2 * first : first;
        TimeEmbedding = new(inputs, width);
        ClassEmbedding = config.ClassEmbedType switch { "timestep" => new TimestepEmbedding(inputs, width), null when config.NumClassEmbeds is { } classes => new Embedding(classes, width), _ => null };
        var blocks = config.Blocks;
        DownBlocks = new(config.Levels, i => new(blocks with { ResnetResampling = config.DownsampleType == "resnet" }, config.Down(i)));
        MidBlock = config.Middle();
        UpBlocks = new(config.Levels, i => new(blocks with { ResnetResampling = config.UpsampleType == "resnet" }, config.Up(i), i));
        ConvNormOut = new(config.NormNumGroups, first, config.NormEps);
        ConvOut = new(first, config.OutChannels, 3, padding: 1);
        HookedAttention.NameLayers(this);
    }

    public UNet2DConfig Config { get; }

    public Conv2d ConvIn { get; }

    public Module? TimeProj { get; }

    public TimestepEmbedding TimeEmbedding { get; }

    public Module? ClassEmbedding { get; }

    public ModuleList<UNetDown> DownBlocks { get; }

    public UNetMiddle? MidBlock { get; }

    public ModuleList<UNetUp> UpBlocks { get; }

    public GroupNorm ConvNormOut { get; }

    public Conv2d ConvOut { get; }

    /// <param name="sample">[b, channels, height, width]</param>
    /// <param name="timestep">[] or [1], the same for all, or [b]; whole numbers, or noise levels</param>
    /// <param name="classes">[b] int64, where the model takes classes</param>
    /// <param name="hook">Comes between in every attention; see <see cref="IAttentionHook"/>.</param>
    /// <returns>[b, out channels, height, width]</returns>
    /// <exception cref="PanoptesException">Another shape, or classes missing or too many.</exception>
    public Tensor Forward(Tensor sample, Tensor timestep, Tensor? classes = null, IAttentionHook? hook = null) => Forward(sample, timestep, classes, hook, null);

    /// <summary>The same, telling what every block gives: down_blocks.0 …, mid_block, up_blocks.0 …, while the tensor lives.</summary>
    internal Tensor Forward(Tensor sample, Tensor timestep, Tensor? classes, IAttentionHook? hook, Action<string, Tensor>? given)
    {
        if (sample.dim() != 4 || sample.shape[1] != Config.InChannels) throw new PanoptesException($"A sample of [{string.Join(", ", sample.shape)}] was given; expected [batch, {Config.InChannels}, height, width].");
        if (timestep.numel() != 1 && timestep.numel() != sample.shape[0]) throw new PanoptesException($"{timestep.numel()} timesteps were given for {sample.shape[0]} samples; expected one, or one each.");
        var takesClasses = ClassEmbedding is not null || Config.ClassEmbedType == "identity";
        if (takesClasses != classes is not null) throw new PanoptesException(takesClasses ? "This UNet2DModel is told a class; none was given." : "A class was given to a UNet2DModel that takes none.");
        using var scope = NewDisposeScope();
        var dtype = ConvIn.Weight.Dtype ?? ScalarType.Float32;
        var times = timestep.reshape(-1).expand(sample.shape[0]);
        var time = TimeEmbedding.Forward(Waves(times));
        if (classes is not null)
            time = time + ClassEmbedding switch { Embedding table => table.Forward(classes), TimestepEmbedding embedding => embedding.Forward(Waves(classes)), _ => classes.to(dtype) };
        var condition = new UNetCondition { Time = time, ActiveTime = Config.ActFn.Apply(time), Hook = hook };
        var input = sample.to(dtype);
        var x = ConvIn.Forward((Config.CenterInputSample ? 2 * input - 1 : input).ChannelsLast());
        var skips = new List<Tensor> { x };
        for (var i = 0; i < DownBlocks.Count; i++)
        {
            x = DownBlocks[i].Forward(x, condition, skips);
            given?.Invoke($"down_blocks.{i}", x);
        }
        x = MidBlock?.Forward(x, condition) ?? x.alias();
        given?.Invoke("mid_block", x);
        for (var i = 0; i < UpBlocks.Count; i++)
        {
            x = UpBlocks[i].Forward(x, condition, skips);
            given?.Invoke($"up_blocks.{i}", x);
        }
        var y = ConvOut.Forward(ConvNormOut.Forward(x, Activation.Silu)).contiguous();
        if (TimeProj is GaussianFourier) y = y / times.view(-1, 1, 1, 1).to(dtype);
        return y.MoveToOuterDisposeScope();

        Tensor Waves(Tensor times)
        {
            var waves = TimeProj switch
            {
                GaussianFourier fourier => fourier.Forward(times),
                Embedding table => table.Forward(times),
                _ => Timesteps.Sinusoids(times, Config.BlockOutChannels[0], Config.FlipSinToCos, Config.FreqShift),
            };
            return waves.to(dtype);
        }
    }
}
