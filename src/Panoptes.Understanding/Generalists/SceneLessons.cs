using Panoptes.Data;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>How a thing is shown to a model that is to learn what pointing means.</summary>
public enum PointingKind
{
    /// <summary>A small disc somewhere in it.</summary>
    Point,

    /// <summary>All of its box.</summary>
    Box,

    /// <summary>A stroke through it.</summary>
    Scribble,

    /// <summary>The thing itself.</summary>
    Mask,
}

/// <summary>What X-Decoder, SEEM and Uni-Perceiver v2 are taught by batches of scenes.</summary>
public static class SceneLessons
{
    /// <summary>Radius of a point and half the width of a stroke, as a share of the picture's side.</summary>
    const double Brush = 0.012;

    /// <summary>The names of what is in a batch, in order, with others until there are so many.</summary>
    /// <param name="batch">The scenes.</param>
    /// <param name="all">Every name.</param>
    /// <param name="count">How many are wanted; fewer only if there are no more.</param>
    /// <param name="random">Draws the others.</param>
    public static IReadOnlyList<string> Names(SceneBatch batch, IReadOnlyList<string> all, int count, Generator random)
    {
        var names = batch.Scenes.SelectMany(static s => s.Objects).Select(static o => o.Name).Distinct(StringComparer.Ordinal).ToList();
        using var scope = NewDisposeScope();
        var known = names.ToHashSet(StringComparer.Ordinal);
        names.AddRange(randperm(all.Count, generator: random).data<long>().ToArray().Select(i => all[(int)i]).Where(n => !known.Contains(n)).Take(Math.Max(0, count - names.Count)));
        names.Sort(StringComparer.Ordinal);
        return names;
    }

    /// <summary>Masks with names, captions, and what expressions mean: all that X-Decoder learns from at once. Captions and expressions that are longer than the model takes are cut.</summary>
    /// <param name="batch">The scenes; its expressions are taken where they mean one thing.</param>
    /// <param name="tokenizer">The model's.</param>
    /// <param name="config">The model's.</param>
    /// <param name="names">What things are called; all that is in the batch among them.</param>
    /// <exception cref="PanoptesException">A thing's name is not among them, or a name is too long.</exception>
    public static XDecoderBatch XDecoder(SceneBatch batch, Tokenizer tokenizer, XDecoderModelConfig config, IReadOnlyList<string> names)
    {
        using var scope = NewDisposeScope();
        var (classIds, classMask) = Tokens(tokenizer, config, [.. names, XDecoderSegmenter.Background]);
        var (captionIds, captionMask) = Tokens(tokenizer, config, batch.Captions, cut: true);
        var lesson = new XDecoderBatch
        {
            Pixels = Pixels(batch, config.ImageMean, config.ImageStd, config.ImageSize),
            ClassIds = classIds,
            ClassMask = classMask,
            Targets = Targets(batch, names),
            CaptionIds = captionIds,
            CaptionMask = captionMask,
        };
        (int Image, SceneReference Said)[] expressions = [.. batch.References.SelectMany(static (said, i) => said.Where(static r => r.Objects.Count == 1).Select(r => (i, r)))];
        if (expressions.Length > 0)
        {
            var (ids, mask) = Tokens(tokenizer, config, [.. expressions.Select(static e => e.Said.Text)], cut: true);
            lesson = lesson with
            {
                ExpressionIds = ids,
                ExpressionMask = mask,
                ExpressionImages = tensor(expressions.Select(static e => (long)e.Image).ToArray()),
                ExpressionTargets = stack([.. expressions.Select(e => batch.Mask(e.Image, e.Said.Objects))]),
            };
        }
        foreach (var tensor in (ReadOnlySpan<Tensor?>)[lesson.Pixels, lesson.ClassIds, lesson.ClassMask, lesson.CaptionIds, lesson.CaptionMask, lesson.ExpressionIds, lesson.ExpressionMask, lesson.ExpressionImages, lesson.ExpressionTargets])
            tensor?.MoveToOuterDisposeScope();
        return lesson;
    }

    /// <summary>What one of Uni-Perceiver's tasks needs: names and regions, or captions. Classification and questions need targets of their own.</summary>
    /// <inheritdoc cref="XDecoder"/>
    public static UniBatch UniPerceiver(SceneBatch batch, Tokenizer tokenizer, UniPerceiverConfig config, IReadOnlyList<string> names)
    {
        using var scope = NewDisposeScope();
        var (targetIds, targetMask) = Tokens(tokenizer, config.TextConfig.MaxPositionEmbeddings, [.. names, XDecoderSegmenter.Background]);
        var (captionIds, captionMask) = Tokens(tokenizer, config.TextConfig.MaxPositionEmbeddings, batch.Captions, cut: true);
        var words = captionIds.masked_select(captionMask.ne(0)).data<long>().ToArray().Distinct().Order().ToArray();
        return new()
        {
            Pixels = Pixels(batch, config.ImageMean, config.ImageStd, config.ImageSize).MoveToOuterDisposeScope(),
            TargetIds = targetIds.MoveToOuterDisposeScope(),
            TargetMask = targetMask.MoveToOuterDisposeScope(),
            Regions = Targets(batch, names),
            CaptionIds = captionIds.MoveToOuterDisposeScope(),
            CaptionMask = captionMask.MoveToOuterDisposeScope(),
            VocabularyIds = tensor(words).MoveToOuterDisposeScope(),
        };
    }

    /// <summary>Things are pointed at, one a picture: what is pointed at, and what is meant. [b, size, size] bool each</summary>
    /// <param name="batch">The scenes.</param>
    /// <param name="objects">Which thing of each picture.</param>
    /// <param name="kind">How.</param>
    /// <param name="random">Draws places and strokes.</param>
    public static (Tensor Pointed, Tensor Meant) Pointing(SceneBatch batch, IReadOnlyList<int> objects, PointingKind kind, Generator random)
    {
        using var scope = NewDisposeScope();
        var meant = stack([.. objects.Select((k, i) => batch.Mask(i, [k]))]);
        var size = (int)meant.shape[1];
        var draws = rand(objects.Count, 8, generator: random).data<float>().ToArray();
        var pointed = new byte[objects.Count * size * size];
        var inside = meant.to(ScalarType.Byte).data<byte>().ToArray();
        for (var i = 0; i < objects.Count; i++)
        {
            var plane = pointed.AsSpan(i * size * size, size * size);
            var mask = inside.AsSpan(i * size * size, size * size);
            if (kind == PointingKind.Mask) mask.CopyTo(plane);
            else if (kind == PointingKind.Box)
            {
                var box = batch.Scenes[i].Objects[objects[i]].Box;
                for (var y = box.Y; y < box.Bottom; y++) plane.Slice((y * size) + box.X, box.Width).Fill(1);
            }
            else
            {
                // A stroke goes through some pixels of the thing, one after the other; a point is a stroke through one.
                var pixels = new List<int>();
                for (var k = 0; k < mask.Length; k++)
                    if (mask[k] != 0) pixels.Add(k);
                var stops = kind == PointingKind.Point ? 1 : 3;
                var before = pixels[(int)(draws[i * 8] * pixels.Count)];
                for (var stop = 0; stop < stops; stop++)
                {
                    var next = stop == 0 ? before : pixels[(int)(draws[(i * 8) + stop] * pixels.Count)];
                    Stroke(plane, size, before, next);
                    before = next;
                }
                // It does not leave the thing.
                for (var k = 0; k < plane.Length; k++) plane[k] &= mask[k];
            }
        }
        return (tensor(pointed, [objects.Count, size, size]).ne(0).MoveToOuterDisposeScope(), meant.MoveToOuterDisposeScope());
    }

    static void Stroke(Span<byte> plane, int size, int from, int to)
    {
        var (x0, y0, x1, y1) = (from % size, from / size, to % size, to / size);
        var (steps, radius) = (Math.Max(1, Math.Max(Math.Abs(x1 - x0), Math.Abs(y1 - y0))), (int)(Brush * size));
        for (var s = 0; s <= steps; s++)
        {
            var (x, y) = (x0 + ((x1 - x0) * s / steps), y0 + ((y1 - y0) * s / steps));
            for (var v = Math.Max(0, y - radius); v <= Math.Min(size - 1, y + radius); v++)
                for (var u = Math.Max(0, x - radius); u <= Math.Min(size - 1, x + radius); u++) plane[(v * size) + u] = 1;
        }
    }

    internal static Tensor Pixels(SceneBatch batch, double[] mean, double[] std, int side)
    {
        using var scope = NewDisposeScope();
        var pixels = batch.Normalized([.. mean.Select(static v => (float)v)], [.. std.Select(static v => (float)v)]);
        return (pixels.shape[2] == side ? pixels : nn.functional.interpolate(pixels, [side, side], mode: InterpolationMode.Bilinear, align_corners: false)).MoveToOuterDisposeScope();
    }

    internal static (Tensor Ids, Tensor Mask) Tokens(Tokenizer tokenizer, XDecoderModelConfig config, IReadOnlyList<string> texts, bool cut = false) =>
        Tokens(tokenizer, Math.Min(config.TextConfig.MaxPositionEmbeddings, config.DecoderConfig.ContextLength + 1), texts, cut);

    /// <summary>As long as the longest text is.</summary>
    internal static (Tensor Ids, Tensor Mask) Tokens(Tokenizer tokenizer, int most, IReadOnlyList<string> texts, bool cut = false)
    {
        var batch = tokenizer.Encode(texts, most);
        foreach (var i in cut ? [] : batch.Truncated) throw new PanoptesException($"The text \"{texts[i]}\" has {batch.Lengths[i]} tokens; the model takes at most {most}.");
        var length = Math.Min(batch.Lengths.Max(), most);
        using var scope = NewDisposeScope();
        return (batch.InputIds().narrow(1, 0, length).contiguous().MoveToOuterDisposeScope(), batch.AttentionMask().narrow(1, 0, length).contiguous().MoveToOuterDisposeScope());
    }

    static MaskTarget[] Targets(SceneBatch batch, IReadOnlyList<string> names)
    {
        var positions = names.Select(static (n, i) => (n, i)).ToDictionary(static p => p.n, static p => (long)p.i, StringComparer.Ordinal);
        return [.. Enumerable.Range(0, batch.Count).Select(i => new MaskTarget(tensor(batch.Scenes[i].Objects.Select(o => positions.TryGetValue(o.Name, out var p) ? p : throw new PanoptesException($"The name {o.Name} is not among the {names.Count} that were given.")).ToArray()).MoveToOuterDisposeScope(), batch.Masks(i).MoveToOuterDisposeScope()))];
    }
}
