using System.Buffers.Binary;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Panoptes.Data;

/// <summary>How a column of a <see cref="ParquetFile"/> can be read; <see cref="Other"/> not at all.</summary>
enum ParquetKind { Text, Bytes, Int32, Int64, Other }

/// <summary>A field at the top of a Parquet file's schema: what it holds in words, and which column chunk of each row group has its values.</summary>
sealed record ParquetColumn(string Name, ParquetKind Kind, string Holds, bool Optional, int Leaf);

/// <summary>
/// Reads the columns of text, bytes and whole numbers of a Parquet file (github.com/apache/parquet-format, both versions of data pages).
/// Files are hostile until parsed: every length is checked before it is used, every loop consumes input, and a file may unpack to no more
/// than <see cref="Ratio"/> times its size. Parquet.Net, which writes our files, does not hold that: on damage it reads a number beyond
/// the footer's end for ever, allocates pages and lists as large as they claim to be, and gives out what was in its buffers before.
/// </summary>
sealed class ParquetFile : IDisposable
{
    /// <summary>How many times its own size a file may unpack to, beyond <see cref="Allowance"/> bytes.</summary>
    const int Ratio = 100;

    const int Allowance = 16 << 20;

    readonly string path;
    readonly SafeFileHandle handle;
    readonly long length;
    readonly List<Group> groups = [];
    long budget;

    ParquetFile(string path)
    {
        this.path = path;
        handle = File.OpenHandle(path);
        length = RandomAccess.GetLength(handle);
        budget = length * Ratio + Allowance;
    }

    /// <summary>The fields of the schema, in order.</summary>
    public IReadOnlyList<ParquetColumn> Columns { get; private set; } = [];

    /// <summary>The rows of all row groups: no more than the file has bits.</summary>
    public int Rows { get; private set; }

    /// <exception cref="PanoptesException">It is no Parquet file, or a damaged one.</exception>
    /// <exception cref="IOException">The file cannot be opened or read.</exception>
    public static ParquetFile Open(string path)
    {
        var file = new ParquetFile(path);
        try
        {
            file.Guard(file.ReadFooter);
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    public void Dispose() => handle.Dispose();

    /// <summary>The texts of a column [rows], null where a row has none; equal ones of a dictionary are one object.</summary>
    /// <exception cref="PanoptesException">The column is damaged.</exception>
    public string?[] Texts(ParquetColumn column)
    {
        var texts = Read(column, (encoding, data, count) => Array.ConvertAll(ParquetValues.ByteArrays(encoding, data, count, Charge), static b => Encoding.UTF8.GetString(b.Span)));
        Guard(() =>
        {
            foreach (var text in texts) Charge(text?.Length ?? 0);                      // a long one may be in every row, and copied by whoever reads it
        });
        return texts;
    }

    /// <summary>The byte arrays of a column [rows], empty where a row has none.</summary>
    /// <exception cref="PanoptesException">The column is damaged.</exception>
    public ReadOnlyMemory<byte>[] Bytes(ParquetColumn column) => Read(column, (encoding, data, count) => ParquetValues.ByteArrays(encoding, data, count, Charge));

    /// <summary>The whole numbers of a column [rows], null where a row has none.</summary>
    /// <exception cref="PanoptesException">The column is damaged.</exception>
    public long?[] Numbers(ParquetColumn column) =>
        Read(column, (encoding, data, count) => Array.ConvertAll(ParquetValues.Numbers(encoding, data, count, column.Kind == ParquetKind.Int32), static n => (long?)n));

    // ---- the footer: numbers of fields and of types are those of parquet.thrift

    sealed record Group(int Rows, List<Chunk> Chunks);

    sealed record Chunk(int Codec, long Start, long Values);

    sealed record Element(string Name, int Type, int Repetition, int Children, int Converted, int Logical);

    void ReadFooter()
    {
        if (length < 12) throw new InvalidDataException($"it has {length} bytes.");
        var tail = ReadAt(length - 8, 8).Span;
        if (!ReadAt(0, 4).Span.SequenceEqual("PAR1"u8) || !tail[4..].SequenceEqual("PAR1"u8))
            throw new InvalidDataException("it does not begin and end with PAR1.");
        var size = BinaryPrimitives.ReadInt32LittleEndian(tail);
        if (size < 0 || size > length - 12) throw new InvalidDataException($"it claims a footer of {size} bytes.");
        var bytes = new ByteReader(ReadAt(length - 8 - size, size));
        List<Element> schema = [];
        for (var id = 0; bytes.Next(ref id, out var type);)
        {
            switch (id)
            {
                case 2: schema = bytes.Structs(type, ReadElement); break;
                case 4: groups.AddRange(bytes.Structs(type, ReadGroup)); break;
                default: bytes.Skip(type); break;
            }
        }
        Columns = Fields(schema, out var leaves);
        var rows = 0L;
        foreach (var group in groups)
        {
            // A run can repeat a value without end, but what rows are read for here, paths and images, differs: a bit a row is a bound.
            rows += group.Rows;
            if (rows > Math.Min(length * 8, Array.MaxLength)) throw new InvalidDataException($"it claims {rows} rows in {length} bytes.");
            if (group.Chunks.Count != leaves) throw new InvalidDataException($"a row group has {group.Chunks.Count} columns, but the schema {leaves}.");
        }
        Rows = (int)rows;
    }

    /// <summary>The fields at the top of a schema, which lists the nodes of a tree, each before its children.</summary>
    static List<ParquetColumn> Fields(List<Element> schema, out int leaves)
    {
        var fields = new List<ParquetColumn>();
        leaves = 0;
        for (var i = 1; i < schema.Count;)
        {
            var (field, leaf) = (schema[i], leaves);
            for (var left = 1L; left > 0; i++)
            {
                if (i == schema.Count || schema[i].Children < 0) throw new InvalidDataException($"the field {field.Name} has children that the schema does not list.");
                left += schema[i].Children - 1;
                if (schema[i].Children == 0) leaves++;
            }
            var kind = KindOf(field);
            var holds = field.Children > 0 || field.Repetition > 1 ? "lists or structures" : kind == ParquetKind.Other ? "values of another type" : $"{kind} values";
            fields.Add(new(field.Name, kind, holds, field.Repetition == 1, leaf));
        }
        return fields;
    }

    static ParquetKind KindOf(Element field) => field switch
    {
        { Children: > 0 } or { Repetition: not (0 or 1) } => ParquetKind.Other,
        { Type: 6, Converted: 0 or 4 } or { Type: 6, Converted: -1, Logical: 1 or 4 } => ParquetKind.Text,                       // UTF8, ENUM; STRING, ENUM
        { Type: 6, Converted: -1, Logical: -1 } => ParquetKind.Bytes,
        { Type: 1, Converted: -1 or 11 or 12 or 15 or 16 or 17, Logical: -1 or 10 } => ParquetKind.Int32,                         // UINT_8, UINT_16, INT_8, INT_16, INT_32; INTEGER
        { Type: 2, Converted: -1 or 18, Logical: -1 or 10 } => ParquetKind.Int64,                                                 // INT_64
        _ => ParquetKind.Other,
    };

    static Element ReadElement(ByteReader bytes)
    {
        var element = new Element("", -1, 0, 0, -1, -1);
        for (var id = 0; bytes.Next(ref id, out var type);)
        {
            switch (id)
            {
                case 1: element = element with { Type = bytes.Int32(type) }; break;
                case 3: element = element with { Repetition = bytes.Int32(type) }; break;
                case 4: element = element with { Name = bytes.Text(type) }; break;
                case 5: element = element with { Children = bytes.Int32(type) }; break;
                case 6: element = element with { Converted = bytes.Int32(type) }; break;
                case 10 when type == ThriftType.Struct:
                    for (var union = 0; bytes.Next(ref union, out var one); bytes.Skip(one)) element = element with { Logical = union };
                    break;
                default: bytes.Skip(type); break;
            }
        }
        return element;
    }

    static Group ReadGroup(ByteReader bytes)
    {
        var (rows, chunks) = (-1L, new List<Chunk>());
        for (var id = 0; bytes.Next(ref id, out var type);)
        {
            switch (id)
            {
                case 1: chunks = bytes.Structs(type, ReadChunk); break;
                case 3: rows = bytes.Integer(type); break;
                default: bytes.Skip(type); break;
            }
        }
        return rows is >= 0 and <= int.MaxValue ? new((int)rows, chunks) : throw new InvalidDataException($"it has a row group of {rows} rows.");
    }

    static Chunk ReadChunk(ByteReader bytes)
    {
        var (codec, values, data, dictionary) = (0, -1L, -1L, 0L);
        for (var id = 0; bytes.Next(ref id, out var type);)
        {
            if (id == 1) throw new InvalidDataException("its columns are in other files.");
            if (id != 3 || type != ThriftType.Struct)
            {
                bytes.Skip(type);
                continue;
            }
            for (var inner = 0; bytes.Next(ref inner, out type);)
            {
                switch (inner)
                {
                    case 4: codec = bytes.Int32(type); break;
                    case 5: values = bytes.Integer(type); break;
                    case 9: data = bytes.Integer(type); break;
                    case 11: dictionary = bytes.Integer(type); break;
                    default: bytes.Skip(type); break;
                }
            }
        }
        return new(codec, dictionary > 0 ? Math.Min(dictionary, data) : data, values);
    }

    // ---- pages

    const int DataPage = 0, DictionaryPage = 2, DataPage2 = 3;

    /// <summary>No page header is longer: it has the extremes of the page's values at most.</summary>
    const int HeaderLength = 1 << 16;

    /// <summary>A header takes as long as this many bytes, so that pages without values cannot be walked through again and again.</summary>
    const int HeaderCost = 256;

    record struct Page(int Type, int Unpacked, int Packed, int Values, int Encoding, int LevelEncoding, int LevelBytes, int RepetitionBytes, bool Compressed);

    static Page ReadPageHeader(ByteReader bytes)
    {
        var page = new Page { Type = -1, Packed = -1, Unpacked = -1, Values = -1, LevelEncoding = ParquetValues.Rle, Compressed = true };
        for (var id = 0; bytes.Next(ref id, out var type);)
        {
            switch (id)
            {
                case 1: page.Type = bytes.Int32(type); break;
                case 2: page.Unpacked = bytes.Int32(type); break;
                case 3: page.Packed = bytes.Int32(type); break;
                case 5 or 7 or 8 when type == ThriftType.Struct:                        // what only a data page, a dictionary or a data page of version 2 has
                    for (var inner = 0; bytes.Next(ref inner, out type);)
                    {
                        switch (id, inner)
                        {
                            case (_, 1): page.Values = bytes.Int32(type); break;
                            case (5 or 7, 2) or (8, 4): page.Encoding = bytes.Int32(type); break;
                            case (5, 3): page.LevelEncoding = bytes.Int32(type); break;
                            case (8, 5): page.LevelBytes = bytes.Int32(type); break;
                            case (8, 6): page.RepetitionBytes = bytes.Int32(type); break;
                            case (8, 7): page.Compressed = type == ThriftType.True; break;
                            default: bytes.Skip(type); break;
                        }
                    }
                    break;
                default: bytes.Skip(type); break;
            }
        }
        return page;
    }

    T[] Read<T>(ParquetColumn column, Func<int, ByteReader, int, T[]> decode)
    {
        var values = new T[Rows];
        Guard(() =>
        {
            var row = 0;
            foreach (var group in groups)
            {
                ReadPages(group.Chunks[column.Leaf], column, values.AsSpan(row, group.Rows), decode);
                row += group.Rows;
            }
        });
        return values;
    }

    void ReadPages<T>(Chunk chunk, ParquetColumn column, Span<T> values, Func<int, ByteReader, int, T[]> decode)
    {
        if (chunk.Values != values.Length) throw new InvalidDataException($"the column {column.Name} has {chunk.Values} values in {values.Length} rows.");
        var at = chunk.Start;
        var window = new ByteReader(default);                                           // of the file, from `at` on
        T[]? dictionary = null;
        while (values.Length > 0)
        {
            if (at < 4 || at >= length) throw new InvalidDataException($"the column {column.Name} has a page at byte {at} of {length}.");
            if (window.Left < HeaderLength && window.Left < length - at) window = new(ReadAt(at, (int)Math.Min(2 * HeaderLength, length - at)));
            var left = window.Left;
            var page = ReadPageHeader(window);
            var head = left - window.Left;
            at += head;
            if (page.Packed < 0 || page.Packed > length - at || page.Unpacked < 0)
                throw new InvalidDataException($"the column {column.Name} has a page of {page.Packed} bytes, {page.Unpacked} unpacked.");
            Charge(HeaderCost + head + Math.Max(page.Packed, page.Unpacked));
            var inside = page.Packed <= window.Left;
            var bytes = inside ? window.Take(page.Packed) : ReadAt(at, page.Packed);
            if (!inside) window = new(default);
            at += page.Packed;
            if (page.Type == DictionaryPage)
            {
                var entries = ParquetValues.Unpack(chunk.Codec, bytes, page.Unpacked);
                if (page.Values < 0 || page.Values > entries.Left)
                    throw new InvalidDataException($"the column {column.Name} has a dictionary of {page.Values} entries in {entries.Left} bytes.");
                dictionary = decode(ParquetValues.Plain, entries, page.Values);
            }
            if (page.Type is not (DataPage or DataPage2)) continue;                     // an index, or what comes after this version
            if (page.Values < 0 || page.Values > values.Length)
                throw new InvalidDataException($"the column {column.Name} has a page of {page.Values} values where {values.Length} are left.");

            ReadOnlyMemory<byte> levels = default;
            var data = new ByteReader(bytes);
            if (page.Type == DataPage2)
            {
                data.Take(page.RepetitionBytes);
                levels = data.Take(page.LevelBytes);
                data = ParquetValues.Unpack(page.Compressed ? chunk.Codec : 0, data.Take(data.Left), page.Unpacked - page.LevelBytes - page.RepetitionBytes);
            }
            else
            {
                data = ParquetValues.Unpack(chunk.Codec, bytes, page.Unpacked);
                if (column.Optional && page.LevelEncoding != ParquetValues.Rle)
                    throw new InvalidDataException($"the column {column.Name} has its nulls in the encoding {page.LevelEncoding}.");
                if (column.Optional) levels = data.Take(data.Int32());
            }
            var there = column.Optional ? ParquetValues.Hybrid(new(levels), 1, page.Values) : null;
            var count = there is null ? page.Values : there.AsSpan().Count(1);
            T[] found = count == 0 ? []
                : page.Encoding is not (ParquetValues.PlainDictionary or ParquetValues.RleDictionary) ? decode(page.Encoding, data, count)
                : ParquetValues.LookUp(dictionary ?? throw new InvalidDataException($"the column {column.Name} has no dictionary before its first page."), data, count);
            if (there is null) found.CopyTo(values);
            else for (int i = 0, next = 0; i < there.Length; i++) values[i] = there[i] == 1 ? found[next++] : default!;
            values = values[page.Values..];
        }
    }

    /// <summary>Counts what the file unpacks to; columns and row groups can name the same pages again and again.</summary>
    void Charge(long bytes)
    {
        if ((budget -= bytes) < 0) throw new InvalidDataException($"its {length} bytes unpack to more than {Ratio} times as many.");
    }

    ReadOnlyMemory<byte> ReadAt(long at, int count)
    {
        var bytes = GC.AllocateUninitializedArray<byte>(count);
        for (var read = 0; read < count;)
        {
            var more = RandomAccess.Read(handle, bytes.AsSpan(read), at + read);
            read += more > 0 ? more : throw new InvalidDataException($"it has ended at byte {at + read} of {length}.");
        }
        return bytes;
    }

    void Guard(Action read)
    {
        try
        {
            read();
        }
        catch (InvalidDataException e)
        {
            throw new PanoptesException($"{path} is not a Parquet file that can be read: {e.Message}", e);
        }
    }
}
