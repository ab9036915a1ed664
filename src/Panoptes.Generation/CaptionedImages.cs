using Panoptes.Checkpoints;
using Panoptes.Text;

namespace Panoptes.Generation;

/// <summary>Makes images of words by a model that takes no noise away: adversarial, variational, autoregressive or of masked tokens.</summary>
/// <example><code>
/// using var images = CaptionedImages.Load("runs/gan-emoji/best");
/// images.Generate([new("a red apple") { Seed = 1 }])[0].Save("apple.png");
/// </code></example>
public sealed class CaptionedImages(CaptionedImageModel model, Tokenizer tokenizer, string name) : IImageMaker
{
    readonly CaptionReader reader = new(model.TextEncoder, tokenizer);

    public CaptionedImageModel Model { get; } = model;

    /// <summary>How many images are made at once; less takes less memory.</summary>
    public int BatchSize { get; init; } = UsualBatch;

    internal const int UsualBatch = 16;

    /// <summary>How images are usually made, where the folder says it; null: captions as they are.</summary>
    public GenerationDefaults? Defaults { get; init; }

    /// <summary>Told of what users should know, such as prompts that are longer than the context; null: nobody is.</summary>
    public Action<string>? Note { get; init; }

    /// <summary>Whether a folder holds such a model.</summary>
    public static bool IsIn(string folder) => File.Exists(Path.Combine(folder, "config.json")) && !PipelineFolder.Is(folder) && typeof(CaptionedImageModel).IsAssignableFrom(GenerationModels.Registry.TypeOf(folder));

    /// <summary>Loads one with its tokenizer.</summary>
    /// <param name="model">A folder.</param>
    /// <param name="options">The type of the weights, and what stops the loading; null: float32, and nothing.</param>
    /// <param name="name">What images say that they are made with; null: the folder.</param>
    /// <param name="batchSize">How many images are made at once.</param>
    /// <param name="note">Told of what users should know; null: nobody is.</param>
    /// <exception cref="PanoptesException">Another model there, or none.</exception>
    public static CaptionedImages Load(string model, LoadOptions? options = null, string? name = null, int batchSize = UsualBatch, Action<string>? note = null)
    {
        if (!IsIn(model)) throw new PanoptesException($"{model} holds no text-to-image model in one part; expected one of {string.Join(", ", GenerationModels.All.Where(static e => typeof(CaptionedImageModel).IsAssignableFrom(e.Type)).Select(static e => e.Architecture))}.");
        var tokenizer = Tokenizer.Load(model);
        return new((CaptionedImageModel)GenerationModels.Load(model, options), tokenizer, name ?? model) { BatchSize = batchSize, Defaults = GenerationDefaults.In(model), Note = note };
    }

    public IReadOnlyList<GeneratedImage> Generate(IReadOnlyList<ImageRequest> requests, IProgress<ImageProgress>? progress = null, int previewEvery = 0, CancellationToken cancel = default)
    {
        foreach (var r in requests)
        {
            // What is left of a request must be as usual.
            var words = new ImageRequest(r.Prompt) { Seed = r.Seed, Count = r.Count, Steps = r.Steps, Guidance = r.Guidance, Width = r.Width, Height = r.Height, Batch = r.Batch, Threads = r.Threads };
            if (r.Hooks.Count > 0 || r.Controls.Count > 0 || (r with { Hooks = words.Hooks, Controls = words.Controls }) != words) throw new PanoptesException($"A {Model.GetType().Name} makes images of words alone; it takes no picture, mask, sampler, negative prompt, control or anything else that is asked of diffusion.");
            if ((r.Width ?? Model.Side) != Model.Side || (r.Height ?? Model.Side) != Model.Side) throw new PanoptesException($"Images of {r.Width}x{r.Height} pixels were asked for; this model makes {Model.Side}x{Model.Side}.");
            if (!Model.TakesSteps && r.Steps is not (null or 1)) throw new PanoptesException($"{r.Steps} steps were asked for; a {Model.GetType().Name} takes one.");
            if (!Model.IsGuided && r.Guidance is not (null or 1)) throw new PanoptesException(FormattableString.Invariant($"A guidance of {r.Guidance} was asked for; a {Model.GetType().Name} is not guided."));
            r.Check();
        }
        foreach (var prompt in requests.Select(static r => r.Prompt).Distinct()) Tell(prompt);
        // All of a batch is there at once: images are counted, not steps.
        return ImageBatches.Make([.. requests.SelectMany(static r => ImageJob.Of(r))], BatchSize, static (a, b) => a.Steps == b.Steps && a.Guidance == b.Guidance && a.Threads == b.Threads, static b => b.Wanted.Count(), (batch, _) => Make(batch, cancel), progress);
    }

    GeneratedImage[] Make(ImageBatch batch, CancellationToken cancel)
    {
        using var scope = NewDisposeScope();
        var request = batch.Request;
        var sampling = new ImageSampling { Guidance = Model.IsGuided ? request.Guidance ?? Defaults?.GuidanceScale ?? 1 : 1 };
        if (!Model.TakesSteps) sampling = sampling with { Steps = 1 };
        else if ((request.Steps ?? Defaults?.NumInferenceSteps) is { } steps) sampling = sampling with { Steps = steps };
        using var noise = new SeededNoise(batch.Jobs.Select(static j => j.Seed));
        var pixels = Model.Sample(reader.Ids([.. batch.Jobs.Select(static j => j.Request.Prompt)]), reader.Ids([""]), noise.Source, sampling, cancel);
        Damage.Check(pixels, "model");
        return
        [
            .. batch.Wanted.Select(i => new GeneratedImage(SignedPixels.ToImage(pixels[i]), new()
            {
                Prompt = batch.Jobs[i].Request.Prompt,
                Model = name,
                Dtype = (Model.TextEncoder.TextModel.Embeddings.TokenEmbedding.Weight.Dtype ?? ScalarType.Float32).ToString().ToLowerInvariant(),
                Threads = get_num_threads(),
                Width = Model.Side,
                Height = Model.Side,
                Steps = sampling.Steps,
                Guidance = sampling.Guidance,
                Seed = batch.Jobs[i].Seed,
                Batch = batch.PlaceOf(i),
            })),
        ];
    }

    /// <summary>Says what of a prompt is not read.</summary>
    void Tell(string prompt)
    {
        var tokens = PromptTokens.Of(prompt, reader.Tokenizer, Model.TextEncoder.ContextLength);
        if (tokens.IsWeighted) Note?.Invoke($"The prompt \"{PromptTokens.Shown(prompt)}\" has weights, which a {Model.GetType().Name} does not read.");
        if (tokens.Windows.Count > 1) Note?.Invoke($"The prompt \"{PromptTokens.Shown(prompt)}\" has {tokens.Count} tokens, of which a {Model.GetType().Name} reads the first {Model.TextEncoder.ContextLength - 2}.");
    }

    public void Dispose() => Model.Dispose();
}
