namespace Panoptes.Generation;

/// <summary>How much of the clean sample and of noise a noisy one holds: <c>x = Alpha * clean + Sigma * noise</c>.</summary>
public readonly record struct NoiseLevel(double Alpha, double Sigma)
{
    /// <summary>The variance of the noisy sample, if the clean one and noise have 1.</summary>
    internal double Variance => Alpha * Alpha + Sigma * Sigma;
}

/// <summary>What a method of several steps remembers from one step to the next. Its tensors are its own: it is disposed, or moved between dispose scopes, by whoever got it.</summary>
public sealed record SchedulerState : IDisposable
{
    /// <summary>Before the first step.</summary>
    public static SchedulerState Empty { get; } = new();

    /// <summary>How many steps were taken.</summary>
    public int Steps { get; internal init; }

    /// <summary>What the method keeps of earlier predictions, the oldest first.</summary>
    public IReadOnlyList<Tensor> Outputs { get; internal init; } = [];

    /// <summary>The sample that a step of several calls began with.</summary>
    public Tensor? Held { get; internal init; }

    /// <summary>What such a step has summed up so far.</summary>
    public Tensor? Sum { get; internal init; }

    IEnumerable<Tensor> Tensors => [.. Outputs, .. Held is null ? (Tensor[])[] : [Held], .. Sum is null ? (Tensor[])[] : [Sum]];

    /// <summary>The next state, with handles of its own.</summary>
    internal SchedulerState Next(IEnumerable<Tensor>? outputs = null, Tensor? held = null, Tensor? sum = null) =>
        new() { Steps = Steps + 1, Outputs = [.. (outputs ?? []).Select(static t => t.alias())], Held = held?.alias(), Sum = sum?.alias() };

    /// <summary>The last <paramref name="most"/> outputs with a new one behind them.</summary>
    internal Tensor[] With(Tensor output, int most) => [.. Outputs.Skip(Math.Max(0, Outputs.Count + 1 - most)), output];

    public SchedulerState MoveToOuterDisposeScope()
    {
        foreach (var tensor in Tensors) tensor.MoveToOuterDisposeScope();
        return this;
    }

    public SchedulerState DetachFromDisposeScope()
    {
        foreach (var tensor in Tensors) tensor.DetachFromDisposeScope();
        return this;
    }

    public void Dispose()
    {
        foreach (var tensor in Tensors) tensor.Dispose();
    }
}

/// <summary>What a step gives; the tensors are the caller's.</summary>
/// <param name="Sample">The sample at the next step's noise level, of the given sample's type.</param>
/// <param name="Clean">What the prediction says the clean sample is (clipped as the config says): what a preview shows.</param>
/// <param name="State">For the next step.</param>
public sealed record SchedulerStep(Tensor Sample, Tensor Clean, SchedulerState State) : IDisposable
{
    public SchedulerStep MoveToOuterDisposeScope()
    {
        Sample.MoveToOuterDisposeScope();
        Clean.MoveToOuterDisposeScope();
        State.MoveToOuterDisposeScope();
        return this;
    }

    public void Dispose()
    {
        Sample.Dispose();
        Clean.Dispose();
        State.Dispose();
    }
}

/// <summary>
/// One sampling, laid out: its timesteps and noise levels, and the arithmetic of a step. It is a value without a tensor and may be shared; what changes is in the state.
/// Steps compute in float32 (float64 for a float64 sample) and carry gradients.
/// </summary>
/// <example><code>
/// var run = scheduler.Start(20);
/// using var scope = NewDisposeScope();
/// var (sample, state) = (noise * run.InitNoiseSigma, SchedulerState.Empty);
/// for (var i = run.Begin; i &lt; run.Count; i++)
/// {
///     using var step = NewDisposeScope();
///     (sample, _, state) = run.Step(i, model.Forward(run.ScaleInput(sample, i), run.Timestep(i)), sample, state, generator).MoveToOuterDisposeScope();
/// }
/// </code></example>
public abstract class SchedulerRun
{
    readonly string prediction;

    private protected SchedulerRun(DiffusionScheduler scheduler, string prediction, double[] timesteps, bool whole, SamplingOptions options, int? steps = null)
    {
        if (timesteps.Length == 0) throw new PanoptesException("The schedule has no step.");
        Scheduler = scheduler;
        Options = options;
        this.prediction = prediction;
        Timesteps = timesteps;
        HasWholeTimesteps = whole;
        Steps = steps ?? timesteps.Length;
        var taken = Math.Min(Steps * options.Strength, Steps);
        Begin = (options.RoundsStrengthUp ? (int)(Steps - taken) : Steps - (int)taken) * scheduler.Order;
        if (Begin >= timesteps.Length) throw new PanoptesException($"A strength of {options.Strength} leaves none of {(Steps == 1 ? "one step" : $"{Steps} steps")}.");
    }

    public DiffusionScheduler Scheduler { get; }

    private protected SamplingOptions Options { get; }

    /// <summary>What the model is told, a call each; methods of second order call twice a step, PNDM once more than steps.</summary>
    public IReadOnlyList<double> Timesteps { get; }

    /// <summary>Whether the timesteps are whole numbers (int64 for the model) or not (float32).</summary>
    public bool HasWholeTimesteps { get; }

    /// <summary>How many calls of the model a whole run has; steps are counted by these.</summary>
    public int Count => Timesteps.Count;

    /// <summary>How many steps the schedule has.</summary>
    public int Steps { get; }

    /// <summary>The first step to take: 0, or where an image-to-image sampling of less <see cref="SamplingOptions.Strength"/> begins.</summary>
    public int Begin { get; }

    /// <summary>What noise of deviation 1 is multiplied by to be the first sample.</summary>
    public virtual double InitNoiseSigma => 1;

    /// <summary>The noise levels as the peer's <c>sigmas</c> has them; empty where it has none.</summary>
    public virtual IReadOnlyList<float> Sigmas => [];

    /// <summary>The noise level of the sample that step <paramref name="i"/> takes.</summary>
    public abstract NoiseLevel Level(int i);

    /// <summary>The timestep of a step for the model: a scalar of int64 or float32.</summary>
    public Tensor Timestep(int i) => HasWholeTimesteps ? tensor((long)Timesteps[i]) : tensor((float)Timesteps[i]);

    /// <summary>The sample as the model is to see it at step <paramref name="i"/>.</summary>
    public virtual Tensor ScaleInput(Tensor sample, int i) => sample.alias();

    /// <summary>Puts noise into a clean sample so that it is what step <paramref name="i"/> takes (image to image, inpainting).</summary>
    public Tensor AddNoise(Tensor clean, Tensor noise, int i)
    {
        using var scope = NewDisposeScope();
        var level = Noised(i);
        return Mix((level.Alpha, Wide(clean)), (level.Sigma, Wide(noise))).to(clean.dtype).MoveToOuterDisposeScope();
    }

    /// <summary>The level that <see cref="AddNoise"/> leads to.</summary>
    private protected virtual NoiseLevel Noised(int i) => Level(i);

    /// <summary>What a prediction at step <paramref name="i"/> says the clean sample is, neither clipped nor thresholded.</summary>
    /// <param name="prediction">What the model gave, of the sample's shape.</param>
    /// <param name="sample">What the step takes.</param>
    public Tensor PredictClean(int i, Tensor prediction, Tensor sample)
    {
        using var scope = NewDisposeScope();
        return Clean(Level(i), Wide(prediction), Wide(sample)).alias().MoveToOuterDisposeScope();
    }

    /// <summary>The prediction whose noise is another by <paramref name="change"/>, whatever it is that is predicted.</summary>
    /// <param name="change">Of the noise, of the prediction's shape.</param>
    public Tensor Shift(int i, Tensor prediction, Tensor change)
    {
        using var scope = NewDisposeScope();
        var level = Level(i);
        var factor = this.prediction switch
        {
            "epsilon" => 1,
            "v_prediction" => Math.Sqrt(level.Variance) / level.Alpha,
            "flow_prediction" => 1 / level.Alpha,
            _ => -level.Sigma / level.Alpha,
        };
        return Mix((1, Wide(prediction)), (factor, Wide(change))).to(prediction.dtype).alias().MoveToOuterDisposeScope();
    }

    /// <summary>Puts in again, as new noise, what step <paramref name="i"/> took away: what it gave to as noisy as what it took.</summary>
    public Tensor Back(int i, Tensor after, Tensor noise)
    {
        using var scope = NewDisposeScope();
        var (level, next) = (Level(i), i + 1 < Count ? Level(i + 1) : new(1, 0));
        var share = level.Alpha / next.Alpha;
        return Mix((share, Wide(after)), (Math.Sqrt(Math.Max(0, (level.Sigma * level.Sigma) - (share * share * next.Sigma * next.Sigma))), Wide(noise))).to(after.dtype).alias().MoveToOuterDisposeScope();
    }

    /// <summary>Takes a step.</summary>
    /// <param name="i">Which, from <see cref="Begin"/> to below <see cref="Count"/>, one after the other.</param>
    /// <param name="prediction">What the model gave for <see cref="ScaleInput"/> of the sample; twice the channels where it predicts the variance, too.</param>
    /// <param name="sample">[b, channels, ...]</param>
    /// <param name="state">What the step before gave; <see cref="SchedulerState.Empty"/> at first.</param>
    /// <param name="noise">Where noise comes from: a generator, or one a sample. Needed by methods that draw some.</param>
    /// <exception cref="PanoptesException">The shapes do not fit, or noise is needed and there is none.</exception>
    public SchedulerStep Step(int i, Tensor prediction, Tensor sample, SchedulerState state, NoiseSource? noise = null)
    {
        if (i < 0 || i >= Count) throw new ArgumentOutOfRangeException(nameof(i), i, $"The run has {Count} steps.");
        var (shape, given) = (sample.shape, prediction.shape);
        if (shape.Length < 2 || given.Length != shape.Length || given[0] != shape[0] || (given[1] != shape[1] && !(PredictsVariance && given[1] == 2 * shape[1])) || !given.AsSpan(2).SequenceEqual(shape.AsSpan(2)))
            throw new PanoptesException($"The prediction has the shape [{string.Join(", ", given)}], the sample [{string.Join(", ", shape)}]; expected the same.");
        using var scope = NewDisposeScope();
        var (next, clean, after) = Advance(new(i, Wide(prediction), Wide(sample), state, noise, prediction.dtype));
        return new SchedulerStep(next.to(sample.dtype).alias(), clean.to(sample.dtype).alias(), after).MoveToOuterDisposeScope();
    }

    /// <summary>What <see cref="Advance"/> is given: float32, or float64 for a float64 sample.</summary>
    /// <param name="Drawn">The type that noise is drawn in, where the peer goes by the prediction's.</param>
    private protected readonly record struct Input(int Index, Tensor Prediction, Tensor Sample, SchedulerState State, NoiseSource? Noise, ScalarType Drawn)
    {
        internal Tensor Draw(ScalarType? type = null) =>
            (Noise ?? throw new PanoptesException("This sampler draws noise at every step; give it a generator.")).Normal(Sample.shape, type ?? Drawn).to(Sample.device).to(Sample.dtype);
    }

    private protected abstract (Tensor Next, Tensor Clean, SchedulerState State) Advance(Input input);

    /// <summary>Whether a prediction has the variance behind the sample's channels.</summary>
    internal virtual bool PredictsVariance => false;

    private protected virtual Tensor Clean(NoiseLevel level, Tensor prediction, Tensor sample) => this.prediction switch
    {
        "epsilon" => Over(Mix((1, sample), (-level.Sigma, prediction)), level.Alpha),
        "v_prediction" => Mix((level.Alpha / level.Variance, sample), (-level.Sigma / Math.Sqrt(level.Variance), prediction)),
        "flow_prediction" => Mix((1, sample), (-level.Sigma, prediction)),
        _ => prediction,
    };

    /// <summary>x / share; of a level that has nothing of the clean sample that is infinite, and what clips it (the peer, too, divides last) makes it finite again.</summary>
    static Tensor Over(Tensor x, double share)
    {
        if (share == 1) return x;
        using var scalar = share.ToScalar();
        return x.div(scalar);
    }

    private protected Tensor Epsilon(NoiseLevel level, Tensor prediction, Tensor sample) => this.prediction switch
    {
        "epsilon" => prediction,
        "v_prediction" => Mix((level.Alpha / Math.Sqrt(level.Variance), prediction), (level.Sigma / level.Variance, sample)),
        _ => EpsilonOf(level, Clean(level, prediction, sample), sample),
    };

    private protected static Tensor EpsilonOf(NoiseLevel level, Tensor clean, Tensor sample) => Mix((1 / level.Sigma, sample), (-level.Alpha / level.Sigma, clean));

    /// <summary>The sum of the terms; those that a factor of 0 takes away need not be finite.</summary>
    /// <remarks>Products are rounded before they are added, as in the peer, which shows where much cancels. Numbers become Scalars that live until they were read: TorchSharp's own may be collected before (see <see cref="Native.FinalizerPause"/>).</remarks>
    internal static Tensor Mix(params ReadOnlySpan<(double Factor, Tensor Value)> terms)
    {
        using var one = 1.ToScalar();
        Tensor? sum = null;
        foreach (var (factor, value) in terms)
        {
            if (sum is not null && factor == 0) continue;
            using var scalar = factor.ToScalar();
            var product = factor == 1 ? value : value.mul(scalar);
            sum = sum is null ? product : sum.add(product, one);
        }
        return sum!;
    }

    /// <summary>Thresholds (Imagen: what is beyond a quantile of each sample is cut, and the rest scaled) or clips a clean sample, or leaves it.</summary>
    private protected static Tensor Limit(Tensor clean, Thresholding? thresholding, double? clip)
    {
        if (thresholding is { } t)
        {
            using var quantile = tensor(t.Ratio, clean.dtype);
            var flat = clean.flatten(1);
            var bound = flat.abs().quantile(quantile, 1).clamp(1, t.Most < 1 ? 1 : t.Most).unsqueeze(1);
            if (t.Most < 1) bound = full_like(bound, t.Most);
            return flat.minimum(bound).maximum(-bound).div(bound).reshape(clean.shape);
        }
        return clip is { } range ? clean.clamp(-range, range) : clean;
    }

    static Tensor Wide(Tensor x) => x.dtype is ScalarType.Float32 or ScalarType.Float64 ? x : x.to(ScalarType.Float32);
}

/// <summary>Dynamic thresholding (Saharia et al. 2022, arXiv:2205.11487): which quantile of the magnitudes, and the largest bound.</summary>
readonly record struct Thresholding(double Ratio, double Most);

/// <summary>Where a sampling's chance comes from: one generator for the batch, or one a sample. On the CPU the numbers are those that the peer draws with the same seed.</summary>
public abstract class NoiseSource
{
    /// <summary>Whether every sample has a source of its own.</summary>
    internal virtual bool IsOfEach => false;

    /// <summary>Normal noise of the shape.</summary>
    public abstract Tensor Normal(long[] shape, ScalarType type);

    /// <summary>Numbers from 0 to below 1.</summary>
    public abstract Tensor Uniform(long[] shape);

    /// <summary>The index of one entry a row by its weight: [rows, 1] of [rows, entries].</summary>
    public abstract Tensor Choose(Tensor weights);

    public static implicit operator NoiseSource(Generator generator) => new Shared(generator);

    /// <summary>One generator for all samples, in the order of their batch.</summary>
    public static NoiseSource From(Generator generator) => new Shared(generator);

    /// <summary>One generator for each sample of the batch, so that a sample does not depend on its place.</summary>
    public static NoiseSource From(IReadOnlyList<Generator> generators) => generators.Count == 1 ? new Shared(generators[0]) : new PerSample(generators);

    /// <summary>bfloat16 is drawn as float32 and rounded: the numbers of torch 2.13 (but for the last 16 where they are no multiple of 16), which libtorch 2.10 draws otherwise.</summary>
    static Tensor Draw(long[] shape, ScalarType type, Generator generator)
    {
        using var scope = NewDisposeScope();
        return randn(shape, type == ScalarType.Float64 ? type : ScalarType.Float32, generator: generator).to(type).MoveToOuterDisposeScope();
    }

    sealed class Shared(Generator generator) : NoiseSource
    {
        public override Tensor Normal(long[] shape, ScalarType type) => Draw(shape, type, generator);

        public override Tensor Uniform(long[] shape) => rand(shape, generator: generator);

        public override Tensor Choose(Tensor weights) => multinomial(weights, 1, generator: generator);
    }

    sealed class PerSample(IReadOnlyList<Generator> generators) : NoiseSource
    {
        internal override bool IsOfEach => true;

        public override Tensor Normal(long[] shape, ScalarType type) => Each(shape, (s, g) => Draw(s, type, g));

        public override Tensor Uniform(long[] shape) => Each(shape, static (s, g) => rand(s, generator: g));

        public override Tensor Choose(Tensor weights)
        {
            if (weights.shape[0] % generators.Count != 0) throw new PanoptesException($"There are {generators.Count} generators for {weights.shape[0]} choices; expected one a sample.");
            using var scope = NewDisposeScope();
            return cat([.. weights.chunk(generators.Count, 0).Select((w, i) => multinomial(w, 1, generator: generators[i]))]).MoveToOuterDisposeScope();
        }

        Tensor Each(long[] shape, Func<long[], Generator, Tensor> draw)
        {
            if (shape[0] != generators.Count) throw new PanoptesException($"There are {generators.Count} generators for {shape[0]} samples; expected one each.");
            using var scope = NewDisposeScope();
            return cat([.. generators.Select(g => draw([1, .. shape[1..]], g))]).MoveToOuterDisposeScope();
        }
    }
}
