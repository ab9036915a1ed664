using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>
/// Self-attention, perhaps gated attention to grounding tokens, attention to the text, and a feed-forward layer, each with a norm before it.
/// Keys: norm1, attn1, norm2, attn2, norm3, ff, fuser (diffusers' BasicTransformerBlock).
/// </summary>
public sealed class TransformerBlock(int width, int heads, int headSize, int contextWidth, bool onlyCross, bool grounded) : Module
{
    public LayerNorm Norm1 { get; } = new(width);

    public CrossAttention Attn1 { get; } = new(width, heads, headSize, onlyCross ? contextWidth : null);

    public LayerNorm Norm2 { get; } = new(width);

    public CrossAttention Attn2 { get; } = new(width, heads, headSize, contextWidth);

    public LayerNorm Norm3 { get; } = new(width);

    public FeedForward Ff { get; } = new(width);

    public GroundingFuser? Fuser { get; } = grounded ? new(width, contextWidth, heads, headSize) : null;

    /// <param name="x">[b, places, width]</param>
    internal Tensor Forward(Tensor x, UNetCondition c, (long Rows, long Columns) map)
    {
        using var scope = NewDisposeScope();
        var y = Sum(Attn1.Forward(Norm1.Forward(x), onlyCross ? c.Text : null, hook: c.Hook, map: map), x);
        if (c.Objects is not null && Fuser is not null) y = Fuser.Forward(y, c.Objects, c.Hook);
        y = Sum(Attn2.Forward(Norm2.Forward(y), c.Text, c.TextMask, c.Hook, map), y);
        return Sum(Ff.Forward(Norm3.Forward(y)), y).MoveToOuterDisposeScope();

        static Tensor Sum(Tensor fresh, Tensor x) => is_grad_enabled() ? fresh + x : fresh.add_(x);
    }
}

/// <summary>
/// A map's places as tokens through transformer blocks, added to the map. Keys: norm, proj_in, transformer_blocks.N, proj_out (diffusers' Transformer2DModel); the projections are convolutions of
/// kernel 1, or linear layers (<paramref name="linear"/>).
/// </summary>
public sealed class SpatialTransformer(int channels, int heads, int layers, int contextWidth, int groups, bool linear, bool onlyCross, bool grounded) : UNetAttention
{
    readonly int inner = Attention.Divisible(channels, heads);

    public GroupNorm Norm { get; } = new(groups, channels, 1e-6);

    [Key("proj_in")]
    public Conv2d? ConvIn { get; } = linear ? null : new(channels, channels, 1);

    [Key("proj_in")]
    public Linear? LinearIn { get; } = linear ? new(channels, channels) : null;

    public ModuleList<TransformerBlock> TransformerBlocks { get; } = new(layers, _ => new(channels, heads, Attention.Divisible(channels, heads) / heads, contextWidth, onlyCross, grounded));

    [Key("proj_out")]
    public Conv2d? ConvOut { get; } = linear ? null : new(channels, channels, 1);

    [Key("proj_out")]
    public Linear? LinearOut { get; } = linear ? new(channels, channels) : null;

    private protected override Tensor Compute(Tensor x, UNetCondition c)
    {
        using var scope = NewDisposeScope();
        (long Rows, long Columns) map = (x.shape[2], x.shape[3]);
        Tensor tokens;
        using (var normed = Norm.Forward(x)) tokens = ConvIn is not null ? AsTokens(ConvIn.Forward(normed)) : LinearIn!.Forward(AsTokens(normed));
        foreach (var block in TransformerBlocks)
            using (var before = tokens) tokens = block.Forward(before, c, map);
        if (ConvOut is not null) return ConvOut.Forward(AsMap(tokens), added: x).MoveToOuterDisposeScope();
        var y = AsMap(LinearOut!.Forward(tokens));
        return (is_grad_enabled() ? y + x : y.add_(x)).MoveToOuterDisposeScope();

        Tensor AsMap(Tensor tokens) => tokens.reshape(tokens.shape[0], map.Rows, map.Columns, inner).permute(0, 3, 1, 2);
    }
}
