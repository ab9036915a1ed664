namespace Panoptes.Generation;

/// <summary>
/// A ControlNet (Zhang et al. 2023, arXiv:2302.05543) with its condition: adds to the UNet's skips in every step of its part of them. Several in one denoising are summed.
/// </summary>
/// <param name="network">Stays the caller's.</param>
/// <param name="condition">[1 or images, channels, height, width] from 0 to 1, of the wanted size; stays the caller's.</param>
/// <param name="scale">How strongly.</param>
/// <param name="start">From which part of the steps on, 0 to 1.</param>
/// <param name="end">Until which part of the steps.</param>
/// <param name="guess">Only what is wanted sees the condition, finer skips less than coarser ones: for empty prompts.</param>
public sealed class ControlNetCondition(ControlNetModel network, Tensor condition, double scale = 1, double start = 0, double end = 1, bool guess = false) : IStepHook
{
    public void Asking(DenoisingStep step)
    {
        var (i, count) = ((double)step.Before, step.Total);
        if (i / count < start || (i + 1) / count > end || scale == 0) return;
        using var scope = NewDisposeScope();
        // The condition's own copy of the encoder sees the noisy latents alone, without a mask's channels.
        var call = step.Call;
        // One that sums its condition up over all places would say the same of what is not wanted (the peer's global_pool_conditions).
        var guessing = guess || network.Config.GlobalPoolConditions;
        var halves = guessing && step.Denoising.IsGuided;
        var asked = halves ? step.Ask(step.Latents, guided: false) : call;
        var rows = asked.Sample.shape[0];
        using var said = network.Forward(new()
        {
            Sample = asked.Sample.narrow(1, 0, network.Config.InChannels),
            Timestep = asked.Timestep,
            Text = asked.Conditioning.Text,
            PooledText = asked.Conditioning.Pooled,
            TimeIds = asked.Conditioning.TimeIds,
        }, condition.shape[0] == 1 ? condition.expand(rows, -1, -1, -1) : condition.repeat(rows / condition.shape[0], 1, 1, 1), scale, guessing);
        step.Call = call with
        {
            DownResiduals = [.. said.Down.Select((d, k) => Added(d, call.DownResiduals?[k]))],
            MidResidual = Added(said.Mid, call.MidResidual),
        };

        Tensor Added(Tensor residual, Tensor? before)
        {
            // What is not wanted gets nothing of a guess.
            if (halves) residual = cat([zeros_like(residual), residual]);
            return (before is null ? residual.alias() : before + residual).MoveToOuterDisposeScope();
        }
    }
}
