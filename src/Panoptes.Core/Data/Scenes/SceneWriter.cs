using System.Globalization;
using System.Runtime.ExceptionServices;
using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>Writes scenes as a data set that other programs read.</summary>
public static class SceneWriter
{
    /// <summary>The most scenes that a folder may hold.</summary>
    public const int MostScenes = 1_000_000;

    const int Chunk = 64, SheetRows = 12;

    static readonly string[] Points = [.. Enum.GetNames<SceneKeypointKind>().Select(static n => n.ToLowerInvariant())];

    /// <summary>Every point and the center, counted from 1 as COCO does.</summary>
    static readonly int[][] Skeleton = [[1, 5], [2, 5], [3, 5], [4, 5]];

    static readonly JsonSerializerOptions Json = new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>
    /// Writes scenes 0 to <paramref name="count"/> - 1: <c>images/000000.png</c>; <c>masks/000000.png</c>, where 0 is the background and k + 1 object k;
    /// <c>semantic/000000.png</c>, the classes of <c>classes.json</c> (subgroups and stuff); <c>depth/000000.png</c>, 255 being farthest; <c>edges/000000.png</c>; <c>annotations.json</c> in COCO's form
    /// (boxes, areas, masks as run lengths, keypoints, categories; and relations); <c>captions.json</c> in COCO's form; <c>captions.jsonl</c> with the objects that words mean; <c>questions.jsonl</c>;
    /// <c>references.jsonl</c>; <c>sheet.png</c> to look at; <c>LICENSES.md</c>. The folder appears whole or not at all.
    /// </summary>
    /// <param name="folder">Must not exist, or be empty.</param>
    /// <param name="set">The generator's emoji.</param>
    /// <param name="generator">Makes the scenes.</param>
    /// <param name="count">How many.</param>
    /// <param name="progress">Is told how many are written.</param>
    /// <param name="cancel">Stops; nothing is left then.</param>
    /// <exception cref="PanoptesException">The folder holds something or cannot be written, or the number is out of range.</exception>
    public static void Write(string folder, EmojiSet set, SceneGenerator generator, int count, IProgress<int>? progress = null, CancellationToken cancel = default)
    {
        if (count is < 1 or > MostScenes) throw new PanoptesException($"{count} scenes were asked for, but 1 to {MostScenes:N0} can be written.");
        if (File.Exists(folder) || (Directory.Exists(folder) && Directory.EnumerateFileSystemEntries(folder).Any())) throw new PanoptesException($"{folder} is there already; expected a folder that does not exist or is empty.");
        try
        {
            AtomicFolder.Write(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder)), temporary =>
            {
                foreach (var kind in (string[])["images", "masks", "semantic", "depth", "edges"]) Directory.CreateDirectory(Path.Combine(temporary, kind));
                WriteAll(temporary, set, generator, count, progress, cancel);
                SceneSheet.Create(generator, 0, Math.Min(count, SheetRows), cancel: cancel).Save(Path.Combine(temporary, "sheet.png"));
                File.WriteAllText(Path.Combine(temporary, "LICENSES.md"), Licenses(set, generator));
            }, cancel);
        }
        catch (AggregateException e)
        {
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }
    }

    static void WriteAll(string folder, EmojiSet set, SceneGenerator generator, int count, IProgress<int>? progress, CancellationToken cancel)
    {
        using var captions = new StreamWriter(Path.Combine(folder, "captions.jsonl"));
        using var questions = new StreamWriter(Path.Combine(folder, "questions.jsonl"));
        using var references = new StreamWriter(Path.Combine(folder, "references.jsonl"));
        using var stream = File.Create(Path.Combine(folder, "annotations.json"));
        using var json = new Utf8JsonWriter(stream, new() { Encoder = Json.Encoder });
        var (size, options) = (generator.Options.Size, new ParallelOptions { CancellationToken = cancel });
        var relations = new List<(int Image, int Subject, SceneRelationKind Kind, int Object)>();
        var (classes, coco) = (generator.Classes(EmojiLabel.Subgroup), new List<CocoAnnotation>(count));
        File.WriteAllText(Path.Combine(folder, "classes.json"), JsonSerializer.Serialize(new { names = classes.Names, things = classes.Things }, Json));
        json.WriteStartObject();
        json.WriteStartArray("categories");
        foreach (var concept in generator.Concepts)
            Value(json, new { id = concept + 1, name = set.Concepts[concept].Name, supercategory = set.Concepts[concept].Subgroup, keypoints = Points, skeleton = Skeleton });
        json.WriteEndArray();
        json.WriteStartArray("annotations");
        for (var (start, id) = (0, 1); start < count; start += Chunk)
        {
            var scenes = new Scene[Math.Min(Chunk, count - start)];
            Parallel.For(0, scenes.Length, options, i =>
            {
                var scene = scenes[i] = generator.Generate(start + i);
                var name = Name(start + i);
                scene.Image.Save(Path.Combine(folder, "images", name));
                new Image(size, size, 1, scene.Ids).Save(Path.Combine(folder, "masks", name));
                new Image(size, size, 1, Array.ConvertAll(scene.Semantic(classes), static c => (byte)c)).Save(Path.Combine(folder, "semantic", name));
                SceneSheet.DrawDepth(scene).Save(Path.Combine(folder, "depth", name));
                scene.Edges().Save(Path.Combine(folder, "edges", name));
            });
            for (var i = 0; i < scenes.Length; i++)
            {
                var (scene, image) = (scenes[i], start + i);
                for (var k = 0; k < scene.Objects.Count; k++) Annotate(json, set, scene, k, image, id + k);
                foreach (var r in scene.Relations) relations.Add((image, id + r.Subject, r.Kind, id + r.Object));
                coco.Add(new() { Id = image + 1, Image = image, Caption = scene.Caption });
                var words = scene.CaptionRegions.Select(r => new { start = r.Start, length = r.Length, annotation_ids = r.Objects.Select(k => id + k) });
                captions.WriteLine(JsonSerializer.Serialize(new { image = $"images/{Name(image)}", caption = scene.Caption, words }, Json));
                foreach (var r in generator.References(scene))
                    references.WriteLine(JsonSerializer.Serialize(new { image = $"images/{Name(image)}", kind = r.Kind.ToString().ToLowerInvariant(), text = r.Text, annotation_ids = r.Objects.Select(k => id + k), needed = r.IsNeeded, held_out = r.IsHeldOut }, Json));
                id += scene.Objects.Count;
                foreach (var q in scene.Questions)
                    questions.WriteLine(JsonSerializer.Serialize(new { image = $"images/{Name(image)}", kind = q.Kind.ToString().ToLowerInvariant(), question = q.Text, answer = q.Answer }, Json));
            }
            json.Flush();
            progress?.Report(start + scenes.Length);
        }
        json.WriteEndArray();
        json.WriteStartArray("images");
        for (var image = 0; image < count; image++) Value(json, new { id = image, file_name = Name(image), width = size, height = size });
        json.WriteEndArray();
        json.WriteStartArray("relations");
        foreach (var r in relations) Value(json, new { image_id = r.Image, subject_id = r.Subject, relation = SceneText.Words(r.Kind), object_id = r.Object });
        json.WriteEndArray();
        json.WriteEndObject();
        new CocoFile { Images = [.. Enumerable.Range(0, count).Select(i => new CocoImage(i, Name(i), size, size))], Annotations = coco }.Save(Path.Combine(folder, "captions.json"));
    }

    static string Name(int image) => string.Create(CultureInfo.InvariantCulture, $"{image:d6}.png");

    static void Value<T>(Utf8JsonWriter json, T value) => JsonSerializer.Serialize(json, value, Json);

    static void Annotate(Utf8JsonWriter json, EmojiSet set, Scene scene, int k, int image, int id)
    {
        var o = scene.Objects[k];
        Value(json, new
        {
            id,
            image_id = image,
            category_id = o.Concept + 1,
            bbox = new[] { o.Box.X, o.Box.Y, o.Box.Width, o.Box.Height },
            area = o.Pixels,
            iscrowd = 0,
            keypoints = scene.Keypoints(k).SelectMany(static p => (double[])[Math.Round(p.X, 2), Math.Round(p.Y, 2), p.Visible ? 2 : 1]),
            num_keypoints = Points.Length,
            segmentation = new { size = new[] { scene.Size, scene.Size }, counts = RunLengths(scene, k) },
            mask_value = k + 1,
            style = set.Styles[o.Style].Name,
            size_class = o.Size.ToString().ToLowerInvariant(),
            visible_share = MathF.Round(o.VisibleShare, 4),
            depth = MathF.Round(o.Depth, 4),
        });
    }

    /// <summary>COCO's run lengths: down the columns, beginning with those outside.</summary>
    static List<int> RunLengths(Scene scene, int k)
    {
        var (runs, inside, length) = (new List<int>(), false, 0);
        for (var x = 0; x < scene.Size; x++)
        {
            for (var y = 0; y < scene.Size; y++)
            {
                if (scene.Ids[(y * scene.Size) + x] == k + 1 != inside)
                {
                    runs.Add(length);
                    (inside, length) = (!inside, 0);
                }
                length++;
            }
        }
        runs.Add(length);
        return runs;
    }

    static string Licenses(EmojiSet set, SceneGenerator generator)
    {
        var own = Path.Combine(set.Root, "LICENSES.md");
        return """
            # Licenses of the scenes

            Every picture combines drawings of several emoji styles (annotations.json names the style of each object), which keep their own licenses. A
            picture that holds a drawing under CC BY-SA 4.0 may be shared under that license only.


            """.ReplaceLineEndings("\n") + (File.Exists(own) ? File.ReadAllText(own).Replace("# Licenses of the emoji set", "## Licenses of the emoji set", StringComparison.Ordinal) : "")
            + (generator.Options.Background.Photographs.Count > 0 ? "\nBackgrounds are parts of photographs, which keep their own licenses, too; those of the bundled ones are in Panoptes' data/photographs/LICENSES.md (CC0 1.0, CC BY 2.0, public domain).\n" : "");
    }
}
