namespace Panoptes.Checkpoints;

/// <summary>A list, tuple or set of a pickle.</summary>
public sealed class PickleList
{
    internal List<object?>? Mutable { get; set; }

    public IReadOnlyList<object?> Items => Mutable ?? [];

    internal void Add(object? item) => (Mutable ??= new(1)).Add(item);

    internal void AddRange(ReadOnlySpan<object?> items)
    {
        if (items.Length > 0) (Mutable ??= new(items.Length)).AddRange(items);
    }
}

/// <summary>A dict of a pickle, or the attributes of a TorchScript object, in order.</summary>
public sealed class PickleDict
{
    internal List<KeyValuePair<object?, object?>>? Mutable { get; set; }

    /// <summary>Whether these are the attributes of a TorchScript object.</summary>
    public bool IsScriptObject { get; internal init; }

    public IReadOnlyList<KeyValuePair<object?, object?>> Items => Mutable ?? [];

    /// <summary>The last value under <paramref name="key"/>, or null.</summary>
    public object? this[string key]
    {
        get
        {
            for (var i = Items.Count - 1; i >= 0; i--)
                if (Items[i].Key is string text && text == key) return Items[i].Value;
            return null;
        }
    }

    internal void Add(object? key, object? value) => (Mutable ??= new(1)).Add(new(key, value));
}

/// <summary>The bytes that tensors of a PyTorch file are views of.</summary>
public sealed class PickleStorage
{
    readonly PickleStorage? whole;
    readonly long shift;
    long offset = -1;

    internal PickleStorage(string key, ScalarType? type, int elementSize, long count, PickleStorage? whole = null, long shift = 0) =>
        (Key, Type, ElementSize, Count, this.whole, this.shift) = (key, type, elementSize, count, whole, shift);

    public string Key { get; }

    /// <summary>Null where the storage has no type of its own.</summary>
    public ScalarType? Type { get; }

    public int ElementSize { get; }

    /// <summary>Elements (bytes where there is no type).</summary>
    public long Count { get; }

    /// <summary>Where its bytes begin in the file; -1 until that is known.</summary>
    internal long Offset
    {
        get => whole is null ? offset : whole.Offset < 0 ? -1 : whole.Offset + shift;
        set => offset = value;
    }
}

/// <summary>A tensor of a PyTorch file that has not been read yet: a checked view of a storage.</summary>
/// <param name="Offset">The first element, counted from the storage's beginning in elements of <paramref name="Type"/>.</param>
public sealed record PickleTensor(PickleStorage Storage, ScalarType Type, int ElementSize, long Offset, long[] Shape, long[] Strides)
{
    /// <summary>Elements of the view.</summary>
    public long Count { get; } = Shape.Aggregate(1L, static (a, b) => checked(a * b));

    /// <summary>Whether the view is dense and in order, so that it needs no copy.</summary>
    public bool IsContiguous
    {
        get
        {
            if (Count == 0) return true;
            long expected = 1;
            for (var i = Shape.Length - 1; i >= 0; i--)
            {
                if (Shape[i] != 1 && Strides[i] != expected) return false;
                expected *= Shape[i];
            }
            return true;
        }
    }

    /// <summary>Elements from the first to the last that the view touches.</summary>
    internal long Span
    {
        get
        {
            if (Count == 0) return 0;
            long last = 0;
            for (var i = 0; i < Shape.Length; i++) last += (Shape[i] - 1) * Strides[i];
            return last + 1;
        }
    }
}
