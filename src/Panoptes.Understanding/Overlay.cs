using System.Globalization;
using Panoptes.Data;
using Panoptes.Imaging;
using SkiaSharp;

namespace Panoptes.Understanding;

/// <summary>How <see cref="Overlay"/> draws.</summary>
public sealed record OverlayOptions
{
    /// <summary>How much of a segment's color lies over the image, from 0 to 1.</summary>
    public double Opacity { get; init; } = 0.45;

    /// <summary>Whether names are written onto the segments.</summary>
    public bool Labels { get; init; } = true;

    /// <summary>Whether scores stand behind the names.</summary>
    public bool Scores { get; init; } = true;

    /// <summary>Whether a legend stands below the image.</summary>
    public bool Legend { get; init; } = true;

    /// <summary>Images whose shorter side is smaller, in pixels, are enlarged by a whole number so that names can be read.</summary>
    public int ReadableSide { get; init; } = 384;

    /// <summary>Clicks that are shown: filled where something is meant, a ring where it is not.</summary>
    public IReadOnlyList<PointPrompt> Clicks { get; init; } = [];
}

/// <summary>What was found in an image, drawn over it in distinct colors, with names and a legend. Needs no font of the system.</summary>
public static class Overlay
{
    const int MostLegendEntries = 120, LongestEnlarged = 1024, Grid = 192;

    /// <summary>How many lines further down a name may stand, the best first.</summary>
    static readonly int[] Shifts = [0, 1, -1, 2, -2, 3, -3];

    static readonly SKColor Paper = new(0xF6, 0xF7, 0xF9), Ink = new(0x17, 0x1A, 0x21);

    /// <summary>A name that is written at a place.</summary>
    sealed record Tag(string Text, Rgb Color, double X, double Y);

    /// <summary>The color of the segment, class or box of this number; neighbors in number differ clearly.</summary>
    public static Rgb Color(int index)
    {
        // Hues by the golden section, lightness and saturation in turn: any first few are far apart.
        var (hue, level) = ((index * 0.6180339887498949 + 0.01) % 1 * 6, Math.Abs(index) % 4);
        if (hue < 0) hue += 6;
        var (saturation, value) = level switch { 0 => (0.78, 0.93), 1 => (0.95, 0.62), 2 => (0.5, 1.0), _ => (0.9, 0.8) };
        return new(Channel(5), Channel(3), Channel(1));

        byte Channel(int n)
        {
            var k = (n + hue) % 6;
            return (byte)Math.Round(255 * value * (1 - saturation * Math.Clamp(Math.Min(k, 4 - k), 0, 1)));
        }
    }

    /// <summary>Draws segments, the largest first, each in the color of its place in the list.</summary>
    /// <exception cref="PanoptesException">A mask is of another size than the image.</exception>
    public static Image Draw(Image image, IReadOnlyList<Segment> segments, OverlayOptions? options = null)
    {
        options ??= new();
        var (pixels, tags) = (Copy(image), new Tag?[segments.Count]);
        foreach (var i in Enumerable.Range(0, segments.Count).OrderByDescending(i => segments[i].Mask.Area))
        {
            var segment = segments[i];
            if ((segment.Mask.Width, segment.Mask.Height) != (image.Width, image.Height))
                throw new PanoptesException($"A segment's mask has {segment.Mask.Width} x {segment.Mask.Height} pixels; expected the image's {image.Width} x {image.Height}.");
            tags[i] = Paint(pixels, segment.Mask, Color(i), options.Scores ? Text(segment.Label ?? $"{i + 1}", segment.Score) : segment.Label ?? $"{i + 1}", options.Opacity);
        }
        return Finish(pixels, [.. tags.OfType<Tag>()], options);
    }

    /// <summary>Draws a label map; each label has the color of its number.</summary>
    /// <param name="image">Of the map's size.</param>
    /// <param name="map">Classes or ids.</param>
    /// <param name="names">What labels are called; those without a name are left as the image is.</param>
    /// <param name="options">How.</param>
    /// <exception cref="PanoptesException">The map is of another size than the image.</exception>
    public static Image Draw(Image image, LabelMap map, IReadOnlyDictionary<int, string> names, OverlayOptions? options = null)
    {
        options ??= new();
        if ((map.Width, map.Height) != (image.Width, image.Height)) throw new PanoptesException($"A label map has {map.Width} x {map.Height} pixels; expected the image's {image.Width} x {image.Height}.");
        var pixels = Copy(image);
        var (width, height, line) = (map.Width, map.Height, Line(map.Width, map.Height));
        var colors = map.Areas().Keys.Where(names.ContainsKey).ToDictionary(static l => l, Color);
        for (var (y, i) = (0, 0); y < height; y++)
            for (var x = 0; x < width; x++, i++)
            {
                if (!colors.TryGetValue(map.Labels[i], out var color)) continue;
                var edge = Differs(x - line, y) || Differs(x + line, y) || Differs(x, y - line) || Differs(x, y + line);
                Blend(pixels.Pixels, 3 * i, color, edge ? 1 : options.Opacity);

                bool Differs(int u, int v) => u >= 0 && v >= 0 && u < width && v < height && map.Labels[(v * width) + u] != map.Labels[i];
            }
        return Finish(pixels, [.. colors.Select(c =>
        {
            var (x, y) = Middle(new(0, 0, width, height), (u, v) => map.Labels[(v * width) + u] == c.Key);
            return new Tag(names[c.Key], c.Value, x, y);
        })], options);
    }

    /// <summary>Draws segments by their ids, with their classes' names and scores.</summary>
    /// <inheritdoc cref="Draw(Image, LabelMap, IReadOnlyDictionary{int, string}, OverlayOptions)" path="/exception"/>
    public static Image Draw(Image image, PanopticSegmentation found, OverlayOptions? options = null) => Draw(image, found.Ids, found.Segments.GroupBy(static s => s.Id)
        .ToDictionary(static g => g.Key, g => Text(found.Names.ElementAtOrDefault(g.First().Class) ?? $"{g.First().Class}", g.Max(static s => s.Score))), options);

    /// <summary>Draws the class of every pixel.</summary>
    /// <inheritdoc cref="Draw(Image, LabelMap, IReadOnlyDictionary{int, string}, OverlayOptions)" path="/exception"/>
    public static Image Draw(Image image, SemanticSegmentation found, OverlayOptions? options = null) =>
        Draw(image, found.Classes, found.Names.Select(static (n, i) => (n, i)).ToDictionary(static p => p.i, static p => p.n), options);

    /// <summary>Draws boxes with their names; those of one name have one color.</summary>
    public static Image Draw(Image image, IReadOnlyList<Detection> detections, OverlayOptions? options = null)
    {
        options ??= new();
        var (pixels, scale) = Enlarge(Copy(image), options);
        var kinds = detections.Select(static d => d.Label).Distinct().Select(static (l, i) => (l, i)).ToDictionary(static p => p.l, static p => Color(p.i));
        var drawn = pixels.Draw(canvas =>
        {
            using var paint = new SKPaint { IsAntialias = true, Style = SKPaintStyle.Stroke, StrokeWidth = Math.Max(Math.Min(pixels.Width, pixels.Height) / 250f, 1.5f) };
            foreach (var d in detections)
            {
                paint.Color = Skia(kinds[d.Label]);
                canvas.DrawRect(new SKRect(d.Left * scale, d.Top * scale, d.Right * scale, d.Bottom * scale), paint);
            }
        });
        return Finish(drawn, [.. detections.Select(d => new Tag(options.Scores ? Text(d.Label, d.Score) : d.Label, kinds[d.Label], scale * (d.Left + d.Right) / 2.0, scale * d.Top))], options);
    }

    static string Text(string name, float score) => string.Create(CultureInfo.InvariantCulture, $"{name} {score:0.00}");

    static Image Copy(Image image)
    {
        var rgb = image.ToRgb();
        return ReferenceEquals(rgb, image) ? new(image.Width, image.Height, 3, [.. image.Pixels]) : rgb;
    }

    static int Line(int width, int height) => Math.Max(Math.Min(width, height) / 400, 1);

    static void Blend(byte[] pixels, int at, Rgb color, double share)
    {
        pixels[at] = (byte)(pixels[at] + (color.R - pixels[at]) * share);
        pixels[at + 1] = (byte)(pixels[at + 1] + (color.G - pixels[at + 1]) * share);
        pixels[at + 2] = (byte)(pixels[at + 2] + (color.B - pixels[at + 2]) * share);
    }

    /// <summary>Fills a mask and draws its outline; null where it is empty.</summary>
    static Tag? Paint(Image pixels, RunLengthMask mask, Rgb color, string text, double opacity)
    {
        var box = mask.Box;
        if (box.Width == 0) return null;
        // The box alone, row by row as the image is.
        var inside = new bool[(long)box.Width * box.Height];
        for (var (i, at) = (0, 0); i < mask.Runs.Count; at += mask.Runs[i], i++)
            if (i % 2 == 1)
                for (var p = at; p < at + mask.Runs[i]; p++) inside[((p % mask.Height - box.Y) * box.Width) + (p / mask.Height) - box.X] = true;
        var line = Line(mask.Width, mask.Height);
        Parallel.For(0, box.Height, y =>
        {
            for (var x = 0; x < box.Width; x++)
            {
                if (!inside[(y * box.Width) + x]) continue;
                var edge = !Has(x - line, y) || !Has(x + line, y) || !Has(x, y - line) || !Has(x, y + line);
                Blend(pixels.Pixels, 3 * (((y + box.Y) * mask.Width) + x + box.X), color, edge ? 1 : opacity);
            }
        });
        var (u, v) = Middle(box, (x, y) => Has(x - box.X, y - box.Y));
        return new(text, color, u, v);

        bool Has(int x, int y) => x >= 0 && y >= 0 && x < box.Width && y < box.Height && inside[(y * box.Width) + x];
    }

    /// <summary>The place that is farthest from the outline, on a grid that is coarse where the box is large.</summary>
    static (double X, double Y) Middle(PixelBox box, Func<int, int, bool> has)
    {
        var step = Math.Max((Math.Max(box.Width, box.Height) + Grid - 1) / Grid, 1);
        var (columns, rows) = ((box.Width + step - 1) / step, (box.Height + step - 1) / step);
        // City-block distances in two passes, with nothing all around.
        var far = new int[columns + 2, rows + 2];
        for (var x = 1; x <= columns; x++)
            for (var y = 1; y <= rows; y++)
                far[x, y] = has(box.X + (x - 1) * step, box.Y + (y - 1) * step) ? Math.Min(far[x - 1, y], far[x, y - 1]) + 1 : 0;
        var (best, u, v) = (0, 1, 1);
        for (var x = columns; x >= 1; x--)
            for (var y = rows; y >= 1; y--)
            {
                far[x, y] = Math.Min(far[x, y], Math.Min(far[x + 1, y], far[x, y + 1]) + 1);
                if (far[x, y] > best) (best, u, v) = (far[x, y], x, y);
            }
        return (box.X + ((u - 0.5) * step), box.Y + ((v - 0.5) * step));
    }

    static (Image Image, int Scale) Enlarge(Image image, OverlayOptions options)
    {
        var scale = Math.Max(Math.Min(options.ReadableSide / Math.Min(image.Width, image.Height), LongestEnlarged / Math.Max(image.Width, image.Height)), 1);
        return (scale == 1 ? image : image.Resize(image.Width * scale, image.Height * scale, ResizeFilter.Nearest), scale);
    }

    static SKColor Skia(Rgb c) => new(c.R, c.G, c.B);

    /// <summary>Names and legend.</summary>
    static Image Finish(Image pixels, IReadOnlyList<Tag> tags, OverlayOptions options)
    {
        var (picture, scale) = Enlarge(pixels, options);
        foreach (var click in options.Clicks) Mark(picture, click, scale);
        using var font = Typography.Font(Math.Clamp(Math.Min(picture.Width, picture.Height) / 30f, 11, 44), bold: true);
        if (options.Labels)
        {
            var taken = new List<SKRect>();
            foreach (var tag in tags)
            {
                var text = Fit(tag.Text, font, picture.Width);
                var (width, height) = (Typography.Width(text, font) + (font.Size * 0.6f), font.Size * 1.3f);
                var x = Math.Clamp((float)(tag.X * scale) - (width / 2), 0, Math.Max(picture.Width - width, 0));
                // Where another name stands already, a little above or below.
                var box = Shifts.Select(s => SKRect.Create(x, Math.Clamp((float)(tag.Y * scale) - (height / 2) + (s * height * 1.05f), 0, Math.Max(picture.Height - height, 0)), width, height))
                    .OrderBy(b => taken.Any(t => t.IntersectsWith(b))).First();
                taken.Add(box);
                Write(picture, text, box, tag.Color, font);
            }
        }
        return options.Legend && tags.Count > 0 ? WithLegend(picture, tags, font) : picture;
    }

    /// <summary>A name on its ground.</summary>
    static void Write(Image picture, string text, SKRect box, Rgb color, SKFont font) => Within(picture, box, canvas =>
    {
        using var paint = new SKPaint { IsAntialias = true, Color = Skia(color) };
        canvas.DrawRoundRect(box, font.Size * 0.2f, font.Size * 0.2f, paint);
        paint.Color = OnTop(color);
        Typography.Draw(canvas, text, box.Left + (font.Size * 0.3f), box.Top + (font.Size * 0.98f), font, paint);
    });

    /// <summary>A click, white on black so that it is seen on any ground.</summary>
    static void Mark(Image picture, PointPrompt click, int scale)
    {
        var (x, y, radius) = ((float)(click.X + 0.5) * scale, (float)(click.Y + 0.5) * scale, Math.Max(Math.Min(picture.Width, picture.Height) / 60f, 4));
        Within(picture, SKRect.Create(x - radius, y - radius, 2 * radius, 2 * radius), canvas =>
        {
            using var paint = new SKPaint { IsAntialias = true, Color = SKColors.Black };
            canvas.DrawCircle(x, y, radius, paint);
            paint.Color = SKColors.White;
            canvas.DrawCircle(x, y, radius * 0.75f, paint);
            if (click.Positive) return;
            paint.Color = SKColors.Black;
            canvas.DrawCircle(x, y, radius * 0.4f, paint);
        });
    }

    /// <summary>Draws on the part of a picture around a box alone: a picture may have a hundred megapixels.</summary>
    static void Within(Image picture, SKRect box, Action<SKCanvas> draw)
    {
        var (left, top) = (Math.Max((int)box.Left - 1, 0), Math.Max((int)box.Top - 1, 0));
        var (width, height) = (Math.Min((int)box.Right + 2, picture.Width) - left, Math.Min((int)box.Bottom + 2, picture.Height) - top);
        if (width <= 0 || height <= 0) return;
        var part = picture.Crop(left, top, width, height).Draw(canvas =>
        {
            canvas.Translate(-left, -top);
            draw(canvas);
        });
        for (var y = 0; y < height; y++) part.Row(y).CopyTo(picture.Pixels.AsSpan((((top + y) * picture.Width) + left) * 3));
    }

    static Image WithLegend(Image picture, IReadOnlyList<Tag> tags, SKFont font)
    {
        var entries = tags.DistinctBy(static t => (t.Text, t.Color)).Take(MostLegendEntries).ToList();
        if (tags.Count > MostLegendEntries) entries.Add(new($"and {tags.Count - MostLegendEntries} more", Rgb.White, 0, 0));
        var (gap, row) = (font.Size * 0.8f, font.Size * 1.6f);
        var width = Math.Max(picture.Width, 320);
        // From left to right, then on below.
        var (places, x, y) = (new List<(string Text, float X, float Y)>(), gap, gap);
        foreach (var entry in entries)
        {
            var text = Fit(entry.Text, font, width - (3 * gap) - font.Size);
            var length = (1.4f * font.Size) + Typography.Width(text, font);
            if (x > gap && x + length > width - gap) (x, y) = (gap, y + row);
            places.Add((text, x, y));
            x += length + (1.5f * gap);
        }
        var strip = new Image(width, (int)(y + row + (gap / 2)), 3);
        Fill(strip.Pixels);
        strip = strip.Draw(canvas =>
        {
            using var paint = new SKPaint { IsAntialias = true };
            foreach (var (place, entry) in places.Zip(entries))
            {
                paint.Color = Skia(entry.Color);
                canvas.DrawRoundRect(SKRect.Create(place.X, place.Y, font.Size, font.Size), font.Size * 0.2f, font.Size * 0.2f, paint);
                paint.Color = Ink;
                Typography.Draw(canvas, place.Text, place.X + (1.4f * font.Size), place.Y + (font.Size * 0.85f), font, paint);
            }
        });
        var whole = new Image(width, picture.Height + strip.Height, 3);
        for (var r = 0; r < picture.Height; r++)
        {
            var line = whole.Pixels.AsSpan(r * width * 3, width * 3);
            picture.Row(r).CopyTo(line);
            Fill(line[(picture.Width * 3)..]);
        }
        strip.Pixels.CopyTo(whole.Pixels.AsSpan(picture.Height * width * 3));
        return whole;

        static void Fill(Span<byte> pixels)
        {
            for (var i = 0; i < pixels.Length; i += 3) (pixels[i], pixels[i + 1], pixels[i + 2]) = (Paper.Red, Paper.Green, Paper.Blue);
        }
    }

    static string Fit(string text, SKFont font, float width) => Typography.Wrap(text, font, Math.Max(width - font.Size, font.Size), 1) is [var line, ..] ? line : "";

    /// <summary>Black or white, whichever reads better on a color.</summary>
    static SKColor OnTop(Rgb c) => (0.299 * c.R) + (0.587 * c.G) + (0.114 * c.B) > 150 ? Ink : SKColors.White;
}
