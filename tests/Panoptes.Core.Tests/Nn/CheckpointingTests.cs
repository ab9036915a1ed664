using Panoptes.Native;
using Panoptes.Nn;

namespace Panoptes.Core.Tests.Nn;

public class CheckpointingTests
{
    static Encoder Build()
    {
        var encoder = new Encoder(3, 32, 4, 64, Activation.QuickGelu, 1e-5);
        using var generator = new Generator(7);
        encoder.Initialize(generator);
        encoder.Train();
        return encoder;
    }

    static Tensor[] Gradients(Encoder encoder, Tensor x, bool checkpointed, Func<Encoder, Tensor, Tensor> run, ScalarType? autocast = null)
    {
        encoder.CheckpointActivations(checkpointed);
        foreach (var parameter in encoder.Parameters()) parameter.Value.grad = null;
        x.grad = null;
        Tensor y;
        using (Autocast.To(autocast ?? ScalarType.Float32)) y = run(encoder, x);
        (y * y).sum().backward();
        return [y.detach(), .. encoder.Parameters().Select(static p => p.Grad?.clone() ?? zeros(0)), x.grad?.clone() ?? zeros(0)];
    }

    static void AssertSame(Tensor[] expected, Tensor[] actual, double tolerance = 2e-6)
    {
        Assert.Equal(expected.Length, actual.Length);
        var largest = expected.Where(static t => t.numel() > 0).Max(static t => t.abs().max().to(ScalarType.Float32).item<float>());
        foreach (var (a, b) in expected.Zip(actual))
        {
            Assert.Equal(a.dtype, b.dtype);
            Assert.Equal(a.shape, b.shape);
            if (a.numel() > 0) Assert.InRange((a - b).abs().max().to(ScalarType.Float32).item<float>() / largest, 0, tolerance);
        }
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void Gradients_are_the_same(bool causal, bool masked)
    {
        using var scope = NewDisposeScope();
        using var encoder = Build();
        var x = randn([2, 6, 32], requires_grad: true);
        var mask = masked ? ones([2, 1, 1, 6], ScalarType.Bool) : null;
        if (mask is not null) mask[1, 0, 0, 5] = false;
        Tensor Run(Encoder e, Tensor input) => e.Forward(input, mask, causal);
        var plain = Gradients(encoder, x, false, Run);
        Assert.All(plain, static g => Assert.NotEqual(0, g.numel()));
        AssertSame(plain, Gradients(encoder, x, true, Run));
    }

    [Fact]
    public void One_tokens_output_has_the_same_gradients()
    {
        using var scope = NewDisposeScope();
        using var encoder = Build();
        var (x, at) = (randn([2, 6, 32], requires_grad: true), tensor(new long[] { 3, 5 }));
        Tensor Run(Encoder e, Tensor input) => e.ForwardAt(input, at, causal: true);
        AssertSame(Gradients(encoder, x, false, Run), Gradients(encoder, x, true, Run));
    }

    [Fact]
    public void Blocks_above_frozen_input_still_get_their_gradients()
    {
        using var scope = NewDisposeScope();
        using var encoder = Build();
        var x = randn(2, 6, 32);
        encoder.Layers[0].RequiresGrad(false);
        Tensor Run(Encoder e, Tensor input) => e.Forward(input);
        var gradients = Gradients(encoder, x, true, Run);
        AssertSame(Gradients(encoder, x, false, Run), gradients);
        Assert.All(encoder.Layers[1].Parameters(), static p => Assert.NotNull(p.Grad));
    }

    [Fact]
    public void Blocks_are_computed_again_in_the_type_of_the_first_time()
    {
        using var processor = Processor.Pretend(mklUsesAvx512: false, prefersFloat32Products: false);
        using var scope = NewDisposeScope();
        using var encoder = Build();
        var x = randn([2, 6, 32], requires_grad: true);
        Tensor Run(Encoder e, Tensor input) => e.Forward(input);
        var half = Gradients(encoder, x, false, Run, ScalarType.BFloat16);
        AssertSame(half, Gradients(encoder, x, true, Run, ScalarType.BFloat16), 2e-2);
        Assert.False(half[1].eq(Gradients(encoder, x, true, Run)[1]).all().item<bool>());
    }

    [Fact]
    public void Steps_keep_no_tensor()
    {
        using var encoder = Build();
        encoder.CheckpointActivations();
        using var x = randn([2, 6, 32], requires_grad: true);
        void Step()
        {
            using var scope = NewDisposeScope();
            encoder.Forward(x).sum().backward();
            foreach (var parameter in encoder.Parameters()) parameter.Value.grad = null;
            x.grad = null;
        }
        Step();
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        for (var i = 0; i < 4; i++) Step();
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }
}
