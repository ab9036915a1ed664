using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Text;
using Panoptes.Training;

namespace Panoptes.Representation.Training;

/// <summary>What recipes of every kind have in common, made into what trains.</summary>
static class RecipeParts
{
    internal static TrainingOptions LoopOf(RecipeTraining t, Schedule schedule, string? monitor) => new()
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

    internal static Schedule ScheduleOf(RecipeSchedule s)
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

    internal static Func<IReadOnlyList<ParameterGroup>, Optimizer> OptimizerOf(RecipeOptimizer o)
    {
        var (momentum, beta1, beta2, eps) = (o.Momentum ?? 0.95, o.Beta1 ?? 0.9, o.Beta2 ?? 0.98, o.Eps ?? 1e-6);
        (string[] Takes, Func<IReadOnlyList<ParameterGroup>, Optimizer> Make) found = o.Name switch
        {
            "adamw" => (["beta1", "beta2", "eps", "amsgrad"], groups => new AdamW(groups, beta1, beta2, eps, o.Amsgrad ?? false)),
            "mt_adamw" => (["beta1", "beta2", "eps"], groups => new MtAdamW(groups, beta1, beta2, eps)),
            "muon" => (["momentum", "beta1", "beta2", "eps"], groups => new Muon(groups, momentum: momentum, beta1: beta1, beta2: beta2, eps: eps, precision: PrecisionOf("auto"))),
            "lamb" => (["beta1", "beta2", "eps"], groups => new Lamb(groups, beta1, beta2, eps)),
            "lion" => (["beta1", "beta2"], groups => new Lion(groups, beta1, beta2)),
            "adafactor" => ([], static groups => new Adafactor(groups)),
            "lars" => (["momentum"], groups => new Lars(groups, momentum)),
            "sgd" => (["momentum"], groups => new Sgd(groups, momentum, nesterov: true)),
            var other => throw new PanoptesException($"The optimizer {other} is unknown; expected adamw, mt_adamw, muon, lamb, lion, adafactor, lars or sgd."),
        };
        foreach (var (option, given) in (ReadOnlySpan<(string, object?)>)[("momentum", o.Momentum), ("beta1", o.Beta1), ("beta2", o.Beta2), ("eps", o.Eps), ("amsgrad", o.Amsgrad)])
            if (given is not null && !found.Takes.Contains(option))
                throw new PanoptesException($"{option} does not go with the optimizer {o.Name}, which takes {string.Join(", ", [.. found.Takes, "weight_decay", "layer_decay"])}.");
        return found.Make;
    }

    /// <summary>A run belongs to its recipe: going on with another one would mix two trainings.</summary>
    internal static void Keep(string text, string run)
    {
        var kept = Path.Combine(run, "recipe.yaml");
        if (File.Exists(kept))
        {
            if (ModelFolder.ReadText(kept) != text)
                throw new PanoptesException($"{run} was started with another recipe (see its recipe.yaml): name another folder for the run, or delete that one to start over.");
        }
        else AtomicFile.WriteText(kept, text);
    }

    internal static ScalarType PrecisionOf(string name) => name switch
    {
        "float32" => ScalarType.Float32,
        "bfloat16" => ScalarType.BFloat16,
        "auto" => Native.TorchOps.HasFastBFloat16 ? ScalarType.BFloat16 : ScalarType.Float32,
        _ => throw new PanoptesException($"The precision {name} is unknown; expected float32, bfloat16 or auto."),
    };

    /// <summary>CLIP's tokenizer with the first merges of a list, written into the run's folder.</summary>
    /// <exception cref="PanoptesException">It has another number of ids than the model.</exception>
    internal static Tokenizer TokenizerOf(RecipeTokenizer t, string recipeFolder, string run, int contextLength, long vocabularySize)
    {
        var tokenizer = TokenizerOf(t, recipeFolder, run, contextLength);
        if (tokenizer.VocabularySize is var ids && ids != vocabularySize) throw new PanoptesException($"The tokenizer with {t.Count} merges has {ids} ids, but the model's vocab_size is {vocabularySize}; set it to {ids}.");
        return tokenizer;
    }

    /// <summary>The same, with as many ids as it comes to.</summary>
    internal static Tokenizer TokenizerOf(RecipeTokenizer t, string recipeFolder, string run, int contextLength)
    {
        var folder = Path.Combine(run, "tokenizer");
        ClipVocabulary.Truncate(Resolve(recipeFolder, t.Merges), t.Count, folder, contextLength, t.Words);
        return Tokenizer.Load(folder);
    }

    /// <summary>The drawings of so many concepts, or of those of some names; of all where a recipe says neither.</summary>
    /// <exception cref="PanoptesException">Both a number and names, or a name that no concept has.</exception>
    internal static EmojiSet Chosen(EmojiSet emoji, int? concepts, IReadOnlyList<string>? names) => (concepts, names) switch
    {
        (not null, not null) => throw new PanoptesException("data.concepts and data.names both say which concepts appear; expected one of them."),
        ({ } count, null) => emoji.Subset(count),
        (null, { }) => emoji.Subset(names),
        _ => emoji,
    };

    /// <summary>A path of a recipe, relative to its folder.</summary>
    internal static string Resolve(string recipeFolder, string path) => Path.IsPathRooted(path) ? path : Path.GetFullPath(Path.Combine(recipeFolder, path));
}
