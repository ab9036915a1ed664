using Panoptes.Representation.Objectives;

namespace Panoptes.Representation.Tests;

public sealed class StyleDistanceTests
{
    [Fact]
    public void Products_are_means_over_places_of_tokens_and_of_maps_alike()
    {
        using var scope = NewDisposeScope();
        var tokens = tensor(new float[] { 1, 2, 3, 4, 5, 6 }, [1, 3, 2]);
        // (1 + 9 + 25) / 3, (2 + 12 + 30) / 3, (4 + 16 + 36) / 3
        float[] expected = [35 / 3f, 44 / 3f, 44 / 3f, 56 / 3f];
        Assert.True(StyleDistance.Gram(tokens).allclose(tensor(expected, [1, 2, 2])));
        Assert.True(StyleDistance.Gram(tokens.transpose(1, 2).reshape(1, 2, 3, 1)).allclose(tensor(expected, [1, 2, 2])));
    }

    [Fact]
    public void Moved_features_are_of_one_style_and_others_are_apart()
    {
        using var scope = NewDisposeScope();
        var features = randn(2, 7, 4, generator: new Generator(1));
        Tensor[] wanted = [StyleDistance.Gram(features.narrow(0, 0, 1))];
        var distance = StyleDistance.Of(wanted, [features]);
        Assert.Equal([2], distance.shape);
        Assert.Equal(0, distance[0].item<float>(), 1e-6f);
        Assert.True(distance[1].item<float>() > 0.01);
        Assert.Equal(0, StyleDistance.Of(wanted, [features.narrow(0, 0, 1).roll(3, 1)]).item<float>(), 1e-6f);
        Assert.Equal(0.75f * 0.75f, StyleDistance.Of(wanted, [features.narrow(0, 0, 1) / 2]).item<float>(), 1e-5f);
        Assert.Contains("1 layers", Assert.Throws<PanoptesException>(() => StyleDistance.Of(wanted, [features, features])).Message, StringComparison.Ordinal);
    }
}
