using System.Buffers.Binary;
using System.Security.Cryptography;
using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Imaging;

public sealed class DecodingTests
{
    public static TheoryData<string> Files => [.. ImageFiles.All.Keys];

    [Theory, MemberData(nameof(Files))]
    public void A_file_decodes_to_the_pixels_that_Pillow_gives(string name)
    {
        var expected = ImageFiles.All[name];
        var image = Image.Load(ImageFiles.Find(name)).ToRgba();
        if (name.EndsWith(".gif", StringComparison.Ordinal))
            for (var i = 0; i < image.Pixels.Length; i += 4)
                if (image.Pixels[i + 3] == 0) Assert.Equal(0, image.Pixels[i] | image.Pixels[i + 1] | image.Pixels[i + 2]);
        Assert.Equal((expected.Width, expected.Height), (image.Width, image.Height));
        Assert.Equal(expected.Sha256, Convert.ToHexStringLower(SHA256.HashData(image.Pixels)));
    }

    [Theory, MemberData(nameof(Files))]
    public void The_head_alone_tells_the_size_that_decoding_gives(string name)
    {
        var info = Image.Identify(ImageFiles.Find(name));
        Assert.Equal((ImageFiles.All[name].Width, ImageFiles.All[name].Height), (info.Width, info.Height));
        if (name.StartsWith("exif", StringComparison.Ordinal)) Assert.Equal(name[4] - '0', info.Orientation);
    }

    [Theory, MemberData(nameof(Files))]
    public void A_truncated_file_is_refused_with_its_name(string name)
    {
        var bytes = File.ReadAllBytes(ImageFiles.Find(name));
        foreach (var length in (int[])[0, 1, 5, 20, bytes.Length / 3, bytes.Length / 2])
        {
            var e = Assert.Throws<PanoptesException>(() => Image.Decode(bytes.AsSpan(0, length), "cut/" + name));
            Assert.StartsWith("cut/" + name, e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Loading_asynchronously_gives_the_same_pixels()
    {
        var image = await Image.LoadAsync(ImageFiles.Find("rgba.png"));
        Assert.Equal(Image.Load(ImageFiles.Find("rgba.png")).Pixels, image.Pixels);
    }

    [Fact]
    public void A_format_is_recognized_by_content_whatever_the_file_is_called()
    {
        var path = Path.Combine(Directory.CreateTempSubdirectory().FullName, "picture.jpg");
        File.Copy(ImageFiles.Find("wl.webp"), path);
        Assert.Equal(ImageFormat.Webp, Image.Identify(path).Format);
    }

    [Theory]
    [InlineData("", "empty")]
    [InlineData("hello, this is no image", "PNG, JPEG, WebP, GIF or BMP")]
    public void What_is_no_image_is_refused(string content, string expected)
    {
        var e = Assert.Throws<PanoptesException>(() => Image.Decode(System.Text.Encoding.UTF8.GetBytes(content), "notes.txt"));
        Assert.Contains("notes.txt", e.Message, StringComparison.Ordinal);
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_missing_file_is_named()
    {
        var e = Assert.Throws<PanoptesException>(() => Image.Load("no/such/picture.png"));
        Assert.Contains("no/such/picture.png: no such file", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(50_000, 50_000, "are allowed")]
    [InlineData(13_000, 13_000, "cannot hold")]
    public void A_decompression_bomb_is_refused_before_its_pixels_are_allocated(int width, int height, string expected)
    {
        var bytes = WithSize(File.ReadAllBytes(ImageFiles.Find("rgb.png")), width, height);
        var before = GC.GetAllocatedBytesForCurrentThread();
        var e = Assert.Throws<PanoptesException>(() => Image.Decode(bytes, "bomb.png"));
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 1_000_000);
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
        Assert.Contains($"{width}x{height}", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_limit_of_pixels_can_be_set()
    {
        var path = ImageFiles.Find("rgb.png");
        Assert.Throws<PanoptesException>(() => Image.Load(path, new() { MaxPixels = 45 * 31 - 1 }));
        Assert.Equal(45, Image.Load(path, new() { MaxPixels = 45 * 31 }).Width);
    }

    [Fact]
    public void A_jpeg_of_endless_scans_is_refused()
    {
        var bytes = File.ReadAllBytes(ImageFiles.Find("jprog.jpg"));
        var scan = bytes.AsSpan().LastIndexOf((ReadOnlySpan<byte>)[0xFF, 0xDA]);
        var last = bytes.AsSpan(scan, bytes.Length - scan - 2).ToArray();
        byte[] bomb = [.. bytes[..^2], .. Enumerable.Repeat(last, 300).SelectMany(b => b), 0xFF, 0xD9];
        Assert.Contains("scans", Assert.Throws<PanoptesException>(() => Image.Decode(bomb, "slow.jpg")).Message, StringComparison.Ordinal);
    }

    /// <summary>A PNG with another size in its header, the checksum set right.</summary>
    static byte[] WithSize(byte[] png, int width, int height)
    {
        BinaryPrimitives.WriteInt32BigEndian(png.AsSpan(16), width);
        BinaryPrimitives.WriteInt32BigEndian(png.AsSpan(20), height);
        var crc = 0xFFFFFFFFu;
        foreach (var b in png.AsSpan(12, 17))
        {
            crc ^= b;
            for (var i = 0; i < 8; i++) crc = (crc >> 1) ^ (0xEDB88320u & (uint)-(int)(crc & 1));
        }
        BinaryPrimitives.WriteUInt32BigEndian(png.AsSpan(29), ~crc);
        return png;
    }
}
