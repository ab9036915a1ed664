using Panoptes.Checkpoints;
using Panoptes.Generation;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Parity.Adapters;

/// <summary>diffusers' AutoencoderKL.</summary>
sealed class AutoencoderKlAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "AutoencoderKL";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var noGrad = no_grad();
        using var model = GenerationModels.Load<AutoencoderKl>(c.Folder);
        var (posterior, z) = (model.Encode(c.Input("sample")), c.Input("z"));
        yield return ("mean", posterior.Mean);
        yield return ("mode", posterior.Mean);
        yield return ("logvar", posterior.LogVariance);
        yield return ("latents", model.Scale(posterior.Mean));
        yield return ("kl", posterior.Kl());
        // Flux's case unscales before it decodes.
        yield return ("decoded", model.Decode(model.Config.ShiftFactor is null ? z : model.Unscale(z)));
        yield return ("decoded_scaled", model.Decode(model.Unscale(z)));
        if (c.HasInput("noise"))
        {
            var sample = posterior.Sample(c.Input("noise"));
            yield return ("sample", sample);
            yield return ("scaled_latents", model.Scale(sample));
            yield return ("nll", posterior.NegativeLogLikelihood(sample));
        }
        if (!c.Arguments.TryGetProperty("tile_sample_min_size", out var pixels)) yield break;
        var tiles = new AutoencoderParts
        {
            Tiled = true,
            TilePixels = pixels.GetInt32(),
            TilePlaces = c.Arguments.GetProperty("tile_latent_min_size").GetInt32(),
            Overlap = c.Arguments.GetProperty("tile_overlap_factor").GetDouble(),
        };
        yield return ("tiled_mean", model.Encode(c.Input("sample"), tiles).Mean);
        yield return ("tiled_decoded", model.Decode(z, tiles));
        yield return ("sliced_decoded", model.Decode(cat([z, z * 0.5]), new() { Sliced = true }));
    }
}

/// <summary>diffusers' UNet2DConditionModel.</summary>
sealed class UNetAdapter : IAdapter
{
    static readonly string[] Known = ["sample", "timestep", "encoder_hidden_states", "encoder_attention_mask", "class_labels", "timestep_cond", "text_embeds", "time_ids", "image_embeds"];

    public bool Matches(ParityCase c) => c.Architecture == "UNet2DConditionModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var noGrad = no_grad();
        var folder = c.Arguments.TryGetProperty("weights", out var weights) ? c.File(weights.GetProperty("unet").GetString()!) : c.Folder;
        using var model = GenerationModels.Load<UNet2DConditionModel>(folder);
        var inputs = Inputs(c);
        if (c.HasInput("boxes"))
        {
            var grounding = Grounding(c);
            yield return ("fourier", PositionNet.Fourier(grounding.Boxes));
            yield return ("objs", model.PositionNet!.Forward(grounding));
            yield return ("sample_fuser_off", model.Forward(inputs));
            inputs = inputs with { Grounding = grounding };
        }
        var blocks = new List<(string, Tensor)>();
        yield return ("sample", model.Forward(inputs, (name, tensor) => blocks.Add((name, tensor.clone().DetachFromDisposeScope()))));
        foreach (var (name, tensor) in blocks)
        {
            yield return (name == "mid_block" ? "mid" : name.Replace("_blocks.", "_", StringComparison.Ordinal), tensor);
            tensor.Dispose();
        }
        if (c.HasOutput("odd_input")) yield return ("odd_input", c.Output("odd_input"));
        if (c.HasOutput("sample_odd")) yield return ("sample_odd", model.Forward(new() { Sample = c.Output("odd_input"), Timestep = tensor(500L), Text = inputs.Text!.narrow(0, 0, 1) }));
        if (!c.HasInput("mid_block_additional_residual")) yield break;

        var residuals = List(c, "down_block_additional_residuals");
        var middle = c.Input("mid_block_additional_residual");
        yield return ("sample_controlnet", model.Forward(inputs with { DownResiduals = residuals, MidResidual = middle }));
        yield return ("sample_t2i_adapter", model.Forward(inputs with { AdapterFeatures = [residuals[0], middle] }));
        var free = new FreeU(Number("s1"), Number("s2"), Number("b1"), Number("b2"));
        yield return ("sample_freeu", model.Forward(inputs with { FreeU = free }));
        for (var level = 0; level < 2; level++)
        {
            var (hidden, skip) = free.Apply(level, c.Input("freeu_hidden"), c.Input("freeu_skip"));
            yield return ($"freeu_hidden_{level}", hidden);
            yield return ($"freeu_skip_{level}", skip);
        }

        double Number(string name) => c.Arguments.GetProperty(name).GetDouble();
    }

    /// <summary>Inputs named NAME.0, NAME.1, ….</summary>
    internal static List<Tensor> List(ParityCase c, string name) => [.. Enumerable.Range(0, c.InputNames.Count).Select(i => $"{name}.{i}").TakeWhile(c.HasInput).Select(c.Input)];

    internal static UNetInputs Inputs(ParityCase c)
    {
        Tensor? Optional(string name) => c.HasInput(name) ? c.Input(name) : null;
        return new()
        {
            Sample = c.Input(Known[0]),
            Timestep = c.Input(Known[1]),
            Text = Optional(Known[2]),
            TextMask = Optional(Known[3]),
            ClassLabels = Optional(Known[4]),
            TimestepCondition = Optional(Known[5]),
            PooledText = Optional(Known[6]),
            TimeIds = Optional(Known[7]),
            ImageEmbedding = Optional(Known[8]),
        };
    }

    static Grounding Grounding(ParityCase c)
    {
        Tensor? Optional(string name) => c.HasInput(name) ? c.Input(name) : null;
        return new()
        {
            Boxes = c.Input("boxes"),
            Masks = c.Input("masks"),
            Embeddings = Optional("positive_embeddings"),
            PhraseMasks = Optional("phrases_masks"),
            PhraseEmbeddings = Optional("phrases_embeddings"),
            ImageMasks = Optional("image_masks"),
            ImageEmbeddings = Optional("image_embeddings"),
        };
    }
}

/// <summary>diffusers' UNet2DModel.</summary>
sealed class UNet2DAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "UNet2DModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var noGrad = no_grad();
        using var model = GenerationModels.Load<UNet2DModel>(c.Folder);
        var blocks = new List<(string, Tensor)>();
        yield return ("sample", model.Forward(c.Input("sample"), c.Input("timestep"), c.HasInput("class_labels") ? c.Input("class_labels") : null, null,
            (name, tensor) => blocks.Add((name, tensor.clone().DetachFromDisposeScope()))));
        foreach (var (name, tensor) in blocks)
        {
            yield return (name == "mid_block" ? "mid" : name.Replace("_blocks.", "_", StringComparison.Ordinal), tensor);
            tensor.Dispose();
        }
    }
}

/// <summary>diffusers' ControlNetModel.</summary>
sealed class ControlNetAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "ControlNetModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var noGrad = no_grad();
        using var model = GenerationModels.Load<ControlNetModel>(c.Folder);
        var (inputs, image) = (UNetAdapter.Inputs(c), c.Input("controlnet_cond"));
        yield return ("cond_embedding", model.ControlnetCondEmbedding.Forward(image));
        var scale = c.Arguments.TryGetProperty("conditioning_scale", out var given) ? given.GetDouble() : 1;
        foreach (var (prefix, residuals) in ((string, ControlNetResiduals)[])[("", model.Forward(inputs, image, scale)), ("guess_", model.Forward(inputs, image, guess: true))])
        {
            for (var i = 0; i < residuals.Down.Count; i++) yield return ($"{prefix}down.{i}", residuals.Down[i]);
            yield return (prefix + "mid", residuals.Mid);
        }
    }
}

/// <summary>diffusers' T2IAdapter.</summary>
sealed class T2IAdapterAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "T2IAdapter" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var noGrad = no_grad();
        using var model = GenerationModels.Load<T2IAdapter>(c.Folder);
        var features = model.Forward(c.Input("x"));
        for (var i = 0; i < features.Count; i++) yield return ($"features.{i}", features[i]);
    }
}

/// <summary>diffusers' AutoencoderTiny.</summary>
sealed class AutoencoderTinyAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "AutoencoderTiny" && c.Call is "encode, decode" or "encode, decode (tiled)";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var noGrad = no_grad();
        if (c.Call != "encode, decode")
        {
            using var whole = GenerationModels.Load<AutoencoderTiny>(c.File(c.Arguments.GetProperty("config").GetString()!));
            var parts = new AutoencoderParts { Tiled = true, TilePixels = c.Arguments.GetProperty("tile_sample_min_size").GetInt32(), TilePlaces = c.Arguments.GetProperty("tile_latent_min_size").GetInt32(), Overlap = c.Arguments.GetProperty("tile_overlap_factor").GetDouble() };
            yield return ("latents", whole.Encode(c.Input("sample"), parts with { Sliced = true }));
            yield return ("decoded", whole.Decode(c.Input("z"), parts));
            yield break;
        }
        using var model = GenerationModels.Load<AutoencoderTiny>(c.Folder);
        var latents = model.Encode(c.Input("sample"));
        var scaled = model.Scale(latents);
        yield return ("latents", latents);
        yield return ("scaled", scaled);
        yield return ("unscaled", model.Unscale(scaled));
        yield return ("decoded", model.Decode(c.Input("z")));
    }
}

/// <summary>Full-size convolutional diffusion models.</summary>
sealed class UNetLayouts : ILayoutAdapter
{
    static readonly Dictionary<string, Func<ParityLayout, Module>> Builders = new()
    {
        ["AutoencoderKL"] = static l => new AutoencoderKl(Config<AutoencoderKlConfig>(l)),
        ["AutoencoderTiny"] = static l => new AutoencoderTiny(Config<AutoencoderTinyConfig>(l)),
        ["ControlNetModel"] = static l => new ControlNetModel(Config<ControlNetConfig>(l)),
        ["T2IAdapter"] = static l => new T2IAdapter(Config<T2IAdapterConfig>(l)),
        ["UNet2DModel"] = static l => new UNet2DModel(Config<UNet2DConfig>(l)),
        ["UNet2DConditionModel"] = static l => new UNet2DConditionModel(Config<UNet2DConditionConfig>(l)),
    };

    public bool Matches(ParityLayout layout) => Builders.ContainsKey(layout.Architecture);

    public Module Build(ParityLayout layout) => Builders[layout.Architecture](layout);

    public IEnumerable<(string Key, long[] Shape)> Keys(Module model, ParityLayout layout)
    {
        var old = model is AutoencoderKl && layout.Keys.Keys.Any(static k => k.EndsWith(".proj_attn.weight", StringComparison.Ordinal));
        return model.NamedParameters().Select(p => (old ? OldAttentionKeys.ToOld(p.Key) : p.Key, p.Parameter.Shape));
    }

    static T Config<T>(ParityLayout layout) where T : ModelConfig => ModelConfig.Parse<T>(layout.Config.GetRawText(), layout.Name);
}
