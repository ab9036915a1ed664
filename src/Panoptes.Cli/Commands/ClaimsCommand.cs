using System.CommandLine;
using Panoptes.Checkpoints;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>The ledger of claims: what papers say and what was measured here.</summary>
sealed class ClaimsCommand : ExampleCommand
{
    static readonly Option<string> Ledger = new("--ledger") { Description = "The ledger's folder.", HelpName = "DIR", DefaultValueFactory = static _ => "claims", Recursive = true };

    public ClaimsCommand() : base("claims", "Print what papers claim and what was measured here, held or not; or measure again.", """
        panoptes claims
        panoptes claims run clip-zero-shot
        panoptes claims readme
        panoptes claims --json
        """)
    {
        Add(Ledger);
        SetAction(List);
        Add(new RunCommand());
        Add(new ReadmeCommand());
    }

    static int List(ParseResult parsed)
    {
        var terminal = new Terminal(parsed);
        Print(terminal, Claim.LoadAll(parsed.GetValue(Ledger)!));
        return App.Success;
    }

    static void Print(Terminal terminal, IReadOnlyList<Claim> claims)
    {
        if (terminal.IsJson)
        {
            terminal.WriteJson(claims);
            return;
        }
        var table = Terminal.Table("Claim", "What the paper says", "Measured here", "Verdict");
        foreach (var claim in claims) table.AddRow(Markup.Escape(claim.Name), Markup.Escape($"{claim.Statement} ({claim.Paper})"), Markup.Escape(string.Join("; ", claim.Measures)), claim.Verdict);
        terminal.Write(table);
    }

    sealed class RunCommand : ExampleCommand
    {
        readonly Argument<string> name = new("NAME") { Description = "The claim to measure." };

        readonly Option<string> runs = new("--runs") { Description = "Where what is trained for it is kept.", HelpName = "DIR", DefaultValueFactory = static _ => Path.Combine("runs", "claims") };

        readonly Option<bool> restart = new("--restart") { Description = "Start over instead of going on with a measurement that was interrupted." };

        public RunCommand() : base("run", "Measure a claim again and write the numbers into the ledger.", """
            panoptes claims run clip-zero-shot
            panoptes claims run flip --restart
            """)
        {
            Add(name);
            Add(runs);
            Add(restart);
            SetAction(RunAsync);
        }

        async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
        {
            var terminal = new Terminal(parsed);
            var (folder, wanted) = (parsed.GetValue(Ledger)!, parsed.GetRequiredValue(name));
            var claims = Claim.LoadAll(folder);
            var claim = claims.FirstOrDefault(c => c.Name == wanted)
                ?? throw new PanoptesException($"The ledger in {folder} has no claim {wanted}; it has {string.Join(", ", claims.Select(static c => c.Name))}.");
            var kept = parsed.GetValue(runs)!;
            if (parsed.GetValue(restart)) new ClaimTrials(claim, Path.Combine(kept, claim.Name)).Restart();
            claim = await claim.MeasureAsync(kept, terminal.Note, parsed.InvocationConfiguration.Error, cancel);
            claim.Save(folder);
            Print(terminal, [claim]);
            return App.Success;
        }
    }

    sealed class ReadmeCommand : ExampleCommand
    {
        readonly Argument<string> document = new("FILE") { Description = "The Markdown file.", DefaultValueFactory = static _ => "README.md" };

        public ReadmeCommand() : base("readme", "Write the ledger as a table into a Markdown file, between the two comments that mark its place.", "panoptes claims readme README.md")
        {
            Add(document);
            SetAction(parsed =>
            {
                var path = parsed.GetRequiredValue(document);
                var text = ModelFolder.ReadText(path);
                var with = Claim.PutIntoDocument(Claim.LoadAll(parsed.GetValue(Ledger)!), text, path);
                if (with != text) AtomicFile.WriteText(path, with);
                new Terminal(parsed).Note(with != text ? $"{path} holds the ledger of today." : $"{path} holds the ledger already.");
                return App.Success;
            });
        }
    }
}
