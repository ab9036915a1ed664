using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>Every model of this library by its architecture: what loads, saves, reports and tests goes by this list.</summary>
public static class Models
{
    const string OpenClipFile = "open_clip_config.json";

    /// <summary>The parts that a whole model's file holds beside a tower's own.</summary>
    static readonly string[] Parts = ["text_model", "vision_model", "text_projection", "visual_projection", "logit_scale", "logit_bias"];

    public static IReadOnlyList<ModelEntry> All { get; } =
    [
        new("CLIPModel", "clip", typeof(ClipModel), static s => new ClipModel(s.Read<ClipConfig>()), static m => ((ClipModel)m).Config),
        new("CLIPTextModelWithProjection", null, typeof(ClipTextModel), ClipText, static m => ((ClipTextModel)m).Saved),
        new("CLIPTextModel", "clip_text_model", typeof(ClipTextModel), ClipText, static m => ((ClipTextModel)m).Saved),
        new("CLIPVisionModelWithProjection", null, typeof(ClipVisionModel), ClipVision, static m => ((ClipVisionModel)m).Saved),
        new("CLIPVisionModel", "clip_vision_model", typeof(ClipVisionModel), ClipVision, static m => ((ClipVisionModel)m).Saved),
        new("SiglipModel", "siglip", typeof(SiglipModel), static s => new SiglipModel(s.Read<SiglipConfig>()), static m => ((SiglipModel)m).Config),
        new("SiglipTextModel", "siglip_text_model", typeof(SiglipTextModel), SiglipText, static m => Saved((SiglipTextModel)m, "SiglipTextModel")),
        new("SiglipVisionModel", "siglip_vision_model", typeof(SiglipVisionModel), static s => new SiglipVisionModel(s.Read<SiglipVisionConfig>("vision_config")),
            static m => ((SiglipVisionModel)m).Config with { Architectures = ["SiglipVisionModel"] }),
        new("Siglip2Model", "siglip2", typeof(Siglip2Model), static s => new Siglip2Model(s.Read<SiglipConfig>()), static m => ((Siglip2Model)m).Config),
        new("Siglip2TextModel", "siglip2_text_model", typeof(SiglipTextModel), SiglipText, static m => Saved((SiglipTextModel)m, "Siglip2TextModel")),
        new("Siglip2VisionModel", "siglip2_vision_model", typeof(Siglip2VisionModel), static s => new Siglip2VisionModel(s.Read<SiglipVisionConfig>("vision_config")),
            static m => ((Siglip2VisionModel)m).Config with { Architectures = ["Siglip2VisionModel"] }),
        new("VisionTextDualEncoderModel", "vision-text-dual-encoder", typeof(VisionTextDualEncoder), VisionText, static m => ((VisionTextDualEncoder)m).Config),
        new("ImageBindModel", null, typeof(ImageBindModel), static s => new ImageBindModel(s.Config.Length == 0 ? new() : s.Read<ImageBindConfig>()), static m => ((ImageBindModel)m).Config),
        new("BoundEncoder", "bound_encoder", typeof(BoundEncoder), Bound, static m => ((BoundEncoder)m).Config),
        new("Eva", null, typeof(TimmEva), static s => new TimmEva(s.Read<EvaConfig>()), static m => ((TimmEva)m).Config),
        new("StairModel", "stair", typeof(StairModel), Stair, static m => ((StairModel)m).Config),
        new("ViTModel", "vit", typeof(VitModel), Vit, static m => ((VitModel)m).Config with { Architectures = ["ViTModel"] }) { Prefix = "vit." },
        new("ViTForImageClassification", null, typeof(VitForImageClassification), static s => new VitForImageClassification(s.Read<VitConfig>()),
            static m => ((VitForImageClassification)m).Vit.Config with { Architectures = ["ViTForImageClassification"] }),
        new("Dinov2Model", "dinov2", typeof(Dinov2Model), static s => new Dinov2Model(s.Read<Dinov2Config>()),
            static m => ((Dinov2Model)m).Config with { Architectures = ["Dinov2Model"] }) { Prefix = "dinov2." },
        new("Dinov2WithRegistersModel", "dinov2_with_registers", typeof(Dinov2WithRegistersModel), static s => new Dinov2WithRegistersModel(s.Read<Dinov2WithRegistersConfig>()),
            static m => ((Dinov2WithRegistersModel)m).Config with { Architectures = ["Dinov2WithRegistersModel"] }) { Prefix = "dinov2_with_registers." },
        new("DINOv3ViTModel", "dinov3_vit", typeof(Dinov3VitModel), static s => new Dinov3VitModel(s.Read<Dinov3VitConfig>()),
            static m => ((Dinov3VitModel)m).Config with { Architectures = ["DINOv3ViTModel"] }),
        new("SwinModel", "swin", typeof(SwinModel), static s => new SwinModel(s.Read<SwinConfig>()),
            static m => ((SwinModel)m).Config with { Architectures = ["SwinModel"] }) { Prefix = "swin." },
        new("ConvNextModel", "convnext", typeof(ConvNextModel), static s => new ConvNextModel(s.Read<ConvNextConfig>()),
            static m => ((ConvNextModel)m).Config with { Architectures = ["ConvNextModel"] }) { Prefix = "convnext." },
        new("ConvNextV2Model", "convnextv2", typeof(ConvNextV2Model), static s => new ConvNextV2Model(s.Read<ConvNextV2Config>()),
            static m => ((ConvNextV2Model)m).Config with { Architectures = ["ConvNextV2Model"] }) { Prefix = "convnextv2." },
        new("FocalNetModel", "focalnet", typeof(FocalNetModel), static s => new FocalNetModel(s.Read<FocalNetConfig>()),
            static m => ((FocalNetModel)m).Config with { Architectures = ["FocalNetModel"] }) { Prefix = "focalnet." },
        new("SwinForImageClassification", null, typeof(SwinForImageClassification), static s => new SwinForImageClassification(s.Read<SwinConfig>()),
            static m => ((SwinForImageClassification)m).Swin.Config with { Architectures = ["SwinForImageClassification"] }),
        new("ConvNextForImageClassification", null, typeof(ConvNextForImageClassification), static s => new ConvNextForImageClassification(s.Read<ConvNextConfig>()),
            static m => ((ConvNextForImageClassification)m).Convnext.Config with { Architectures = ["ConvNextForImageClassification"] }),
        new("ConvNextV2ForImageClassification", null, typeof(ConvNextV2ForImageClassification), static s => new ConvNextV2ForImageClassification(s.Read<ConvNextV2Config>()),
            static m => ((ConvNextV2ForImageClassification)m).Convnextv2.Config with { Architectures = ["ConvNextV2ForImageClassification"] }),
        new("FocalNetForImageClassification", null, typeof(FocalNetForImageClassification), static s => new FocalNetForImageClassification(s.Read<FocalNetConfig>()),
            static m => ((FocalNetForImageClassification)m).Focalnet.Config with { Architectures = ["FocalNetForImageClassification"] }),
        new("VisionTransformer", null, typeof(DinoVit), Dino, static m => ((DinoVit)m).Config with { Architectures = ["VisionTransformer"] }),
        new("ImageGPTForCausalImageModeling", "imagegpt", typeof(ImageGptModel), static s => new ImageGptModel(s.Read<ImageGptConfig>()), static m => ((ImageGptModel)m).Config),
        new("AlignModel", "align", typeof(AlignModel), static s => new AlignModel(s.Read<AlignConfig>()), static m => ((AlignModel)m).Config),
        new("FlavaModel", "flava", typeof(FlavaModel), static s => new FlavaModel(s.Read<FlavaConfig>()),
            static m => ((FlavaModel)m).Config with { Architectures = ["FlavaModel"] }) { Prefix = "flava." },
        new("CLIP", null, typeof(OpenClipModel), OpenClip, static m => ((OpenClipModel)m).Config),
        new("CustomTextCLIP", null, typeof(OpenClipModel), OpenClip, static m => ((OpenClipModel)m).Config),
        new("CoCa", null, typeof(CoCaModel), static s => new CoCaModel(OpenClipConfig.Read(s.Config, s.Path)), static m => ((CoCaModel)m).Config),
        new("ViTMAEForPreTraining", null, typeof(MaeForPreTraining), static s => new MaeForPreTraining(s.Read<MaeConfig>()), static m => ((MaeForPreTraining)m).Config with { Architectures = ["ViTMAEForPreTraining"] }),
        new("ViTMAEModel", "vit_mae", typeof(MaeModel), static s => new MaeModel(s.Read<MaeConfig>()), static m => ((MaeModel)m).Config with { Architectures = ["ViTMAEModel"] }) { Prefix = "vit." },
        new("ViTMAEForImageClassification", null, typeof(MaeForImageClassification), static s => new MaeForImageClassification(s.Read<MaeConfig>()),
            static m => ((MaeForImageClassification)m).Vit.Config with { Architectures = ["ViTMAEForImageClassification"] }),
        new("BeitModel", "beit", typeof(BeitModel), static s => new BeitModel(s.Read<BeitConfig>()), static m => ((BeitModel)m).Config with { Architectures = ["BeitModel"] }) { Prefix = "beit." },
        new("BeitForMaskedImageModeling", null, typeof(BeitForMaskedImageModeling), static s => new BeitForMaskedImageModeling(s.Read<BeitConfig>()),
            static m => ((BeitForMaskedImageModeling)m).Beit.Config with { Architectures = ["BeitForMaskedImageModeling"] }),
        new("BeitForImageClassification", null, typeof(BeitForImageClassification), static s => new BeitForImageClassification(s.Read<BeitConfig>()),
            static m => ((BeitForImageClassification)m).Beit.Config with { Architectures = ["BeitForImageClassification"] }),
        new("BeitForSemanticSegmentation", null, typeof(BeitForSemanticSegmentation), static s => new BeitForSemanticSegmentation(s.Read<BeitConfig>()),
            static m => ((BeitForSemanticSegmentation)m).Config with { Architectures = ["BeitForSemanticSegmentation"] }),
        new("BEiT3", "beit3", typeof(Beit3Model), static s => new Beit3Model(s.Read<Beit3Config>()), static m => Saved((Beit3Base)m, "BEiT3")),
        new("BEiT3ForPretraining", null, typeof(Beit3ForPretraining), static s => new Beit3ForPretraining(s.Read<Beit3Config>()), static m => Saved((Beit3Base)m, "BEiT3ForPretraining")),
        new("BEiT3ForImageClassification", null, typeof(Beit3ForImageClassification), static s => new Beit3ForImageClassification(Beit3(s, "head.weight")),
            static m => Saved((Beit3Base)m, "BEiT3ForImageClassification")),
        new("BEiT3ForVisualReasoning", null, typeof(Beit3ForVisualReasoning), static s => new Beit3ForVisualReasoning(Beit3(s, "head.dense2.weight")),
            static m => Saved((Beit3Base)m, "BEiT3ForVisualReasoning")),
        new("BEiT3ForVisualQuestionAnswering", null, typeof(Beit3ForVisualQuestionAnswering), static s => new Beit3ForVisualQuestionAnswering(Beit3(s, "head.3.weight")),
            static m => Saved((Beit3Base)m, "BEiT3ForVisualQuestionAnswering")),
        new("BEiT3ForCaptioning", null, typeof(Beit3ForCaptioning), static s => new Beit3ForCaptioning(s.Read<Beit3Config>()), static m => Saved((Beit3Base)m, "BEiT3ForCaptioning")),
        new("BEiT3ForRetrieval", null, typeof(Beit3ForRetrieval), static s => new Beit3ForRetrieval(s.Read<Beit3Config>()),
            static m => ((Beit3ForRetrieval)m).Config with { Architectures = ["BEiT3ForRetrieval"] }),
        new("DalleDvae", "dall_e_dvae", typeof(DalleDvae), static s => new DalleDvae(s.Read<DalleDvaeConfig>()), static m => ((DalleDvae)m).Config),
        new("GumbelVQ", null, typeof(GumbelVq), static s => new GumbelVq(s.Read<VqConfig>()), static m => ((GumbelVq)m).Config with { ClassName = "GumbelVQ" }),
        new("T5EncoderModel", null, typeof(T5EncoderModel), static s => new T5EncoderModel(s.Read<T5Config>()), static m => ((T5EncoderModel)m).Config with { Architectures = ["T5EncoderModel"] }),
        new("T5ForConditionalGeneration", "t5", typeof(T5ForConditionalGeneration), static s => new T5ForConditionalGeneration(s.Read<T5Config>(), OwnHead(s)),
            static m => ((T5ForConditionalGeneration)m).Config with { Architectures = ["T5ForConditionalGeneration"] }),
        new("VQModel", null, typeof(VqModel), static s => new VqModel(s.Read<VqConfig>()), static m => ((VqModel)m).Config),
    ];

    /// <summary>What loads and saves them.</summary>
    public static ModelRegistry Registry { get; } = new(All)
    {
        Configs = static weights => weights.Contains("visual.conv1.weight") || weights.Contains("visual.trunk.pos_embed") ? [OpenClipFile] : ["config.json", OpenClipFile],
        Recognize = Recognize,
        Adjust = Options,
    };

    /// <summary>Loads a model as the architecture that its own files name.</summary>
    /// <param name="model">A folder, a file or a hub id.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">Nothing there, no such architecture, or weights that do not fit it.</exception>
    public static Module Load(string model, LoadOptions? options = null) => Registry.Load(model, null, options);

    /// <summary>Loads a model as <typeparamref name="T"/>, which may be a tower out of a whole model's file.</summary>
    /// <param name="model">A folder, a file or a hub id.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">Nothing there, or weights that do not fit.</exception>
    public static T Load<T>(string model, LoadOptions? options = null) where T : Module => (T)Registry.Load(model, typeof(T), options);

    /// <summary>Writes the model into <paramref name="folder"/> as its Python peer reads it.</summary>
    /// <exception cref="PanoptesException">The model is none of <see cref="All"/>, or the files cannot be written.</exception>
    public static void Save(string folder, Module module, SaveOptions? options = null)
    {
        var config = Registry.ConfigOf(module);
        if (config is OpenClipConfig openClip) OpenClipFolder.Save(folder, module, openClip, options);
        else ModelFolder.Save(folder, module, config, options);
    }

    /// <summary>What goes by the weights' keys or by open_clip_config.json; null: config.json decides.</summary>
    static ModelEntry? Recognize(ModelSource source, Weights weights, Type? type)
    {
        // ImageBind's public file comes alone.
        if (weights.Contains("modality_preprocessors.vision.cls_token") && (type is null || type == typeof(ImageBindModel))) return Registry.Of<ImageBindModel>();
        if (source.Config.Length > 0 && Path.GetFileName(source.Path) != OpenClipFile) return null;
        if (source.Config.Length == 0 && IsDino(weights.Contains) && type is null or { Name: nameof(DinoVit) }) return Registry.Of<DinoVit>();
        if (source.Config.Length == 0 && !weights.Contains("visual.conv1.weight"))
            throw new PanoptesException($"{weights.Source} has no config.json or {OpenClipFile} beside it, and its keys are not those of OpenAI's CLIP or DINO's backbone, which need none.");
        var own = source.Config.Length > 0 && OpenClipConfig.Read(source.Config, source.Path).MultimodalCfg is not null ? typeof(CoCaModel) : typeof(OpenClipModel);
        if (type is not null && type != own)
            throw new PanoptesException($"{weights.Source} is an open_clip model{(own == typeof(CoCaModel) ? ", a CoCa" : "")}; expected {(type == typeof(OpenClipModel) || type == typeof(CoCaModel) ? $"a {type.Name}" : "one with config.json of Hugging Face's (convert it first)")}.");
        return All.First(e => e.Type == own);
    }

    /// <summary>A tower out of a whole model's file leaves the other parts; a text tower's file may leave out "text_model.".</summary>
    static LoadOptions Options(Module module, Weights weights, LoadOptions options)
    {
        if (module is VqModel) return OldAttentionKeys.Adjust(weights, options);
        if (module is VisionTextDualEncoder or StairModel) return options with { Mapping = options.Mapping ?? Nested(module, weights) };
        // Some of T5's files have a table in the first attention to what was read, which nothing uses; an encoder is found in a whole model's file.
        if (module is T5EncoderModel or T5ForConditionalGeneration)
            return options with { Ignored = key => key.Contains("EncDecAttention.relative_attention_bias", StringComparison.Ordinal) || (module is T5EncoderModel && (key.StartsWith("decoder.", StringComparison.Ordinal) || key.StartsWith("lm_head.", StringComparison.Ordinal))) || options.Ignored?.Invoke(key) == true };
        if (module is OpenClipModel or CoCaModel) return options with { Ignored = key => OpenClipFolder.IsNoWeight(key) || options.Ignored?.Invoke(key) == true };
        var own = module.NamedParameters().Select(static p => Part(p.Key)).ToHashSet(StringComparer.Ordinal);
        if (!own.Overlaps(["text_model", "vision_model"])) return options;
        var bare = own.Count > 0 && !weights.Keys.Any(static k => Parts.Contains(Part(k)) && Part(k) is "text_model" or "vision_model");
        var prefix = own.FirstOrDefault(static p => p is "text_model" or "vision_model");
        return options with
        {
            Ignored = key => (Parts.Contains(Part(key)) && !own.Contains(Part(key))) || options.Ignored?.Invoke(key) == true,
            Mapping = bare && prefix is not null && options.Mapping is null ? key => Parts.Contains(Part(key)) ? key : $"{prefix}.{key}" : options.Mapping,
        };

        static string Part(string key) => key.IndexOf('.', StringComparison.Ordinal) is >= 0 and var dot ? key[..dot] : key;
    }

    /// <summary>A CLIP's tower inside a dual encoder is "text_model.text_model." where an older peer wrote the file, and "text_model." where a newer one did.</summary>
    static Func<string, string>? Nested(Module module, Weights weights)
    {
        string[] missing = [.. new[] { "text_model.", "vision_model." }.Where(p => module.NamedParameters().Any(n => n.Key.StartsWith(p + p, StringComparison.Ordinal)) && !weights.Keys.Any(k => k.StartsWith(p + p, StringComparison.Ordinal)))];
        return missing.Length == 0 ? null : key => missing.FirstOrDefault(p => key.StartsWith(p, StringComparison.Ordinal)) is { } prefix ? prefix + key : key;
    }

    static ClipTextModel ClipText(ModelSource source) => new(source.Read<ClipTextConfig>("text_config"), source.Rows("text_projection.weight"));

    static ClipVisionModel ClipVision(ModelSource source) => new(source.Read<ClipVisionConfig>("vision_config"), source.Rows("visual_projection.weight"));

    /// <summary>Whether T5's file has a matrix of its own for what is written; null where there is no file.</summary>
    static bool? OwnHead(ModelSource source) => source.Shape("lm_head.weight") is not null ? true : source.Shape("shared.weight") is not null ? false : null;

    static SiglipTextModel SiglipText(ModelSource source) => new(source.Read<SiglipTextConfig>("text_config"));

    static SiglipTextConfig Saved(SiglipTextModel model, string architecture) => model.Config with { Architectures = [architecture] };

    static VisionTextDualEncoder VisionText(ModelSource source)
    {
        var config = source.Read<VisionTextDualEncoderConfig>();
        return Join(source, config.VisionConfig, config.TextConfig, (vision, text) => new VisionTextDualEncoder(config, vision, text));
    }

    static StairModel Stair(ModelSource source)
    {
        var config = source.Read<StairConfig>();
        return Join(source, config.VisionConfig, config.TextConfig, (vision, text) => new StairModel(config, vision, text));
    }

    static BoundEncoder Bound(ModelSource source)
    {
        var config = source.Read<BoundEncoderConfig>();
        var entry = All.FirstOrDefault(e => e.Architecture == config.BaseArchitecture && typeof(DualEncoder).IsAssignableFrom(e.Type) && e.Type != typeof(BoundEncoder))
            ?? throw new PanoptesException($"{source.Path}: base_architecture is \"{config.BaseArchitecture}\"; expected a model of an image tower and a text tower, such as CLIPModel.");
        if (config.BaseConfig.ValueKind != JsonValueKind.Object) throw new PanoptesException($"{source.Path}: base_config is missing; expected the config of the {entry.Architecture} that modalities are bound to.");
        return new(config, (DualEncoder)entry.Build(new(config.BaseConfig.GetRawText(), $"{source.Path}, base_config", key => source.Shape($"base.{key}"))));
    }

    /// <summary>A model of two towers, each built by its own config.</summary>
    static T Join<T>(ModelSource source, JsonElement vision, JsonElement text, Func<IImageTower, ITextTower, T> join)
    {
        var images = Tower<IImageTower>(source, vision, "vision");
        ITextTower? texts = null;
        try
        {
            texts = Tower<ITextTower>(source, text, "text");
            return join(images, texts);
        }
        catch
        {
            ((Module)images).Dispose();
            (texts as Module)?.Dispose();
            throw;
        }
    }

    /// <summary>An image tower by its own part of a larger model's config.</summary>
    /// <param name="source">The larger model.</param>
    /// <param name="config">The part, with its model_type.</param>
    /// <param name="part">What the part is called, before "_config".</param>
    /// <param name="prefix">What stands before the tower's keys.</param>
    /// <exception cref="PanoptesException">No part, or of no known kind.</exception>
    internal static IImageTower ImageTower(ModelSource source, JsonElement config, string part, string prefix) => Tower<IImageTower>(source, config, "vision", part, prefix);

    /// <summary>A tower by its own part of a larger model's config.</summary>
    static T Tower<T>(ModelSource source, JsonElement config, string side, string? part = null, string? prefix = null) where T : class, ITower
    {
        part ??= side;
        if (config.ValueKind != JsonValueKind.Object) throw new PanoptesException($"{source.Path}: {part}_config is missing; expected the {part} tower's own config with its model_type.");
        var own = new ModelSource(config.GetRawText(), $"{source.Path}, {part}_config", key => source.Shape($"{prefix ?? $"{side}_model"}.{key}"));
        // A whole model stands for its tower of this side, as in the peer.
        var type = config.TryGetProperty("model_type", out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
        var entry = All.FirstOrDefault(e => e.ModelType == type && typeof(T).IsAssignableFrom(e.Type)) ?? All.FirstOrDefault(e => e.ModelType == $"{type}_{side}_model" && typeof(T).IsAssignableFrom(e.Type))
            ?? throw new PanoptesException($"{own.Path}: the model_type \"{type}\" is unknown; expected one of {string.Join(", ", All.Where(static e => e.ModelType is not null && typeof(T).IsAssignableFrom(e.Type)).Select(static e => e.ModelType))}.");
        return (T)(object)entry.Build(own);
    }

    static VitModel Vit(ModelSource source)
    {
        var isFile = source.Shape("embeddings.cls_token") is not null;
        return new(source.Read<VitConfig>(), pooler: !isFile || source.Shape("pooler.dense.weight") is not null, maskToken: source.Shape("embeddings.mask_token") is not null);
    }

    /// <summary>DINO's backbone comes without a config; MAE's files, whose blocks have the same names, hold a decoder or a classifier, too.</summary>
    static bool IsDino(Func<string, bool> has) => has("cls_token") && has("pos_embed") && has("blocks.0.attn.qkv.weight") && has("norm.weight") && !has("decoder_embed.weight") && !has("head.weight");

    static DinoVit Dino(ModelSource source) => new(source.Config.Length == 0 ? DinoVitConfig.FromShapes(source.Shape, source.Path) : source.Read<DinoVitConfig>());

    static Beit3Config Saved(Beit3Base model, string architecture) => model.Config with { Architectures = [architecture] };

    /// <summary>The config, with as many classes as the head's weight has rows.</summary>
    static Beit3Config Beit3(ModelSource source, string head)
    {
        var config = source.Read<Beit3Config>();
        return config with { NumLabels = config.NumLabels ?? config.Id2label?.Count ?? source.Rows(head) };
    }

    static OpenClipModel OpenClip(ModelSource source)
    {
        var config = source.Config.Length == 0 ? OpenClipConfig.FromShapes(source.Shape, source.Path) : OpenClipConfig.Read(source.Config, source.Path);
        // Where the text tower's keys stand is the file's own business: published configs leave the switch out.
        return new(config with { CustomText = source.Shape("text.positional_embedding") is not null || (config.CustomText && source.Shape("positional_embedding") is null) });
    }
}
