namespace Panoptes.Generation;

/// <summary>A tensor that depends on nothing but a size: made once, and again when another size is asked for.</summary>
sealed class SizeCache<T> : IDisposable where T : struct, IEquatable<T>
{
    readonly Lock gate = new();
    T size;
    Tensor? made;

    /// <summary>The tensor of <paramref name="wanted"/>; the caller's scope owns the handle, not the memory.</summary>
    /// <param name="wanted">Everything that <paramref name="make"/> depends on.</param>
    /// <param name="make">Makes it.</param>
    internal Tensor Get(T wanted, Func<T, Tensor> make)
    {
        lock (gate)
        {
            if (made is null || !size.Equals(wanted))
            {
                using var scope = NewDisposeScope();
                using var noGrad = no_grad();
                var fresh = make(wanted).DetachFromDisposeScope();
                made?.Dispose();
                (size, made) = (wanted, fresh);
            }
            return made.alias();
        }
    }

    public void Dispose() => made?.Dispose();
}
