using System.Text.Json;
using Panoptes.Generation;
using Panoptes.Nn;

namespace Panoptes.Parity.Adapters;

/// <summary>Whole pipelines of diffusers: prompts to latents and pictures.</summary>
sealed class PipelineAdapter : IAdapter
{
    static readonly string[] Classes =
    [
        "StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline", "StableDiffusionXLPipeline", "StableDiffusionGLIGENPipeline", "StableDiffusionControlNetPipeline",
        "StableDiffusionControlNetImg2ImgPipeline", "StableDiffusionControlNetInpaintPipeline", "StableDiffusionAdapterPipeline", "StableDiffusionXLAdapterPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline",
        "StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline", "FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline", "DiTPipeline",
    ];

    public bool Matches(ParityCase c) => c.Call is "__call__" or "from_single_file" && Classes.Contains(c.Architecture);

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        string? At(string part) => c.Arguments.TryGetProperty("weights", out var weights) && weights.TryGetProperty(part, out var path) ? c.File(path.GetString()!) : null;
        // A case without a model_index.json has its parts in its siblings.
        using var model = c.Call == "from_single_file" ? SingleFile.Load(c.File("original.safetensors"), config: c.File(c.Arguments.GetProperty("config").GetString()!)) : PipelineFolder.Load(c.HasFile(PipelineFolder.FileName) ? c.Folder : Path.GetDirectoryName(At("unet"))!, at: At);
        var (height, width) = SizeOf(c, model);
        var (positive, negative) = Describe(c, model, height, width);
        using var wanted = positive;
        using var unwanted = negative;
        var steps = new Recorded();
        using var boxes = BoxesOf(c, model);
        var (rows, columns) = (height / model.PixelsPerPlace, width / model.PixelsPerPlace);
        var isPacked = model is Flux;
        var control = c.Architecture switch { "StableDiffusionControlNetPipeline" or "StableDiffusionControlNetImg2ImgPipeline" or "StableDiffusionControlNetInpaintPipeline" => "controlnet", "StableDiffusionAdapterPipeline" or "StableDiffusionXLAdapterPipeline" => "adapter", _ => null };
        string[] folders = [.. control is not null ? Enumerable.Range(0, Math.Max(1, c.InputNames.Count(static n => n.StartsWith("image.", StringComparison.Ordinal)))).Select(k => k == 0 ? control : $"{control}_{k}") : []];
        Module[] networks = [.. folders.Select(f => GenerationModels.Load(At(f) ?? c.File(f)))];
        using var owned = new Owned(networks);
        IStepHook[] controls = [.. Controls(c, networks)];
        using var ownedControls = new Owned(controls.OfType<IDisposable>());
        var task = new DiffusionTask
        {
            Positive = positive,
            Negative = negative,
            Height = height,
            Width = width,
            Steps = c.Arguments.GetProperty("num_inference_steps").GetInt32(),
            Guidance = Number(c, "guidance_scale", 1),
            Rescale = Number(c, "guidance_rescale", 0),
            Sampling = new() { Strength = Number(c, "strength", 1), Eta = Number(c, "eta", 0) },
            Noise = new GivenNoise(c),
            Latents = c.HasInput("latents") ? isPacked ? FluxTransformer.Unpack(c.Input("latents"), rows / 2, columns / 2) : c.Input("latents") : null,
            Image = c.HasInput("image") && (control is null || c.HasInput("control_image")) ? c.Input("image") : null,
            Mask = c.HasInput("mask_image") ? c.Input("mask_image") : null,
            Hooks = [.. boxes is null ? (IStepHook[])[] : [boxes], .. controls, steps],
        };
        var latents = task.Run(model);
        var image = model.Decode(latents);
        if (c.HasOutput("latents")) yield return ("latents", isPacked ? FluxTransformer.Pack(latents) : latents);
        if (c.HasOutput("image")) yield return ("image", c.Output("image").shape[^1] == 3 && c.Output("image").shape[1] != 3 ? image.permute(0, 2, 3, 1) : image);
        if (c.HasOutput("steps")) yield return ("steps", stack(steps.Latents));
        if (c.HasOutput("timesteps")) yield return ("timesteps", steps.Run!.HasWholeTimesteps ? tensor(steps.Run.Timesteps.Select(static t => (long)t).ToArray()) : tensor(steps.Run.Timesteps.Select(static t => (float)t).ToArray()));
        if (c.HasOutput("sigmas")) yield return ("sigmas", tensor(steps.Run!.Sigmas.ToArray()));
        if (c.HasOutput("prompt_embeds")) yield return ("prompt_embeds", positive.Text!);
        if (c.HasOutput("negative_prompt_embeds")) yield return ("negative_prompt_embeds", negative!.Text!);
        if (c.HasOutput("pooled_prompt_embeds")) yield return ("pooled_prompt_embeds", positive.Pooled!);
        if (c.HasOutput("negative_pooled_prompt_embeds")) yield return ("negative_pooled_prompt_embeds", negative!.Pooled!);
        if (c.HasOutput("input_ids")) yield return ("input_ids", Ids(((StableDiffusion)model).Prompts));
        if (c.HasOutput("input_ids_2")) yield return ("input_ids_2", Ids(((StableDiffusionXl)model).SecondPrompts));
        if (c.HasOutput("phrase_embeddings"))
        {
            var prompts = ((StableDiffusion)model).Prompts;
            string[] phrases = [.. c.Arguments.GetProperty("gligen_phrases").EnumerateArray().Select(static p => p.GetString()!)];
            yield return ("phrase_embeddings", prompts.Read(phrases, 0, null, phrases.Length, normalized: true, null).Pooled);
            var ids = phrases.Select(p => prompts.Tokenizer.Encode(p)).ToArray();
            var longest = ids.Max(static i => i.Length);
            yield return ("phrase_ids", tensor([.. ids.SelectMany(i => i.Concat(Enumerable.Repeat(prompts.Tokenizer.PadId!.Value, longest - i.Length)).Select(static id => (long)id))], [ids.Length, longest]));
        }

        // The prompts, or one and what is not wanted with it.
        Tensor Ids(ClipPrompts prompts) => tensor([.. (Texts(c, "prompt") is [var one] ? [one, Texts(c, "negative_prompt") is [var no] ? no : ""] : Texts(c, "prompt")!)
            .SelectMany(p => PromptTokens.Of(p, prompts.Tokenizer, prompts.Encoder.ContextLength).Windows[0].Select(static id => (long)id))]).view(-1, prompts.Encoder.ContextLength);
    }

    static (int Height, int Width) SizeOf(ParityCase c, DiffusionModel model) =>
        (c.HasInput("image") ? "image" : c.HasInput("image.0") ? "image.0" : null) is { } image ? ((int)c.Input(image).shape[2], (int)c.Input(image).shape[3])
        : c.Arguments.TryGetProperty("height", out var height) ? (height.GetInt32(), c.Arguments.GetProperty("width").GetInt32()) : (model.Side, model.Side);

    static (Conditioning Positive, Conditioning? Negative) Describe(ParityCase c, DiffusionModel model, int height, int width)
    {
        if (c.HasInput("prompt_embeds"))
            return (Given(""), c.HasInput("negative_prompt_embeds") ? Given("negative_") : null);
        if (c.Arguments.TryGetProperty("class_labels", out var classes)) return model.Describe([.. classes.EnumerateArray().Select(static k => k.ToString())], null, new());
        return model.Describe(Texts(c, "prompt")!, Texts(c, "negative_prompt"), new()
        {
            ClipSkip = c.Arguments.TryGetProperty("clip_skip", out var skip) ? skip.GetInt32() : null,
            Size = (height, width),
            OriginalSize = Pair("original_size"),
            Crop = Pair("crops_coords_top_left") ?? (0, 0),
            TargetSize = Pair("target_size"),
        });

        Conditioning Given(string prefix) => new() { Text = c.Input(prefix + "prompt_embeds").clone(), Pooled = c.Input(prefix + "pooled_prompt_embeds").clone() };

        (int, int)? Pair(string name) => c.Arguments.TryGetProperty(name, out var pair) ? (pair[0].GetInt32(), pair[1].GetInt32()) : null;
    }

    static GroundedBoxes? BoxesOf(ParityCase c, DiffusionModel model)
    {
        if (!c.Arguments.TryGetProperty("gligen_boxes", out var boxes)) return null;
        var phrases = c.Arguments.GetProperty("gligen_phrases");
        return new((StableDiffusion)model, [.. boxes.EnumerateArray().Select((b, i) => new PhraseBox(phrases[i].GetString()!, b[0].GetDouble(), b[1].GetDouble(), b[2].GetDouble(), b[3].GetDouble()))], Number(c, "gligen_scheduled_sampling_beta", 0.3));
    }

    static IEnumerable<IStepHook> Controls(ParityCase c, Module[] networks)
    {
        return networks.Select((network, k) =>
        {
            var condition = c.Input(c.HasInput("control_image") ? "control_image" : c.HasInput("image") ? "image" : $"image.{k}");
            return network is T2IAdapter adapter ? (IStepHook)new T2IAdapterCondition(adapter, condition, Of("adapter_conditioning_scale", 1, k), Number(c, "adapter_conditioning_factor", 1))
                : new ControlNetCondition((ControlNetModel)network, condition,
                    Of("controlnet_conditioning_scale", 1, k), Of("control_guidance_start", 0, k), Of("control_guidance_end", 1, k), c.Arguments.TryGetProperty("guess_mode", out var guess) && guess.GetBoolean());
        });

        double Of(string name, double usual, int k) => !c.Arguments.TryGetProperty(name, out var value) ? usual : value.ValueKind == JsonValueKind.Array ? value[k].GetDouble() : value.GetDouble();
    }

    sealed class Owned(IEnumerable<IDisposable> all) : IDisposable
    {
        public void Dispose()
        {
            foreach (var one in all) one.Dispose();
        }
    }

    static string[]? Texts(ParityCase c, string name) => !c.Arguments.TryGetProperty(name, out var value) ? null
        : value.ValueKind == JsonValueKind.Array ? [.. value.EnumerateArray().Select(static v => v.GetString()!)] : [value.GetString()!];

    static double Number(ParityCase c, string name, double usual) => c.Arguments.TryGetProperty(name, out var value) ? value.GetDouble() : usual;

    sealed class Recorded : IStepHook
    {
        public List<Tensor> Latents { get; } = [];

        public SchedulerRun? Run { get; private set; }

        public void Stepped(DenoisingStep step)
        {
            Run = step.Run;
            // Beyond the denoising's own scopes.
            Latents.Add(step.Latents.clone().MoveToOuterDisposeScope().MoveToOuterDisposeScope().MoveToOuterDisposeScope());
        }
    }
}

/// <summary>The noise that the peer drew, in its order.</summary>
sealed class GivenNoise(ParityCase c) : NoiseSource
{
    int drawn;

    public override Tensor Normal(long[] shape, ScalarType type) => c.Input($"noise.{drawn++}").to(type).alias();

    public override Tensor Uniform(long[] shape) => throw new PanoptesException("The case has no uniform noise.");

    public override Tensor Choose(Tensor weights) => throw new PanoptesException("The case has no choices.");
}
