using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>The time, a text's pooled features and, for distilled models, the scale of guidance as one condition. Keys: timestep_embedder, guidance_embedder, text_embedder.</summary>
public sealed class TimeTextEmbedding(int pooled, int width, bool guidance = false) : Module
{
    public TimestepEmbedding TimestepEmbedder { get; } = new(256, width);

    public TimestepEmbedding? GuidanceEmbedder { get; } = guidance ? new(256, width) : null;

    public TextProjection TextEmbedder { get; } = new(pooled, width, Activation.Silu);

    /// <param name="timesteps">[b], from 0 to 1000</param>
    /// <param name="text">[b, pooled]</param>
    /// <param name="scale">[b], a thousand times the scale of guidance; null where the model knows none</param>
    /// <returns>[b, width] after SiLU, as every modulation takes it</returns>
    internal Tensor Forward(Tensor timesteps, Tensor text, Tensor? scale = null)
    {
        using var scope = NewDisposeScope();
        var sum = TimestepEmbedder.Forward(Timesteps.Sinusoids(timesteps, 256).to(text.dtype)) + TextEmbedder.Forward(text);
        if (GuidanceEmbedder is not null)
            sum += GuidanceEmbedder.Forward(Timesteps.Sinusoids(scale ?? throw new PanoptesException("This model was distilled from guidance: expected its scale."), 256).to(text.dtype));
        return nn.functional.silu(sum).MoveToOuterDisposeScope();
    }
}
