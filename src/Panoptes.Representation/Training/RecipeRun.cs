using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation.Objectives;
using Panoptes.Text;
using Panoptes.Training;

namespace Panoptes.Representation.Training;

/// <summary>A recipe made ready to train: model, data, optimizer and loop.</summary>
public sealed class RecipeRun : IDisposable
{
    readonly TrainingTask task;
    readonly Optimizer optimizer;

    /// <param name="model">What users get.</param>
    /// <param name="task">How it is trained; disposed with this object, as is the optimizer.</param>
    internal RecipeRun(Module model, TrainingTask task, Optimizer optimizer, Trainer trainer) => (Model, this.task, this.optimizer, Trainer) = (model, task, optimizer, trainer);

    /// <summary>The loop.</summary>
    public Trainer Trainer { get; }

    public Module Model { get; }

    /// <summary>What could not be used of the user's own data so far; null for bundled data.</summary>
    public DataProblems? Problems { get; private init; }

    /// <param name="recipe">What to train.</param>
    /// <param name="run">The run's folder. It keeps the recipe, and goes on only with the same one.</param>
    /// <exception cref="PanoptesException">Something in the recipe does not fit, or the folder is another recipe's.</exception>
    public static RecipeRun Create(Recipe recipe, string run)
    {
        var (s, t) = (recipe.Schedule, recipe.Training);
        var (schedule, precision, makeOptimizer) = (RecipeParts.ScheduleOf(s), RecipeParts.PrecisionOf(t.Precision), RecipeParts.OptimizerOf(recipe.Optimizer));
        if (t.PatchDropout is not (>= 0 and < 1)) throw new PanoptesException($"patch_dropout is {t.PatchDropout}; expected from 0 to below 1.");
        if (t.UnmaskedSteps != 0 && t.PatchDropout == 0) throw new PanoptesException("unmasked_steps are steps without patch_dropout, which is not given.");
        if (recipe.Objectives.GroupBy(static o => o.Name).FirstOrDefault(static g => g.Count() > 1) is { } twice) throw new PanoptesException($"The objective {twice.Key} is listed twice; give it the weight of both.");
        if (recipe.Model.Bind is not null && recipe.Data.Modalities is null) throw new PanoptesException("bind describes encoders of modalities, of which data names none.");
        RecipeParts.Keep(recipe.Text, run);
        using var pause = Native.FinalizerPause.TryBegin();                           // much may be computed once and for all before the first step
        var (emoji, fashion) = (PairData.OpenEmoji(recipe), PairData.OpenFashion(recipe));
        var classes = recipe.Data.Questions && emoji is not null ? PairData.Answers(recipe, emoji) : emoji is not null ? (recipe.Data.Annotations ?? new()).Names(emoji) : fashion is not null ? FashionMnist.Classes : [];
        var (model, processor, tokenizer) = Build(recipe, run, classes);
        if (recipe.Data.Modalities is not null)
        {
            var binding = BindingTask.Create(recipe, model, processor, tokenizer, precision);
            var bound = makeOptimizer(ParameterGroup.Of(binding.Model, recipe.Optimizer.WeightDecay));
            return new(((TrainedParts)binding.Model).Model, binding, bound, new Trainer(binding, bound, RecipeParts.LoopOf(t, schedule, binding.Monitor), run));
        }
        var objectives = new List<WeightedObjective>();
        try
        {
            var towers = Towers.Of(model);
            if (recipe.Model.UnlockedImageGroups is { } images) towers.Images.LayerGroups.Lock(images);
            if (recipe.Model.UnlockedTextGroups is { } texts) (towers.Texts ?? throw new PanoptesException($"unlocked_text_groups was given for a {model.GetType().Name}, which has no text tower.")).LayerGroups.Lock(texts);
            if (t.PatchDropout > 0 && towers.Images.Backbone is not IPatchDropout) throw new PanoptesException($"patch_dropout was asked for, but the image tower of {model.GetType().Name} cannot leave patches out.");
            model.CheckpointActivations(t.CheckpointActivations);

            var setting = new ObjectiveSetting(towers, processor, tokenizer, classes);
            using var generator = new Generator(recipe.Seed + 1);
            foreach (var o in recipe.Objectives)
            {
                var objective = o.Create(setting);
                objectives.Add(new(o.Name, objective, o.Weight));
                objective.Initialize(generator);
            }
            HashSet<Feature> needs = [.. objectives.Select(static o => o.Objective).OfType<FeatureObjective>().SelectMany(static o => o.Needs)];
            var data = PairData.Open(recipe, towers, processor, needs, emoji, fashion, run);
            var task = new TowerTask(model, processor, tokenizer, data.Loader, new() { Objectives = objectives, MicroBatch = t.MicroBatchSize, Precision = precision })
            {
                BatchSize = recipe.Data.BatchSize,
                Seed = recipe.Seed,
                PatchDropout = t.PatchDropout,
                UnmaskedFrom = s.Steps - t.UnmaskedSteps,
                Validation = data.Validation,
            };
            IEnumerable<LayerGroups> groups = towers.Texts is { } both ? [towers.Images.LayerGroups, both.LayerGroups] : [towers.Images.LayerGroups];
            var scales = recipe.Optimizer.LayerDecay is { } decay ? ParameterGroup.LayerDecay(groups.Select(static g => g.ForLayerDecay), decay) : null;
            var optimizer = makeOptimizer(ParameterGroup.Of(task.Model, recipe.Optimizer.WeightDecay, scales));
            return new(model, task, optimizer, new Trainer(task, optimizer, RecipeParts.LoopOf(t, schedule, data.Monitor), run)) { Problems = data.Problems };
        }
        catch
        {
            model.Dispose();
            foreach (var (_, objective, _) in objectives) objective.Dispose();
            throw;
        }
    }

    static (Module Model, ImageProcessor Processor, Tokenizer? Tokenizer) Build(Recipe recipe, string run, IReadOnlyList<string> classes)
    {
        var m = recipe.Model;
        if (m.From is { } from)
        {
            if (m.Config is not null || m.Architecture is not null || m.Tokenizer is not null || m.ImageTowerFrom is not null) throw new PanoptesException("A model is trained either from another one's weights (from) or from its config (architecture, config, tokenizer, image_tower_from), not both.");
            var path = ModelFolder.Resolve(from);
            var loaded = Models.Load(path, new() { Dtype = ScalarType.Float32 });
            try
            {
                var (processor, tokenizer) = ClipParts.Load(path, loaded);
                return (loaded, processor, tokenizer);
            }
            catch
            {
                loaded.Dispose();
                throw;
            }
        }
        if (m.Architecture is null || m.Config is null) throw new PanoptesException("A model needs architecture and config, or the model whose weights it starts from (from).");
        var entry = Models.All.FirstOrDefault(e => e.Architecture == m.Architecture && IsTrained(e))
            ?? throw new PanoptesException($"The architecture {m.Architecture} is unknown; expected one of {string.Join(", ", Models.All.Where(IsTrained).Select(static e => e.Architecture))}.");

        var model = entry.Build(new(m.ConfigJson(typeof(ImageClassifier).IsAssignableFrom(entry.Type) || entry.Type == typeof(Beit3ForVisualQuestionAnswering) ? classes : []), $"the recipe's config of {m.Architecture}", static _ => null));
        try
        {
            var towers = Towers.Of(model);
            Tokenizer? tokenizer = null;
            if (towers.Texts is { } texts)
            {
                if (m.Tokenizer is null) throw new PanoptesException($"A {m.Architecture} needs a tokenizer for its texts.");
                tokenizer = RecipeParts.TokenizerOf(m.Tokenizer, recipe.Folder, run, texts.ContextLength, texts.VocabularySize);
            }
            else if (m.Tokenizer is not null) throw new PanoptesException($"A {m.Architecture} reads no texts and takes no tokenizer.");
            using var generator = new Generator(recipe.Seed);
            model.Initialize(generator);
            if (m.ImageTowerFrom is { } tower) ImageTowerWeights.Take(model, tower);
            var side = towers.Images.ImageSize;
            var range = model is VqModel ? ""","image_mean":[0.5,0.5,0.5],"image_std":[0.5,0.5,0.5]""" : "";     // from -1 to 1
            var processor = ImageProcessor.Parse($$"""{"image_processor_type":"CLIPImageProcessor","size":{"shortest_edge":{{side}}},"crop_size":{"height":{{side}},"width":{{side}} }{{range}} }""", "the recipe");
            return (model, processor, tokenizer);
        }
        catch
        {
            model.Dispose();
            throw;
        }

        static bool IsTrained(ModelEntry entry) => typeof(DualEncoder).IsAssignableFrom(entry.Type) || typeof(IImageTower).IsAssignableFrom(entry.Type);
    }

    public void Dispose()
    {
        optimizer.Dispose();
        task.Dispose();
    }
}
