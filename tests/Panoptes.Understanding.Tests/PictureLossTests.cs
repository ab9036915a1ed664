using Panoptes.Data;

namespace Panoptes.Understanding.Tests;

/// <summary>Losses over pictures by the bundled X-Decoder.</summary>
public sealed class PictureLossTests : IDisposable
{
    readonly XDecoderSegmenter model = XDecoderSegmenter.Load(Path.Combine(Parity.Goldens.Repository, "zoo", "xdecoder-emoji"), []);
    readonly Scene scene = new SceneGenerator(Emoji, SceneGenerator.Things(Emoji), new() { Size = 128, MinObjects = 1, MaxObjects = 1, Scale = new(0.4f, 0.6f) }, 5).Generate(0);

    static EmojiSet Emoji { get; } = EmojiSet.Open().Subset(300);

    public void Dispose() => model.Dispose();

    Tensor Picture(int height = 128, int width = 128) => scene.Image.Resize(width, height).ToTensor(ScalarType.Float32).unsqueeze(0);

    Detection Box(float shift = 0)
    {
        var (o, b) = (scene.Objects[0], scene.Objects[0].Box);
        var x = b.X > 40 ? -shift : shift;
        return new(Math.Max(0, b.X + x), b.Y, Math.Min(128, b.Right + x), b.Bottom, 1, o.Name);
    }

    [Fact]
    public void A_thing_is_nearer_to_its_own_box_and_mask_than_to_others()
    {
        using var scope = NewDisposeScope();
        double Of(Detection box) => PictureLosses.Boxes(model, [box], (128, 128))(Picture()).item<float>();
        Assert.True(Of(Box()) < 0.7 * Of(Box(40)), $"{Of(Box())} and {Of(Box(40))}");
        Assert.True(Of(Box()) < Of(Box() with { Label = scene.Objects[0].Name == "banana" ? "anchor" : "banana" }));
        var mask = scene.Mask(0).ToTensor(ScalarType.Float32);
        double With(Tensor m) => PictureLosses.Masks(model, [scene.Objects[0].Name], m)(Picture()).item<float>();
        Assert.True(With(mask) < 0.7 * With(mask.flip(2)) || With(mask) < 0.7 * With(mask.flip(1)));
    }

    [Fact]
    public void Its_gradient_is_that_of_the_loss_and_a_batch_is_the_sum_of_its_pictures()
    {
        using var scope = NewDisposeScope();
        var loss = PictureLosses.Boxes(model, [Box(20)], (128, 128));
        var picture = Picture(96, 80).requires_grad_();
        var value = loss(picture);
        var gradient = autograd.grad([value], [picture])[0];
        var (length, step) = (gradient.norm().item<float>(), 0.002f);
        Assert.True(length > 0);
        using var noGrad = no_grad();
        var along = gradient / length * step;
        Assert.Equal(1, (loss(picture + along) - loss(picture - along)).item<float>() / (2 * step * length), 0.05f);
        var other = Picture(96, 80).flip(3);
        Assert.Equal(loss(picture).item<float>() + loss(other).item<float>(), loss(cat([picture, other])).item<float>(), 1e-3f);
    }

    [Fact]
    public void Boxes_without_a_label_and_masks_of_another_number_are_refused_with_one_sentence()
    {
        using var scope = NewDisposeScope();
        Assert.Contains("No boxes", Assert.Throws<PanoptesException>(() => PictureLosses.Boxes(model, [], (8, 8))).Message, StringComparison.Ordinal);
        Assert.Contains("no label", Assert.Throws<PanoptesException>(() => PictureLosses.Boxes(model, [Box() with { Label = " " }], (8, 8))).Message, StringComparison.Ordinal);
        Assert.Contains("no size", Assert.Throws<PanoptesException>(() => PictureLosses.Boxes(model, [Box() with { Right = 0, Left = 0 }], (8, 8))).Message, StringComparison.Ordinal);
        Assert.Contains("for 2 names", Assert.Throws<PanoptesException>(() => PictureLosses.Masks(model, ["cat", "duck"], zeros(1, 8, 8))).Message, StringComparison.Ordinal);
    }
}
