using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Data.Knowledge;
using Panoptes.Representation.Objectives;
using Panoptes.Training;

namespace Panoptes.Representation.Training;

/// <summary>
/// A trained thing in one YAML file: data, model, objectives, optimizer, schedule, evaluation. Unknown fields are errors. With
/// <c>extends: other.yaml</c> it is another recipe of the same folder but for what it says itself.
/// </summary>
public sealed record Recipe : TrainingRecipe
{
    public required RecipeModel Model { get; init; }

    public required RecipeData Data { get; init; }

    /// <summary>What is made small, each by its name and weight.</summary>
    public IReadOnlyList<ObjectiveOptions> Objectives { get; init; } = [new ContrastiveOptions { Name = "contrastive" }];

    /// <param name="path">The file.</param>
    /// <param name="changes">Fields with other values than the file's: <c>data.concepts=200</c>, <c>objectives.0.weight=2</c>. They are part of <see cref="Text"/>.</param>
    /// <exception cref="PanoptesException">The file is missing, is no YAML, or has an unknown, missing or wrong field; the message names the line.</exception>
    public static Recipe Load(string path, params IReadOnlyList<string> changes) => Parse(ModelFolder.ReadText(path), path, changes);

    /// <param name="text">What is in the file.</param>
    /// <param name="source">The file.</param>
    /// <inheritdoc cref="Load"/>
    public static Recipe Parse(string text, string source, params IReadOnlyList<string> changes)
    {
        var (recipe, expanded) = RecipeYaml.Parse<Recipe>(text, source, changes, static builder => builder
            .WithObjectFactory(new Presets())
            .WithTypeMapping<IReadOnlyList<ObjectiveOptions>, List<ObjectiveOptions>>()
            .WithTypeDiscriminatingNodeDeserializer(static o => o.AddKeyValueTypeDiscriminator<ObjectiveOptions>("name", ObjectiveOptions.All.ToDictionary()))
            .WithTypeMapping<IReadOnlyList<RecipeMeasure>, List<RecipeMeasure>>()
            .WithTypeMapping<IReadOnlyList<Modality>, List<Modality>>()
            .WithTypeMapping<IReadOnlyList<KnowledgeKind>, List<KnowledgeKind>>());
        RecipeYaml.CheckName(recipe.Name, source);
        return recipe with { Folder = Path.GetDirectoryName(Path.GetFullPath(source)) ?? "", Text = expanded };
    }

    public override RecipeRun Start(string run) => RecipeRun.Create(this, run);

    /// <summary>Omitted fields of an augmentation are those that suit drawings.</summary>
    sealed class Presets : YamlDotNet.Serialization.ObjectFactories.ObjectFactoryBase
    {
        readonly YamlDotNet.Serialization.ObjectFactories.DefaultObjectFactory usual = new();

        public override object Create(Type type) => type == typeof(Augmentation) ? Augmentation.Drawings(64) : usual.Create(type);
    }
}

/// <summary>What is trained: from the beginning by its config, or from a model's weights.</summary>
public sealed record RecipeModel
{
    /// <summary>The peer's class, as config.json names it, such as CLIPModel or SiglipModel.</summary>
    public string? Architecture { get; init; }

    /// <summary>The fields of its config.json; omitted ones have the peer's defaults.</summary>
    public IReadOnlyDictionary<string, object?>? Config { get; init; }

    /// <summary>A folder, a file or a hub id whose weights, tokenizer and image processor training starts from, instead of a config.</summary>
    public string? From { get; init; }

    /// <summary>For a model from its config: a folder, a file or a hub id whose image tower's weights the model's own tower starts from, such as those of a masked autoencoder.</summary>
    public string? ImageTowerFrom { get; init; }

    /// <summary>
    /// The sizes of encoders of further modalities (<see cref="RecipeData.Modalities"/>), under <see cref="ImageBindConfig"/>'s names, that are put beside the model
    /// which training starts from; that one is locked. Null: the model has them.
    /// </summary>
    public IReadOnlyDictionary<string, object?>? Bind { get; init; }

    /// <summary>For a model from its config: CLIP's merges, and how many of them (fewer make a smaller table of embeddings).</summary>
    public RecipeTokenizer? Tokenizer { get; init; }

    /// <summary>The last groups of layers of the image tower that are trained (0: none, the tower is locked as in LiT); null: all.</summary>
    public int? UnlockedImageGroups { get; init; }

    /// <summary>The same of the text tower.</summary>
    public int? UnlockedTextGroups { get; init; }

    /// <summary>The config as JSON, with the architecture, and the classes that a classifier is to tell apart where it names none itself.</summary>
    internal string ConfigJson(IReadOnlyList<string> classes)
    {
        var config = new Dictionary<string, object?>(Config!) { ["architectures"] = new[] { Architecture } };
        if (classes.Count > 0 && !config.ContainsKey("num_labels"))
            config.TryAdd("id2label", classes.Select(static (name, i) => (name, i)).ToDictionary(static c => c.i.ToString(System.Globalization.CultureInfo.InvariantCulture), static c => c.name));
        return JsonSerializer.Serialize(config);
    }
}

/// <summary>A CLIP tokenizer with the first merges of a list.</summary>
public sealed record RecipeTokenizer
{
    /// <summary>merges.txt, relative to the recipe.</summary>
    public required string Merges { get; init; }

    /// <summary>How many of them.</summary>
    public required int Count { get; init; }

    /// <summary>Words that become one token each, whatever parts those merges leave them in: <see cref="Text.ClipVocabulary"/>.</summary>
    public IReadOnlyList<string> Words { get; init; } = [];
}

/// <summary>Where the pairs come from.</summary>
public sealed record RecipeData
{
    /// <summary><c>emoji</c> (the bundled set), <c>scenes</c> (composed of it), <c>fashion-mnist</c> (where it is installed), or images with captions of one's own: a folder, a table, WebDataset shards; relative to the recipe.</summary>
    public required string Set { get; init; }

    /// <summary>What scenes are like; their size is the model's.</summary>
    public SceneOptions? Scenes { get; init; }

    /// <summary>Whether the texts of scenes are questions about them, and the labels their answers, instead of captions.</summary>
    public bool Questions { get; init; }

    /// <summary>For data of one's own: images with captions that are not trained on, to measure recall on; null: nothing is measured.</summary>
    public string? ValidationSet { get; init; }

    /// <summary>For a table of one's own: its columns and where its paths start.</summary>
    public ImageTableOptions? Table { get; init; }

    /// <summary>For data of one's own: whether a bad sample ends the run, instead of being counted, reported and replaced.</summary>
    public bool Strict { get; init; }

    /// <summary>Pairs of one step.</summary>
    public int BatchSize { get; init; } = 256;

    /// <summary>What is done to the images; the size is the model's.</summary>
    public Augmentation Augmentation { get; init; } = Augmentation.Drawings(64);

    /// <summary>What is done to the further views that objectives such as <c>simclr</c> compare; null: as to the first.</summary>
    public Augmentation? ViewAugmentation { get; init; }

    /// <summary>How further wordings of a text come about, for the objectives that compare them.</summary>
    public TextAugmentation TextAugmentation { get; init; } = new();

    /// <summary>What the emoji are called; data of one's own has its own captions.</summary>
    public EmojiCaptions? Captions { get; init; }

    /// <summary>
    /// External knowledge that is appended to captions in training and to the classes' texts in validation (K-LITE), from the bundled table about the
    /// emoji or, with <c>table</c> (relative to the recipe), one of one's own; null: none.
    /// </summary>
    public KnowledgeOptions? Knowledge { get; init; }

    /// <summary>
    /// Of audio, depth, thermal and imu those that are bound to the emoji's images (ImageBind), one a step in this order; one that stands twice comes
    /// twice as often. Null: images and texts are learned.
    /// </summary>
    public IReadOnlyList<Modality>? Modalities { get; init; }

    /// <summary>How many of the voices that speak the emoji's names are learned from, for audio; the model is tested on all others. Null: all that are not held out.</summary>
    public int? Voices { get; init; }

    /// <summary>How many of the emoji's concepts are learned and tested, the same whatever the seed; null: all.</summary>
    public int? Concepts { get; init; }

    /// <summary>Which of the emoji's concepts are learned and tested, by their names, in place of a number; null: as many as <see cref="Concepts"/> says.</summary>
    public string[]? Names { get; init; }

    /// <summary>
    /// How many of the training images of the emoji or of Fashion-MNIST (of which each class has as many) are learned from, the same whatever the seed, and
    /// each number's among those of every larger one; null: all.
    /// </summary>
    public int? Images { get; init; }

    /// <summary>Whether a batch has a concept of the emoji once at most, so that no text is another image's as well.</summary>
    public bool DistinctConcepts { get; init; } = true;

    /// <summary>How the emoji are annotated.</summary>
    public EmojiAnnotations? Annotations { get; init; }

    /// <summary>Whether the model is measured on what is held out: zero-shot in the style that is never trained on.</summary>
    public bool Validate { get; init; } = true;

    /// <summary>What is measured on bundled data, the first of which decides which model is the best; null: zero-shot names, or without a text tower classes, neighbors or (of an image tokenizer) reconstruction.</summary>
    public IReadOnlyList<RecipeMeasure>? Measures { get; init; }

    /// <summary>Threads that prepare batches.</summary>
    public int Workers { get; init; } = 1;
}

/// <summary>What can be measured on bundled data while a model is trained.</summary>
public enum RecipeMeasure
{
    /// <summary>Names of the drawings of the held-out style.</summary>
    ZeroShot,

    /// <summary>Subgroups of the drawings of the held-out style (of Fashion-MNIST: classes of test images), by the features of the nearest ones in the other styles (training images).</summary>
    Neighbors,

    /// <summary>The classes that a classifier is trained on (<see cref="RecipeData.Annotations"/>), in the held-out style or on the test images.</summary>
    Classes,

    /// <summary>Right answers to questions about scenes, in the held-out style.</summary>
    Answers,

    /// <summary>Where the things of a scene are, by their names (<see cref="Evaluation.WordPointing"/>), in the held-out style.</summary>
    Pointing,

    /// <summary>Whether new scenes find their captions and captions their scenes, among 500.</summary>
    Retrieval,

    /// <summary>What a model that writes captions says of the drawings of the held-out style (<see cref="Evaluation.CaptionEvaluation"/>).</summary>
    Captions,

    /// <summary>How well drawings of the held-out style come back out of an image tokenizer's tokens (<see cref="Evaluation.ReconstructionEvaluation"/>); the run's folder gets a sheet.</summary>
    Reconstruction,
}

/// <summary>How gradients become steps. An option that the optimizer has not is an error.</summary>
public sealed record RecipeOptimizer
{
    /// <summary><c>adamw</c>, <c>muon</c>, <c>lamb</c>, <c>lion</c>, <c>adafactor</c>, <c>lars</c> or <c>sgd</c> (with Nesterov's momentum).</summary>
    public string Name { get; init; } = "adamw";

    /// <summary>Of Muon, LARS and SGD; 0.95 by default.</summary>
    public double? Momentum { get; init; }

    /// <summary>Of AdamW, Muon, LAMB and Lion; 0.9 by default.</summary>
    public double? Beta1 { get; init; }

    /// <summary>Of AdamW, Muon, LAMB and Lion; 0.98 by default.</summary>
    public double? Beta2 { get; init; }

    /// <summary>Of AdamW, Muon and LAMB; 1e-6 by default.</summary>
    public double? Eps { get; init; }

    /// <summary>Of AdamW: steps are divided by the largest mean square so far (Reddi et al. 2018, arXiv:1904.09237); false by default.</summary>
    public bool? Amsgrad { get; init; }

    /// <summary>Of matrices; biases, norms and scales are never decayed.</summary>
    public double WeightDecay { get; init; } = 0.2;

    /// <summary>The factor of the learning rate from each layer to the one before; null: one rate for all.</summary>
    public double? LayerDecay { get; init; }
}

/// <summary>The learning rate over the run.</summary>
public sealed record RecipeSchedule
{
    /// <summary><c>cosine</c>, <c>linear</c>, <c>constant</c> or <c>one_cycle</c>.</summary>
    public string Name { get; init; } = "cosine";

    public required double LearningRate { get; init; }

    public required long Steps { get; init; }

    /// <summary>Steps of the rise to the highest rate; for <c>one_cycle</c>, 0 means three tenths of the run.</summary>
    public long WarmupSteps { get; init; }

    /// <summary>Where <c>cosine</c> ends (0 by default); no other schedule takes it.</summary>
    public double? FinalRate { get; init; }
}

/// <summary>The loop.</summary>
public sealed record RecipeTraining
{
    /// <summary>What the towers compute in: <c>float32</c>, <c>bfloat16</c>, or <c>auto</c> (bfloat16 where the processor has it); weights stay float32.</summary>
    public string Precision { get; init; } = "auto";

    /// <summary>Pairs that go through the towers at once; the numbers are those of the whole batch. Null: all.</summary>
    public int? MicroBatchSize { get; init; }

    /// <summary>Whether the blocks of transformers and ResNets keep only their inputs for the gradient and are computed again: much less memory, a third more time.</summary>
    public bool CheckpointActivations { get; init; }

    public double? ClipGradNorm { get; init; } = 1;

    public double? EmaDecay { get; init; }

    /// <summary>Whether the average begins short and grows with the steps up to <see cref="EmaDecay"/>.</summary>
    public bool EmaWarmup { get; init; } = true;

    /// <summary>The share of patches left out (FLIP).</summary>
    public double PatchDropout { get; init; }

    /// <summary>How many steps at the end see all patches; only with <see cref="PatchDropout"/>.</summary>
    public long UnmaskedSteps { get; init; }

    public int LogEvery { get; init; } = 10;

    public long ValidateEvery { get; init; } = 500;

    public long CheckpointEvery { get; init; }

    /// <summary>The value of what is measured first that is enough: training stops when it is reached, so that its steps and seconds are what that took; null: never.</summary>
    public double? Target { get; init; }

    /// <summary>Validations without improvement after which training stops, where something is measured; null: never.</summary>
    public int? Patience { get; init; }
}
