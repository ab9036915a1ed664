using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Generation;

/// <summary>Example images as a GLIGEN takes them: a CLIP's embeddings, brought into the space of phrases' and to about their length (diffusers' StableDiffusionGLIGENTextImagePipeline).</summary>
/// <param name="encoder">With a projection.</param>
/// <param name="projection">Into the space of phrases.</param>
/// <param name="processor">Prepares images for the encoder.</param>
public sealed class ImageExamples(ClipVisionModel encoder, ClipImageProjection projection, ImageProcessor processor)
{
    /// <summary>The length of every embedding: about that of the pooled outputs of Stable Diffusion's text encoder.</summary>
    internal const double Length = 28.7;

    public ClipVisionModel Encoder { get; } = encoder;

    public ClipImageProjection Projection { get; } = projection;

    public ImageProcessor Processor { get; } = processor;

    internal IEnumerable<Module> Modules => [Encoder, Projection];

    /// <returns>[images, width]: among the phrases' embeddings.</returns>
    internal Tensor Read(IReadOnlyList<Image> images)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var embeddings = Projection.Forward(Embed(images));
        return (embeddings / embeddings.norm(1, keepdim: true, 2f) * Length).MoveToOuterDisposeScope();
    }

    /// <returns>[images, width]: the CLIP's own.</returns>
    internal Tensor Embed(IReadOnlyList<Image> images)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var dtype = Projection.Project.Weight.Dtype ?? ScalarType.Float32;
        return Encoder.Encode(Processor.Process([.. images.Select(static i => i.ToRgb())]).to(dtype)).MoveToOuterDisposeScope();
    }
}
