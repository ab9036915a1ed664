using System.Buffers.Binary;
using System.Text;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Data;
using Parquet;
using Parquet.Schema;

namespace Panoptes.Core.Tests.Data;

/// <summary>The reader of Parquet columns: what others write, every encoding, and files whose damage is known to make readers loop or take all memory.</summary>
public sealed class ParquetFileTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData(CompressionMethod.None)]
    [InlineData(CompressionMethod.Snappy)]
    [InlineData(CompressionMethod.Gzip)]
    [InlineData(CompressionMethod.Brotli)]
    [InlineData(CompressionMethod.Zstd)]
    [InlineData(CompressionMethod.Lz4Raw)]
    public async Task What_Parquet_Net_writes_is_read_whatever_the_compression(CompressionMethod compression)
    {
        var (text, blob) = (new DataField<string>("text", true), new DataField<byte[]>("blob", false));
        var (optional, number) = (new DataField<long?>("optional"), new DataField<int>("number"));
        var texts = Enumerable.Range(0, 3000).Select(static i => i % 7 == 3 ? null : i < 1000 ? $"猫 {i}" : $"cat {i % 11}").ToArray();
        var blobs = Enumerable.Range(0, 3000).Select(static i => BitConverter.GetBytes(i * 0x1234567L)[..(i % 9)]).ToArray();
        var longs = Enumerable.Range(0, 3000).Select(static i => i % 5 == 0 ? (long?)null : i * (long)int.MaxValue * (i % 2 == 0 ? -1 : 1)).ToArray();
        var ints = Enumerable.Range(0, 3000).Select(static i => i % 1000 == 1 ? int.MinValue : i % 1000 == 2 ? int.MaxValue : i).ToArray();
        await using (var stream = File.Create(folder["t.parquet"]))
        await using (var writer = await ParquetWriter.CreateAsync(new ParquetSchema(text, blob, optional, number), stream, new ParquetOptions { CompressionMethod = compression }))
        {
            foreach (var rows in new[] { 0..1000, 1000..1001, 1001..3000 })
            {
                using var group = writer.CreateRowGroup();
                await group.WriteAsync(text, texts[rows]);
                await group.WriteAsync(blob, blobs[rows]);
                await group.WriteAsync<long>(optional, longs[rows]);
                await group.WriteAsync<int>(number, ints[rows]);
                group.CompleteValidate();
            }
        }
        using var file = ParquetFile.Open(folder["t.parquet"]);
        Assert.Equal(["text", "blob", "optional", "number"], file.Columns.Select(static c => c.Name));
        Assert.Equal([ParquetKind.Text, ParquetKind.Bytes, ParquetKind.Int64, ParquetKind.Int32], file.Columns.Select(static c => c.Kind));
        Assert.Equal(texts.AsEnumerable(), file.Texts(file.Columns[0]));
        Assert.Equal(blobs, file.Bytes(file.Columns[1]).Select(static b => b.ToArray()));
        Assert.Equal(longs, file.Numbers(file.Columns[2]));
        Assert.Equal(ints.Select(static i => (long?)i), file.Numbers(file.Columns[3]));
    }

    [Fact]
    public async Task Columns_beside_lists_are_found()
    {
        var (list, name) = (new ListField("list", new DataField<float>(ListField.ElementName, false)), new DataField<string>("name", false));
        await using (var stream = File.Create(folder["t.parquet"]))
        await using (var writer = await ParquetWriter.CreateAsync(new ParquetSchema(list, name), stream))
        {
            using var group = writer.CreateRowGroup();
            var there = list.Item.MaxDefinitionLevel;
            await group.WriteAllPartsAsync<float>((DataField)list.Item, new float[] { 1, 2, 3 }, new[] { there, there, there }, new[] { 0, 1, 0 }, default);
            await group.WriteAsync(name, ["a", "b"]);
        }
        using var file = ParquetFile.Open(folder["t.parquet"]);
        Assert.Equal(["list: lists or structures", "name: Text values"], file.Columns.Select(static c => $"{c.Name}: {c.Holds}"));
        Assert.Equal("ab", string.Concat(file.Texts(file.Columns[1])));
    }

    /// <summary>What Parquet.Net does not write: the examples of the format's Encodings.md, among others.</summary>
    [Fact]
    public void Every_encoding_and_both_kinds_of_data_pages_are_read()
    {
        IEnumerable<string?> words = ["axis", "axle", "babble", "babyhood"];
        Assert.Equal(words, Texts(OneColumn(4, Page(0, 4, Plain, [.. words.SelectMany(static w => PlainText(w!))]))));
        Assert.Equal(words, Texts(OneColumn(4, Page(0, 4, DeltaLength, [.. Delta(4, 4, 0, 2, 0x28), .. "axisaxlebabblebabyhood"u8]))));
        Assert.Equal(words, Texts(OneColumn(4, Page(0, 4, DeltaBytes, [.. Delta(4, 0, -2, 3, 0x44, 0x01), .. Delta(4, 4, -2, 3, 0x70), .. "axislebabbleyhood"u8]))));

        // Eight bit-packed entries of a dictionary, then a run of three; and another page of the same dictionary.
        byte[] dictionary = Page(2, 3, Plain, [.. PlainText("a"), .. PlainText("b"), .. PlainText("c")]);
        byte[] pages = [.. dictionary, .. Page(0, 11, Dictionary, [2, 3, 0x64, 0, 6, 1]), .. Page(0, 2, Dictionary, [2, 4, 2])];
        Assert.Equal("abcbaaaabbbcc", string.Concat(Texts(OneColumn(13, pages))));

        // Nulls: there, null, there, there, null.
        byte[] values = [.. PlainText("a"), .. PlainText("b"), .. PlainText("c")];
        IEnumerable<string?> nulls = ["a", null, "b", "c", null];
        Assert.Equal(nulls, Texts(OneColumn(5, Page(0, 5, Plain, [2, 0, 0, 0, 3, 0x0D, .. values]), optional: true)));
        Assert.Equal(nulls, Texts(OneColumn(5, Page2(5, 2, Plain, [3, 0x0D], values), optional: true)));

        // Differences wrap around at the type's width.
        Assert.Equal([int.MaxValue, int.MinValue, int.MinValue + 1], Numbers(OneColumn(3, Page(0, 3, DeltaBinary, Delta(3, int.MaxValue, 1, 0)), Int32)));
        Assert.Equal([long.MaxValue, long.MinValue], Numbers(OneColumn(2, Page(0, 2, DeltaBinary, Delta(2, long.MaxValue, 1, 0)), Int64)));
        Assert.Equal([-2, 7], Numbers(OneColumn(2, Page(0, 2, Plain, [0xFE, 0xFF, 0xFF, 0xFF, 7, 0, 0, 0]), Int32)));
    }

    public static TheoryData<string, string> Damage() => new()
    {
        { "a number that runs over the end of the footer", "asks for 1 bytes where 0 are left" },
        { "a number without end", "more than 64 bits" },
        { "a list of as many as there can be", "claims 2147483647 bytes or elements" },
        { "a text of as many bytes as there can be", "claims 2147483647 bytes or elements" },
        { "structures in structures", "nested too deeply" },
        { "more rows than bits", "claims 2147483647 rows" },
        { "children that are not there", "children that the schema does not list" },
        { "fewer values than rows", "has 2 values in 3 rows" },
        { "a page that leads back to itself", "a page of -" },
        { "a page larger than the file", "a page of 2147483647 bytes" },
        { "pages without values", "" },
        { "a page of more values than rows", "a page of 4 values where 3 are left" },
        { "a page that unpacks to a gigabyte", "unpack to more than 100 times as many" },
        { "a page that says within that it unpacks to gigabytes", "does not unpack to 1000" },
        { "a page that does not unpack", "cannot be unpacked" },
        { "a codec that nobody knows", "the codec 99 is not known" },
        { "a dictionary of as many entries as there can be", "a dictionary of 2147483647 entries" },
        { "no dictionary", "has no dictionary" },
        { "an entry that the dictionary does not have", "asks for entry 3 of a dictionary of 1" },
        { "numbers of 33 bits", "numbers of 33 bits" },
        { "runs of nothing", "asks for 1 bytes where 0 are left" },
        { "a text that is longer than its page", "asks for 100 bytes where 1 are left" },
        { "a text of less than nothing", "asks for -1 bytes" },
        { "texts in the encoding of numbers", "the encoding 3 of byte arrays is not known" },
        { "differences in blocks of a gigabyte", "in blocks of 1073741824" },
        { "differences in no blocks", "in 0 parts" },
        { "a text that begins as a longer one", "asks for 5 bytes where 0 are left" },
        { "a long text in every row", "unpack to more than 100 times as many" },
        { "pages without values, again and again", "unpack to more than 100 times as many" },
        { "texts that grow from page to memory", "unpack to more than 100 times as many" },
    };

    [Theory]
    [MemberData(nameof(Damage))]
    public void Damage_that_makes_readers_loop_or_take_all_memory_is_one_sentence(string damage, string expected)
    {
        byte[] a = PlainText("a");
        byte[] file = damage switch
        {
            "a number that runs over the end of the footer" => Close([.. "PAR1"u8], [0x15, 0xFF]),
            "a number without end" => Close([.. "PAR1"u8], [0x15, .. Enumerable.Repeat((byte)0xFF, 100)]),
            "a list of as many as there can be" => Close([.. "PAR1"u8], [0x49, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0x07]),
            "a text of as many bytes as there can be" => Close([.. "PAR1"u8], [0x68, 0xFF, 0xFF, 0xFF, 0xFF, 0x07]),
            "structures in structures" => Close([.. "PAR1"u8], [.. Enumerable.Repeat((byte)0xFC, 100_000)]),
            "more rows than bits" => OneColumn(int.MaxValue, []),
            "children that are not there" => OneColumn(3, [], children: int.MaxValue),
            "fewer values than rows" => OneColumn(3, Page(0, 3, Plain, [.. a, .. a, .. a]), values: 2),
            "a page that leads back to itself" => OneColumn(3, Page(0, 0, Plain, [], packed: -Page(0, 0, Plain, [], packed: -1).Length)),
            "a page larger than the file" => OneColumn(3, Page(0, 3, Plain, a, packed: int.MaxValue)),
            "pages without values" => OneColumn(3, [.. Enumerable.Repeat(Page(0, 0, Plain, []), 1000).SelectMany(static p => p)]),
            "a page of more values than rows" => OneColumn(3, Page(0, 4, Plain, [.. a, .. a, .. a, .. a])),
            "a page that unpacks to a gigabyte" => OneColumn(3, Page(0, 3, Plain, a, unpacked: 1 << 30), codec: 1),
            "a page that says within that it unpacks to gigabytes" => OneColumn(3, Page(0, 3, Plain, [0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0xFE], unpacked: 1000), codec: 1),
            "a page that does not unpack" => OneColumn(3, Page(0, 3, Plain, [0xE8, 0x07, 0xFE, 1, 2, 3], unpacked: 1000), codec: 1),
            "a codec that nobody knows" => OneColumn(3, Page(0, 3, Plain, a), codec: 99),
            "a dictionary of as many entries as there can be" => OneColumn(3, Page(2, int.MaxValue, Plain, a)),
            "no dictionary" => OneColumn(3, Page(0, 3, Dictionary, [1, 6, 0])),
            "an entry that the dictionary does not have" => OneColumn(3, [.. Page(2, 1, Plain, a), .. Page(0, 3, Dictionary, [2, 6, 3])]),
            "numbers of 33 bits" => OneColumn(3, [.. Page(2, 1, Plain, a), .. Page(0, 3, Dictionary, [33, 6, 0, 0, 0, 0, 0])]),
            "runs of nothing" => OneColumn(3, [.. Page(2, 1, Plain, a), .. Page(0, 3, Dictionary, [1, .. new byte[1000]])]),
            "a text that is longer than its page" => OneColumn(1, Page(0, 1, Plain, [100, 0, 0, 0, 1])),
            "a text of less than nothing" => OneColumn(1, Page(0, 1, Plain, [0xFF, 0xFF, 0xFF, 0xFF, 1])),
            "texts in the encoding of numbers" => OneColumn(3, Page(0, 3, 3, [6, 0, 0, 0, 6])),
            "differences in blocks of a gigabyte" => OneColumn(3, Page(0, 3, DeltaLength, [.. Varint(1 << 30), 4, 3, 0, 0])),
            "differences in no blocks" => OneColumn(3, Page(0, 3, DeltaLength, [.. Varint(128), 0, 3, 0, 0])),
            "a text that begins as a longer one" => OneColumn(1, Page(0, 1, DeltaBytes, [0x80, 1, 4, 1, 10, 0x80, 1, 4, 1, 0])),
            "a long text in every row" => OneColumn(100_000, [.. Page(2, 1, Plain, [0x20, 0x4E, 0, 0, .. new byte[20_000]]), .. Page(0, 100_000, Dictionary, [1, .. Varint(200_000), 0])]),
            "pages without values, again and again" => OneColumn(1, [.. Enumerable.Repeat(Page(0, 0, Plain, []), 10_000).SelectMany(static p => p), .. Page(0, 1, Plain, a)], groups: 1000),
            "texts that grow from page to memory" => Grown(),
            _ => throw new ArgumentException(damage),
        };
        DamagedDataTests.Read(48 << 20, () =>
        {
            var message = Assert.Throws<PanoptesException>(() => Texts(file)).Message;
            Assert.StartsWith($"{folder["t.parquet"]} is not a Parquet file that can be read: ", message, StringComparison.Ordinal);
            Assert.Contains(expected, message, StringComparison.Ordinal);
        });
    }

    /// <summary>A text of 20,000 bytes, and 5,000 that begin as it does and add nothing: 100 MB of 20 KB.</summary>
    static byte[] Grown()
    {
        const int Length = 20_000, Count = 5001;
        byte[] empty = [0, 0, 0, 0, 0];                                                     // a block of differences that are all zero
        byte[] blocks = [.. Enumerable.Repeat(empty, Count / 128).SelectMany(static b => b)];
        byte[] prefixes = [.. Varint(128), 4, .. Varint(Count), 0, 0, 15, 0, 0, 0, Length & 0xFF, Length >> 8, .. new byte[58], .. blocks];
        byte[] suffixes = [.. Varint(128), 4, .. Varint(Count), .. Varint(Length * 2), .. Varint(Length * 2 - 1), 15, 15, 15, 15, .. new byte[240]];
        // The lengths fall by 20,000 once and stay: their differences count from the least.
        for (var i = 1; i < 128; i++)
            for (var b = 0; b < 15; b++)
                if ((Length >> b & 1) != 0) suffixes[^(240 - (i * 15 + b) / 8)] |= (byte)(1 << (i * 15 + b) % 8);
        return OneColumn(Count, Page(0, Count, DeltaBytes, [.. prefixes, .. suffixes, .. blocks, .. new byte[Length]]));
    }

    // ---- what files are made of

    const int Plain = 0, DeltaBinary = 5, DeltaLength = 6, DeltaBytes = 7, Dictionary = 8;

    const int Int32 = 1, Int64 = 2, ByteArray = 6;

    string?[] Texts(byte[] file)
    {
        using var parquet = ParquetFile.Open(folder.Write("t.parquet", file));
        return parquet.Texts(parquet.Columns[0]);
    }

    long?[] Numbers(byte[] file)
    {
        using var parquet = ParquetFile.Open(folder.Write("t.parquet", file));
        return parquet.Numbers(parquet.Columns[0]);
    }

    static byte[] PlainText(string text) => [(byte)text.Length, 0, 0, 0, .. Encoding.ASCII.GetBytes(text)];

    static byte[] Varint(long value)
    {
        var (bytes, left) = (new List<byte>(), (ulong)value);
        for (; left > 127; left >>= 7) bytes.Add((byte)(left | 0x80));
        return [.. bytes, (byte)left];
    }

    static byte[] ZigZag(long value) => Varint((value << 1) ^ (value >> 63));

    /// <summary>Numbers as differences from <paramref name="least"/>, in one block of 128 in four parts, of which the first alone has values.</summary>
    static byte[] Delta(int count, long first, long least, byte width, params byte[] packed) =>
        [.. Varint(128), 4, (byte)count, .. ZigZag(first), .. ZigZag(least), width, 0, 0, 0, .. packed, .. new byte[4 * width - packed.Length]];

    /// <summary>A structure of Thrift's compact protocol, of numbers, texts, flags, structures and lists of structures.</summary>
    static byte[] Struct(params (int Id, object Value)[] fields)
    {
        var (bytes, last) = (new List<byte>(), 0);
        foreach (var (id, value) in fields)
        {
            var (type, content) = value switch
            {
                int or long => (value is int ? 5 : 6, ZigZag(Convert.ToInt64(value, null))),
                string text => (8, [.. Varint(text.Length), .. Encoding.ASCII.GetBytes(text)]),
                bool flag => (flag ? 1 : 2, []),
                byte[] inner => (12, inner),
                byte[][] list => (9, (byte[])[0xFC, .. Varint(list.Length), .. list.SelectMany(static e => e)]),
                _ => throw new ArgumentException($"{value}"),
            };
            bytes.Add((byte)((id - last) << 4 | type));
            bytes.AddRange(content);
            last = id;
        }
        return [.. bytes, 0];
    }

    static byte[] Page(int type, int values, int encoding, byte[] body, int? packed = null, int? unpacked = null) =>
        [.. Struct((1, type), (2, unpacked ?? body.Length), (3, packed ?? body.Length), (type == 2 ? 7 : 5, Struct((1, values), (2, encoding), (3, 3), (4, 3)))), .. body];

    static byte[] Page2(int values, int nulls, int encoding, byte[] levels, byte[] body)
    {
        var own = Struct((1, values), (2, nulls), (3, values), (4, encoding), (5, levels.Length), (6, 0), (7, false));
        return [.. Struct((1, 3), (2, levels.Length + body.Length), (3, levels.Length + body.Length), (8, own)), .. levels, .. body];
    }

    /// <summary>A file of one row group with one column.</summary>
    static byte[] OneColumn(int rows, byte[] pages, int type = ByteArray, bool optional = false, int codec = 0, int? values = null, int children = 1, int groups = 1)
    {
        var field = type == ByteArray ? Struct((1, type), (3, optional ? 1 : 0), (4, "image"), (6, 0)) : Struct((1, type), (3, optional ? 1 : 0), (4, "image"));
        if (children != 1) field = Struct((3, 0), (4, "image"), (5, children));
        var chunk = Struct((2, 4L), (3, Struct((1, type), (4, codec), (5, (long)(values ?? rows)), (9, 4L))));
        byte[][] schema = [Struct((4, "schema"), (5, 1)), field];
        var group = Struct((1, new[] { chunk }), (2, 0L), (3, (long)rows));
        return Close([.. "PAR1"u8, .. pages], Struct((1, 1), (2, schema), (3, (long)rows), (4, Enumerable.Repeat(group, groups).ToArray())));
    }

    static byte[] Close(byte[] pages, byte[] footer)
    {
        var length = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(length, footer.Length);
        return [.. pages, .. footer, .. length, .. "PAR1"u8];
    }
}
