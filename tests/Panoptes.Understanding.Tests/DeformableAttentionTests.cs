namespace Panoptes.Understanding.Tests;

public sealed class DeformableAttentionTests
{
    [Fact]
    public void A_location_finds_the_weighted_mean_of_the_four_places_around_it_and_zero_outside()
    {
        using var scope = NewDisposeScope();
        // One head of size 1, two levels: 2 x 2 with 1 2 / 3 4, and a single 8.
        var value = tensor(new float[] { 1, 2, 3, 4, 8 }, [1, 5, 1, 1]);
        // The middle of the first map is the mean of all; its corner has three zeros beside it; the middle of the second is its only place.
        var locations = tensor(new float[] { 0.5f, 0.5f, 0, 0, 0.5f, 0.5f, 1.5f, 0.5f }, [1, 1, 1, 2, 2, 2]);
        var weights = tensor(new float[] { 1, 0.5f, 0.25f, 9 }, [1, 1, 1, 2, 2]);
        var seen = DeformableAttention.Apply(value, [(2, 2), (1, 1)], locations, weights);
        Assert.Equal([1, 1, 1], seen.shape);
        Assert.Equal(2.5f + 0.5f * 0.25f * 1 + 0.25f * 8, seen.item<float>(), 1e-5);
    }

    [Fact]
    public void The_centers_of_places_are_half_a_place_from_the_edges()
    {
        using var centers = DeformableAttention.Centers([(1, 2), (2, 1)]);
        Assert.Equal([0.25f, 0.5f, 0.75f, 0.5f, 0.5f, 0.25f, 0.5f, 0.75f], centers.data<float>().ToArray());
    }

    [Fact]
    public void Training_starts_with_every_head_looking_in_a_direction_of_its_own()
    {
        using var scope = NewDisposeScope();
        using var attention = new DeformableAttention(8, heads: 4, levels: 1, points: 2);
        attention.Initialize(new Generator(1));
        float[] expected = [1, 0, 2, 0, 0, 1, 0, 2, -1, 0, -2, 0, 0, -1, 0, -2];
        Assert.All(attention.SamplingOffsets.Bias!.Value.data<float>().ToArray().Zip(expected), static p => Assert.Equal(p.Second, p.First, 1e-5));
    }

    [Fact]
    public void Attention_about_boxes_counts_offsets_in_their_size_and_leaks_nothing()
    {
        using var attention = new DeformableAttention(4, heads: 1, levels: 1, points: 1);
        attention.Initialize(new Generator(1));
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        void Once()
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            // The only head looks one step to the right: half the box's width over the number of points, from its center to its right edge.
            var source = arange(16, dtype: ScalarType.Float32).view(1, 4, 4);
            var box = tensor(new float[] { 0.25f, 0.5f, 1, 1 }, [1, 1, 1, 4]);
            var point = tensor(new float[] { 0.75f, 0.5f }, [1, 1, 1, 2]);
            var query = zeros(1, 1, 4);
            attention.SamplingOffsets.Bias!.Value.copy_(tensor(new float[] { 1, 0 }));
            var aboutBox = attention.Forward(query, source, box, [(1, 4)]);
            attention.SamplingOffsets.Bias!.Value.zero_();
            var aboutPoint = attention.Forward(query, source, point, [(1, 4)]);
            Assert.True(aboutBox.allclose(aboutPoint));
            var hidden = attention.Forward(query, source, point, [(1, 4)], ones(1, 4, dtype: ScalarType.Bool));
            Assert.True(hidden.allclose(attention.OutputProj.Bias!.Value));
        }
    }
}
