using CsCheck;
using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Imaging;

/// <summary>Damaged files of every kind: an image or one clear error, in bounded time and memory.</summary>
public sealed class MutationTests
{
    static readonly (string Name, byte[] Bytes)[] Seeds =
        [.. ImageFiles.All.Keys.Where(n => !n.StartsWith("exif", StringComparison.Ordinal) || n.StartsWith("exif6", StringComparison.Ordinal)).Select(n => (n, File.ReadAllBytes(ImageFiles.Find(n))))];

    static readonly Gen<(int Seed, (double At, byte Value)[] Edits, double Cut, bool Head)> Mutations = Gen.Select(
        Gen.Int[0, Seeds.Length - 1], Gen.Select(Gen.Double[0, 1], Gen.Byte).Array[0, 12], Gen.Frequency((3, Gen.Const(1.0)), (1, Gen.Double[0, 1])), Gen.Bool);

    [Fact]
    public void A_damaged_file_is_an_image_or_one_clear_error()
    {
        var limits = new ImageLimits { MaxPixels = 1_000_000 };
        Mutations.Sample(m =>
        {
            var (name, original) = Seeds[m.Seed];
            var bytes = original.ToArray();
            // Half of the runs damage the head, where sizes and tables are.
            foreach (var (at, value) in m.Edits) bytes[(int)(at * (Math.Min(m.Head ? 200 : int.MaxValue, bytes.Length) - 1))] = value;
            bytes = bytes[..(int)(bytes.Length * m.Cut)];
            var before = GC.GetAllocatedBytesForCurrentThread();
            var watch = System.Diagnostics.Stopwatch.StartNew();
            try
            {
                var image = Image.Decode(bytes, name, limits);
                return image.Pixels.Length == image.Width * image.Height * image.Channels && (long)image.Width * image.Height <= limits.MaxPixels && Bounded();
            }
            catch (PanoptesException e)
            {
                return e.Message.StartsWith(name, StringComparison.Ordinal) && Bounded();
            }

            // Four bytes a pixel, once more to turn or to drop alpha; never more than the limit allows.
            bool Bounded() => GC.GetAllocatedBytesForCurrentThread() - before < limits.MaxPixels * 12 && watch.Elapsed < TimeSpan.FromSeconds(5);
        }, iter: 3000, threads: 1, print: m => $"{Seeds[m.Seed].Name} {string.Join(' ', m.Edits)} cut {m.Cut} head {m.Head}");
    }

    [Fact]
    public void Any_exif_block_is_an_orientation_or_upright() =>
        Gen.Byte.Array[0, 80].Sample(noise =>
        {
            byte[] jpeg = [0xFF, 0xD8, 0xFF, 0xE1, 0, (byte)(noise.Length + 8), .. "Exif\0\0II*\0"u8, .. noise];
            return Exif.Orientation(jpeg, ImageFormat.Jpeg) is >= 1 and <= 8 && Exif.Orientation(noise, ImageFormat.Webp) == 1 && Exif.Orientation(noise, ImageFormat.Png) is >= 1 and <= 8;
        }, iter: 2000, threads: 1);
}
