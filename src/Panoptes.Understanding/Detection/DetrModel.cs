using System.Text.Json;
using System.Text.Json.Serialization;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// DETR (Carion et al. 2020, arXiv:2005.12872) with the keys and the config.json of Hugging Face's DetrForObjectDetection. The backbone is a ResNet with the keys of Hugging Face's or of timm's,
// as backbone_config says.

/// <summary>The config ("detr"). The peer's dropout is not applied.</summary>
public sealed record DetrConfig : ModelConfig
{
    /// <summary>The backbone's own config: of model_type "resnet", or "timm_backbone" with the name of a ResNet; null: timm's, by <see cref="Backbone"/>.</summary>
    public JsonElement? BackboneConfig { get; init; }

    /// <summary>timm's name of the backbone in older files.</summary>
    public string? Backbone { get; init; }
    public int NumChannels { get; init; } = 3;
    public int NumQueries { get; init; } = 100;
    public int EncoderLayers { get; init; } = 6;
    public int EncoderFfnDim { get; init; } = 2048;
    public int EncoderAttentionHeads { get; init; } = 8;
    public int DecoderLayers { get; init; } = 6;
    public int DecoderFfnDim { get; init; } = 2048;
    public int DecoderAttentionHeads { get; init; } = 8;
    public Activation ActivationFunction { get; init; } = Activation.Relu;
    public int DModel { get; init; } = 256;

    /// <summary>"sine", or "learned" for maps of at most 50 rows and columns.</summary>
    public string PositionEmbeddingType { get; init; } = "sine";

    /// <summary>Whether the last stage of timm's backbone is dilated instead of halved ("DC5"): its map is a 16th of the image's size.</summary>
    public bool Dilation { get; init; }

    [JsonConverter(typeof(PythonWholeConverter))]
    public double ClassCost { get; init; } = 1;

    [JsonConverter(typeof(PythonWholeConverter))]
    public double BboxCost { get; init; } = 5;

    [JsonConverter(typeof(PythonWholeConverter))]
    public double GiouCost { get; init; } = 2;

    [JsonConverter(typeof(PythonWholeConverter))]
    public double MaskLossCoefficient { get; init; } = 1;

    [JsonConverter(typeof(PythonWholeConverter))]
    public double DiceLossCoefficient { get; init; } = 1;

    [JsonConverter(typeof(PythonWholeConverter))]
    public double BboxLossCoefficient { get; init; } = 5;

    [JsonConverter(typeof(PythonWholeConverter))]
    public double GiouLossCoefficient { get; init; } = 2;

    public double EosCoefficient { get; init; } = 0.1;

    /// <summary>The classes' names by their numbers.</summary>
    [JsonPropertyName("id2label")]
    public IReadOnlyDictionary<string, string>? Id2label { get; init; }

    public int? NumLabels { get; init; }
    public string ModelType { get; init; } = "detr";
    public string[] Architectures { get; init; } = ["DetrForObjectDetection"];

    /// <summary>How many classes there are, "nothing" not among them; 2 where nothing says so, as in the peer.</summary>
    [JsonIgnore]
    public int Classes => NumLabels ?? Id2label?.Count ?? 2;

    /// <summary>The classes' names by index.</summary>
    public IReadOnlyList<string> Labels() => [.. Enumerable.Range(0, Classes).Select(i => Id2label?.GetValueOrDefault(FormattableString.Invariant($"{i}")) ?? FormattableString.Invariant($"LABEL_{i}"))];

    /// <summary>What matching and loss weigh.</summary>
    [JsonIgnore]
    public DetrLossOptions Loss => new()
    {
        ClassCost = ClassCost,
        BboxCost = BboxCost,
        GiouCost = GiouCost,
        EosCoefficient = EosCoefficient,
        BboxLossCoefficient = BboxLossCoefficient,
        GiouLossCoefficient = GiouLossCoefficient,
        MaskLossCoefficient = MaskLossCoefficient,
        DiceLossCoefficient = DiceLossCoefficient,
    };

    /// <summary>The backbone that the fields describe.</summary>
    internal DetrBackbone BuildBackbone()
    {
        if (BackboneConfig is not { ValueKind: JsonValueKind.Object } json) return new TimmResNet(Backbone ?? "resnet50", NumChannels, Dilation);
        var type = json.TryGetProperty("model_type", out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
        // What dilates is the backbone's own field where it has a config.
        var stride = json.TryGetProperty("output_stride", out var written) && written.ValueKind == JsonValueKind.Number && written.TryGetInt32(out var number) ? number : 32;
        if (stride is not (16 or 32)) throw new PanoptesException($"backbone_config.output_stride is {stride}; expected 16 or 32.");
        if (type == "resnet" && Dilation) throw new PanoptesException("dilation is true; expected false with a backbone_config of model_type \"resnet\", which the peer does not dilate.");
        return type switch
        {
            "resnet" => new ResNetBackbone(Parse<ResNetConfig>(json.GetRawText(), "backbone_config")),
            "timm_backbone" => new TimmResNet(json.TryGetProperty("backbone", out var name) && name.ValueKind == JsonValueKind.String ? name.GetString()! : "resnet50", NumChannels, stride == 16),
            _ => throw new PanoptesException($"backbone_config.model_type is \"{type}\"; expected \"resnet\" or \"timm_backbone\"."),
        };
    }
}

/// <summary>Writes 1 as 1, not as 1.0: DETR's Python config takes whole numbers alone where it declares them.</summary>
sealed class PythonWholeConverter : JsonConverter<double>
{
    public override double Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.GetDouble();

    public override void Write(Utf8JsonWriter writer, double value, JsonSerializerOptions options)
    {
        if (value == Math.Floor(value) && Math.Abs(value) < 1e15) writer.WriteNumberValue((long)value);
        else writer.WriteNumberValue(value);
    }
}

/// <summary>A ResNet's own config ("resnet").</summary>
public sealed record ResNetConfig : ModelConfig
{
    public int NumChannels { get; init; } = 3;
    public int EmbeddingSize { get; init; } = 64;
    public int[] HiddenSizes { get; init; } = [256, 512, 1024, 2048];
    public int[] Depths { get; init; } = [3, 4, 6, 3];

    /// <summary>"bottleneck" or "basic".</summary>
    public string LayerType { get; init; } = "bottleneck";
    public Activation HiddenAct { get; init; } = Activation.Relu;
    public bool DownsampleInFirstStage { get; init; }

    /// <summary>Whether a bottleneck halves in its first convolution instead of its second.</summary>
    public bool DownsampleInBottleneck { get; init; }
    public string ModelType { get; init; } = "resnet";
}

/// <summary>What all images go through first: from pixels to a map of a 32nd of their size.</summary>
public abstract class DetrBackbone : Module
{
    /// <summary>The channels of every stage's map; the last is what DETR looks at.</summary>
    public abstract IReadOnlyList<int> Channels { get; }

    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="kept">Where every stage's map goes, for the caller's scope; null: nowhere.</param>
    /// <returns>[b, the last of <see cref="Channels"/>, ⌈height / 32⌉, ⌈width / 32⌉] (a 16th where the last stage is dilated)</returns>
    public abstract Tensor Forward(Tensor pixels, List<Tensor>? kept = null);

    /// <summary>Channels last, as oneDNN computes convolutions: what follows keeps that order.</summary>
    private protected static Tensor ChannelsLast(Tensor pixels, Conv2d first) => pixels.to(first.Weight.Value.dtype).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2);

    private protected static Tensor Pool(Tensor x) => nn.functional.max_pool2d(x, 3, 2, 1);
}

/// <summary>A batch norm that is not trained any more: a scale and a shift a channel. Keys: weight, bias, running_mean, running_var.</summary>
public sealed class FrozenBatchNorm(int channels) : Module
{
    public Parameter Weight { get; } = new([channels], Init.Ones) { Trainable = false };

    public Parameter Bias { get; } = new([channels], Init.Zeros) { Trainable = false };

    public Parameter RunningMean { get; } = new([channels], Init.Zeros) { Trainable = false };

    public Parameter RunningVar { get; } = new([channels], Init.Ones) { Trainable = false };

    /// <summary>The convolution before it with its scale in the weights: no pass of its own over the map.</summary>
    internal Tensor After(Conv2d convolution, Tensor x, int stride, int padding, int dilation = 1)
    {
        using var scope = NewDisposeScope();
        var scale = Weight.Value * (RunningVar.Value + 1e-5).rsqrt();
        return Conv2d.Apply(x, convolution.Weight.Value * scale.view(-1, 1, 1, 1), Bias.Value - RunningMean.Value * scale, stride, padding, dilation: dilation).MoveToOuterDisposeScope();
    }
}

/// <summary>A convolution, its norm and an activation. Keys: convolution, normalization.</summary>
public sealed class ResNetConvLayer(int inChannels, int outChannels, int kernel, int stride, Activation? activation) : Module
{
    public Conv2d Convolution { get; } = new(inChannels, outChannels, kernel, stride, kernel / 2, bias: false, ResNetBackbone.Kaiming);

    public FrozenBatchNorm Normalization { get; } = new(outChannels);

    internal Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var y = Normalization.After(Convolution, x, stride, kernel / 2);
        return (activation is { } f ? f.Apply(y) : y).MoveToOuterDisposeScope();
    }
}

/// <summary>A residual block. Keys: layer.N, shortcut.</summary>
public sealed class ResNetLayer : Module
{
    readonly Activation activation;

    internal ResNetLayer(ResNetConfig c, int inChannels, int outChannels, int stride)
    {
        activation = c.HiddenAct;
        if (inChannels != outChannels || stride != 1) Shortcut = new(inChannels, outChannels, 1, stride, null);
        var narrow = outChannels / 4;
        // A basic block's inner activation is always ReLU in the peer, as is a bottleneck's.
        Layer = c.LayerType == "basic"
            ? new([new(inChannels, outChannels, 3, stride, Activation.Relu), new(outChannels, outChannels, 3, 1, null)])
            : new([new(inChannels, narrow, 1, c.DownsampleInBottleneck ? stride : 1, Activation.Relu), new(narrow, narrow, 3, c.DownsampleInBottleneck ? 1 : stride, Activation.Relu), new(narrow, outChannels, 1, 1, null)]);
    }

    public ResNetConvLayer? Shortcut { get; }

    public ModuleList<ResNetConvLayer> Layer { get; }

    internal Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var y = x;
        foreach (var layer in Layer) y = layer.Forward(y);
        return activation.Apply(y + (Shortcut?.Forward(x) ?? x)).MoveToOuterDisposeScope();
    }
}

/// <summary>Blocks of one size. Keys: layers.N.</summary>
public sealed class ResNetStage : Module
{
    internal ResNetStage(ResNetConfig c, int inChannels, int outChannels, int depth, int stride) =>
        Layers = new(depth, i => i == 0 ? new ResNetLayer(c, inChannels, outChannels, stride) : new ResNetLayer(c, outChannels, outChannels, 1));

    public ModuleList<ResNetLayer> Layers { get; }
}

/// <summary>The stages. Keys: stages.N.</summary>
public sealed class ResNetEncoder(ResNetConfig c) : Module
{
    public ModuleList<ResNetStage> Stages { get; } = new(c.Depths.Length, i => new ResNetStage(c, i == 0 ? c.EmbeddingSize : c.HiddenSizes[i - 1], c.HiddenSizes[i], c.Depths[i], i > 0 || c.DownsampleInFirstStage ? 2 : 1));
}

/// <summary>A ResNet (He et al. 2016, arXiv:1512.03385) with Hugging Face's keys: embedder.embedder, encoder.stages.N.layers.N.</summary>
public sealed class ResNetBackbone : DetrBackbone
{
    /// <summary>He's normal by what goes out, as in the peer.</summary>
    internal static Initializer Kaiming { get; } = static (t, g) => t.normal_(0, Math.Sqrt(2.0 / (t.shape[0] * t.shape[2] * t.shape[3])), g);

    internal ResNetBackbone(ResNetConfig c)
    {
        if (c.LayerType is not ("basic" or "bottleneck")) throw new PanoptesException($"backbone_config.layer_type is \"{c.LayerType}\"; expected \"basic\" or \"bottleneck\".");
        if (c.Depths.Length is 0 or > 8 || c.Depths.Length != c.HiddenSizes.Length) throw new PanoptesException($"backbone_config.depths has {c.Depths.Length} stages and hidden_sizes {c.HiddenSizes.Length}; expected as many, 1 to 8.");
        Embedder = new(c.NumChannels, c.EmbeddingSize, 7, 2, c.HiddenAct);
        Encoder = new(c);
        Channels = c.HiddenSizes;
    }

    public override IReadOnlyList<int> Channels { get; }

    [Key("embedder.embedder")]
    public ResNetConvLayer Embedder { get; }

    public ResNetEncoder Encoder { get; }

    public override Tensor Forward(Tensor pixels, List<Tensor>? kept = null)
    {
        using var scope = NewDisposeScope();
        var x = Pool(Embedder.Forward(ChannelsLast(pixels, Embedder.Convolution)));
        foreach (var stage in Encoder.Stages)
        {
            x = BlockStack.Forward(stage.Layers, x, static (layer, x, _, _) => layer.Forward(x), checkpointed: ActivationsCheckpointed);
            kept?.Add(x.alias().MoveToOuterDisposeScope());
        }
        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>A residual block with timm's keys: conv1, bn1, conv2, bn2, conv3, bn3 (not where it is basic), downsample.0, downsample.1.</summary>
public sealed class TimmResNetBlock : Module
{
    readonly int stride, firstDilation, dilation;

    /// <param name="firstDilation">Of the convolution that halves, or would.</param>
    /// <param name="dilation">Of a basic block's second convolution.</param>
    internal TimmResNetBlock(int inChannels, int planes, int stride, bool basic, int firstDilation, int dilation)
    {
        (this.stride, this.firstDilation, this.dilation) = (stride, firstDilation, dilation);
        var outChannels = basic ? planes : 4 * planes;
        Conv1 = new(inChannels, planes, basic ? 3 : 1, bias: false, initializer: ResNetBackbone.Kaiming);
        Bn1 = new(planes);
        Conv2 = new(planes, planes, 3, bias: false, initializer: ResNetBackbone.Kaiming);
        Bn2 = new(planes);
        if (!basic) (Conv3, Bn3) = (new(planes, outChannels, 1, bias: false, initializer: ResNetBackbone.Kaiming), new(outChannels));
        if (inChannels != outChannels || stride != 1) (DownsampleConv, DownsampleNorm) = (new(inChannels, outChannels, 1, bias: false, initializer: ResNetBackbone.Kaiming), new(outChannels));
    }

    public Conv2d Conv1 { get; }

    public FrozenBatchNorm Bn1 { get; }

    public Conv2d Conv2 { get; }

    public FrozenBatchNorm Bn2 { get; }

    public Conv2d? Conv3 { get; }

    public FrozenBatchNorm? Bn3 { get; }

    [Key("downsample.0")]
    public Conv2d? DownsampleConv { get; }

    [Key("downsample.1")]
    public FrozenBatchNorm? DownsampleNorm { get; }

    internal Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        // A bottleneck halves in its 3x3 convolution, a basic block in its first.
        var y = nn.functional.relu(Conv3 is null ? Bn1.After(Conv1, x, stride, firstDilation, firstDilation) : Bn1.After(Conv1, x, 1, 0));
        y = Conv3 is null ? Bn2.After(Conv2, y, 1, dilation, dilation) : Bn2.After(Conv2, y, stride, firstDilation, firstDilation);
        if (Conv3 is not null) y = Bn3!.After(Conv3, nn.functional.relu(y), 1, 0);
        return nn.functional.relu(y + (DownsampleConv is null ? x : DownsampleNorm!.After(DownsampleConv, x, stride, 0))).MoveToOuterDisposeScope();
    }
}

/// <summary>A ResNet with timm's keys: conv1, bn1, layer1 to layer4.</summary>
public sealed class TimmResNet : DetrBackbone
{
    static readonly (string Name, bool Basic, int[] Depths)[] Known =
    [
        ("resnet18", true, [2, 2, 2, 2]), ("resnet34", true, [3, 4, 6, 3]), ("resnet50", false, [3, 4, 6, 3]), ("resnet101", false, [3, 4, 23, 3]), ("resnet152", false, [3, 8, 36, 3]),
    ];

    /// <param name="dilated">Whether the last stage sees twice as far instead of halving.</param>
    internal TimmResNet(string name, int channels, bool dilated)
    {
        var (_, basic, depths) = Known.FirstOrDefault(k => k.Name == name) is { Name: not null } found ? found
            : throw new PanoptesException($"backbone is \"{name}\"; expected one of {string.Join(", ", Known.Select(static k => k.Name))}.");
        Conv1 = new(channels, 64, 7, bias: false, initializer: ResNetBackbone.Kaiming);
        Layer1 = Stage(64, 0);
        Layer2 = Stage(128, 1);
        Layer3 = Stage(256, 2);
        Layer4 = Stage(512, 3);
        Channels = [Out(64), Out(128), Out(256), Out(512)];

        ModuleList<TimmResNetBlock> Stage(int planes, int index)
        {
            // The block that would have halved does not see further yet.
            var dilation = dilated && index == 3 ? 2 : 1;
            return new(depths[index], i => i > 0 ? new TimmResNetBlock(Out(planes), planes, 1, basic, dilation, dilation)
                : new TimmResNetBlock(index == 0 ? 64 : Out(planes / 2), planes, index == 0 || dilation > 1 ? 1 : 2, basic, 1, dilation));
        }

        int Out(int planes) => basic ? planes : 4 * planes;
    }

    public override IReadOnlyList<int> Channels { get; }

    public Conv2d Conv1 { get; }

    public FrozenBatchNorm Bn1 { get; } = new(64);

    public ModuleList<TimmResNetBlock> Layer1 { get; }

    public ModuleList<TimmResNetBlock> Layer2 { get; }

    public ModuleList<TimmResNetBlock> Layer3 { get; }

    public ModuleList<TimmResNetBlock> Layer4 { get; }

    public override Tensor Forward(Tensor pixels, List<Tensor>? kept = null)
    {
        using var scope = NewDisposeScope();
        var x = Pool(nn.functional.relu(Bn1.After(Conv1, ChannelsLast(pixels, Conv1), 2, 3)));
        foreach (var stage in (ReadOnlySpan<ModuleList<TimmResNetBlock>>)[Layer1, Layer2, Layer3, Layer4])
        {
            x = BlockStack.Forward(stage, x, static (block, x, _, _) => block.Forward(x), checkpointed: ActivationsCheckpointed);
            kept?.Add(x.alias().MoveToOuterDisposeScope());
        }
        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>Attention whose places are added to what asks and what is asked, not to what is answered. Keys: k_proj, v_proj, q_proj, out_proj.</summary>
public sealed class DetrAttention(int width, int heads) : Module
{
    public Linear KProj { get; } = new(Attention.Divisible(width, heads), width, initializer: Init.XavierUniform);

    public Linear VProj { get; } = new(width, width, initializer: Init.XavierUniform);

    public Linear QProj { get; } = new(width, width, initializer: Init.XavierUniform);

    public Linear OutProj { get; } = new(width, width, initializer: Init.XavierUniform);

    /// <param name="queries">[b, queries, width] with their places</param>
    /// <param name="keys">[b, keys, width] with their places</param>
    /// <param name="values">[b, keys, width] without</param>
    /// <param name="mask">As in <see cref="Attention.Apply"/>.</param>
    internal Tensor Forward(Tensor queries, Tensor keys, Tensor values, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        var seen = Attention.Apply(Split(QProj, queries), Split(KProj, keys), Split(VProj, values), mask);
        return OutProj.Forward(Attention.MergeHeads(seen)).MoveToOuterDisposeScope();

        Tensor Split(Linear projection, Tensor x) => Attention.SplitHeads(projection.Forward(x), heads);
    }
}

/// <summary>A block over the image's places, normalized after each branch. Keys: self_attn, self_attn_layer_norm, fc1, fc2, final_layer_norm.</summary>
public sealed class DetrEncoderLayer(DetrConfig c) : Module
{
    public DetrAttention SelfAttn { get; } = new(c.DModel, c.EncoderAttentionHeads);

    public LayerNorm SelfAttnLayerNorm { get; } = new(c.DModel);

    public Linear Fc1 { get; } = new(c.DModel, c.EncoderFfnDim, initializer: Init.XavierUniform);

    public Linear Fc2 { get; } = new(c.EncoderFfnDim, c.DModel, initializer: Init.XavierUniform);

    public LayerNorm FinalLayerNorm { get; } = new(c.DModel);

    internal Tensor Forward(Tensor x, Tensor places, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        var placed = x + places;
        x = SelfAttnLayerNorm.Forward(x + SelfAttn.Forward(placed, placed, x, mask));
        return FinalLayerNorm.Forward(x + Mlp.Apply(Fc1, Fc2, c.ActivationFunction, x)).MoveToOuterDisposeScope();
    }
}

/// <summary>The blocks. Keys: layers.N.</summary>
public sealed class DetrEncoder(DetrConfig c) : Module
{
    public ModuleList<DetrEncoderLayer> Layers { get; } = new(c.EncoderLayers, _ => new DetrEncoderLayer(c));
}

/// <summary>A block over the queries, which see each other and then the image. Keys: self_attn, self_attn_layer_norm, encoder_attn, encoder_attn_layer_norm, fc1, fc2, final_layer_norm.</summary>
public sealed class DetrDecoderLayer(DetrConfig c) : Module
{
    public DetrAttention SelfAttn { get; } = new(c.DModel, c.DecoderAttentionHeads);

    public LayerNorm SelfAttnLayerNorm { get; } = new(c.DModel);

    public DetrAttention EncoderAttn { get; } = new(c.DModel, c.DecoderAttentionHeads);

    public LayerNorm EncoderAttnLayerNorm { get; } = new(c.DModel);

    public Linear Fc1 { get; } = new(c.DModel, c.DecoderFfnDim, initializer: Init.XavierUniform);

    public Linear Fc2 { get; } = new(c.DecoderFfnDim, c.DModel, initializer: Init.XavierUniform);

    public LayerNorm FinalLayerNorm { get; } = new(c.DModel);

    /// <param name="x">[b, queries, width]</param>
    /// <param name="own">[queries, width]: the queries' learned places.</param>
    /// <param name="image">[b, places, width]</param>
    /// <param name="placed">The same with their places.</param>
    /// <param name="mask">Of the image's places.</param>
    internal Tensor Forward(Tensor x, Tensor own, Tensor image, Tensor placed, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        var asking = x + own;
        x = SelfAttnLayerNorm.Forward(x + SelfAttn.Forward(asking, asking, x, null));
        x = EncoderAttnLayerNorm.Forward(x + EncoderAttn.Forward(x + own, placed, image, mask));
        return FinalLayerNorm.Forward(x + Mlp.Apply(Fc1, Fc2, c.ActivationFunction, x)).MoveToOuterDisposeScope();
    }
}

/// <summary>The blocks and a norm after each that is looked at. Keys: layers.N, layernorm.</summary>
public sealed class DetrDecoder(DetrConfig c) : Module
{
    public ModuleList<DetrDecoderLayer> Layers { get; } = new(c.DecoderLayers, _ => new DetrDecoderLayer(c));

    public LayerNorm Layernorm { get; } = new(c.DModel);
}

/// <summary>Places that are learned. Keys: row_embeddings, column_embeddings.</summary>
public sealed class DetrLearnedPositions(int size) : Module
{
    const int Most = 50;

    public Embedding RowEmbeddings { get; } = new(Most, size, Init.Uniform(1));

    public Embedding ColumnEmbeddings { get; } = new(Most, size, Init.Uniform(1));

    /// <returns>[rows · columns, 2 size], the column's half first</returns>
    /// <exception cref="PanoptesException">More rows or columns than there are.</exception>
    internal Tensor Of(long rows, long columns)
    {
        if (rows > Most || columns > Most) throw new PanoptesException($"The image's map has {rows} x {columns} places; a model with learned positions takes at most {Most} x {Most}.");
        using var scope = NewDisposeScope();
        var (y, x) = (RowEmbeddings.Weight.Value.narrow(0, 0, rows).unsqueeze(1), ColumnEmbeddings.Weight.Value.narrow(0, 0, columns).unsqueeze(0));
        return cat([x.expand(rows, -1, -1), y.expand(-1, columns, -1)], -1).flatten(0, 1).MoveToOuterDisposeScope();
    }
}

/// <summary>What a <see cref="DetrModel"/> sees.</summary>
/// <param name="Queries">Every decoder layer's [b, queries, width] after the norm.</param>
/// <param name="Image">The encoder's output, [b, places, width].</param>
/// <param name="Map">The backbone's map as the encoder is given it, [b, width, rows, columns].</param>
/// <param name="Real">Which places are of the image, [b, rows, columns] bool.</param>
sealed record DetrFeatures(IReadOnlyList<Tensor> Queries, Tensor Image, Tensor Map, Tensor Real);

/// <summary>Backbone, encoder and decoder. Keys: backbone.conv_encoder.model, position_embedding where it is learned, query_position_embeddings, input_projection, encoder, decoder.</summary>
public sealed class DetrModel : Module
{
    readonly DetrConfig c;

    public DetrModel(DetrConfig config)
    {
        c = config;
        if (c.PositionEmbeddingType is not ("sine" or "learned")) throw new PanoptesException($"position_embedding_type is \"{c.PositionEmbeddingType}\"; expected \"sine\" or \"learned\".");
        if (c.DModel % 4 != 0) throw new PanoptesException($"d_model is {c.DModel}; expected a multiple of 4.");
        Backbone = c.BuildBackbone();
        if (c.PositionEmbeddingType == "learned") PositionEmbedding = new(c.DModel / 2);
        InputProjection = new(Backbone.Channels[^1], c.DModel, 1);
        QueryPositionEmbeddings = new(c.NumQueries, c.DModel);
        (Encoder, Decoder) = (new(c), new(c));
    }

    [Key("backbone.conv_encoder.model")]
    public DetrBackbone Backbone { get; }

    public DetrLearnedPositions? PositionEmbedding { get; }

    public Embedding QueryPositionEmbeddings { get; }

    public Conv2d InputProjection { get; }

    public DetrEncoder Encoder { get; }

    public DetrDecoder Decoder { get; }

    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="mask">[b, height, width], false where an image is filled up; or null</param>
    /// <param name="kept">As in <see cref="DetrBackbone.Forward"/>.</param>
    internal DetrFeatures Forward(Tensor pixels, Tensor? mask, List<Tensor>? kept = null)
    {
        using var scope = NewDisposeScope();
        var map = InputProjection.Forward(Backbone.Forward(pixels, kept));
        for (var i = 0; i < kept?.Count; i++) kept[i].MoveToOuterDisposeScope();
        var real = SinePositions.Shrink(mask, pixels, map.shape[2], map.shape[3]);
        var places = PositionEmbedding is { } learned ? learned.Of(map.shape[2], map.shape[3]).unsqueeze(0).expand(pixels.shape[0], -1, -1) : SinePositions.Of(real, c.DModel / 2, 10000).to(map.dtype);   // [b, places, width]
        var seen = KeyMask.Of(real.flatten(1));
        var image = map.flatten(2).transpose(1, 2);
        for (var i = 0; i < Encoder.Layers.Count; i++)
        {
            var layer = Encoder.Layers[i];
            image = ActivationsCheckpointed ? ActivationCheckpoint.Run(layer, (x, mask, places) => layer.Forward(x, places!, mask), image, seen, places) : layer.Forward(image, places, seen);
        }
        var (placed, own) = (image + places, QueryPositionEmbeddings.Weight.Value);
        var (x, queries) = (zeros_like(own).unsqueeze(0).expand(pixels.shape[0], -1, -1), new List<Tensor>());
        foreach (var layer in Decoder.Layers)
        {
            x = layer.Forward(x, own, image, placed, seen);
            queries.Add(Decoder.Layernorm.Forward(x).MoveToOuterDisposeScope());
        }
        return new(queries, image.MoveToOuterDisposeScope(), map.MoveToOuterDisposeScope(), real.MoveToOuterDisposeScope());
    }
}

/// <summary>Linear layers with ReLU between. Keys: layers.N.</summary>
public sealed class MlpHead(int width, int hidden, int outputs, int depth, Initializer? last = null) : Module
{
    public ModuleList<Linear> Layers { get; } = new(depth, i => new Linear(i == 0 ? width : hidden, i == depth - 1 ? outputs : hidden, initializer: i == depth - 1 ? last : null));

    internal Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        for (var i = 0; i < Layers.Count; i++) x = Layers[i].Forward(x, i < Layers.Count - 1 ? Activation.Relu : null);
        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>What <see cref="DetrForObjectDetection"/> gives.</summary>
/// <param name="Layers">Every decoder layer's logits [b, queries, classes + 1] and boxes [b, queries, 4] (center x, center y, width, height as fractions of each image itself, without what it was filled up with): what is trained. The last is the answer.</param>
/// <param name="LastHiddenState">[b, queries, width]</param>
/// <param name="EncoderLastHiddenState">[b, places, width]</param>
public sealed record DetrOutput(IReadOnlyList<DetectionPrediction> Layers, Tensor LastHiddenState, Tensor EncoderLastHiddenState)
{
    public Tensor Logits => Layers[^1].Logits;

    public Tensor Boxes => Layers[^1].Boxes;
}

/// <summary>DETR. Keys: model, class_labels_classifier, bbox_predictor.</summary>
public sealed class DetrForObjectDetection(DetrConfig config) : Module
{
    public DetrConfig Config { get; } = config;

    public DetrModel Model { get; } = new(config);

    public Linear ClassLabelsClassifier { get; } = new(config.DModel, config.Classes + 1);

    public MlpHead BboxPredictor { get; } = new(config.DModel, config.DModel, 4, 3);

    /// <param name="pixels">[b, channels, height, width]; images of several sizes are filled up with zeros at the right and bottom.</param>
    /// <param name="mask">[b, height, width], false (or 0) where an image is filled up; null: nowhere.</param>
    /// <param name="allLayers">Whether every decoder layer is asked for its prediction, as training does, or the last alone.</param>
    public DetrOutput Forward(Tensor pixels, Tensor? mask = null, bool allLayers = false)
    {
        using var scope = NewDisposeScope();
        var seen = Model.Forward(pixels, mask);
        DetectionPrediction[] layers = [.. seen.Queries.Skip(allLayers ? 0 : seen.Queries.Count - 1).Select(Predict)];
        foreach (var (logits, boxes, _) in layers) (_, _) = (logits.MoveToOuterDisposeScope(), boxes.MoveToOuterDisposeScope());
        return new(layers, seen.Queries[^1].MoveToOuterDisposeScope(), seen.Image.MoveToOuterDisposeScope());
    }

    /// <summary>What queries say of their things.</summary>
    internal DetectionPrediction Predict(Tensor queries)
    {
        using var scope = NewDisposeScope();
        return new(ClassLabelsClassifier.Forward(queries).MoveToOuterDisposeScope(), BboxPredictor.Forward(queries).to(ScalarType.Float32).sigmoid().MoveToOuterDisposeScope());
    }

    /// <summary>The loss of all decoder layers, a scalar.</summary>
    /// <param name="targets">One an image.</param>
    /// <inheritdoc cref="Forward"/>
    public Tensor Loss(Tensor pixels, IReadOnlyList<DetectionTarget> targets, Tensor? mask = null)
    {
        using var scope = NewDisposeScope();
        return DetrLoss.Total(Forward(pixels, mask, allLayers: true).Layers, targets, Config.Loss).MoveToOuterDisposeScope();
    }
}
