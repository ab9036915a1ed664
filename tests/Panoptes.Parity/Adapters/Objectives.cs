using System.Text.Json;
using Panoptes.Representation;
using Panoptes.Representation.Objectives;

namespace Panoptes.Parity.Adapters;

/// <summary>The objectives that the cases state as formulas, with the gradients of all that they are given.</summary>
sealed class FormulaAdapter : IAdapter
{
    static readonly Dictionary<string, Func<ParityCase, Inputs, (Tensor Loss, List<(string, Tensor)> Others)>> Formulas = new()
    {
        ["loss_filip"] = Filip,
        ["loss_unicl"] = UniCl,
        ["loss_slip"] = Slip,
        ["loss_nclip"] = Nclip,
        ["loss_declip"] = Declip,
        ["loss_mofi"] = Mofi,
        ["loss_mvp"] = Mvp,
        ["loss_dino_ibot"] = DinoIbot,
        ["loss_moco_byol"] = MocoByol,
        ["stair_head"] = Stair,
    };

    public bool Matches(ParityCase c) => c.Architecture == "function" && c.Call == "function" && Formulas.ContainsKey(c.Name);

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var grad = enable_grad();
        var given = new Inputs(c);
        var (loss, others) = Formulas[c.Name](c, given);
        loss.backward();
        yield return ("loss", loss.detach());
        foreach (var (name, tensor) in others) yield return (name, tensor.detach());
        // Gradients that are nowhere computed are those of what the formula treats as given.
        foreach (var (name, tensor) in given.All.Where(static g => g.Value.requires_grad)) yield return ($"grad_{name}", tensor.grad ?? zeros_like(tensor));
    }

    /// <summary>The case's inputs, those of floating point with a gradient.</summary>
    sealed class Inputs(ParityCase c)
    {
        internal Dictionary<string, Tensor> All { get; } = c.InputNames.ToDictionary(static n => n, n => c.Input(n) is var t && t.is_floating_point() ? t.clone().requires_grad_(true) : t.clone());

        internal Tensor this[string name] => All[name];
    }

    static double Number(ParityCase c, string name) => c.Arguments.GetProperty(name).GetDouble();

    static (Tensor, List<(string, Tensor)>) Filip(ParityCase c, Inputs x)
    {
        var similarities = FilipLoss.Similarities(x["image_tokens"], x["text_tokens"], x["text_mask"]);
        var scale = x["logit_scale"];
        return (FilipLoss.Of(similarities, scale),
        [
            ("similarity_image_to_text", similarities.ImageToText), ("similarity_text_to_image", similarities.TextToImage),
            ("loss_image", FilipLoss.OfImages(similarities, scale)), ("loss_text", FilipLoss.OfTexts(similarities, scale)),
        ]);
    }

    static (Tensor, List<(string, Tensor)>) UniCl(ParityCase c, Inputs x)
    {
        var losses = UniClLoss.Losses(new(x["image_features"], x["text_features"], x["logit_scale"]), x["labels"]);
        return ((losses.Images.mean() + losses.Texts.mean()) / 2, [("loss_sum", losses.Images.sum() + losses.Texts.sum()), ("per_image", losses.Images), ("per_text", losses.Texts)]);
    }

    static (Tensor, List<(string, Tensor)>) Slip(ParityCase c, Inputs x)
    {
        var losses = SimClrLoss.Losses(x["aug1"], x["aug2"], Number(c, "temperature"));
        return ((losses.First + losses.Second) / 2, [("loss_a", losses.First), ("loss_b", losses.Second)]);
    }

    static (Tensor, List<(string, Tensor)>) Nclip(ParityCase c, Inputs x)
    {
        var temperature = Number(c, "temperature");
        var losses = NclipLoss.Losses(x["image_logits"], x["text_logits"], temperature, Number(c, "lambda_entropy"), Number(c, "lambda_mean_entropy"));
        return (losses.Total,
        [
            ("cross_entropy", losses.CrossEntropy), ("entropy", losses.Entropy), ("mean_entropy", losses.MeanEntropy),
            ("image_probability", (x["image_logits"] / temperature).softmax(-1)), ("text_probability", (x["text_logits"] / temperature).softmax(-1)),
        ]);
    }

    static (Tensor, List<(string, Tensor)>) Declip(ParityCase c, Inputs x)
    {
        var (scale, queue) = (x["logit_scale"], x["queue"].detach().clone());
        var pairs = DeclipLoss.ClipPairs(x["image1"], x["image2"], x["text1"], x["text2"], scale);
        var clip = stack(pairs).mean();
        var self = DeclipLoss.SimSiam(x["p1"], x["p2"], x["z1"], x["z2"]);
        var nearest = DeclipLoss.NearestNeighbor(x["image1"], x["image2"], DeclipLoss.Nearest(queue, x["text1"]), DeclipLoss.Nearest(queue, x["text2"]), scale);
        var words = MaskedLanguageLoss.Of(x["mlm_logits"], x["mlm_labels"]);
        var (first, second) = (DeclipLoss.NearestIndex(queue, x["text1"]), DeclipLoss.NearestIndex(queue, x["text2"]));
        var pointer = DeclipLoss.Enqueue(queue, c.Arguments.GetProperty("pointer").GetInt64(), x["text2"].detach());
        pointer = DeclipLoss.Enqueue(queue, pointer, x["text1"].detach());
        var weights = c.Arguments.GetProperty("weights");
        return ((clip * Weight("clip")) + (self * Weight("self_supervision")) + (nearest * Weight("nearest_neighbour")) + (words * Weight("masked_language")),
        [
            ("clip", clip), ("clip_pairs", stack(pairs)), ("self_supervision", self), ("nearest_neighbour", nearest), ("masked_language", words),
            ("nearest", first), ("nearest_augmented", second), ("new_queue", queue), ("new_pointer", tensor(pointer)),
        ]);

        double Weight(string name) => weights.GetProperty(name).GetDouble();
    }

    static (Tensor, List<(string, Tensor)>) Mofi(ParityCase c, Inputs x)
    {
        var pair = new PairFeatures(DualEncoder.Normalize(x["image_features"]), DualEncoder.Normalize(x["text_features"]), x["logit_scale"]);
        var losses = MofiLoss.Losses(pair, x["entities"], x["labels"], Number(c, "margin"), Number(c, "temperature"));
        return ((losses.Classification * Number(c, "weight_classification")) + (losses.Contrastive * Number(c, "weight_contrastive")),
            [("classification", losses.Classification), ("contrastive", losses.Contrastive)]);
    }

    static (Tensor, List<(string, Tensor)>) Mvp(ParityCase c, Inputs x)
    {
        var (prediction, target, mask) = (x["prediction"], x["target"], x["mask"]);
        var cosines = MaskedFeatures.Cosines(prediction, target);
        return (MaskedFeatures.Of(prediction, target, mask), [("cosine", cosines), ("loss_sum", -(cosines * mask).sum())]);
    }

    static (Tensor, List<(string, Tensor)>) DinoIbot(ParityCase c, Inputs x)
    {
        var (student, teacher, momentum) = (Number(c, "student_temperature"), Number(c, "teacher_temperature"), Number(c, "center_momentum"));
        var dino = DinoLoss.BetweenViews(x["student"], x["teacher"], x["center"].detach(), student, teacher);
        var ibot = DinoLoss.OfMaskedPatches(x["student_patches"], x["teacher_patches"], x["mask"], x["center_patches"].detach(), student, Number(c, "teacher_patch_temperature"));
        return (dino + ibot,
        [
            ("dino", dino), ("ibot", ibot),
            ("new_center", DinoLoss.NewCenter(x["center"], x["teacher"], momentum)), ("new_center_patches", DinoLoss.NewCenter(x["center_patches"], x["teacher_patches"], momentum)),
        ]);
    }

    static (Tensor, List<(string, Tensor)>) MocoByol(ParityCase c, Inputs x)
    {
        var logits = MomentumContrast.Logits(x["q"], x["k"], x["queue"], Number(c, "temperature"));
        var (moco, byol) = (MomentumContrast.OfLogits(logits), MomentumContrast.Byol(x["p1"], x["p2"], x["z1"], x["z2"]));
        var queue = x["queue"].detach().clone();
        DeclipLoss.Enqueue(queue, c.Arguments.GetProperty("pointer").GetInt64(), DualEncoder.Normalize(x["k"].detach()));
        return (moco + byol, [("moco", moco), ("byol", byol), ("logits", logits), ("new_queue", queue)]);
    }

    static (Tensor, List<(string, Tensor)>) Stair(ParityCase c, Inputs x)
    {
        var (weight, bias) = (x["weight"], x["bias"]);
        var (image, text) = (StairLoss.Embed(x["image_hidden"], weight, bias), StairLoss.Embed(x["text_hidden"], weight, bias, x["text_mask"]));
        var contrastive = ContrastiveLoss.Of(new(image, text, tensor(1 / (float)Number(c, "temperature"))));
        var (flopsImage, flopsText) = (StairLoss.Flops(image), StairLoss.Flops(text));
        return (contrastive + (flopsImage * Number(c, "lambda_image")) + (flopsText * Number(c, "lambda_text")),
            [("image_embedding", image), ("text_embedding", text), ("contrastive", contrastive), ("flops_image", flopsImage), ("flops_text", flopsText)]);
    }
}
