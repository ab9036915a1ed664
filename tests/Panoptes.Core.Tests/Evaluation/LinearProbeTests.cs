using Panoptes.Evaluation;
using Panoptes.Parity;

namespace Panoptes.Core.Tests.Evaluation;

public sealed class LinearProbeTests
{
    [Fact]
    public void A_probe_is_the_peer_s() => Goldens.Check("training/linear_probe");

    [Theory]
    [InlineData(40, 3, 2, 1.0)]
    [InlineData(500, 20, 7, 0.01)]
    [InlineData(300, 64, 10, 1e-6)]
    [InlineData(300, 8, 5, 1e4)]
    [InlineData(30, 90, 4, 10.0)]
    public void The_gradient_of_the_objective_is_zero_at_the_fit(int samples, int features, int classes, double c)
    {
        using var scope = NewDisposeScope();
        var (x, labels) = Blobs(samples, features, classes, 1);
        var probe = LinearProbe.Fit(x, labels, classes, c);
        Assert.True(probe.HasConverged);
        var (w, b) = (probe.Weight().requires_grad_(), probe.Bias().requires_grad_());
        var logits = x.to(ScalarType.Float64).matmul(w.t()) + b;
        var objective = (nn.functional.cross_entropy(logits, tensor(labels.Select(static l => (long)l).ToArray()), reduction: nn.Reduction.Sum) * c) + (0.5 * w.square().sum());
        objective.backward();
        // 1-strongly convex: so far are the weights at most.
        Assert.InRange(w.grad!.norm().item<double>(), 0, 1e-5 * Math.Max(1, w.norm().item<double>()));
        Assert.InRange(b.grad!.norm().item<double>(), 0, 1e-5 * Math.Max(1, w.norm().item<double>()));
        Assert.Equal(0, b.sum().item<double>(), 1e-9);
    }

    [Fact]
    public void Badly_scaled_and_correlated_features_take_few_steps()
    {
        using var scope = NewDisposeScope();
        var (x, labels) = Blobs(2000, 30, 5, 2);
        using var generator = new Generator(4);
        var mixed = x.matmul(randn([30, 30], generator: generator)) * logspace(-3, 3, 30) + 5;
        var probe = LinearProbe.Fit(mixed, labels, 5, 0.1);
        Assert.True(probe.HasConverged);
        Assert.InRange(probe.Iterations, 1, 20);
    }

    [Fact]
    public void A_start_from_a_near_fit_saves_steps_and_ends_at_the_same_place()
    {
        using var scope = NewDisposeScope();
        var (x, labels) = Blobs(400, 10, 4, 3);
        var cold = LinearProbe.Fit(x, labels, 4, 1);
        var warm = LinearProbe.Fit(x, labels, 4, 1, cold);
        Assert.True(warm.Iterations <= 1);
        Assert.True((cold.Weight() - warm.Weight()).abs().max().item<double>() < 1e-6);
    }

    [Fact]
    public void A_class_without_samples_is_never_predicted()
    {
        using var scope = NewDisposeScope();
        var (x, labels) = Blobs(100, 5, 3, 5);
        var probe = LinearProbe.Fit(x, labels, 4, 1);
        Assert.True(probe.Logits(x).argmax(1).lt(3).all().item<bool>());
        Assert.True(probe.Accuracy(x, labels) > 0.6);
    }

    [Fact]
    public void The_sweep_keeps_the_regularization_that_validation_likes_best()
    {
        using var scope = NewDisposeScope();
        // Few samples of many features, most of them noise: little regularization learns the noise by heart.
        var (train, trainLabels) = Blobs(60, 80, 3, 6);
        var (validation, validationLabels) = Blobs(300, 80, 3, 7);
        var fitted = 0;
        var sweep = LinearProbe.Sweep(train, trainLabels, validation, validationLabels, 3, progress: new Immediate(p => fitted = p.Done));
        Assert.Equal(16, fitted);
        Assert.Equal(15, sweep.Trials.Count);
        Assert.Equal(sweep.Trials.OrderBy(static t => t.C), sweep.Trials);
        var best = sweep.Trials.MaxBy(static t => t.Accuracy)!;
        Assert.Equal(best.Accuracy, sweep.Trials.Single(t => t.C == sweep.Probe.C).Accuracy);
        Assert.True(sweep.Probe.HasConverged);
        foreach (var trial in sweep.Trials) Assert.Equal(trial.Accuracy, LinearProbe.Fit(train, trainLabels, 3, trial.C).Accuracy(validation, validationLabels), 1.5 / 300);
        var both = LinearProbe.Fit(cat([train, validation]), [.. trainLabels, .. validationLabels], 3, sweep.Probe.C);
        Assert.True((both.Weight() - sweep.Probe.Weight()).abs().max().item<double>() < 1e-4);
    }

    [Fact]
    public void What_cannot_be_fitted_is_refused_in_one_sentence()
    {
        using var scope = NewDisposeScope();
        Refused(() => LinearProbe.Fit(zeros(0, 3), [], 2, 1), "do not fit");
        Refused(() => LinearProbe.Fit(zeros(2, 3), [0], 2, 1), "do not fit");
        Refused(() => LinearProbe.Fit(zeros(2, 3), [0, 2], 2, 1), "label 2");
        Refused(() => LinearProbe.Fit(full(2, 3, double.NaN), [0, 1], 2, 1), "not a finite number");
        Refused(() => LinearProbe.Fit(zeros(2, 3), [0, 1], 2, 0), "C is 0");

        static void Refused(Action action, string part) => Assert.Contains(part, Assert.Throws<PanoptesException>(action).Message);
    }

    [Fact]
    public void Fitting_stops_when_asked_and_leaves_no_tensor_behind()
    {
        var (x, labels) = Blobs(100, 5, 3, 8);
        using (x)
        {
            var before = DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
            LinearProbe.Sweep(x, labels, x, labels, 3).Probe.Accuracy(x, labels);
            Assert.ThrowsAny<OperationCanceledException>(() => LinearProbe.Fit(x, labels, 3, 1, null, new CancellationToken(true)));
            Assert.Throws<PanoptesException>(() => LinearProbe.Fit(x, labels, 2, 1));
            Assert.Throws<PanoptesException>(() => LinearProbe.Fit(x, labels, 3, -1));
            Assert.Equal(before, DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount);
        }
    }

    /// <summary>Classes around different centers; only the first three features tell them apart. Seeds share the centers.</summary>
    static (Tensor Features, int[] Labels) Blobs(int samples, int features, int classes, long seed)
    {
        using var scope = NewDisposeScope();
        using var centers = new Generator(99);
        using var generator = new Generator((ulong)seed);
        int[] labels = [.. Enumerable.Range(0, samples).Select(i => i % classes)];
        var means = randn([classes, 3], generator: centers) * 2;
        var x = randn([samples, features], generator: generator);
        x.narrow(1, 0, 3).add_(means.index_select(0, tensor(labels.Select(static l => (long)l).ToArray())));
        return (x.MoveToOuterDisposeScope(), labels);
    }

    sealed class Immediate(Action<EvaluationProgress> report) : IProgress<EvaluationProgress>
    {
        public void Report(EvaluationProgress value) => report(value);
    }
}
