using Panoptes.Native;

namespace Panoptes.Core.Tests.Native;

public class AutocastTests
{
    [Fact]
    public void Products_run_in_the_given_type_and_gradients_come_in_the_weights_own()
    {
        using var processor = Processor.Pretend(mklUsesAvx512: false, prefersFloat32Products: false);
        using var scope = NewDisposeScope();
        var (x, w) = (randn(300, 128), randn([128, 128], requires_grad: true));
        Tensor y;
        using (Autocast.To(ScalarType.BFloat16)) y = TorchOps.Linear(x, w, null);
        Assert.Equal(ScalarType.BFloat16, y.dtype);
        y.sum().backward();
        Assert.Equal(ScalarType.Float32, w.grad!.dtype);
        Assert.Equal(ScalarType.Float32, TorchOps.Linear(x, w, null).dtype);
    }

    [Fact]
    public void Scopes_nest_and_float32_switches_it_off()
    {
        using var processor = Processor.Pretend(mklUsesAvx512: false, prefersFloat32Products: false);
        using var scope = NewDisposeScope();
        var x = randn(4, 4);
        using (Autocast.To(ScalarType.BFloat16))
        {
            using (Autocast.To(ScalarType.Float32))
            {
                Assert.Null(Autocast.Dtype);
                Assert.Equal(ScalarType.Float32, x.mm(x).dtype);
            }
            Assert.Equal(ScalarType.BFloat16, Autocast.Dtype);
            Assert.Equal(ScalarType.BFloat16, x.mm(x).dtype);
        }
        Assert.Null(Autocast.Dtype);
        Assert.Equal(ScalarType.Float32, x.mm(x).dtype);
    }

    [Fact]
    public void Another_thread_is_not_touched()
    {
        using var processor = Processor.Pretend(mklUsesAvx512: false, prefersFloat32Products: false);
        using var autocast = Autocast.To(ScalarType.BFloat16);
        ScalarType? seen = null, produced = null;
        var thread = new Thread(() =>
        {
            using var scope = NewDisposeScope();
            seen = Autocast.Dtype;
            produced = ones(4, 4).mm(ones(4, 4)).dtype;
        });
        thread.Start();
        thread.Join();
        Assert.Null(seen);
        Assert.Equal(ScalarType.Float32, produced);
    }

    [Fact]
    public void Where_the_processor_multiplies_float32_faster_a_scope_leaves_products_in_it()
    {
        using var processor = Processor.Pretend(mklUsesAvx512: true, prefersFloat32Products: true);
        using var scope = NewDisposeScope();
        Assert.False(TorchOps.HasFastBFloat16);
        using var autocast = Autocast.To(ScalarType.BFloat16);
        Assert.Null(Autocast.Dtype);
        Assert.Equal(ScalarType.Float32, TorchOps.Linear(randn(300, 128), randn(128, 128), null).dtype);
    }

    [Fact]
    public void A_type_that_is_no_compute_type_is_refused() => Assert.Throws<ArgumentException>(() => Autocast.To(ScalarType.Int64));
}
