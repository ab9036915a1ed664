using System.Buffers;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Panoptes.Checkpoints;

/// <summary>
/// The hub's cache on disk, as its Python tools lay it out: <c>models--OWNER--NAME</c> with <c>refs/REVISION</c> (a commit),
/// <c>blobs/ETAG</c> (contents) and <c>snapshots/COMMIT/PATH</c> (links to blobs); locks are in <c>.locks</c> beside it.
/// </summary>
sealed partial class HubCache(string folder, HubId id)
{
    static readonly SearchValues<char> Forbidden = SearchValues.Create(":*?\"<>|");

    readonly string repository = Path.Combine(folder, id.FolderName);

    /// <summary>The folder of a commit's files.</summary>
    public string Snapshot(string commit) => Path.Combine(repository, "snapshots", commit);

    public string Blob(string etag) => Path.Combine(repository, "blobs", etag);

    /// <summary>The commit that the id's revision meant when it was last asked for, or null.</summary>
    public string? Commit
    {
        get
        {
            if (IsCommit(id.Revision)) return id.Revision;
            var path = Path.Combine(repository, "refs", id.Revision);
            try
            {
                return File.Exists(path) && File.ReadAllText(path).Trim() is var commit && IsCommit(commit) ? commit : null;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                return null;
            }
        }
    }

    /// <summary>The snapshot of the id's revision with all of its weights, or null.</summary>
    public string? FindComplete()
    {
        if (Commit is not { } commit || !Directory.Exists(Snapshot(commit))) return null;
        var snapshot = Snapshot(commit);
        try
        {
            var index = Path.Combine(snapshot, Hub.PipelineFile);
            if (!File.Exists(index)) return HasWeights(snapshot) ? snapshot : null;
            // A part with a config.json is a network; the others, schedulers and tokenizers, are settings alone.
            return Hub.PartsOf(File.ReadAllBytes(index)).Select(p => Path.Combine(snapshot, p)).All(static p => Directory.Exists(p) && (!File.Exists(Path.Combine(p, "config.json")) || HasWeights(p))) ? snapshot : null;
        }
        catch (Exception e) when (e is PanoptesException or IOException or UnauthorizedAccessException or JsonException or InvalidOperationException)
        {
            return null;
        }
    }

    static bool HasWeights(string folder)
    {
        var weights = Weights.FindIn(folder);
        IEnumerable<string> files = weights.EndsWith(".json", StringComparison.Ordinal) ? Shards(File.ReadAllText(weights)).Select(s => Path.Combine(folder, s)) : [weights];
        return files.All(IsThere);
    }

    public void WriteRef(string commit)
    {
        if (IsCommit(id.Revision)) return;
        AtomicFile.WriteText(Path.Combine(repository, "refs", id.Revision), commit);
    }

    /// <summary>Puts the blob into the snapshot under its name: as a link, or as a copy where links are not allowed.</summary>
    public void Link(string commit, string name, string etag)
    {
        var path = Path.Combine(Snapshot(commit), name);
        var folderOf = Path.GetDirectoryName(path)!;
        Directory.CreateDirectory(folderOf);
        var target = Path.GetRelativePath(folderOf, Blob(etag));
        var existing = new FileInfo(path);
        if (existing.Exists && (existing.LinkTarget == target || existing.LinkTarget is null && existing.Length == new FileInfo(Blob(etag)).Length)) return;
        var temporary = $"{path}.{Guid.NewGuid().ToString("N")[..8]}.tmp";
        try
        {
            try
            {
                File.CreateSymbolicLink(temporary, target);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or PlatformNotSupportedException)
            {
                File.Copy(Blob(etag), temporary);
            }
            File.Move(temporary, path, overwrite: true);
        }
        finally
        {
            File.Delete(temporary);
        }
    }

    /// <summary>Holds the blob against other processes (the Python tools lock the same file) until disposed.</summary>
    public async Task<IDisposable> LockAsync(string etag, CancellationToken cancellationToken)
    {
        var path = Path.Combine(folder, ".locks", id.FolderName, etag + ".lock");
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        while (true)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException) when (File.Exists(path))                             // somebody else holds it
            {
                await Task.Delay(100, cancellationToken);
            }
        }
    }

    internal static bool IsCommit(string text) => CommitForm().IsMatch(text);

    /// <summary>Whether a file name from the hub could leave the folder that it is put in.</summary>
    internal static bool Leaves(string name) => name.Contains('\\', StringComparison.Ordinal) || name.Any(char.IsControl)
        || name.Split('/').Any(static part => part is "" or "." or "..");

    /// <summary>Whether every system takes the name.</summary>
    internal static bool IsPortable(string name) => name.Length <= 1000 && name.AsSpan().IndexOfAny(Forbidden) < 0;

    /// <summary>A link to a blob that is not there exists, too, but holds nothing.</summary>
    static bool IsThere(string path) => File.Exists(path) && File.ResolveLinkTarget(path, returnFinalTarget: true) is not { Exists: false };

    internal static IEnumerable<string> Shards(string index)
    {
        using var document = JsonDocument.Parse(index);
        return [.. document.RootElement.GetProperty("weight_map").EnumerateObject().Select(static e => e.Value.GetString() ?? "").Distinct(StringComparer.Ordinal)];
    }

    [GeneratedRegex("^[0-9a-f]{40}\\z")]
    private static partial Regex CommitForm();
}
