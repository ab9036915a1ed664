namespace Panoptes.Generation;

/// <summary>
/// Universal guidance (Bansal et al. 2023, arXiv:2302.07121): whatever has a loss over pictures, a detector, a segmenter, a CLIP or a style, leads a model that never heard of it. Forward guidance adds the loss's
/// gradient through the network to the noise; backward guidance looks for the change of the clean picture that makes the loss least, and asks for it; self-recurrence takes every step several times
/// (<see cref="Denoising.Repeats"/>). With forward guidance alone this is classifier guidance (Dhariwal and Nichol 2021, arXiv:2105.05233) by any classifier of clean pictures.
/// </summary>
/// <param name="loss">Of what the images seem to become, a scalar: latents of the model, or, with <paramref name="inPixels"/>, pictures [b, 3, height, width], black being 0 and white 1, which may go beyond: what is cut off could not be led back. Gradients go through it.</param>
public sealed class UniversalGuidance(Func<Tensor, Tensor> loss, bool inPixels = true) : IStepHook
{
    /// <summary>How strong forward guidance is: the paper's s, times the deviation of the noise that is left. 0: none.</summary>
    public double ForwardScale { get; init; }

    /// <summary>How many steps of gradient descent look for the change of the clean picture; 0: no backward guidance.</summary>
    public int BackwardSteps { get; init; }

    /// <summary>Their rate.</summary>
    public double BackwardRate { get; init; } = 0.05;

    public void Asking(DenoisingStep step) => Lead(step, [this]);

    /// <summary>Lets several lead: the changes add up, as if their losses did, but the network is asked, its clean picture decoded and the way back gone once for all of them.</summary>
    internal static void Lead(DenoisingStep step, IReadOnlyList<UniversalGuidance> all)
    {
        var level = step.Run.Level(step.Index);
        // Where there is nothing but noise (flows, schedules of zero signal), no change of it makes another picture.
        if (level.Alpha < 1e-6) return;
        using var scope = NewDisposeScope();
        UniversalGuidance[] forward = [.. all.Where(static g => g.ForwardScale > 0)];
        Tensor prediction, change;
        using (forward.Length > 0 ? enable_grad() : no_grad())
        {
            var latents = forward.Length > 0 ? step.Latents.detach().requires_grad_() : step.Latents;
            var fresh = step.Ask(latents);
            prediction = step.Answer(step.Call with { Sample = fresh.Sample });
            change = zeros_like(prediction);
            if (forward.Length > 0)
            {
                var clean = step.Run.PredictClean(step.Index, prediction, latents);
                var pictures = new Lazy<Tensor>(() => Decoded(step, clean));
                // The first one's scale comes behind the gradient, by which the others' losses are weighed here.
                var first = forward[0].ForwardScale;
                var total = forward[0].Of(clean, pictures);
                foreach (var other in forward.AsSpan(1))
                {
                    using var weight = (other.ForwardScale / first).ToScalar();
                    total = total + other.Of(clean, pictures).mul(weight);
                }
                change = Forward(autograd.grad([total], [latents])[0], level, first);
            }
        }
        prediction = prediction.detach();
        foreach (var backward in all)
        {
            if (backward.BackwardSteps == 0) continue;
            var (delta, _) = Backward(clean => backward.Of(clean, new(() => Decoded(step, clean))), step.Run.PredictClean(step.Index, prediction, step.Latents).detach(), backward.BackwardSteps, backward.BackwardRate, step.Cancel);
            change = change + FromClean(delta, level);
        }
        // What others have changed stays changed.
        step.Prediction = step.Run.Shift(step.Index, step.Prediction ?? prediction, change).MoveToOuterDisposeScope();
        step.Variance?.MoveToOuterDisposeScope();
    }

    static Tensor Decoded(DenoisingStep step, Tensor clean) => step.Denoising.Model.DecodeUnbounded(clean.to(step.Denoising.Model.Dtype));

    Tensor Of(Tensor clean, Lazy<Tensor> pictures) => loss(inPixels ? pictures.Value : clean);

    /// <summary>
    /// How forward guidance changes the noise: the loss's gradient by the noisy sample, times the scale and the deviation of the noise that the sample holds. That is the paper's √(1 - ᾱ); samples that are larger, as Euler's,
    /// hold as much more, and the gradient by them is as much smaller.
    /// </summary>
    public static Tensor Forward(Tensor gradient, NoiseLevel level, double scale)
    {
        using var factor = (scale * level.Sigma).ToScalar();
        return gradient.mul(factor);
    }

    /// <summary>The change of a clean sample that gradient descent finds, and the loss before each of its steps.</summary>
    /// <param name="loss">Of a clean sample: a scalar.</param>
    /// <param name="clean">Where it begins.</param>
    /// <param name="rate">How far each goes against the gradient.</param>
    /// <param name="cancel">Looked at before every step.</param>
    public static (Tensor Change, IReadOnlyList<double> Losses) Backward(Func<Tensor, Tensor> loss, Tensor clean, int steps, double rate, CancellationToken cancel = default)
    {
        using var scope = NewDisposeScope();
        using var grad = enable_grad();
        using var factor = rate.ToScalar();
        var (change, losses) = (zeros_like(clean), new List<double>(steps));
        for (var i = 0; i < steps; i++)
        {
            cancel.ThrowIfCancellationRequested();
            var at = change.detach().requires_grad_();
            var value = loss(clean + at);
            losses.Add(value.item<float>());
            change = (at.detach() - autograd.grad([value], [at])[0].mul(factor)).detach();
        }
        return (change.MoveToOuterDisposeScope(), losses);
    }

    /// <summary>How the noise changes where the clean sample is to change so.</summary>
    public static Tensor FromClean(Tensor change, NoiseLevel level)
    {
        using var factor = (-level.Alpha / level.Sigma).ToScalar();
        return change.mul(factor);
    }
}
