using System.Globalization;
using System.Text.RegularExpressions;
using Panoptes.Imaging;
using Spectre.Console;

namespace Panoptes.Cli.Tests;

public sealed partial class TerminalPictureTests
{
    static readonly Image Picture = Colors();

    /// <summary>A red and a blue half, of which 216 colors have both.</summary>
    static Image Colors()
    {
        var image = new Image(8, 8, 3);
        for (var i = 0; i < 64; i++) image.Pixels[(i * 3) + (i % 8 < 4 ? 0 : 2)] = 255;
        return image;
    }

    static string Written(PictureProtocol protocol, int columns)
    {
        using var text = new StringWriter();
        var console = AnsiConsole.Create(new() { Out = new AnsiConsoleOutput(text), Ansi = AnsiSupport.Yes, ColorSystem = ColorSystemSupport.TrueColor, Interactive = InteractionSupport.No });
        console.Write(new TerminalPicture(Picture, protocol, columns));
        return text.ToString();
    }

    [Fact]
    public void Half_blocks_show_two_pixels_a_character()
    {
        var text = Written(PictureProtocol.Blocks, 8);
        Assert.Equal(4, text.Count(static c => c == '\n'));
        Assert.Equal(32, text.Count(static c => c == '▀'));
        Assert.Contains("38;2;255;0;0;48;2;255;0;0", text, StringComparison.Ordinal);
        Assert.Contains("38;2;0;0;255;48;2;0;0;255", text, StringComparison.Ordinal);
    }

    [Fact]
    public void A_PNG_goes_to_kitty_in_parts_over_as_many_cells()
    {
        var noise = new Image(200, 100, 3);
        new Random(1).NextBytes(noise.Pixels);
        var parts = KittyPart().Matches(TerminalPicture.Kitty(noise, 20, 5));
        Assert.True(parts.Count > 2);
        Assert.Contains("a=T", parts[0].Groups[1].Value, StringComparison.Ordinal);
        Assert.Contains("c=20,r=5", parts[0].Groups[1].Value, StringComparison.Ordinal);
        Assert.All(parts, p => Assert.EndsWith(p == parts[^1] ? "m=0" : "m=1", p.Groups[1].Value, StringComparison.Ordinal));
        Assert.Equal(noise.Pixels, Image.Decode(Convert.FromBase64String(string.Concat(parts.Select(static p => p.Groups[2].Value)))).Pixels);
    }

    [Fact]
    public void Sixels_have_the_colors_where_the_picture_has_them()
    {
        var read = ReadSixels(TerminalPicture.Sixel(Picture));
        for (var y = 0; y < 8; y++)
            for (var x = 0; x < 8; x++) Assert.Equal(x < 4 ? "100;0;0" : "0;0;100", read[(x, y)]);
    }

    [Fact]
    public void Room_is_made_before_the_picture_comes()
    {
        var text = Written(PictureProtocol.Sixel, 8);
        Assert.StartsWith(string.Concat(Enumerable.Repeat(Environment.NewLine, 4)) + "\e7\e[4A\r\ePq", text, StringComparison.Ordinal);
        Assert.EndsWith("\e8", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("xterm-kitty", null, null, nameof(PictureProtocol.Kitty))]
    [InlineData("xterm-256color", "WezTerm", null, nameof(PictureProtocol.Kitty))]
    [InlineData("foot-extra", null, null, nameof(PictureProtocol.Sixel))]
    [InlineData("xterm-kitty", null, "/tmp/tmux", nameof(PictureProtocol.Blocks))]
    [InlineData("xterm-256color", "Apple_Terminal", null, nameof(PictureProtocol.Blocks))]
    public void A_terminal_is_known_by_its_environment(string term, string? program, string? tmux, string expected) =>
        Assert.Equal(expected, TerminalPicture.Detect(name => name switch { "TERM" => term, "TERM_PROGRAM" => program, "TMUX" => tmux, _ => null }).ToString());

    static Dictionary<(int X, int Y), string> ReadSixels(string text)
    {
        var (colors, pixels) = (new Dictionary<int, string>(), new Dictionary<(int, int), string>());
        var (x, top, color) = (0, 0, 0);
        foreach (Match m in SixelToken().Matches(text[(text.IndexOf('"', StringComparison.Ordinal) + 1)..]).Skip(1))
        {
            var token = m.Value;
            if (token[0] == '#' && token.IndexOf(';', StringComparison.Ordinal) is > 0 and var at) colors[int.Parse(token.AsSpan(1, at - 1), CultureInfo.InvariantCulture)] = token[(at + 3)..];
            else if (token[0] == '#') color = int.Parse(token.AsSpan(1), CultureInfo.InvariantCulture);
            else if (token == "$") x = 0;
            else if (token == "-") (x, top) = (0, top + 6);
            else
            {
                var times = token[0] == '!' ? int.Parse(token.AsSpan(1, token.Length - 2), CultureInfo.InvariantCulture) : 1;
                for (; times > 0; times--, x++)
                    for (var bit = 0; bit < 6; bit++)
                        if (((token[^1] - '?') >> bit & 1) == 1) pixels[(x, top + bit)] = colors[color];
            }
        }
        return pixels;
    }

    [GeneratedRegex(@"\x1b_G([^;]*);([^\x1b]*)\x1b\\")]
    private static partial Regex KittyPart();

    [GeneratedRegex(@"^[\d;]+|#[\d;]+|![\d]+[?-~]|[?-~$-]")]
    private static partial Regex SixelToken();
}
