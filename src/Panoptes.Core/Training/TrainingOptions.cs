namespace Panoptes.Training;

/// <summary>How a <see cref="Trainer"/> runs.</summary>
public sealed record TrainingOptions
{
    /// <summary>The rate of every step, and how many there are.</summary>
    public required Schedule Schedule { get; init; }

    /// <summary>The norm that all gradients together are scaled down to; null: they are not.</summary>
    public double? ClipGradNorm { get; init; }

    /// <summary>The decay of the averaged weights, which are then what is validated and saved for use; null: none are kept.</summary>
    public double? EmaDecay { get; init; }

    /// <summary>Whether the decay of the averaged weights starts lower: (1 + step) / (10 + step) where that is less.</summary>
    public bool EmaWarmup { get; init; }

    /// <summary>A line of metrics is written every so many steps, the mean over them.</summary>
    public int LogEvery { get; init; } = 10;

    /// <summary>Steps between validations; 0: only at the end.</summary>
    public long ValidateEvery { get; init; }

    /// <summary>Steps between checkpoints; 0: by time alone.</summary>
    public long CheckpointEvery { get; init; }

    /// <summary>A checkpoint is also written when the last is so old.</summary>
    public TimeSpan CheckpointInterval { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>The metric of validation that the best model and early stopping go by; null: none.</summary>
    public string? Monitor { get; init; }

    /// <summary>Whether less of <see cref="Monitor"/> is better.</summary>
    public bool MonitorIsLoss { get; init; }

    /// <summary>The value of <see cref="Monitor"/> that is enough: training stops when validation finds it; null: never.</summary>
    public double? Target { get; init; }

    /// <summary>Validations without a new best after which training stops; null: never.</summary>
    public int? Patience { get; init; }
}

/// <summary>How far a run is.</summary>
/// <param name="Step">Steps done.</param>
/// <param name="TotalSteps">Steps of the whole run.</param>
/// <param name="Epoch">Passes over the data done.</param>
/// <param name="Loss">A running mean.</param>
/// <param name="LearningRate">Of the last step.</param>
/// <param name="SamplesPerSecond">Over the last steps, validations left out.</param>
/// <param name="TimeLeft">Until the end at this rate.</param>
/// <param name="Validation">The latest measures, if any.</param>
/// <param name="What">What is going on beside training, such as validating; null: nothing.</param>
public sealed record TrainingProgress(long Step, long TotalSteps, int Epoch, double Loss, double LearningRate, double SamplesPerSecond, TimeSpan TimeLeft,
    IReadOnlyDictionary<string, double>? Validation, string? What);

/// <summary>How a run ended.</summary>
/// <param name="Steps">Steps done.</param>
/// <param name="StoppedEarly">Whether validation had stopped improving, or found what was enough.</param>
/// <param name="Best">The best value of the monitored metric, or null.</param>
/// <param name="BestStep">When it was measured.</param>
/// <param name="Validation">The last measures.</param>
/// <param name="Seconds">Spent in steps, over all sittings; neither validation nor checkpoints.</param>
/// <param name="SamplesPerSecond">The samples of all steps over that time.</param>
public sealed record TrainingResult(long Steps, bool StoppedEarly, double? Best, long? BestStep, IReadOnlyDictionary<string, double> Validation, double Seconds, double SamplesPerSecond);
