using System.CommandLine;
using System.Diagnostics;

namespace Panoptes.Cli.Tests;

/// <summary>Help, wrong usage and completion of every command.</summary>
public sealed class UsageTests
{
    public static TheoryData<string> Commands => [.. Paths(App.BuildTree(), "")];

    static IEnumerable<string> Paths(System.CommandLine.Command command, string path) =>
        command.Subcommands.SelectMany(c => Paths(c, $"{path} {c.Name}".Trim()).Prepend($"{path} {c.Name}".Trim()));

    [Theory, MemberData(nameof(Commands))]
    public async Task Every_command_has_help_with_a_worked_example(string path)
    {
        var help = await Command.Succeeds([.. path.Split(' '), "--help"]);
        Assert.Equal("", help.Error);
        var examples = help.Output[help.Output.IndexOf("Examples:", StringComparison.Ordinal)..].Split('\n').Skip(1).Select(static l => l.Trim()).Where(static l => l.Length > 0).ToArray();
        Assert.NotEmpty(examples);
        Assert.Contains(examples, e => e.StartsWith($"panoptes {path}", StringComparison.Ordinal));
        foreach (var option in (string[])["--json", "--device", "--precision", "--threads"]) Assert.Contains(option, help.Output, StringComparison.Ordinal);
    }

    [Theory, MemberData(nameof(Commands))]
    public async Task Every_example_can_be_parsed(string path)
    {
        var help = await Command.Succeeds([.. path.Split(' '), "--help"]);
        var root = App.BuildTree();
        foreach (var line in help.Output[help.Output.IndexOf("Examples:", StringComparison.Ordinal)..].Split('\n').Select(static l => l.Trim()))
            if (line.StartsWith("panoptes ", StringComparison.Ordinal))
                Assert.True(root.Parse(line["panoptes ".Length..].Split(" >")[0]).Errors.Count == 0, line);
    }

    [Fact]
    public async Task The_program_alone_tells_its_commands_and_its_version()
    {
        var help = await Command.Succeeds("--help");
        Assert.All(App.BuildTree().Subcommands, c => Assert.Contains(c.Name, help.Output, StringComparison.Ordinal));
        Assert.Matches(@"^\d+\.\d+\.\d+", (await Command.Succeeds("--version")).Output);
    }

    [Theory]
    [InlineData("serach", "'serach' is no command")]
    [InlineData("search")]
    [InlineData("search . x --top 0", "--top is 0")]
    [InlineData("search . x --top many")]
    [InlineData("search . --sheet s.png", "--sheet needs something to look for")]
    [InlineData("search . x --no-update --reindex", "contradict")]
    [InlineData("search . x --colour red", "--colour")]
    [InlineData("classify")]
    [InlineData("classify a.png", "No labels")]
    [InlineData("classify a.png --labels ,", "lists no label")]
    [InlineData("classify a.png --labels a --labels-file b", "both given")]
    [InlineData("classify a.png --labels a --template photo", "no {}")]
    [InlineData("classify a.png --labels a --precision float8", "float8")]
    [InlineData("classify a.png --labels a --threads 0", "--threads is 0")]
    [InlineData("embed --text a")]
    [InlineData("embed a.png --out x.csv", "--out is 'x.csv'; expected a name that ends in .parquet, .npy or .safetensors.")]
    [InlineData("embed a.png --text a --out x.npy", "both given")]
    [InlineData("search . x --sheet found.gif", "--sheet is 'found.gif'; expected a name that ends in .png, .jpg, .jpeg or .webp.")]
    [InlineData("search nowhere x --device gpu", "--device is 'gpu'")]
    [InlineData("info --device cuda:one", "--device is 'cuda:one'")]
    [InlineData("search . ", "An argument is empty.")]
    [InlineData("convert a --out ", "An argument is empty.")]
    [InlineData("train ", "An argument is empty.")]
    [InlineData("generate a --out ", "An argument is empty.")]
    [InlineData("generate  --model m --out ", "An argument is empty.")]
    [InlineData("train r.yaml --device cuda", "Training runs on the processor")]
    [InlineData("train r.yaml --precision float16", "float16")]
    [InlineData("evaluate --confusion c.gif", "--confusion is 'c.gif'")]
    [InlineData("evaluate --data d --task retrieval --confusion c.png", "retrieval alone")]
    [InlineData("evaluate --side 64", "--side goes with --recipe only")]
    [InlineData("evaluate --recipe r.yaml --data emoji", "--data does not go with --recipe")]
    [InlineData("evaluate --recipe r.yaml --side 0", "--side is 0")]
    [InlineData("explain", "No image was named")]
    [InlineData("explain a.png --recipe r.yaml", "IMAGE does not go with --recipe")]
    [InlineData("explain --recipe r.yaml --text cat", "--text does not go with --recipe")]
    [InlineData("evaluate --neighbors 0", "--neighbors is 0")]
    [InlineData("evaluate --task magic", "magic")]
    [InlineData("data build emoji --size 4", "--size is 4")]
    [InlineData("data shards a b --samples 0", "--samples is 0")]
    [InlineData("classify a.png --labels-file nowhere --template photo", "no {}")]
    [InlineData("embed --out x.npy", "Nothing to embed")]
    [InlineData("pull")]
    [InlineData("pull name", "'name' is no hub id")]
    [InlineData("pull ../../etc", "no hub id")]
    [InlineData("convert a")]
    [InlineData("convert a --out b --to keras", "keras")]
    [InlineData("convert a --out b.safetensors --to hf", "must be a folder")]
    [InlineData("convert a --out b --shard-size huge", "--shard-size is 'huge'")]
    [InlineData("data")]
    [InlineData("data build cifar", "cifar")]
    [InlineData("completion csh", "csh")]
    public async Task Wrong_usage_gives_two_lines_and_exit_code_2(string line, string expected = "")
    {
        var result = await Command.Run(line.Split(' '));
        Assert.Equal((App.WrongUsage, ""), (result.Code, result.Output));
        var lines = result.Error.TrimEnd('\n').Split('\n');
        Assert.Equal(2, lines.Length);
        Assert.StartsWith("panoptes: ", lines[0], StringComparison.Ordinal);
        Assert.Contains(expected, lines[0], StringComparison.Ordinal);
        Assert.StartsWith("Try 'panoptes", lines[1], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("bash")]
    [InlineData("zsh")]
    [InlineData("fish")]
    [InlineData("pwsh")]
    public async Task Completion_prints_a_script_for_the_shell(string shell)
    {
        var script = (await Command.Succeeds("completion", shell)).Output;
        Assert.Contains("[suggest:", script, StringComparison.Ordinal);
        if (shell != "bash" || !File.Exists("/bin/bash")) return;
        // The real shell takes it, and asks the program (a stand-in here) what may follow.
        using var bash = Process.Start(new ProcessStartInfo("/bin/bash", ["-c", script + """

            panoptes() { printf 'search\nsettings\nclassify\n'; }
            COMP_WORDS=(panoptes se); COMP_CWORD=1; COMP_LINE='panoptes se'; COMP_POINT=11
            _panoptes; echo "${COMPREPLY[@]}"
            """]) { RedirectStandardOutput = true })!;
        Assert.Equal("search settings", (await bash.StandardOutput.ReadToEndAsync()).Trim());
        await bash.WaitForExitAsync();
        Assert.Equal(0, bash.ExitCode);
    }

    [Theory]
    [InlineData("panoptes gr", "ground")]
    [InlineData("panoptes caption --detail p", "paragraph")]
    [InlineData("panoptes se", "search")]
    [InlineData("panoptes search . --pre", "--precision")]
    [InlineData("panoptes classify --precision b", "bfloat16")]
    [InlineData("panoptes data build ", "emoji")]
    public async Task Completion_suggests_what_may_follow(string line, string expected) =>
        Assert.Contains(expected, (await Command.Succeeds($"[suggest:{line.Length}]", line)).Output.Split('\n').Select(static l => l.Trim()));
}
