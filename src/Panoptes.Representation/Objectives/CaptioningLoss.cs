using Panoptes.Native;

namespace Panoptes.Representation.Objectives;

/// <summary>
/// Captioning as in CoCa (Yu et al. 2022, arXiv:2205.01917; open_clip's CoCaLoss): the decoder tells every token of a text from those
/// before it and the image. The towers' features are those that are contrasted, too, so that each image and text is computed once.
/// </summary>
public sealed class CaptioningLoss : FeatureObjective
{
    const int NoLabel = -100;

    readonly CoCaModel model;

    internal CaptioningLoss(CoCaModel model) => this.model = model;

    public override IReadOnlyList<Feature> Needs { get; } = [Feature.ImageTokens(), Feature.TextTokens()];

    public override Tensor Loss(BatchFeatures features)
    {
        using var scope = NewDisposeScope();
        using var autocast = Autocast.To(features.Precision);
        var ids = features.Input.Ids[0];
        var (images, texts) = (features[Feature.ImageTokens()], features[Feature.TextTokens()]);
        if (features.Input.Lengths is not { } lengths) return Of(model.Caption(images, texts), ids.narrow(1, 1, ids.shape[1] - 1), model.Config.TextCfg.PadId).MoveToOuterDisposeScope();
        // Where texts are padded with the token that ends them, as by Hugging Face's CLIP tokenizer, only their lengths tell the two apart. What
        // stands before padding only is not computed: captions are short, and the vocabulary is wide.
        var longest = lengths[0].max().item<long>();
        var own = PairInput.Valid(lengths[0] - 1, longest - 1).flatten().nonzero().squeeze(1);
        return Of(model.Caption(images, texts.narrow(1, 0, longest), own), ids.narrow(1, 1, longest - 1).flatten().index_select(0, own), NoLabel).MoveToOuterDisposeScope();
    }

    /// <summary>The mean cross-entropy of every token of the batch that is no padding.</summary>
    /// <param name="logits">[..., vocabulary]</param>
    /// <param name="labels">[...] int64: what each row of logits is to say</param>
    /// <param name="padId">The label that does not count.</param>
    public static Tensor Of(Tensor logits, Tensor labels, int padId = 0)
    {
        using var scope = NewDisposeScope();
        var rows = logits.flatten(0, -2);
        if (rows.dtype is not (ScalarType.Float32 or ScalarType.Float64)) rows = rows.to(ScalarType.Float32);
        return nn.functional.cross_entropy(rows, labels.flatten(), ignore_index: padId).MoveToOuterDisposeScope();
    }
}

/// <summary>Captioning in a recipe; the model must be a CoCa.</summary>
public sealed record CaptioningOptions : ObjectiveOptions
{
    public override Objective Create(ObjectiveSetting setting) => new CaptioningLoss(setting.Towers.Model as CoCaModel
        ?? throw new PanoptesException($"captioning needs a model with a decoder; expected a CoCa, found a {setting.Towers.Model.GetType().Name}."));
}
