using System.Text;

namespace Panoptes.Text;

/// <summary>Turns tokens back into text: the decoders of tokenizer.json. Each takes strings and gives strings; the last ones are joined.</summary>
internal abstract class TokenDecoder
{
    public abstract List<string> Apply(List<string> tokens);
}

internal sealed class DecoderSequence(IReadOnlyList<TokenDecoder> steps) : TokenDecoder
{
    public override List<string> Apply(List<string> tokens)
    {
        var length = tokens.Sum(t => (long)t.Length);
        foreach (var step in steps)
        {
            tokens = step.Apply(tokens);
            Normalizer.CheckGrowth(length, tokens.Sum(t => (long)t.Length));
        }
        return tokens;
    }
}

internal sealed class ByteLevelDecoder : TokenDecoder
{
    public override List<string> Apply(List<string> tokens)
    {
        var bytes = new List<byte>();
        Span<byte> one = stackalloc byte[4];
        foreach (var token in tokens)
        {
            var at = bytes.Count;
            foreach (var c in token)
            {
                if (ByteAlphabet.ToByte(c) is >= 0 and var b)
                {
                    bytes.Add((byte)b);
                    continue;
                }
                // Not spelled in the byte alphabet: the token stands for itself.
                bytes.RemoveRange(at, bytes.Count - at);
                bytes.AddRange(Encoding.UTF8.GetBytes(token));
                break;
            }
        }
        return [Encoding.UTF8.GetString(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(bytes))];
    }
}

/// <summary>&lt;0x0A&gt; and the like become bytes; bytes that are no UTF-8 become one U+FFFD each.</summary>
internal sealed class ByteFallbackDecoder : TokenDecoder
{
    private static readonly UTF8Encoding Strict = new(false, true);

    public override List<string> Apply(List<string> tokens)
    {
        var result = new List<string>(tokens.Count);
        var bytes = new List<byte>();
        foreach (var token in tokens)
        {
            if (token.Length == 6 && token.StartsWith("<0x", StringComparison.Ordinal) && token[5] == '>'
                && byte.TryParse(token.AsSpan(3, 2), System.Globalization.NumberStyles.AllowHexSpecifier, null, out var b))
            {
                bytes.Add(b);
                continue;
            }
            Flush();
            result.Add(token);
        }
        Flush();
        return result;

        void Flush()
        {
            if (bytes.Count == 0)
                return;
            try
            {
                result.Add(Strict.GetString([.. bytes]));
            }
            catch (ArgumentException)
            {
                for (var i = 0; i < bytes.Count; i++)
                    result.Add("\uFFFD");
            }
            bytes.Clear();
        }
    }
}

internal sealed class FuseDecoder : TokenDecoder
{
    public override List<string> Apply(List<string> tokens) => [string.Concat(tokens)];
}

internal sealed class StripDecoder(char content, int start, int stop) : TokenDecoder
{
    public override List<string> Apply(List<string> tokens) => tokens.ConvertAll(token =>
    {
        var from = 0;
        while (from < Math.Min(start, token.Length) && token[from] == content)
            from++;
        var to = token.Length;
        while (to > from && token.Length - to < stop && token[to - 1] == content)
            to--;
        return token[from..to];
    });
}

internal sealed class ReplaceDecoder(SplitPattern pattern, string content) : TokenDecoder
{
    private readonly ReplaceNormalizer replace = new(pattern, content);

    public override List<string> Apply(List<string> tokens) => tokens.ConvertAll(t => replace.Apply(new TextBuffer(t)).ToString());
}

internal sealed class WordPieceDecoder(string prefix, bool cleanup) : TokenDecoder
{
    public override List<string> Apply(List<string> tokens)
    {
        var result = new List<string>(tokens.Count);
        for (var i = 0; i < tokens.Count; i++)
        {
            var token = tokens[i];
            if (i > 0)
                token = token.StartsWith(prefix, StringComparison.Ordinal) ? token[prefix.Length..] : " " + token;
            result.Add(cleanup ? Cleanup(token) : token);
        }
        return result;
    }

    /// <summary>Undoes the spaces that tokenizing puts around punctuation and contractions of English.</summary>
    public static string Cleanup(string text) => text.Replace(" .", ".").Replace(" ?", "?").Replace(" !", "!").Replace(" ,", ",").Replace(" ' ", "'")
        .Replace(" n't", "n't").Replace(" 'm", "'m").Replace(" do not", " don't").Replace(" 's", "'s").Replace(" 've", "'ve").Replace(" 're", "'re");
}

internal sealed class MetaspaceDecoder(string replacement, MetaspacePrefix prefix) : TokenDecoder
{
    public override List<string> Apply(List<string> tokens)
    {
        var result = new List<string>(tokens.Count);
        for (var i = 0; i < tokens.Count; i++)
            result.Add(tokens[i].Replace(replacement, i == 0 && prefix != MetaspacePrefix.Never ? "" : " ", StringComparison.Ordinal));
        return result;
    }
}

/// <summary>The end-of-word suffix becomes the space between words.</summary>
internal sealed class SuffixDecoder(string suffix) : TokenDecoder
{
    public override List<string> Apply(List<string> tokens)
    {
        var result = new List<string>(tokens.Count);
        for (var i = 0; i < tokens.Count; i++)
            result.Add(suffix.Length == 0 ? tokens[i] : tokens[i].Replace(suffix, i == tokens.Count - 1 ? "" : " ", StringComparison.Ordinal));
        return result;
    }
}

/// <summary>Connectionist temporal classification: repeats collapse, the blank disappears.</summary>
internal sealed class CtcDecoder(string padToken, string wordDelimiter, bool cleanup) : TokenDecoder
{
    public override List<string> Apply(List<string> tokens)
    {
        var result = new List<string>(tokens.Count);
        for (var i = 0; i < tokens.Count; i++)
        {
            if (i > 0 && tokens[i] == tokens[i - 1])
                continue;
            var token = padToken.Length == 0 ? tokens[i] : tokens[i].Replace(padToken, "", StringComparison.Ordinal);
            if (cleanup)
                token = WordPieceDecoder.Cleanup(token).Replace(wordDelimiter, " ", StringComparison.Ordinal);
            if (token.Length > 0)
                result.Add(token);
        }
        return result;
    }
}

/// <summary>What CLIP's Python tokenizer does after its decoder: the end-of-word marks become spaces, and the edges are trimmed.</summary>
internal sealed class EndOfWordDecoder(string suffix) : TokenDecoder
{
    public override List<string> Apply(List<string> tokens) => [string.Concat(tokens).Replace(suffix, " ", StringComparison.Ordinal).Trim()];
}
