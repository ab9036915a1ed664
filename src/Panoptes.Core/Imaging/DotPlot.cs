using ScottPlot;
using ScottPlot.TickGenerators;
using SkiaSharp;

namespace Panoptes.Imaging;

/// <summary>How a row of a <see cref="DotPlot"/> came out, shown by its color.</summary>
public enum DotTone
{
    Plain,
    Good,
    Bad,
    Unclear,
}

/// <summary>Measurements of one thing: a bar to their mean, a dot for each, their spread.</summary>
/// <param name="Label">At the left; wrapped.</param>
/// <param name="Values">At least one, all finite.</param>
public sealed record DotRow(string Label, IReadOnlyList<double> Values)
{
    /// <summary>On either side of the mean; null: not drawn.</summary>
    public double? Spread { get; init; }

    /// <summary>What the mean should reach, drawn as a line with a flag to the side that is right.</summary>
    public double? AtLeast { get; init; }

    /// <summary>What it should not exceed.</summary>
    public double? AtMost { get; init; }

    /// <summary>At the right: the number in words.</summary>
    public string Text { get; init; } = "";

    /// <summary>Below it, small.</summary>
    public string Note { get; init; } = "";

    public DotTone Tone { get; init; }
}

/// <summary>Rows that share an axis.</summary>
public sealed record DotPanel(string Title, IReadOnlyList<DotRow> Rows)
{
    /// <summary>Where bars begin: 0, or 1 for ratios.</summary>
    public double Baseline { get; init; }
}

/// <summary>Few measurements with everything that is known about them: panels of rows below each other, each panel with its own axis.</summary>
public sealed record DotPlot
{
    public required string Title { get; init; }

    /// <summary>Below the title, wrapped.</summary>
    public string Subtitle { get; init; } = "";

    /// <summary>The last line, in gray.</summary>
    public string Footer { get; init; } = "";

    public required IReadOnlyList<DotPanel> Panels { get; init; }

    /// <summary>Above the panels, two beside each other.</summary>
    public IReadOnlyList<Plot> Plots { get; init; } = [];

    const int Width = 880, Margin = 28, Labels = 230, Texts = 170, Gap = 16, RowHeight = 46, AxisHeight = 30, TitleHeight = 30, PlotWidth = (Width - (2 * Margin) - Gap) / 2, PlotHeight = 300;

    const float Scale = 1.25f;

    const int Left = Margin + Labels + Gap, Right = Width - Margin - Texts - Gap;

    static readonly SKColor Ink = new(0x17, 0x1A, 0x21), Faint = new(0x68, 0x70, 0x7E);

    /// <summary>The plot as an RGB image 1,100 pixels wide and as high as its rows ask.</summary>
    /// <exception cref="PanoptesException">No panel, a panel without rows, or a row without finite values.</exception>
    public Image Render()
    {
        if (Panels.Count == 0 || Panels.Any(static p => p.Rows.Count == 0)) throw new PanoptesException("A dot plot needs at least one panel, and every panel at least one row.");
        foreach (var row in Panels.SelectMany(static p => p.Rows))
            if (row.Values.Count == 0 || row.Values.Any(static v => !double.IsFinite(v))) throw new PanoptesException($"The row '{row.Label}' of a dot plot has {row.Values.Count} values; expected at least one, all finite.");
        using SKFont title = Typography.Font(22, bold: true), heading = Typography.Font(14.5f, bold: true), text = Typography.Font(13.5f), note = Typography.Font(12);
        var subtitle = Subtitle.Length == 0 ? [] : Typography.Wrap(Subtitle, text, Width - (2 * Margin));
        var footer = Footer.Length == 0 ? [] : Typography.Wrap(Footer, note, Width - (2 * Margin));
        var top = Margin + 30 + (subtitle.Count * 19) + 8;
        var height = top + Panels.Sum(static p => HeadOf(p) + (p.Rows.Count * RowHeight) + AxisHeight + 6) + ((Plots.Count + 1) / 2 * (PlotHeight + Gap)) + (footer.Count * 17) + Margin - 8;

        using var bitmap = new SKBitmap(new SKImageInfo((int)(Width * Scale), (int)(height * Scale), SKColorType.Rgba8888, SKAlphaType.Opaque));
        using var canvas = new SKCanvas(bitmap);
        using var paint = new SKPaint { IsAntialias = true, Color = Ink };
        canvas.Clear(SKColors.White);
        canvas.Scale(Scale);
        Typography.Draw(canvas, Title, Margin, Margin + 18, title, paint);
        for (var i = 0; i < subtitle.Count; i++) Typography.Draw(canvas, subtitle[i], Margin, Margin + 42 + (i * 19), text, paint);
        for (var i = 0; i < Plots.Count; i++)
        {
            var drawn = (Plots[i] with { Scale = Scale }).Render((int)(PlotWidth * Scale), (int)(PlotHeight * Scale)).ToRgba();
            var info = new SKImageInfo(drawn.Width, drawn.Height, SKColorType.Rgba8888, SKAlphaType.Unpremul);
            using var picture = SKImage.FromPixelCopy(info, drawn.Pixels, info.RowBytes);
            canvas.DrawImage(picture, SKRect.Create(Margin + (i % 2 * (PlotWidth + Gap)), top + (i / 2 * (PlotHeight + Gap)), PlotWidth, PlotHeight), new SKSamplingOptions(SKFilterMode.Linear));
        }
        top += (Plots.Count + 1) / 2 * (PlotHeight + Gap);
        foreach (var panel in Panels)
        {
            paint.Color = Ink;
            Typography.Draw(canvas, panel.Title, Margin, top + 19, heading, paint);
            top += HeadOf(panel);
            DrawPanel(canvas, panel, top);
            for (var i = 0; i < panel.Rows.Count; i++)
            {
                var (row, middle) = (panel.Rows[i], top + ((i + 0.5f) * RowHeight));
                var label = Typography.Wrap(row.Label, text, Labels, maxLines: 2);
                paint.Color = Ink;
                for (var l = 0; l < label.Count; l++) Typography.Draw(canvas, label[l], Margin + Labels, middle + 5 + ((l - ((label.Count - 1) / 2f)) * 16), text, paint, align: 1);
                Typography.Draw(canvas, row.Text, Right + Gap, middle + (row.Note.Length > 0 ? -3 : 5), text, paint);
                paint.Color = row.Tone == DotTone.Plain ? Faint : SkColorOf(row.Tone);
                Typography.Draw(canvas, row.Note, Right + Gap, middle + 14, note, paint);
            }
            top += (panel.Rows.Count * RowHeight) + AxisHeight + 6;
        }
        paint.Color = Faint;
        for (var i = 0; i < footer.Count; i++) Typography.Draw(canvas, footer[i], Margin, top + 12 + (i * 17), note, paint);
        canvas.Flush();
        return new Image(bitmap.Width, bitmap.Height, 4, bitmap.GetPixelSpan().ToArray()).DropAlpha();
    }

    static int HeadOf(DotPanel panel) => panel.Title.Length == 0 ? 6 : TitleHeight;

    static void DrawPanel(SKCanvas canvas, DotPanel panel, int top) => Plot.Locked(() =>
    {
        var plot = Plot.Styled(null, null, null);
        var (low, high) = (panel.Baseline, panel.Baseline);
        foreach (var row in panel.Rows)
            foreach (var v in (IEnumerable<double>)[.. row.Values, row.Values.Average() - (row.Spread ?? 0), row.Values.Average() + (row.Spread ?? 0), row.AtLeast ?? panel.Baseline, row.AtMost ?? panel.Baseline])
                (low, high) = (Math.Min(low, v), Math.Max(high, v));
        if (low == high) high = low + 1;
        var room = (high - low) * 0.06;
        plot.Axes.SetLimits(low < panel.Baseline ? low - room : low, high > panel.Baseline ? high + room : high, -0.5, panel.Rows.Count - 0.5);
        for (var i = 0; i < panel.Rows.Count; i++) AddRow(plot, panel.Rows[i], panel.Rows.Count - 1 - i, panel.Baseline, high - low);
        plot.Add.VerticalLine(panel.Baseline, 1.2f, Color.FromHex("#8A93A2"));
        plot.Axes.Left.TickGenerator = new EmptyTickGenerator();
        plot.Axes.Left.FrameLineStyle.IsVisible = false;
        plot.Axes.Bottom.TickGenerator = new NumericAutomatic { MinimumTickSpacing = 50, MinorTickGenerator = new Plot.NoMinorTicks() };
        plot.Layout.Fixed(new PixelPadding(Gap, Gap, AxisHeight, 0));                 // room for the labels at the ends of the axis
        var place = new SKRect(Left - Gap, top, Right + Gap, top + (panel.Rows.Count * RowHeight) + AxisHeight);
        canvas.Save();
        canvas.ClipRect(SKRect.Inflate(place, -1, -1));                              // ScottPlot clears all that it may draw on, and its own edges are not whole pixels
        plot.Render(canvas, new PixelRect(place.Left, place.Right, place.Bottom, place.Top));
        canvas.Restore();
    });

    static void AddRow(ScottPlot.Plot plot, DotRow row, int y, double baseline, double span)
    {
        var color = Color.FromSKColor(SkColorOf(row.Tone));
        var mean = row.Values.Average();
        var bar = plot.Add.Rectangle(Math.Min(baseline, mean), Math.Max(baseline, mean), y - 0.27, y + 0.27);
        (bar.FillColor, bar.LineWidth) = (color.WithAlpha(0.28), 0);
        Line(mean, mean, y - 0.27, y + 0.27, color, 2.4f);
        if (row.Spread is { } spread)
        {
            Line(mean - spread, mean + spread, y, y, Color.FromSKColor(Ink), 1.3f);
            foreach (var end in (ReadOnlySpan<double>)[mean - spread, mean + spread]) Line(end, end, y - 0.09, y + 0.09, Color.FromSKColor(Ink), 1.3f);
        }
        if (row.Values.Count > 1)
            for (var i = 0; i < row.Values.Count; i++)
            {
                // Side by side, so that equal values are still seen as many.
                var dot = plot.Add.Marker(row.Values[i], y + 0.2 - (0.4 * i / (row.Values.Count - 1)), MarkerShape.FilledCircle, 8, color);
                (dot.MarkerLineColor, dot.MarkerLineWidth) = (Colors.White, 1.2f);
            }
        if (row.AtLeast is { } least) Bound(least, 1);
        if (row.AtMost is { } most) Bound(most, -1);

        void Bound(double at, int side)
        {
            Line(at, at, y - 0.42, y + 0.42, Color.FromSKColor(Ink), 1.6f);
            var flag = plot.Add.Polygon([at, at + (side * span * 0.022), at], [y + 0.42, y + 0.33, y + 0.24]);
            (flag.FillColor, flag.LineWidth) = (Color.FromSKColor(Ink), 0);
        }

        void Line(double x1, double x2, double y1, double y2, Color stroke, float width)
        {
            var line = plot.Add.Line(x1, y1, x2, y2);
            (line.Color, line.LineWidth) = (stroke, width);
        }
    }

    static SKColor SkColorOf(DotTone tone) => tone switch
    {
        DotTone.Good => new(0x0E, 0x9F, 0x6E),
        DotTone.Bad => new(0xE0, 0x3E, 0x3E),
        DotTone.Unclear => new(0xCA, 0x8A, 0x04),
        _ => new(0x25, 0x63, 0xEB),
    };
}
