using Panoptes.Imaging;
using Panoptes.Parity;

namespace Panoptes.Generation.Tests;

/// <summary>Images between images, variations, and images made larger, on the tiny pipeline of the golden cases.</summary>
public sealed class VariationTests : IDisposable
{
    readonly Diffusion diffusion = Diffusion.Load(Path.Combine(Goldens.Root, "generation", "sd_text2img"));

    static ImageRequest Apple => new("a red apple") { Width = 16, Height = 16, Steps = 3, Seed = 7 };

    public void Dispose() => diffusion.Dispose();

    byte[] Pixels(ImageRequest request) => diffusion.Generate([request])[0].Image.Pixels;

    static double Distance(byte[] a, byte[] b) => a.Zip(b).Average(static p => Math.Abs(p.First - p.Second));

    [Fact]
    public void The_ends_of_a_way_are_its_images_and_between_them_it_leads_from_one_to_the_other()
    {
        var (from, to) = (Pixels(Apple), Pixels(Apple with { Prompt = "a blue sphere on the moon", Seed = 40 }));
        byte[] At(double share) => Pixels(Apple with { Toward = new(share) { Prompt = "a blue sphere on the moon", Seed = 40 } });
        Assert.Equal(from, At(0));
        Assert.Equal(to, At(1));
        Assert.True(Distance(At(0.1), from) < Distance(At(0.9), from));
        Assert.True(Distance(At(0.9), to) < Distance(At(0.1), to));
    }

    [Fact]
    public void Noise_on_an_arc_stays_as_loud_as_it_was()
    {
        using var scope = NewDisposeScope();
        var (a, b) = (randn(1, 4, 64, 64, generator: new Generator(1)), randn(1, 4, 64, 64, generator: new Generator(2)));
        Assert.Equal(1, Interpolation.Spherical(a, b, [0.5]).std().item<float>(), 1e-2);
        Assert.Equal(Math.Sqrt(0.5), ((a + b) / 2).std().item<float>(), 1e-2);
        Assert.True(Interpolation.Spherical(a, b, [0.25]).allclose((Math.Sin(0.75 * Angle()) * a + Math.Sin(0.25 * Angle()) * b) / Math.Sin(Angle()), 1e-5, 1e-5));
        Assert.True(Interpolation.Spherical(a, a, [0.5]).allclose(a, 1e-6, 1e-6));

        double Angle() => Math.Acos((a * b).sum().item<float>() / ((double)a.norm().item<float>() * b.norm().item<float>()));
    }

    [Fact]
    public void Images_of_one_batch_go_different_ways_and_each_says_which()
    {
        var together = diffusion.Generate([.. Enumerable.Range(1, 3).Select(k => Apple with { Toward = new(0.3) { Seed = 7 + k } })]);
        Assert.Equal(3, together.Select(static m => Convert.ToHexString(m.Image.Pixels)).Distinct().Count());
        Assert.Equal([8L, 9, 10], together.Select(static m => m.Parameters.Toward!.Seed!.Value));
        // Sums of another order may move a value by one.
        Assert.All(together[1].Image.Pixels.Zip(Pixels(Apple with { Toward = new(0.3) { Seed = 9 } })), static p => Assert.InRange(p.First - p.Second, -1, 1));
        Assert.Equal(together[0].Parameters, ImageParameters.Read(together[0].ToPng()));
        Assert.Contains("Variation seed: 8, Variation strength: 0.3", together[0].Parameters.ToString(), StringComparison.Ordinal);
        // Image k of a request goes to image k of the other.
        // So it is where no seed of its own is told.
        Assert.Equal([40L, 41, 42], diffusion.Generate([Apple with { Seed = null, Count = 3, Toward = new(0.5) { Seed = 40 } }]).Select(static m => m.Parameters.Toward!.Seed!.Value));
        Assert.Equal([40L, 41], diffusion.Generate([Apple with { Count = 2, Toward = new(0.5) { Seed = 40 } }]).Select(static m => m.Parameters.Toward!.Seed!.Value));
    }

    [Theory, InlineData(false), InlineData(true)]
    public void An_image_is_made_larger_by_its_latents_and_the_less_anew_the_weaker(bool nearest)
    {
        var small = diffusion.Generate([Apple with { Steps = 10 }])[0].Image;
        byte[] Larger(double strength) => diffusion.Generate([Apple with { Steps = 10, Upscale = new(2) { Strength = strength, Nearest = nearest } }])[0] is var made && (made.Image.Width, made.Image.Height, made.Parameters.Width) == (32, 32, 16) ? made.Image.Pixels : [];
        var plain = small.Resize(32, 32, ResizeFilter.Bilinear).Pixels;
        Assert.True(Distance(Larger(0.1), plain) < Distance(Larger(1), plain));
        Assert.Equal(Larger(0.5), Larger(0.5));
    }

    [Fact]
    public void Made_larger_an_image_is_what_two_tasks_make()
    {
        using var scope = NewDisposeScope();
        var (positive, negative) = diffusion.Model.Describe(["a red apple"], null, new());
        NoiseSource noise = new Generator(7);
        var task = new DiffusionTask { Positive = positive, Negative = negative, Height = 16, Width = 16, Steps = 3, Guidance = 7.5, Noise = noise };
        var latents = nn.functional.interpolate(task.Run(diffusion.Model), [16, 16], mode: InterpolationMode.Nearest);
        var large = (task with { Height = 32, Width = 32, Clean = latents, Sampling = new() { Strength = 0.7 } }).Run(diffusion.Model);
        var pixels = (diffusion.Model.Decode(large)[0] * 255).round().to(ScalarType.Byte);
        Assert.Equal(Image.FromTensor(pixels).Pixels, Pixels(Apple with { Upscale = new(2) { Strength = 0.7, Nearest = true } }));
        positive.Dispose();
        negative.Dispose();
    }

    [Fact]
    public void Progress_counts_both_passes()
    {
        var seen = new List<string>();
        diffusion.Generate([Apple with { Upscale = new(2) { Strength = 1 } }], new Steps(p => seen.Add($"{p.Done}/{p.Total}")));
        Assert.Equal(["1/6", "2/6", "3/6", "4/6", "5/6", "6/6", "6/6"], seen);
    }

    sealed class Steps(Action<ImageProgress> told) : IProgress<ImageProgress>
    {
        public void Report(ImageProgress value) => told(value);
    }

    [Fact]
    public void Ways_and_larger_images_leave_no_tensor_behind()
    {
        var request = Apple with { Toward = new(0.4) { Prompt = "a cat", Seed = 3 }, Upscale = new(2), Count = 2 };
        diffusion.Generate([request]);
        var before = LiveTensors.Settle();
        diffusion.Generate([request]);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void What_cannot_be_is_refused_with_one_sentence()
    {
        Refused(Apple with { Toward = new(1.5) }, "1.5 of the way to another; expected 0 to 1");
        Refused(Apple with { Toward = new(1) { Seed = -1 } }, "The other seed is -1");
        Refused(Apple with { Count = 3, Toward = new(1) { Seed = long.MaxValue - 1 } }, "and room for 3 more");
        Refused(Apple with { Upscale = new(1) }, "made 1 times as large");
        Refused(Apple with { Upscale = new(2) { Strength = 0 } }, "with a strength of 0");
        Refused(Apple with { Upscale = new(2), Image = new(16, 16, 3), Mask = new(16, 16, 3) }, "An image with a mask cannot be made larger");
        using var classes = Diffusion.Load(Path.Combine(Goldens.Root, "generation", "dit_pipeline"));
        Assert.Contains("There is nothing between two classes", Assert.Throws<PanoptesException>(() => classes.Generate([new("1") { Steps = 1, Toward = new(0.5) { Prompt = "2" } }])).Message, StringComparison.Ordinal);

        void Refused(ImageRequest request, string sentence) => Assert.Contains(sentence, Assert.Throws<PanoptesException>(() => diffusion.Generate([request])).Message, StringComparison.Ordinal);
    }
}
