using System.Globalization;
using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>DiT (Peebles and Xie 2022, arXiv:2212.09748): images of classes. A prompt is a class's number, or one of its names where the pipeline's files give them.</summary>
/// <param name="names">What classes are called, as the peer's <c>id2label</c>: several names, separated by commas; empty: numbers alone.</param>
public sealed class ClassDiffusion(DitTransformer transformer, LatentAutoencoder autoencoder, DiffusionScheduler scheduler, IReadOnlyDictionary<int, string> names) : DiffusionModel(scheduler, autoencoder)
{
    public DitTransformer Transformer { get; } = transformer;

    /// <summary>What classes are called, as the peer's <c>id2label</c>.</summary>
    public IReadOnlyDictionary<int, string> Names { get; } = names;

    /// <summary>Classes by their names; of several classes of one name, as ImageNet's two cranes, the last one, as in the peer.</summary>
    public IReadOnlyDictionary<string, int> Labels { get; } = Split(names);

    static Dictionary<string, int> Split(IReadOnlyDictionary<int, string> names)
    {
        var labels = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var (number, several) in names)
            foreach (var name in several.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)) labels[name] = number;
        return labels;
    }

    public override Module Network => Transformer;

    public override int Multiple => PixelsPerPlace * Transformer.Config.PatchSize;

    public override int Side => Transformer.Config.SampleSize * PixelsPerPlace;

    private protected override double FamilyGuidance => 4;

    /// <summary>Classes instead of words; nothing is said of what is not wanted.</summary>
    private protected override Conditioning Read(IReadOnlyList<string> prompts, int wanted, PromptOptions options)
    {
        if (prompts.Skip(wanted).Any(static n => n.Length > 0)) throw new PanoptesException("A negative prompt was given to a model of classes, which has none.");
        return new() { Classes = tensor([.. prompts.Select((p, i) => i < wanted ? (long)ClassOf(p) : Transformer.Config.NumEmbedsAdaNorm)]) };
    }

    /// <summary>The class that a prompt means: by its name, also in other letters where no class is called just so, or by its number.</summary>
    /// <exception cref="PanoptesException">No such class.</exception>
    public int ClassOf(string prompt)
    {
        var name = prompt.Trim();
        if (Labels.TryGetValue(name, out var known)) return known;
        foreach (var (label, alike) in Labels)
            if (label.Equals(name, StringComparison.OrdinalIgnoreCase)) return alike;
        var classes = Transformer.Config.NumEmbedsAdaNorm;
        return int.TryParse(prompt, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number < classes ? number
            : throw new PanoptesException($"'{prompt}' is no class of this model; expected a number from 0 to {classes - 1}{(Labels.Count > 0 ? ", or a name such as '" + Labels.Keys.First() + "'" : "")}.");
    }

    public override Tensor Predict(NetworkCall call)
    {
        using var scope = NewDisposeScope();
        // Behind the noise comes the variance, which guidance leaves out, as the peer does.
        return Transformer.Forward(call.Sample, call.Timestep.expand(call.Sample.shape[0]), call.Conditioning.Classes!, call.Attention).narrow(1, 0, LatentChannels).MoveToOuterDisposeScope();
    }
}
