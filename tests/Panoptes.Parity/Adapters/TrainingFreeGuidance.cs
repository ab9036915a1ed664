using Panoptes.Generation;
using Panoptes.Nn;

namespace Panoptes.Parity.Adapters;

/// <summary>Universal guidance by a plain reference: one step over a network and a loss that the case gives.</summary>
sealed class UniversalGuidanceAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "universal guidance";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var (alpha, before) = (Number("alpha_t"), Number("alpha_prev"));
        var level = new NoiseLevel(Math.Sqrt(alpha), Math.Sqrt(1 - alpha));
        var latents = c.Input("latents").detach().requires_grad_();
        Tensor Noise(Tensor x) => Conv2d.Apply(x, c.Input("conv_weight"), c.Input("conv_bias"), padding: 1).tanh() + 0.5 * x;
        Tensor Loss(Tensor clean) => nn.functional.cross_entropy(clean.flatten(1).matmul(c.Input("classifier").t()), c.Input("labels"), reduction: nn.Reduction.Sum);
        // A run whose first two levels are the case's.
        var run = new DdimScheduler { BetaSchedule = "scaled_linear", BetaStart = 0.00085, BetaEnd = 0.012, ClipSample = false, SetAlphaToOne = false, StepsOffset = 1 }.Start(10);
        var i = run.Timesteps.ToList().IndexOf(Number("t"));
        var eps = Noise(latents);
        var clean = run.PredictClean(i, eps, latents);
        var loss = Loss(clean);
        var gradient = autograd.grad([loss], [latents], retain_graph: true)[0];
        var forward = run.Shift(i, eps.detach(), UniversalGuidance.Forward(gradient, level, Number("forward_scale")));
        var (delta, losses) = UniversalGuidance.Backward(Loss, clean.detach(), c.Arguments.GetProperty("backward_steps").GetInt32(), Number("backward_lr"));
        var backward = run.Shift(i, forward, UniversalGuidance.FromClean(delta, level));
        var next = run.Step(i, backward, latents.detach(), SchedulerState.Empty).Sample;
        yield return ("eps", eps);
        yield return ("x0_hat", clean);
        yield return ("loss", loss);
        yield return ("gradient", gradient);
        yield return ("gradient_frozen_eps", autograd.grad([Loss(run.PredictClean(i, Noise(latents).detach(), latents))], [latents])[0]);
        yield return ("eps_forward", forward);
        yield return ("delta_x0", delta);
        yield return ("backward_losses", tensor(losses.Select(static l => (float)l).ToArray()));
        yield return ("eps_backward", backward);
        yield return ("x_prev", next);
        yield return ("x_recurrence", run.Back(i, next, c.Input("recurrence_noise")));

        double Number(string name) => c.Arguments.GetProperty(name).GetDouble();
    }
}

/// <summary>Layout guidance by a plain reference: the loss of maps that the case gives, and one move.</summary>
sealed class LayoutGuidanceAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture.StartsWith("layout guidance", StringComparison.Ordinal);

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        string[] names = [.. c.InputNames.Where(static n => n.Contains("_logits.", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
        Tensor[] logits = [.. names.Select(n => c.Input(n).detach().requires_grad_())];
        var boxes = c.Arguments.GetProperty("boxes");
        LayoutBox[] layout = [.. c.Arguments.GetProperty("positions").EnumerateArray().Select((p, k) => new LayoutBox([.. p.EnumerateArray().Select(static t => t.GetInt32())],
            [.. boxes[k].EnumerateArray().Select(static b => (b[0].GetDouble(), b[1].GetDouble(), b[2].GetDouble(), b[3].GetDouble()))]))];
        var loss = LayoutGuidance.Loss([.. logits.Select(static l => l.softmax(-1))], layout);
        yield return ("loss", loss);
        foreach (var (name, gradient) in names.Zip(autograd.grad([loss], logits))) yield return (name.Replace("_logits", "_gradient", StringComparison.Ordinal), gradient);
        var alpha = c.Arguments.GetProperty("alpha_t").GetDouble();
        yield return ("updated", LayoutGuidance.Moved(c.Input("latents"), c.Input("latent_gradient"), Math.Sqrt((1 - alpha) / alpha), c.Arguments.GetProperty("loss_scale").GetDouble()));
    }
}
