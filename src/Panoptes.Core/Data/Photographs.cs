using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>Photographs that backgrounds are cut from (<see cref="BackgroundMix.Photographs"/>).</summary>
public static class Photographs
{
    /// <summary>The most photographs of a folder, which are all held in memory.</summary>
    public const int Most = 2000;

    const int MostSide = 512;

    static readonly string[] Extensions = [".jpg", ".jpeg", ".png", ".webp"];

    /// <summary>
    /// The photographs of a folder, in the order of their names, made smaller where their shorter side is above 512 pixels; or the bundled ones: sky, water, leaves, grass, wood, cloth and paper, on
    /// which there is no thing that one could point at (<c>data/photographs</c>).
    /// </summary>
    /// <param name="folder">Null: the bundled ones.</param>
    /// <exception cref="PanoptesException">There is no photograph, there are too many, or one is damaged.</exception>
    public static IReadOnlyList<RgbImage> Open(string? folder = null)
    {
        folder ??= Path.GetDirectoryName(BundledData.Find("photographs", "LICENSES.md")) ?? throw new PanoptesException("The bundled photographs were not found: set PANOPTES_DATA to the folder that holds photographs.");
        if (!Directory.Exists(folder)) throw new PanoptesException($"{folder} is no folder of photographs.");
        string[] files = [.. Directory.EnumerateFiles(folder).Where(static f => Extensions.Contains(Path.GetExtension(f).ToLowerInvariant())).Order(StringComparer.Ordinal)];
        if (files.Length is 0 or > Most) throw new PanoptesException($"{folder} has {files.Length} photographs; expected 1 to {Most}.");
        return [.. files.Select(Load)];
    }

    static RgbImage Load(string file)
    {
        var image = Image.Load(file).ToRgb();
        if (Math.Min(image.Width, image.Height) is > MostSide and var side)
            image = image.Resize(Math.Max(1, (int)((long)image.Width * MostSide / side)), Math.Max(1, (int)((long)image.Height * MostSide / side)), ResizeFilter.Bilinear);
        return new(image.Width, image.Height, image.Pixels);
    }
}
