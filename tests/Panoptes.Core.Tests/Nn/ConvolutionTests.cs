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
