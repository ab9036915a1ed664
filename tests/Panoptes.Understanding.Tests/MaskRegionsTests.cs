using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Understanding.Tests;

public sealed class MaskRegionsTests
{
    static RunLengthMask Mask(params string[] rows) => RunLengthMask.Encode([.. rows.SelectMany(static r => r.Select(static c => (byte)(c == '#' ? 1 : 0)))], rows.Length, rows[0].Length);

    static string[] Rows(RunLengthMask mask)
    {
        var pixels = new byte[mask.Width * mask.Height];
        mask.Decode(pixels);
        return [.. pixels.Chunk(mask.Width).Select(static r => string.Concat(r.Select(static p => p == 1 ? '#' : '.')))];
    }

    [Fact]
    public void Small_holes_are_filled_and_small_islands_go_with_corners_holding_together()
    {
        var mask = Mask(
            "#####..#",
            "#.###...",
            "##.##...",
            "#####.##",
            "......##");
        // The hole has two pixels that touch at a corner; the island at the right hangs on the rest by one.
        Assert.Same(mask, MaskRegions.FillHoles(mask, 2));
        Assert.Equal(["#####..#", "#####...", "#####...", "#####.##", "......##"], Rows(MaskRegions.FillHoles(mask, 3)));
        Assert.Equal(["#####...", "#.###...", "##.##...", "#####.##", "......##"], Rows(MaskRegions.RemoveIslands(mask, 2)));
        Assert.Equal(["#####...", "#.###...", "##.##...", "#####...", "........"], Rows(MaskRegions.RemoveIslands(mask, 5)));
        // All smaller: the largest stays. All of the outside small: the mask is whole.
        Assert.Equal(["#####...", "#.###...", "##.##...", "#####...", "........"], Rows(MaskRegions.RemoveIslands(mask, 1000)));
        Assert.Equal(40, MaskRegions.FillHoles(mask, 1000).Area);
        Assert.Equal(["#..", "...", "..."], Rows(MaskRegions.RemoveIslands(Mask("#..", "...", "#.#"), 9)));
    }

    [Fact]
    public void A_mask_of_nothing_or_of_everything_stays()
    {
        foreach (var mask in (RunLengthMask[])[Mask("..", ".."), Mask("##", "##"), Mask("#"), Mask(".")])
        {
            Assert.Same(mask, MaskRegions.RemoveIslands(mask, mask.Area > 0 ? 1 : 100));
            if (mask.Area > 0) Assert.Same(mask, MaskRegions.FillHoles(mask, 100));
        }
        Assert.Equal(4, MaskRegions.FillHoles(Mask("..", ".."), 5).Area);
    }

    /// <summary>As segment-anything does it, pixel by pixel.</summary>
    static byte[] Plain(byte[] mask, int height, int width, int area, bool holes)
    {
        var (label, sizes) = (new int[mask.Length], new List<int>());
        for (var i = 0; i < mask.Length; i++)
        {
            if (mask[i] == (holes ? 1 : 0) || label[i] > 0) continue;
            var open = new Stack<int>([i]);
            sizes.Add(0);
            label[i] = sizes.Count;
            while (open.TryPop(out var at))
            {
                sizes[^1]++;
                for (var y = Math.Max(0, at / width - 1); y <= Math.Min(height - 1, at / width + 1); y++)
                    for (var x = Math.Max(0, at % width - 1); x <= Math.Min(width - 1, at % width + 1); x++)
                        if (mask[y * width + x] == mask[i] && label[y * width + x] == 0)
                        {
                            label[y * width + x] = sizes.Count;
                            open.Push(y * width + x);
                        }
            }
        }
        if (!sizes.Exists(s => s < area)) return mask;
        var largest = sizes.IndexOf(sizes.Max()) + 1;
        var none = sizes.TrueForAll(s => s < area);
        return [.. label.Select(l => holes ? l == 0 || sizes[l - 1] < area : none ? l == largest : l > 0 && sizes[l - 1] >= area).Select(static b => (byte)(b ? 1 : 0))];
    }

    [Fact]
    public void Runs_and_pixels_come_to_the_same()
    {
        var random = new Random(5);
        for (var trial = 0; trial < 400; trial++)
        {
            var (height, width, area) = (random.Next(1, 14), random.Next(1, 14), random.Next(1, 25));
            var (share, pixels) = (random.NextDouble(), new byte[height * width]);
            for (var i = 0; i < pixels.Length; i++) pixels[i] = (byte)(random.NextDouble() < share ? 1 : 0);
            var mask = RunLengthMask.Encode(pixels, height, width);
            foreach (var holes in (bool[])[true, false])
            {
                var ours = new byte[pixels.Length];
                (holes ? MaskRegions.FillHoles(mask, area) : MaskRegions.RemoveIslands(mask, area)).Decode(ours);
                Assert.Equal(Plain(pixels, height, width, area, holes), ours);
            }
        }
    }

    [Fact]
    public void Of_masks_that_are_alike_without_their_small_regions_one_that_had_none_stays()
    {
        var (speckled, whole, other) = (Mask("####....#", "####.....", "####....."), Mask("####.....", "####.....", "####....."), Mask(".....####", ".....####", ".....####"));
        var kept = SamAutomaticMasks.WithoutSmallRegions([speckled, whole, other], 3, 0.7);
        Assert.Equal([1, 2], kept.Select(static k => k.Index));
        Assert.Same(whole, kept[0].Mask);
        Assert.Equal([0], SamAutomaticMasks.WithoutSmallRegions([speckled], 3, 0.7).Select(static k => k.Index));
        Assert.Equal(Rows(whole), Rows(SamAutomaticMasks.WithoutSmallRegions([speckled], 3, 0.7)[0].Mask));
    }

    [Fact]
    public void Segments_become_a_map_in_which_the_smallest_is_on_top()
    {
        var found = PanopticSegmentation.Of([new(Mask("##..", "...."), 0.5f, "cat"), new(Mask("####", "####"), 0.9f), new(Mask("...#", "...."), 0.7f, "cat")], 4, 2);
        Assert.Equal(["cat", "object"], found.Names);
        Assert.Equal([2, 2, 1, 3, 1, 1, 1, 1], found.Ids.Labels);
        Assert.Equal([(1, 1, 0.9f), (2, 0, 0.5f), (3, 0, 0.7f)], found.Segments.Select(static s => (s.Id, s.Class, s.Score)));
        var cats = found.Only(new HashSet<int> { 0 });
        Assert.Equal([2, 2, 0, 3, 0, 0, 0, 0], cats.Ids.Labels);
        Assert.Equal([2L, 1L], cats.ToSegments().Select(static s => s.Mask.Area));
        Assert.Empty(PanopticSegmentation.Of([], 4, 2).Segments);
    }
}
