using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace Panoptes.Native;

/// <summary>
/// libtorch's stable C interface (libtorch 2.10 and later): calls any registered operator by name on the tensors that TorchSharp
/// holds, autograd included. TorchSharp wraps only part of libtorch; this is how the rest is reached (attention with scale and
/// grouped queries, packed weights, fused optimizers, autocast).
/// </summary>
/// <remarks>
/// The calling convention (torch/csrc/stable/c/shim.h): a stack of 64-bit values holds every argument of the operator's schema in
/// order, none left out; results come back from index 0. A tensor argument is an <c>at::Tensor*</c> that the call consumes, so a
/// copy of the handle is passed; an optional is null or a malloc'ed cell that the call consumes; a string and a list are handles.
/// Where the library has no such symbols, <see cref="IsAvailable"/> is false and the callers fall back to TorchSharp's own operators.
/// </remarks>
public static unsafe class Dispatcher
{
    /// <summary>The libtorch version that this file was written for: 2.10 (major in the top byte, then minor).</summary>
    const ulong BuiltFor = (2UL << 56) | (10UL << 48);

    static readonly Symbols? Library = Symbols.TryLoad();

    /// <summary>Whether the loaded libtorch exports the stable interface.</summary>
    public static bool IsAvailable => Library is not null;

    /// <summary>Starts a call of <paramref name="name"/> (such as <c>aten::mm</c>), <paramref name="overload"/> as in the schema's name after the dot.</summary>
    /// <exception cref="NotSupportedException">The loaded libtorch has no stable interface.</exception>
    public static OperatorCall Call(string name, string overload = "") =>
        new(Library ?? throw new NotSupportedException($"libtorch's stable C interface is not in the loaded library, so {name} cannot be called."), name, overload);

    /// <summary>One call being put together; every argument of the schema must be given, in order.</summary>
    public ref struct OperatorCall
    {
        const int MaxArguments = 24;

        readonly Symbols library;
        readonly string name, overload;
        Arguments stack;
        int count;

        internal OperatorCall(Symbols library, string name, string overload) =>
            (this.library, this.name, this.overload) = (library, name, overload);

        public OperatorCall Tensor(Tensor value) => Push((ulong)library.CopyHandle(value));

        public OperatorCall OptionalTensor(Tensor? value) => value is null ? Push(0) : Push(Cell((ulong)library.CopyHandle(value)));

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

        public OperatorCall Tensors(IReadOnlyList<Tensor> values)
        {
            var list = library.NewList(values.Count);
            for (var i = 0; i < values.Count; i++) library.Append(list, (ulong)library.CopyHandle(values[i]));
            return Push((ulong)list);
        }

        /// <summary>Runs the operator, which returns nothing that is kept (an in-place operator over lists, say).</summary>
        /// <exception cref="InvalidOperationException">libtorch refused the call.</exception>
        public void Invoke() => Run();

        /// <summary>Runs the operator and returns its one tensor, owned by the current dispose scope.</summary>
        /// <exception cref="InvalidOperationException">libtorch refused the call.</exception>
        public Tensor InvokeTensor()
        {
            Run();
            return TorchSharp.torch.Tensor.UnsafeCreateTensor((nint)stack[0]);
        }

        /// <summary>Runs the operator and returns its first <paramref name="results"/> tensors.</summary>
        /// <exception cref="InvalidOperationException">libtorch refused the call.</exception>
        public Tensor[] InvokeTensors(int results)
        {
            Run();
            var tensors = new Tensor[results];
            for (var i = 0; i < results; i++) tensors[i] = TorchSharp.torch.Tensor.UnsafeCreateTensor((nint)stack[i]);
            return tensors;
        }

        void Run()
        {
            if (library.Dispatch(name, overload, (ulong*)Unsafe.AsPointer(ref stack[0]), BuiltFor) != 0)
                throw new InvalidOperationException($"libtorch refused the call of {name}{(overload.Length > 0 ? "." + overload : "")} with {count} arguments.");
        }

        OperatorCall Push(ulong value)
        {
            if (count == MaxArguments) throw new InvalidOperationException($"{name} was given more than {MaxArguments} arguments.");
            stack[count++] = value;
            return this;
        }

        static ulong Cell(ulong value)
        {
            var cell = (ulong*)NativeMemory.Alloc(sizeof(ulong));                    // malloc: libtorch frees it
            *cell = value;
            return (ulong)cell;
        }

        [InlineArray(MaxArguments)]
        struct Arguments
        {
            ulong first;
        }
    }

    /// <summary>The exported functions, as pointers.</summary>
    internal sealed class Symbols
    {
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
                return LibTorch.Handle == 0 ? null : new(LibTorch.Handle);
            }
            catch (EntryPointNotFoundException)
            {
                return null;
            }
        }

        internal int Dispatch(string name, string overload, ulong* stack, ulong version)
        {
            fixed (byte* n = Utf8(name), o = Utf8(overload)) return dispatch(n, o, stack, version);
        }

        internal nint CopyHandle(Tensor tensor)
        {
            nint copy;
            Check(copyHandle(tensor.Handle, &copy));
            GC.KeepAlive(tensor);
            return copy;
        }

        internal nint NewString(string value)
        {
            var bytes = Utf8(value);
            nint handle;
            fixed (byte* p = bytes) Check(newString(p, (nuint)(bytes.Length - 1), &handle));
            return handle;
        }

        internal nint NewList(int capacity)
        {
            nint handle;
            Check(newList((nuint)capacity, &handle));
            return handle;
        }

        internal void Append(nint list, ulong value) => Check(append(list, value));

        static void Check(int status, [CallerMemberName] string caller = "")
        {
            if (status != 0) throw new InvalidOperationException($"libtorch's stable C interface failed in {caller}.");
        }

        // Operator names are few and constant: their zero-terminated bytes are kept.
        static readonly System.Collections.Concurrent.ConcurrentDictionary<string, byte[]> Names = new();

        static byte[] Utf8(string text) => Names.GetOrAdd(text, static t => Encoding.UTF8.GetBytes(t + '\0'));
    }
}
