namespace Panoptes.Checkpoints;

/// <summary>Writes a folder that appears under its name when it is whole; what stood there is only moved aside before that, so that a kill at any moment loses nothing.</summary>
public static class AtomicFolder
{
    /// <param name="target">Its place, without a separator at the end.</param>
    /// <param name="write">Fills the folder that it is given.</param>
    /// <param name="cancel">Asked once more before the folder takes its place.</param>
    /// <exception cref="PanoptesException">It cannot be written.</exception>
    public static void Write(string target, Action<string> write, CancellationToken cancel = default)
    {
        var unique = $"{target}.{Environment.ProcessId}.{Guid.NewGuid().ToString("N")[..8]}";
        var (temporary, old) = ($"{unique}.tmp", $"{unique}.old");
        try
        {
            Directory.CreateDirectory(temporary);
            write(temporary);
            cancel.ThrowIfCancellationRequested();
            var replaces = Directory.Exists(target);
            if (replaces) Directory.Move(target, old);
            try
            {
                Directory.Move(temporary, target);
            }
            catch when (replaces)
            {
                Directory.Move(old, target);
                throw;
            }
            if (replaces) Directory.Delete(old, recursive: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"{target} cannot be written: {e.Message}", e);
        }
        finally
        {
            if (Directory.Exists(temporary)) Directory.Delete(temporary, recursive: true);
        }
    }
}
