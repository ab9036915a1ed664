using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>Latents to tokens, one a square of a few places, with fixed sines and cosines of the places. Keys: proj; pos_embed where the table is part of the checkpoint.</summary>
/// <param name="channels">Of the latents.</param>
/// <param name="width">Of a token.</param>
/// <param name="patch">The side of a token's square.</param>
/// <param name="side">How many tokens a side the positions are counted for: other sizes are stretched to it.</param>
/// <param name="stretch">Positions are divided by this.</param>
/// <param name="table">The side of the saved table, whose middle is used (SD 3); null: there is none, and positions of any size are computed.</param>
public sealed class PatchTokens(int channels, int width, int patch, int side, double stretch = 1, int? table = null) : Module
{
    readonly SizeCache<(long Rows, long Columns, ScalarType Dtype, DeviceType Device)> positions = new();

    public PatchEmbedding Proj { get; } = new(channels, width, patch, bias: true);

    public Parameter? PosEmbed { get; } = table is { } n
        ? new([1, (long)n * n, width], (t, _) => t.copy_(Positions.SinCos(n, n, width, (double)side / n, (double)side / n).narrow(0, 1, n * n))) { Trainable = false }
        : null;

    /// <param name="latents">[b, channels, height, width]</param>
    /// <returns>[b, tokens, width], row by row</returns>
    /// <exception cref="PanoptesException">Sides that are no multiples of a token's, or more tokens than the table has.</exception>
    public Tensor Forward(Tensor latents)
    {
        using var scope = NewDisposeScope();
        var (rows, columns) = Grid(latents, channels, patch);
        var x = Proj.Forward(latents);
        if (PosEmbed is null)
            return x.add_(positions.Get((rows, columns, x.dtype, x.device_type), s => Positions.SinCos((int)s.Rows, (int)s.Columns, width, side / (stretch * s.Rows), side / (stretch * s.Columns))
                .narrow(0, 1, s.Rows * s.Columns).to(s.Dtype).to(s.Device))).MoveToOuterDisposeScope();
        var most = table!.Value;
        if (rows > most || columns > most) throw new PanoptesException($"Latents of {latents.shape[3]}x{latents.shape[2]} were given to a model for at most {most * patch}x{most * patch}.");
        var middle = PosEmbed.Value.view(most, most, width).narrow(0, (most - rows) / 2, rows).narrow(1, (most - columns) / 2, columns);
        return x.view(-1, rows, columns, width).add_(middle).flatten(1, 2).MoveToOuterDisposeScope();
    }

    /// <summary>How many tokens latents have a side.</summary>
    /// <exception cref="PanoptesException">Other channels than expected, or sides that are no multiples of a token's.</exception>
    internal static (long Rows, long Columns) Grid(Tensor latents, int channels, int patch)
    {
        if (latents.dim() != 4 || latents.shape[1] != channels) throw new PanoptesException($"Latents of shape [{string.Join(", ", latents.shape)}] were given; expected [batch, {channels}, height, width].");
        var (height, width) = (latents.shape[2], latents.shape[3]);
        return height % patch == 0 && width % patch == 0 && height > 0 && width > 0 ? (height / patch, width / patch)
            : throw new PanoptesException($"Latents of {width}x{height} were given to a model of patches of {patch}x{patch}; expected multiples of {patch}.");
    }

    /// <summary>What a model says of each token's square, put back together.</summary>
    /// <param name="tokens">[b, rows · columns, patch · patch · channels], channels last</param>
    /// <returns>[b, channels, rows · patch, columns · patch]</returns>
    internal static Tensor Join(Tensor tokens, long rows, long columns, int patch)
    {
        using var scope = NewDisposeScope();
        var channels = tokens.shape[2] / (patch * patch);
        return tokens.view(-1, rows, columns, patch, patch, channels).permute(0, 5, 1, 3, 2, 4).reshape(-1, channels, rows * patch, columns * patch).MoveToOuterDisposeScope();
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) positions.Dispose();
        base.Dispose(disposing);
    }
}
