using System.Globalization;
using System.Text.RegularExpressions;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Generation;

/// <summary>A text of words and places, as ids.</summary>
/// <param name="Ids">As many as were asked for, filled up with the end token.</param>
/// <param name="Bins">Left, top, right and bottom of every region, as the model is told them.</param>
/// <param name="CutOff">How many ids there was no room for.</param>
public sealed record ReCoTokens(long[] Ids, IReadOnlyList<int[]> Bins, int CutOff);

/// <summary>
/// ReCo (Yang et al. 2022, arXiv:2211.15518): places are words. The text encoder's vocabulary has a token more for each of a thousand places along a side (<c>&lt;bin000&gt;</c> and so on, as the public pipelines call
/// them), and a prompt is a caption, then for every region its four places and its own description.
/// </summary>
public sealed partial class ReCo
{
    /// <summary>The paper's places a side.</summary>
    public const int DefaultBins = 1000;

    readonly int bins;

    ReCo(Tokenizer tokenizer, int bins) => (Tokenizer, this.bins) = (tokenizer, bins);

    /// <summary>How many places a side has.</summary>
    public int BinCount => bins;

    /// <summary>CLIP's, with the places.</summary>
    public Tokenizer Tokenizer { get; }

    /// <summary>How many ids there are with the places, which come after the words.</summary>
    public int VocabularySize => Tokenizer.VocabularySize;

    /// <summary>Of a tokenizer that knows no places: they are added.</summary>
    /// <param name="tokenizer">CLIP's.</param>
    /// <param name="bins">How many places a side has.</param>
    /// <exception cref="PanoptesException">Fewer than two places, or a tokenizer that has no start or end.</exception>
    public static ReCo Adding(Tokenizer tokenizer, int bins = DefaultBins)
    {
        if (bins is < 2 or > 100_000) throw new PanoptesException($"{bins} places a side were asked for; expected 2 to 100,000.");
        if (tokenizer is not { StartId: not null, EndId: not null }) throw new PanoptesException("The prompt's tokenizer has no start or no end token.");
        return new(tokenizer.Adding([.. Enumerable.Range(0, bins).Select(Place)]), bins);
    }

    /// <summary>Of a tokenizer that knows places; null: it knows none.</summary>
    public static ReCo? In(Tokenizer tokenizer)
    {
        if (tokenizer is not { StartId: not null, EndId: not null }) return null;
        var bins = 0;
        while (tokenizer.IdOf(Place(bins)) is not null) bins++;
        return bins < 2 ? null : new(tokenizer, bins);
    }

    static string Place(int bin) => string.Create(CultureInfo.InvariantCulture, $"<bin{bin:000}>");

    /// <summary>The places of fractions of a side: v · (bins - 1), rounded half to even.</summary>
    /// <param name="fractions">Any shape, from 0 to 1; computed in float64</param>
    /// <param name="bins">How many places a side has.</param>
    /// <returns>The same shape, int64</returns>
    public static Tensor Quantize(Tensor fractions, int bins = DefaultBins)
    {
        using var scope = NewDisposeScope();
        return (fractions.to(ScalarType.Float64) * (bins - 1)).round().to(ScalarType.Int64).MoveToOuterDisposeScope();
    }

    /// <summary>The place of one fraction of a side.</summary>
    /// <exception cref="PanoptesException">It is not between 0 and 1.</exception>
    public static int Quantize(double fraction, int bins = DefaultBins) => fraction is >= 0 and <= 1
        ? (int)Math.Round(fraction * (bins - 1), MidpointRounding.ToEven)
        : throw new PanoptesException($"A region reaches to {fraction:0.###} of the picture's side; expected 0 to 1.");

    /// <summary>Takes a prompt apart: a caption, then any number of regions, each as <c>&lt;left&gt; &lt;top&gt; &lt;right&gt; &lt;bottom&gt; description</c> in thousandths of the picture's sides.</summary>
    /// <exception cref="PanoptesException">A region has not four numbers, or one that is not from 0 to 1000.</exception>
    public static (string Caption, IReadOnlyList<PhraseBox> Regions) Parse(string prompt)
    {
        var places = Places().Matches(prompt);
        var regions = new List<PhraseBox>();
        var caption = Words(0);
        for (var i = 0; i < places.Count; i++)
        {
            double[] sides = [.. Enumerable.Range(1, 4).Select(n => Side(places[i].Groups[n].Value))];
            regions.Add(new(Words(i + 1), sides[0], sides[1], sides[2], sides[3]));
        }
        return (caption, regions);

        // What stands before the places of this number, and after those before it.
        string Words(int number)
        {
            var start = number == 0 ? 0 : places[number - 1].Index + places[number - 1].Length;
            var words = prompt[start..(number < places.Count ? places[number].Index : prompt.Length)];
            return Number().Match(words) is { Success: true } stray ? throw new PanoptesException($"The prompt has {stray.Value} by itself; expected four numbers a region, as in <100> <250> <500> <800>.") : words.Trim();
        }

        static double Side(string number) => double.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var value) && value is >= 0 and <= 1000
            ? value / 1000
            : throw new PanoptesException($"The prompt has a region with the number {number}; expected 0 to 1000.");
    }

    /// <summary>A prompt as the text encoder reads it: the caption, then for each region its four places and its description between start and end.</summary>
    /// <param name="caption">Of the whole picture.</param>
    /// <param name="regions">In any order; the model saw them in that of reading.</param>
    /// <exception cref="PanoptesException">A region that reaches out of the picture.</exception>
    public string Write(string caption, IReadOnlyList<PhraseBox> regions)
    {
        var (start, end) = (Tokenizer.TokenOf(Tokenizer.StartId!.Value), Tokenizer.TokenOf(Tokenizer.EndId!.Value));
        return string.Join(' ', (string[])[Clean(caption), end!, .. regions.SelectMany(r => (string[])[.. Bins(r).Select(Place), start!, Clean(r.Phrase), end!])]);
    }

    /// <summary>The same of a prompt as <see cref="Parse"/> takes it; one without regions stays as it is.</summary>
    /// <exception cref="PanoptesException">It is none.</exception>
    public string Write(string prompt)
    {
        var (caption, regions) = Parse(prompt);
        return regions.Count == 0 ? prompt : Write(caption, regions);
    }

    int[] Bins(PhraseBox r) => [Quantize(r.Left, bins), Quantize(r.Top, bins), Quantize(r.Right, bins), Quantize(r.Bottom, bins)];

    /// <summary>The ids of a prompt.</summary>
    /// <param name="caption">Of the whole picture.</param>
    /// <param name="regions">In any order; the model saw them in that of reading.</param>
    /// <param name="length">How many ids are wanted. What does not fit is left out and counted.</param>
    /// <exception cref="PanoptesException">A region that reaches out of the picture.</exception>
    public ReCoTokens Encode(string caption, IReadOnlyList<PhraseBox> regions, int length)
    {
        long[] ids = [Tokenizer.StartId!.Value, .. Tokenizer.Encode(Write(caption, regions), addSpecialTokens: false)];
        var all = new long[length];
        Array.Fill(all, Tokenizer.EndId!.Value);
        var kept = Math.Min(ids.Length, length);
        ids.AsSpan(0, kept).CopyTo(all);
        return new(all, [.. regions.Select(Bins)], ids.Length - kept);
    }

    /// <summary>The same of a prompt as <see cref="Parse"/> takes it.</summary>
    /// <exception cref="PanoptesException">It is none.</exception>
    public ReCoTokens Encode(string prompt, int length)
    {
        var (caption, regions) = Parse(prompt);
        return Encode(caption, regions, length);
    }

    /// <summary>A text encoder that knows places: a copy of <paramref name="encoder"/> with a row more for each of them, and positions for longer texts, drawn as for training from scratch.</summary>
    /// <param name="encoder">Of a model without places; it stays as it is.</param>
    /// <param name="generator">Draws the new rows.</param>
    /// <param name="contextLength">How many tokens a text may have; 0: as many as before.</param>
    /// <param name="bins">How many places a side has.</param>
    /// <exception cref="PanoptesException">Fewer tokens than before.</exception>
    public static ClipTextModel AddPlaces(ClipTextModel encoder, Generator generator, int contextLength = 0, int bins = DefaultBins)
    {
        var c = encoder.Config;
        if (contextLength == 0) contextLength = c.MaxPositionEmbeddings;
        if (contextLength < c.MaxPositionEmbeddings) throw new PanoptesException($"Texts of {contextLength} tokens were asked for; expected at least the encoder's {c.MaxPositionEmbeddings}.");
        var larger = new ClipTextModel(c with { VocabSize = c.VocabSize + bins, MaxPositionEmbeddings = contextLength }, encoder.TextProjection?.OutFeatures);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        foreach (var (ours, theirs) in larger.Parameters().Zip(encoder.Parameters()))
        {
            if (ours.Shape.AsSpan().SequenceEqual(theirs.Shape)) ours.Assign(theirs.Value.detach().clone());
            else
            {
                ours.Initialize(generator, theirs.Value.dtype);
                ours.Value.narrow(0, 0, theirs.Shape[0]).copy_(theirs.Value);
            }
        }
        return larger;
    }

    /// <summary>Texts as the model was trained with them (as BLIP's captions): small letters, no punctuation before them, single spaces.</summary>
    static string Clean(string text)
    {
        var clean = text.ToLowerInvariant().TrimStart(',', '.', '!', '?', '*', '#', ':', ';', '~').Replace('-', ' ').Replace('/', ' ').Replace("<person>", "person", StringComparison.Ordinal);
        return Spaces().Replace(clean, " ").TrimEnd('\n').Trim(' ');
    }

    [GeneratedRegex(@"<\s*([0-9.]+)\s*>\s*<\s*([0-9.]+)\s*>\s*<\s*([0-9.]+)\s*>\s*<\s*([0-9.]+)\s*>", RegexOptions.CultureInvariant)]
    private static partial Regex Places();

    [GeneratedRegex(@"<\s*[0-9.]+\s*>", RegexOptions.CultureInvariant)]
    private static partial Regex Number();

    [GeneratedRegex(@"\s{2,}", RegexOptions.CultureInvariant)]
    private static partial Regex Spaces();
}
