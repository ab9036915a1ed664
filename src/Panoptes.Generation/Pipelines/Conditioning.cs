namespace Panoptes.Generation;

/// <summary>What a network is told of the images that are wanted, a row each: as its family needs it. It owns its tensors.</summary>
public sealed record Conditioning : IDisposable
{
    /// <summary>[b, tokens, width]: the text encoders' states.</summary>
    public Tensor? Text { get; init; }

    /// <summary>[b, tokens]: 1 where a token is seen, else 0; null: all are.</summary>
    public Tensor? TextMask { get; init; }

    /// <summary>[b, width]: the whole text.</summary>
    public Tensor? Pooled { get; init; }

    /// <summary>[b, 6]: SDXL's sizes and crops.</summary>
    public Tensor? TimeIds { get; init; }

    /// <summary>[b] int64: classes.</summary>
    public Tensor? Classes { get; init; }

    /// <summary>How many images it is of.</summary>
    public long Count => (Text ?? Classes ?? Pooled)!.shape[0];

    /// <summary>Both, one behind the other: as halves of one batch.</summary>
    public static Conditioning Concatenate(Conditioning first, Conditioning second) => first.With(second, static (a, b) => cat([a, b]));

    /// <summary>Some of the rows.</summary>
    public Conditioning Rows(long start, long count) => With(this, (a, _) => a.narrow(0, start, count).alias());

    /// <summary>Between two on a line, a row each: exactly the first at 0 and the second at 1.</summary>
    /// <param name="shares">One a row.</param>
    /// <exception cref="PanoptesException">Classes, which have nothing between them.</exception>
    public static Conditioning Interpolate(Conditioning from, Conditioning to, IReadOnlyList<double> shares)
    {
        if (from.Classes is { } classes && !(to.Classes is { } others && classes.Equals(others))) throw new PanoptesException("There is nothing between two classes; expected a model of words.");
        using var scope = NewDisposeScope();
        var weights = tensor(shares.Select(static s => (float)s).ToArray());
        // What either of both sees is seen.
        var seen = from.TextMask is { } a && to.TextMask is { } b ? maximum(a, b) : null;
        return (from.With(to, (x, y) => x.is_floating_point() ? x.lerp(y, weights.to(x.dtype).view([-1, .. Enumerable.Repeat(1L, (int)x.dim() - 1)])) : x.alias()) with { TextMask = seen }).MoveToOuterDisposeScope();
    }

    Conditioning With(Conditioning other, Func<Tensor, Tensor, Tensor> combine)
    {
        return new()
        {
            Text = Both(Text, other.Text, nameof(Text)),
            TextMask = Both(TextMask, other.TextMask, nameof(TextMask)),
            Pooled = Both(Pooled, other.Pooled, nameof(Pooled)),
            TimeIds = Both(TimeIds, other.TimeIds, nameof(TimeIds)),
            Classes = Both(Classes, other.Classes, nameof(Classes)),
        };

        Tensor? Both(Tensor? a, Tensor? b, string name) => a is null && b is null ? null
            : a is null || b is null ? throw new PanoptesException($"One of two conditions has {name} and the other has not; expected the same kind of both.") : combine(a, b);
    }

    IEnumerable<Tensor> Tensors => ((Tensor?[])[Text, TextMask, Pooled, TimeIds, Classes]).OfType<Tensor>();

    public Conditioning MoveToOuterDisposeScope()
    {
        foreach (var tensor in Tensors) tensor.MoveToOuterDisposeScope();
        return this;
    }

    public Conditioning DetachFromDisposeScope()
    {
        foreach (var tensor in Tensors) tensor.DetachFromDisposeScope();
        return this;
    }

    public void Dispose()
    {
        foreach (var tensor in Tensors) tensor.Dispose();
    }
}
