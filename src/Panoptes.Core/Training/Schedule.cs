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
}

/// <summary>open_clip's: (step + 1) / warm-up of the rate, then half a cosine down to <see cref="FinalRate"/> at the end.</summary>
public sealed record CosineSchedule(double BaseRate, long TotalSteps) : Schedule(BaseRate, TotalSteps)
{
    public double FinalRate { get; init; }

    public override double At(long step) => step < WarmupSteps
        ? BaseRate * (step + 1) / WarmupSteps
        : FinalRate + (BaseRate - FinalRate) * 0.5 * (1 + Math.Cos(Math.PI * Math.Min(1, (step - WarmupSteps) / (double)Math.Max(1, TotalSteps - WarmupSteps))));
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
