using System.Runtime.Intrinsics.X86;
using Panoptes.Native;
using Panoptes.Nn;

namespace Panoptes.Core.Tests.Native;

public class TorchOpsTests
{
    static double Error(Tensor ours, Tensor theirs)
    {
        using var scope = NewDisposeScope();
        Assert.Equal(theirs.shape, ours.shape);
        theirs = theirs.to(ScalarType.Float64);
        return ((ours.to(ScalarType.Float64) - theirs).abs() / theirs.abs().clamp_min(1)).max().item<double>();
    }

    [Theory]
    [InlineData(ScalarType.Float32, 1, 5e-6, false)]
    [InlineData(ScalarType.Float32, 300, 5e-6, false)]
    [InlineData(ScalarType.Float32, 300, 5e-6, true)]
    [InlineData(ScalarType.BFloat16, 3, 1e-2, false)]
    [InlineData(ScalarType.BFloat16, 1100, 1e-2, false)]
    [InlineData(ScalarType.BFloat16, 1100, 1e-2, true)]
    public void A_linear_layer_and_its_gradients_are_those_of_the_matrix_product(ScalarType dtype, int rows, double tolerance, bool fastFloat32)
    {
        using var processor = Processor.Pretend(mklUsesAvx512: fastFloat32, prefersFloat32Products: fastFloat32);
        LinearIsTheProduct([2, rows], 128, 192, 0.05, dtype, tolerance);
    }

    /// <summary>Result and all three gradients against those in float64.</summary>
    static void LinearIsTheProduct(long[] rows, int inputs, int outputs, double weights, ScalarType dtype, double tolerance)
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(1);
        Tensor Draw(double scale, params long[] shape) => (randn(shape, generator: generator) * scale).to(dtype).requires_grad_();
        var (x, w, b) = (Draw(1, [.. rows, inputs]), Draw(weights, outputs, inputs), Draw(1, outputs));
        var change = randn([.. rows, outputs], generator: generator).to(dtype);
        var y = TorchOps.Linear(x, w, b);
        var ours = autograd.grad([y], [x, w, b], [change]);
        var expected = nn.functional.linear(x.to(ScalarType.Float64), w.to(ScalarType.Float64), b.to(ScalarType.Float64));
        var theirs = autograd.grad([expected], [x, w, b], [change.to(ScalarType.Float64)]);
        Assert.InRange(Error(y, expected), 0, tolerance);
        foreach (var (gradient, wanted) in ours.Zip(theirs))
        {
            var largest = wanted.abs().max().to(ScalarType.Float64).item<double>();               // sums over the rows: rounding goes by their size
            Assert.InRange(Error(gradient / largest, wanted / largest), 0, tolerance);
        }
        Assert.True(y.is_contiguous());
    }

    public static TheoryData<int, int, ScalarType> Unplannable()
    {
        var data = new TheoryData<int, int, ScalarType>();
        foreach (var (inputs, outputs) in new[] { (256, 1024), (512, 1024), (512, 2048), (1024, 2048), (250, 1000), (96, 1024), (200, 3072) })
            foreach (var dtype in new[] { ScalarType.Float32, ScalarType.BFloat16 })
            {
                data.Add(inputs, outputs, dtype);
                data.Add(outputs, inputs, dtype);
            }
        return data;
    }

    /// <summary>Some of these end the process where oneDNN plans them as convolutions (<see cref="OneDnn.CanPlan"/>).</summary>
    [Theory]
    [MemberData(nameof(Unplannable))]
    public void A_linear_layer_of_any_width_has_the_gradients_of_the_matrix_product(int inputs, int outputs, ScalarType dtype)
    {
        using var processor = Processor.Pretend(mklUsesAvx512: false, prefersFloat32Products: false);
        LinearIsTheProduct([1030], inputs, outputs, 1 / Math.Sqrt(inputs), dtype, dtype == ScalarType.Float32 ? 5e-6 : 1e-2);
    }

    /// <summary>Where oneDNN's blocks do not divide the outputs, the last of them would come out wrong at some numbers of rows (<see cref="OneDnn.IsRight"/>).</summary>
    [Theory]
    [InlineData(64, 1600)]
    [InlineData(128, 512)]
    [InlineData(128, 2048)]
    [InlineData(192, 2048)]
    [InlineData(192, 768)]
    [InlineData(256, 3072)]
    [InlineData(384, 2560)]
    [InlineData(768, 3072)]
    public void A_linear_layer_is_right_to_the_last_output_at_any_number_of_rows(int inputs, int outputs)
    {
        using var processor = Processor.Pretend(mklUsesAvx512: false, prefersFloat32Products: false);
        // What is wrong here is as large as the weights; rounding grows with the square root of how many products are summed. On AMD's family 25 oneDNN adds them one after the other, where elsewhere it has several sums:
        // 5.4e-6 for 768 inputs. The same product summed in order by hand is off by 4.9e-6, or 6.3e-6 where the bias comes first, and in four parts by 1.9e-6.
        var rounding = 5e-6 * Math.Sqrt(Math.Max(1, inputs / 384.0));
        foreach (var rows in (int[])[128, 192, 320, 512, 1088, 2048, 4928]) LinearIsTheProduct([rows], inputs, outputs, 1 / Math.Sqrt(inputs), ScalarType.Float32, rounding);
    }

    [Fact]
    public void A_linear_layer_takes_views_and_any_number_of_dimensions()
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(2);
        var (w, b) = (randn([160, 128], generator: generator) / Math.Sqrt(128), randn([160], generator: generator));     // results of about 1, as the bound is absolute
        var x = randn([128, 40, 20], generator: generator).permute(2, 1, 0);
        Assert.InRange(Error(TorchOps.Linear(x, w, b), nn.functional.linear(x, w, b)), 0, 1e-5);
        var flat = randn([500, 128], generator: generator);
        Assert.InRange(Error(TorchOps.Linear(flat, w, null), nn.functional.linear(flat, w)), 0, 1e-5);
        Assert.Equal([160L], TorchOps.Linear(randn(128), w, b).shape);
    }

    public static TheoryData<Activation?, ScalarType> Packs()
    {
        var data = new TheoryData<Activation?, ScalarType>();
        foreach (var dtype in new[] { ScalarType.Float32, ScalarType.BFloat16 })
        {
            data.Add(null, dtype);
            foreach (var activation in Enum.GetValues<Activation>()) data.Add(activation, dtype);
        }
        return data;
    }

    [Theory]
    [InlineData(null)]
    [InlineData(Activation.QuickGelu)]
    [InlineData(Activation.GeluTanh)]
    public void A_packed_bfloat16_product_over_many_rows_is_the_same_by_float32(Activation? activation)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (x, w, b) = (randn([300, 96], ScalarType.BFloat16), randn([80, 96], ScalarType.BFloat16) * 0.1, randn([80], ScalarType.BFloat16));
        if (TorchOps.Pack(w) is not { } packed)
        {
            Assert.False(Avx512BW.IsSupported);                                            // from there on oneDNN has products of bfloat16
            return;
        }
        var expected = nn.functional.linear(x.to(ScalarType.Float64), w.to(ScalarType.Float64), b.to(ScalarType.Float64));
        if (activation is { } f) expected = f.Apply(expected);
        foreach (var prefersFloat32 in new[] { false, true })
        {
            using var processor = Processor.Pretend(mklUsesAvx512: true, prefersFloat32);
            var y = TorchOps.PackedLinear(x, packed, b, activation);
            Assert.Equal(ScalarType.BFloat16, y.dtype);
            Assert.InRange(Error(y, expected), 0, 2e-2);
        }
    }

    [Theory]
    [MemberData(nameof(Packs))]
    public void A_packed_product_with_its_activation_is_the_plain_one(Activation? activation, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var generator = new Generator(2);
        Tensor Draw(double scale, params long[] shape) => (randn(shape, generator: generator) * scale).to(dtype);
        foreach (var rows in (int[])[80, 128])
        {
            var (x, w, b) = (Draw(1, 3, 17, rows == 80 ? 96 : 64), Draw(0.1, rows, rows == 80 ? 96 : 64), Draw(0.5, rows));
            var packed = TorchOps.Pack(w);
            if (packed is null)
            {
                // A processor that loses what is left over from whole blocks, or one without products of bfloat16.
                Assert.True(rows == 80 || (dtype == ScalarType.BFloat16 && !Avx512BW.IsSupported));
                continue;
            }
            var y = TorchOps.PackedLinear(x, packed, b, activation);
            var expected = nn.functional.linear(x.to(ScalarType.Float64), w.to(ScalarType.Float64), b.to(ScalarType.Float64));
            if (activation is { } f) expected = f.Apply(expected);
            Assert.InRange(Error(y, expected), 0, dtype == ScalarType.Float32 ? 5e-6 : 2e-2);
            Assert.True(packed.to_dense().eq(w).all().item<bool>());
        }
    }

    [Fact]
    public void A_weight_that_gains_nothing_is_not_packed()
    {
        using var scope = NewDisposeScope();
        Assert.Null(TorchOps.Pack(ones(8, 8)));
        Assert.Null(TorchOps.Pack(ones([256, 256], ScalarType.Float64)));
        using var off = Dispatcher.SwitchOff();
        Assert.Null(TorchOps.Pack(ones(256, 256)));
    }

    public static TheoryData<ScalarType, bool, bool, double?, bool> Attentions()
    {
        var data = new TheoryData<ScalarType, bool, bool, double?, bool>();
        foreach (var dtype in new[] { ScalarType.Float32, ScalarType.BFloat16 })
            foreach (var available in new[] { true, false })
            {
                data.Add(dtype, false, false, null, available);
                data.Add(dtype, true, false, null, available);
                data.Add(dtype, false, true, 0.3, available);
            }
        return data;
    }

    [Theory]
    [MemberData(nameof(Attentions))]
    public void Attention_and_its_gradients_follow_the_formula(ScalarType dtype, bool causal, bool masked, double? scale, bool available)
    {
        using var off = available ? null : Dispatcher.SwitchOff();
        using var scope = NewDisposeScope();
        using var generator = new Generator(3);
        Tensor Draw() => randn([2, 3, 9, 16], generator: generator).to(dtype).requires_grad_();
        var (q, k, v) = (Draw(), Draw(), Draw());
        var mask = masked ? randn([2, 1, 1, 9], generator: generator).gt(-0.5) : null;
        var change = randn([2, 3, 9, 16], generator: generator).to(dtype);

        var y = TorchOps.Attention(q, k, v, mask, causal, scale);
        y.backward([change]);
        var ours = new[] { q.grad!, k.grad!, v.grad! };
        (q.grad, k.grad, v.grad) = (null, null, null);

        var scores = q.to(ScalarType.Float64).matmul(k.to(ScalarType.Float64).transpose(-2, -1)) * (scale ?? 0.25);
        if (causal) scores = scores.masked_fill(ones(9, 9, dtype: ScalarType.Bool).triu(1), double.NegativeInfinity);
        if (mask is not null) scores = scores.masked_fill(mask.logical_not(), double.NegativeInfinity);
        var expected = scores.softmax(-1).matmul(v.to(ScalarType.Float64));
        expected.backward([change.to(ScalarType.Float64)]);

        var tolerance = dtype == ScalarType.Float32 ? 5e-6 : 3e-2;
        Assert.InRange(Error(y, expected), 0, tolerance);
        foreach (var (gradient, input) in ours.Zip(new[] { q, k, v })) Assert.InRange(Error(gradient, input.grad!), 0, tolerance);
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public void Attention_in_bfloat16_over_many_rows_is_the_same_by_float32(bool causal, bool masked)
    {
        using var scope = NewDisposeScope();
        var (q, k, v) = (randn([5, 3, 60, 16], ScalarType.BFloat16), randn([5, 3, 60, 16], ScalarType.BFloat16), randn([5, 3, 60, 16], ScalarType.BFloat16));
        var mask = masked ? randn([5, 1, 1, 60], ScalarType.BFloat16) : null;
        Tensor Run(bool prefersFloat32)
        {
            using var processor = Processor.Pretend(mklUsesAvx512: true, prefersFloat32);
            return TorchOps.Attention(q, k, v, mask, causal, null);
        }
        Assert.Equal(ScalarType.BFloat16, Run(true).dtype);
        Assert.InRange(Error(Run(true), Run(false)), 0, 3e-2);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Attention_repeats_heads_that_several_queries_share(bool available)
    {
        using var off = available ? null : Dispatcher.SwitchOff();
        using var scope = NewDisposeScope();
        var (q, k, v) = (randn(1, 8, 5, 16), randn(1, 2, 5, 16), randn(1, 2, 5, 16));
        var expected = (q.matmul(k.repeat_interleave(4, 1).transpose(-2, -1)) * 0.2).softmax(-1).matmul(v.repeat_interleave(4, 1));
        Assert.InRange(Error(TorchOps.Attention(q, k, v, null, false, 0.2), expected), 0, 1e-5);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void AdamW_takes_the_steps_of_its_formula(bool available)
    {
        using var off = available ? null : Dispatcher.SwitchOff();
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var generator = new Generator(4);
        const double rate = 0.01, beta1 = 0.9, beta2 = 0.98, decay = 0.1, eps = 1e-6;
        var values = new[] { randn([33, 7], generator: generator), randn([5], generator: generator) };
        var (means, squares) = (values.Select(static v => zeros_like(v)).ToArray(), values.Select(static v => zeros_like(v)).ToArray());
        var steps = values.Select(static _ => zeros(1)).ToArray();
        var expected = values.Select(static v => v.to(ScalarType.Float64).clone()).ToArray();
        var (m, s) = (expected.Select(static v => zeros_like(v)).ToArray(), expected.Select(static v => zeros_like(v)).ToArray());
        for (var step = 1; step <= 4; step++)
        {
            var gradients = values.Select(v => randn(v.shape, generator: generator)).ToArray();
            foreach (var count in steps) count.add_(1);
            TorchOps.AdamW(values, gradients, means, squares, steps, rate, beta1, beta2, decay, eps);
            for (var i = 0; i < values.Length; i++)
            {
                var g = gradients[i].to(ScalarType.Float64);
                m[i] = beta1 * m[i] + (1 - beta1) * g;
                s[i] = beta2 * s[i] + (1 - beta2) * g * g;
                var (mean, square) = (m[i] / (1 - Math.Pow(beta1, step)), s[i] / (1 - Math.Pow(beta2, step)));
                expected[i] = expected[i] * (1 - rate * decay) - rate * mean / (square.sqrt() + eps);
            }
        }
        for (var i = 0; i < values.Length; i++) Assert.InRange(Error(values[i], expected[i]), 0, 2e-6);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Lists_of_tensors_are_copied_scaled_added_zeroed_and_measured(bool available)
    {
        using var off = available ? null : Dispatcher.SwitchOff();
        using var scope = NewDisposeScope();
        var source = new[] { full([3], 2f), full([2, 2], 1f) };
        var target = new[] { zeros([3], ScalarType.BFloat16), zeros([2, 2], ScalarType.BFloat16) };
        TorchOps.Copy(target, source);
        Assert.All(target.Zip(source), static pair => Assert.True(pair.First.to(ScalarType.Float32).eq(pair.Second).all().item<bool>()));
        Assert.Equal(4, TorchOps.Norm(source), 1e-6);
        TorchOps.Scale(source, 0.5);
        Assert.Equal(2, TorchOps.Norm(source), 1e-6);
        TorchOps.Add(source, [ones(3), ones(2, 2)]);
        Assert.Equal(2, source[0][0].item<float>());
        TorchOps.Zero(source);
        Assert.Equal(0, TorchOps.Norm(source));
        TorchOps.Zero([]);
        TorchOps.Copy([], []);
        Assert.Equal(0, TorchOps.Norm([]));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void An_embedding_gathers_rows_and_adds_up_their_gradients(bool available)
    {
        using var off = available ? null : Dispatcher.SwitchOff();
        using var scope = NewDisposeScope();
        var table = arange(12, ScalarType.Float32).view(4, 3).clone().requires_grad_();
        var y = TorchOps.Embedding(table, tensor(new long[] { 1, 3, 1, 0 }).view(2, 2));
        Assert.Equal([2L, 2, 3], y.shape);
        Assert.Equal(9, y[0, 1, 0].item<float>());
        y.sum().backward();
        Assert.Equal([1f, 2f, 0f, 1f], table.grad![.., 0].data<float>().ToArray());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Gelu_by_tanh_follows_its_formula(bool available)
    {
        using var off = available ? null : Dispatcher.SwitchOff();
        using var scope = NewDisposeScope();
        var y = TorchOps.GeluTanh(tensor(new[] { -3f, -0.5f, 0f, 1f }));
        foreach (var (x, value) in new[] { -3.0, -0.5, 0, 1 }.Zip(y.data<float>().ToArray()))
            Assert.Equal(0.5 * x * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x))), value, 1e-5);
    }
}
