namespace Panoptes.Checkpoints;

/// <summary>Where models are downloaded from and kept; the same settings as the hub's Python tools.</summary>
public sealed record HubOptions
{
    /// <summary>The public hub.</summary>
    public const string DefaultEndpoint = "https://huggingface.co";

    public Uri Endpoint { get; init; } = new(DefaultEndpoint);

    /// <summary>The folder of the cache, shared with the Python tools.</summary>
    public required string CacheFolder { get; init; }

    /// <summary>Sent to <see cref="Endpoint"/> only, never to where it redirects; null: none.</summary>
    public string? Token { get; init; }

    /// <summary>Whether only what is in the cache may be used.</summary>
    public bool Offline { get; init; }

    /// <summary>Which files are wanted, as names with * and ?; empty: settings, tokenizer, and one set of weights, safetensors before all others; of a diffusion pipeline (model_index.json) those of all its parts.</summary>
    public IReadOnlyList<string> Files { get; init; } = [];

    /// <summary>How many failures in a row, without a byte gained, end a download.</summary>
    public int Attempts { get; init; } = 5;

    /// <summary>The wait after the first failure; it doubles with each further one.</summary>
    public TimeSpan Backoff { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How long a connection may give nothing before it counts as dropped.</summary>
    public TimeSpan StallTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// The settings in the environment: HF_ENDPOINT; HF_HUB_CACHE, or hub below HF_HOME, or below huggingface in XDG_CACHE_HOME or ~/.cache;
    /// HF_TOKEN, or the token file (HF_TOKEN_PATH, or token below HF_HOME); HF_HUB_OFFLINE.
    /// </summary>
    /// <exception cref="PanoptesException">HF_ENDPOINT is no http address.</exception>
    public static HubOptions FromEnvironment() => From(static name => Environment.GetEnvironmentVariable(name));

    internal static HubOptions From(Func<string, string?> variable)
    {
        var user = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        var home = Set("HF_HOME") ?? Path.Combine(Set("XDG_CACHE_HOME") ?? Path.Combine(user, ".cache"), "huggingface");
        var address = Set("HF_ENDPOINT") ?? DefaultEndpoint;
        if (!Uri.TryCreate(address.TrimEnd('/'), UriKind.Absolute, out var endpoint) || endpoint.Scheme is not ("http" or "https"))
            throw new PanoptesException($"HF_ENDPOINT is {address}; expected an http or https address.");
        return new()
        {
            Endpoint = endpoint,
            CacheFolder = Expand(Set("HF_HUB_CACHE") ?? Set("HUGGINGFACE_HUB_CACHE") ?? Path.Combine(home, "hub")),
            Token = Set("HF_TOKEN") ?? Set("HUGGING_FACE_HUB_TOKEN") ?? ReadToken(Expand(Set("HF_TOKEN_PATH") ?? Path.Combine(home, "token"))),
            Offline = (Set("HF_HUB_OFFLINE") ?? Set("TRANSFORMERS_OFFLINE"))?.ToUpperInvariant() is "1" or "ON" or "YES" or "TRUE",
        };

        string? Set(string name) => variable(name)?.Trim() is { Length: > 0 } value ? value : null;

        string Expand(string path) => path == "~" || path.StartsWith("~/", StringComparison.Ordinal) ? user + path[1..] : path;
    }

    static string? ReadToken(string path)
    {
        try
        {
            return File.Exists(path) && File.ReadAllText(path).Trim() is { Length: > 0 } token ? token : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;                                                             // a token that cannot be read is none; the hub will say if one is needed
        }
    }
}

/// <summary>How far a download is.</summary>
/// <param name="File">The file that is being fetched.</param>
/// <param name="FileBytes">Bytes of it that are here.</param>
/// <param name="FileSize">Its size.</param>
/// <param name="Bytes">Bytes of all wanted files that are here.</param>
/// <param name="Size">The size of all wanted files.</param>
public sealed record HubProgress(string File, long FileBytes, long FileSize, long Bytes, long Size);
