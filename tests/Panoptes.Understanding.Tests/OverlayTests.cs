using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Understanding.Tests;

public sealed class OverlayTests
{
    static readonly OverlayOptions Bare = new() { Labels = false, Legend = false, ReadableSide = 1, Opacity = 0.5 };

    static Image Gray(int width, int height)
    {
        var image = new Image(width, height, 3);
        image.Pixels.AsSpan().Fill(100);
        return image;
    }

    static RunLengthMask Rectangle(int width, int height, int x, int y, int w, int h)
    {
        var mask = new byte[width * height];
        for (var r = y; r < y + h; r++) mask.AsSpan((r * width) + x, w).Fill(1);
        return RunLengthMask.Encode(mask, height, width);
    }

    static Rgb At(Image image, int x, int y) => new(image.Pixels[3 * ((y * image.Width) + x)], image.Pixels[(3 * ((y * image.Width) + x)) + 1], image.Pixels[(3 * ((y * image.Width) + x)) + 2]);

    static Rgb Half(Rgb c) => new((byte)(100 + (c.R - 100) * 0.5), (byte)(100 + (c.G - 100) * 0.5), (byte)(100 + (c.B - 100) * 0.5));

    [Fact]
    public void A_segment_is_tinted_inside_and_drawn_in_full_along_its_edge()
    {
        var image = Gray(10, 8);
        var drawn = Overlay.Draw(image, [new Segment(Rectangle(10, 8, 2, 1, 5, 4), 0.9f, "cat")], Bare);
        Assert.Equal((10, 8), (drawn.Width, drawn.Height));
        Assert.Equal(Overlay.Color(0), At(drawn, 2, 1));
        Assert.Equal(Overlay.Color(0), At(drawn, 6, 4));
        Assert.Equal(Half(Overlay.Color(0)), At(drawn, 4, 2));
        Assert.Equal(new(100, 100, 100), At(drawn, 7, 1));
        Assert.All(image.Pixels, static p => Assert.Equal(100, p));
    }

    [Fact]
    public void A_small_segment_is_seen_on_a_large_one_whatever_their_order()
    {
        var (small, large) = (new Segment(Rectangle(10, 10, 4, 4, 2, 2), 1), new Segment(Rectangle(10, 10, 0, 0, 10, 10), 1));
        Assert.Equal(Overlay.Color(0), At(Overlay.Draw(Gray(10, 10), [small, large], Bare), 4, 4));
        Assert.Equal(Overlay.Color(1), At(Overlay.Draw(Gray(10, 10), [large, small], Bare), 4, 4));
    }

    [Fact]
    public void A_label_map_is_drawn_where_its_labels_have_names()
    {
        var labels = new int[100];
        for (var i = 0; i < 100; i++) labels[i] = i % 10 < 5 ? 3 : 7;
        var drawn = Overlay.Draw(Gray(10, 10), new LabelMap(10, 10, labels), new Dictionary<int, string> { [3] = "sky" }, Bare);
        Assert.Equal(Half(Overlay.Color(3)), At(drawn, 0, 0));
        Assert.Equal(Overlay.Color(3), At(drawn, 4, 5));
        Assert.Equal(new(100, 100, 100), At(drawn, 5, 5));
    }

    [Fact]
    public void Names_and_a_legend_are_written_and_small_images_enlarged()
    {
        var segment = new Segment(Rectangle(20, 10, 2, 2, 10, 5), 0.5f, "an apple");
        var drawn = Overlay.Draw(Gray(20, 10), [segment]);
        Assert.Equal(20 * 38, drawn.Width);
        Assert.True(drawn.Height > 10 * 38 + 20);
        var without = Overlay.Draw(Gray(20, 10), [segment], new() { Labels = false });
        Assert.NotEqual(without.Pixels, drawn.Pixels);
        Assert.Equal(Overlay.Color(0), At(drawn, 2 * 38 + 3, 2 * 38 + 3));
        // The strangest images are drawn, too.
        Assert.Equal(384, Overlay.Draw(Gray(1, 1), [new Segment(Rectangle(1, 1, 0, 0, 1, 1), 1, new string('w', 500))]).Width);
        Assert.Equal(5000, Overlay.Draw(Gray(5000, 1), [new Segment(Rectangle(5000, 1, 0, 0, 4, 1), 1)]).Width);
        Assert.Equal(20 * 38, Overlay.Draw(Gray(20, 10), [new Detection(-5, 2, 30, 9, 0.5f, "box")]).Width);
        Assert.Equal(20 * 38, Overlay.Draw(Gray(20, 10), Array.Empty<Segment>()).Width);
    }

    [Fact]
    public void A_mask_of_another_size_is_refused_with_one_sentence()
    {
        Assert.Equal("A segment's mask has 4 x 5 pixels; expected the image's 10 x 8.",
            Assert.Throws<PanoptesException>(() => Overlay.Draw(Gray(10, 8), [new Segment(Rectangle(4, 5, 0, 0, 1, 1), 1)])).Message);
        Assert.Throws<PanoptesException>(() => Overlay.Draw(Gray(10, 8), new LabelMap(2, 1, [0, 1]), new Dictionary<int, string>()));
    }

    [Fact]
    public void The_first_thirty_colors_are_far_apart()
    {
        for (var i = 0; i < 30; i++)
            for (var j = 0; j < i; j++)
            {
                var (a, b) = (Overlay.Color(i), Overlay.Color(j));
                Assert.True(Math.Abs(a.R - b.R) + Math.Abs(a.G - b.G) + Math.Abs(a.B - b.B) >= 40, $"{i} {a} and {j} {b}");
            }
    }

    [Fact]
    public void A_label_map_goes_through_a_picture_and_through_masks_without_loss()
    {
        var few = new LabelMap(3, 2, [0, 1, 255, 1, 1, 7]);
        Assert.Equal(1, few.ToImage().Channels);
        Assert.Equal(few.Labels, LabelMap.FromImage(few.ToImage()).Labels);
        var many = new LabelMap(3, 2, [0, 1, 256, 70000, 0xFFFFFF, 7]);
        Assert.Equal(many.Labels, LabelMap.FromImage(Image.Decode(many.ToImage().Encode(ImageFormat.Png))).Labels);
        Assert.Equal([KeyValuePair.Create(0, 1), KeyValuePair.Create(1, 3), KeyValuePair.Create(7, 1), KeyValuePair.Create(255, 1)], few.Areas());
        Assert.Equal(3, few.Mask(1).Area);
        Assert.Equal([0, 1, 0, 2, 2, 0], LabelMap.Of([new Segment(few.Mask(1), 1), new Segment(RunLengthMask.Encode([0, 0, 0, 1, 1, 0], 2, 3), 1)], 3, 2).Labels);
        Assert.Throws<PanoptesException>(() => new LabelMap(1, 1, [-1]).ToImage());
    }
}
