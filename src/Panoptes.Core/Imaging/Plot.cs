using System.Globalization;
using ScottPlot;
using ScottPlot.TickGenerators;
using SkiaSharp;

namespace Panoptes.Imaging;

/// <summary>One line of a plot. Values that are not finite (and, on a logarithmic axis, not positive) are left out.</summary>
public sealed record Curve(string Name, IReadOnlyList<double> X, IReadOnlyList<double> Y)
{
    /// <summary>0 for the values as they are; up to 1 for an exponential average over the faint raw line.</summary>
    public double Smoothing { get; init; }

    /// <summary>A dot at every value.</summary>
    public bool HasMarkers { get; init; }

    /// <summary>A line through the values.</summary>
    public bool HasLine { get; init; } = true;
}

/// <summary>Curves with a legend, and pictures of matrices, in one house style and the embedded font (ScottPlot does the drawing).</summary>
public sealed record Plot
{
    public string? Title { get; init; }

    public string? XLabel { get; init; }

    public string? YLabel { get; init; }

    public bool LogX { get; init; }

    public bool LogY { get; init; }

    public IReadOnlyList<Curve> Curves { get; init; } = [];

    /// <summary>Pixels an inch-like unit: 2 draws everything twice as large.</summary>
    public double Scale { get; init; } = 1;

    static readonly string[] Palette = ["#2563EB", "#EA580C", "#0E9F6E", "#9333EA", "#DB2777", "#0891B2", "#CA8A04", "#64748B"];

    static readonly Color Ink = Color.FromHex("#171A21"), Faint = Color.FromHex("#68707E"), Grid = Color.FromHex("#E9ECF1"), Frame = Color.FromHex("#C9CFD8");

    static readonly Lock Gate = new();

    static Plot() => ScottPlot.Fonts.FontResolvers.Insert(0, new EmbeddedFont());

    /// <summary>Runs what draws with ScottPlot, whose font cache is shared, after whatever else does.</summary>
    internal static void Locked(Action draw)
    {
        lock (Gate) draw();
    }

    /// <summary>The curves as an RGB image of <paramref name="width"/> x <paramref name="height"/> pixels.</summary>
    /// <exception cref="PanoptesException">A curve with as many x as y values is expected.</exception>
    public Image Render(int width = 960, int height = 600)
    {
        lock (Gate)                                                                // ScottPlot's font cache is shared
        {
            var plot = Styled(Title, XLabel, YLabel);
            var drawn = 0;
            foreach (var curve in Curves)
            {
                if (curve.X.Count != curve.Y.Count) throw new PanoptesException($"The curve '{curve.Name}' has {curve.X.Count} x and {curve.Y.Count} y values: expected as many.");
                if (Add(plot, curve, Color.FromHex(Palette[drawn % Palette.Length]))) drawn++;
            }
            if (LogX) Logarithmic(plot.Axes.Bottom, Curves.SelectMany(static c => c.X));
            if (LogY) Logarithmic(plot.Axes.Left, Curves.SelectMany(static c => c.Y));
            if (drawn > 1 || (drawn == 1 && Curves[0].Name.Length > 0)) Legend(plot);
            plot.Axes.Margins(0.02, 0.08);
            return Draw(plot, width, height, Scale);
        }
    }

    /// <summary>Renders and writes the plot (PNG, JPEG or WebP by extension).</summary>
    public void Save(string path, int width = 960, int height = 600) => Render(width, height).Save(path);

    bool Add(ScottPlot.Plot plot, Curve curve, Color color)
    {
        var xs = new List<double>(curve.X.Count);
        var ys = new List<double>(curve.Y.Count);
        for (var i = 0; i < curve.X.Count; i++)
        {
            var x = LogX ? Math.Log10(curve.X[i]) : curve.X[i];
            var y = LogY ? Math.Log10(curve.Y[i]) : curve.Y[i];
            if (!double.IsFinite(x) || !double.IsFinite(y)) continue;
            xs.Add(x);
            ys.Add(y);
        }
        if (xs.Count == 0) return false;
        var values = ys;
        if (curve.Smoothing > 0 && xs.Count > 2)
        {
            var raw = plot.Add.ScatterLine(xs.ToArray(), ys.ToArray());
            raw.Color = color.WithAlpha(0.22);
            raw.LineWidth = 1;
            values = Smooth(ys, curve.Smoothing);
        }
        var line = plot.Add.Scatter(xs.ToArray(), values.ToArray());
        line.Color = color;
        line.LineWidth = curve.HasLine ? 2.2f : 0;
        line.MarkerSize = curve.HasMarkers || !curve.HasLine || xs.Count == 1 ? 6 : 0;
        line.LegendText = curve.Name;
        return true;
    }

    /// <summary>An exponential average without the pull of its start.</summary>
    static List<double> Smooth(List<double> values, double weight)
    {
        weight = Math.Min(weight, 0.9999);
        var result = new List<double>(values.Count);
        double mean = 0, share = 1;
        foreach (var v in values)
        {
            mean = weight * mean + (1 - weight) * v;
            share *= weight;
            result.Add(mean / (1 - share));
        }
        return result;
    }

    /// <summary>Predictions against truth: one row a true class, shaded by its share of the row, with the counts written in where there is room.</summary>
    /// <param name="counts">[true class, predicted class].</param>
    /// <param name="labels">Class names, as many as rows.</param>
    /// <exception cref="PanoptesException">Not square, empty, or another number of labels.</exception>
    public static Image ConfusionMatrix(long[,] counts, IReadOnlyList<string> labels, string? title = null, int size = 800)
    {
        var n = counts.GetLength(0);
        if (n == 0 || counts.GetLength(1) != n || labels.Count != n)
            throw new PanoptesException($"A confusion picture of {n}x{counts.GetLength(1)} counts and {labels.Count} labels is not possible: expected as many rows, columns and labels.");
        var shares = new double[n, n];
        var texts = new string[n, n];
        for (var r = 0; r < n; r++)
        {
            var sum = 0L;
            for (var c = 0; c < n; c++) sum += counts[r, c];
            for (var c = 0; c < n; c++)
            {
                shares[r, c] = sum == 0 ? 0 : (double)counts[r, c] / sum;
                texts[r, c] = counts[r, c] == 0 ? "" : counts[r, c].ToString(CultureInfo.InvariantCulture);
            }
        }
        return Matrix(shares, 0, 1, texts, labels, labels, title, "predicted", "true", size, colorBar: false);
    }

    /// <summary>A matrix as colors, light for the smallest value to dark for the largest, with a color bar.</summary>
    /// <param name="values">[row, column]; row 0 at the top.</param>
    /// <exception cref="PanoptesException">Empty, or another number of labels than rows or columns.</exception>
    public static Image HeatMap(double[,] values, string? title = null, IReadOnlyList<string>? rowLabels = null, IReadOnlyList<string>? columnLabels = null,
        string? valueFormat = null, int size = 800)
    {
        int rows = values.GetLength(0), columns = values.GetLength(1);
        if (rows == 0 || columns == 0) throw new PanoptesException("A heat map needs at least one value.");
        if ((rowLabels?.Count ?? rows) != rows || (columnLabels?.Count ?? columns) != columns)
            throw new PanoptesException($"A heat map of {rows}x{columns} values has {rowLabels?.Count ?? rows} row and {columnLabels?.Count ?? columns} column labels: expected as many.");
        double low = double.PositiveInfinity, high = double.NegativeInfinity;
        foreach (var v in values)
            if (double.IsFinite(v)) (low, high) = (Math.Min(low, v), Math.Max(high, v));
        if (low > high) (low, high) = (0, 1);
        if (low == high) high = low + 1;
        string[,]? texts = null;
        if (valueFormat is not null)
        {
            texts = new string[rows, columns];
            for (var r = 0; r < rows; r++)
                for (var c = 0; c < columns; c++)
                    texts[r, c] = values[r, c].ToString(valueFormat, CultureInfo.InvariantCulture);
        }
        return Matrix(values, low, high, texts, rowLabels, columnLabels, title, null, null, size, colorBar: true);
    }

    static Image Matrix(double[,] values, double low, double high, string[,]? texts, IReadOnlyList<string>? rowLabels, IReadOnlyList<string>? columnLabels,
        string? title, string? xLabel, string? yLabel, int size, bool colorBar)
    {
        lock (Gate)
        {
            int rows = values.GetLength(0), columns = values.GetLength(1);
            var plot = Styled(title, xLabel, yLabel);
            var map = plot.Add.Heatmap(values);
            map.Colormap = new HouseColors();
            map.ManualRange = new(low, high);
            map.NaNCellColor = Color.FromHex("#D9DDE3");
            var cell = size * 0.78 / Math.Max(rows, columns);
            if (texts is not null && cell >= 18)
                for (var r = 0; r < rows; r++)
                    for (var c = 0; c < columns; c++)
                    {
                        if (string.IsNullOrEmpty(texts[r, c])) continue;
                        var text = plot.Add.Text(texts[r, c], c, rows - 1 - r);
                        text.Alignment = Alignment.MiddleCenter;
                        text.LabelFontName = Typography.Family;
                        text.LabelFontSize = (float)Math.Clamp(cell * Math.Min(0.42, 1.5 / texts[r, c].Length), 7, 17);
                        text.LabelFontColor = (values[r, c] - low) / (high - low) > 0.55 ? Colors.White : Ink;
                    }
            var every = Math.Max((int)Math.Ceiling(11 / cell), 1);                 // labels that would overlap are thinned out
            Ticks(plot.Axes.Left, rowLabels, rows, every, isDown: true);
            Ticks(plot.Axes.Bottom, columnLabels, columns, every, isDown: false);
            var font = (float)Math.Clamp(cell * 0.7, 8, 13);
            plot.Axes.Left.TickLabelStyle.FontSize = font;
            plot.Axes.Bottom.TickLabelStyle.FontSize = font;
            if (columnLabels is not null && columnLabels.Max(l => l.Length) * font * 0.55 > cell * every)
            {
                plot.Axes.Bottom.TickLabelStyle.Rotation = -45;
                plot.Axes.Bottom.TickLabelStyle.Alignment = Alignment.MiddleRight;
                plot.Axes.Bottom.TickLabelStyle.OffsetY = 4;
                plot.Axes.Bottom.MinimumSize = (float)Math.Min(columnLabels.Max(l => l.Length) * font * 0.42 + (xLabel is null ? 14 : 44), size * 0.4);
            }
            if (rowLabels is not null) plot.Axes.Left.MinimumSize = (float)Math.Min(rowLabels.Max(l => l.Length) * font * 0.56 + (yLabel is null ? 20 : 48), size * 0.4);
            plot.HideGrid();
            plot.Axes.SetLimits(-0.5, columns - 0.5, -0.5, rows - 0.5);
            if (colorBar)
            {
                var bar = plot.Add.ColorBar(map);
                bar.Axis.TickLabelStyle.FontName = Typography.Family;
                bar.Axis.TickLabelStyle.ForeColor = Faint;
                bar.Axis.TickLabelStyle.FontSize = 12;
                bar.Axis.TickGenerator = new NumericAutomatic { MinimumTickSpacing = 40, MinorTickGenerator = new NoMinorTicks() };
                bar.Axis.MajorTickStyle.Color = bar.Axis.FrameLineStyle.Color = Frame;
            }
            return Draw(plot, size + (colorBar ? 60 : 0), size, 1);
        }
    }

    static void Ticks(IAxis axis, IReadOnlyList<string>? labels, int count, int every, bool isDown)
    {
        var ticks = new NumericManual();
        for (var i = 0; i < count; i += every) ticks.AddMajor(isDown ? count - 1 - i : i, labels?[i] ?? i.ToString(CultureInfo.InvariantCulture));
        axis.TickGenerator = ticks;
        axis.MajorTickStyle.Length = 0;
    }

    static void Logarithmic(IAxis axis, IEnumerable<double> values)
    {
        double[] shown = [.. values.Where(static v => v > 0 && double.IsFinite(v)).Select(Math.Log10)];
        if (shown.Length == 0 || shown.Max() - shown.Min() > 1.5)
        {
            axis.TickGenerator = new NumericAutomatic
            {
                MinorTickGenerator = new LogMinorTickGenerator(),
                IntegerTicksOnly = true,
                LabelFormatter = static power => Math.Pow(10, power) is var v && v is >= 1e-3 and < 1e6
                    ? v.ToString("#,0.####", CultureInfo.InvariantCulture)
                    : $"1e{Math.Round(power).ToString(CultureInfo.InvariantCulture)}",
            };
            return;
        }
        // Too few powers of ten to read from: round numbers between them.
        var ticks = new NumericManual();
        double[] steps = shown.Max() - shown.Min() > 0.7 ? [1, 2, 5] : shown.Max() - shown.Min() > 0.35 ? [1, 2, 3, 4, 6, 8] : [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5, 8, 8.5, 9, 9.5];
        for (var power = (int)Math.Floor(shown.Min()) - 1; power <= Math.Ceiling(shown.Max()); power++)
            foreach (var step in steps)
                if (Math.Log10(step) + power is var at && at >= shown.Min() - 0.05 && at <= shown.Max() + 0.05)
                    ticks.AddMajor(at, (step * Math.Pow(10, power)).ToString("#,0.####", CultureInfo.InvariantCulture));
        axis.TickGenerator = ticks;
    }

    internal static ScottPlot.Plot Styled(string? title, string? xLabel, string? yLabel)
    {
        var plot = new ScottPlot.Plot();
        plot.Font.Set(Typography.Family);
        plot.FigureBackground.Color = Colors.White;
        plot.DataBackground.Color = Colors.White;
        plot.Grid.MajorLineColor = Grid;
        plot.Grid.MajorLineWidth = 1;
        foreach (var axis in (IAxis[])[plot.Axes.Bottom, plot.Axes.Left])
        {
            axis.FrameLineStyle.Color = Frame;
            axis.MajorTickStyle.Color = Frame;
            axis.MinorTickStyle.Color = Color.FromHex("#DFE3E9");
            axis.TickLabelStyle.ForeColor = Faint;
            axis.TickLabelStyle.FontSize = 12.5f;
            axis.TickLabelStyle.FontName = Typography.Family;
            axis.Label.ForeColor = Ink;
            axis.Label.FontName = Typography.Family;
            axis.Label.FontSize = 14;
            axis.Label.Bold = false;
        }
        plot.Axes.Right.FrameLineStyle.IsVisible = false;
        plot.Axes.Top.FrameLineStyle.IsVisible = false;
        if (title is not null)
        {
            plot.Axes.Title.Label.Text = title;
            plot.Axes.Title.Label.FontName = Typography.Family;
            plot.Axes.Title.Label.FontSize = 18;
            plot.Axes.Title.Label.Font = Typography.SemiBold;
            plot.Axes.Title.Label.ForeColor = Ink;
        }
        if (xLabel is not null) plot.Axes.Bottom.Label.Text = xLabel;
        if (yLabel is not null) plot.Axes.Left.Label.Text = yLabel;
        return plot;
    }

    static void Legend(ScottPlot.Plot plot)
    {
        var legend = plot.ShowLegend(Alignment.UpperRight);
        legend.FontName = Typography.Family;
        legend.FontSize = 13;
        legend.FontColor = Ink;
        legend.BackgroundColor = Colors.White.WithAlpha(0.9);
        legend.OutlineColor = Grid;
        legend.ShadowColor = Colors.Transparent;
    }

    static Image Draw(ScottPlot.Plot plot, int width, int height, double scale)
    {
        plot.ScaleFactor = scale;
        using var bitmap = new SKBitmap(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque));
        using var canvas = new SKCanvas(bitmap);
        plot.Render(canvas, new PixelRect(0, width, height, 0));
        canvas.Flush();
        return new Image(width, height, 4, bitmap.GetPixelSpan().ToArray()).DropAlpha();
    }

    internal sealed class NoMinorTicks : IMinorTickGenerator
    {
        public IEnumerable<double> GetMinorTicks(double[] majorTickPositions, CoordinateRange visibleRange) => [];
    }

    sealed class EmbeddedFont : IFontResolver
    {
        public SKTypeface? CreateTypeface(string fontName, FontWeight weight, FontSlant slant, FontSpacing spacing) =>
            fontName == Typography.Family ? (weight >= FontWeight.SemiBold ? Typography.SemiBold : Typography.Regular) : null;

        public SKTypeface? CreateTypeface(string fontName, bool bold, bool italic) =>
            fontName == Typography.Family ? (bold ? Typography.SemiBold : Typography.Regular) : null;
    }

    /// <summary>White over the house's blue to navy, evenly darker, so that order is read without a legend and in gray as well.</summary>
    sealed class HouseColors : IColormap
    {
        static readonly (double At, byte R, byte G, byte B)[] Stops =
            [(0, 0xFB, 0xFC, 0xFE), (0.25, 0xC5, 0xD9, 0xFB), (0.5, 0x7A, 0xA6, 0xF5), (0.75, 0x25, 0x63, 0xEB), (1, 0x12, 0x2B, 0x70)];

        public string Name => "House";

        public Color GetColor(double position)
        {
            position = Math.Clamp(position, 0, 1);
            var i = 1;
            while (i < Stops.Length - 1 && Stops[i].At < position) i++;
            var (a, b) = (Stops[i - 1], Stops[i]);
            var t = (position - a.At) / (b.At - a.At);
            return new((byte)Math.Round(a.R + (b.R - a.R) * t), (byte)Math.Round(a.G + (b.G - a.G) * t), (byte)Math.Round(a.B + (b.B - a.B) * t));
        }
    }
}
