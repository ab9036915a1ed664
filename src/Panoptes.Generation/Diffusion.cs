using System.Globalization;
using Panoptes.Checkpoints;
using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>Makes images of words, or of words and pictures, by a diffusion model. Calls from several threads come one after the other.</summary>
/// <example><code>
/// using var diffusion = Diffusion.Load("stable-diffusion-v1-5");
/// var image = diffusion.Generate("a red apple left of a cat");
/// image.Save("apple.png");
/// </code></example>
public sealed class Diffusion : IImageMaker
{
    /// <summary>Latents of at most so many places a side are decoded for previews.</summary>
    const int PreviewPlaces = 32;

    readonly Lock turn = new();
    bool packed;

    /// <param name="model">Becomes this one's; its weights are packed for inference when the first image is made, so that it is loaded as soon as its files are mapped.</param>
    /// <param name="name">What images say that they are made with.</param>
    public Diffusion(DiffusionModel model, string name) => (Model, Name) = (model, name);

    public DiffusionModel Model { get; }

    /// <summary>What images say that they are made with.</summary>
    public string Name { get; }

    /// <summary>The folder that told a model in one file its settings, as images are to say it; null: none.</summary>
    public string? Config { get; init; }

    /// <summary>How many images are made at once; less takes less memory.</summary>
    public int BatchSize { get; init; } = 4;

    /// <summary>How large images go through the autoencoder in little memory; null: at once.</summary>
    public AutoencoderParts? Parts { get; init; }

    /// <summary>Told of what users should know, such as prompts that are longer than the context; null: nobody is.</summary>
    public Action<string>? Note { get; init; }

    /// <summary>Loads a pipeline.</summary>
    /// <param name="model">A diffusers folder, one file of the original form (<see cref="SingleFile"/>), or a hub id (<c>OWNER/NAME[@REVISION]</c>).</param>
    /// <param name="dtype">The type of the weights: float32 gives the peer's images to the last bits, bfloat16 is several times as fast where the processor has it.</param>
    /// <param name="cancel">Stops the download of a hub id, or before the next weight.</param>
    /// <exception cref="PanoptesException">No pipeline there, or one that is not supported.</exception>
    public static Diffusion Load(string model, ScalarType dtype = ScalarType.Float32, CancellationToken cancel = default) =>
        new(DiffusionModel.Load(model, new LoadOptions { Dtype = dtype, Cancel = cancel }), Directory.Exists(model) || File.Exists(model) ? Path.GetFileName(Path.TrimEndingDirectorySeparator(model)) : model);

    /// <summary>The same on another thread.</summary>
    /// <inheritdoc cref="Load"/>
    /// <param name="progress">Told of the download, where a hub id needs one; null: nobody is.</param>
    public static async Task<Diffusion> LoadAsync(string model, ScalarType dtype = ScalarType.Float32, IProgress<HubProgress>? progress = null, CancellationToken cancel = default)
    {
        await ModelFolder.ResolveAsync(model, progress, cancel).ConfigureAwait(false);
        return await Task.Run(() => Load(model, dtype, cancel), cancel).ConfigureAwait(false);
    }

    /// <summary>One image of a prompt.</summary>
    /// <inheritdoc cref="Generate(IReadOnlyList{ImageRequest}, IProgress{ImageProgress}?, int, CancellationToken)" path="/exception"/>
    /// <param name="prompt">In words; parts may have weights.</param>
    /// <param name="seed">What all chance follows from; null: a new one.</param>
    /// <param name="cancel">Stops before the next step.</param>
    public GeneratedImage Generate(string prompt, long? seed = null, CancellationToken cancel = default) => Generate([new(prompt) { Seed = seed }], cancel: cancel)[0];

    /// <summary>All images of the requests, in their order. Neighbors that differ in words and seeds alone are made together.</summary>
    /// <param name="requests">What is wanted.</param>
    /// <param name="progress">Told after every step.</param>
    /// <param name="previewEvery">A picture of what the first image of a batch seems to become, after so many steps each; 0: none.</param>
    /// <param name="cancel">Stops before the next step.</param>
    /// <exception cref="PanoptesException">A request that cannot be, or a network whose numbers are damaged.</exception>
    public IReadOnlyList<GeneratedImage> Generate(IReadOnlyList<ImageRequest> requests, IProgress<ImageProgress>? progress = null, int previewEvery = 0, CancellationToken cancel = default)
    {
        // Packing takes the plain weights away, and hooks sit in the network while it is asked.
        while (!turn.TryEnter(TimeSpan.FromMilliseconds(50))) cancel.ThrowIfCancellationRequested();
        try
        {
            Model.Autoencoder?.Check(Parts);
            ImageJob[] jobs = [.. requests.SelectMany(JobsOf)];
            if (!packed) Model.Pack();
            packed = true;
            return ImageBatches.Make(jobs, BatchSize, Alike, b => StepsOf(b.Request), (batch, report) => Make(batch, report, cancel), progress, previewEvery);
        }
        finally
        {
            turn.Exit();
        }
    }

    IEnumerable<ImageJob> JobsOf(ImageRequest request)
    {
        request.Check();
        if (Model.ReadsPicture && (request.Mask is not null || request.Strength is not null)) throw new PanoptesException("This model makes variations of a picture; it takes no mask and no strength.");
        if (request.Toward is { Share: not (>= 0 and <= 1) } toward) throw new PanoptesException($"An image was to be {toward.Share} of the way to another; expected 0 to 1.");
        if (request.Toward?.Seed is { } other && (other < 0 || other > long.MaxValue - request.Count)) throw new PanoptesException($"The other seed is {other}; expected 0 or more, and room for {request.Count} more.");
        if (request.Upscale is { } upscale && (upscale.Factor is not (> 1 and <= 8) || upscale.Strength is not (> 0 and <= 1))) throw new PanoptesException($"The image was to be made {upscale.Factor} times as large with a strength of {upscale.Strength}; expected more than 1 to 8, and above 0 to 1.");
        if (request.Upscale is not null && (request.Mask is not null || FillsBoxes(request))) throw new PanoptesException("An image with a mask cannot be made larger, since all of it would be made anew; expected one of both.");
        if (request.Repeats is < 1 or > 100) throw new PanoptesException($"Every step was to be taken {request.Repeats} times; expected 1 to 100.");
        if (!Model.AsksTwice && !string.IsNullOrEmpty(request.NegativePrompt)) throw new PanoptesException($"A {Model.GetType().Name} such as this one is not asked about what is not wanted; expected no negative prompt.");
        if (!Model.AsksTwice && request.GuidanceRescale != 0) throw new PanoptesException($"A {Model.GetType().Name} such as this one is not asked about what is not wanted; expected no guidance rescale.");
        if (!Model.IsToldGuidance && request.Guidance is { } guidance && guidance != Model.UsualGuidance) throw new PanoptesException($"A guidance of {guidance} was asked for, but a {Model.GetType().Name} such as this one is not guided; expected none.");
        if (request.Eta != 0 && SchedulerOf(request) is not DdimScheduler and var scheduler) throw new PanoptesException($"An eta was given, but {scheduler.ClassName} has none; expected DDIM.");
        if (!Model.SkipsLayers && request.ClipSkip is > 0) throw new PanoptesException($"A {Model.GetType().Name} leaves out no layers of a CLIP; expected no clip skip.");
        var parts = PartsOf(request);
        var (width, height) = SizeOf(request);
        ImageRequest.Bound(width, height);
        foreach (var control in request.Controls)
        {
            control.Check(width, height);
            control.Check(Model, Told(request, request.Prompt));
            if (request.Toward?.Prompt is { } far) control.Check(Model, Told(request, far));
        }
        var steps = request.Steps ?? Model.UsualSteps;
        Model.Start(SchedulerOf(request), steps, Sampling(request, StrengthOf(request)), height, width);
        if (request.Upscale is { } growth) CheckLarger(request, growth, steps, width, height);
        return ImageJob.Of(request, parts);
    }

    /// <summary>Refuses to make an image larger that would not be, or would be too large, or of which no step would be taken.</summary>
    void CheckLarger(ImageRequest request, LatentUpscale growth, int steps, int width, int height)
    {
        var (wide, high) = Enlarged(width, height, growth);
        if (wide <= width && high <= height) throw new PanoptesException($"{growth.Factor} times {width}x{height} pixels are {wide}x{high}, since this model makes sides that are multiples of {Model.Multiple}; expected a larger factor.");
        ImageRequest.Bound(wide, high);
        try
        {
            Model.Start(SchedulerOf(request), steps, Sampling(request, growth.Strength), high, wide);
        }
        catch (PanoptesException e)
        {
            throw new PanoptesException($"The image cannot be made larger so: {e.Message}", e);
        }
    }

    /// <summary>How much noise is put into a picture; 1 where none is changed.</summary>
    double StrengthOf(ImageRequest request) => Model.ReadsPicture || request.Image is null ? 1 : request.Strength ?? (request.Mask is null && !FillsBoxes(request) ? 0.8 : 1);

    bool Alike(ImageRequest a, ImageRequest b) => a with { Prompt = b.Prompt, NegativePrompt = b.NegativePrompt, Seed = b.Seed, Count = b.Count, Toward = b.Toward, Controls = b.Controls } == b && a.Toward is null == b.Toward is null
        // Nothing said of what is not wanted need not be an empty prompt (SDXL).
        && Denies(a) == Denies(b)
        && a.Controls.Count == b.Controls.Count && a.Controls.Zip(b.Controls).All(static p => p.First.Joins(p.Second)) && SizeOf(a) == SizeOf(b);

    /// <summary>As <see cref="ImageJob.Parts"/>.</summary>
    int PartsOf(ImageRequest request) => ((string?[])[Told(request, request.Prompt), request.NegativePrompt, request.Toward?.Prompt is { } other ? Told(request, other) : null, request.Toward?.NegativePrompt]).Max(p => p is null ? 1 : Model.PartsOf(p));

    static bool Denies(ImageRequest request) => request.NegativePrompt is not null || request.Toward?.NegativePrompt is not null;

    string Told(ImageRequest request, string prompt) => Told(Model, request, prompt);

    /// <summary>A prompt with what the controls say in words.</summary>
    static string Told(DiffusionModel model, ImageRequest request, string prompt) => request.Controls.Aggregate(prompt, (words, control) => control.Words(model, words));

    /// <summary>Larger images are made twice.</summary>
    int StepsOf(ImageRequest request) => (request.Steps ?? Model.UsualSteps) * (request.Upscale is null ? 1 : 2);

    List<GeneratedImage> Make(ImageBatch all, BatchReport told, CancellationToken cancel)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (batch, request) = (all.Jobs, all.Request);
        var report = new Report(this, told);
        using var noise = new Seeded(batch);
        var (width, height) = SizeOf(request);
        var changed = Model.ReadsPicture ? null : request.Image;
        var mask = request.OpaqueMask?.Resize(width, height, ResizeFilter.Lanczos).ToGray().ToTensor(ScalarType.Float32).unsqueeze(0) ?? (FillsBoxes(request) ? stack(batch.Select(j => Inside(j.Request, width, height))) : null);
        var strength = StrengthOf(request);
        var (positive, negative) = Describe(batch, width, height);
        using var both = positive;
        using var unwanted = negative;
        var larger = request.Upscale is { } growth ? Enlarged(width, height, growth) : (width, height);
        using var controls = new ControlHooks(Model, [.. batch.Select(static j => j.Request)], (width, height), larger);
        var task = new DiffusionTask
        {
            Positive = positive,
            Negative = negative,
            Height = height,
            Width = width,
            Steps = request.Steps ?? Model.UsualSteps,
            Guidance = request.Guidance ?? Model.UsualGuidance,
            Rescale = request.GuidanceRescale,
            Scheduler = SchedulerOf(request),
            Sampling = Sampling(request, strength),
            Noise = noise.Source,
            Image = changed?.ToRgb().Resize(width, height, ResizeFilter.Lanczos).ToTensor(ScalarType.Float32).unsqueeze(0),
            Mask = mask,
            Repeats = request.Repeats,
            Hooks = [.. controls.Hooks, .. request.Hooks, report],
            Parts = Parts,
        };
        var latents = task.Run(Model, cancel);
        if (request.Upscale is { } upscale) latents = Enlarge(batch, task, latents, upscale, larger, report, cancel);
        var images = new List<GeneratedImage>(batch.Count);
        foreach (var i in all.Wanted)
        {
            cancel.ThrowIfCancellationRequested();
            using var inner = NewDisposeScope();
            var pixels = Model.Decode(latents.narrow(0, i, 1), Parts)[0];
            images.Add(new(ToImage(pixels), new()
            {
                Prompt = batch[i].Request.Prompt,
                NegativePrompt = batch[i].Request.NegativePrompt,
                Model = Name,
                Config = Config,
                Dtype = Model.Dtype.ToString().ToLowerInvariant(),
                Threads = get_num_threads(),
                Width = width,
                Height = height,
                Steps = task.Steps,
                Guidance = task.Guidance,
                GuidanceRescale = task.Rescale,
                Sampler = request.Sampler,
                Eta = request.Eta,
                Seed = batch[i].Seed,
                Strength = changed is null ? null : strength,
                Image = ImageParameters.Hash(request.Image),
                ImageFile = request.ImageFile,
                Mask = ImageParameters.Hash(request.Mask),
                MaskFile = request.MaskFile,
                ClipSkip = request.ClipSkip is 0 ? null : request.ClipSkip,
                Batch = all.PlaceOf(i),
                Repeats = request.Repeats == 1 ? null : request.Repeats,
                Tiled = Parts is { Tiled: true } ? true : null,
                Toward = batch[i].Request.Toward is { Seed: { } other } toward ? toward with { Seed = other + batch[i].Number } : batch[i].Request.Toward,
                Upscale = request.Upscale,
                Controls = request.Controls.Count == 0 ? null : [.. batch[i].Request.Controls.Select(static c => c.Parameters)],
            })
            {
                Conditions = controls.Conditions[i],
            });
        }
        return images;
    }

    /// <summary>Whether a GLIGEN that fills masks is to fill the boxes that it is told, since no other mask is.</summary>
    bool FillsBoxes(ImageRequest request) => Model.ReadsWhatStays && request is { Image: not null, Mask: null } && request.Controls.OfType<BoxesControl>().Any();

    /// <summary>[1, height, width]: 1 in an image's boxes, which end where latents do as the peer's do.</summary>
    Tensor Inside(ImageRequest request, int width, int height)
    {
        using var scope = NewDisposeScope();
        var (mask, place) = (zeros(1, height, width), Model.PixelsPerPlace);
        foreach (var box in request.Controls.OfType<BoxesControl>().SelectMany(static c => c.Boxes))
        {
            box.Check();
            var ((left, wide), (top, high)) = (Span(box.Left, box.Right, width / place), Span(box.Top, box.Bottom, height / place));
            mask.narrow(1, top, high).narrow(2, left, wide).fill_(1);
        }
        return mask.MoveToOuterDisposeScope();

        (int From, int Count) Span(double from, double to, int places)
        {
            var first = Math.Min((int)(from * places), places - 1);
            return (first * place, Math.Max((int)(to * places) - first, 1) * place);
        }
    }

    /// <summary>What is wanted and what is not, on the way to another image where there is one.</summary>
    (Conditioning Positive, Conditioning Negative) Describe(IReadOnlyList<ImageJob> batch, int width, int height)
    {
        var options = new PromptOptions { ClipSkip = batch[0].Request.ClipSkip, Size = (height, width), Picture = Model.ReadsPicture ? batch[0].Request.Image : null, Note = Note };
        var denies = Denies(batch[0].Request);
        string[] prompts = [.. batch.Select(j => Told(j.Request, j.Request.Prompt))], negatives = [.. batch.Select(static j => j.Request.NegativePrompt ?? "")];
        if (batch[0].Request.Toward is null) return Model.Describe(prompts, denies ? negatives : null, options);
        using var scope = NewDisposeScope();
        // Both ends are read together, so that both have as many tokens.
        var (wanted, unwanted) = Model.Describe([.. prompts, .. batch.Select(j => Told(j.Request, j.Request.Toward!.Prompt ?? j.Request.Prompt))],
            denies ? [.. negatives, .. batch.Select(static j => j.Request.Toward!.NegativePrompt ?? j.Request.NegativePrompt ?? "")] : null, options);
        double[] shares = [.. batch.Select(static j => j.Request.Toward!.Share)];
        return (Between(wanted).MoveToOuterDisposeScope(), Between(unwanted).MoveToOuterDisposeScope());

        Conditioning Between(Conditioning all) => Conditioning.Interpolate(all.Rows(0, batch.Count), all.Rows(batch.Count, batch.Count), shares);
    }

    /// <summary>What a batch's noise comes from, an image's from its seed.</summary>
    sealed class Seeded : IDisposable
    {
        readonly SeededNoise own, others;

        public Seeded(IReadOnlyList<ImageJob> batch)
        {
            var isBetween = batch[0].Request.Toward is not null;
            own = new(batch.Select(static j => j.Seed));
            // Image k of a request goes to image k of the other.
            others = new(isBetween ? batch.Select(static j => j.Request.Toward!.Seed is { } other ? other + j.Number : j.Seed) : []);
            Source = isBetween ? new Interpolation.Noise(own.Source, others.Source, [.. batch.Select(static j => j.Request.Toward!.Share)]) : own.Source;
        }

        public NoiseSource Source { get; }

        public void Dispose()
        {
            own.Dispose();
            others.Dispose();
        }
    }

    DiffusionScheduler SchedulerOf(ImageRequest request) => request.Sampler is { } sampler ? Model.Scheduler.Using(sampler) : Model.Scheduler;

    /// <summary>How latents are sampled. Strength leaves first steps out, but a latent consistency model's are picked from as much less of its teacher's: it takes all of its few.</summary>
    SamplingOptions Sampling(ImageRequest request, double strength) =>
        Model is StableDiffusion { AsksTwice: false } && SchedulerOf(request) is LcmScheduler ? new() { Eta = request.Eta, LcmStrength = strength } : new() { Eta = request.Eta, Strength = strength };

    /// <summary>The latents at a larger size, made anew in part.</summary>
    Tensor Enlarge(IReadOnlyList<ImageJob> batch, DiffusionTask task, Tensor latents, LatentUpscale upscale, (int Width, int Height) size, Report report, CancellationToken cancel)
    {
        var (width, height) = size;
        var (positive, negative) = Describe(batch, width, height);
        using var both = positive;
        using var unwanted = negative;
        using var controls = new ControlHooks(Model, [.. batch.Select(static j => j.Request)], size, size);
        report.Begin(task.Steps);
        return (task with
        {
            Positive = positive,
            Negative = negative,
            Width = width,
            Height = height,
            Image = null,
            Clean = nn.functional.interpolate(latents, [height / Model.PixelsPerPlace, width / Model.PixelsPerPlace], mode: upscale.Nearest ? InterpolationMode.Nearest : InterpolationMode.Bilinear, align_corners: upscale.Nearest ? null : false),
            Sampling = Sampling(batch[0].Request, upscale.Strength),
            Hooks = [.. controls.Hooks, .. batch[0].Request.Hooks, report],
        }).Run(Model, cancel);
    }

    /// <summary>The size of an image that is made larger.</summary>
    (int Width, int Height) Enlarged(int width, int height, LatentUpscale upscale)
    {
        return (Sized(width), Sized(height));

        int Sized(int side) => Math.Max(Model.Multiple, (int)Math.Round(side * upscale.Factor / Model.Multiple) * Model.Multiple);
    }

    /// <summary>The wanted size; a picture's own is brought to what the model makes, and a condition's to about the size that the model was made for.</summary>
    (int Width, int Height) SizeOf(ImageRequest request)
    {
        if ((request.Image is null || Model.ReadsPicture) && request.Controls.FirstOrDefault(static c => c is { Covers: true, Condition: not null })?.Condition is { } condition)
        {
            // A ControlNet's levels halve the latents as the UNet's do.
            var multiple = Model.Multiple << (Model is StableDiffusion sd ? sd.UNet.Config.BlockOutChannels.Length - 1 : 0);
            var scale = (double)Model.Side / Math.Min(condition.Width, condition.Height);
            return (request.Width ?? Near(condition.Width), request.Height ?? Near(condition.Height));

            int Near(int side) => (int)Math.Clamp(Math.Round(side * scale / multiple) * multiple, multiple, int.MaxValue);
        }
        if (request.Image is not { } image || Model.ReadsPicture) return (request.Width ?? Model.UsualSize.Width, request.Height ?? Model.UsualSize.Height);
        return (request.Width ?? Math.Max(Model.Multiple, image.Width / Model.Multiple * Model.Multiple), request.Height ?? Math.Max(Model.Multiple, image.Height / Model.Multiple * Model.Multiple));
    }

    /// <param name="pixels">[3, height, width] from 0 to 1</param>
    internal static Image ToImage(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Imaging.Image.FromTensor((pixels * 255).round().to(ScalarType.Byte));
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Model.GetType().Name} {Name}, {Model.Side}x{Model.Side}");

    public void Dispose() => Model.Dispose();

    /// <summary>What a batch's controls put between its steps.</summary>
    sealed class ControlHooks : IDisposable
    {
        readonly List<IStepHook> hooks = [];

        /// <param name="requests">One an image, whose controls join each other's.</param>
        /// <param name="size">Of the images that are made.</param>
        /// <param name="last">Of the images that come of them: conditions are kept at this size and brought from it to the other, so that the file of an image tells both.</param>
        public ControlHooks(DiffusionModel model, IReadOnlyList<ImageRequest> requests, (int Width, int Height) size, (int Width, int Height) last)
        {
            // Images of one request share their controls.
            var fitted = new Dictionary<ImageControl, (Image? Kept, Image? Shown)>(ReferenceEqualityComparer.Instance);
            foreach (var control in requests.SelectMany(static r => r.Controls))
            {
                if (fitted.ContainsKey(control)) continue;
                var condition = control.Condition;
                if (condition is null || !control.Covers) fitted[control] = (condition, condition);
                else
                {
                    var kept = ImageControl.Fitted(condition, last.Width, last.Height);
                    fitted[control] = (kept, ImageControl.Fitted(kept, size.Width, size.Height));
                }
            }
            Conditions = [.. requests.Select(r => (IReadOnlyList<Image?>)[.. r.Controls.Select(c => fitted[c].Kept)])];
            try
            {
                foreach (var k in Enumerable.Range(0, requests[0].Controls.Count).OrderBy(k => requests[0].Controls[k].Rank))
                {
                    ControlledImage[] images = [.. requests.Select(r => new ControlledImage(r.Controls[k], Told(model, r, Nearer(r)), fitted[r.Controls[k]].Shown))];
                    if (images.All(i => i.Control.Equals(images[0].Control) && (i.Prompt == images[0].Prompt || !i.Control.ReadsPrompt))) images = images[..1];
                    var hook = images[0].Control.Hook(model, images);
                    if (hook is Leading other && hooks is [.., Leading before]) before.Join(other);
                    else if (hook is not null) hooks.Add(hook);
                }
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        /// <summary>The words of the end that is nearer, where an image is on the way to another: at the ends it is theirs.</summary>
        static string Nearer(ImageRequest request) => request.Toward is { Share: >= 0.5, Prompt: { } other } ? other : request.Prompt;

        public IReadOnlyList<IStepHook> Hooks => hooks;

        /// <summary>Of every image the pictures of its controls.</summary>
        public IReadOnlyList<IReadOnlyList<Image?>> Conditions { get; }

        public void Dispose()
        {
            foreach (var hook in hooks) (hook as IDisposable)?.Dispose();
        }
    }

    /// <summary>Tells after every step how far a batch is.</summary>
    sealed class Report(Diffusion of, BatchReport to) : IStepHook
    {
        int behind;

        /// <summary>So many steps are behind, and others begin.</summary>
        public void Begin(int steps) => behind += steps;

        public void Stepped(DenoisingStep step)
        {
            var taken = step.Index + 1;
            // The last is shown as it is.
            to.Stepped(behind + (taken * step.Run.Steps / step.Run.Count), step.Before + 1, taken < step.Run.Count ? () => of.Preview(step.Clean) : null);
        }
    }

    Image Preview(Tensor clean)
    {
        using var scope = NewDisposeScope();
        var one = clean.narrow(0, 0, 1).to(ScalarType.Float32);
        var shrink = (int)((Math.Max(one.shape[2], one.shape[3]) + PreviewPlaces - 1) / PreviewPlaces);
        if (shrink > 1) one = nn.functional.avg_pool2d(one, shrink, ceil_mode: true);
        return ToImage(Model.Decode(one.to(Model.Dtype))[0]);
    }
}
