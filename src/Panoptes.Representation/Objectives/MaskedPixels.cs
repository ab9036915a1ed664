namespace Panoptes.Representation.Objectives;

/// <summary>
/// MAE (He et al. 2022, arXiv:2111.06377): the encoder sees a quarter of the patches, the decoder tells the pixels of the others. Beside
/// <c>contrastive</c> it is joint training with language (Weers et al. 2023, arXiv:2301.07836).
/// </summary>
public sealed class MaskedPixels : SampleObjective
{
    public override Tensor Loss(Towers towers, PairInput input, Generator random)
    {
        using var scope = NewDisposeScope();
        var mae = (MaeForPreTraining)towers.Images.Backbone;
        return mae.Loss(input.Images[0], mae.Vit.DrawMask(input.Images[0], random)).MoveToOuterDisposeScope();
    }
}

/// <summary>MAE in a recipe; the image tower must be a ViTMAEForPreTraining, which has the decoder and says how much is masked.</summary>
public sealed record MaskedPixelsOptions : ObjectiveOptions
{
    public override Objective Create(ObjectiveSetting setting) => setting.Towers.Images.Backbone is MaeForPreTraining ? new MaskedPixels()
        : throw new PanoptesException($"masked_pixels needs an image tower with a decoder, ViTMAEForPreTraining; found a {setting.Towers.Images.Backbone.GetType().Name}.");
}
