using System.Text.Json.Nodes;
using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Representation;

namespace Panoptes.Generation;

/// <summary>
/// Makes images of words, or changes and fills pictures, by filling in masked tokens, the surest first: aMUSEd (Patil et al. 2024, arXiv:2401.01808), an open form of Muse (Chang et al. 2023, arXiv:2301.00704). As diffusers'
/// AmusedPipeline, AmusedImg2ImgPipeline and AmusedInpaintPipeline, whose folders it reads.
/// </summary>
/// <example><code>
/// using var images = Amused.Load("amused/amused-256");
/// images.Generate([new("a red apple") { Seed = 1 }])[0].Save("apple.png");
/// </code></example>
/// <param name="transformer">Tells masked tokens; becomes this one's, as the other parts do.</param>
/// <param name="vqvae">Makes images tokens and tokens images, both from 0 to 1.</param>
/// <param name="prompts">With a text encoder that projects.</param>
/// <param name="scheduler">Decides how many tokens are masked again.</param>
/// <param name="name">What images say that they are made with.</param>
public sealed class Amused(UVit transformer, VqModel vqvae, ClipPrompts prompts, AmusedScheduler scheduler, string name) : IImageMaker
{
    /// <summary>As the peer has it.</summary>
    const int UsualSteps = 12;

    const double UsualGuidance = 10, UsualStrength = 0.5;

    /// <summary>The pipelines that can be read, by the peer's class: tasks are no classes here.</summary>
    static readonly string[] Classes = ["AmusedPipeline", "AmusedImg2ImgPipeline", "AmusedInpaintPipeline"];

    public UVit Transformer { get; } = transformer;

    public VqModel Vqvae { get; } = vqvae;

    public ClipPrompts Prompts { get; } = prompts;

    public AmusedScheduler Scheduler { get; } = scheduler;

    /// <summary>How many images are made at once; less takes less memory.</summary>
    public int BatchSize { get; init; } = UsualBatch;

    internal const int UsualBatch = 4;

    /// <summary>Told of prompts that are longer than the context, whose rest is not read; null: nobody is.</summary>
    public Action<string>? Note { get; init; }

    /// <summary>Pixels of a side of a token.</summary>
    int Multiple => Vqvae.PixelsPerToken * (Transformer.Config.Downsample ? 2 : 1);

    int Side => Transformer.Config.SampleSize * Vqvae.PixelsPerToken;

    /// <summary>Whether a folder holds such a pipeline.</summary>
    public static bool IsIn(string folder) => PipelineFolder.Is(folder) && Classes.Contains(PipelineFolder.PartsOf(folder, new()).ClassName);

    /// <summary>Loads a pipeline.</summary>
    /// <param name="model">A diffusers folder.</param>
    /// <param name="options">The type that weights get; null: float32.</param>
    /// <param name="name">What images say that they are made with; null: the folder.</param>
    /// <param name="batchSize">How many images are made at once.</param>
    /// <param name="note">Told of prompts that are longer than the context; null: nobody is.</param>
    /// <exception cref="PanoptesException">Another pipeline there, or none, a part that is missing, or parts that do not fit together.</exception>
    public static Amused Load(string model, LoadOptions? options = null, string? name = null, int batchSize = UsualBatch, Action<string>? note = null)
    {
        using var parts = PipelineFolder.PartsOf(ModelFolder.Resolve(model, options?.Cancel ?? default), options ?? new());
        if (!Classes.Contains(parts.ClassName)) throw new PanoptesException($"{model} holds a {parts.ClassName}; expected one of {string.Join(", ", Classes)}.");
        var loaded = new Amused(parts.Model<UVit>("transformer"), parts.ImageTokenizer("vqvae"), parts.Clip("text_encoder", "tokenizer"), parts.MaskedTokenScheduler(), name ?? model) { BatchSize = batchSize, Note = note };
        var (u, codes) = (loaded.Transformer.Config, loaded.Vqvae.Config.NumVqEmbeddings);
        if (u.CodebookSize != codes || loaded.Scheduler.MaskTokenId < codes || loaded.Scheduler.MaskTokenId >= u.VocabSize)
            throw new PanoptesException($"{model}: the transformer tells {u.CodebookSize} codes of {u.VocabSize} tokens, the autoencoder has {codes}, and {loaded.Scheduler.MaskTokenId} stands for those that are not known; expected as many codes, and a token beside them.");
        parts.Keep();
        return loaded;
    }

    /// <summary>Writes the pipeline as the peer reads it.</summary>
    /// <exception cref="PanoptesException">The files cannot be written.</exception>
    public void Save(string folder, SaveOptions? options = null)
    {
        GenerationModels.Save(Path.Combine(folder, "transformer"), Transformer, options);
        Models.Save(Path.Combine(folder, "vqvae"), Vqvae, options);
        Models.Save(Path.Combine(folder, "text_encoder"), Prompts.Encoder, options);
        Prompts.Tokenizer.Save(Path.Combine(folder, "tokenizer"));
        Scheduler.Save(Path.Combine(folder, "scheduler"));
        var index = new JsonObject { ["_class_name"] = Classes[0], ["_diffusers_version"] = PipelineFolder.PeerVersion };
        (string Part, string Library, string Class)[] named = [("scheduler", "diffusers", Scheduler.ClassName), ("text_encoder", "transformers", "CLIPTextModelWithProjection"), ("tokenizer", "transformers", "CLIPTokenizer"), ("transformer", "diffusers", "UVit2DModel"), ("vqvae", "diffusers", "VQModel")];
        foreach (var (part, library, type) in named) index[part] = new JsonArray(library, type);
        AtomicFile.WriteText(Path.Combine(folder, PipelineFolder.FileName), index.ToJsonString(Nn.ModelConfig.JsonOptions) + "\n");
    }

    public IReadOnlyList<GeneratedImage> Generate(IReadOnlyList<ImageRequest> requests, IProgress<ImageProgress>? progress = null, int previewEvery = 0, CancellationToken cancel = default)
    {
        foreach (var r in requests) Check(r);
        return ImageBatches.Make([.. requests.SelectMany(r => ImageJob.Of(r, PartsOf(r)))], BatchSize, static (a, b) => a with { Prompt = b.Prompt, NegativePrompt = b.NegativePrompt, Seed = b.Seed, Count = b.Count } == b,
            static b => StepsOf(b.Request), (batch, report) => Make(batch, report, cancel), progress, previewEvery);
    }

    static int StepsOf(ImageRequest r) => r.Steps ?? UsualSteps;

    /// <summary>As <see cref="ImageJob.Parts"/>.</summary>
    int PartsOf(ImageRequest r) => Math.Max(Prompts.PartsOf(r.Prompt), Prompts.PartsOf(r.NegativePrompt ?? ""));

    void Check(ImageRequest r)
    {
        // What is left of a request must be as usual.
        var known = new ImageRequest(r.Prompt) { NegativePrompt = r.NegativePrompt, Seed = r.Seed, Count = r.Count, Steps = r.Steps, Guidance = r.Guidance, Width = r.Width, Height = r.Height, Image = r.Image, ImageFile = r.ImageFile, Mask = r.Mask, MaskFile = r.MaskFile, Strength = r.Strength, Batch = r.Batch, Threads = r.Threads };
        if (r.Hooks.Count > 0 || r.Controls.Count > 0 || r with { Hooks = known.Hooks, Controls = known.Controls } != known) throw new PanoptesException("An aMUSEd makes images of words and pictures; it takes no sampler, control or anything else that is asked of diffusion alone.");
        r.Check();
        var (width, height) = SizeOf(r);
        ImageRequest.Bound(width, height);
        if (width % Multiple != 0 || height % Multiple != 0 || width < Multiple || height < Multiple) throw new PanoptesException($"Images of {width}x{height} pixels were asked for; this pipeline makes sides that are multiples of {Multiple}.");
        if (StrengthOf(r) is var strength && (int)(StepsOf(r) * strength) < 1) throw new PanoptesException(FormattableString.Invariant($"Of {StepsOf(r)} steps, a strength of {strength} leaves none; expected more of either."));
    }

    (int Width, int Height) SizeOf(ImageRequest r) => r.Image is not { } image ? (r.Width ?? Side, r.Height ?? Side)
        : (r.Width ?? Math.Max(Multiple, image.Width / Multiple * Multiple), r.Height ?? Math.Max(Multiple, image.Height / Multiple * Multiple));

    GeneratedImage[] Make(ImageBatch batch, BatchReport report, CancellationToken cancel)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var request = batch.Request;
        var (width, height) = SizeOf(request);
        var (steps, guidance) = (StepsOf(request), request.Guidance ?? UsualGuidance);
        using var seeded = new SeededNoise(batch.Jobs.Select(static j => j.Seed));
        var noise = seeded.Source;
        // As the peer fills in: as many tokens more become known in every step.
        var run = (request.Mask is null ? Scheduler : Scheduler with { MaskingSchedule = "linear" }).Start(steps);
        var (tokens, begin, masked) = Begin(request, batch.Count, run, width, height, noise);
        var guided = guidance > 1;
        var (states, pooled) = Prompts.Read([.. guided ? batch.Jobs.Select(static j => j.Request.NegativePrompt ?? "") : [], .. batch.Jobs.Select(static j => j.Request.Prompt)], 1, null, batch.Count, normalized: false, Note);
        tokens = MaskedDecoding.Fill(Transformer, run, begin, masked, tokens, states, pooled, (width, height), guidance, 1, noise, cancel,
            (i, clean) => report.Stepped(i + 1, i + 1 - begin, i + 1 < run.Count ? () => Picture(clean.narrow(0, 0, 1)) : null));
        return
        [
            .. batch.Wanted.Select(i => new GeneratedImage(Picture(tokens.narrow(0, i, 1)), new()
            {
                Prompt = batch.Jobs[i].Request.Prompt,
                NegativePrompt = batch.Jobs[i].Request.NegativePrompt,
                Model = name,
                Dtype = (Transformer.Parameters().First().Dtype ?? ScalarType.Float32).ToString().ToLowerInvariant(),
                Threads = get_num_threads(),
                Width = width,
                Height = height,
                Steps = steps,
                Guidance = guidance,
                Seed = batch.Jobs[i].Seed,
                Strength = request.Image is null ? null : StrengthOf(request),
                Image = ImageParameters.Hash(request.Image),
                ImageFile = request.ImageFile,
                Mask = ImageParameters.Hash(request.Mask),
                MaskFile = request.MaskFile,
                Batch = batch.PlaceOf(i),
            })),
        ];
    }

    /// <summary>The picture of tokens [1, rows, columns]: the autoencoder's are from 0 to 1 already. Each is made alone, so that it is the same whatever is made beside it.</summary>
    Image Picture(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var pixels = Vqvae.Decode(Vqvae.Quantize.Entries(tokens)).to(ScalarType.Float32);
        Damage.Check(pixels, "autoencoder");
        return Diffusion.ToImage(pixels.clamp(0, 1)[0]);
    }

    static double StrengthOf(ImageRequest r) => r.Image is null ? 1 : r.Strength ?? (r.Mask is null ? UsualStrength : 1);

    /// <summary>The tokens that decoding begins with, its first step, and the share of tokens that are unknown in a picture that is filled.</summary>
    (Tensor Tokens, int Begin, double Masked) Begin(ImageRequest request, int count, MaskedTokenRun run, int width, int height, NoiseSource noise)
    {
        var (rows, columns) = (height / Vqvae.PixelsPerToken, width / Vqvae.PixelsPerToken);
        if (request.Image is not { } picture) return (full([count, rows, columns], Scheduler.MaskTokenId, ScalarType.Int64), 0, 1);
        var begin = run.Count - (int)(run.Count * StrengthOf(request));
        var pixels = picture.ToRgb().Resize(width, height, ResizeFilter.Lanczos).ToTensor(ScalarType.Float32).unsqueeze(0);
        var tokens = Vqvae.Quantize.Nearest(Vqvae.Latents(pixels)).view(1, rows, columns).expand(count, -1, -1);
        if (request.OpaqueMask is { } hole)
        {
            var unknown = hole.ToGray().Resize(columns, rows, ResizeFilter.Lanczos).ToTensor(ScalarType.Float32).ge(0.5);                // [1, rows, columns]
            var share = unknown.to(ScalarType.Float32).mean().item<float>();
            // Every step masks one token at least: where all are known, none is taken.
            return (tokens.masked_fill(unknown, Scheduler.MaskTokenId), share == 0 ? run.Count : begin, share);
        }
        return (begin == 0 ? full_like(tokens, Scheduler.MaskTokenId) : run.AddNoise(tokens, begin - 1, noise), begin, 1);
    }

    public void Dispose()
    {
        Transformer.Dispose();
        Vqvae.Dispose();
        Prompts.Encoder.Dispose();
    }
}
