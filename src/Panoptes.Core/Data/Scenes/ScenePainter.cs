using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>Makes the picture and the masks of a layout: one bilinear resampling an object, over its own box only.</summary>
sealed class ScenePainter(EmojiSet set, SceneOptions options)
{
    const int Opaque = 128;

    readonly Backgrounds backgrounds = new(options.Background, options.Size);
    readonly Backgrounds grounds = new(options.Background with { White = 0, Plain = options.Background.Plain + options.Background.White }, options.Size);
    readonly ulong[] tight = new ulong[set.Images.Count];                             // 0: not looked at yet
    readonly (short X, short Y)[]?[] extremes = new (short, short)[]?[set.Images.Count];

    [ThreadStatic] static Augmenter.Workspace? workspace;

    /// <summary>Whether enough of a drawing is opaque to be an object.</summary>
    internal bool IsFit(int image) => Tight(image).Width > 0;

    /// <summary>Half the width and height that a drawing takes when it is turned.</summary>
    internal (float Width, float Height) HalfExtent(ScenePlacement placement)
    {
        var box = Tight(placement.Image);
        var scale = placement.Side / Math.Max(Math.Max(box.Width, box.Height), 1) / 2;
        var (cos, sin) = (MathF.Abs(MathF.Cos(placement.Angle)), MathF.Abs(MathF.Sin(placement.Angle)));
        return (scale * ((box.Width * cos) + (box.Height * sin)), scale * ((box.Width * sin) + (box.Height * cos)));
    }

    /// <summary>Paints; the scene has no texts yet.</summary>
    internal Scene Paint(SceneLayout layout)
    {
        var (size, count) = (options.Size, layout.Objects.Count);
        var work = workspace ??= new();
        var canvas = work.Canvas(size * size);
        var random = new SampleRandom(layout.Seed, SceneGenerator.BackgroundStream, layout.Index);
        var background = backgrounds.Draw(canvas, ref random);
        var horizon = options.Ground > 0 ? DrawGround(layout, work.Spare(size * size), canvas) : null;

        var (coverage, ids) = (new ushort[size * size], new byte[size * size]);
        for (var k = 0; k < count; k++) Draw(layout.Objects[k], k, work, canvas, coverage);
        var hides = new int[count * count];                                           // [k, j]: pixels of j that k is seen at
        var (seen, all) = (new int[count], new int[count]);
        var boxes = new (int Left, int Top, int Right, int Bottom)[count];
        Array.Fill(boxes, (size, size, -1, -1));
        for (var y = 0; y < size; y++)
        {
            for (var x = 0; x < size; x++)
            {
                var covers = (uint)coverage[(y * size) + x];
                if (covers == 0) continue;
                var top = BitOperations.Log2(covers);
                ids[(y * size) + x] = (byte)(top + 1);
                ref var box = ref boxes[top];
                box = (Math.Min(box.Left, x), Math.Min(box.Top, y), Math.Max(box.Right, x), Math.Max(box.Bottom, y));
                seen[top]++;
                for (var rest = covers; rest != 0; rest &= rest - 1)
                {
                    var j = BitOperations.TrailingZeroCount(rest);
                    all[j]++;
                    hides[(top * count) + j]++;
                }
            }
        }

        var (objects, points, poses) = (new SceneObject[count], new (float, float)[5 * count], new (float, float)?[]?[count]);
        for (var k = 0; k < count; k++)
        {
            var (placement, box) = (layout.Objects[k], boxes[k]);
            var image = set.Images[placement.Image];
            var share = placement.Side / size;
            objects[k] = new(image.Index, image.Concept, image.Style, set.Concepts[image.Concept].Name,
                seen[k] == 0 ? default : new(box.Left, box.Top, box.Right - box.Left + 1, box.Bottom - box.Top + 1), seen[k], all[k] == 0 ? 0 : (float)seen[k] / all[k],
                share < 0.26f ? SceneSize.Small : share < 0.42f ? SceneSize.Medium : SceneSize.Large, placement.Depth);
            poses[k] = Points(placement, points.AsSpan(5 * k, 5));
        }
        return new(layout, Bytes(canvas, size), coverage, ids, objects, Relate(objects, hides, all, size), points, poses, background, horizon);
    }

    /// <summary>Draws a ground, with its own chance: for each column its first row; null where there is none.</summary>
    int[]? DrawGround(SceneLayout layout, Span<Vector128<float>> ground, Span<Vector128<float>> canvas)
    {
        var (size, random) = (options.Size, new SampleRandom(layout.Seed, SceneGenerator.GroundStream, layout.Index));
        if (!random.Chance(options.Ground)) return null;
        var (height, slope, wave, phase, waves) = (random.Next(0.4f, 0.8f), random.Next(-0.12f, 0.12f), random.Next(0, 0.04f), random.Next(0, 2 * MathF.PI), random.Next(3f, 12));
        var horizon = new int[size];
        for (var x = 0; x < size; x++)
        {
            var at = ((x + 0.5f) / size) - 0.5f;
            horizon[x] = Math.Clamp((int)MathF.Round(size * (height + (slope * at) + (wave * MathF.Sin((waves * at) + phase)))), 0, size);
        }
        grounds.Draw(ground, ref random);
        for (var y = 0; y < size; y++)
            for (var x = 0; x < size; x++)
                if (y >= horizon[x]) canvas[(y * size) + x] = ground[(y * size) + x];
        return horizon;
    }

    /// <summary>Where the drawing's points are in the picture, and the joints of the person that it shows, if it is known to show one.</summary>
    (float X, float Y)?[]? Points(ScenePlacement placement, Span<(float, float)> points)
    {
        var (box, at) = (Tight(placement.Image), Extremes(placement.Image));
        var scale = placement.Side / Math.Max(Math.Max(box.Width, box.Height), 1);
        var (cos, sin) = (MathF.Cos(placement.Angle) * scale, MathF.Sin(placement.Angle) * scale);
        for (var i = 0; i < 4; i++) points[i] = Place(at[i].X + 0.5f, at[i].Y + 0.5f);
        points[4] = (placement.X, placement.Y);
        return set.Pose(placement.Image) is { } pose ? [.. pose.Select(p => p is { } joint ? Place(joint.X * set.Size, joint.Y * set.Size) : ((float, float)?)null)] : null;

        (float, float) Place(float x, float y)
        {
            var (u, v) = (x - box.CenterX, y - box.CenterY);
            return (placement.X + (cos * u) - (sin * v), placement.Y + (sin * u) + (cos * v));
        }
    }

    static List<SceneRelation> Relate(SceneObject[] objects, int[] hides, int[] all, int size)
    {
        var relations = new List<SceneRelation>();
        for (var a = 0; a < objects.Length; a++)
        {
            for (var b = 0; b < objects.Length; b++)
            {
                if (a == b) continue;
                var (dx, dy) = (objects[a].Box.CenterX - objects[b].Box.CenterX, objects[a].Box.CenterY - objects[b].Box.CenterY);
                if (Math.Max(Math.Abs(dx), Math.Abs(dy)) >= size / 8f)
                {
                    var kind = Math.Abs(dx) >= Math.Abs(dy)
                        ? dx < 0 ? SceneRelationKind.LeftOf : SceneRelationKind.RightOf
                        : dy < 0 ? SceneRelationKind.Above : SceneRelationKind.Below;
                    relations.Add(new(a, kind, b));
                }
                if (hides[(a * objects.Length) + b] * 20 >= Math.Max(all[b], 1)) relations.Add(new(a, SceneRelationKind.InFrontOf, b));
            }
        }
        return relations;
    }

    void Draw(ScenePlacement placement, int index, Augmenter.Workspace work, Span<Vector128<float>> canvas, ushort[] coverage)
    {
        var (size, box) = (options.Size, Tight(placement.Image));
        var step = Math.Max(box.Width, box.Height) / placement.Side;                  // source pixels a pixel
        var factor = Math.Clamp((int)MathF.Ceiling(step / 1.5f), 1, set.Size);
        var source = work.Load(set.Pixels(placement.Image), set.Size, set.Size, 4, factor);
        var (cos, sin) = (MathF.Cos(placement.Angle) * step, MathF.Sin(placement.Angle) * step);
        var (x0, y0) = (0.5f - placement.X, 0.5f - placement.Y);
        var map = new Augmenter.Map(cos, sin, box.CenterX - 0.5f + (cos * x0) + (sin * y0), -sin, cos, box.CenterY - 0.5f - (sin * x0) + (cos * y0)).Reduced(factor);

        // The whole drawing with its soft edges, not only what is opaque; a margin for the resampling.
        var reach = ((set.Size / 2f) + MathF.Abs(box.CenterX - (set.Size / 2f)) + MathF.Abs(box.CenterY - (set.Size / 2f))) * 1.42f / step + 2;
        var (left, right) = (Math.Max((int)(placement.X - reach), 0), Math.Min((int)(placement.X + reach) + 1, size));
        var (top, bottom) = (Math.Max((int)(placement.Y - reach), 0), Math.Min((int)(placement.Y + reach) + 1, size));
        var stride = source.Width + 2;
        var (maxU, maxV) = ((float)source.Width, (float)source.Height);
        var bit = (ushort)(1 << index);
        ref var pixels = ref MemoryMarshal.GetReference(source.Pixels);
        for (var y = top; y < bottom; y++)
        {
            var (u, v) = ((map.B * y) + map.C, (map.E * y) + map.F);
            var row = canvas.Slice(y * size, size);
            for (var x = left; x < right; x++)
            {
                var (px, py) = (u + (map.A * x), v + (map.D * x));
                if (!(px > -1 && py > -1 && px < maxU && py < maxV)) continue;        // the border makes the four taps safe
                var color = Augmenter.Bilinear(ref pixels, stride, px, py);
                var alpha = color.GetElement(3);
                row[x] = Vector128.FusedMultiplyAdd(Vector128.Create(1 - alpha), row[x], color);
                if (alpha >= 0.5f) coverage[(y * size) + x] |= bit;
            }
        }
    }

    static Image Bytes(ReadOnlySpan<Vector128<float>> canvas, int size)
    {
        var image = Image.Uninitialized(size, size, 3);
        var (bytes, half) = (image.Pixels, Vector128.Create(0.5f));
        var (scale, limit) = (Vector128.Create(255f), Vector128.Create(255f));
        for (int i = 0, o = 0; i < canvas.Length; i++, o += 3)
        {
            var color = Vector128.ConvertToInt32(Vector128.Max(Vector128<float>.Zero, Vector128.Min(limit, Vector128.FusedMultiplyAdd(canvas[i], scale, half))));
            bytes[o] = (byte)color.GetElement(0);
            bytes[o + 1] = (byte)color.GetElement(1);
            bytes[o + 2] = (byte)color.GetElement(2);
        }
        return image;
    }

    /// <summary>The box of a drawing's pixels that are at least half opaque; empty where fewer than one in a hundred are.</summary>
    PixelBox Tight(int image)
    {
        var packed = Volatile.Read(ref tight[image]);
        if (packed == 0) Volatile.Write(ref tight[image], packed = Measure(set.Pixels(image), set.Size));
        return new((int)(packed >> 48) & 0x7FFF, (int)(packed >> 32) & 0xFFFF, (int)(packed >> 16) & 0xFFFF, (int)packed & 0xFFFF);
    }

    /// <summary>The drawing's uppermost, rightmost, lowest and leftmost pixel, of several the middle one.</summary>
    (short X, short Y)[] Extremes(int image)
    {
        if (Volatile.Read(ref extremes[image]) is { } known) return known;
        var pixels = set.Pixels(image);
        var (size, box) = (set.Size, Tight(image));
        var found = new (short X, short Y)[4];
        if (box.Width > 0) found = [Middle(pixels, box.Y, true), Middle(pixels, box.Right - 1, false), Middle(pixels, box.Bottom - 1, true), Middle(pixels, box.X, false)];
        Volatile.Write(ref extremes[image], found);
        return found;

        (short, short) Middle(ReadOnlySpan<byte> pixels, int line, bool row)
        {
            Span<int> opaque = stackalloc int[size];
            var count = 0;
            for (var i = 0; i < size; i++)
                if (pixels[(4 * (row ? (line * size) + i : (i * size) + line)) + 3] >= Opaque) opaque[count++] = i;
            var middle = opaque[(count - 1) / 2];
            return row ? ((short)middle, (short)line) : ((short)line, (short)middle);
        }
    }

    static ulong Measure(ReadOnlySpan<byte> pixels, int size)
    {
        var (left, top, right, bottom, count) = (size, size, -1, -1, 0);
        for (var y = 0; y < size; y++)
        {
            var row = pixels.Slice(y * size * 4, size * 4);
            for (var x = 0; x < size; x++)
            {
                if (row[(4 * x) + 3] < Opaque) continue;
                (left, top, right, bottom, count) = (Math.Min(left, x), Math.Min(top, y), Math.Max(right, x), y, count + 1);
            }
        }
        const ulong Looked = 1UL << 63;
        return count * 100 < size * size ? Looked : Looked | ((ulong)(uint)left << 48) | ((ulong)(uint)top << 32) | ((ulong)(uint)(right - left + 1) << 16) | (uint)(bottom - top + 1);
    }
}
