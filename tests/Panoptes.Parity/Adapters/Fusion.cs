using Panoptes.Representation;
using Panoptes.Representation.Objectives;

namespace Panoptes.Parity.Adapters;

/// <summary>open_clip's CoCa with its loss.</summary>
sealed class CoCaAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "CoCa" && c.Call == "forward + CoCaLoss";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<CoCaModel>(c.Folder);
        var output = model.Forward(c.Input("image"), c.Input("text"));
        yield return ("image_latent", output.Pairs.Image);
        yield return ("text_latent", output.Pairs.Text);
        yield return ("logits", output.Logits);
        yield return ("labels", output.Labels);
        yield return ("image_embs", output.ImageTokens);
        yield return ("token_embs", output.TextTokens);
        yield return ("logit_scale", output.Pairs.Scale);
        var losses = CoCaLossAdapter.Of(c).Losses(output);
        yield return ("contrastive_loss", losses.Contrastive);
        yield return ("caption_loss", losses.Caption);

        // The cheaper path of search must agree as well.
        var features = model.Features(c.Input("image"), c.Input("text"));
        yield return ("image_latent", features.Image);
        yield return ("text_latent", features.Text);
    }
}

/// <summary>CoCa's loss with the gradients of all that it is given.</summary>
sealed class CoCaLossAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "CoCaLoss" && c.Call == "function";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var grad = enable_grad();
        var given = c.InputNames.Where(static n => n != "labels").ToDictionary(static n => n, n => c.Input(n).clone().requires_grad_(true));
        var losses = Of(c).Losses(new(given["image_features"], given["text_features"], given["logit_scale"]), given["logits"], c.Input("labels"));
        var loss = losses.Contrastive + losses.Caption;
        loss.backward();
        yield return ("loss", loss.detach());
        yield return ("contrastive_loss", losses.Contrastive.detach());
        yield return ("caption_loss", losses.Caption.detach());
        foreach (var (name, tensor) in given) yield return ($"grad_{name}", tensor.grad!);
    }

    internal static CoCaLoss Of(ParityCase c) => new()
    {
        ContrastiveWeight = c.Arguments.GetProperty("clip_loss_weight").GetDouble(),
        CaptionWeight = c.Arguments.GetProperty("caption_loss_weight").GetDouble(),
        PadId = c.Arguments.TryGetProperty("pad_id", out var pad) ? pad.GetInt32() : 0,
    };
}

/// <summary>timm's Eva alone, whatever it was trained for.</summary>
sealed class EvaAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "Eva" && c.Call == "forward_features / forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<TimmEva>(c.Folder);
        var output = model.Forward(c.Input("x"));
        yield return ("features", output.LastHiddenState);
        yield return ("pre_logits", output.Pooled);
        yield return ("output", model.Classify(c.Input("x")));
        yield return (output.Embedding.shape[1] == output.Pooled.shape[1] ? "pre_logits" : "output", model.Encode(c.Input("x")));
    }
}
