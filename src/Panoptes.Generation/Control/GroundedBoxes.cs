using System.Globalization;
using Panoptes.Data;

namespace Panoptes.Generation;

/// <summary>A box and what is to be in it.</summary>
/// <param name="Phrase">In words.</param>
/// <param name="Left">A part of the image's width, from 0 to 1.</param>
/// <param name="Top">A part of the image's height, from 0 to 1.</param>
/// <param name="Right">Right of <paramref name="Left"/>.</param>
/// <param name="Bottom">Below <paramref name="Top"/>.</param>
public sealed record PhraseBox(string Phrase, double Left, double Top, double Right, double Bottom)
{
    /// <summary>The things of a scene, by their names.</summary>
    public static IReadOnlyList<PhraseBox> Of(Scene scene)
    {
        var side = (double)scene.Size;
        return [.. scene.Objects.Select(o => new PhraseBox(o.Name, o.Box.X / side, o.Box.Y / side, o.Box.Right / side, o.Box.Bottom / side))];
    }

    /// <summary>Whether it can be followed.</summary>
    /// <exception cref="PanoptesException">No words, or no box inside the image.</exception>
    public void Check()
    {
        if (string.IsNullOrWhiteSpace(Phrase)) throw new PanoptesException("A box has no phrase; expected words.");
        if (!(Left >= 0 && Left < Right && Right <= 1 && Top >= 0 && Top < Bottom && Bottom <= 1))
            throw new PanoptesException(string.Create(CultureInfo.InvariantCulture, $"The box of '{Phrase}' goes from {Left:0.####},{Top:0.####} to {Right:0.####},{Bottom:0.####}; expected corners from 0 to 1, the first left of and above the second."));
    }
}

/// <summary>
/// GLIGEN (Li et al. 2023, arXiv:2301.07093): in the first part of the steps the network sees where which phrase belongs (scheduled sampling, section 3.3); after it, the network is the one that it was made from.
/// </summary>
public sealed class GroundedBoxes : IStepHook, IDisposable
{
    /// <summary>How many boxes there may be.</summary>
    public const int Slots = 30;

    readonly double share;
    readonly Grounding one;

    /// <param name="model">A Stable Diffusion whose UNet has gated attention.</param>
    /// <param name="boxes">At most <see cref="Slots"/>.</param>
    /// <param name="share">In which part of the steps they are seen: the paper's τ, from 0 to 1.</param>
    /// <exception cref="PanoptesException">A model that knows no boxes, too many of them, or one that is none.</exception>
    public GroundedBoxes(StableDiffusion model, IReadOnlyList<PhraseBox> boxes, double share = 0.3)
    {
        if (model.UNet.PositionNet is null) throw new PanoptesException("This model follows no boxes: its UNet has no gated attention (attention_type is default), and its tokenizer no places.");
        if (boxes.Count is < 1 or > Slots) throw new PanoptesException($"{boxes.Count} boxes were given; expected 1 to {Slots}.");
        if (share is not (>= 0 and <= 1)) throw new PanoptesException($"Boxes were to be seen in {share} of the steps; expected 0 to 1.");
        foreach (var box in boxes) box.Check();
        this.share = share;
        using var scope = NewDisposeScope();
        var (_, pooled) = model.Prompts.Read([.. boxes.Select(static b => b.Phrase)], 0, null, boxes.Count, normalized: true, note: null);
        var empty = Slots - boxes.Count;
        var corners = tensor([.. boxes.SelectMany(static b => (float[])[(float)b.Left, (float)b.Top, (float)b.Right, (float)b.Bottom])], [1, boxes.Count, 4]);
        one = new()
        {
            Boxes = nn.functional.pad(corners, [0, 0, 0, empty]).to(model.Dtype).DetachFromDisposeScope(),
            Masks = cat([ones(1, boxes.Count), zeros(1, empty)], 1).to(model.Dtype).DetachFromDisposeScope(),
            Embeddings = nn.functional.pad(pooled.unsqueeze(0), [0, 0, 0, empty]).to(model.Dtype).DetachFromDisposeScope(),
        };
    }

    public void Asking(DenoisingStep step)
    {
        if (step.Index >= (int)(share * step.Run.Count)) return;
        var (images, halves) = (step.Denoising.Positive.Count, step.Denoising.IsGuided ? 2 : 1);
        var masks = one.Masks.expand(images, -1);
        step.Call = step.Call with
        {
            Grounding = new()
            {
                Boxes = one.Boxes.expand(images * halves, -1, -1),
                // What is not wanted is nowhere.
                Masks = halves == 2 ? cat([zeros_like(masks), masks]) : masks,
                Embeddings = one.Embeddings!.expand(images * halves, -1, -1),
            },
        };
    }

    public void Dispose()
    {
        one.Boxes.Dispose();
        one.Masks.Dispose();
        one.Embeddings!.Dispose();
    }
}
