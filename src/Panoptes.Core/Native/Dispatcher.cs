using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using System.Text;

namespace Panoptes.Native;

/// <summary>
/// libtorch's stable C interface (libtorch 2.10 and later): calls any registered operator by name on the tensors that TorchSharp
/// holds, autograd included. TorchSharp wraps only part of libtorch; this is how the rest is reached (attention with scale and
/// grouped queries, packed weights, fused optimizers, autocast). <see cref="TorchOps"/> has the ones in use under typed names.
/// </summary>
/// <remarks>
/// The calling convention (torch/csrc/stable/c/shim.h): a stack of 64-bit values holds every argument of the operator's schema in
/// order, none left out; results come back from index 0. A tensor argument is an <c>at::Tensor*</c> that the call consumes, so a
/// copy of the handle is passed; an optional is null or a malloc'ed cell that the call consumes; a string and a list are handles.
/// Where the library has no such symbols, <see cref="IsAvailable"/> is false and the callers fall back to TorchSharp's own operators.
/// Calls may be made from any thread. One costs about 1.5 µs more than the operator itself, most of it inside libtorch.
/// </remarks>
public static unsafe class Dispatcher
{
    static readonly Symbols? Library = Symbols.TryLoad();
    [ThreadStatic] static bool switchedOff;

    /// <summary>Whether the loaded libtorch exports the stable interface.</summary>
    public static bool IsAvailable => Library is not null && !switchedOff;

    /// <summary>Behaves on this thread as where the symbols are missing, until the result is disposed: how the fallbacks are tested.</summary>
    internal static IDisposable SwitchOff() => new Off();

    sealed class Off : IDisposable
    {
        internal Off() => switchedOff = true;

        public void Dispose() => switchedOff = false;
    }

    /// <summary>Starts a call of <paramref name="name"/> (such as <c>aten::mm</c>), <paramref name="overload"/> as in the schema's name after the dot.</summary>
    /// <exception cref="NotSupportedException">The loaded libtorch has no stable interface.</exception>
    public static OperatorCall Call(string name, string overload = "") => IsAvailable
        ? OperatorCall.Rent(Library!, name, overload)
        : throw new NotSupportedException($"libtorch's stable C interface is not in the loaded library, so {name} cannot be called.");

    /// <summary>The exported functions, as pointers.</summary>
    internal sealed class Symbols
    {
        /// <summary>The libtorch version that this file was written for: 2.10 (major in the top byte, then minor).</summary>
        const ulong BuiltFor = (2UL << 56) | (10UL << 48);

        readonly delegate* unmanaged<byte*, byte*, ulong*, ulong, int> dispatch;
        readonly delegate* unmanaged<nint, nint*, int> copyHandle;
        readonly delegate* unmanaged<byte*, nuint, nint*, int> newString;
        readonly delegate* unmanaged<nuint, nint*, int> newList;
        readonly delegate* unmanaged<nint, ulong, int> append;

        Symbols(nint library)
        {
            dispatch = (delegate* unmanaged<byte*, byte*, ulong*, ulong, int>)NativeLibrary.GetExport(library, "torch_call_dispatcher");
            copyHandle = (delegate* unmanaged<nint, nint*, int>)NativeLibrary.GetExport(library, "aoti_torch_new_tensor_handle");
            newString = (delegate* unmanaged<byte*, nuint, nint*, int>)NativeLibrary.GetExport(library, "torch_new_string_handle");
            newList = (delegate* unmanaged<nuint, nint*, int>)NativeLibrary.GetExport(library, "torch_new_list_reserve_size");
            append = (delegate* unmanaged<nint, ulong, int>)NativeLibrary.GetExport(library, "torch_list_push_back");
        }

        internal static Symbols? TryLoad()
        {
            try
            {
                TorchSharp.torch.InitializeDeviceType(TorchSharp.DeviceType.CPU);    // loads libtorch, wherever it is
                if (LibTorch.Handle == 0) return null;
                var symbols = new Symbols(LibTorch.Handle);
                LibTorch.SilenceErrorLog();
                return symbols;
            }
            catch (EntryPointNotFoundException)
            {
                return null;
            }
        }

        internal int Dispatch(string name, string overload, ulong* stack)
        {
            fixed (byte* n = Utf8(name), o = overload.Length == 0 ? Empty : Utf8(overload)) return dispatch(n, o, stack, BuiltFor);
        }

        internal nint CopyHandle(Tensor tensor)
        {
            nint copy;
            Check(copyHandle(tensor.Handle, &copy), "copying a tensor handle");
            GC.KeepAlive(tensor);
            return copy;
        }

        internal nint NewString(string value)
        {
            var bytes = Utf8(value);
            nint handle;
            fixed (byte* p = bytes) Check(newString(p, (nuint)(bytes.Length - 1), &handle), "making a string");
            return handle;
        }

        internal nint NewList(int capacity)
        {
            nint handle;
            Check(newList((nuint)capacity, &handle), "making a list");
            return handle;
        }

        internal void Append(nint list, ulong value) => Check(append(list, value), "filling a list");

        static void Check(int status, string what)
        {
            if (status != 0) throw new InvalidOperationException($"libtorch's stable C interface failed at {what}.");
        }

        // Operator names and string arguments are few and constant: their zero-terminated bytes are kept.
        static readonly byte[] Empty = [0];
        static readonly ConcurrentDictionary<string, byte[]> Names = new();

        static byte[] Utf8(string text) => Names.GetOrAdd(text, static t => Encoding.UTF8.GetBytes(t + '\0'));
    }
}

/// <summary>One call of an operator being put together; every argument of the schema must be given, in order. Used once, by one thread.</summary>
public sealed unsafe class OperatorCall
{
    const int MaxArguments = 24;

    // A call in the making is kept for the next one on the same thread, so that calling allocates nothing. A call that is an
    // argument of another simply takes a fresh one.
    [ThreadStatic] static OperatorCall? spare;

    readonly ulong[] stack = GC.AllocateArray<ulong>(MaxArguments, pinned: true);
    readonly object?[] given = new object?[MaxArguments];                            // tensors and lists, to name them in an error
    Dispatcher.Symbols library = null!;
    string name = "", overload = "";
    int count;

    OperatorCall() { }

    internal static OperatorCall Rent(Dispatcher.Symbols library, string name, string overload)
    {
        var call = spare ?? new();
        spare = null;
        (call.library, call.name, call.overload, call.count) = (library, name, overload, 0);
        return call;
    }

    public OperatorCall Tensor(Tensor value)
    {
        given[count] = value;
        return Push((ulong)library.CopyHandle(value));
    }

    public OperatorCall OptionalTensor(Tensor? value)
    {
        if (value is null) return Push(0);
        given[count] = value;
        return Push(Cell((ulong)library.CopyHandle(value)));
    }

    public OperatorCall Int(long value) => Push((ulong)value);

    public OperatorCall OptionalInt(long? value) => value is { } v ? Push(Cell((ulong)v)) : Push(0);

    public OperatorCall Bool(bool value) => Push(value ? 1UL : 0UL);

    public OperatorCall Double(double value) => Push(BitConverter.DoubleToUInt64Bits(value));

    public OperatorCall OptionalDouble(double? value) => value is { } v ? Push(Cell(BitConverter.DoubleToUInt64Bits(v))) : Push(0);

    public OperatorCall String(string value) => Push((ulong)library.NewString(value));

    public OperatorCall OptionalString(string? value) => value is null ? Push(0) : Push(Cell((ulong)library.NewString(value)));

    public OperatorCall Ints(params ReadOnlySpan<long> values)
    {
        var list = library.NewList(values.Length);
        foreach (var value in values) library.Append(list, (ulong)value);
        return Push((ulong)list);
    }

    public OperatorCall OptionalInts(params ReadOnlySpan<long> values)
    {
        var list = library.NewList(values.Length);
        foreach (var value in values) library.Append(list, (ulong)value);
        return Push(Cell((ulong)list));
    }

    public OperatorCall Bools(params ReadOnlySpan<bool> values)
    {
        var list = library.NewList(values.Length);
        foreach (var value in values) library.Append(list, value ? 1UL : 0UL);
        return Push((ulong)list);
    }

    public OperatorCall Tensors(IReadOnlyList<Tensor> values)
    {
        given[count] = values;
        var list = library.NewList(values.Count);
        for (var i = 0; i < values.Count; i++) library.Append(list, (ulong)library.CopyHandle(values[i]));
        return Push((ulong)list);
    }

    /// <summary>A list whose elements may be none; none of them is here.</summary>
    public OperatorCall NoOptionalTensors() => Push((ulong)library.NewList(0));

    /// <summary>Runs the operator, which returns nothing (an in-place operator over lists, say).</summary>
    /// <exception cref="InvalidOperationException">libtorch refused the call; the message tells the arguments.</exception>
    public void Invoke()
    {
        Run();
        Return();
    }

    /// <summary>Runs the operator and returns its one tensor, owned by the current dispose scope.</summary>
    /// <exception cref="InvalidOperationException">libtorch refused the call; the message tells the arguments.</exception>
    public Tensor InvokeTensor()
    {
        Run();
        var handle = (nint)stack[0];
        Return();
        return TorchSharp.torch.Tensor.UnsafeCreateTensor(handle);
    }

    /// <summary>Runs the operator and returns its first <paramref name="results"/> tensors, owned by the current dispose scope.</summary>
    /// <exception cref="InvalidOperationException">libtorch refused the call; the message tells the arguments.</exception>
    public Tensor[] InvokeTensors(int results)
    {
        Run();
        var tensors = new Tensor[results];
        for (var i = 0; i < results; i++) tensors[i] = TorchSharp.torch.Tensor.UnsafeCreateTensor((nint)stack[i]);
        Return();
        return tensors;
    }

    void Run()
    {
        if (library is null) throw new InvalidOperationException("An operator call is used once.");
        if (library.Dispatch(name, overload, (ulong*)Marshal.UnsafeAddrOfPinnedArrayElement(stack, 0)) == 0) return;

        var arguments = new List<string>();
        foreach (var value in given.AsSpan(0, count))
            if (value is not null) arguments.Add(Describe(value));
        var message = $"libtorch refused the call of {name}{(overload.Length > 0 ? "." + overload : "")} with {count} arguments, "
            + $"of them the tensors {string.Join(", ", arguments)}.";
        Return();
        throw new InvalidOperationException(message);
    }

    void Return()
    {
        given.AsSpan(0, count).Clear();
        library = null!;
        spare = this;
    }

    OperatorCall Push(ulong value)
    {
        if (count == MaxArguments - 1) throw new InvalidOperationException($"{name} was given more than {MaxArguments - 1} arguments.");
        stack[count++] = value;
        return this;
    }

    static ulong Cell(ulong value)
    {
        var cell = (ulong*)NativeMemory.Alloc(sizeof(ulong));                        // malloc: libtorch frees it
        *cell = value;
        return (ulong)cell;
    }

    static string Describe(object value) => value switch
    {
        Tensor t => $"{t.dtype} [{string.Join(", ", t.shape)}]",
        IReadOnlyList<Tensor> list => $"({list.Count}: {string.Join(", ", list.Take(4).Select(Describe))}{(list.Count > 4 ? ", …" : "")})",
        _ => "",
    };
}
