using System.IO.Compression;
using System.Text;
using CsCheck;
using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Imaging;

public sealed class PngTextTests
{
    static byte[] Picture => new Image(3, 2, 3).Encode(ImageFormat.Png);

    [Fact]
    public void A_text_is_read_back_and_the_picture_stays_as_it_is() => Gen.String[Gen.Char['\u0020', '\uD7FF'], 0, 200].Sample(text =>
    {
        var png = PngText.Add(PngText.Add(Picture, "other", "first"), "parameters", text);
        var read = PngText.Read(png);
        Assert.Equal(text, read["parameters"]);
        Assert.Equal("first", read["other"]);
        Assert.Equal(new byte[18], Image.Decode(png).Pixels);
    }, iter: 200);

    [Fact]
    public void Latin_and_packed_texts_are_read()
    {
        using var packed = new MemoryStream();
        using (var zlib = new ZLibStream(packed, CompressionLevel.Optimal, leaveOpen: true)) zlib.Write("grün"u8);
        var png = Picture;
        byte[] file = [.. png[..33], .. Chunk("tEXt", [.. "Title\0"u8, 0xE9]), .. Chunk("iTXt", [.. "green\0"u8, 1, 0, 0, 0, .. packed.ToArray()]), .. png[33..]];
        Assert.Equal("é", PngText.Read(file)["Title"]);
        Assert.Equal("grün", PngText.Read(file)["green"]);
    }

    [Fact]
    public void What_unpacks_to_more_than_is_allowed_is_left_out()
    {
        using var packed = new MemoryStream();
        using (var zlib = new ZLibStream(packed, CompressionLevel.Optimal, leaveOpen: true)) zlib.Write(new byte[PngText.MostBytes + 1]);
        var png = Picture;
        Assert.Empty(PngText.Read([.. png[..33], .. Chunk("zTXt", [.. "bomb\0"u8, 0, .. packed.ToArray()]), .. png[33..]]));
    }

    [Fact]
    public void Many_texts_that_unpack_to_much_are_read_no_further_than_is_allowed_and_another_is_found_behind_them()
    {
        using var packed = new MemoryStream();
        using (var zlib = new ZLibStream(packed, CompressionLevel.Optimal, leaveOpen: true)) zlib.Write(new byte[PngText.MostBytes / 2]);
        var png = Picture;
        byte[] file = [.. png[..33], .. Enumerable.Range(0, 30).SelectMany(i => Chunk("zTXt", [.. Encoding.ASCII.GetBytes($"bomb{i}"), 0, 0, .. packed.ToArray()])), .. Chunk("tEXt", [.. "Title\0here"u8]), .. png[33..]];
        Assert.True(PngText.Read(file).Values.Sum(static t => t.Length) <= PngText.MostBytes);
        var before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Equal("here", PngText.Find(file, "Title"));
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 1 << 20);
        Assert.Null(PngText.Find(file, "none"));
    }

    [Fact]
    public void A_damaged_file_never_throws()
    {
        var png = PngText.Add(Picture, "parameters", "a red apple");
        Gen.Select(Gen.Int[0, png.Length - 1], Gen.Byte, Gen.Int[0, png.Length]).Sample((at, value, length) =>
        {
            var damaged = png.ToArray();
            damaged[at] = value;
            PngText.Read(damaged.AsSpan(0, length));
        }, iter: 2000);
    }

    [Theory, InlineData(""), InlineData(" a"), InlineData("ä")]
    public void A_keyword_that_cannot_be_is_refused(string keyword) => Assert.Throws<PanoptesException>(() => PngText.Add(Picture, keyword, "x"));

    [Fact]
    public void What_is_no_PNG_is_refused() => Assert.Throws<PanoptesException>(static () => PngText.Add(new byte[100], "parameters", "x"));

    /// <summary>Without its check, which reading does not look at.</summary>
    static byte[] Chunk(string type, byte[] data) => [0, (byte)(data.Length >> 16), (byte)(data.Length >> 8), (byte)data.Length, .. Encoding.ASCII.GetBytes(type), .. data, 0, 0, 0, 0];
}
