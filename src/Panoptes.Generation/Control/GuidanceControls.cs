using System.Globalization;
using Panoptes.Data;
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
}

/// <summary>What leads images by losses, and what that keeps while images are made.</summary>
sealed class Leading(UniversalGuidance guidance, IReadOnlyList<Tensor> kept) : IStepHook, IDisposable
{
    readonly List<UniversalGuidance> all = [guidance];
    readonly List<Tensor> kept = [.. kept];

    /// <summary>Takes over what another one does, so that one question of the network serves both.</summary>
    public void Join(Leading other)
    {
        all.AddRange(other.all);
        kept.AddRange(other.kept);
    }

    public void Asking(DenoisingStep step) => UniversalGuidance.Lead(step, all);

    public void Dispose()
    {
        foreach (var tensor in kept) tensor.Dispose();
    }
}

/// <summary>What an image tower sees of pictures, with gradients to them.</summary>
/// <param name="of">Stays the caller's.</param>
sealed class TowerView(ImageEncoder of)
{
    readonly Tensor mean = tensor(of.Processor.Mean, [1, 3, 1, 1]).DetachFromDisposeScope(), deviation = tensor(of.Processor.Std, [1, 3, 1, 1]).DetachFromDisposeScope();

    public IReadOnlyList<Tensor> Kept => [mean, deviation];

    /// <summary>The middle square of pictures from 0 to 1, at the size that the tower was built for (means of many pixels, or between few), as the tower takes it.</summary>
    public Tensor Of(Tensor pictures)
    {
        using var scope = NewDisposeScope();
        return ((Square(pictures, of.Towers.Images.ImageSize) - mean) / deviation).MoveToOuterDisposeScope();
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
        // What may fail comes before what is kept. [1 or images, embedding]
        var wanted = Clip.EmbedTexts([.. all.Select(static c => ((TextControl)c).Text)]).DetachFromDisposeScope();
        var view = new TowerView(Clip);
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
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var picture = Condition.ToTensor(ScalarType.Float32).unsqueeze(0);
        var view = new TowerView(Clip);
        Tensor[] wanted = [.. States(view.Of(picture)).Select(static s => StyleDistance.Gram(s).DetachFromDisposeScope())];
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

/// <summary>A class that an image classifier is to see in the image; the classifier saw clean pictures alone (one that learned noisy ones leads by <see cref="ClassifierGuidance"/>).</summary>
public sealed record ClassControl : LossControl
{
    /// <param name="classifier">Holds an <see cref="ImageClassifier"/>.</param>
    /// <param name="label">As <see cref="ImageClassifier.IndexOf"/> takes it.</param>
    /// <exception cref="PanoptesException">It tells no classes apart, or does not know this one.</exception>
    public ClassControl(ImageEncoder classifier, string label)
    {
        (Classifier, Label) = (classifier, label);
        (classifier.Model as ImageClassifier ?? throw new PanoptesException($"A {classifier.Model.GetType().Name} tells no classes apart; expected an image classifier, such as a ViTForImageClassification.")).IndexOf(label);
    }

    public ImageEncoder Classifier { get; }

    public string Label { get; private init; }

    internal override ControlParameters Parameters => Told(ControlParameters.Class) with { Text = Label };

    internal override bool Joins(ImageControl other) => other is ClassControl o && (this with { Label = o.Label }).Equals(o);

    private protected override (Func<Tensor, Tensor> Loss, IReadOnlyList<Tensor> Kept) Begin(IReadOnlyList<ImageControl> all)
    {
        var model = (ImageClassifier)Classifier.Model;
        // [1 or images]
        var wanted = tensor([.. all.Select(c => (long)model.IndexOf(((ClassControl)c).Label))]).DetachFromDisposeScope();
        var view = new TowerView(Classifier);
        return (Loss, [.. view.Kept, wanted]);

        Tensor Loss(Tensor pictures)
        {
            using var scope = NewDisposeScope();
            return nn.functional.cross_entropy(model.Logits(view.Of(pictures)).to(ScalarType.Float32), wanted.expand(pictures.shape[0]), reduction: nn.Reduction.Sum).MoveToOuterDisposeScope();
        }
    }
}

/// <summary>Something that finds things, and looks for some of them in the image.</summary>
/// <param name="Loss">Of pictures [b, 3, height, width] from 0 to 1: a scalar, the sum over images, with gradients; the less, the better it finds them.</param>
public abstract record FindingControl(Func<Tensor, Tensor> Loss) : LossControl
{
    private protected override (Func<Tensor, Tensor> Loss, IReadOnlyList<Tensor> Kept) Begin(IReadOnlyList<ImageControl> all)
    {
        return all.Count == 1 ? (Loss, []) : (OfEach, []);

        // What finds things looks at each picture by itself, since each is asked for names of its own.
        Tensor OfEach(Tensor pictures)
        {
            using var scope = NewDisposeScope();
            return all.Select((c, i) => ((FindingControl)c).Loss(pictures.narrow(0, i, 1))).Aggregate(static (a, b) => a + b).MoveToOuterDisposeScope();
        }
    }
}

/// <summary>Boxes in which something that finds things, a detector or a segmenter, is to find what they are called.</summary>
/// <param name="Loss">As <see cref="FindingControl"/> takes it.</param>
/// <param name="Boxes">What it looks for, as images are to say it.</param>
public sealed record FoundBoxesControl(Func<Tensor, Tensor> Loss, IReadOnlyList<PhraseBox> Boxes) : FindingControl(Loss)
{
    internal override ControlParameters Parameters => Told(ControlParameters.Found) with { Boxes = Boxes };

    internal override bool Joins(ImageControl other) => other is FoundBoxesControl o && (this with { Loss = o.Loss, Boxes = o.Boxes }).Equals(o);
}

/// <summary>Masks in which a segmenter is to find what they are called.</summary>
/// <param name="Loss">As <see cref="FindingControl"/> takes it.</param>
/// <param name="Masks">What it looks for, as images are to say it; of one size, and of the image's proportions.</param>
public sealed record FoundMasksControl(Func<Tensor, Tensor> Loss, IReadOnlyList<NamedMask> Masks) : FindingControl(Loss)
{
    internal override void Check(int width, int height)
    {
        foreach (var (name, mask) in Masks) Proportioned(mask, $"mask of '{name}'", width, height);
    }

    /// <summary>The masks, one below the other.</summary>
    public override Image Condition => NamedMask.Stack(Masks);

    internal override bool Covers => false;

    internal override ControlParameters Parameters => Told(ControlParameters.Masks) with { Names = [.. Masks.Select(static m => m.Name)] };

    internal override bool Joins(ImageControl other) => other is FoundMasksControl o && (this with { Loss = o.Loss, Masks = o.Masks }).Equals(o);
}

/// <summary>Where a thing is to be.</summary>
/// <param name="Name">What it is called.</param>
/// <param name="Mask">White where it is to be.</param>
public sealed record NamedMask(string Name, Image Mask)
{
    /// <summary>The things of a scene, those of one name together, where they are seen: of the scene's size.</summary>
    public static IReadOnlyList<NamedMask> Of(Scene scene)
    {
        string[] names = [.. scene.Objects.Select(static o => o.Name).Distinct(StringComparer.Ordinal)];
        var masks = Array.ConvertAll(names, _ => new byte[scene.Ids.Length]);
        // Of each id, the name's position; the background has none.
        int[] named = [-1, .. scene.Objects.Select(o => Array.IndexOf(names, o.Name))];
        for (var i = 0; i < scene.Ids.Length; i++)
            if (named[scene.Ids[i]] is >= 0 and var name) masks[name][i] = 255;
        return [.. names.Zip(masks, (name, mask) => new NamedMask(name, new(scene.Size, scene.Size, 1, mask)))];
    }

    /// <summary>Where masks are white: [masks, height, width], true or false.</summary>
    /// <exception cref="PanoptesException">No masks, or of several sizes.</exception>
    public static Tensor White(IReadOnlyList<NamedMask> masks)
    {
        SizeOf(masks);
        using var scope = NewDisposeScope();
        return stack(masks.Select(static m => m.Mask.ToGray().ToTensor(ScalarType.Float32)[0].ge(0.5))).MoveToOuterDisposeScope();
    }

    /// <summary>Masks as one gray picture, one below the other.</summary>
    /// <exception cref="PanoptesException">No masks, or of several sizes.</exception>
    public static Image Stack(IReadOnlyList<NamedMask> masks)
    {
        var (width, height) = SizeOf(masks);
        return new(width, height * masks.Count, 1, [.. masks.SelectMany(static m => m.Mask.ToGray().Pixels)]);
    }

    static (int Width, int Height) SizeOf(IReadOnlyList<NamedMask> masks)
    {
        if (masks.Count == 0) throw new PanoptesException("No masks were given; expected one at least.");
        var (width, height) = (masks[0].Mask.Width, masks[0].Mask.Height);
        foreach (var (name, mask) in masks)
            if (mask.Width != width || mask.Height != height) throw new PanoptesException($"The mask of '{name}' has {mask.Width}x{mask.Height} pixels, that of '{masks[0].Name}' {width}x{height}; expected the same.");
        return (width, height);
    }

    /// <summary>The masks of such a picture.</summary>
    /// <exception cref="PanoptesException">It holds another number of them.</exception>
    public static IReadOnlyList<NamedMask> Of(Image stacked, IReadOnlyList<string> names)
    {
        if (names.Count == 0 || stacked.Height % names.Count != 0) throw new PanoptesException($"{stacked.Height} rows were given for {names.Count} masks; expected as many for each.");
        var (gray, size) = (stacked.ToGray().Pixels, stacked.Width * stacked.Height / names.Count);
        return [.. names.Select((name, i) => new NamedMask(name, new(stacked.Width, stacked.Height / names.Count, 1, gray[(i * size)..((i + 1) * size)])))];
    }
}
