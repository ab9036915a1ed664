using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Objectives;

namespace Panoptes.Parity.Adapters;

/// <summary>Hugging Face's CLIPModel: everything that its forward returns, with the loss.</summary>
sealed class ClipModelAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "CLIPModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<ClipModel>(c.Folder);
        var output = model.Forward(c.Input("pixel_values"), c.Input("input_ids"), c.HasInput("attention_mask") ? c.Input("attention_mask") : null, hiddenStates: true);
        yield return ("logits_per_image", output.LogitsPerImage);
        yield return ("logits_per_text", output.LogitsPerText);
        yield return ("image_embeds", output.ImageEmbeds);
        yield return ("text_embeds", output.TextEmbeds);
        yield return ("vision_last_hidden_state", output.Vision.LastHiddenState);
        yield return ("text_last_hidden_state", output.Text.LastHiddenState);
        for (var i = 0; i < output.Vision.HiddenStates!.Count; i++) yield return ($"vision_hidden_states.{i}", output.Vision.HiddenStates[i]);
        for (var i = 0; i < output.Text.HiddenStates!.Count; i++) yield return ($"text_hidden_states.{i}", output.Text.HiddenStates[i]);
        yield return ("loss", ContrastiveLoss.FromLogits(output.LogitsPerImage));

        // The cheaper path of training and search must agree as well.
        var features = model.Features(c.Input("pixel_values"), c.Input("input_ids"), c.HasInput("attention_mask") ? c.Input("attention_mask") : null);
        yield return ("image_embeds", features.Image);
        yield return ("text_embeds", features.Text);
        yield return ("loss", ContrastiveLoss.Of(features));
    }
}

/// <summary>Hugging Face's CLIPVisionModelWithProjection, with interpolated positions.</summary>
sealed class ClipVisionAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture is "CLIPVisionModelWithProjection" or "CLIPVisionModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<ClipVisionModel>(c.Folder);
        model.InterpolatePositions = c.Arguments.TryGetProperty("interpolate_pos_encoding", out var flag) && flag.GetBoolean();
        var output = model.Forward(c.Input("pixel_values"));
        yield return ("image_embeds", output.Embedding);
        yield return ("last_hidden_state", output.LastHiddenState);
        yield return ("image_embeds", model.Encode(c.Input("pixel_values")));
    }
}

/// <summary>Hugging Face's SiglipModel.</summary>
sealed class SiglipAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "SiglipModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<SiglipModel>(c.Folder);
        var (pixels, ids, mask) = (c.Input("pixel_values"), c.Input("input_ids"), c.HasInput("attention_mask") ? c.Input("attention_mask") : null);
        var output = model.Forward(pixels, ids, mask);
        yield return ("logits_per_image", output.LogitsPerImage);
        yield return ("logits_per_text", output.LogitsPerText);
        yield return ("image_embeds", output.ImageEmbeds);
        yield return ("text_embeds", output.TextEmbeds);
        yield return ("vision_last_hidden_state", output.Vision.LastHiddenState);
        yield return ("text_last_hidden_state", output.Text.LastHiddenState);
        yield return ("loss", SigmoidLoss.FromLogits(output.LogitsPerText));

        var features = model.Features(pixels, ids, mask);
        yield return ("image_embeds", features.Image);
        yield return ("text_embeds", features.Text);
        yield return ("loss", SigmoidLoss.Of(features));
    }
}

/// <summary>Hugging Face's Siglip2Model, for images of many shapes.</summary>
sealed class Siglip2Adapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "Siglip2Model" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<Siglip2Model>(c.Folder);
        var mask = c.Input("pixel_attention_mask");
        var output = model.Forward(new PatchBatch(c.Input("pixel_values"), mask, c.Input("spatial_shapes")), c.Input("input_ids"), c.HasInput("attention_mask") ? c.Input("attention_mask") : null);
        yield return ("logits_per_image", output.LogitsPerImage);
        yield return ("image_embeds", output.ImageEmbeds);
        yield return ("text_embeds", output.TextEmbeds);
        yield return ("vision_last_hidden_state_valid", output.Vision.LastHiddenState * mask.unsqueeze(-1));
        yield return ("text_last_hidden_state", output.Text.LastHiddenState);
        yield return ("loss", SigmoidLoss.FromLogits(output.LogitsPerText));
    }
}

/// <summary>open_clip's CLIP and CustomTextCLIP, with transformers or a ResNet; its locked towers and dropped patches.</summary>
sealed class OpenClipAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture is "CLIP" or "CustomTextCLIP"
        && c.Call is "encode_image / encode_text / get_logits" or "encode_image in training mode" or "lock_image_tower / lock_text_tower";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Load(c);
        foreach (var output in c.Call switch
        {
            "encode_image in training mode" => Dropped(c, model),
            "lock_image_tower / lock_text_tower" => Locked(c, model),
            _ => Encoded(c, model),
        })
            if (c.OutputNames.Contains(output.Item1)) yield return output;
    }

    static OpenClipModel Load(ParityCase c)
    {
        // A tiny model of timm's has sizes that its name does not tell and open_clip's config cannot.
        if (!c.Arguments.TryGetProperty("timm_model_args", out var sizes)) return Models.Load<OpenClipModel>(c.Folder);
        var config = OpenClipConfig.Read(File.ReadAllText(c.File("open_clip_config.json")), c.Name);
        var model = new OpenClipModel(config with { VisionCfg = config.VisionCfg with { TimmModelArgs = ModelConfig.Parse<EvaArgs>(sizes.GetRawText(), c.Name) } });
        ModelFolder.Load(model, c.Folder);
        return model;
    }

    static IEnumerable<(string, Tensor)> Encoded(ParityCase c, OpenClipModel model)
    {
        var features = model.Features(c.Input("image"), c.Input("text"));
        yield return ("image_features_raw", model.Images.Encode(c.Input("image")));
        yield return ("text_features_raw", model.Texts.Encode(c.Input("text")));
        yield return ("image_features", features.Image);
        yield return ("text_features", features.Text);
        yield return ("image_logits", features.Logits());
        yield return ("text_logits", features.Logits().t());
        if (model.Visual is OpenClipResNet resnet) yield return ("stem", resnet.Stem(c.Input("image")));
        yield return ("image_features_raw", model.Images.Forward(c.Input("image")).Embedding);
        yield return ("text_features_raw", model.Texts.Forward(c.Input("text")).Embedding);
    }

    static IEnumerable<(string, Tensor)> Dropped(ParityCase c, OpenClipModel model)
    {
        var visual = (OpenClipVision)model.Visual;
        var kept = PatchDropout.Kept(c.Input("rand"), model.Config.VisionCfg.PatchDropout);
        yield return ("kept", kept);
        model.Train();
        yield return ("image_features_raw", visual.Encode(c.Input("image"), kept));
        model.Train(false);
        yield return ("image_features_eval", visual.Encode(c.Input("image")));
    }

    static IEnumerable<(string, Tensor)> Locked(ParityCase c, OpenClipModel model)
    {
        using var lists = JsonDocument.Parse(File.ReadAllText(c.File("trainable.json")));
        foreach (var list in lists.RootElement.EnumerateObject())
        {
            var groups = int.Parse(list.Name[(list.Name.LastIndexOf('_') + 1)..], System.Globalization.CultureInfo.InvariantCulture);
            model.RequiresGrad(true);
            (list.Name.StartsWith("image", StringComparison.Ordinal) ? (ITower)model.Images : model.Texts).LayerGroups.Lock(groups);
            var ours = model.NamedParameters().Where(static p => p.Parameter.RequiresGrad).Select(static p => p.Key).Order(StringComparer.Ordinal).ToArray();
            var theirs = list.Value.EnumerateArray().Select(static e => e.GetString()!).Order(StringComparer.Ordinal).ToArray();
            if (!ours.SequenceEqual(theirs))
                throw new InvalidOperationException($"{list.Name}: too many trainable: {string.Join(", ", ours.Except(theirs))}; too few: {string.Join(", ", theirs.Except(ours))}");
        }
        model.RequiresGrad(true);
        model.Images.LayerGroups.Lock(2);
        using var grad = enable_grad();
        var loss = ContrastiveLoss.Of(model.Features(c.Input("image"), c.Input("text")));
        loss.backward();
        yield return ("loss", loss.detach());
        foreach (var (key, parameter) in model.NamedParameters())
            if (c.OutputNames.Contains("grad_" + key)) yield return ("grad_" + key, parameter.Grad!);
    }
}

/// <summary>OpenAI's own files: no config but the shapes, half-precision weights, three scalars that are no weights.</summary>
sealed class OpenAiClipAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "CLIP" && c.Peer.StartsWith("openai/CLIP", StringComparison.Ordinal);

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<OpenClipModel>(c.File("model.safetensors"));
        var features = model.Features(c.Input("image"), c.Input("text"));
        yield return ("image_features", model.Images.Encode(c.Input("image")));
        yield return ("text_features", model.Texts.Encode(c.Input("text")));
        yield return ("logits_per_image", features.Logits());
        yield return ("logits_per_text", features.Logits().t());

        // The same through Hugging Face's architecture, converted.
        using var converted = OpenClipConversion.ToClip(model);
        yield return ("logits_per_image", converted.Features(c.Input("image"), c.Input("text")).Logits());
    }
}

/// <summary>The losses over pairs, with the gradients of all that they are given.</summary>
sealed class PairLossAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture is "ClipLoss" or "SigLipLoss" or "DistillClipLoss" && c.Call == "function";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var grad = enable_grad();
        var given = c.InputNames.ToDictionary(static n => n, n => c.Input(n).clone().requires_grad_(true));
        var student = new PairFeatures(given["image_features"], given["text_features"], given["logit_scale"], given.GetValueOrDefault("logit_bias"));
        Tensor loss;
        switch (c.Architecture)
        {
            case "DistillClipLoss":
                var both = DistillationLoss.Losses(student, new(given["dist_image_features"], given["dist_text_features"], given["dist_logit_scale"]));
                yield return ("contrastive_loss", both.Contrastive.detach());
                yield return ("distill_loss", both.Distillation.detach());
                loss = both.Contrastive + both.Distillation;
                break;
            case "SigLipLoss":
                loss = SigmoidLoss.Of(student);
                break;
            default:
                loss = ContrastiveLoss.Of(student);
                yield return ("logits", student.Logits().detach());
                break;
        }
        loss.backward();
        yield return ("loss", loss.detach());
        foreach (var (name, tensor) in given) yield return ($"grad_{name}", tensor.grad!);
    }
}
