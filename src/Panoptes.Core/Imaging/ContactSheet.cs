using System.Globalization;
using SkiaSharp;

namespace Panoptes.Imaging;

/// <summary>One picture of a contact sheet.</summary>
/// <param name="Image">Any size; shown whole.</param>
/// <param name="Label">Under the picture, at most two lines.</param>
/// <param name="Score">Under the label, as a number and (from 0 to 1) as a bar.</param>
public sealed record SheetCell(Image Image, string? Label = null, double? Score = null)
{
    /// <summary>A green or red frame: whether an answer was right. Null for neither.</summary>
    public bool? IsCorrect { get; init; }
}

/// <summary>A caption with the pictures that belong to it, such as a query with what it found.</summary>
/// <param name="Caption">Above the pictures; wrapped, never cut.</param>
public sealed record SheetRow(string Caption, IReadOnlyList<SheetCell> Cells)
{
    /// <summary>A picture that the row is about (an image query), shown first and set apart.</summary>
    public Image? Query { get; init; }

    /// <summary>A remark in gray after the caption.</summary>
    public string? Note { get; init; }
}

/// <summary>Pictures laid out for the eye: rows with a caption, labels and scores. Rendered without any font of the system.</summary>
public sealed record ContactSheet
{
    public string? Title { get; init; }

    public string? Subtitle { get; init; }

    public required IReadOnlyList<SheetRow> Rows { get; init; }

    /// <summary>The side of a picture's frame in pixels, from 32 to 1024.</summary>
    public int CellSize { get; init; } = 144;

    /// <summary>Pictures beside each other before a row goes on below.</summary>
    public int Columns { get; init; } = 8;

    /// <summary>How a score is written (.NET's numeric formats).</summary>
    public string ScoreFormat { get; init; } = "0.000";

    /// <summary>A sheet without captions: every picture in reading order.</summary>
    public static ContactSheet Grid(IReadOnlyList<SheetCell> cells, string? title = null, int columns = 8) =>
        new() { Title = title, Columns = columns, Rows = [new SheetRow("", cells)] };

    const int Margin = 36, Gap = 14, RowGap = 30, Inset = 8;

    static readonly SKColor Paper = new(0xF6, 0xF7, 0xF9), Card = SKColors.White, Line = new(0xE2, 0xE5, 0xEA), Ink = new(0x17, 0x1A, 0x21),
        Faint = new(0x68, 0x70, 0x7E), Accent = new(0x25, 0x63, 0xEB), Track = new(0xE8, 0xEC, 0xF3), Right = new(0x0E, 0x9F, 0x6E), Wrong = new(0xE0, 0x3E, 0x3E);

    /// <summary>The sheet as an opaque RGB image.</summary>
    /// <exception cref="PanoptesException">No rows, or a cell size or number of columns out of range.</exception>
    public Image Render()
    {
        if (Rows.Count == 0) throw new PanoptesException("A contact sheet needs at least one row.");
        if (CellSize is < 32 or > 1024) throw new PanoptesException($"A contact sheet's cell size of {CellSize} is not possible: expected 32 to 1024.");
        if (Columns is < 1 or > 64) throw new PanoptesException($"A contact sheet's {Columns} columns are not possible: expected 1 to 64.");

        using var fonts = new Fonts(CellSize);
        var widest = Rows.Max(r => Math.Clamp(r.Cells.Count, 1, Columns) + (r.Query is null ? 0 : 1));
        var content = Math.Max(widest * (CellSize + Gap) - Gap + (Rows.Any(r => r.Query is not null) ? Gap * 2 : 0), 360);
        var titleLines = Title is null ? [] : Typography.Wrap(Title, fonts.Title, content);
        var subtitleLines = Subtitle is null ? [] : Typography.Wrap(Subtitle, fonts.Note, content);
        var top = Margin + titleLines.Count * 32 + subtitleLines.Count * 20 + (titleLines.Count + subtitleLines.Count > 0 ? 22 : 0);

        var layouts = new List<RowLayout>(Rows.Count);
        var y = (float)top;
        foreach (var row in Rows)
        {
            layouts.Add(Arrange(row, y, content, fonts));
            y += layouts[^1].Height + RowGap;
        }
        var width = content + 2 * Margin;
        var height = (int)Math.Ceiling(y - RowGap) + Margin;
        if ((long)width * height > ImageLimits.DefaultMaxPixels) throw new PanoptesException($"A contact sheet of {width}x{height} is too large: make the cells or the rows fewer.");

        using var bitmap = new SKBitmap(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque));
        using var canvas = new SKCanvas(bitmap);
        using var paint = new SKPaint { IsAntialias = true };
        canvas.Clear(Paper);
        var line = Margin + 24f;
        foreach (var text in titleLines)
        {
            Typography.Draw(canvas, text, Margin, line, fonts.Title, With(paint, Ink));
            line += 32;
        }
        line -= titleLines.Count > 0 ? 6 : 8;
        foreach (var text in subtitleLines)
        {
            Typography.Draw(canvas, text, Margin, line, fonts.Note, With(paint, Faint));
            line += 20;
        }
        foreach (var layout in layouts) DrawRow(canvas, layout, fonts, paint);
        canvas.Flush();
        return new Image(width, height, 4, bitmap.GetPixelSpan().ToArray()).DropAlpha();
    }

    /// <summary>Renders and writes the sheet (PNG, JPEG or WebP by extension).</summary>
    public void Save(string path) => Render().Save(path);

    sealed class Fonts(int cell) : IDisposable
    {
        readonly float scale = Math.Clamp(cell / 144f, 0.75f, 1.6f);

        public SKFont Title { get; } = Typography.Font(25, bold: true);

        public SKFont Note { get; } = Typography.Font(14);

        public SKFont Caption { get; } = Typography.Font(17, bold: true);

        public SKFont Label { get; } = Typography.Font(12.5f * Math.Clamp(cell / 144f, 0.75f, 1.6f));

        public SKFont Score { get; } = Typography.Font(11.5f * Math.Clamp(cell / 144f, 0.75f, 1.6f));

        public float LabelHeight => 16.5f * scale;

        public float ScoreHeight => 18f * scale;

        public void Dispose()
        {
            Title.Dispose();
            Note.Dispose();
            Caption.Dispose();
            Label.Dispose();
            Score.Dispose();
        }
    }

    sealed record CellLayout(SheetCell Cell, float X, float Y, List<string> Label, bool IsQuery);

    sealed record RowLayout(SheetRow Row, float Y, List<string> Caption, List<string> Note, List<CellLayout> Cells, float Height);

    RowLayout Arrange(SheetRow row, float y, float content, Fonts fonts)
    {
        var caption = row.Caption.Length == 0 ? [] : Typography.Wrap(row.Caption, fonts.Caption, content);
        var note = row.Note is null ? [] : Typography.Wrap(row.Note, fonts.Note, content);
        var at = y + caption.Count * 24 + note.Count * 19 + (caption.Count + note.Count > 0 ? 10 : 0);
        var cells = new List<CellLayout>();
        var left = (float)Margin;
        var bottom = at;
        if (row.Query is not null)
        {
            cells.Add(new(new SheetCell(row.Query, "query"), left, at, ["query"], IsQuery: true));
            left += CellSize + Gap * 3;
            bottom = at + CellSize + 8 + fonts.LabelHeight;
        }
        for (var start = 0; start < row.Cells.Count; start += Columns)
        {
            if (start > 0) at = bottom + Gap;
            var lines = 0;
            var scored = false;
            for (var i = start; i < Math.Min(start + Columns, row.Cells.Count); i++)
            {
                var cell = row.Cells[i];
                var label = string.IsNullOrEmpty(cell.Label) ? [] : Typography.Wrap(cell.Label, fonts.Label, CellSize - 4, maxLines: 2);
                lines = Math.Max(lines, label.Count);
                scored |= cell.Score is not null;
                cells.Add(new(cell, left + (i - start) * (CellSize + Gap), at, label, IsQuery: false));
            }
            bottom = Math.Max(bottom, at + CellSize + (lines > 0 ? 6 + lines * fonts.LabelHeight : 0) + (scored ? fonts.ScoreHeight : 0));
        }
        return new(row, y, caption, note, cells, bottom - y);
    }

    void DrawRow(SKCanvas canvas, RowLayout layout, Fonts fonts, SKPaint paint)
    {
        var y = layout.Y + 16;
        foreach (var text in layout.Caption)
        {
            Typography.Draw(canvas, text, Margin, y, fonts.Caption, With(paint, Ink));
            y += 24;
        }
        y -= 3;
        foreach (var text in layout.Note)
        {
            Typography.Draw(canvas, text, Margin, y, fonts.Note, With(paint, Faint));
            y += 19;
        }
        foreach (var cell in layout.Cells) DrawCell(canvas, cell, fonts, paint);
        if (layout.Cells is [{ IsQuery: true }, _, ..])
        {
            var x = Margin + CellSize + Gap * 1.5f;
            canvas.DrawRect(x - 0.5f, layout.Cells[0].Y + 6, 1, CellSize - 12, With(paint, Line));
        }
    }

    void DrawCell(SKCanvas canvas, CellLayout layout, Fonts fonts, SKPaint paint)
    {
        var (cell, x, y) = (layout.Cell, layout.X, layout.Y);
        var frame = new SKRoundRect(SKRect.Create(x, y, CellSize, CellSize), 10);
        canvas.DrawRoundRect(frame, With(paint, Card));
        DrawPicture(canvas, cell.Image, x, y);
        var (color, thickness) = layout.IsQuery ? (Accent, 2.5f) : cell.IsCorrect switch { true => (Right, 2.5f), false => (Wrong, 2.5f), null => (Line, 1f) };
        paint.Style = SKPaintStyle.Stroke;
        paint.StrokeWidth = thickness;
        var inner = new SKRoundRect(SKRect.Create(x + thickness / 2, y + thickness / 2, CellSize - thickness, CellSize - thickness), 10 - thickness / 2);
        canvas.DrawRoundRect(inner, With(paint, color));
        paint.Style = SKPaintStyle.Fill;

        var line = y + CellSize + 6 + fonts.LabelHeight * 0.72f;
        foreach (var text in layout.Label)
        {
            Typography.Draw(canvas, text, x + CellSize / 2f, line, fonts.Label, With(paint, layout.IsQuery ? Accent : Ink), align: 0.5f);
            line += fonts.LabelHeight;
        }
        if (cell.Score is not { } score) return;
        var number = score.ToString(ScoreFormat, CultureInfo.InvariantCulture);
        if (score is < 0 or > 1)
        {
            Typography.Draw(canvas, number, x + CellSize / 2f, line, fonts.Score, With(paint, Faint), align: 0.5f);
            return;
        }
        Typography.Draw(canvas, number, x + CellSize - 3, line, fonts.Score, With(paint, Faint), align: 1);
        var bar = SKRect.Create(x + 3, line - fonts.Score.Size * 0.52f, CellSize - 14 - Typography.Width(number, fonts.Score), 5);
        canvas.DrawRoundRect(bar, 2.5f, 2.5f, With(paint, Track));
        var filled = SKRect.Create(bar.Left, bar.Top, Math.Max(bar.Width * (float)score, 5), 5);
        canvas.DrawRoundRect(filled, 2.5f, 2.5f, With(paint, cell.IsCorrect switch { true => Right, false => Wrong, null => Accent }));
    }

    /// <summary>The whole picture, centered in its frame; what is much smaller than the frame keeps its pixels visible.</summary>
    void DrawPicture(SKCanvas canvas, Image image, float x, float y)
    {
        var room = CellSize - 2 * Inset;
        var scale = Math.Min((double)room / image.Width, (double)room / image.Height);
        int width = Math.Max((int)Math.Round(image.Width * scale), 1), height = Math.Max((int)Math.Round(image.Height * scale), 1);
        var shown = image.Resize(width, height, scale >= 3 ? ResizeFilter.Nearest : scale < 1 ? ResizeFilter.Lanczos : ResizeFilter.Bicubic).ToRgba();
        var info = new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Unpremul);
        using var picture = SKImage.FromPixelCopy(info, shown.Pixels, info.RowBytes);
        var (left, top) = ((float)Math.Floor(x + (CellSize - width) / 2f), (float)Math.Floor(y + (CellSize - height) / 2f));
        canvas.Save();
        canvas.ClipRoundRect(new SKRoundRect(SKRect.Create(left, top, width, height), 4), antialias: true);
        canvas.DrawImage(picture, left, top);
        canvas.Restore();
    }

    static SKPaint With(SKPaint paint, SKColor color)
    {
        paint.Color = color;
        return paint;
    }
}
