using System.Diagnostics;
using Panoptes.Evaluation;

namespace Panoptes.Training;

/// <summary>
/// The training loop: gradients from a <see cref="TrainingTask"/>, a step of an <see cref="Optimizer"/> at the schedule's rate, averaged
/// weights, validation, early stopping, logs, and checkpoints that survive a kill at any moment.
/// </summary>
/// <remarks>
/// The run's folder holds metrics.jsonl, TensorBoard's events, curves.png, checkpoints/ (the last two), <c>last</c> (the model as it stands) and <c>best</c> (as it
/// was at its best), both of which load as any model. Running again with the same folder goes on from the newest checkpoint with the same
/// numbers as if nothing had happened.
/// </remarks>
public sealed class Trainer
{
    readonly TrainingTask task;
    readonly Optimizer optimizer;
    readonly TrainingOptions options;
    readonly string run;

    /// <param name="task">What is trained.</param>
    /// <param name="optimizer">Of the task's model.</param>
    /// <param name="options">How.</param>
    /// <param name="run">The run's folder, made if need be.</param>
    /// <exception cref="PanoptesException">An option is out of range.</exception>
    public Trainer(TrainingTask task, Optimizer optimizer, TrainingOptions options, string run)
    {
        if (options.Schedule.TotalSteps < 1) throw new PanoptesException($"A run of {options.Schedule.TotalSteps} steps was asked for; expected 1 or more.");
        if (options.LogEvery < 1) throw new PanoptesException($"log_every is {options.LogEvery}; expected 1 or more.");
        if (options.ValidateEvery < 0 || options.CheckpointEvery < 0) throw new PanoptesException("Steps between validations and checkpoints cannot be negative.");
        if (options.ClipGradNorm is <= 0) throw new PanoptesException($"clip_grad_norm is {options.ClipGradNorm}; expected above 0.");
        if (options.Patience is < 1) throw new PanoptesException($"patience is {options.Patience}; expected 1 or more.");
        if (options.Patience is not null && options.Monitor is null) throw new PanoptesException("patience waits for a better measure, but nothing is measured in this run.");
        if (options.Target is not null && options.Monitor is null) throw new PanoptesException("target is the value of a measure that is enough, but nothing is measured in this run.");
        (this.task, this.optimizer, this.options, this.run) = (task, optimizer, options, run);
    }

    string Checkpoints => Path.Combine(run, "checkpoints");

    /// <summary>Trains to the end, from the newest checkpoint in the run's folder if there is one.</summary>
    /// <exception cref="PanoptesException">
    /// The loss is no longer finite, data or files fail, or another process trains in the same folder. The last checkpoint stays.
    /// </exception>
    /// <exception cref="OperationCanceledException">Asked to stop: everything up to the last step is saved.</exception>
    public TrainingResult Run(IProgress<TrainingProgress>? progress = null, CancellationToken cancel = default)
    {
        Directory.CreateDirectory(run);
        using var held = Hold();
        using var ema = options.EmaDecay is { } decay ? new Ema(task.Model, decay) : null;
        var state = new TrainingState { Step = 0, Data = Data.LoaderState.Start };
        if (TrainingCheckpoint.Latest(Checkpoints) is { } latest)
        {
            state = TrainingCheckpoint.Load(latest, task.Model, optimizer, ema);
            task.Data = state.Data;
        }
        using var metrics = new MetricsLog(run, state.Step);
        using var pause = Native.FinalizerPause.TryBegin();
        return new Session(this, ema, metrics, progress, state, pause).Run(cancel);
    }

    FileStream Hold()
    {
        try
        {
            return new FileStream(Path.Combine(run, ".lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1, FileOptions.DeleteOnClose);
        }
        catch (IOException e)
        {
            throw new PanoptesException($"Another process trains in {run}; wait for it, or name another folder.", e);
        }
    }

    /// <summary>One call of <see cref="Trainer.Run"/>.</summary>
    sealed class Session(Trainer trainer, Ema? ema, MetricsLog metrics, IProgress<TrainingProgress>? progress, TrainingState start, Native.FinalizerPause? pause)
    {
        readonly TrainingTask task = trainer.task;
        readonly Optimizer optimizer = trainer.optimizer;
        readonly TrainingOptions options = trainer.options;
        readonly Dictionary<string, double> sums = new(start.Pending);
        readonly Stopwatch training = new(), sinceCheckpoint = Stopwatch.StartNew();

        long step = start.Step, savedStep = start.Step, validatedStep = start.ValidatedStep, stepsHere;
        int summed = start.PendingSteps, withoutBest = start.WithoutBest;
        double? best = start.Best;
        long? bestStep = start.BestStep;
        IReadOnlyDictionary<string, double> validation = start.Validation;
        double loss = double.NaN, rate;

        public TrainingResult Run(CancellationToken cancel)
        {
            var stopped = start.Finished;
            try
            {
                task.Model.Train();
                while (!stopped && step < options.Schedule.TotalSteps)
                {
                    cancel.ThrowIfCancellationRequested();
                    // A run that was stopped while it validated does so first when it goes on.
                    if (!ValidationIsDue) Step(cancel);
                    if (ValidationIsDue) stopped = Validate(cancel);
                    if ((options.CheckpointEvery > 0 && step % options.CheckpointEvery == 0) || sinceCheckpoint.Elapsed > options.CheckpointInterval) Save(finished: false);
                }
            }
            catch (OperationCanceledException)
            {
                if (savedStep != step) Save(finished: false);
                throw;
            }
            if (!start.Finished)
            {
                try
                {
                    if (validatedStep != step) Validate(cancel);
                }
                catch
                {
                    // What was trained is not to be lost by what cannot be measured.
                    if (savedStep != step) Save(finished: false);
                    throw;
                }
                Save(finished: true);
            }
            return new(step, stopped && step < options.Schedule.TotalSteps, best, bestStep, validation, Seconds, step * task.BatchSize / Math.Max(1e-9, Seconds));
        }

        void Step(CancellationToken cancel)
        {
            training.Start();
            rate = options.Schedule.At(step);
            var losses = task.Backward(step, cancel);
            var norm = optimizer.ClipGradients(options.ClipGradNorm);
            if (!losses.TryGetValue("loss", out var now) || !double.IsFinite(now) || !double.IsFinite(norm))
            {
                optimizer.ZeroGradients();
                throw new PanoptesException($"At step {step} the loss is {now} and the norm of the gradients {norm}: training has diverged. Lower the learning rate or clip the gradients; the last checkpoint is of step {savedStep}.");
            }
            optimizer.Step(rate);
            optimizer.ZeroGradients();
            task.AfterStep();
            ema?.Update(options.EmaWarmup ? step : long.MaxValue);
            Native.NativeMemoryPolicy.GiveBackExcess();
            pause?.Drain();
            step++;
            stepsHere++;
            training.Stop();

            loss = double.IsNaN(loss) ? now : loss + (now - loss) * 0.05;
            foreach (var (name, value) in losses) sums[name] = sums.GetValueOrDefault(name) + value;
            sums["gradient_norm"] = sums.GetValueOrDefault("gradient_norm") + norm;
            summed++;
            if (step % options.LogEvery == 0 || step == options.Schedule.TotalSteps) Log();
            Report(null);
        }

        bool ValidationIsDue => options.ValidateEvery > 0 && step > 0 && step % options.ValidateEvery == 0 && validatedStep != step;

        void Log()
        {
            var line = new Dictionary<string, double> { ["epoch"] = task.Data.Epoch };
            foreach (var (name, sum) in sums) line[name] = sum / summed;
            line["learning_rate"] = rate;
            line["samples_per_second"] = Math.Round(SamplesPerSecond, 1);
            line["seconds"] = Math.Round(Seconds, 1);
            metrics.Add(step, line);
            sums.Clear();
            summed = 0;
        }

        double SamplesPerSecond => stepsHere * task.BatchSize / Math.Max(1e-9, training.Elapsed.TotalSeconds);

        double Seconds => start.Seconds + training.Elapsed.TotalSeconds;

        /// <returns>Whether it is time to stop.</returns>
        bool Validate(CancellationToken cancel)
        {
            Report("validating");
            ema?.Swap();
            task.Model.Train(false);
            try
            {
                validation = task.Validate(progress is null ? null : new Validating(this), cancel);
                if (validation.Count > 0)
                {
                    metrics.Add(step, validation.Select(static v => KeyValuePair.Create("val/" + v.Key, v.Value)));
                    metrics.Draw();
                }
                validatedStep = step;
                if (options.Monitor is { } name)
                {
                    if (!validation.TryGetValue(name, out var value)) throw new PanoptesException($"Validation does not measure the monitored {name}; it measures {string.Join(", ", validation.Keys)}.");
                    if (best is not { } old || (options.MonitorIsLoss ? value < old : value > old))
                    {
                        (best, bestStep, withoutBest) = (value, step, 0);
                        task.Save(Path.Combine(trainer.run, "best"));
                    }
                    else withoutBest++;
                }
            }
            finally
            {
                task.Model.Train();
                ema?.Swap();
            }
            Report(null);
            return withoutBest >= (options.Patience ?? int.MaxValue) || (options.Target is { } target && best is { } reached && (options.MonitorIsLoss ? reached <= target : reached >= target));
        }

        void Save(bool finished)
        {
            Report("saving");
            // The model first: a run that says that it is finished has it.
            if (finished) SaveModel();
            TrainingCheckpoint.Save(trainer.Checkpoints, new TrainingState
            {
                Step = step,
                ValidatedStep = validatedStep,
                Data = task.Data,
                Best = best,
                BestStep = bestStep,
                WithoutBest = withoutBest,
                Finished = finished,
                Validation = validation,
                Pending = sums,
                PendingSteps = summed,
                Seconds = Seconds,
            }, task.Model, optimizer, ema);
            savedStep = step;
            sinceCheckpoint.Restart();
        }

        void SaveModel()
        {
            metrics.Draw();
            ema?.Swap();
            try
            {
                task.Save(Path.Combine(trainer.run, "last"));
            }
            finally
            {
                ema?.Swap();
            }
        }

        void Report(string? what)
        {
            if (progress is null) return;
            var perStep = training.Elapsed.TotalSeconds / Math.Max(1, stepsHere);
            progress.Report(new(step, options.Schedule.TotalSteps, task.Data.Epoch, loss, rate, SamplesPerSecond,
                TimeSpan.FromSeconds(perStep * (options.Schedule.TotalSteps - step)), validation.Count > 0 ? validation : null, what));
        }

        /// <summary>Tells how far a validation is.</summary>
        sealed class Validating(Session session) : IProgress<EvaluationProgress>
        {
            public void Report(EvaluationProgress value) => session.Report($"validating {100L * value.Done / Math.Max(1, value.Total)} %");
        }
    }
}
