using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Training;

namespace Panoptes.Representation.Training;

/// <summary>
/// A model that is trained on scenes, in one YAML file: task, model, data, optimizer, schedule. What makes a recipe one of these is its field <c>task</c>. Unknown
/// fields are errors; <c>extends: other.yaml</c> works as in every recipe.
/// </summary>
public sealed record SceneRecipe : TrainingRecipe
{
    /// <summary>What is learned, by its name, with its options.</summary>
    public required SceneTaskOptions Task { get; init; }

    public required SceneModel Model { get; init; }

    public SceneData Data { get; init; } = new();

    /// <summary>Whether a recipe's text is of this kind; what it extends decides where it says nothing itself.</summary>
    public static bool IsOne(string text, string source) => RecipeYaml.HasField(text, source, "task");

    /// <param name="text">What is in the file.</param>
    /// <param name="source">The file.</param>
    /// <param name="tasks">What may be learned: the options' types by their names, of the libraries that are at hand.</param>
    /// <param name="changes">Fields with other values than the file's: <c>data.concepts=200</c>. They are part of <see cref="Text"/>.</param>
    /// <exception cref="PanoptesException">No YAML, or an unknown, missing or wrong field; the message names the line.</exception>
    public static SceneRecipe Parse(string text, string source, IReadOnlyDictionary<string, Type> tasks, params IReadOnlyList<string> changes)
    {
        var (recipe, expanded) = RecipeYaml.Parse<SceneRecipe>(text, source, changes, builder => builder
            .WithTypeMapping<SceneTaskOptions, UnknownTask>()
            .WithTypeDiscriminatingNodeDeserializer(o => o.AddKeyValueTypeDiscriminator<SceneTaskOptions>("name", tasks.ToDictionary())));
        if (recipe.Task is UnknownTask) throw new PanoptesException($"{source}: the task {recipe.Task.Name} is unknown; expected one of {string.Join(", ", tasks.Keys.Order(StringComparer.Ordinal))}.");
        RecipeYaml.CheckName(recipe.Name, source);
        if (recipe.Data.Tests is < 0 or > 1_000_000) throw new PanoptesException($"{source}: data.tests is {recipe.Data.Tests}; expected 0 to 1,000,000.");
        return recipe with { Folder = Path.GetDirectoryName(Path.GetFullPath(source)) ?? "", Text = expanded };
    }

    /// <summary>What a name that none of the tasks has is read as.</summary>
    sealed record UnknownTask : SceneTaskOptions
    {
        public override SceneObjective Create(SceneSetting setting) => throw new PanoptesException($"The task {Name} is unknown.");
    }

    /// <param name="path">The file.</param>
    /// <inheritdoc cref="Parse"/>
    public static SceneRecipe Load(string path, IReadOnlyDictionary<string, Type> tasks, params IReadOnlyList<string> changes) => Parse(ModelFolder.ReadText(path), path, tasks, changes);

    /// <summary>
    /// A model that the recipe names: a path relative to its folder if there is one, or else as it is written: a path from where the command runs, such as what another recipe trained, or a hub id. The bundled ones (<c>zoo/…</c>) are
    /// found in any folder above, too.
    /// </summary>
    public string ResolveModel(string model)
    {
        if (Path.Exists(Resolve(model))) return Resolve(model);
        if (model.StartsWith("zoo/", StringComparison.Ordinal) && !Path.Exists(model))
            for (var above = new DirectoryInfo(Path.GetFullPath(Folder)); above is not null; above = above.Parent)
                if (Path.Exists(Path.Combine(above.FullName, model))) return Path.Combine(above.FullName, model);
        return model;
    }

    /// <summary>The scenes that models of this recipe are measured on.</summary>
    /// <param name="count">How many of each split; null: as the recipe says.</param>
    /// <exception cref="PanoptesException">It measures on none.</exception>
    public SceneTests Tests(int? count = null)
    {
        if ((count ?? Data.Tests) < 1) throw new PanoptesException($"The recipe {Name} measures on no scenes (data.tests is {Data.Tests}).");
        return new(Data.Of(EmojiSet.Open()), Composed.Scenes, count ?? Data.Tests);
    }

    /// <summary>The data with the photographs that they ask for.</summary>
    internal SceneData Composed => Data.Photographs ? Data with { Scenes = Data.Scenes with { Background = Data.Scenes.Background.WithPhotographs() } } : Data;

    public override RecipeRun Start(string run)
    {
        var (s, t) = (Schedule, Training);
        var (schedule, precision, makeOptimizer) = (RecipeParts.ScheduleOf(s), RecipeParts.PrecisionOf(t.Precision), RecipeParts.OptimizerOf(Optimizer));
        if (t is not { MicroBatchSize: null, PatchDropout: 0, UnmaskedSteps: 0 }) throw new PanoptesException("micro_batch_size, patch_dropout and unmasked_steps do not go with scenes.");
        if (Optimizer.LayerDecay is not null) throw new PanoptesException("layer_decay does not go with scenes.");
        RecipeParts.Keep(Text, run);
        using var pause = Native.FinalizerPause.TryBegin();
        var data = Composed;
        var emoji = Data.Of(EmojiSet.Open());
        using var generator = new Generator(Seed);
        var objective = Task.Create(new(this, run, emoji, generator));
        try
        {
            objective.Model.CheckpointActivations(t.CheckpointActivations);
            var task = new SceneTask(objective, data, emoji, Seed, precision) { BatchSize = Data.BatchSize };
            var optimizer = makeOptimizer(ParameterGroup.Of(task.Model, Optimizer.WeightDecay, objective.LearningRateScale));
            objective.Attach(optimizer);
            return new(objective.Model, task, optimizer, new Trainer(task, optimizer, RecipeParts.LoopOf(t, schedule, Data.Tests > 0 ? objective.Monitor : null), run));
        }
        catch
        {
            objective.Dispose();
            throw;
        }
    }
}

/// <summary>What is trained: from the beginning by its config, or from a model's weights.</summary>
public sealed record SceneModel
{
    /// <summary>The peer's class, as config.json names it, such as SamModel.</summary>
    public string? Architecture { get; init; }

    /// <summary>The fields of its config.json; omitted ones have the peer's defaults.</summary>
    public IReadOnlyDictionary<string, object?>? Config { get; init; }

    /// <summary>A folder, a file or a hub id whose weights training starts from, instead of a config.</summary>
    public string? From { get; init; }

    /// <summary>A model of images (and texts) that the task takes a tower of, or all, as it says.</summary>
    public string? TowerFrom { get; init; }

    /// <summary>For a model from its config that reads texts: CLIP's merges, and how many of them. For a pipeline that goes on (<see cref="From"/>): another vocabulary than it had.</summary>
    public RecipeTokenizer? Tokenizer { get; init; }
}

/// <summary>Which scenes are learned from.</summary>
public sealed record SceneData
{
    /// <summary>What scenes are like.</summary>
    public SceneOptions Scenes { get; init; } = new();

    /// <summary>Whether half of the backgrounds are parts of the bundled photographs.</summary>
    public bool Photographs { get; init; }

    /// <summary>How many of the emoji's concepts appear, the same whatever the seed; null: all.</summary>
    public int? Concepts { get; init; }

    /// <summary>Which of them appear, by their names, in place of a number; null: as many as <see cref="Concepts"/> says.</summary>
    public string[]? Names { get; init; }

    /// <summary>The drawings of these concepts.</summary>
    /// <exception cref="PanoptesException">Both a number and names, or a name that no concept has.</exception>
    internal EmojiSet Of(EmojiSet emoji) => RecipeParts.Chosen(emoji, Concepts, Names);

    /// <summary>How many different scenes there are; they come again in another order after as many. Null: every one is new.</summary>
    public int? Count { get; init; }

    public int BatchSize { get; init; } = 16;

    /// <summary>What is done to the pictures: colors and noise, nothing that would move things; null: nothing. Its size is the scenes'.</summary>
    public Augmentation? Augmentation { get; init; }

    /// <summary>Held-out scenes that the model is measured on; 0: it is not measured.</summary>
    public int Tests { get; init; } = 100;

    /// <summary>Threads that compose scenes.</summary>
    public int Workers { get; init; } = 1;
}
