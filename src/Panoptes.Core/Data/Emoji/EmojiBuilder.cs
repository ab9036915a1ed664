using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Parquet;
using Parquet.Schema;

namespace Panoptes.Data.Emoji;

/// <summary>What to build and where.</summary>
public sealed record EmojiBuildOptions
{
    /// <summary>The folder that the set goes to.</summary>
    public required string Output { get; init; }

    /// <summary>The side of every image in pixels.</summary>
    public int Size { get; init; } = 72;

    /// <summary>Where downloads are kept; by default <c>panoptes/npm</c> below the user's cache folder.</summary>
    public string? Cache { get; init; }

    /// <summary>The npm registry; by default the one that npm is configured for.</summary>
    public string? Registry { get; init; }

    /// <summary>Which styles to build; all by default.</summary>
    public Func<EmojiSource, bool> Styles { get; init; } = static _ => true;

    /// <summary>Which concepts to build; all by default.</summary>
    public Func<EmojiConcept, bool> Concepts { get; init; } = static _ => true;
}

/// <summary>How far a build has come.</summary>
/// <param name="Step">What is being done, such as <c>rendering noto</c>.</param>
/// <param name="Done">How many items of the step are done.</param>
/// <param name="Total">How many the step has.</param>
public readonly record struct EmojiBuildProgress(string Step, int Done, int Total);

/// <summary>
/// Builds the bundled emoji set from pinned npm packages: <c>concepts.jsonl</c> (one concept a line), <c>STYLE.parquet</c> (columns
/// <c>code</c> and <c>image</c>, lossless WebP), <c>styles.json</c> and <c>LICENSES.md</c>. The same packages give the same bytes.
/// </summary>
/// <remarks>Lossless WebP is about a third smaller than optimized PNG for drawings of this size, keeps straight alpha, and decodes as fast.</remarks>
public static class EmojiBuilder
{
    internal static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web)
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        RespectRequiredConstructorParameters = true,
        RespectNullableAnnotations = true,
    };

    static readonly JsonSerializerOptions Indented = new(Json) { WriteIndented = true, NewLine = "\n" };

    /// <summary>Builds the set; nothing half-written replaces an older one.</summary>
    /// <exception cref="PanoptesException">A package cannot be had, is not the pinned one, or holds a drawing that cannot be rendered.</exception>
    public static async Task<IReadOnlyList<EmojiStyle>> BuildAsync(
        EmojiBuildOptions options, IProgress<EmojiBuildProgress>? progress = null, CancellationToken cancel = default)
    {
        if (options.Size is < 8 or > 1024) throw new PanoptesException($"An emoji image of {options.Size} pixels was asked for, but 8 to 1024 are possible.");
        var registry = options.Registry ?? NpmPackage.Registry();
        var cache = options.Cache ?? NpmPackage.DefaultCache();
        using var http = new HttpClient { Timeout = TimeSpan.FromMinutes(10) };

        var styles = EmojiSources.Styles.Where(options.Styles).ToList();
        progress?.Report(new("fetching", 0, EmojiSources.Styles.Count + 1));
        var names = EmojiNames.Parse(await EmojiSources.Names.FetchAsync(http, registry, cache, EmojiNames.Wants, cancel).ConfigureAwait(false));
        var packages = new List<IconPackage>();
        foreach (var source in EmojiSources.Styles)                                    // all: packages with code points teach names to the others
        {
            progress?.Report(new("fetching", packages.Count + 1, EmojiSources.Styles.Count + 1));
            packages.Add(IconPackage.Parse(source, await source.Package.FetchAsync(http, registry, cache, IconPackage.Wants, cancel).ConfigureAwait(false)));
        }
        foreach (var package in packages) names.Learn(package);

        var matches = packages.Where(p => styles.Contains(p.Source)).Select(p => (Package: p, Icons: names.Match(p))).ToList();
        var drawn = matches.SelectMany(static m => m.Icons.Keys).ToHashSet(StringComparer.Ordinal);
        var concepts = names.Concepts.Where(c => drawn.Contains(c.Code) && options.Concepts(c)).Select(static (c, i) => c with { Index = i }).ToList();

        var partial = options.Output.TrimEnd('/', '\\') + "." + Environment.ProcessId + ".partial";
        try
        {
            Directory.CreateDirectory(partial);
            var built = new List<EmojiStyle>();
            foreach (var (package, icons) in matches)
            {
                var chosen = concepts.Where(c => icons.ContainsKey(c.Code)).ToList();
                var images = Render(chosen.ConvertAll(c => icons[c.Code]), package, options.Size, progress, cancel);
                await WriteAsync(Path.Combine(partial, package.Source.Name + ".parquet"), chosen.ConvertAll(static c => c.Code), images, cancel).ConfigureAwait(false);
                built.Add(new()
                {
                    Index = built.Count,
                    Name = package.Source.Name,
                    Title = package.Title,
                    Author = package.Author,
                    Url = package.AuthorUrl,
                    License = package.License,
                    LicenseUrl = package.LicenseUrl,
                    Package = $"{package.Source.Package.Name}@{package.Source.Package.Version}",
                    Count = chosen.Count,
                    HeldOut = package.Source.HeldOut,
                });
            }
            await File.WriteAllTextAsync(Path.Combine(partial, "concepts.jsonl"),
                string.Concat(concepts.Select(static c => JsonSerializer.Serialize(c, Json) + "\n")), cancel).ConfigureAwait(false);
            await File.WriteAllTextAsync(Path.Combine(partial, "styles.json"),
                JsonSerializer.Serialize(new EmojiManifest(options.Size, concepts.Count, built), Indented) + "\n", cancel).ConfigureAwait(false);
            await File.WriteAllTextAsync(Path.Combine(partial, "LICENSES.md"), EmojiLicenses.Write(packages.FindAll(p => styles.Contains(p.Source))), cancel).ConfigureAwait(false);

            Directory.CreateDirectory(options.Output);
            foreach (var file in Directory.GetFiles(partial)) File.Move(file, Path.Combine(options.Output, Path.GetFileName(file)), overwrite: true);
            return built;
        }
        finally
        {
            if (Directory.Exists(partial)) Directory.Delete(partial, recursive: true);
        }
    }

    static byte[][] Render(List<Icon> icons, IconPackage package, int size, IProgress<EmojiBuildProgress>? progress, CancellationToken cancel)
    {
        var images = new byte[icons.Count][];
        var done = 0;
        var before = NetVips.NetVips.Concurrency;
        NetVips.NetVips.Concurrency = 1;                                               // the loop is parallel already
        try
        {
            Parallel.For(0, icons.Count, new ParallelOptions { CancellationToken = cancel, MaxDegreeOfParallelism = Environment.ProcessorCount }, i =>
            {
                images[i] = Render(icons[i], package, size);
                var count = Interlocked.Increment(ref done);
                if (count % 50 == 0 || count == icons.Count) progress?.Report(new("rendering " + package.Source.Name, count, icons.Count));
            });
        }
        catch (AggregateException e) when (e.InnerException is PanoptesException inner)
        {
            throw inner;
        }
        finally
        {
            NetVips.NetVips.Concurrency = before;
        }
        return images;
    }

    static byte[] Render(Icon icon, IconPackage package, int size)
    {
        try
        {
            using var drawn = NetVips.Image.SvgloadBuffer(icon.ToSvg(size));
            if (drawn.Width != size || drawn.Height != size || drawn.Bands != 4)
                throw new PanoptesException($"The icon {icon.Name} of {package.Source.Package.Name} rendered to {drawn.Width}x{drawn.Height} with {drawn.Bands} bands, but {size}x{size} with 4 was expected.");
            return drawn.WebpsaveBuffer(lossless: true, effort: 6, keep: NetVips.Enums.ForeignKeep.None);
        }
        catch (NetVips.VipsException e)
        {
            throw new PanoptesException($"The icon {icon.Name} of {package.Source.Package.Name} cannot be rendered: {e.Message.Trim()}", e);
        }
    }

    static async Task WriteAsync(string path, List<string> codes, byte[][] images, CancellationToken cancel)
    {
        var file = File.Create(path);
        await using (file.ConfigureAwait(false))
        {
            var options = new ParquetOptions { CompressionMethod = CompressionMethod.None };   // the images are compressed already
            var (code, image) = (new DataField<string>("code", false), new DataField<byte[]>("image", false));
            var writer = await ParquetWriter.CreateAsync(new ParquetSchema(code, image), file, options, cancellationToken: cancel).ConfigureAwait(false);
            await using (writer.ConfigureAwait(false))
            {
                using var group = writer.CreateRowGroup();
                await group.WriteAsync(code, codes).ConfigureAwait(false);
                await group.WriteAsync(image, images).ConfigureAwait(false);
            }
        }
    }
}

/// <summary>What <c>styles.json</c> says.</summary>
sealed record EmojiManifest(int Size, int Concepts, IReadOnlyList<EmojiStyle> Styles);
