namespace Panoptes.Text;

/// <summary>A text as tokens.</summary>
public sealed class TokenEncoding
{
    /// <summary>Ids, special tokens included where they were asked for.</summary>
    public required int[] Ids { get; init; }

    /// <summary>0 for the first text of a pair, 1 for the second, as far as the model's template tells them apart.</summary>
    public required int[] TypeIds { get; init; }

    /// <summary>Which tokens were added by the template or by padding.</summary>
    public required bool[] SpecialTokens { get; init; }

    /// <summary>For every token the range [Start, End) of the text that it stands for, in Unicode code points; (0, 0) for added ones.</summary>
    public required (int Start, int End)[] Offsets { get; init; }

    /// <summary>False where padding was added.</summary>
    public required bool[] Attention { get; init; }

    /// <summary>What truncation cut off, in windows of the same length that overlap by the stride; empty if nothing was cut.</summary>
    public IReadOnlyList<TokenEncoding> Overflowing { get; init; } = [];

    public int Length => Ids.Length;

    internal static TokenEncoding Create(int[] ids, (int, int)[] offsets, int type)
    {
        var attention = new bool[ids.Length];
        Array.Fill(attention, true);
        var types = new int[ids.Length];
        Array.Fill(types, type);
        return new() { Ids = ids, TypeIds = types, SpecialTokens = new bool[ids.Length], Offsets = offsets, Attention = attention };
    }

    /// <summary>Tokens that a template adds.</summary>
    internal static TokenEncoding Special(IReadOnlyList<int> ids, int type) => new()
    {
        Ids = [.. ids],
        TypeIds = [.. ids.Select(_ => type)],
        SpecialTokens = [.. ids.Select(_ => true)],
        Offsets = new (int, int)[ids.Count],
        Attention = [.. ids.Select(_ => true)],
    };

    internal static TokenEncoding Join(IReadOnlyList<TokenEncoding> parts) => parts.Count == 1 ? parts[0] : new()
    {
        Ids = [.. parts.SelectMany(p => p.Ids)],
        TypeIds = [.. parts.SelectMany(p => p.TypeIds)],
        SpecialTokens = [.. parts.SelectMany(p => p.SpecialTokens)],
        Offsets = [.. parts.SelectMany(p => p.Offsets)],
        Attention = [.. parts.SelectMany(p => p.Attention)],
    };

    internal TokenEncoding WithType(int type)
    {
        var types = new int[Length];
        Array.Fill(types, type);
        return new() { Ids = Ids, TypeIds = types, SpecialTokens = SpecialTokens, Offsets = Offsets, Attention = Attention, Overflowing = Overflowing };
    }

    internal TokenEncoding Slice(int start, int end) => new()
    {
        Ids = Ids[start..end],
        TypeIds = TypeIds[start..end],
        SpecialTokens = SpecialTokens[start..end],
        Offsets = Offsets[start..end],
        Attention = Attention[start..end],
    };

    /// <summary>Cuts to <paramref name="length"/> tokens; what falls off is kept in windows that overlap by <paramref name="stride"/>.</summary>
    internal TokenEncoding Truncate(int length, int stride, bool left)
    {
        if (length >= Length)
            return this;
        if (length == 0)
        {
            var empty = Slice(0, 0);
            return new() { Ids = [], TypeIds = [], SpecialTokens = [], Offsets = [], Attention = empty.Attention, Overflowing = [this] };
        }
        if (stride >= length)
            throw new PanoptesException($"A truncation to {length} tokens beside the special ones cannot have a stride of {stride}; less was expected.");
        var windows = new List<TokenEncoding>();
        var step = length - stride;
        if (left)
        {
            for (var end = Length; ; end -= step)
            {
                windows.Add(Slice(Math.Max(0, end - length), end));
                if (end <= length)
                    break;
            }
        }
        else
        {
            for (var start = 0; ; start += step)
            {
                windows.Add(Slice(start, Math.Min(start + length, Length)));
                if (start + length >= Length)
                    break;
            }
        }
        var kept = windows[0];
        return new() { Ids = kept.Ids, TypeIds = kept.TypeIds, SpecialTokens = kept.SpecialTokens, Offsets = kept.Offsets, Attention = kept.Attention, Overflowing = windows[1..] };
    }

    internal TokenEncoding Pad(int length, int id, int type, bool left)
    {
        var count = length - Length;
        if (count <= 0)
            return this;
        var attention = new bool[count];
        var padding = new TokenEncoding { Ids = Repeat(id), TypeIds = Repeat(type), SpecialTokens = [.. attention.Select(_ => true)], Offsets = new (int, int)[count], Attention = attention };
        var joined = Join(left ? [padding, this] : [this, padding]);
        return new() { Ids = joined.Ids, TypeIds = joined.TypeIds, SpecialTokens = joined.SpecialTokens, Offsets = joined.Offsets, Attention = joined.Attention, Overflowing = Overflowing };

        int[] Repeat(int value)
        {
            var values = new int[count];
            Array.Fill(values, value);
            return values;
        }
    }
}

/// <summary>Which of two texts gives way where a pair is too long.</summary>
public enum TruncationStrategy { LongestFirst, OnlyFirst, OnlySecond }

/// <summary>How to shorten what is longer than a model takes.</summary>
/// <param name="MaxLength">Tokens that remain at most, special ones included.</param>
public sealed record Truncation(int MaxLength)
{
    public TruncationStrategy Strategy { get; init; } = TruncationStrategy.LongestFirst;

    /// <summary>Tokens that consecutive windows of <see cref="TokenEncoding.Overflowing"/> share.</summary>
    public int Stride { get; init; }

    /// <summary>Whether the start of the text is cut off instead of its end.</summary>
    public bool Left { get; init; }
}

/// <summary>How to bring the texts of a batch to one length.</summary>
/// <param name="Id">The id that fills up.</param>
public sealed record Padding(int Id)
{
    /// <summary>Tokens to pad to; null: as many as the longest text of the batch has.</summary>
    public int? Length { get; init; }

    public int TypeId { get; init; }

    public bool Left { get; init; }

    /// <summary>The length is rounded up to a multiple of this.</summary>
    public int? MultipleOf { get; init; }
}

/// <summary>Texts as one rectangle of ids, row by row.</summary>
/// <param name="Rows">Texts.</param>
/// <param name="Columns">Tokens of each.</param>
/// <param name="Ids">Rows × Columns ids.</param>
/// <param name="Mask">True where a token stands, false where padding does.</param>
/// <param name="Lengths">For every text the tokens that it needs, special ones included, even where they did not fit.</param>
public sealed record TokenBatch(int Rows, int Columns, int[] Ids, bool[] Mask, int[] Lengths)
{
    /// <summary>The texts that were cut to fit, by index.</summary>
    public IEnumerable<int> Truncated => Enumerable.Range(0, Rows).Where(i => Lengths[i] > Columns);

    /// <returns>int64 [rows]: how many tokens of each row are a text's own, those that did not fit left out; the caller owns it.</returns>
    public Tensor OwnTokens() => tensor(Lengths.Select(l => (long)Math.Min(l, Columns)).ToArray());

    /// <summary>One row of ids.</summary>
    public ReadOnlySpan<int> Row(int index) => Ids.AsSpan(index * Columns, Columns);

    /// <returns>int64 [rows, columns]; the caller owns it.</returns>
    public Tensor InputIds(Device? device = null)
    {
        var ids = new long[Ids.Length];
        for (var i = 0; i < ids.Length; i++)
            ids[i] = Ids[i];
        return tensor(ids, [Rows, Columns], device: device);
    }

    /// <returns>int64 [rows, columns], 1 where a token stands, 0 where padding does; the caller owns it.</returns>
    public Tensor AttentionMask(Device? device = null)
    {
        var mask = new long[Mask.Length];
        for (var i = 0; i < mask.Length; i++)
            mask[i] = Mask[i] ? 1 : 0;
        return tensor(mask, [Rows, Columns], device: device);
    }
}
