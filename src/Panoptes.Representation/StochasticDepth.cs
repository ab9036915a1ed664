namespace Panoptes.Representation;

/// <summary>
/// Stochastic depth by samples (Huang et al. 2016, arXiv:1603.09382; "drop path"): in training, a residual branch is left out for some images
/// of a batch and scaled up for the others, so that its mean stays.
/// </summary>
public static class StochasticDepth
{
    /// <param name="rates">The probability of each block's branches to be left out, from 0 to below 1.</param>
    /// <param name="branches">How many residual branches a block has.</param>
    /// <param name="x">Whose first dimension is the batch.</param>
    /// <param name="generator">Draws; null: libtorch's own.</param>
    /// <returns>[blocks, branches, b] float32, each 0 or 1 / (1 - rate); null where all rates are 0.</returns>
    public static Tensor? Draw(IReadOnlyList<double> rates, int branches, Tensor x, Generator? generator)
    {
        if (rates.All(static r => r == 0)) return null;
        using var scope = NewDisposeScope();
        var keep = tensor(rates.Select(static r => (float)(1 - r)).ToArray()).view(-1, 1, 1);
        var draws = rand([rates.Count, branches, x.shape[0]], generator: generator);
        return (draws.lt(keep).to(ScalarType.Float32) / keep).to(x.device).MoveToOuterDisposeScope();
    }

    /// <summary>The branch as it is added to the rest: times its images' factors, or as it is.</summary>
    /// <param name="branch">[b, ...]</param>
    /// <param name="kept">A block's part of <see cref="Draw"/>: [branches, b], or null.</param>
    /// <param name="index">Which of the block's branches.</param>
    public static Tensor Apply(Tensor branch, Tensor? kept, int index)
    {
        if (kept is null) return branch;
        using var scope = NewDisposeScope();
        var shape = new long[branch.dim()];
        shape.AsSpan().Fill(1);
        shape[0] = -1;
        return branch.mul(kept[index].to(branch.dtype).view(shape)).MoveToOuterDisposeScope();
    }

    /// <summary>Rates that rise evenly from 0 in the first of <paramref name="blocks"/> to <paramref name="rate"/> in the last.</summary>
    public static double[] Rising(double rate, int blocks)
    {
        Check(rate);
        return [.. Enumerable.Range(0, blocks).Select(i => rate * i / Math.Max(1, blocks - 1))];
    }

    /// <summary>The same rate in each of <paramref name="blocks"/>.</summary>
    public static double[] Even(double rate, int blocks)
    {
        Check(rate);
        return [.. Enumerable.Repeat(rate, blocks)];
    }

    /// <exception cref="PanoptesException">Not from 0 to below 1.</exception>
    internal static double Check(double rate) =>
        rate is >= 0 and < 1 ? rate : throw new PanoptesException(FormattableString.Invariant($"A drop path rate of {rate} was given; expected 0 or more, below 1."));
}

/// <summary>A tower that leaves residual branches out in training.</summary>
public interface IStochasticDepth : IRandomTower
{
    /// <summary>The probability that a branch of the last block is left out in training, from 0 to below 1.</summary>
    double DropPath { get; set; }
}
