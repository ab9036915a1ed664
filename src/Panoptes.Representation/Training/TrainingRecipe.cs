using YamlDotNet.Serialization;

namespace Panoptes.Representation.Training;

/// <summary>What recipes of any kind say, and what whoever runs one must know.</summary>
public abstract record TrainingRecipe
{
    /// <summary>Names the run's folder.</summary>
    public required string Name { get; init; }

    /// <summary>What it trains, and why.</summary>
    public string? Description { get; init; }

    /// <summary>Of the first weights, the data and their order, augmentations and everything else that is drawn.</summary>
    public ulong Seed { get; init; }

    public RecipeOptimizer Optimizer { get; init; } = new();

    public required RecipeSchedule Schedule { get; init; }

    /// <summary>The loop.</summary>
    public RecipeTraining Training { get; init; } = new();

    /// <summary>Where the file stands: paths in it are relative to its folder.</summary>
    [YamlIgnore]
    public string Folder { get; init; } = "";

    /// <summary>The file's text, which a run keeps.</summary>
    [YamlIgnore]
    public string Text { get; init; } = "";

    /// <summary>The same with another seed, which its text says as well.</summary>
    public TrainingRecipe WithSeed(ulong seed) => this with { Seed = seed, Text = RecipeYaml.WithSeed(Text, seed) };

    /// <summary>The same computed in another precision.</summary>
    public TrainingRecipe WithPrecision(string precision) => this with { Training = Training with { Precision = precision } };

    /// <summary>A path of the recipe, relative to its folder.</summary>
    public string Resolve(string path) => RecipeParts.Resolve(Folder, path);

    /// <summary>Makes everything ready in the run's folder, which keeps the recipe and goes on only with the same one.</summary>
    /// <exception cref="PanoptesException">Something in the recipe does not fit, or the folder is another recipe's.</exception>
    public abstract RecipeRun Start(string run);
}
