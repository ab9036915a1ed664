using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Understanding;

/// <summary>Every model of this library by its architecture: what loads, saves, reports and tests goes by this list.</summary>
public static class PromptableModels
{
    public static IReadOnlyList<ModelEntry> All { get; } =
    [
        new("XDecoderModel", "xdecoder", typeof(XDecoderModel), XDecoderModel.Build, static m => ((XDecoderModel)m).Config),
        new("SeemModel", "seem", typeof(SeemModel), SeemModel.Build, static m => ((SeemModel)m).Config),
        new("UniPerceiverModel", "uni_perceiver_v2", typeof(UniPerceiverModel), UniPerceiverModel.Build, static m => ((UniPerceiverModel)m).Config),
        new("GroupViTModel", "groupvit", typeof(GroupVitModel), static s => new GroupVitModel(s.Read<GroupVitConfig>()), static m => ((GroupVitModel)m).Config with { Architectures = ["GroupViTModel"] }),
        new("MaskClipPanopticModel", "maskclip_panoptic", typeof(MaskClipPanopticModel), static s => new MaskClipPanopticModel(s.Read<MaskClipPanopticConfig>()),
            static m => ((MaskClipPanopticModel)m).Config with { Architectures = ["MaskClipPanopticModel"] }),
        new("CLIPSegForImageSegmentation", "clipseg", typeof(ClipSegModel), static s => new ClipSegModel(s.Read<ClipSegConfig>()),
            static m => ((ClipSegModel)m).Config with { Architectures = ["CLIPSegForImageSegmentation"] }),
        new("SamModel", "sam", typeof(SamModel), SamOriginal.Build, static m => ((SamModel)m).Config with { Architectures = ["SamModel"] }),
        new("Sam2Model", "sam2", typeof(Sam2Model), static s => new Sam2Model(s.Read<Sam2Config>()), static m => ((Sam2Model)m).Config with { ModelType = "sam2", Architectures = ["Sam2Model"] }),
        new("OwlViTForObjectDetection", "owlvit", typeof(OwlVitForObjectDetection), static s => new OwlVitForObjectDetection(s.Read<OwlVitConfig>()),
            static m => ((OwlVitForObjectDetection)m).Config with { Architectures = ["OwlViTForObjectDetection"] }),
        new("DetrForObjectDetection", "detr", typeof(DetrForObjectDetection), static s => new DetrForObjectDetection(s.Read<DetrConfig>()),
            static m => ((DetrForObjectDetection)m).Config with { Architectures = ["DetrForObjectDetection"] }),
        new("DetrForSegmentation", "detr", typeof(DetrForSegmentation), static s => new DetrForSegmentation(s.Read<DetrConfig>()),
            static m => ((DetrForSegmentation)m).Config with { Architectures = ["DetrForSegmentation"] }),
        new("Mask2FormerForUniversalSegmentation", "mask2former", typeof(Mask2FormerForUniversalSegmentation), static s => new Mask2FormerForUniversalSegmentation(s.Read<Mask2FormerConfig>()),
            static m => ((Mask2FormerForUniversalSegmentation)m).Config with { Architectures = ["Mask2FormerForUniversalSegmentation"] }),
        new("OneFormerForUniversalSegmentation", "oneformer", typeof(OneFormerForUniversalSegmentation), static s => new OneFormerForUniversalSegmentation(s.Read<OneFormerConfig>()),
            static m => ((OneFormerForUniversalSegmentation)m).Config with { Architectures = ["OneFormerForUniversalSegmentation"] }),
        new("OpenSegModel", "openseg", typeof(OpenSegModel), static s => new OpenSegModel(s.Read<OpenSegConfig>()), static m => ((OpenSegModel)m).Config with { Architectures = ["OpenSegModel"] }),
        new("DenseClipModel", "dense_clip", typeof(DenseClipModel), static s => new DenseClipModel(s.Read<DenseClipConfig>()), static m => ((DenseClipModel)m).Config with { Architectures = ["DenseClipModel"] }),
        new("GroundingDinoForObjectDetection", "grounding-dino", typeof(GroundingDinoForObjectDetection), static s => new GroundingDinoForObjectDetection(s.Read<GroundingDinoConfig>()),
            static m => ((GroundingDinoForObjectDetection)m).Config with { Architectures = ["GroundingDinoForObjectDetection"] }),
        new("Florence2ForConditionalGeneration", "florence2", typeof(Florence2Model), static s => new Florence2Model(s.Read<Florence2Config>()), static m => ((Florence2Model)m).Config),
        new("Kosmos2ForConditionalGeneration", "kosmos-2", typeof(Kosmos2Model), static s => new Kosmos2Model(s.Read<Kosmos2Config>()), static m => ((Kosmos2Model)m).Config),
        new("Pix2SeqV2", "pix2seq_v2", typeof(Pix2SeqModel), static s => new Pix2SeqModel(s.Read<Pix2SeqConfig>(), s), static m => ((Pix2SeqModel)m).Config),
        new("UniTAB", "unitab", typeof(UniTabModel), static s => new UniTabModel(s.Read<UniTabConfig>(), s), static m => ((UniTabModel)m).Config),
        new("UnifiedIO", "unified_io", typeof(UnifiedIoModel), static s => new UnifiedIoModel(s.Read<UnifiedIoConfig>(), s), static m => ((UnifiedIoModel)m).Config),
        new("VisionLLM", "vision_llm", typeof(VisionLlmModel), static s => new VisionLlmModel(s.Read<VisionLlmConfig>(), s), static m => ((VisionLlmModel)m).Config),
    ];

    /// <summary>What loads and saves them.</summary>
    public static ModelRegistry Registry { get; } = new(All)
    {
        Recognize = Recognize,
        Adjust = Options,
    };

    /// <summary>Loads a model as the architecture that its own files name.</summary>
    /// <param name="model">A folder, a file or a hub id.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">Nothing there, no such architecture, or weights that do not fit it.</exception>
    public static Module Load(string model, LoadOptions? options = null) => Registry.Load(model, null, options);

    /// <summary>Loads a model as <typeparamref name="T"/>.</summary>
    /// <param name="model">A folder, a file or a hub id.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">Nothing there, or weights that do not fit.</exception>
    public static T Load<T>(string model, LoadOptions? options = null) where T : Module => (T)Registry.Load(model, typeof(T), options);

    /// <summary>Writes the model into <paramref name="folder"/> as its Python peer reads it.</summary>
    /// <exception cref="PanoptesException">The model is none of <see cref="All"/>, or the files cannot be written.</exception>
    public static void Save(string folder, Module module, SaveOptions? options = null) => ModelFolder.Save(folder, module, Registry.ConfigOf(module), options);

    /// <summary>What goes by the weights' keys, or under a name of its own; null: config.json decides.</summary>
    static ModelEntry? Recognize(ModelSource source, Weights weights, Type? type)
    {
        if (SamOriginal.Is(weights.Contains) && (type is null || type == typeof(SamModel))) return Registry.Of<SamModel>();
        // A video model's images are segmented by its image part.
        if (weights.Contains("vision_encoder.backbone.pos_embed_window") && (type is null || type == typeof(Sam2Model))) return Registry.Of<Sam2Model>();
        return null;
    }

    /// <summary>How files of other names, or with more than the model, are read.</summary>
    internal static LoadOptions Options(Module module, Weights weights, LoadOptions options) => module switch
    {
        SamModel when SamOriginal.Is(weights.Contains) => options with { Mapping = options.Mapping ?? SamOriginal.Mapping(weights.Contains) },
        Sam2Model => Without(options, Sam2Model.Memory),
        // One whose config says nothing of training does without the text encoder that its file may have.
        OneFormerForUniversalSegmentation { Config.IsTraining: false } => Without(options, "model.text_mapper."),
        _ => options,
    };

    /// <summary>Leaves out parts of the file that the model does not have.</summary>
    static LoadOptions Without(LoadOptions options, params string[] prefixes) =>
        options with { Ignored = key => Array.Exists(prefixes, p => key.StartsWith(p, StringComparison.Ordinal)) || options.Ignored?.Invoke(key) == true };
}
