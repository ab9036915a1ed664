using CsCheck;
using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Imaging;

/// <summary>Distances and connected parts, against what their definitions say of every pixel (and scipy's, in the golden case mask-geometry).</summary>
public sealed class MaskGeometryTests
{
    static readonly Gen<(int Height, int Width, byte[] Mask)> Masks = Gen.Select(Gen.Int[1, 24], Gen.Int[1, 24], Gen.Int[0, 100], Gen.Int[0, 10_000]).Select(static (height, width, share, seed) =>
    {
        var random = new Random(seed);
        return (height, width, Enumerable.Range(0, height * width).Select(_ => (byte)(random.Next(100) < share ? 1 + random.Next(255) : 0)).ToArray());
    });

    [Fact]
    public void Every_pixel_knows_how_far_the_nearest_pixel_outside_is() => Masks.Sample(static m =>
    {
        foreach (var border in (bool[])[false, true])
        {
            var squared = DistanceTransform.Squared(m.Mask, m.Height, m.Width, border);
            for (var i = 0; i < squared.Length; i++)
            {
                var (x, y, nearest) = (i % m.Width, i / m.Width, int.MaxValue);
                for (var j = 0; j < squared.Length; j++)
                    if (m.Mask[j] == 0) nearest = Math.Min(nearest, (((j % m.Width) - x) * ((j % m.Width) - x)) + (((j / m.Width) - y) * ((j / m.Width) - y)));
                if (border)
                {
                    var edge = Math.Min(Math.Min(x + 1, m.Width - x), Math.Min(y + 1, m.Height - y));
                    nearest = Math.Min(nearest, edge * edge);
                }
                if (nearest != squared[i]) Assert.Fail($"Pixel {i} of {m.Width}x{m.Height} has {squared[i]}, expected {nearest}.");
            }
            Assert.Equal(squared.Select(static d => MathF.Sqrt(d)), DistanceTransform.Euclidean(m.Mask, m.Height, m.Width, border));
        }
    }, iter: 300);

    [Fact]
    public void Parts_hang_together_are_apart_from_each_other_and_are_counted_and_boxed() => Masks.Sample(static m =>
    {
        foreach (var diagonal in (bool[])[false, true])
        {
            var found = ConnectedComponents.Of(m.Mask, m.Height, m.Width, diagonal);
            var (labels, next) = (new int[m.Mask.Length], 0);
            for (var start = 0; start < labels.Length; start++)
            {
                if (m.Mask[start] == 0 || labels[start] != 0) continue;
                var open = new Stack<int>([start]);
                labels[start] = ++next;
                while (open.TryPop(out var i))
                {
                    for (var (dy, x, y) = (-1, i % m.Width, i / m.Width); dy <= 1; dy++)
                    {
                        for (var dx = -1; dx <= 1; dx++)
                        {
                            if ((!diagonal && dx != 0 && dy != 0) || (uint)(x + dx) >= (uint)m.Width || (uint)(y + dy) >= (uint)m.Height) continue;
                            var j = ((y + dy) * m.Width) + x + dx;
                            if (m.Mask[j] == 0 || labels[j] != 0) continue;
                            labels[j] = next;
                            open.Push(j);
                        }
                    }
                }
            }
            Assert.Equal(labels, found.Labels);
            Assert.Equal(next, found.Components.Count);
            foreach (var part in found.Components)
            {
                int[] pixels = [.. Enumerable.Range(0, labels.Length).Where(i => labels[i] == part.Label)];
                Assert.Equal(pixels.Length, part.Area);
                Assert.Equal((pixels.Min(i => i % m.Width), pixels.Min() / m.Width, pixels.Max(i => i % m.Width) + 1, (pixels.Max() / m.Width) + 1), (part.X, part.Y, part.X + part.Width, part.Y + part.Height));
            }
            Assert.Equal(found.Components.Count == 0 ? null : found.Components.Max(static c => (int?)c.Area), found.Largest?.Area);
        }
    }, iter: 200);

    [Fact]
    public void Masks_of_another_number_of_pixels_are_refused()
    {
        Assert.Throws<PanoptesException>(static () => DistanceTransform.Squared([1, 1], 1, 3));
        Assert.Throws<PanoptesException>(static () => DistanceTransform.Squared([], 0, 3));
        Assert.Throws<PanoptesException>(static () => DistanceTransform.Squared(new byte[40_000], 1, 40_000));
        Assert.Throws<PanoptesException>(static () => ConnectedComponents.Of([1, 1], 1, 3));
        Assert.Empty(ConnectedComponents.Of([0, 0], 1, 2).Components);
        Assert.All(DistanceTransform.Squared([1, 1, 1], 3, 1), static d => Assert.Equal(int.MaxValue, d));
    }
}
