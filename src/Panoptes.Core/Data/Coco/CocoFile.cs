using System.Text.Encodings.Web;
using System.Text.Json;
using Panoptes.Checkpoints;

namespace Panoptes.Data;

/// <summary>An image of a COCO file.</summary>
/// <param name="Id">Its id, which annotations name.</param>
/// <param name="FileName">Its file, below the folder of images.</param>
/// <param name="Width">In pixels.</param>
/// <param name="Height">In pixels.</param>
public sealed record CocoImage(long Id, string FileName, int Width, int Height);

/// <summary>What things may be.</summary>
/// <param name="Id">Its id, which annotations name; not always consecutive.</param>
/// <param name="Name">In words.</param>
/// <param name="Supercategory">What it is a kind of.</param>
public sealed record CocoCategory(int Id, string Name, string? Supercategory = null)
{
    /// <summary>What its keypoints are called, in the order in which annotations have them; empty where it has none.</summary>
    public IReadOnlyList<string> Keypoints { get; init; } = [];

    /// <summary>Which keypoints a drawing joins by lines, counted from 1 as the files do.</summary>
    public IReadOnlyList<(int From, int To)> Skeleton { get; init; } = [];

    /// <inheritdoc/>
    public bool Equals(CocoCategory? other) => other is not null && (Id, Name, Supercategory) == (other.Id, other.Name, other.Supercategory) && Keypoints.SequenceEqual(other.Keypoints) && Skeleton.SequenceEqual(other.Skeleton);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Id, Name, Supercategory, Keypoints.Count, Skeleton.Count);
}

/// <summary>A caption that a model wrote.</summary>
/// <param name="Image">The image's id.</param>
/// <param name="Text">The caption.</param>
public sealed record CocoCaption(long Image, string Text);

/// <summary>The pixels of a thing as a COCO file has them: within polygons, or in runs.</summary>
public sealed record CocoSegmentation
{
    /// <summary>x and y in turn; null: <see cref="Runs"/> has the mask.</summary>
    public IReadOnlyList<IReadOnlyList<double>>? Polygons { get; init; }

    public RunLengthMask? Runs { get; init; }

    /// <summary>The mask in an image of this size.</summary>
    /// <exception cref="PanoptesException">The runs are those of another size, or a polygon is none.</exception>
    public RunLengthMask Mask(int height, int width)
    {
        if (Runs is null) return RunLengthMask.FromPolygons(Polygons ?? [], height, width);
        return (Runs.Height, Runs.Width) == (height, width) ? Runs : throw new PanoptesException($"A mask of {Runs.Width}x{Runs.Height} pixels belongs to an image of {width}x{height}.");
    }
}

/// <summary>What a COCO file says of an image: a thing in it, or a caption.</summary>
public sealed record CocoAnnotation
{
    public required long Id { get; init; }

    /// <summary>The image's id.</summary>
    public required long Image { get; init; }

    /// <summary>The category's id; null for captions.</summary>
    public int? Category { get; init; }

    /// <summary>x, y, width, height in pixels; null where there is none.</summary>
    public DetectedRegion? Box { get; init; }

    public CocoSegmentation? Segmentation { get; init; }

    /// <summary>In pixels.</summary>
    public double Area { get; init; }

    /// <summary>Whether it is many things at once.</summary>
    public bool Crowd { get; init; }

    /// <summary>x, y and visibility (0: not labeled, 1: hidden, 2: to be seen) in turn.</summary>
    public IReadOnlyList<double>? Keypoints { get; init; }

    public string? Caption { get; init; }
}

/// <summary>COCO's annotation files (cocodataset.org/#format-data): instances, keypoints and captions, and lists of detections.</summary>
public sealed class CocoFile
{
    static readonly JsonWriterOptions Plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public IReadOnlyList<CocoImage> Images { get; init; } = [];

    public IReadOnlyList<CocoCategory> Categories { get; init; } = [];

    public IReadOnlyList<CocoAnnotation> Annotations { get; init; } = [];

    /// <summary>Reads a file of annotations.</summary>
    /// <exception cref="PanoptesException">It is not there, no such file, or names an image or a category that it does not have.</exception>
    public static CocoFile Load(string path) => Reading(path, root =>
    {
        CocoImage[] images = [.. List(root, "images").Select(static i => new CocoImage(Long(i, "id"), Text(i, "file_name"), Side(i, "width"), Side(i, "height")))];
        CocoCategory[] categories = [.. List(root, "categories", optional: true).Select(static c => new CocoCategory(Int(c, "id"), Text(c, "name"), c.TryGetProperty("supercategory", out var s) ? s.GetString() : null)
        {
            Keypoints = [.. List(c, "keypoints", optional: true).Select(static k => k.GetString() ?? throw new PanoptesException("a keypoint has no name."))],
            Skeleton = [.. List(c, "skeleton", optional: true).Select(static l => (l[0].GetInt32(), l[1].GetInt32()))],
        })];
        var (sizes, known) = (new Dictionary<long, CocoImage>(), new Dictionary<int, CocoCategory>());
        foreach (var category in categories)
            if (!known.TryAdd(category.Id, category)) throw new PanoptesException($"two categories have the id {category.Id}.");
        foreach (var image in images)
            if (!sizes.TryAdd(image.Id, image)) throw new PanoptesException($"two images have the id {image.Id}.");
        CocoAnnotation[] annotations = [.. List(root, "annotations", optional: true).Select(a =>
        {
            var image = Long(a, "image_id");
            if (!sizes.TryGetValue(image, out var of)) throw new PanoptesException($"an annotation is of image {image}, which is not among the images.");
            int? category = a.TryGetProperty("category_id", out _) ? Int(a, "category_id") : null;
            CocoCategory? kind = null;
            if (category is { } c && !known.TryGetValue(c, out kind)) throw new PanoptesException($"an annotation is of category {c}, which is not among the categories.");
            var points = a.TryGetProperty("keypoints", out var list) ? Numbers(list) : null;
            if (points is not null && (points.Length % 3 != 0 || (kind is { Keypoints.Count: > 0 and var named } && points.Length != 3 * named)))
                throw new PanoptesException($"an annotation has {points.Length} numbers of keypoints; expected three for each{(kind is { Keypoints.Count: > 0 } ? $" of {kind.Keypoints.Count}" : "")}.");
            return new CocoAnnotation
            {
                Id = a.TryGetProperty("id", out _) ? Long(a, "id") : 0,
                Image = image,
                Category = category,
                Box = Box(a),
                Segmentation = Segmentation(a),
                Area = a.TryGetProperty("area", out var area) ? area.GetDouble() : 0,
                Crowd = a.TryGetProperty("iscrowd", out var crowd) && (crowd.ValueKind == JsonValueKind.True || (crowd.ValueKind == JsonValueKind.Number && crowd.GetInt32() != 0)),
                Keypoints = points,
                Caption = a.TryGetProperty("caption", out var caption) ? caption.GetString() : null,
            };
        })];
        return new CocoFile { Images = images, Categories = categories, Annotations = annotations };
    });

    /// <summary>Reads a list of detections of the images of this file, as COCO's servers take it.</summary>
    /// <param name="path">A JSON list with image_id, category_id, score and bbox or segmentation.</param>
    /// <param name="masks">Whether masks are read; else boxes.</param>
    /// <exception cref="PanoptesException">It is not there, no such list, or of an image that this file does not have.</exception>
    public IReadOnlyList<DetectedThing> LoadDetections(string path, bool masks = false)
    {
        var sizes = Images.ToDictionary(static i => i.Id);
        return Reading<DetectedThing[]>(path, root => [.. Results(root, sizes.Keys).Select(d =>
        {
            var (image, size) = (Long(d, "image_id"), sizes[Long(d, "image_id")]);
            var region = masks ? DetectedRegion.Of((Segmentation(d) ?? throw new PanoptesException("a detection has no segmentation.")).Mask(size.Height, size.Width)) : Box(d) ?? throw new PanoptesException("a detection has no bbox.");
            return new DetectedThing(image, Int(d, "category_id"), region, d.GetProperty("score").GetDouble());
        })]);
    }

    /// <summary>Reads a list of detected poses in the images of this file.</summary>
    /// <param name="path">A JSON list with image_id, category_id, score and keypoints.</param>
    /// <exception cref="PanoptesException">It is not there, no such list, or of an image that this file does not have.</exception>
    public IReadOnlyList<DetectedPose> LoadPoses(string path)
    {
        var known = Images.Select(static i => i.Id).ToHashSet();
        return Reading<DetectedPose[]>(path, root => [.. Results(root, known).Select(static d =>
        {
            if (!d.TryGetProperty("keypoints", out var list)) throw new PanoptesException("a detection has no keypoints.");
            var points = Numbers(list);
            if (points.Length == 0 || points.Length % 3 != 0) throw new PanoptesException($"a detection has {points.Length} numbers of keypoints; expected three for each.");
            return new DetectedPose(Long(d, "image_id"), Int(d, "category_id"), points, d.GetProperty("score").GetDouble());
        })]);
    }

    /// <summary>Reads a list of captions of the images of this file.</summary>
    /// <param name="path">A JSON list with image_id and caption.</param>
    /// <exception cref="PanoptesException">It is not there, no such list, or of an image that this file does not have.</exception>
    public IReadOnlyList<CocoCaption> LoadCaptions(string path)
    {
        var known = Images.Select(static i => i.Id).ToHashSet();
        return Reading<CocoCaption[]>(path, root => [.. Results(root, known).Select(static d => new CocoCaption(Long(d, "image_id"), Text(d, "caption")))]);
    }

    /// <summary>The captions of this file, by image: what <see cref="Evaluation.Captioning"/> compares with.</summary>
    public ILookup<long, string> Captions => Annotations.Where(static a => a.Caption is not null).ToLookup(static a => a.Image, static a => a.Caption!);

    /// <summary>The poses of this file, as <see cref="Evaluation.KeypointScores"/> compares them.</summary>
    /// <exception cref="PanoptesException">A thing with keypoints has no box.</exception>
    public IReadOnlyList<LabeledPose> Poses() => [.. Annotations.Where(static a => a is { Category: not null, Keypoints: not null }).Select(static a =>
        new LabeledPose(a.Image, a.Category!.Value, a.Keypoints!, a.Box ?? throw new PanoptesException($"The annotation {a.Id} has no bbox."), a.Area, a.Crowd))];

    /// <summary>The things of this file, as <see cref="Evaluation.DetectionScores"/> compares them.</summary>
    /// <param name="masks">Whether with their masks.</param>
    /// <exception cref="PanoptesException">A thing has no box, or no mask where masks are asked for.</exception>
    public IReadOnlyList<LabeledThing> Things(bool masks = false)
    {
        var sizes = Images.ToDictionary(static i => i.Id);
        return [.. Annotations.Where(static a => a.Category is not null).Select(a =>
        {
            var region = masks
                ? DetectedRegion.Of((a.Segmentation ?? throw new PanoptesException($"The annotation {a.Id} has no segmentation.")).Mask(sizes[a.Image].Height, sizes[a.Image].Width))
                : a.Box ?? throw new PanoptesException($"The annotation {a.Id} has no bbox.");
            return new LabeledThing(a.Image, a.Category!.Value, region, a.Area, a.Crowd);
        })];
    }

    /// <summary>Writes the file, whole or not at all.</summary>
    public void Save(string path) => Writing(path, json =>
    {
        json.WriteStartObject();
        Write(json, Images);
        json.WriteStartArray("annotations");
        foreach (var a in Annotations)
        {
            json.WriteStartObject();
            json.WriteNumber("id", a.Id);
            json.WriteNumber("image_id", a.Image);
            if (a.Category is { } category)
            {
                json.WriteNumber("category_id", category);
                json.WriteNumber("area", a.Area);
                json.WriteNumber("iscrowd", a.Crowd ? 1 : 0);
            }
            if (a.Box is { } box) Write(json, "bbox", [box.X, box.Y, box.Width, box.Height]);
            if (a.Segmentation is { } segmentation) Write(json, segmentation);
            if (a.Keypoints is { } keypoints)
            {
                Write(json, "keypoints", keypoints);
                json.WriteNumber("num_keypoints", keypoints.Where(static (_, i) => i % 3 == 2).Count(static v => v > 0));
            }
            if (a.Caption is not null) json.WriteString("caption", a.Caption);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteStartArray("categories");
        foreach (var c in Categories)
        {
            json.WriteStartObject();
            json.WriteNumber("id", c.Id);
            json.WriteString("name", c.Name);
            if (c.Supercategory is not null) json.WriteString("supercategory", c.Supercategory);
            if (c.Keypoints.Count > 0)
            {
                json.WriteStartArray("keypoints");
                foreach (var point in c.Keypoints) json.WriteStringValue(point);
                json.WriteEndArray();
                json.WriteStartArray("skeleton");
                foreach (var (from, to) in c.Skeleton) Write(json, [from, to]);
                json.WriteEndArray();
            }
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
    });

    /// <summary>Writes a list of detections, with their masks where they have one.</summary>
    public static void SaveDetections(string path, IEnumerable<DetectedThing> detections) => Writing(path, json =>
    {
        json.WriteStartArray();
        foreach (var d in detections)
        {
            json.WriteStartObject();
            json.WriteNumber("image_id", d.Image);
            json.WriteNumber("category_id", d.Category);
            Write(json, "bbox", [d.Region.X, d.Region.Y, d.Region.Width, d.Region.Height]);
            if (d.Region.Mask is { } mask) Write(json, new CocoSegmentation { Runs = mask });
            json.WriteNumber("score", d.Score);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    });

    /// <summary>Writes a list of detected poses.</summary>
    public static void SavePoses(string path, IEnumerable<DetectedPose> poses) => Writing(path, json =>
    {
        json.WriteStartArray();
        foreach (var p in poses)
        {
            json.WriteStartObject();
            json.WriteNumber("image_id", p.Image);
            json.WriteNumber("category_id", p.Category);
            Write(json, "keypoints", p.Keypoints);
            json.WriteNumber("score", p.Score);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    });

    /// <summary>Writes a list of captions.</summary>
    public static void SaveCaptions(string path, IEnumerable<CocoCaption> captions) => Writing(path, json =>
    {
        json.WriteStartArray();
        foreach (var c in captions)
        {
            json.WriteStartObject();
            json.WriteNumber("image_id", c.Image);
            json.WriteString("caption", c.Text);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    });

    /// <summary>The results of a list, all of images that there are.</summary>
    static IEnumerable<JsonElement> Results(JsonElement root, IReadOnlyCollection<long> images)
    {
        if (root.ValueKind != JsonValueKind.Array) throw new PanoptesException("a list of detections was expected.");
        foreach (var d in root.EnumerateArray())
        {
            if (!images.Contains(Long(d, "image_id"))) throw new PanoptesException($"a detection is in image {Long(d, "image_id")}, which is not among the images.");
            yield return d;
        }
    }

    internal static T Reading<T>(string path, Func<JsonElement, T> read)
    {
        if (!File.Exists(path)) throw new PanoptesException($"{path} does not exist.");
        try
        {
            using var stream = File.OpenRead(path);
            using var document = JsonDocument.Parse(stream);
            return read(document.RootElement);
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException or InvalidOperationException or KeyNotFoundException or FormatException or IndexOutOfRangeException or PanoptesException)
        {
            throw new PanoptesException($"{path} cannot be read as COCO's: {e.Message}", e);
        }
    }

    internal static void Writing(string path, Action<Utf8JsonWriter> write) => AtomicFile.Write(path, stream =>
    {
        using var json = new Utf8JsonWriter(stream, Plain);
        write(json);
    });

    internal static void Write(Utf8JsonWriter json, IEnumerable<CocoImage> images)
    {
        json.WriteStartArray("images");
        foreach (var i in images)
        {
            json.WriteStartObject();
            json.WriteNumber("id", i.Id);
            json.WriteString("file_name", i.FileName);
            json.WriteNumber("width", i.Width);
            json.WriteNumber("height", i.Height);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    internal static void Write(Utf8JsonWriter json, string name, IEnumerable<double> numbers)
    {
        json.WritePropertyName(name);
        Write(json, numbers);
    }

    static void Write(Utf8JsonWriter json, IEnumerable<double> numbers)
    {
        json.WriteStartArray();
        foreach (var number in numbers) json.WriteNumberValue(number);
        json.WriteEndArray();
    }

    static void Write(Utf8JsonWriter json, CocoSegmentation segmentation)
    {
        if (segmentation.Runs is { } runs)
        {
            json.WriteStartObject("segmentation");
            Write(json, "size", [runs.Height, runs.Width]);
            json.WriteString("counts", runs.Counts);
            json.WriteEndObject();
            return;
        }
        json.WriteStartArray("segmentation");
        foreach (var polygon in segmentation.Polygons ?? []) Write(json, polygon);
        json.WriteEndArray();
    }

    internal static JsonElement.ArrayEnumerator List(JsonElement root, string name, bool optional = false)
    {
        if (root.ValueKind == JsonValueKind.Object && root.TryGetProperty(name, out var list) && list.ValueKind == JsonValueKind.Array) return list.EnumerateArray();
        return optional ? default : throw new PanoptesException($"it has no list \"{name}\".");
    }

    internal static long Long(JsonElement of, string name) => of.TryGetProperty(name, out var value) && value.TryGetInt64(out var number) ? number : throw new PanoptesException($"\"{name}\" is missing or no whole number.");

    internal static int Int(JsonElement of, string name) => Long(of, name) is >= int.MinValue and <= int.MaxValue and var number ? (int)number : throw new PanoptesException($"\"{name}\" is {Long(of, name)}, which is too large.");

    internal static int Side(JsonElement of, string name) => Int(of, name) is > 0 and var side ? side : throw new PanoptesException($"an image has a {name} of {Int(of, name)}; expected 1 or more.");

    internal static string Text(JsonElement of, string name) => of.TryGetProperty(name, out var value) && value.GetString() is { } text ? text : throw new PanoptesException($"\"{name}\" is missing.");

    internal static double[] Numbers(JsonElement list) => [.. list.EnumerateArray().Select(static n => n.GetDouble())];

    static DetectedRegion? Box(JsonElement of)
    {
        if (!of.TryGetProperty("bbox", out var box)) return null;
        var numbers = Numbers(box);
        return numbers.Length == 4 ? new(numbers[0], numbers[1], numbers[2], numbers[3]) : throw new PanoptesException($"a bbox has {numbers.Length} numbers; expected x, y, width and height.");
    }

    static CocoSegmentation? Segmentation(JsonElement of)
    {
        if (!of.TryGetProperty("segmentation", out var s)) return null;
        if (s.ValueKind == JsonValueKind.Array) return new() { Polygons = [.. s.EnumerateArray().Select(Numbers)] };
        var size = s.GetProperty("size");
        var (height, width) = (size[0].GetInt32(), size[1].GetInt32());
        var counts = s.GetProperty("counts");
        return new()
        {
            Runs = counts.ValueKind == JsonValueKind.String ? RunLengthMask.Parse(counts.GetString()!, height, width)
                : RunLengthMask.FromRuns(height, width, [.. counts.EnumerateArray().Select(static n => n.GetInt32())]),
        };
    }
}
