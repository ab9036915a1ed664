using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>A part of an original file's weights under the keys of the model that they are for. Nothing is copied that need not be: parts of fused weights are views.</summary>
sealed class OriginalWeights : Weights
{
    /// <param name="Start">The first row of the tensor that is the weight's.</param>
    sealed record Place(OriginalKey Key, long[] Shape, long Start, long Rows);

    readonly Weights file;
    readonly string prefix;
    readonly Dictionary<string, Place> places = new(StringComparer.Ordinal);

    /// <param name="file">The whole file; stays the caller's.</param>
    /// <param name="prefix">What stands before the part's keys in it.</param>
    /// <param name="model">What the weights are for.</param>
    /// <param name="keys">From the model's keys to the original's.</param>
    public OriginalWeights(Weights file, string prefix, Module model, Func<string, OriginalKey> keys)
    {
        (this.file, this.prefix) = (file, prefix);
        var used = new HashSet<string>(StringComparer.Ordinal);
        foreach (var fused in Groups(model, keys))
        {
            if (!file.Contains(prefix + fused.Key)) continue;
            used.Add(prefix + fused.Key);
            var (all, start) = (fused.Sum(static p => Rows(p.Parameter)), 0L);
            foreach (var (key, parameter, original) in fused)
            {
                places[key] = new(original, parameter.Shape, start, all);
                start += Rows(parameter);
            }
        }
        // What nobody asked for is shown as it is called, so that it is told.
        Keys = [.. places.Keys, .. file.Keys.Where(k => k.StartsWith(prefix, StringComparison.Ordinal) && !used.Contains(k)).Select(k => k[prefix.Length..]).Where(k => !places.ContainsKey(k))];
    }

    public override string Source => file.Source;

    public override IReadOnlyCollection<string> Keys { get; }

    public override bool Contains(string key) => places.ContainsKey(key) || file.Contains(prefix + key);

    public override string FileOf(string key) => file.FileOf(prefix + (places.TryGetValue(key, out var place) ? place.Key.Name : key));

    public override (ScalarType Type, long[] Shape) Info(string key)
    {
        if (!places.TryGetValue(key, out var place)) return file.Info(prefix + key);
        var (type, shape) = file.Info(prefix + place.Key.Name);
        return (type, place.Key.Form switch
        {
            OriginalForm.Transposed when shape.Length == 2 => [shape[1], shape[0]],
            OriginalForm.Pointwise => [.. shape.Take(2), .. shape.Skip(2).SkipWhile(static n => n == 1)],
            _ when shape.Length > 0 && shape[0] == place.Rows && place.Shape.Length > 0 => [place.Shape[0], .. shape.Skip(1)],
            _ => shape,
        });
    }

    public override Tensor Read(string key)
    {
        if (!places.TryGetValue(key, out var place)) return file.Read(prefix + key);
        var whole = file.Read(prefix + place.Key.Name);
        using var scope = NewDisposeScope();
        var own = place.Key.Form switch
        {
            OriginalForm.Transposed => whole.t().contiguous(),
            OriginalForm.Pointwise => whole.reshape(place.Shape),
            OriginalForm.Swapped => Swap(whole),
            _ => place.Rows == Rows(place.Shape) ? whole : whole.narrow(0, place.Start, place.Shape[0]),
        };
        if (ReferenceEquals(own, whole)) return whole;
        own = own.MoveToOuterDisposeScope();
        whole.Dispose();
        return own;
    }

    /// <summary>The model's weights as an original file has them; those that are made anew belong to the caller's dispose scope.</summary>
    public static IEnumerable<KeyValuePair<string, Tensor>> Of(Module model, string prefix, Func<string, OriginalKey> keys)
    {
        foreach (var fused in Groups(model, keys))
        {
            var tensors = fused.Select(static p => p.Original.Form switch
            {
                OriginalForm.Transposed => p.Parameter.Value.t().contiguous(),
                OriginalForm.Pointwise => p.Parameter.Value.unsqueeze(-1).unsqueeze(-1),
                OriginalForm.Swapped => Swap(p.Parameter.Value),
                _ => p.Parameter.Value,
            }).ToArray();
            yield return new(prefix + fused.Key, tensors is [var only] ? only : cat(tensors));
        }
    }

    static IEnumerable<IGrouping<string, (string Key, Parameter Parameter, OriginalKey Original)>> Groups(Module model, Func<string, OriginalKey> keys) =>
        model.DistinctParameters().Select(p => (p.Key, p.Parameter, Original: keys(p.Key))).OrderBy(static p => p.Original.Part).GroupBy(static p => p.Original.Name, StringComparer.Ordinal);

    static Tensor Swap(Tensor rows)
    {
        var halves = rows.chunk(2, 0);
        return cat([halves[1], halves[0]]);
    }

    static long Rows(Parameter parameter) => Rows(parameter.Shape);

    static long Rows(long[] shape) => shape.Length == 0 ? 1 : shape[0];
}
