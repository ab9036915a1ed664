using System.Text.Json;
using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Representation;

// The vector-quantized autoencoder (van den Oord et al. 2017, arXiv:1711.00937) of VQ-GAN (Esser et al. 2021, arXiv:2012.09841) with the keys and the config.json of
// diffusers' VQModel; norm_type "spatial" is MoVQ's decoder (Zheng et al. 2022, arXiv:2209.09002). VQ-GAN's own files are read by TamingVqgan.

/// <summary>An encoder and a decoder of images, under the names of diffusers: what VQModel and AutoencoderKL share.</summary>
public abstract record AutoencoderConfig : ModelConfig
{
    public int InChannels { get; init; } = 3;
    public int OutChannels { get; init; } = 3;

    /// <summary>Of every level, finest first: DownEncoderBlock2D, or AttnDownEncoderBlock2D where places attend to each other.</summary>
    public string[] DownBlockTypes { get; init; } = ["DownEncoderBlock2D"];

    /// <summary>Of every level, coarsest first: UpDecoderBlock2D or AttnUpDecoderBlock2D.</summary>
    public string[] UpBlockTypes { get; init; } = ["UpDecoderBlock2D"];

    /// <summary>Channels of every level, finest first; each but the last halves the image.</summary>
    public int[] BlockOutChannels { get; init; } = [64];
    public int LayersPerBlock { get; init; } = 1;
    public Activation ActFn { get; init; } = Activation.Silu;
    public int LatentChannels { get; init; } = 3;

    /// <summary>The side of the images that it was made for; it takes others as well. Of a list, the first, as the peer has it.</summary>
    [JsonConverter(typeof(FirstSideConverter))]
    public int SampleSize { get; init; } = 32;
    public int NormNumGroups { get; init; } = 32;
    public double ScalingFactor { get; init; } = 0.18215;
    public bool MidBlockAddAttention { get; init; } = true;
    public bool ForceUpcast { get; init; }

    [JsonIgnore]
    public override string WeightsName => "diffusion_pytorch_model";

    /// <summary>How many channels the encoder ends in.</summary>
    [JsonIgnore]
    internal virtual int EncodedChannels => LatentChannels;

    /// <summary>How many channels the decoder's norms are told of; null: none.</summary>
    [JsonIgnore]
    internal virtual int? Conditioned => null;

    /// <summary>How many pixels the side of one place of the latents stands for.</summary>
    [JsonIgnore]
    public int PixelsPerPlace => 1 << (BlockOutChannels.Length - 1);

    /// <exception cref="PanoptesException">The levels do not fit together.</exception>
    internal void CheckLevels()
    {
        var levels = BlockOutChannels.Length;
        if (levels is < 1 or > 16 || DownBlockTypes.Length != levels || UpBlockTypes.Length != levels)
            throw new PanoptesException($"block_out_channels has {levels} levels, down_block_types {DownBlockTypes.Length} and up_block_types {UpBlockTypes.Length}; expected as many of each, from 1 to 16.");
        if (ScalingFactor == 0 || !double.IsFinite(ScalingFactor)) throw new PanoptesException($"scaling_factor is {ScalingFactor}; expected a number that latents can be divided by.");
        if (BlockOutChannels.Max() > 1 << 15 || Math.Max(InChannels, OutChannels) > 1 << 10) throw new PanoptesException($"A level of {BlockOutChannels.Max()} channels was asked for; expected at most 32768, and 1024 of an image.");
    }

    /// <summary>Whether a block is the one with attention.</summary>
    /// <exception cref="PanoptesException">The name is of no block that the model has.</exception>
    internal static bool Attends(string type, string plain) => type == plain || type == "Attn" + plain ? type != plain
        : throw new PanoptesException($"The block {type} is unknown; expected {plain} or Attn{plain}.");
}

/// <summary>Encoder, codebook and decoder, under the names of diffusers.</summary>
public sealed record VqConfig : AutoencoderConfig
{
    public int NumVqEmbeddings { get; init; } = 256;

    /// <summary>The width of the codebook; null: <see cref="AutoencoderConfig.LatentChannels"/>.</summary>
    public int? VqEmbedDim { get; init; }

    /// <summary><c>group</c>, or <c>spatial</c>: the decoder's norms are scaled and shifted by the quantized map (MoVQ).</summary>
    public string NormType { get; init; } = "group";
    public bool LookupFromCodebook { get; init; }

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "VQModel";

    [JsonIgnore]
    internal int CodeSize => VqEmbedDim ?? LatentChannels;

    [JsonIgnore]
    internal override int? Conditioned => NormType == "spatial" ? LatentChannels : null;

    /// <exception cref="PanoptesException">The levels do not fit together.</exception>
    internal VqConfig Checked()
    {
        CheckLevels();
        if (NormType is not ("group" or "spatial")) throw new PanoptesException($"norm_type is {NormType}; expected group or spatial.");
        if (NormType == "spatial" && CodeSize != LatentChannels) throw new PanoptesException($"norm_type spatial needs a vq_embed_dim as large as latent_channels; found {CodeSize} and {LatentChannels}.");
        return this;
    }
}

/// <summary>A norm over groups of channels. With a condition it has 32 of them, and the map that it is given scales and shifts them. Keys: weight, bias; or norm_layer, conv_y, conv_b.</summary>
public sealed class VqNorm(int channels, int groups, int? conditioned) : Module
{
    [Key("")]
    public GroupNorm? Plain { get; } = conditioned is null ? new(groups, channels, 1e-6) : null;

    public GroupNorm? NormLayer { get; } = conditioned is null ? null : new(32, channels, 1e-6);

    public Conv2d? ConvY { get; } = conditioned is { } width ? new(width, channels, 1) : null;

    public Conv2d? ConvB { get; } = conditioned is { } width ? new(width, channels, 1) : null;

    /// <param name="x">[b, channels, height, width]</param>
    /// <param name="code">[b, condition, rows, columns], or null without a condition</param>
    /// <param name="activation">What follows; null: nothing.</param>
    public Tensor Forward(Tensor x, Tensor? code, Activation? activation = null)
    {
        if (Plain is not null) return Plain.Forward(x, activation);
        using var scope = NewDisposeScope();
        var near = nn.functional.interpolate(code!, size: [x.shape[2], x.shape[3]], mode: InterpolationMode.Nearest);
        var y = NormLayer!.Forward(x) * ConvY!.Forward(near) + ConvB!.Forward(near);
        return (activation?.Apply(y) ?? y).MoveToOuterDisposeScope();
    }
}

/// <summary>Two convolutions with a norm and an activation before each, and a shortcut. Keys: norm1, conv1, norm2, conv2, conv_shortcut.</summary>
public sealed class VqResnet(AutoencoderConfig c, int from, int to, int? conditioned) : Module
{
    public VqNorm Norm1 { get; } = new(from, c.NormNumGroups, conditioned);

    public Conv2d Conv1 { get; } = new(from, to, 3, padding: 1);

    public VqNorm Norm2 { get; } = new(to, c.NormNumGroups, conditioned);

    public Conv2d Conv2 { get; } = new(to, to, 3, padding: 1);

    public Conv2d? ConvShortcut { get; } = from == to ? null : new(from, to, 1);

    /// <param name="x">[b, from, height, width]</param>
    /// <param name="code">As in <see cref="VqNorm.Forward"/>.</param>
    public Tensor Forward(Tensor x, Tensor? code) => ActivationsCheckpointed ? ActivationCheckpoint.Run(this, Compute, x, code) : Compute(x, code);

    Tensor Compute(Tensor x, Tensor? code)
    {
        using var scope = NewDisposeScope();
        Tensor y;
        // Maps are let go as soon as they are used: at an image's full size they are what memory goes to.
        using (var normed = Norm1.Forward(x, code, c.ActFn)) y = Conv1.Forward(normed);
        using (y)
        using (var normed = Norm2.Forward(y, code, c.ActFn))
            return Conv2.Forward(normed, added: ConvShortcut?.Forward(x) ?? x).MoveToOuterDisposeScope();
    }
}

/// <summary>Every place of a map attends to all, with one head. Keys: group_norm or spatial_norm, to_q, to_k, to_v, to_out.0.</summary>
public sealed class VqAttention(AutoencoderConfig c, int channels, int? conditioned) : Module
{
    public VqNorm? GroupNorm { get; } = conditioned is null ? new(channels, c.NormNumGroups, null) : null;

    public VqNorm? SpatialNorm { get; } = conditioned is null ? null : new(channels, c.NormNumGroups, conditioned);

    public Linear ToQ { get; } = new(channels, channels);

    public Linear ToK { get; } = new(channels, channels);

    public Linear ToV { get; } = new(channels, channels);

    [Key("to_out.0")]
    public Linear ToOut { get; } = new(channels, channels);

    /// <param name="x">[b, channels, height, width]</param>
    /// <param name="code">As in <see cref="VqNorm.Forward"/>.</param>
    public Tensor Forward(Tensor x, Tensor? code) => ActivationsCheckpointed ? ActivationCheckpoint.Run(this, Compute, x, code) : Compute(x, code);

    Tensor Compute(Tensor x, Tensor? code)
    {
        using var scope = NewDisposeScope();
        var places = (GroupNorm ?? SpatialNorm)!.Forward(x, code).flatten(2).transpose(1, 2);      // [b, places, channels], contiguous where channels lie last
        var seen = Attention.Apply(ToQ.Forward(places).unsqueeze(1), ToK.Forward(places).unsqueeze(1), ToV.Forward(places).unsqueeze(1)).squeeze(1);
        return (x + ToOut.Forward(seen).transpose(1, 2).reshape(x.shape)).MoveToOuterDisposeScope();
    }
}

/// <summary>Blocks of one resolution, and what halves or doubles it after them. Keys: resnets.N, attentions.N, downsamplers.0.conv, upsamplers.0.conv.</summary>
public sealed class VqLevel(AutoencoderConfig c, int from, int to, int layers, bool attends, bool down, bool up, int? conditioned) : Module
{
    public ModuleList<VqResnet> Resnets { get; } = new(layers, i => new(c, i == 0 ? from : to, to, conditioned));

    public ModuleList<VqAttention>? Attentions { get; } = attends ? new(layers, _ => new(c, to, conditioned)) : null;

    [Key("downsamplers.0.conv")]
    public Conv2d? Downsampler { get; } = down ? new(to, to, 3, stride: 2) : null;

    [Key("upsamplers.0.conv")]
    public Conv2d? Upsampler { get; } = up ? new(to, to, 3, padding: 1) : null;

    /// <param name="x">[b, from, height, width]</param>
    /// <param name="code">As in <see cref="VqNorm.Forward"/>.</param>
    public Tensor Forward(Tensor x, Tensor? code)
    {
        using var scope = NewDisposeScope();
        var given = x;
        for (var i = 0; i < Resnets.Count; i++)
        {
            Next(Resnets[i].Forward(x, code));
            if (Attentions is not null) Next(Attentions[i].Forward(x, code));
        }
        if (Downsampler is not null)
            using (var padded = nn.functional.pad(x, [0, 1, 0, 1])) Next(Downsampler.Forward(padded));       // to the right and below only
        if (Upsampler is not null)
        {
            Next(nn.functional.interpolate(x, scale_factor: [2, 2], mode: InterpolationMode.Nearest));
            Next(Upsampler.Forward(x));
        }
        return x.MoveToOuterDisposeScope();

        void Next(Tensor y)
        {
            if (!ReferenceEquals(x, given)) x.Dispose();
            x = y;
        }
    }
}

/// <summary>The coarsest resolution: a block before and one after the attention. Keys: resnets.0, attentions.0, resnets.1.</summary>
public sealed class VqMiddle(AutoencoderConfig c, int? conditioned) : Module
{
    public ModuleList<VqResnet> Resnets { get; } = new(2, _ => new(c, c.BlockOutChannels[^1], c.BlockOutChannels[^1], conditioned));

    public ModuleList<VqAttention>? Attentions { get; } = c.MidBlockAddAttention ? new(1, _ => new(c, c.BlockOutChannels[^1], conditioned)) : null;

    /// <param name="x">[b, channels, rows, columns]</param>
    /// <param name="code">As in <see cref="VqNorm.Forward"/>.</param>
    public Tensor Forward(Tensor x, Tensor? code)
    {
        using var scope = NewDisposeScope();
        x = Resnets[0].Forward(x, code);
        if (Attentions is not null) x = Attentions[0].Forward(x, code);
        return Resnets[1].Forward(x, code).MoveToOuterDisposeScope();
    }
}

/// <summary>Pixels to latents. Keys: conv_in, down_blocks.N, mid_block, conv_norm_out, conv_out.</summary>
public sealed class VqEncoder(AutoencoderConfig c) : Module
{
    public Conv2d ConvIn { get; } = new(c.InChannels, c.BlockOutChannels[0], 3, padding: 1);

    public ModuleList<VqLevel> DownBlocks { get; } = new(c.BlockOutChannels.Length, i => new(c, c.BlockOutChannels[Math.Max(0, i - 1)], c.BlockOutChannels[i], c.LayersPerBlock,
        AutoencoderConfig.Attends(c.DownBlockTypes[i], "DownEncoderBlock2D"), down: i < c.BlockOutChannels.Length - 1, up: false, null));

    public VqMiddle MidBlock { get; } = new(c, null);

    public VqNorm ConvNormOut { get; } = new(c.BlockOutChannels[^1], c.NormNumGroups, null);

    public Conv2d ConvOut { get; } = new(c.BlockOutChannels[^1], c.EncodedChannels, 3, padding: 1);

    /// <param name="pixels">[b, channels, height, width]</param>
    /// <returns>[b, latent channels, rows, columns]</returns>
    public Tensor Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var x = ConvIn.Forward(pixels.ChannelsLast());
        foreach (var level in DownBlocks)
            using (var before = x) x = level.Forward(before, null);
        return ConvOut.Forward(ConvNormOut.Forward(MidBlock.Forward(x, null), null, Activation.Silu)).MoveToOuterDisposeScope();    // whatever act_fn is
    }
}

/// <summary>Latents to pixels. Keys: conv_in, mid_block, up_blocks.N, conv_norm_out, conv_out.</summary>
public sealed class VqDecoder(AutoencoderConfig c) : Module
{
    public Conv2d ConvIn { get; } = new(c.LatentChannels, c.BlockOutChannels[^1], 3, padding: 1);

    public VqMiddle MidBlock { get; } = new(c, c.Conditioned);

    public ModuleList<VqLevel> UpBlocks { get; } = new(c.BlockOutChannels.Length, i => new(c, c.BlockOutChannels[^Math.Max(1, i)], c.BlockOutChannels[^(i + 1)], c.LayersPerBlock + 1,
        AutoencoderConfig.Attends(c.UpBlockTypes[i], "UpDecoderBlock2D"), down: false, up: i < c.BlockOutChannels.Length - 1, c.Conditioned));

    public VqNorm ConvNormOut { get; } = new(c.BlockOutChannels[0], c.NormNumGroups, c.Conditioned);

    public Conv2d ConvOut { get; } = new(c.BlockOutChannels[0], c.OutChannels, 3, padding: 1);

    /// <param name="latents">[b, latent channels, rows, columns]</param>
    /// <param name="code">The quantized map, where the norms are told of it.</param>
    /// <returns>[b, channels, height, width]</returns>
    public Tensor Forward(Tensor latents, Tensor? code)
    {
        using var scope = NewDisposeScope();
        var x = MidBlock.Forward(ConvIn.Forward(latents.ChannelsLast()), code);
        foreach (var level in UpBlocks)
            using (var before = x) x = level.Forward(before, code);
        using (var before = x) x = ConvNormOut.Forward(before, code, Activation.Silu);
        return ConvOut.Forward(x).MoveToOuterDisposeScope();
    }
}

/// <summary>The codebook. Key: embedding.weight [codes, width].</summary>
public sealed class VectorQuantizer(int codes, int width) : Module
{
    public Embedding Embedding { get; } = new(codes, width, Init.Uniform(1.0 / codes));

    /// <summary>The nearest code of every place, without a gradient and in float32 whatever else is computed in: [b, rows, columns] int64.</summary>
    /// <param name="latents">[b, width, rows, columns]</param>
    public Tensor Nearest(Tensor latents)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var exact = Native.Autocast.To(ScalarType.Float32);
        var (places, codes) = (latents.permute(0, 2, 3, 1).to(ScalarType.Float32), Embedding.Weight.Value.to(ScalarType.Float32));
        // ‖z - e‖² less ‖z‖², which is the same for all codes.
        return (codes.square().sum(1) - 2 * places.matmul(codes.t())).argmin(-1).MoveToOuterDisposeScope();
    }

    /// <summary>The codes of <paramref name="tokens"/>: [b, width, rows, columns].</summary>
    /// <param name="tokens">[b, rows, columns] int64</param>
    public Tensor Entries(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return Embedding.Forward(tokens).permute(0, 3, 1, 2).MoveToOuterDisposeScope();
    }

    /// <summary>The values of <paramref name="entries"/> with the gradient of <paramref name="latents"/>, as if nothing had been rounded (straight through; section 3.2 of VQ-VAE).</summary>
    public static Tensor StraightThrough(Tensor latents, Tensor entries)
    {
        using var scope = NewDisposeScope();
        return (latents + (entries - latents).detach()).MoveToOuterDisposeScope();
    }

    /// <summary>codebook · mean ‖sg[z] - e‖² + commitment · mean ‖z - sg[e]‖² (equation 3 of VQ-VAE, averaged over the width too).</summary>
    /// <param name="latents">[b, width, rows, columns]: z</param>
    /// <param name="entries">[b, width, rows, columns]: e</param>
    /// <param name="codebook">How much the codes follow the latents; VQ-GAN's own code has 0.25 here and 1 there, by an error that it keeps.</param>
    /// <param name="commitment">How much the latents keep to the codes: β.</param>
    public static Tensor Loss(Tensor latents, Tensor entries, double codebook, double commitment)
    {
        using var scope = NewDisposeScope();
        var loss = commitment * (latents - entries.detach()).square().mean();
        return (codebook == 0 ? loss : loss + codebook * (latents.detach() - entries).square().mean()).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Images to visual tokens and back. Keys: encoder, quant_conv, quantize, post_quant_conv, decoder. As an image tower it gives every token's latent before it is rounded to a code, and
/// their mean; images are taken from -1 to 1.
/// </summary>
public sealed class VqModel(VqConfig config) : Module, IImageTower, IImageTokenizer
{
    public VqConfig Config { get; } = config;

    public VqEncoder Encoder { get; } = new(config.Checked());

    public Conv2d QuantConv { get; } = new(config.LatentChannels, config.CodeSize, 1);

    public VectorQuantizer Quantize { get; } = new(config.NumVqEmbeddings, config.CodeSize);

    public Conv2d PostQuantConv { get; } = new(config.CodeSize, config.LatentChannels, 1);

    public VqDecoder Decoder { get; } = new(config);

    public int VocabularySize => Config.NumVqEmbeddings;

    public int PixelsPerToken => Config.PixelsPerPlace;

    public int EmbeddingSize => Config.CodeSize;

    public int ImageSize => Config.SampleSize;

    public LayerGroups LayerGroups => LayerGroups.Of([Encoder.ConvIn], [.. Encoder.DownBlocks, Encoder.MidBlock], [Encoder.ConvNormOut], [Encoder.ConvOut, QuantConv, Quantize, PostQuantConv, Decoder]);

    /// <summary>What is rounded to codes: [b, code size, height / pixels, width / pixels].</summary>
    /// <param name="pixels">[b, channels, height, width] from -1 to 1</param>
    /// <exception cref="PanoptesException">The image's sides are no multiples of a token's.</exception>
    public Tensor Latents(Tensor pixels)
    {
        if (pixels.shape[2] % PixelsPerToken != 0 || pixels.shape[3] % PixelsPerToken != 0)
            throw new PanoptesException($"Images of {pixels.shape[3]}x{pixels.shape[2]} pixels were to be made tokens; expected multiples of {PixelsPerToken}.");
        using var scope = NewDisposeScope();
        return QuantConv.Forward(Encoder.Forward(pixels.to(QuantConv.Weight.Dtype!.Value))).MoveToOuterDisposeScope();
    }

    /// <summary>Codes (or latents) back to pixels: [b, channels, height, width], about -1 to 1.</summary>
    /// <param name="codes">[b, code size, rows, columns]</param>
    public Tensor Decode(Tensor codes)
    {
        using var scope = NewDisposeScope();
        return Decoder.Forward(PostQuantConv.Forward(codes), Config.Conditioned is null ? null : codes).MoveToOuterDisposeScope();
    }

    public Tensor Tokenize(Tensor images)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return Quantize.Nearest(Latents(images * 2 - 1)).MoveToOuterDisposeScope();
    }

    /// <summary>The picture of the tokens: [b, channels, height, width] from 0 to 1, without a gradient.</summary>
    /// <param name="tokens">[b, rows, columns] int64</param>
    public Tensor Picture(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return ((Decode(Quantize.Entries(tokens)) + 1) / 2).clamp(0, 1).MoveToOuterDisposeScope();
    }

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Latents(pixels).mean([2, 3]).MoveToOuterDisposeScope();
    }

    public Tensor EmbedTokens(Tensor tokens) => tokens.alias();

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        if (hiddenStates) throw new PanoptesException("A VqModel keeps no states between its layers.");
        using var scope = NewDisposeScope();
        var tokens = Latents(pixels).flatten(2).transpose(1, 2);
        var pooled = tokens.mean([1]);
        return new(tokens.MoveToOuterDisposeScope(), pooled.MoveToOuterDisposeScope(), pooled);
    }
}

/// <summary>A side, or a list of sides, of which the first counts.</summary>
sealed class FirstSideConverter : JsonConverter<int>
{
    public override int Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.TokenType == JsonTokenType.StartArray
        ? JsonSerializer.Deserialize<int[]>(ref reader, options) is { Length: > 0 } sides ? sides[0] : throw new JsonException("found an empty list, expected a side")
        : reader.GetInt32();

    public override void Write(Utf8JsonWriter writer, int value, JsonSerializerOptions options) => writer.WriteNumberValue(value);
}
