namespace Panoptes.Audio;

/// <summary>Sound as samples.</summary>
public sealed class Waveform
{
    /// <param name="channels">At least one, all of one length, nominally from -1 to 1; not copied.</param>
    /// <param name="sampleRate">Samples a second.</param>
    /// <exception cref="PanoptesException">No channel, lengths that differ, or a rate that is not positive.</exception>
    public Waveform(IReadOnlyList<float[]> channels, int sampleRate)
    {
        if (channels.Count == 0 || channels.Any(c => c.Length != channels[0].Length)) throw new PanoptesException("A sound has no channels, or channels of different lengths.");
        if (sampleRate < 1) throw new PanoptesException($"A sound has {sampleRate} samples a second; expected 1 or more.");
        (Channels, SampleRate) = (channels, sampleRate);
    }

    public IReadOnlyList<float[]> Channels { get; }

    public int SampleRate { get; }

    /// <summary>Samples of one channel.</summary>
    public int Length => Channels[0].Length;

    public double Seconds => (double)Length / SampleRate;

    /// <summary>Samples <paramref name="start"/> up to <paramref name="end"/>, both cut to what there is.</summary>
    public Waveform Slice(int start, int end)
    {
        start = Math.Clamp(start, 0, Length);
        end = Math.Clamp(end, start, Length);
        return new([.. Channels.Select(c => c[start..end])], SampleRate);
    }

    /// <summary>
    /// The same sound at another rate: a sinc under a Hann window six zeros wide, cut off at 99 % of the lower rate's half, as torchaudio's resample.
    /// </summary>
    /// <exception cref="PanoptesException">The rate is not positive, or the result would have more than 2^30 samples.</exception>
    public Waveform Resample(int sampleRate)
    {
        if (sampleRate == SampleRate) return this;
        if (sampleRate < 1) throw new PanoptesException($"A sound was to have {sampleRate} samples a second; expected 1 or more.");
        var length = ((long)Length * sampleRate + SampleRate - 1) / SampleRate;
        if (length > 1 << 30) throw new PanoptesException($"A sound of {Length} samples at {SampleRate} a second would have {length} at {sampleRate}; expected at most {1 << 30}.");
        return new([.. Channels.Select(c => Resampled(c, SampleRate, sampleRate, (int)length))], sampleRate);
    }

    static float[] Resampled(float[] samples, int from, int to, int length)
    {
        const double zeros = 6, rolloff = 0.99;
        var cutoff = Math.Min(from, to) * rolloff;
        var reach = zeros * from / cutoff;                             // in samples of the source
        var output = new float[length];
        for (var i = 0; i < length; i++)
        {
            var center = (double)i * from / to;
            var last = Math.Min(samples.Length - 1, (int)Math.Floor(center + reach));
            var sum = 0.0;
            for (var n = Math.Max(0, (int)Math.Ceiling(center - reach)); n <= last; n++)
            {
                var t = (n - center) / from * cutoff;
                var window = Math.Cos(t * Math.PI / zeros / 2);
                var sinc = t == 0 ? 1 : Math.Sin(t * Math.PI) / (t * Math.PI);
                sum += samples[n] * sinc * window * window;
            }
            output[i] = (float)(sum * cutoff / from);
        }
        return output;
    }
}
