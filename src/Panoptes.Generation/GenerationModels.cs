using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Generation;

/// <summary>Every model of this library by its architecture: what loads, saves, reports and tests goes by this list. config.json names it by diffusers' <c>_class_name</c>, or transformers' <c>architectures</c>.</summary>
public static class GenerationModels
{
    public static IReadOnlyList<ModelEntry> All { get; } =
    [
        new("AutoencoderKL", null, typeof(AutoencoderKl), static s => new AutoencoderKl(s.Read<AutoencoderKlConfig>()), static m => ((AutoencoderKl)m).Config),
        new("AutoencoderTiny", null, typeof(AutoencoderTiny), static s => new AutoencoderTiny(s.Read<AutoencoderTinyConfig>()), static m => ((AutoencoderTiny)m).Config),
        new("CLIPImageProjection", null, typeof(ClipImageProjection), static s => new ClipImageProjection(s.Read<ClipImageProjectionConfig>()), static m => ((ClipImageProjection)m).Config),
        new("ControlNetModel", null, typeof(ControlNetModel), static s => new ControlNetModel(s.Read<ControlNetConfig>()), static m => ((ControlNetModel)m).Config),
        new("DiTTransformer2DModel", null, typeof(DitTransformer), static s => new DitTransformer(s.Read<DitConfig>()), static m => ((DitTransformer)m).Config),
        new("FluxTransformer2DModel", null, typeof(FluxTransformer), static s => new FluxTransformer(s.Read<FluxConfig>()), static m => ((FluxTransformer)m).Config),
        new("PixArtTransformer2DModel", null, typeof(PixArtTransformer), static s => new PixArtTransformer(s.Read<PixArtConfig>()), static m => ((PixArtTransformer)m).Config),
        new("SD3Transformer2DModel", null, typeof(Sd3Transformer), static s => new Sd3Transformer(s.Read<Sd3Config>()), static m => ((Sd3Transformer)m).Config),
        new("T2IAdapter", null, typeof(T2IAdapter), static s => new T2IAdapter(s.Read<T2IAdapterConfig>()), static m => ((T2IAdapter)m).Config),
        new("TextToImageGan", null, typeof(TextToImageGan), static s => new TextToImageGan(s.Read<TextToImageGanConfig>()), static m => ((TextToImageGan)m).Config),
        new("TextToImageMasked", null, typeof(TextToImageMasked), static s => new TextToImageMasked(s.Read<TextToImageMaskedConfig>()), static m => ((TextToImageMasked)m).Config),
        new("TextToImageTransformer", null, typeof(TextToImageTransformer), static s => new TextToImageTransformer(s.Read<TextToImageTransformerConfig>()), static m => ((TextToImageTransformer)m).Config),
        new("TextToImageVae", null, typeof(TextToImageVae), static s => new TextToImageVae(s.Read<TextToImageVaeConfig>()), static m => ((TextToImageVae)m).Config),
        new("Transformer2DModel", null, typeof(VqDiffusionTransformer), AnyTransformer, static m => ((VqDiffusionTransformer)m).Config),
        new("UNet2DConditionModel", null, typeof(UNet2DConditionModel), static s => new UNet2DConditionModel(s.Read<UNet2DConditionConfig>()), static m => ((UNet2DConditionModel)m).Config),
        new("UNet2DModel", null, typeof(UNet2DModel), static s => new UNet2DModel(s.Read<UNet2DConfig>()), static m => ((UNet2DModel)m).Config),
        new("UVit2DModel", null, typeof(UVit), static s => new UVit(s.Read<UVitConfig>()), static m => ((UVit)m).Config),
    ];

    /// <summary>What loads and saves them.</summary>
    public static ModelRegistry Registry { get; } = new(All)
    {
        Adjust = static (module, weights, options) => module switch
        {
            AutoencoderKl or UNet2DModel => OldAttentionKeys.Adjust(weights, options),
            PixArtTransformer => options with { Ignored = PixArtTransformer.IsIgnored },
            _ => options,
        },
    };

    /// <summary>Loads a model as the architecture that its own files name.</summary>
    /// <param name="model">A folder, a file or a hub id.</param>
    /// <param name="options">The wanted type and device.</param>
    /// <exception cref="PanoptesException">Nothing there, no such architecture, or weights that do not fit it.</exception>
    public static Module Load(string model, LoadOptions? options = null) => Registry.Load(model, null, options);

    /// <summary>Loads a model as <typeparamref name="T"/>.</summary>
    /// <inheritdoc cref="Load(string, LoadOptions?)"/>
    public static T Load<T>(string model, LoadOptions? options = null) where T : Module => (T)Registry.Load(model, typeof(T), options);

    /// <summary>Writes the model into <paramref name="folder"/> as its Python peer reads it.</summary>
    /// <exception cref="PanoptesException">The model is none of <see cref="All"/>, or the files cannot be written.</exception>
    public static void Save(string folder, Module module, SaveOptions? options = null) => ModelFolder.Save(folder, module, Registry.ConfigOf(module), options);

    /// <summary>diffusers' Transformer2DModel is VQ-Diffusion's; older files call DiT's and PixArt's so, too.</summary>
    static Module AnyTransformer(ModelSource source)
    {
        var config = source.Read<VqDiffusionConfig>();
        return config.NormType switch
        {
            "ada_norm_zero" => new DitTransformer(source.Read<DitConfig>()),
            "ada_norm_single" => new PixArtTransformer(source.Read<PixArtConfig>()),
            _ => new VqDiffusionTransformer(config),
        };
    }
}
