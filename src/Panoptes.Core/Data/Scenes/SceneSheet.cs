using Panoptes.Imaging;
using SkiaSharp;

namespace Panoptes.Data;

/// <summary>Scenes drawn for the eye: each with its boxes and keypoints, what is seen where, what an expression means, distances, contours, an edit, its caption and its questions.</summary>
public static class SceneSheet
{
    static readonly SKColor[] Colors =
    [
        new(0xE0, 0x3E, 0x3E), new(0x25, 0x63, 0xEB), new(0x0E, 0x9F, 0x6E), new(0xE0, 0x8A, 0x00), new(0x8B, 0x3F, 0xD6), new(0x00, 0x9A, 0xB0), new(0xD6, 0x33, 0x8A), new(0x6B, 0x7A, 0x12),
    ];

    /// <summary>One row a scene.</summary>
    /// <param name="generator">Makes the scenes and their edits.</param>
    /// <param name="first">The first scene.</param>
    /// <param name="count">How many.</param>
    /// <param name="cellSize">The side of a picture on the sheet in pixels, from 32 to 1024.</param>
    /// <param name="cancel">Stops between scenes.</param>
    /// <exception cref="PanoptesException">A number is out of range.</exception>
    public static ContactSheet Create(SceneGenerator generator, long first, int count, int cellSize = 200, CancellationToken cancel = default)
    {
        var rows = new List<SheetRow>();
        for (var index = first; index < first + count; index++)
        {
            cancel.ThrowIfCancellationRequested();
            var scene = generator.Generate(index);
            var cells = new List<SheetCell>
            {
                new(scene.Image, "picture"), new(DrawBoxes(scene, cellSize), "boxes and keypoints"), new(DrawIds(scene), "visible masks"), Expression(generator, scene), new(DrawDepth(scene), "depth: farther is lighter"), new(scene.Edges(), "edges"),
            };
            for (var k = 0; k < 3; k++)
            {
                // Another kind first in each row, so that a sheet shows them all.
                if (generator.Edit(scene, (SceneEditKind)((index + k) % 3)) is not { } edit) continue;
                cells.Add(new(edit.After.Image, edit.Instruction));
                cells.Add(new(edit.Mask, "what changes"));
                break;
            }
            rows.Add(new(scene.Caption, cells) { Note = string.Join("   ", scene.Questions.Select(static q => $"{q.Text} {q.Answer}.")) });
        }
        return new() { Title = "Scenes", Rows = rows, CellSize = cellSize, Columns = 8 };
    }

    /// <summary>An expression that names alone would not do for, if there is one, of another kind from scene to scene.</summary>
    static SheetCell Expression(SceneGenerator generator, Scene scene)
    {
        var kinds = generator.References(scene).GroupBy(static r => (r.IsNeeded, r.Kind)).OrderByDescending(static g => g.Key.IsNeeded).ToArray();
        if (kinds.Length == 0) return new(scene.Image, "no expression");
        var needed = kinds.Count(static g => g.Key.IsNeeded);
        var kind = kinds[(int)(scene.Layout.Index % Math.Max(needed, 1))].ToArray();
        var reference = kind[(int)(scene.Layout.Index % kind.Length)];
        return new(DrawMeant(scene, reference), reference.Text);
    }

    /// <summary>The picture with all but what an expression means darkened.</summary>
    public static Image DrawMeant(Scene scene, SceneReference reference)
    {
        var (image, mask) = (new Image(scene.Size, scene.Size, 3), scene.Mask(reference.Objects).Pixels);
        for (var i = 0; i < image.Pixels.Length; i++) image.Pixels[i] = mask[i / 3] > 0 ? scene.Image.Pixels[i] : (byte)(scene.Image.Pixels[i] / 4);
        return image;
    }

    /// <summary>The picture, enlarged to about <paramref name="side"/> pixels, with the objects' boxes and names, and their keypoints: filled where they are to be seen.</summary>
    public static Image DrawBoxes(Scene scene, int side)
    {
        var scale = Math.Max(1, (int)Math.Round((double)side / scene.Size));
        var pixels = scene.Size * scale;
        return scene.Image.Resize(pixels, pixels, ResizeFilter.Nearest).Draw(canvas =>
        {
            using var paint = new SKPaint { IsAntialias = true };
            using var font = Typography.Font(Math.Max(pixels / 20f, 8), bold: true);
            for (var k = 0; k < scene.Objects.Count; k++)
            {
                var (o, color) = (scene.Objects[k], Colors[k % Colors.Length]);
                var line = Math.Max(pixels / 140f, 1);
                var box = SKRect.Create(o.Box.X * scale, o.Box.Y * scale, o.Box.Width * scale, o.Box.Height * scale);
                (paint.Color, paint.Style, paint.StrokeWidth) = (color, SKPaintStyle.Stroke, line);
                canvas.DrawRect(box, paint);
                paint.Style = SKPaintStyle.Fill;
                var (width, height) = (Typography.Width(o.Name, font) + (font.Size * 0.6f), font.Size * 1.3f);
                var (x, y) = (Math.Clamp(box.Left, 0, Math.Max(pixels - width, 0)), box.Top >= height ? box.Top - height : Math.Min(box.Bottom, pixels - height));
                canvas.DrawRect(SKRect.Create(x, y, width, height), paint);
                paint.Color = SKColors.White;
                Typography.Draw(canvas, o.Name, x + (font.Size * 0.3f), y + (font.Size * 0.98f), font, paint);
            }
        });
    }

    /// <summary>What is seen at each pixel, in the boxes' colors on dark gray.</summary>
    public static Image DrawIds(Scene scene)
    {
        var image = new Image(scene.Size, scene.Size, 3);
        for (var i = 0; i < scene.Ids.Length; i++)
        {
            var color = scene.Ids[i] == 0 ? new SKColor(0x2B, 0x2F, 0x38) : Colors[(scene.Ids[i] - 1) % Colors.Length];
            (image.Pixels[3 * i], image.Pixels[(3 * i) + 1], image.Pixels[(3 * i) + 2]) = (color.Red, color.Green, color.Blue);
        }
        return image;
    }

    /// <summary>Distances as gray: 0 is black, 1 white.</summary>
    public static Image DrawDepth(Scene scene)
    {
        var image = new Image(scene.Size, scene.Size, 1);
        var depth = scene.Depth();
        for (var i = 0; i < depth.Length; i++) image.Pixels[i] = (byte)MathF.Round(depth[i] * 255);
        return image;
    }
}
