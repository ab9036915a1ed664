using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>
/// MixStyle (Zhou et al. 2021, arXiv:2104.02008): in training, the means and deviations of an image's early feature maps, which hold its
/// style, are mixed with those of another image of the batch, so that the model meets styles that nobody drew.
/// </summary>
public static class MixStyle
{
    /// <summary>Alpha of the Beta distribution that the share of the image's own statistics is drawn from.</summary>
    const double Alpha = 0.1;

    /// <param name="map">[b, channels, height, width]</param>
    /// <param name="probability">Of mixing the batch at all.</param>
    /// <param name="generator">Draws; null: libtorch's own.</param>
    /// <returns>The mixed map, or <paramref name="map"/> itself.</returns>
    public static Tensor Apply(Tensor map, double probability, Generator? generator = null)
    {
        using var scope = NewDisposeScope();
        if (rand([1], generator: generator).item<float>() >= probability) return map;
        var count = map.shape[0];
        using var noGrad = no_grad();
        var x = map.detach();
        var mean = x.mean([2, 3], keepdim: true);
        var deviation = (x.var([2, 3], unbiased: false, keepdim: true) + 1e-6).sqrt();
        var order = randperm(count, generator: generator);
        var share = distributions.Beta(full([count, 1, 1, 1], Alpha), full([count, 1, 1, 1], Alpha), generator).sample().to(map.dtype);
        var other = 1 - share;
        var (newMean, newDeviation) = ((share * mean) + (other * mean.index_select(0, order)), (share * deviation) + (other * deviation.index_select(0, order)));
        var (scale, shift) = (newDeviation / deviation, newMean - (newDeviation / deviation * mean));
        using var grad = enable_grad(map.requires_grad);
        return map.mul(scale).add(shift).MoveToOuterDisposeScope();
    }
}

/// <summary>A tower that mixes styles in training.</summary>
public interface IMixStyle : IRandomTower
{
    /// <summary>The probability that a batch's styles are mixed after an early stage, from 0 to 1.</summary>
    double MixStyle { get; set; }
}
