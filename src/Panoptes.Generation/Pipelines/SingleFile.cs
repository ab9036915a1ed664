using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Generation;

/// <summary>
/// A whole pipeline as one file in the form of the original code, .safetensors or .ckpt: Stable Diffusion 1, 2 and XL, SD 3 and Flux. Sizes follow from keys and shapes, the rest is as in the family's public checkpoints
/// (<see cref="OriginalConfigs"/>); a diffusers folder may say it, and give parts that the file has not. Names: <see cref="OriginalKeys"/>.
/// </summary>
public static class SingleFile
{
    static readonly string[] UNetParts = ["time_embed.", "label_emb.", "input_blocks.", "middle_block.", "output_blocks.", "out.", "position_net."];

    const string Denoiser = "model.diffusion_model.", Control = "control_model.";

    /// <summary>Whether a file holds a ControlNet under the original names, alone or beside a pipeline.</summary>
    public static bool HoldsControlNet(string file)
    {
        if (!File.Exists(file) || file.EndsWith(".json", StringComparison.OrdinalIgnoreCase)) return false;
        using var weights = Weights.Open(file);
        return weights.Contains(Control + "zero_convs.0.0.weight") || weights.Contains("zero_convs.0.0.weight");
    }

    /// <summary>Whether a file holds a pipeline under the original names, or its network alone.</summary>
    public static bool HoldsPipeline(string file)
    {
        if (!File.Exists(file) || file.EndsWith(".json", StringComparison.OrdinalIgnoreCase)) return false;
        using var weights = Weights.Open(file);
        return weights.Contains("joint_blocks.0.x_block.attn.qkv.weight") || weights.Contains("double_blocks.0.img_attn.qkv.weight") || weights.Keys.Any(static k => k.StartsWith(Denoiser, StringComparison.Ordinal));
    }

    /// <summary>Loads a ControlNet of Stable Diffusion 1 or 2 from a file of the original form, .safetensors or .pth.</summary>
    /// <param name="file">The file.</param>
    /// <param name="options">The type that weights get; null: float32.</param>
    /// <param name="config">The folder of a ControlNet whose config.json counts instead of what the shapes tell; null: none.</param>
    /// <exception cref="PanoptesException">No such file, one that holds no ControlNet, or weights that do not fit.</exception>
    public static ControlNetModel LoadControlNet(string file, LoadOptions? options = null, string? config = null)
    {
        using var weights = Weights.Open(file);
        var prefix = weights.Contains(Control + "zero_convs.0.0.weight") ? Control : "";
        if (!weights.Contains(prefix + "zero_convs.0.0.weight")) throw new PanoptesException($"{file} holds no ControlNet under the original names ({Control}…).");
        ControlNetModel? model = null;
        try
        {
            model = new(config is not null ? ModelFolder.ReadConfig<ControlNetConfig>(config) : OriginalConfigs.ControlNet(key => weights.Contains(prefix + key) ? weights.Info(prefix + key).Shape : null));
            using var own = new OriginalWeights(weights, prefix, model, OriginalKeys.ControlNet(model.Config));
            ModelFolder.Load(model, own, options ?? new());
            return model;
        }
        catch (PanoptesException e) when (!e.Message.StartsWith(file, StringComparison.Ordinal))
        {
            model?.Dispose();
            throw new PanoptesException($"{file}: {e.Message}", e);
        }
        catch
        {
            model?.Dispose();
            throw;
        }
    }

    /// <summary>Writes a ControlNet's weights as one file of the original form.</summary>
    /// <exception cref="PanoptesException">The file cannot be written.</exception>
    public static void Save(string file, ControlNetModel model)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        SafeTensors.Save(file, OriginalWeights.Of(model, Control, OriginalKeys.ControlNet(model.Config)), new Dictionary<string, string> { ["format"] = "pt" });
    }

    /// <summary>Loads a pipeline.</summary>
    /// <param name="file">The file.</param>
    /// <param name="options">The type that weights get; null: float32.</param>
    /// <param name="config">A diffusers folder whose settings (a part's config.json, the scheduler, the tokenizers) count instead of the usual ones, and whose parts are taken where the file has none; null: none.</param>
    /// <exception cref="PanoptesException">No such file, one that is no pipeline, a part that is missing, or weights that do not fit.</exception>
    public static DiffusionModel Load(string file, LoadOptions? options = null, string? config = null)
    {
        options ??= new();
        using var weights = Weights.Open(file);
        return PipelineFolder.Load(new FileParts(weights, options, config is null ? null : PipelineFolder.PartsOf(config, options)), file);
    }

    /// <summary>Writes a pipeline's weights as one file of the original form; what such a file cannot hold, its settings and tokenizers, is left out.</summary>
    /// <exception cref="PanoptesException">The pipeline has no original form, or the file cannot be written.</exception>
    public static void Save(string file, DiffusionModel model, SaveOptions? options = null)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var autoencoder = model.Autoencoder as AutoencoderKl ?? throw new PanoptesException($"A model that works on {(model.Autoencoder is null ? "pixels" : $"latents of {model.Autoencoder.GetType().Name}")} has no original form; expected one with an AutoencoderKL.");
        IEnumerable<KeyValuePair<string, Tensor>> tensors = model switch
        {
            StableDiffusion { Examples: not null } => throw new PanoptesException("A GLIGEN that takes example images has no original form: no such file holds what reads them."),
            StableDiffusionXl xl => [.. UNet(xl), .. Clip(xl.Prompts, "conditioner.embedders.0.transformer."), .. OpenClip(xl.SecondPrompts, "conditioner.embedders.1.model.")],
            StableDiffusion sd when sd.UNet.Config is { UseLinearProjection: true } => [.. UNet(sd), .. OpenClip(sd.Prompts, "cond_stage_model.model.")],
            StableDiffusion sd => [.. UNet(sd), .. Clip(sd.Prompts, "cond_stage_model.transformer.")],
            StableDiffusion3 sd3 => [.. OriginalWeights.Of(sd3.Transformer, Denoiser, OriginalKeys.Sd3(sd3.Transformer.Config)), .. Clip(sd3.FirstPrompts, "text_encoders.clip_l.transformer."), .. Clip(sd3.SecondPrompts, "text_encoders.clip_g.transformer."), .. T5(sd3.ThirdPrompts)],
            Flux flux => [.. OriginalWeights.Of(flux.Transformer, Denoiser, OriginalKeys.Flux), .. Clip(flux.FirstPrompts, "text_encoders.clip_l.transformer."), .. T5(flux.SecondPrompts)],
            _ => throw new PanoptesException($"A {model.GetType().Name} has no original form; expected a Stable Diffusion or a Flux."),
        };
        var all = tensors.Concat(Placed(autoencoder, "first_stage_model.", OriginalKeys.Autoencoder(autoencoder.Config), static name => !name.Contains("_block", StringComparison.Ordinal)));
        if (options?.Dtype is { } dtype) all = all.Select(t => KeyValuePair.Create(t.Key, t.Value.to(dtype)));
        SafeTensors.Save(file, all, new Dictionary<string, string>(options?.Metadata ?? new Dictionary<string, string>()) { ["format"] = "pt" });

        static IEnumerable<KeyValuePair<string, Tensor>> UNet(StableDiffusion sd) => Placed(sd.UNet, Denoiser, OriginalKeys.UNet(sd.UNet.Config), static name => UNetParts.Any(p => name.StartsWith(p, StringComparison.Ordinal)));
        static IEnumerable<KeyValuePair<string, Tensor>> Clip(ClipPrompts? prompts, string prefix) => prompts is null ? [] : OriginalWeights.Of(prompts.Encoder, prefix, static k => new(k));
        static IEnumerable<KeyValuePair<string, Tensor>> OpenClip(ClipPrompts prompts, string prefix) => OriginalWeights.Of(prompts.Encoder, prefix, OriginalKeys.OpenClipText);
        static IEnumerable<KeyValuePair<string, Tensor>> T5(T5Prompts? prompts) => prompts is null ? [] : OriginalWeights.Of(prompts.Encoder, "text_encoders.t5xxl.transformer.", static k => new(k));
    }

    /// <summary>A part's weights as an original file has them.</summary>
    /// <exception cref="PanoptesException">The original code has no place for one of them, or one place for several.</exception>
    static IEnumerable<KeyValuePair<string, Tensor>> Placed(Module part, string prefix, Func<string, OriginalKey> keys, Func<string, bool> isOriginal)
    {
        foreach (var place in part.DistinctParameters().GroupBy(p => keys(p.Key).Name, static p => p.Key, StringComparer.Ordinal))
            if (place.Count() > 1 || !isOriginal(place.Key)) throw new PanoptesException($"The original code has no place for {place.Last()} of the {part.GetType().Name}; such a model is kept as a folder alone.");
        return OriginalWeights.Of(part, prefix, keys);
    }

    /// <summary>The parts of one original file, and of a folder what it has not.</summary>
    sealed class FileParts : PipelineParts
    {
        readonly Weights file;
        readonly FolderParts? folder;
        readonly OriginalFamily family;
        readonly string denoiser;

        /// <param name="file">Stays the caller's.</param>
        /// <param name="folder">Becomes this one's.</param>
        public FileParts(Weights file, LoadOptions options, FolderParts? folder) : base(options)
        {
            (this.file, this.folder) = (file, folder);
            denoiser = Begins(Denoiser) ? Denoiser : "";
            family = Family();
        }

        public override string ClassName => family switch
        {
            OriginalFamily.StableDiffusionXl => "StableDiffusionXLPipeline",
            OriginalFamily.StableDiffusion3 => "StableDiffusion3Pipeline",
            OriginalFamily.Flux => "FluxPipeline",
            _ => "StableDiffusionPipeline",
        };

        public override bool Has(string part) => PrefixOf(part) is not null || folder?.Has(part) == true;

        public override bool Flag(string field, bool usual) => folder?.Flag(field, usual) ?? usual;

        public override OrderedDictionary<int, string> ClassNames() => [];

        public override DiffusionScheduler Scheduler() => folder?.Find("scheduler") is not null ? folder.Scheduler()
            : (DiffusionScheduler)Generation.Scheduler.Parse(OriginalConfigs.Scheduler(family, Shape($"{denoiser}input_blocks.0.0.weight") is [_, > 4, ..], Shape($"{denoiser}guidance_in.in_layer.weight") is not null), file.Source);

        internal override T LoadModel<T>(string part)
        {
            if (PrefixOf(part) is not { } prefix) return (folder ?? throw Lacks(part)).LoadModel<T>(part);
            return (T)(part switch
            {
                "unet" => Read(prefix, Config(part, () => OriginalConfigs.UNet(Behind(prefix), family, Shape("conditioner.embedders.1.model.text_projection") is [_, var pooled] ? (int)pooled : 1280)), static c => new UNet2DConditionModel(c), static m => OriginalKeys.UNet(m.Config)),
                "vae" => Read(prefix, Config(part, () => OriginalConfigs.Autoencoder(Behind(prefix), family)), static c => new AutoencoderKl(c), static m => OriginalKeys.Autoencoder(m.Config)),
                _ when family == OriginalFamily.Flux => Read(prefix, Config(part, () => OriginalConfigs.Flux(Behind(prefix))), static c => new FluxTransformer(c), static _ => OriginalKeys.Flux),
                _ => (Module)Read(prefix, Config(part, () => OriginalConfigs.Sd3(Behind(prefix))), static c => new Sd3Transformer(c), static m => OriginalKeys.Sd3(m.Config)),
            });
        }

        internal override ClipTextModel LoadClip(string part)
        {
            if (PrefixOf(part) is not { } prefix) return (folder ?? throw Lacks(part)).LoadClip(part);
            if (prefix.EndsWith(".model.", StringComparison.Ordinal))
                return Read(prefix, Config(part, () => OriginalConfigs.OpenClip(Behind(prefix), family)), c => new ClipTextModel(c, family == OriginalFamily.StableDiffusionXl ? Columns(prefix + "text_projection") : null), static _ => OriginalKeys.OpenClipText,
                    key => key == "logit_scale" || (family == OriginalFamily.StableDiffusion2 && (key == "text_projection" || key.StartsWith($"transformer.resblocks.{OriginalConfigs.LeftOutLayer}.", StringComparison.Ordinal))));
            var projected = family == OriginalFamily.StableDiffusion3;
            var projection = Shape(prefix + "text_projection.weight");
            var model = Read(prefix, Config(part, () => OriginalConfigs.Clip(Behind(prefix), part == "text_encoder" ? Activation.QuickGelu : Activation.Gelu)), c => new ClipTextModel(c, projected ? projection is [var rows, _] ? (int)rows : c.HiddenSize : null), static _ => static k => new(k),
                key => key is "text_projection.weight" or "logit_scale", static key => key == "text_projection.weight");
            // SD 3's files leave the smaller CLIP's projection out: it changes nothing.
            if (projected && projection is null) model.TextProjection!.Weight.Assign(eye(model.Config.HiddenSize, dtype: Options.Dtype ?? ScalarType.Float32));
            return model;
        }

        internal override T5EncoderModel LoadT5(string part) => PrefixOf(part) is not { } prefix ? (folder ?? throw Lacks(part)).LoadT5(part)
            : Read(prefix, Config(part, () => OriginalConfigs.T5(Behind(prefix))), static c => new T5EncoderModel(c), static _ => static k => new(k), static key => key is "encoder.embed_tokens.weight");

        internal override VqModel LoadCodes(string part) => (folder ?? throw Lacks(part)).LoadCodes(part);

        internal override ClipVisionModel LoadVision(string part) => (folder ?? throw Lacks(part)).LoadVision(part);

        internal override ImageProcessor LoadProcessor(string part) => (folder ?? throw Lacks(part)).LoadProcessor(part);

        internal override Tokenizer LoadTokenizer(string part)
        {
            if (folder?.Find(part) is not null) return folder.LoadTokenizer(part);
            if (part == (family == OriginalFamily.StableDiffusion3 ? "tokenizer_3" : family == OriginalFamily.Flux ? "tokenizer_2" : ""))
                throw new PanoptesException($"{file.Source} is read by T5, whose tokenizer no such file holds; name a pipeline's folder with {part} (--config).");
            // open_clip fills up with the first token of the vocabulary, OpenAI with the end.
            return ClipTokenizer.OpenAi(padToken: part == "tokenizer_2" || family == OriginalFamily.StableDiffusion2 ? "!" : null);
        }

        public override void Dispose()
        {
            base.Dispose();
            folder?.Dispose();
        }

        OriginalFamily Family()
        {
            bool Has(string key) => file.Contains(denoiser + key);
            if (Has("joint_blocks.0.x_block.attn.qkv.weight")) return OriginalFamily.StableDiffusion3;
            if (Has("double_blocks.0.img_attn.qkv.weight")) return OriginalFamily.Flux;
            if (Begins("conditioner.embedders.0.model.")) throw new PanoptesException($"{file.Source} is SDXL's refiner, which is not supported; expected a base model.");
            if (denoiser.Length > 0 && Has("input_blocks.0.0.weight"))
            {
                if (file.Contains("edm_mean")) throw new PanoptesException($"{file.Source} is Playground 2.5's, whose noise levels and latents are others than SDXL's; it is not supported.");
                if (Has("label_emb.0.0.weight")) return OriginalFamily.StableDiffusionXl;
                // Stable Diffusion 1 projects by convolutions, 2 by matrices.
                return file.Keys.FirstOrDefault(k => k.StartsWith(denoiser, StringComparison.Ordinal) && k.EndsWith(".proj_in.weight", StringComparison.Ordinal)) is { } key && Shape(key) is { Length: 2 } ? OriginalFamily.StableDiffusion2 : OriginalFamily.StableDiffusion1;
            }
            var told = Begins("lora_") || file.Keys.Any(static k => k.Contains("lora_", StringComparison.Ordinal)) ? "is a LoRA"
                : Begins(Control) ? "is a ControlNet"
                : Begins("down_blocks.") || Begins("transformer_blocks.") || Begins("encoder.down_blocks.") ? "is one part of a pipeline, under diffusers' names"
                : $"begins with {Shown(file.Keys.FirstOrDefault() ?? "nothing")}";
            throw new PanoptesException($"{file.Source} {told}; expected a whole Stable Diffusion, SD 3 or Flux in one file ({Denoiser}…), or a pipeline's folder.");
        }

        static string Shown(string key) => key.Length > 80 ? key[..80] + "…" : key;

        /// <summary>What a part's keys begin with; null where the file has none of them.</summary>
        string? PrefixOf(string part)
        {
            string[] prefixes = (part, family) switch
            {
                ("unet" or "transformer", _) => [denoiser],
                ("vae", _) => ["first_stage_model.", "vae."],
                ("text_encoder", OriginalFamily.StableDiffusion1) => ["cond_stage_model.transformer."],
                ("text_encoder", OriginalFamily.StableDiffusion2) => ["cond_stage_model.model."],
                ("text_encoder", OriginalFamily.StableDiffusionXl) => ["conditioner.embedders.0.transformer."],
                ("text_encoder_2", OriginalFamily.StableDiffusionXl) => ["conditioner.embedders.1.model."],
                ("text_encoder", OriginalFamily.StableDiffusion3 or OriginalFamily.Flux) => ["text_encoders.clip_l.transformer."],
                ("text_encoder_2", OriginalFamily.StableDiffusion3) => ["text_encoders.clip_g.transformer."],
                ("text_encoder_3", OriginalFamily.StableDiffusion3) or ("text_encoder_2", OriginalFamily.Flux) => ["text_encoders.t5xxl.transformer."],
                _ => [],
            };
            return Array.Find(prefixes, Begins);
        }

        bool Begins(string prefix) => file.Keys.Any(k => k.StartsWith(prefix, StringComparison.Ordinal));

        long[]? Shape(string key) => file.Contains(key) ? file.Info(key).Shape : null;

        int? Columns(string key) => Shape(key) is [_, var columns] ? (int)columns : null;

        Func<string, long[]?> Behind(string prefix) => key => Shape(prefix + key);

        PanoptesException Lacks(string part) => new($"{file.Source} has no {part}; name a pipeline's folder that has one (--config).");

        /// <summary>A part's settings: the folder's, or those that its shapes tell.</summary>
        T Config<T>(string part, Func<T> told) where T : ModelConfig
        {
            if (folder?.Find(part) is { } known && File.Exists(Path.Combine(known, "config.json"))) return ModelFolder.ReadConfig<T>(known);
            try
            {
                return told();
            }
            catch (PanoptesException e)
            {
                throw new PanoptesException($"{file.Source}: {e.Message.TrimEnd('.')}; a pipeline's folder may tell its settings (--config).", e);
            }
        }

        TModel Read<TConfig, TModel>(string prefix, TConfig config, Func<TConfig, TModel> build, Func<TModel, Func<string, OriginalKey>> keys, Func<string, bool>? ignored = null, Func<string, bool>? optional = null) where TModel : Module
        {
            TModel? model = null;
            try
            {
                model = build(config);
                using var own = new OriginalWeights(file, prefix, model, keys(model));
                // Moving averages and losses of the training are no part of a model.
                ModelFolder.Load(model, own, Options with { Ignored = key => key.StartsWith("loss.", StringComparison.Ordinal) || key.StartsWith("model_ema.", StringComparison.Ordinal) || ignored?.Invoke(key) == true, Optional = optional });
                return model;
            }
            catch (PanoptesException e) when (!e.Message.StartsWith(file.Source, StringComparison.Ordinal))
            {
                model?.Dispose();
                throw new PanoptesException($"{file.Source}: {e.Message}", e);
            }
            catch
            {
                model?.Dispose();
                throw;
            }
        }
    }
}
