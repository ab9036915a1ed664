using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using System.Text;

namespace Panoptes.Checkpoints;

/// <summary>
/// Reads Python pickles, protocols 0 to 5, as data: numbers, text, bytes, lists, tuples, dicts, sets, and PyTorch's tensors. It can build nothing else;
/// every other global is refused by name, whatever the pickle wants to do with it. Work and memory are bounded by the pickle's length.
/// </summary>
/// <remarks>Opcodes as in Python's pickletools; the functions that rebuild tensors as in torch/_utils.py.</remarks>
sealed class Unpickler(string source, bool scriptClasses, Func<string, ScalarType?, int, long, PickleStorage> storage)
{
    /// <summary>The longest pickle that is read, in bytes: those of real models have a few hundred bytes a tensor.</summary>
    public const int MaxLength = 32 << 20;

    static readonly object Mark = new();
    static readonly UTF8Encoding Utf8 = new(false, throwOnInvalidBytes: true);

    readonly Dictionary<long, object?> memo = [];
    readonly List<object?> stack = [];

    long length, copied;

    /// <summary>Something that a global of the pickle stands for.</summary>
    sealed record Known(string Name, Func<Unpickler, object?[], object?>? Call = null, ScalarType? Type = null, int Size = 0, bool IsStorage = false)
    {
        public override string ToString() => Name;
    }

    static readonly Dictionary<string, Known> Globals = MakeGlobals();
    static readonly Known ScriptClass = new("__torch__", static (_, _) => new PickleDict { IsScriptObject = true });

    /// <summary>How many opcodes have been read, which bounds how much a walk over the result may visit.</summary>
    public long Steps { get; private set; }

    /// <summary>Reads one pickle from the start of <paramref name="data"/> and returns its value and its length.</summary>
    /// <exception cref="PanoptesException">It is malformed, or names a global that is not data.</exception>
    public (object? Value, int Length) Read(ReadOnlySpan<byte> data)
    {
        memo.Clear();
        stack.Clear();
        (length, copied) = (data.Length, 0);
        var reader = new Reader(data, source);
        while (true)
        {
            Steps++;
            var opcode = reader.Byte();
            switch (opcode)
            {
                case 0x80:                                                           // PROTO
                    if (reader.Byte() is var protocol and > 5) throw Bad($"protocol {protocol} is newer than 5");
                    break;
                case 0x95: reader.Int64(); break;                                    // FRAME: its length is only a hint
                case (byte)'.': return (Pop(), reader.Position);                     // STOP
                case (byte)'(': stack.Add(Mark); break;
                case (byte)'0': stack.RemoveAt(Top()); break;                        // POP
                case (byte)'1': PopToMark(); break;                                  // POP_MARK
                case (byte)'2': stack.Add(stack[Top()]); break;                      // DUP
                case (byte)'N': stack.Add(null); break;
                case 0x88: stack.Add(true); break;
                case 0x89: stack.Add(false); break;
                case (byte)'I': stack.Add(Integer(reader.Line())); break;
                case (byte)'L': stack.Add(Small(Whole(reader.Line().TrimEnd('L')))); break;
                case (byte)'J': stack.Add((long)reader.Int32()); break;
                case (byte)'K': stack.Add((long)reader.Byte()); break;
                case (byte)'M': stack.Add((long)reader.UInt16()); break;
                case 0x8a: stack.Add(Long(reader.Bytes(reader.Byte()))); break;      // LONG1
                case 0x8b: stack.Add(Long(reader.Bytes(reader.Int32()))); break;     // LONG4
                case (byte)'F': stack.Add(Float(reader.Line())); break;
                case (byte)'G': stack.Add(BinaryPrimitives.ReadDoubleBigEndian(reader.Bytes(8))); break;
                case (byte)'V': stack.Add(reader.Line()); break;                     // UNICODE
                case (byte)'X': stack.Add(Text(reader.Bytes(reader.UInt32()))); break;
                case 0x8c: stack.Add(Text(reader.Bytes(reader.Byte()))); break;
                case 0x8d: stack.Add(Text(reader.Bytes(reader.Int64()))); break;
                case (byte)'S': stack.Add(Quoted(reader.Line())); break;             // STRING, from Python 2
                case (byte)'T': stack.Add(Latin1(reader.Bytes(reader.Int32()))); break;
                case (byte)'U': stack.Add(Latin1(reader.Bytes(reader.Byte()))); break;
                case (byte)'B': stack.Add(reader.Bytes(reader.UInt32()).ToArray()); break;
                case (byte)'C': stack.Add(reader.Bytes(reader.Byte()).ToArray()); break;
                case 0x8e or 0x96: stack.Add(reader.Bytes(reader.Int64()).ToArray()); break;
                case (byte)']' or 0x8f: stack.Add(new PickleList()); break;          // EMPTY_LIST, EMPTY_SET
                case (byte)'}': stack.Add(new PickleDict()); break;
                case (byte)')': stack.Add(Array.Empty<object?>()); break;
                case (byte)'t': stack.Add(PopToMark()); break;                       // TUPLE
                case 0x85: PushTuple(1); break;
                case 0x86: PushTuple(2); break;
                case 0x87: PushTuple(3); break;
                case (byte)'l' or 0x91:                                              // LIST, FROZENSET
                    var list = new PickleList();
                    list.AddRange(PopToMark());
                    stack.Add(list);
                    break;
                case (byte)'d':                                                      // DICT
                    var dict = new PickleDict();
                    SetItems(dict, PopToMark());
                    stack.Add(dict);
                    break;
                case (byte)'a':                                                      // APPEND
                    var item = Pop();
                    Peek<PickleList>("APPEND").Add(item);
                    break;
                case (byte)'e' or 0x90:                                              // APPENDS, ADDITEMS
                    var items = PopToMark();
                    Peek<PickleList>("APPENDS").AddRange(items);
                    break;
                case (byte)'s':                                                      // SETITEM
                    var value = Pop();
                    var key = Pop();
                    Peek<PickleDict>("SETITEM").Add(key, value);
                    break;
                case (byte)'u':                                                      // SETITEMS
                    var pairs = PopToMark();
                    SetItems(Peek<PickleDict>("SETITEMS"), pairs);
                    break;
                case (byte)'p': memo[Index(reader.Line())] = Peek(); break;
                case (byte)'q': memo[reader.Byte()] = Peek(); break;
                case (byte)'r': memo[reader.UInt32()] = Peek(); break;
                case 0x94: memo[memo.Count] = Peek(); break;                         // MEMOIZE
                case (byte)'g': stack.Add(Recall(Index(reader.Line()))); break;
                case (byte)'h': stack.Add(Recall(reader.Byte())); break;
                case (byte)'j': stack.Add(Recall(reader.UInt32())); break;
                case (byte)'c':                                                      // GLOBAL
                    var module = reader.Line();
                    stack.Add(Global(module, reader.Line()));
                    break;
                case 0x93:                                                           // STACK_GLOBAL
                    var name = Pop();
                    stack.Add(Global(Pop() as string ?? "?", name as string ?? "?"));
                    break;
                case (byte)'Q': stack.Add(Persistent(Pop())); break;                 // BINPERSID
                case (byte)'R':                                                      // REDUCE
                    var arguments = Pop() as object?[] ?? throw Bad("REDUCE without a tuple of arguments");
                    stack.Add(Call(Pop(), arguments));
                    break;
                case 0x81:                                                           // NEWOBJ
                    var initial = Pop() as object?[] ?? throw Bad("NEWOBJ without a tuple of arguments");
                    stack.Add(Call(Pop(), initial));
                    break;
                case (byte)'b': Build(Pop()); break;                                 // BUILD
                case (byte)'i': throw Refuse($"{reader.Line()}.{reader.Line()}");    // INST
                case (byte)'o': throw Bad("opcode OBJ would make an object of a class");
                case 0x92: throw Bad("opcode NEWOBJ_EX would make an object of a class");
                case 0x82 or 0x83 or 0x84: throw Bad("opcode EXT names an object by number");
                default: throw Bad($"opcode 0x{opcode:x2} at byte {reader.Position - 1} is not one that PyTorch writes");
            }
        }
    }

    static Dictionary<string, Known> MakeGlobals()
    {
        var known = new Dictionary<string, Known>(StringComparer.Ordinal);
        void Add(string name, Func<Unpickler, object?[], object?>? call = null) => known[name] = new(name, call);

        Add("collections.OrderedDict", static (u, a) => u.MakeDict(a));
        Add("collections.Counter", static (u, a) => u.MakeDict(a));
        foreach (var builtins in (ReadOnlySpan<string>)["builtins", "__builtin__"])
        {
            Add(builtins + ".dict", static (u, a) => u.MakeDict(a));
            foreach (var type in (ReadOnlySpan<string>)["set", "frozenset", "list"]) Add($"{builtins}.{type}", static (u, a) => u.MakeList(a));
            Add(builtins + ".bytearray", static (u, a) => a is [] ? Array.Empty<byte>() : a is [byte[] b] ? b : a is [string s, string] ? u.Encode(s) : throw u.Bad("bytearray of something else than bytes"));
        }
        Add("_codecs.encode", static (u, a) => a is [string s, "latin1" or "latin-1"] ? u.Encode(s) : throw u.Bad("_codecs.encode of something else than Latin-1 text"));
        Add("torch.Size", static (u, a) => a is [object?[] size] ? size : a is [PickleList list] ? u.Charge(list.Items.Count, list.Items).ToArray() : a is [] ? a : throw u.Bad("torch.Size without a tuple"));
        Add("torch.device", static (u, a) => a is [string device, ..] ? device : throw u.Bad("torch.device without a name"));
        Add("torch._utils._rebuild_tensor", static (u, a) => u.Tensor(a, null));
        Add("torch._utils._rebuild_tensor_v2", static (u, a) => u.Tensor(a, null));
        Add("torch._utils._rebuild_tensor_v3", static (u, a) => a is [_, _, _, _, _, _, Known { Type: { } type, Size: var size }, ..] ? u.Tensor(a, (type, size)) : throw u.Bad("a tensor whose type is no type"));
        foreach (var rebuild in (ReadOnlySpan<string>)["_rebuild_parameter", "_rebuild_parameter_with_state"])
            Add("torch._utils." + rebuild, static (u, a) => a is [PickleTensor tensor, ..] ? tensor : throw u.Bad("a parameter without a tensor"));
        Add("torch.Tensor");
        Add("torch.nn.parameter.Parameter", static (u, a) => a is [PickleTensor tensor, ..] ? tensor : throw u.Bad("a parameter without a tensor"));
        Add("torch._tensor._rebuild_from_type_v2", static (u, a) => a is [Known { Call: not null } function, Known { Name: "torch.Tensor" or "torch.nn.parameter.Parameter" }, object?[] arguments, ..]
            && function.Name.StartsWith("torch._utils._rebuild", StringComparison.Ordinal) ? u.Call(function, arguments) : throw u.Bad("a tensor of a class that is not plain"));
        foreach (var build in (ReadOnlySpan<string>)["build_intlist", "build_doublelist", "build_boollist", "build_tensorlist"])
            Add("torch.jit._pickle." + build, static (u, a) => u.MakeList(a));
        Add("torch.jit._pickle.restore_type_tag", static (u, a) => a is [var tagged, string] ? tagged : throw u.Bad("a type tag without a value"));

        (string Storage, string[] Types, int Number, int Size)[] types =
        [
            ("DoubleStorage", ["float64", "double"], 7, 8), ("FloatStorage", ["float32", "float"], 6, 4), ("HalfStorage", ["float16", "half"], 5, 2),
            ("BFloat16Storage", ["bfloat16"], 15, 2), ("LongStorage", ["int64", "long"], 4, 8), ("IntStorage", ["int32", "int"], 3, 4),
            ("ShortStorage", ["int16", "short"], 2, 2), ("CharStorage", ["int8"], 1, 1), ("ByteStorage", ["uint8"], 0, 1), ("BoolStorage", ["bool"], 11, 1),
            ("ComplexFloatStorage", ["complex64", "cfloat"], 9, 8), ("ComplexDoubleStorage", ["complex128", "cdouble"], 10, 16),
            ("", ["float8_e5m2"], 23, 1), ("", ["float8_e4m3fn"], 24, 1), ("", ["float8_e5m2fnuz"], 25, 1), ("", ["float8_e4m3fnuz"], 26, 1), ("", ["float8_e8m0fnu"], 44, 1),
            ("", ["uint16"], 27, 2), ("", ["uint32"], 28, 4), ("", ["uint64"], 29, 8),
        ];
        foreach (var (storage, names, number, size) in types)
        {
            foreach (var name in names) known["torch." + name] = new("torch." + name, null, (ScalarType)number, size);
            if (storage.Length == 0) continue;
            foreach (var module in (ReadOnlySpan<string>)["torch", "torch.cuda"]) known[$"{module}.{storage}"] = new($"{module}.{storage}", null, (ScalarType)number, size, true);
        }
        foreach (var name in (ReadOnlySpan<string>)["torch.UntypedStorage", "torch.storage.UntypedStorage"]) known[name] = new(name, null, null, 1, true);
        return known;
    }

    Known Global(string module, string name)
    {
        if (Globals.TryGetValue($"{module}.{name}", out var known)) return known;
        // A TorchScript class is only a bag of attributes here: none of its code is ever looked at.
        if (scriptClasses && (module == "__torch__" || module.StartsWith("__torch__.", StringComparison.Ordinal))) return ScriptClass;
        // Lightning's checkpoints, such as Stable Diffusion's first, list what their trainer called back by its class: a name, which nothing can be made of.
        if (module.StartsWith("pytorch_lightning.", StringComparison.Ordinal)) return new($"{module}.{name}");
        throw Refuse($"{module}.{name}");
    }

    object? Call(object? function, object?[] arguments) => function is Known { Call: { } call } ? call(this, arguments)
        : throw Bad($"{(function as Known)?.Name ?? "something that is no function"} is called");

    void Build(object? state)
    {
        // OrderedDict carries attributes (_metadata) that a state dict does not need; a TorchScript object's attributes are its content.
        if (Peek() is not PickleDict target) throw Bad("BUILD sets the state of something that has none");
        if (state is PickleDict attributes && target is { IsScriptObject: true, Mutable: null }) target.Mutable = attributes.Mutable;
    }

    PickleStorage Persistent(object? id)
    {
        if (id is not object?[] { Length: >= 5 } tuple || tuple[0] is not "storage") throw Bad("a persistent id that is not a storage");
        if (tuple[1] is not Known { IsStorage: true } type || tuple[2] is not string key || tuple[4] is not long count || count < 0)
            throw Bad("a storage without type, key and size");
        if (count > long.MaxValue / 16) throw Bad($"storage {key} claims {count} elements");
        var whole = storage(key, type.Type, type.Size, count);
        // Legacy files may describe a part of a storage as (key of the part, offset, size).
        if (tuple is not [_, _, _, _, _, object?[] part, ..]) return whole;
        if (part is not [string partKey, long begin, long size] || begin < 0 || size < 0 || begin > count || size > count - begin) throw Bad($"storage {key} has a view beyond its {count} elements");
        return new(partKey, type.Type, type.Size, size, whole, begin * type.Size);
    }

    PickleTensor Tensor(object?[] arguments, (ScalarType Type, int Size)? explicitType)
    {
        if (arguments is not [PickleStorage from, long offset, var sizes, var steps, ..]) throw Bad("a tensor without storage, offset, size and stride");
        long[] shape = Integers(sizes), strides = Integers(steps);
        var (type, size) = explicitType ?? (from.Type ?? throw Bad("a tensor without a type"), from.ElementSize);
        var available = from.Count * from.ElementSize / size;
        if (shape.Length != strides.Length) throw Bad($"a tensor with {shape.Length} dimensions and {strides.Length} strides");
        Int128 last = offset, count = 1;
        for (var i = 0; i < shape.Length; i++)
        {
            if (shape[i] < 0 || strides[i] < 0) throw Bad($"a tensor of shape [{string.Join(", ", shape)}] and strides [{string.Join(", ", strides)}]");
            last += (Int128)Math.Max(shape[i] - 1, 0) * strides[i];
            count *= shape[i];
            if (last > long.MaxValue || count > long.MaxValue / 16) throw Bad($"a tensor of shape [{string.Join(", ", shape)}]");
        }
        if (offset < 0 || offset > available || count > 0 && last >= available)
            throw Bad($"a tensor of shape [{string.Join(", ", shape)}], strides [{string.Join(", ", strides)}] and offset {offset} goes beyond its storage of {available} elements");
        return new(from, type, size, offset, shape, strides);
    }

    long[] Integers(object? value)
    {
        var items = value switch { object?[] tuple => tuple, PickleList list => list.Items, _ => throw Bad("a size that is not a tuple") };
        if (items.Count > 32) throw Bad($"a tensor with {items.Count} dimensions");
        var numbers = new long[items.Count];
        for (var i = 0; i < numbers.Length; i++) numbers[i] = items[i] is long n ? n : throw Bad("a size that is not whole");
        return numbers;
    }

    PickleDict MakeDict(object?[] arguments)
    {
        var dict = new PickleDict();
        if (arguments is []) return dict;
        if (arguments is not [var only]) throw Bad("a dict of several arguments");
        if (only is PickleDict other) dict.Mutable = other.Mutable;
        else
            foreach (var pair in only is PickleList list ? list.Items : only as object?[] ?? throw Bad("a dict of something else than pairs"))
            {
                Charge(1);
                IReadOnlyList<object?> both = pair is PickleList l ? l.Items : pair as object?[] ?? [];
                if (both.Count != 2) throw Bad("a dict of something else than pairs");
                dict.Add(both[0], both[1]);
            }
        return dict;
    }

    PickleList MakeList(object?[] arguments)
    {
        var list = new PickleList();
        if (arguments is [PickleList from]) list = from;                             // a set of a list is read like the list
        else if (arguments is [object?[] tuple])
        {
            Charge(tuple.Length);
            list.AddRange(tuple);
        }
        else if (arguments is not []) throw Bad("a list of something else than a list");
        return list;
    }

    void SetItems(PickleDict dict, object?[] pairs)
    {
        if (pairs.Length % 2 != 0) throw Bad("a dict with a key that has no value");
        for (var i = 0; i < pairs.Length; i += 2) dict.Add(pairs[i], pairs[i + 1]);
    }

    int Top() => stack.Count > 0 ? stack.Count - 1 : throw Bad("an opcode takes from an empty stack");

    object? Peek() => stack[Top()] is var top && !ReferenceEquals(top, Mark) ? top : throw Bad("a mark where a value was expected");

    T Peek<T>(string opcode) where T : class => Peek() as T ?? throw Bad($"{opcode} on something that is no container");

    object? Pop()
    {
        var top = Peek();
        stack.RemoveAt(stack.Count - 1);
        return top;
    }

    object?[] PopToMark()
    {
        var mark = stack.Count - 1;
        while (mark >= 0 && !ReferenceEquals(stack[mark], Mark)) mark--;
        if (mark < 0) throw Bad("an opcode needs a mark that is not there");
        var items = stack.GetRange(mark + 1, stack.Count - mark - 1).ToArray();
        stack.RemoveRange(mark, stack.Count - mark);
        return items;
    }

    void PushTuple(int count)
    {
        var items = new object?[count];
        for (var i = count - 1; i >= 0; i--) items[i] = Pop();
        stack.Add(items);
    }

    object? Recall(long index) => memo.TryGetValue(index, out var value) ? value : throw Bad($"memo entry {index} was never stored");

    object Integer(string line) => line switch { "00" => false, "01" => true, _ => Small(Whole(line)) };

    BigInteger Whole(string line) => line.Length <= 1000 && BigInteger.TryParse(line, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var value) ? value : throw Bad("a number that is none");

    long Index(string line) => Integer(line) as long? ?? throw Bad("a memo index that is no number");

    double Float(string line) => double.TryParse(line, NumberStyles.Float, CultureInfo.InvariantCulture, out var value) ? value : throw Bad("a number that is none");

    static object Long(ReadOnlySpan<byte> bytes) => Small(new BigInteger(bytes));

#pragma warning disable CA1859                                                        // it sees the BigInteger only, and not the long
    static object Small(BigInteger value)
    {
        if (value >= long.MinValue && value <= long.MaxValue) return (long)value;
        return value;
    }
#pragma warning restore CA1859

    string Text(ReadOnlySpan<byte> bytes)
    {
        try
        {
            return Utf8.GetString(bytes);
        }
        catch (DecoderFallbackException e)
        {
            throw new PanoptesException($"{source} is not a sound PyTorch file: text that is not UTF-8.", e);
        }
    }

    static string Latin1(ReadOnlySpan<byte> bytes) => Encoding.Latin1.GetString(bytes);

    string Quoted(string line) => line.Length >= 2 && line[0] is '\'' or '"' && line[^1] == line[0] ? line[1..^1] : throw Bad("text without quotes");

    /// <summary>Counts what is copied from a value that the pickle can name again and again, so that copies stay within its own length.</summary>
    T Charge<T>(long count, T value)
    {
        copied += count;
        return copied <= length ? value : throw Bad("it copies the same values too often");
    }

    void Charge(long count) => Charge(count, count);

    byte[] Encode(string text)
    {
        Charge(text.Length);
        foreach (var c in text)
            if (c > 0xff) throw Bad("_codecs.encode of text that is not Latin-1");
        return Encoding.Latin1.GetBytes(text);
    }

    PanoptesException Refuse(string global) => new($"{source} is refused: its pickle names {global}, and a checkpoint may hold tensors and plain values only.");

    PanoptesException Bad(string what) => new($"{source} is not a sound PyTorch file: {what}.");

    /// <summary>The bytes of the pickle, checked at every step.</summary>
    ref struct Reader(ReadOnlySpan<byte> data, string source)
    {
        readonly ReadOnlySpan<byte> data = data;
        readonly string source = source;

        public int Position { get; private set; }

        public ReadOnlySpan<byte> Bytes(long count)
        {
            if (count < 0 || count > data.Length - Position)
                throw new PanoptesException($"{source} is not a sound PyTorch file: its pickle ends at byte {data.Length} where {count} more bytes were expected after byte {Position}.");
            var bytes = data.Slice(Position, (int)count);
            Position += (int)count;
            return bytes;
        }

        public byte Byte() => Bytes(1)[0];

        public ushort UInt16() => BinaryPrimitives.ReadUInt16LittleEndian(Bytes(2));

        public int Int32() => BinaryPrimitives.ReadInt32LittleEndian(Bytes(4));

        public uint UInt32() => BinaryPrimitives.ReadUInt32LittleEndian(Bytes(4));

        public long Int64() => BinaryPrimitives.ReadInt64LittleEndian(Bytes(8));

        public string Line()
        {
            var length = data[Position..].IndexOf((byte)'\n');
            if (length < 0) throw new PanoptesException($"{source} is not a sound PyTorch file: its pickle ends in the middle of a line.");
            var line = Latin1(Bytes(length));
            Position++;
            return line;
        }
    }
}
