using System.Collections.Frozen;
using System.Text.RegularExpressions;

namespace Panoptes.Evaluation;

/// <summary>
/// The accuracy of answers to open questions (Antol et al. 2015, arXiv:1505.00468), by the rules of the public evaluation: an answer that three of ten people gave is right.
/// </summary>
public static partial class VqaAccuracy
{
    const string Marks = ";/[]\"{}()=+\\_-><@`,?!";

    static readonly FrozenSet<string> Articles = FrozenSet.Create(StringComparer.Ordinal, "a", "an", "the");

    static readonly FrozenDictionary<string, string> Numbers = new Dictionary<string, string>
    {
        ["none"] = "0", ["zero"] = "0", ["one"] = "1", ["two"] = "2", ["three"] = "3", ["four"] = "4", ["five"] = "5", ["six"] = "6", ["seven"] = "7", ["eight"] = "8", ["nine"] = "9", ["ten"] = "10",
    }.ToFrozenDictionary(StringComparer.Ordinal);

    /// <summary>Contractions as the public evaluation has them, some of them odd, by themselves without (all of) their apostrophes.</summary>
    static readonly FrozenDictionary<string, string> Contractions = Spellings("""
        ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
        might've mustn't must've needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd
        something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've
        who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
        """);

    /// <summary>How right an answer is: the mean, over each of the people being left out, of a third of the others that agree with it, at most 1.</summary>
    /// <param name="answer">What was answered.</param>
    /// <param name="people">What people answered, ten as a rule.</param>
    /// <exception cref="PanoptesException">Nobody answered.</exception>
    public static double Of(string answer, IReadOnlyList<string> people)
    {
        if (people.Count == 0) throw new PanoptesException("Nobody answered the question; expected at least one answer.");
        string[] answers = [.. people.Select(Trimmed)];
        answer = Trimmed(answer);
        // As the public code has it: where all people wrote the same, that is what must be written.
        if (answers.Distinct(StringComparer.Ordinal).Count() > 1) (answer, answers) = (Normalize(answer), [.. answers.Select(Normalize)]);
        var agree = answers.Count(a => a == answer);
        return answers.Average(a => Math.Min(1, (agree - (a == answer ? 1 : 0)) / 3.0));
    }

    /// <summary>An answer without punctuation and articles, numbers as digits and contractions with their apostrophes, in lower case.</summary>
    public static string Normalize(string answer)
    {
        var text = Trimmed(answer);
        var bare = text;
        var hasNumber = CommaInNumber().IsMatch(text);
        foreach (var mark in Marks)
        {
            var alone = hasNumber || text.Contains($"{mark} ", StringComparison.Ordinal) || text.Contains($" {mark}", StringComparison.Ordinal);
            bare = bare.Replace(mark.ToString(), alone ? "" : " ", StringComparison.Ordinal);
        }
        var words = FullStop().Replace(bare, "").ToLowerInvariant().Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        return string.Join(' ', words.Select(static w => Numbers.GetValueOrDefault(w, w)).Where(static w => !Articles.Contains(w)).Select(static w => Contractions.GetValueOrDefault(w, w)));
    }

    static string Trimmed(string text) => text.Replace('\n', ' ').Replace('\t', ' ').Trim();

    /// <summary>Every contraction by what it is without one of its apostrophes, and without all.</summary>
    static FrozenDictionary<string, string> Spellings(string contractions)
    {
        var spellings = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var right in contractions.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))
        {
            for (var at = right.IndexOf('\''); at >= 0; at = right.IndexOf('\'', at + 1)) spellings.TryAdd(right.Remove(at, 1), right);
            // "shes" or "wed" alone may be words; the public table has none that is.
            if (right.Count('\'') == 1) spellings.TryAdd(right.Replace("'", "", StringComparison.Ordinal), right);
        }
        return spellings.ToFrozenDictionary(StringComparer.Ordinal);
    }

    [GeneratedRegex(@"(\d)(\,)(\d)")]
    private static partial Regex CommaInNumber();

    /// <summary>The public code's, in which a typo keeps the first part from ever holding a stop back.</summary>
    [GeneratedRegex(@"(?!<=\d)(\.)(?!\d)")]
    private static partial Regex FullStop();
}
