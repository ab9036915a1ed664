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
        panoptes claims draw flip
        panoptes claims readme
        panoptes claims --json
        """)
    {
        Add(Ledger);
        SetAction(List);
        Add(new RunCommand());
        Add(new DrawCommand());
        Add(new ReadmeCommand());
        Add(new PagesCommand());
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
        foreach (var claim in claims) table.AddRow(Terminal.Escape(claim.Name), Terminal.Escape($"{claim.Statement} ({claim.Paper})"), Terminal.Escape(string.Join("; ", claim.Measures)), claim.Verdict);
        terminal.Write(table);
    }

    static Claim Find(IReadOnlyList<Claim> claims, string name, string folder) => claims.FirstOrDefault(c => c.Name == name)
        ?? throw new PanoptesException($"The ledger in {folder} has no claim {name}; it has {string.Join(", ", claims.Select(static c => c.Name))}.");

    sealed class RunCommand : ExampleCommand
    {
        readonly Argument<string> name = new("NAME") { Description = "The claim to measure." };

        readonly Option<string> runs = new("--runs") { Description = "Where what is trained for it is kept.", HelpName = "DIR", DefaultValueFactory = static _ => Path.Combine("runs", "claims") };

        readonly Option<bool> restart = new("--restart") { Description = "Start over instead of going on with a measurement that was interrupted." };

        readonly Option<int> jobs = new("--jobs", "-j") { Description = "How many arms and seeds at once, each in a process of its own with its share of the threads. On a machine that does nothing else, as many as there are cores are fastest.", HelpName = "N", DefaultValueFactory = static _ => 1 };

        public RunCommand() : base("run", "Measure a claim again and write the numbers into the ledger.", """
            panoptes claims run clip-zero-shot
            panoptes claims run flip --restart
            panoptes claims run families --jobs 4
            """)
        {
            Add(name);
            Add(runs);
            Add(restart);
            Add(jobs);
            SharedOptions.AtLeastOne(jobs);
            SetAction(RunAsync);
        }

        async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
        {
            var terminal = new Terminal(parsed);
            var (folder, wanted) = (parsed.GetValue(Ledger)!, parsed.GetRequiredValue(name));
            var claim = Find(Claim.LoadAll(folder), wanted, folder);
            var kept = parsed.GetValue(runs)!;
            if (parsed.GetValue(restart)) new ClaimTrials(claim, Path.Combine(kept, claim.Name)).Restart();
            claim = await claim.MeasureAsync(kept, parsed.GetValue(jobs), parsed.GetValue(SharedOptions.Threads), terminal.Note, parsed.InvocationConfiguration.Error, cancel);
            claim.Save(folder);
            Print(terminal, [claim]);
            return App.Success;
        }
    }

    sealed class DrawCommand : ExampleCommand
    {
        readonly Argument<string[]> names = new("NAME") { Description = "The claims to draw; all that are measured by default.", Arity = ArgumentArity.ZeroOrMore };

        readonly Option<string> output = new("--out", "-o") { Description = "The pictures' folder.", HelpName = "DIR", DefaultValueFactory = static _ => Path.Combine(Pages, ClaimPages.Images) };

        public DrawCommand() : base("draw", "Draw what was measured for claims: every seed, the spread over seeds, and what had to be reached. Nothing is measured again.", """
            panoptes claims draw
            panoptes claims draw flip slip --out figures
            """)
        {
            Add(names);
            Add(output);
            SetAction(parsed =>
            {
                var (ledger, wanted, folder) = (parsed.GetValue(Ledger)!, parsed.GetValue(names) ?? [], parsed.GetRequiredValue(output));
                var claims = Claim.LoadAll(ledger);
                Claim[] drawn = wanted.Length == 0 ? [.. claims.Where(static c => c.IsMeasured)] : [.. wanted.Select(n => Find(claims, n, ledger))];
                Tell(new(parsed), ClaimPages.Draw(drawn, folder), $"{folder} holds the figures of today.");
                return App.Success;
            });
        }
    }

    const string Pages = "docs/methods";

    static void Tell(Terminal terminal, IReadOnlyList<string> changed, string unchanged)
    {
        if (terminal.IsJson) terminal.WriteJson(new { changed });
        else terminal.Note(changed.Count == 0 ? unchanged : $"Written: {string.Join(", ", changed)}.");
    }

    sealed class PagesCommand : ExampleCommand
    {
        readonly Argument<string> folder = new("DIR") { Description = "The pages' folder.", DefaultValueFactory = static _ => Pages };

        public PagesCommand() : base("pages", "Write what the ledger says into the pages of the methods, between <!-- claim: NAME --> and <!-- claim end -->, and draw the figures that they show.", "panoptes claims pages docs/methods")
        {
            Add(folder);
            SetAction(parsed =>
            {
                var pages = parsed.GetRequiredValue(folder);
                var (changed, without) = ClaimPages.Fill(Claim.LoadAll(parsed.GetValue(Ledger)!), pages);
                var terminal = new Terminal(parsed);
                Tell(terminal, changed, $"{pages} holds the ledger already.");
                foreach (var name in without) terminal.Note($"No page shows the claim {name}.");
                return App.Success;
            });
        }
    }

    sealed class ReadmeCommand : ExampleCommand
    {
        readonly Argument<string> document = new("FILE") { Description = "The Markdown file.", DefaultValueFactory = static _ => "README.md" };

        public ReadmeCommand() : base("readme", "Write the ledger as a table into a Markdown file, between the two comments that mark its place, and into the pages in docs/methods beside it.", "panoptes claims readme README.md")
        {
            Add(document);
            SetAction(parsed =>
            {
                var path = parsed.GetRequiredValue(document);
                var text = ModelFolder.ReadText(path);
                var claims = Claim.LoadAll(parsed.GetValue(Ledger)!);
                var with = Claim.PutIntoDocument(claims, text, path);
                if (with != text) AtomicFile.WriteText(path, with);
                var pages = Path.Combine(Path.GetDirectoryName(Path.GetFullPath(path))!, Pages);
                var changed = Directory.Exists(pages) ? ClaimPages.Fill(claims, pages).Changed : [];
                Tell(new(parsed), with == text ? changed : [path, .. changed], $"{path} holds the ledger already.");
                return App.Success;
            });
        }
    }
}
