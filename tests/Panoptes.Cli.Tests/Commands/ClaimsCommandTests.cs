namespace Panoptes.Cli.Tests.Commands;

public sealed class ClaimsCommandTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task A_claim_is_measured_by_its_command_judged_by_its_bounds_and_kept()
    {
        Write("""{"name":"many","path":"images","at_least":12000},{"name":"few","path":"styles.0.count","at_most":5},{"name":"plain","path":"size"}""");
        Assert.Equal("not measured", (await Command.Succeeds("claims", "--ledger", folder.Path, "--json")).Json[0].GetProperty("verdict").GetString());
        Assert.Contains("partly", (await Command.Succeeds("claims", "run", "emoji", "--ledger", folder.Path)).Output, StringComparison.Ordinal);

        var kept = (await Command.Succeeds("claims", "--ledger", folder.Path, "--json")).Json[0];
        Assert.Equal("partly", kept.GetProperty("verdict").GetString());
        Assert.Equal(13910, kept.GetProperty("measures")[0].GetProperty("value").GetDouble());
        Assert.False(string.IsNullOrEmpty(kept.GetProperty("last_run").GetProperty("commit").GetString()));
    }

    [Fact]
    public async Task A_number_that_is_missing_or_a_command_that_fails_changes_nothing()
    {
        Write("""{"name":"none","path":"styles.99.count"}""");
        var before = File.ReadAllText(folder["emoji.json"]);
        await FailsWith("99");
        Assert.Equal(before, File.ReadAllText(folder["emoji.json"]));
        File.WriteAllText(folder["emoji.json"], before.Replace("\"data\"", "\"nothing\"", StringComparison.Ordinal));
        await FailsWith("was not measured");
        File.WriteAllText(folder["emoji.json"], "{");
        await Command.Fails(["claims", "--ledger", folder.Path], "emoji.json");
        await Command.Fails(["claims", "--ledger", folder["none"]], "none");

        async Task FailsWith(string part)
        {
            var result = await Command.Run("claims", "run", "emoji", "--ledger", folder.Path);
            Assert.Equal(App.Failed, result.Code);
            Assert.Contains(part, result.Error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task The_readme_of_this_repository_holds_the_ledger()
    {
        var root = Parity.Goldens.Repository;
        File.Copy(Path.Combine(root, "README.md"), folder["README.md"]);
        await Command.Succeeds("claims", "readme", folder["README.md"], "--ledger", Path.Combine(root, "claims"));
        Assert.Equal(File.ReadAllText(Path.Combine(root, "README.md")), File.ReadAllText(folder["README.md"]));
    }

    [Fact]
    public async Task The_table_replaces_what_is_between_its_marks_and_nothing_else()
    {
        const string begin = "<!-- claims: made by `panoptes claims readme` -->", end = "<!-- claims end -->";
        Write("""{"name":"a | b","path":"images","at_least":2,"value":3.25},{"name":"c","path":"size"}""");
        File.WriteAllText(folder["x.md"], $"before\n{begin}\nold\n{end}\nafter\n");
        await Command.Succeeds("claims", "readme", folder["x.md"], "--ledger", folder.Path);
        Assert.Equal($"""
            before
            {begin}
            | Claim | What the paper says | Measured here | Verdict | On |
            |---|---|---|---|---|
            | `emoji` | There are many emoji. (none) | a \| b 3.25 (at least 2)<br>c – | not measured | – |
            {end}
            after

            """.ReplaceLineEndings("\n"), File.ReadAllText(folder["x.md"]));
        foreach (var text in new[] { "nothing", begin, $"{end}\n{begin}", $"{begin}\n{begin}\n{end}" })
        {
            File.WriteAllText(folder["x.md"], text);
            await Command.Fails(["claims", "readme", folder["x.md"], "--ledger", folder.Path], "x.md", "no place for the claims");
            Assert.Equal(text, File.ReadAllText(folder["x.md"]));
        }
    }

    void Write(string measures) => File.WriteAllText(folder["emoji.json"],
        $$"""{"name":"emoji","paper":"none","statement":"There are many emoji.","command":["data","info","emoji"],"measures":[{{measures}}]}""");
}
