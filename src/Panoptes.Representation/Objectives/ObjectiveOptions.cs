using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Text;

namespace Panoptes.Representation.Objectives;

/// <summary>What an objective is made for.</summary>
/// <param name="Towers">What it trains.</param>
/// <param name="Processor">What prepares the images.</param>
/// <param name="Tokenizer">Of the text tower, or null.</param>
/// <param name="Classes">What the data's labels are called; empty where it has none.</param>
public sealed record ObjectiveSetting(Towers Towers, ImageProcessor Processor, Tokenizer? Tokenizer, IReadOnlyList<string> Classes);

/// <summary>An objective as a recipe names it: its <c>name</c>, its weight, and what else its own record says.</summary>
public abstract record ObjectiveOptions
{
    /// <summary>Every objective by its name: a new one is its file and a line here.</summary>
    public static IReadOnlyDictionary<string, Type> All { get; } = new SortedDictionary<string, Type>(StringComparer.Ordinal)
    {
        ["answering"] = typeof(AnsweringOptions),
        ["captioning"] = typeof(CaptioningOptions),
        ["classification"] = typeof(ClassificationOptions),
        ["contrastive"] = typeof(ContrastiveOptions),
        ["declip"] = typeof(DeclipOptions),
        ["filip"] = typeof(FilipOptions),
        ["masked_captions"] = typeof(MaskedCaptionsOptions),
        ["masked_data"] = typeof(MaskedDataOptions),
        ["masked_features"] = typeof(MaskedFeaturesOptions),
        ["masked_language"] = typeof(MaskedLanguageOptions),
        ["masked_pixels"] = typeof(MaskedPixelsOptions),
        ["masked_tokens"] = typeof(MaskedTokensOptions),
        ["mofi"] = typeof(MofiOptions),
        ["nclip"] = typeof(NclipOptions),
        ["sigmoid"] = typeof(SigmoidOptions),
        ["simclr"] = typeof(SimClrOptions),
        ["stair"] = typeof(StairOptions),
        ["unicl"] = typeof(UniClOptions),
        ["vq_gan"] = typeof(VqGanOptions),
        ["vq_vae"] = typeof(VqVaeOptions),
    };

    /// <summary>One of <see cref="All"/>; its loss is logged under it.</summary>
    public required string Name { get; init; }

    /// <summary>Its factor in the sum of the losses.</summary>
    public double Weight { get; init; } = 1;

    /// <exception cref="PanoptesException">An option is out of range, or the objective does not go with what is trained.</exception>
    public abstract Objective Create(ObjectiveSetting setting);
}

/// <summary>A projection head of linear layers with batch norm and ReLU between them, as self-supervised objectives put behind a tower. Keys: layers.N, norms.N.</summary>
public sealed class ProjectionHead : Module
{
    /// <param name="sizes">The input, every hidden layer, the output.</param>
    /// <param name="normalizedOutput">Whether a batch norm follows the last layer as well.</param>
    public ProjectionHead(IReadOnlyList<int> sizes, bool normalizedOutput = false)
    {
        Layers = new(sizes.Count - 1, i => new(sizes[i], sizes[i + 1], bias: i == sizes.Count - 2 && !normalizedOutput));
        Norms = new(sizes.Count - 2 + (normalizedOutput ? 1 : 0), i => new(sizes[i + 1]));
    }

    public ModuleList<Linear> Layers { get; }

    public ModuleList<BatchNorm> Norms { get; }

    /// <param name="x">[b, in]</param>
    /// <returns>[b, out]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        for (var i = 0; i < Layers.Count; i++)
        {
            x = Layers[i].Forward(x);
            if (i < Norms.Count) x = Norms[i].Forward(x);
            if (i < Layers.Count - 1) x = nn.functional.relu(x);
        }
        return x.MoveToOuterDisposeScope();
    }
}
