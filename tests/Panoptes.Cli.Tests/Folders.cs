// The commands set libtorch's threads for the whole process, and time is measured.
[assembly: CollectionBehavior(DisableTestParallelization = true)]

namespace Panoptes.Cli.Tests;

/// <summary>A folder that is gone when the test is.</summary>
sealed class TemporaryFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("panoptes-test-").FullName;

    public string this[string name] => System.IO.Path.Combine(Path, name);

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
