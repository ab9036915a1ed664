namespace Panoptes.Generation;

/// <summary>
/// How noise takes over a sample step by step: <c>x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise</c> with the products a_t of all <c>1 - beta</c> so far (Ho et al. 2020,
/// arXiv:2006.11239). What training needs of a scheduler; a value without a tensor.
/// </summary>
public sealed class NoiseSchedule
{
    internal float[] Betas { get; }

    internal float[] Alphas { get; }

    /// <summary>beta of every timestep.</summary>
    public IReadOnlyList<float> Beta => Betas;

    /// <summary>The peer's <c>alphas_cumprod</c>: the clean sample's share of the variance at every timestep.</summary>
    public IReadOnlyList<float> AlphaCumulated => Alphas;

    /// <summary>sqrt((1 - a) / a) of every timestep: the noise's deviation where the clean sample's is 1.</summary>
    internal float[] Sigmas { get; }

    /// <param name="betas">One a timestep, in float32.</param>
    /// <param name="zeroTerminalSnr">Whether they are stretched so that nothing of the clean sample is left at the last (Lin et al. 2023, arXiv:2305.08891, algorithm 1).</param>
    /// <param name="last">What the last product becomes then.</param>
    internal NoiseSchedule(Tensor betas, bool zeroTerminalSnr, float last)
    {
        // libtorch's own arithmetic: the products are to be the peer's to the last bit.
        using var scope = NewDisposeScope();
        if (zeroTerminalSnr)
        {
            var roots = (1 - betas).cumprod(0).sqrt();
            var (first, end) = (roots[0].clone(), roots[^1].clone());
            var bars = ((roots - end) * (first / (first - end))).pow(2);
            betas = 1 - cat([bars[..1], bars[1..] / bars[..^1]]);
        }
        Betas = betas.data<float>().ToArray();
        Alphas = (1 - betas).cumprod(0).data<float>().ToArray();
        if (zeroTerminalSnr) Alphas[^1] = last;
        var alphas = tensor(Alphas);
        Sigmas = ((1 - alphas) / alphas).pow(0.5).data<float>().ToArray();           // a power and no root, which rounds otherwise
    }

    /// <summary>Puts noise into clean samples.</summary>
    /// <param name="clean">[b, ...]</param>
    /// <param name="noise">As clean.</param>
    /// <param name="timesteps">[b], whole numbers from 0 to below the number of timesteps.</param>
    /// <exception cref="PanoptesException">A timestep is none of the schedule's.</exception>
    public Tensor AddNoise(Tensor clean, Tensor noise, Tensor timesteps)
    {
        using var scope = NewDisposeScope();
        var a = At(timesteps, clean);
        return (a.sqrt() * clean + (1 - a).sqrt() * noise).to(clean.dtype).MoveToOuterDisposeScope();
    }

    /// <summary>The target of v-prediction: <c>sqrt(a) noise - sqrt(1 - a) clean</c> (Salimans and Ho 2022, arXiv:2202.00512).</summary>
    /// <inheritdoc cref="AddNoise"/>
    public Tensor Velocity(Tensor clean, Tensor noise, Tensor timesteps)
    {
        using var scope = NewDisposeScope();
        var a = At(timesteps, clean);
        return (a.sqrt() * noise - (1 - a).sqrt() * clean).to(clean.dtype).MoveToOuterDisposeScope();
    }

    /// <summary>The signal-to-noise ratio a / (1 - a) of the timesteps: [b].</summary>
    /// <inheritdoc cref="AddNoise"/>
    public Tensor Snr(Tensor timesteps)
    {
        using var scope = NewDisposeScope();
        var a = At(timesteps, null);
        return (a / (1 - a)).MoveToOuterDisposeScope();
    }

    /// <summary>The products at the timesteps, [b] or as many dimensions as <paramref name="like"/> has.</summary>
    Tensor At(Tensor timesteps, Tensor? like)
    {
        var whole = timesteps.to(ScalarType.Int64).cpu();
        if (whole.numel() == 0 || whole.min().item<long>() < 0 || whole.max().item<long>() >= Alphas.Length)
            throw new PanoptesException($"Expected timesteps from 0 to {Alphas.Length - 1}, found {(whole.numel() == 0 ? "none" : $"{whole.min().item<long>()} to {whole.max().item<long>()}")}.");
        var a = tensor(Alphas)[whole];
        return like is null ? a : a.to(like.device).to(like.dtype == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32).reshape([-1, .. Enumerable.Repeat(1L, (int)like.dim() - 1)]);
    }
}
