namespace Panoptes.Text;

/// <summary>Puts special tokens around texts: the post-processors of tokenizer.json.</summary>
internal abstract class PostProcessor
{
    /// <summary>How many tokens are added to one text or to a pair.</summary>
    public abstract int Added(bool pair);

    /// <param name="parts">One encoding a text; a processor before this one may have split them further.</param>
    /// <param name="addSpecial">Whether special tokens are put in.</param>
    /// <param name="tokenOf">The spelling of an id.</param>
    public abstract List<TokenEncoding> Apply(List<TokenEncoding> parts, bool addSpecial, Func<int, string?> tokenOf);
}

internal sealed class PostProcessorSequence(IReadOnlyList<PostProcessor> steps) : PostProcessor
{
    public override int Added(bool pair) => steps.Sum(s => s.Added(pair));

    public override List<TokenEncoding> Apply(List<TokenEncoding> parts, bool addSpecial, Func<int, string?> tokenOf) =>
        steps.Aggregate(parts, (p, step) => step.Apply(p, addSpecial, tokenOf));
}

/// <summary>One place of a template: special tokens, or (Sequence 0 or 1) a text.</summary>
internal sealed record TemplateItem(int[] Ids, int Sequence, int Type);

internal sealed class TemplatePostProcessor(IReadOnlyList<TemplateItem> single, IReadOnlyList<TemplateItem> pair) : PostProcessor
{
    public override int Added(bool isPair) => (isPair ? pair : single).Sum(i => i.Ids.Length);

    public override List<TokenEncoding> Apply(List<TokenEncoding> parts, bool addSpecial, Func<int, string?> tokenOf)
    {
        var result = new List<TokenEncoding>();
        foreach (var item in parts.Count > 1 ? pair : single)
        {
            if (item.Sequence >= 0 && item.Sequence < parts.Count)
                result.Add(parts[item.Sequence].WithType(item.Type));
            else if (addSpecial && item.Sequence < 0)
                result.Add(TokenEncoding.Special(item.Ids, item.Type));
        }
        return result;
    }

    /// <summary>[CLS] A [SEP], and B [SEP] of type 1.</summary>
    public static TemplatePostProcessor Bert(int cls, int sep) => new(
        [new([cls], -1, 0), new([], 0, 0), new([sep], -1, 0)],
        [new([cls], -1, 0), new([], 0, 0), new([sep], -1, 0), new([], 1, 1), new([sep], -1, 1)]);

    /// <summary>&lt;s&gt; A &lt;/s&gt;, and &lt;/s&gt; B &lt;/s&gt;, all of type 0.</summary>
    public static TemplatePostProcessor Roberta(int cls, int sep) => new(
        [new([cls], -1, 0), new([], 0, 0), new([sep], -1, 0)],
        [new([cls], -1, 0), new([], 0, 0), new([sep], -1, 0), new([sep], -1, 0), new([], 1, 0), new([sep], -1, 0)]);
}

/// <summary>Takes the spaces that byte-level tokens begin or end with out of their offsets.</summary>
internal sealed class TrimOffsetsPostProcessor(bool addPrefixSpace) : PostProcessor
{
    public override int Added(bool pair) => 0;

    public override List<TokenEncoding> Apply(List<TokenEncoding> parts, bool addSpecial, Func<int, string?> tokenOf)
    {
        foreach (var part in parts)
        {
            for (var i = 0; i < part.Length; i++)
            {
                if (tokenOf(part.Ids[i]) is not { } token)
                    continue;
                var (start, end) = part.Offsets[i];
                var leading = token.TakeWhile(IsSpace).Count();
                var trailing = token.Reverse().TakeWhile(IsSpace).Count();
                if (leading == 1 && (i == 0 || start == 0) && addPrefixSpace)
                    leading = 0;   // the one space that was put in front is not in the text
                start = Math.Min(start + leading, end);
                part.Offsets[i] = (start, Math.Max(end - trailing, start));
            }
        }
        return parts;

        static bool IsSpace(char c) => c == ByteAlphabet.OfByte(' ') || UnicodeText.IsSpace(c);
    }
}
