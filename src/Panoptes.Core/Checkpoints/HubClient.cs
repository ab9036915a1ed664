using System.Net;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Panoptes.Checkpoints;

/// <summary>
/// Speaks the hub's protocol: lists a revision's files, then fetches what is missing into the cache. Dropped connections resume where they broke,
/// every content is checked against the hub's checksum, and a name from the hub can never leave the cache.
/// </summary>
/// <remarks>Protocol: GET /api/models/ID/revision/REVISION lists; HEAD /ID/resolve/COMMIT/FILE gives size and checksum (X-Linked-Size and
/// X-Linked-Etag, a SHA-256, for large files; else ETag, git's SHA-1 of a blob) and may redirect; GET takes ranges.</remarks>
public sealed class HubClient(HubOptions options) : IDisposable
{
    const int MaxRedirects = 10, MaxListing = 64 << 20, MaxIndex = 1 << 20;

    readonly HttpClient http = new(new SocketsHttpHandler { AllowAutoRedirect = false, ConnectTimeout = TimeSpan.FromSeconds(15), UseCookies = false })
    {
        Timeout = Timeout.InfiniteTimeSpan,                                          // large files take long; stalls are watched instead
        DefaultRequestHeaders = { UserAgent = { new ProductInfoHeaderValue("panoptes", typeof(HubClient).Assembly.GetName().Version?.ToString(3) ?? "0") } },
    };

    /// <summary>A file of the wanted revision.</summary>
    sealed record RemoteFile(string Name, Uri Address, string ETag, long Size);

    /// <summary>Brings the cache up to date with the hub and returns the folder of the revision's snapshot.</summary>
    /// <exception cref="PanoptesException">The hub does not have or give the model, or what came does not fit its checksum.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; what came so far is resumed by the next call.</exception>
    public async Task<string> DownloadAsync(HubId id, IProgress<HubProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        try
        {
            var cache = new HubCache(options.CacheFolder, id);
            var (commit, names) = await ListAsync(id, cancellationToken);
            var wanted = options.Files.Count == 0 && names.Contains(Hub.PipelineFile) ? Hub.SelectPipeline(names, await PartsAsync(cache, id, commit, cancellationToken)) : Hub.Select(names, options.Files);
            if (wanted.Count == 0) throw new PanoptesException($"{id} has none of the wanted files ({string.Join(", ", options.Files)}); it has {string.Join(", ", names.Take(20))}.");
            if (wanted.FirstOrDefault(static n => !HubCache.IsPortable(n)) is { } odd) throw new PanoptesException($"{id} has a file named {odd}, which is no name of a file on every system; --include can leave it out.");
            var files = new List<RemoteFile>();
            foreach (var name in wanted) files.Add(await InspectAsync(id, commit, name, cancellationToken));
            long size = files.Sum(static f => f.Size), done = 0;
            foreach (var file in files)
            {
                var before = done;
                await FetchAsync(cache, file, bytes => progress?.Report(new(file.Name, bytes, file.Size, before + bytes, size)), cancellationToken);
                cache.Link(commit, file.Name, file.ETag);
                done += file.Size;
                progress?.Report(new(file.Name, file.Size, file.Size, done, size));
            }
            cache.WriteRef(commit);
            return cache.Snapshot(commit);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"{id} cannot be stored in {options.CacheFolder}: {e.Message}", e);
        }
    }

    public void Dispose() => http.Dispose();

    async Task<(string Commit, IReadOnlyList<string> Names)> ListAsync(HubId id, CancellationToken cancellationToken)
    {
        var address = new Uri($"{options.Endpoint.AbsoluteUri.TrimEnd('/')}/api/models/{id.Owner}/{id.Name}/revision/{Uri.EscapeDataString(id.Revision)}");
        return await RetryAsync(address, async () =>
        {
            using var response = await SendAsync(HttpMethod.Get, address, null, followAll: true, cancellationToken);
            Check(response, id, "the list of its files");
            var text = await ReadBoundedAsync(response, address, cancellationToken);
            try
            {
                using var document = JsonDocument.Parse(text);
                var commit = document.RootElement.GetProperty("sha").GetString() ?? "";
                if (!HubCache.IsCommit(commit)) throw new PanoptesException($"{address} gave {commit} for a commit; expected 40 hexadecimal digits.");
                string[] names = [.. document.RootElement.GetProperty("siblings").EnumerateArray().Select(static s => s.GetProperty("rfilename").GetString() ?? "")];
                if (Array.Find(names, HubCache.Leaves) is { } unsafeName) throw new PanoptesException($"{address} lists the file name {unsafeName}, which would leave the cache; refused.");
                return (commit, (IReadOnlyList<string>)names);
            }
            catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
            {
                throw new PanoptesException($"{address} did not answer with a list of files: {e.Message}", e);
            }
        }, cancellationToken);
    }

    /// <summary>The parts of a pipeline, by its model_index.json, which is fetched before the others.</summary>
    async Task<IReadOnlyList<string>> PartsAsync(HubCache cache, HubId id, string commit, CancellationToken cancellationToken)
    {
        var index = await InspectAsync(id, commit, Hub.PipelineFile, cancellationToken);
        if (index.Size > MaxIndex) throw new PanoptesException($"{index.Address} has {index.Size} bytes; expected at most {MaxIndex} of a file that names a pipeline's parts.");
        await FetchAsync(cache, index, static _ => { }, cancellationToken);
        try
        {
            return Hub.PartsOf(await File.ReadAllBytesAsync(cache.Blob(index.ETag), cancellationToken));
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"{index.Address} does not name a pipeline's parts: {e.Message.TrimEnd('.')}.", e);
        }
    }

    async Task<RemoteFile> InspectAsync(HubId id, string commit, string name, CancellationToken cancellationToken)
    {
        var path = string.Join('/', name.Split('/').Select(Uri.EscapeDataString));
        var address = new Uri($"{options.Endpoint.AbsoluteUri.TrimEnd('/')}/{id.Owner}/{id.Name}/resolve/{commit}/{path}");
        return await RetryAsync(address, async () =>
        {
            // What the hub itself says counts, not what it redirects to: redirects within it are followed until it tells the content's checksum.
            using var response = await SendAsync(HttpMethod.Head, address, null, followAll: false, cancellationToken);
            Check(response, id, name);
            var etag = Normalize(Header(response, "X-Linked-Etag") ?? Header(response, "ETag"));
            if (etag is null) throw new PanoptesException($"{address} has no ETag, so that its content could not be checked.");
            var size = long.TryParse(Header(response, "X-Linked-Size"), out var linked) ? linked : response.Content.Headers.ContentLength
                ?? throw new PanoptesException($"{address} does not say its size.");
            if (size < 0) throw new PanoptesException($"{address} says that it has {size} bytes.");
            return new RemoteFile(name, address, etag, size);
        }, cancellationToken);
    }

    async Task FetchAsync(HubCache cache, RemoteFile file, Action<long> report, CancellationToken cancellationToken)
    {
        var blob = cache.Blob(file.ETag);
        Directory.CreateDirectory(Path.GetDirectoryName(blob)!);
        using var held = await cache.LockAsync(file.ETag, cancellationToken);
        if (File.Exists(blob) && new FileInfo(blob).Length == file.Size) return;
        var incomplete = blob + ".incomplete";
        for (var again = 0; ; again++)
        {
            await FetchContentAsync(file, incomplete, report, cancellationToken);
            if (await IsGenuineAsync(incomplete, file, cancellationToken)) break;
            File.Delete(incomplete);                                                 // an old beginning may be to blame: once more, from scratch
            if (again > 0) throw new PanoptesException($"{file.Address} sent {file.Size} bytes whose checksum is not {file.ETag}; nothing was kept.");
        }
        File.Move(incomplete, blob, overwrite: true);
    }

    async Task FetchContentAsync(RemoteFile file, string incomplete, Action<long> report, CancellationToken cancellationToken)
    {
        using var target = new FileStream(incomplete, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read, 1 << 16, FileOptions.Asynchronous);
        if (target.Length > file.Size) target.SetLength(0);
        var failures = 0;
        while (target.Length < file.Size)
        {
            var before = target.Length;
            var fault = "";
            TimeSpan? wait = null;
            try
            {
                wait = await FetchSomeAsync(file, target, report, cancellationToken);
                if (wait is null && target.Length < file.Size) fault = $"the connection ended after {target.Length} of {file.Size} bytes";
                else if (wait is not null) fault = "the hub is busy";
            }
            catch (Exception e) when (IsPassing(e, cancellationToken))
            {
                fault = Reason(e);
            }
            if (target.Length >= file.Size) break;
            failures = target.Length > before ? 0 : failures + 1;
            if (failures >= options.Attempts)
                throw new PanoptesException($"{file.Address} could not be downloaded after {options.Attempts} attempts: {fault}. What came is kept, and the next attempt resumes it.");
            await Task.Delay(wait ?? Wait(failures), cancellationToken);
        }
        target.Flush(flushToDisk: true);
    }

    /// <summary>One request's worth of bytes; returns how long the hub asks to wait where it refuses for now.</summary>
    async Task<TimeSpan?> FetchSomeAsync(RemoteFile file, FileStream target, Action<long> report, CancellationToken cancellationToken)
    {
        var start = target.Length;
        using var response = await SendAsync(HttpMethod.Get, file.Address, start, followAll: true, cancellationToken);
        if (IsBusy(response)) return RetryAfter(response) ?? Wait(1);
        if (response.StatusCode == HttpStatusCode.RequestedRangeNotSatisfiable)
        {
            target.SetLength(0);
            return Wait(1);
        }
        if (!response.IsSuccessStatusCode) throw new PanoptesException($"{file.Address} answered {(int)response.StatusCode} {response.ReasonPhrase}.");
        // 206 continues where we are; 200, or another range, means that the whole comes again.
        if (start > 0 && (response.StatusCode != HttpStatusCode.PartialContent || response.Content.Headers.ContentRange?.From != start))
        {
            if (response.StatusCode == HttpStatusCode.PartialContent) throw new HttpRequestException($"asked for bytes from {start}, was sent another range");
            target.SetLength(0);
        }
        target.Position = target.Length;
        using var stall = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        stall.CancelAfter(options.StallTimeout);
        await using var stream = await response.Content.ReadAsStreamAsync(stall.Token);
        var buffer = new byte[1 << 17];
        while (true)
        {
            stall.CancelAfter(options.StallTimeout);
            var count = await stream.ReadAsync(buffer, stall.Token);
            if (count == 0) return null;
            if (target.Length + count > file.Size)
            {
                File.Delete(target.Name);
                throw new PanoptesException($"{file.Address} sends more than the {file.Size} bytes that it has by its own word; nothing was kept.");
            }
            await target.WriteAsync(buffer.AsMemory(0, count), cancellationToken);
            await target.FlushAsync(cancellationToken);
            report(target.Length);
        }
    }

    static async Task<bool> IsGenuineAsync(string path, RemoteFile file, CancellationToken cancellationToken)
    {
        await using var stream = File.OpenRead(path);
        if (file.ETag.Length == 64) return Convert.ToHexStringLower(await SHA256.HashDataAsync(stream, cancellationToken)) == file.ETag;
        if (file.ETag.Length != 40) return true;                                     // not one of the hub's two checksums: only the length can be held against it
#pragma warning disable CA5350                                                        // git names its blobs by SHA-1
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA1);
#pragma warning restore CA5350
        hash.AppendData(Encoding.ASCII.GetBytes($"blob {file.Size}\0"));
        var buffer = new byte[1 << 17];
        for (int count; (count = await stream.ReadAsync(buffer, cancellationToken)) > 0;) hash.AppendData(buffer.AsSpan(0, count));
        return Convert.ToHexStringLower(hash.GetHashAndReset()) == file.ETag;
    }

    /// <summary>Sends, following redirects: all of them, or only those within the hub. The token goes to the hub's own host and nowhere else.</summary>
    async Task<HttpResponseMessage> SendAsync(HttpMethod method, Uri address, long? from, bool followAll, CancellationToken cancellationToken)
    {
        for (var hop = 0; ; hop++)
        {
            using var request = new HttpRequestMessage(method, address);
            // Compression would change lengths and ranges.
            request.Headers.AcceptEncoding.Add(new("identity"));
            if (options.Token is { } token && IsHub(address)) request.Headers.Authorization = new("Bearer", token);
            if (from is > 0) request.Headers.Range = new(from, null);
            using var stall = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            stall.CancelAfter(options.StallTimeout);
            var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stall.Token);
            if ((int)response.StatusCode is not (301 or 302 or 303 or 307 or 308) || response.Headers.Location is not { } location) return response;
            var next = new Uri(address, location);
            if (!followAll && (!IsHub(next) || Header(response, "X-Linked-Etag") is not null)) return response;
            response.Dispose();
            if (hop == MaxRedirects) throw new PanoptesException($"{address} redirects without end.");
            if (next.Scheme != "https" && (address.Scheme == "https" || next.Scheme != "http")) throw new PanoptesException($"{address} redirects to {next.Scheme}, which is refused.");
            address = next;
        }
    }

    async Task<T> RetryAsync<T>(Uri address, Func<Task<T>> action, CancellationToken cancellationToken)
    {
        for (var failures = 1; ; failures++)
        {
            TimeSpan wait;
            try
            {
                return await action();
            }
            catch (BusyException e) when (failures < options.Attempts)
            {
                wait = e.Wait ?? Wait(failures);
            }
            catch (BusyException e)
            {
                throw new PanoptesException($"{address} answered {(int)e.Status} {options.Attempts} times; try again later.", e);
            }
            catch (Exception e) when (IsPassing(e, cancellationToken))
            {
                // Where nobody answers at all, waiting seldom helps.
                var isDown = e is HttpRequestException { HttpRequestError: HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError };
                if (isDown || failures >= options.Attempts) throw new PanoptesException($"{address} could not be reached: {Reason(e)}.", e);
                wait = Wait(failures);
            }
            await Task.Delay(wait, cancellationToken);
        }
    }

    void Check(HttpResponseMessage response, HubId id, string what)
    {
        if (response.IsSuccessStatusCode || (int)response.StatusCode is >= 300 and < 400) return;
        if (IsBusy(response)) throw new BusyException(response.StatusCode, RetryAfter(response));
        var code = Header(response, "X-Error-Code");
        throw new PanoptesException((response.StatusCode, code) switch
        {
            (_, "GatedRepo") => $"{id} is gated: ask for access on {options.Endpoint}, then set HF_TOKEN.",
            (_, "RevisionNotFound") => $"{id.Owner}/{id.Name} has no revision {id.Revision} on {options.Endpoint}.",
            (HttpStatusCode.Unauthorized, _) => $"{id} does not exist on {options.Endpoint}, or needs a token ({(options.Token is null ? "HF_TOKEN is not set" : "the one in HF_TOKEN was not accepted")}).",
            (HttpStatusCode.Forbidden, _) => $"{options.Endpoint} refuses {what} of {id}: the token has no access to it.",
            (HttpStatusCode.NotFound, _) => $"{id} was not found on {options.Endpoint} ({what}).",
            _ => $"{options.Endpoint} answered {(int)response.StatusCode} {response.ReasonPhrase} for {what} of {id}.",
        });
    }

    async Task<byte[]> ReadBoundedAsync(HttpResponseMessage response, Uri address, CancellationToken cancellationToken)
    {
        using var stall = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        stall.CancelAfter(options.StallTimeout);
        await using var stream = await response.Content.ReadAsStreamAsync(stall.Token);
        using var content = new MemoryStream();
        var buffer = new byte[1 << 14];
        for (int count; (count = await stream.ReadAsync(buffer, stall.Token)) > 0;)
        {
            if (content.Length + count > MaxListing) throw new PanoptesException($"{address} lists more than {MaxListing} bytes of file names.");
            content.Write(buffer, 0, count);
        }
        return content.ToArray();
    }

    bool IsHub(Uri address) => address.Scheme == options.Endpoint.Scheme && address.Host == options.Endpoint.Host && address.Port == options.Endpoint.Port;

    static bool IsBusy(HttpResponseMessage response) => (int)response.StatusCode is 408 or 429 or 500 or 502 or 503 or 504;

    /// <summary>Failures of the way, which another attempt may not meet; a stalled connection ends as a cancellation that the caller did not ask for.</summary>
    static bool IsPassing(Exception e, CancellationToken cancellationToken) =>
        e is HttpRequestException or HttpIOException or IOException { InnerException: System.Net.Sockets.SocketException } || e is OperationCanceledException && !cancellationToken.IsCancellationRequested;

    /// <summary>The innermost message says what happened; the others that something did.</summary>
    string Reason(Exception e)
    {
        if (e is OperationCanceledException) return $"it sent nothing for {options.StallTimeout.TotalSeconds:0.##} seconds";
        while (e.InnerException is { } inner) e = inner;
        return e.Message.TrimEnd('.');
    }

    TimeSpan Wait(int failures) => options.Backoff * Math.Pow(2, Math.Clamp(failures - 1, 0, 6));

    static TimeSpan? RetryAfter(HttpResponseMessage response) =>
        response.Headers.RetryAfter?.Delta is { } delta ? TimeSpan.FromSeconds(Math.Clamp(delta.TotalSeconds, 0, 60)) : null;

    static string? Header(HttpResponseMessage response, string name) =>
        response.Headers.TryGetValues(name, out var values) || response.Content.Headers.TryGetValues(name, out values) ? values.FirstOrDefault() : null;

    /// <summary>The bare tag, fit for a file name; null where it is not.</summary>
    static string? Normalize(string? etag)
    {
        if (etag is null) return null;
        if (etag.StartsWith("W/", StringComparison.Ordinal)) etag = etag[2..];
        etag = etag.Trim('"');
        return etag.Length is > 0 and <= 128 && etag.All(static c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_') ? etag : null;
    }

    /// <summary>The hub asks to come back later.</summary>
    sealed class BusyException(HttpStatusCode status, TimeSpan? wait) : Exception
    {
        public HttpStatusCode Status => status;

        public TimeSpan? Wait => wait;
    }
}
