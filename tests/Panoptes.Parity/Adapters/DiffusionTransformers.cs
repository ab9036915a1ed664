using Panoptes.Checkpoints;
using Panoptes.Generation;
using Panoptes.Nn;

namespace Panoptes.Parity.Adapters;

/// <summary>diffusers' DiTTransformer2DModel.</summary>
sealed class DitAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "DiTTransformer2DModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = GenerationModels.Load<DitTransformer>(c.Folder);
        var states = new List<Tensor>();
        yield return ("sample", model.Forward(c.Input("hidden_states"), c.Input("timestep"), c.Input("class_labels"), hiddenStates: states));
        for (var i = 1; i < states.Count; i++) yield return (FormattableString.Invariant($"block_{i - 1}"), states[i]);
    }
}

/// <summary>diffusers' PixArtTransformer2DModel.</summary>
sealed class PixArtAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "PixArtTransformer2DModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = GenerationModels.Load<PixArtTransformer>(c.Folder);
        yield return ("sample", model.Forward(c.Input("hidden_states"), c.Input("timestep"), new()
        {
            Text = c.Input("encoder_hidden_states"),
            TextMask = Optional("encoder_attention_mask"),
            Resolution = Optional("resolution"),
            AspectRatio = Optional("aspect_ratio"),
        }));

        Tensor? Optional(string name) => c.HasInput(name) ? c.Input(name) : null;
    }
}

/// <summary>diffusers' SD3Transformer2DModel.</summary>
sealed class Sd3TransformerAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "SD3Transformer2DModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = GenerationModels.Load<Sd3Transformer>(c.Folder);
        yield return ("sample", model.Forward(c.Input("hidden_states"), c.Input("timestep"), c.Input("encoder_hidden_states"), c.Input("pooled_projections")));
    }
}

/// <summary>diffusers' FluxTransformer2DModel, and how its pipeline packs latents.</summary>
sealed class FluxTransformerAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "FluxTransformer2DModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = GenerationModels.Load<FluxTransformer>(c.Folder);
        var inputs = new FluxInputs
        {
            Latents = c.Input("hidden_states"),
            Timesteps = c.Input("timestep"),
            Text = c.Input("encoder_hidden_states"),
            Pooled = c.Input("pooled_projections"),
            Guidance = c.HasInput("guidance") ? c.Input("guidance") : null,
            ImageIds = c.Input("img_ids"),
            TextIds = c.Input("txt_ids"),
        };
        var sample = model.Forward(inputs);
        yield return ("sample", sample);
        if (!c.HasInput("latents")) yield break;
        var latents = c.Input("latents");
        var (rows, columns) = (latents.shape[2] / 2, latents.shape[3] / 2);
        yield return ("packed", FluxTransformer.Pack(latents));
        yield return ("unpacked", FluxTransformer.Unpack(sample, rows, columns));

        // The positions that a grid has by itself, from the table that is kept.
        var grid = inputs with { ImageIds = null, TextIds = null, Rows = rows };
        if (FluxTransformer.ImageIds(rows, columns).eq(c.Input("img_ids")).all().item<bool>() && c.Input("txt_ids").eq(0).all().item<bool>())
            for (var i = 0; i < 2; i++) yield return ("sample", model.Forward(grid));
    }
}

/// <summary>diffusers' UVit2DModel.</summary>
sealed class UVitAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "UVit2DModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = GenerationModels.Load<UVit>(c.Folder);
        yield return ("logits", model.Forward(c.Input("input_ids"), c.Input("encoder_hidden_states"), c.Input("pooled_text_emb"), c.Input("micro_conds")));
    }
}

/// <summary>diffusers' Transformer2DModel over codes.</summary>
sealed class VqDiffusionAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "Transformer2DModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = GenerationModels.Load<VqDiffusionTransformer>(c.Folder);
        yield return ("log_probs", model.Forward(c.Input("hidden_states"), c.Input("timestep"), c.HasInput("encoder_hidden_states") ? c.Input("encoder_hidden_states") : null));
    }
}

/// <summary>Full-size checkpoints of the transformers.</summary>
sealed class DiffusionTransformerLayouts : ILayoutAdapter
{
    static ModelEntry? Entry(ParityLayout layout) => layout.Architecture is "DiTTransformer2DModel" or "PixArtTransformer2DModel" or "SD3Transformer2DModel" or "FluxTransformer2DModel" or "UVit2DModel" or "Transformer2DModel"
        ? GenerationModels.All.First(e => e.Architecture == layout.Architecture) : null;

    public bool Matches(ParityLayout layout) => Entry(layout) is not null;

    public Module Build(ParityLayout layout) => Entry(layout)!.Build(new(layout.Config.GetRawText(), layout.Name, key => layout.Keys.TryGetValue(key, out var entry) ? entry.Shape : null));
}
