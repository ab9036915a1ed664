using System.Collections.Concurrent;
using System.Reflection;
using System.Text;
using Panoptes.Native;

namespace Panoptes.Nn;

/// <summary>The key of a parameter or submodule where it cannot be spelled as a property's name (<c>QProj</c> is <c>q_proj</c> by itself).</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class KeyAttribute(string name) : Attribute
{
    /// <summary>The key's part, as in the checkpoint; the empty string puts the child's own keys where the parent's are.</summary>
    public string Name { get; } = name;
}

/// <summary>Marks a property that refers to a module or parameter which belongs elsewhere, so that it is not listed twice.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class NotAChildAttribute : Attribute;

/// <summary>
/// Base of every layer and model. Its public properties of type <see cref="Parameter"/> and <see cref="Module"/>, in the order of
/// declaration, are its parameters and children, and their names in snake_case are the keys of the checkpoint: the property
/// <c>QProj</c> of <c>SelfAttn</c> is <c>self_attn.q_proj</c>. A property that is null is not there.
/// </summary>
public abstract class Module : IDisposable
{
    static readonly ConcurrentDictionary<Type, (string Key, PropertyInfo Property)[]> Layouts = new();

    /// <summary>Whether dropout and its like are active. False after building; a trainer switches it on.</summary>
    public bool Training { get; private set; }

    /// <summary>Every parameter and buffer with its key, depth first in the order of declaration; a tied one appears under each of its keys.</summary>
    public IEnumerable<(string Key, Parameter Parameter)> NamedParameters()
    {
        foreach (var (key, child) in Children())
        {
            if (child is Parameter parameter) yield return (key, parameter);
            else if (child is Module module)
                foreach (var (inner, p) in module.NamedParameters()) yield return (Join(key, inner), p);
        }
    }

    /// <summary>Every submodule with its key, this one first under the empty key.</summary>
    public IEnumerable<(string Key, Module Module)> NamedModules()
    {
        yield return ("", this);
        foreach (var (key, child) in Children())
            if (child is Module module)
                foreach (var (inner, m) in module.NamedModules()) yield return (Join(key, inner), m);
    }

    /// <summary>Every parameter and buffer once, a tied one under the first of its keys.</summary>
    public IEnumerable<(string Key, Parameter Parameter)> DistinctParameters() => NamedParameters().DistinctBy(static p => p.Parameter);

    /// <summary>Every parameter and buffer, once.</summary>
    public IEnumerable<Parameter> Parameters() => DistinctParameters().Select(static p => p.Parameter);

    public long ParameterCount => Parameters().Where(static p => p.Trainable).Sum(static p => p.ElementCount);

    /// <summary>Gives every parameter its value for training from scratch, drawn from <paramref name="generator"/> in the order of declaration.</summary>
    public void Initialize(Generator generator)
    {
        foreach (var parameter in Parameters()) parameter.Initialize(generator);
    }

    /// <summary>Switches this module and all below between training and inference.</summary>
    public void Train(bool training = true)
    {
        foreach (var (_, module) in NamedModules())
        {
            module.Training = training;
            module.OnTrainingChanged();
        }
    }

    /// <summary>Whether blocks keep only their inputs for the gradient; see <see cref="CheckpointActivations"/>.</summary>
    public bool ActivationsCheckpointed { get; private set; }

    /// <summary>
    /// Makes every stack of blocks below (a transformer's, a ResNet's) keep only the blocks' inputs in training and compute the rest again for the gradient (or stops that):
    /// the same gradients (but for rounding) for about a third more time and much less memory.
    /// </summary>
    public void CheckpointActivations(bool on = true)
    {
        foreach (var (_, module) in NamedModules()) module.ActivationsCheckpointed = on;
    }

    /// <summary>Freezes (or thaws) every parameter below.</summary>
    public void RequiresGrad(bool requiresGrad)
    {
        foreach (var parameter in Parameters()) parameter.RequiresGrad = requiresGrad;
    }

    /// <summary>Converts every floating-point parameter to <paramref name="dtype"/>, in place.</summary>
    public void To(ScalarType dtype) => Convert(t => t.is_floating_point() && t.dtype != dtype ? t.to(dtype) : null);

    /// <summary>Moves every parameter to <paramref name="device"/>, in place.</summary>
    public void To(Device device) => Convert(t => t.device_type != device.type || t.device_index != device.index ? t.to(device) : null);

    /// <summary>
    /// Prepares for inference: large weights change into the layout that the processor computes with, in place of the plain one, so
    /// that no call has to do it again. Results are the same but for rounding. Whatever reads such a weight (saving, converting, training) gets it back as it was.
    /// </summary>
    public void Pack()
    {
        // A packed weight is a little larger than the plain one, whose memory the next one therefore cannot take.
        const long often = 32 << 20;
        var freed = 0L;
        foreach (var (_, module) in NamedModules())
        {
            freed += module.OnPack();
            if (freed < often) continue;
            NativeMemoryPolicy.GiveBack();
            freed = 0;
        }
        if (freed > 0) NativeMemoryPolicy.GiveBack();
    }

    /// <summary>Packs this module's own weights (see <see cref="Parameter.Pack"/>) and tells how many bytes of plain ones are free now.</summary>
    protected virtual long OnPack() => 0;

    void Convert(Func<Tensor, Tensor?> convert)
    {
        using var noGrad = no_grad();
        foreach (var parameter in Parameters())
            if (parameter.HasValue && convert(parameter.Value) is { } converted) parameter.Assign(converted);
        foreach (var (_, module) in NamedModules()) module.OnTrainingChanged();
    }

    /// <summary>Called when weights or mode have changed: what was derived from the weights (packed copies) is to be dropped.</summary>
    protected virtual void OnTrainingChanged() { }

    /// <summary>The children by key. Lists and other containers override it.</summary>
    protected virtual IEnumerable<(string Key, object? Child)> Children()
    {
        foreach (var (key, property) in Layouts.GetOrAdd(GetType(), Layout)) yield return (key, property.GetValue(this));
    }

    static (string, PropertyInfo)[] Layout(Type type)
    {
        // Base classes first; MetadataToken is the order of declaration.
        var depth = new Dictionary<Type, int>();
        for (var t = type; t is not null; t = t.BaseType) depth[t] = -depth.Count;
        return [.. type.GetProperties(BindingFlags.Instance | BindingFlags.Public)
            .Where(p => p.GetIndexParameters().Length == 0
                && (typeof(Parameter).IsAssignableFrom(p.PropertyType) || typeof(Module).IsAssignableFrom(p.PropertyType))
                && p.GetCustomAttribute<NotAChildAttribute>() is null)
            .OrderBy(p => depth[p.DeclaringType!]).ThenBy(p => p.MetadataToken)
            .Select(p => (p.GetCustomAttribute<KeyAttribute>()?.Name ?? SnakeCase(p.Name), p))];
    }

    static string Join(string left, string right) => left.Length == 0 ? right : right.Length == 0 ? left : $"{left}.{right}";

    /// <summary><c>PreLayrnorm</c> is <c>pre_layrnorm</c>, <c>LayerNorm1</c> is <c>layer_norm1</c>, <c>QProj</c> is <c>q_proj</c>.</summary>
    public static string SnakeCase(string name)
    {
        var key = new StringBuilder(name.Length + 4);
        for (var i = 0; i < name.Length; i++)
        {
            if (char.IsUpper(name[i]) && i > 0) key.Append('_');
            key.Append(char.ToLowerInvariant(name[i]));
        }
        return key.ToString();
    }

    protected virtual void Dispose(bool disposing)
    {
        if (!disposing) return;
        foreach (var (_, child) in Children()) (child as IDisposable)?.Dispose();
    }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }
}

/// <summary>Modules in a row, under the keys 0, 1, 2, ….</summary>
public sealed class ModuleList<T> : Module, IReadOnlyList<T> where T : Module
{
    readonly T[] items;

    public ModuleList(IEnumerable<T> items) => this.items = [.. items];

    /// <summary><paramref name="count"/> modules, each made by <paramref name="make"/> from its index.</summary>
    /// <exception cref="PanoptesException">Fewer than none, or more than any model has.</exception>
    public ModuleList(int count, Func<int, T> make)
        : this(Enumerable.Range(0, count is >= 0 and <= 1000 ? count : throw new PanoptesException($"A model of {count} layers was asked for; expected 0 to 1000.")).Select(make)) { }

    public int Count => items.Length;

    public T this[int index] => items[index];

    public IEnumerator<T> GetEnumerator() => ((IEnumerable<T>)items).GetEnumerator();

    System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => items.GetEnumerator();

    protected override IEnumerable<(string Key, object? Child)> Children()
    {
        for (var i = 0; i < items.Length; i++) yield return (i.ToString(System.Globalization.CultureInfo.InvariantCulture), items[i]);
    }
}
