using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Representation.Training;
using Panoptes.Understanding.Training;

namespace Panoptes.Understanding.Tests;

/// <summary>The bundled models on scenes of a style that they never saw; their cards have the numbers of more scenes.</summary>
public sealed class ZooTests
{
    static string Zoo(string name) => Path.Combine(Parity.Goldens.Repository, "zoo", name);

    /// <summary>Scenes of things that both models know, large enough for both.</summary>
    static SceneTests Scenes(int count)
    {
        var usual = new SceneOptions();
        return new(EmojiSet.Open().Subset(300), usual with { Size = 128, MinObjects = 2, MaxObjects = 3, Scale = new(0.3f, 0.6f), Background = usual.Background.WithPhotographs() }, count);
    }

    static RunLengthMask Truth(Scene scene, int k) => RunLengthMask.Encode([.. scene.Mask(k).Pixels.Select(static v => (byte)(v > 127 ? 1 : 0))], scene.Size, scene.Size);

    [Fact]
    public void The_SAM_segments_what_a_box_is_drawn_around_and_finds_most_things_by_itself()
    {
        using var sam = Sam.Load(Zoo("sam-emoji"));
        var (byBox, byItself) = (new List<double>(), new List<double>());
        foreach (var scene in Scenes(8).Scenes(EmojiSplit.HeldOutStyle))
        {
            using var image = sam.Encode(scene.Image);
            var everything = sam.Everything(scene.Image);
            for (var k = 0; k < scene.Objects.Count; k++)
            {
                var (truth, box) = (Truth(scene, k), scene.Objects[k].Box);
                byBox.Add(truth.Iou(sam.Segment(image, Prompt.Box(box.X, box.Y, box.Right, box.Bottom))[0].Mask));
                byItself.Add(everything.Select(s => truth.Iou(s.Mask)).DefaultIfEmpty().Max());
            }
        }
        Assert.True(byBox.Average() > 0.7, $"{byBox.Average()}");
        Assert.True(byItself.Average() > 0.55, $"{byItself.Average()}");
    }

    [Fact]
    public void The_X_Decoder_names_things_and_finds_them_for_the_SAM_in_finer_masks()
    {
        var tests = Scenes(16);
        using var names = XDecoderSegmenter.Load(Zoo("xdecoder-emoji"), tests.Names);
        using var both = new GroundedSam(new SegmentGrounder(XDecoderSegmenter.Load(Zoo("xdecoder-emoji"), tests.Names)), Sam.Load(Zoo("sam-emoji")));
        var (named, coarse, fine) = (0, new List<double>(), new List<double>());
        foreach (var scene in tests.Scenes(EmojiSplit.HeldOutStyle))
        {
            var found = names.Segment(scene.Image, []);
            for (var k = 0; k < scene.Objects.Count; k++)
            {
                var (truth, label) = (Truth(scene, k), scene.Objects[k].Name);
                if (found.Any(s => s.Label == label && truth.Iou(s.Mask) > 0.5)) named++;
                coarse.Add(names.Segment(scene.Image, [Prompt.Text(label)]).Select(s => truth.Iou(s.Mask)).DefaultIfEmpty().Max());
                fine.Add(both.Segment(scene.Image, [Prompt.Text(label)]).Select(s => truth.Iou(s.Mask)).DefaultIfEmpty().Max());
            }
        }
        // By chance one in 112.
        Assert.True(named > 0.2 * coarse.Count, $"{named} of {coarse.Count}");
        Assert.True(coarse.Average() > 0.4, $"{coarse.Average()}");
        Assert.True(fine.Average() > coarse.Average() - 0.05, $"{fine.Average()} and {coarse.Average()}");
    }
}
