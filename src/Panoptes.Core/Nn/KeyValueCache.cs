namespace Panoptes.Nn;

/// <summary>The keys and values of the tokens that a causal attention has seen already, so that each step computes one token only.</summary>
/// <param name="capacity">The most tokens that it may hold; the memory for all of them is taken at once.</param>
public sealed class KeyValueCache(int capacity) : IDisposable
{
    Tensor? keys, values;                                              // [b, heads, capacity, size]

    /// <summary>How many tokens it holds.</summary>
    public int Count { get; private set; }

    /// <summary>Adds tokens and gives all that are held: views that the caller's scope owns.</summary>
    /// <param name="key">[b, heads, tokens, size]</param>
    /// <param name="value">[b, heads, tokens, size]</param>
    /// <returns>[b, heads, <see cref="Count"/>, size] each</returns>
    public (Tensor Key, Tensor Value) Append(Tensor key, Tensor value)
    {
        keys ??= Allocate(key);
        values ??= Allocate(value);
        var tokens = (int)key.shape[2];
        using (var place = keys.narrow(2, Count, tokens)) place.copy_(key).Dispose();
        using (var place = values.narrow(2, Count, tokens)) place.copy_(value).Dispose();
        Count += tokens;
        return (keys.narrow(2, 0, Count), values.narrow(2, 0, Count));
    }

    /// <summary>Forgets all tokens but the first <paramref name="count"/>.</summary>
    public void Truncate(int count) => Count = Math.Clamp(count, 0, Count);

    /// <summary>Row i becomes what row <paramref name="rows"/>[i] was, for beams that go on from others.</summary>
    /// <param name="rows">[new b] int64</param>
    public void Reorder(Tensor rows)
    {
        keys = Reordered(keys, rows);
        values = Reordered(values, rows);
    }

    /// <summary>The same where rows have their first <paramref name="same"/> tokens in common with those that they become, so that these need not be moved.</summary>
    /// <param name="rows">[b] int64</param>
    /// <param name="same">How many tokens stay where they are.</param>
    public void Reorder(Tensor rows, int same)
    {
        if (Count <= same) return;
        foreach (var all in (ReadOnlySpan<Tensor?>)[keys, values])
        {
            using var rest = all!.narrow(2, same, Count - same);
            using var moved = rest.index_select(0, rows);
            rest.copy_(moved).Dispose();
        }
    }

    public void Dispose()
    {
        keys?.Dispose();
        values?.Dispose();
        keys = values = null;
    }

    Tensor Allocate(Tensor like) =>
        empty([like.shape[0], like.shape[1], capacity, like.shape[3]], like.dtype, like.device).DetachFromDisposeScope();

    static Tensor? Reordered(Tensor? all, Tensor rows)
    {
        if (all is null) return null;
        using (all) return all.index_select(0, rows).DetachFromDisposeScope();
    }
}
