using System.Text.Json;
using Panoptes.Nn;
using Panoptes.Training;

namespace Panoptes.Parity.Adapters;

/// <summary>Steps of torch's and timm's optimizers over given gradients, the parameters after each.</summary>
sealed class OptimizerAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c is { Area: "training", Call: "step" };

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = new NamedTensors(c.InputNames.Where(static n => n.StartsWith("start.", StringComparison.Ordinal))
            .ToDictionary(static n => n["start.".Length..], n => c.Input(n).clone(), StringComparer.Ordinal));
        var (rate, steps) = (c.Arguments.GetProperty("lr").GetDouble(), c.Arguments.GetProperty("steps").GetInt32());
        using var optimizer = Make(c.Architecture, ParameterGroup.Of(model, Option("weight_decay", 0)));
        for (var step = 1; step <= steps; step++)
        {
            foreach (var (key, parameter) in model.NamedParameters()) parameter.Value.grad = c.Input($"grad{step}.{key}");
            optimizer.Step(rate);
            foreach (var (key, parameter) in model.NamedParameters()) yield return ($"step{step}.{key}", parameter.Value.detach().clone());
        }

        Optimizer Make(string name, IReadOnlyList<ParameterGroup> groups) => name switch
        {
            "AdamW" => new AdamW(groups, Beta(0, 0.9), Beta(1, 0.999), Option("eps", 1e-8), Flag("amsgrad")),
            "SGD" => new Sgd(groups, Option("momentum", 0), Flag("nesterov")),
            "Lamb" => new Lamb(groups, Beta(0, 0.9), Beta(1, 0.999), Option("eps", 1e-6), Option("max_grad_norm", 1)),
            "Lars" => new Lars(groups, Option("momentum", 0), Flag("nesterov"), Option("trust_coeff", 1e-3), Option("eps", 1e-8)),
            "Lion" => new Lion(groups, Beta(0, 0.9), Beta(1, 0.99)),
            "Adafactor" => new Adafactor(groups, c.Arguments.TryGetProperty("betas", out _) ? Beta(0, 0) : null, Option("decay_rate", -0.8), Option("clip_threshold", 1), Option("eps", 1e-30), (int)Option("min_dim_size_to_factor", 16)),
            "Muon" => new Muon(groups, c.Arguments.TryGetProperty("adjust_lr_fn", out var f) && f.GetString() == "match_rms_adamw" ? MuonScale.MatchAdamW : MuonScale.Original, Option("momentum", 0.95), Flag("nesterov")),
            _ => throw new PanoptesException($"There is no optimizer {name} here."),
        };

        double Option(string name, double other) => c.Arguments.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number ? value.GetDouble() : other;
        double Beta(int index, double other) => c.Arguments.TryGetProperty("betas", out var value) && value.ValueKind == JsonValueKind.Array ? value[index].GetDouble() : other;
        bool Flag(string name) => c.Arguments.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.True;
    }

    /// <summary>A model that is nothing but named parameters.</summary>
    sealed class NamedTensors(IReadOnlyDictionary<string, Tensor> tensors) : Module
    {
        readonly (string, object?)[] children = [.. tensors.Select(static t =>
        {
            var parameter = new Parameter(t.Value.shape, Init.Zeros);
            parameter.Assign(t.Value);
            return (t.Key, (object?)parameter);
        })];

        protected override IEnumerable<(string Key, object? Child)> Children() => children;
    }
}

/// <summary>The learning rates of whole runs by the schedules of open_clip, timm, torch and transformers.</summary>
sealed class ScheduleAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c is { Area: "training", Call: "learning_rate" };

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var (rate, total, warmup) = (c.Arguments.GetProperty("base_lr").GetDouble(), c.Arguments.GetProperty("total_steps").GetInt64(), c.Arguments.GetProperty("warmup_steps").GetInt64());
        var timm = c.Arguments.GetProperty("timm");
        (string Name, Schedule Schedule)[] schedules =
        [
            ("open_clip_cosine", new CosineSchedule(rate, total) { WarmupSteps = warmup }),
            ("timm_cosine", new TimmCosineSchedule(rate, total) { WarmupSteps = warmup, WarmupRate = timm.GetProperty("warmup_lr_init").GetDouble(), FinalRate = timm.GetProperty("lr_min").GetDouble() }),
            ("one_cycle", new OneCycleSchedule(rate, total)),
            ("linear_warmup", new LinearSchedule(rate, total) { WarmupSteps = warmup }),
            ("constant_warmup", new ConstantSchedule(rate, total) { WarmupSteps = warmup }),
        ];
        foreach (var (name, schedule) in schedules)
        {
            var rates = new double[total];
            for (var step = 0; step < rates.Length; step++) rates[step] = schedule.At(step);
            yield return (name, tensor(rates));
        }
    }
}
