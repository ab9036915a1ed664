namespace Panoptes.Representation.Objectives;

/// <summary>
/// Captions as BEiT-3 learns them (Wang et al. 2022, arXiv:2208.10442): a share of a caption's words is hidden, and each is told from the image and what stands before
/// it. The end of a caption is hidden like a word, so that writing one (<see cref="Beit3ForCaptioning.Generate"/>) comes to an end.
/// </summary>
public sealed class MaskedCaptions(double ratio) : SampleObjective
{
    public override Tensor Loss(Towers towers, PairInput input, Generator random)
    {
        using var scope = NewDisposeScope();
        var model = (Beit3ForCaptioning)towers.Model;
        var (ids, masked) = MaskedWords.Hide(input.Ids[0], input.Lengths![0], ratio, random, withEnd: true, mask: model.Config.MaskTokenId);
        return model.Loss(input.Images[0], ids, masked, input.Ids[0], input.Masks?[0]).MoveToOuterDisposeScope();
    }
}

/// <summary>Masked captions in a recipe; the model must be a BEiT3ForCaptioning.</summary>
public sealed record MaskedCaptionsOptions : ObjectiveOptions
{
    /// <summary>The share of words that is hidden.</summary>
    public double MaskRatio { get; init; } = 0.6;

    public override Objective Create(ObjectiveSetting setting)
    {
        if (MaskRatio is not (> 0 and < 1)) throw new PanoptesException($"masked_captions: mask_ratio is {MaskRatio}; expected between 0 and 1.");
        return setting.Towers.Model is Beit3ForCaptioning ? new MaskedCaptions(MaskRatio) : throw new PanoptesException($"masked_captions needs a BEiT3ForCaptioning; found a {setting.Towers.Model.GetType().Name}.");
    }
}
