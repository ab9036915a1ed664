using Panoptes.Representation;

namespace Panoptes.Benchmarks;

/// <summary>Masked image modelling.</summary>
static class MaskedCases
{
    /// <summary>One AdamW step of MAE ViT-B/16 over 16 images of 224 pixels, three quarters of the patches masked.</summary>
    public static IRun Mae(ScalarType dtype) => new MaeTraining(dtype);

    sealed class MaeTraining(ScalarType dtype) : TrainingStep<MaeForPreTraining>(new(new MaeConfig()), dtype)
    {
        readonly Tensor pixels = randn(16, 3, 224, 224);

        protected override Tensor Loss() => Model.Loss(pixels);
    }
}
