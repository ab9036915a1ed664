namespace Panoptes.Generation;

/// <summary>
/// A T2I-Adapter (Mou et al. 2023, arXiv:2302.08453) with its condition: adds to the levels of the UNet's downward path in the first part of the steps. The condition is read once, before the first step;
/// several in one denoising are summed.
/// </summary>
public sealed class T2IAdapterCondition : IStepHook, IDisposable
{
    readonly double share;
    readonly Tensor[] features;

    /// <param name="adapter">Stays the caller's, and is not asked again.</param>
    /// <param name="condition">[1 or images, channels, height, width] from 0 to 1, of the wanted size; stays the caller's.</param>
    /// <param name="scale">How strongly.</param>
    /// <param name="share">In which part of the steps, from 0 to 1.</param>
    /// <exception cref="PanoptesException">A condition that the adapter does not read, or a share out of range.</exception>
    public T2IAdapterCondition(T2IAdapter adapter, Tensor condition, double scale = 1, double share = 1)
    {
        if (share is not (>= 0 and <= 1)) throw new PanoptesException($"An adapter was to speak in {share} of the steps; expected 0 to 1.");
        this.share = share;
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var factor = scale.ToScalar();
        features = [.. adapter.Forward(condition).Select(f => f.mul(factor).DetachFromDisposeScope())];
    }

    public void Asking(DenoisingStep step)
    {
        if (step.Before >= (int)(share * step.Total)) return;
        using var scope = NewDisposeScope();
        var rows = step.Call.Sample.shape[0];
        var before = step.Call.AdapterFeatures;
        if (before is not null && before.Count != features.Length) throw new PanoptesException($"One adapter has {features.Length} maps and another {before.Count}; expected adapters of one UNet.");
        step.Call = step.Call with
        {
            AdapterFeatures = [.. features.Select((own, k) =>
            {
                var all = own.shape[0] == 1 ? own.expand(rows, -1, -1, -1) : own.repeat(rows / own.shape[0], 1, 1, 1);
                return (before is null ? all : before[k] + all).MoveToOuterDisposeScope();
            })],
        };
    }

    public void Dispose()
    {
        foreach (var feature in features) feature.Dispose();
    }
}
