namespace Panoptes.Data;

/// <summary>Where the bundled data sets are.</summary>
static class BundledData
{
    /// <summary>
    /// The file <c>FOLDER/NAME</c> in the folder that the environment's PANOPTES_DATA names, else in <c>data</c> beside the application, or in a folder above
    /// it or above the working folder; null where it is in none.
    /// </summary>
    internal static string? Find(string folder, string name)
    {
        if (Environment.GetEnvironmentVariable("PANOPTES_DATA") is { Length: > 0 } named)
            return Path.Combine(named, folder, name) is var there && File.Exists(there) ? there : null;
        foreach (var start in new[] { AppContext.BaseDirectory, Environment.CurrentDirectory })
            for (var above = new DirectoryInfo(start); above is not null; above = above.Parent)
                if (Path.Combine(above.FullName, "data", folder, name) is var candidate && File.Exists(candidate)) return candidate;
        return null;
    }
}
