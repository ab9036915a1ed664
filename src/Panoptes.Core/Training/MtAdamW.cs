using Panoptes.Data;
using Panoptes.Native;

namespace Panoptes.Training;

/// <summary>One of several tasks that are trained in turn.</summary>
/// <param name="Name">What it is called.</param>
/// <param name="Share">How probably a step is its; a mixture's shares come to 1.</param>
/// <param name="Weight">How much it is to count, whatever its share and the size of its gradients are.</param>
public sealed record TrainedTask(string Name, double Share, double Weight = 1);

/// <summary>
/// Unmixed sampling (Li et al. 2022, Uni-Perceiver v2, arXiv:2211.09808): every step is one task's alone, so that its batch may be large. The task of a step follows from the seed
/// and the step's number.
/// </summary>
public sealed class TaskMixture
{
    const int Stream = 0x7A5C;

    readonly ulong seed;

    /// <param name="tasks">The tasks; shares need not come to 1.</param>
    /// <param name="seed">Of the draws.</param>
    /// <exception cref="PanoptesException">No task, or one that is never drawn or does not count.</exception>
    public TaskMixture(IReadOnlyList<TrainedTask> tasks, ulong seed)
    {
        if (tasks.Count == 0) throw new PanoptesException("No tasks were given; expected at least one.");
        foreach (var task in tasks)
            if (!(task.Share > 0 && double.IsFinite(task.Share) && task.Weight > 0 && double.IsFinite(task.Weight))) throw new PanoptesException($"The task {task.Name} has a share of {task.Share} and a weight of {task.Weight}; expected both above 0.");
        var sum = tasks.Sum(static t => t.Share);
        (Tasks, this.seed) = ([.. tasks.Select(t => t with { Share = t.Share / sum })], seed);
    }

    /// <summary>With shares that come to 1.</summary>
    public IReadOnlyList<TrainedTask> Tasks { get; }

    /// <summary>The task of a step, from 0.</summary>
    public TrainedTask At(long step)
    {
        var random = new SampleRandom(seed, Stream, step);
        double drawn = random.NextFloat();
        foreach (var task in Tasks)
        {
            if (drawn < task.Share) return task;
            drawn -= task.Share;
        }
        return Tasks[^1];
    }
}

/// <summary>
/// AdamW for tasks that are trained one a step (Li et al. 2022, Uni-Perceiver v2, arXiv:2211.09808, "MT-AdamW"): the gradient of every step is brought to the length of its task's
/// weight, so that no task drowns the others, and what it adds to the running means is divided by the task's share, so that a task which is seldom drawn counts as much:
/// g = ω ∇L / ‖∇L‖, m = β₁ m + (1 - β₁) g / s, v = β₂ v + (1 - β₂) g² / s.
/// </summary>
/// <remarks>
/// A parameter that a step's task does not reach has a gradient of 0 in it: its means fade as if it had been there (they are caught up with at its next gradient), and it is not moved.
/// </remarks>
/// <param name="groups">What is trained.</param>
/// <param name="beta1">The share of the old running mean of gradients that a step keeps.</param>
/// <param name="beta2">The same of the running mean of their squares.</param>
/// <param name="eps">Added to the root of the squares.</param>
public sealed class MtAdamW(IReadOnlyList<ParameterGroup> groups, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8) : Optimizer(groups)
{
    /// <summary>Whose gradients the next step goes by.</summary>
    public TrainedTask Task { get; set; } = new("the only one", 1);

    protected internal override IEnumerable<(string Name, Tensor Value)> NewState(OptimizedParameter parameter) =>
        [("exp_avg", zeros_like(parameter.Value)), ("exp_avg_sq", zeros_like(parameter.Value)), ("step", zeros([], ScalarType.Float32))];

    protected override void Step(IReadOnlyList<OptimizedParameter> parameters)
    {
        var norm = TorchOps.Norm([.. parameters.Select(static p => p.Gradient)]);
        if (!(norm > 0) || !double.IsFinite(norm)) return;                                      // no direction
        var scale = Task.Weight / norm;
        var (correction1, correction2) = (1 - Math.Pow(beta1, Steps), Math.Sqrt(1 - Math.Pow(beta2, Steps)));
        foreach (var p in parameters)
        {
            using var scope = NewDisposeScope();
            var missed = Steps - (long)p["step"].ToDouble() - 1;
            p["step"].fill_(Steps);
            var (mean, square) = (p["exp_avg"], p["exp_avg_sq"]);
            mean.mul_(Math.Pow(beta1, missed + 1)).add_(p.Gradient, alpha: (1 - beta1) / Task.Share * scale);
            square.mul_(Math.Pow(beta2, missed + 1)).addcmul_(p.Gradient, p.Gradient, (1 - beta2) / Task.Share * scale * scale);
            p.Value.mul_(1 - (p.LearningRate * p.WeightDecay));
            p.Value.addcdiv_(mean, square.sqrt().div_(correction2).add_(eps), -p.LearningRate / correction1);
        }
    }
}
