using System.Globalization;
using System.Text.RegularExpressions;
using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>Encoder and decoder in the config of VQ-GAN's own code, under its names ("ddconfig").</summary>
public sealed record TamingDdConfig : ModelConfig
{
    public int ZChannels { get; init; } = 256;
    public int Resolution { get; init; } = 256;
    public int InChannels { get; init; } = 3;
    public int OutCh { get; init; } = 3;
    public int Ch { get; init; } = 128;
    public int[] ChMult { get; init; } = [1, 1, 2, 2, 4];
    public int NumResBlocks { get; init; } = 2;

    /// <summary>Sides of the maps whose places attend to each other.</summary>
    public int[] AttnResolutions { get; init; } = [16];
}

/// <summary>The parameters of VQ-GAN's own model, under its names.</summary>
public sealed record TamingConfig : ModelConfig
{
    public int EmbedDim { get; init; } = 256;
    public int NEmbed { get; init; } = 1024;
    public TamingDdConfig Ddconfig { get; init; } = new();

    /// <summary>The same sizes as diffusers names them.</summary>
    /// <exception cref="PanoptesException">More levels than any model has.</exception>
    public VqConfig ToVq()
    {
        var d = Ddconfig;
        if (d.ChMult.Length is < 1 or > 16) throw new PanoptesException($"ch_mult has {d.ChMult.Length} levels; expected 1 to 16.");
        string[] attends = [.. d.ChMult.Select((_, i) => d.AttnResolutions.Contains(d.Resolution >> i) ? "Attn" : "")];
        return new()
        {
            InChannels = d.InChannels,
            OutChannels = d.OutCh,
            BlockOutChannels = [.. d.ChMult.Select(m => (int)Math.Min((long)d.Ch * m, 1 << 24))],
            DownBlockTypes = [.. attends.Select(static a => a + "DownEncoderBlock2D")],
            UpBlockTypes = [.. attends.Reverse().Select(static a => a + "UpDecoderBlock2D")],
            LayersPerBlock = d.NumResBlocks,
            LatentChannels = d.ZChannels,
            SampleSize = d.Resolution,
            NumVqEmbeddings = NEmbed,
            VqEmbedDim = EmbedDim,
        };
    }
}

/// <summary>
/// The one place that knows how the names of VQ-GAN's own files (CompVis/taming-transformers) correspond to diffusers':
/// <code>
/// taming-transformers                    diffusers
/// encoder.down.I                         encoder.down_blocks.I
/// decoder.up.I (from the finest)         decoder.up_blocks.J (from the coarsest)
///   block.B, attn.B                        resnets.B, attentions.B
///   downsample, upsample                   downsamplers.0, upsamplers.0
/// mid.block_1, mid.attn_1, mid.block_2   mid_block.resnets.0, mid_block.attentions.0, mid_block.resnets.1
///   nin_shortcut                           conv_shortcut
///   norm, q, k, v, proj_out                group_norm, to_q, to_k, to_v, to_out.0 (matrices there, 1x1 convolutions here)
/// norm_out                               conv_norm_out
/// </code>
/// </summary>
public static partial class TamingVqgan
{
    static readonly (string Theirs, string Ours)[] Names =
    [
        ("mid.block_1.", "mid_block.resnets.0."), ("mid.block_2.", "mid_block.resnets.1."), ("mid.attn_1.", "mid_block.attentions.0."),
        (".nin_shortcut.", ".conv_shortcut."), (".downsample.", ".downsamplers.0."), (".upsample.", ".upsamplers.0."), (".norm_out.", ".conv_norm_out."),
    ];

    static readonly (string Theirs, string Ours)[] InAttention = [(".norm.", ".group_norm."), (".q.", ".to_q."), (".k.", ".to_k."), (".v.", ".to_v."), (".proj_out.", ".to_out.0.")];

    /// <summary>Reads a file of theirs; the discriminator and the perceptual network, which a training file has too, are left out.</summary>
    /// <param name="path">A .ckpt file, or one with the same keys in another format.</param>
    /// <param name="config">What its model.yaml says under params.</param>
    /// <param name="normGroups">Of the group norms: 32 in all that is published.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">It is no such file; the message lists what does not fit.</exception>
    public static VqModel Load(string path, TamingConfig config, int normGroups = 32, LoadOptions? options = null) =>
        Read(path, config, new VqModel(config.ToVq() with { NormNumGroups = normGroups }), options);

    /// <summary>The same of a file of their GumbelVQ.</summary>
    /// <inheritdoc cref="Load"/>
    public static GumbelVq LoadGumbel(string path, TamingConfig config, int normGroups = 32, LoadOptions? options = null) =>
        Read(path, config, new GumbelVq(config.ToVq() with { NormNumGroups = normGroups }), options);

    static T Read<T>(string path, TamingConfig config, T model, LoadOptions? options) where T : Module
    {
        try
        {
            using var scope = NewDisposeScope();
            using var weights = Weights.Open(path);
            var levels = config.Ddconfig.ChMult.Length;
            var tensors = new Dictionary<string, Tensor>(StringComparer.Ordinal);
            foreach (var name in weights.Keys)
            {
                if (name.StartsWith("loss.", StringComparison.Ordinal)) continue;
                var (key, tensor) = (Ours(name, levels), weights.Read(name));
                tensors[key] = key.Contains(".attentions.", StringComparison.Ordinal) && tensor.dim() == 4 ? tensor.flatten(1) : tensor;
            }
            ModelFolder.Load(model, Weights.From(tensors, weights.Source), options);
            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>diffusers' name of a key of theirs.</summary>
    public static string Ours(string key, int levels)
    {
        foreach (var (theirs, ours) in Names) key = key.Replace(theirs, ours, StringComparison.Ordinal);
        key = Theirs().Replace(key, m => $"{m.Groups["half"].Value}_blocks.{Level(m, levels)}.{(m.Groups["part"].Value == "block" ? "resnets" : m.Groups["part"].Value == "attn" ? "attentions" : m.Groups["part"].Value)}.");
        return Within(key, theirs: true);
    }

    /// <summary>Their name of a key of ours, and its shape there.</summary>
    public static (string Key, long[] Shape) Original(string key, long[] shape, int levels)
    {
        if (key.Contains(".attentions.", StringComparison.Ordinal) && shape.Length == 2) shape = [.. shape, 1, 1];
        key = Within(key, theirs: false);
        key = Diffusers().Replace(key, m => $"{m.Groups["half"].Value}.{Level(m, levels)}.{(m.Groups["part"].Value == "resnets" ? "block" : m.Groups["part"].Value == "attentions" ? "attn" : m.Groups["part"].Value)}.");
        foreach (var (theirs, ours) in Names) key = key.Replace(ours, theirs, StringComparison.Ordinal);
        return (key, shape);
    }

    static int Level(Match m, int levels)
    {
        var level = int.Parse(m.Groups["level"].Value, CultureInfo.InvariantCulture);
        return m.Groups["half"].Value == "up" ? levels - 1 - level : level;
    }

    static string Within(string key, bool theirs)
    {
        if (!key.Contains(".attentions.", StringComparison.Ordinal)) return key;
        foreach (var (a, b) in InAttention) key = theirs ? key.Replace(a, b, StringComparison.Ordinal) : key.Replace(b, a, StringComparison.Ordinal);
        return key;
    }

    [GeneratedRegex(@"(?<half>down|up)\.(?<level>\d{1,3})\.(?<part>block|attn|downsamplers|upsamplers)\.", RegexOptions.CultureInvariant)]
    private static partial Regex Theirs();

    [GeneratedRegex(@"(?<half>down|up)_blocks\.(?<level>\d{1,3})\.(?<part>resnets|attentions|downsamplers|upsamplers)\.", RegexOptions.CultureInvariant)]
    private static partial Regex Diffusers();
}
