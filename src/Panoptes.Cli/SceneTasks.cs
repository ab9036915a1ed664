namespace Panoptes.Cli;

/// <summary>What recipes over scenes may train: the tasks of all libraries.</summary>
static class SceneTasks
{
    public static IReadOnlyDictionary<string, Type> All { get; } = Understanding.Training.SceneTasks.All.Concat(Generation.Training.GenerationTasks.All).ToDictionary(StringComparer.Ordinal);
}
