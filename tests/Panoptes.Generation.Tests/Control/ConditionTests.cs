using System.Globalization;
using System.Security.Cryptography;
using Panoptes.Imaging;

namespace Panoptes.Generation.Tests.Control;

public sealed class ConditionTests
{
    static Image Picture(int width, int height, int channels, Func<int, int, int, int> shade)
    {
        var image = new Image(width, height, channels);
        for (var i = 0; i < image.Pixels.Length; i++) image.Pixels[i] = (byte)shade(i / channels % width, i / channels / width, i % channels);
        return image;
    }

    static Image Numbered(int width, int height, int channels, int kind) => Picture(width, height, channels, (x, y, c) => kind switch
    {
        0 => (x * 37) + (y * 91) + (c * 53) + (x * y % 17 * 11),
        1 => (((x - 40) * (x - 40)) + ((y - 30) * (y - 30)) < 400 ? 190 : 40) + (x > 70 ? 45 : 0) + (c * 6) + (y % 3),
        _ => (x * x / (9 + c)) + (y * y / 13),
    });

    /// <summary>A gray disk and a dark bar before something light.</summary>
    static Image Shapes(int side = 256) => Picture(side, side, 3, (x, y, c) =>
    {
        var (u, v) = (x * 256 / side, y * 256 / side);
        return ((u - 90) * (u - 90)) + ((v - 100) * (v - 100)) < 50 * 50 ? 120 - (40 * c) : u is > 180 and < 200 && v is > 40 and < 220 ? 20 : 230;
    });

    static int White(Image image) => image.Pixels.Count(static p => p == 255);

    static ConditionSources Known { get; } = new()
    {
        Poses = static _ => [[.. Enumerable.Range(0, 17).SelectMany(static k => new double[] { 3 * k, 2 * k, 2 })]],
        Classes = static i => new(i.Width, i.Height, new int[i.Width * i.Height], ["sky"]),
        Depth = static i => new(i.Width, i.Height, [.. Enumerable.Range(0, i.Width * i.Height).Select(static k => (float)k)]),
    };

    [Theory]
    // What OpenCV 4.13's Canny gives of the same pictures: how many pixels are edges, and the beginning of their SHA-256.
    [InlineData(97, 71, 1, 0, 100, 200, 3, false, 2276, "6A2538651071B75B")]
    [InlineData(97, 71, 1, 0, 30.5, 90.2, 3, true, 2261, "FDE8D891E6DDE440")]
    [InlineData(97, 71, 1, 0, 400, 1200, 5, false, 2647, "1E9A22FAD2D1BFBC")]
    [InlineData(97, 71, 1, 0, 900, 1500, 7, false, 2653, "A7B05F8DEA654162")]
    [InlineData(97, 71, 1, 0, 1000, 2000, 7, true, 2673, "DDF4664DD35B8F50")]
    [InlineData(97, 71, 1, 1, 100, 200, 3, false, 128, "239D21977D2846DC")]
    [InlineData(97, 71, 1, 1, 30.5, 90.2, 3, true, 199, "E4EED3B1EAB3B759")]
    [InlineData(97, 71, 1, 1, 400, 1200, 5, false, 213, "EBD80C199AFA21BD")]
    [InlineData(97, 71, 1, 1, 900, 1500, 7, false, 219, "5051A6485D0ABA16")]
    [InlineData(97, 71, 1, 1, 1000, 2000, 7, true, 223, "1B414935AD41979D")]
    [InlineData(97, 71, 1, 2, 100, 200, 3, false, 501, "6EE29746307A357F")]
    [InlineData(97, 71, 1, 2, 30.5, 90.2, 3, true, 908, "5E9A9B014BEBECEB")]
    [InlineData(97, 71, 1, 2, 400, 1200, 5, false, 814, "5F1B4E549AF0E083")]
    [InlineData(97, 71, 1, 2, 900, 1500, 7, false, 840, "BC41BA3952CD2C12")]
    [InlineData(97, 71, 1, 2, 1000, 2000, 7, true, 845, "EC26C7512CB84678")]
    [InlineData(97, 71, 3, 0, 100, 200, 3, false, 2327, "62CC90092EDB7E8D")]
    [InlineData(97, 71, 3, 0, 30.5, 90.2, 3, true, 2218, "31432FF8770DDA87")]
    [InlineData(97, 71, 3, 0, 400, 1200, 5, false, 2302, "05A5F2041D149861")]
    [InlineData(97, 71, 3, 0, 900, 1500, 7, false, 2303, "62CC50A5459D3C4F")]
    [InlineData(97, 71, 3, 0, 200, 100, 3, false, 2327, "62CC90092EDB7E8D")]
    [InlineData(97, 71, 3, 0, 900.5, 2500.5, 5, true, 2308, "D15BF0DDBDA98392")]
    [InlineData(97, 71, 3, 0, 1000, 2000, 7, true, 2295, "1008D61274F3DD5F")]
    [InlineData(97, 71, 3, 1, 100, 200, 3, false, 128, "239D21977D2846DC")]
    [InlineData(97, 71, 3, 1, 30.5, 90.2, 3, true, 199, "E4EED3B1EAB3B759")]
    [InlineData(97, 71, 3, 1, 400, 1200, 5, false, 213, "EBD80C199AFA21BD")]
    [InlineData(97, 71, 3, 1, 900, 1500, 7, false, 219, "5051A6485D0ABA16")]
    [InlineData(97, 71, 3, 1, 200, 100, 3, false, 128, "239D21977D2846DC")]
    [InlineData(97, 71, 3, 1, 900.5, 2500.5, 5, true, 146, "B14A8625DDA5EC19")]
    [InlineData(97, 71, 3, 1, 1000, 2000, 7, true, 223, "1B414935AD41979D")]
    [InlineData(97, 71, 3, 2, 100, 200, 3, false, 751, "36E8912164AD9F8C")]
    [InlineData(97, 71, 3, 2, 30.5, 90.2, 3, true, 1003, "0CF20274E823E6EF")]
    [InlineData(97, 71, 3, 2, 400, 1200, 5, false, 1144, "7572C2406572110C")]
    [InlineData(97, 71, 3, 2, 900, 1500, 7, false, 1150, "71E5B7444C7EA4B5")]
    [InlineData(97, 71, 3, 2, 200, 100, 3, false, 751, "36E8912164AD9F8C")]
    [InlineData(97, 71, 3, 2, 900.5, 2500.5, 5, true, 886, "192A3C1DE583109C")]
    [InlineData(97, 71, 3, 2, 1000, 2000, 7, true, 1166, "9AEF5589519EDE0C")]
    [InlineData(1, 1, 1, 0, 100, 200, 3, false, 0, "6E340B9CFFB37A98")]
    [InlineData(2, 5, 3, 0, 100, 200, 3, false, 5, "7E97E1E064573167")]
    [InlineData(2, 5, 3, 1, 100, 200, 3, false, 0, "01D448AFD9280654")]
    [InlineData(2, 5, 3, 2, 100, 200, 3, false, 0, "01D448AFD9280654")]
    [InlineData(640, 480, 3, 0, 100, 200, 3, false, 99318, "0D236168DCB13C42")]
    [InlineData(640, 480, 3, 0, 400, 1200, 5, false, 100692, "836FC81F959589B0")]
    [InlineData(640, 480, 3, 0, 1000, 2000, 7, true, 100695, "C918070A20E10C5C")]
    [InlineData(640, 480, 3, 1, 100, 200, 3, false, 128, "E01DEC7FB7DDE9F4")]
    [InlineData(640, 480, 3, 1, 400, 1200, 5, false, 622, "652CFC1D0C20450F")]
    [InlineData(640, 480, 3, 1, 1000, 2000, 7, true, 632, "1ADD13B5BC2FEFF9")]
    [InlineData(640, 480, 3, 2, 100, 200, 3, false, 96359, "03D8167F7FB11D27")]
    [InlineData(640, 480, 3, 2, 400, 1200, 5, false, 108046, "6D8204CD6DBA1AB8")]
    [InlineData(640, 480, 3, 2, 1000, 2000, 7, true, 110371, "331DAF8FF1C3E3D8")]
    public void Cannys_edges_are_OpenCVs_to_the_pixel(int width, int height, int channels, int kind, double low, double high, int aperture, bool exact, int count, string hash)
    {
        var edges = new CannyCondition { Low = low, High = high, Aperture = aperture, Exact = exact }.Edges(Numbered(width, height, channels, kind));
        Assert.Equal((count, hash), (White(edges), Convert.ToHexString(SHA256.HashData(edges.Pixels))[..16]));
    }

    [Fact]
    public void Every_kind_draws_an_RGB_picture_of_the_images_size_be_it_one_pixel_or_many_and_keeps_no_tensor()
    {
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        static void Once()
        {
            foreach (var image in (Image[])[new(1, 1, 1, [7]), new(1, 1, 4), Numbered(1, 33, 3, 0), Numbered(40, 2, 3, 1), Numbered(61, 47, 4, 2)])
            {
                foreach (var kind in ConditionMakers.All)
                {
                    var made = ConditionMakers.Create(kind.Name, Known).Make(image);
                    Assert.Equal((image.Width, image.Height, 3), (made.Width, made.Height, made.Channels));
                }
            }
        }
    }

    [Fact]
    public void A_comma_is_no_point_of_a_number()
    {
        Assert.Contains("blur.sigma is '1,5'; expected a number.", Assert.Throws<PanoptesException>(static () => ConditionMakers.Create("blur", null, new Dictionary<string, string> { ["sigma"] = "1,5" })).Message);
        Assert.Contains("shuffle.seed is '-1'; expected a whole number, 0 or more.", Assert.Throws<PanoptesException>(static () => ConditionMakers.Create("shuffle", null, new Dictionary<string, string> { ["seed"] = "-1" })).Message);
    }

    [Fact]
    public void A_flat_image_has_no_edges_lines_or_strokes()
    {
        foreach (var kind in (string[])["canny", "lines", "softedge", "scribble", "sketch", "lineart"])
            Assert.All(ConditionMakers.Create(kind).Make(Picture(90, 70, 3, static (_, _, c) => 60 + (50 * c))).Pixels, static p => Assert.Equal(0, p));
    }

    [Fact]
    public void A_large_image_is_drawn_from_a_smaller_copy_at_its_own_size()
    {
        var large = Shapes(4096);
        // 2048 x 2048 pixels are the most that are looked at.
        var small = large.Resize(2048, 2048, ResizeFilter.Box);
        foreach (var (kind, back) in (ReadOnlySpan<(string, ResizeFilter)>)[("softedge", ResizeFilter.Bilinear), ("scribble", ResizeFilter.Nearest), ("sketch", ResizeFilter.Nearest)])
        {
            var made = ConditionMakers.Create(kind).Make(large);
            Assert.True(White(made) > 0);
            Assert.Equal(ConditionMakers.Create(kind).Make(small).Resize(4096, 4096, back).Pixels, made.Pixels);
        }
        var lines = new LinesCondition();
        Assert.NotEmpty(lines.Find(large));
        Assert.Equal(lines.Find(small).Select(static l => Math.Round(2 * l.Length, 6)), lines.Find(large).Select(static l => Math.Round(l.Length, 6)));
    }

    [Fact]
    public void Lines_lie_on_the_sides_of_a_turned_square_and_noise_has_none()
    {
        var angle = 20 * Math.PI / 180;
        (double X, double Y) Turned(double x, double y) => ((((x - 128) * Math.Cos(angle)) + ((y - 128) * Math.Sin(angle))), (((y - 128) * Math.Cos(angle)) - ((x - 128) * Math.Sin(angle))));
        var square = Picture(256, 256, 1, (x, y, _) => Turned(x, y) is var (u, v) && Math.Abs(u) < 70 && Math.Abs(v) < 70 ? 200 : 50);
        var lines = new LinesCondition().Find(square);
        Assert.Equal(4, lines.Count);
        foreach (var line in lines)
        {
            Assert.InRange(line.Length, 130, 142);
            foreach (var (u, v) in new[] { Turned(line.X1, line.Y1), Turned(line.X2, line.Y2) })
                Assert.InRange(Math.Max(Math.Abs(u), Math.Abs(v)), 68, 72);
        }
        var random = new System.Random(5);
        Assert.Empty(new LinesCondition().Find(Picture(200, 200, 1, (_, _, _) => random.Next(256))));
        Assert.Equal(0, White(new LinesCondition { Shortest = 0.9 }.Make(square)));
    }

    [Fact]
    public void Soft_edges_are_strongest_on_the_borders_of_things_and_weak_in_textures()
    {
        var edges = new SoftEdgeCondition().Make(Shapes()).ToGray();
        Assert.True(edges.Pixels[(100 * 256) + 40] > 200 && edges.Pixels[(150 * 256) + 180] > 200);      // the disk's left, the bar's left
        Assert.True(edges.Pixels[(100 * 256) + 90] < 20 && edges.Pixels[(20 * 256) + 20] < 20);          // the disk's middle, nothing
        var textured = Picture(256, 256, 1, static (x, y, _) => x < 128 ? ((x / 3) + (y / 3)) % 2 == 0 ? 80 : 160 : 235);
        var soft = new SoftEdgeCondition().Make(textured).ToGray();
        double Mean(int from, int to) => Enumerable.Range(60, 140).SelectMany(y => Enumerable.Range(from, to - from).Select(x => (double)soft.Pixels[(y * 256) + x])).Average();
        Assert.True(Mean(126, 130) > 3 * Mean(40, 100));
        Assert.True(new SoftEdgeCondition { Safe = true }.Make(Shapes()).Pixels.Distinct().Count() <= 4);
    }

    [Fact]
    public void Scribbles_are_thick_sketches_thin_and_both_run_along_the_borders()
    {
        var (scribble, sketch) = (new ScribbleCondition().Make(Shapes()).ToGray(), new SketchCondition().Make(Shapes()).ToGray());
        foreach (var strokes in (Image[])[scribble, sketch])
        {
            Assert.All(strokes.Pixels, static p => Assert.True(p is 0 or 255));
            for (var i = 0; i < strokes.Pixels.Length; i++)
            {
                if (strokes.Pixels[i] == 0) continue;
                var (x, y) = (i % 256, i / 256);
                var disk = Math.Abs(Math.Sqrt(((x - 90) * (x - 90)) + ((y - 100) * (y - 100))) - 50);
                var bar = x is > 165 and < 215 && y is > 25 and < 235;
                Assert.True(disk < 12 || bar);
            }
        }
        Assert.True(White(scribble) > 1.5 * White(sketch) && White(sketch) > 400);
        var seeded = new ScribbleCondition { Seed = 3 };
        Assert.Equal(seeded.Make(Shapes()).Pixels, seeded.Make(Shapes()).Pixels);
        Assert.True(Enumerable.Range(0, 6).Select(s => White(new ScribbleCondition { Seed = (ulong)s }.Make(Shapes()))).Distinct().Count() > 3);
    }

    [Fact]
    public void A_line_drawing_has_lines_and_no_filled_areas()
    {
        var drawn = new LineArtCondition().Make(Shapes()).ToGray();
        Assert.True(Enumerable.Range(36, 8).Max(x => drawn.Pixels[(100 * 256) + x]) > 200);
        Assert.True(drawn.Pixels[(100 * 256) + 90] < 10 && drawn.Pixels[(20 * 256) + 20] < 10);
        Assert.InRange(drawn.Pixels.Average(static p => p / 255.0), 0.005, 0.08);
    }

    [Fact]
    public void Joints_have_their_colors_at_their_places_and_the_neck_is_between_the_shoulders()
    {
        // Nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; left before right.
        (int X, int Y)[] coco = [(200, 60), (215, 50), (185, 50), (235, 55), (165, 55), (260, 120), (140, 120), (290, 190), (110, 190), (300, 260), (100, 260), (230, 260), (170, 260), (235, 350), (165, 350), (240, 440), (160, 440)];
        int[] joints = [0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10];
        Image Draw(Func<int, double> visible) => new PoseCondition { Poses = _ => [[.. coco.SelectMany((p, k) => new double[] { p.X, p.Y, visible(k) })]] }.Make(new Image(512, 512, 3));
        var image = Draw(static _ => 2);
        Assert.All(coco.Zip(joints), p => Assert.Equal(PoseCondition.Colors[p.Second], At(image, p.First.X, p.First.Y)));
        Assert.Equal(PoseCondition.Colors[1], At(image, 200, 120));
        // Halfway from the right shoulder to its elbow, in three fifths of that limb's color.
        Assert.Equal(new Rgb(153, 102, 0), At(image, 125, 155));
        Assert.Equal(Rgb.Black, At(image, 400, 400));
        // A shoulder that is not seen takes the neck and its limbs with it.
        var hidden = Draw(static k => k == 5 ? 0 : 1);
        Assert.Equal((Rgb.Black, Rgb.Black), (At(hidden, 260, 120), At(hidden, 200, 120)));
        Assert.Equal(PoseCondition.Colors[2], At(hidden, 140, 120));
        Assert.Contains("expected three for each", Assert.Throws<PanoptesException>(() => new PoseCondition { Poses = static _ => [[1, 2, 3]] }.Make(image)).Message, StringComparison.Ordinal);

        static Rgb At(Image image, int x, int y) => new(image.Pixels[3 * ((y * image.Width) + x)], image.Pixels[(3 * ((y * image.Width) + x)) + 1], image.Pixels[(3 * ((y * image.Width) + x)) + 2]);
    }

    [Fact]
    public void Classes_have_the_palettes_colors_and_others_one_of_their_own()
    {
        var condition = new SegmentationCondition { Classes = static i => new(i.Width, i.Height, [0, 1, 2, -1], ["building, edifice", "giraffe", "red apple"]) };
        var own = condition.Color("red apple");
        Assert.Equal(new byte[] { 180, 120, 120, 72, 0, 118, own.R, own.G, own.B, 0, 0, 0 }, condition.Make(new Image(4, 1, 3)).Pixels);
        Assert.NotEqual(own, condition.Color("green apple"));
        Assert.Equal(new Rgb(150, 5, 61), condition.Color("person"));
        Assert.Equal(new Rgb(220, 20, 60), (condition with { Coco = true }).Color("Person"));
        Assert.Equal((150, 133), (SegmentationPalettes.Ade20K.Count, SegmentationPalettes.Coco.Count));
        Assert.Contains("expected the image's 5x1", Assert.Throws<PanoptesException>(() => condition.Make(new Image(5, 1, 3))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_near_is_bright_whichever_way_depth_is_told()
    {
        Image Draw(bool nearness) => new DepthCondition { Depth = i => new(i.Width, i.Height, [2, 4, 3, 2.5f], nearness) }.Make(new Image(4, 1, 1));
        Assert.Equal([255, 0, 128, 191], Draw(false).ToGray().Pixels);
        Assert.Equal([0, 255, 128, 64], Draw(true).ToGray().Pixels);
        Assert.All(new DepthCondition { Depth = static i => new(i.Width, i.Height, [7, 7]) }.Make(new Image(2, 1, 1)).Pixels, static p => Assert.Equal(0, p));
        Assert.Contains("finite", Assert.Throws<PanoptesException>(() => new DepthCondition { Depth = static i => new(i.Width, i.Height, [float.NaN]) }.Make(new Image(1, 1, 1))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_plane_and_a_sphere_face_where_they_do()
    {
        // A plane whose nearness rises by 1 over 200 columns: Sobel's difference is 8 / 199 of the range everywhere inside.
        var plane = new NormalCondition { Depth = static i => new(i.Width, i.Height, [.. Enumerable.Range(0, 200 * 50).Select(static k => k % 200 / 199f)], true), Background = 0, Range = 100, Forward = 3 }.Make(new Image(200, 50, 3));
        var (x, length) = (800 / 199.0, Math.Sqrt((800 / 199.0 * 800 / 199.0) + 9));
        Assert.Equal(new byte[] { (byte)((x / length * 127.5) + 127.5), 127, (byte)((3 / length * 127.5) + 127.5) }, plane.Pixels.AsSpan(3 * ((25 * 200) + 100), 3).ToArray());

        // A ball's nearness is √(r² - x² - y²): with Sobel's eight as the constant the vector is (-x, -y, z) / r.
        const int Side = 301, Middle = 150;
        const double Radius = 140;
        double Z(int u, int v) => Math.Sqrt(Math.Max(0, (Radius * Radius) - ((u - Middle) * (u - Middle)) - ((v - Middle) * (v - Middle))));
        var ball = new NormalCondition { Depth = i => new(i.Width, i.Height, [.. Enumerable.Range(0, Side * Side).Select(k => (float)Z(k % Side, k / Side))], true), Background = 0, Range = Radius, Forward = 8 }.Make(new Image(Side, Side, 3));
        for (var v = Middle - 90; v <= Middle + 90; v += 15)
        {
            for (var u = Middle - 90; u <= Middle + 90; u += 15)
            {
                if (((u - Middle) * (u - Middle)) + ((v - Middle) * (v - Middle)) > 100 * 100) continue;
                double[] normal = [-(u - Middle) / Radius, -(v - Middle) / Radius, Z(u, v) / Radius];
                for (var c = 0; c < 3; c++) Assert.InRange(ball.Pixels[(3 * ((v * Side) + u)) + c] - ((normal[c] * 127.5) + 127.5), -1.6, 1.6);
            }
        }
        // What is far behind faces the viewer.
        var reversed = new NormalCondition { Depth = static i => new(i.Width, i.Height, [.. Enumerable.Range(0, 200 * 50).Select(static k => k % 200 / 199f)], true), Background = 0, Range = 100, Forward = 3, Reversed = true }.Make(new Image(200, 50, 3));
        Assert.Equal(plane.Pixels.Chunk(3).Select(static c => (c[2], c[1], c[0])), reversed.Pixels.Chunk(3).Select(static c => (c[0], c[1], c[2])));
        Assert.Equal(new byte[] { 127, 127, 255 }, new NormalCondition { Depth = static i => new(i.Width, i.Height, [0, 0.05f, 1], true) }.Make(new Image(3, 1, 3)).Pixels[..3]);
    }

    [Fact]
    public void A_resolution_brings_the_short_side_to_it_and_both_to_multiples_of_64()
    {
        var made = new CannyCondition { Resolution = 128 }.Make(Numbered(300, 200, 3, 1));
        Assert.Equal((192, 128), (made.Width, made.Height));
    }

    [Fact]
    public void Options_are_set_by_name_and_what_does_not_fit_is_one_sentence()
    {
        var options = new Dictionary<string, string> { ["low"] = "12.5", ["APERTURE"] = "5", ["exact"] = "true" };
        Assert.Equal(new CannyCondition { Low = 12.5, Aperture = 5, Exact = true }, ConditionMakers.Create("Canny", null, options));
        Assert.Equal(new ScribbleCondition { LeftOut = 0.1, Seed = 4 }, ConditionMakers.Create("scribble", null, new Dictionary<string, string> { ["left_out"] = "0.1", ["seed"] = "4" }));
        foreach (var (name, option, value, part) in new[] { ("cany", "low", "1", "There is no condition 'cany'"), ("canny", "middle", "1", "no option 'middle'; expected aperture, exact, high, low, resolution"), ("canny", "low", "some", "expected a number"), ("canny", "aperture", "3.5", "expected a whole number"), ("depth", "x", "1", "none was given") })
            Assert.Contains(part, Assert.Throws<PanoptesException>(() => ConditionMakers.Create(name, null, new Dictionary<string, string> { [option] = value })).Message, StringComparison.Ordinal);
        foreach (var wrong in (ConditionMaker[])[new CannyCondition { Aperture = 4 }, new CannyCondition { Low = double.NaN }, new ScribbleCondition { Sigma = 0 }, new LinesCondition { Shortest = 2 }, new BlurCondition { Sigma = -1 }, new CannyCondition { Resolution = 3 }, new ShuffleCondition { Grain = 0 }])
            Assert.Contains("expected", Assert.Throws<PanoptesException>(() => wrong.Make(new Image(8, 8, 3))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_shuffle_keeps_the_images_colors_and_a_blur_their_mean()
    {
        var image = Shapes(128);
        var shuffled = new ShuffleCondition { Seed = 2 }.Make(image);
        Assert.NotEqual(image.Pixels, shuffled.Pixels);
        Assert.Subset(Colors(image), Colors(shuffled));
        Assert.InRange(new BlurCondition { Sigma = 30 }.Make(image).Pixels.Average(static p => p) - image.Pixels.Average(static p => p), -6, 6);

        static HashSet<string> Colors(Image image) => [.. image.Pixels.Chunk(3).Select(static c => string.Join(' ', c.Select(static v => v.ToString(CultureInfo.InvariantCulture))))];
    }
}
