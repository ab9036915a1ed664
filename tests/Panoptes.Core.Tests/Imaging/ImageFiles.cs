using System.IO.Compression;
using System.Text.Json;
using Panoptes.Imaging;
using Panoptes.Parity;

namespace Panoptes.Core.Tests.Imaging;

/// <summary>Small files of every kind with the pixels that Pillow 13 decodes, and resizes that Pillow 13 and torchvision 0.28 computed.</summary>
static class ImageFiles
{
    public sealed record Expected(int Width, int Height, string Sha256);

    public static string Folder { get; } = Path.GetFullPath(Path.Combine(Goldens.Root, "..", "Panoptes.Core.Tests", "Imaging", "files"));

    public static IReadOnlyDictionary<string, Expected> All { get; } =
        JsonSerializer.Deserialize<Dictionary<string, Expected>>(File.ReadAllText(Path.Combine(Folder, "expected.json")), JsonSerializerOptions.Web)!;

    public static string Find(string name) => Path.Combine(Folder, name);

    public sealed record ResizeCase(ResizeRounding Rounding, ResizeFilter Filter, Image Source, double[] Box, Image Wanted)
    {
        public bool IsWhole => Box[0] == 0 && Box[1] == 0 && Box[2] == Source.Width && Box[3] == Source.Height;

        public override string ToString() => $"{Rounding} {Filter} {Source} [{string.Join(", ", Box)}] -> {Wanted}";
    }

    public static IEnumerable<ResizeCase> Resizes()
    {
        using var unpacked = new MemoryStream();
        using (var zip = new GZipStream(File.OpenRead(Find("resize.bin.gz")), CompressionMode.Decompress)) zip.CopyTo(unpacked);
        unpacked.Position = 0;
        using var r = new BinaryReader(unpacked);
        while (unpacked.Position < unpacked.Length)
        {
            var (rounding, filter) = ((ResizeRounding)r.ReadInt32(), (ResizeFilter)r.ReadInt32());
            var (w, h, c, outW, outH) = (r.ReadInt32(), r.ReadInt32(), r.ReadInt32(), r.ReadInt32(), r.ReadInt32());
            double[] box = [r.ReadDouble(), r.ReadDouble(), r.ReadDouble(), r.ReadDouble()];
            var source = new Image(w, h, c, r.ReadBytes(w * h * c));
            yield return new(rounding, filter, source, box, new(outW, outH, c, r.ReadBytes(outW * outH * c)));
        }
    }

    public static Image Noise(int width, int height, int channels, int seed = 1)
    {
        var image = new Image(width, height, channels);
        new Random(seed).NextBytes(image.Pixels);
        return image;
    }
}
