using CsCheck;
using Panoptes.Checkpoints;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Native;
using Panoptes.Training;

namespace Panoptes.Core.Tests.Training;

public sealed class OptimizerTests
{
    static readonly Dictionary<string, Func<IReadOnlyList<ParameterGroup>, Optimizer>> Makers = new()
    {
        ["AdamW"] = static g => new AdamW(g),
        ["AdamW with AMSGrad"] = static g => new AdamW(g, amsgrad: true),
        ["Sgd"] = static g => new Sgd(g, momentum: 0),
        ["Sgd with momentum"] = static g => new Sgd(g, nesterov: true),
        ["Lamb"] = static g => new Lamb(g),
        ["Lars"] = static g => new Lars(g),
        ["Lion"] = static g => new Lion(g),
        ["Adafactor"] = static g => new Adafactor(g, factorAbove: 2),
        ["Adafactor with momentum"] = static g => new Adafactor(g, beta1: 0.9, factorAbove: 2),
        ["Muon"] = static g => new Muon(g),
        ["MtAdamW"] = static g => new MtAdamW(g),
    };

    public static TheoryData<string> Optimizers => [.. Makers.Keys];

    static Optimizer Make(string name, LooseParameters model) => Makers[name](ParameterGroup.Of(model, 0.1));

    static readonly long[][] Shapes = [[4, 6], [6], [], [3, 3, 2, 2], [7, 3]];

    [Theory, MemberData(nameof(Optimizers))]
    public void A_saved_and_restored_state_goes_on_to_the_bit(string name)
    {
        var shapes = Gen.Long[1, 6].Array[0, 4].Array[1, 4];
        Gen.Select(shapes, Gen.Int[0, 3], Gen.Int[1, 3], Gen.Int[0, 1000]).Sample((shapes, before, after, seed) =>
        {
            // Every second parameter gets its first gradient only after the break.
            void Run(LooseParameters model, Optimizer optimizer, int from, int to)
            {
                for (var step = from; step < to; step++)
                {
                    optimizer.ZeroGradients();
                    model.DrawGradients(seed + step, i => step >= before || i % 2 == 0);
                    optimizer.Step(0.01 * (step + 1));
                }
            }

            using var unbroken = new LooseParameters(seed, shapes);
            using var whole = Make(name, unbroken);
            Run(unbroken, whole, 0, before + after);

            using var folder = new TemporaryFolder();
            using (var model = new LooseParameters(seed, shapes))
            using (var optimizer = Make(name, model))
            {
                Run(model, optimizer, 0, before);
                SafeTensors.Save(folder["model.safetensors"], model.NamedParameters().Select(static p => KeyValuePair.Create(p.Key, p.Parameter.Value)));
                SafeTensors.Save(folder["optimizer.safetensors"], optimizer.State);
            }

            // Steps into another direction first: nothing of them may remain.
            using var scope = NewDisposeScope();
            using var resumed = new LooseParameters(seed + 1, shapes);
            using var again = Make(name, resumed);
            resumed.DrawGradients(seed + 77);
            again.Step(0.1);
            foreach (var (key, value) in SafeTensors.Load(folder["model.safetensors"])) resumed.NamedParameters().Single(p => p.Key == key).Parameter.Assign(value);
            again.Restore(SafeTensors.Load(folder["optimizer.safetensors"]), before);
            Run(resumed, again, before, before + after);

            Assert.Equal(whole.Steps, again.Steps);
            Assert.Equal(unbroken.Values, resumed.Values);
            Assert.Equal(whole.State.Keys.Order(), again.State.Keys.Order());
        }, iter: 12, threads: 1);
    }

    [Theory, MemberData(nameof(Optimizers))]
    public void Frozen_parameters_and_those_without_a_gradient_stay_as_they_are(string name)
    {
        using var model = new LooseParameters(1, Shapes);
        using var optimizer = Make(name, model);
        var start = model.Values;
        model.DrawGradients(2, static i => i != 3);
        model[0].RequiresGrad = false;                                               // after the optimizer was made, with a gradient there
        optimizer.Step(0.1);
        var now = model.Values;
        Assert.Equal(start[0], now[0]);
        Assert.Equal(start[3], now[3]);
        foreach (var i in (int[])[1, 2, 4]) Assert.NotEqual(start[i], now[i]);
        Assert.DoesNotContain(optimizer.State.Keys, static k => k.StartsWith("p0.", StringComparison.Ordinal) || k.StartsWith("p3.", StringComparison.Ordinal));
    }

    [Theory, MemberData(nameof(Optimizers))]
    public void A_step_leaves_the_gradients_and_keeps_no_tensor_but_its_state(string name)
    {
        using var model = new LooseParameters(1, Shapes);
        model.DrawGradients(2);
        var gradients = model.Parameters().Select(static p => p.Grad!).ToArray();
        var copies = gradients.Select(static g => g.clone()).ToArray();
        model.DrawGradients(2);
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        using (var optimizer = Make(name, model))
        {
            optimizer.Step(0.1);
            optimizer.Step(0.1);
            Assert.Equal(before + optimizer.State.Count, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
            optimizer.Restore(optimizer.State.ToDictionary(), 2);
            Assert.Equal(before + optimizer.State.Count, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
            optimizer.ClipGradients(1e9);
        }
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
        for (var i = 0; i < copies.Length; i++)
        {
            using var same = gradients[i].eq(copies[i]).all();
            Assert.True(same.item<bool>());
            gradients[i].Dispose();
            copies[i].Dispose();
        }
    }

    [Theory, MemberData(nameof(Optimizers))]
    public void The_layout_of_a_matrix_in_memory_makes_no_difference(string name)
    {
        using var scope = NewDisposeScope();
        using var plain = new LooseParameters(3, [5, 9]);
        using var turned = new LooseParameters(3, [5, 9]);
        turned[0].Assign(turned[0].Value.detach().t().contiguous().t());
        Assert.False(turned[0].Value.is_contiguous());
        using Optimizer one = Make(name, plain), other = Make(name, turned);
        for (var step = 0; step < 3; step++)
        {
            plain.DrawGradients(step);
            turned.DrawGradients(step);
            one.Step(0.1);
            other.Step(0.1);
        }
        foreach (var (a, b) in plain.Values[0].Zip(turned.Values[0])) Assert.Equal(a, b, 1e-5f);
    }

    [Theory, MemberData(nameof(Optimizers))]
    public void The_state_of_another_model_is_one_clear_error(string name)
    {
        if (name == "Sgd") return;                                                   // keeps nothing
        using var model = new LooseParameters(1, [4, 3], [5]);
        using var optimizer = Make(name, model);
        model.DrawGradients(2);
        optimizer.Step(0.1);
        var state = optimizer.State;

        using var wider = new LooseParameters(1, [4, 3], [6]);
        using var another = Make(name, wider);
        Assert.Contains("expected", Assert.Throws<PanoptesException>(() => another.Restore(state, 1)).Message, StringComparison.Ordinal);
        using var fewer = new LooseParameters(1, [4L, 3]);
        using var third = Make(name, fewer);
        Assert.Contains("p1.", Assert.Throws<PanoptesException>(() => third.Restore(state, 1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Only_matrices_and_larger_decay()
    {
        using var model = new LooseParameters(1, Shapes);
        model[4].RequiresGrad = false;
        var groups = ParameterGroup.Of(model, 0.3);
        Assert.Equal(["p0", "p3"], groups.Single(static g => g.WeightDecay == 0.3).Parameters.Select(static p => p.Key));
        Assert.Equal(["p1", "p2"], groups.Single(static g => g.WeightDecay == 0).Parameters.Select(static p => p.Key));
    }

    [Fact]
    public void Rates_fall_with_the_distance_from_the_output_of_each_tower()
    {
        using var model = new LooseParameters(1, [2L, 2], [2, 2], [2, 2], [2], [2, 2], [2]);
        var scale = ParameterGroup.LayerDecay([[[model[0]], [model[1]], [model[2], model[3]]], [[model[4]]]], 0.5);
        Assert.Equal([0.25, 0.5, 1, 1, 1, 1], model.Parameters().Select(scale));

        // The step goes by them: one of plain gradient descent is the rate times the gradient.
        model.DrawGradients(1);
        var (start, gradients) = (model.Values, model.Parameters().Select(static p => p.Grad!.data<float>().ToArray()).ToArray());
        using var optimizer = new Sgd(ParameterGroup.Of(model, 0, scale), momentum: 0);
        optimizer.Step(0.1);
        var now = model.Values;
        for (var i = 0; i < start.Length; i++)
            for (var j = 0; j < start[i].Length; j++) Assert.Equal(start[i][j] - 0.1 * scale(model[i]) * gradients[i][j], now[i][j], 1e-6);

        Assert.Contains("0", Assert.Throws<PanoptesException>(() => ParameterGroup.LayerDecay([], 0)).Message, StringComparison.Ordinal);
        Assert.Throws<PanoptesException>(() => ParameterGroup.LayerDecay([], 1.5));
    }

    [Theory]
    [InlineData(1e6)]
    [InlineData(0.5)]
    [InlineData(null)]
    public void Gradients_are_clipped_to_their_norm_together(double? max)
    {
        using var scope = NewDisposeScope();
        using var model = new LooseParameters(1, Shapes);
        using var optimizer = Make("AdamW", model);
        model.DrawGradients(2);
        var before = cat([.. model.Parameters().Select(static p => p.Grad!.flatten().to(ScalarType.Float64).clone())]);
        var norm = before.norm().ToDouble();
        Assert.Equal(norm, optimizer.ClipGradients(max), 1e-5);
        var after = cat([.. model.Parameters().Select(static p => p.Grad!.flatten().to(ScalarType.Float64))]);
        var factor = max is { } m ? Math.Min(1, m / (norm + 1e-6)) : 1;
        Assert.InRange((after - before * factor).abs().max().ToDouble(), 0, 1e-6);
        optimizer.ZeroGradients();
        Assert.All(model.Parameters(), static p => Assert.Null(p.Grad));
        Assert.Equal(0, optimizer.ClipGradients(max));
    }

    [Fact]
    public void AMSGrad_is_the_same_without_the_fused_kernel()
    {
        using LooseParameters fused = new(1, Shapes), plain = new(1, Shapes);
        using Optimizer one = Make("AdamW with AMSGrad", fused), other = Make("AdamW with AMSGrad", plain);
        for (var step = 0; step < 4; step++)
        {
            fused.DrawGradients(step);
            plain.DrawGradients(step);
            one.Step(0.1);
            using var off = Dispatcher.SwitchOff();
            other.Step(0.1);
        }
        foreach (var (a, b) in fused.Values.SelectMany(static v => v).Zip(plain.Values.SelectMany(static v => v))) Assert.Equal(a, b, 1e-5f);
    }

    [Theory]
    [InlineData("vision_model.encoder.layers.0.mlp.fc1.weight", new long[] { 16, 8 }, true)]
    [InlineData("text_model.embeddings.token_embedding.weight", new long[] { 16, 8 }, false)]
    [InlineData("positional_embedding", new long[] { 16, 8 }, false)]
    [InlineData("decoder.weight", new long[] { 320, 8 }, false)]
    [InlineData("visual.layer1.0.conv2.weight", new long[] { 16, 8, 3, 3 }, true)]
    [InlineData("visual.conv1.weight", new long[] { 16, 3, 3, 3 }, false)]
    [InlineData("visual.ln_post.weight", new long[] { 16 }, false)]
    [InlineData("logit_scale", new long[0], false)]
    public void Muon_takes_hidden_matrices_only(string key, long[] shape, bool taken) => Assert.Equal(taken, Muon.IsHiddenMatrix(key, shape));

    [Fact]
    public void Beside_Muons_matrices_the_rest_takes_AdamWs_steps()
    {
        using LooseParameters ours = new(1, Shapes), theirs = new(1, Shapes);
        using Optimizer muon = Make("Muon", ours), adam = Make("AdamW", theirs);
        for (var step = 0; step < 3; step++)
        {
            ours.DrawGradients(step);
            theirs.DrawGradients(step);
            muon.Step(0.1);
            adam.Step(0.1);
        }
        for (var i = 0; i < Shapes.Length; i++)
            if (Shapes[i].Length == 2) Assert.NotEqual(theirs.Values[i], ours.Values[i]);
            else Assert.Equal(theirs.Values[i], ours.Values[i]);
    }

    [Theory]
    [InlineData(6, 4)]
    [InlineData(3, 11)]
    public void In_float32_Muon_follows_its_five_iterations_to_rounding(int rows, int columns)
    {
        using var scope = NewDisposeScope();
        using LooseParameters parameters = new(1, [rows, columns]);
        using var muon = new Muon(ParameterGroup.Of(parameters, 0), MuonScale.Original, momentum: 0, precision: ScalarType.Float32);
        parameters.DrawGradients(0);
        var (before, gradient) = (parameters[0].Value.detach().to(ScalarType.Float64), parameters[0].Value.grad!.to(ScalarType.Float64));
        muon.Step(0.1);
        var x = gradient / gradient.norm();
        for (var i = 0; i < 5; i++)
        {
            var gram = rows > columns ? x.t().matmul(x) : x.matmul(x.t());
            var polynomial = (gram * -4.7750) + (gram.matmul(gram) * 2.0315);
            x = (x * 3.4445) + (rows > columns ? x.matmul(polynomial) : polynomial.matmul(x));
        }
        var expected = before - (x * 0.1 * Math.Sqrt(Math.Max(1, (double)rows / columns)));
        Assert.True((expected - parameters[0].Value.detach()).abs().max().item<double>() < 1e-5);
    }
}
