namespace Panoptes.Representation;

/// <summary>Which patches of each image a masked model sees; in every image of the batch it sees equally many.</summary>
/// <param name="Order">[b, patches] int64: every patch once, those that are seen first</param>
/// <param name="Seen">How many are seen.</param>
public sealed record PatchMask(Tensor Order, int Seen)
{
    /// <summary>How many are masked.</summary>
    public int Masked => (int)Order.shape[1] - Seen;

    /// <summary>The patches that are seen: [b, seen] int64.</summary>
    public Tensor SeenPatches => Order.narrow(1, 0, Seen);

    /// <summary>The patches that are masked: [b, masked] int64.</summary>
    public Tensor MaskedPatches => Order.narrow(1, Seen, Masked);

    /// <summary>Where each patch stands in <see cref="Order"/>: [b, patches] int64.</summary>
    public Tensor Restore() => Order.argsort(1);

    /// <summary>1 where masked, 0 where seen: [b, patches] float32.</summary>
    public Tensor ToTensor()
    {
        using var scope = NewDisposeScope();
        return Restore().ge(Seen).to(ScalarType.Float32).MoveToOuterDisposeScope();
    }

    /// <summary>The patches with the smallest noise are seen, as in MAE.</summary>
    /// <param name="noise">[b, patches], independent and of one distribution</param>
    /// <param name="maskRatio">The fraction that is masked, from 0 to 1.</param>
    public static PatchMask FromNoise(Tensor noise, double maskRatio) => new(noise.argsort(1), (int)(noise.shape[1] * (1 - maskRatio)));
}
