using System.Text.RegularExpressions;
using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Understanding;

/// <summary>
/// The one place that knows how segment-anything's own names (<c>sam_vit_b_01ec64.pth</c>) correspond to Hugging Face's:
/// <code>
/// segment-anything                                       Hugging Face
/// image_encoder.pos_embed                                vision_encoder.pos_embed
/// image_encoder.patch_embed.proj                         vision_encoder.patch_embed.projection
/// image_encoder.blocks.N                                 vision_encoder.layers.N
///   norm1, norm2                                           layer_norm1, layer_norm2
///   attn, mlp                                              attn, mlp
/// image_encoder.neck.0, 1, 2, 3                          vision_encoder.neck.conv1, layer_norm1, conv2, layer_norm2
/// prompt_encoder.pe_layer.positional_encoding_gaussian_matrix   shared_image_embedding.positional_embedding (and prompt_encoder.shared_embedding's)
/// prompt_encoder.point_embeddings.N                      prompt_encoder.point_embed.N
/// prompt_encoder.not_a_point_embed, no_mask_embed        the same
/// prompt_encoder.mask_downscaling.0, 1, 3, 4, 6          prompt_encoder.mask_embed.conv1, layer_norm1, conv2, layer_norm2, conv3
/// mask_decoder.transformer.layers.N.norm1 … norm4        mask_decoder.transformer.layers.N.layer_norm1 … layer_norm4
/// mask_decoder.transformer.norm_final_attn               mask_decoder.transformer.layer_norm_final_attn
/// mask_decoder.output_upscaling.0, 1, 3                  mask_decoder.upscale_conv1, upscale_layer_norm, upscale_conv2
/// mask_decoder.*.layers.0, …, the last (of MLPs)         mask_decoder.*.proj_in, layers.0, …, proj_out
/// </code>
/// The tensors are the same. The two-way decoder's norms have eps 1e-5 here where Hugging Face's config has 1e-6, so a model that was read from such a file has 1e-5 in its config.
/// </summary>
public static partial class SamOriginal
{
    const string Positions = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", SharedPositions = "shared_image_embedding.positional_embedding";

    /// <summary>The published files' own, which no shape tells.</summary>
    const int PublishedDecoderHeads = 8;

    static readonly (string Original, string HuggingFace)[] Names =
    [
        ("image_encoder.patch_embed.proj.", "vision_encoder.patch_embed.projection."), ("image_encoder.blocks.", "vision_encoder.layers."),
        ("image_encoder.neck.0.", "vision_encoder.neck.conv1."), ("image_encoder.neck.1.", "vision_encoder.neck.layer_norm1."),
        ("image_encoder.neck.2.", "vision_encoder.neck.conv2."), ("image_encoder.neck.3.", "vision_encoder.neck.layer_norm2."), ("image_encoder.", "vision_encoder."),
        ("prompt_encoder.point_embeddings.", "prompt_encoder.point_embed."),
        ("prompt_encoder.mask_downscaling.0.", "prompt_encoder.mask_embed.conv1."), ("prompt_encoder.mask_downscaling.1.", "prompt_encoder.mask_embed.layer_norm1."),
        ("prompt_encoder.mask_downscaling.3.", "prompt_encoder.mask_embed.conv2."), ("prompt_encoder.mask_downscaling.4.", "prompt_encoder.mask_embed.layer_norm2."),
        ("prompt_encoder.mask_downscaling.6.", "prompt_encoder.mask_embed.conv3."),
        ("mask_decoder.output_upscaling.0.", "mask_decoder.upscale_conv1."), ("mask_decoder.output_upscaling.1.", "mask_decoder.upscale_layer_norm."),
        ("mask_decoder.output_upscaling.3.", "mask_decoder.upscale_conv2."), ("mask_decoder.transformer.norm_final_attn.", "mask_decoder.transformer.layer_norm_final_attn."),
    ];

    /// <summary>Whether keys are segment-anything's own.</summary>
    public static bool Is(Func<string, bool> has) => has(Positions) && has("image_encoder.patch_embed.proj.weight");

    /// <summary>The Hugging Face name of a key; <paramref name="layers"/> tells how many layers an MLP has by the key before ".layers.".</summary>
    static string ToHuggingFace(string key, Func<string, int> layers)
    {
        if (key == Positions) return SharedPositions;
        foreach (var (original, other) in Names)
            if (key.StartsWith(original, StringComparison.Ordinal))
            {
                key = other + key[original.Length..];
                break;
            }
        if (Norm().Match(key) is { Success: true } norm) return $"{norm.Groups[1].Value}layer_{norm.Groups[2].Value}";
        if (MlpLayer().Match(key) is not { Success: true } mlp) return key;
        var (owner, index, rest) = (mlp.Groups[1].Value, int.Parse(mlp.Groups[2].Value, System.Globalization.CultureInfo.InvariantCulture), mlp.Groups[3].Value);
        return index == 0 ? $"{owner}proj_in.{rest}" : index == layers(owner) - 1 ? $"{owner}proj_out.{rest}" : $"{owner}layers.{index - 1}.{rest}";
    }

    [GeneratedRegex(@"^((?:vision_encoder|mask_decoder\.transformer)\.layers\.\d+\.)(norm\d\..*)$")]
    private static partial Regex Norm();

    [GeneratedRegex(@"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head)\.)layers\.(\d+)\.(.*)$")]
    private static partial Regex MlpLayer();

    /// <summary>From the file's key to the model's, for <see cref="LoadOptions.Mapping"/>.</summary>
    /// <param name="has">Whether the file has a key.</param>
    public static Func<string, string?> Mapping(Func<string, bool> has) => key => ToHuggingFace(key, owner =>
    {
        var count = 0;
        while (count < 1000 && has($"{owner}layers.{count}.weight")) count++;
        return count;
    });

    /// <summary>The parameters of a model under segment-anything's names.</summary>
    public static IEnumerable<(string Key, Parameter Parameter)> NamedParameters(SamModel model)
    {
        var d = model.Config.MaskDecoderConfig;
        foreach (var (key, parameter) in model.DistinctParameters()) yield return (FromHuggingFace(key, d.IouHeadDepth), parameter);
    }

    static string FromHuggingFace(string key, int headDepth)
    {
        if (key == SharedPositions) return Positions;
        foreach (var (original, other) in Names)
            if (key.StartsWith(other, StringComparison.Ordinal))
            {
                key = original + key[other.Length..];
                break;
            }
        key = HuggingFaceNorm().Replace(key, "$1$2");
        return HuggingFaceMlp().Replace(key, m => $"{m.Groups[1].Value}layers.{m.Groups[2].Value switch
        {
            "proj_in" => 0,
            "proj_out" => m.Groups[1].Value.Contains("iou", StringComparison.Ordinal) ? headDepth - 1 : 2,
            var middle => 1 + int.Parse(middle.AsSpan("layers.".Length), System.Globalization.CultureInfo.InvariantCulture),
        }}.");
    }

    [GeneratedRegex(@"^((?:image_encoder\.blocks|mask_decoder\.transformer\.layers)\.\d+\.)layer_(norm\d\.)")]
    private static partial Regex HuggingFaceNorm();

    [GeneratedRegex(@"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head)\.)(proj_in|proj_out|layers\.\d+)\.")]
    private static partial Regex HuggingFaceMlp();

    /// <summary>The config that the shapes of a file tell (the number of the decoder's heads is that of the published ones).</summary>
    /// <param name="shape">The shape of a key of segment-anything's, or null.</param>
    /// <param name="source">The file, for errors.</param>
    /// <exception cref="PanoptesException">The shapes are not those of a SAM.</exception>
    public static SamConfig ConfigFromShapes(Func<string, long[]?> shape, string source)
    {
        var patches = Of("image_encoder.patch_embed.proj.weight", 4);                              // [width, channels, patch, patch]
        var grid = Of("image_encoder.pos_embed", 4);
        var relative = Of("image_encoder.blocks.0.attn.rel_pos_h", 2);
        var width = patches[0];
        var layers = Count("image_encoder.blocks.{0}.norm1.weight");
        // A layer that sees the whole image has positions for it, the others for a window.
        var sides = Enumerable.Range(0, layers).Select(i => (Of($"image_encoder.blocks.{i}.attn.rel_pos_h", 2)[0] + 1) / 2).ToArray();
        var windows = sides.Where(s => s != grid[1]).Distinct().ToArray();
        if (windows.Length > 1 || relative[1] < 1 || width % relative[1] != 0) throw new PanoptesException($"{source}: the relative positions are not those of a SAM with windows of one size.");
        var outputs = Of("image_encoder.neck.0.weight", 4)[0];
        var decoder = Of("mask_decoder.transformer.layers.0.mlp.lin1.weight", 2);
        var size = (int)(grid[1] * patches[2]);
        return new()
        {
            VisionConfig = new()
            {
                HiddenSize = (int)width,
                OutputChannels = (int)outputs,
                NumHiddenLayers = layers,
                NumAttentionHeads = (int)(width / relative[1]),
                NumChannels = (int)patches[1],
                ImageSize = size,
                PatchSize = (int)patches[2],
                MlpDim = (int)Of("image_encoder.blocks.0.mlp.lin1.weight", 2)[0],
                QkvBias = shape("image_encoder.blocks.0.attn.qkv.bias") is not null,
                WindowSize = (int)windows.Append(grid[1]).First(),
                GlobalAttnIndexes = [.. Enumerable.Range(0, layers).Where(i => sides[i] == grid[1])],
                NumPosFeats = (int)Of(Positions, 2)[1],
            },
            PromptEncoderConfig = new()
            {
                HiddenSize = (int)outputs,
                ImageSize = size,
                PatchSize = (int)patches[2],
                MaskInputChannels = (int)Of("prompt_encoder.mask_downscaling.3.weight", 4)[0],
                NumPointEmbeddings = Count("prompt_encoder.point_embeddings.{0}.weight"),
            },
            MaskDecoderConfig = new()
            {
                HiddenSize = (int)decoder[1],
                MlpDim = (int)decoder[0],
                NumHiddenLayers = Count("mask_decoder.transformer.layers.{0}.norm1.weight"),
                NumAttentionHeads = PublishedDecoderHeads,
                AttentionDownsampleRate = (int)(decoder[1] / Math.Max(1, Of("mask_decoder.transformer.final_attn_token_to_image.q_proj.weight", 2)[0])),
                NumMultimaskOutputs = (int)Of("mask_decoder.mask_tokens.weight", 2)[0] - 1,
                IouHeadDepth = Count("mask_decoder.iou_prediction_head.layers.{0}.weight"),
                IouHeadHiddenDim = (int)Of("mask_decoder.iou_prediction_head.layers.0.weight", 2)[0],
            },
        };

        long[] Of(string key, int dimensions) => shape(key) is { } s && s.Length == dimensions && Array.TrueForAll(s, static n => n is > 0 and < 1 << 24) ? s
            : throw new PanoptesException($"{source}: {key} is {(shape(key) is { } other ? $"[{string.Join(", ", other)}]" : "missing")}; expected a weight of {dimensions} dimensions, as in segment-anything's files.");

        int Count(string pattern) => Enumerable.Range(0, 1001).First(i => i == 1000 || shape(string.Format(System.Globalization.CultureInfo.InvariantCulture, pattern, i)) is null);
    }

    /// <summary>The model for a file of either kind: of segment-anything's own, sizes come from config.json beside it or from the shapes, and the decoder's norms have eps 1e-5.</summary>
    internal static SamModel Build(ModelSource source)
    {
        if (!Is(key => source.Shape(key) is not null)) return new(source.Read<SamConfig>());
        var config = source.Config.Length > 0 ? source.Read<SamConfig>() : ConfigFromShapes(source.Shape, source.Path);
        return new(config with { MaskDecoderConfig = config.MaskDecoderConfig with { LayerNormEps = 1e-5 } });
    }

    /// <summary>Writes a model under segment-anything's names as a safetensors file, whose tensors are the state_dict that it loads.</summary>
    /// <param name="path">The file.</param>
    /// <param name="model">With decoder norms of eps 1e-5, or the numbers will differ a little there.</param>
    /// <exception cref="PanoptesException">The file cannot be written.</exception>
    public static void Save(string path, SamModel model)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        SafeTensors.Save(path, NamedParameters(model).Select(static p => KeyValuePair.Create(p.Key, p.Parameter.Value.detach())));
    }
}
