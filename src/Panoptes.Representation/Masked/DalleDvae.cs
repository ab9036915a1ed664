using System.Globalization;
using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Representation;

// DALL-E's discrete VAE (Ramesh et al. 2021, arXiv:2102.12092) with the keys of openai/DALL-E's encoder and decoder. Its encoder is the image
// tokenizer that BEiT was pretrained with.

/// <summary>Images to visual tokens: what masked patches are told by in BEiT.</summary>
public interface IImageTokenizer
{
    /// <summary>How many different tokens there are.</summary>
    int VocabularySize { get; }

    /// <summary>How many pixels a side one token stands for.</summary>
    int PixelsPerToken { get; }

    /// <param name="images">[b, 3, height, width] from 0 to 1, both multiples of <see cref="PixelsPerToken"/></param>
    /// <returns>[b, height / pixels, width / pixels] int64</returns>
    Tensor Tokenize(Tensor images);
}

/// <summary>The encoder's sizes, under the names of its constructor.</summary>
public sealed record DalleEncoderConfig : ModelConfig
{
    public int GroupCount { get; init; } = 4;
    public int NHid { get; init; } = 256;
    public int NBlkPerGroup { get; init; } = 2;
    public int InputChannels { get; init; } = 3;
    public int VocabSize { get; init; } = 8192;
}

/// <summary>The decoder's sizes, under the names of its constructor.</summary>
public sealed record DalleDecoderConfig : ModelConfig
{
    public int GroupCount { get; init; } = 4;
    public int NInit { get; init; } = 128;
    public int NHid { get; init; } = 256;
    public int NBlkPerGroup { get; init; } = 2;
    public int OutputChannels { get; init; } = 3;
    public int VocabSize { get; init; } = 8192;
}

/// <summary>Both halves ("dall_e_dvae").</summary>
public sealed record DalleDvaeConfig : ModelConfig
{
    public DalleEncoderConfig Encoder { get; init; } = new();
    public DalleDecoderConfig Decoder { get; init; } = new();
    public string ModelType { get; init; } = "dall_e_dvae";
    public string[] Architectures { get; init; } = ["DalleDvae"];
}

/// <summary>A convolution that keeps the size. Keys: w [out, in, kernel, kernel], b [out].</summary>
public sealed class DalleConv(int from, int to, int kernel) : Module
{
    public Parameter W { get; } = new([to, from, kernel, kernel], Init.Normal(1 / Math.Sqrt(from * kernel * kernel)));

    public Parameter B { get; } = new([to], Init.Zeros);

    /// <param name="x">[b, from, height, width]</param>
    public Tensor Forward(Tensor x) => Conv2d.Apply(x, W.Value, B.Value, padding: kernel / 2);
}

/// <summary>A residual block of four convolutions, scaled down so that a deep stack starts calm. Keys: id_path, res_path.conv_1 to conv_4.</summary>
/// <param name="from">Channels that come in.</param>
/// <param name="to">Channels that go out; a quarter of them in between.</param>
/// <param name="first">The first kernel: 3 in the encoder, 1 in the decoder.</param>
/// <param name="last">The last kernel: 1 in the encoder, 3 in the decoder.</param>
/// <param name="gain">What the residual path is multiplied by.</param>
public sealed class DalleBlock(int from, int to, int first, int last, double gain) : Module
{
    public DalleConv? IdPath { get; } = from == to ? null : new(from, to, 1);

    [Key("res_path.conv_1")]
    public DalleConv Conv1 { get; } = new(from, to / 4, first);

    [Key("res_path.conv_2")]
    public DalleConv Conv2 { get; } = new(to / 4, to / 4, 3);

    [Key("res_path.conv_3")]
    public DalleConv Conv3 { get; } = new(to / 4, to / 4, 3);

    [Key("res_path.conv_4")]
    public DalleConv Conv4 { get; } = new(to / 4, to, last);

    /// <param name="x">[b, from, height, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var y = x;
        foreach (var conv in (DalleConv[])[Conv1, Conv2, Conv3, Conv4]) y = conv.Forward(nn.functional.relu(y));
        return ((IdPath?.Forward(x) ?? x) + gain * y).MoveToOuterDisposeScope();
    }
}

/// <summary>Modules in a row, under the keys NAME_1, NAME_2, ….</summary>
public sealed class DalleRow<T>(string name, IEnumerable<T> items) : Module where T : Module
{
    public IReadOnlyList<T> Items { get; } = [.. items];

    protected override IEnumerable<(string Key, object? Child)> Children()
    {
        for (var i = 0; i < Items.Count; i++) yield return (string.Create(CultureInfo.InvariantCulture, $"{name}_{i + 1}"), Items[i]);
    }
}

/// <summary>The groups of blocks that either half is made of.</summary>
static class DalleGroups
{
    /// <summary>Groups of the given widths, each of several blocks.</summary>
    /// <exception cref="PanoptesException">More blocks than any model has.</exception>
    internal static DalleRow<DalleRow<DalleBlock>> Of(int from, IReadOnlyList<int> widths, int blocks, int first, int last)
    {
        if (blocks > 1000) throw new PanoptesException($"n_blk_per_group is {blocks}; expected at most 1000.");
        var gain = 1.0 / (widths.Count * blocks * (widths.Count * blocks));
        return new("group", widths.Select((to, i) => new DalleRow<DalleBlock>("block",
            Enumerable.Range(0, blocks).Select(b => new DalleBlock(b > 0 ? to : i > 0 ? widths[i - 1] : from, to, first, last, gain)))));
    }

    /// <summary>Runs the groups, with a change of size after each but the last.</summary>
    internal static Tensor Run(DalleRow<DalleRow<DalleBlock>> groups, Tensor x, Func<Tensor, Tensor> between)
    {
        for (var i = 0; i < groups.Items.Count; i++)
        {
            foreach (var block in groups.Items[i].Items) x = block.Forward(x);
            if (i < groups.Items.Count - 1) x = between(x);
        }
        return nn.functional.relu(x);
    }

    /// <exception cref="PanoptesException">More groups than an image can be halved by, or too few channels to take a quarter of.</exception>
    internal static int[] Widths(int groups, int hidden, bool falling) => groups <= 16 && hidden is >= 4 and < 1 << 15
        ? [.. Enumerable.Range(0, groups).Select(i => hidden << (falling ? groups - 1 - i : i))]
        : throw new PanoptesException($"group_count is {groups} and n_hid {hidden}; expected at most 16 groups, and 4 channels or more.");
}

/// <summary>Pixels to the logits of their visual tokens. Keys: blocks.input, blocks.group_N.block_N, blocks.output.conv.</summary>
public sealed class DalleEncoder(DalleEncoderConfig config) : Module, IImageTokenizer
{
    static int[] Widths(DalleEncoderConfig c) => DalleGroups.Widths(c.GroupCount, c.NHid, falling: false);

    public DalleEncoderConfig Config { get; } = config;

    [Key("blocks.input")]
    public DalleConv Input { get; } = new(config.InputChannels, config.NHid, 7);

    [Key("blocks")]
    public DalleRow<DalleRow<DalleBlock>> Groups { get; } = DalleGroups.Of(config.NHid, Widths(config), config.NBlkPerGroup, first: 3, last: 1);

    [Key("blocks.output.conv")]
    public DalleConv Output { get; } = new(Widths(config)[^1], config.VocabSize, 1);

    public int VocabularySize => Config.VocabSize;

    public int PixelsPerToken => 1 << (Config.GroupCount - 1);

    /// <param name="mapped">[b, channels, height, width] of <see cref="MapPixels"/></param>
    /// <returns>[b, vocabulary, height / 8, width / 8]</returns>
    public Tensor Forward(Tensor mapped)
    {
        using var scope = NewDisposeScope();
        return Output.Forward(DalleGroups.Run(Groups, Input.Forward(mapped), static x => nn.functional.max_pool2d(x, 2))).MoveToOuterDisposeScope();
    }

    /// <summary>The likeliest token everywhere, without a gradient. BEiT gives it half the size that its own patches have: 112 pixels for 14x14 tokens.</summary>
    /// <exception cref="PanoptesException">The image's sides are no multiples of a token's.</exception>
    public Tensor Tokenize(Tensor images)
    {
        if (images.shape[2] % PixelsPerToken != 0 || images.shape[3] % PixelsPerToken != 0)
            throw new PanoptesException($"Images of {images.shape[3]}x{images.shape[2]} pixels were to be made tokens; expected multiples of {PixelsPerToken}.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return Forward(MapPixels(images)).argmax(1).MoveToOuterDisposeScope();
    }

    const double Epsilon = 0.1;

    /// <summary>Pixels from 0 to 1 as the model sees them: away from 0 and 1, where the logit-Laplace distribution ends.</summary>
    public static Tensor MapPixels(Tensor images)
    {
        using var scope = NewDisposeScope();
        return (images * (1 - 2 * Epsilon) + Epsilon).MoveToOuterDisposeScope();
    }

    /// <summary>The way back, cut to 0 to 1.</summary>
    public static Tensor UnmapPixels(Tensor mapped)
    {
        using var scope = NewDisposeScope();
        return ((mapped - Epsilon) / (1 - 2 * Epsilon)).clamp(0, 1).MoveToOuterDisposeScope();
    }
}

/// <summary>Visual tokens back to pixels. Keys: blocks.input, blocks.group_N.block_N, blocks.output.conv.</summary>
public sealed class DalleDecoder(DalleDecoderConfig config) : Module
{
    static int[] Widths(DalleDecoderConfig c) => DalleGroups.Widths(c.GroupCount, c.NHid, falling: true);

    public DalleDecoderConfig Config { get; } = config;

    [Key("blocks.input")]
    public DalleConv Input { get; } = new(config.VocabSize, config.NInit, 1);

    [Key("blocks")]
    public DalleRow<DalleRow<DalleBlock>> Groups { get; } = DalleGroups.Of(config.NInit, Widths(config), config.NBlkPerGroup, first: 1, last: 3);

    [Key("blocks.output.conv")]
    public DalleConv Output { get; } = new(Widths(config)[^1], 2 * config.OutputChannels, 1);

    /// <param name="tokens">[b, vocabulary, rows, columns]: how much of each token there is, one-hot but in training</param>
    /// <returns>[b, 2 channels, 8 rows, 8 columns]: the means of the logit-Laplace distribution before their sigmoid, and the logarithms of its scales</returns>
    public Tensor Forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var x = DalleGroups.Run(Groups, Input.Forward(tokens), static x => nn.functional.interpolate(x, scale_factor: [2, 2], mode: InterpolationMode.Nearest));
        return Output.Forward(x).MoveToOuterDisposeScope();
    }

    /// <summary>The picture of the tokens: [b, channels, 8 rows, 8 columns] from 0 to 1, without a gradient.</summary>
    /// <param name="tokens">[b, rows, columns] int64</param>
    public Tensor Decode(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var oneHot = nn.functional.one_hot(tokens, Config.VocabSize).permute(0, 3, 1, 2).to(Input.W.Value.dtype);
        return DalleEncoder.UnmapPixels(Forward(oneHot).narrow(1, 0, Config.OutputChannels).sigmoid()).MoveToOuterDisposeScope();
    }
}

/// <summary>Encoder and decoder together. Keys: encoder, decoder.</summary>
public sealed class DalleDvae(DalleDvaeConfig config) : Module, IImageTokenizer
{
    public DalleDvaeConfig Config { get; } = config;

    public DalleEncoder Encoder { get; } = new(config.Encoder);

    public DalleDecoder Decoder { get; } = new(config.Decoder);

    public int VocabularySize => Encoder.VocabularySize;

    public int PixelsPerToken => Encoder.PixelsPerToken;

    public Tensor Tokenize(Tensor images) => Encoder.Tokenize(images);

    /// <summary>The picture of the tokens; see <see cref="DalleDecoder.Decode"/>.</summary>
    public Tensor Decode(Tensor tokens) => Decoder.Decode(tokens);

    /// <summary>Reads two files with the state dicts of OpenAI's encoder and decoder.</summary>
    /// <param name="encoder">The encoder's file.</param>
    /// <param name="decoder">The decoder's file.</param>
    /// <param name="config">Null: the published sizes.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">A file is missing or does not fit.</exception>
    public static DalleDvae Load(string encoder, string decoder, DalleDvaeConfig? config = null, LoadOptions? options = null)
    {
        var model = new DalleDvae(config ?? new());
        try
        {
            ModelFolder.Load(model.Encoder, encoder, options);
            ModelFolder.Load(model.Decoder, decoder, options);
            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }
}
