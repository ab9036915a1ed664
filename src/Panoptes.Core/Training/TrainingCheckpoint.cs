using System.Globalization;
using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Nn;

namespace Panoptes.Training;

/// <summary>Where a run stands, beside its weights.</summary>
sealed record TrainingState
{
    /// <summary>Steps done.</summary>
    public required long Step { get; init; }

    /// <summary>The step that was last validated.</summary>
    public long ValidatedStep { get; init; }

    public required LoaderState Data { get; init; }

    public double? Best { get; init; }

    public long? BestStep { get; init; }

    /// <summary>Validations since the best one.</summary>
    public int WithoutBest { get; init; }

    public bool Finished { get; init; }

    public IReadOnlyDictionary<string, double> Validation { get; init; } = new Dictionary<string, double>();

    /// <summary>Sums since the last line of metrics, and over how many steps.</summary>
    public IReadOnlyDictionary<string, double> Pending { get; init; } = new Dictionary<string, double>();

    public int PendingSteps { get; init; }

    /// <summary>Seconds of training so far, over all sessions.</summary>
    public double Seconds { get; init; }
}

/// <summary>
/// Whole checkpoints, one folder each (<c>step-00001200</c>): written under another name, flushed, then renamed, so that a kill at any
/// moment leaves the one before.
/// </summary>
static class TrainingCheckpoint
{
    const string Prefix = "step-", Model = "model.safetensors", OptimizerFile = "optimizer.safetensors", EmaFile = "ema.safetensors", StateFile = "state.json";

    static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };

    /// <summary>The newest checkpoint below <paramref name="folder"/>, or null.</summary>
    public static string? Latest(string folder) => All(folder).LastOrDefault();

    public static void Save(string folder, TrainingState state, Module model, Optimizer optimizer, Ema? ema)
    {
        var path = Path.Combine(folder, Prefix + state.Step.ToString("d8", CultureInfo.InvariantCulture));
        var partial = Path.Combine(folder, $".{Path.GetFileName(path)}.partial");
        try
        {
            if (Directory.Exists(partial)) Directory.Delete(partial, recursive: true);
            SafeTensors.Save(Path.Combine(partial, Model), model.DistinctParameters().ToDictionary(static p => p.Key, static p => p.Parameter.Value));
            SafeTensors.Save(Path.Combine(partial, OptimizerFile), optimizer.State);
            if (ema is not null) SafeTensors.Save(Path.Combine(partial, EmaFile), ema.State);
            AtomicFile.WriteText(Path.Combine(partial, StateFile), JsonSerializer.Serialize(state, Json) + "\n");
            if (Directory.Exists(path)) Directory.Delete(path, recursive: true);
            Directory.Move(partial, path);
            foreach (var old in All(folder).SkipLast(2)) Directory.Delete(old, recursive: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new PanoptesException($"The checkpoint {path} cannot be written: {e.Message}", e);
        }
    }

    /// <exception cref="PanoptesException">A file of it is missing or damaged, or another model's.</exception>
    public static TrainingState Load(string path, Module model, Optimizer optimizer, Ema? ema)
    {
        var state = ReadState(path);
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var weights = SafeTensors.Load(Path.Combine(path, Model));
        foreach (var (key, parameter) in model.DistinctParameters())
        {
            if (!weights.Remove(key, out var saved) || !saved.shape.AsSpan().SequenceEqual(parameter.Shape))
                throw new PanoptesException($"{Path.Combine(path, Model)} has {(saved is null ? "no" : "another shape of")} {key}; expected the weights of this recipe's model.");
            parameter.Value.copy_(saved);
        }
        if (weights.Count > 0) throw new PanoptesException($"{Path.Combine(path, Model)} has {weights.Keys.Order(StringComparer.Ordinal).First()}, which this recipe's model has not.");
        optimizer.Restore(SafeTensors.Load(Path.Combine(path, OptimizerFile)), state.Step);
        ema?.Restore(SafeTensors.Load(Path.Combine(path, EmaFile)));
        return state;
    }

    public static TrainingState ReadState(string path)
    {
        var file = Path.Combine(path, StateFile);
        try
        {
            return JsonSerializer.Deserialize<TrainingState>(ModelFolder.ReadText(file), Json) ?? throw new JsonException("it is null");
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"{file} is not the state of a checkpoint: {e.Message.TrimEnd('.')}.", e);
        }
    }

    static IEnumerable<string> All(string folder) => Directory.Exists(folder)
        ? Directory.GetDirectories(folder, Prefix + "*").Where(static d => long.TryParse(Path.GetFileName(d).AsSpan(Prefix.Length), CultureInfo.InvariantCulture, out _)).Order(StringComparer.Ordinal)
        : [];
}
