using System.Text.RegularExpressions;
using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>The constructor's arguments of the paper's code, under its names.</summary>
public sealed record MaeOriginalConfig : ModelConfig
{
    public int ImgSize { get; init; } = 224;
    public int PatchSize { get; init; } = 16;
    public int InChans { get; init; } = 3;
    public int EmbedDim { get; init; } = 1024;
    public int Depth { get; init; } = 24;
    public int NumHeads { get; init; } = 16;
    public int DecoderEmbedDim { get; init; } = 512;
    public int DecoderDepth { get; init; } = 8;
    public int DecoderNumHeads { get; init; } = 16;
    public double MlpRatio { get; init; } = 4;
    public bool NormPixLoss { get; init; }

    /// <summary>The same sizes as Hugging Face names them.</summary>
    public MaeConfig ToMae() => new()
    {
        ImageSize = ImgSize,
        PatchSize = PatchSize,
        NumChannels = InChans,
        HiddenSize = EmbedDim,
        NumHiddenLayers = Depth,
        NumAttentionHeads = NumHeads,
        IntermediateSize = (int)(EmbedDim * MlpRatio),
        DecoderHiddenSize = DecoderEmbedDim,
        DecoderNumHiddenLayers = DecoderDepth,
        DecoderNumAttentionHeads = DecoderNumHeads,
        DecoderIntermediateSize = (int)(DecoderEmbedDim * MlpRatio),
        NormPixLoss = NormPixLoss,
        LayerNormEps = 1e-6,
    };
}

/// <summary>
/// The one place that knows how the names of the paper's own files (facebookresearch/mae) correspond to Hugging Face's:
/// <code>
/// facebookresearch/mae                   Hugging Face
/// cls_token, pos_embed                   vit.embeddings.cls_token, vit.embeddings.position_embeddings
/// patch_embed.proj                       vit.embeddings.patch_embeddings.projection
/// norm                                   vit.layernorm
/// fc_norm, head                          vit.fc_norm, classifier (after fine-tuning)
/// mask_token, decoder_pos_embed          decoder.mask_token, decoder.decoder_pos_embed
/// decoder_embed, decoder_norm, …_pred    decoder.decoder_embed, decoder.decoder_norm, decoder.decoder_pred
/// blocks.N, decoder_blocks.N             vit.encoder.layer.N, decoder.decoder_layers.N
///   norm1, norm2                           layernorm_before, layernorm_after
///   attn.qkv                               attention.attention.query, key, value (stacked in this order)
///   attn.proj                              attention.output.dense
///   mlp.fc1, mlp.fc2                       intermediate.dense, output.dense
/// </code>
/// </summary>
public static partial class MaeOriginal
{
    static readonly (string Theirs, string Ours)[] Names =
    [
        ("cls_token", "vit.embeddings.cls_token"), ("pos_embed", "vit.embeddings.position_embeddings"), ("patch_embed.proj", "vit.embeddings.patch_embeddings.projection"),
        ("norm", "vit.layernorm"), ("fc_norm", "vit.fc_norm"), ("head", "classifier"),
        ("mask_token", "decoder.mask_token"), ("decoder_pos_embed", "decoder.decoder_pos_embed"),
        ("decoder_embed", "decoder.decoder_embed"), ("decoder_norm", "decoder.decoder_norm"), ("decoder_pred", "decoder.decoder_pred"),
    ];

    static readonly (string Theirs, string Ours)[] InBlock =
    [
        ("norm1", "layernorm_before"), ("norm2", "layernorm_after"), ("attn.proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
    ];

    static readonly string[] Stacked = ["query", "key", "value"];

    /// <summary>
    /// Reads a file of the paper's: pretrained with its decoder (<see cref="MaeForPreTraining"/>), without (<see cref="MaeModel"/>), or fine-tuned (<see cref="MaeForImageClassification"/>).
    /// </summary>
    /// <param name="path">A .pth file, or one with the same keys in another format.</param>
    /// <param name="config">Null: sizes are read from the shapes, heads are 64 wide (80 in the huge model) and 32 in the decoder, as in the published models.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">It is no such file; the message lists what does not fit.</exception>
    public static Module Load(string path, MaeOriginalConfig? config = null, LoadOptions? options = null)
    {
        using var scope = NewDisposeScope();
        using var weights = Weights.Open(path);
        var c = (config ?? FromShapes(weights)).ToMae();
        Module model = weights.Contains("head.weight") ? new MaeForImageClassification(c with { NumLabels = (int)weights.Info("head.weight").Shape[0], UseMeanPooling = weights.Contains("fc_norm.weight") })
            : weights.Contains("decoder_embed.weight") ? new MaeForPreTraining(c) : new MaeModel(c);
        try
        {
            ModelFolder.Load(model, Weights.From(Renamed(weights, model is MaeModel), weights.Source), options);
            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>The model's weights under the paper's names; tensors that the caller owns.</summary>
    /// <param name="model">A <see cref="MaeForPreTraining"/>, <see cref="MaeModel"/> or <see cref="MaeForImageClassification"/> with biases everywhere.</param>
    public static IReadOnlyDictionary<string, Tensor> Export(Module model)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var tensors = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        var thirds = new Dictionary<string, Tensor[]>(StringComparer.Ordinal);
        foreach (var (key, parameter) in model.NamedParameters())
        {
            var (name, third) = Original(model is MaeModel ? "vit." + key : key);
            if (third is not { } i)
            {
                tensors[name] = parameter.Value.detach().alias();
                continue;
            }
            if (!thirds.TryGetValue(name, out var parts)) thirds[name] = parts = new Tensor[3];
            parts[i] = parameter.Value;
        }
        foreach (var (name, parts) in thirds) tensors[name] = cat(parts);
        foreach (var tensor in tensors.Values) tensor.MoveToOuterDisposeScope();
        return tensors;
    }

    /// <summary>The name of one of our keys (of a <see cref="MaeForPreTraining"/>) in the paper's files, and which third of that tensor it is, if not the whole.</summary>
    public static (string Name, int? Third) Original(string key)
    {
        if (Block().Match(key) is { Success: true } block)
        {
            var prefix = $"{(block.Groups["decoder"].Success ? "decoder_" : "")}blocks.{block.Groups["index"].Value}.";
            var rest = block.Groups["rest"].Value;
            for (var i = 0; i < Stacked.Length; i++)
                if (rest.StartsWith($"attention.attention.{Stacked[i]}.", StringComparison.Ordinal)) return ($"{prefix}attn.qkv{rest[rest.LastIndexOf('.')..]}", i);
            foreach (var (theirs, ours) in InBlock)
                if (rest.StartsWith(ours + ".", StringComparison.Ordinal)) return (prefix + theirs + rest[ours.Length..], null);
        }
        foreach (var (theirs, ours) in Names)
            if (key == ours || key.StartsWith(ours + ".", StringComparison.Ordinal)) return (theirs + key[ours.Length..], null);
        return (key, null);
    }

    /// <summary>Every tensor of the file under Hugging Face's name; what has none keeps its own, so that it is reported.</summary>
    static Dictionary<string, Tensor> Renamed(Weights weights, bool encoderOnly)
    {
        var tensors = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        foreach (var name in weights.Keys)
        {
            var tensor = weights.Read(name);
            var dot = name.LastIndexOf('.');
            if (OriginalBlock().Match(name) is { Success: true } block)
            {
                var prefix = $"{(block.Groups["decoder"].Success ? "decoder.decoder_layers" : "vit.encoder.layer")}.{block.Groups["index"].Value}.";
                var rest = block.Groups["rest"].Value;
                if (rest is "attn.qkv.weight" or "attn.qkv.bias" && tensor.dim() > 0 && tensor.shape[0] % 3 == 0)
                    for (var i = 0; i < 3; i++)
                        Add($"{prefix}attention.attention.{Stacked[i]}{name[dot..]}", tensor.narrow(0, i * tensor.shape[0] / 3, tensor.shape[0] / 3));
                else if (InBlock.FirstOrDefault(n => rest.StartsWith(n.Theirs + ".", StringComparison.Ordinal)) is { Ours: { } ours } found)
                    Add(prefix + ours + rest[found.Theirs.Length..], tensor);
                else Add(name, tensor);
            }
            else if (Names.FirstOrDefault(n => name == n.Theirs || (dot > 0 && name[..dot] == n.Theirs)) is { Ours: { } ours } found) Add(ours + name[found.Theirs.Length..], tensor);
            else Add(name, tensor);
        }
        return tensors;

        void Add(string key, Tensor tensor) => tensors[encoderOnly && key.StartsWith("vit.", StringComparison.Ordinal) ? key[4..] : key] = tensor;
    }

    static MaeOriginalConfig FromShapes(Weights weights)
    {
        var (token, positions, patch, hidden) = (Shape("cls_token", 3), Shape("pos_embed", 3), Shape("patch_embed.proj.weight", 4), Shape("blocks.0.mlp.fc1.weight", 2));
        var (width, depth) = ((int)token[2], Count("blocks."));
        var side = (int)Math.Sqrt(positions[1] - 1);
        var c = new MaeOriginalConfig
        {
            ImgSize = side * (int)patch[2],
            PatchSize = (int)patch[2],
            InChans = (int)patch[1],
            EmbedDim = width,
            Depth = depth,
            NumHeads = Math.Max(1, width / (width == 1280 ? 80 : 64)),
            MlpRatio = (double)hidden[0] / width,
        };
        if (!weights.Contains("decoder_embed.weight")) return c;
        var decoder = (int)Shape("decoder_embed.weight", 2)[0];
        return c with { DecoderEmbedDim = decoder, DecoderDepth = Count("decoder_blocks."), DecoderNumHeads = Math.Max(1, decoder / 32) };

        long[] Shape(string key, int dimensions)
        {
            var shape = weights.Contains(key) ? weights.Info(key).Shape : [];
            if (shape.Length != dimensions || shape.Any(static d => d is < 1 or > 1 << 24))
                throw new PanoptesException($"{weights.Source} has no {key} of {dimensions} dimensions; expected a file of facebookresearch/mae.");
            return shape;
        }

        int Count(string prefix) => weights.Keys.Where(k => k.StartsWith(prefix, StringComparison.Ordinal)).Select(k => k[prefix.Length..].Split('.')[0]).Distinct().Count();
    }

    [GeneratedRegex(@"^(vit\.encoder\.layer|(?<decoder>decoder\.decoder_layers))\.(?<index>\d+)\.(?<rest>.+)$", RegexOptions.CultureInvariant)]
    private static partial Regex Block();

    [GeneratedRegex(@"^(?<decoder>decoder_)?blocks\.(?<index>\d+)\.(?<rest>.+)$", RegexOptions.CultureInvariant)]
    private static partial Regex OriginalBlock();
}
