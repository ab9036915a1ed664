using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>Working with the layers of a tower from its end, as locked-image tuning does (Zhai et al. 2022, arXiv:2111.07991).</summary>
public static class LayerGroup
{
    /// <summary>Freezes a tower but for its last groups (see <see cref="ITower.LayerGroups"/>): 1 leaves the projection, 2 the last block as well.</summary>
    /// <exception cref="PanoptesException">A negative number of groups.</exception>
    public static void Lock(this ITower tower, int unlockedGroups = 0)
    {
        if (unlockedGroups < 0) throw new PanoptesException($"A tower was to be locked but for {unlockedGroups} groups; expected 0 or more.");
        var groups = tower.LayerGroups;
        for (var i = 0; i < groups.Count; i++)
            foreach (var parameter in groups[i]) parameter.RequiresGrad = i >= groups.Count - unlockedGroups;
    }

    /// <summary>The groups from a tower's parts, each a parameter, a module or null; <paramref name="norms"/> go with the last layer.</summary>
    internal static IReadOnlyList<IReadOnlyList<Parameter>> List(ReadOnlySpan<object?> embeddings, IEnumerable<Module> layers, ReadOnlySpan<object?> norms, ReadOnlySpan<object?> projection)
    {
        List<List<Parameter>> groups = [Of(embeddings)];
        foreach (var layer in layers) groups.Add(Of([layer]));
        groups[^1].AddRange(Of(norms));
        if (Of(projection) is { Count: > 0 } last) groups.Add(last);
        return groups;
    }

    static List<Parameter> Of(ReadOnlySpan<object?> parts)
    {
        var parameters = new List<Parameter>();
        foreach (var part in parts)
        {
            if (part is Parameter { Trainable: true } parameter) parameters.Add(parameter);
            else if (part is Module module) parameters.AddRange(module.Parameters().Where(static p => p.Trainable));
        }
        return parameters;
    }
}
