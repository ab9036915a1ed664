using Panoptes.Native;

namespace Panoptes.Nn;

/// <summary>Fills a fresh tensor of a parameter's shape in place, drawing from <paramref name="generator"/>.</summary>
public delegate void Initializer(Tensor tensor, Generator generator);

/// <summary>
/// One weight of a model: a declared shape, and a tensor once it has been loaded or initialized. A model can be built without
/// memory for its weights, which are then assigned once, straight from the checkpoint.
/// </summary>
public sealed class Parameter : IDisposable
{
    readonly Initializer initializer;
    Tensor? value, packed;
    bool requiresGrad = true;

    /// <param name="shape">The shape that a checkpoint must have under this parameter's key.</param>
    /// <param name="initializer">How training from scratch starts; see <see cref="Nn.Init"/>.</param>
    public Parameter(ReadOnlySpan<long> shape, Initializer initializer)
    {
        Shape = shape.ToArray();
        this.initializer = initializer;
    }

    /// <summary>The declared shape.</summary>
    public long[] Shape { get; }

    public long ElementCount => Shape.Aggregate(1L, static (a, b) => a * b);

    /// <summary>False for state that is saved with the model but not trained (buffers, such as running statistics).</summary>
    public bool Trainable { get; init; } = true;

    public bool HasValue => value is not null || packed is not null;

    /// <summary>The tensor; owned by this parameter, never by a dispose scope.</summary>
    /// <exception cref="InvalidOperationException">Neither loaded nor initialized yet.</exception>
    public Tensor Value => value ?? Unpack() ?? throw new InvalidOperationException("This model's weights have been neither loaded nor initialized.");

    /// <summary>The value in the layout that oneDNN computes with (see <see cref="TorchOps.Pack"/>), while it is kept so.</summary>
    internal Tensor? Packed => packed;

    /// <summary>The type of the value, whichever way it is kept; null before there is one.</summary>
    public ScalarType? Dtype => (value ?? packed)?.dtype;

    /// <summary>Whether gradients are computed for it; kept over <see cref="Assign"/>.</summary>
    public bool RequiresGrad
    {
        get => requiresGrad && Trainable;
        set
        {
            requiresGrad = value;
            if (IsFloatingPoint) this.value!.requires_grad_(RequiresGrad);
        }
    }

    /// <summary>The tensor's gradient, or null.</summary>
    public Tensor? Grad => value?.grad;

    /// <summary>Forgets the gradient.</summary>
    public void ClearGrad()
    {
        if (value is not null) value.grad = null;
    }

    /// <summary>Takes over <paramref name="tensor"/> (of the declared shape) as the value and disposes the one before.</summary>
    /// <exception cref="ArgumentException">The shape is another.</exception>
    public void Assign(Tensor tensor)
    {
        if (!tensor.shape.AsSpan().SequenceEqual(Shape))
            throw new ArgumentException($"A tensor of shape [{string.Join(", ", tensor.shape)}] was given for a parameter of shape [{string.Join(", ", Shape)}].");
        var old = value;
        value = tensor.DetachFromDisposeScope();
        packed?.Dispose();
        packed = null;
        if (IsFloatingPoint) value.requires_grad_(RequiresGrad);
        if (!ReferenceEquals(old, value)) old?.Dispose();
    }

    /// <summary>
    /// Keeps the value packed for inference instead of plain, where that serves; reading <see cref="Value"/> brings the plain one back.
    /// Not while another thread uses the model, and not while an optimizer holds the value.
    /// </summary>
    /// <returns>The bytes of the plain value that are free now.</returns>
    internal long Pack() => PackBy(TorchOps.Pack);

    /// <summary>The same in a way of the caller's.</summary>
    internal long PackBy(Func<Tensor, Tensor?> pack)
    {
        if (value is null || pack(value) is not { } result) return 0;
        var bytes = value.NumberOfElements * value.ElementSize;
        packed = result.DetachFromDisposeScope();
        value.Dispose();
        value = null;
        return bytes;
    }

    Tensor? Unpack()
    {
        if (packed is null) return null;
        using var noGrad = no_grad();
        using var dense = packed.to_dense();
        Assign(dense.view(Shape));
        return value;
    }

    /// <summary>Allocates the tensor and fills it as training from scratch starts.</summary>
    public void Initialize(Generator generator, ScalarType dtype = ScalarType.Float32)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();                           // in-place operators return new handles
        var fresh = empty(Shape, dtype);
        initializer(fresh, generator);
        Assign(fresh);
    }

    bool IsFloatingPoint => value is { } v && v.is_floating_point();

    public static implicit operator Tensor(Parameter parameter) => parameter.Value;

    public void Dispose()
    {
        value?.Dispose();
        packed?.Dispose();
        value = packed = null;
    }
}
