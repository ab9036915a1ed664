using System.Globalization;
using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Objectives;
using Panoptes.Training;

namespace Panoptes.Parity.Adapters;

/// <summary>Hugging Face's plain image models: tokens, the pooled feature, and the states between the layers.</summary>
sealed class BackboneAdapter : IAdapter
{
    static readonly string[] Architectures = ["ViTModel", "Dinov2Model", "Dinov2WithRegistersModel", "DINOv3ViTModel", "SwinModel", "ConvNextModel", "ConvNextV2Model", "FocalNetModel"];

    public bool Matches(ParityCase c) => Architectures.Contains(c.Architecture) && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load(c.Folder);
        var (tower, pixels) = ((IImageTower)model, c.Input("pixel_values"));
        if (model is VitModel vit) vit.InterpolatePositions = c.Arguments.TryGetProperty("interpolate_pos_encoding", out var flag) && flag.GetBoolean();
        var output = tower.Forward(pixels, hiddenStates: true);
        // Of convolutional nets the peer gives the last map, which has our tokens as places.
        yield return ("last_hidden_state", model is ConvNextModel ? output.HiddenStates![^1] : output.LastHiddenState);
        yield return ("pooler_output", output.Pooled);
        for (var i = 0; i < output.HiddenStates!.Count; i++)
        {
            var state = output.HiddenStates[i];
            yield return ($"hidden_states.{i}", state);
            if (model is not SwinModel swin) continue;
            var (rows, columns) = swin.Grid(pixels.shape[2], pixels.shape[3], i);
            yield return ($"reshaped_hidden_states.{i}", state.unflatten(1, [rows, columns]).permute(0, 3, 1, 2));
        }

        // The cheaper path must agree as well.
        yield return ("pooler_output", tower.Encode(pixels));
    }
}

/// <summary>Hugging Face's image models with a classifier.</summary>
sealed class ImageClassifierAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture.EndsWith("ForImageClassification", StringComparison.Ordinal) && Models.All.Any(e => e.Architecture == c.Architecture) && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = (ImageClassifier)Models.Load(c.Folder);
        var pixels = c.Input("pixel_values");
        var output = model.Classify(pixels, hiddenStates: true);
        yield return ("logits", output.Logits);
        for (var i = 0; i < output.Tower.HiddenStates!.Count; i++) yield return ($"hidden_states.{i}", output.Tower.HiddenStates[i]);
        yield return ("logits", model.Logits(pixels));
        if (c.HasInput("labels")) yield return ("loss", nn.functional.cross_entropy(output.Logits, c.Input("labels")));
    }
}

/// <summary>facebookresearch/dino: backbone, head, loss and schedules.</summary>
sealed class DinoAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Peer.StartsWith("facebookresearch/dino ", StringComparison.Ordinal);

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var json = JsonDocument.Parse(File.ReadAllText(c.File("config.json")));
        using var model = new DinoNetwork(Part<DinoVitConfig>("backbone"), Part<DinoHeadConfig>("head"));
        using (var weights = Weights.Open(c.File("model.safetensors"))) ModelFolder.Load(model, weights, new());
        var (backbone, wide) = (model.Backbone, c.Input("wide"));
        Tensor[] crops = [.. Enumerable.Range(0, c.Arguments.GetProperty("ncrops").GetInt32()).Select(i => c.Input($"crops.{i}"))];
        var local = crops.First(crop => crop.shape[2] != crops[0].shape[2]);
        yield return ("features_global", backbone.Encode(crops[0]));
        yield return ("features_local", backbone.Encode(local));
        yield return ("features_wide", backbone.Forward(wide).Pooled);
        yield return ("position_local", backbone.PositionsOf((int)local.shape[2], (int)local.shape[3]));
        yield return ("position_wide", backbone.PositionsOf((int)wide.shape[2], (int)wide.shape[3]));
        yield return ("last_attention_wide", backbone.LastAttention(wide));
        var states = backbone.Forward(crops[0], hiddenStates: true).HiddenStates!;
        for (var i = 0; i < 2; i++) yield return ($"intermediate.{i}", backbone.Norm.Forward(states[states.Count - 2 + i]));

        // A step with a given teacher, of two global views.
        var (student, teacher, center) = (model.Forward(crops).detach().requires_grad_(true), c.Input("teacher_output"), c.Input("center"));
        yield return ("head_all_crops", student.detach());
        var temperatures = new DinoSchedule(Number("teacher_temp"), Whole("nepochs")) { WarmupRate = Number("warmup_teacher_temp"), WarmupSteps = Whole("warmup_teacher_temp_epochs"), FinalRate = Number("teacher_temp") };
        foreach (var name in c.OutputNames.Where(static n => n.StartsWith("loss_epoch_", StringComparison.Ordinal)))
        {
            using var grad = enable_grad();
            var epoch = int.Parse(name["loss_epoch_".Length..], CultureInfo.InvariantCulture);
            var loss = DinoLoss.BetweenViews(student.unflatten(0, [crops.Length, -1]), teacher.unflatten(0, [2, -1]), center, Number("student_temp"), temperatures.At(epoch));
            yield return (name, loss.detach());
            loss.backward();
            yield return ($"loss_gradient_times_100_epoch_{epoch}", student.grad! * 100);
            student.grad = null;
        }
        yield return ("center_after", DinoLoss.NewCenter(center, teacher, Number("center_momentum")));
        yield return ("teacher_temperature_schedule", Values(temperatures));
        var (momentum, rate) = (c.Arguments.GetProperty("momentum"), c.Arguments.GetProperty("schedule_with_warmup"));
        var (epochs, steps) = (Numbers(momentum[2]), Numbers(rate[2]));                                      // "4 epochs of 5 iterations", "4 epochs of 5, 1 warm-up epoch from 0"
        yield return ("teacher_momentum_schedule", Values(new(momentum[0].GetDouble(), epochs[0] * epochs[1]) { FinalRate = momentum[1].GetDouble() }));
        yield return ("weight_decay_schedule_warmup", Values(new(rate[0].GetDouble(), steps[0] * steps[1]) { FinalRate = rate[1].GetDouble(), WarmupSteps = steps[2] * steps[1], WarmupRate = steps[3] }));

        T Part<T>(string name) where T : ModelConfig => ModelConfig.Parse<T>(json.RootElement.GetProperty(name).GetRawText(), name);

        double Number(string name) => c.Arguments.GetProperty(name).GetDouble();

        int Whole(string name) => c.Arguments.GetProperty(name).GetInt32();
    }

    static int[] Numbers(JsonElement text) => [.. text.GetString()!.Split(' ', ',').Where(static w => int.TryParse(w, CultureInfo.InvariantCulture, out _)).Select(static w => int.Parse(w, CultureInfo.InvariantCulture))];

    static Tensor Values(DinoSchedule schedule) => tensor([.. Enumerable.Range(0, (int)schedule.TotalSteps).Select(i => schedule.At(i))]);
}

/// <summary>Hugging Face's ImageGPTForCausalImageModeling.</summary>
sealed class ImageGptAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "ImageGPTForCausalImageModeling" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<ImageGptModel>(c.Folder);
        var logits = model.Forward(c.Input("input_ids"));
        yield return ("logits", logits);
        if (c.HasInput("labels")) yield return ("loss", ImageGptModel.Loss(logits, c.Input("labels")));
    }
}

/// <summary>Hugging Face's AlignModel.</summary>
sealed class AlignAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "AlignModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<AlignModel>(c.Folder);
        var (pixels, ids, mask) = (c.Input("pixel_values"), c.Input("input_ids"), c.HasInput("attention_mask") ? c.Input("attention_mask") : null);
        var output = model.Forward(pixels, ids, mask, c.HasInput("token_type_ids") ? c.Input("token_type_ids") : null);
        yield return ("logits_per_image", output.LogitsPerImage);
        yield return ("logits_per_text", output.LogitsPerText);
        yield return ("image_embeds", output.ImageEmbeds);
        yield return ("text_embeds", output.TextEmbeds);
        yield return ("loss", AlignModel.Loss(output.LogitsPerImage));
        yield return ("vision_last_hidden_state", model.Vision.Forward(pixels, hiddenStates: true).HiddenStates![^1]);
        yield return ("text_last_hidden_state", output.Text.LastHiddenState);
        yield return ("image_embeds", DualEncoder.Normalize(model.Vision.Encode(pixels)));
    }
}

/// <summary>Hugging Face's FlavaModel.</summary>
sealed class FlavaAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "FlavaModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<FlavaModel>(c.Folder);
        var (pixels, ids, mask) = (c.Input("pixel_values"), c.Input("input_ids"), c.HasInput("attention_mask") ? c.Input("attention_mask") : null);
        var output = model.Forward(pixels, ids, mask);
        yield return ("image_embeddings", output.Image.LastHiddenState);
        yield return ("text_embeddings", output.Text.LastHiddenState);
        yield return ("multimodal_embeddings", output.Multimodal.LastHiddenState);
        yield return ("image_pooled", output.Image.Pooled);
        yield return ("text_pooled", output.Text.Pooled);
        yield return ("multimodal_pooled", output.Multimodal.Pooled);
        yield return ("image_features", DualEncoder.Normalize(output.Image.Embedding));
        yield return ("text_features", DualEncoder.Normalize(output.Text.Embedding));
        var features = model.Features(pixels, ids, mask);
        yield return ("image_features", features.Image);
        yield return ("text_features", features.Text);
    }
}
