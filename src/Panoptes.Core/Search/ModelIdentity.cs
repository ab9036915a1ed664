using System.Security.Cryptography;
using System.Text;

namespace Panoptes.Search;

/// <summary>Which model made an index's vectors: vectors of different models cannot be compared.</summary>
/// <param name="Name">For people: the model as the user named it.</param>
/// <param name="Fingerprint">For comparing: a digest of the configuration and the weights, independent of where they are kept.</param>
public sealed record ModelIdentity(string Name, string Fingerprint)
{
    const int ProbeSize = 4096, Probes = 64;

    /// <summary>
    /// The identity of a model folder or file. Small files (the configuration, the processor) count wholly; of each file with weights its
    /// length, its first bytes (which hold a safetensors header) and 63 probes spread over the rest, so that a file of many gigabytes costs milliseconds.
    /// </summary>
    /// <exception cref="PanoptesException">There is no such folder or file, or it cannot be read.</exception>
    public static ModelIdentity Of(string name, string fileOrFolder)
    {
        try
        {
            using var digest = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            foreach (var file in Files(fileOrFolder)) Add(digest, file);
            return new(name, Convert.ToHexStringLower(digest.GetHashAndReset().AsSpan(0, 16)));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"The model {fileOrFolder} cannot be read: {e.Message}", e);
        }
    }

    static string[] Files(string fileOrFolder)
    {
        if (File.Exists(fileOrFolder)) return [fileOrFolder];
        // Only what decides the numbers: a model card that changes does not make another model.
        string[] files = [.. Directory.EnumerateFiles(fileOrFolder).Where(static f => Path.GetExtension(f) is ".json" or ".safetensors" or ".bin" or ".pt" or ".pth" or ".txt")];
        Array.Sort(files, StringComparer.Ordinal);
        return files.Length > 0 ? files : throw new PanoptesException($"{fileOrFolder} holds no model: there is no configuration and no weights.");
    }

    static void Add(IncrementalHash digest, string file)
    {
        using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.Read, 1);
        digest.AppendData(Encoding.UTF8.GetBytes(Path.GetExtension(file)));
        digest.AppendData(BitConverter.GetBytes(stream.Length));
        var buffer = new byte[ProbeSize];
        if (stream.Length <= ProbeSize * Probes)
        {
            for (int read; (read = stream.Read(buffer)) > 0;) digest.AppendData(buffer, 0, read);
            return;
        }
        for (var i = 0; i < Probes; i++)
        {
            stream.Position = (stream.Length - ProbeSize) / (Probes - 1) * i;
            stream.ReadExactly(buffer);
            digest.AppendData(buffer);
        }
    }
}
