using System.Globalization;
using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Training;
using Panoptes.Text;
using Panoptes.Training;
using YamlDotNet.Serialization;

namespace Panoptes.Understanding.Training;

/// <summary>
/// A model of this library that is trained on scenes, in one YAML file: task, model, data, optimizer, schedule. What makes a recipe one of these is its field <c>task</c>. Unknown
/// fields are errors; <c>extends: other.yaml</c> works as in every recipe.
/// </summary>
public sealed record SceneRecipe : ITrainingRecipe
{
    /// <summary>Names the run's folder.</summary>
    public required string Name { get; init; }

    /// <summary>What it trains, and why.</summary>
    public string? Description { get; init; }

    /// <summary>Of the first weights, the scenes and everything else that is drawn.</summary>
    public ulong Seed { get; init; }

    /// <summary>What is learned, by its name, with its options.</summary>
    public required SceneTaskOptions Task { get; init; }

    public required SceneModel Model { get; init; }

    public SceneData Data { get; init; } = new();

    public RecipeOptimizer Optimizer { get; init; } = new();

    public required RecipeSchedule Schedule { get; init; }

    public RecipeTraining Training { get; init; } = new();

    /// <summary>Where the file stands: paths in it are relative to its folder.</summary>
    [YamlIgnore]
    public string Folder { get; init; } = "";

    /// <summary>The file's text, which a run keeps.</summary>
    [YamlIgnore]
    public string Text { get; init; } = "";

    /// <summary>Whether a recipe's text is of this kind; what it extends decides where it says nothing itself.</summary>
    public static bool IsOne(string text, string source) => RecipeYaml.HasField(text, source, "task");

    /// <param name="text">What is in the file.</param>
    /// <param name="source">The file.</param>
    /// <param name="changes">Fields with other values than the file's: <c>data.concepts=200</c>. They are part of <see cref="Text"/>.</param>
    /// <exception cref="PanoptesException">No YAML, or an unknown, missing or wrong field; the message names the line.</exception>
    public static SceneRecipe Parse(string text, string source, params IReadOnlyList<string> changes)
    {
        var (recipe, expanded) = RecipeYaml.Parse<SceneRecipe>(text, source, changes, static builder => builder
            .WithTypeMapping<SceneTaskOptions, UnknownTask>()
            .WithTypeDiscriminatingNodeDeserializer(static o => o.AddKeyValueTypeDiscriminator<SceneTaskOptions>("name", SceneTaskOptions.All.ToDictionary())));
        RecipeYaml.CheckName(recipe.Name, source);
        return recipe with { Folder = Path.GetDirectoryName(Path.GetFullPath(source)) ?? "", Text = expanded };
    }

    /// <summary>What a name that none of the tasks has is read as.</summary>
    sealed record UnknownTask : SceneTaskOptions
    {
        public override SceneObjective Create(SceneSetting setting) => throw new PanoptesException($"The task {Name} is unknown; expected one of {string.Join(", ", All.Keys)}.");
    }

    /// <param name="path">The file.</param>
    /// <inheritdoc cref="Parse"/>
    public static SceneRecipe Load(string path, params IReadOnlyList<string> changes) => Parse(ModelFolder.ReadText(path), path, changes);

    public ITrainingRecipe WithSeed(ulong seed) => this with { Seed = seed, Text = RecipeYaml.WithSeed(Text, seed) };

    public ITrainingRecipe WithPrecision(string precision) => this with { Training = Training with { Precision = precision } };

    /// <summary>A path of the recipe, relative to its folder.</summary>
    public string Resolve(string path) => RecipeParts.Resolve(Folder, path);

    /// <summary>A model that the recipe names: a path relative to its folder if there is one, or else as it is written: a path from where the command runs, such as what another recipe trained, or a hub id.</summary>
    public string ResolveModel(string model) => Path.Exists(Resolve(model)) ? Resolve(model) : model;

    /// <summary>The scenes that models of this recipe are measured on.</summary>
    /// <exception cref="PanoptesException">It measures on none.</exception>
    public SceneTests Tests()
    {
        if (Data.Tests < 1) throw new PanoptesException($"The recipe {Name} measures on no scenes (data.tests is {Data.Tests}).");
        var emoji = EmojiSet.Open();
        return new(Data.Concepts is { } concepts ? emoji.Subset(concepts) : emoji, Composed.Scenes, Data.Tests);
    }

    /// <summary>The data with the photographs that they ask for.</summary>
    SceneData Composed => Data.Photographs ? Data with { Scenes = Data.Scenes with { Background = Data.Scenes.Background.WithPhotographs() } } : Data;

    public RecipeRun Start(string run)
    {
        var (s, t) = (Schedule, Training);
        var (schedule, precision, makeOptimizer) = (RecipeParts.ScheduleOf(s), RecipeParts.PrecisionOf(t.Precision), RecipeParts.OptimizerOf(Optimizer));
        if (t is not { MicroBatchSize: null, PatchDropout: 0, UnmaskedSteps: 0 }) throw new PanoptesException("micro_batch_size, patch_dropout and unmasked_steps do not go with scenes.");
        if (Optimizer.LayerDecay is not null) throw new PanoptesException("layer_decay does not go with scenes.");
        RecipeParts.Keep(Text, run);
        using var pause = Native.FinalizerPause.TryBegin();
        var data = Composed;
        var emoji = EmojiSet.Open();
        if (Data.Concepts is { } concepts) emoji = emoji.Subset(concepts);
        using var generator = new Generator(Seed);
        var objective = Task.Create(new(this, run, emoji, generator));
        try
        {
            objective.Model.CheckpointActivations(t.CheckpointActivations);
            var task = new SceneTask(objective, data, emoji, Seed, precision) { BatchSize = Data.BatchSize };
            var optimizer = makeOptimizer(ParameterGroup.Of(task.Model, Optimizer.WeightDecay));
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

    /// <summary>For a model from its config that reads texts: CLIP's merges, and how many of them.</summary>
    public RecipeTokenizer? Tokenizer { get; init; }

    /// <summary>Models of the library below this one that a task here may train.</summary>
    static IEnumerable<ModelEntry> Trained => Models.All.Where(static e => e.Type == typeof(ClipModel) || e.Type == typeof(OpenClipModel));

    /// <summary>Builds what trains a model that begins with the CLIP of <see cref="TowerFrom"/>, or with towers of its config or of <see cref="From"/>.</summary>
    /// <param name="setting">Of the run.</param>
    /// <param name="clipOf">Where the model has its CLIP.</param>
    /// <param name="make">What trains it, given also what reads its texts.</param>
    /// <exception cref="PanoptesException">As for <see cref="Build"/>, or it is no CLIP of open_clip's.</exception>
    internal SceneObjective TrainUponClip<T>(SceneSetting setting, Func<T, OpenClipModel> clipOf, Func<T, SceneTexts, SceneObjective> make) where T : Module
    {
        var model = BuildUponClip(setting, clipOf);
        try
        {
            return make(model, SceneTexts.Of(setting, clipOf(model)));
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    T BuildUponClip<T>(SceneSetting setting, Func<T, OpenClipModel> clipOf) where T : Module
    {
        if (TowerFrom is null) return Build<T>(setting);
        if (From is not null) throw new PanoptesException("A model begins with another one's towers (tower_from) or with all of its weights (from), not both.");
        using var clip = LoadClip(setting);
        var model = Build<T>(setting, clip: clip);
        ClipTowers.Copy(clip, clipOf(model));
        return model;
    }

    /// <summary>The CLIP of <see cref="TowerFrom"/> in float32.</summary>
    /// <exception cref="PanoptesException">None is named, or it is another model.</exception>
    internal OpenClipModel LoadClip(SceneSetting setting) => Models.Load<OpenClipModel>(setting.Recipe.ResolveModel(TowerFrom ?? throw new PanoptesException("This task needs the CLIP that it begins with (model.tower_from).")), new() { Dtype = ScalarType.Float32 });

    /// <summary>Builds a model that reads texts, with its tokenizer; where the recipe names a CLIP (tower_from), with that one's towers and tokenizer.</summary>
    /// <param name="setting">The recipe.</param>
    /// <param name="with">A config with a CLIP's towers.</param>
    /// <param name="begin">A model of such a config.</param>
    /// <param name="texts">How many tokens the model takes, and how many ids it knows.</param>
    /// <inheritdoc cref="Build"/>
    internal (T Model, Tokenizer Tokenizer) BuildWithTexts<T, TConfig>(SceneSetting setting, Func<TConfig, OpenClipModel, TConfig> with, Func<TConfig, OpenClipModel, Generator, T> begin, Func<T, ClipTextConfig> texts)
        where T : Module
        where TConfig : ModelConfig
    {
        if (TowerFrom is { } tower)
        {
            if (From is not null || Config is null || Tokenizer is not null) throw new PanoptesException("A model that begins with a CLIP's towers (tower_from) has its tokenizer, too, and a config of its own for the rest.");
            using var clip = LoadClip(setting);
            return (begin(with(ModelConfig.Parse<TConfig>(JsonSerializer.Serialize(Config), "the recipe's config"), clip), clip, setting.Generator), Text.Tokenizer.Load(ModelFolder.FolderOf(ModelFolder.Resolve(setting.Recipe.ResolveModel(tower)))));
        }
        var model = Build<T>(setting);
        try
        {
            var (r, c) = (setting.Recipe, texts(model));
            return (model, From is { } from
                ? Text.Tokenizer.Load(ModelFolder.FolderOf(ModelFolder.Resolve(r.ResolveModel(from))))
                : RecipeParts.TokenizerOf(Tokenizer ?? throw new PanoptesException("A model that reads texts needs a tokenizer."), r.Folder, setting.Run, c.MaxPositionEmbeddings, c.VocabSize));
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>Builds the model (initialized, or loaded in float32).</summary>
    /// <param name="labels">The classes that it tells apart, where the config names none itself.</param>
    /// <param name="clip">What the config's clip is, for a model that is built upon one.</param>
    /// <param name="fits">Which of the models of this library are meant; null: all that are a <typeparamref name="T"/>.</param>
    /// <param name="field">Where the config has the classes: a list; null: DETR's <c>id2label</c>.</param>
    /// <exception cref="PanoptesException">It is no <typeparamref name="T"/>, or its config or weights do not fit.</exception>
    internal T Build<T>(SceneSetting setting, IReadOnlyList<string>? labels = null, OpenClipModel? clip = null, Func<ModelEntry, bool>? fits = null, string? field = null) where T : Module
    {
        if (From is { } from)
        {
            if (Config is not null || Architecture is not null) throw new PanoptesException("A model is trained either from another one's weights (from) or from its config (architecture, config), not both.");
            var path = setting.Recipe.ResolveModel(from);
            var load = new LoadOptions { Dtype = ScalarType.Float32 };
            if (fits is not null)
            {
                var loaded = PromptableModels.Load(path, load);
                if (fits(PromptableModels.All.First(e => e.Type == loaded.GetType()))) return (T)loaded;
                loaded.Dispose();
                throw new PanoptesException($"{from} holds a {loaded.GetType().Name}, which does not go with this task.");
            }
            return PromptableModels.Registry.Knows(path) || !Trained.Any(static e => typeof(T).IsAssignableFrom(e.Type)) ? PromptableModels.Load<T>(path, load) : Models.Load<T>(path, load);
        }
        if (Architecture is null || Config is null) throw new PanoptesException("A model needs architecture and config, or the model whose weights it starts from (from).");
        ModelEntry[] fitting = [.. PromptableModels.All.Concat(Trained).Where(static e => typeof(T).IsAssignableFrom(e.Type)).Where(fits ?? (static _ => true))];
        var entry = Array.Find(fitting, e => e.Architecture == Architecture)
            ?? throw new PanoptesException($"The architecture {Architecture} does not go with this task; expected {string.Join(" or ", fitting.Select(static e => e.Architecture))}.");
        var config = new Dictionary<string, object?>(Config) { ["architectures"] = new[] { Architecture } };
        if (clip is not null) config["clip"] = JsonSerializer.Deserialize<JsonElement>(clip.Config.ToJson());
        if (labels is not null && field is not null) config.TryAdd(field, labels);
        else if (labels is not null) config.TryAdd("id2label", labels.Select(static (name, i) => (name, i)).ToDictionary(static l => l.i.ToString(CultureInfo.InvariantCulture), static l => l.name));
        var json = JsonSerializer.Serialize(config);
        var model = (T)entry.Build(new(json, $"the recipe's config of {Architecture}", static _ => null));
        model.Initialize(setting.Generator);
        return model;
    }
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
