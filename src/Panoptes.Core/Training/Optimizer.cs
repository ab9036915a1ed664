using Panoptes.Nn;

namespace Panoptes.Training;

/// <summary>
/// Changes parameters by their gradients. The learning rate is given with every step, so that an optimizer knows no schedule; frozen
/// parameters and those without a gradient are left as they are.
/// </summary>
public abstract class Optimizer : IDisposable
{
    readonly Slots[] groups;

    /// <param name="groups">What is trained. The parameters stay their model's own.</param>
    protected Optimizer(IReadOnlyList<ParameterGroup> groups) => this.groups = [.. groups.Select(g => new Slots(g))];

    /// <summary>Steps taken.</summary>
    public long Steps { get; private set; }

    /// <summary>The names of the tensors that are kept for every parameter, such as a running mean.</summary>
    protected abstract IReadOnlyList<string> StateNames { get; }

    /// <summary>One step over all groups.</summary>
    /// <param name="learningRate">Of the groups with a scale of 1.</param>
    public void Step(double learningRate)
    {
        using var noGrad = no_grad();
        Steps++;
        foreach (var group in groups)
        {
            using var scope = NewDisposeScope();
            var batch = group.Gather(this);
            if (batch.Parameters.Count > 0) Step(batch, learningRate * group.Group.LearningRateScale, group.Group.WeightDecay);
        }
    }

    /// <summary>One step of one group, in place, without gradients, in a dispose scope of its own; <see cref="Steps"/> is this step's number, from 1.</summary>
    protected abstract void Step(StepBatch batch, double learningRate, double weightDecay);

    /// <summary>A state tensor as it starts; by default zeros of the parameter's shape.</summary>
    protected virtual Tensor NewState(string name, Tensor parameter) => zeros_like(parameter, requires_grad: false);

    /// <summary>The Euclidean norm of all gradients together, which are scaled down to <paramref name="maxNorm"/> if it is larger.</summary>
    /// <param name="maxNorm">Null: only measured.</param>
    public double ClipGradients(double? maxNorm)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var gradients = Parameters().Select(static p => p.Parameter.Grad).OfType<Tensor>().ToArray();
        var norm = Native.TorchOps.Norm(gradients);
        if (maxNorm is { } max && double.IsFinite(norm) && max / (norm + 1e-6) < 1) Native.TorchOps.Scale(gradients, max / (norm + 1e-6));
        return norm;
    }

    /// <summary>Forgets all gradients.</summary>
    public void ZeroGradients()
    {
        foreach (var (_, parameter) in Parameters()) parameter.ClearGrad();
    }

    /// <summary>Everything that is needed to go on later, under <c>PARAMETER.NAME</c>; the tensors stay the optimizer's.</summary>
    public IReadOnlyDictionary<string, Tensor> State =>
        groups.SelectMany(static g => g.Saved()).ToDictionary(static s => s.Key, static s => s.Value, StringComparer.Ordinal);

    /// <summary>Goes back to where <see cref="State"/> was saved after <paramref name="steps"/> steps.</summary>
    /// <exception cref="PanoptesException">The state is another model's or another optimizer's.</exception>
    public void Restore(IReadOnlyDictionary<string, Tensor> state, long steps)
    {
        using var noGrad = no_grad();
        var left = state.Keys.ToHashSet(StringComparer.Ordinal);
        foreach (var group in groups) group.Restore(state, left, this);
        if (left.Count > 0) throw new PanoptesException($"The optimizer's state has {left.Order(StringComparer.Ordinal).First()}, which this optimizer does not keep; expected the state of the same model and optimizer.");
        Steps = steps;
    }

    IEnumerable<(string Key, Parameter Parameter)> Parameters() => groups.SelectMany(static g => g.Group.Parameters);

    protected virtual void Dispose(bool disposing)
    {
        if (disposing)
            foreach (var group in groups) group.Dispose();
    }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>The parameters of one group that have a gradient, and what belongs to them, in parallel lists.</summary>
    protected sealed class StepBatch(int states)
    {
        public List<Tensor> Parameters { get; } = [];

        public List<Tensor> Gradients { get; } = [];

        /// <summary>By the position in <see cref="StateNames"/>.</summary>
        public IReadOnlyList<List<Tensor>> States { get; } = [.. Enumerable.Range(0, states).Select(static _ => new List<Tensor>())];
    }

    sealed class Slots(ParameterGroup group) : IDisposable
    {
        readonly Tensor[]?[] states = new Tensor[group.Parameters.Count][];

        public ParameterGroup Group => group;

        public StepBatch Gather(Optimizer optimizer)
        {
            var batch = new StepBatch(optimizer.StateNames.Count);
            for (var i = 0; i < group.Parameters.Count; i++)
            {
                var parameter = group.Parameters[i].Parameter;
                if (!parameter.RequiresGrad || parameter.Grad is not { } gradient) continue;
                batch.Parameters.Add(parameter.Value);
                batch.Gradients.Add(gradient);
                var kept = states[i] ??= [.. optimizer.StateNames.Select(n => optimizer.NewState(n, parameter.Value).DetachFromDisposeScope())];
                for (var s = 0; s < kept.Length; s++) batch.States[s].Add(kept[s]);
            }
            names = optimizer.StateNames;
            return batch;
        }

        IReadOnlyList<string> names = [];

        public IEnumerable<KeyValuePair<string, Tensor>> Saved()
        {
            for (var i = 0; i < states.Length; i++)
                for (var s = 0; s < (states[i]?.Length ?? 0); s++)
                    yield return new($"{group.Parameters[i].Key}.{names[s]}", states[i]![s]);
        }

        public void Restore(IReadOnlyDictionary<string, Tensor> saved, HashSet<string> left, Optimizer optimizer)
        {
            names = optimizer.StateNames;
            for (var i = 0; i < states.Length; i++)
            {
                var (key, parameter) = group.Parameters[i];
                if (!names.All(n => saved.ContainsKey($"{key}.{n}"))) continue;          // it had no gradient yet
                var kept = states[i] ??= [.. names.Select(n => optimizer.NewState(n, parameter.Value).DetachFromDisposeScope())];
                for (var s = 0; s < kept.Length; s++)
                {
                    var name = $"{key}.{names[s]}";
                    var source = saved[name];
                    if (!source.shape.AsSpan().SequenceEqual(kept[s].shape))
                        throw new PanoptesException($"The optimizer's state {name} is [{string.Join(", ", source.shape)}], expected [{string.Join(", ", kept[s].shape)}].");
                    kept[s].copy_(source).Dispose();
                    left.Remove(name);
                }
            }
        }

        public void Dispose()
        {
            foreach (var kept in states)
                foreach (var tensor in kept ?? []) tensor.Dispose();
        }
    }
}
