using System.Diagnostics;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using CsCheck;

namespace Panoptes.Core.Tests.Hostile;

/// <summary>Damaged and hostile variants of a good file, and what a parser must do with each of them.</summary>
static class Mutation
{
    /// <summary>What the numbers, names and brackets of a text file may become.</summary>
    static readonly string[] Words =
    [
        "null", "true", "-1", "0", "1", "1e400", "-1e400", "0.5", "2147483647", "2147483648", "-9223372036854775809", "99999999999999999999999999",
        "\"\"", "\"\\ud800\"", "\"\\u0000\"", "\"../../x\"", "{}", "[]", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "{", "}", "]", ",", ":", "\"", "\\", "\n", " ", "\0", "\uFEFF", "\u001b[2J",
    ];

    /// <summary>What the value of a field may become.</summary>
    static readonly string[] Values =
    [
        "null", "true", "false", "-1", "0", "1", "3", "0.5", "1e308", "-1e308", "255", "65535", "65536", "2147483647", "-2147483648", "2147483648", "9223372036854775807", "18446744073709551616",
        "\"\"", "\"x\"", "\"\\u0000\"", "\"\\u001b[31m\\nred\"", "\"../../etc/passwd\"", "\"😀\"", "[]", "{}", "[1]", "[0, 0]", "[1, 2, 3, 4, 5, 6, 7, 8, 9]", "[[]]", "[null]", "{\"type\": \"x\"}", "[\"a\", \"b\"]", "{\"a\": 1}",
    ];

    /// <summary>Bytes changed, put in, taken out, doubled or cut off, most of them near the beginning or the end, where sizes and tables are.</summary>
    public static Gen<byte[]> OfBytes(IReadOnlyList<byte[]> seeds) =>
        Gen.Select(Gen.Int[0, seeds.Count - 1], Gen.Select(Gen.Int[0, 6], Gen.Double[0, 1], Gen.Int[0, 2], Gen.Int[0, 1 << 16], Gen.Byte).Array[1, 4])
            .Select((seed, edits) =>
            {
                var bytes = seeds[seed];
                foreach (var (kind, at, region, number, value) in edits) bytes = Edit(bytes, kind, Place(bytes.Length, at, region), number, value);
                return bytes;
            });

    /// <summary>One to three fields anywhere in the JSON given another value, taken away, or doubled; or the text itself damaged.</summary>
    public static Gen<byte[]> OfJson(IReadOnlyList<byte[]> seeds) => Gen.Frequency(
        (1, OfBytes(seeds)),
        (3, Gen.Select(Gen.Int[0, seeds.Count - 1], Gen.Select(Gen.Int[0, 1 << 20], Gen.Int[0, Values.Length + 1], Gen.Int[0, 1 << 20]).Array[1, 3])
            .Select((seed, edits) =>
            {
                var root = JsonNode.Parse(seeds[seed])!;
                foreach (var (at, value, other) in edits) Edit(root, at, value, other);
                return Encoding.UTF8.GetBytes(root.ToJsonString());
            })));

    /// <summary>
    /// Reads <paramref name="content"/> from <paramref name="path"/>: it works, or gives one sentence that names the file. It neither takes long nor allocates
    /// more than <paramref name="factor"/> times what it reads, beyond <paramref name="constant"/> bytes.
    /// </summary>
    public static void Check(string path, byte[] content, Action read, long factor = 64, long constant = 1 << 20, long alongside = 0)
    {
        File.WriteAllBytes(path, content);
        Check(Path.GetDirectoryName(path)!, read, factor * (content.Length + alongside) + constant);
    }

    /// <inheritdoc cref="Check(string, byte[], Action, long, long, long)"/>
    public static void Check(string named, Action read, long limit)
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        var watch = Stopwatch.StartNew();
        try
        {
            read();
        }
        catch (PanoptesException e)
        {
            Assert.Contains(named, e.Message, StringComparison.Ordinal);
            // One sentence; what it counts (keys that do not fit, rows that are of no use) may follow, a line each.
            Assert.All(e.Message.Split('\n').Skip(1), static line => Assert.StartsWith("  ", line, StringComparison.Ordinal));
            Assert.DoesNotContain(e.Message, static c => char.IsControl(c) && c != '\n');
        }
        var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.True(allocated < limit, $"{allocated} bytes were allocated; expected at most {limit}");
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(5), $"it took {watch.Elapsed}");
    }

    /// <summary>A mutant in a form that a failing test can print.</summary>
    public static string Print(byte[] bytes) => bytes.Length < 3000 ? Encoding.Latin1.GetString(bytes) : $"{bytes.Length} bytes";

    static int Place(int length, double at, int region) => region switch
    {
        0 => (int)(at * length),
        1 => (int)(at * Math.Min(length, 300)),
        _ => length - (int)(at * Math.Min(length, 300)),
    };

    static byte[] Edit(byte[] bytes, int kind, int at, int number, byte value)
    {
        at = Math.Clamp(at, 0, bytes.Length);
        var rest = bytes.Length - at;
        switch (kind)
        {
            case 0 or 1:
                if (rest == 0) return bytes;
                var changed = bytes.ToArray();
                changed[at] = kind == 0 ? value : (byte)(changed[at] ^ (1 << (value & 7)));
                return changed;
            case 2: return [.. bytes[..at], .. Encoding.UTF8.GetBytes(Words[number % Words.Length]), .. bytes[at..]];
            case 3: return [.. bytes[..at], .. bytes[(at + Math.Min(rest, 1 + number % 64))..]];
            case 4: return [.. bytes[..(at + Math.Min(rest, 1 + number % 200))], .. bytes[at..]];
            case 5: return bytes[..at];
            default:                                                                 // a field of 2, 4 or 8 bytes set to an extreme
                var width = Math.Min(rest, 2 << (value % 3));
                return [.. bytes[..at], .. Enumerable.Repeat((byte)(number % 3 == 0 ? 0 : 0xFF), width), .. bytes[(at + width)..]];
        }
    }

    static void Edit(JsonNode root, int at, int value, int other)
    {
        var places = new List<(JsonNode Parent, object Key)>();
        Collect(root, places);
        if (places.Count == 0) return;
        var (parent, key) = places[at % places.Count];
        var node = value < Values.Length ? JsonNode.Parse(Values[value])
            : value == Values.Length ? (places[other % places.Count] is var (p, k) ? k is string from ? p[from]?.DeepClone() : p[(int)k]?.DeepClone() : null)
            : null;
        switch (parent, key)
        {
            case (JsonObject o, string name) when value > Values.Length: o.Remove(name); break;
            case (JsonObject o, string name): o[name] = node; break;
            case (JsonArray a, int i) when value > Values.Length: a.RemoveAt(i); break;
            case (JsonArray a, int i): a[i] = node; break;
        }
    }

    static void Collect(JsonNode? node, List<(JsonNode, object)> places)
    {
        if (node is JsonObject o)
            foreach (var (name, value) in o)
            {
                places.Add((o, name));
                Collect(value, places);
            }
        else if (node is JsonArray a)
            for (var i = 0; i < Math.Min(a.Count, 50); i++)
            {
                places.Add((a, i));
                Collect(a[i], places);
            }
    }
}
