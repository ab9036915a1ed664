namespace Panoptes.Generation;

/// <summary>
/// Classifier guidance (Dhariwal and Nichol 2021, arXiv:2105.05233, algorithm 2): a classifier that was trained on noisy samples leads a model that may know nothing of classes, by the gradient of what it says of them. What changes is
/// the prediction, so that every sampler follows; classifiers of clean pictures lead by <see cref="UniversalGuidance"/>.
/// </summary>
/// <param name="likelihoods">
/// Of noisy samples [b, channels, rows, columns], as the network is shown them, and their timesteps [b]: log p(y | x_t, t) of the wanted class of each, [b]. Samples are latents, or pixels from -1 to 1 of a model of pixels. Gradients go through it.
/// </param>
/// <param name="scale">The paper's s; 0: none.</param>
public sealed class ClassifierGuidance(Func<Tensor, Tensor, Tensor> likelihoods, double scale = 1) : IStepHook
{
    public void Predicted(DenoisingStep step)
    {
        var level = step.Run.Level(step.Index);
        // Where there is nothing but noise, no change of it makes another picture.
        if (scale == 0 || level.Alpha < 1e-6) return;
        using var scope = NewDisposeScope();
        Tensor gradient;
        using (enable_grad())
        {
            var latents = step.Latents.detach().requires_grad_();
            var told = likelihoods(step.Run.ScaleInput(latents, step.Index), step.Run.Timestep(step.Index).expand(latents.shape[0]));
            // Each image's own likelihood depends on it alone.
            gradient = autograd.grad([-told.sum()], [latents])[0];
        }
        step.Prediction = step.Run.Shift(step.Index, step.Prediction!, UniversalGuidance.Forward(gradient, level, scale)).MoveToOuterDisposeScope();
    }
}
