using System.Text.RegularExpressions;
using Panoptes.Imaging;

namespace Panoptes.Cli.Tests.Commands;

public sealed partial class ClaimPagesTests : IDisposable
{
    const string Measured = """
        {"name":"two","paper":"Somebody 2020","statement":"One is more\nthan another.","seeds":[1,2],"note":"Why.",
         "arms":[{"name":"A","commands":{"x":["data"]}},{"name":"B","commands":{"x":["data"]}}],
         "measures":[{"name":"A: share","arm":"A","path":"x.y","value":0.5,"spread":0.1,"values":[0.4,0.6]},
                     {"name":"A over B: a | b","arm":"A","over":"B","compared":"ratio","path":"x.y","at_least":1.2,"value":2,"spread":0.25,"values":[1.75,2.25]}],
         "last_run":{"date":"2026-01-02","commit":"abc","machine":"2 cores, x64","minutes":3.26}}
        """;

    const string Block = """
        > One is more than another. (Somebody 2020)

        **Held.** Measured on 2026-01-02 at commit abc, seeds 1, 2, 2 cores, x64, 3.3 minutes.

        | Measured | Value | By seed | Expected | Outcome |
        |---|---|---|---|---|
        | A: share | 0.5 ± 0.1 | 0.4, 0.6 |  |  |
        | A over B: a \| b (ratio) | 2 ± 0.25 | 1.75, 2.25 | at least 1.2 | held |

        ![What was measured for the claim two](images/claim-two.png)

        Why.

            panoptes claims run two

        """;

    readonly TemporaryFolder folder = new();

    public ClaimPagesTests()
    {
        Directory.CreateDirectory(folder["ledger"]);
        Directory.CreateDirectory(folder["docs/methods"]);
        File.WriteAllText(folder["ledger/two.json"], Measured);
        File.WriteAllText(folder["ledger/open.json"], """{"name":"open","paper":"p","statement":"S.","command":["data"],"measures":[{"name":"m","path":"x","at_most":0.25},{"name":"n","path":"y"}]}""");
    }

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task A_page_says_what_the_ledger_says_and_shows_the_figure()
    {
        File.WriteAllText(folder["docs/methods/a.md"], "# A\n<!-- claim: two -->\nold\n<!-- claim end -->\nbetween `<!-- claim: two -->` and <!-- claim end -->\n<!-- claim: open -->\n<!-- claim end -->\n<!-- claim: none -->\n<!-- claim end -->\nafter\n");
        Assert.Contains("a.md", (await Fill()).Error, StringComparison.Ordinal);
        Assert.Equal($"# A\n<!-- claim: two -->\n{Block.ReplaceLineEndings("\n")}<!-- claim end -->\nbetween `<!-- claim: two -->` and <!-- claim end -->\n<!-- claim: open -->\n"
            + "> S. (p)\n\n*Not measured yet.* What will be, and what it must reach for the claim to hold:\n\n- m: at most 0.25\n- n\n\n    panoptes claims run open\n<!-- claim end -->\n"
            + "<!-- claim: none -->\n*Not measured yet: the ledger has no claim `none`.*\n<!-- claim end -->\nafter\n", File.ReadAllText(folder["docs/methods/a.md"]));
        Assert.True(File.Exists(folder["docs/methods/images/claim-two.png"]));
        Assert.False(File.Exists(folder["docs/methods/images/claim-open.png"]));
        Assert.Contains("already", (await Fill()).Error, StringComparison.Ordinal);

        Task<Command> Fill() => Command.Succeeds("claims", "pages", folder["docs/methods"], "--ledger", folder["ledger"]);
    }

    [Fact]
    public async Task What_several_arms_tell_alike_stands_side_by_side()
    {
        static string Measure(string name, string arm, string value) => $$"""{"name":"{{name}}, {{arm}}","arm":"{{arm}}","path":"x.y","value":{{value}},"spread":0.5,"values":[0,1]}""";
        string[] measures = [.. ((string[])["FID", "KID", "recall", "seconds"]).Select(static m => Measure(m, "A", "3")), .. ((string[])["FID", "recall", "KID"]).Select(static m => Measure(m, "B | b", "4")),
            """{"name":"KID: A less B","arm":"A","over":"B | b","path":"x.y","at_most":0,"value":-1,"spread":0.25,"values":[-1.2,-0.8]}"""];
        File.WriteAllText(folder["ledger/two.json"], $$"""{"name":"two","paper":"p","statement":"S.","seeds":[1,2],"arms":[],"measures":[{{string.Join(',', measures)}}],"last_run":{"date":"2026-01-02","commit":"abc","machine":"m","minutes":1} }""");
        File.WriteAllText(folder["docs/methods/a.md"], "<!-- claim: two -->\n<!-- claim end -->\n");
        await Command.Succeeds("claims", "pages", folder["docs/methods"], "--ledger", folder["ledger"]);
        Assert.Contains("""
            | Measured | Value | By seed | Expected | Outcome |
            |---|---|---|---|---|
            | KID: A less B (difference) | -1 ± 0.25 | -1.2, -0.8 | at most 0 | held |

            | | FID | KID | recall | seconds |
            |---|---|---|---|---|
            | A | 3 ± 0.5 | 3 ± 0.5 | 3 ± 0.5 | 3 ± 0.5 |
            | B \| b | 4 ± 0.5 | 4 ± 0.5 | 4 ± 0.5 |  |

            Means and standard deviations over the seeds; each seed's numbers are in `claims/two.json`.

            """.ReplaceLineEndings("\n"), File.ReadAllText(folder["docs/methods/a.md"]), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("<!-- claim: two -->")]
    [InlineData("<!-- claim end -->\n<!-- claim: two -->")]
    [InlineData("<!-- claim: two -->\n<!-- claim: open -->\n<!-- claim end -->")]
    [InlineData("<!-- claim: two\n<!-- claim end -->")]
    public async Task A_damaged_block_is_told_and_nothing_changes(string page)
    {
        File.WriteAllText(folder["docs/methods/a.md"], page);
        await Command.Fails(["claims", "pages", folder["docs/methods"], "--ledger", folder["ledger"]], "a.md", "damaged block");
        Assert.Equal(page, File.ReadAllText(folder["docs/methods/a.md"]));
    }

    [Fact]
    public async Task A_figure_is_drawn_from_the_ledger_alone()
    {
        await Command.Succeeds("claims", "draw", "--ledger", folder["ledger"], "--out", folder["figures"]);
        Assert.Equal([folder["figures/claim-two.png"]], Directory.GetFiles(folder["figures"]));
        var figure = Image.Load(folder["figures/claim-two.png"]);
        Assert.Equal(1100, figure.Width);
        // Blue for what nothing is asked of, green for what held; white at the corners.
        Assert.Contains(Colors(figure), static c => c == (0x25, 0x63, 0xEB));
        Assert.Contains(Colors(figure), static c => c == (0x0E, 0x9F, 0x6E));
        Assert.DoesNotContain(Colors(figure), static c => c == (0xE0, 0x3E, 0x3E));
        Assert.Equal([255, 255, 255], figure.Pixels[..3].ToArray());
        await Command.Fails(["claims", "draw", "open", "--ledger", folder["ledger"], "--out", folder["figures"]], "open is not measured yet");
        await Command.Fails(["claims", "draw", "what", "--ledger", folder["ledger"], "--out", folder["figures"]], "no claim what");
    }

    [Fact]
    public async Task A_power_law_is_drawn_through_the_errors_of_its_arms()
    {
        File.WriteAllText(folder["ledger/two.json"], """
            {"name":"two","paper":"p","statement":"s","seeds":[1,2],
             "measures":[{"name":"a: top-1","arm":"a","path":"x","value":0.2,"values":[0.1,0.3]},{"name":"b: top-1","arm":"b","path":"x","value":0.6},{"name":"c: top-1","arm":"c","path":"x","value":0.8},
                         {"name":"exponent of the error in images","path":"x","against":{"a":1,"b":2,"c":4},"fit":"exponent","value":-1},{"name":"R² in images","path":"x","against":{"a":1,"b":2,"c":4},"fit":"r2","value":1}],
             "last_run":{"date":"2026-01-02","commit":"abc","machine":"m","minutes":1}}
            """);
        await Command.Succeeds("claims", "draw", "--ledger", folder["ledger"], "--out", folder["figures"]);
        var figure = Image.Load(folder["figures/claim-two.png"]);
        Assert.Contains(Colors(figure), static c => c == (0xEA, 0x58, 0x0C));                // the law's line, the second color of plots
        await Command.Succeeds("claims", "pages", folder["docs/methods"], "--ledger", folder["ledger"]);
    }

    static HashSet<(int, int, int)> Colors(Image image)
    {
        var (colors, pixels) = (new HashSet<(int, int, int)>(), image.Pixels);
        for (var i = 0; i < pixels.Length; i += 3) colors.Add((pixels[i], pixels[i + 1], pixels[i + 2]));
        return colors;
    }

    [Fact]
    public async Task The_pages_of_this_repository_hold_the_ledger_and_every_claim_has_one()
    {
        var root = Parity.Goldens.Repository;
        var (methods, ledger) = (Path.Combine(root, "docs", "methods"), Path.Combine(root, "claims"));
        Directory.CreateDirectory(folder["copy/images"]);
        foreach (var file in Directory.GetFiles(methods, "*.md")) File.Copy(file, folder[$"copy/{Path.GetFileName(file)}"]);
        foreach (var file in Directory.GetFiles(Path.Combine(methods, "images"), "claim-*.png")) File.Copy(file, folder[$"copy/images/{Path.GetFileName(file)}"]);
        var filled = await Command.Succeeds("claims", "pages", folder["copy"], "--ledger", ledger);
        Assert.False(filled.Error.Contains("No page shows", StringComparison.Ordinal), $"{filled.Error}Write the two lines of its block into docs/methods/NAME.md and run: panoptes claims pages");
        Assert.True(filled.Error.Contains("already", StringComparison.Ordinal), $"{filled.Error}The ledger has changed since; run: panoptes claims pages");
    }

    [Fact]
    public void What_the_pages_link_to_is_there()
    {
        var methods = Path.Combine(Parity.Goldens.Repository, "docs", "methods");
        foreach (var path in Directory.GetFiles(methods, "*.md"))
            foreach (Match link in Link().Matches(File.ReadAllText(path)))
                Assert.True(Path.Exists(Path.Combine(methods, link.Groups[1].Value)), $"{Path.GetFileName(path)} links to {link.Groups[1].Value}, which is not there.");
    }

    [GeneratedRegex(@"\]\((?!https?:|#)([^)#]+)")]
    private static partial Regex Link();
}
