using System.Numerics;
using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

public sealed class ElasticFieldTests
{
    [Theory]
    [InlineData(16, 1)]
    [InlineData(40, 3)]
    [InlineData(33, 7)]
    public void Displacements_are_smooth_and_as_large_as_was_asked_for(int size, int grid)
    {
        const int Fields = 200;
        var elastic = new ElasticField(size, grid);
        var field = new Vector2[size * size];
        var (squares, step) = (0.0, 0f);
        for (var i = 0; i < Fields; i++)
        {
            var random = new SampleRandom(3, 0, i);
            elastic.Draw(2, ref random, field);
            foreach (var v in field) squares += v.LengthSquared() / 2;
            for (var y = 0; y < size; y++)
                for (var x = 1; x < size; x++) step = Math.Max(step, (field[(y * size) + x] - field[(y * size) + x - 1]).Length());
        }
        // The squares of B-splines' weights sum to 0.479 a direction on the average over a cell.
        Assert.InRange(Math.Sqrt(squares / (Fields * field.Length)), 2 * 0.40, 2 * 0.56);
        Assert.InRange(step, 0, 2 * 6.5f * grid / size);
    }

    [Fact]
    public void A_bent_image_has_the_colors_of_the_plain_one_elsewhere_and_no_deviation_changes_nothing()
    {
        var image = Pictures.Noise(32, 32, 3);
        var plain = Pictures.Plain(32);
        Assert.Equal(Apply(plain, 5), Apply(plain with { ElasticProbability = 1, ElasticDeviation = new(0, 0) }, 5));
        var bent = Apply(plain with { ElasticProbability = 1, ElasticDeviation = new(0.1f, 0.1f) }, 5);
        Assert.NotEqual(Apply(plain, 5), bent);
        Assert.Equal(bent, Apply(plain with { ElasticProbability = 1, ElasticDeviation = new(0.1f, 0.1f) }, 5));
        Assert.All(bent, static v => Assert.InRange(v, 0, 1));

        float[] Apply(Augmentation options, ulong seed)
        {
            var augmenter = new Augmenter(options);
            var (result, random) = (new float[augmenter.ResultLength], new SampleRandom(seed, 0, 0));
            augmenter.Apply(image, 32, 32, 3, ref random, result);
            return result;
        }
    }
}
