using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>How wide embeddings are, under the names of diffusers.</summary>
public sealed record ClipImageProjectionConfig : ModelConfig
{
    public int HiddenSize { get; init; } = 768;

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "CLIPImageProjection";

    [JsonIgnore]
    public override string WeightsName => "diffusion_pytorch_model";
}

/// <summary>From a CLIP's embedding of an image to that of a phrase, for grounding by example images (GLIGEN, Li et al. 2023, arXiv:2301.07093). Key: project [width, width].</summary>
public sealed class ClipImageProjection(ClipImageProjectionConfig config) : Module
{
    public ClipImageProjectionConfig Config { get; } = config;

    public Linear Project { get; } = new(config.HiddenSize, config.HiddenSize, bias: false);

    /// <param name="embeddings">[images, width]</param>
    /// <returns>The same shape.</returns>
    public Tensor Forward(Tensor embeddings) => Project.Forward(embeddings);
}
