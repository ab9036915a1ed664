using Panoptes.Data;
using Panoptes.Data.Knowledge;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation.Objectives;

namespace Panoptes.Representation.Training;

/// <summary>The pairs that a recipe names: a stream to train on, and what measures the model meanwhile.</summary>
/// <param name="Loader">Owned by whoever takes it.</param>
/// <param name="Validation">Null: nothing is held out.</param>
/// <param name="Monitor">The measure that the best model goes by.</param>
/// <param name="Problems">What could not be used of the user's own data.</param>
public sealed record PairData(PrefetchLoader<ImageTextBatch> Loader, ModelValidation? Validation, string? Monitor, DataProblems? Problems)
{
    const int Batch = 128, MostValidated = 5000;

    /// <param name="recipe">Names the data.</param>
    /// <param name="towers">What is trained: decides the images' size and whether there have to be texts.</param>
    /// <param name="processor">Of the model: images are normalized as it does.</param>
    /// <param name="needs">What the objectives look at: as many views are drawn.</param>
    /// <param name="set">The emoji, where they are the data (<see cref="OpenEmoji"/>).</param>
    /// <param name="fashion">Fashion-MNIST, where that is the data (<see cref="OpenFashion"/>).</param>
    /// <param name="run">The run's folder, for what is drawn when the model is measured; null: nothing.</param>
    /// <exception cref="PanoptesException">There is no such data, or an option does not fit it.</exception>
    public static PairData Open(Recipe recipe, Towers towers, ImageProcessor processor, IReadOnlyCollection<Feature> needs, EmojiSet? set, FashionMnist? fashion = null, string? run = null)
    {
        var d = recipe.Data;
        var views = new MoreViews { Images = Views(Side.Image), Texts = Views(Side.Text), Augmentation = d.ViewAugmentation, TextAugmentation = d.TextAugmentation };
        var augmentation = d.Augmentation with { Size = towers.Images.ImageSize, Mean = processor.Mean, Std = processor.Std };
        return set is not null ? Emoji(recipe, towers, augmentation, views, set, run)
            : fashion is not null ? Fashion(recipe, towers, augmentation, views, fashion)
            : Own(recipe, towers, augmentation, views);

        int Views(Side side) => needs.Where(f => f.Side == side).Select(static f => f.View).DefaultIfEmpty(0).Max();
    }

    /// <summary>The emoji that a recipe names, all or some of them; null where it names data of one's own.</summary>
    public static EmojiSet? OpenEmoji(Recipe recipe)
    {
        if (recipe.Data.Set is not ("emoji" or "scenes")) return null;
        return RecipeParts.Chosen(EmojiSet.Open(), recipe.Data.Concepts, recipe.Data.Names);
    }

    /// <summary>Fashion-MNIST where a recipe names it, else null.</summary>
    /// <exception cref="PanoptesException">It is not on this machine.</exception>
    public static FashionMnist? OpenFashion(Recipe recipe) => recipe.Data.Set == "fashion-mnist" ? FashionMnist.Open() : null;

    /// <summary>Gray images, whose texts are the names of their classes.</summary>
    static PairData Fashion(Recipe recipe, Towers towers, Augmentation augmentation, MoreViews views, FashionMnist fashion)
    {
        var d = recipe.Data;
        RefuseOfEmoji(d, "Fashion-MNIST", ("annotations", d.Annotations), ("scenes", d.Scenes), ("concepts", d.Concepts), ("names", d.Names), ("captions", d.Captions), ("knowledge", d.Knowledge), ("validation_set", d.ValidationSet), ("table", d.Table));
        var loader = ImageLoader.Create(fashion.Train, FashionMnist.Classes, new() { BatchSize = d.BatchSize, Seed = recipe.Seed, Augmentation = augmentation, Views = views, Loader = new() { Workers = d.Workers } },
            d.Images is { } count ? fashion.Train.Balanced(count) : null);
        if (!d.Validate) return new(loader, null, null, null);
        var measures = Measures(d, towers, [RecipeMeasure.Neighbors, RecipeMeasure.Classes], RecipeMeasure.Neighbors);
        var validation = new FashionValidation(fashion, measures);
        return new(loader, validation.Measure, validation.Monitor, null);
    }

    /// <summary>What a recipe measures, or what is usual for its model.</summary>
    static IReadOnlyList<RecipeMeasure> Measures(RecipeData d, Towers towers, IReadOnlyCollection<RecipeMeasure> possible, RecipeMeasure usual)
    {
        var measures = d.Measures ?? [towers.Images is ImageClassifier ? RecipeMeasure.Classes : possible.Contains(RecipeMeasure.Reconstruction) && towers.Model is VqModel ? RecipeMeasure.Reconstruction : usual];
        if (measures.Count == 0) throw new PanoptesException("measures is empty; leave it out, or say validate: false.");
        foreach (var measure in measures)
        {
            var name = Module.SnakeCase(measure.ToString());
            if (!possible.Contains(measure)) throw new PanoptesException($"{name} cannot be measured on the data {d.Set}; expected {string.Join(" or ", possible.Select(static m => Module.SnakeCase(m.ToString())))}.");
            if (measure is RecipeMeasure.ZeroShot or RecipeMeasure.Pointing && towers.Texts is null) throw new PanoptesException($"{name} cannot be measured of a model without a text tower; expected neighbors.");
            if (measure is RecipeMeasure.ZeroShot && towers.Model is not DualEncoder) throw new PanoptesException($"{name} cannot be measured of a {towers.Model.GetType().Name}, which does not compare images with texts.");
            if (measure == RecipeMeasure.Retrieval && (towers.Model is not DualEncoder || d.Set != "scenes")) throw new PanoptesException($"{name} is measured on scenes, of a model that compares images with texts; found {d.Set} and a {towers.Model.GetType().Name}.");
            if (measure == RecipeMeasure.Answers && towers.Model is not Beit3ForVisualQuestionAnswering) throw new PanoptesException($"{name} cannot be measured of a {towers.Model.GetType().Name}, which answers no questions.");
            if (measure == RecipeMeasure.Reconstruction && towers.Model is not VqModel) throw new PanoptesException($"{name} is measured of an image tokenizer, a VQModel; found a {towers.Model.GetType().Name}.");
            if (measure == RecipeMeasure.Classes && towers.Images is not ImageClassifier) throw new PanoptesException($"{name} cannot be measured of a {towers.Model.GetType().Name}, which tells no classes apart.");
        }
        return measures;
    }

    static void RefuseOfEmoji(RecipeData d, string data, params ReadOnlySpan<(string Field, object? Given)> fields)
    {
        foreach (var (field, given) in fields)
            if (given is not null) throw new PanoptesException($"{field} {(field.EndsWith('s') ? "do" : "does")} not go with the data {d.Set}: {data} has none to choose.");
    }

    static PairData Emoji(Recipe recipe, Towers towers, Augmentation augmentation, MoreViews views, EmojiSet set, string? run)
    {
        var d = recipe.Data;
        if (d.ValidationSet is not null) throw new PanoptesException("validation_set does not go with the emoji, which have a held-out style of their own.");
        if (d.Table is not null) throw new PanoptesException("table does not go with the emoji, which are no table of one's own.");
        var (captions, knowledge) = (d.Captions ?? new(), Knowledge(recipe));
        var isScenes = d.Set == "scenes";
        if (!isScenes && d.Questions) throw new PanoptesException("questions are asked about the data scenes and do not go with emoji.");
        if (!isScenes && d.Scenes is not null) throw new PanoptesException("scenes describes the data scenes and does not go with emoji.");
        if (d.Measures?.Contains(RecipeMeasure.Captions) == true && (towers.Model is not ICaptionWriter || isScenes))
            throw new PanoptesException(isScenes ? "captions are measured on the emoji, not on scenes." : $"captions cannot be measured of a {towers.Model.GetType().Name}, which writes none; expected a CoCa or a BEiT3ForCaptioning.");
        var loader = isScenes ? SceneBatches(recipe, towers, augmentation, views, set) : EmojiBatches(recipe, augmentation, views, set, captions, knowledge);
        if (!d.Validate) return new(loader, null, null, null);
        var measures = Measures(d, towers, Enum.GetValues<RecipeMeasure>(), towers.Model is Beit3ForVisualQuestionAnswering ? RecipeMeasure.Answers
            : towers.Model is Beit3ForCaptioning && !isScenes ? RecipeMeasure.Captions : towers.Model is not DualEncoder ? RecipeMeasure.Neighbors : isScenes ? RecipeMeasure.Pointing : RecipeMeasure.ZeroShot);
        var validation = new EmojiValidation(set, measures)
        {
            Options = new() { Templates = captions.Templates, Knowledge = knowledge, BatchSize = Batch },
            Run = run,
            Label = (d.Annotations ?? new()).Label,
            Pointing = new() { Composition = Composition(recipe, towers, least: 2) },
            Scenes = Composition(recipe, towers, least: 1),
        };
        return new(loader, validation.Measure, validation.Monitor, null);
    }

    /// <summary>Every answer to a question about scenes of these concepts: yes, no, numbers, names.</summary>
    internal static IReadOnlyList<string> Answers(Recipe recipe, EmojiSet set) =>
    [
        "yes", "no", .. Enumerable.Range(0, (recipe.Data.Scenes ?? new()).MaxObjects + 1).Select(static n => n.ToString(System.Globalization.CultureInfo.InvariantCulture)),
        .. SceneGenerator.Things(set).Select(i => set.Concepts[set.Images[i].Concept].Name).Distinct().Order(StringComparer.Ordinal),
    ];

    /// <summary>What scenes are like, in the model's size.</summary>
    static SceneOptions Composition(Recipe recipe, Towers towers, int least)
    {
        var o = recipe.Data.Scenes ?? new();
        return o with { Size = towers.Images.ImageSize, MinObjects = Math.Max(least, o.MinObjects), MaxObjects = Math.Max(least, o.MaxObjects) };
    }

    static PrefetchLoader<ImageTextBatch> SceneBatches(Recipe recipe, Towers towers, Augmentation augmentation, MoreViews views, EmojiSet set)
    {
        var d = recipe.Data;
        foreach (var (field, given) in (ReadOnlySpan<(string, object?)>)[("images", d.Images), ("annotations", d.Annotations), ("captions", d.Captions), ("knowledge", d.Knowledge)])
            if (given is not null) throw new PanoptesException($"{field} are those of the emoji and do not go with scenes.");
        // What moves a picture is left out: captions say what is left of what.
        var still = augmentation with { CropScale = new(1, 1), Rotation = 0, Translation = 0, Scale = new(1, 1), FlipProbability = 0, ElasticProbability = 0 };
        return SceneLoader.Create(new(set, SceneGenerator.Things(set), Composition(recipe, towers, least: 1), recipe.Seed), new() { BatchSize = d.BatchSize, Seed = recipe.Seed, Augmentation = still, Views = views, Answers = d.Questions ? Answers(recipe, set) : null, Loader = new() { Workers = d.Workers } });
    }

    static PrefetchLoader<ImageTextBatch> EmojiBatches(Recipe recipe, Augmentation augmentation, MoreViews views, EmojiSet set, EmojiCaptions captions, KnowledgeTable? knowledge)
    {
        var d = recipe.Data;
        var images = set.Select(EmojiSplit.Train);
        if (d.Images is { } count)
        {
            if (count < 1 || count > images.Length) throw new PanoptesException($"images is {count}; expected 1 to the {images.Length} training images of these concepts.");
            new SampleRandom(0, 0, 0).Shuffle<int>(images);
            images = [.. images.Take(count).Order()];
        }
        return EmojiLoader.Create(set, images, new()
        {
            DistinctConcepts = d.DistinctConcepts,
            Annotations = d.Annotations ?? new(),
            BatchSize = d.BatchSize,
            Seed = recipe.Seed,
            Augmentation = augmentation,
            Views = views,
            Captions = captions,
            Knowledge = knowledge,
            Loader = new() { Workers = d.Workers },
        });
    }

    static KnowledgeTable? Knowledge(Recipe recipe) =>
        recipe.Data.Knowledge is { } options ? KnowledgeTable.Open(options with { Table = options.Table is { } table ? recipe.Resolve(table) : null }) : null;

    static PairData Own(Recipe recipe, Towers towers, Augmentation augmentation, MoreViews views)
    {
        var d = recipe.Data;
        foreach (var (field, given) in (ReadOnlySpan<(string, object?)>)[("images", d.Images), ("annotations", d.Annotations), ("scenes", d.Scenes), ("names", d.Names)])
            if (given is not null) throw new PanoptesException($"{field} are those of the emoji and do not go with the data {d.Set}.");
        if (d.Concepts is not null) throw new PanoptesException($"concepts counts those of the emoji and does not go with the data {d.Set}.");
        if (d.Captions is not null) throw new PanoptesException($"captions are about the emoji and do not go with the data {d.Set}, which has its own.");
        if (d.Knowledge is { Table: null }) throw new PanoptesException($"knowledge needs a table with the data {d.Set}: the bundled one is about the emoji.");
        var problems = new DataProblems(d.Strict);
        var data = ImageData.Open(recipe.Resolve(d.Set), d.Table, problems);
        if (d.Measures is not null) throw new PanoptesException($"measures are those of the emoji and do not go with the data {d.Set}, which is measured by recall where there is a validation_set.");
        if (!data.HasText && towers.Texts is not null) throw new PanoptesException($"{data.Source} has no captions: a text file beside each image, or a column of texts, was expected.");
        var loader = ImageLoader.Create(data, new() { BatchSize = d.BatchSize, Seed = recipe.Seed, Augmentation = augmentation, Views = views, Knowledge = Knowledge(recipe), Loader = new() { Workers = d.Workers } });
        if (d.ValidationSet is not null && towers.Texts is null) throw new PanoptesException("validation_set measures recall between images and captions, which a model without a text tower does not have.");
        return d.ValidationSet is null || !d.Validate ? new(loader, null, null, problems) : new(loader, Retrieving(recipe, problems), "image_to_text_r1", problems);
    }

    /// <summary>Recall between the images and the different texts of the validation set, its first thousands.</summary>
    static ModelValidation Retrieving(Recipe recipe, DataProblems problems)
    {
        var samples = ImageData.Open(recipe.Resolve(recipe.Data.ValidationSet!), recipe.Data.Table, problems).Read().Where(static s => s.Text.Length > 0).Take(MostValidated).ToArray();
        if (samples.Length == 0) throw new PanoptesException($"{recipe.Data.ValidationSet} has no image with a text to validate with.");
        string[] texts = [.. samples.Select(static s => s.Text).Distinct(StringComparer.Ordinal)];
        var groups = texts.Select(static (t, i) => (t, i)).ToDictionary(static p => p.t, static p => p.i, StringComparer.Ordinal);
        return (model, processor, tokenizer, progress, cancel) =>
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            var encoder = new BatchEncoder(Towers.Of(model), processor, tokenizer!, Batch, truncateTexts: true);
            var parts = new PartialProgress(progress, samples.Length + texts.Length);
            var images = encoder.Images(samples.Length, i => samples[i].Decode(), parts.Part(samples.Length), cancel);
            var found = Retrieval.Score(images, encoder.Texts(texts, parts.Part(texts.Length), cancel), [.. samples.Select(s => groups[s.Text])], [.. Enumerable.Range(0, texts.Length)], cancel);
            return new Dictionary<string, double>
            {
                ["image_to_text_r1"] = found.ImageToText.R1,
                ["image_to_text_r5"] = found.ImageToText.R5,
                ["text_to_image_r1"] = found.TextToImage.R1,
                ["text_to_image_r5"] = found.TextToImage.R5,
            };
        };
    }
}
