using Panoptes.Native;
using Panoptes.Nn;

namespace Panoptes.Core.Tests.Nn;

public class ConvolutionTests
{
    /// <summary>What memory holds that was used before must not matter: here it is full of what is no number.</summary>
    [Theory]
    [InlineData(3, ScalarType.Float32)]
    [InlineData(1, ScalarType.Float32)]
    [InlineData(3, ScalarType.BFloat16)]
    [InlineData(17, ScalarType.BFloat16)]
    public void A_convolution_to_few_channels_is_the_product_with_its_windows(int channels, ScalarType type)
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(3);
        var convolution = new Conv2d(32, channels, 3, padding: 1);
        convolution.Initialize(generator);
        var x = randn([2, 32, 12, 12], generator: generator).requires_grad_();
        var windows = nn.functional.unfold(x, 3, padding: 1);                        // [b, 32 · 9, places]
        var expected = (convolution.Weight.Value.flatten(1).matmul(windows) + convolution.Bias!.Value.unsqueeze(1)).view(2, channels, 12, 12);
        var wanted = autograd.grad([expected.square().sum()], [x, convolution.Weight.Value])[0];
        Spoil();
        Tensor y;
        using (Autocast.To(type)) y = convolution.Forward(x);
        var loss = y.to(ScalarType.Float32).square().sum();
        Spoil();
        var found = autograd.grad([loss], [x, convolution.Weight.Value])[0];
        var tolerance = type == ScalarType.Float32 ? 1e-4 : 0.05;
        Assert.True((y - expected).abs().max().item<float>() < tolerance);
        Assert.True((found - wanted).abs().max().item<float>() < tolerance * wanted.abs().max().item<float>());
    }

    /// <summary>A few rows at a time, of pictures whose channels lie first or last, is the same as all at once.</summary>
    [Theory]
    [InlineData(3, 1, 1, 1, 1)]
    [InlineData(3, 2, 1, 1, 1)]
    [InlineData(3, 2, 0, 1, 1)]
    [InlineData(1, 1, 0, 1, 1)]
    [InlineData(3, 1, 2, 2, 1)]
    [InlineData(5, 3, 2, 1, 4)]
    public void A_convolution_in_float32_goes_in_rows_of_a_large_map(int kernel, int stride, int padding, int dilation, int groups)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var generator = new Generator(3);
        var x = randn([2, 16, 23, 17], generator: generator).to(ScalarType.BFloat16);
        var (weight, bias) = (randn([20, 16 / groups, kernel, kernel], generator: generator), randn([20], generator: generator));
        var expected = nn.functional.conv2d(x.to(ScalarType.Float32), weight, bias, strides: [stride, stride], padding: [padding, padding], dilation: [dilation, dilation], groups: groups);
        foreach (var map in (Tensor[])[x, x.ChannelsLast()])
            foreach (var most in (long[])[1, 20_000, 1 << 20])
            {
                var y = Conv2d.ByFloat32(map, weight, bias, stride, padding, groups, dilation, most);
                Assert.Equal(ScalarType.BFloat16, y.dtype);
                // At once, libtorch decides how it lies.
                if (most < 1 << 20) Assert.Equal(map.is_contiguous(), y.is_contiguous());
                Assert.Equal(expected.shape, y.shape);
                // A bit of bfloat16, where a sum was on the edge.
                Assert.True(y.to(ScalarType.Float32).allclose(expected, 8e-3, 1e-2));
            }
    }

    /// <summary>Widths of which some are no whole sixteens, both ways, and the gradients, which are convolutions the other way.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void A_convolution_of_any_width_is_the_product_with_its_windows(int kernel)
    {
        foreach (var inputs in (int[])[3, 8, 10, 12, 16, 20, 24, 40, 72])
        {
            foreach (var outputs in (int[])[1, 4, 8, 10, 12, 16, 24, 40])
            {
                foreach (var side in (int[])[1, 2, 3, 4, 8, 16])
                {
                    using var scope = NewDisposeScope();
                    using var generator = new Generator(3);
                    var convolution = new Conv2d(inputs, outputs, kernel, padding: kernel / 2);
                    convolution.Initialize(generator);
                    var x = randn([2, inputs, side, side], generator: generator).requires_grad_();
                    var windows = nn.functional.unfold(x, kernel, padding: kernel / 2);
                    var expected = (convolution.Weight.Value.flatten(1).matmul(windows) + convolution.Bias!.Value.unsqueeze(1)).view(2, outputs, side, side);
                    var wanted = autograd.grad([expected.square().sum()], [x, convolution.Weight.Value]);
                    Spoil();
                    var y = convolution.Forward(x);
                    var found = autograd.grad([y.square().sum()], [x, convolution.Weight.Value]);
                    Near(y, expected, $"{inputs} to {outputs} at {side}");
                    Near(found[0], wanted[0], $"the gradient of {inputs} to {outputs} at {side}");
                    Near(found[1], wanted[1], $"the weight's gradient of {inputs} to {outputs} at {side}");
                }
            }
        }
    }

    /// <summary>Strides, groups, dilation, kernel 1 and few outputs, with both gradients, whichever type the products are computed in.</summary>
    [Theory]
    [InlineData(32, 48, 3, 1, 1, 1)]
    [InlineData(32, 48, 3, 2, 1, 1)]
    [InlineData(32, 32, 3, 1, 32, 1)]
    [InlineData(32, 48, 3, 1, 1, 2)]
    [InlineData(32, 48, 1, 1, 1, 1)]
    [InlineData(32, 48, 1, 2, 1, 1)]
    [InlineData(20, 3, 3, 1, 1, 1)]
    public void A_convolution_of_bfloat16_numbers_is_the_same_by_float32(int inputs, int outputs, int kernel, int stride, int groups, int dilation)
    {
        foreach (var (side, lacks) in ((int, bool)[])[(12, false), (12, true), (2, true)])
        {
            using var processor = Processor.Pretend(mklUsesAvx512: false, prefersFloat32Products: lacks, lacksBFloat16: lacks);
            using var scope = NewDisposeScope();
            using var generator = new Generator(4);
            Tensor Draw(double scale, params long[] shape) => (randn(shape, generator: generator) * scale).to(ScalarType.BFloat16).requires_grad_();
            var (x, weight, bias) = (Draw(1, 2, inputs, side, side), Draw(1 / Math.Sqrt(inputs / groups * kernel * kernel), outputs, inputs / groups, kernel, kernel), Draw(1, outputs));
            var padding = kernel / 2 * dilation;
            var y = Conv2d.Apply(x, weight, bias, stride, padding, groups, dilation);
            var expected = nn.functional.conv2d(x.to(ScalarType.Float64), weight.to(ScalarType.Float64), bias.to(ScalarType.Float64), [stride, stride], [padding, padding], [dilation, dilation], groups);
            Assert.Equal(ScalarType.BFloat16, y.dtype);
            Assert.Equal(expected.shape, y.shape);
            var change = randn(y.shape, generator: generator).to(ScalarType.BFloat16);
            var (ours, wanted) = (autograd.grad([y], [x, weight, bias], [change]), autograd.grad([expected], [x, weight, bias], [change.to(ScalarType.Float64)]));
            foreach (var (found, right) in ((Tensor, Tensor)[])[(y, expected), .. ours.Zip(wanted)])
                Assert.InRange((found.to(ScalarType.Float64) - right).abs().max().item<double>() / right.abs().max().to(ScalarType.Float64).item<double>(), 0, 1e-2);
        }
    }

    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    public void A_transposed_convolution_makes_every_place_a_square_of_its_own(int kernel)
    {
        foreach (var inputs in (int[])[3, 12, 16, 24, 40])
        {
            foreach (var outputs in (int[])[1, 10, 12, 16, 24])
            {
                using var scope = NewDisposeScope();
                using var generator = new Generator(3);
                var convolution = new ConvTranspose2d(inputs, outputs, kernel);
                convolution.Initialize(generator);
                using (no_grad()) convolution.Bias.Value.uniform_(-1, 1, generator);
                var x = randn([2, inputs, 3, 5], generator: generator).requires_grad_();
                var (weight, exact) = (convolution.Weight.Value, x.to(ScalarType.Float64));
                var expected = nn.functional.conv_transpose2d(exact, weight.to(ScalarType.Float64), convolution.Bias.Value.to(ScalarType.Float64), strides: [kernel, kernel]);
                var wanted = autograd.grad([expected.square().sum()], [x, weight]);
                var y = convolution.Forward(x);
                var found = autograd.grad([y.square().sum()], [x, weight]);
                Near(y, expected, $"{inputs} to {outputs}");
                Near(found[0], wanted[0], $"the gradient of {inputs} to {outputs}");
                Near(found[1], wanted[1], $"the weight's gradient of {inputs} to {outputs}");
            }
        }
    }

    static void Near(Tensor found, Tensor expected, string what)
    {
        var off = (found - expected).abs().max().ToDouble();
        Assert.True(off <= 1e-4 * Math.Max(1, expected.abs().max().ToDouble()), $"{what} is off by {off}.");
    }

    /// <summary>Some of these end the process where oneDNN plans them (<see cref="OneDnn.CanPlan"/>): a ResNet-50 has them all.</summary>
    [Theory]
    [InlineData(256, 1024, 1, ScalarType.Float32)]
    [InlineData(256, 1024, 1, ScalarType.BFloat16)]
    [InlineData(1024, 256, 1, ScalarType.BFloat16)]
    [InlineData(1024, 512, 1, ScalarType.Float32)]
    [InlineData(512, 2048, 1, ScalarType.BFloat16)]
    [InlineData(2048, 512, 1, ScalarType.Float32)]
    [InlineData(512, 1024, 2, ScalarType.BFloat16)]
    [InlineData(1024, 2048, 2, ScalarType.Float32)]
    [InlineData(1024, 2048, 2, ScalarType.BFloat16)]
    [InlineData(128, 512, 1, ScalarType.Float32)]                                     // no whole blocks of 48 outputs (OneDnn.IsRight)
    [InlineData(256, 512, 1, ScalarType.Float32)]
    [InlineData(512, 128, 1, ScalarType.Float32)]
    [InlineData(192, 384, 2, ScalarType.Float32)]
    public void A_convolution_of_kernel_1_is_a_product_of_every_place(int inputs, int outputs, int stride, ScalarType type)
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(3);
        var convolution = new Conv2d(inputs, outputs, 1, stride);
        convolution.Initialize(generator);
        var x = randn([8, 7, 7, inputs], generator: generator).permute(0, 3, 1, 2).requires_grad_();
        var places = stride == 1 ? x : x[TensorIndex.Colon, TensorIndex.Colon, TensorIndex.Slice(step: stride), TensorIndex.Slice(step: stride)];
        var expected = convolution.Weight.Value.flatten(1).matmul(places.flatten(2)).view(8, outputs, places.shape[2], places.shape[3]) + convolution.Bias!.Value.view(1, -1, 1, 1);
        var wanted = autograd.grad([expected.square().sum()], [x, convolution.Weight.Value]);
        Tensor y;
        using (Autocast.To(type)) y = convolution.Forward(x);
        var found = autograd.grad([y.to(ScalarType.Float32).square().sum()], [x, convolution.Weight.Value]);
        var tolerance = type == ScalarType.Float32 ? 1e-4 : 0.05;
        Assert.True((y - expected).abs().max().item<float>() < tolerance);
        foreach (var (gradient, right) in found.Zip(wanted)) Assert.True((gradient - right).abs().max().item<float>() < tolerance * right.abs().max().item<float>());
    }

    static void Spoil()
    {
        using var scope = NewDisposeScope();
        for (var bits = 6; bits < 18; bits++)
            for (var i = 0; i < 3; i++) full(1L << bits, float.NaN);
    }
}
