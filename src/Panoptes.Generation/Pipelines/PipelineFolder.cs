using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Generation;

/// <summary>
/// A whole pipeline as diffusers keeps it: a folder with model_index.json, which names the pipeline's class and its parts, and a folder for each part.
/// </summary>
public static class PipelineFolder
{
    public const string FileName = "model_index.json";

    /// <summary>The peer's, which folders name that are written here.</summary>
    internal const string PeerVersion = "0.42.1";

    /// <summary>The pipelines that can be read, by the peer's class: tasks are no classes here, so that several are one family.</summary>
    static readonly Dictionary<string, Func<PipelineParts, DiffusionModel>> Families = new(StringComparer.Ordinal)
    {
        ["StableDiffusionPipeline"] = StableDiffusion,
        ["StableDiffusionImg2ImgPipeline"] = StableDiffusion,
        ["StableDiffusionInpaintPipeline"] = StableDiffusion,
        ["StableDiffusionControlNetPipeline"] = StableDiffusion,
        ["StableDiffusionControlNetImg2ImgPipeline"] = StableDiffusion,
        ["StableDiffusionControlNetInpaintPipeline"] = StableDiffusion,
        ["StableDiffusionAdapterPipeline"] = StableDiffusion,
        ["LatentConsistencyModelPipeline"] = StableDiffusion,
        ["LatentConsistencyModelImg2ImgPipeline"] = StableDiffusion,
        ["StableDiffusionGLIGENPipeline"] = StableDiffusion,
        ["StableDiffusionGLIGENTextImagePipeline"] = StableDiffusion,
        ["StableDiffusionImageVariationPipeline"] = ImageVariations,
        ["StableDiffusionXLPipeline"] = StableDiffusionXl,
        ["StableDiffusionXLImg2ImgPipeline"] = StableDiffusionXl,
        ["StableDiffusionXLInpaintPipeline"] = StableDiffusionXl,
        ["StableDiffusionXLControlNetPipeline"] = StableDiffusionXl,
        ["StableDiffusionXLControlNetImg2ImgPipeline"] = StableDiffusionXl,
        ["StableDiffusionXLControlNetInpaintPipeline"] = StableDiffusionXl,
        ["StableDiffusionXLAdapterPipeline"] = StableDiffusionXl,
        ["StableDiffusion3Pipeline"] = StableDiffusion3,
        ["StableDiffusion3Img2ImgPipeline"] = StableDiffusion3,
        ["StableDiffusion3InpaintPipeline"] = StableDiffusion3,
        ["FluxPipeline"] = Flux,
        ["FluxImg2ImgPipeline"] = Flux,
        ["FluxInpaintPipeline"] = Flux,
        ["PixArtAlphaPipeline"] = PixArt,
        ["PixArtSigmaPipeline"] = PixArt,
        ["DiTPipeline"] = ClassDiffusion,
        ["DDPMPipeline"] = Unconditional,
        ["DDIMPipeline"] = Jumping,
        ["LDMPipeline"] = LatentCodes,
    };

    /// <summary>Whether a folder holds a pipeline.</summary>
    public static bool Is(string folder) => File.Exists(Path.Combine(folder, FileName));

    /// <summary>Loads a pipeline.</summary>
    /// <param name="folder">A diffusers folder.</param>
    /// <param name="options">The type that weights get; null: float32.</param>
    /// <param name="at">Where a part is, where it is not in the folder of its name.</param>
    /// <exception cref="PanoptesException">No pipeline, a class that is not supported, a part that is missing, or weights that do not fit.</exception>
    public static DiffusionModel Load(string folder, LoadOptions? options = null, Func<string, string?>? at = null)
    {
        if (!Directory.Exists(folder)) throw new PanoptesException($"{folder} is no folder; expected a pipeline's, with {FileName}.");
        var path = Path.Combine(folder, FileName);
        if (!File.Exists(path)) throw new PanoptesException($"{folder} has no {FileName}; expected a pipeline's folder.");
        var defaults = GenerationDefaults.In(folder);
        var model = Load(new FolderParts(folder, Index(path), options ?? new(), at), path);
        model.Defaults = defaults;
        return model;
    }

    /// <summary>Puts a pipeline of the parts' class together; they are let go of either way.</summary>
    /// <param name="source">What says the class, for the error.</param>
    internal static DiffusionModel Load(PipelineParts parts, string source)
    {
        using var own = parts;
        var name = parts.ClassName;
        if (!Families.TryGetValue(name, out var family)) throw new PanoptesException($"{source}: _class_name is {name}, which is not one of {string.Join(", ", Families.Keys)}.");
        var loaded = family(parts);
        parts.Keep();
        return loaded;
    }

    /// <summary>What a folder says that it holds: the pipeline's class, and its parts.</summary>
    /// <exception cref="PanoptesException">No pipeline, or a damaged one.</exception>
    public static (string Pipeline, IReadOnlyList<NamedPart> Parts) Describe(string folder)
    {
        using var parts = PartsOf(folder, new());
        return (parts.ClassName, [.. parts.Named]);
    }

    /// <summary>The folders of a pipeline's own ControlNets and T2I-Adapters, which stand beside its model: it makes images without them, too.</summary>
    /// <exception cref="PanoptesException">A damaged pipeline.</exception>
    public static (string[] ControlNets, string[] Adapters) Controls(string folder)
    {
        if (!Is(folder)) return ([], []);
        using var parts = PartsOf(folder, new());
        return ([.. Several("controlnet")], [.. Several("adapter")]);

        // The peer numbers all but the first, adapters from the third on behind the number before.
        IEnumerable<string> Several(string part)
        {
            if (!parts.Has(part)) yield break;
            var last = Path.Combine(folder, part);
            for (var i = 1; Directory.Exists(last); i++)
            {
                yield return last;
                var next = Path.Combine(folder, $"{part}_{i}");
                last = Directory.Exists(next) ? next : $"{last}_{i}";
            }
        }
    }

    /// <summary>The parts of a folder.</summary>
    /// <exception cref="PanoptesException">No pipeline.</exception>
    internal static FolderParts PartsOf(string folder, LoadOptions options)
    {
        if (!Is(folder)) throw new PanoptesException($"{folder} is no pipeline's folder; expected one with {FileName}.");
        return new(folder, Index(Path.Combine(folder, FileName)), options, null);
    }

    /// <summary>Writes a pipeline as the peer reads it.</summary>
    /// <exception cref="PanoptesException">The files cannot be written.</exception>
    public static void Save(string folder, DiffusionModel model, SaveOptions? options = null)
    {
        var index = new JsonObject { ["_class_name"] = ClassOf(model), ["_diffusers_version"] = PeerVersion };
        Part("scheduler", null, model.Scheduler.ClassName);
        model.Scheduler.Save(Path.Combine(folder, "scheduler"));
        model.Defaults?.Save(folder);
        switch (model)
        {
            case StableDiffusion sd:
                Write("unet", sd.UNet);
                Clip("text_encoder", "tokenizer", sd.Prompts);
                if (sd is StableDiffusionXl xl)
                {
                    Clip("text_encoder_2", "tokenizer_2", xl.SecondPrompts);
                    index["force_zeros_for_empty_prompt"] = xl.ForceZerosForEmptyPrompt;
                }
                else
                {
                    (index["safety_checker"], index["requires_safety_checker"]) = (new JsonArray(null, null), false);
                }
                if (sd.Examples is { } examples)
                {
                    Vision("image_encoder", examples.Encoder);
                    Write("image_project", examples.Projection);
                    index["image_project"] = new JsonArray("stable_diffusion", "CLIPImageProjection");
                    Part("processor", "transformers", "CLIPProcessor");
                    sd.Prompts.Tokenizer.Save(Path.Combine(folder, "processor"));
                    examples.Processor.Save(Path.Combine(folder, "processor"));
                }
                index["feature_extractor"] = new JsonArray(null, null);
                break;
            case ImageVariations variations:
                Write("unet", variations.UNet);
                Vision("image_encoder", variations.Encoder);
                Part("feature_extractor", "transformers", "CLIPImageProcessor");
                variations.Processor.Save(Path.Combine(folder, "feature_extractor"));
                (index["safety_checker"], index["requires_safety_checker"]) = (new JsonArray(null, null), false);
                break;
            case StableDiffusion3 sd3:
                Write("transformer", sd3.Transformer);
                Clip("text_encoder", "tokenizer", sd3.FirstPrompts);
                Clip("text_encoder_2", "tokenizer_2", sd3.SecondPrompts);
                T5("text_encoder_3", "tokenizer_3", sd3.ThirdPrompts);
                break;
            case Flux flux:
                Write("transformer", flux.Transformer);
                Clip("text_encoder", "tokenizer", flux.FirstPrompts);
                T5("text_encoder_2", "tokenizer_2", flux.SecondPrompts);
                break;
            case PixArt pixart:
                Write("transformer", pixart.Transformer);
                T5("text_encoder", "tokenizer", pixart.Prompts);
                break;
            case UnconditionalDiffusion plain:
                Write("unet", plain.UNet);
                break;
            case ClassDiffusion dit:
                Write("transformer", dit.Transformer);
                if (dit.Names.Count > 0) index["id2label"] = new JsonObject(dit.Names.Select(static n => KeyValuePair.Create(n.Key.ToString(CultureInfo.InvariantCulture), (JsonNode?)n.Value)));
                break;
        }
        if (model.Autoencoder is CodeAutoencoder codes)
        {
            Part("vqvae", null, "VQModel");
            Models.Save(Path.Combine(folder, "vqvae"), codes.Model, options);
        }
        else if (model.Autoencoder is { } autoencoder) Write("vae", autoencoder);
        else if (model is StableDiffusion) Part("vae", null, null);
        AtomicFile.WriteText(Path.Combine(folder, FileName), index.ToJsonString(ModelConfig.JsonOptions) + "\n");

        void Part(string part, string? library, string? type) => index[part] = type is null ? new JsonArray(null, null) : new JsonArray(library ?? "diffusers", type);

        void Write(string part, Module module)
        {
            GenerationModels.Save(Path.Combine(folder, part), module, options);
            Part(part, null, GenerationModels.Registry.Entries.First(e => e.Type == module.GetType()).Architecture);
        }

        void Clip(string part, string tokenizer, ClipPrompts? prompts)
        {
            Part(part, "transformers", prompts is null ? null : prompts.Encoder.TextProjection is null ? "CLIPTextModel" : "CLIPTextModelWithProjection");
            Part(tokenizer, "transformers", prompts is null ? null : "CLIPTokenizer");
            if (prompts is null) return;
            Models.Save(Path.Combine(folder, part), prompts.Encoder, options);
            prompts.Tokenizer.Save(Path.Combine(folder, tokenizer));
        }

        void Vision(string part, ClipVisionModel encoder)
        {
            Part(part, "transformers", "CLIPVisionModelWithProjection");
            Models.Save(Path.Combine(folder, part), encoder, options);
        }

        void T5(string part, string tokenizer, T5Prompts? prompts)
        {
            Part(part, "transformers", prompts is null ? null : "T5EncoderModel");
            Part(tokenizer, "transformers", prompts is null ? null : "T5TokenizerFast");
            if (prompts is null) return;
            Models.Save(Path.Combine(folder, part), prompts.Encoder, options);
            prompts.Tokenizer.Save(Path.Combine(folder, tokenizer));
        }
    }

    /// <summary>The peer's class that makes images with the model; it has one for each task.</summary>
    static string ClassOf(DiffusionModel model) => model switch
    {
        StableDiffusionXl xl => xl.ChannelsRead > xl.LatentChannels ? "StableDiffusionXLInpaintPipeline" : "StableDiffusionXLPipeline",
        StableDiffusion sd => sd.Examples is not null ? "StableDiffusionGLIGENTextImagePipeline" : sd.UNet.PositionNet is not null ? "StableDiffusionGLIGENPipeline" : sd.ChannelsRead > sd.LatentChannels ? "StableDiffusionInpaintPipeline" : sd.AsksTwice ? "StableDiffusionPipeline" : "LatentConsistencyModelPipeline",
        ImageVariations _ => "StableDiffusionImageVariationPipeline",
        StableDiffusion3 _ => "StableDiffusion3Pipeline",
        Flux _ => "FluxPipeline",
        PixArt pixart => pixart.Prompts?.Length > Generation.PixArt.T5Length ? "PixArtSigmaPipeline" : "PixArtAlphaPipeline",
        ClassDiffusion _ => "DiTPipeline",
        UnconditionalDiffusion { Autoencoder: not null } => "LDMPipeline",
        UnconditionalDiffusion _ => model.Scheduler is DdpmScheduler ? "DDPMPipeline" : "DDIMPipeline",
        _ => throw new PanoptesException($"A {model.GetType().Name} cannot be written."),
    };

    internal static JsonObject Index(string path)
    {
        try
        {
            var index = JsonNode.Parse(ModelFolder.ReadText(path)) as JsonObject ?? throw new PanoptesException($"{path}: expected a JSON object.");
            _ = index.Count;                                                             // names are looked at here
            return index;
        }
        catch (Exception e) when (e is JsonException or ArgumentException)                // the other is what a name given twice throws
        {
            throw new PanoptesException($"{path}: {JsonFault.Of(e)}.", e);
        }
    }

    static StableDiffusion StableDiffusion(PipelineParts p)
    {
        var unet = p.Model<UNet2DConditionModel>("unet");
        // One that was trained on pixels has no autoencoder.
        return new(unet, p.Has("vae") || unet.Config.InChannels != 3 ? p.Autoencoder() : null, p.Clip("text_encoder", "tokenizer"), p.Scheduler())
        {
            Examples = p.Has("image_encoder") && p.Has("image_project") ? p.Examples("image_encoder", "image_project", "processor") : null,
        };
    }

    static ImageVariations ImageVariations(PipelineParts p) => new(p.Model<UNet2DConditionModel>("unet"), p.Autoencoder(), p.Vision("image_encoder"), p.LoadProcessor("feature_extractor"), p.Scheduler());

    static StableDiffusionXl StableDiffusionXl(PipelineParts p) =>
        new(p.Model<UNet2DConditionModel>("unet"), p.Autoencoder(), p.Clip("text_encoder", "tokenizer"), p.Clip("text_encoder_2", "tokenizer_2"), p.Scheduler(), p.Flag("force_zeros_for_empty_prompt", true));

    static StableDiffusion3 StableDiffusion3(PipelineParts p) => new(p.Model<Sd3Transformer>("transformer"), p.Autoencoder(), p.Has("text_encoder") ? p.Clip("text_encoder", "tokenizer") : null,
        p.Has("text_encoder_2") ? p.Clip("text_encoder_2", "tokenizer_2") : null, p.Has("text_encoder_3") ? p.T5("text_encoder_3", "tokenizer_3", Generation.StableDiffusion3.T5Length, masked: false) : null, p.Scheduler());

    static Flux Flux(PipelineParts p) => new(p.Model<FluxTransformer>("transformer"), p.Autoencoder(), p.Has("text_encoder") ? p.Clip("text_encoder", "tokenizer") : null,
        p.Has("text_encoder_2") ? p.T5("text_encoder_2", "tokenizer_2", Generation.Flux.T5Length, masked: false) : null, p.Scheduler());

    static PixArt PixArt(PipelineParts p) => new(p.Model<PixArtTransformer>("transformer"), p.Autoencoder(),
        p.Has("text_encoder") ? p.T5("text_encoder", "tokenizer", p.ClassName == "PixArtSigmaPipeline" ? 300 : Generation.PixArt.T5Length, masked: true) : null, p.Scheduler());

    static UnconditionalDiffusion Unconditional(PipelineParts p) => new(p.Model<UNet2DModel>("unet"), p.Scheduler());

    /// <summary>The peer's jumps whatever its folder's scheduler is.</summary>
    static UnconditionalDiffusion Jumping(PipelineParts p) => new(p.Model<UNet2DModel>("unet"), (DiffusionScheduler)p.Scheduler().As(typeof(DdimScheduler)));

    static UnconditionalDiffusion LatentCodes(PipelineParts p) => new(p.Model<UNet2DModel>("unet"), p.Scheduler(), p.Codes("vqvae"));

    static ClassDiffusion ClassDiffusion(PipelineParts p) => new(p.Model<DitTransformer>("transformer"), p.Autoencoder(), p.Scheduler(), p.ClassNames());
}
