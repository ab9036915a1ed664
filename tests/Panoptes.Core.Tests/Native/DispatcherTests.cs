using Panoptes.Native;

namespace Panoptes.Core.Tests.Native;

public class DispatcherTests
{
    [Fact]
    public void An_operator_called_by_name_computes_and_has_a_gradient()
    {
        using var scope = NewDisposeScope();
        var (a, b) = (randn(4, 5), randn([5, 3], requires_grad: true));
        var y = Dispatcher.Call("aten::mm").Tensor(a).Tensor(b).InvokeTensor();
        Assert.True(y.allclose(a.mm(b)));
        y.sum().backward();
        Assert.True(b.grad!.allclose(a.sum([0]).unsqueeze(1).expand(5, 3)));
    }

    [Fact]
    public void A_wrong_shape_is_an_exception_that_names_the_operator_and_the_tensors()
    {
        using var scope = NewDisposeScope();
        var error = Assert.Throws<InvalidOperationException>(() => Dispatcher.Call("aten::mm").Tensor(ones(2, 3)).Tensor(ones(4, 5)).InvokeTensor());
        Assert.Contains("aten::mm", error.Message, StringComparison.Ordinal);
        Assert.Contains("Float32 [2, 3], Float32 [4, 5]", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_unknown_operator_is_an_exception_that_names_it()
    {
        using var scope = NewDisposeScope();
        var error = Assert.Throws<InvalidOperationException>(() => Dispatcher.Call("aten::no_such_operator", "out").Tensor(ones(1)).InvokeTensor());
        Assert.Contains("aten::no_such_operator.out", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_call_that_failed_leaves_the_next_one_whole()
    {
        using var scope = NewDisposeScope();
        for (var i = 0; i < 3; i++)
        {
            Assert.Throws<InvalidOperationException>(() => Dispatcher.Call("aten::mm").Tensor(ones(2, 3)).Tensor(ones(4, 5)).InvokeTensor());
            Assert.Equal(6, Dispatcher.Call("aten::mm").Tensor(ones(2, 3)).Tensor(ones(3, 2)).InvokeTensor().sum().item<float>() / 2);
        }
    }

    [Fact]
    public void A_call_may_be_the_argument_of_another()
    {
        using var scope = NewDisposeScope();
        var y = Dispatcher.Call("aten::mm")
            .Tensor(Dispatcher.Call("aten::mm").Tensor(ones(2, 3)).Tensor(ones(3, 4)).InvokeTensor())
            .Tensor(ones(4, 2)).InvokeTensor();
        Assert.True(y.eq(12).all().item<bool>());
    }

    [Fact]
    public void Calls_of_several_threads_do_not_mix()
    {
        Parallel.For(0, 64, i =>
        {
            using var scope = NewDisposeScope();
            var a = full([3, 3], (float)i);
            for (var n = 0; n < 50; n++)
                Assert.Equal(3f * i, Dispatcher.Call("aten::mm").Tensor(a).Tensor(ones(3, 3)).InvokeTensor()[0, 0].item<float>());
        });
    }

    [Fact]
    public void Calls_keep_no_memory_whether_they_succeed_or_fail()
    {
        using var scope = NewDisposeScope();
        var big = ones(1 << 20);                                                     // 4 MB, so that what is kept shows
        void Run(int times)
        {
            for (var i = 0; i < times; i++)
            {
                using var inner = NewDisposeScope();
                var copy = big.clone();
                Dispatcher.Call("aten::mul", "Tensor").Tensor(copy).Tensor(copy).InvokeTensor();
                Dispatcher.Call("aten::_foreach_zero_").Tensors([copy, big.clone()]).Invoke();
                Assert.Throws<InvalidOperationException>(() => Dispatcher.Call("aten::mm").Tensor(copy).Tensor(copy).InvokeTensor());
            }
        }
        Run(5);
        using var process = System.Diagnostics.Process.GetCurrentProcess();
        var before = process.WorkingSet64;
        Run(100);
        process.Refresh();
        Assert.InRange(process.WorkingSet64 - before, long.MinValue, 128L << 20);    // keeping one handle a turn would be 400 MB
    }

    [Fact]
    public void Where_the_interface_is_missing_a_call_says_so()
    {
        using var off = Dispatcher.SwitchOff();
        Assert.False(Dispatcher.IsAvailable);
        Assert.Throws<NotSupportedException>(() => Dispatcher.Call("aten::mm"));
    }
}
