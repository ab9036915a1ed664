using System.Globalization;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Representation.Objectives;

namespace Panoptes.Generation;

/// <summary>Something that has a loss over pictures leads the image: universal guidance (<see cref="UniversalGuidance"/>), with nothing trained.</summary>
public abstract record LossControl : ImageControl
{
    /// <summary>As <see cref="UniversalGuidance.ForwardScale"/>.</summary>
    public double Scale { get; init; } = 10;

    /// <summary>As <see cref="UniversalGuidance.BackwardSteps"/>.</summary>
    public int BackwardSteps { get; init; }

    internal override int Rank => 2;

    /// <summary>What is said of <paramref name="kind"/>.</summary>
    private protected ControlParameters Told(string kind) => new() { Kind = kind, Model = Model, Scale = Scale, Backward = BackwardSteps == 0 ? null : BackwardSteps };

    /// <summary>The loss of pictures [b, 3, height, width] from 0 to 1, the sum over images, with gradients; and what it keeps while images are made.</summary>
    /// <param name="all">This one, or each image's own.</param>
    private protected abstract (Func<Tensor, Tensor> Loss, IReadOnlyList<Tensor> Kept) Begin(IReadOnlyList<ImageControl> all);

    internal override IStepHook Hook(DiffusionModel model, IReadOnlyList<ControlledImage> images)
    {
        Finite(Scale, "guidance");
        if (Scale < 0) throw new PanoptesException($"Guidance was to lead by {Scale.ToString(CultureInfo.InvariantCulture)}; expected 0 or more.");
        if (BackwardSteps is < 0 or > 1000) throw new PanoptesException($"{BackwardSteps} steps of backward guidance were asked for; expected 0 to 1000.");
        var (loss, kept) = Begin([.. images.Select(static i => i.Control)]);
        return new Leading(new(loss) { ForwardScale = Scale, BackwardSteps = BackwardSteps }, kept);
    }

    sealed class Leading(UniversalGuidance inner, IReadOnlyList<Tensor> kept) : IStepHook, IDisposable
    {
        public void Asking(DenoisingStep step) => inner.Asking(step);

        public void Dispose()
        {
            foreach (var tensor in kept) tensor.Dispose();
        }
    }
}

/// <summary>What a CLIP's image tower sees of pictures, with gradients to them.</summary>
/// <param name="clip">Stays the caller's.</param>
sealed class TowerView(Clip clip)
{
    readonly Tensor mean = tensor(clip.Processor.Mean, [1, 3, 1, 1]).DetachFromDisposeScope(), deviation = tensor(clip.Processor.Std, [1, 3, 1, 1]).DetachFromDisposeScope();

    public IReadOnlyList<Tensor> Kept => [mean, deviation];

    /// <summary>The middle square of pictures from 0 to 1, at the size that the tower was built for (means of many pixels, or between few), as the tower takes it.</summary>
    public Tensor Of(Tensor pictures)
    {
        using var scope = NewDisposeScope();
        return ((Square(pictures, clip.Model.Images.ImageSize) - mean) / deviation).MoveToOuterDisposeScope();
    }

    /// <summary>The middle square of pictures, at a size.</summary>
    public static Tensor Square(Tensor pictures, long side)
    {
        using var scope = NewDisposeScope();
        var least = Math.Min(pictures.shape[2], pictures.shape[3]);
        var square = pictures.narrow(2, (pictures.shape[2] - least) / 2, least).narrow(3, (pictures.shape[3] - least) / 2, least);
        return (least > side ? nn.functional.adaptive_avg_pool2d(square, [side, side]) : nn.functional.interpolate(square, [side, side], mode: InterpolationMode.Bilinear, align_corners: false)).MoveToOuterDisposeScope();
    }
}

/// <summary>A text that a CLIP is to see in the image.</summary>
/// <param name="Clip">Says how near the image is to the text.</param>
/// <param name="Text">In words.</param>
public sealed record TextControl(Clip Clip, string Text) : LossControl
{
    internal override ControlParameters Parameters => Told(ControlParameters.Said) with { Text = Text };

    internal override bool Joins(ImageControl other) => other is TextControl o && (this with { Text = o.Text }).Equals(o);

    private protected override (Func<Tensor, Tensor> Loss, IReadOnlyList<Tensor> Kept) Begin(IReadOnlyList<ImageControl> all)
    {
        // [1 or images, embedding]
        var (view, wanted) = (new TowerView(Clip), Clip.EmbedTexts([.. all.Select(static c => ((TextControl)c).Text)]).DetachFromDisposeScope());
        return (Loss, [.. view.Kept, wanted]);

        // How far the pictures are from the text: one less the cosine.
        Tensor Loss(Tensor pictures)
        {
            using var scope = NewDisposeScope();
            var seen = Clip.Model.Images.Encode(view.Of(pictures));
            return (1 - (nn.functional.normalize(seen.to(ScalarType.Float32), dim: -1) * wanted).sum(-1)).sum().MoveToOuterDisposeScope();
        }
    }
}

/// <summary>A picture whose style the image is to have, as a CLIP's image tower sees it: by which features go together in its layers (<see cref="StyleDistance"/>).</summary>
/// <param name="Clip">Sees styles.</param>
/// <param name="Picture">Of any size.</param>
public sealed record StyleControl(Clip Clip, Image Picture) : LossControl
{
    /// <summary>What the CLIP sees of the picture, and no more: the file of an image holds it.</summary>
    public override Image Condition
    {
        get
        {
            using var scope = NewDisposeScope();
            var (picture, side) = (Picture.ToRgb(), Clip.Model.Images.ImageSize);
            return picture.Width == side && picture.Height == side ? picture : Diffusion.ToImage(TowerView.Square(picture.ToTensor(ScalarType.Float32).unsqueeze(0), side)[0].clamp(0, 1));
        }
    }

    internal override bool Covers => false;

    internal override ControlParameters Parameters => Told(ControlParameters.Style);

    private protected override (Func<Tensor, Tensor> Loss, IReadOnlyList<Tensor> Kept) Begin(IReadOnlyList<ImageControl> all)
    {
        var view = new TowerView(Clip);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        Tensor[] wanted = [.. States(view.Of(Condition.ToTensor(ScalarType.Float32).unsqueeze(0))).Select(static s => StyleDistance.Gram(s).DetachFromDisposeScope())];
        return (Loss, [.. view.Kept, .. wanted]);

        Tensor Loss(Tensor pictures)
        {
            using var scope = NewDisposeScope();
            return StyleDistance.Of(wanted, States(view.Of(pictures))).sum().MoveToOuterDisposeScope();
        }

        IReadOnlyList<Tensor> States(Tensor pixels)
        {
            var output = Clip.Model.Images.Forward(pixels, hiddenStates: true);
            return output.HiddenStates ?? [output.LastHiddenState];
        }
    }
}

/// <summary>Boxes in which something that finds things, a detector or a segmenter, is to find what they are called.</summary>
/// <param name="Loss">Of pictures [b, 3, height, width] from 0 to 1: a scalar, the sum over images, with gradients; the less, the better it finds them.</param>
/// <param name="Boxes">What it looks for, as images are to say it.</param>
public sealed record FoundBoxesControl(Func<Tensor, Tensor> Loss, IReadOnlyList<PhraseBox> Boxes) : LossControl
{
    internal override ControlParameters Parameters => Told(ControlParameters.Found) with { Boxes = Boxes };

    internal override bool Joins(ImageControl other) => other is FoundBoxesControl o && (this with { Loss = o.Loss, Boxes = o.Boxes }).Equals(o);

    private protected override (Func<Tensor, Tensor> Loss, IReadOnlyList<Tensor> Kept) Begin(IReadOnlyList<ImageControl> all)
    {
        return all.Count == 1 ? (Loss, []) : (OfEach, []);

        // What finds things looks at each picture by itself, since each is asked for names of its own.
        Tensor OfEach(Tensor pictures)
        {
            using var scope = NewDisposeScope();
            return all.Select((c, i) => ((FoundBoxesControl)c).Loss(pictures.narrow(0, i, 1))).Aggregate(static (a, b) => a + b).MoveToOuterDisposeScope();
        }
    }
}
