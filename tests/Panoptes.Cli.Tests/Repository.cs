// The commands set libtorch's threads for the whole process, and time is measured.
[assembly: CollectionBehavior(DisableTestParallelization = true)]

namespace Panoptes.Cli.Tests;

/// <summary>The checkout that the tests run from.</summary>
static class Repository
{
    public static string Root { get; } = Find();

    static string Find()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(System.IO.Path.Combine(folder!.FullName, "Panoptes.slnx"))) folder = folder.Parent;
        return folder.FullName;
    }
}
