using System.Text.Json;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Objectives;
using Panoptes.Representation.Training;
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

/// <summary>Whole short runs of CLIP on given batches: losses, norms of gradients, rates, and the weights and their averages at the end.</summary>
sealed class ClipTrainingAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c is { Architecture: "CLIPModel", Call: "train" };

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var a = c.Arguments;
        if (a.GetProperty("optimizer").GetString() != "adamw" || a.GetProperty("schedule").GetString() != "open_clip_cosine")
            throw new PanoptesException($"The run goes by {a.GetProperty("optimizer")} and {a.GetProperty("schedule")}; expected adamw and open_clip_cosine.");
        using var model = Models.Load<ClipModel>(c.Folder);
        model.Train();
        var frozen = a.GetProperty("frozen").EnumerateArray().Select(static f => f.GetString()!).ToArray();
        foreach (var (key, parameter) in model.NamedParameters())
            if (frozen.Any(f => key.StartsWith(f, StringComparison.Ordinal))) parameter.RequiresGrad = false;

        var scales = Number("layer_decay") is { } layerDecay ? ParameterGroup.LayerDecay([model.Images.LayerGroups.ForLayerDecay, model.Texts.LayerGroups.ForLayerDecay], layerDecay) : null;
        using var optimizer = new AdamW(ParameterGroup.Of(model, Number("weight_decay") ?? 0, scales), a.GetProperty("betas")[0].GetDouble(), a.GetProperty("betas")[1].GetDouble(), Number("eps")!.Value);
        using var ema = Number("ema_decay") is { } decay ? new Ema(model, decay) : null;
        var steps = a.GetProperty("steps").GetInt32();
        var schedule = new CosineSchedule(Number("lr")!.Value, steps) { WarmupSteps = a.GetProperty("warmup_steps").GetInt64() };
        var gradients = new PairGradients { Objectives = [new("contrastive", new ContrastiveLoss())], MicroBatch = (int?)Number("micro_batch") };
        var (losses, norms, rates) = (new float[steps], new float[steps], new double[steps]);
        for (var step = 0; step < steps; step++)
        {
            using (NewDisposeScope())
                losses[step] = (float)gradients.Backward(Towers.Of(model), new(c.Input("pixel_values")[step], c.Input("input_ids")[step]))["loss"];
            norms[step] = (float)optimizer.ClipGradients(Number("clip_grad_norm"));
            optimizer.Step(rates[step] = schedule.At(step));
            optimizer.ZeroGradients();
            if (Number("logit_scale_max") is { } max)
            {
                using var noGrad = no_grad();
                model.LogitScale.Value.clamp_(0, max);
            }
            ema?.Update();
        }

        yield return ("losses", tensor(losses));
        yield return ("gradient_norms", tensor(norms));
        yield return ("learning_rates", tensor(rates));
        foreach (var (key, parameter) in model.NamedParameters()) yield return ($"final.{key}", parameter.Value);
        foreach (var (key, average) in ema?.State ?? new Dictionary<string, Tensor>()) yield return ($"ema.{key}", average);

        double? Number(string name) => a.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number ? value.GetDouble() : null;
    }
}
