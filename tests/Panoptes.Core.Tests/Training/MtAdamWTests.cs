using Panoptes.Training;

namespace Panoptes.Core.Tests.Training;

public sealed class MtAdamWTests
{
    [Fact]
    public void A_step_goes_by_the_gradients_direction_its_tasks_weight_and_its_share()
    {
        using var scope = NewDisposeScope();
        using var model = new LooseParameters(1, [2], [1]);
        using var optimizer = new MtAdamW(ParameterGroup.Of(model, 0), 0.9, 0.99, 0);
        var before = model.Values;
        // Two steps of two tasks: lengths 5 and 10 do not matter, weights and shares do.
        Step([3, 0], [4], new("a", 0.25, 2));
        Step([6, 8], [0], new("b", 0.75, 1));
        double[] a = [3 * 2 / 5.0, 0, 4 * 2 / 5.0], b = [6 / 10.0, 8 / 10.0, 0];
        var after = model.Values;
        for (var i = 0; i < 3; i++)
        {
            var (m1, v1) = (0.1 * a[i] / 0.25, 0.01 * a[i] * a[i] / 0.25);
            var (m2, v2) = ((0.9 * m1) + (0.1 * b[i] / 0.75), (0.99 * v1) + (0.01 * b[i] * b[i] / 0.75));
            var first = v1 == 0 ? 0 : m1 / 0.1 / Math.Sqrt(v1 / 0.01);
            var expected = before[i / 2][i % 2] - (0.1 * first) - (0.1 * m2 / (1 - 0.81) / Math.Sqrt(v2 / (1 - 0.9801)));
            if (i == 1) continue;                                                    // 0 / 0 in the first step
            Assert.Equal(expected, after[i / 2][i % 2], 1e-4);
        }

        void Step(float[] first, float[] second, TrainedTask task)
        {
            optimizer.ZeroGradients();
            model[0].Value.grad = tensor(first);
            model[1].Value.grad = tensor(second);
            optimizer.Task = task;
            optimizer.Step(0.1);
        }
    }

    [Fact]
    public void What_a_task_does_not_reach_stays_and_its_means_fade_as_by_gradients_of_zero()
    {
        using var scope = NewDisposeScope();
        float[][] results = [.. new[] { true, false }.Select(zeros =>
        {
            using var model = new LooseParameters(1, [3], [2]);
            using var optimizer = new MtAdamW(ParameterGroup.Of(model, 0));
            for (var step = 0; step < 4; step++)
            {
                optimizer.ZeroGradients();
                model[1].Value.grad = tensor([1f, -2f]);
                if (step is 0 or 3) model[0].Value.grad = tensor([1f, 2f, 3f]);
                else if (zeros) model[0].Value.grad = torch.zeros(3);
                // Only what the last step does is compared: with gradients of zero the momentum moves in between.
                if (step == 3) using (no_grad()) model[0].Value.fill_(0);
                optimizer.Step(0.01);
            }
            return model.Values[0];
        })];
        for (var i = 0; i < 3; i++) Assert.Equal(results[0][i], results[1][i], 1e-6);
    }

    [Fact]
    public void Tasks_are_drawn_by_their_shares_and_the_same_again()
    {
        var mixture = new TaskMixture([new("a", 3), new("b", 1)], 7);
        Assert.Equal([0.75, 0.25], mixture.Tasks.Select(static t => t.Share));
        string[] drawn = [.. Enumerable.Range(0, 4000).Select(i => mixture.At(i).Name)];
        Assert.InRange(drawn.Count(static n => n == "a"), 2900, 3100);
        Assert.Equal(drawn, Enumerable.Range(0, 4000).Select(i => new TaskMixture([new("a", 0.75), new("b", 0.25)], 7).At(i).Name));
        Assert.Throws<PanoptesException>(() => new TaskMixture([], 1));
        Assert.Throws<PanoptesException>(() => new TaskMixture([new("a", 0)], 1));
    }
}
