using System.Globalization;
using Panoptes.Imaging;
using Panoptes.Representation;

namespace Panoptes.Generation;

/// <summary>What an image is to obey beside its words. Several go together; what they are made of stays the caller's.</summary>
public abstract record ImageControl
{
    /// <summary>What images say that they were made with, such as the folder of the network; null: nothing.</summary>
    public string? Model { get; init; }

    /// <summary>The picture that says what is to be where; null where none does.</summary>
    public virtual Image? Condition => null;

    /// <summary>Whether the picture lies over the image, so that it gives it its proportions.</summary>
    internal virtual bool Covers => true;

    /// <summary>Whether it speaks of words, so that it is another for images of other prompts.</summary>
    internal virtual bool ReadsPrompt => false;

    /// <summary>When it comes before others in a step: what moves the latents first, what asks the network itself last.</summary>
    internal virtual int Rank => 1;

    /// <summary>A prompt with what the control says in words.</summary>
    internal virtual string Words(DiffusionModel model, string prompt) => prompt;

    /// <summary>Refuses a prompt that lacks what the control speaks of.</summary>
    /// <exception cref="PanoptesException">It does.</exception>
    internal virtual void Check(DiffusionModel model, string prompt) { }

    /// <summary>Refuses a size that the control does not go with.</summary>
    /// <exception cref="PanoptesException">It does not.</exception>
    internal virtual void Check(int width, int height) { }

    /// <summary>Whether this control and another do the same, each with its own picture, boxes or text, so that their images can be made together.</summary>
    internal virtual bool Joins(ImageControl other) => Equals(other);

    /// <summary>What comes between the steps of a batch, disposed behind it, where it is to be disposed; null: the words say it all.</summary>
    /// <param name="model">What makes the images.</param>
    /// <param name="images">Each image's control, which joins this one; one alone where all images have the same.</param>
    internal abstract IStepHook? Hook(DiffusionModel model, IReadOnlyList<ControlledImage> images);

    /// <summary>How it is told in a file.</summary>
    internal abstract ControlParameters Parameters { get; }

    /// <summary>A condition at the size of the images.</summary>
    /// <exception cref="PanoptesException">It has other proportions.</exception>
    internal static Image Fitted(Image condition, int width, int height)
    {
        Proportioned(condition, "condition", width, height);
        return condition.Width == width && condition.Height == height ? condition.ToRgb() : condition.ToRgb().Resize(width, height, ResizeFilter.Lanczos);
    }

    /// <summary>Refuses a picture of other proportions than the image.</summary>
    /// <exception cref="PanoptesException">It has others.</exception>
    private protected static void Proportioned(Image picture, string what, int width, int height)
    {
        // Sides that are brought to multiples differ by a little.
        const double most = 1.1;
        var ratio = (double)picture.Width * height / ((double)picture.Height * width);
        if (ratio is > most or < 1 / most) throw new PanoptesException($"The {what} has {picture.Width}x{picture.Height} pixels, but the image {width}x{height}; expected the same proportions.");
    }

    /// <summary>[images, channels, height, width] from 0 to 1</summary>
    private protected static Tensor Pixels(IEnumerable<Image> conditions)
    {
        using var scope = NewDisposeScope();
        return stack(conditions.Select(static c => c.ToTensor(ScalarType.Float32))).MoveToOuterDisposeScope();
    }

    private protected static void Finite(double scale, string of)
    {
        if (!double.IsFinite(scale)) throw new PanoptesException($"The {of}'s scale is {scale.ToString(CultureInfo.InvariantCulture)}; expected a number.");
    }

    private protected static StableDiffusion Guided(DiffusionModel model, string by) => model as StableDiffusion ?? throw new PanoptesException($"A {model.GetType().Name} is not controlled by {by}; expected a Stable Diffusion 1, 2 or XL.");
}

/// <summary>A control with the image that is to obey it.</summary>
/// <param name="Control">One of the image's.</param>
/// <param name="Prompt">The image's words, with what its controls say in words.</param>
/// <param name="Condition">The control's picture, at the image's size if it <see cref="ImageControl.Covers"/> it.</param>
sealed record ControlledImage(ImageControl Control, string Prompt, Image? Condition);

/// <summary>A ControlNet (<see cref="ControlNetCondition"/>).</summary>
/// <param name="Network">Made for the same UNet.</param>
/// <param name="Picture">Of the image's proportions; brought to its size.</param>
public sealed record ControlNetControl(ControlNetModel Network, Image Picture) : ImageControl
{
    /// <summary>How strongly.</summary>
    public double Scale { get; init; } = 1;

    /// <summary>From which part of the steps on, 0 to 1.</summary>
    public double Start { get; init; }

    /// <summary>Until which part of the steps.</summary>
    public double End { get; init; } = 1;

    /// <summary>Only what is wanted sees the condition, finer skips less than coarser ones: for empty prompts.</summary>
    public bool Guess { get; init; }

    public override Image Condition => Picture;

    internal override ControlParameters Parameters => new() { Kind = ControlParameters.ControlNet, Model = Model, Scale = Scale, Start = Start, End = End, Guess = Guess };

    internal override bool Joins(ImageControl other) => other is ControlNetControl o && (this with { Picture = o.Picture }).Equals(o);

    internal override IStepHook Hook(DiffusionModel model, IReadOnlyList<ControlledImage> images)
    {
        var (unet, own) = (Guided(model, "a ControlNet").UNet.Config, Network.Config);
        if (own.CrossAttentionDim[0] != unet.CrossAttentionDim[0] || !own.BlockOutChannels.AsSpan().SequenceEqual(unet.BlockOutChannels))
            throw new PanoptesException($"The ControlNet was made for another UNet, of {Sizes(own.BlockOutChannels, own.CrossAttentionDim[0])}; this one has {Sizes(unet.BlockOutChannels, unet.CrossAttentionDim[0])}.");
        if (!(Start >= 0 && Start <= End && End <= 1)) throw new PanoptesException($"A ControlNet was to speak from {Start} to {End} of the steps; expected a part of them, from 0 to 1.");
        Finite(Scale, "ControlNet");
        return new Owning(this, Pixels(images.Select(static i => i.Condition!)));

        static string Sizes(IEnumerable<int> channels, int width) => $"{string.Join(", ", channels)} channels and texts of {width} numbers a token";
    }

    /// <summary>The hook with a condition of its own.</summary>
    sealed class Owning(ControlNetControl of, Tensor condition) : IStepHook, IDisposable
    {
        readonly Tensor condition = condition.DetachFromDisposeScope();
        readonly ControlNetCondition inner = new(of.Network, condition, of.Scale, of.Start, of.End, of.Guess);

        public void Asking(DenoisingStep step) => inner.Asking(step);

        public void Dispose() => condition.Dispose();
    }
}

/// <summary>A T2I-Adapter (<see cref="T2IAdapterCondition"/>).</summary>
/// <param name="Network">Made for the same UNet.</param>
/// <param name="Picture">Of the image's proportions; brought to its size.</param>
public sealed record T2IAdapterControl(T2IAdapter Network, Image Picture) : ImageControl
{
    /// <summary>How strongly.</summary>
    public double Scale { get; init; } = 1;

    /// <summary>In which part of the steps, from 0 to 1.</summary>
    public double Share { get; init; } = 1;

    public override Image Condition => Picture;

    internal override ControlParameters Parameters => new() { Kind = ControlParameters.Adapter, Model = Model, Scale = Scale, End = Share };

    internal override bool Joins(ImageControl other) => other is T2IAdapterControl o && (this with { Picture = o.Picture }).Equals(o);

    internal override IStepHook Hook(DiffusionModel model, IReadOnlyList<ControlledImage> images)
    {
        Guided(model, "a T2I-Adapter");
        Finite(Scale, "T2I-Adapter");
        using var pixels = Pixels(images.Select(i => Network.Config.InChannels == 1 ? i.Condition!.ToGray() : i.Condition!));
        return new T2IAdapterCondition(Network, pixels, Scale, Share);
    }
}

/// <summary>Boxes that a GLIGEN (<see cref="GroundedBoxes"/>) or a ReCo (<see cref="ReCo"/>) fills.</summary>
public sealed record BoxesControl(IReadOnlyList<PhraseBox> Boxes) : ImageControl
{
    /// <summary>In which part of the steps a GLIGEN sees them: the paper's τ, from 0 to 1.</summary>
    public double Share { get; init; } = 0.3;

    internal override ControlParameters Parameters => new() { Kind = ControlParameters.Grounded, Boxes = Boxes, End = Share };

    internal override string Words(DiffusionModel model, string prompt)
    {
        if (PlacesOf(model) is not { } places) return prompt;
        foreach (var box in Boxes) box.Check();
        if (Boxes.Any(static b => b.Example is not null)) throw new PanoptesException("This model takes no example images: a ReCo reads what is in its boxes as words.");
        return places.Write(prompt, Boxes);
    }

    internal override bool Joins(ImageControl other) => other is BoxesControl o && (this with { Boxes = o.Boxes }).Equals(o);

    internal override IStepHook? Hook(DiffusionModel model, IReadOnlyList<ControlledImage> images) =>
        PlacesOf(model) is null ? GroundedBoxes.OfEach(Guided(model, "boxes"), [.. images.Select(static i => ((BoxesControl)i.Control).Boxes)], Share) : null;

    static ReCo? PlacesOf(DiffusionModel model) => model is StableDiffusion { UNet.PositionNet: null } sd ? sd.Prompts.Places : null;
}

/// <summary>Boxes that words of the prompt are led into, with nothing trained (<see cref="LayoutGuidance"/>).</summary>
/// <param name="Boxes">Their phrases occur in the prompt.</param>
public sealed record LayoutControl(IReadOnlyList<PhraseBox> Boxes) : ImageControl
{
    /// <summary>As <see cref="LayoutGuidance.Scale"/>.</summary>
    public double Scale { get; init; } = 30;

    internal override bool ReadsPrompt => true;

    internal override int Rank => 0;

    internal override ControlParameters Parameters => new() { Kind = ControlParameters.Layout, Boxes = Boxes, Scale = Scale };

    internal override void Check(DiffusionModel model, string prompt) => LayoutBox.Of(Guided(model, "a layout").Prompts, prompt, Boxes);

    internal override bool Joins(ImageControl other) => other is LayoutControl o && (this with { Boxes = o.Boxes }).Equals(o);

    internal override IStepHook Hook(DiffusionModel model, IReadOnlyList<ControlledImage> images)
    {
        var prompts = Guided(model, "a layout").Prompts;
        Finite(Scale, "layout");
        return LayoutGuidance.OfEach([.. images.Select(i => LayoutBox.Of(prompts, i.Prompt, ((LayoutControl)i.Control).Boxes))], Scale);
    }
}

/// <summary>What an image says of a control that it was made under.</summary>
public sealed record ControlParameters
{
    /// <summary>The PNG text that holds the picture of the control of a number, itself a PNG in base 64.</summary>
    internal static string ConditionOf(int control) => string.Create(CultureInfo.InvariantCulture, $"panoptes-condition-{control}");

    /// <summary>The PNG text that holds the example of a box of a control.</summary>
    internal static string ExampleOf(int control, int box) => string.Create(CultureInfo.InvariantCulture, $"panoptes-example-{control}-{box}");

    public const string ControlNet = "controlnet", Adapter = "t2i-adapter", Grounded = "boxes", Layout = "layout", Said = "text", Style = "style", Class = "class", Found = "found", Masks = "masks";

    /// <summary>One of these.</summary>
    public required string Kind { get; init; }

    /// <summary>The network, where there is one.</summary>
    public string? Model { get; init; }
    public double Scale { get; init; } = 1;

    /// <summary>From which part of the steps on.</summary>
    public double Start { get; init; }

    /// <summary>Until which part of the steps.</summary>
    public double End { get; init; } = 1;
    public bool Guess { get; init; }
    public IReadOnlyList<PhraseBox>? Boxes { get; init; }

    /// <summary>What an image is to show: words, or a class.</summary>
    public string? Text { get; init; }

    /// <summary>What is to be in each of the masks that are its picture, one below the other.</summary>
    public IReadOnlyList<string>? Names { get; init; }

    /// <summary>Steps of backward guidance; null: none.</summary>
    public int? Backward { get; init; }
}
