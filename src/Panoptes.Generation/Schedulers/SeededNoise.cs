namespace Panoptes.Generation;

/// <summary>What a batch's noise comes from, each image's from its own seed, so that it does not depend on its place.</summary>
sealed class SeededNoise : IDisposable
{
    readonly Generator[] generators;

    /// <param name="seeds">One an image.</param>
    public SeededNoise(IEnumerable<long> seeds)
    {
        generators = [.. seeds.Select(static s => new Generator((ulong)s))];
        Source = NoiseSource.From(generators);
    }

    public NoiseSource Source { get; }

    public void Dispose()
    {
        foreach (var generator in generators) generator.Dispose();
    }
}
