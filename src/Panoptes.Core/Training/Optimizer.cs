using Panoptes.Native;

namespace Panoptes.Training;

/// <summary>
/// Changes parameters by their gradients. The learning rate is given with every step, so that an optimizer knows no schedule; frozen
/// parameters and those without a gradient are left as they are.
/// </summary>
public abstract class Optimizer : IDisposable
{
    readonly OptimizedParameter[] parameters;

    /// <param name="groups">What is trained. The parameters stay their model's own.</param>
    protected Optimizer(IReadOnlyList<ParameterGroup> groups) =>
        parameters = [.. groups.SelectMany(static g => g.Parameters.Select(p => new OptimizedParameter(p.Key, p.Parameter, g)))];

    /// <summary>Steps taken.</summary>
    public long Steps { get; private set; }

    /// <summary>One step over all groups.</summary>
    /// <param name="learningRate">Of the groups with a scale of 1.</param>
    public void Step(double learningRate)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        Steps++;
        var ready = new List<OptimizedParameter>(parameters.Length);
        foreach (var parameter in parameters)
            if (parameter.Begin(learningRate, this)) ready.Add(parameter);
        Step(ready);
    }

    /// <summary>
    /// One step of all <paramref name="parameters"/> that have a gradient, in place and without gradients, in a dispose scope;
    /// <see cref="Steps"/> is this step's number, from 1.
    /// </summary>
    protected abstract void Step(IReadOnlyList<OptimizedParameter> parameters);

    /// <summary>The tensors that are kept for a parameter, such as a running mean, with the names that they are saved under, as they start.</summary>
    protected internal abstract IEnumerable<(string Name, Tensor Value)> NewState(OptimizedParameter parameter);

    /// <summary>The Euclidean norm of all gradients together, which are scaled down to <paramref name="maxNorm"/> if it is larger.</summary>
    /// <param name="maxNorm">Null: only measured.</param>
    public double ClipGradients(double? maxNorm)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var gradients = parameters.Select(static p => p.Parameter.Grad).OfType<Tensor>().ToArray();
        var norm = TorchOps.Norm(gradients);
        if (maxNorm is { } max && double.IsFinite(norm) && max / (norm + 1e-6) < 1) TorchOps.Scale(gradients, max / (norm + 1e-6));
        return norm;
    }

    /// <summary>Forgets all gradients.</summary>
    public void ZeroGradients()
    {
        foreach (var parameter in parameters) parameter.Parameter.ClearGrad();
    }

    /// <summary>Everything that is needed to go on later, under <c>PARAMETER.NAME</c>; the tensors stay the optimizer's.</summary>
    public IReadOnlyDictionary<string, Tensor> State => parameters.SelectMany(static p => (p.State ?? new Dictionary<string, Tensor>()).Select(s => ($"{p.Key}.{s.Key}", s.Value)))
        .ToDictionary(StringComparer.Ordinal);

    /// <summary>Goes back to where <see cref="State"/> was saved after <paramref name="steps"/> steps.</summary>
    /// <exception cref="PanoptesException">The state is another model's or another optimizer's.</exception>
    public void Restore(IReadOnlyDictionary<string, Tensor> state, long steps)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var left = state.Keys.ToHashSet(StringComparer.Ordinal);
        foreach (var parameter in parameters)
        {
            var kept = NewState(parameter).ToArray();
            var saved = kept.Count(k => state.ContainsKey($"{parameter.Key}.{k.Name}"));
            if (saved > 0)
                foreach (var (name, value) in kept) Copy($"{parameter.Key}.{name}", value);
            parameter.Keep(saved > 0 ? kept : null);                                 // null: it had no gradient yet
        }
        if (left.Count > 0) throw new PanoptesException($"The optimizer's state has {left.Order(StringComparer.Ordinal).First()}, which this optimizer does not keep; expected the state of the same model and optimizer.");
        Steps = steps;

        void Copy(string key, Tensor target)
        {
            if (!state.TryGetValue(key, out var source)) throw new PanoptesException($"The optimizer's state lacks {key}; expected the state of the same model and optimizer.");
            if (!source.shape.AsSpan().SequenceEqual(target.shape))
                throw new PanoptesException($"The optimizer's state {key} is [{string.Join(", ", source.shape)}], expected [{string.Join(", ", target.shape)}].");
            target.copy_(source);
            left.Remove(key);
        }
    }

    protected virtual void Dispose(bool disposing)
    {
        if (!disposing) return;
        foreach (var parameter in parameters) parameter.Dispose();
    }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }
}
