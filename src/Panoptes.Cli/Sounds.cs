namespace Panoptes.Cli;

/// <summary>Files of sounds among what a user names.</summary>
static class Sounds
{
    /// <summary>Whether the files are sounds instead of images.</summary>
    /// <exception cref="PanoptesException">They are of both kinds.</exception>
    public static bool AreMeant(IReadOnlyCollection<string> files)
    {
        var sounds = files.Count(static f => f.EndsWith(".wav", StringComparison.OrdinalIgnoreCase));
        return sounds == 0 || sounds == files.Count ? sounds > 0 : throw new PanoptesException("Images and sounds were both given; expected one kind.");
    }
}
