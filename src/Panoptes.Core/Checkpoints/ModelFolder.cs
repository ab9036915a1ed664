namespace Panoptes.Checkpoints;

/// <summary>A model as it lies on disk: config.json beside its weights.</summary>
public static class ModelFolder
{
    /// <summary>Whether a key of a checkpoint is derived state that models compute themselves, so that files may or may not have it.</summary>
    public static bool IsIgnored(string key) =>
        key.EndsWith("position_ids", StringComparison.Ordinal)
        || key.EndsWith("relative_position_index", StringComparison.Ordinal)
        || key.EndsWith("num_batches_tracked", StringComparison.Ordinal);
}
