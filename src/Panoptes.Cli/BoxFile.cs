using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Generation;
using Panoptes.Imaging;

namespace Panoptes.Cli;

/// <summary>
/// Boxes with what is in them, from a file: as <c>panoptes ground --json</c> and <c>panoptes detect --json</c> write them, or by hand, <c>{"width": 512, "height": 512, "boxes": [{"phrase": "a cat", "box": [x, y, width, height]}]}</c>
/// in pixels, or a list of <c>{"phrase": "a cat", "box": [left, top, right, bottom]}</c> in parts of the image from 0 to 1. Each by hand may have an example, <c>"example": "cat.jpg"</c>, beside its phrase or in place of it.
/// </summary>
static class BoxFile
{
    const string Expected = "expected what panoptes ground or detect writes by --json, {\"width\": …, \"height\": …, \"boxes\": [{\"phrase\": …, \"box\": [x, y, width, height]}]} in pixels, or [{\"phrase\": …, \"box\": [left, top, right, bottom]}] in parts from 0 to 1";

    /// <exception cref="PanoptesException">The file is missing, has another form or no box, or a box is not inside the image.</exception>
    public static IReadOnlyList<PhraseBox> Read(string file)
    {
        try
        {
            using var document = JsonDocument.Parse(ModelFolder.ReadText(file));
            PhraseBox[] boxes = [.. Boxes(document.RootElement, file)];
            return boxes.Length > 0 ? boxes : throw new PanoptesException($"{file} has no boxes; expected one at least.");
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"{file} is not JSON: {JsonFault.Of(e)}.", e);
        }
        catch (Exception e) when (e is InvalidOperationException or KeyNotFoundException or FormatException or IndexOutOfRangeException)
        {
            throw new PanoptesException($"{file} has another form; {Expected}.", e);
        }
    }

    static IEnumerable<PhraseBox> Boxes(JsonElement root, string file)
    {
        if (root.ValueKind == JsonValueKind.Array) return root.EnumerateArray().SelectMany(e => e.TryGetProperty("detections", out var found) ? InPixels(found, "label", SizeOf(e)) : [InParts(e)]);
        if (root.TryGetProperty("texts", out var texts))
        {
            var size = SizeOf(root);
            return texts.EnumerateArray().SelectMany(t => InPixels(t.GetProperty("boxes"), "words", size));
        }
        return InPixels(root.GetProperty("boxes"), "phrase", (root.GetProperty("width").GetInt32(), root.GetProperty("height").GetInt32()));

        // The image that was looked at says how large it is.
        (int Width, int Height) SizeOf(JsonElement of)
        {
            var path = of.GetProperty("image").GetString()!;
            if (!File.Exists(path)) throw new PanoptesException($"{file} speaks of {path}, which does not exist: the boxes are in its pixels.");
            var image = Image.Load(path);
            return (image.Width, image.Height);
        }
    }

    static PhraseBox InParts(JsonElement box) => box.GetProperty("box") is var b && b.GetArrayLength() == 4
        ? new(PhraseOf(box, "phrase"), b[0].GetDouble(), b[1].GetDouble(), b[2].GetDouble(), b[3].GetDouble()) { Example = ExampleOf(box) } : throw new FormatException("A box has four numbers.");

    static IEnumerable<PhraseBox> InPixels(JsonElement boxes, string name, (int Width, int Height) size) => boxes.EnumerateArray().Select(e =>
    {
        var b = e.GetProperty("box");
        if (b.GetArrayLength() != 4) throw new FormatException("A box has four numbers.");
        var (x, y, right, bottom) = (b[0].GetDouble(), b[1].GetDouble(), b[0].GetDouble() + b[2].GetDouble(), b[1].GetDouble() + b[3].GetDouble());
        var phrase = PhraseOf(e, name);
        if (size is not { Width: > 0, Height: > 0 }) throw new PanoptesException($"The boxes are of an image of {size.Width}x{size.Height} pixels; expected one at least.");
        // What a detector gives may be rounded over the edge.
        const double rounded = 1;
        if (!(x >= -rounded && y >= -rounded && right <= size.Width + rounded && bottom <= size.Height + rounded))
            throw new PanoptesException($"The box of '{phrase}' goes from {x:0.##},{y:0.##} to {right:0.##},{bottom:0.##}, beyond the image of {size.Width}x{size.Height}.");
        return new PhraseBox(phrase, Math.Max(0, x / size.Width), Math.Max(0, y / size.Height), Math.Min(1, right / size.Width), Math.Min(1, bottom / size.Height)) { Example = ExampleOf(e) };
    });

    /// <summary>An example says by itself what is to be in its box.</summary>
    static string PhraseOf(JsonElement box, string name) => (box.TryGetProperty(name, out var phrase) || !box.TryGetProperty("example", out _) ? box.GetProperty(name) : default) is { ValueKind: JsonValueKind.String } text ? text.GetString()! : "";

    static Image? ExampleOf(JsonElement box)
    {
        if (!box.TryGetProperty("example", out var example)) return null;
        var path = example.GetString() ?? throw new FormatException("An example is a file.");
        return File.Exists(path) ? Image.Load(path) : throw new PanoptesException($"The example {path} does not exist.");
    }
}
