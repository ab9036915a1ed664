using Panoptes.Checkpoints;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Training;

namespace Panoptes.Core.Tests.Training;

public sealed class EmaTests
{
    static void Move(LooseParameters model, int seed)
    {
        using var other = new LooseParameters(seed, [3, 2], [4]);
        using var noGrad = no_grad();
        foreach (var (to, from) in model.Parameters().Zip(other.Parameters())) to.Value.copy_(from.Value);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_average_follows_its_formula(bool warmUp)
    {
        using var model = new LooseParameters(1, [3, 2], [4]);
        using var ema = new Ema(model, 0.9);
        var expected = model.Values.SelectMany(static v => v).Select(static v => (double)v).ToArray();
        for (var step = 2; step < 6; step++)
        {
            Move(model, step);
            if (warmUp) ema.Update(step * 20);
            else ema.Update();
            var decay = warmUp ? Math.Min(0.9, (1 + (step * 20.0)) / (10 + (step * 20.0))) : 0.9;
            expected = [.. expected.Zip(model.Values.SelectMany(static v => v), (a, v) => decay * a + (1 - decay) * v)];
        }
        Assert.Equal(["p0", "p1"], ema.State.Keys);
        foreach (var (ours, theirs) in ema.State.Values.SelectMany(static v => v.data<float>().ToArray()).Zip(expected)) Assert.Equal(theirs, ours, 1e-6);
    }

    [Fact]
    public void Weights_and_averages_change_places_and_back()
    {
        using var model = new LooseParameters(1, [3, 2], [4]);
        var average = model.Values;
        using var ema = new Ema(model, 0.9);
        Move(model, 2);
        var weights = model.Values;
        ema.Swap();
        Assert.Equal(average, model.Values);
        Assert.Equal(weights[0], ema.State["p0"].data<float>().ToArray());
        ema.Swap();
        Assert.Equal(weights, model.Values);
        Assert.Equal(average[0], ema.State["p0"].data<float>().ToArray());
        Assert.All(model.Parameters(), static p => Assert.True(p.Value.requires_grad));
    }

    [Fact]
    public void Saved_averages_go_on_to_the_bit()
    {
        using var model = new LooseParameters(1, [3, 2], [4]);
        using Ema whole = new(model, 0.7), first = new(model, 0.7);
        using var folder = new TemporaryFolder();
        Move(model, 2);
        whole.Update();
        first.Update();
        SafeTensors.Save(folder["ema.safetensors"], first.State);
        Move(model, 3);
        whole.Update();

        using var scope = NewDisposeScope();
        using var resumed = new Ema(model, 0.7);
        resumed.Restore(SafeTensors.Load(folder["ema.safetensors"]));
        resumed.Update();
        foreach (var (key, value) in whole.State) Assert.Equal(value.data<float>().ToArray(), resumed.State[key].data<float>().ToArray());
    }

    [Fact]
    public void The_averages_of_another_model_are_one_clear_error()
    {
        using LooseParameters model = new(1, [3, 2], [4]), wider = new(1, [3, 2], [5]), fewer = new(1, [3L, 2]);
        using Ema ours = new(model, 0.9), other = new(wider, 0.9), third = new(fewer, 0.9);
        Assert.Contains("p1", Assert.Throws<PanoptesException>(() => ours.Restore(other.State)).Message, StringComparison.Ordinal);
        Assert.Contains("p1", Assert.Throws<PanoptesException>(() => ours.Restore(third.State)).Message, StringComparison.Ordinal);
        Assert.Contains("1.5", Assert.Throws<PanoptesException>(() => new Ema(model, 1.5)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Averaging_keeps_no_tensor_but_the_averages()
    {
        using var model = new LooseParameters(1, [3, 2], [4]);
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        using (var ema = new Ema(model, 0.9))
        {
            for (var i = 0; i < 3; i++)
            {
                ema.Update();
                ema.Swap();
                ema.Swap();
                ema.Restore(ema.State);
            }
            Assert.Equal(before + 2, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
        }
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }
}
