using Panoptes.Evaluation;
using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Evaluation;

public sealed class GenerationMetricsTests
{
    [Fact]
    public void Precision_and_recall_are_those_of_balls_around_points()
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(4);
        var (real, fake) = (randn(60, 5, generator: random), (randn(45, 5, generator: random) * 1.4) + 0.3);
        foreach (var k in (int[])[1, 3, 7])
        {
            var scores = ManifoldScores.Of(real, fake, k);
            Assert.Equal(Share(Rows(fake), Rows(real), k), scores.Precision, 1e-12);
            Assert.Equal(Share(Rows(real), Rows(fake), k), scores.Recall, 1e-12);
            Assert.InRange(scores.Precision, 0.05, 0.95);
        }

        static double[][] Rows(Tensor x) => [.. x.data<float>().ToArray().Chunk(5).Select(static r => r.Select(static v => (double)v).ToArray())];

        static double Distance(double[] a, double[] b) => Math.Sqrt(a.Zip(b).Sum(static p => (p.First - p.Second) * (p.First - p.Second)));

        static double Share(double[][] points, double[][] centers, int k)
        {
            var radii = centers.Select(c => centers.Select(o => Distance(c, o)).Order().ElementAt(k)).ToArray();
            return points.Average(p => centers.Zip(radii).Any(b => Distance(p, b.First) <= b.Second) ? 1.0 : 0);
        }
    }

    [Fact]
    public void What_shows_one_of_two_kinds_is_precise_and_recalls_half()
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(2);
        Tensor Around(float center, int count) => (randn(count, 3, generator: random) * 0.1) + center;
        var (real, one) = (cat([Around(0, 40), Around(50, 40)]), Around(0, 40));
        Assert.Equal(new ManifoldScores(1, 1), ManifoldScores.Of(real, real));
        var half = ManifoldScores.Of(real, one);
        Assert.InRange(half.Precision, 0.8, 1);
        Assert.InRange(half.Recall, 0.35, 0.5);
        Assert.Equal(new ManifoldScores(0, 0), ManifoldScores.Of(one, one + 100));
        foreach (var wrong in (Action[])[() => ManifoldScores.Of(real, one, 0), () => ManifoldScores.Of(real.narrow(0, 0, 3), one), () => ManifoldScores.Of(real, one.narrow(1, 0, 2))])
            Assert.Contains("expected", Assert.Throws<PanoptesException>(wrong).Message, StringComparison.Ordinal);
        var before = LiveTensors.Settle();
        ManifoldScores.Of(real, one);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Edges_agree_within_the_tolerance_and_those_of_several_images_add_up()
    {
        var (wanted, drawn) = (Column(10, 0, 20), Column(12, 5, 20));
        var near = EdgeScores.Of(drawn, wanted);
        // Two columns apart; of the wanted ones, those up to five rows above have their nearest one further.
        Assert.Equal(new EdgeScores(15, 15, 20, 15), near);
        Assert.Equal((1, 0.75, 1.5 / 1.75), (near.Precision, near.Recall, near.F1));
        Assert.Equal(new EdgeScores(15, 15, 20, 16), EdgeScores.Of(drawn, wanted, Math.Sqrt(5)));
        Assert.Equal(new EdgeScores(15, 0, 20, 0), EdgeScores.Of(drawn, wanted, 1.9));
        Assert.Equal(0, EdgeScores.Of(drawn, wanted, 1.9).F1);
        Assert.Equal(1, EdgeScores.Of(wanted, wanted, 0).F1);
        var nothing = new Image(30, 20, 3);
        Assert.Equal(new EdgeScores(0, 0, 20, 0), EdgeScores.Of(nothing, wanted));
        Assert.Equal((1, 0, 1.0), (EdgeScores.Of(nothing, wanted).Precision, EdgeScores.Of(nothing, wanted).F1, EdgeScores.Of(nothing, nothing).F1));
        Assert.Equal(new EdgeScores(15, 15, 40, 15), near + EdgeScores.Of(nothing, wanted));
        Assert.Contains("one size", Assert.Throws<PanoptesException>(() => EdgeScores.Of(new Image(3, 3, 1), wanted)).Message, StringComparison.Ordinal);
        Assert.Contains("0 or more", Assert.Throws<PanoptesException>(() => EdgeScores.Of(wanted, wanted, double.NaN)).Message, StringComparison.Ordinal);

        static Image Column(int x, int from, int to)
        {
            var image = new Image(30, 20, 1);
            for (var y = from; y < to; y++) image.Pixels[(y * 30) + x] = 255;
            return image;
        }
    }
}
