using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using System.Text.Json;
using Panoptes.Data.Emoji;
using SkiaSharp;

namespace Panoptes.Data;

/// <summary>One thing that an emoji stands for, with its names of Unicode CLDR.</summary>
public sealed record EmojiConcept
{
    /// <summary>Position in <see cref="EmojiSet.Concepts"/>, in CLDR's order.</summary>
    public required int Index { get; init; }

    /// <summary>Code points in upper-case hexadecimal joined by hyphens, without variation selectors: <c>1F34E</c>.</summary>
    public required string Code { get; init; }

    /// <summary>The character itself.</summary>
    public required string Emoji { get; init; }

    /// <summary>Short name by language (en, zh, ja, ko, de, fr, es, pt, it, ru).</summary>
    public required IReadOnlyDictionary<string, string> Names { get; init; }

    /// <summary>Search words by language (en, zh).</summary>
    public required IReadOnlyDictionary<string, IReadOnlyList<string>> Tags { get; init; }

    /// <summary>One of nine groups, such as <c>food-drink</c>.</summary>
    public required string Group { get; init; }

    /// <summary>One of about a hundred finer groups, such as <c>food-fruit</c>.</summary>
    public required string Subgroup { get; init; }

    /// <summary>The emoji version that brought it.</summary>
    public required double UnicodeVersion { get; init; }

    /// <summary>Whether no model is trained on it in any style (one concept in ten).</summary>
    public required bool HeldOut { get; init; }

    /// <summary>The English name.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public string Name => Names["en"];
}

/// <summary>One way of drawing.</summary>
public sealed record EmojiStyle
{
    /// <summary>Position in <see cref="EmojiSet.Styles"/>.</summary>
    public required int Index { get; init; }

    /// <summary>Short name, such as <c>noto</c>.</summary>
    public required string Name { get; init; }

    /// <summary>The artists' name for it.</summary>
    public required string Title { get; init; }

    public required string Author { get; init; }

    public required string Url { get; init; }

    /// <summary>SPDX identifier.</summary>
    public required string License { get; init; }

    public required string LicenseUrl { get; init; }

    /// <summary>The npm package and version that it comes from.</summary>
    public required string Package { get; init; }

    /// <summary>How many concepts it draws.</summary>
    public required int Count { get; init; }

    /// <summary>Whether no model is trained on it.</summary>
    public required bool HeldOut { get; init; }
}

/// <summary>One drawing: a concept in a style.</summary>
/// <param name="Index">Position in <see cref="EmojiSet.Images"/>.</param>
/// <param name="Concept">Position in <see cref="EmojiSet.Concepts"/>.</param>
/// <param name="Style">Position in <see cref="EmojiSet.Styles"/>.</param>
public readonly record struct EmojiImage(int Index, int Concept, int Style);

/// <summary>The four fixed parts of the set; together they are all of it.</summary>
public enum EmojiSplit
{
    /// <summary>Train concepts in train styles: what a model may learn from.</summary>
    Train,

    /// <summary>Train concepts in the held-out style.</summary>
    HeldOutStyle,

    /// <summary>Held-out concepts in train styles.</summary>
    HeldOutConcepts,

    /// <summary>Held-out concepts in the held-out style.</summary>
    HeldOutBoth,
}

/// <summary>
/// The bundled emoji: about 1,900 concepts in ten drawing styles, straight-alpha RGBA, with names in ten languages. Opening reads the
/// compressed images only (about 0.1 s); pixels are decoded when first asked for, or all at once by <see cref="DecodeAll"/>.
/// </summary>
/// <remarks>Immutable and safe for any number of threads.</remarks>
public sealed class EmojiSet
{
    readonly ReadOnlyMemory<byte>[] encoded;
    readonly string root;
    readonly byte[] pixels;
    readonly int[] decoded;
    readonly Lock[] locks = [.. Enumerable.Range(0, 64).Select(static _ => new Lock())];
    readonly int[] imageOf;

    EmojiSet(string root, EmojiManifest manifest, IReadOnlyList<EmojiConcept> concepts, IReadOnlyList<EmojiImage> images, ReadOnlyMemory<byte>[] encoded, bool isNamed = false)
    {
        this.root = root;
        IsNamed = isNamed;
        this.encoded = encoded;
        Size = manifest.Size;
        Concepts = concepts;
        Styles = manifest.Styles;
        Images = images;
        pixels = GC.AllocateUninitializedArray<byte>(checked(encoded.Length * ImageBytes));   // untouched pages cost nothing
        decoded = new int[encoded.Length];
        imageOf = new int[concepts.Count * Styles.Count];
        Array.Fill(imageOf, -1);
        foreach (var image in images) imageOf[(image.Concept * Styles.Count) + image.Style] = image.Index;
    }

    /// <summary>Side of every image in pixels.</summary>
    public int Size { get; }

    public IReadOnlyList<EmojiConcept> Concepts { get; }

    public IReadOnlyList<EmojiStyle> Styles { get; }

    /// <summary>Every drawing, style by style, in the concepts' order.</summary>
    public IReadOnlyList<EmojiImage> Images { get; }

    /// <summary>The folder that it was read from.</summary>
    internal string Root => root;

    /// <summary>Whether its concepts were named one by one.</summary>
    internal bool IsNamed { get; }

    /// <summary>Bytes of one decoded image: size * size * 4.</summary>
    public int ImageBytes => Size * Size * 4;

    /// <summary>
    /// Opens the set at <paramref name="root"/>, or finds the bundled one: the folder that the environment's PANOPTES_DATA names,
    /// <c>data/emoji</c> beside the application, or <c>data/emoji</c> in a folder above it or above the working folder.
    /// </summary>
    /// <exception cref="PanoptesException">There is no set, or a file of it is missing or damaged.</exception>
    public static EmojiSet Open(string? root = null)
    {
        root ??= Find();
        try
        {
            return Read(root);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            throw new PanoptesException($"The emoji set in {root} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Whether a folder is that of an emoji set.</summary>
    public static bool IsIn(string folder) => File.Exists(Path.Combine(folder, "styles.json"));

    /// <summary>The images of one split, in order.</summary>
    public int[] Select(EmojiSplit split) => Select(i =>
        (Concepts[i.Concept].HeldOut, Styles[i.Style].HeldOut) == (split is EmojiSplit.HeldOutConcepts or EmojiSplit.HeldOutBoth, split is EmojiSplit.HeldOutStyle or EmojiSplit.HeldOutBoth));

    /// <summary>The images that a condition picks, in order.</summary>
    public int[] Select(Func<EmojiImage, bool> condition) => [.. Images.Where(condition).Select(static i => i.Index)];

    /// <summary>
    /// A smaller set for quick experiments: <paramref name="count"/> concepts, drawn so that each count's are among those of every larger one,
    /// in all styles. They are numbered anew; what is held out stays held out.
    /// </summary>
    /// <param name="count">From 1 to the number of concepts.</param>
    /// <param name="seed">Of the draw.</param>
    /// <exception cref="PanoptesException">There are not so many concepts.</exception>
    public EmojiSet Subset(int count, ulong seed = 0)
    {
        if (count < 1 || count > Concepts.Count) throw new PanoptesException($"{count} concepts were asked for; the emoji set has {Concepts.Count}.");
        var order = Enumerable.Range(0, Concepts.Count).ToArray();
        new SampleRandom(seed, 0, 0).Shuffle<int>(order);
        return Subset([.. order.Take(count).Order()], isNamed: false);
    }

    /// <summary>The concepts of some names, in all styles, numbered anew; what is held out stays held out.</summary>
    /// <param name="names">In English, each once.</param>
    /// <exception cref="PanoptesException">None, or one that no concept has, or that comes twice.</exception>
    public EmojiSet Subset(IReadOnlyList<string> names)
    {
        var known = Concepts.GroupBy(static c => c.Name, StringComparer.OrdinalIgnoreCase).ToDictionary(static g => g.Key, static g => g.First().Index, StringComparer.OrdinalIgnoreCase);
        int[] chosen = [.. names.Select(n => known.TryGetValue(n, out var c) ? c : throw new PanoptesException($"The emoji set has no concept named {n}.")).Order()];
        if (chosen.Length == 0 || chosen.Distinct().Count() != chosen.Length) throw new PanoptesException("Concepts were named twice, or none at all; expected names, each once.");
        return Subset(chosen, isNamed: true);
    }

    EmojiSet Subset(int[] chosen, bool isNamed)
    {
        var index = chosen.Select(static (concept, i) => (concept, i)).ToDictionary(static p => p.concept, static p => p.i);
        EmojiImage[] kept = [.. Images.Where(i => index.ContainsKey(i.Concept))];
        var manifest = new EmojiManifest(Size, chosen.Length, [.. Styles.Select(s => s with { Count = kept.Count(i => i.Style == s.Index) })]);
        return new(root, manifest, [.. chosen.Select(c => Concepts[c] with { Index = index[c] })],
            [.. kept.Select((image, i) => new EmojiImage(i, index[image.Concept], image.Style))], [.. kept.Select(i => encoded[i.Index])], isNamed);
    }

    /// <summary>The image of a concept in a style, or null where that style does not draw it.</summary>
    public EmojiImage? Find(int concept, int style) => imageOf[(concept * Styles.Count) + style] is >= 0 and var i ? Images[i] : null;

    /// <summary>
    /// Where the joints of the person are that an image shows: COCO's 17 keypoints (nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right) in parts of the image's side from its upper left
    /// corner, null where it does not show one. Null where nothing is known, as of nearly all.
    /// </summary>
    /// <exception cref="PanoptesException">The file of poses is damaged.</exception>
    public IReadOnlyList<(float X, float Y)?>? Pose(int image) => EmojiPoses.Bundled.Of(Concepts[Images[image].Concept].Code, Styles[Images[image].Style].Name);

    /// <summary>The image's file: lossless WebP with alpha.</summary>
    public ReadOnlyMemory<byte> Encoded(int image) => encoded[image];

    /// <summary>The image's pixels: [size, size, 4], RGBA with straight alpha, decoded at most once.</summary>
    /// <exception cref="PanoptesException">The stored image is damaged.</exception>
    public ReadOnlySpan<byte> Pixels(int image)
    {
        var span = pixels.AsSpan(image * ImageBytes, ImageBytes);
        if (Volatile.Read(ref decoded[image]) == 0)
        {
            lock (locks[image % locks.Length])
            {
                if (decoded[image] == 0)
                {
                    Decode(image, span);
                    Volatile.Write(ref decoded[image], 1);
                }
            }
        }
        return span;
    }

    /// <summary>Decodes every image now, on all cores, and returns all pixels: [images, size, size, 4]. The array is the set's own: do not write.</summary>
    /// <exception cref="PanoptesException">A stored image is damaged.</exception>
    public byte[] DecodeAll(CancellationToken cancel = default)
    {
        try
        {
            Parallel.ForEach(Partitioner.Create(0, encoded.Length), new ParallelOptions { CancellationToken = cancel }, range =>
            {
                for (var i = range.Item1; i < range.Item2; i++) Pixels(i);
            });
        }
        catch (AggregateException e) when (e.InnerException is PanoptesException inner)
        {
            ExceptionDispatchInfo.Throw(inner);
        }
        return pixels;
    }

    unsafe void Decode(int image, Span<byte> target)
    {
        var what = Images[image];
        using var data = SKData.CreateCopy(encoded[image].Span);
        using var codec = SKCodec.Create(data);
        if (codec is null || codec.Info.Width != Size || codec.Info.Height != Size)
            throw Damaged(what, codec is null ? "is no image" : $"is {codec.Info.Width}x{codec.Info.Height} pixels");
        fixed (byte* p = target)
        {
            var result = codec.GetPixels(new SKImageInfo(Size, Size, SKColorType.Rgba8888, SKAlphaType.Unpremul), (nint)p);
            if (result != SKCodecResult.Success) throw Damaged(what, $"cannot be decoded ({result})");
        }
    }

    PanoptesException Damaged(EmojiImage image, string found) =>
        new($"The image of {Concepts[image.Concept].Code} in {Path.Combine(root, Styles[image.Style].Name + ".parquet")} {found}, but a WebP image of {Size}x{Size} pixels was expected.");

    static EmojiSet Read(string root)
    {
        var manifestFile = Path.Combine(root, "styles.json");
        if (!File.Exists(manifestFile)) throw new PanoptesException($"There is no emoji set in {root}: styles.json is missing (`panoptes data build emoji` makes the set).");
        EmojiManifest manifest;
        try
        {
            manifest = JsonSerializer.Deserialize<EmojiManifest>(File.ReadAllBytes(manifestFile), EmojiBuilder.Json) ?? throw new JsonException("it is null.");
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"{manifestFile} is not the emoji set's list of styles: {e.Message}", e);
        }
        if (manifest.Styles is null || manifest.Styles.Any(static s => s?.Name is null)) throw new PanoptesException($"{manifestFile} lists a style that has no name.");
        if (manifest.Size is < 1 or > 1024 || manifest.Styles.Count is 0 or > 1000)
            throw new PanoptesException($"{manifestFile} says {manifest.Size} pixels and {manifest.Styles.Count} styles, but 1 to 1024 pixels and 1 to 1000 styles were expected.");

        var concepts = ReadConcepts(Path.Combine(root, "concepts.jsonl"), manifest.Concepts);
        var index = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var concept in concepts) index.Add(concept.Code, concept.Index);

        var images = new List<EmojiImage>();
        var encoded = new List<ReadOnlyMemory<byte>>();
        for (var s = 0; s < manifest.Styles.Count; s++)
        {
            var style = manifest.Styles[s];
            if (style.Index != s || style.Name.Length == 0 || style.Name.Contains('\0') || style.Name != Path.GetFileName(style.Name))
                throw new PanoptesException($"{manifestFile} has the style '{style.Name}' with index {style.Index} at position {s}.");
            var file = Path.Combine(root, style.Name + ".parquet");
            var (codes, blobs) = ReadStyle(file);
            if (codes.Length != style.Count) throw new PanoptesException($"{file} has {codes.Length} images, but styles.json says {style.Count}.");
            var seen = new HashSet<string>(StringComparer.Ordinal);
            for (var i = 0; i < codes.Length; i++)
            {
                if (codes[i] is not { } code || blobs[i].IsEmpty || !index.TryGetValue(code, out var concept) || !seen.Add(code))
                    throw new PanoptesException($"{file} has at row {i} the code '{codes[i]}', which is unknown, repeated or without an image.");
                images.Add(new(images.Count, concept, s));
                encoded.Add(blobs[i]);
            }
        }
        if ((long)encoded.Count * manifest.Size * manifest.Size * 4 > Array.MaxLength)
            throw new PanoptesException($"{manifestFile} says {manifest.Size} pixels, at which the {encoded.Count} images are more than can be held in memory.");
        return new(root, manifest, concepts, images, [.. encoded]);
    }

    static List<EmojiConcept> ReadConcepts(string file, int expected)
    {
        var concepts = new List<EmojiConcept>();
        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (var line in File.ReadLines(file))
        {
            EmojiConcept concept;
            try
            {
                concept = JsonSerializer.Deserialize<EmojiConcept>(line, EmojiBuilder.Json) ?? throw new JsonException("it is null.");
            }
            catch (JsonException e)
            {
                throw new PanoptesException($"{file}: line {concepts.Count + 1} is not a concept: {e.Message}", e);
            }
            if (concept.Index != concepts.Count || !seen.Add(concept.Code) || !concept.Names.ContainsKey("en"))
                throw new PanoptesException($"{file}: line {concepts.Count + 1} has the index {concept.Index} and the code '{concept.Code}': out of order, repeated, or without an English name.");
            concepts.Add(concept);
        }
        return concepts.Count == expected ? concepts : throw new PanoptesException($"{file} has {concepts.Count} concepts, but styles.json says {expected}.");
    }

    static (string?[] Codes, ReadOnlyMemory<byte>[] Images) ReadStyle(string file)
    {
        using var parquet = ParquetFile.Open(file);
        return (parquet.Texts(Column("code", ParquetKind.Text)), parquet.Bytes(Column("image", ParquetKind.Bytes)));

        ParquetColumn Column(string name, ParquetKind kind) =>
            parquet.Columns.FirstOrDefault(c => c.Name == name && c.Kind == kind) ?? throw new PanoptesException($"{file} has no column {name} of {kind} values.");
    }

    static string Find()
    {
        const string Marker = "styles.json";
        if (Environment.GetEnvironmentVariable("PANOPTES_DATA") is { Length: > 0 } named)
        {
            foreach (var candidate in new[] { Path.Combine(named, "emoji"), named })
                if (File.Exists(Path.Combine(candidate, Marker))) return candidate;
            throw new PanoptesException($"PANOPTES_DATA names {named}, but neither it nor its folder emoji holds {Marker}.");
        }
        return Path.GetDirectoryName(BundledData.Find("emoji", Marker)) ?? throw new PanoptesException("The bundled emoji set was not found: set PANOPTES_DATA to the folder that holds emoji/styles.json, or build it with `panoptes data build emoji`.");
    }
}
