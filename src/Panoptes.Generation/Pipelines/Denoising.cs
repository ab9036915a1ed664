namespace Panoptes.Generation;

/// <summary>What a network is asked in one step; everything a row an image, both halves of guidance in one batch.</summary>
public sealed record NetworkCall
{
    /// <summary>[b, channels, rows, columns]: the noisy latents as the scheduler scales them, and behind them what else the network reads as channels.</summary>
    public required Tensor Sample { get; init; }

    /// <summary>A scalar.</summary>
    public required Tensor Timestep { get; init; }

    public required Conditioning Conditioning { get; init; }

    /// <summary>How strongly the text is to be followed, for networks that are told (Flux).</summary>
    public double Guidance { get; init; }

    /// <summary>Added to the skips of a UNet's downward path: what ControlNets say.</summary>
    public IReadOnlyList<Tensor>? DownResiduals { get; init; }

    /// <summary>Added to the middle's output, with them.</summary>
    public Tensor? MidResidual { get; init; }

    /// <summary>Added inside every level of the downward path: what T2I-Adapters say.</summary>
    public IReadOnlyList<Tensor>? AdapterFeatures { get; init; }

    /// <summary>What is to be where (GLIGEN).</summary>
    public Grounding? Grounding { get; init; }

    public FreeU? FreeU { get; init; }

    /// <summary>Comes between in every attention.</summary>
    public IAttentionHook? Attention { get; init; }
}

/// <summary>
/// Comes between the steps of a denoising: control, guidance, editing and previews are hooks, in the order in which they are given. Each call is in the step's dispose scope.
/// </summary>
public interface IStepHook
{
    /// <summary>Before the network is asked: may change <see cref="DenoisingStep.Latents"/> and <see cref="DenoisingStep.Call"/>, or answer in its place by <see cref="DenoisingStep.Prediction"/>.</summary>
    void Asking(DenoisingStep step) { }

    /// <summary>After it has answered and guidance is applied: may change <see cref="DenoisingStep.Prediction"/>.</summary>
    void Predicted(DenoisingStep step) { }

    /// <summary>After the scheduler's step, and each of its repetitions: <see cref="DenoisingStep.Latents"/> are the next step's and may be changed, <see cref="DenoisingStep.Clean"/> is what the images seem to become.</summary>
    void Stepped(DenoisingStep step) { }
}

/// <summary>One step as hooks see it.</summary>
public sealed class DenoisingStep
{
    internal DenoisingStep(Denoising denoising, int index, Tensor latents, CancellationToken cancel) => (Denoising, Index, Latents, Cancel) = (denoising, index, latents, cancel);

    public Denoising Denoising { get; }

    /// <summary>Which call of the run, from <see cref="SchedulerRun.Begin"/> to below <see cref="SchedulerRun.Count"/>.</summary>
    public int Index { get; }

    public SchedulerRun Run => Denoising.Run;

    /// <summary>How many of this denoising's calls came before; 0 at the first, also where a strength leaves the run's first ones out.</summary>
    public int Before => Index - Run.Begin;

    /// <summary>How many calls this denoising has.</summary>
    public int Total => Run.Count - Run.Begin;

    /// <summary>Looked at by hooks that take long.</summary>
    public CancellationToken Cancel { get; }

    /// <summary>What the network is told.</summary>
    public double Timestep => Run.Timesteps[Index];

    /// <summary>[images, channels, rows, columns]</summary>
    public Tensor Latents { get; set; }

    /// <summary>What the network is about to be asked. Where latents are changed, <see cref="Ask"/> makes it anew.</summary>
    public NetworkCall Call { get; set; } = null!;

    /// <summary>What the network says of the images, both halves of guidance taken together: as <see cref="Latents"/>.</summary>
    public Tensor? Prediction { get; set; }

    /// <summary>How much noise there is at each place, where the network says it behind its prediction, for samplers that take it.</summary>
    internal Tensor? Variance { get; set; }

    /// <summary>What the images seem to become: as <see cref="Latents"/>.</summary>
    public Tensor Clean { get; internal set; } = null!;

    /// <summary>The call that goes with <paramref name="latents"/> in this step, without what hooks have added.</summary>
    /// <param name="guided">Both halves of guidance; otherwise the text's alone.</param>
    public NetworkCall Ask(Tensor latents, bool guided = true)
    {
        var both = guided && Denoising.IsGuided;
        var sample = Run.ScaleInput(latents, Index);
        if (both) sample = cat([sample, sample]);
        if (Denoising.Channels is { } channels) sample = cat([sample, both ? cat([channels, channels]) : channels], 1);
        return new() { Sample = sample.to(Denoising.Model.Dtype), Timestep = Run.Timestep(Index), Conditioning = both ? Denoising.Both! : Denoising.Positive, Guidance = Denoising.GuidanceScale };
    }

    /// <summary>The network's answer to a call of both halves of guidance, taken together; <see cref="Variance"/> is set where it tells one.</summary>
    internal Tensor Answer(NetworkCall call)
    {
        var (told, channels) = (Denoising.Guide(Denoising.Model.Predict(call)), Latents.shape[1]);
        if (told.shape[1] != 2 * channels) return told;
        Variance = told.narrow(1, channels, channels).detach();
        return told.narrow(1, 0, channels);
    }
}

/// <summary>
/// The one loop that makes images of noise: the scheduler's steps, a network that is asked at each, and hooks between. What tasks differ in is how latents begin, and which hooks and channels go with them.
/// </summary>
public sealed class Denoising : IDisposable
{
    readonly IReadOnlyList<IStepHook> hooks;

    /// <param name="model">Whose network is asked; stays the caller's.</param>
    /// <param name="run">The scheduler's steps.</param>
    /// <param name="positive">What is wanted; stays the caller's.</param>
    /// <param name="negative">What is not, for classifier-free guidance; null where nothing is.</param>
    /// <param name="hooks">In their order.</param>
    public Denoising(DiffusionModel model, SchedulerRun run, Conditioning positive, Conditioning? negative = null, params IReadOnlyList<IStepHook> hooks)
    {
        (Model, Run, Positive, this.hooks) = (model, run, positive, hooks);
        if (negative is null) return;
        if (negative.Count != positive.Count) throw new PanoptesException($"{negative.Count} negative prompts go with {positive.Count}; expected as many.");
        // [what is not wanted, what is]: the peers' order.
        Both = Conditioning.Concatenate(negative, positive).DetachFromDisposeScope();
    }

    public DiffusionModel Model { get; }

    public SchedulerRun Run { get; }

    public Conditioning Positive { get; }

    /// <summary>Both halves of guidance, what is not wanted first; null without guidance.</summary>
    internal Conditioning? Both { get; }

    /// <summary>Whether every step asks about what is not wanted, too.</summary>
    public bool IsGuided => Both is not null;

    /// <summary>How much farther from what is not wanted than the text alone (Ho and Salimans 2022, arXiv:2207.12598): 1 and less is no guidance. Networks that are told it take it as they were taught.</summary>
    public double GuidanceScale { get; init; } = 1;

    /// <summary>How much of the guided prediction's deviation is set back to the text's own (Lin et al. 2023, arXiv:2305.08891, section 3.4), from 0 to 1.</summary>
    public double Rescale { get; init; }

    /// <summary>[images, channels, rows, columns]: what the network reads behind the latents in every step; stays the caller's.</summary>
    public Tensor? Channels { get; init; }

    /// <summary>How often every step but the last is taken: each time but the last, the noise that it took away is put in again (self-recurrence; Bansal et al. 2023, arXiv:2302.07121, section 3.3).</summary>
    public int Repeats { get; init; } = 1;

    /// <summary>Where noise comes from, for schedulers that draw some.</summary>
    public NoiseSource? Noise { get; init; }

    /// <summary>From the first latents to the last: [images, channels, rows, columns], the caller's.</summary>
    /// <param name="latents">As the run's first step takes them (see <see cref="SchedulerRun.InitNoiseSigma"/> and <see cref="SchedulerRun.AddNoise"/>); stay the caller's.</param>
    /// <param name="cancel">Looked at before every step.</param>
    /// <exception cref="PanoptesException">The network gave numbers that are none.</exception>
    public Tensor Start(Tensor latents, CancellationToken cancel = default)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (current, state, taken) = (latents.alias(), SchedulerState.Empty, 0);
        for (var i = Run.Begin; i < Run.Count; i++)
        {
            cancel.ThrowIfCancellationRequested();
            using var inner = NewDisposeScope();
            var step = new DenoisingStep(this, i, current, cancel);
            step.Call = step.Ask(current);
            foreach (var hook in hooks) hook.Asking(step);
            step.Prediction ??= step.Answer(step.Call);
            foreach (var hook in hooks) hook.Predicted(step);
            var next = Run.Step(i, step.Variance is { } variance && Run.PredictsVariance ? cat([step.Prediction, variance], 1) : step.Prediction, step.Latents, state, Noise);
            (step.Latents, step.Clean) = (next.Sample, next.Clean);
            foreach (var hook in hooks) hook.Stepped(step);
            if (++taken < Repeats && i + 1 < Run.Count)
            {
                var drawn = (Noise ?? throw new PanoptesException("Steps that are repeated draw noise; give them a generator.")).Normal(step.Latents.shape, step.Latents.dtype);
                var back = current;
                current = Run.Back(i, step.Latents, drawn).MoveToOuterDisposeScope();
                back.Dispose();
                i--;
                continue;
            }
            taken = 0;
            var (before, last) = (current, state);
            (current, state) = (step.Latents.MoveToOuterDisposeScope(), next.State.MoveToOuterDisposeScope());
            before.Dispose();
            if (last != SchedulerState.Empty) last.Dispose();
        }
        // A broken checkpoint gives no numbers from the first step on; asked once, at the end, it costs nothing.
        Damage.Check(current, "network", guided: true);
        return current.MoveToOuterDisposeScope();
    }

    /// <summary>Takes both halves together.</summary>
    internal Tensor Guide(Tensor predicted)
    {
        if (!IsGuided) return predicted;
        var halves = predicted.chunk(2, 0);
        var guided = Guidance.ClassifierFree(halves[0], halves[1], GuidanceScale);
        return Rescale > 0 ? Guidance.Rescale(guided, halves[1], Rescale) : guided;
    }

    public void Dispose() => Both?.Dispose();
}
