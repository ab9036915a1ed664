namespace Panoptes.Data;

/// <summary>
/// The chance that one sample sees: a stream of numbers that follows from a seed, the epoch and the sample alone, so that what
/// happens to a sample does not depend on how many workers there are or which of them meets it (SplitMix64, Steele et al. 2014).
/// </summary>
public struct SampleRandom
{
    ulong state;

    /// <summary>Starts the stream of one sample in one epoch.</summary>
    public SampleRandom(ulong seed, long epoch, long sample)
    {
        state = Mix(Mix(Mix(seed + Golden) + (ulong)epoch + Golden) + (ulong)sample + Golden);
    }

    const ulong Golden = 0x9E3779B97F4A7C15;

    static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    /// <summary>64 random bits.</summary>
    public ulong NextBits()
    {
        state += Golden;
        return Mix(state);
    }

    /// <summary>Uniform in [0, 1).</summary>
    public float NextFloat() => (NextBits() >> 40) * (1f / (1 << 24));

    /// <summary>Uniform in [<paramref name="min"/>, <paramref name="max"/>).</summary>
    public float Next(float min, float max) => min + ((max - min) * NextFloat());

    /// <summary>Uniform over 0 to <paramref name="count"/> - 1.</summary>
    public int Next(int count) => (int)Math.BigMul(NextBits(), (ulong)count, out _);

    /// <summary>True with the given probability.</summary>
    public bool Chance(float probability) => NextFloat() < probability;

    /// <summary>A normal number of mean 0 and variance 1, to within noise's needs: the sum of the sixteen 4-bit parts of 64 random bits (mean 120, variance 340).</summary>
    public float NextNormal()
    {
        var bits = NextBits();
        var pairs = (bits & 0x0F0F0F0F0F0F0F0F) + ((bits >> 4) & 0x0F0F0F0F0F0F0F0F);
        var sum = (pairs * 0x0101010101010101) >> 56;
        return ((float)sum - 120) * 0.054232614f;
    }

    /// <summary>Puts a list into a random order (Fisher and Yates).</summary>
    public void Shuffle<T>(Span<T> items)
    {
        for (var i = items.Length - 1; i > 0; i--)
        {
            var j = Next(i + 1);
            (items[i], items[j]) = (items[j], items[i]);
        }
    }
}
