using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Training;

namespace Panoptes.Representation.Training;

/// <summary>Trains what an objective says on an endless stream of scenes.</summary>
sealed class SceneTask(SceneObjective objective, SceneData data, EmojiSet emoji, ulong seed, ScalarType precision) : TrainingTask
{
    readonly PrefetchLoader<SceneBatch> loader = SceneBatchLoader.Create(
        new(emoji, SceneGenerator.Things(emoji), data.Scenes, seed), new() { BatchSize = data.BatchSize, Count = data.Count ?? 10_000, Repeat = data.Count is not null, Seed = seed, References = objective.References, Augmentation = data.Augmentation is { } a ? a with { Size = data.Scenes.Size } : null, Loader = new() { Workers = data.Workers } });
    readonly SceneTests tests = new(emoji, data.Scenes, data.Tests);

    public override Module Model => objective;

    public override required int BatchSize { get; init; }

    public override LoaderState Data
    {
        get => loader.State;
        set => loader.Restore(value);
    }

    public override IReadOnlyDictionary<string, double> Backward(long step, CancellationToken cancel)
    {
        using var batch = loader.Next(cancel);
        using var scope = NewDisposeScope();
        using var random = new Generator(seed + ((ulong)step << 20));
        IReadOnlyDictionary<string, Tensor> losses;
        using (Autocast.To(precision)) losses = objective.Losses(batch, step, random);
        losses["loss"].backward();
        return losses.ToDictionary(static l => l.Key, static l => (double)l.Value.item<float>());
    }

    public override void AfterStep() => objective.AfterStep();

    public override IReadOnlyDictionary<string, double> Validate(IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        if (data.Tests == 0) return base.Validate(progress, cancel);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return objective.Measure(tests, progress, cancel);
    }

    public override void Save(string folder) => objective.Save(folder);

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            loader.Dispose();
            objective.Dispose();
        }
        base.Dispose(disposing);
    }
}
