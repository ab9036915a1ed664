using Panoptes.Nn;
using Panoptes.Training;

namespace Panoptes.Representation;

/// <summary>A tower's trainable parameters from its input to its output.</summary>
/// <param name="Embeddings">Up to the first block.</param>
/// <param name="Layers">Every block (of a ResNet: every stage).</param>
/// <param name="Norm">What normalizes the last block's output; empty where nothing does.</param>
/// <param name="Head">The projection or the pooling that has weights; empty where there is none.</param>
public sealed record LayerGroups(IReadOnlyList<Parameter> Embeddings, IReadOnlyList<IReadOnlyList<Parameter>> Layers, IReadOnlyList<Parameter> Norm, IReadOnlyList<Parameter> Head)
{
    /// <summary>What locking counts, as open_clip and timm do: the last norm goes with the last block.</summary>
    public IReadOnlyList<IReadOnlyList<Parameter>> ForLocking
    {
        get
        {
            List<IReadOnlyList<Parameter>> groups = [Embeddings, .. Layers];
            groups[^1] = [.. groups[^1], .. Norm];
            return Head.Count > 0 ? [.. groups, Head] : groups;
        }
    }

    /// <summary>
    /// What learning rates fall by from the last to the first (<see cref="ParameterGroup.LayerDecay"/>), as BEiT (Bao et al. 2022,
    /// arXiv:2106.08254) and MAE do: all that follows the last block, the norm too, is trained at the full rate (in timm the norm has the last block's).
    /// </summary>
    public IReadOnlyList<IReadOnlyList<Parameter>> ForLayerDecay => Norm.Count + Head.Count > 0 ? [Embeddings, .. Layers, [.. Norm, .. Head]] : [Embeddings, .. Layers];

    /// <summary>
    /// Freezes the tower but for its last groups (<see cref="ForLocking"/>), as locked-image tuning does (Zhai et al. 2022,
    /// arXiv:2111.07991): 1 leaves the projection, 2 the last block as well.
    /// </summary>
    /// <exception cref="PanoptesException">A negative number of groups.</exception>
    public void Lock(int unlockedGroups = 0)
    {
        if (unlockedGroups < 0) throw new PanoptesException($"A tower was to be locked but for {unlockedGroups} groups; expected 0 or more.");
        var groups = ForLocking;
        for (var i = 0; i < groups.Count; i++)
            foreach (var parameter in groups[i]) parameter.RequiresGrad = i >= groups.Count - unlockedGroups;
    }

    /// <summary>The same with more behind the tower: a projection, a classifier.</summary>
    internal LayerGroups WithHead(params ReadOnlySpan<Module> parts) => this with { Head = [.. Head, .. Trainable([.. parts])] };

    /// <summary>The groups from a tower's parts, each a parameter, a module or null.</summary>
    internal static LayerGroups Of(ReadOnlySpan<object?> embeddings, IEnumerable<Module> layers, ReadOnlySpan<object?> norm, ReadOnlySpan<object?> head) =>
        new(Trainable(embeddings), [.. layers.Select(static l => Trainable([l]))], Trainable(norm), Trainable(head));

    static List<Parameter> Trainable(ReadOnlySpan<object?> parts)
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
