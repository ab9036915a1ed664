using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Understanding;

namespace Panoptes.Parity.Adapters;

/// <summary>Hugging Face's GroupViTModel.</summary>
sealed class GroupVitAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "GroupViTModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = PromptableModels.Load<GroupVitModel>(c.Folder);
        using var noGrad = no_grad();
        var (pixels, ids, mask) = (c.Input("pixel_values"), c.Input("input_ids"), c.HasInput("attention_mask") ? c.Input("attention_mask") : null);
        var output = model.Forward(pixels, ids, mask);
        yield return ("logits_per_image", output.LogitsPerImage);
        yield return ("logits_per_text", output.LogitsPerImage.t());
        yield return ("image_embeds", output.ImageEmbeds);
        yield return ("text_embeds", output.TextEmbeds);
        yield return ("segmentation_logits", output.SegmentationLogits);
        yield return ("vision_last_hidden_state", output.Vision.Groups);
        yield return ("image_features", model.Images.Encode(pixels));
        for (var i = 0; i < output.Vision.Assignments.Count; i++) yield return ($"attentions.{i}", output.Vision.Assignments[i]);

        // The cheaper path of training and search must agree as well.
        var features = model.Features(pixels, ids, mask);
        yield return ("image_embeds", features.Image);
        yield return ("text_embeds", features.Text);
    }
}

/// <summary>Full-size checkpoints of whatever this library registers by the peer's class, but those that need more than their config.</summary>
sealed class OpenVocabularyLayouts : ILayoutAdapter
{
    static readonly string[] Architectures = ["GroupViTModel", "CLIPSegForImageSegmentation"];

    public bool Matches(ParityLayout layout) => Architectures.Contains(layout.Architecture);

    public Module Build(ParityLayout layout) =>
        PromptableModels.All.First(e => e.Architecture == layout.Architecture).Build(new ModelSource(layout.Config.GetRawText(), layout.Name, key => layout.Keys.TryGetValue(key, out var entry) ? entry.Shape : null));
}
