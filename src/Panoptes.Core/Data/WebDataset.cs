using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;

namespace Panoptes.Data;

/// <summary>
/// Images in tar shards, in WebDataset's convention: files that follow each other and share their name up to the first dot are one
/// sample, and what comes after the dot says what they are: an image (<c>jpg jpeg png webp gif bmp</c>), a caption (<c>txt</c>), a
/// class (<c>cls</c>, a whole number), or <c>json</c> with <c>caption</c> (or <c>text</c>) and <c>label</c>, which counts where the
/// others are missing. Other files are passed over.
/// </summary>
/// <remarks>
/// Shards are gone through by their headers; an image's bytes are read by the worker that decodes it. A shard that is damaged or cut off
/// gives what comes before the damage; one under gzip cannot be read from its middle and is refused. If the first sample has a caption, samples without are problems. Immutable but for its
/// <see cref="ImageData.Problems"/>, and safe for any number of threads.
/// </remarks>
public sealed class WebDataset : ImageData
{
    WebDataset(string source, IReadOnlyList<string> shards, DataProblems problems) : base(source, problems)
    {
        Shards = shards;
        // The first sample that can be read tells whether there are captions.
        foreach (var sample in List())
        {
            HasText = CaptionOf(sample) is not null;
            return;
        }
        throw new PanoptesException($"{source} has no image that can be used.", problems.Lines());
    }

    /// <summary>The tar files, in order.</summary>
    public IReadOnlyList<string> Shards { get; }

    /// <summary>Opens shards.</summary>
    /// <param name="source">A folder of .tar files, one .tar file, or a pattern: <c>shard-{000000..000009}.tar</c>, <c>{train,extra}/{0..4}.tar</c>.</param>
    /// <param name="problems">Where problems are counted; a shard that is not there is one.</param>
    /// <exception cref="PanoptesException">There is no shard with an image in it.</exception>
    public static WebDataset Open(string source, DataProblems? problems = null)
    {
        problems ??= new();
        string[] files;
        try
        {
            files = Directory.Exists(source) ? [.. Directory.GetFiles(source).Where(static f => Path.GetExtension(f) == ".tar" || IsCompressed(f)).Order(StringComparer.Ordinal)]
                : File.Exists(source) ? [source]
                : [.. BracePattern.Expand(source)];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"The folder {source} cannot be read: {e.Message}", e);
        }
        if (files.Length == 0) throw new PanoptesException($"{source} holds no .tar files.");
        if (!Array.Exists(files, File.Exists)) throw new PanoptesException(files.Length == 1 ? $"The shard {files[0]} does not exist." : $"None of the {files.Length:N0} shards of {source} exists; the first is {files[0]}.");
        var shards = new List<string>(files.Length);
        foreach (var file in files)
        {
            if (!File.Exists(file)) problems.Add(new(DataProblemKind.MissingFile, file, $"The shard {file} does not exist."));
            else if (IsCompressed(file)) problems.Add(new(DataProblemKind.BadRow, file, TarIndex.Compressed(file).Message));
            else shards.Add(file);
        }
        if (shards.Count == 0) throw TarIndex.Compressed(Array.Find(files, File.Exists)!);
        return new(source, shards, problems);
    }

    /// <inheritdoc/>
    public override IEnumerable<ImageSample> Read(CancellationToken cancel = default) => ReadEach(List(), Read, cancel);

    /// <summary>Whether it is named as a tar file under gzip.</summary>
    internal static bool IsCompressed(string file) => file.EndsWith(".tar.gz", StringComparison.OrdinalIgnoreCase) || file.EndsWith(".tgz", StringComparison.OrdinalIgnoreCase);

    /// <inheritdoc/>
    public override int CountSamples(CancellationToken cancel = default)
    {
        var count = 0;
        foreach (var _ in List())
        {
            cancel.ThrowIfCancellationRequested();
            count++;
        }
        return count;
    }

    internal IEnumerable<ShardSample> List() => Enumerable.Range(0, Shards.Count).SelectMany(List);

    /// <summary>The samples of one shard, by its headers.</summary>
    internal IEnumerable<ShardSample> List(int shard)
    {
        var path = Shards[shard];
        var number = 0L;
        ShardSample? current = null;
        using var members = TarIndex.List(path).GetEnumerator();
        while (true)
        {
            try
            {
                if (!members.MoveNext()) break;
            }
            catch (PanoptesException e)
            {
                Problems.Add(new(DataProblemKind.BadRow, path, e.Message));
                break;
            }
            if (!TrySplit(members.Current.Name, out var key, out var extension)) continue;
            if (current is null || current.Key != key)
            {
                if (IsWhole(current)) yield return current!;
                current = new(path, key, ((long)shard << 32) | number++);
            }
            current.Add(extension, members.Current);
        }
        if (IsWhole(current)) yield return current!;
    }

    bool IsWhole(ShardSample? sample)
    {
        if (sample is null || sample.IsEmpty) return false;
        if (sample.Image.Length > 0 && !sample.Repeated) return true;
        Problems.Add(new(DataProblemKind.BadRow, sample.Name, $"The sample {sample.Name} has {(sample.Repeated ? "a file twice" : sample.Image.Name is null ? "no image" : "an empty image")}."));
        return false;
    }

    /// <summary>WebDataset's base_plus_ext: up to the first dot of the file's own name, and the rest in lower case.</summary>
    static bool TrySplit(string name, out string key, out string extension)
    {
        var start = name.LastIndexOf('/') + 1;
        var dot = name.IndexOf('.', start);
        var good = dot > start && dot < name.Length - 1;
        (key, extension) = good ? (name[..dot], name[(dot + 1)..].ToLowerInvariant()) : ("", "");
        return good;
    }

    /// <summary>Reads a sample's files.</summary>
    /// <exception cref="BadSampleException">One of them is damaged, or its caption is missing.</exception>
    internal ImageSample Read(ShardSample sample)
    {
        using var handle = OpenShard(sample);
        using var json = Json(sample, handle);
        var text = CaptionOf(sample, handle, json);
        if (HasText && string.IsNullOrEmpty(text)) throw new BadSampleException(DataProblemKind.NoCaption, sample.Name, $"The sample {sample.Name} has no caption.");
        return new(sample.Name, Bytes(sample, handle, sample.Image, ImageSample.MaxBytes), text ?? "", LabelOf(sample, handle, json));
    }

    static string? CaptionOf(ShardSample sample)
    {
        try
        {
            using var handle = OpenShard(sample);
            using var json = Json(sample, handle);
            return CaptionOf(sample, handle, json);
        }
        catch (BadSampleException)
        {
            return null;                                                               // told when the sample is read
        }
    }

    static SafeFileHandle OpenShard(ShardSample sample)
    {
        try
        {
            return TarIndex.Open(sample.Shard);
        }
        catch (PanoptesException e)
        {
            throw new BadSampleException(DataProblemKind.MissingFile, sample.Shard, e.Message, e);
        }
    }

    static string? CaptionOf(ShardSample sample, SafeFileHandle handle, JsonDocument? json)
    {
        if (sample.Text is { } text) return Encoding.UTF8.GetString(Bytes(sample, handle, text, ImageSample.MaxTextBytes)).Trim('\uFEFF', ' ', '\t', '\r', '\n');
        foreach (var name in (ReadOnlySpan<string>)["caption", "text"])
            if (json?.RootElement.TryGetProperty(name, out var value) == true && value.ValueKind == JsonValueKind.String) return Bad(sample, value.GetString)!.Trim();
        return null;
    }

    static int LabelOf(ShardSample sample, SafeFileHandle handle, JsonDocument? json)
    {
        if (sample.Class is { } file)
        {
            var text = Encoding.UTF8.GetString(Bytes(sample, handle, file, 100));
            return int.TryParse(text.Trim(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var label)
                ? label
                : throw new BadSampleException(DataProblemKind.BadRow, sample.Name, $"The sample {sample.Name} has '{text}' for a class, but a whole number was expected.");
        }
        return json?.RootElement.TryGetProperty("label", out var value) == true && value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var number) ? number : -1;
    }

    static JsonDocument? Json(ShardSample sample, SafeFileHandle handle)
    {
        if (sample.Json is not { } file) return null;
        var bytes = Bytes(sample, handle, file, ImageSample.MaxTextBytes);
        var json = Bad(sample, () => JsonDocument.Parse(bytes));
        if (json.RootElement.ValueKind == JsonValueKind.Object) return json;
        json.Dispose();
        throw new BadSampleException(DataProblemKind.BadRow, sample.Name, $"The json of the sample {sample.Name} holds no object.");
    }

    /// <summary>Broken JSON, or a JSON string that is no text, makes the sample a bad one.</summary>
    static T Bad<T>(ShardSample sample, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new BadSampleException(DataProblemKind.BadRow, sample.Name, $"The json of the sample {sample.Name} is damaged: {e.Message}", e);
        }
    }

    static byte[] Bytes(ShardSample sample, SafeFileHandle handle, TarMember member, long limit)
    {
        if (member.Length > limit) throw new BadSampleException(DataProblemKind.BadRow, sample.Name, $"{sample.Shard}: {member.Name} has {member.Length:N0} bytes, but at most {limit:N0} were expected.");
        var bytes = GC.AllocateUninitializedArray<byte>((int)member.Length);
        if (TarIndex.Fill(handle, bytes, member.Offset, sample.Shard) < bytes.Length) throw new BadSampleException(DataProblemKind.MissingFile, sample.Shard, $"The tar archive {sample.Shard} has become shorter while it was read.");
        return bytes;
    }
}

/// <summary>Where the files of one sample lie in a shard.</summary>
/// <param name="Number">The shard's number in the upper half, the sample's in the lower: what its random stream is drawn by.</param>
sealed record ShardSample(string Shard, string Key, long Number)
{
    internal TarMember Image { get; private set; }

    internal TarMember? Text { get; private set; }

    internal TarMember? Json { get; private set; }

    internal TarMember? Class { get; private set; }

    /// <summary>Whether a kind of file came twice.</summary>
    internal bool Repeated { get; private set; }

    /// <summary>Whether nothing of it is known here.</summary>
    internal bool IsEmpty => Image.Name is null && Text is null && Json is null && Class is null;

    /// <summary>What messages call it.</summary>
    internal string Name => $"{Shard}:{Key}";

    internal void Add(string extension, TarMember member)
    {
        switch (extension)
        {
            case "jpg" or "jpeg" or "png" or "webp" or "gif" or "bmp":
                Repeated |= Image.Name is not null;
                Image = member;
                break;
            case "txt":
                Repeated |= Text is not null;
                Text = member;
                break;
            case "json":
                Repeated |= Json is not null;
                Json = member;
                break;
            case "cls":
                Repeated |= Class is not null;
                Class = member;
                break;
        }
    }
}

/// <summary>Names in braces as shells expand them: <c>{08..11}</c> is 08, 09, 10, 11, and <c>{a,b}</c> is a, b.</summary>
static class BracePattern
{
    const int MaxNames = 1_000_000;

    /// <exception cref="PanoptesException">It stands for more than a million names.</exception>
    internal static List<string> Expand(string pattern)
    {
        var names = new List<string> { "" };
        var rest = pattern.AsSpan();
        while (rest.IndexOf('{') is >= 0 and var open && rest[open..].IndexOf('}') is > 0 and var close)
        {
            var choices = Choices(rest.Slice(open + 1, close - 1), pattern);
            if ((long)names.Count * choices.Count > MaxNames) throw TooMany(pattern);
            var before = rest[..open].ToString();
            names = [.. names.SelectMany(name => choices.Select(choice => name + before + choice))];
            rest = rest[(open + close + 1)..];
        }
        var end = rest.ToString();
        return names.ConvertAll(name => name + end);
    }

    static List<string> Choices(ReadOnlySpan<char> inner, string pattern)
    {
        if (inner.IndexOf("..") is > 0 and var dots && int.TryParse(inner[..dots], NumberStyles.None, CultureInfo.InvariantCulture, out var first) && int.TryParse(inner[(dots + 2)..], NumberStyles.None, CultureInfo.InvariantCulture, out var last))
        {
            if (Math.Abs((long)last - first) >= MaxNames) throw TooMany(pattern);
            var width = Math.Max(dots, inner.Length - dots - 2);
            var format = (dots > 1 && inner[0] == '0') || (inner.Length - dots - 2 > 1 && inner[dots + 2] == '0') ? "d" + width.ToString(CultureInfo.InvariantCulture) : "d";
            var choices = new List<string>();
            for (var i = first; ; i += Math.Sign(last - first))
            {
                choices.Add(i.ToString(format, CultureInfo.InvariantCulture));
                if (i == last) return choices;
            }
        }
        return inner.Contains(',') ? [.. inner.ToString().Split(',')] : [$"{{{inner}}}"];
    }

    static PanoptesException TooMany(string pattern) => new($"The pattern {pattern} stands for more than {MaxNames:N0} names.");
}
