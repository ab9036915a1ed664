using System.Globalization;
using System.Text;

namespace Panoptes.Generation;

/// <summary>A stretch of a prompt, and how much it counts.</summary>
/// <param name="Text">As the tokenizer is to read it.</param>
/// <param name="Weight">1: as it is; above 0. One part alone says at most <see cref="WeightedPrompt.MostWeight"/>; those around it multiply.</param>
public sealed record PromptPart(string Text, double Weight);

/// <summary>
/// A prompt whose parts count more or less: "a (red apple:1.3) on a (table:0.8)". Weights of nested parts multiply. Parentheses without a number, and those after a backslash, are text as any other, so that a
/// prompt that says nothing of weights is read as the peers read it. (The form is that of the web interfaces of Stable Diffusion; what a weight does is in <see cref="Weigh"/>.)
/// </summary>
public static class WeightedPrompt
{
    public const double MostWeight = 10;

    const int MostNested = 32, MostCharacters = 1 << 16;

    /// <summary>The parts of a prompt in their order; neighbors of one weight are one part.</summary>
    /// <exception cref="PanoptesException">A weight that is not above 0 and at most <see cref="MostWeight"/>, parts more than 32 deep, or a prompt of more than 65,536 characters.</exception>
    public static IReadOnlyList<PromptPart> Parse(string prompt)
    {
        if (prompt.Length > MostCharacters) throw new PanoptesException($"The prompt has {prompt.Length} characters; expected at most {MostCharacters}.");
        var weights = Matched(prompt);
        var (parts, text, current) = (new List<PromptPart>(), new StringBuilder(), 1.0);
        var open = new Stack<double>();
        for (var i = 0; i < prompt.Length; i++)
        {
            if (IsEscape(prompt, i))
            {
                text.Append(prompt[++i]);
                continue;
            }
            if (weights.TryGetValue(i, out var mark))
            {
                Flush();
                if (mark.Opens)
                {
                    if (open.Count == MostNested) throw new PanoptesException($"The prompt has weights more than {MostNested} deep.");
                    open.Push(current);
                    current *= mark.Weight;
                }
                else current = open.Pop();
                i = mark.Last;
                continue;
            }
            text.Append(prompt[i]);
        }
        Flush();
        return parts;

        void Flush()
        {
            if (text.Length == 0) return;
            if (parts is [.., var last] && last.Weight == current) parts[^1] = last with { Text = last.Text + text };
            else parts.Add(new(text.ToString(), current));
            text.Clear();
        }
    }

    /// <summary>Whether a backslash stands before a parenthesis.</summary>
    static bool IsEscape(string prompt, int i) => prompt[i] == '\\' && i + 1 < prompt.Length && prompt[i + 1] is '(' or ')';

    /// <summary>Where parts with a weight begin and end: the place of what is no text, how far it goes, and, where it opens, the weight.</summary>
    static Dictionary<int, (bool Opens, double Weight, int Last)> Matched(string prompt)
    {
        var (marks, open) = (new Dictionary<int, (bool, double, int)>(), new Stack<int>());
        for (var i = 0; i < prompt.Length; i++)
        {
            if (IsEscape(prompt, i)) i++;
            else if (prompt[i] == '(') open.Push(i);
            else if (prompt[i] == ')' && open.TryPop(out var start))
            {
                var colon = prompt.LastIndexOf(':', i, i - start);
                if (colon < 0 || !double.TryParse(prompt.AsSpan(colon + 1, i - colon - 1), NumberStyles.AllowDecimalPoint | NumberStyles.AllowLeadingSign | NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture, out var weight)) continue;
                if (!(weight > 0 && weight <= MostWeight)) throw new PanoptesException($"A part of the prompt has the weight {weight}; expected above 0 and at most {MostWeight}.");
                marks[start] = (true, weight, start);
                marks[colon] = (false, 0, i);
            }
        }
        return marks;
    }

    /// <summary>Features of tokens times their weights, with the mean over all of a prompt's features as it was, so that weights move what counts and not how loud the whole is.</summary>
    /// <param name="features">[tokens, width]</param>
    /// <param name="weights">[tokens]</param>
    public static Tensor Weigh(Tensor features, Tensor weights)
    {
        using var scope = NewDisposeScope();
        var weighed = features * weights.to(features.dtype).unsqueeze(-1);
        return (weighed * (features.to(ScalarType.Float32).mean() / weighed.to(ScalarType.Float32).mean()).to(features.dtype)).MoveToOuterDisposeScope();
    }
}
