namespace Panoptes.Audio;

/// <summary>
/// Sound as ImageBind's audio tower takes it (facebookresearch/ImageBind, data.py): clips spread evenly over the sound, each a log-mel spectrogram
/// of fixed length, normalized.
/// </summary>
public sealed record SpectrogramProcessor
{
    public MelFilterBank Filters { get; init; } = new();

    /// <summary>Frames of a clip's spectrogram: shorter ones are filled up with zeros (before normalizing), longer ones are cut.</summary>
    public int TargetLength { get; init; } = 204;

    public double Mean { get; init; } = -4.268;

    public double Std { get; init; } = 9.138;

    public double ClipSeconds { get; init; } = 2;

    public int Clips { get; init; } = 3;

    /// <summary>Where the clips of a sound are, in seconds: their starts lie evenly from 0 to where the last one still fits.</summary>
    public IReadOnlyList<(double Start, double End)> ClipTimes(double seconds)
    {
        var step = Math.Max(seconds - ClipSeconds, 0) / Math.Max(Clips - 1, 1);
        return [.. Enumerable.Range(0, Clips).Select(i => (step * i, step * i + ClipSeconds))];
    }

    /// <returns>[clips, 1, bands, frames] float32, owned by the caller</returns>
    public Tensor Process(Waveform sound)
    {
        using var scope = NewDisposeScope();
        sound = sound.Resample(Filters.SampleRate);
        var rate = sound.SampleRate;
        return stack([.. ClipTimes(sound.Seconds).Select(c => Spectrogram(sound.Slice((int)(c.Start * rate), (int)(c.End * rate))))]).MoveToOuterDisposeScope();
    }

    /// <summary>One clip, which has the filters' sample rate: of the first channel, less the mean of all.</summary>
    /// <returns>[1, bands, frames] float32, owned by the caller</returns>
    /// <exception cref="PanoptesException">The sound has another rate.</exception>
    public Tensor Spectrogram(Waveform clip)
    {
        if (clip.SampleRate != Filters.SampleRate) throw new PanoptesException($"A sound of {clip.SampleRate} samples a second was given to filters for {Filters.SampleRate}; resample it first.");
        using var scope = NewDisposeScope();
        var mean = (float)clip.Channels.Average(static c => c.Length == 0 ? 0 : c.Average(static s => (double)s));
        var logs = Filters.Compute([.. clip.Channels[0].Select(s => s - mean)]).t();              // [bands, frames]
        var missing = TargetLength - logs.shape[1];
        logs = missing > 0 ? cat([logs, zeros(logs.shape[0], missing)], 1) : logs.narrow(1, 0, TargetLength);
        return ((logs - Mean) / Std).unsqueeze(0).MoveToOuterDisposeScope();
    }
}
