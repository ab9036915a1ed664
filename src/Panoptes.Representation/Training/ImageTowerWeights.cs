using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Representation.Training;

/// <summary>Starts a model's image tower from the weights of another model's, whose heads may be others: a masked autoencoder's, a classifier's, a CLIP's.</summary>
static class ImageTowerWeights
{
    /// <summary>
    /// Copies what the two have in common under the same keys, wherever the tower stands in either model. Everything up to the last block has to be there;
    /// what follows (norm, pooling, heads) is taken where it fits.
    /// </summary>
    /// <param name="model">Gets the weights.</param>
    /// <param name="from">A folder, a file or a hub id.</param>
    /// <exception cref="PanoptesException">There is no such model, or its image tower is of another kind or size.</exception>
    internal static void Take(Module model, string from)
    {
        using var other = Models.Load(ModelFolder.Resolve(from), new() { Dtype = ScalarType.Float32 });
        var tower = Towers.Of(model).Images;
        var groups = tower.LayerGroups;
        HashSet<Parameter> needed = [.. groups.Embeddings, .. groups.Layers.SelectMany(static l => l)];
        var own = (tower is Module module && module.DistinctParameters().Any(p => needed.Contains(p.Parameter)) ? module : model).DistinctParameters().ToArray();
        var theirs = other.NamedParameters().DistinctBy(static p => p.Key).ToDictionary(static p => p.Key, static p => p.Parameter, StringComparer.Ordinal);
        var (missing, best) = (needed.Count + 1, ("", ""));
        foreach (var prefixes in Prefixes(own.First(p => needed.Contains(p.Parameter)), theirs))
        {
            var lacking = own.Count(p => needed.Contains(p.Parameter) && Find(prefixes, p) is null);
            if (lacking < missing) (missing, best) = (lacking, prefixes);
        }
        if (missing > 0)
            throw new PanoptesException(missing > needed.Count
                ? $"{from} holds a {other.GetType().Name}, which has no image tower like that of a {model.GetType().Name}."
                : $"The image tower of {from}, a {other.GetType().Name}, does not fit that of the {model.GetType().Name}: {missing} of {needed.Count} weights differ, such as {own.First(p => needed.Contains(p.Parameter) && Find(best, p) is null).Key}.");
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        foreach (var parameter in own)
            if (Find(best, parameter) is { } value) parameter.Parameter.Value.copy_(value.Value);

        Parameter? Find((string Own, string Theirs) prefixes, (string Key, Parameter Parameter) of) =>
            of.Key.StartsWith(prefixes.Own, StringComparison.Ordinal) && theirs.TryGetValue(prefixes.Theirs + of.Key[prefixes.Own.Length..], out var found)
                && found.Shape.AsSpan().SequenceEqual(of.Parameter.Shape) ? found : null;
    }

    /// <summary>Where the tower may stand in both: what is left of two keys when their common end, whole names, is taken away.</summary>
    static IEnumerable<(string Own, string Theirs)> Prefixes((string Key, Parameter Parameter) first, Dictionary<string, Parameter> theirs)
    {
        var own = first.Key.Split('.');
        foreach (var (key, parameter) in theirs)
        {
            if (!parameter.Shape.AsSpan().SequenceEqual(first.Parameter.Shape)) continue;
            var other = key.Split('.');
            var common = 0;
            while (common < own.Length && common < other.Length && own[^(common + 1)] == other[^(common + 1)]) common++;
            for (var take = common; take > 0; take--) yield return (Prefix(own, take), Prefix(other, take));
        }

        static string Prefix(string[] parts, int taken) => string.Concat(parts[..^taken].Select(static p => p + "."));
    }
}
