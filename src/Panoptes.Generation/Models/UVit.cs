using System.Text.Json.Serialization;
using Panoptes.Native;
using Panoptes.Nn;

namespace Panoptes.Generation;

// The masked-token transformer of aMUSEd (Patil et al. 2024, arXiv:2401.01808), after MUSE (Chang et al. 2023, arXiv:2301.00704), with the keys and the config.json of diffusers' UVit2DModel.

/// <summary>Sizes under diffusers' names. Its dropout is not applied.</summary>
public sealed record UVitConfig : ModelConfig
{
    public int HiddenSize { get; init; } = 1024;
    public bool UseBias { get; init; }

    /// <summary>The width of the text's pooled features.</summary>
    public int CondEmbedDim { get; init; } = 768;

    /// <summary>How many sines and cosines each of the image's numbers becomes.</summary>
    public int MicroCondEncodeDim { get; init; } = 256;

    /// <summary>How many those of all numbers are together.</summary>
    public int MicroCondEmbedDim { get; init; } = 1280;

    /// <summary>The width of the text's tokens.</summary>
    public int EncoderHiddenSize { get; init; } = 768;

    /// <summary>The codes, the mask and what rounds their number.</summary>
    public int VocabSize { get; init; } = 8256;
    public int CodebookSize { get; init; } = 8192;

    /// <summary>The width of the codes' table.</summary>
    public int InChannels { get; init; } = 768;
    public int BlockOutChannels { get; init; } = 768;
    public int NumResBlocks { get; init; } = 3;

    /// <summary>Whether four places become one before the transformer.</summary>
    public bool Downsample { get; init; }

    /// <summary>Whether one place becomes four after it.</summary>
    public bool Upsample { get; init; }
    public int BlockNumHeads { get; init; } = 12;
    public int NumHiddenLayers { get; init; } = 22;
    public int NumAttentionHeads { get; init; } = 16;
    public int IntermediateSize { get; init; } = 2816;
    public double LayerNormEps { get; init; } = 1e-6;
    public bool LnElementwiseAffine { get; init; } = true;

    /// <summary>The side of the maps that it was made for; it takes others as well.</summary>
    public int SampleSize { get; init; } = 64;

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "UVit2DModel";

    [JsonIgnore]
    public override string WeightsName => "diffusion_pytorch_model";

    /// <exception cref="PanoptesException">Sizes that no model has, or that do not fit together.</exception>
    internal UVitConfig Checked()
    {
        Attention.Divisible(HiddenSize, NumAttentionHeads);
        Attention.Divisible(BlockOutChannels, BlockNumHeads);
        if (Math.Max(HiddenSize, Math.Max(BlockOutChannels, InChannels)) > 1 << 15 || Math.Max(IntermediateSize, MicroCondEmbedDim) > 1 << 18 || NumResBlocks > 1000)
            throw new PanoptesException($"hidden_size is {HiddenSize}, block_out_channels {BlockOutChannels}, in_channels {InChannels}, intermediate_size {IntermediateSize}, num_res_blocks {NumResBlocks}; expected sizes that a model has.");
        return this;
    }
}

/// <summary>A norm that the condition scales and shifts. Keys: norm, linear.</summary>
public sealed class UVitNorm(UVitConfig c, bool centered) : Module
{
    [Key("")]
    public Modulation Modulation { get; } = new(c.HiddenSize, 2, bias: c.UseBias);

    [Key("norm")]
    public RmsNorm? Rms { get; } = centered ? null : new(c.HiddenSize, c.LayerNormEps, c.LnElementwiseAffine);

    [Key("norm.weight")]
    public Parameter? Weight { get; } = centered && c.LnElementwiseAffine ? new([c.HiddenSize], Init.Ones) : null;

    [Key("norm.bias")]
    public Parameter? Bias { get; } = centered && c.LnElementwiseAffine && c.UseBias ? new([c.HiddenSize], Init.Zeros) : null;

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="condition">[b, width] after SiLU</param>
    internal Tensor Forward(Tensor x, Tensor condition)
    {
        using var scope = NewDisposeScope();
        var m = Modulation.Forward(condition);                                           // scale, then shift
        return Adaptive.Modulate(Rms?.Forward(x) ?? nn.functional.layer_norm(x, [c.HiddenSize], Weight?.Value, Bias?.Value, c.LayerNormEps), m[1], m[0]).MoveToOuterDisposeScope();
    }
}

/// <summary>Attention among the tokens, to the text, and feed-forward layers. Keys: norm1, attn1, norm2, attn2, norm3, ff.</summary>
public sealed class UVitLayer(UVitConfig c) : Module
{
    public UVitNorm Norm1 { get; } = new(c, centered: false);

    public CrossAttention Attn1 { get; } = new(c.HiddenSize, c.NumAttentionHeads, c.HiddenSize / c.NumAttentionHeads, null, c.UseBias, c.UseBias);

    public UVitNorm Norm2 { get; } = new(c, centered: false);

    public CrossAttention Attn2 { get; } = new(c.HiddenSize, c.NumAttentionHeads, c.HiddenSize / c.NumAttentionHeads, c.HiddenSize, c.UseBias, c.UseBias);

    public UVitNorm Norm3 { get; } = new(c, centered: true);

    public FeedForward Ff { get; } = new(c.HiddenSize, "geglu", c.IntermediateSize, c.UseBias);

    internal Tensor Forward(Tensor x, Tensor text, Tensor condition, IAttentionHook? hook, (long, long) map)
    {
        using var scope = NewDisposeScope();
        x = x.add(Attn1.Forward(Norm1.Forward(x, condition), hook: hook, map: map));
        x = x.add(Attn2.Forward(Norm2.Forward(x, condition), text, hook: hook, map: map));
        return x.add(Ff.Forward(Norm3.Forward(x, condition))).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// A convolution over each channel, two layers over all with a global response norm (Woo et al. 2023, arXiv:2301.00808) between, then scaled and shifted by the condition. Keys: depthwise, norm,
/// channelwise_linear_1, channelwise_norm.gamma, channelwise_norm.beta, channelwise_linear_2, cond_embeds_mapper.
/// </summary>
public sealed class UVitResBlock(UVitConfig c) : Module
{
    public Conv2d Depthwise { get; } = new(c.BlockOutChannels, c.BlockOutChannels, 3, padding: 1, bias: c.UseBias, groups: c.BlockOutChannels);

    public RmsNorm Norm { get; } = new(c.BlockOutChannels, c.LayerNormEps, c.LnElementwiseAffine);

    [Key("channelwise_linear_1")]
    public Linear First { get; } = new(c.BlockOutChannels, 4 * c.BlockOutChannels, c.UseBias);

    [Key("channelwise_norm.gamma")]
    public Parameter Gamma { get; } = new([1, 1, 1, 4 * c.BlockOutChannels], Init.Zeros);

    [Key("channelwise_norm.beta")]
    public Parameter Beta { get; } = new([1, 1, 1, 4 * c.BlockOutChannels], Init.Zeros);

    [Key("channelwise_linear_2")]
    public Linear Second { get; } = new(4 * c.BlockOutChannels, c.BlockOutChannels, c.UseBias);

    public Linear CondEmbedsMapper { get; } = new(c.HiddenSize, 2 * c.BlockOutChannels, c.UseBias);

    /// <param name="x">[b, rows, columns, channels]</param>
    /// <param name="condition">[b, hidden] after SiLU</param>
    internal Tensor Forward(Tensor x, Tensor condition)
    {
        using var scope = NewDisposeScope();
        var wide = First.Forward(Norm.Forward(UVit.Over(Depthwise, x)), Activation.Gelu);
        var energy = wide.square().sum([1, 2], keepdim: true).sqrt();                    // of a channel over all places
        var response = wide * (energy / (energy.mean([-1], keepdim: true) + 1e-6));
        x = x + Second.Forward(Gamma.Value * response + Beta.Value + wide);
        var m = CondEmbedsMapper.Forward(condition).view(-1, 1, 1, 2 * c.BlockOutChannels).chunk(2, -1);       // scale, then shift
        return Adaptive.Modulate(x, m[1], m[0]).MoveToOuterDisposeScope();
    }
}

/// <summary>Attention to the text, twice. Keys: kv_mapper, norm1, attn1, norm2, attn2.</summary>
public sealed class UVitReader(UVitConfig c) : Module
{
    public Linear? KvMapper { get; } = c.HiddenSize == c.BlockOutChannels ? null : new(c.HiddenSize, c.BlockOutChannels, c.UseBias);

    public RmsNorm Norm1 { get; } = new(c.BlockOutChannels);

    public CrossAttention Attn1 { get; } = Reading(c);

    public RmsNorm Norm2 { get; } = new(c.BlockOutChannels);

    public CrossAttention Attn2 { get; } = Reading(c);

    static CrossAttention Reading(UVitConfig c) => new(c.BlockOutChannels, c.BlockNumHeads, c.BlockOutChannels / c.BlockNumHeads, c.BlockOutChannels, c.UseBias, c.UseBias);

    /// <param name="x">[b, places, channels]</param>
    /// <param name="text">[b, tokens, hidden]</param>
    /// <param name="hook">Comes between attention's keys and what is seen.</param>
    /// <param name="map">How many rows and columns of places there are.</param>
    internal Tensor Forward(Tensor x, Tensor text, IAttentionHook? hook, (long, long) map)
    {
        using var scope = NewDisposeScope();
        if (KvMapper is not null) text = KvMapper.Forward(nn.functional.silu(text));
        x = x.add(Attn1.Forward(Norm1.Forward(x), text, hook: hook, map: map));
        return x.add(Attn2.Forward(Norm2.Forward(x), text, hook: hook, map: map)).MoveToOuterDisposeScope();
    }
}

/// <summary>A norm, and a convolution of kernel and stride 2 one way or the other. Keys: norm, conv.weight, conv.bias.</summary>
public sealed class UVitScaling(UVitConfig c) : Module
{
    public RmsNorm Norm { get; } = new(c.BlockOutChannels, c.LayerNormEps, c.LnElementwiseAffine);

    /// <summary>[out, in, 2, 2] on the way down, [in, out, 2, 2] on the way up</summary>
    [Key("conv.weight")]
    public Parameter Weight { get; } = new([c.BlockOutChannels, c.BlockOutChannels, 2, 2], Init.Uniform(1 / Math.Sqrt(4.0 * c.BlockOutChannels)));

    [Key("conv.bias")]
    public Parameter? Bias { get; } = c.UseBias ? new([c.BlockOutChannels], Init.Zeros) : null;

    /// <summary>[b, rows, columns, channels] to half the rows and columns, rounded up.</summary>
    internal Tensor Down(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (rows, columns, width) = (x.shape[1], x.shape[2], x.shape[3]);
        x = Norm.Forward(x);
        if (rows % 2 + columns % 2 > 0) x = nn.functional.pad(x, [0, 0, 0, columns % 2, 0, rows % 2]);
        var squares = x.view(x.shape[0], x.shape[1] / 2, 2, x.shape[2] / 2, 2, width).permute(0, 1, 3, 5, 2, 4).flatten(3);    // [b, rows, columns, channels · 2 · 2]
        return TorchOps.Linear(squares, Weight.Value.flatten(1), Bias?.Value).MoveToOuterDisposeScope();
    }

    /// <summary>[b, rows, columns, channels] to twice the rows and columns.</summary>
    internal Tensor Up(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (rows, columns, width) = (x.shape[1], x.shape[2], x.shape[3]);
        var squares = TorchOps.Linear(Norm.Forward(x), Weight.Value.permute(2, 3, 1, 0).reshape(4 * width, width), Bias?.Value.repeat(4));
        return squares.view(-1, rows, columns, 2, 2, width).transpose(2, 3).reshape(-1, 2 * rows, 2 * columns, width).MoveToOuterDisposeScope();
    }
}

/// <summary>Convolutions and attention to the text, before or after the transformer. Keys: downsample, res_blocks.N, attention_blocks.N, upsample.</summary>
public sealed class UVitBlock(UVitConfig c, bool down, bool up) : Module
{
    public UVitScaling? Downsample { get; } = down ? new(c) : null;

    public ModuleList<UVitResBlock> ResBlocks { get; } = new(c.NumResBlocks, _ => new(c));

    public ModuleList<UVitReader> AttentionBlocks { get; } = new(c.NumResBlocks, _ => new(c));

    public UVitScaling? Upsample { get; } = up ? new(c) : null;

    /// <param name="x">[b, rows, columns, channels]</param>
    /// <param name="text">[b, tokens, hidden]</param>
    /// <param name="condition">[b, hidden] after SiLU</param>
    /// <param name="hook">Comes between attention's keys and what is seen.</param>
    internal Tensor Forward(Tensor x, Tensor text, Tensor condition, IAttentionHook? hook)
    {
        using var scope = NewDisposeScope();
        if (Downsample is not null) x = Downsample.Down(x);
        var (rows, columns) = (x.shape[1], x.shape[2]);
        for (var i = 0; i < ResBlocks.Count; i++)
        {
            x = ResBlocks[i].Forward(x, condition);
            x = AttentionBlocks[i].Forward(x.flatten(1, 2), text, hook, (rows, columns)).unflatten(1, [rows, columns]);
        }
        return (Upsample?.Up(x) ?? x).MoveToOuterDisposeScope();
    }
}

/// <summary>Tokens, some of them masked, and a text to what each may be. Keys: encoder_proj, encoder_proj_layer_norm, embed, cond_embed, down_block, project_to_hidden_norm, project_to_hidden, transformer_layers.N, project_from_hidden_norm, project_from_hidden, up_block, mlm_layer.</summary>
public sealed class UVit : Module
{
    /// <param name="config">Sizes and kinds of its parts.</param>
    /// <exception cref="PanoptesException">Settings that do not go together.</exception>
    public UVit(UVitConfig config)
    {
        var c = Config = config.Checked();
        EncoderProj = new(c.EncoderHiddenSize, c.HiddenSize, c.UseBias);
        EncoderProjLayerNorm = Norm(c.HiddenSize);
        Embeddings = new(c.VocabSize, c.InChannels, Init.Normal(0.02));
        EmbedNorm = Norm(c.InChannels);
        EmbedConv = new(c.InChannels, c.BlockOutChannels, 1, bias: c.UseBias);
        CondEmbed = new(c.MicroCondEmbedDim + c.CondEmbedDim, c.HiddenSize, bias: c.UseBias);
        DownBlock = new(c, c.Downsample, up: false);
        ProjectToHiddenNorm = Norm(c.BlockOutChannels);
        ProjectToHidden = new(c.BlockOutChannels, c.HiddenSize, c.UseBias);
        TransformerLayers = new(c.NumHiddenLayers, _ => new(c));
        ProjectFromHiddenNorm = Norm(c.HiddenSize);
        ProjectFromHidden = new(c.HiddenSize, c.BlockOutChannels, c.UseBias);
        UpBlock = new(c, down: false, c.Upsample);
        MlmConv1 = new(c.BlockOutChannels, c.InChannels, 1, bias: c.UseBias);
        MlmNorm = Norm(c.InChannels);
        MlmConv2 = new(c.InChannels, c.CodebookSize, 1, bias: c.UseBias);
        HookedAttention.NameLayers(this);

        RmsNorm Norm(int width) => new(width, c.LayerNormEps, c.LnElementwiseAffine);
    }

    public UVitConfig Config { get; }

    public Linear EncoderProj { get; }

    public RmsNorm EncoderProjLayerNorm { get; }

    [Key("embed.embeddings")]
    public Embedding Embeddings { get; }

    [Key("embed.layer_norm")]
    public RmsNorm EmbedNorm { get; }

    [Key("embed.conv")]
    public Conv2d EmbedConv { get; }

    public TimestepEmbedding CondEmbed { get; }

    public UVitBlock DownBlock { get; }

    public RmsNorm ProjectToHiddenNorm { get; }

    public Linear ProjectToHidden { get; }

    public ModuleList<UVitLayer> TransformerLayers { get; }

    public RmsNorm ProjectFromHiddenNorm { get; }

    public Linear ProjectFromHidden { get; }

    public UVitBlock UpBlock { get; }

    [Key("mlm_layer.conv1")]
    public Conv2d MlmConv1 { get; }

    [Key("mlm_layer.layer_norm")]
    public RmsNorm MlmNorm { get; }

    [Key("mlm_layer.conv2")]
    public Conv2d MlmConv2 { get; }

    /// <param name="tokens">[b, rows, columns] int64, the mask's id where a code is to be found</param>
    /// <param name="text">[b, text tokens, encoder hidden size]</param>
    /// <param name="pooled">[b, cond embed dim]: the text's pooled features</param>
    /// <param name="numbers">[b, numbers]: the original's width and height, the crop's left and top, the aesthetic score</param>
    /// <param name="hook">Comes between attention's keys and what is seen; null: nothing does.</param>
    /// <returns>[b, codes, rows, columns] logits</returns>
    /// <exception cref="PanoptesException">Another count of numbers than the model is told.</exception>
    public Tensor Forward(Tensor tokens, Tensor text, Tensor pooled, Tensor numbers, IAttentionHook? hook = null)
    {
        if (numbers.shape[1] * Config.MicroCondEncodeDim != Config.MicroCondEmbedDim)
            throw new PanoptesException($"{numbers.shape[1]} numbers were given about each image; expected {Config.MicroCondEmbedDim / Config.MicroCondEncodeDim}.");
        using var scope = NewDisposeScope();
        text = EncoderProjLayerNorm.Forward(EncoderProj.Forward(text.to(Embeddings.Weight.Value.dtype)));
        var waves = Timesteps.Sinusoids(numbers.flatten(), Config.MicroCondEncodeDim).view(numbers.shape[0], -1).to(text.dtype);
        var condition = nn.functional.silu(CondEmbed.Forward(cat([pooled.to(text.dtype), waves], 1)));

        var x = DownBlock.Forward(Over(EmbedConv, EmbedNorm.Forward(Embeddings.Forward(tokens))), text, condition, hook);      // [b, rows, columns, channels]
        var map = (Rows: x.shape[1], Columns: x.shape[2]);
        x = ProjectToHidden.Forward(ProjectToHiddenNorm.Forward(x.flatten(1, 2)));
        foreach (var layer in TransformerLayers)
        {
            var before = x;
            x = layer.Forward(x, text, condition, hook, map);
            before.Dispose();                                                            // the gradient keeps its own reference
        }
        x = ProjectFromHidden.Forward(ProjectFromHiddenNorm.Forward(x)).unflatten(1, [map.Rows, map.Columns]);
        x = MlmNorm.Forward(Over(MlmConv1, UpBlock.Forward(x, text, condition, hook)));
        return MlmConv2.Forward(x.permute(0, 3, 1, 2)).MoveToOuterDisposeScope();
    }

    /// <summary>A convolution over [b, rows, columns, channels].</summary>
    internal static Tensor Over(Conv2d convolution, Tensor x) => convolution.Forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1);
}
