using System.Text.Json;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Data;

/// <summary>Scenes as files.</summary>
public sealed class SceneWriterTests : IDisposable
{
    static readonly SceneGenerator Generator = new(EmojiSetTests.Set, SceneGenerator.Things(EmojiSetTests.Set), new() { Size = 48, MinObjects = 2 }, 9);

    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void What_is_written_is_what_the_generator_made()
    {
        var out1 = folder["scenes"];
        Write(out1, 70);                                                               // more than one chunk
        var root = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(out1, "annotations.json"))).RootElement;
        var annotations = root.GetProperty("annotations").EnumerateArray().ToArray();
        var categories = root.GetProperty("categories").EnumerateArray().ToDictionary(static c => c.GetProperty("id").GetInt32(), static c => c.GetProperty("name").GetString());
        Assert.Equal(Enumerable.Range(1, annotations.Length), annotations.Select(static a => a.GetProperty("id").GetInt32()));
        Assert.Equal(70, root.GetProperty("images").GetArrayLength());
        var (captions, questions) = (File.ReadAllLines(Path.Combine(out1, "captions.jsonl")), File.ReadAllLines(Path.Combine(out1, "questions.jsonl")));
        Assert.Equal(70, captions.Length);
        var (next, asked, related) = (0, 0, 0);
        for (var i = 0; i < 70; i++)
        {
            var scene = Generator.Generate(i);
            var name = root.GetProperty("images")[i].GetProperty("file_name").GetString()!;
            Assert.Equal(scene.Image.Pixels, Image.Load(Path.Combine(out1, "images", name)).Pixels);
            Assert.Equal(scene.Ids, Image.Load(Path.Combine(out1, "masks", name)).Pixels);
            Assert.Equal(scene.Edges().Pixels, Image.Load(Path.Combine(out1, "edges", name)).Pixels);
            Assert.Equal(scene.Depth().Select(static d => (byte)MathF.Round(255 * d)), Image.Load(Path.Combine(out1, "depth", name)).Pixels);
            Assert.Equal(scene.Caption, JsonDocument.Parse(captions[i]).RootElement.GetProperty("caption").GetString());
            foreach (var question in scene.Questions)
            {
                var line = JsonDocument.Parse(questions[asked++]).RootElement;
                Assert.Equal(($"images/{name}", question.Text, question.Answer), (line.GetProperty("image").GetString(), line.GetProperty("question").GetString(), line.GetProperty("answer").GetString()));
            }
            for (var k = 0; k < scene.Objects.Count; k++)
            {
                var (a, o) = (annotations[next + k], scene.Objects[k]);
                Assert.Equal((i, o.Name), (a.GetProperty("image_id").GetInt32(), categories[a.GetProperty("category_id").GetInt32()]));
                Assert.Equal([o.Box.X, o.Box.Y, o.Box.Width, o.Box.Height], a.GetProperty("bbox").EnumerateArray().Select(static v => v.GetInt32()));
                Assert.Equal(scene.Mask(k).Pixels, Decode(a.GetProperty("segmentation")));
            }
            foreach (var r in scene.Relations)
            {
                var found = root.GetProperty("relations")[related++];
                Assert.Equal((i, next + 1 + r.Subject, next + 1 + r.Object), (found.GetProperty("image_id").GetInt32(), found.GetProperty("subject_id").GetInt32(), found.GetProperty("object_id").GetInt32()));
            }
            next += scene.Objects.Count;
        }
        Assert.Equal((annotations.Length, questions.Length), (next, asked));
        Assert.Equal(Enumerable.Range(0, 70).Sum(static i => Generator.References(Generator.Generate(i)).Count), File.ReadAllLines(Path.Combine(out1, "references.jsonl")).Length);
        Assert.Contains("CC-BY-SA-4.0", File.ReadAllText(Path.Combine(out1, "LICENSES.md")), StringComparison.Ordinal);
        Assert.True(Image.Load(Path.Combine(out1, "sheet.png")).Width > 400);
    }

    [Fact]
    public void COCO_s_files_are_read_back_as_the_scenes_that_they_were()
    {
        Write(folder["coco"], 20);
        var (file, captions) = (CocoFile.Load(Path.Combine(folder["coco"], "annotations.json")), CocoFile.Load(Path.Combine(folder["coco"], "captions.json")));
        var (things, poses, classes) = (file.Things(masks: true), file.Poses(), Generator.Classes(EmojiLabel.Subgroup));
        Assert.Equal(["top", "right", "bottom", "left", "center"], file.Categories[0].Keypoints);
        Assert.Equal(file.Images, captions.Images);
        using var names = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder["coco"], "classes.json")));
        Assert.Equal(classes.Names, names.RootElement.GetProperty("names").EnumerateArray().Select(static n => n.GetString()!));
        var (words, references) = (File.ReadAllLines(Path.Combine(folder["coco"], "captions.jsonl")), File.ReadLines(Path.Combine(folder["coco"], "references.jsonl")).ToLookup(static l => JsonDocument.Parse(l).RootElement.GetProperty("image").GetString()));
        var at = 0;
        for (var i = 0; i < 20; i++)
        {
            var (scene, first) = (Generator.Generate(i), at);
            Assert.Equal([scene.Caption], captions.Captions[i]);
            Assert.Equal(scene.Semantic(classes).Select(static c => (byte)c), Image.Load(Path.Combine(folder["coco"], "semantic", file.Images[i].FileName)).Pixels);
            for (var k = 0; k < scene.Objects.Count; k++, at++)
            {
                var (o, mask) = (scene.Objects[k], new byte[48 * 48]);
                Assert.Equal((i, o.Concept + 1, (double)o.Pixels, o.Box), (things[at].Image, things[at].Category, things[at].Area, things[at].Region.Mask!.Box));
                things[at].Region.Mask!.Decode(mask);
                Assert.Equal(scene.Mask(k).Pixels.Select(static v => v > 0), mask.Select(static v => v > 0));
                Assert.Equal(scene.Keypoints(k).SelectMany(static p => (double[])[Math.Round(p.X, 2), Math.Round(p.Y, 2), p.Visible ? 2 : 1]), poses[at].Keypoints);
            }
            using var line = JsonDocument.Parse(words[i]);
            Assert.Equal(scene.CaptionRegions.Select(r => (scene.Caption.Substring(r.Start, r.Length), string.Join(' ', r.Objects.Select(k => first + 1 + k)))),
                line.RootElement.GetProperty("words").EnumerateArray().Select(w => (scene.Caption.Substring(w.GetProperty("start").GetInt32(), w.GetProperty("length").GetInt32()), string.Join(' ', w.GetProperty("annotation_ids").EnumerateArray()))));
            Assert.Equal(Generator.References(scene).Select(static r => r.Text), references[$"images/{file.Images[i].FileName}"].Select(static l => JsonDocument.Parse(l).RootElement.GetProperty("text").GetString()!));
        }
        Assert.Equal(1.0, Panoptes.Evaluation.KeypointScores.Of(poses, [.. poses.Select(static p => new DetectedPose(p.Image, p.Category, p.Keypoints, 1))], [.. file.Categories.Select(static c => c.Id)], [0.05, 0.05, 0.05, 0.05, 0.05]).Ap!.Value, 1e-9);
    }

    [Fact]
    public void The_same_seed_gives_the_same_bytes()
    {
        foreach (var name in (string[])["a", "b"]) Write(folder[name], 3);
        var files = Directory.GetFiles(folder["a"], "*", SearchOption.AllDirectories);
        Assert.Equal(3 * 5 + 8, files.Length);
        Assert.All(files, f => Assert.Equal(File.ReadAllBytes(f), File.ReadAllBytes(f.Replace(folder["a"], folder["b"], StringComparison.Ordinal))));
    }

    [Fact]
    public void A_folder_in_use_is_refused_and_what_is_broken_off_leaves_nothing()
    {
        folder.Write("used/file.txt", "mine");
        Assert.Contains("is there already", Assert.Throws<PanoptesException>(() => Write(folder["used"], 1)).Message, StringComparison.Ordinal);
        Assert.Contains("0 scenes", Assert.Throws<PanoptesException>(() => Write(folder["none"], 0)).Message, StringComparison.Ordinal);
        using var cancel = new CancellationTokenSource();
        Assert.ThrowsAny<OperationCanceledException>(() => SceneWriter.Write(folder["stopped"], EmojiSetTests.Set, Generator, 500, new Stop(cancel), cancel.Token));
        Assert.Equal([folder["used"]], Directory.GetFileSystemEntries(folder.Path));
        Directory.CreateDirectory(folder["empty"]);
        Write(folder["empty"], 1);
        Assert.True(File.Exists(Path.Combine(folder["empty"], "annotations.json")));
    }

    static void Write(string folder, int count) => SceneWriter.Write(folder, EmojiSetTests.Set, Generator, count);

    /// <summary>COCO's run lengths down the columns, to rows of 255 and 0.</summary>
    static byte[] Decode(JsonElement segmentation)
    {
        var (height, width) = (segmentation.GetProperty("size")[0].GetInt32(), segmentation.GetProperty("size")[1].GetInt32());
        var (mask, at, value) = (new byte[height * width], 0, (byte)0);
        foreach (var run in segmentation.GetProperty("counts").EnumerateArray())
        {
            for (var i = 0; i < run.GetInt32(); i++, at++) mask[(at % height * width) + (at / height)] = value;
            value ^= 255;
        }
        Assert.Equal(height * width, at);
        return mask;
    }

    sealed class Stop(CancellationTokenSource cancel) : IProgress<int>
    {
        public void Report(int value) => cancel.Cancel();
    }
}
