namespace Panoptes.Representation;

/// <summary>
/// FLIP (Li et al. 2023, arXiv:2212.00794): in training, most patches of an image are left out, so that a step costs a fraction;
/// which ones is drawn anew for every image.
/// </summary>
public static class PatchDropout
{
    /// <summary>Which patches stay: those with the largest of the numbers drawn, at least one.</summary>
    /// <param name="draws">[b, patches], independent and of one distribution</param>
    /// <param name="dropped">The fraction left out, from 0 to below 1.</param>
    /// <returns>[b, kept] int64, by falling draw</returns>
    public static Tensor Kept(Tensor draws, double dropped)
    {
        using var scope = NewDisposeScope();
        var count = Math.Max(1, (int)(draws.shape[1] * (1 - dropped)));
        return draws.topk(count).indexes.MoveToOuterDisposeScope();
    }

    /// <summary>The class token (the first) and the patches of <paramref name="kept"/>.</summary>
    /// <param name="tokens">[b, 1 + patches, width]</param>
    /// <returns>[b, 1 + kept, width]</returns>
    public static Tensor Apply(Tensor tokens, Tensor kept)
    {
        using var scope = NewDisposeScope();
        var index = cat([zeros(kept.shape[0], 1, dtype: ScalarType.Int64, device: kept.device), kept + 1], 1);
        return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[2])).MoveToOuterDisposeScope();
    }

    /// <summary>Draws from <paramref name="generator"/> (by default libtorch's own) and drops.</summary>
    internal static Tensor Draw(Tensor tokens, double dropped, Generator? generator)
    {
        using var scope = NewDisposeScope();
        var draws = randn([tokens.shape[0], tokens.shape[1] - 1], device: tokens.device, generator: generator);
        return Apply(tokens, Kept(draws, dropped)).MoveToOuterDisposeScope();
    }
}

/// <summary>A tower that draws something at random in training.</summary>
public interface IRandomTower
{
    /// <summary>What it draws from; null: libtorch's own generator.</summary>
    Generator? Random { get; set; }
}

/// <summary>A tower that leaves patches out in training.</summary>
public interface IPatchDropout : IRandomTower
{
    /// <summary>The fraction of patches left out in training, from 0 to below 1.</summary>
    double PatchDropout { get; set; }
}
