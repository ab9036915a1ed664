using Panoptes.Nn;

namespace Panoptes.Core.Tests.Nn;

public sealed class AttentionRecorderTests
{
    [Theory]
    [InlineData(4, false, false)]
    [InlineData(2, true, false)]
    [InlineData(1, false, true)]
    public void Recorded_attention_gives_the_numbers_of_the_fused_one(int keyHeads, bool causal, bool masked)
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(3);
        var query = randn([2, 4, 5, 6], generator: generator);
        var (key, value) = (randn([2, keyHeads, 5, 6], generator: generator), randn([2, keyHeads, 5, 6], generator: generator));
        var mask = masked ? ones(2, 1, 1, 5, dtype: ScalarType.Bool).index_fill_(3, tensor(new long[] { 4 }), false) : null;
        var expected = Attention.Apply(query, key, value, mask, causal, scale: 0.3);
        var before = LiveTensors.Settle();
        using (var recorder = new AttentionRecorder())
        {
            using var found = Attention.Apply(query, key, value, mask, causal, scale: 0.3);
            Assert.True((found - expected).abs().max().item<float>() < 1e-5f);
            var probabilities = Assert.Single(recorder.Probabilities);
            Assert.Equal([2, 4, 5, 5], probabilities.shape);
            Assert.True((probabilities.sum(-1) - 1).abs().max().item<float>() < 1e-5f);
            if (causal) Assert.Equal(0, probabilities.triu(1).abs().max().item<float>());
            if (masked) Assert.Equal(0, probabilities.select(3, 4).abs().max().item<float>());

            // The inner one has its own list, and the outer goes on after it.
            using (var inner = new AttentionRecorder())
            {
                Attention.Apply(query, key, value, mask, causal).Dispose();
                Assert.Single(inner.Probabilities);
            }
            Attention.Apply(query, key, value, mask, causal).Dispose();
            Assert.Equal(2, recorder.Probabilities.Count);
        }
        Attention.Apply(query, key, value, mask, causal).Dispose();
        Assert.True(Tensor.TotalCount >= before);
    }
}
