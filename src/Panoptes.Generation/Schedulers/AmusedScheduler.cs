using System.Text.Json.Serialization;

namespace Panoptes.Generation;

/// <summary>
/// Decoding of masked tokens (MaskGIT: Chang et al. 2022, arXiv:2202.04200; Muse: Chang et al. 2023, arXiv:2301.00704): every step draws all unknown tokens and masks the least sure
/// again, fewer each time. diffusers' AmusedScheduler.
/// </summary>
public sealed record AmusedScheduler : Scheduler
{
    /// <summary>The id that stands for a token that is not known yet.</summary>
    public required int MaskTokenId { get; init; }

    /// <summary>cosine or linear: how many tokens are masked again.</summary>
    public string MaskingSchedule { get; init; } = "cosine";

    internal override void Check()
    {
        Among("masking_schedule", MaskingSchedule, "cosine", "linear");
        Between("mask_token_id", MaskTokenId, 0, int.MaxValue);
    }

    /// <summary>Lays out a decoding.</summary>
    /// <param name="steps">1 to 10,000.</param>
    /// <param name="hot">How much chance decides at first which tokens are masked again.</param>
    /// <param name="cold">How much at last.</param>
    /// <exception cref="PanoptesException">The number is out of range.</exception>
    public MaskedTokenRun Start(int steps, double hot = 2, double cold = 0)
    {
        Check();
        if (steps is < 1 or > 10_000) throw new PanoptesException($"{steps} steps were asked for; expected 1 to 10000.");
        using var scope = NewDisposeScope();
        return new(this, linspace(hot, cold, steps, ScalarType.Float32).data<float>().ToArray());
    }
}

/// <summary>What a step of decoding gives; the tensors are the caller's.</summary>
/// <param name="Tokens">With those masked again that are drawn anew, of the given tokens' shape.</param>
/// <param name="Clean">With all tokens known.</param>
public sealed record MaskedTokenStep(Tensor Tokens, Tensor Clean) : IDisposable
{
    public MaskedTokenStep MoveToOuterDisposeScope()
    {
        Tokens.MoveToOuterDisposeScope();
        Clean.MoveToOuterDisposeScope();
        return this;
    }

    public void Dispose()
    {
        Tokens.Dispose();
        Clean.Dispose();
    }
}

/// <summary>One decoding of masked tokens; a value without a tensor.</summary>
public sealed class MaskedTokenRun
{
    internal MaskedTokenRun(AmusedScheduler scheduler, float[] temperatures) => (Scheduler, Temperatures) = (scheduler, temperatures);

    public AmusedScheduler Scheduler { get; }

    /// <summary>How much chance decides at each step which tokens are masked again.</summary>
    public IReadOnlyList<float> Temperatures { get; }

    public int Count => Temperatures.Count;

    /// <summary>What the peer calls the steps: counted down to 0.</summary>
    public IReadOnlyList<long> Timesteps => [.. Enumerable.Range(0, Count).Select(i => (long)(Count - 1 - i))];

    /// <summary>Takes a step.</summary>
    /// <param name="i">Which, from 0 to below <see cref="Count"/>.</param>
    /// <param name="logits">[b, entries, height, width] for tokens [b, height, width]; or [b, n, entries] for [b, n].</param>
    /// <param name="tokens">Ids in int64, <see cref="AmusedScheduler.MaskTokenId"/> where unknown.</param>
    /// <param name="startingMaskRatio">The share of tokens that the first step began with, where an image is filled in or varied.</param>
    /// <exception cref="PanoptesException">The shapes do not fit.</exception>
    public MaskedTokenStep Step(int i, Tensor logits, Tensor tokens, NoiseSource noise, double startingMaskRatio = 1)
    {
        if (i < 0 || i >= Count) throw new ArgumentOutOfRangeException(nameof(i), i, $"The run has {Count} steps.");
        var grid = tokens.dim() == 3 && logits.dim() == 4;
        if (!(grid ? logits.shape is [var b, _, var h, var w] && tokens.shape.AsSpan().SequenceEqual([b, h, w]) : logits.dim() == 3 && tokens.dim() == 2 && logits.shape.AsSpan(0, 2).SequenceEqual(tokens.shape)))
            throw new PanoptesException($"The logits have the shape [{string.Join(", ", logits.shape)}], the tokens [{string.Join(", ", tokens.shape)}]; expected [b, entries, height, width] and [b, height, width], or [b, n, entries] and [b, n].");
        using var scope = NewDisposeScope();
        var flat = tokens.flatten(1);                                                // [b, n]
        var unknown = flat.eq(Scheduler.MaskTokenId);
        var probabilities = (grid ? logits.flatten(2).transpose(1, 2) : logits).to(ScalarType.Float32).softmax(-1);
        var drawn = noise.Choose(probabilities.reshape(-1, probabilities.shape[^1])).reshape(flat.shape);
        var clean = where(unknown, drawn, flat);
        var next = clean;
        // One token alone has none beside it that could be surer.
        if (i < Count - 1 && flat.shape[1] > 1)
        {
            // In float32 and by libtorch, since the last bit decides how many are masked.
            var masked = (MaskRatio(i) * startingMaskRatio * flat.shape[1]).floor();
            var count = unknown.sum(-1, keepdim: true).sub(1).to(ScalarType.Float32).minimum(masked).clamp(1, flat.shape[1] - 1).to(ScalarType.Int64);
            var known = full_like(probabilities.select(-1, 0), float.MaxValue);
            var sure = where(unknown, probabilities.gather(-1, clean.clamp(0, probabilities.shape[^1] - 1).unsqueeze(-1)).squeeze(-1), known);
            var gumbel = -(-noise.Uniform(sure.shape).to(sure.device).clamp(1e-20).log()).clamp(1e-20).log();
            var confidence = sure.clamp(1e-20).log() + gumbel * Temperatures[i];
            next = clean.masked_fill(confidence.less(confidence.sort(-1).Values.gather(1, count)), Scheduler.MaskTokenId);
        }
        return new MaskedTokenStep(next.reshape(tokens.shape).alias(), clean.reshape(tokens.shape).alias()).MoveToOuterDisposeScope();
    }

    /// <summary>Masks tokens as they are before the step after <paramref name="i"/>: what a variation of an image starts from.</summary>
    public Tensor AddNoise(Tensor tokens, int i, NoiseSource noise)
    {
        using var scope = NewDisposeScope();
        return tokens.masked_fill(noise.Uniform(tokens.shape).to(tokens.device).less(MaskRatio(i)), Scheduler.MaskTokenId).MoveToOuterDisposeScope();
    }

    Tensor MaskRatio(int i)
    {
        var done = tensor((float)(i + 1) / Count);
        return Scheduler.MaskingSchedule == "cosine" ? (done * Math.PI / 2).cos() : 1 - done;
    }
}
