using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>
/// A color for every class, as ControlNet reads them: ADE20K's or COCO's where one of them knows a class by its name; any other class has a color of its own, which follows from its name. What is of no class is black.
/// Which class a pixel is of, a segmenter tells whom the caller names.
/// </summary>
public sealed record SegmentationCondition : ConditionMaker
{
    /// <summary>The class of every pixel of an image.</summary>
    public required Func<Image, ClassMap> Classes { get; init; }

    /// <summary>Whether COCO's colors come before ADE20K's.</summary>
    public bool Coco { get; init; }

    /// <summary>The color of a class.</summary>
    public Rgb Color(string name)
    {
        var (first, second) = Coco ? (SegmentationPalettes.Coco, SegmentationPalettes.Ade20K) : (SegmentationPalettes.Ade20K, SegmentationPalettes.Coco);
        // Some lists have a class's other names behind it: "building, edifice".
        var plain = name.Split([',', ';'])[0].Trim();
        foreach (var palette in (ReadOnlySpan<IReadOnlyDictionary<string, Rgb>>)[first, second])
            if (palette.TryGetValue(name.Trim(), out var color) || palette.TryGetValue(plain, out color)) return color;
        var hash = 2166136261u;                                                        // Fowler, Noll and Vo's
        foreach (var letter in plain.ToUpperInvariant()) hash = (hash ^ letter) * 16777619;
        hash = (hash ^ (hash >> 15)) * 2246822519u;
        var (hue, value, saturation) = (hash % 360 / 60.0, hash / 360 % 2 == 0 ? 255 : 190, hash / 720 % 2 == 0 ? 1 : 0.6);
        return new(Channel(5), Channel(3), Channel(1));

        byte Channel(int n)
        {
            var k = (n + hue) % 6;
            return (byte)Math.Round(value * (1 - (saturation * Math.Clamp(Math.Min(k, 4 - k), 0, 1))));
        }
    }

    protected override Image Draw(Image image)
    {
        var map = Classes(image);
        if ((map.Width, map.Height) != (image.Width, image.Height) || map.Labels.Length != map.Width * map.Height) throw new PanoptesException($"Classes of {map.Width}x{map.Height} pixels were given ({map.Labels.Length} of them); expected the image's {image.Width}x{image.Height}.");
        var colors = map.Names.Select(Color).ToArray();
        var picture = new Image(image.Width, image.Height, 3);
        for (var (i, at) = (0, 0); i < map.Labels.Length; i++, at += 3)
        {
            var label = map.Labels[i];
            if (label < 0) continue;
            if (label >= colors.Length) throw new PanoptesException($"A pixel is of class {label}; expected one of {colors.Length} classes, or -1.");
            (picture.Pixels[at], picture.Pixels[at + 1], picture.Pixels[at + 2]) = (colors[label].R, colors[label].G, colors[label].B);
        }
        return picture;
    }
}
