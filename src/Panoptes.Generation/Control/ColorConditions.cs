using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>The image, blurred: a condition that keeps its colors where they are.</summary>
public sealed record BlurCondition : ConditionMaker
{
    /// <summary>The deviation, in pixels of an image of 512.</summary>
    public double Sigma { get; init; } = 8;

    protected override void Check() => Require(Sigma is >= 0.1 and <= 100, nameof(Sigma), Sigma, "0.1 to 100");

    protected override Image Draw(Image image) => Bounded(image, ResizeFilter.Bilinear, small =>
    {
        var blurred = new Image(small.Width, small.Height, 3);
        for (var c = 0; c < 3; c++)
        {
            var plane = Plane.Of(small.Width, small.Height, (y, row) =>
            {
                var to = row.Span;
                var from = small.Row(y);
                for (var x = 0; x < to.Length; x++) to[x] = from[(3 * x) + c];
            }).Blur(Sigma * SoftEdgeCondition.Unit(small), 3);
            for (var i = 0; i < plane.Values.Length; i++) blurred.Pixels[(3 * i) + c] = (byte)Math.Clamp(MathF.Round(plane.Values[i]), 0, 255);
        }
        return blurred;
    });
}

/// <summary>The image's colors, carried elsewhere by a smooth random flow (ControlNet 1.1's "content shuffle"): a condition that keeps a style and no shapes.</summary>
public sealed record ShuffleCondition : ConditionMaker
{
    /// <summary>Draws the flow.</summary>
    public ulong Seed { get; init; }

    /// <summary>How far apart places are that go their own ways, in pixels of an image of 512.</summary>
    public double Grain { get; init; } = 256;

    protected override void Check() => Require(Grain is >= 8 and <= 4096, nameof(Grain), Grain, "8 to 4096");

    protected override Image Draw(Image image) => Bounded(image, ResizeFilter.Bilinear, small =>
    {
        var random = new SampleRandom(Seed, 0, 0);
        var (xs, ys) = (Flow(small, ref random), Flow(small, ref random));
        var picture = new Image(small.Width, small.Height, 3);
        Parallel.For(0, small.Height, y =>
        {
            for (var x = 0; x < small.Width; x++)
            {
                var i = (y * small.Width) + x;
                var (u, v) = ((int)MathF.Round(xs[i] * (small.Width - 1)), (int)MathF.Round(ys[i] * (small.Height - 1)));
                small.Row(v).Slice(3 * u, 3).CopyTo(picture.Pixels.AsSpan(3 * i, 3));
            }
        });
        return picture;
    });

    /// <summary>Smooth numbers from 0 to 1, both of which are reached.</summary>
    float[] Flow(Image image, ref SampleRandom random)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var grain = Grain * Math.Min(image.Width, image.Height) / 512;
        var (rows, columns) = ((int)Math.Ceiling(image.Height / grain) + 2, (int)Math.Ceiling(image.Width / grain) + 2);
        var coarse = new float[rows * columns];
        for (var i = 0; i < coarse.Length; i++) coarse[i] = random.NextFloat();
        var fine = nn.functional.interpolate(tensor(coarse).view(1, 1, rows, columns), [(long)Math.Ceiling(rows * grain), (long)Math.Ceiling(columns * grain)], mode: InterpolationMode.Bicubic, align_corners: false)
            .narrow(2, (long)grain, image.Height).narrow(3, (long)grain, image.Width);
        var (least, most) = (fine.min(), fine.max());
        return [.. ((fine - least) / (most - least).clamp_min(1e-9)).contiguous().data<float>().ToArray()];
    }
}
