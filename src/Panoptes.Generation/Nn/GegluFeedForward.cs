using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>A feed-forward layer whose middle is gated by the GELU of as many channels again (Shazeer 2020, arXiv:2002.05202). Keys: net.0.proj, net.2.</summary>
public sealed class GegluFeedForward(int width, int multiple = 4) : Module
{
    [Key("net.0.proj")]
    public Linear Proj { get; } = new(width, 2 * multiple * width);

    [Key("net.2")]
    public Linear Out { get; } = new(multiple * width, width);

    /// <param name="x">[..., width]</param>
    /// <returns>[..., width]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        Tensor gated;
        using (var both = Proj.Forward(x))
        {
            var halves = both.chunk(2, -1);
            gated = nn.functional.gelu(halves[1]);
            gated = is_grad_enabled() ? gated * halves[0] : gated.mul_(halves[0]);
        }
        return Out.Forward(gated).MoveToOuterDisposeScope();
    }
}
