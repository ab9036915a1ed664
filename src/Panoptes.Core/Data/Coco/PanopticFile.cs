using System.Text.Json;
using Panoptes.Evaluation;
using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>What segments may be.</summary>
/// <param name="Id">Its id, which segments name.</param>
/// <param name="Name">In words.</param>
/// <param name="Thing">Whether it can be counted; else it is stuff, such as sky.</param>
/// <param name="Supercategory">What it is a kind of.</param>
public sealed record PanopticKind(int Id, string Name, bool Thing, string? Supercategory = null);

/// <summary>A segment of an image that is labeled through.</summary>
/// <param name="Id">What its pixels say; never 0.</param>
/// <param name="Category">The category's id.</param>
/// <param name="Area">In pixels.</param>
/// <param name="Box">The smallest around it.</param>
/// <param name="Crowd">Whether it is many things at once.</param>
public sealed record PanopticRegion(int Id, int Category, long Area, PixelBox Box, bool Crowd = false);

/// <summary>The segments of an image, whose pixels are in a picture of their own.</summary>
/// <param name="Image">The image's id.</param>
/// <param name="FileName">The picture of ids: a PNG below the folder of such pictures, whose colors are R + 256 G + 65536 B.</param>
/// <param name="Segments">In any order.</param>
public sealed record PanopticAnnotation(long Image, string FileName, IReadOnlyList<PanopticRegion> Segments);

/// <summary>COCO's panoptic format (cocodataset.org/#format-data, panopticapi): a JSON file and, in a folder beside it that has its name, a picture of ids for every image.</summary>
public sealed class PanopticFile
{
    /// <summary>The largest id that a picture's color can be.</summary>
    public const int MostIds = 0xFFFFFF;

    public IReadOnlyList<CocoImage> Images { get; init; } = [];

    public IReadOnlyList<PanopticKind> Categories { get; init; } = [];

    public IReadOnlyList<PanopticAnnotation> Annotations { get; init; } = [];

    /// <summary>Where the pictures of a file's ids are, unless told otherwise: annotations/panoptic_val2017.json has them in annotations/panoptic_val2017.</summary>
    public static string FolderOf(string path) => Path.ChangeExtension(path, null) is var folder && folder != path ? folder : path + ".pictures";

    /// <summary>Reads the JSON file; pictures are read one by one with <see cref="ReadIds"/>.</summary>
    /// <exception cref="PanoptesException">It is not there, no such file, or names an image or a category that it does not have.</exception>
    public static PanopticFile Load(string path) => CocoFile.Reading(path, root =>
    {
        CocoImage[] images = [.. CocoFile.List(root, "images").Select(static i => new CocoImage(CocoFile.Long(i, "id"), CocoFile.Text(i, "file_name"), CocoFile.Side(i, "width"), CocoFile.Side(i, "height")))];
        PanopticKind[] categories = [.. CocoFile.List(root, "categories").Select(static c =>
            new PanopticKind(CocoFile.Int(c, "id"), CocoFile.Text(c, "name"), CocoFile.Long(c, "isthing") != 0, c.TryGetProperty("supercategory", out var s) ? s.GetString() : null))];
        var (known, kinds, done) = (images.Select(static i => i.Id).ToHashSet(), categories.Select(static c => c.Id).ToHashSet(), new HashSet<long>());
        if (known.Count != images.Length) throw new PanoptesException("two images have the same id.");
        if (kinds.Count != categories.Length) throw new PanoptesException("two categories have the same id.");
        PanopticAnnotation[] annotations = [.. CocoFile.List(root, "annotations", optional: true).Select(a =>
        {
            var image = CocoFile.Long(a, "image_id");
            if (!known.Contains(image)) throw new PanoptesException($"an annotation is of image {image}, which is not among the images.");
            if (!done.Add(image)) throw new PanoptesException($"two annotations are of image {image}.");
            var ids = new HashSet<int>();
            return new PanopticAnnotation(image, Inside(CocoFile.Text(a, "file_name")), [.. CocoFile.List(a, "segments_info").Select(s =>
            {
                var (id, category) = (CocoFile.Int(s, "id"), CocoFile.Int(s, "category_id"));
                if (id is < 1 or > MostIds || !ids.Add(id)) throw new PanoptesException($"image {image} has a segment {id}; expected ids from 1 to {MostIds}, each once.");
                if (!kinds.Contains(category)) throw new PanoptesException($"a segment is of category {category}, which is not among the categories.");
                return new PanopticRegion(id, category, s.TryGetProperty("area", out _) ? CocoFile.Long(s, "area") : 0, Box(s), s.TryGetProperty("iscrowd", out _) && CocoFile.Long(s, "iscrowd") != 0);
            })]);
        })];
        return new PanopticFile { Images = images, Categories = categories, Annotations = annotations };
    });

    /// <summary>Writes the JSON file, whole or not at all; pictures are written with <see cref="WriteIds"/>.</summary>
    public void Save(string path) => CocoFile.Writing(path, json =>
    {
        json.WriteStartObject();
        CocoFile.Write(json, Images);
        json.WriteStartArray("annotations");
        foreach (var a in Annotations)
        {
            json.WriteStartObject();
            json.WriteNumber("image_id", a.Image);
            json.WriteString("file_name", Inside(a.FileName));
            json.WriteStartArray("segments_info");
            foreach (var s in a.Segments)
            {
                json.WriteStartObject();
                json.WriteNumber("id", s.Id);
                json.WriteNumber("category_id", s.Category);
                json.WriteNumber("area", s.Area);
                CocoFile.Write(json, "bbox", [s.Box.X, s.Box.Y, s.Box.Width, s.Box.Height]);
                json.WriteNumber("iscrowd", s.Crowd ? 1 : 0);
                json.WriteEndObject();
            }
            json.WriteEndArray();
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
            json.WriteNumber("isthing", c.Thing ? 1 : 0);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
    });

    /// <summary>The ids of an image's pixels, row by row; 0 where no segment is.</summary>
    /// <param name="annotation">One of this file's.</param>
    /// <param name="folder">Where the pictures are; see <see cref="FolderOf"/>.</param>
    /// <exception cref="PanoptesException">The picture is not there, of another size than the image, or has an id that is no segment's.</exception>
    public int[] ReadIds(PanopticAnnotation annotation, string folder)
    {
        var image = Images.FirstOrDefault(i => i.Id == annotation.Image) ?? throw new PanoptesException($"The image {annotation.Image} is not among the images.");
        var path = Path.Combine(folder, Inside(annotation.FileName));
        var picture = Image.Load(path);
        if ((picture.Width, picture.Height) != (image.Width, image.Height)) throw new PanoptesException($"{path} has {picture.Width}x{picture.Height} pixels; expected the image's {image.Width}x{image.Height}.");
        if (picture.Channels == 1) throw new PanoptesException($"{path} is gray; expected ids in colors.");
        var (ids, known) = (new int[picture.Width * picture.Height], annotation.Segments.Select(static s => s.Id).Append(0).ToHashSet());
        var before = 0;
        for (var (i, o) = (0, 0); i < ids.Length; i++, o += picture.Channels)
        {
            ids[i] = picture.Pixels[o] | (picture.Pixels[o + 1] << 8) | (picture.Pixels[o + 2] << 16);
            if (ids[i] == before) continue;
            before = ids[i];
            if (!known.Contains(before)) throw new PanoptesException($"{path} has pixels of {before}, which is no segment's id.");
        }
        return ids;
    }

    /// <summary>Writes the picture of ids and tells what is to be written about it.</summary>
    /// <param name="folder">Where the pictures are; made where it is not there.</param>
    /// <param name="image">The image.</param>
    /// <param name="fileName">The picture's, ending in .png; null: the image's name with that ending.</param>
    /// <param name="ids">[height, width], row by row; 0 where no segment is</param>
    /// <param name="segments">What the ids are. Those without a pixel are left out.</param>
    /// <exception cref="PanoptesException">Another number of pixels, an id that is no segment's or too large, or a picture that cannot be written.</exception>
    public static PanopticAnnotation WriteIds(string folder, CocoImage image, string? fileName, ReadOnlySpan<int> ids, IReadOnlyList<PanopticSegment> segments)
    {
        fileName = Inside(fileName ?? Path.ChangeExtension(image.FileName, ".png"));
        if (!fileName.EndsWith(".png", StringComparison.OrdinalIgnoreCase)) throw new PanoptesException($"The picture of ids is to be named {fileName}; expected a name that ends in .png.");
        if (ids.Length != (long)image.Width * image.Height) throw new PanoptesException($"{ids.Length} ids were given for an image of {image.Width}x{image.Height} pixels.");
        var places = new Dictionary<int, (long Area, int Left, int Top, int Right, int Bottom)>();
        foreach (var s in segments)
            if (s.Id is < 1 or > MostIds || !places.TryAdd(s.Id, (0, int.MaxValue, int.MaxValue, -1, -1))) throw new PanoptesException($"A segment has the id {s.Id}; expected ids from 1 to {MostIds}, each once.");
        var picture = new Image(image.Width, image.Height, 3);
        for (var (y, i) = (0, 0); y < image.Height; y++)
            for (var x = 0; x < image.Width;)
            {
                // Neighbors are mostly alike: one look into the table a run.
                var (id, start) = (ids[i], x);
                for (; x < image.Width && ids[i] == id; x++, i++)
                    (picture.Pixels[3 * i], picture.Pixels[3 * i + 1], picture.Pixels[3 * i + 2]) = ((byte)id, (byte)(id >> 8), (byte)(id >> 16));
                if (id == 0) continue;
                if (!places.TryGetValue(id, out var p)) throw new PanoptesException($"A pixel has the id {id}, which is no segment's.");
                places[id] = (p.Area + x - start, Math.Min(p.Left, start), Math.Min(p.Top, y), Math.Max(p.Right, x), y + 1);
            }
        var path = Path.Combine(folder, fileName);
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"{folder} cannot be made: {e.Message}", e);
        }
        picture.Save(path);
        return new(image.Id, fileName, [.. segments.Where(s => places[s.Id].Area > 0).Select(s =>
        {
            var p = places[s.Id];
            return new PanopticRegion(s.Id, s.Category, p.Area, new(p.Left, p.Top, p.Right - p.Left, p.Bottom - p.Top), s.Crowd);
        })]);
    }

    /// <summary>A name below the folder: a file's own text must not lead elsewhere.</summary>
    static string Inside(string name) =>
        name.Length > 0 && !Path.IsPathRooted(name) && !name.Contains('\0', StringComparison.Ordinal) && !name.Contains(':', StringComparison.Ordinal) && !name.Split('/', '\\').Any(static p => p is "" or "." or "..")
            ? name : throw new PanoptesException($"the file name \"{name}\" leads out of its folder.");

    static PixelBox Box(JsonElement of)
    {
        if (!of.TryGetProperty("bbox", out var box)) return default;
        var numbers = CocoFile.Numbers(box);
        return numbers.Length == 4 && Array.TrueForAll(numbers, static n => Math.Abs(n) < int.MaxValue) ? new((int)numbers[0], (int)numbers[1], (int)numbers[2], (int)numbers[3])
            : throw new PanoptesException("a bbox is not x, y, width and height.");
    }
}
