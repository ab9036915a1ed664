using Panoptes.Native;

namespace Panoptes.Training;

/// <summary>
/// Adam with the memory of a row and a column: the squares of a matrix's gradients are kept as their means over its rows and columns
/// (Shazeer and Stern 2018, arXiv:1804.04235), as timm's Adafactor with a rate given from outside.
/// </summary>
/// <param name="groups">What is trained.</param>
/// <param name="beta1">The share of the old step in a new one; null: no momentum, and no memory for it.</param>
/// <param name="decayRate">The means after step t keep 1 - t^decayRate of the old.</param>
/// <param name="clip">The root mean square of a step before the rate, at most.</param>
/// <param name="eps">Added to the squares.</param>
/// <param name="factorAbove">A matrix whose two sides are larger than this is kept as rows and columns.</param>
public sealed class Adafactor(IReadOnlyList<ParameterGroup> groups, double? beta1 = null, double decayRate = -0.8, double clip = 1, double eps = 1e-30, int factorAbove = 16) : Optimizer(groups)
{
    protected internal override IEnumerable<(string Name, Tensor Value)> NewState(OptimizedParameter parameter)
    {
        yield return ("step", zeros([], ScalarType.Float32));
        if (beta1 is not null) yield return ("exp_avg", zeros_like(parameter.Value));
        if (Factored(parameter.Value.shape) is var (rows, columns))
        {
            yield return ("exp_avg_sq_row", parameter.Value.sum(columns).zero_());
            yield return ("exp_avg_sq_col", parameter.Value.sum(rows).zero_());
        }
        else yield return ("exp_avg_sq", zeros_like(parameter.Value));
    }

    protected override void Step(IReadOnlyList<OptimizedParameter> parameters)
    {
        foreach (var p in parameters)
        {
            using var scope = NewDisposeScope();
            var gradient = p.Gradient;
            var share = Math.Pow(p["step"].add_(1).ToDouble(), decayRate);           // of the new in the running means
            var square = gradient.square().add_(eps);
            Tensor update;
            if (Factored(gradient.shape) is var (rows, columns))
            {
                var row = p["exp_avg_sq_row"].lerp_(square.mean([columns]), share);  // [rows, ...] without the columns
                var column = p["exp_avg_sq_col"].lerp_(square.mean([rows]), share);  // [..., columns] without the rows
                update = (row / row.mean([rows], keepdim: true)).rsqrt_().unsqueeze(columns) * column.rsqrt().unsqueeze(rows);
                update.mul_(gradient);
            }
            else update = p["exp_avg_sq"].lerp_(square, share).rsqrt().mul_(gradient);

            var size = TorchOps.Norm([update]) / Math.Sqrt(update.numel());
            update.mul_(p.LearningRate / Math.Max(1, size / clip));
            if (beta1 is { } kept) update = p["exp_avg"].lerp_(update, 1 - kept);
            p.Value.mul_(1 - p.WeightDecay * p.LearningRate).sub_(update);
        }
    }

    // The two dimensions that the means are taken along: a convolution's outputs and inputs, else the last two, if both are large.
    (int Rows, int Columns)? Factored(long[] shape) => shape switch
    {
        { Length: > 2 } when shape[0] > factorAbove && shape[1] > factorAbove => (0, 1),
        { Length: >= 2 } when shape[^2] > factorAbove && shape[^1] > factorAbove => (shape.Length - 2, shape.Length - 1),
        _ => null,
    };
}
