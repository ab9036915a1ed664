using Panoptes.Nn;

namespace Panoptes.Training;

/// <summary>An exponential moving average of a model's weights, which often serves better than the weights themselves.</summary>
public sealed class Ema : IDisposable
{
    readonly Module model;
    readonly (string Key, Parameter Parameter)[] parameters;
    readonly Tensor[] averages;

    /// <param name="model">Whose weights; they are the first average.</param>
    /// <param name="decay">The share of the old average that each step keeps, from 0 to below 1.</param>
    /// <exception cref="PanoptesException">The decay is out of range.</exception>
    public Ema(Module model, double decay)
    {
        if (decay is not (>= 0 and < 1)) throw new PanoptesException($"The decay of the average is {decay}; expected from 0 to below 1.");
        Decay = decay;
        this.model = model;
        parameters = [.. model.DistinctParameters()];
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        averages = [.. parameters.Select(static p => p.Parameter.Value.detach().clone().DetachFromDisposeScope())];
    }

    public double Decay { get; }

    /// <summary>Moves the average towards the present weights; what is no floating-point number is copied.</summary>
    /// <param name="step">
    /// How many steps were taken before this one, which bounds the decay by (1 + step) / (10 + step): an average of weights that still change fast is no model,
    /// and the statistics of batch norms fit it least. By default no such bound.
    /// </param>
    public void Update(long step = long.MaxValue)
    {
        Move(step == long.MaxValue ? Decay : Math.Min(Decay, (1.0 + step) / (10.0 + step)));
    }

    /// <summary>The decay that warms up with the steps (diffusers' EMAModel; Crowson): <c>1 - (1 + step / gamma)^-power</c>, at most <paramref name="decay"/>, and 0 at the first step.</summary>
    /// <param name="step">How many steps were taken before this one.</param>
    public static double WarmedUp(long step, double decay, double gamma = 1, double power = 2 / 3.0) => step <= 0 ? 0 : Math.Min(decay, 1 - Math.Pow(1 + step / gamma, -power));

    /// <summary>Moves the average towards the present weights, keeping the share <paramref name="decay"/> of what it was.</summary>
    public void Move(double decay)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        for (var i = 0; i < averages.Length; i++)
        {
            var value = parameters[i].Parameter.Value;
            if (!value.is_floating_point()) averages[i].copy_(value);
            else if (parameters[i].Parameter.RequiresGrad || !parameters[i].Parameter.Trainable) averages[i].lerp_(value, 1 - decay);
        }
    }

    /// <summary>Exchanges the model's weights with their averages; calling it again undoes it.</summary>
    public void Swap()
    {
        using var noGrad = no_grad();
        for (var i = 0; i < averages.Length; i++)
        {
            using var scope = NewDisposeScope();
            var value = parameters[i].Parameter.Value;
            var kept = value.detach().clone();
            value.copy_(averages[i]);
            averages[i].copy_(kept);
        }
    }

    /// <summary>The averages under the model's keys; the tensors stay this object's.</summary>
    public IReadOnlyDictionary<string, Tensor> State => parameters.Select((p, i) => (p.Key, averages[i])).ToDictionary(StringComparer.Ordinal);

    /// <exception cref="PanoptesException">The averages are another model's.</exception>
    public void Restore(IReadOnlyDictionary<string, Tensor> state)
    {
        using var noGrad = no_grad();
        for (var i = 0; i < averages.Length; i++)
        {
            var key = parameters[i].Key;
            if (!state.TryGetValue(key, out var saved) || !saved.shape.AsSpan().SequenceEqual(averages[i].shape))
                throw new PanoptesException($"The saved averages have {(saved is null ? "no" : "another shape of")} {key}; expected those of the same {model.GetType().Name}.");
            averages[i].copy_(saved);                                                // which returns the average itself
        }
    }

    public void Dispose()
    {
        foreach (var average in averages) average.Dispose();
    }
}
