namespace Panoptes.Representation.Training;

/// <summary>A recipe of any kind, as far as whoever runs it must know.</summary>
public interface ITrainingRecipe
{
    /// <summary>Names the run's folder.</summary>
    string Name { get; }

    /// <summary>The loop.</summary>
    RecipeTraining Training { get; init; }

    /// <summary>The same with another seed, which its text says as well.</summary>
    ITrainingRecipe WithSeed(ulong seed);

    /// <summary>The same computed in another precision.</summary>
    ITrainingRecipe WithPrecision(string precision);

    /// <summary>Makes everything ready in the run's folder, which keeps the recipe and goes on only with the same one.</summary>
    /// <exception cref="PanoptesException">Something in the recipe does not fit, or the folder is another recipe's.</exception>
    RecipeRun Start(string run);
}
