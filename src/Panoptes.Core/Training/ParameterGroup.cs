using Panoptes.Nn;

namespace Panoptes.Training;

/// <summary>Parameters that an optimizer treats alike.</summary>
/// <param name="Parameters">By their key in the model, which the optimizer's state is saved under.</param>
public sealed record ParameterGroup(IReadOnlyList<(string Key, Parameter Parameter)> Parameters)
{
    /// <summary>What the step's learning rate is multiplied by.</summary>
    public double LearningRateScale { get; init; } = 1;

    /// <summary>The weight decay, as the optimizer defines it.</summary>
    public double WeightDecay { get; init; }

    /// <summary>
    /// The parameters of <paramref name="model"/> that are trained: matrices and larger with <paramref name="weightDecay"/>, vectors and
    /// scalars (biases, norms, the logit scale) without.
    /// </summary>
    /// <param name="model">What is trained; frozen parameters are left out.</param>
    /// <param name="weightDecay">The decay of matrices.</param>
    /// <param name="learningRateScale">The factor of the rate of each parameter, such as <see cref="LayerDecay"/>'s; null: 1 for all.</param>
    public static IReadOnlyList<ParameterGroup> Of(Module model, double weightDecay, Func<Parameter, double>? learningRateScale = null)
    {
        return [.. model.DistinctParameters()
            .Where(static p => p.Parameter.RequiresGrad)
            .GroupBy(p => (Decay: p.Parameter.Shape.Length >= 2 ? weightDecay : 0, Scale: learningRateScale?.Invoke(p.Parameter) ?? 1))
            .Select(static g => new ParameterGroup([.. g]) { WeightDecay = g.Key.Decay, LearningRateScale = g.Key.Scale })];
    }

    /// <summary>
    /// Rates that fall with the distance from the output (Clark et al. 2020, arXiv:2003.10555): the last group of each tower trains at the
    /// full rate, each one before it at <paramref name="decay"/> times that of its successor.
    /// </summary>
    /// <param name="towers">The groups of each tower from its input to its output.</param>
    /// <param name="decay">Above 0, up to 1.</param>
    /// <returns>The factor of a parameter; 1 for one of no group.</returns>
    /// <exception cref="PanoptesException">The decay is out of range.</exception>
    public static Func<Parameter, double> LayerDecay(IEnumerable<IReadOnlyList<IReadOnlyList<Parameter>>> towers, double decay)
    {
        if (decay is not (> 0 and <= 1)) throw new PanoptesException($"The layer decay is {decay}; expected above 0 and up to 1.");
        var scales = new Dictionary<Parameter, double>(ReferenceEqualityComparer.Instance);
        foreach (var groups in towers)
            for (var i = 0; i < groups.Count; i++)
                foreach (var parameter in groups[i]) scales[parameter] = Math.Pow(decay, groups.Count - 1 - i);
        return parameter => scales.GetValueOrDefault(parameter, 1);
    }
}
