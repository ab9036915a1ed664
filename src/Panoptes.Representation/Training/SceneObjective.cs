using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Nn;
using Panoptes.Training;

namespace Panoptes.Representation.Training;

/// <summary>What a model learns from scenes, and how it is measured on new ones. One file a method.</summary>
/// <remarks>Its public modules are trained and kept in checkpoints beside the model (keys: model, and theirs), and are no part of what is saved for users.</remarks>
public abstract class SceneObjective : Module
{
    /// <summary>What users get.</summary>
    public abstract Module Model { get; }

    /// <summary>The losses of a batch, of which <c>loss</c> is made small and the others are logged, scalars in float32. Called under autocast in the recipe's precision.</summary>
    /// <param name="batch">Scenes with everything that is known about them.</param>
    /// <param name="step">From 0.</param>
    /// <param name="random">For whatever is drawn; it follows from the seed and the step alone.</param>
    public abstract IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random);

    /// <summary>What the best model goes by: a name that <see cref="Measure"/> gives; larger is better.</summary>
    public abstract string Monitor { get; }

    /// <summary>How many expressions are drawn for every picture (<see cref="SceneBatchLoaderOptions.References"/>); null: all.</summary>
    public virtual int? References => 0;

    /// <summary>Measures the model on held-out scenes.</summary>
    public abstract IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel);

    /// <summary>Writes the model as users load it, with its processor and tokenizer.</summary>
    public abstract void Save(string folder);

    /// <summary>The factor of the schedule's rate for a parameter.</summary>
    public virtual double LearningRateScale(Parameter parameter) => 1;

    /// <summary>Called once, with what will make the steps.</summary>
    public virtual void Attach(Optimizer optimizer) { }

    /// <summary>Called after every step of the optimizer.</summary>
    public virtual void AfterStep() { }
}

/// <summary>What an objective is made of.</summary>
/// <param name="Recipe">The recipe.</param>
/// <param name="Run">The run's folder.</param>
/// <param name="Emoji">The drawings, limited to the recipe's concepts.</param>
/// <param name="Generator">Of random first weights.</param>
public sealed record SceneSetting(SceneRecipe Recipe, string Run, EmojiSet Emoji, Generator Generator)
{
    /// <summary>The first of the scenes that are trained on.</summary>
    public IEnumerable<Scene> FirstScenes(int count)
    {
        var generator = new SceneGenerator(Emoji, SceneGenerator.Things(Emoji), Recipe.Composed.Scenes, Recipe.Seed);
        return Enumerable.Range(0, count).Select(i => generator.Generate(i));
    }

    /// <summary>The concepts of the things that scenes are composed of, in order.</summary>
    public IReadOnlyList<int> Concepts { get; } = [.. SceneGenerator.Things(Emoji).Select(i => Emoji.Images[i].Concept).Distinct().Order()];

    /// <summary>What they are called, in the same order.</summary>
    public IReadOnlyList<string> Names => [.. Concepts.Select(c => Emoji.Concepts[c].Name)];

    /// <summary>The side of the scenes.</summary>
    public int Side => Recipe.Data.Scenes.Size;
}

/// <summary>How a recipe's task is written; the name decides which.</summary>
public abstract record SceneTaskOptions
{
    public required string Name { get; init; }

    /// <summary>Builds the model and what trains it.</summary>
    /// <exception cref="PanoptesException">The recipe's model or data do not fit the task.</exception>
    public abstract SceneObjective Create(SceneSetting setting);
}

/// <summary>New scenes to measure on, the same for every run and seed: drawings of the held-out style, and of held-out concepts where there are any.</summary>
/// <param name="emoji">The drawings, limited to the recipe's concepts.</param>
/// <param name="options">What scenes are like.</param>
/// <param name="count">Scenes of each split.</param>
public sealed class SceneTests(EmojiSet emoji, SceneOptions options, int count)
{
    const ulong Seed = 0x7E575;

    readonly Dictionary<EmojiSplit, Scene[]> made = [];
    readonly Dictionary<EmojiSplit, SceneGenerator> generators = [];
    readonly int[] concepts = [.. SceneGenerator.Things(emoji).Select(i => emoji.Images[i].Concept).Distinct().Order()];

    public EmojiSet Emoji => emoji;

    public SceneOptions Options => options;

    /// <summary>What the things of training scenes may be called, each once.</summary>
    public IReadOnlyList<string> Names => [.. concepts.Select(c => emoji.Concepts[c].Name)];

    /// <summary>The position of a concept in <see cref="Names"/>; -1 for one that is not trained on.</summary>
    public int NameOf(int concept) => Math.Max(-1, Array.BinarySearch(concepts, concept));

    /// <summary>The scenes of a split, made once.</summary>
    public IReadOnlyList<Scene> Scenes(EmojiSplit split)
    {
        if (made.TryGetValue(split, out var scenes)) return scenes;
        var images = SceneGenerator.Things(emoji, split);
        if (images.Length == 0) return made[split] = [];
        var generator = generators[split] = new SceneGenerator(emoji, images, options, Seed);
        scenes = new Scene[count];
        Parallel.For(0, count, i => scenes[i] = generator.Generate(i));
        return made[split] = scenes;
    }

    /// <summary>Expressions that mean objects of a scene of a split (<see cref="SceneGenerator.References"/>).</summary>
    public IReadOnlyList<SceneReference> References(EmojiSplit split, int scene) => Scenes(split) is var scenes && generators.TryGetValue(split, out var generator) ? generator.References(scenes[scene]) : [];

    /// <summary>The scenes of a split (or the first of them) in batches, as the model is trained on them but for augmentation; the caller disposes each.</summary>
    public IEnumerable<SceneBatch> Batches(EmojiSplit split, int size, int most = int.MaxValue) => Scenes(split).Take(most).Chunk(size).Select(static chunk => SceneBatch.Of(chunk));
}
