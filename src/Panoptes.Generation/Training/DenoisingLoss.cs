using Panoptes.Native;

namespace Panoptes.Generation.Training;

/// <summary>A batch with noise in it, and what a network is to tell of it.</summary>
/// <param name="Sample">[b, channels, rows, columns]</param>
/// <param name="Timesteps">[b]</param>
/// <param name="Target">As the sample.</param>
/// <param name="Weights">[b]; null: all count alike.</param>
sealed record NoisySample(Tensor Sample, Tensor Timesteps, Tensor Target, Tensor? Weights);

/// <summary>How noise is put in for training, and how wrong a network is about it, as a scheduler's config says: the noise, the clean sample, the velocity, or a flow's.</summary>
sealed class DenoisingLoss
{
    readonly DiffusionScheduler scheduler;
    readonly NoiseSchedule? schedule;
    readonly string prediction;
    readonly double? gamma;
    readonly double from, noisy;

    /// <param name="scheduler">With betas, or of a flow.</param>
    /// <param name="gamma">The bound of min-SNR weights; null: all timesteps count alike.</param>
    /// <param name="from">Where there is much noise: from this share of the timesteps on.</param>
    /// <param name="noisy">How many of the samples have much noise for certain, from 0 to 1; the others have any.</param>
    /// <exception cref="PanoptesException">Another scheduler, or a bound that does not go with it.</exception>
    public DenoisingLoss(DiffusionScheduler scheduler, double? gamma, double from = 0, double noisy = 1)
    {
        (this.scheduler, this.gamma, this.from, this.noisy) = (scheduler, gamma, from, noisy);
        (schedule, prediction) = scheduler switch
        {
            BetaScheduler beta => (beta.NoiseSchedule(), beta.PredictionType),
            FlowMatchEulerScheduler => (null, "flow"),
            var other => throw new PanoptesException($"Training knows no {other.ClassName}; expected a scheduler with betas, or FlowMatchEulerDiscreteScheduler."),
        };
        if (gamma is <= 0) throw new PanoptesException($"snr_gamma is {gamma}; expected above 0.");
        if (from is not (>= 0 and < 1)) throw new PanoptesException($"from_noise is {from}; expected 0 to below 1.");
        if (noisy is not (>= 0 and <= 1)) throw new PanoptesException($"noisy_share is {noisy}; expected 0 to 1.");
        if (from == 0 && noisy != 1) throw new PanoptesException("noisy_share goes with from_noise, which says what much noise is.");
        // The weight of a timestep that holds nothing of the sample would be nothing over nothing.
        if (gamma is not null && prediction == "epsilon" && schedule!.AlphaCumulated[^1] < 1e-6) throw new PanoptesException("snr_gamma does not go with prediction_type epsilon and a schedule that ends in noise alone (rescale_betas_zero_snr).");
        if (schedule is null && from > 0) throw new PanoptesException("from_noise does not go with a flow.");
        if (schedule is null && gamma is not null) throw new PanoptesException("snr_gamma does not go with a flow.");
        if (schedule is not null && prediction is not ("epsilon" or "sample" or "v_prediction")) throw new PanoptesException($"Training knows no prediction_type {prediction}.");
    }

    /// <summary>Puts noise of a random strength into every sample.</summary>
    /// <param name="clean">[b, channels, rows, columns] float32</param>
    public NoisySample Draw(Tensor clean, Generator random)
    {
        var count = (int)clean.shape[0];
        var noise = randn(clean.shape, generator: random);
        if (schedule is null)
        {
            var shift = ((FlowMatchEulerScheduler)scheduler).Shift;
            var sigmas = DiffusionLosses.LogitNormal(count, random);
            sigmas = shift * sigmas / (1 + (shift - 1) * sigmas);
            return new(DiffusionLosses.FlowSample(clean, noise, sigmas), sigmas * scheduler.NumTrainTimesteps, DiffusionLosses.FlowTarget(clean, noise), null);
        }
        var times = randint((long)(from * scheduler.NumTrainTimesteps), scheduler.NumTrainTimesteps, [count], ScalarType.Int64, generator: random);
        if (noisy < 1) times = where(rand(count, generator: random).less(noisy), times, randint(0, scheduler.NumTrainTimesteps, [count], ScalarType.Int64, generator: random));
        var target = prediction switch { "epsilon" => noise, "sample" => clean, _ => schedule.Velocity(clean, noise, times) };
        return new(schedule.AddNoise(clean, noise, times), times, target, gamma is { } g ? DiffusionLosses.MinSnrWeights(schedule.Snr(times), prediction, g) : null);
    }

    /// <summary>The mean squared error, a scalar in float32.</summary>
    /// <param name="told">What the network gave for the sample.</param>
    public static Tensor Of(Tensor told, NoisySample noisy)
    {
        using var exact = Autocast.To(ScalarType.Float32);
        return DiffusionLosses.Weighted(told.to(ScalarType.Float32), noisy.Target, noisy.Weights);
    }
}
