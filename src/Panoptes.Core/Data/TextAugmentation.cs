namespace Panoptes.Data;

/// <summary>
/// Other wordings of a text by words that are left out or change places (two of the four operations of EDA, Wei and Zou 2019, arXiv:1901.11196, as
/// DeCLIP uses them; those that need a thesaurus are left out). A text of one word stays as it is.
/// </summary>
public sealed record TextAugmentation
{
    /// <summary>The probability that a word is left out; one always stays.</summary>
    public float Deletion { get; init; } = 0.1f;

    /// <summary>The number of swaps of two words, as a share of the number of words, at least one where it is above 0.</summary>
    public float Swaps { get; init; } = 0.1f;

    /// <summary>Draws another wording: one of the two operations.</summary>
    public string Draw(string text, ref SampleRandom random)
    {
        var words = text.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        if (words.Length < 2) return text;
        if (random.Chance(0.5f))
        {
            if (Swaps <= 0) return text;
            for (var i = Math.Max(1, (int)(Swaps * words.Length)); i > 0; i--)
            {
                var (a, b) = (random.Next(words.Length), random.Next(words.Length));
                (words[a], words[b]) = (words[b], words[a]);
            }
            return string.Join(' ', words);
        }
        var kept = new List<string>(words.Length);
        foreach (var word in words)
            if (!random.Chance(Deletion)) kept.Add(word);
        return kept.Count > 0 ? string.Join(' ', kept) : words[random.Next(words.Length)];
    }
}
