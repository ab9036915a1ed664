using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Generation;

// The denoiser of latent diffusion (Rombach et al. 2022, arXiv:2112.10752) with the keys and the config.json of diffusers' UNet2DConditionModel: Stable Diffusion 1 and 2, SDXL (Podell et al. 2023,
// arXiv:2307.01952), their inpainting and InstructPix2Pix variants, GLIGEN, DeepFloyd IF, latent consistency.

/// <summary>The downward half of a UNet and what it is conditioned on, under the names of diffusers: what UNet2DConditionModel and ControlNetModel share.</summary>
public abstract record UNetEncoderConfig : ModelConfig
{
    public int InChannels { get; init; } = 4;

    /// <summary>Cosines of the time before its sines.</summary>
    public bool FlipSinToCos { get; init; } = true;
    public double FreqShift { get; init; }

    /// <summary>Of every level, finest first: DownBlock2D, CrossAttnDownBlock2D, AttnDownBlock2D, SimpleCrossAttnDownBlock2D or ResnetDownsampleBlock2D.</summary>
    public string[] DownBlockTypes { get; init; } = ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"];

    /// <summary>UNetMidBlock2DCrossAttn, UNetMidBlock2DSimpleCrossAttn, UNetMidBlock2D, or null: none.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? MidBlockType { get; init; } = "UNetMidBlock2DCrossAttn";
    public OneOrMany<bool> OnlyCrossAttention { get; init; } = false;
    public int[] BlockOutChannels { get; init; } = [320, 640, 1280, 1280];
    public OneOrMany<int> LayersPerBlock { get; init; } = 2;
    public byte DownsamplePadding { get; init; } = 1;
    public double MidBlockScaleFactor { get; init; } = 1;
    public Activation ActFn { get; init; } = Activation.Silu;
    public int NormNumGroups { get; init; } = 32;
    public double NormEps { get; init; } = 1e-5;

    /// <summary>The width of the text's tokens as attention sees them.</summary>
    public OneOrMany<int> CrossAttentionDim { get; init; } = 1280;

    /// <summary>How many transformer blocks follow a resnet: of all levels, of every level, or of every resnet of every level.</summary>
    public OneOrMany<OneOrMany<int>> TransformerLayersPerBlock { get; init; } = (OneOrMany<int>)1;
    public int? EncoderHidDim { get; init; }

    /// <summary>What makes tokens of the given condition: text_proj, text_image_proj, image_proj, or null: nothing.</summary>
    public string? EncoderHidDimType { get; init; }

    /// <summary>The number of heads in blocks with transformers (a misnomer of the first checkpoints that all others follow), the size of one in the others.</summary>
    public OneOrMany<int> AttentionHeadDim { get; init; } = 8;
    public OneOrMany<int>? NumAttentionHeads { get; init; }
    public bool UseLinearProjection { get; init; }

    /// <summary>timestep, identity, projection, simple_projection, or null: a table of <see cref="NumClassEmbeds"/>, if any.</summary>
    public string? ClassEmbedType { get; init; }

    /// <summary>text, text_image, text_time (SDXL), image, or null: nothing.</summary>
    public string? AdditionEmbedType { get; init; }
    public int? AdditionTimeEmbedDim { get; init; }
    public int? NumClassEmbeds { get; init; }

    /// <summary>Read and kept: products and sums of scores are float32 here anyway.</summary>
    public bool UpcastAttention { get; init; }

    /// <summary><c>default</c>: the time is added; <c>scale_shift</c>: it scales and shifts.</summary>
    public string ResnetTimeScaleShift { get; init; } = "default";
    public int? ProjectionClassEmbeddingsInputDim { get; init; }
    public int AdditionEmbedTypeNumHeads { get; init; } = 64;

    [JsonIgnore]
    public override string WeightsName => "diffusion_pytorch_model";

    [JsonIgnore]
    internal int Levels => BlockOutChannels.Length;

    /// <summary>Between the layers that embed a class that is told as timesteps are; a ControlNet's is always SiLU.</summary>
    [JsonIgnore]
    internal virtual Activation ClassAct => ActFn;

    /// <summary>Whether heads are told by <see cref="AttentionHeadDim"/> alone, as in whole UNets.</summary>
    [JsonIgnore]
    internal virtual bool HasHeadsBySize => true;

    /// <summary>The heads of blocks with transformers.</summary>
    [JsonIgnore]
    internal OneOrMany<int> HeadCount => NumAttentionHeads ?? AttentionHeadDim;

    [JsonIgnore]
    internal virtual int TimeWidth => BlockOutChannels[0] * 4;

    [JsonIgnore]
    internal virtual int TimeInputs => BlockOutChannels[0];

    [JsonIgnore]
    internal virtual int ConvInKernel => 3;

    [JsonIgnore]
    internal virtual int? TimeCondition => null;

    [JsonIgnore]
    internal virtual Activation? TimePostAct => null;

    [JsonIgnore]
    internal virtual bool MiddleOnlyCross => OnlyCrossAttention is { Many: null, One: true };

    [JsonIgnore]
    internal virtual UNetBlockOptions Blocks => new()
    {
        TimeWidth = TimeWidth,
        Groups = NormNumGroups,
        Eps = NormEps,
        Act = ActFn,
        ScaleShift = ResnetTimeScaleShift == "scale_shift",
        DownsamplePadding = DownsamplePadding,
        LinearProjection = UseLinearProjection,
    };

    /// <summary>The transformer blocks after every resnet of a level.</summary>
    internal static int[] Transformers(OneOrMany<int>? layers, int resnets, string field) => layers?.Of(resnets, field) is { } all && all.All(static n => n is >= 0 and <= 1000) ? all
        : throw new PanoptesException($"{field} asks for more transformer blocks than 1000, for fewer than none, or does not say how many.");

    internal UNetLevelOptions Down(int i) => new()
    {
        Type = DownBlockTypes[i].StartsWith("UNetRes", StringComparison.Ordinal) ? DownBlockTypes[i][7..] : DownBlockTypes[i],
        From = BlockOutChannels[Math.Max(0, i - 1)],
        To = BlockOutChannels[i],
        Layers = LayersPerBlock[i],
        Resamples = i < Levels - 1,
        Heads = HeadCount[i],
        HeadSize = AttentionHeadDim[i],
        ContextWidth = CrossAttentionDim[i],
        Transformers = Transformers(TransformerLayersPerBlock[i], LayersPerBlock[i], "transformer_layers_per_block"),
        OnlyCross = OnlyCrossAttention[i],
    };

    internal UNetMiddle? Middle(UNetBlockOptions o)
    {
        var (channels, last) = (BlockOutChannels[^1], Levels - 1);
        var context = CrossAttentionDim[last];
        return MidBlockType switch
        {
            null => null,
            "UNetMidBlock2D" => new(o, channels, 0, MidBlockScaleFactor, false, null),
            "UNetMidBlock2DCrossAttn" => new(o, channels, 1, MidBlockScaleFactor, false, () => new SpatialTransformer(channels, HeadCount[last], Transformers(TransformerLayersPerBlock[last]?[0], 1, "transformer_layers_per_block")[0],
                context, o.Groups, UseLinearProjection, onlyCross: false, o.Grounded)),
            "UNetMidBlock2DSimpleCrossAttn" => new(o, channels, 1, MidBlockScaleFactor, o.SkipTimeAct, () => new AddedKeyAttention(channels, UNetBlocks.Heads(channels, AttentionHeadDim[last]), context, o.Groups, MiddleOnlyCross, o.CrossNorm)),
            _ => throw new PanoptesException($"mid_block_type is {MidBlockType}; expected UNetMidBlock2DCrossAttn, UNetMidBlock2DSimpleCrossAttn, UNetMidBlock2D or null."),
        };
    }

    /// <exception cref="PanoptesException">The levels do not fit together, or a value is not supported.</exception>
    internal void CheckEncoder()
    {
        if (Levels is < 1 or > 16 || DownBlockTypes.Length != Levels) throw new PanoptesException($"block_out_channels has {Levels} levels, down_block_types {DownBlockTypes.Length}; expected as many of each, from 1 to 16.");
        if (BlockOutChannels.Max() > 1 << 15 || InChannels > 1 << 10) throw new PanoptesException($"A level of {BlockOutChannels.Max()} channels was asked for; expected at most 32768, and 1024 of the input.");
        if (DownBlockTypes.Any(static t => t is null)) throw new PanoptesException("down_block_types has a null; expected the names of blocks.");
        if (NumAttentionHeads is not null && HasHeadsBySize) throw new PanoptesException("num_attention_heads is set; expected null: the number of heads is called attention_head_dim in these models.");
        if (ResnetTimeScaleShift is not ("default" or "scale_shift")) throw new PanoptesException($"resnet_time_scale_shift is {ResnetTimeScaleShift}; expected default or scale_shift.");
        OnlyCrossAttention.Of(Levels, "only_cross_attention");
        TransformerLayersPerBlock.Of(Levels, "transformer_layers_per_block");
        foreach (var (field, values) in (ReadOnlySpan<(string, OneOrMany<int>)>)[("layers_per_block", LayersPerBlock), ("attention_head_dim", AttentionHeadDim), ("num_attention_heads", HeadCount), ("cross_attention_dim", CrossAttentionDim)])
            foreach (var value in values.Of(Levels, field))
                if (value < 1 || value > 1 << 16 || (field == "layers_per_block" && value > 1000)) throw new PanoptesException($"{field} is {value}; expected at least 1, and no more than any model has.");
    }

    internal static int Needed(int? value, string field, string by) => value ?? throw new PanoptesException($"{by} needs {field}; found null.");
}

/// <summary>A whole UNet, under the names of diffusers.</summary>
public sealed record UNet2DConditionConfig : UNetEncoderConfig
{
    /// <summary>The sides of the latents that it was made for; it takes others as well.</summary>
    public OneOrMany<int>? SampleSize { get; init; }
    public int OutChannels { get; init; } = 4;
    public bool CenterInputSample { get; init; }

    /// <summary>Of every level, coarsest first: UpBlock2D, CrossAttnUpBlock2D, AttnUpBlock2D, SimpleCrossAttnUpBlock2D or ResnetUpsampleBlock2D.</summary>
    public string[] UpBlockTypes { get; init; } = ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"];
    public double Dropout { get; init; }

    /// <summary>Of the upward path, coarsest first, where it has other numbers.</summary>
    public OneOrMany<OneOrMany<int>>? ReverseTransformerLayersPerBlock { get; init; }
    public bool DualCrossAttention { get; init; }
    public bool ResnetSkipTimeAct { get; init; }
    public double ResnetOutScaleFactor { get; init; } = 1;
    public string TimeEmbeddingType { get; init; } = "positional";
    public int? TimeEmbeddingDim { get; init; }
    public Activation? TimeEmbeddingActFn { get; init; }
    public Activation? TimestepPostAct { get; init; }

    /// <summary>The width of what is added to the time before it is embedded, such as a guidance scale (latent consistency); null: nothing.</summary>
    public int? TimeCondProjDim { get; init; }

    [JsonPropertyName("conv_in_kernel")]
    public int InKernel { get; init; } = 3;
    public int ConvOutKernel { get; init; } = 3;

    /// <summary><c>default</c>; <c>gated</c> and <c>gated-text-image</c>: GLIGEN.</summary>
    public string AttentionType { get; init; } = "default";
    public bool ClassEmbeddingsConcat { get; init; }
    public bool? MidBlockOnlyCrossAttention { get; init; }
    public string? CrossAttentionNorm { get; init; }

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "UNet2DConditionModel";

    [JsonIgnore]
    internal override int TimeWidth => TimeEmbeddingDim ?? BlockOutChannels[0] * 4;

    [JsonIgnore]
    internal override int ConvInKernel => InKernel;

    [JsonIgnore]
    internal override int? TimeCondition => TimeCondProjDim;

    [JsonIgnore]
    internal override Activation? TimePostAct => TimestepPostAct;

    [JsonIgnore]
    internal override bool MiddleOnlyCross => MidBlockOnlyCrossAttention ?? base.MiddleOnlyCross;

    [JsonIgnore]
    internal bool IsGrounded => AttentionType != "default";

    [JsonIgnore]
    internal override UNetBlockOptions Blocks => base.Blocks with
    {
        TimeWidth = ClassEmbeddingsConcat ? 2 * TimeWidth : TimeWidth,
        Dropout = Dropout,
        Grounded = IsGrounded,
        CrossNorm = CrossAttentionNorm,
        SkipTimeAct = ResnetSkipTimeAct,
        OutScale = ResnetOutScaleFactor,
    };

    internal UNetLevelOptions Up(int i)
    {
        var down = Levels - 1 - i;
        var resnets = LayersPerBlock[down] + 1;
        var transformers = ReverseTransformerLayersPerBlock is { } reversed ? reversed[i] : TransformerLayersPerBlock[down];
        return Down(down) with
        {
            Type = UpBlockTypes[i].StartsWith("UNetRes", StringComparison.Ordinal) ? UpBlockTypes[i][7..] : UpBlockTypes[i],
            From = BlockOutChannels[Math.Min(down + 1, Levels - 1)],
            Skip = BlockOutChannels[Math.Max(0, down - 1)],
            Layers = resnets,
            Resamples = i < Levels - 1,
            HeadSize = AttentionHeadDim[i],                                          // not reversed, as the peer has it
            Transformers = Transformers(transformers, resnets, "reverse_transformer_layers_per_block"),
        };
    }

    /// <exception cref="PanoptesException">The levels do not fit together, or a value is not supported.</exception>
    internal UNet2DConditionConfig Checked()
    {
        CheckEncoder();
        if (UpBlockTypes.Any(static t => t is null)) throw new PanoptesException("up_block_types has a null; expected the names of blocks.");
        OneOrMany.CheckSides(SampleSize, "sample_size");
        if (UpBlockTypes.Length != Levels) throw new PanoptesException($"block_out_channels has {Levels} levels, up_block_types {UpBlockTypes.Length}; expected as many of each.");
        if (DualCrossAttention) throw new PanoptesException("dual_cross_attention is true, which is not supported; expected false.");
        if (TimeEmbeddingType != "positional") throw new PanoptesException($"time_embedding_type is {TimeEmbeddingType}; expected positional.");
        if (AttentionType is not ("default" or "gated" or "gated-text-image")) throw new PanoptesException($"attention_type is {AttentionType}; expected default, gated or gated-text-image.");
        if (CrossAttentionNorm is not (null or "layer_norm" or "group_norm")) throw new PanoptesException($"cross_attention_norm is {CrossAttentionNorm}; expected layer_norm, group_norm or null.");
        if (Math.Max(InKernel, ConvOutKernel) > 31 || InKernel % 2 == 0 || ConvOutKernel % 2 == 0) throw new PanoptesException($"conv_in_kernel is {InKernel} and conv_out_kernel {ConvOutKernel}; expected odd numbers to 31.");
        ReverseTransformerLayersPerBlock?.Of(Levels, "reverse_transformer_layers_per_block");
        return this;
    }
}

/// <summary>What a UNet is told in one step.</summary>
public sealed record UNetInputs
{
    /// <summary>[b, channels, rows, columns]: the noisy latents</summary>
    public required Tensor Sample { get; init; }

    /// <summary>[] or [1], the same for all, or [b]; whole numbers or not</summary>
    public required Tensor Timestep { get; init; }

    /// <summary>[b, tokens, width]: the text encoder's states</summary>
    public Tensor? Text { get; init; }

    /// <summary>[b, tokens]: 1 (or true) where a token is seen, else 0: -10000 is added to its scores</summary>
    public Tensor? TextMask { get; init; }

    /// <summary>[b] int64, or [b, width] where classes are projected</summary>
    public Tensor? ClassLabels { get; init; }

    /// <summary>[b, width]: added to the time before it is embedded (the guidance scale's embedding, latent consistency)</summary>
    public Tensor? TimestepCondition { get; init; }

    /// <summary>[b, width]: the pooled text of SDXL</summary>
    public Tensor? PooledText { get; init; }

    /// <summary>[b, 6]: SDXL's original height and width, top and left of the crop, and the wanted height and width, in pixels</summary>
    public Tensor? TimeIds { get; init; }

    /// <summary>[b, width]: an image's embedding, where the model takes one</summary>
    public Tensor? ImageEmbedding { get; init; }

    /// <summary>Added to every skip of the downward path: a ControlNet's; with <see cref="MidResidual"/>.</summary>
    public IReadOnlyList<Tensor>? DownResiduals { get; init; }

    /// <summary>Added to the middle's output.</summary>
    public Tensor? MidResidual { get; init; }

    /// <summary>Added inside every level of the downward path: a T2I-Adapter's features.</summary>
    public IReadOnlyList<Tensor>? AdapterFeatures { get; init; }

    /// <summary>What is to be where; null: the fusers of GLIGEN are off.</summary>
    public Grounding? Grounding { get; init; }

    public FreeU? FreeU { get; init; }

    /// <summary>Comes between in every attention; null: nothing does, at no cost.</summary>
    public IAttentionHook? Hook { get; init; }
}

/// <summary>The downward half of a UNet, and what makes its conditions: conv_in, time_embedding, encoder_hid_proj, class_embedding, add_embedding, down_blocks, mid_block.</summary>
public abstract class UNetEncoder : Module
{
    readonly UNetEncoderConfig c;

    private protected UNetEncoder(UNetEncoderConfig config)
    {
        c = config;
        var (width, blocks) = (c.TimeWidth, c.Blocks);
        ConvIn = new(c.InChannels, c.BlockOutChannels[0], c.ConvInKernel, padding: (c.ConvInKernel - 1) / 2);
        TimeEmbedding = new(c.TimeInputs, width, c.ActFn, c.TimePostAct, c.TimeCondition);
        var text = c.CrossAttentionDim[0];
        EncoderHidProj = (c.EncoderHidDimType ?? (c.EncoderHidDim is null ? null : "text_proj")) switch
        {
            null => null,
            "text_proj" => new Linear(Hidden(), text),
            "text_image_proj" => new TextImageProjection(Hidden(), text),
            "image_proj" => new ImageProjection(Hidden(), text),
            var other => throw new PanoptesException($"encoder_hid_dim_type is {other}; expected text_proj, text_image_proj, image_proj or null."),
        };
        ClassEmbedding = c.ClassEmbedType switch
        {
            null => c.NumClassEmbeds is { } classes ? new Embedding(classes, width) : null,
            "timestep" => new TimestepEmbedding(c.TimeInputs, width, c.ClassAct),
            "identity" => null,
            "projection" => new TimestepEmbedding(Projected("class_embed_type projection"), width),
            "simple_projection" => new Linear(Projected("class_embed_type simple_projection"), width),
            var other => throw new PanoptesException($"class_embed_type is {other}; expected timestep, identity, projection, simple_projection or null."),
        };
        AddEmbedding = c.AdditionEmbedType switch
        {
            null => null,
            "text" => new TextTimeEmbedding(c.EncoderHidDim ?? text, width, c.AdditionEmbedTypeNumHeads),
            "text_image" => new TextImageTimeEmbedding(text, width),
            "text_time" => new TimestepEmbedding(Projected("addition_embed_type text_time"), width),
            "image" => new ImageTimeEmbedding(Hidden(), width),
            var other => throw new PanoptesException($"addition_embed_type is {other}; expected text, text_image, text_time, image or null."),
        };
        DownBlocks = new(c.Levels, i => new(blocks, c.Down(i)));
        MidBlock = c.Middle(blocks);

        int Hidden() => UNetEncoderConfig.Needed(c.EncoderHidDim, "encoder_hid_dim", c.EncoderHidDimType ?? c.AdditionEmbedType ?? "text_proj");
        int Projected(string by) => UNetEncoderConfig.Needed(c.ProjectionClassEmbeddingsInputDim, "projection_class_embeddings_input_dim", by);
    }

    public Conv2d ConvIn { get; }

    public TimestepEmbedding TimeEmbedding { get; }

    public Module? EncoderHidProj { get; }

    public Module? ClassEmbedding { get; }

    public Module? AddEmbedding { get; }

    public ModuleList<UNetDown> DownBlocks { get; }

    public UNetMiddle? MidBlock { get; }

    /// <summary>Whether the text goes through <see cref="EncoderHidProj"/> first.</summary>
    private protected virtual bool ProjectsText => true;

    private protected ScalarType Dtype => ConvIn.Weight.Dtype ?? ScalarType.Float32;

    /// <summary>What the blocks are told, but for grounding.</summary>
    /// <exception cref="PanoptesException">A condition that this model needs is missing.</exception>
    private protected UNetCondition Condition(UNetInputs inputs, bool concatenate = false, Activation? timeAct = null)
    {
        var (batch, dtype) = (inputs.Sample.shape[0], Dtype);
        var time = TimeEmbedding.Forward(Waves(inputs.Timestep.reshape(-1).expand(batch)), inputs.TimestepCondition?.to(dtype));
        if (ClassEmbedding is not null || c.ClassEmbedType == "identity")
        {
            var labels = Given(inputs.ClassLabels, "class labels");
            var embedded = ClassEmbedding switch
            {
                Embedding table => table.Forward(labels),
                TimestepEmbedding embedding => embedding.Forward(c.ClassEmbedType == "timestep" ? Waves(labels) : labels.to(dtype)),
                Linear linear => linear.Forward(labels.to(dtype)),
                _ => labels.to(dtype),
            };
            time = concatenate ? cat([time, embedded], -1) : time + embedded;
        }
        if (AddEmbedding is not null) time = time + Added(inputs).to(dtype);
        if (timeAct is { } act) time = act.Apply(time);
        var text = (ProjectsText ? EncoderHidProj : null) switch
        {
            null => inputs.Text?.to(dtype),
            Linear linear => linear.Forward(Given(inputs.Text, "text").to(dtype)),
            TextImageProjection both => both.Forward(Given(inputs.Text, "text").to(dtype), Given(inputs.ImageEmbedding, "image embedding").to(dtype)),
            var image => ((ImageProjection)image).Forward(Given(inputs.ImageEmbedding, "image embedding").to(dtype)),
        };
        return new()
        {
            Time = time,
            ActiveTime = c.ActFn.Apply(time),
            Text = text,
            TextMask = inputs.TextMask is { } mask ? ((1 - mask.to(dtype)) * -10000.0).view(mask.shape[0], 1, 1, mask.shape[1]) : null,
            Hook = inputs.Hook,
            FreeU = inputs.FreeU,
        };

        Tensor Waves(Tensor times) => Timesteps.Sinusoids(times, c.TimeInputs, c.FlipSinToCos, c.FreqShift).to(dtype);
    }

    Tensor Added(UNetInputs inputs)
    {
        switch (AddEmbedding)
        {
            case TextTimeEmbedding text: return text.Forward(Given(inputs.Text, "text").to(Dtype));
            case TextImageTimeEmbedding both: return both.Forward(Given(inputs.PooledText ?? inputs.Text, "pooled text").to(Dtype), Given(inputs.ImageEmbedding, "image embedding").to(Dtype));
            case ImageTimeEmbedding image: return image.Forward(Given(inputs.ImageEmbedding, "image embedding").to(Dtype));
        }
        var (pooled, ids) = (Given(inputs.PooledText, "pooled text"), Given(inputs.TimeIds, "time ids"));
        var waves = Timesteps.Sinusoids(ids.flatten(), UNetEncoderConfig.Needed(c.AdditionTimeEmbedDim, "addition_time_embed_dim", "addition_embed_type text_time"), c.FlipSinToCos, c.FreqShift).view(pooled.shape[0], -1);
        var all = cat([pooled.to(ScalarType.Float32), waves], -1);
        var expected = UNetEncoderConfig.Needed(c.ProjectionClassEmbeddingsInputDim, "projection_class_embeddings_input_dim", "addition_embed_type text_time");
        if (all.shape[1] != expected) throw new PanoptesException($"A pooled text of {pooled.shape[1]} numbers and {ids.shape[1]} time ids make {all.shape[1]} inputs; this model takes {expected}.");
        return ((TimestepEmbedding)AddEmbedding!).Forward(all.to(Dtype));
    }

    private protected Tensor Given(Tensor? value, string name) => value ?? throw new PanoptesException($"This {GetType().Name} is conditioned on its {name}; none was given.");

    /// <exception cref="PanoptesException">The sample has another shape, or the text is missing or has another width.</exception>
    private protected void CheckInputs(UNetInputs inputs)
    {
        var (sample, text) = (inputs.Sample, inputs.Text);
        if (sample.dim() != 4 || sample.shape[1] != c.InChannels)
            throw new PanoptesException($"A sample of [{string.Join(", ", sample.shape)}] was given; expected [batch, {c.InChannels}, rows, columns].");
        if (inputs.Timestep.numel() != 1 && inputs.Timestep.numel() != sample.shape[0])
            throw new PanoptesException($"{inputs.Timestep.numel()} timesteps were given for {sample.shape[0]} samples; expected one, or one each.");
        if (text is null)
        {
            if (!(ProjectsText && EncoderHidProj is ImageProjection) && c.DownBlockTypes.Any(static t => t.StartsWith("CrossAttn", StringComparison.Ordinal))) Given(null, "text");
            return;
        }
        var width = (ProjectsText ? EncoderHidProj : null) switch { null => c.CrossAttentionDim[0], ImageProjection => text.shape[^1], _ => c.EncoderHidDim!.Value };
        if (text.dim() != 3 || text.shape[0] != sample.shape[0] || text.shape[2] != width)
            throw new PanoptesException($"A text of [{string.Join(", ", text.shape)}] was given; expected [{sample.shape[0]}, tokens, {width}].");
    }
}

/// <summary>Predicts the noise (or what else a scheduler takes it for) of latents under a text. Keys as in <see cref="UNetEncoder"/>, and up_blocks, conv_norm_out, conv_out, position_net.</summary>
public sealed class UNet2DConditionModel : UNetEncoder
{
    /// <param name="config">Sizes and kinds of its parts.</param>
    /// <exception cref="PanoptesException">Settings that do not go together.</exception>
    public UNet2DConditionModel(UNet2DConditionConfig config) : base(config.Checked())
    {
        Config = config;
        var blocks = config.Blocks;
        UpBlocks = new(config.Levels, i => new(blocks, config.Up(i), i));
        ConvNormOut = new(config.NormNumGroups, config.BlockOutChannels[0], config.NormEps);
        ConvOut = new(config.BlockOutChannels[0], config.OutChannels, config.ConvOutKernel, padding: (config.ConvOutKernel - 1) / 2);
        PositionNet = config.IsGrounded ? new(config.CrossAttentionDim[0], config.CrossAttentionDim[0], config.AttentionType == "gated-text-image") : null;
        HookedAttention.NameLayers(this);
    }

    [NotAChild]
    public UNet2DConditionConfig Config { get; }

    public ModuleList<UNetUp> UpBlocks { get; }

    public GroupNorm ConvNormOut { get; }

    public Conv2d ConvOut { get; }

    public PositionNet? PositionNet { get; }

    /// <summary>[b, out channels, rows, columns]</summary>
    /// <exception cref="PanoptesException">A condition that this model needs is missing, or something has another shape.</exception>
    public Tensor Forward(UNetInputs inputs) => Forward(inputs, null);

    /// <summary>The same, telling what every block gives: down_blocks.0 …, mid_block, up_blocks.0 …, while the tensor lives.</summary>
    internal Tensor Forward(UNetInputs inputs, Action<string, Tensor>? given)
    {
        CheckInputs(inputs);
        if ((inputs.DownResiduals is null) != (inputs.MidResidual is null)) throw new PanoptesException("Residuals of a ControlNet were given for only one of the downward path and the middle; expected both or none.");
        using var scope = NewDisposeScope();
        var condition = Condition(inputs, Config.ClassEmbeddingsConcat, Config.TimeEmbeddingActFn);
        if (inputs.Grounding is { } grounding)
            condition = condition with { Objects = (PositionNet ?? throw new PanoptesException("Grounding was given to a UNet that has no position net (attention_type is default).")).Forward(grounding) };
        var sample = inputs.Sample.to(Dtype);
        if (Config.CenterInputSample) sample = 2 * sample - 1;
        var x = ConvIn.Forward(sample.ChannelsLast());
        var (skips, adapter) = (new List<Tensor> { x }, new Queue<Tensor>(inputs.AdapterFeatures ?? []));
        for (var i = 0; i < DownBlocks.Count; i++)
        {
            x = DownBlocks[i].Forward(x, condition, skips, adapter.Count > 0 ? adapter.Dequeue().to(Dtype) : null);
            given?.Invoke($"down_blocks.{i}", x);
        }
        var middle = MidBlock?.Forward(x, condition) ?? x.alias();
        given?.Invoke("mid_block", middle);
        // An adapter for SDXL may have one feature more.
        if (adapter.Count > 0 && adapter.Peek().shape.AsSpan().SequenceEqual(middle.shape)) middle = middle + adapter.Dequeue().to(Dtype);
        if (inputs.DownResiduals is { } residuals)
        {
            if (residuals.Count != skips.Count) throw new PanoptesException($"{residuals.Count} residuals were given for the {skips.Count} skips of the downward path; expected as many.");
            for (var i = 0; i < skips.Count; i++)
                using (var skip = skips[i]) skips[i] = skip + residuals[i].to(Dtype);
            middle = middle + inputs.MidResidual!.to(Dtype);
        }
        x = middle;
        for (var i = 0; i < UpBlocks.Count; i++)
        {
            x = UpBlocks[i].Forward(x, condition, skips);
            given?.Invoke($"up_blocks.{i}", x);
        }
        return ConvOut.Forward(ConvNormOut.Forward(x, Config.ActFn)).contiguous().MoveToOuterDisposeScope();
    }
}
