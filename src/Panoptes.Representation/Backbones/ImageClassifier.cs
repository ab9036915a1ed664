using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>What the configs of image models share.</summary>
public abstract record ImageModelConfig : ModelConfig
{
    public int NumChannels { get; init; } = 3;
    public Activation HiddenAct { get; init; } = Activation.Gelu;
    public double InitializerRange { get; init; } = 0.02;

    /// <summary>The peer's class.</summary>
    public string[]? Architectures { get; init; }

    /// <summary>What a classifier tells apart: names by index.</summary>
    [JsonPropertyName("id2label")]
    public Dictionary<string, string>? Id2Label { get; init; }

    /// <summary>How many classes, where they have no names.</summary>
    public int? NumLabels { get; init; }

    /// <summary>The classes' names in order.</summary>
    internal string[] Labels()
    {
        var count = Id2Label?.Count ?? NumLabels ?? 2;
        return [.. Enumerable.Range(0, count).Select(i => i.ToString(System.Globalization.CultureInfo.InvariantCulture)).Select(i => Id2Label?.GetValueOrDefault(i) ?? $"LABEL_{i}")];
    }

    /// <summary>transformers' normal; where that cuts at ±2, nothing of it comes so far.</summary>
    internal Initializer Normal => Init.Normal(InitializerRange);
}

/// <summary>A tower some of whose patches can be replaced by a learned token before the first block, as masked modelling does.</summary>
public interface IMaskedImageTower : IImageTower
{
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="masked">[b, patches] bool: the patches that are replaced.</param>
    /// <param name="hiddenStates">Whether the states between the blocks are kept.</param>
    TowerOutput Forward(Tensor pixels, Tensor masked, bool hiddenStates = false);
}

/// <summary>What an <see cref="ImageClassifier"/> gives.</summary>
/// <param name="Logits">[b, classes]</param>
/// <param name="Tower">The tower's own outputs.</param>
public sealed record ClassifierOutput(Tensor Logits, TowerOutput Tower);

/// <summary>
/// An image tower with a linear layer on its pooled feature, as Hugging Face's …ForImageClassification. As a tower it is the one below.
/// Keys: classifier, and the tower's under its own name.
/// </summary>
public abstract class ImageClassifier(int features, ImageModelConfig config) : Module, IImageTower
{
    public Linear Classifier { get; } = new(features, config.Labels().Length, initializer: config.Normal);

    public abstract IImageTower Tower { get; }

    /// <summary>The classes' names, in the order of the logits.</summary>
    public IReadOnlyList<string> Labels { get; } = config.Labels();

    /// <summary>The place of a class among the logits: by its name, by one of the names that its name lists ("tench, Tinca tinca"), or by its number, since names may be those of several.</summary>
    /// <exception cref="PanoptesException">There is no such class.</exception>
    public int IndexOf(string label)
    {
        int First(Func<string, bool> fits) => Enumerable.Range(0, Labels.Count).Where(i => fits(Labels[i])).DefaultIfEmpty(-1).First();
        bool Same(string name) => name.Equals(label.Trim(), StringComparison.OrdinalIgnoreCase);
        if (First(Same) is >= 0 and var whole) return whole;
        if (First(l => l.Split(',', StringSplitOptions.TrimEntries).Any(Same)) is >= 0 and var part) return part;
        if (int.TryParse(label, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out var number) && number < Labels.Count) return number;
        throw new PanoptesException($"This model does not know the class \"{label}\"; it tells apart {string.Join(", ", Labels.Take(20).Select(static l => l.Split(',')[0]))}{(Labels.Count > 20 ? $" and {Labels.Count - 20} more" : "")}.");
    }

    public IImageTower Backbone => Tower.Backbone;

    public int EmbeddingSize => Tower.EmbeddingSize;

    public int ImageSize => Tower.ImageSize;

    public int PooledSize => Tower.PooledSize;

    public int TokenSize => Tower.TokenSize;

    public int PrefixTokens => Tower.PrefixTokens;

    public Tensor EmbedTokens(Tensor tokens) => Tower.EmbedTokens(tokens);

    public LayerGroups LayerGroups => Tower.LayerGroups.WithHead(Classifier);

    /// <returns>[b, classes]</returns>
    public Tensor Logits(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Classifier.Forward(Tower.Encode(pixels)).MoveToOuterDisposeScope();
    }

    /// <summary>The logits with the tower's outputs.</summary>
    public ClassifierOutput Classify(Tensor pixels, bool hiddenStates = false)
    {
        var tower = Tower.Forward(pixels, hiddenStates);
        return new(Classifier.Forward(tower.Pooled), tower);
    }

    public Tensor Encode(Tensor pixels) => Tower.Encode(pixels);

    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false) => Tower.Forward(pixels, hiddenStates);
}
