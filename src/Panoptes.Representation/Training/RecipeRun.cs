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

    RecipeRun(TrainingTask task, Optimizer optimizer, Trainer trainer) => (this.task, this.optimizer, Trainer) = (task, optimizer, trainer);

    /// <summary>The loop.</summary>
    public Trainer Trainer { get; }

    public Module Model => ((TrainedParts)task.Model).Model;

    /// <summary>What could not be used of the user's own data so far; null for bundled data.</summary>
    public DataProblems? Problems { get; private init; }

    /// <param name="recipe">What to train.</param>
    /// <param name="run">The run's folder. It keeps the recipe, and goes on only with the same one.</param>
    /// <exception cref="PanoptesException">Something in the recipe does not fit, or the folder is another recipe's.</exception>
    public static RecipeRun Create(Recipe recipe, string run)
    {
        var (s, t) = (recipe.Schedule, recipe.Training);
        var (schedule, precision, makeOptimizer) = (ScheduleOf(s), PrecisionOf(t.Precision), OptimizerOf(recipe.Optimizer));
        if (t.PatchDropout is not (>= 0 and < 1)) throw new PanoptesException($"patch_dropout is {t.PatchDropout}; expected from 0 to below 1.");
        if (t.UnmaskedSteps != 0 && t.PatchDropout == 0) throw new PanoptesException("unmasked_steps are steps without patch_dropout, which is not given.");
        if (recipe.Objectives.GroupBy(static o => o.Name).FirstOrDefault(static g => g.Count() > 1) is { } twice) throw new PanoptesException($"The objective {twice.Key} is listed twice; give it the weight of both.");
        if (recipe.Model.Bind is not null && recipe.Data.Modalities is null) throw new PanoptesException("bind describes encoders of modalities, of which data names none.");
        Keep(recipe, run);
        using var pause = Native.FinalizerPause.TryBegin();                           // much may be computed once and for all before the first step
        var (emoji, fashion) = (PairData.OpenEmoji(recipe), PairData.OpenFashion(recipe));
        var classes = recipe.Data.Questions && emoji is not null ? PairData.Answers(recipe, emoji) : emoji is not null ? (recipe.Data.Annotations ?? new()).Names(emoji) : fashion is not null ? FashionMnist.Classes : [];
        var (model, processor, tokenizer) = Build(recipe, run, classes);
        if (recipe.Data.Modalities is not null)
        {
            var binding = BindingTask.Create(recipe, model, processor, tokenizer, precision);
            var bound = makeOptimizer(ParameterGroup.Of(binding.Model, recipe.Optimizer.WeightDecay));
            return new(binding, bound, new Trainer(binding, bound, LoopOf(t, schedule, binding.Monitor), run));
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
            return new(task, optimizer, new Trainer(task, optimizer, LoopOf(t, schedule, data.Monitor), run)) { Problems = data.Problems };
        }
        catch
        {
            model.Dispose();
            foreach (var (_, objective, _) in objectives) objective.Dispose();
            throw;
        }
    }

    static TrainingOptions LoopOf(RecipeTraining t, Schedule schedule, string? monitor) => new()
    {
        Schedule = schedule,
        ClipGradNorm = t.ClipGradNorm,
        EmaDecay = t.EmaDecay,
        EmaWarmup = t.EmaWarmup,
        LogEvery = t.LogEvery,
        ValidateEvery = t.ValidateEvery,
        CheckpointEvery = t.CheckpointEvery,
        Monitor = monitor,
        Patience = t.Patience,
        Target = t.Target,
    };

    static Schedule ScheduleOf(RecipeSchedule s)
    {
        if (s.WarmupSteps < 0 || s.WarmupSteps > s.Steps) throw new PanoptesException($"warmup_steps is {s.WarmupSteps}; expected 0 to the run's {s.Steps} steps.");
        if (s.FinalRate is not null && s.Name != "cosine") throw new PanoptesException($"final_rate does not go with the schedule {s.Name}, only with cosine.");
        return s.Name switch
        {
            "cosine" => new CosineSchedule(s.LearningRate, s.Steps) { WarmupSteps = s.WarmupSteps, FinalRate = s.FinalRate ?? 0 },
            "linear" => new LinearSchedule(s.LearningRate, s.Steps) { WarmupSteps = s.WarmupSteps },
            "constant" => new ConstantSchedule(s.LearningRate, s.Steps) { WarmupSteps = s.WarmupSteps },
            "one_cycle" => new OneCycleSchedule(s.LearningRate, s.Steps) { WarmupSteps = s.WarmupSteps },
            var other => throw new PanoptesException($"The schedule {other} is unknown; expected cosine, linear, constant or one_cycle."),
        };
    }

    static Func<IReadOnlyList<ParameterGroup>, Optimizer> OptimizerOf(RecipeOptimizer o)
    {
        var (momentum, beta1, beta2, eps) = (o.Momentum ?? 0.95, o.Beta1 ?? 0.9, o.Beta2 ?? 0.98, o.Eps ?? 1e-6);
        (string[] Takes, Func<IReadOnlyList<ParameterGroup>, Optimizer> Make) found = o.Name switch
        {
            "adamw" => (["beta1", "beta2", "eps", "amsgrad"], groups => new AdamW(groups, beta1, beta2, eps, o.Amsgrad ?? false)),
            "muon" => (["momentum", "beta1", "beta2", "eps"], groups => new Muon(groups, momentum: momentum, beta1: beta1, beta2: beta2, eps: eps, precision: PrecisionOf("auto"))),
            "lamb" => (["beta1", "beta2", "eps"], groups => new Lamb(groups, beta1, beta2, eps)),
            "lion" => (["beta1", "beta2"], groups => new Lion(groups, beta1, beta2)),
            "adafactor" => ([], static groups => new Adafactor(groups)),
            "lars" => (["momentum"], groups => new Lars(groups, momentum)),
            "sgd" => (["momentum"], groups => new Sgd(groups, momentum, nesterov: true)),
            var other => throw new PanoptesException($"The optimizer {other} is unknown; expected adamw, muon, lamb, lion, adafactor, lars or sgd."),
        };
        foreach (var (option, given) in (ReadOnlySpan<(string, object?)>)[("momentum", o.Momentum), ("beta1", o.Beta1), ("beta2", o.Beta2), ("eps", o.Eps), ("amsgrad", o.Amsgrad)])
            if (given is not null && !found.Takes.Contains(option))
                throw new PanoptesException($"{option} does not go with the optimizer {o.Name}, which takes {string.Join(", ", [.. found.Takes, "weight_decay", "layer_decay"])}.");
        return found.Make;
    }

    /// <summary>A run belongs to its recipe: going on with another one would mix two trainings.</summary>
    static void Keep(Recipe recipe, string run)
    {
        var kept = Path.Combine(run, "recipe.yaml");
        if (File.Exists(kept))
        {
            if (ModelFolder.ReadText(kept) != recipe.Text)
                throw new PanoptesException($"{run} was started with another recipe (see its recipe.yaml): name another folder for the run, or delete that one to start over.");
        }
        else AtomicFile.WriteText(kept, recipe.Text);
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
                var folder = Path.Combine(run, "tokenizer");
                var ids = ClipVocabulary.Truncate(recipe.Resolve(m.Tokenizer.Merges), m.Tokenizer.Count, folder, texts.ContextLength);
                if (ids != texts.VocabularySize) throw new PanoptesException($"The tokenizer with {m.Tokenizer.Count} merges has {ids} ids, but the model's vocab_size is {texts.VocabularySize}; set it to {ids}.");
                tokenizer = Tokenizer.Load(folder);
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

    static ScalarType PrecisionOf(string name) => name switch
    {
        "float32" => ScalarType.Float32,
        "bfloat16" => ScalarType.BFloat16,
        "auto" => Native.TorchOps.HasFastBFloat16 ? ScalarType.BFloat16 : ScalarType.Float32,
        _ => throw new PanoptesException($"The precision {name} is unknown; expected float32, bfloat16 or auto."),
    };

    public void Dispose()
    {
        optimizer.Dispose();
        task.Dispose();
    }
}
