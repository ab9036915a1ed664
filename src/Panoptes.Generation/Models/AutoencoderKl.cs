using System.Text.Json.Serialization;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Generation;

// The autoencoder whose latents diffusion models work in (Rombach et al. 2022, arXiv:2112.10752, section 3.1; Kingma and Welling 2013, arXiv:1312.6114), with the keys and the config.json of
// diffusers' AutoencoderKL: that of Stable Diffusion 1 and 2, SDXL, and, without quantization's convolutions and with more channels, SD 3 and Flux.

/// <summary>Encoder and decoder, and how latents are scaled for a diffusion model, under the names of diffusers.</summary>
public sealed record AutoencoderKlConfig : AutoencoderConfig
{
    public AutoencoderKlConfig() => (LatentChannels, ForceUpcast) = (4, true);

    /// <summary>Taken from the latents before they are scaled; null: nothing.</summary>
    public double? ShiftFactor { get; init; }

    /// <summary>Of every channel of the latents; with <see cref="LatentsStd"/> in place of a shift.</summary>
    public double[]? LatentsMean { get; init; }
    public double[]? LatentsStd { get; init; }
    public bool UseQuantConv { get; init; } = true;
    public bool UsePostQuantConv { get; init; } = true;

    [JsonPropertyName("_class_name")]
    public string ClassName { get; init; } = "AutoencoderKL";

    [JsonIgnore]
    internal override int EncodedChannels => 2 * LatentChannels;

    /// <exception cref="PanoptesException">The levels do not fit together.</exception>
    internal AutoencoderKlConfig Checked()
    {
        CheckLevels();
        foreach (var (field, list) in (ReadOnlySpan<(string, double[]?)>)[("latents_mean", LatentsMean), ("latents_std", LatentsStd)])
            if (list is not null && list.Length != LatentChannels) throw new PanoptesException($"{field} has {list.Length} numbers for {LatentChannels} latent channels; expected one for each.");
        if (LatentsStd?.Contains(0) == true) throw new PanoptesException("latents_std has a 0, by which latents cannot be divided.");
        return this;
    }
}

/// <summary>What an image's latents may be: a normal distribution of its own for every number.</summary>
/// <param name="Mean">[b, channels, rows, columns]: the likeliest latents</param>
/// <param name="LogVariance">As many, from -30 to 20.</param>
public sealed record LatentPosterior(Tensor Mean, Tensor LogVariance) : IDisposable
{
    /// <summary>Of the encoder's outputs, means first, log-variances after them: [b, 2 · channels, rows, columns].</summary>
    public static LatentPosterior Of(Tensor moments)
    {
        using var scope = NewDisposeScope();
        var halves = moments.chunk(2, 1);
        return new(halves[0].MoveToOuterDisposeScope(), halves[1].clamp(-30, 20).MoveToOuterDisposeScope());
    }

    /// <summary>Latents drawn from it, with gradients to both parameters.</summary>
    public Tensor Sample(Generator generator)
    {
        using var noise = randn(Mean.shape, Mean.dtype, Mean.device, generator: generator);
        return Sample(noise);
    }

    /// <summary>The latents that <paramref name="noise"/> (standard normal, as many) stands for.</summary>
    public Tensor Sample(Tensor noise)
    {
        using var scope = NewDisposeScope();
        return (Mean + (LogVariance * 0.5).exp() * noise).MoveToOuterDisposeScope();
    }

    /// <summary>The divergence from a standard normal distribution, in nats: [b].</summary>
    public Tensor Kl()
    {
        using var scope = NewDisposeScope();
        return (0.5 * (Mean.square() + LogVariance.exp() - 1 - LogVariance).sum([1, 2, 3])).MoveToOuterDisposeScope();
    }

    /// <summary>How unlikely <paramref name="latents"/> are, in nats: [b].</summary>
    public Tensor NegativeLogLikelihood(Tensor latents)
    {
        using var scope = NewDisposeScope();
        return (0.5 * (Math.Log(2 * Math.PI) + LogVariance + (latents - Mean).square() / LogVariance.exp()).sum([1, 2, 3])).MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        Mean.Dispose();
        LogVariance.Dispose();
    }
}

/// <summary>How large images go through an autoencoder in little memory.</summary>
public sealed record AutoencoderParts
{
    /// <summary>One image of the batch after the other.</summary>
    public bool Sliced { get; init; }

    /// <summary>Images larger than a tile in tiles that overlap and are blended. An approximation: no place sees beyond its tile.</summary>
    public bool Tiled { get; init; }

    /// <summary>The side of a tile in pixels; null: the size that the model was made for.</summary>
    public int? TilePixels { get; init; }

    /// <summary>The side of a tile in places of the latents; null: the same.</summary>
    public int? TilePlaces { get; init; }

    /// <summary>The part of a tile that its neighbor covers as well; null: a quarter, or an eighth of a tiny autoencoder's.</summary>
    public double? Overlap { get; init; }
}

/// <summary>Images to latents and back. Keys: encoder, quant_conv, post_quant_conv, decoder.</summary>
public sealed class AutoencoderKl(AutoencoderKlConfig config) : LatentAutoencoder
{
    public AutoencoderKlConfig Config { get; } = config;

    public VqEncoder Encoder { get; } = new(config.Checked());

    public Conv2d? QuantConv { get; } = config.UseQuantConv ? new(2 * config.LatentChannels, 2 * config.LatentChannels, 1) : null;

    public Conv2d? PostQuantConv { get; } = config.UsePostQuantConv ? new(config.LatentChannels, config.LatentChannels, 1) : null;

    public VqDecoder Decoder { get; } = new(config);

    ScalarType Dtype => Decoder.ConvIn.Weight.Dtype ?? ScalarType.Float32;

    public override int LatentChannels => Config.LatentChannels;

    public override int PixelsPerPlace => Config.PixelsPerPlace;

    public override Tensor ToLatents(Tensor pixels, NoiseSource? noise, AutoencoderParts? parts = null, long? draws = null)
    {
        using var scope = NewDisposeScope();
        using var posterior = Encode(pixels, parts);
        var mean = posterior.Mean;
        return Scale(noise is null ? mean : posterior.Sample(noise.Normal([draws ?? mean.shape[0], .. mean.shape[1..]], mean.dtype))).MoveToOuterDisposeScope();
    }

    public override Tensor ToPixels(Tensor latents, AutoencoderParts? parts = null)
    {
        using var scope = NewDisposeScope();
        return Decode(Unscale(latents), parts).MoveToOuterDisposeScope();
    }

    /// <param name="pixels">[b, channels, height, width] from -1 to 1</param>
    /// <param name="parts">How it goes through in little memory; null: at once.</param>
    /// <returns>What its latents may be, a place for every <see cref="AutoencoderConfig.PixelsPerPlace"/> pixels.</returns>
    /// <exception cref="PanoptesException">The image is smaller than one place.</exception>
    public LatentPosterior Encode(Tensor pixels, AutoencoderParts? parts = null)
    {
        var side = Config.PixelsPerPlace;
        if (pixels.dim() != 4 || pixels.shape[1] != Config.InChannels || pixels.shape[2] < side || pixels.shape[3] < side)
            throw new PanoptesException($"Images of [{string.Join(", ", pixels.shape)}] were to be encoded; expected [batch, {Config.InChannels}, height, width] of at least {side} pixels a side.");
        using var scope = NewDisposeScope();
        var posterior = LatentPosterior.Of(InSlices(pixels.to(Dtype), parts, x => Tiles(parts, pixels: true) is { } t && Math.Max(x.shape[2], x.shape[3]) > t.From ? InTiles(x, t, EncodeTile) : EncodeTile(x)));
        posterior.Mean.MoveToOuterDisposeScope();
        posterior.LogVariance.MoveToOuterDisposeScope();
        return posterior;
    }

    /// <param name="latents">[b, latent channels, rows, columns], not scaled (see <see cref="Unscale"/>)</param>
    /// <param name="parts">How it goes through in little memory; null: at once.</param>
    /// <returns>[b, channels, height, width], about -1 to 1</returns>
    /// <exception cref="PanoptesException">Another number of channels.</exception>
    public Tensor Decode(Tensor latents, AutoencoderParts? parts = null)
    {
        if (latents.dim() != 4 || latents.shape[1] != Config.LatentChannels)
            throw new PanoptesException($"Latents of [{string.Join(", ", latents.shape)}] were to be decoded; expected [batch, {Config.LatentChannels}, rows, columns].");
        using var scope = NewDisposeScope();
        return InSlices(latents.to(Dtype), parts, z => Tiles(parts, pixels: false) is { } t && Math.Max(z.shape[2], z.shape[3]) > t.From ? InTiles(z, t, DecodeTile) : DecodeTile(z)).MoveToOuterDisposeScope();
    }

    /// <summary>Latents as a diffusion model takes them: shifted, and scaled to about unit variance.</summary>
    public Tensor Scale(Tensor latents)
    {
        using var scope = NewDisposeScope();
        if (Statistics(latents) is var (mean, std)) return ((latents - mean) / std * Config.ScalingFactor).MoveToOuterDisposeScope();
        return ((Config.ShiftFactor is { } shift ? latents - shift : latents) * Config.ScalingFactor).MoveToOuterDisposeScope();
    }

    /// <summary>The opposite of <see cref="Scale"/>.</summary>
    public Tensor Unscale(Tensor latents)
    {
        using var scope = NewDisposeScope();
        if (Statistics(latents) is var (mean, std)) return (latents * std / Config.ScalingFactor + mean).MoveToOuterDisposeScope();
        var plain = latents / Config.ScalingFactor;
        return (Config.ShiftFactor is { } shift ? plain + shift : plain).MoveToOuterDisposeScope();
    }

    (Tensor Mean, Tensor Std)? Statistics(Tensor like) => Config is { LatentsMean: { } mean, LatentsStd: { } std }
        ? (tensor(mean, like.dtype, like.device).view(1, -1, 1, 1), tensor(std, like.dtype, like.device).view(1, -1, 1, 1)) : null;

    Tensor EncodeTile(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var x = Encoder.Forward(pixels);
        return (QuantConv?.Forward(x) ?? x).MoveToOuterDisposeScope();
    }

    Tensor DecodeTile(Tensor latents)
    {
        using var scope = NewDisposeScope();
        return Decoder.Forward(PostQuantConv?.Forward(latents) ?? latents, null).MoveToOuterDisposeScope();
    }

    public override void Check(AutoencoderParts? parts) => Tiles(parts, pixels: true);

    /// <summary>Sides of a tile before and after, how far apart tiles begin, how far they are blended; null: no tiles. All in whole places, as in the peer wherever its pixels and places agree; where they do not, its images get another size.</summary>
    (int From, int To, int Step, int Blend)? Tiles(AutoencoderParts? parts, bool pixels)
    {
        if (parts is not { Tiled: true }) return null;
        var (side, overlap) = (Config.PixelsPerPlace, parts.Overlap ?? 0.25);
        var places = parts.TilePlaces ?? (parts.TilePixels ?? Config.SampleSize) / side;
        if (places < 1 || overlap is not (>= 0 and < 1) || (parts.TilePixels is { } told && told / side != places))
            throw new PanoptesException($"Tiles of {parts.TilePixels ?? places * side} pixels and {places} places that overlap by {overlap} were asked for; expected {side} pixels for each place, at least one, and an overlap from 0 to below 1.");
        var shared = (int)(places * overlap);
        return pixels ? (places * side, places, (places - shared) * side, shared) : (places, places * side, places - shared, shared * side);
    }

    /// <summary>Every tile is blended with those above and to the left of it as they have become, over the places that they share, and what the next ones begin with is left to them.</summary>
    static Tensor InTiles(Tensor x, (int From, int To, int Step, int Blend) t, Func<Tensor, Tensor> compute)
    {
        using var scope = NewDisposeScope();
        var (rows, above, kept) = (new List<Tensor>(), new List<Tensor>(), t.To - t.Blend);
        for (var top = 0L; top < x.shape[2]; top += t.Step)
        {
            var row = new List<Tensor>();
            for (var left = 0L; left < x.shape[3]; left += t.Step)
            {
                var tile = compute(x.narrow(2, top, Math.Min(t.From, x.shape[2] - top)).narrow(3, left, Math.Min(t.From, x.shape[3] - left)));
                if (above.Count > 0) tile = Blend(above[row.Count], tile, t.Blend, 2);
                if (row.Count > 0) tile = Blend(row[^1], tile, t.Blend, 3);
                row.Add(tile);
            }
            rows.Add(cat([.. row.Select(tile => tile.narrow(2, 0, Math.Min(kept, tile.shape[2])).narrow(3, 0, Math.Min(kept, tile.shape[3])))], 3));
            foreach (var tile in above) tile.Dispose();
            above = row;
        }
        return cat(rows, 2).MoveToOuterDisposeScope();
    }

    /// <summary><paramref name="tile"/> with its first rows (or columns) going over from the last of the tile <paramref name="before"/> it; it is disposed.</summary>
    static Tensor Blend(Tensor before, Tensor tile, int extent, int dimension)
    {
        using var scope = NewDisposeScope();
        extent = (int)Math.Min(extent, Math.Min(before.shape[dimension], tile.shape[dimension]));
        if (extent == 0) return tile;
        var share = (arange(extent, dtype: ScalarType.Float32, device: tile.device) / extent).to(tile.dtype).view(dimension == 2 ? [-1, 1] : [-1]);
        var over = before.narrow(dimension, before.shape[dimension] - extent, extent) * (1 - share) + tile.narrow(dimension, 0, extent) * share;
        var blended = cat([over, tile.narrow(dimension, extent, tile.shape[dimension] - extent)], dimension);
        tile.Dispose();
        return blended.MoveToOuterDisposeScope();
    }
}
