using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Understanding.Tests;

public sealed class SeemSegmenterTests : IDisposable
{
    static readonly string[] Vocabulary = ["cat", "dog"];

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-seem-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    /// <summary>A tiny model with random weights, which reads what the bundled CLIP's tokenizer writes.</summary>
    SeemSegmenter Random()
    {
        TinyFolders.Decoder(folder, XDecoderTiny.Seem);
        return SeemSegmenter.Load(folder, Vocabulary);
    }

    static Image Picture(int width, int height)
    {
        var image = new Image(width, height, 3);
        new System.Random(4).NextBytes(image.Pixels);
        return image;
    }

    static RunLengthMask Part(int width, int height)
    {
        var mask = new byte[width * height];
        for (var y = height / 4; y < height / 2; y++) mask.AsSpan((y * width) + (width / 4), Math.Max(1, width / 4)).Fill(1);
        if (!mask.AsSpan().Contains((byte)1)) mask[0] = 1;
        return RunLengthMask.Encode(mask, height, width);
    }

    [Fact]
    public void Prompts_of_every_kind_and_any_combination_are_answered_in_the_images_size()
    {
        using var seem = Random();
        foreach (var (width, height) in new[] { (50, 30), (1, 1), (7, 90) })
        {
            var (image, part) = (Picture(width, height), Part(width, height));
            using var encoded = seem.Encode(image);
            Prompt[] prompts =
            [
                Prompt.Point(width / 2.0, height / 2.0), Prompt.Point(width, height, positive: false), Prompt.Box(0, 0, width, height), Prompt.Scribble(part), Prompt.Scribble(part, positive: false), Prompt.Mask(part),
                Prompt.Text("a red cat"), Prompt.Like(Picture(40, 20), Part(40, 20)),
            ];
            foreach (var some in prompts.Select(static p => new[] { p }).Append(prompts).Append([]))
            {
                foreach (var segment in seem.Segment(encoded, some))
                {
                    Assert.Equal((width, height), (segment.Mask.Width, segment.Mask.Height));
                    Assert.InRange(segment.Score, 0, 1);
                    Assert.True(segment.Mask.Area > 0);
                }
            }
            Assert.NotNull(seem.Names.Caption(encoded));
            Assert.Equal(width * height, seem.Names.Semantic(encoded, Vocabulary).Labels.Length);
            Assert.Equal(1, seem.Names.Embed(encoded).Sum(static v => (double)v * v), 1e-4);
        }
    }

    [Fact]
    public void Nothing_leaks_and_the_caller_is_told_what_does_not_fit()
    {
        using var seem = Random();
        var image = Picture(40, 40);
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);
        using var encoded = seem.Encode(image);
        Assert.Contains("outside the image", Assert.Throws<PanoptesException>(() => seem.Segment(encoded, [Prompt.Point(41, 3)])).Message, StringComparison.Ordinal);
        Assert.Throws<PanoptesException>(() => seem.Segment(encoded, [Prompt.Text(" ")]));
        Assert.Throws<PanoptesException>(() => seem.Segment(encoded, [Prompt.Text("a"), Prompt.Text("b")]));
        Assert.Throws<PanoptesException>(() => seem.Segment(encoded, [Prompt.Mask(Part(8, 8))]));
        Assert.Contains("tokens", Assert.Throws<PanoptesException>(() => seem.Segment(encoded, [Prompt.Text(string.Join(' ', Enumerable.Repeat("zebra", 40)))])).Message, StringComparison.Ordinal);

        void Once()
        {
            seem.Segment(image, [Prompt.Point(20, 20), Prompt.Text("cat"), Prompt.Like(image, Part(40, 40)), Prompt.Mask(Part(40, 40))]);
            using var encoded = seem.Encode(image);
            seem.Names.Caption(encoded);
            seem.Names.Panoptic(encoded, Vocabulary);
            seem.Names.Instances(encoded, ["one", "two", "three"]);
            seem.Names.Refer(encoded, "the left one");
            seem.Names.Embed("cat");
        }
    }

    [Fact]
    public void A_session_talks_to_it()
    {
        using var seem = Random();
        using var session = new Session(seem);
        session.Look(Picture(40, 40));
        Assert.True(session.Point([Prompt.Point(10, 10)]).Understood);
        Assert.True(session.Point([Prompt.Point(20, 12)], more: true).Understood);
        session.Look(Picture(60, 30));
        Assert.True(session.Say("again on this picture").Understood);
    }
}
