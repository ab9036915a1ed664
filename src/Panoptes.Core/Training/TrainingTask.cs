using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Nn;

namespace Panoptes.Training;

/// <summary>
/// What a <see cref="Trainer"/> trains: a model, its stream of batches, and how one batch becomes gradients. Everything that is drawn at
/// random must follow from the step and the position in the data, so that a resumed run goes on with the same numbers.
/// </summary>
public abstract class TrainingTask : IDisposable
{
    /// <summary>What is trained, in float32.</summary>
    public abstract Module Model { get; }

    /// <summary>Samples of one step.</summary>
    public abstract int BatchSize { get; init; }

    /// <summary>Where the stream of batches stands; setting it goes there.</summary>
    public abstract LoaderState Data { get; set; }

    /// <summary>Takes the next batch and adds its gradients to the model's.</summary>
    /// <param name="step">From 0.</param>
    /// <param name="cancel">Stops waiting for the batch.</param>
    /// <returns>What is logged: <c>loss</c>, and whatever else is worth a curve.</returns>
    public abstract IReadOnlyDictionary<string, double> Backward(long step, CancellationToken cancel);

    /// <summary>Called after every step of the optimizer, to keep weights within bounds.</summary>
    public virtual void AfterStep() { }

    /// <summary>Measures the model (in inference mode, with averaged weights where they are kept); empty where there is nothing to measure.</summary>
    public virtual IReadOnlyDictionary<string, double> Validate(IProgress<EvaluationProgress>? progress, CancellationToken cancel) => new Dictionary<string, double>();

    /// <summary>Writes the model as users load it: config, weights, and what belongs to them.</summary>
    public abstract void Save(string folder);

    protected virtual void Dispose(bool disposing) { }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }
}
