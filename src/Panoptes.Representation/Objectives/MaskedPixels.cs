namespace Panoptes.Representation.Objectives;

/// <summary>
/// MAE (He et al. 2022, arXiv:2111.06377): the encoder sees a quarter of the patches, the decoder tells the pixels of the others. Beside
/// <c>contrastive</c> it is joint training with language (Weers et al. 2023, arXiv:2301.07836).
/// </summary>
/// <param name="decoder">Null: the model has its own.</param>
public sealed class MaskedPixels(MaeDecoder? decoder) : SampleObjective
{
    /// <summary>That of an encoder which stands in a model without one, such as a dual encoder.</summary>
    public MaeDecoder? Decoder { get; } = decoder;

    public override Tensor Loss(Towers towers, PairInput input, Generator random)
    {
        using var scope = NewDisposeScope();
        var (vit, decoder) = towers.Images.Backbone is MaeForPreTraining mae ? (mae.Vit, mae.Decoder) : ((MaeModel)towers.Images.Backbone, Decoder!);
        return MaeForPreTraining.Loss(vit, decoder, input.Images[0], vit.DrawMask(input.Images[0], random)).MoveToOuterDisposeScope();
    }
}

/// <summary>MAE in a recipe. The image tower must be a ViTMAEForPreTraining, or a ViTMAEModel in a dual encoder, whose config says how much is masked and what the decoder is like.</summary>
public sealed record MaskedPixelsOptions : ObjectiveOptions
{
    public override Objective Create(ObjectiveSetting setting) => setting.Towers.Images.Backbone switch
    {
        MaeForPreTraining => new MaskedPixels(null),
        MaeModel vit => new MaskedPixels(new(vit.Config)),
        var other => throw new PanoptesException($"masked_pixels needs a masked autoencoder for an image tower, ViTMAEForPreTraining or ViTMAEModel; found a {other.GetType().Name}."),
    };
}
