namespace Panoptes.Evaluation;

/// <summary>One value of the regularization that was tried, and the accuracy that it gave on the validation part.</summary>
public sealed record LinearProbeTrial(double C, double Accuracy);

/// <summary>A probe whose regularization was chosen on a validation part, with all that was tried.</summary>
public sealed record LinearProbeSweep(LinearProbe Probe, IReadOnlyList<LinearProbeTrial> Trials);

/// <summary>
/// Multinomial logistic regression on features: what a linear layer on top of a frozen model can tell apart. It minimizes
/// C · Σ cross-entropy + ½‖W‖² with the intercept unpenalized (scikit-learn's objective), to convergence, in float64.
/// </summary>
/// <remarks>
/// Newton's method: each step is found by conjugate gradients, preconditioned by the curvature that a part of the samples shows:
/// C · Xᵀ S X + 1, shared by all classes, S being each sample's mean of p (1 - p); and where that does not serve and the weights are few, by
/// the whole Hessian of that part. That takes away the features' scales and correlations, and few steps are needed however weak the
/// penalty is, where L-BFGS, which CLIP used, takes hundreds to come to the same, only optimum. Memory: 8 bytes for every feature of every sample, and up to 128 MB for the Hessian.
/// </remarks>
public sealed class LinearProbe
{
    /// <summary>How often a fit may go over all samples. A trial of a C so large that this does not do is judged where it stands, as CLIP's are.</summary>
    const int MaxPasses = 5000, TrialPasses = 250;

    /// <summary>Of the passes, those that one Newton step may take.</summary>
    const int StepPasses = 100;

    /// <summary>How many probes a sweep fits.</summary>
    public const int SweepFits = 7 + (4 * 2) + 1;

    /// <summary>The whole Hessian is computed for so many weights at most, once a step has taken so many passes.</summary>
    const int MaxDense = 4096, DensePasses = 25;

    /// <summary>The gradient's length at the end, in lengths of the weights. The penalty makes the objective 1-strongly convex, so that the weights are at most so far from the optimum.</summary>
    const double Tolerance = 1e-6;

    /// <summary>Enough to see how good a C is.</summary>
    const double TrialTolerance = 1e-3;

    readonly double[] weights;

    LinearProbe(double[] weights, int classes, int features, double c, int iterations, bool hasConverged)
    {
        this.weights = weights;
        (Classes, Features, C, Iterations, HasConverged) = (classes, features, c, iterations, hasConverged);
    }

    public int Classes { get; }

    public int Features { get; }

    /// <summary>The weight of the data against that of the penalty.</summary>
    public double C { get; }

    /// <summary>Newton steps that were taken.</summary>
    public int Iterations { get; }

    /// <summary>Whether the gradient became small; otherwise the limit of the work was reached.</summary>
    public bool HasConverged { get; }

    /// <summary>[classes, features] float64, owned by the caller.</summary>
    public Tensor Weight()
    {
        using var scope = NewDisposeScope();
        return Augmented().narrow(1, 0, Features).contiguous().MoveToOuterDisposeScope();
    }

    /// <summary>[classes] float64, owned by the caller; its mean over the classes is zero, as only differences matter.</summary>
    public Tensor Bias()
    {
        using var scope = NewDisposeScope();
        return Augmented().select(1, Features).contiguous().MoveToOuterDisposeScope();
    }

    /// <summary>x Wᵀ + b: [samples, classes] float64, owned by the caller.</summary>
    /// <param name="features">[samples, features]</param>
    public Tensor Logits(Tensor features)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return nn.functional.linear(features.to(ScalarType.Float64), Weight(), Bias()).MoveToOuterDisposeScope();
    }

    /// <summary>The share of samples whose highest logit is their own class's.</summary>
    public double Accuracy(Tensor features, IReadOnlyList<int> labels)
    {
        using var scope = NewDisposeScope();
        return Logits(features).argmax(1).eq(Labels(labels)).to(ScalarType.Float64).mean().item<double>();
    }

    /// <summary>Fits one probe.</summary>
    /// <param name="features">[samples, features], floating point.</param>
    /// <param name="labels">For every sample its class, from 0.</param>
    /// <param name="classes">How many classes there are.</param>
    /// <param name="c">The weight of the data against that of the penalty: smaller is more regularized.</param>
    /// <param name="start">A probe of the same sizes to start from.</param>
    /// <exception cref="PanoptesException">No samples, sizes that do not fit, a label without a class, or features that are not finite.</exception>
    public static LinearProbe Fit(Tensor features, IReadOnlyList<int> labels, int classes, double c, LinearProbe? start = null, CancellationToken cancel = default)
    {
        using var problem = new Problem(features, labels, classes);
        return problem.Fit(c, start, Tolerance, MaxPasses, cancel);
    }

    /// <summary>
    /// Chooses C on a validation part as CLIP does (Radford et al. 2021, appendix A.3): seven values from 10⁻⁶ to 10⁶, then around the best
    /// one ever finer steps down to an eighth of a decade; the probe is then fitted on both parts together.
    /// </summary>
    /// <param name="progress">Is told how many probes of how many are fitted.</param>
    /// <inheritdoc cref="Fit" path="/exception"/>
    public static LinearProbeSweep Sweep(Tensor trainFeatures, IReadOnlyList<int> trainLabels, Tensor validationFeatures, IReadOnlyList<int> validationLabels, int classes,
        IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default)
    {
        using var scope = NewDisposeScope();
        var trials = new SortedDictionary<int, (LinearProbe Probe, double Accuracy)>();     // by eighths of a decade
        var best = 0;
        using (var problem = new Problem(trainFeatures, trainLabels, classes))
        {
            for (var decade = -6; decade <= 6; decade += 2) Try(problem, decade * 8);
            for (var step = 8; step >= 1; step /= 2)
            {
                var center = best;
                Try(problem, center - step);
                Try(problem, center + step);
            }
        }
        using var both = new Problem(cat([trainFeatures, validationFeatures]), [.. trainLabels, .. validationLabels], classes);
        var probe = both.Fit(Value(best), trials[best].Probe, Tolerance, MaxPasses, cancel);
        progress?.Report(new(SweepFits, SweepFits));
        return new(probe, [.. trials.Select(static t => new LinearProbeTrial(Value(t.Key), t.Value.Accuracy))]);

        void Try(Problem problem, int eighths)
        {
            // From the nearest weaker fit, or else the nearest there is.
            var start = trials.Where(t => t.Key < eighths).Select(static t => t.Value.Probe).LastOrDefault() ?? trials.Select(static t => t.Value.Probe).FirstOrDefault();
            var fitted = problem.Fit(Value(eighths), start, TrialTolerance, TrialPasses, cancel);
            trials[eighths] = (fitted, fitted.Accuracy(validationFeatures, validationLabels));
            if (trials.Count == 1) best = eighths;
            var (was, now) = (trials[best].Accuracy, trials[eighths].Accuracy);
            if (now > was || (now == was && eighths < best)) best = eighths;
            progress?.Report(new(trials.Count, SweepFits));
        }

        static double Value(int eighths) => Math.Pow(10, eighths / 8.0);
    }

    Tensor Augmented() => tensor(weights, [Classes, Features + 1]);

    static Tensor Labels(IReadOnlyList<int> labels) => tensor(labels.Select(static l => (long)l).ToArray());

    /// <summary>The data of a fit, for any number of values of C.</summary>
    sealed class Problem : IDisposable
    {
        readonly Tensor x, y, sample, penalized;
        readonly int classes, features;
        int passes;
        bool isDense;

        public Problem(Tensor features, IReadOnlyList<int> labels, int classes)
        {
            if (features.dim() != 2 || features.shape[0] != labels.Count || labels.Count == 0)
                throw new PanoptesException($"Features of the shape [{string.Join(", ", features.shape)}] and {labels.Count} labels do not fit: expected [samples, features] and a label for each sample.");
            foreach (var label in labels)
                if (label < 0 || label >= classes) throw new PanoptesException($"A sample has the label {label}, but there are {classes} classes, from 0 to {classes - 1}.");
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            (this.classes, this.features) = (classes, (int)features.shape[1]);
            x = cat([features.detach().cpu().to(ScalarType.Float64), ones(features.shape[0], 1, ScalarType.Float64)], 1);        // the last column is the intercept's
            if (!x.isfinite().all().item<bool>()) throw new PanoptesException("A feature is not a finite number: the model gave vectors that are not finite.");
            y = Labels(labels).unsqueeze(1);
            // A part of the samples shows the features' scales and correlations well enough.
            using var generator = new Generator(0);
            sample = x.index_select(0, randperm(labels.Count, generator: generator).narrow(0, 0, Math.Min(labels.Count, Math.Max(4096, 10 * this.features))));
            penalized = cat([ones(this.features, ScalarType.Float64), zeros(1, ScalarType.Float64)]);
            foreach (var kept in (ReadOnlySpan<Tensor>)[x, y, sample, penalized]) kept.DetachFromDisposeScope();
        }

        public LinearProbe Fit(double c, LinearProbe? start, double tolerance, int maxPasses, CancellationToken cancel)
        {
            if (!(c > 0) || !double.IsFinite(c)) throw new PanoptesException($"C is {c}; expected a positive number.");
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            (passes, isDense) = (0, false);
            var w = start?.Augmented() ?? zeros(classes, features + 1, ScalarType.Float64);
            var at = Evaluate(w, c);
            var (iteration, hasConverged) = (0, false);
            for (; ; iteration++)
            {
                using var inner = NewDisposeScope();
                hasConverged = Length(at.Gradient) <= tolerance * Math.Max(Length(w), 1e-3 * c);
                if (hasConverged || passes >= maxPasses) break;
                var direction = NewtonStep(w, at, c, cancel);
                if (!TryStep(w, direction, at, c, out var moved, out var next)) break;      // the numbers' precision is at its end
                foreach (var old in (ReadOnlySpan<Tensor>)[w, at.Gradient, at.Probabilities]) old.Dispose();
                w = moved.MoveToOuterDisposeScope();
                at = next with { Gradient = next.Gradient.MoveToOuterDisposeScope(), Probabilities = next.Probabilities.MoveToOuterDisposeScope() };
            }
            // Nothing decides the intercepts' common part: take it out.
            var bias = w.select(1, features);
            bias.sub_(bias.mean());
            return new(w.contiguous().data<double>().ToArray(), classes, features, c, iteration, hasConverged);
        }

        /// <summary>Goes along <paramref name="direction"/>, less far if need be, until the loss has fallen enough.</summary>
        bool TryStep(Tensor w, Tensor direction, Point at, double c, out Tensor moved, out Point next)
        {
            var slope = Dot(direction, at.Gradient);
            for (var length = 1.0; length > 1e-10; length /= 2)
            {
                moved = w + (direction * length);
                next = Evaluate(moved, c);
                if (next.Loss <= at.Loss + (1e-4 * length * slope)) return slope < 0;
                // At the end of the numbers' precision the loss cannot tell any more, but the gradient can.
                if (Math.Abs(next.Loss - at.Loss) <= 1e-13 * Math.Abs(at.Loss) && Length(next.Gradient) < 0.5 * Length(at.Gradient)) return true;
            }
            (moved, next) = (w, at);
            return false;
        }

        /// <summary>Minus the inverse Hessian times the gradient, by preconditioned conjugate gradients; the nearer the optimum, the more exactly.</summary>
        Tensor NewtonStep(Tensor w, Point at, double c, CancellationToken cancel)
        {
            using var scope = NewDisposeScope();
            var before = passes;
            var scale = isDense ? Hessian(w, c) : Scale(w, c);
            var direction = zeros_like(w);
            var residual = at.Gradient.neg();
            var goal = Length(residual) * Math.Min(0.1, Math.Sqrt(Length(at.Gradient) / (c * x.shape[0])));
            var z = Scaled(residual);
            var (along, product) = (z.clone(), Dot(residual, z));
            for (var i = 0; i < StepPasses && Length(residual) > goal; i++)
            {
                cancel.ThrowIfCancellationRequested();
                using var inner = NewDisposeScope();
                var curved = Curvature(along, at.Probabilities, c);
                var length = product / Dot(along, curved);
                direction.add_(along * length);
                residual.sub_(curved * length);
                z = Scaled(residual);
                var now = Dot(residual, z);
                along.mul_(now / product).add_(z);
                product = now;
            }
            isDense |= passes - before > DensePasses && w.numel() <= MaxDense;
            return direction.MoveToOuterDisposeScope();

            Tensor Scaled(Tensor r) => isDense ? cholesky_solve(r.reshape(-1, 1), scale).view_as(r) : cholesky_solve(r.t(), scale).t();
        }

        /// <summary>The Hessian times <paramref name="v"/>, [classes, features + 1].</summary>
        Tensor Curvature(Tensor v, Tensor p, double c)
        {
            passes++;
            using var scope = NewDisposeScope();
            var a = p * x.matmul(v.t());                                                        // [samples, classes]
            return ((a - (p * a.sum(1, keepdim: true))).t().matmul(x) * c + (v * penalized)).MoveToOuterDisposeScope();
        }

        /// <summary>The Cholesky factor of the sample's Hessian: [weights, weights].</summary>
        Tensor Hessian(Tensor w, double c)
        {
            using var scope = NewDisposeScope();
            var p = sample.matmul(w.t()).softmax(1);
            var columns = features + 1;
            var hessian = empty(classes * columns, classes * columns, ScalarType.Float64);
            for (var i = 0; i < classes; i++)
                for (var j = 0; j <= i; j++)
                {
                    using var inner = NewDisposeScope();
                    var (first, second) = (p.narrow(1, i, 1), p.narrow(1, j, 1));
                    // Never quite zero, neither for classes that the sample has nothing of nor for what all classes share.
                    var block = sample.t().matmul(sample * (i == j ? (first * (1 - first)) + 1e-9 : first * second * -1));
                    hessian.narrow(0, i * columns, columns).narrow(1, j * columns, columns).copy_(block);
                    if (i != j) hessian.narrow(0, j * columns, columns).narrow(1, i * columns, columns).copy_(block.t());
                }
            hessian.mul_(c * x.shape[0] / sample.shape[0]);
            hessian.diagonal().add_(penalized.repeat(classes));
            return linalg.cholesky(hessian).MoveToOuterDisposeScope();
        }

        /// <summary>The Cholesky factor of the preconditioner: [features + 1, features + 1].</summary>
        Tensor Scale(Tensor w, double c)
        {
            using var scope = NewDisposeScope();
            var p = sample.matmul(w.t()).softmax(1);
            var spread = (p * (1 - p)).mean([1], keepdim: true) + 1e-9;                           // never quite zero: the intercept has no penalty
            var hessian = sample.t().matmul(sample * spread) * (c * x.shape[0] / sample.shape[0]);
            return linalg.cholesky(hessian + diag(penalized)).MoveToOuterDisposeScope();
        }

        /// <summary>The objective, its gradient [classes, features + 1] and the probabilities [samples, classes] at some weights.</summary>
        readonly record struct Point(double Loss, Tensor Gradient, Tensor Probabilities);

        Point Evaluate(Tensor w, double c)
        {
            passes++;
            using var scope = NewDisposeScope();
            var logProbabilities = nn.functional.log_softmax(x.matmul(w.t()), 1);
            var shrunk = w * penalized;
            var loss = (-c * logProbabilities.gather(1, y).sum().item<double>()) + (0.5 * Dot(w, shrunk));
            var p = logProbabilities.exp_();
            var error = p.scatter_add(1, y, full_like(y, -1, ScalarType.Float64));
            return new(loss, (error.t().matmul(x) * c + shrunk).MoveToOuterDisposeScope(), p.MoveToOuterDisposeScope());
        }

        static double Dot(Tensor a, Tensor b)
        {
            using var scope = NewDisposeScope();
            return (a * b).sum().item<double>();
        }

        static double Length(Tensor a) => Math.Sqrt(Dot(a, a));

        public void Dispose()
        {
            foreach (var tensor in (ReadOnlySpan<Tensor>)[x, y, sample, penalized]) tensor.Dispose();
        }
    }
}
