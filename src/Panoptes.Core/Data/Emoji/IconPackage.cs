using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Panoptes.Data.Emoji;

/// <summary>One icon's drawing: the inside of an SVG file, its view box, and a mirroring that an alias may ask for.</summary>
sealed record Icon(string Name, string Body, double Left, double Top, double Width, double Height, bool Hidden, bool FlipX, bool FlipY)
{
    /// <summary>A whole SVG file that draws the icon centered in a square of <paramref name="size"/> pixels.</summary>
    internal byte[] ToSvg(int size)
    {
        var body = FlipX || FlipY
            ? string.Create(CultureInfo.InvariantCulture,
                $"<g transform=\"translate({(FlipX ? (2 * Left) + Width : 0)} {(FlipY ? (2 * Top) + Height : 0)}) scale({(FlipX ? -1 : 1)} {(FlipY ? -1 : 1)})\">{Body}</g>")
            : Body;
        return Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture,
            $"<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" width=\"{size}\" height=\"{size}\" viewBox=\"{Left} {Top} {Width} {Height}\">{body}</svg>"));
    }
}

/// <summary>An icon package in Iconify's JSON: <c>icons.json</c> (drawings and aliases), <c>chars.json</c> (code points, where it has them), <c>info.json</c>.</summary>
sealed class IconPackage
{
    IconPackage(EmojiSource source) => Source = source;

    internal EmojiSource Source { get; }

    internal Dictionary<string, Icon> Icons { get; } = new(StringComparer.Ordinal);

    /// <summary>Other names of an icon that draw the very same.</summary>
    internal List<(string Alias, string Icon)> Aliases { get; } = [];

    /// <summary>Code points without variation selectors, upper case, joined by hyphens, to the icon's name.</summary>
    internal SortedDictionary<string, string> Characters { get; } = new(StringComparer.Ordinal);

    internal required string Title { get; init; }

    internal required string Author { get; init; }

    internal required string AuthorUrl { get; init; }

    internal required string License { get; init; }

    internal required string LicenseUrl { get; init; }

    internal static bool Wants(string path) => path is "icons.json" or "chars.json" or "info.json";

    internal static IconPackage Parse(EmojiSource source, IReadOnlyDictionary<string, byte[]> files)
    {
        try
        {
            using var info = JsonDocument.Parse(files["info.json"]);
            var author = info.RootElement.GetProperty("author");
            var license = info.RootElement.GetProperty("license");
            var package = new IconPackage(source)
            {
                Title = Text(info.RootElement, "name"),
                Author = Text(author, "name"),
                AuthorUrl = Text(author, "url"),
                License = Text(license, "spdx"),
                LicenseUrl = Text(license, "url"),
            };

            using var icons = JsonDocument.Parse(files["icons.json"]);
            var root = icons.RootElement;
            foreach (var icon in root.GetProperty("icons").EnumerateObject())
            {
                var value = icon.Value;
                package.Icons[icon.Name] = new(icon.Name, Text(value, "body"),
                    Number(value, "left", 0), Number(value, "top", 0),
                    Number(value, "width", Number(root, "width", 16)), Number(value, "height", Number(root, "height", 16)),
                    value.TryGetProperty("hidden", out var hidden) && hidden.GetBoolean(), false, false);
            }
            if (root.TryGetProperty("aliases", out var aliases))
                foreach (var alias in aliases.EnumerateObject()) package.Add(alias.Name, alias.Value);
            if (files.TryGetValue("chars.json", out var bytes))
            {
                using var characters = JsonDocument.Parse(bytes);
                foreach (var character in characters.RootElement.EnumerateObject())
                    package.Characters.TryAdd(EmojiNames.WithoutVariation(character.Name), character.Value.GetString()!);
            }
            return package;
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new PanoptesException($"The package {source.Package.Name}@{source.Package.Version} is not in Iconify's JSON form: {e.Message}", e);
        }
    }

    void Add(string name, JsonElement alias)
    {
        if (!Icons.TryGetValue(Text(alias, "parent"), out var parent)) return;
        var (flipX, flipY) = (Flag(alias, "hFlip"), Flag(alias, "vFlip"));
        if (flipX || flipY || Flag(alias, "hidden"))
            Icons[name] = parent with { Name = name, FlipX = flipX ^ parent.FlipX, FlipY = flipY ^ parent.FlipY, Hidden = parent.Hidden || Flag(alias, "hidden") };
        else
            Aliases.Add((name, parent.Name));
    }

    /// <summary>The icon of that name, or the one that it is an alias of.</summary>
    internal Icon? Find(string name)
    {
        if (Icons.TryGetValue(name, out var icon)) return icon;
        foreach (var (alias, target) in Aliases)
            if (alias == name) return Icons[target];
        return null;
    }

    static string Text(JsonElement element, string name) => element.GetProperty(name).GetString() ?? "";

    static bool Flag(JsonElement element, string name) => element.TryGetProperty(name, out var value) && value.GetBoolean();

    static double Number(JsonElement element, string name, double otherwise) =>
        element.TryGetProperty(name, out var value) ? value.GetDouble() : otherwise;
}
