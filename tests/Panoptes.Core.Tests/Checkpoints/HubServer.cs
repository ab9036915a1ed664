using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Panoptes.Core.Tests.Checkpoints;

/// <summary>What a client asked: <see cref="Path"/> as it was sent, escapes and all.</summary>
sealed record HubRequest(string Method, string Path, IReadOnlyDictionary<string, string> Headers)
{
    public string? Header(string name) => Headers.GetValueOrDefault(name);

    /// <summary>The first byte that the client wants.</summary>
    public int From => Header("Range") is { } range ? int.Parse(range["bytes=".Length..].TrimEnd('-')) : 0;
}

/// <summary>What a client gets.</summary>
sealed record HubResponse(int Status, byte[] Body, params (string Name, string Value)[] Headers)
{
    public HubResponse(int status, params (string Name, string Value)[] headers) : this(status, [], headers) { }

    /// <summary>The Content-Length that is claimed where it is not the body's.</summary>
    public long? Length { get; init; }

    /// <summary>After how many bytes of the body the connection is dropped; <see cref="Stalls"/>: kept open in silence instead.</summary>
    public int? Cut { get; init; }

    public bool Stalls { get; init; }
}

/// <summary>A hub on this machine with one model, <c>owner/tiny</c>: it speaks the hub's protocol over real connections, and misbehaves where a test asks it to.</summary>
sealed class HubServer : IDisposable
{
    public const string Model = "owner/tiny", Commit = "0123456789abcdef0123456789abcdef01234567";

    readonly TcpListener listener = new(IPAddress.Loopback, 0);
    readonly CancellationTokenSource stop = new();

    public HubServer()
    {
        listener.Start();
        Endpoint = new($"http://127.0.0.1:{((IPEndPoint)listener.LocalEndpoint).Port}");
        _ = AcceptAsync();
    }

    public Uri Endpoint { get; }

    /// <summary>The model's files by name.</summary>
    public Dictionary<string, byte[]> Files { get; } = [];

    /// <summary>What branches, tags and pull requests mean.</summary>
    public Dictionary<string, string> Revisions { get; } = new() { ["main"] = Commit };

    /// <summary>Files of at least so many bytes are large: known by their SHA-256 and served from <see cref="Store"/>.</summary>
    public int Large { get; init; } = 1000;

    /// <summary>Another host, which large files are redirected to; null: this one.</summary>
    public HubServer? Store { get; init; }

    /// <summary>The token that is needed; null: none.</summary>
    public string? Token { get; init; }

    /// <summary>Answers in place of the hub where it does not return null.</summary>
    public Func<HubRequest, HubResponse?>? Instead { get; set; }

    /// <summary>Everything asked so far.</summary>
    public ConcurrentQueue<HubRequest> Requests { get; } = new();

    public static string Sha256(byte[] content) => Convert.ToHexStringLower(SHA256.HashData(content));

    /// <summary>Git's name of a blob.</summary>
#pragma warning disable CA5350
    public static string GitHash(byte[] content) => Convert.ToHexStringLower(SHA1.HashData([.. Encoding.ASCII.GetBytes($"blob {content.Length}\0"), .. content]));
#pragma warning restore CA5350

    /// <summary>The content from where the client wants it on, as servers with ranges send it.</summary>
    public static HubResponse Content(HubRequest request, byte[] content, params (string, string)[] headers) => request.From == 0
        ? new(200, content, headers)
        : new(206, content[request.From..], [.. headers, ("Content-Range", $"bytes {request.From}-{content.Length - 1}/{content.Length}")]);

    public void Dispose()
    {
        stop.Cancel();
        listener.Dispose();
    }

    HubResponse Answer(HubRequest request)
    {
        const string list = "/api/models/" + Model + "/revision/", resolve = "/" + Model + "/resolve/", store = "/store/";
        if (Token is not null && request.Header("Authorization") != $"Bearer {Token}") return new(401, ("X-Error-Code", "GatedRepo"));
        if (request.Path.StartsWith(store, StringComparison.Ordinal)) return Content(request, Files[Uri.UnescapeDataString(request.Path[store.Length..])]);
        if (request.Path.StartsWith(list, StringComparison.Ordinal))
        {
            var revision = Uri.UnescapeDataString(request.Path[list.Length..]);
            var commit = Revisions.GetValueOrDefault(revision) ?? (Revisions.ContainsValue(revision) ? revision : null);
            if (commit is null) return new(404, ("X-Error-Code", "RevisionNotFound"));
            return new(200, JsonSerializer.SerializeToUtf8Bytes(new { id = Model, sha = commit, siblings = Files.Keys.Select(static f => new { rfilename = f }) }));
        }
        if (!request.Path.StartsWith(resolve, StringComparison.Ordinal)) return new(404, ("X-Error-Code", "RepoNotFound"));
        var parts = request.Path[resolve.Length..].Split('/', 2);
        var name = Uri.UnescapeDataString(parts[1]);
        if (!Revisions.ContainsValue(parts[0]) || !Files.TryGetValue(name, out var content)) return new(404, ("X-Error-Code", "EntryNotFound"));
        var here = ("X-Repo-Commit", parts[0]);
        if (content.Length < Large) return Content(request, content, here, ("ETag", $"\"{GitHash(content)}\""));
        return new(302, here, ("ETag", "\"of-the-redirect\""), ("X-Linked-Etag", $"\"{Sha256(content)}\""), ("X-Linked-Size", $"{content.Length}"),
            ("Location", $"{(Store ?? this).Endpoint}store/{parts[1]}"));
    }

    async Task AcceptAsync()
    {
        try
        {
            while (true) _ = ServeAsync(await listener.AcceptTcpClientAsync(stop.Token));
        }
        catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException or SocketException) { }
    }

    async Task ServeAsync(TcpClient client)
    {
        using var _ = client;
        try
        {
            await using var stream = client.GetStream();
            if (await ReadAsync(stream) is not { } request) return;
            Requests.Enqueue(request);
            var response = Instead?.Invoke(request) ?? Answer(request);
            var head = new StringBuilder($"HTTP/1.1 {response.Status} Answer\r\nContent-Length: {response.Length ?? response.Body.Length}\r\nConnection: close\r\n");
            foreach (var (name, value) in response.Headers) head.Append(System.Globalization.CultureInfo.InvariantCulture, $"{name}: {value}\r\n");
            await stream.WriteAsync(Encoding.ASCII.GetBytes(head.Append("\r\n").ToString()), stop.Token);
            if (request.Method != "HEAD") await stream.WriteAsync(response.Body.AsMemory(0, response.Cut ?? response.Body.Length), stop.Token);
            if (response.Stalls) await Task.Delay(Timeout.Infinite, stop.Token);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or ObjectDisposedException) { }
    }

    async Task<HubRequest?> ReadAsync(NetworkStream stream)
    {
        using var reader = new StreamReader(stream, Encoding.ASCII, leaveOpen: true);
        if (await reader.ReadLineAsync(stop.Token) is not { } first) return null;
        var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        while (await reader.ReadLineAsync(stop.Token) is { Length: > 0 } line)
            headers[line[..line.IndexOf(':')]] = line[(line.IndexOf(':') + 1)..].Trim();
        var parts = first.Split(' ');
        return new(parts[0], parts[1], headers);
    }
}
