using Panoptes.Representation;
using Panoptes.Understanding;

namespace Panoptes.Parity.Adapters;

/// <summary>MaskCLIP over Hugging Face's CLIPModel.</summary>
sealed class MaskClipAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "CLIPModel" && c.Call == "maskclip_dense_logits";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<ClipModel>(c.Folder);
        using var noGrad = no_grad();
        var options = new MaskClipOptions { SoftmaxScale = Number("softmax_scale"), DenoiseThreshold = Number("denoise_threshold"), KeySmoothingThreshold = Number("key_smoothing_threshold"), DroppedValue = Number("dropped_value") };
        var features = MaskClip.Features(model, c.Input("pixel_values"));
        var texts = DualEncoder.Normalize(model.Texts.Encode(c.Input("input_ids"), c.HasInput("attention_mask") ? c.Input("attention_mask") : null));
        var logits = MaskClip.Logits(features.Dense, texts);
        var denoised = MaskClip.Denoise(logits, options);
        var similarity = MaskClip.KeySimilarity(features.Keys);
        var refined = MaskClip.Label(features, texts, options);
        yield return ("dense_features", features.Dense);
        yield return ("text_features", texts);
        yield return ("dense_logits", logits);
        yield return ("keys", features.Keys);
        yield return ("key_similarity", similarity);
        yield return ("key_smoothed_probabilities", MaskClip.Smooth(logits.mul(options.SoftmaxScale).softmax(1), similarity, options.KeySmoothingThreshold));
        yield return ("max_confidence", denoised.MaxConfidence);
        yield return ("kept_classes", denoised.Kept);
        yield return ("denoised_logits", denoised.Logits);
        yield return ("refined_probabilities", refined);
        yield return ("labels", refined.argmax(1));

        double Number(string name) => c.Arguments.GetProperty(name).GetDouble();
    }
}
