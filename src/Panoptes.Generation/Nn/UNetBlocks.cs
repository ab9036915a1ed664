using Panoptes.Nn;

namespace Panoptes.Generation;

// What UNets are made of (Ho et al. 2020, arXiv:2006.11239; Dhariwal and Nichol 2021, arXiv:2105.05233; Rombach et al. 2022, arXiv:2112.10752), under the keys of diffusers.

/// <summary>What a UNet's blocks are told beside the map.</summary>
sealed record UNetCondition
{
    /// <summary>[b, width]: the time and all that is added to it.</summary>
    public required Tensor Time { get; init; }

    /// <summary>The same after the activation.</summary>
    public required Tensor ActiveTime { get; init; }

    /// <summary>[b, tokens, width]</summary>
    public Tensor? Text { get; init; }

    /// <summary>Added to the scores: [b, 1, 1, tokens].</summary>
    public Tensor? TextMask { get; init; }

    /// <summary>Grounding tokens: [b, tokens, width].</summary>
    public Tensor? Objects { get; init; }

    public IAttentionHook? Hook { get; init; }

    public FreeU? FreeU { get; init; }
}

/// <summary>What all blocks of one UNet have in common.</summary>
sealed record UNetBlockOptions
{
    public required int TimeWidth { get; init; }
    public required int Groups { get; init; }
    public required double Eps { get; init; }
    public required Activation Act { get; init; }

    /// <summary>The time scales and shifts the second norm's result, in place of being added before it.</summary>
    public required bool ScaleShift { get; init; }
    public double Dropout { get; init; }
    public int DownsamplePadding { get; init; } = 1;
    public bool LinearProjection { get; init; }
    public bool Grounded { get; init; }

    /// <summary>What the text is normalized by before it is added to keys and values: layer_norm, group_norm or null.</summary>
    public string? CrossNorm { get; init; }

    /// <summary>Of the blocks named Resnet… and SimpleCross…: the time is not activated again.</summary>
    public bool SkipTimeAct { get; init; }

    /// <summary>Of the same blocks: what their resnets' sums are divided by.</summary>
    public double OutScale { get; init; } = 1;

    /// <summary>Whether "Attn…" blocks change resolution by a whole resnet.</summary>
    public bool ResnetResampling { get; init; }
}

/// <summary>One level of a UNet.</summary>
sealed record UNetLevelOptions
{
    public required string Type { get; init; }
    public required int From { get; init; }
    public required int To { get; init; }

    /// <summary>Of the upward path: how many channels the last skip has, which comes from a finer level.</summary>
    public int Skip { get; init; }
    public required int Layers { get; init; }
    public required bool Resamples { get; init; }
    public int Heads { get; init; } = 1;
    public int HeadSize { get; init; } = 8;
    public int ContextWidth { get; init; } = 1;
    public int[] Transformers { get; init; } = [];
    public bool OnlyCross { get; init; }
}

enum Resampling { None, Down, Up }

/// <summary>
/// Two convolutions, each after a norm and an activation, the time between them, and a shortcut; it may halve or double the map on its way.
/// Keys: norm1, conv1, time_emb_proj, norm2, conv2, conv_shortcut (diffusers' ResnetBlock2D).
/// </summary>
public sealed class UNetResnet : Module
{
    readonly UNetBlockOptions o;
    readonly double outScale;
    readonly bool rawTime;
    readonly Resampling resampling;

    internal UNetResnet(UNetBlockOptions o, int from, int to, double outScale = 1, bool rawTime = false, Resampling resampling = Resampling.None)
    {
        (this.o, this.outScale, this.rawTime, this.resampling) = (o, outScale, rawTime, resampling);
        Norm1 = new(o.Groups, from, o.Eps);
        Conv1 = new(from, to, 3, padding: 1);
        TimeEmbProj = new(o.TimeWidth, o.ScaleShift ? 2 * to : to);
        Norm2 = new(o.Groups, to, o.Eps);
        Conv2 = new(to, to, 3, padding: 1);
        ConvShortcut = from == to ? null : new(from, to, 1);
    }

    public GroupNorm Norm1 { get; }

    public Conv2d Conv1 { get; }

    public Linear TimeEmbProj { get; }

    public GroupNorm Norm2 { get; }

    public Conv2d Conv2 { get; }

    public Conv2d? ConvShortcut { get; }

    /// <param name="x">[b, from, height, width]</param>
    internal Tensor Forward(Tensor x, UNetCondition c)
    {
        var time = rawTime ? c.Time : c.ActiveTime;
        // What is left out at random would be other places the second time.
        return ActivationsCheckpointed && !(o.Dropout > 0 && Training) ? ActivationCheckpoint.Run(this, inputs => Compute(inputs[0]!, inputs[1]!), x, time) : Compute(x, time);
    }

    Tensor Compute(Tensor x, Tensor time)
    {
        using var scope = NewDisposeScope();
        Tensor y;
        using (var normed = Norm1.Forward(x, o.Act))
        {
            (x, var inner) = (Resampled(x), Resampled(normed));
            y = Conv1.Forward(inner);
        }
        time = TimeEmbProj.Forward(time).unsqueeze(-1).unsqueeze(-1);
        if (o.ScaleShift)
        {
            var parts = time.chunk(2, 1);
            y = o.Act.Apply(Norm2.Forward(y) * (1 + parts[0]) + parts[1]);
        }
        else
        {
            using var before = y;
            using var told = is_grad_enabled() ? y + time : y.add_(time);
            y = Norm2.Forward(told, o.Act);
        }
        if (o.Dropout > 0 && Training) y = nn.functional.dropout(y, o.Dropout, training: true);
        y = Conv2.Forward(y, added: ConvShortcut?.Forward(x) ?? x);
        return (outScale == 1 ? y : y / outScale).MoveToOuterDisposeScope();
    }

    Tensor Resampled(Tensor x) => resampling switch
    {
        Resampling.Down => nn.functional.avg_pool2d(x, 2, 2),
        Resampling.Up => nn.functional.interpolate(x, scale_factor: [2, 2], mode: InterpolationMode.Nearest),
        _ => x,
    };
}

/// <summary>Attention after a resnet: of one of three kinds.</summary>
public abstract class UNetAttention : HookedAttention
{
    /// <param name="x">[b, channels, height, width]</param>
    internal Tensor Forward(Tensor x, UNetCondition c) => !ActivationsCheckpointed || c.Hook is not null ? Compute(x, c)
        : ActivationCheckpoint.Run(this, inputs => Compute(inputs[0]!, c with { Text = inputs[1], TextMask = inputs[2], Objects = inputs[3] }), x, c.Text, c.TextMask, c.Objects);

    private protected abstract Tensor Compute(Tensor x, UNetCondition c);

    /// <summary>[b, channels, height, width] to [b, places, channels], without a copy where channels lie last.</summary>
    private protected static Tensor AsTokens(Tensor x) => x.flatten(2).transpose(1, 2);
}

/// <summary>Every place of a map sees all. Keys: group_norm, to_q, to_k, to_v, to_out.0.</summary>
public sealed class PlaceAttention(int channels, int heads, int? groups, double eps, double outScale = 1) : UNetAttention
{
    public GroupNorm? GroupNorm { get; } = groups is { } g ? new(g, channels, eps) : null;

    public Linear ToQ { get; } = new(channels, channels);

    public Linear ToK { get; } = new(channels, channels);

    public Linear ToV { get; } = new(channels, channels);

    [Key("to_out.0")]
    public Linear ToOut { get; } = new(channels, channels);

    private protected override Tensor Compute(Tensor x, UNetCondition c)
    {
        using var scope = NewDisposeScope();
        var tokens = AsTokens(GroupNorm?.Forward(x) ?? x);
        var seen = See(ToQ.Forward(tokens), ToK.Forward(tokens), ToV.Forward(tokens), heads, null, tokens, null, c.Hook, (x.shape[2], x.shape[3]));
        var y = x + ToOut.Forward(Attention.MergeHeads(seen)).transpose(1, 2).reshape(x.shape);
        return (outScale == 1 ? y : y / outScale).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Every place of a map sees the text and, unless it sees nothing else, all places. Keys: group_norm, norm_cross, to_q, to_k, to_v, add_k_proj, add_v_proj, to_out.0 (DeepFloyd IF's attention).
/// </summary>
public sealed class AddedKeyAttention(int channels, int heads, int textWidth, int groups, bool onlyText, string? textNorm) : UNetAttention
{
    public GroupNorm GroupNorm { get; } = new(groups, channels);

    [Key("norm_cross")]
    public LayerNorm? NormCross { get; } = textNorm == "layer_norm" ? new(channels) : null;

    [Key("norm_cross")]
    public GroupNorm? GroupNormCross { get; } = textNorm == "group_norm" ? new(32, textWidth) : null;

    public Linear ToQ { get; } = new(channels, channels);

    public Linear? ToK { get; } = onlyText ? null : new(channels, channels);

    public Linear? ToV { get; } = onlyText ? null : new(channels, channels);

    public Linear AddKProj { get; } = new(textWidth, channels);

    public Linear AddVProj { get; } = new(textWidth, channels);

    [Key("to_out.0")]
    public Linear ToOut { get; } = new(channels, channels);

    private protected override Tensor Compute(Tensor x, UNetCondition c)
    {
        using var scope = NewDisposeScope();
        // Without a text the places take its part, as they were before the norm.
        var text = c.Text ?? AsTokens(x);
        if (c.Text is not null && NormCross is not null) text = NormCross.Forward(text);
        if (c.Text is not null && GroupNormCross is not null) text = GroupNormCross.Forward(text.transpose(1, 2)).transpose(1, 2);
        var tokens = AsTokens(GroupNorm.Forward(x));
        var (k, v, mask) = (AddKProj.Forward(text), AddVProj.Forward(text), c.TextMask);
        if (ToK is not null)
        {
            (k, v) = (cat([k, ToK.Forward(tokens)], 1), cat([v, ToV!.Forward(tokens)], 1));
            if (mask is not null) mask = nn.functional.pad(mask, [0, tokens.shape[1]]);
        }
        var seen = See(ToQ.Forward(tokens), k, v, heads, mask, tokens, text, c.Hook, (x.shape[2], x.shape[3]));
        return (x + ToOut.Forward(Attention.MergeHeads(seen)).transpose(1, 2).reshape(x.shape)).MoveToOuterDisposeScope();
    }
}

/// <summary>The kinds of blocks by diffusers' names.</summary>
static class UNetBlocks
{
    /// <summary>What comes after every resnet of a level; null: nothing.</summary>
    /// <exception cref="PanoptesException">No such block.</exception>
    internal static Func<int, UNetAttention>? Attentions(UNetBlockOptions o, UNetLevelOptions l, string direction) => Kind(l.Type, direction) switch
    {
        "" or "Resnet" => null,
        "Attn" => _ => new PlaceAttention(l.To, Heads(l.To, l.HeadSize), o.Groups, o.Eps),
        "CrossAttn" => i => new SpatialTransformer(l.To, l.Heads, l.Transformers[i], l.ContextWidth, o.Groups, o.LinearProjection, l.OnlyCross, o.Grounded),
        _ => _ => new AddedKeyAttention(l.To, Heads(l.To, l.HeadSize), l.ContextWidth, o.Groups, l.OnlyCross, o.CrossNorm),
    };

    /// <exception cref="PanoptesException">The channels are no whole number of heads.</exception>
    internal static int Heads(int channels, int size) => size > 0 && channels % size == 0 ? channels / size
        : throw new PanoptesException($"Attention over {channels} channels was asked for in heads of {size} (attention_head_dim); expected a size that divides them.");

    /// <summary>Whether a level changes resolution by a whole resnet, and its resnets follow the options for such.</summary>
    internal static bool IsResnetKind(string type, string direction) => Kind(type, direction) is "Resnet" or "SimpleCrossAttn";

    internal static bool ResamplesByResnet(UNetBlockOptions o, string type, string direction) => IsResnetKind(type, direction) || (o.ResnetResampling && Kind(type, direction) == "Attn");

    static string Kind(string type, string direction) => type switch
    {
        _ when type == $"{direction}Block2D" => "",
        _ when type == $"Attn{direction}Block2D" => "Attn",
        _ when type == $"CrossAttn{direction}Block2D" => "CrossAttn",
        _ when type == $"SimpleCrossAttn{direction}Block2D" => "SimpleCrossAttn",
        _ when type == $"Resnet{(direction == "Down" ? "Downsample" : "Upsample")}Block2D" => "Resnet",
        _ => throw new PanoptesException($"The block {type} is unknown; expected {direction}Block2D, Attn{direction}Block2D, CrossAttn{direction}Block2D, SimpleCrossAttn{direction}Block2D or Resnet{(direction == "Down" ? "Downsample" : "Upsample")}Block2D."),
    };
}

/// <summary>A level of the downward path. Keys: resnets.N, attentions.N, downsamplers.0.</summary>
public sealed class UNetDown : Module
{
    internal UNetDown(UNetBlockOptions o, UNetLevelOptions l)
    {
        var (resnetKind, make) = (UNetBlocks.IsResnetKind(l.Type, "Down"), UNetBlocks.Attentions(o, l, "Down"));
        var (scale, raw) = resnetKind ? (o.OutScale, o.SkipTimeAct) : (1, false);
        Resnets = new(l.Layers, i => new(o, i == 0 ? l.From : l.To, l.To, scale, raw));
        Attentions = make is null ? null : new(l.Layers, make);
        if (!l.Resamples) return;
        if (UNetBlocks.ResamplesByResnet(o, l.Type, "Down")) DownsamplingResnet = new(o, l.To, l.To, scale, raw, Resampling.Down);
        else (Downsampler, padsAfter) = (new(l.To, l.To, 3, stride: 2, padding: o.DownsamplePadding), o.DownsamplePadding == 0);
        addsBefore = l.Type == "CrossAttnDownBlock2D";
    }

    readonly bool padsAfter, addsBefore;

    public ModuleList<UNetResnet> Resnets { get; }

    public ModuleList<UNetAttention>? Attentions { get; }

    [Key("downsamplers.0.conv")]
    public Conv2d? Downsampler { get; }

    [Key("downsamplers.0")]
    public UNetResnet? DownsamplingResnet { get; }

    /// <summary>How many skips it leaves behind.</summary>
    internal int Skips => Resnets.Count + (Downsampler is null && DownsamplingResnet is null ? 0 : 1);

    /// <param name="x">[b, from, height, width]</param>
    /// <param name="skips">Gets the map after every layer, the last of which is what comes out.</param>
    /// <param name="added">An adapter's map: added before the resolution changes where there is attention to text, else at the end; null: none.</param>
    internal Tensor Forward(Tensor x, UNetCondition c, List<Tensor> skips, Tensor? added = null)
    {
        for (var i = 0; i < Resnets.Count; i++)
        {
            x = Resnets[i].Forward(x, c);
            if (Attentions is not null)
                using (var before = x) x = Attentions[i].Forward(before, c);
            if (added is not null && addsBefore && i == Resnets.Count - 1)
                using (var before = x) x = Plus(before, added);
            if (i < Resnets.Count - 1 || Skips > Resnets.Count) skips.Add(x);
        }
        if (Downsampler is not null)
        {
            using var padded = padsAfter ? nn.functional.pad(x, [0, 1, 0, 1]) : x.alias();
            x = Downsampler.Forward(padded);
        }
        else if (DownsamplingResnet is not null) x = DownsamplingResnet.Forward(x, c);
        if (added is not null && !addsBefore)
            using (var before = x) x = Plus(before, added);
        skips.Add(x);
        return x;
    }

    static Tensor Plus(Tensor x, Tensor added) => x.shape.AsSpan().SequenceEqual(added.shape) ? x + added
        : throw new PanoptesException($"An adapter's map of [{string.Join(", ", added.shape)}] was given to a level of the UNet that takes [{string.Join(", ", x.shape)}]; expected an adapter made for this UNet, and a condition of the image's size.");
}

/// <summary>A level of the upward path, whose resnets take a skip each beside the map. Keys: resnets.N, attentions.N, upsamplers.0.</summary>
public sealed class UNetUp : Module
{
    readonly int level;
    readonly bool takesFreeU;

    /// <param name="level">0 the coarsest.</param>
    internal UNetUp(UNetBlockOptions o, UNetLevelOptions l, int level)
    {
        var (resnetKind, make) = (UNetBlocks.IsResnetKind(l.Type, "Up"), UNetBlocks.Attentions(o, l, "Up"));
        var (scale, raw) = resnetKind ? (o.OutScale, o.SkipTimeAct) : (1, false);
        (this.level, takesFreeU) = (level, l.Type is "UpBlock2D" or "CrossAttnUpBlock2D");
        Resnets = new(l.Layers, i => new(o, (i == 0 ? l.From : l.To) + (i == l.Layers - 1 ? l.Skip : l.To), l.To, scale, raw));
        Attentions = make is null ? null : new(l.Layers, make);
        if (!l.Resamples) return;
        if (UNetBlocks.ResamplesByResnet(o, l.Type, "Up")) UpsamplingResnet = new(o, l.To, l.To, scale, raw, Resampling.Up);
        else Upsampler = new(l.To, l.To, 3, padding: 1);
    }

    public ModuleList<UNetResnet> Resnets { get; }

    public ModuleList<UNetAttention>? Attentions { get; }

    [Key("upsamplers.0.conv")]
    public Conv2d? Upsampler { get; }

    [Key("upsamplers.0")]
    public UNetResnet? UpsamplingResnet { get; }

    /// <param name="x">[b, from, height, width]; disposed</param>
    /// <param name="skips">Its last ones are taken from it, and disposed.</param>
    internal Tensor Forward(Tensor x, UNetCondition c, List<Tensor> skips)
    {
        for (var i = 0; i < Resnets.Count; i++)
        {
            Tensor both;
            using (var skip = skips[^1])
            using (x)
            {
                skips.RemoveAt(skips.Count - 1);
                using var scope = NewDisposeScope();
                var (hidden, skipped) = c.FreeU is { } free && takesFreeU ? free.Apply(level, x, skip) : (x, skip);
                both = cat([hidden, skipped], 1).MoveToOuterDisposeScope();
            }
            using (both) x = Resnets[i].Forward(both, c);
            if (Attentions is not null)
                using (var before = x) x = Attentions[i].Forward(before, c);
        }
        if (Upsampler is not null)
        {
            // As large as the skip that comes next, where the sides were odd on the way down.
            using var larger = nn.functional.interpolate(x, size: skips.Count > 0 ? skips[^1].shape[2..] : [2 * x.shape[2], 2 * x.shape[3]], mode: InterpolationMode.Nearest);
            using (x) return Upsampler.Forward(larger);
        }
        if (UpsamplingResnet is null) return x;
        using (x) return UpsamplingResnet.Forward(x, c);
    }
}

/// <summary>The coarsest level: resnets with attention between. Keys: resnets.N, attentions.N.</summary>
public sealed class UNetMiddle : Module
{
    /// <param name="attention">What is between the resnets; null: nothing.</param>
    /// <param name="layers">How many resnets follow the first.</param>
    internal UNetMiddle(UNetBlockOptions o, int channels, int layers, double outScale, bool rawTime, Func<UNetAttention>? attention)
    {
        Resnets = new(layers + 1, _ => new(o, channels, channels, outScale, rawTime));
        Attentions = attention is null ? null : new(layers, _ => attention());
    }

    public ModuleList<UNetAttention>? Attentions { get; }

    public ModuleList<UNetResnet> Resnets { get; }

    /// <param name="x">[b, channels, height, width]</param>
    internal Tensor Forward(Tensor x, UNetCondition c)
    {
        x = Resnets[0].Forward(x, c);
        for (var i = 1; i < Resnets.Count; i++)
        {
            if (Attentions is not null)
                using (var before = x) x = Attentions[i - 1].Forward(before, c);
            using (var before = x) x = Resnets[i].Forward(before, c);
        }
        return x;
    }
}
