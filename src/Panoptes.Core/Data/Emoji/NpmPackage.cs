using System.Diagnostics;
using System.Formats.Tar;
using System.IO.Compression;
using System.Security.Cryptography;

namespace Panoptes.Data.Emoji;

/// <summary>One package of the npm registry, pinned to a version and to the SHA-512 that the registry publishes for it.</summary>
/// <param name="Name">The package's name, such as <c>@iconify-json/noto</c>.</param>
/// <param name="Version">The exact version.</param>
/// <param name="Integrity">Base64 of the tarball's SHA-512, as <c>dist.integrity</c> without its <c>sha512-</c>.</param>
public sealed record NpmPackage(string Name, string Version, string Integrity)
{
    /// <summary>The registry that everyone has unless told otherwise.</summary>
    public const string DefaultRegistry = "https://registry.npmjs.org";

    string Tarball => $"{Name[(Name.LastIndexOf('/') + 1)..]}-{Version}.tgz";

    /// <summary>
    /// The registry that npm itself would ask: the environment's NPM_CONFIG_REGISTRY, else what <c>npm config get registry</c> says
    /// (it reads every .npmrc), else the user's .npmrc where npm is not installed, else <see cref="DefaultRegistry"/>.
    /// </summary>
    public static string Registry()
    {
        var found = Environment.GetEnvironmentVariable("NPM_CONFIG_REGISTRY") ?? Environment.GetEnvironmentVariable("npm_config_registry")
                    ?? AskNpm() ?? ReadUserFile();
        return Uri.TryCreate(found?.Trim(), UriKind.Absolute, out var uri) && uri.Scheme is "http" or "https"
            ? uri.AbsoluteUri.TrimEnd('/')
            : DefaultRegistry;

        static string? AskNpm()
        {
            try
            {
                var start = new ProcessStartInfo("npm", ["config", "get", "registry"]) { RedirectStandardOutput = true, RedirectStandardError = true };
                using var npm = Process.Start(start);
                if (npm is null) return null;
                npm.ErrorDataReceived += static (_, _) => { };
                npm.BeginErrorReadLine();
                var answer = npm.StandardOutput.ReadToEnd();
                npm.WaitForExit();
                return npm.ExitCode == 0 ? answer : null;
            }
            catch (System.ComponentModel.Win32Exception)
            {
                return null;                                                          // npm is not installed
            }
        }

        static string? ReadUserFile()
        {
            var file = Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".npmrc");
            if (!File.Exists(file)) return null;
            foreach (var line in File.ReadLines(file))
                if (line.Split('=', 2, StringSplitOptions.TrimEntries) is ["registry", var value]) return value;
            return null;
        }
    }

    /// <summary>Where tarballs are kept unless told otherwise: <c>panoptes/npm</c> below the user's cache folder.</summary>
    internal static string DefaultCache()
    {
        var root = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
        if (string.IsNullOrEmpty(root))
            root = OperatingSystem.IsWindows()
                ? Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData)
                : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
        return Path.Combine(root, "panoptes", "npm");
    }

    /// <summary>
    /// Downloads the package (once: the verified tarball is kept in <paramref name="cache"/>) and returns its files by their path
    /// below <c>package/</c>.
    /// </summary>
    /// <param name="http">The client to ask with.</param>
    /// <param name="registry">The registry's address.</param>
    /// <param name="cache">The folder that keeps tarballs.</param>
    /// <param name="wanted">Which files to keep.</param>
    /// <param name="cancel">Stops the download; nothing half-written remains.</param>
    /// <exception cref="PanoptesException">The registry cannot be reached, or the tarball is not the pinned one.</exception>
    public async Task<IReadOnlyDictionary<string, byte[]>> FetchAsync(
        HttpClient http, string registry, string cache, Func<string, bool> wanted, CancellationToken cancel = default)
    {
        var file = Path.Combine(cache, Name.Replace('/', '+') + "-" + Version + ".tgz");
        if (!File.Exists(file) || !Matches(await File.ReadAllBytesAsync(file, cancel).ConfigureAwait(false)))
        {
            var url = $"{registry}/{Name}/-/{Tarball}";
            byte[] bytes;
            try
            {
                bytes = await http.GetByteArrayAsync(new Uri(url), cancel).ConfigureAwait(false);
            }
            catch (HttpRequestException e)
            {
                throw new PanoptesException($"The package {Name}@{Version} could not be downloaded from {url}: {e.Message}", e);
            }
            if (!Matches(bytes))
                throw new PanoptesException($"The package from {url} has the SHA-512 {Convert.ToBase64String(SHA512.HashData(bytes))}, but {Integrity} was expected.");
            Directory.CreateDirectory(cache);
            var partial = file + "." + Environment.ProcessId + ".partial";
            await File.WriteAllBytesAsync(partial, bytes, cancel).ConfigureAwait(false);
            File.Move(partial, file, overwrite: true);
        }

        var files = new Dictionary<string, byte[]>(StringComparer.Ordinal);
        var packed = new GZipStream(File.OpenRead(file), CompressionMode.Decompress);
        await using (packed.ConfigureAwait(false))
        {
            using var tar = new TarReader(packed);
            while (await tar.GetNextEntryAsync(cancellationToken: cancel).ConfigureAwait(false) is { } entry)
            {
                var path = entry.Name[(entry.Name.IndexOf('/') + 1)..];
                if (entry.DataStream is null || !wanted(path)) continue;
                var content = new byte[entry.Length];
                await entry.DataStream.ReadExactlyAsync(content, cancel).ConfigureAwait(false);
                files[path] = content;
            }
        }
        return files;
    }

    bool Matches(byte[] tarball) => Convert.ToBase64String(SHA512.HashData(tarball)) == Integrity;
}
