using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>
/// How a diffusion model is trained and sampled, without a weight: diffusers' scheduler_config.json under its own names and defaults. The record is immutable; a sampling is a
/// <see cref="SchedulerRun"/> that it starts, and what lies between two steps of it is an explicit <see cref="SchedulerState"/>.
/// </summary>
/// <example><code>
/// var scheduler = Scheduler.Load&lt;DiffusionScheduler&gt;("stable-diffusion/scheduler").Using("dpmpp-2m-karras");
/// var run = scheduler.Start(20);
/// </code></example>
public abstract partial record Scheduler : ModelConfig
{
    /// <summary>What the peer calls the file.</summary>
    public const string FileName = "scheduler_config.json";

    /// <summary>Every scheduler that can be read, by the peer's class.</summary>
    static readonly Dictionary<string, Type> Classes = new(StringComparer.Ordinal)
    {
        ["AmusedScheduler"] = typeof(AmusedScheduler),
        ["DDIMInverseScheduler"] = typeof(DdimInverseScheduler),
        ["DDIMScheduler"] = typeof(DdimScheduler),
        ["DDPMScheduler"] = typeof(DdpmScheduler),
        ["DEISMultistepScheduler"] = typeof(DeisScheduler),
        ["DPMSolverMultistepScheduler"] = typeof(DpmMultistepScheduler),
        ["DPMSolverSinglestepScheduler"] = typeof(DpmSinglestepScheduler),
        ["EulerAncestralDiscreteScheduler"] = typeof(EulerAncestralScheduler),
        ["EulerDiscreteScheduler"] = typeof(EulerScheduler),
        ["FlowMatchEulerDiscreteScheduler"] = typeof(FlowMatchEulerScheduler),
        ["HeunDiscreteScheduler"] = typeof(HeunScheduler),
        ["KDPM2DiscreteScheduler"] = typeof(Kdpm2Scheduler),
        ["LCMScheduler"] = typeof(LcmScheduler),
        ["LMSDiscreteScheduler"] = typeof(LmsScheduler),
        ["PNDMScheduler"] = typeof(PndmScheduler),
        ["UniPCMultistepScheduler"] = typeof(UniPcScheduler),
    };

    /// <summary>The peer's classes that can be read.</summary>
    public static IReadOnlyCollection<string> ClassNames => Classes.Keys;

    /// <summary>The peer's class.</summary>
    [JsonPropertyName("_class_name")]
    public string ClassName => Classes.First(c => c.Value == GetType()).Key;

    /// <summary>The fields that a file or an earlier scheduler gave, whatever their values: what another class takes over.</summary>
    internal IReadOnlySet<string> Given { get; init; } = new HashSet<string>(StringComparer.Ordinal);

    /// <summary>Reads a scheduler of whichever class its file names.</summary>
    /// <param name="path">A pipeline's folder, its scheduler's folder, or a scheduler_config.json.</param>
    /// <exception cref="PanoptesException">No such file, a class that is none of <see cref="ClassNames"/>, or a field with a value that is not supported.</exception>
    public static Scheduler Load(string path)
    {
        var file = new[] { Path.Combine(path, FileName), Path.Combine(path, "scheduler", FileName) }.FirstOrDefault(File.Exists) ?? path;
        if (!File.Exists(file)) throw new PanoptesException($"{path} has no {FileName}.");
        return Parse(ModelFolder.ReadText(file), file);
    }

    /// <summary>Reads a scheduler of the class that its file names, which must be a <typeparamref name="T"/>.</summary>
    /// <inheritdoc cref="Load(string)"/>
    public static T Load<T>(string path) where T : Scheduler => Load(path) is var any && any is T it ? it
        : throw new PanoptesException($"{path}: the scheduler is a {any.ClassName}; expected {string.Join(" or ", Classes.Where(static c => typeof(T).IsAssignableFrom(c.Value)).Select(static c => c.Key))}.");

    /// <summary>Reads a scheduler of whichever class the JSON names; <paramref name="source"/> names it in errors.</summary>
    /// <inheritdoc cref="Load(string)"/>
    public static Scheduler Parse(string json, string source)
    {
        var fields = Fields(json, source);
        if (fields["_class_name"] is not JsonValue value || !value.TryGetValue(out string? name)) throw new PanoptesException($"{source}: expected a JSON object that names its scheduler as _class_name.");
        if (!Classes.TryGetValue(name, out var type)) throw new PanoptesException($"{source}: _class_name is {name}, which is not one of {string.Join(", ", Classes.Keys)}.");
        return Read(fields, type, source);
    }

    /// <summary>Writes <see cref="FileName"/> into <paramref name="folder"/>, as the peer reads it.</summary>
    /// <exception cref="PanoptesException">The file cannot be written.</exception>
    public void Save(string folder) => AtomicFile.WriteText(Path.Combine(folder, FileName), ToJson() + "\n");

    /// <summary>
    /// The same training sampled by another class, as the peer's <c>from_config</c>: fields that this one was given and the other knows are taken over, the other keeps its own
    /// defaults else, and fields that only this one knows survive, so that the way back loses nothing.
    /// </summary>
    /// <exception cref="PanoptesException">A field has a value that the other class does not support.</exception>
    public T As<T>() where T : Scheduler => (T)As(typeof(T));

    /// <param name="name">One of <see cref="ClassNames"/>.</param>
    internal Scheduler As(string name) => As(Classes[name]);

    /// <param name="type">The other class.</param>
    /// <param name="changes">Fields that get other values.</param>
    internal Scheduler As(Type type, IEnumerable<KeyValuePair<string, JsonNode>>? changes = null)
    {
        var plain = Fields(((Scheduler)Activator.CreateInstance(GetType())!).ToJson(), ClassName);
        var fields = new JsonObject();
        foreach (var (name, value) in Fields(ToJson(), ClassName))
            if (name[0] != '_' && (Given.Contains(name) || !JsonNode.DeepEquals(value, plain[name]))) fields[name] = value!.DeepClone();
        foreach (var (name, value) in changes ?? []) fields[name] = value.DeepClone();
        return Read(fields, type, Classes.First(c => c.Value == type).Key);
    }

    /// <summary>Refuses what the class does not support.</summary>
    /// <exception cref="PanoptesException">The message names the field.</exception>
    internal abstract void Check();

    private protected static void Among(string field, string value, params ReadOnlySpan<string> allowed)
    {
        if (!allowed.Contains(value)) throw new PanoptesException($"{field} is {value}; expected {string.Join(", ", allowed[..^1])}{(allowed.Length > 1 ? " or " : "")}{allowed[^1]}.");
    }

    private protected static void Between(string field, double value, double least, double most)
    {
        if (!(value >= least && value <= most)) throw new PanoptesException($"{field} is {value}; expected {least} to {most}.");
    }

    static Scheduler Read(JsonObject fields, Type type, string source)
    {
        try
        {
            var read = (Scheduler)fields.Deserialize(type, JsonOptions)!;
            read = read with { Given = fields.Select(static f => f.Key).ToHashSet(StringComparer.Ordinal) };
            read.Check();
            return read;
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"{source}: {JsonFault.Of(e)}.", e);
        }
        catch (PanoptesException e)
        {
            throw new PanoptesException($"{source}: {e.Message}", e);
        }
    }

    /// <summary>The fields of a JSON object without those that are null, which are defaults, and those that the peer marks as such.</summary>
    static JsonObject Fields(string json, string source)
    {
        try
        {
            // Python writes infinities as they are, which JSON has not.
            var text = Infinities().Replace(json, static m => m.Value[0] == '"' ? m.Value : $"\"{m.Value}\"");
            if (JsonNode.Parse(text, documentOptions: new() { MaxDepth = 16 }) is not JsonObject fields) throw new JsonException("expected a JSON object");
            var defaults = fields["_use_default_values"] is JsonArray names ? names.OfType<JsonValue>().Select(static n => n.ToString()).ToHashSet(StringComparer.Ordinal) : [];
            foreach (var name in fields.Where(f => f.Value is null || defaults.Contains(f.Key)).Select(static f => f.Key).ToArray()) fields.Remove(name);
            fields.Remove("_use_default_values");
            return fields;
        }
        catch (Exception e) when (e is JsonException or ArgumentException or InvalidOperationException)      // the others are what a name given twice throws
        {
            throw new PanoptesException($"{source} is no JSON object of a scheduler: {JsonFault.Of(e)}.", e);
        }
    }

    // A text that does not end is taken as a whole, once, and is for the parser to refuse.
    [GeneratedRegex("""
        "(?:\\.|[^"\\])*"?|-?\bInfinity\b|\bNaN\b
        """)]
    private static partial Regex Infinities();
}

/// <summary>Reads and writes infinities as Python's json does.</summary>
sealed class PythonInfinityConverter : JsonConverter<double>
{
    public override double Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.TokenType != JsonTokenType.String ? reader.GetDouble()
        : reader.GetString() switch
        {
            "-Infinity" => double.NegativeInfinity,
            "Infinity" => double.PositiveInfinity,
            var other => throw new JsonException($"found {other}, expected a number"),
        };

    public override void Write(Utf8JsonWriter writer, double value, JsonSerializerOptions options)
    {
        if (double.IsFinite(value)) writer.WriteNumberValue(value);
        else writer.WriteRawValue(value < 0 ? "-Infinity" : "Infinity", skipInputValidation: true);
    }
}

/// <summary>What one sampling wants beyond the scheduler's config: what the peer takes at <c>set_timesteps</c> and <c>step</c>.</summary>
public sealed record SamplingOptions
{
    /// <summary>The very timesteps, descending, instead of a number of steps.</summary>
    public IReadOnlyList<double>? Timesteps { get; init; }

    /// <summary>The very noise levels, descending, instead of a number of steps; Euler's end with the last, usually 0.</summary>
    public IReadOnlyList<double>? Sigmas { get; init; }

    /// <summary>How far dynamic shifting moves the flow's schedule (Flux: by the image's size, <see cref="FlowMatchEulerScheduler.ShiftOf"/>).</summary>
    public double? Mu { get; init; }

    /// <summary>Image to image: the share of the schedule that is run, from above 0 to 1. Only the last steps are taken, as in the peer's pipelines.</summary>
    public double Strength { get; init; } = 1;

    /// <summary>Whether a strength that lies between two steps takes one more of them, as the peer's pipelines of flows do (Stable Diffusion 3, Flux), or one less.</summary>
    public bool RoundsStrengthUp { get; init; }

    /// <summary>DDIM: 0 is deterministic, 1 draws as much noise as DDPM.</summary>
    public double Eta { get; init; }

    /// <summary>DDIM: the noise prediction follows from the clipped clean sample.</summary>
    public bool UseClippedModelOutput { get; init; }

    /// <summary>Euler: how much noise is put in again at each step (Karras et al. 2022), where the level is within <see cref="ChurnMin"/> and <see cref="ChurnMax"/>.</summary>
    public double Churn { get; init; }

    public double ChurnMin { get; init; }

    public double ChurnMax { get; init; } = double.PositiveInfinity;

    /// <summary>Euler: the deviation of that noise.</summary>
    public double ChurnNoise { get; init; } = 1;

    /// <summary>LMS: how many derivatives a step looks at.</summary>
    public int LmsOrder { get; init; } = 4;

    /// <summary>LCM: how many steps the teacher had, out of which the timesteps are picked; by default the config's.</summary>
    public int? OriginalInferenceSteps { get; init; }

    /// <summary>LCM: the share of the teacher's schedule that timesteps are picked from, the peer's <c>strength</c> at <c>set_timesteps</c>.</summary>
    public double LcmStrength { get; init; } = 1;
}

/// <summary>A scheduler of models that denoise numbers (pixels, latents).</summary>
public abstract record DiffusionScheduler : Scheduler
{
    /// <summary>How many timesteps the model was trained with.</summary>
    public int NumTrainTimesteps { get; init; } = 1000;

    /// <summary>How many calls of the model a step of the schedule takes; two in methods of second order.</summary>
    [JsonIgnore]
    public virtual int Order => 1;

    /// <summary>Lays out a sampling.</summary>
    /// <param name="steps">How many steps, from 1 to <see cref="NumTrainTimesteps"/>; null where <paramref name="options"/> say which.</param>
    /// <exception cref="PanoptesException">The number is out of range, or the scheduler does not take one of the options.</exception>
    public SchedulerRun Start(int? steps = null, SamplingOptions? options = null)
    {
        options ??= new();
        Check();
        var count = steps ?? options.Timesteps?.Count ?? options.Sigmas?.Count ?? throw new PanoptesException("A number of steps, timesteps or sigmas must be given.");
        if (count < 1 || count > NumTrainTimesteps) throw new PanoptesException($"{count} steps were asked for; expected 1 to {NumTrainTimesteps}, the timesteps that the model was trained with.");
        if (options.Timesteps is { } t && (t.Count == 0 || !t.All(double.IsFinite)) || options.Sigmas is { } s && (s.Count == 0 || !s.All(static v => v >= 0 && double.IsFinite(v))))
            throw new PanoptesException("Timesteps and sigmas must be finite numbers, and sigmas not below 0.");
        if (!(options.Strength is > 0 and <= 1 && options.LcmStrength is > 0 and <= 1)) throw new PanoptesException($"The strength is {Math.Min(options.Strength, options.LcmStrength)}; expected above 0 and at most 1.");
        if (!(options.Eta >= 0 && options.Churn >= 0 && options.ChurnNoise >= 0 && options.LmsOrder is >= 1 and <= 16)) throw new PanoptesException("eta, churn and its noise must not be below 0, and the order of LMS 1 to 16.");
        var run = Lay(steps, options);
        // Settings that each may be do not always go together; told here, and not of the weights when all steps are paid for.
        for (var i = 0; i < run.Count; i++)
            if (!double.IsFinite(run.Timesteps[i]) || !double.IsFinite(run.Level(i).Variance))
                throw new PanoptesException($"The settings of {ClassName} give step {i + 1} of {run.Count} no noise level that is a number: its schedule, shift and limits do not go together.");
        return run;
    }

    private protected abstract SchedulerRun Lay(int? steps, SamplingOptions options);

    private protected static void Refuse(bool given, string what, string why)
    {
        if (given) throw new PanoptesException($"The scheduler does not take {what} {why}.");
    }
}
