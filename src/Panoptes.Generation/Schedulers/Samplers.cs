using System.Text.Json.Nodes;

namespace Panoptes.Generation;

/// <summary>A way to sample that goes by a short name.</summary>
/// <param name="Name">What users say: dpmpp-2m-karras.</param>
/// <param name="Scheduler">Its class.</param>
/// <param name="Options">The fields that make it, beside those that a model's own scheduler gives.</param>
/// <param name="About">When it is good, in a few words.</param>
public sealed record Sampler(string Name, Type Scheduler, IReadOnlyDictionary<string, JsonNode> Options, string About)
{
    /// <summary>Whether it also follows flows. Karras' levels are those of the betas but for UniPC; single steps end too far from a flow's end, and DEIS, as in the peer, at its last level, of which noise is left.</summary>
    internal bool FollowsFlows => Scheduler == typeof(UniPcScheduler) || typeof(SolverScheduler).IsAssignableFrom(Scheduler) && Scheduler != typeof(DpmSinglestepScheduler) && Scheduler != typeof(DeisScheduler) && !Options.ContainsKey("use_karras_sigmas");
}

/// <summary>The samplers by their names, and how a model's scheduler is exchanged for one of them.</summary>
public static class Samplers
{
    public static IReadOnlyList<Sampler> All { get; } =
    [
        Of<DdimScheduler>("ddim", "deterministic, can be inverted; 50 steps"),
        Of<DdpmScheduler>("ddpm", "the training's own chain; hundreds of steps"),
        Of<PndmScheduler>("pndm", "Stable Diffusion 1's default; 50 steps", ("skip_prk_steps", true)),
        Of<LmsScheduler>("lms", "linear multistep; 30 steps"),
        Of<LmsScheduler>("lms-karras", "the same on Karras' levels", Karras),
        Of<EulerScheduler>("euler", "plain and dependable; 30 steps"),
        Of<EulerScheduler>("euler-karras", "the same on Karras' levels", Karras),
        Of<EulerAncestralScheduler>("euler-a", "varied, never settles as steps grow; 30 steps"),
        Of<HeunScheduler>("heun", "accurate, two calls a step; 20 steps"),
        Of<HeunScheduler>("heun-karras", "the same on Karras' levels", Karras),
        Of<Kdpm2Scheduler>("dpm2", "midpoint, two calls a step; 20 steps"),
        Of<Kdpm2Scheduler>("dpm2-karras", "the same on Karras' levels", Karras),
        Of<DpmMultistepScheduler>("dpmpp-2m", "the best for few steps; 20 steps", Plain, ("solver_order", 2)),
        Of<DpmMultistepScheduler>("dpmpp-2m-karras", "the same on Karras' levels", Plain, ("solver_order", 2), Karras),
        Of<DpmMultistepScheduler>("dpmpp-2m-sde", "with noise at each step; 25 steps", Stochastic, ("solver_order", 2)),
        Of<DpmMultistepScheduler>("dpmpp-2m-sde-karras", "the same on Karras' levels", Stochastic, ("solver_order", 2), Karras),
        Of<DpmMultistepScheduler>("dpmpp-3m", "third order, for unguided sampling; 20 steps", Plain, ("solver_order", 3)),
        Of<DpmSinglestepScheduler>("dpmpp-2s", "single steps of two calls; 20 calls", Plain, ("solver_order", 2), ("lower_order_final", true)),
        Of<DpmSinglestepScheduler>("dpmpp-2s-karras", "the same on Karras' levels", Plain, ("solver_order", 2), ("lower_order_final", true), Karras),
        Of<DeisScheduler>("deis", "few steps; 20 steps", ("algorithm_type", "deis")),
        Of<UniPcScheduler>("unipc", "the fewest steps; 10 to 20 steps"),
        Of<UniPcScheduler>("unipc-karras", "the same on Karras' levels", Karras),
        Of<LcmScheduler>("lcm", "models that were distilled for it; 4 to 8 steps"),
        Of<FlowMatchEulerScheduler>("flow", "flow models' own (Stable Diffusion 3, Flux); 28 steps"),
    ];

    static (string, JsonNode) Karras => ("use_karras_sigmas", true);

    static (string, JsonNode) Plain => ("algorithm_type", "dpmsolver++");

    static (string, JsonNode) Stochastic => ("algorithm_type", "sde-dpmsolver++");

    /// <summary>The same training sampled otherwise: the scheduler with the class and the options of <paramref name="name"/>.</summary>
    /// <param name="name">One of <see cref="All"/>.</param>
    /// <exception cref="PanoptesException">No such sampler, or it cannot follow what the model was trained to predict.</exception>
    public static DiffusionScheduler Using(this DiffusionScheduler scheduler, string name)
    {
        var sampler = All.FirstOrDefault(s => s.Name == name) ?? throw new PanoptesException($"There is no sampler {name}; expected {string.Join(", ", All.Select(static s => s.Name))}.");
        var changes = new Dictionary<string, JsonNode>(sampler.Options, StringComparer.Ordinal);
        var isFlow = scheduler is FlowMatchEulerScheduler or BetaScheduler { PredictionType: "flow_prediction" };
        if (isFlow != (sampler.Scheduler == typeof(FlowMatchEulerScheduler)) && !(isFlow && sampler.FollowsFlows))
            throw new PanoptesException($"{name} cannot sample this model, whose scheduler is {scheduler.ClassName}; expected {string.Join(", ", All.Where(s => (s.Scheduler == typeof(FlowMatchEulerScheduler) || s.FollowsFlows) == isFlow || !isFlow && s.FollowsFlows).Select(static s => s.Name))}.");
        if (typeof(SigmaScheduler).IsAssignableFrom(sampler.Scheduler))
            foreach (var way in (string[])["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"]) changes.TryAdd(way, false);
        if (scheduler is FlowMatchEulerScheduler flow && sampler.Scheduler != typeof(FlowMatchEulerScheduler))
        {
            changes["prediction_type"] = "flow_prediction";
            changes["use_flow_sigmas"] = true;
            changes["flow_shift"] = flow.Shift;
        }
        return (DiffusionScheduler)scheduler.As(sampler.Scheduler, changes);
    }

    static Sampler Of<T>(string name, string about, params ReadOnlySpan<(string Field, JsonNode Value)> options) where T : DiffusionScheduler
    {
        var fields = new Dictionary<string, JsonNode>(StringComparer.Ordinal);
        foreach (var (field, value) in options) fields[field] = value;
        return new(name, typeof(T), fields, about);
    }
}
