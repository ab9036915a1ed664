namespace Panoptes.Training;

/// <summary>The learning rate of every step of a run, from 0.</summary>
/// <param name="BaseRate">The highest rate.</param>
/// <param name="TotalSteps">Steps of the whole run.</param>
public abstract record Schedule(double BaseRate, long TotalSteps)
{
    /// <summary>Steps over which the rate rises linearly from near zero to the highest.</summary>
    public long WarmupSteps { get; init; }

    /// <param name="step">From 0.</param>
    public abstract double At(long step);

    /// <summary>From <paramref name="start"/> to <paramref name="end"/> along half a cosine.</summary>
    /// <param name="share">The way that is behind, from 0; 1 and above is the end.</param>
    private protected static double Cosine(double start, double end, double share) => end + (start - end) * 0.5 * (1 + Math.Cos(Math.PI * Math.Clamp(share, 0, 1)));
}

/// <summary>open_clip's: (step + 1) / warm-up of the rate, then half a cosine down to <see cref="FinalRate"/> at the end.</summary>
public sealed record CosineSchedule(double BaseRate, long TotalSteps) : Schedule(BaseRate, TotalSteps)
{
    public double FinalRate { get; init; }

    public override double At(long step) => step < WarmupSteps
        ? BaseRate * (step + 1) / WarmupSteps
        : Cosine(BaseRate, FinalRate, (step - WarmupSteps) / (double)Math.Max(1, TotalSteps - WarmupSteps));
}

/// <summary>timm's cosine: from <see cref="WarmupRate"/> straight up, then on half a cosine that began at step 0, down to <see cref="FinalRate"/> at the end.</summary>
public sealed record TimmCosineSchedule(double BaseRate, long TotalSteps) : Schedule(BaseRate, TotalSteps)
{
    /// <summary>The rate of step 0, where there is a warm-up.</summary>
    public double WarmupRate { get; init; }

    public double FinalRate { get; init; }

    public override double At(long step) => step < WarmupSteps
        ? WarmupRate + step * (BaseRate - WarmupRate) / WarmupSteps
        : Cosine(BaseRate, FinalRate, step / (double)TotalSteps);
}

/// <summary>DINO's (cosine_scheduler in its utils.py): from <see cref="WarmupRate"/> straight up to the rate in the last warm-up step, then half a cosine down to <see cref="FinalRate"/>.</summary>
public sealed record DinoSchedule(double BaseRate, long TotalSteps) : Schedule(BaseRate, TotalSteps)
{
    public double WarmupRate { get; init; }

    public double FinalRate { get; init; }

    public override double At(long step) => step < WarmupSteps
        ? WarmupRate + (BaseRate - WarmupRate) * step / Math.Max(1, WarmupSteps - 1)
        : Cosine(BaseRate, FinalRate, (step - WarmupSteps) / (double)Math.Max(1, TotalSteps - WarmupSteps));
}

/// <summary>
/// torch.optim's OneCycleLR (Smith and Topin 2017, arXiv:1708.07120): half a cosine up from <see cref="StartDivisor"/> times less, half a
/// cosine down to that by <see cref="FinalDivisor"/>. A warm-up of 0 steps is torch's default, 30 % of the run.
/// </summary>
public sealed record OneCycleSchedule(double BaseRate, long TotalSteps) : Schedule(BaseRate, TotalSteps)
{
    public double StartDivisor { get; init; } = 25;

    public double FinalDivisor { get; init; } = 1e4;

    public override double At(long step)
    {
        var start = BaseRate / StartDivisor;
        var peak = (WarmupSteps > 0 ? WarmupSteps : 0.3 * TotalSteps) - 1;           // the last step of the rise; need not be whole
        if (step < peak) return Cosine(start, BaseRate, step / peak);
        return step < TotalSteps - 1 ? Cosine(BaseRate, start / FinalDivisor, (step - peak) / (TotalSteps - 1 - peak)) : start / FinalDivisor;
    }
}

/// <summary>transformers' constant schedule: step / warm-up of the rate, then the rate.</summary>
public sealed record ConstantSchedule(double BaseRate, long TotalSteps) : Schedule(BaseRate, TotalSteps)
{
    public override double At(long step) => step < WarmupSteps ? BaseRate * step / WarmupSteps : BaseRate;
}

/// <summary>transformers' linear schedule: step / warm-up of the rate, then down to zero at the end.</summary>
public sealed record LinearSchedule(double BaseRate, long TotalSteps) : Schedule(BaseRate, TotalSteps)
{
    public override double At(long step) => step < WarmupSteps
        ? BaseRate * step / WarmupSteps
        : BaseRate * Math.Max(0, (TotalSteps - step) / (double)Math.Max(1, TotalSteps - WarmupSteps));
}
