namespace Panoptes.Checkpoints;

/// <summary>Files that are either wholly there or not at all: written beside their place, flushed to the disk, then moved.</summary>
public static class AtomicFile
{
    /// <summary>Calls <paramref name="write"/> with a temporary sibling of <paramref name="path"/> and moves it there, replacing what is there.</summary>
    /// <exception cref="PanoptesException">The file cannot be written.</exception>
    public static void Write(string path, Action<FileStream> write)
    {
        var full = Path.GetFullPath(path);
        var temporary = $"{full}.{Environment.ProcessId}.{Guid.NewGuid().ToString("N")[..8]}.tmp";
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(full)!);
            using (var stream = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 16))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }
            File.Move(temporary, full, overwrite: true);
        }
        catch (Exception e)
        {
            try { File.Delete(temporary); }
            catch (Exception inner) when (inner is IOException or UnauthorizedAccessException) { }     // the first error is the one to tell
            if (e is IOException or UnauthorizedAccessException) throw new PanoptesException($"{path} cannot be written: {e.Message}", e);
            throw;
        }
    }

    /// <summary>Tells before long work what could not be written behind it; nothing is left there.</summary>
    /// <exception cref="PanoptesException">The file cannot be written.</exception>
    public static void Check(string path)
    {
        var folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        while (!Directory.Exists(folder))
        {
            if (File.Exists(folder)) throw new PanoptesException($"{path} cannot be written: {folder} is no folder.");
            folder = Path.GetDirectoryName(folder)!;
        }
        if (Directory.Exists(path)) throw new PanoptesException($"{path} cannot be written: it is a folder.");
        try
        {
            using var stream = new FileStream(Path.Combine(folder, $".{Guid.NewGuid():N}.tmp"), FileMode.CreateNew, FileAccess.Write, FileShare.None, 1, FileOptions.DeleteOnClose);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"{path} cannot be written: {e.Message}", e);
        }
    }

    /// <summary>Writes <paramref name="text"/> as UTF-8.</summary>
    /// <exception cref="PanoptesException">The file cannot be written.</exception>
    public static void WriteText(string path, string text) => Write(path, s => s.Write(System.Text.Encoding.UTF8.GetBytes(text)));
}
