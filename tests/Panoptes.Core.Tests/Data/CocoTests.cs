using System.Text.Json;
using CsCheck;
using Panoptes.Data;
using Panoptes.Parity;

namespace Panoptes.Core.Tests.Data;

public sealed class CocoTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-coco-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public void Masks_are_written_byte_by_byte_as_pycocotools_does() => Goldens.Check("segmentation/rle");

    [Fact]
    public void Masks_are_read_measured_drawn_and_merged_as_pycocotools_does()
    {
        using var document = JsonDocument.Parse(File.ReadAllText(Path.Combine(Goldens.Root, "segmentation", "rle", "rle.json")));
        var root = document.RootElement;
        foreach (var m in root.GetProperty("masks").EnumerateArray())
        {
            var (height, width) = (m.GetProperty("size")[0].GetInt32(), m.GetProperty("size")[1].GetInt32());
            var mask = RunLengthMask.Parse(m.GetProperty("counts").GetString()!, height, width);
            int[] runs = [.. m.GetProperty("uncompressed").EnumerateArray().Select(static n => n.GetInt32())];
            Assert.Equal(runs, mask.Runs);
            Assert.Equal(m.GetProperty("counts").GetString(), RunLengthMask.FromRuns(height, width, runs).Counts);
            Assert.Equal(m.GetProperty("area").GetInt64(), mask.Area);
            Assert.Equal(m.GetProperty("bbox").EnumerateArray().Select(static n => n.GetDouble()), [mask.Box.X, mask.Box.Y, mask.Box.Width, mask.Box.Height]);
        }
        foreach (var p in root.GetProperty("polygons").EnumerateArray())
        {
            var (height, width) = (p.GetProperty("size")[0].GetInt32(), p.GetProperty("size")[1].GetInt32());
            double[][] polygons = [.. p.GetProperty("polygons").EnumerateArray().Select(static x => x.EnumerateArray().Select(static n => n.GetDouble()).ToArray())];
            var mask = RunLengthMask.FromPolygons(polygons, height, width);
            Assert.Equal(p.GetProperty("counts").GetString(), mask.Counts);
            Assert.Equal(p.GetProperty("parts").EnumerateArray().Select(static x => x.GetString()), polygons.Select(x => RunLengthMask.FromPolygons([x], height, width).Counts));
            Assert.Equal(p.GetProperty("area").GetInt64(), mask.Area);
        }
        var pair = root.GetProperty("pair");
        var (a, b) = (Mask("a"), Mask("b"));
        Assert.Equal(pair.GetProperty("iou").GetDouble(), a.Iou(b), 1e-12);
        Assert.Equal(pair.GetProperty("iou_b_crowd").GetDouble(), a.Iou(b, crowd: true), 1e-12);
        Assert.Equal(pair.GetProperty("union").GetString(), RunLengthMask.Merge([a, b]).Counts);
        Assert.Equal(pair.GetProperty("intersection").GetString(), RunLengthMask.Merge([a, b], intersect: true).Counts);

        RunLengthMask Mask(string name) => RunLengthMask.Parse(pair.GetProperty(name).GetProperty("counts").GetString()!, pair.GetProperty(name).GetProperty("size")[0].GetInt32(), pair.GetProperty(name).GetProperty("size")[1].GetInt32());
    }

    [Fact]
    public void Masks_come_back_and_count_what_their_pixels_do() => Gen.Select(Gen.Int[1, 40], Gen.Int[1, 40], Gen.Int[0, 1000]).Sample((height, width, seed) =>
    {
        var random = new Random(seed);
        var share = random.NextDouble();
        var (x, y) = (Pixels(), Pixels());
        var (a, b) = (RunLengthMask.Encode(x, height, width), RunLengthMask.Encode(y, height, width));
        var back = new byte[x.Length];
        RunLengthMask.Parse(a.Counts, height, width).Decode(back);
        Assert.Equal(x, back);
        Assert.Equal(x.Count(static v => v != 0), a.Area);
        var (both, any) = (x.Zip(y).Count(static p => p.First != 0 && p.Second != 0), x.Zip(y).Count(static p => p.First != 0 || p.Second != 0));
        Assert.Equal((any, both), (RunLengthMask.Merge([a, b]).Area, RunLengthMask.Merge([a, b], intersect: true).Area));
        Assert.Equal(any == 0 ? 0 : (double)both / any, a.Iou(b), 1e-12);
        int[] inside = [.. Enumerable.Range(0, x.Length).Where(i => x[i] != 0)];
        if (inside.Length == 0) Assert.Equal(default, a.Box);
        else Assert.Equal((inside.Min(i => i % width), inside.Min(i => i / width), inside.Max(i => i % width) + 1, inside.Max(i => i / width) + 1), (a.Box.X, a.Box.Y, a.Box.Right, a.Box.Bottom));

        byte[] Pixels() => [.. Enumerable.Range(0, height * width).Select(_ => (byte)(random.NextDouble() < share ? 1 : 0))];
    }, iter: 300);

    [Fact]
    public void Runs_that_are_none_are_refused() => Gen.Select(Gen.String[Gen.Char['\0', '\u00ff'], 0, 12], Gen.Int[-1, 6], Gen.Int[-1, 6]).Sample((text, height, width) =>
    {
        try
        {
            var mask = RunLengthMask.Parse(text, height, width);
            Assert.Equal((long)height * width, mask.Runs.Sum(static r => (long)r));
        }
        catch (PanoptesException)
        {
        }
    }, iter: 3000);

    [Theory]
    [InlineData("[[1,1,5,5]]")]                                                                                // two corners
    [InlineData("[[1,1,5,5,1e300,2]]")]
    [InlineData("""{"size":[8,8],"counts":"P"}""")]                                                            // a number that does not end
    [InlineData("""{"size":[8,8],"counts":[1,2]}""")]
    [InlineData("""{"size":[-8,8],"counts":[64]}""")]
    [InlineData("""{"size":[4,4],"counts":[16]}""")]                                                           // of another size than the image
    public void A_file_with_a_broken_mask_is_refused_by_name(string segmentation)
    {
        var path = Path.Combine(folder, "broken.json");
        File.WriteAllText(path, $$"""{"images":[{"id":1,"file_name":"a.png","width":8,"height":8}],"categories":[{"id":3,"name":"cat"}],"annotations":[{"id":1,"image_id":1,"category_id":3,"segmentation":{{segmentation}}}]}""");
        Assert.Throws<PanoptesException>(() => CocoFile.Load(path).Things(masks: true));
    }

    [Theory]
    [InlineData("[]")]
    [InlineData("{")]
    [InlineData("""{"images":[{"id":1,"file_name":"a.png","width":0,"height":8}]}""")]
    [InlineData("""{"images":[{"id":1,"width":8,"height":8}]}""")]
    [InlineData("""{"images":[],"annotations":[{"id":1,"image_id":1}]}""")]
    [InlineData("""{"images":[{"id":1,"file_name":"a","width":8,"height":8}],"annotations":[{"id":1,"image_id":1,"category_id":1}]}""")]
    [InlineData("""{"images":[{"id":1,"file_name":"a","width":8,"height":8},{"id":1,"file_name":"b","width":8,"height":8}]}""")]
    public void A_file_that_is_not_COCO_s_is_refused_by_name(string json)
    {
        var path = Path.Combine(folder, "broken.json");
        File.WriteAllText(path, json);
        Assert.StartsWith(path, Assert.Throws<PanoptesException>(() => CocoFile.Load(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_written_is_read_again()
    {
        var mask = RunLengthMask.Encode([0, 1, 1, 0, 0, 1], 2, 3);
        var file = new CocoFile
        {
            Images = [new(7, "a/b.png", 3, 2)],
            Categories = [new(4, "red \"apple\"", "food"), new(9, "pear")],
            Annotations =
            [
                new() { Id = 1, Image = 7, Category = 4, Box = new(0, 0, 2.5, 2), Area = 3, Segmentation = new() { Runs = mask }, Keypoints = [1, 0, 2, 0, 0, 0] },
                new() { Id = 2, Image = 7, Category = 9, Box = new(1, 0, 2, 2), Area = 4, Crowd = true, Segmentation = new() { Polygons = [[0, 0, 2, 0, 2, 2]] } },
                new() { Id = 3, Image = 7, Caption = "an apple, é" },
            ],
        };
        var path = Path.Combine(folder, "instances.json");
        file.Save(path);
        var read = CocoFile.Load(path);
        Assert.Equal(file.Images, read.Images);
        Assert.Equal(file.Categories, read.Categories);
        Assert.Equal(file.Annotations.Select(static a => (a.Id, a.Image, a.Category, a.Box, a.Area, a.Crowd, a.Caption)), read.Annotations.Select(static a => (a.Id, a.Image, a.Category, a.Box, a.Area, a.Crowd, a.Caption)));
        Assert.Equal(file.Annotations[0].Keypoints, read.Annotations[0].Keypoints);
        Assert.Equal(mask.Counts, read.Annotations[0].Segmentation!.Runs!.Counts);
        Assert.Equal([0.0, 0, 2, 0, 2, 2], read.Annotations[1].Segmentation!.Polygons!.Single());
        Assert.Equal(3, read.Things(masks: true)[0].Region.Mask!.Area);

        var detections = Path.Combine(folder, "detections.json");
        CocoFile.SaveDetections(detections, [new(7, 4, DetectedRegion.Of(mask), 0.25)]);
        var detected = Assert.Single(read.LoadDetections(detections, masks: true));
        Assert.Equal((7, 4, 0.25, mask.Counts), (detected.Image, detected.Category, detected.Score, detected.Region.Mask!.Counts));
        Assert.Equal(new(1, 0, 2, 2), Assert.Single(read.LoadDetections(detections)).Region);
        Assert.Throws<PanoptesException>(() => new CocoFile().LoadDetections(detections));
        Assert.Equal(["detections.json", "instances.json"], Directory.GetFiles(folder).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void Keypoints_and_captions_are_written_and_read_again()
    {
        var file = new CocoFile
        {
            Images = [new(7, "a.png", 30, 20)],
            Categories = [new(1, "cat", "animal") { Keypoints = ["top", "left", "center"], Skeleton = [(1, 3), (2, 3)] }, new(2, "dog")],
            Annotations =
            [
                new() { Id = 1, Image = 7, Category = 1, Box = new(2, 3, 10, 12), Area = 80, Keypoints = [4, 5, 2, 0, 0, 0, 8.5, 9, 1] },
                new() { Id = 2, Image = 7, Category = 2, Box = new(0, 0, 3, 3), Area = 9 },
                new() { Id = 3, Image = 7, Caption = "a cat" },
                new() { Id = 4, Image = 7, Caption = "a \"cat\" and a dog" },
            ],
        };
        var path = Path.Combine(folder, "keypoints.json");
        file.Save(path);
        using (var document = JsonDocument.Parse(File.ReadAllText(path)))
        {
            Assert.Equal(2, document.RootElement.GetProperty("annotations")[0].GetProperty("num_keypoints").GetInt32());
            Assert.Equal("[[1,3],[2,3]]", document.RootElement.GetProperty("categories")[0].GetProperty("skeleton").GetRawText());
        }
        var read = CocoFile.Load(path);
        Assert.Equal(file.Categories, read.Categories);
        var pose = Assert.Single(read.Poses());
        Assert.Equal((7, 1, 2, 80.0), (pose.Image, pose.Category, pose.Labeled, pose.Area));
        Assert.Equal(file.Annotations[0].Keypoints, pose.Keypoints);
        Assert.Equal(["a cat", "a \"cat\" and a dog"], read.Captions[7]);

        var (poses, captions) = (Path.Combine(folder, "poses.json"), Path.Combine(folder, "captions.json"));
        CocoFile.SavePoses(poses, [new(7, 1, [4, 5, 1, 0, 0, 1, 8, 10, 1], 0.5)]);
        CocoFile.SaveCaptions(captions, [new(7, "a cat, é")]);
        Assert.Equal(new(7, "a cat, é"), Assert.Single(read.LoadCaptions(captions)));
        var detected = Assert.Single(read.LoadPoses(poses));
        Assert.Equal((7, 1, 0.5, 80.0), (detected.Image, detected.Category, detected.Score, detected.Area));
        Assert.Throws<PanoptesException>(() => new CocoFile().LoadPoses(poses));
        Assert.Throws<PanoptesException>(() => new CocoFile().LoadCaptions(captions));
        Assert.Throws<PanoptesException>(() => read.LoadPoses(captions));
        Assert.Throws<PanoptesException>(() => read.LoadCaptions(poses));
    }

    [Theory]
    [InlineData("""{"images":[],"categories":[{"id":1,"name":"a","keypoints":["x"],"skeleton":[[1]]}]}""")]
    [InlineData("""{"images":[],"categories":[{"id":1,"name":"a"},{"id":1,"name":"b"}]}""")]
    [InlineData("""{"images":[{"id":1,"file_name":"a","width":8,"height":8}],"categories":[{"id":1,"name":"a","keypoints":["x"]}],"annotations":[{"id":1,"image_id":1,"category_id":1,"keypoints":[1,1,2,3,3,2]}]}""")]
    [InlineData("""{"images":[{"id":1,"file_name":"a","width":8,"height":8}],"categories":[{"id":1,"name":"a"}],"annotations":[{"id":1,"image_id":1,"category_id":1,"keypoints":[1,1]}]}""")]
    public void Keypoints_that_are_none_are_refused_by_name(string json)
    {
        var path = Path.Combine(folder, "broken.json");
        File.WriteAllText(path, json);
        Assert.StartsWith(path, Assert.Throws<PanoptesException>(() => CocoFile.Load(path)).Message, StringComparison.Ordinal);
    }
}
