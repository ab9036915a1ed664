using Panoptes.Nn;

namespace Panoptes.Representation;

static class LayerGroup
{
    /// <summary>The groups of <see cref="ITower.LayerGroups"/> from a tower's parts; <paramref name="norms"/> go with the last layer.</summary>
    internal static IReadOnlyList<IReadOnlyList<Parameter>> List(IEnumerable<Module?> embeddings, IEnumerable<Module> layers, IEnumerable<Module?> norms, IEnumerable<Module?> projection)
    {
        List<List<Parameter>> groups = [Of(embeddings), .. layers.Select(static l => Of([l]))];
        groups[^1].AddRange(Of(norms));
        if (Of(projection) is { Count: > 0 } last) groups.Add(last);
        return groups;
    }

    static List<Parameter> Of(IEnumerable<Module?> modules) => [.. modules.OfType<Module>().SelectMany(static m => m.Parameters()).Where(static p => p.Trainable)];
}
