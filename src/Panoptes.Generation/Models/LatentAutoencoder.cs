using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Generation;

/// <summary>What a diffusion model's latents are made by, and made pictures again: all that its pipeline asks of an autoencoder.</summary>
public abstract class LatentAutoencoder : Module
{
    public abstract int LatentChannels { get; }

    /// <summary>How many pixels a side one place of the latents stands for.</summary>
    public abstract int PixelsPerPlace { get; }

    /// <summary>Latents of pictures as the diffusion model takes them: [b, channels, rows, columns].</summary>
    /// <param name="pixels">[b, 3, height, width] from -1 to 1</param>
    /// <param name="noise">Draws them, where a picture may be several; null: the likeliest.</param>
    /// <param name="parts">How large pictures go through; null: at once.</param>
    /// <param name="draws">How often latents of one picture are drawn; null: once of each picture.</param>
    public abstract Tensor ToLatents(Tensor pixels, NoiseSource? noise, AutoencoderParts? parts = null, long? draws = null);

    /// <summary>The opposite: [b, 3, height, width], about -1 to 1.</summary>
    public abstract Tensor ToPixels(Tensor latents, AutoencoderParts? parts = null);

    /// <summary>Refuses parts that pictures cannot go through in.</summary>
    /// <exception cref="PanoptesException">The message says which can be.</exception>
    public virtual void Check(AutoencoderParts? parts) { }

    private protected static Tensor InSlices(Tensor x, AutoencoderParts? parts, Func<Tensor, Tensor> compute) =>
        parts is { Sliced: true } && x.shape[0] > 1 ? cat([.. x.split(1).Select(compute)]) : compute(x);
}

/// <summary>An autoencoder of visual codes in the place of one, as in latent diffusion's first models (Rombach et al. 2022, arXiv:2112.10752, section 3.1): the network works on what is rounded to codes before a picture is made of it.</summary>
public sealed class CodeAutoencoder(VqModel model) : LatentAutoencoder
{
    [Key("")]
    public VqModel Model { get; } = model;

    public override int LatentChannels => Model.EmbeddingSize;

    public override int PixelsPerPlace => Model.PixelsPerToken;

    public override Tensor ToLatents(Tensor pixels, NoiseSource? noise, AutoencoderParts? parts = null, long? draws = null)
    {
        using var scope = NewDisposeScope();
        Check(parts);
        return (InSlices(pixels, parts, Model.Latents) * Model.Config.ScalingFactor).MoveToOuterDisposeScope();
    }

    public override Tensor ToPixels(Tensor latents, AutoencoderParts? parts = null)
    {
        using var scope = NewDisposeScope();
        Check(parts);
        // Rounding has no gradient; what comes before it gets that of what comes behind.
        var plain = latents.to(Model.PostQuantConv.Weight.Dtype!.Value) / Model.Config.ScalingFactor;
        var codes = plain + (Model.Quantize.Entries(Model.Quantize.Nearest(plain)) - plain).detach();
        return InSlices(codes, parts, Model.Decode).MoveToOuterDisposeScope();
    }

    public override void Check(AutoencoderParts? parts)
    {
        if (parts is { Tiled: true }) throw new PanoptesException("A VQModel takes no tiles; expected images at once, or one after the other.");
    }
}
