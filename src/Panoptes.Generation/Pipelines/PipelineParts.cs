using System.Globalization;
using System.Text.Json.Nodes;
using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Generation;

/// <summary>The parts of one pipeline while they load, wherever they are: what is loaded already is disposed where a later one fails.</summary>
abstract class PipelineParts(LoadOptions options) : IDisposable
{
    readonly List<IDisposable> loaded = [];

    protected LoadOptions Options => options;

    /// <summary>The pipeline's class, by the peer's name.</summary>
    public abstract string ClassName { get; }

    public abstract bool Has(string part);

    public abstract bool Flag(string field, bool usual);

    public T Model<T>(string part) where T : Module => Track(LoadModel<T>(part));

    public LatentAutoencoder Autoencoder() => Model<LatentAutoencoder>("vae");

    public CodeAutoencoder Codes(string part) => new(Track(LoadCodes(part)));

    public ClipPrompts Clip(string part, string tokenizer) => new(Track(LoadClip(part)), LoadTokenizer(tokenizer));

    public ClipVisionModel Vision(string part) => Track(LoadVision(part));

    public ImageExamples Examples(string encoder, string projection, string processor) => new(Vision(encoder), Model<ClipImageProjection>(projection), LoadProcessor(processor));

    public T5Prompts T5(string part, string tokenizer, int length, bool masked) => new(Track(LoadT5(part)), LoadTokenizer(tokenizer), length, masked);

    public abstract DiffusionScheduler Scheduler();

    /// <summary>What classes are called, in the file's order.</summary>
    public abstract OrderedDictionary<int, string> ClassNames();

    internal abstract T LoadModel<T>(string part) where T : Module;

    internal abstract VqModel LoadCodes(string part);

    internal abstract ClipTextModel LoadClip(string part);

    internal abstract T5EncoderModel LoadT5(string part);

    internal abstract ClipVisionModel LoadVision(string part);

    internal abstract ImageProcessor LoadProcessor(string part);

    internal abstract Tokenizer LoadTokenizer(string part);

    protected T Track<T>(T module) where T : Module
    {
        loaded.Add(module);
        return module;
    }

    /// <summary>The pipeline has them now.</summary>
    public void Keep() => loaded.Clear();

    public virtual void Dispose()
    {
        foreach (var module in loaded) module.Dispose();
    }
}

/// <summary>A part of a pipeline as its folder names it.</summary>
/// <param name="Name">Its folder's.</param>
/// <param name="Class">The peer's.</param>
/// <param name="Folder">Where it is; null: it is missing.</param>
public sealed record NamedPart(string Name, string Class, string? Folder);

/// <summary>The parts of a diffusers folder.</summary>
/// <param name="folder">With model_index.json.</param>
/// <param name="index">What that says.</param>
/// <param name="options">How weights are loaded.</param>
/// <param name="at">Where a part is, where it is not in the folder of its name.</param>
sealed class FolderParts(string folder, JsonObject index, LoadOptions options, Func<string, string?>? at) : PipelineParts(options)
{
    public override string ClassName => index["_class_name"] is JsonValue value && value.TryGetValue(out string? name) ? name : "(none)";

    public override bool Has(string part) => index[part] is JsonArray { Count: 2 } a && a[1] is not null;

    public override bool Flag(string field, bool usual) => index[field] is JsonValue value && value.TryGetValue(out bool flag) ? flag : usual;

    /// <summary>The folder of a part; null where there is none.</summary>
    public string? Find(string part) => at?.Invoke(part) ?? (Directory.Exists(Path.Combine(folder, part)) ? Path.Combine(folder, part) : null);

    /// <summary>All that the index names and that is there to be named.</summary>
    public IEnumerable<NamedPart> Named => index.Where(static p => p.Value is JsonArray { Count: 2 } a && a[1] is JsonValue).Select(p => new NamedPart(p.Key, p.Value![1]!.ToString(), Find(p.Key)));

    string PathOf(string part) => Find(part) ?? throw new PanoptesException($"{folder} has no folder {part}, which its {PipelineFolder.FileName} needs.");

    /// <summary>The index decides which class reads the settings, as the peer has it.</summary>
    public override DiffusionScheduler Scheduler()
    {
        var read = Generation.Scheduler.Load<DiffusionScheduler>(PathOf("scheduler"));
        if (NameOf("scheduler") is not { } named || named == read.ClassName) return read;
        Check("scheduler", [named], [.. Generation.Scheduler.ClassNames]);
        return read.As(named) as DiffusionScheduler ?? throw new PanoptesException($"{folder}: the scheduler is {named}, which denoises no numbers.");
    }

    public VqModel ImageTokenizer(string part) => Track(LoadCodes(part));

    public AmusedScheduler MaskedTokenScheduler() => Generation.Scheduler.Load<AmusedScheduler>(PathOf("scheduler"));

    public override OrderedDictionary<int, string> ClassNames()
    {
        var names = new OrderedDictionary<int, string>();
        foreach (var (id, named) in index["id2label"] as JsonObject ?? [])
            if (int.TryParse(id, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && named is JsonValue value && value.TryGetValue(out string? text)) names[number] = text;
        return names;
    }

    internal override T LoadModel<T>(string part)
    {
        // Transformer2DModel is what older files call several classes.
        const string older = "Transformer2DModel";
        var path = PathOf(part);
        ModelEntry[] known = [.. GenerationModels.All.Where(static e => typeof(T).IsAssignableFrom(e.Type))];
        Check(part, [NameOf(part), Configured(path)], [.. known.Select(static e => e.Architecture)], older);
        return (T)GenerationModels.Registry.Load(path, (known.FirstOrDefault(e => e.Architecture == NameOf(part) && e.Architecture != older) ?? known[0]).Type, Options);
    }

    internal override VqModel LoadCodes(string part) => Models.Load<VqModel>(PathOf(part), Options);

    internal override ClipTextModel LoadClip(string part) => LoadEncoder<ClipTextModel>(part, "CLIPTextModel", "CLIPTextModelWithProjection");

    internal override T5EncoderModel LoadT5(string part) => LoadEncoder<T5EncoderModel>(part, "T5EncoderModel");

    internal override ClipVisionModel LoadVision(string part) => LoadEncoder<ClipVisionModel>(part, "CLIPVisionModelWithProjection", "CLIPVisionModel");

    T LoadEncoder<T>(string part, params string[] classes) where T : Module
    {
        Check(part, [NameOf(part)], classes);
        return Models.Load<T>(PathOf(part), Options);
    }

    /// <summary>What the index calls a part's class.</summary>
    string? NameOf(string part) => index[part] is JsonArray { Count: 2 } a && a[1] is JsonValue name ? name.ToString() : null;

    /// <summary>What the part's own config.json calls it.</summary>
    static string? Configured(string path) => Path.Combine(path, "config.json") is var file && File.Exists(file) && PipelineFolder.Index(file)["_class_name"] is JsonValue value ? value.ToString() : null;

    /// <summary>Refuses a part of another class, even where its weights would fit: it may mean something else by them.</summary>
    void Check(string part, string?[] named, string[] known, string? older = null)
    {
        if (named.FirstOrDefault(n => n is not null && n != older && !known.Contains(n)) is { } other) throw new PanoptesException($"{folder}: {part} is {other}, which such a pipeline is not read with; expected {string.Join(" or ", known)}.");
    }

    internal override ImageProcessor LoadProcessor(string part) => ImageProcessor.Load(PathOf(part));

    internal override Tokenizer LoadTokenizer(string part) => Tokenizer.Load(PathOf(part));
}
