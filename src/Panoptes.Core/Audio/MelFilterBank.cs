namespace Panoptes.Audio;

/// <summary>
/// Kaldi's log-mel filter bank (compute-fbank-feats with a Hann window, no dithering and no energy; torchaudio.compliance.kaldi.fbank): whole
/// frames only, each without its mean, pre-emphasized and windowed; the power of its spectrum under triangles that are evenly spaced on the mel scale.
/// </summary>
public sealed record MelFilterBank
{
    const double PreEmphasis = 0.97, LowestFrequency = 20;
    const float Epsilon = 1.1920929e-07f;

    public int SampleRate { get; init; } = 16000;

    /// <summary>The number of triangles.</summary>
    public int Bands { get; init; } = 128;

    public double FrameMilliseconds { get; init; } = 25;

    /// <summary>From the start of a frame to the start of the next.</summary>
    public double ShiftMilliseconds { get; init; } = 10;

    /// <summary>Samples of one frame.</summary>
    public int FrameLength => (int)(SampleRate * FrameMilliseconds / 1000);

    /// <summary>Samples from frame to frame.</summary>
    public int FrameShift => (int)(SampleRate * ShiftMilliseconds / 1000);

    int FftSize => (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)FrameLength);

    /// <summary>The symmetric Hann window: [frame length].</summary>
    public float[] Window()
    {
        var window = new float[FrameLength];
        for (var i = 0; i < window.Length; i++) window[i] = (float)(0.5 - 0.5 * Math.Cos(2 * Math.PI * i / (window.Length - 1)));
        return window;
    }

    /// <summary>What each triangle takes of each frequency below half the sample rate: [bands, FFT size / 2].</summary>
    public float[,] Filters()
    {
        var (bins, highest) = (FftSize / 2, Mel(SampleRate / 2.0));
        var (lowest, width) = (Mel(LowestFrequency), (double)SampleRate / FftSize);
        var step = (highest - lowest) / (Bands + 1);
        var filters = new float[Bands, bins];
        for (var band = 0; band < Bands; band++)
        {
            var left = lowest + band * step;
            for (var bin = 0; bin < bins; bin++)
            {
                var mel = Mel(width * bin);
                filters[band, bin] = (float)Math.Max(0, Math.Min((mel - left) / step, (left + 2 * step - mel) / step));
            }
        }
        return filters;

        static double Mel(double frequency) => 1127 * Math.Log(1 + frequency / 700);
    }

    /// <param name="samples">One channel.</param>
    /// <returns>[frames, bands] float32, natural logarithms, owned by the caller; no frames where the sound is shorter than one</returns>
    public Tensor Compute(ReadOnlySpan<float> samples)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        if (samples.Length < FrameLength) return zeros(0, Bands).MoveToOuterDisposeScope();
        var frames = tensor(samples.ToArray()).unfold(0, FrameLength, FrameShift);                 // [frames, frame length]
        frames = frames - frames.mean([1], keepdim: true);
        var before = cat([frames.narrow(1, 0, 1), frames.narrow(1, 0, FrameLength - 1)], 1);      // the first sample stands before itself
        frames = (frames - PreEmphasis * before) * tensor(Window());
        var power = fft.rfft(frames, FftSize).abs().square().narrow(1, 0, FftSize / 2);           // the frequency of half the rate is in no triangle
        return power.matmul(tensor(Filters()).t()).clamp(min: Epsilon).log().MoveToOuterDisposeScope();
    }
}
