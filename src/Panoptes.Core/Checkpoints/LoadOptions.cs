namespace Panoptes.Checkpoints;

/// <summary>How a checkpoint's tensors become a model's weights.</summary>
public sealed record LoadOptions
{
    /// <summary>The type that floating-point weights get; null keeps each as it is stored. Integers and booleans always stay.</summary>
    public ScalarType? Dtype { get; init; } = ScalarType.Float32;

    /// <summary>Takes only keys that start so, without it: <c>"vision_model."</c> loads a tower from a whole model's file.</summary>
    public string Prefix { get; init; } = "";

    /// <summary>From the file's key (after <see cref="Prefix"/>) to the model's; null skips the tensor.</summary>
    public Func<string, string?>? Mapping { get; init; }

    /// <summary>Keys of the file (after <see cref="Prefix"/>) that the model need not have, beyond <see cref="ModelFolder.IsIgnored"/>.</summary>
    public Func<string, bool>? Ignored { get; init; }

    /// <summary>Keys of the model that the file need not have; such a weight stays as it is.</summary>
    public Func<string, bool>? Optional { get; init; }

    /// <summary>Where the weights go; null: the CPU.</summary>
    public Device? Device { get; init; }

    /// <summary>Stops before the next weight, and the download of a model that is named by its hub id.</summary>
    public CancellationToken Cancel { get; init; }
}

/// <summary>How a model is saved.</summary>
public sealed record SaveOptions
{
    /// <summary>The type that floating-point weights are stored in; null keeps each as it is.</summary>
    public ScalarType? Dtype { get; init; }

    /// <summary>The most bytes of one file; larger models get several, with an index.</summary>
    public long ShardSize { get; init; } = ShardedWeights.DefaultShardSize;

    /// <summary>Text pairs for the file's header, beside <c>format: pt</c>.</summary>
    public IReadOnlyDictionary<string, string>? Metadata { get; init; }
}
