using Panoptes.Nn;

namespace Panoptes.Core.Tests.Training;

/// <summary>A model that is nothing but parameters of given shapes, p0, p1, …, with values and gradients drawn from seeds.</summary>
sealed class LooseParameters : Module
{
    readonly Parameter[] parameters;

    public LooseParameters(int seed, params IReadOnlyList<long[]> shapes)
    {
        parameters = [.. shapes.Select(static s => new Parameter(s, Init.Normal(1)))];
        using var generator = new Generator((ulong)seed);
        Initialize(generator);
    }

    public Parameter this[int index] => parameters[index];

    public void DrawGradients(int seed, Func<int, bool>? where = null)
    {
        using var generator = new Generator((ulong)seed);
        using var scope = NewDisposeScope();
        for (var i = 0; i < parameters.Length; i++)
            if (where?.Invoke(i) ?? true) this[i].Value.grad = randn(this[i].Shape, generator: generator);
    }

    public float[][] Values => [.. parameters.Select(static p => p.Value.detach().contiguous().data<float>().ToArray())];

    protected override IEnumerable<(string Key, object? Child)> Children() => parameters.Select(static (p, i) => ($"p{i}", (object?)p));
}
