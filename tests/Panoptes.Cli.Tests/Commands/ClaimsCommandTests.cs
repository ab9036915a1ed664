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

    /// <summary>Two arms whose commands are quick: how many images the set has in its styles.</summary>
    const string Arms = """
        {"name":"arms","paper":"p","statement":"s","seeds":[3,5],
         "arms":[{"name":"The one","commands":{"data":["data","info","emoji"],"list":["claims","--ledger","{run}"]}},{"name":"other","commands":{"data":["data","info","emoji"]}}],
         "measures":[{"name":"alone","arm":"other","path":"data.images","at_least":13000},
                     {"name":"ratio","arm":"The one","over":"other","compared":"ratio","path":"data.images","at_least":1.5},
                     {"name":"difference","arm":"The one","over":"other","path":"data.images","at_most":0}]}
        """;

    [Fact]
    public async Task Arms_are_measured_with_every_seed_and_an_interrupted_measurement_goes_on()
    {
        var ledger = folder["ledger"];
        Directory.CreateDirectory(ledger);
        File.WriteAllText(Path.Combine(ledger, "arms.json"), Arms);
        string[] run = ["claims", "run", "arms", "--ledger", ledger, "--runs", folder["runs"]];

        // The first arm's second command fails until its folder is there, which stands for what was trained.
        await Interrupted();
        foreach (var seed in (int[])[3, 5])
        {
            Directory.CreateDirectory(folder[$"runs/arms/the-one-{seed}"]);
            var result = await Command.Run(run);
            Assert.True(result.Code == (seed == 5 ? App.Success : App.Failed), result.Error);
        }
        var claim = (await Command.Succeeds("claims", "--ledger", ledger, "--json")).Json[0];
        Assert.Equal("partly", claim.GetProperty("verdict").GetString());
        var measures = claim.GetProperty("measures");
        Assert.Equal([13910.0, 1, 0], measures.EnumerateArray().Select(static m => m.GetProperty("value").GetDouble()));
        Assert.Equal([1.0, 1], measures[1].GetProperty("values").EnumerateArray().Select(static v => v.GetDouble()));
        Assert.Equal(0, measures[1].GetProperty("spread").GetDouble());
        Assert.True(File.Exists(folder["runs/arms/finished.json"]));

        // Finished: the next one starts anew, without what the first left.
        await Interrupted();
        Assert.False(Directory.Exists(folder["runs/arms/the-one-3"]));

        async Task Interrupted()
        {
            var result = await Command.Run(run);
            Assert.Equal(App.Failed, result.Code);
            Assert.Contains("ended with", result.Error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Arms_that_run_at_once_are_measured_as_one_after_the_other_and_one_that_fails_leaves_the_others()
    {
        var ledger = folder["ledger"];
        Directory.CreateDirectory(ledger);
        File.WriteAllText(Path.Combine(ledger, "arms.json"), Arms);
        string[] run = ["claims", "run", "arms", "--ledger", ledger, "--runs", folder["runs"], "--jobs", "2"];
        foreach (var seed in (int[])[3, 5]) Directory.CreateDirectory(folder[$"runs/arms/the-one-{seed}"]);
        File.WriteAllText(folder["runs/arms/outputs.json"], "{}");
        Directory.Delete(folder["runs/arms/the-one-5"]);
        var failed = await Command.Run(run);
        Assert.Equal(App.Failed, failed.Code);
        Assert.Contains("the-one-5` ended with 1", failed.Error, StringComparison.Ordinal);
        Assert.Contains("There is no ledger", failed.Error, StringComparison.Ordinal);
        Directory.CreateDirectory(folder["runs/arms/the-one-5"]);
        await Command.Succeeds(run);
        var measures = (await Command.Succeeds("claims", "--ledger", ledger, "--json")).Json[0].GetProperty("measures");
        Assert.Equal([13910.0, 1, 0], measures.EnumerateArray().Select(static m => m.GetProperty("value").GetDouble()));
        Assert.Equal(App.WrongUsage, (await Command.Run([.. run[..^1], "0"])).Code);
    }

    [Theory]
    [InlineData("\"seeds\":[3,5]", "\"seeds\":[]", "seeds")]
    [InlineData("\"over\":\"other\"", "\"over\":\"nobody\"", "no arm nobody")]
    [InlineData("\"compared\":\"ratio\"", "\"compared\":\"sum\"", "compares by sum")]
    [InlineData("\"seeds\"", "\"command\":[\"data\",\"info\",\"emoji\"],\"seeds\"", "both a command and arms")]
    public async Task A_claim_that_does_not_fit_together_is_told_before_anything_runs(string part, string instead, string expected)
    {
        File.WriteAllText(folder["arms.json"], Arms.Replace(part, instead, StringComparison.Ordinal));
        await Command.Fails(["claims", "run", "arms", "--ledger", folder.Path, "--runs", folder["runs"]], expected);
        Assert.False(Directory.Exists(folder["runs/arms"]));
    }

    [Fact]
    public async Task A_power_law_is_laid_through_the_errors_of_several_arms()
    {
        // An arm's command lists a ledger of one number, which stands for what was measured.
        static string Ledger(double value) => $$"""{"name":"one","paper":"p","statement":"s","command":["data"],"measures":[{"name":"m","path":"x","value":{{value.ToString(System.Globalization.CultureInfo.InvariantCulture)}} }]}""";
        var ledger = folder["ledger"];
        foreach (var (name, value) in new[] { ("a", 0.2), ("b", 0.6), ("c", 0.8) })
        {
            Directory.CreateDirectory(folder[name]);
            File.WriteAllText(Path.Combine(folder[name], "one.json"), Ledger(value));
        }
        Directory.CreateDirectory(ledger);
        string Arm(string name) => $$"""{"name":"{{name}}","commands":{"list":["claims","--ledger","{{folder[name]}}"] } }""";
        var claim = $$"""
            {"name":"law","paper":"p","statement":"s","seeds":[1],"arms":[{{Arm("a")}},{{Arm("b")}},{{Arm("c")}}],"measures":[
            {"name":"exponent","path":"list.0.measures.0.value","against":{"a":1,"b":2,"c":4},"fit":"exponent","at_most":0},
            {"name":"r2","path":"list.0.measures.0.value","against":{"a":1,"b":2,"c":4},"fit":"r2","at_least":0.9}]}
            """;
        File.WriteAllText(Path.Combine(ledger, "law.json"), claim);
        string[] run = ["claims", "run", "law", "--ledger", ledger, "--runs", folder["runs"]];
        await Command.Succeeds(run);
        var kept = (await Command.Succeeds("claims", "--ledger", ledger, "--json")).Json[0];
        Assert.Equal(-1, kept.GetProperty("measures")[0].GetProperty("value").GetDouble());                     // errors 0.8, 0.4, 0.2
        Assert.Equal(1, kept.GetProperty("measures")[1].GetProperty("value").GetDouble());
        foreach (var (part, instead, expected) in new[] { ("\"fit\":\"r2\"", "\"fit\":\"r3\"", "exponent or r2"), ("\"c\":4},\"fit\":\"r2\"", "\"d\":4},\"fit\":\"r2\"", "no arm d"), ("\"a\":1,\"b\":2,\"c\":4},\"fit\":\"r2\"", "\"a\":1,\"b\":2},\"fit\":\"r2\"", "three or more") })
        {
            File.WriteAllText(Path.Combine(ledger, "law.json"), claim.Replace(part, instead, StringComparison.Ordinal));
            await Command.Fails(run, expected);
        }
    }

    [Fact]
    public async Task A_folder_with_other_things_is_not_cleared()
    {
        File.WriteAllText(folder["arms.json"], Arms);
        Directory.CreateDirectory(folder["runs/arms"]);
        File.WriteAllText(folder["runs/arms/precious.txt"], "x");
        await Command.Fails(["claims", "run", "arms", "--ledger", folder.Path, "--runs", folder["runs"], "--restart"], "nothing was deleted");
        Assert.True(File.Exists(folder["runs/arms/precious.txt"]));
    }

    [Theory]
    [InlineData(new[] { 0.30, 0.32, 0.34 }, 0.25, ClaimOutcome.Held)]
    [InlineData(new[] { 0.30, 0.32, 0.34 }, 0.33, ClaimOutcome.Undecided)]
    [InlineData(new[] { 0.30, 0.32, 0.34 }, 0.40, ClaimOutcome.NotHeld)]
    [InlineData(new[] { 0.32 }, 0.32, ClaimOutcome.Held)]
    [InlineData(new[] { 0.32 }, 0.33, ClaimOutcome.NotHeld)]
    public void What_lies_within_the_spread_over_seeds_is_undecided(double[] values, double atLeast, object outcome)
    {
        var measure = new ClaimMeasure { Name = "m", Path = "p", AtLeast = atLeast }.With(values);
        Assert.Equal(0.32, measure.Value);
        Assert.Equal(outcome, measure.Outcome);
        if (values.Length > 1) Assert.Equal(0.02, measure.Spread!.Value, 1e-9);
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
            | `emoji` | There are many emoji. (none) | a \| b 3.25 (at least 2) | not measured | – |
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
