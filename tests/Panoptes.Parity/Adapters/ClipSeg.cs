using Panoptes.Understanding;

namespace Panoptes.Parity.Adapters;

/// <summary>Hugging Face's CLIPSegForImageSegmentation, asked by texts and by images.</summary>
sealed class ClipSegAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "CLIPSegForImageSegmentation" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = PromptableModels.Load<ClipSegModel>(c.Folder);
        using var noGrad = no_grad();
        var pixels = c.Input("pixel_values");
        var condition = model.Condition(c.Input("input_ids"), c.HasInput("attention_mask") ? c.Input("attention_mask") : null);
        var output = model.Forward(pixels, condition);
        yield return ("logits", output.Logits);
        yield return ("pooled_output", output.ImageEmbeds);
        yield return ("conditional_embeddings", condition);
        yield return ("loss", ClipSegModel.Loss(output.Logits, c.Input("labels")));

        // The cheaper path must agree as well.
        using var features = model.Encode(pixels);
        yield return ("logits", model.Decode(features, condition));
        var example = model.ConditionOf(c.Input("conditional_pixel_values"));
        yield return ("image_prompt_conditional_embeddings", example);
        yield return ("image_prompt_logits", model.Decode(features, example));
    }
}
