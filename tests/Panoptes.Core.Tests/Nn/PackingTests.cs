using System.Runtime.Intrinsics.X86;
using Panoptes.Native;
using Panoptes.Nn;

namespace Panoptes.Core.Tests.Nn;

public class PackingTests
{
    static EncoderLayer Layer(Activation activation, ScalarType dtype)
    {
        var layer = new EncoderLayer(64, 4, 256, activation, 1e-5, new());
        using var generator = new Generator(5);
        foreach (var parameter in layer.Parameters()) parameter.Initialize(generator, dtype);
        return layer;
    }

    [Theory]
    [InlineData(Activation.QuickGelu, ScalarType.Float32, 1e-5)]
    [InlineData(Activation.GeluTanh, ScalarType.Float32, 1e-5)]
    [InlineData(Activation.Gelu, ScalarType.BFloat16, 3e-2)]
    [InlineData(Activation.QuickGelu, ScalarType.BFloat16, 3e-2)]
    public void A_packed_block_gives_what_the_plain_one_gave(Activation activation, ScalarType dtype, double tolerance)
    {
        using var layer = Layer(activation, dtype);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var x = randn(3, 11, 64).to(dtype);
        var before = layer.Forward(x);
        layer.Pack();
        // oneDNN has products of bfloat16 from AVX-512 on; elsewhere the layer stays as it is.
        if (dtype == ScalarType.Float32 || Avx512BW.IsSupported) Assert.NotNull(layer.Mlp.Fc1.Weight.Packed);
        var error = (layer.Forward(x) - before).to(ScalarType.Float32).abs() / before.to(ScalarType.Float32).abs().clamp_min(1);
        Assert.InRange(error.max().item<float>(), 0, tolerance);
    }

    [Fact]
    public void Reading_a_packed_weight_brings_it_back_to_the_bit()
    {
        using var layer = Layer(Activation.Gelu, ScalarType.Float32);
        using var scope = NewDisposeScope();
        var before = layer.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter.Value.clone());
        layer.Pack();
        Assert.All(layer.Parameters(), static p => Assert.True(p.HasValue));
        Assert.Equal(ScalarType.Float32, layer.Mlp.Fc1.Weight.Dtype);
        foreach (var (key, parameter) in layer.NamedParameters()) Assert.True(parameter.Value.eq(before[key]).all().item<bool>(), key);
        Assert.Null(layer.Mlp.Fc1.Weight.Packed);
    }

    [Fact]
    public void A_packed_block_can_be_converted_and_trained()
    {
        using var layer = Layer(Activation.QuickGelu, ScalarType.Float32);
        using var scope = NewDisposeScope();
        layer.Pack();
        layer.Train();
        layer.Forward(randn(2, 5, 64)).sum().backward();
        Assert.All(layer.Parameters(), static p => Assert.NotNull(p.Grad));
        layer.Pack();
        layer.To(ScalarType.BFloat16);
        Assert.All(layer.Parameters(), static p => Assert.Equal(ScalarType.BFloat16, p.Value.dtype));
    }

    [Theory]
    [InlineData(5)]
    [InlineData(200)]
    public void The_gradient_of_an_mlp_with_quick_gelu_is_that_of_its_formula(int rows)
    {
        using var mlp = new Mlp(64, 256, Activation.QuickGelu);
        using var generator = new Generator(6);
        mlp.Initialize(generator);
        using var scope = NewDisposeScope();
        var x = randn([rows, 64], generator: generator).requires_grad_();
        var y = mlp.Forward(x);
        y.sum().backward();
        Tensor[] leaves = [x, .. mlp.Parameters().Select(static p => p.Value)];
        var ours = leaves.Select(static l => l.grad!.clone()).ToArray();
        foreach (var leaf in leaves) leaf.grad = null;

        var wide = nn.functional.linear(x, mlp.Fc1.Weight, mlp.Fc1.Bias!.Value);
        var expected = nn.functional.linear(wide * (wide * 1.702).sigmoid(), mlp.Fc2.Weight, mlp.Fc2.Bias!.Value);
        expected.sum().backward();
        Assert.True(y.allclose(expected, 1e-4, 1e-5));
        foreach (var (gradient, leaf) in ours.Zip(leaves)) Assert.True(gradient.allclose(leaf.grad!, 1e-4, 1e-4));
    }

    [Theory]
    [InlineData(64, 128, 3, 1)]
    [InlineData(64, 64, 3, 2)]
    [InlineData(320, 320, 3, 1)]
    [InlineData(128, 192, 1, 1)]
    [InlineData(48, 80, 3, 1)]
    [InlineData(48, 80, 1, 1)]
    [InlineData(4, 64, 3, 1)]
    [InlineData(64, 3, 3, 1)]
    public void A_packed_convolution_gives_what_the_plain_one_gave_and_its_weight_comes_back_to_the_bit(int from, int to, int kernel, int stride)
    {
        foreach (var dtype in (ScalarType[])[ScalarType.Float32, ScalarType.BFloat16]) PackedConvolution(from, to, kernel, stride, dtype);
    }

    static void PackedConvolution(int from, int to, int kernel, int stride, ScalarType dtype)
    {
        using var convolution = new Conv2d(from, to, kernel, stride, kernel / 2);
        using var generator = new Generator(7);
        foreach (var parameter in convolution.Parameters()) parameter.Initialize(generator, dtype);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        foreach (var (lastly, rows, columns) in ((bool, int, int)[])[(false, 10, 14), (true, 10, 14), (false, 1, 1), (true, 1, 1), (true, 1, 5)])
        {
            var x = randn([2, from, rows, columns], generator: generator).to(dtype);
            if (lastly) x = x.ChannelsLast();
            var (plain, weight) = (convolution.Forward(x), convolution.Weight.Value.clone());
            var added = randn_like(plain);
            if (lastly) added = added.ChannelsLast();
            convolution.Pack();
            foreach (var (ours, expected) in ((Tensor, Tensor)[])[(convolution.Forward(x), plain), (convolution.Forward(x, added), plain + added)])
                Assert.InRange((ours - expected).to(ScalarType.Float32).abs().max().item<float>(), 0, dtype == ScalarType.Float32 ? 1e-5 : 5e-2);
            Assert.True(convolution.Weight.Value.eq(weight).all().item<bool>());
        }
    }

    [Fact]
    public void A_convolution_is_packed_only_where_oneDNN_computes_as_it_packs()
    {
        using var convolution = new Conv2d(64, 64, 3, padding: 1);
        convolution.Initialize(new Generator(7));
        convolution.Pack();
        Assert.Equal(Avx512F.IsSupported, convolution.Weight.Packed is not null);
    }

    /// <summary>Below AVX-512 a weight is packed for the size that keeps coming, and for no other.</summary>
    [Theory]
    [InlineData(64, 128, 3, 1)]
    [InlineData(64, 64, 3, 2)]
    [InlineData(320, 320, 3, 1)]
    [InlineData(48, 80, 3, 1)]
    public void Below_AVX_512_a_convolution_is_packed_for_a_size_that_comes_three_times_in_a_row(int from, int to, int kernel, int stride)
    {
        using var processor = Processor.Pretend(mklUsesAvx512: false, prefersFloat32Products: true, hasAvx512: false);
        using var convolution = new Conv2d(from, to, kernel, stride, kernel / 2);
        using var generator = new Generator(7);
        convolution.Initialize(generator);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var weight = convolution.Weight.Value.clone();
        convolution.Pack();
        Assert.Null(convolution.Weight.Packed);
        foreach (var (count, rows, columns, lastly) in ((int, int, int, bool)[])[(2, 10, 14, true), (2, 10, 14, true), (2, 20, 14, true), (1, 20, 14, true), (1, 20, 14, true), (1, 20, 14, true), (1, 20, 14, false), (2, 9, 7, false)])
        {
            var x = randn([count, from, rows, columns], generator: generator);
            if (lastly) x = x.ChannelsLast();
            var expected = nn.functional.conv2d(x.to(ScalarType.Float64), weight.to(ScalarType.Float64), convolution.Bias!.Value.to(ScalarType.Float64), [stride, stride], [kernel / 2, kernel / 2]);
            var added = randn_like(expected).to(ScalarType.Float32);
            if (lastly) added = added.ChannelsLast();
            for (var i = 0; i < 3; i++)
            {
                var (y, sum) = (convolution.Forward(x), convolution.Forward(x, added));
                Assert.InRange((y - expected).abs().max().item<double>(), 0, 2e-5);
                Assert.InRange((sum - expected - added).abs().max().item<double>(), 0, 2e-5);
                Assert.Equal(!lastly, y.is_contiguous());
                Assert.Equal(!lastly, sum.is_contiguous());
            }
            if (lastly) Assert.NotNull(convolution.Weight.Packed);
        }
        Assert.True(convolution.Weight.Value.eq(weight).all().item<bool>());
        Assert.Null(convolution.Weight.Packed);
    }

    [Fact]
    public async Task Several_threads_may_bring_pictures_of_several_sizes_to_a_convolution()
    {
        using var convolution = new Conv2d(64, 64, 3, padding: 1);
        convolution.Initialize(new Generator(7));
        var weight = convolution.Weight.Value.clone();
        using (Processor.Pretend(mklUsesAvx512: false, prefersFloat32Products: true, hasAvx512: false)) convolution.Pack();
        await Task.WhenAll(Enumerable.Range(0, 4).Select(n => Task.Run(() =>
        {
            using var processor = Processor.Pretend(mklUsesAvx512: false, prefersFloat32Products: true, hasAvx512: false);
            using var generator = new Generator((ulong)n);
            using var noGrad = n < 3 ? no_grad() : null;                                // one of them computes gradients, for which the plain weight comes back
            for (var i = 0; i < 50; i++)
            {
                using var scope = NewDisposeScope();
                var x = randn([1, 64, 4 + (n * (i / 10 % 2)), 8], generator: generator).ChannelsLast();
                Assert.True(convolution.Forward(x).allclose(nn.functional.conv2d(x, weight, convolution.Bias!.Value, padding: [1, 1]), 1e-4, 1e-4));
            }
        })));
    }

    [Fact]
    public void Forward_passes_keep_no_tensor()
    {
        using var layer = Layer(Activation.QuickGelu, ScalarType.Float32);
        using var noGrad = no_grad();
        using var x = randn(2, 80, 64);
        layer.Forward(x).Dispose();
        layer.Pack();
        layer.Forward(x).Dispose();
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        for (var i = 0; i < 5; i++) layer.Forward(x).Dispose();
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }
}
