using Panoptes.Nn;

namespace Panoptes.Core.Tests.Nn;

public sealed class LowRankTests
{
    sealed class Two : Module
    {
        public Linear First { get; } = new(6, 5);

        public Linear Second { get; } = new(5, 4);

        public Tensor Forward(Tensor x) => Second.Forward(First.Forward(x, Activation.Gelu));
    }

    [Fact]
    public void A_change_starts_at_nothing_and_alone_is_trained()
    {
        using var scope = NewDisposeScope();
        using var model = Fresh();
        var x = randn([3, 6], generator: new Generator(2));
        var before = model.Forward(x).detach();
        using var changes = LowRank.Of(model, static key => key == "first", 2, 4);
        changes.Initialize(new Generator(3));
        Assert.Equal(before.data<float>().ToArray(), model.Forward(x).data<float>().ToArray());
        model.Forward(x).sum().backward();
        Assert.All(model.Parameters(), static p => Assert.Null(p.Grad));
        Assert.True(changes[0].LoraB.Grad!.abs().sum().item<float>() > 0);
    }

    [Fact]
    public void A_merged_change_computes_the_same_and_leaves_the_weight_as_it_was()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Fresh();
        var (x, own) = (randn([3, 6], generator: new Generator(2)), model.First.Weight.Value.clone());
        float[] changed;
        using (var changes = LowRank.Of(model, static _ => true, 2, 3))
        {
            changes.Initialize(new Generator(3));
            foreach (var change in changes) change.LoraB.Value.normal_(0, 1, new Generator(4));
            changed = model.Forward(x).data<float>().ToArray();
            var expected = nn.functional.linear(x, own + changes[0].LoraB.Value.matmul(changes[0].LoraA.Value) * 1.5, model.First.Bias!.Value);
            Assert.True((expected - model.First.Forward(x)).abs().max().item<float>() < 1e-5f);
            using (LowRank.Merge(changes))
            {
                Assert.NotEqual(own.data<float>().ToArray(), model.First.Weight.Value.data<float>().ToArray());
                Assert.All(changed.Zip(model.Forward(x).data<float>().ToArray()), static p => Assert.Equal(p.First, p.Second, 1e-4f));
            }
            Assert.Equal(own.data<float>().ToArray(), model.First.Weight.Value.data<float>().ToArray());
            Assert.Equal(changed, model.Forward(x).data<float>().ToArray());
        }
        Assert.NotEqual(changed, model.Forward(x).data<float>().ToArray());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    public void A_rank_that_is_no_smaller_than_the_weight_is_refused(int rank)
    {
        using var model = Fresh();
        Assert.Contains("rank", Assert.Throws<PanoptesException>(() => LowRank.Of(model, static key => key == "first", rank, 1)).Message);
    }

    static Two Fresh()
    {
        var model = new Two();
        model.Initialize(new Generator(1));
        return model;
    }
}
