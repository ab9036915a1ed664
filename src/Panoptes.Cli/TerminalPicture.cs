using System.Globalization;
using System.Text;
using Panoptes.Imaging;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace Panoptes.Cli;

/// <summary>How a terminal shows pictures.</summary>
enum PictureProtocol
{
    /// <summary>Two pixels a character, for terminals with colors.</summary>
    Blocks,
    Sixel,
    Kitty,
}

/// <summary>A picture in the terminal, of so many columns; as many rows as its shape asks for, in a terminal whose characters are twice as high as wide.</summary>
sealed class TerminalPicture : IRenderable
{
    /// <summary>What pixels a character is taken to have where pixels are sent.</summary>
    const int CellWidth = 10, CellHeight = 20;

    readonly Image image;
    readonly PictureProtocol protocol;
    readonly int columns, rows;

    /// <param name="image">Any.</param>
    /// <param name="protocol">How it is shown.</param>
    /// <param name="columns">The most columns.</param>
    /// <param name="most">The most rows, which a high picture is made narrower for.</param>
    public TerminalPicture(Image image, PictureProtocol protocol, int columns, int most = int.MaxValue)
    {
        (this.protocol, this.columns) = (protocol, (int)Math.Clamp(Math.Min(columns, 2.0 * most * image.Width / image.Height), 1, Math.Max(1, columns)));
        rows = Math.Clamp((int)Math.Round((double)image.Height / image.Width * this.columns / 2), 1, Math.Max(1, most));
        var (width, height) = protocol == PictureProtocol.Blocks ? (this.columns, rows * 2) : (this.columns * CellWidth, rows * CellHeight);
        // kitty enlarges by itself, and less is sent.
        if (protocol == PictureProtocol.Kitty) (width, height) = (Math.Min(width, image.Width), Math.Min(height, image.Height));
        this.image = image.ToRgb().Resize(width, height);
    }

    /// <summary>What a terminal understands, by what it says of itself in its environment; sixels are understood by more than say so.</summary>
    /// <param name="variable">A variable of the environment.</param>
    public static PictureProtocol Detect(Func<string, string?> variable)
    {
        var (term, program) = (variable("TERM") ?? "", variable("TERM_PROGRAM") ?? "");
        if (variable("TMUX") is not null) return PictureProtocol.Blocks;                // passes neither on
        if (variable("KITTY_WINDOW_ID") is not null || term.Contains("kitty", StringComparison.Ordinal) || program is "ghostty" or "WezTerm") return PictureProtocol.Kitty;
        return term.Contains("sixel", StringComparison.Ordinal) || term is "mlterm" or "yaft-256color" || term.StartsWith("foot", StringComparison.Ordinal) || program is "mintty" or "contour" ? PictureProtocol.Sixel : PictureProtocol.Blocks;
    }

    public Measurement Measure(RenderOptions options, int maxWidth) => new(Math.Min(columns, maxWidth), Math.Min(columns, maxWidth));

    public IEnumerable<Segment> Render(RenderOptions options, int maxWidth)
    {
        if (protocol == PictureProtocol.Blocks)
        {
            for (var row = 0; row < rows; row++)
            {
                for (var x = 0; x < Math.Min(columns, maxWidth); x++) yield return new("▀", new(At(x, 2 * row), At(x, (2 * row) + 1)));
                yield return Segment.LineBreak;
            }
            yield break;
        }
        // Room first, so that the terminal has scrolled when the picture comes; then from its first row, and back.
        for (var row = 0; row < rows; row++) yield return Segment.LineBreak;
        yield return Segment.Control(string.Create(CultureInfo.InvariantCulture, $"\e7\e[{rows}A\r{(protocol == PictureProtocol.Kitty ? Kitty(image, columns, rows) : Sixel(image))}\e8"));

        Color At(int x, int y)
        {
            var at = ((y * image.Width) + x) * 3;
            return new(image.Pixels[at], image.Pixels[at + 1], image.Pixels[at + 2]);
        }
    }

    /// <summary>kitty's graphics protocol: a PNG in base 64, at most 4096 characters at a time, over so many cells, in the place of the one before; the terminal answers nothing.</summary>
    internal static string Kitty(Image image, int columns, int rows)
    {
        var (data, text) = (Convert.ToBase64String(image.Encode(ImageFormat.Png)), new StringBuilder());
        for (var start = 0; start < data.Length; start += 4096)
        {
            var part = data.AsSpan(start, Math.Min(4096, data.Length - start));
            var more = start + part.Length < data.Length ? 1 : 0;
            text.Append(CultureInfo.InvariantCulture, $"\e_G{(start == 0 ? $"a=T,f=100,i=1,p=1,q=2,C=1,c={columns},r={rows}," : "")}m={more};").Append(part).Append("\e\\");
        }
        return text.ToString();
    }

    /// <summary>DEC's sixels with 216 colors, six levels a channel, an error being left to the pixels to the right and below (Floyd and Steinberg 1976).</summary>
    internal static string Sixel(Image image)
    {
        var (width, height) = (image.Width, image.Height);
        var colors = Dithered(image);
        var text = new StringBuilder("\ePq", width * height / 4);
        text.Append(CultureInfo.InvariantCulture, $"\"1;1;{width};{height}");
        foreach (var c in colors.Distinct().Order()) text.Append(CultureInfo.InvariantCulture, $"#{c};2;{c / 36 * 20};{c / 6 % 6 * 20};{c % 6 * 20}");
        var bits = new byte[216][];
        for (var top = 0; top < height; top += 6)
        {
            Array.Clear(bits);
            for (var y = top; y < Math.Min(height, top + 6); y++)
                for (var x = 0; x < width; x++) (bits[colors[(y * width) + x]] ??= new byte[width])[x] |= (byte)(1 << (y - top));
            for (var c = 0; c < bits.Length; c++)
            {
                if (bits[c] is not { } row) continue;
                text.Append(CultureInfo.InvariantCulture, $"#{c}");
                for (var x = 0; x < width;)
                {
                    var end = x + 1;
                    while (end < width && row[end] == row[x]) end++;
                    var symbol = (char)('?' + row[x]);
                    if (end - x > 3) text.Append(CultureInfo.InvariantCulture, $"!{end - x}{symbol}");
                    else text.Append(symbol, end - x);
                    x = end;
                }
                text.Append('$');
            }
            text.Append('-');
        }
        return text.Append("\e\\").ToString();
    }

    static byte[] Dithered(Image image)
    {
        var (width, height, pixels) = (image.Width, image.Height, image.Pixels);
        var (colors, now, next) = (new byte[width * height], new float[(width + 2) * 3], new float[(width + 2) * 3]);
        for (var y = 0; y < height; y++)
        {
            Array.Clear(next);
            for (var x = 0; x < width; x++)
            {
                var color = 0;
                for (var c = 0; c < 3; c++)
                {
                    var at = ((x + 1) * 3) + c;
                    var wanted = pixels[(((y * width) + x) * 3) + c] + now[at];
                    var level = Math.Clamp((int)MathF.Round(wanted / 51), 0, 5);
                    var error = (wanted - (level * 51)) / 16;
                    now[at + 3] += 7 * error;
                    next[at - 3] += 3 * error;
                    next[at] += 5 * error;
                    next[at + 3] += error;
                    color = (color * 6) + level;
                }
                colors[(y * width) + x] = (byte)color;
            }
            (now, next) = (next, now);
        }
        return colors;
    }
}
