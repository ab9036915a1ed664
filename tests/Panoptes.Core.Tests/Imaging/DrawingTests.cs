using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Imaging;

public sealed class DrawingTests
{
    static readonly Rgb Paper = new(0xF6, 0xF7, 0xF9);

    [Fact]
    public void Text_is_wrapped_within_the_width_and_loses_nothing_but_spaces()
    {
        using var font = Typography.Font(14);
        const string text = "a picture of a cat, Donaudampfschifffahrtsgesellschaftskapitän, ελληνικά\nand a second paragraph";
        foreach (var width in (int[])[40, 90, 200, 1000])
        {
            var lines = Typography.Wrap(text, font, width);
            Assert.All(lines, l => Assert.True(Typography.Width(l, font) <= width, $"'{l}' is wider than {width}"));
            Assert.Equal(text.Replace(" ", "", StringComparison.Ordinal).Replace("\n", "", StringComparison.Ordinal), string.Concat(lines).Replace(" ", "", StringComparison.Ordinal));
        }
        var two = Typography.Wrap(text, font, 90, maxLines: 2);
        Assert.Equal(2, two.Count);
        Assert.EndsWith("…", two[1], StringComparison.Ordinal);
        Assert.True(Typography.Width(two[1], font) <= 90);
    }

    [Fact]
    public void The_embedded_font_has_the_alphabets_of_Europe_without_any_system_font()
    {
        Assert.True(Typography.Regular.ContainsGlyphs("Grüße, naïve façade, Ελληνικά, Кириллица, 0.97 × 10⁻³ … “quoted”"));
        Assert.True(Typography.SemiBold.ContainsGlyphs("AaZz09ÄöŁ"));
        Assert.NotEqual(Typography.Regular.FontWeight, Typography.SemiBold.FontWeight);
    }

    [Fact]
    public void A_sheet_shows_every_picture_whole_with_its_frame_label_and_score()
    {
        var red = Solid(40, 20, 200, 0, 0);
        var sheet = new ContactSheet
        {
            Title = "Title",
            Subtitle = "Subtitle",
            CellSize = 100,
            Rows = [new("a caption", [new(red, "label", 0.5) { IsCorrect = true }, new(red, "other", 7.25) { IsCorrect = false }]) { Query = red, Note = "a note" }],
        };
        var image = sheet.Render();
        Assert.Equal(3, image.Channels);
        // Three pictures of 84x42 (frame 100, inset 8), all of one color apart from rounded corners.
        var count = Count(image, 200, 0, 0);
        Assert.InRange(count, 3 * (84 * 42 - 60), 3 * 84 * 42);
        Assert.True(Count(image, 0x0E, 0x9F, 0x6E) > 300, "the frame of a right answer is green");
        Assert.True(Count(image, 0xE0, 0x3E, 0x3E) > 300, "the frame of a wrong answer is red");
        Assert.Equal([Paper.R, Paper.G, Paper.B], image.Pixels[..3]);
        Assert.Equal(image.Pixels, sheet.Render().Pixels);
    }

    [Fact]
    public void A_sheet_grows_with_its_rows_and_wraps_what_is_wider_than_its_columns()
    {
        SheetCell[] cells = [.. Enumerable.Range(0, 10).Select(i => new SheetCell(ImageFiles.Noise(5 + i * 30, 300 - i * 29, i % 2 == 0 ? 3 : 4, i)))];
        var wide = ContactSheet.Grid(cells, columns: 10).Render();
        var tall = ContactSheet.Grid(cells, columns: 5).Render();
        Assert.Equal(36 * 2 + 10 * 158 - 14, wide.Width);
        Assert.Equal(36 * 2 + 5 * 158 - 14, tall.Width);
        Assert.Equal(wide.Height + 158, tall.Height);
    }

    [Fact]
    public void A_sheet_that_cannot_be_drawn_says_why()
    {
        Assert.Throws<PanoptesException>(() => new ContactSheet { Rows = [] }.Render());
        Assert.Throws<PanoptesException>(() => new ContactSheet { Rows = [new("a", [])], CellSize = 5 }.Render());
        Assert.Throws<PanoptesException>(() => new ContactSheet { Rows = [new("a", [])], Columns = 0 }.Render());
        Assert.NotEmpty(new ContactSheet { Rows = [new("nothing found", [])] }.Render().Pixels);
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, true)]
    public void A_plot_draws_each_curve_in_its_color_and_skips_what_is_not_finite(bool logX, bool logY)
    {
        double[] x = [1, 10, 20, 50, 100];
        var image = new Plot
        {
            Title = "Loss",
            XLabel = "step",
            YLabel = "loss",
            LogX = logX,
            LogY = logY,
            Curves = [new("train", x, [5, 4, double.NaN, 2, 1]) { Smoothing = 0.5 }, new("validation", x, [6, 5, 0, 4, 3]) { HasMarkers = true }, new("nothing", [1], [double.NaN])],
        }.Render(480, 320);
        Assert.Equal((480, 320), (image.Width, image.Height));
        Assert.True(Count(image, 0x25, 0x63, 0xEB) > 200);
        Assert.True(Count(image, 0xEA, 0x58, 0x0C) > 200);
        Assert.Equal(0, Count(image, 0x0E, 0x9F, 0x6E));
    }

    [Fact]
    public void A_curve_of_unequal_lengths_is_refused() =>
        Assert.Contains("'train'", Assert.Throws<PanoptesException>(() => new Plot { Curves = [new("train", [1, 2], [1])] }.Render()).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(150)]
    public void A_confusion_picture_is_dark_where_predictions_are(int classes)
    {
        var counts = new long[classes, classes];
        for (var i = 0; i < classes; i++) counts[i, i] = 10;
        var image = Plot.ConfusionMatrix(counts, [.. Enumerable.Range(0, classes).Select(i => $"class {i}")], "All right", 640);
        var dark = Count(image, 0x12, 0x2B, 0x70);
        Assert.True(dark > 500);
        if (classes == 4) Assert.InRange(dark, 40_000, 90_000);                     // a quarter of the plot's area, less the written counts
    }

    [Fact]
    public void A_heat_map_takes_any_values_and_the_right_number_of_labels()
    {
        var image = Plot.HeatMap(new double[,] { { -1, 0, double.NaN }, { 2, 3, 4 } }, "Map", ["a", "b"], ["x", "y", "z"], "0.0", 400);
        Assert.True(Count(image, 0xD9, 0xDD, 0xE3) > 1000, "what is not finite is gray");
        Assert.NotEmpty(Plot.HeatMap(new double[1, 1]).Pixels);
        Assert.Throws<PanoptesException>(() => Plot.HeatMap(new double[2, 2], rowLabels: ["a"]));
        Assert.Throws<PanoptesException>(() => Plot.HeatMap(new double[0, 2]));
        Assert.Throws<PanoptesException>(() => Plot.ConfusionMatrix(new long[2, 3], ["a", "b"]));
    }

    static Image Solid(int width, int height, byte r, byte g, byte b)
    {
        var image = new Image(width, height, 3);
        for (var i = 0; i < image.Pixels.Length; i += 3) (image.Pixels[i], image.Pixels[i + 1], image.Pixels[i + 2]) = (r, g, b);
        return image;
    }

    static int Count(Image image, byte r, byte g, byte b)
    {
        var count = 0;
        for (var i = 0; i < image.Pixels.Length; i += 3)
            if (image.Pixels[i] == r && image.Pixels[i + 1] == g && image.Pixels[i + 2] == b) count++;
        return count;
    }
}
