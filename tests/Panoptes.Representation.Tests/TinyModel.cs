using Panoptes.Nn;

namespace Panoptes.Tests;

/// <summary>A tiny config of an architecture, and one call of it that gives a tensor of everything it computes.</summary>
/// <param name="Config">config.json</param>
/// <param name="Run">The outputs as one row a sample, from inputs that it makes itself, always the same.</param>
public sealed record TinyModel(string Config, Func<Module, Tensor> Run)
{
    /// <summary>The key of weights that this call does not reach.</summary>
    public Func<string, bool> Unused { get; init; } = static _ => false;
}
