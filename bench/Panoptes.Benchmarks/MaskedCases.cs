using Panoptes.Native;
using Panoptes.Representation;

namespace Panoptes.Benchmarks;

/// <summary>Masked image modelling.</summary>
static class MaskedCases
{
    /// <summary>One AdamW step of MAE ViT-B/16 over 16 images of 224 pixels, three quarters of the patches masked.</summary>
    public static IRun Mae(ScalarType dtype) => new MaeTraining(dtype);

    sealed class MaeTraining : IRun
    {
        readonly MaeForPreTraining model = new(new MaeConfig());
        readonly Tensor pixels = randn(16, 3, 224, 224);
        readonly ScalarType dtype;
        readonly List<Tensor> values, means, squares, steps;

        public MaeTraining(ScalarType dtype)
        {
            this.dtype = dtype;
            using var generator = new Generator(0);
            model.Initialize(generator);
            model.Train();
            values = [.. model.Parameters().Where(static p => p.Trainable).Select(static p => p.Value)];
            means = [.. values.Select(static p => zeros_like(p, requires_grad: false))];
            squares = [.. values.Select(static p => zeros_like(p, requires_grad: false))];
            steps = [.. values.Select(static p => zeros(1))];
        }

        public void Step()
        {
            using var scope = NewDisposeScope();
            Tensor loss;
            using (Autocast.To(dtype)) loss = model.Loss(pixels);
            loss.backward();
            using var noGrad = no_grad();
            foreach (var s in steps) s.add_(1);
            TorchOps.AdamW(values, [.. values.Select(v => v.grad!)], means, squares, steps, 1e-4, 0.9, 0.999, 0.01, 1e-8);
            foreach (var v in values) v.grad = null;
            NativeMemoryPolicy.GiveBackExcess();
        }

        public void Dispose() => model.Dispose();
    }
}
