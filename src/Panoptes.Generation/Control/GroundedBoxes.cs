using System.Security.Cryptography;
using System.Text.Json.Serialization;
using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>A box and what is to be in it.</summary>
/// <param name="Phrase">In words; may be empty where there is an example.</param>
/// <param name="Left">A part of the image's width, from 0 to 1.</param>
/// <param name="Top">A part of the image's height, from 0 to 1.</param>
/// <param name="Right">Right of <paramref name="Left"/>.</param>
/// <param name="Bottom">Below <paramref name="Top"/>.</param>
public sealed record PhraseBox(string Phrase, double Left, double Top, double Right, double Bottom)
{
    readonly string? shown;

    /// <summary>A picture of what is to be in it, for a GLIGEN that takes some; null: words alone say it.</summary>
    [JsonIgnore]
    public Image? Example { get; init; }

    /// <summary>The SHA-256 of the example over its pixels, as images say it; null: there is none.</summary>
    public string? Shown
    {
        get => Example is { } example ? Convert.ToHexStringLower(SHA256.HashData(example.Pixels)) : shown;
        init => shown = value;
    }

    /// <summary>The things of a scene, by their names.</summary>
    public static IReadOnlyList<PhraseBox> Of(Scene scene)
    {
        var side = (double)scene.Size;
        return [.. scene.Objects.Select(o => new PhraseBox(o.Name, o.Box.X / side, o.Box.Y / side, o.Box.Right / side, o.Box.Bottom / side))];
    }

    /// <summary>The things of a scene, by what is seen of them in it, for a GLIGEN that takes example images.</summary>
    public static IReadOnlyList<PhraseBox> ShownIn(Scene scene) => [.. Of(scene).Select((b, i) => b with { Phrase = "", Example = scene.Cut(i) })];

    /// <summary>Whether it can be followed.</summary>
    /// <exception cref="PanoptesException">No words, or no box inside the image.</exception>
    public void Check()
    {
        if (string.IsNullOrWhiteSpace(Phrase) && Example is null) throw new PanoptesException("A box has no phrase; expected words.");
        if (!(Left >= 0 && Left < Right && Right <= 1 && Top >= 0 && Top < Bottom && Bottom <= 1))
            throw new PanoptesException($"The box of '{Phrase}' goes from {Left:0.####},{Top:0.####} to {Right:0.####},{Bottom:0.####}; expected corners from 0 to 1, the first left of and above the second.");
    }
}

/// <summary>
/// GLIGEN (Li et al. 2023, arXiv:2301.07093): in the first part of the steps the network sees where which phrase belongs, or what an example shows (scheduled sampling, section 3.3); after it, the network is the one that it was made from.
/// </summary>
public sealed class GroundedBoxes : IStepHook, IDisposable
{
    /// <summary>How many boxes there may be.</summary>
    public const int Slots = 30;

    readonly double share;

    /// <summary>Of all images, or of each.</summary>
    readonly Grounding told;

    /// <param name="model">A Stable Diffusion whose UNet has gated attention.</param>
    /// <param name="boxes">Of all images; at most <see cref="Slots"/>.</param>
    /// <param name="share">In which part of the steps they are seen: the paper's τ, from 0 to 1.</param>
    /// <exception cref="PanoptesException">A model that knows no boxes or no examples, too many of them, or one that is none.</exception>
    public GroundedBoxes(StableDiffusion model, IReadOnlyList<PhraseBox> boxes, double share = 0.3) : this(model, [boxes], share) { }

    /// <summary>The same of images that have boxes of their own.</summary>
    /// <param name="model">A Stable Diffusion whose UNet has gated attention.</param>
    /// <param name="images">Each image's boxes.</param>
    /// <param name="share">In which part of the steps they are seen: the paper's τ, from 0 to 1.</param>
    /// <inheritdoc cref="GroundedBoxes(StableDiffusion, IReadOnlyList{PhraseBox}, double)" path="/exception"/>
    public static GroundedBoxes OfEach(StableDiffusion model, IReadOnlyList<IReadOnlyList<PhraseBox>> images, double share = 0.3) => new(model, images, share);

    GroundedBoxes(StableDiffusion model, IReadOnlyList<IReadOnlyList<PhraseBox>> images, double share)
    {
        if (model.UNet.PositionNet is not { } net) throw new PanoptesException("This model follows no boxes: its UNet has no gated attention (attention_type is default), and its tokenizer no places.");
        if (share is not (>= 0 and <= 1)) throw new PanoptesException($"Boxes were to be seen in {share} of the steps; expected 0 to 1.");
        this.share = share;
        using var scope = NewDisposeScope();
        Grounding[] each = [.. images.Select(boxes => Of(model, net, boxes))];
        told = new()
        {
            Boxes = Joined(static g => g.Boxes)!,
            Masks = Joined(static g => g.Masks)!,
            Embeddings = Joined(static g => g.Embeddings),
            PhraseMasks = Joined(static g => g.PhraseMasks),
            PhraseEmbeddings = Joined(static g => g.PhraseEmbeddings),
            ImageMasks = Joined(static g => g.ImageMasks),
            ImageEmbeddings = Joined(static g => g.ImageEmbeddings),
        };

        Tensor? Joined(Func<Grounding, Tensor?> part) => part(each[0]) is null ? null : cat([.. each.Select(g => part(g)!)]).to(model.Dtype).alias().DetachFromDisposeScope();
    }

    /// <summary>One image's boxes, a row each.</summary>
    static Grounding Of(StableDiffusion model, PositionNet net, IReadOnlyList<PhraseBox> boxes)
    {
        if (boxes.Count is < 1 or > Slots) throw new PanoptesException($"{boxes.Count} boxes were given; expected 1 to {Slots}.");
        foreach (var box in boxes) box.Check();
        var takesExamples = net.LinearsImage is not null;
        PhraseBox[] shown = [.. boxes.Where(static b => b.Example is not null)], said = [.. boxes.Where(static b => !string.IsNullOrWhiteSpace(b.Phrase))];
        if (shown.Length > 0 && !(takesExamples && model.Examples is not null)) throw new PanoptesException("This model takes no example images: its boxes are filled by words alone.");
        if (said.FirstOrDefault(b => model.Prompts.PartsOf(b.Phrase) > 1) is { } longest) throw new PanoptesException($"The phrase \"{PromptTokens.Shown(longest.Phrase)}\" of a box has more than {model.Prompts.Encoder.ContextLength - 2} tokens, which is all that is read of one.");
        var pooled = said.Length == 0 ? null : model.Prompts.Read([.. said.Select(static b => b.Phrase)], 0, null, said.Length, normalized: true, note: null).Pooled;
        var examples = shown.Length == 0 ? null : model.Examples!.Read([.. shown.Select(static b => b.Example!)]);
        var (corners, width) = (tensor([.. boxes.SelectMany(static b => (float[])[(float)b.Left, (float)b.Top, (float)b.Right, (float)b.Bottom])], [1, boxes.Count, 4]), model.UNet.Config.CrossAttentionDim[0]);
        return new()
        {
            Boxes = nn.functional.pad(corners, [0, 0, 0, Slots - boxes.Count]),
            Masks = Mask(static _ => true),
            Embeddings = takesExamples ? null : Placed(pooled, said),
            PhraseMasks = takesExamples ? Mask(said.Contains) : null,
            PhraseEmbeddings = takesExamples ? Placed(pooled, said) : null,
            ImageMasks = takesExamples ? Mask(shown.Contains) : null,
            ImageEmbeddings = takesExamples ? Placed(examples, shown) : null,
        };

        Tensor Mask(Func<PhraseBox, bool> has) => nn.functional.pad(tensor([.. boxes.Select(b => has(b) ? 1f : 0)], [1, boxes.Count]), [0, Slots - boxes.Count]);

        // Rows of those boxes that have one, in the slots of all.
        Tensor Placed(Tensor? rows, PhraseBox[] of)
        {
            var slots = zeros(1, Slots, width);
            for (var (i, k) = (0, 0); i < boxes.Count; i++)
                if (of.Contains(boxes[i])) slots[0, i].copy_(rows![k++]);
            return slots;
        }
    }

    public void Asking(DenoisingStep step)
    {
        if (step.Before >= (int)(share * step.Total)) return;
        var (images, halves) = (step.Denoising.Positive.Count, step.Denoising.IsGuided ? 2 : 1);
        if (told.Boxes.shape[0] is not 1 and var own && own != images) throw new PanoptesException($"Boxes of {own} images were given for {images}; expected those of each, or once those of all.");
        step.Call = step.Call with
        {
            Grounding = new()
            {
                Boxes = Both(told.Boxes)!,
                Masks = Wanted(told.Masks)!,
                Embeddings = Both(told.Embeddings),
                PhraseMasks = Wanted(told.PhraseMasks),
                PhraseEmbeddings = Both(told.PhraseEmbeddings),
                ImageMasks = Wanted(told.ImageMasks),
                ImageEmbeddings = Both(told.ImageEmbeddings),
            },
        };

        Tensor? Both(Tensor? x) => x is null ? null : x.shape[0] == 1 ? x.expand(images * halves, -1, -1) : halves == 2 ? cat([x, x]) : x;

        // What is not wanted is nowhere.
        Tensor? Wanted(Tensor? mask) => mask?.expand(images, -1) is not { } all ? null : halves == 2 ? cat([zeros_like(all), all]) : all;
    }

    public void Dispose()
    {
        foreach (var tensor in (Tensor?[])[told.Boxes, told.Masks, told.Embeddings, told.PhraseMasks, told.PhraseEmbeddings, told.ImageMasks, told.ImageEmbeddings]) tensor?.Dispose();
    }
}
