using System.CommandLine;
using System.Globalization;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>The ledger of claims: what papers say and what was measured here.</summary>
sealed class ClaimsCommand : ExampleCommand
{
    static readonly Option<string> Ledger = new("--ledger") { Description = "The ledger's folder.", HelpName = "DIR", DefaultValueFactory = static _ => "claims", Recursive = true };

    public ClaimsCommand() : base("claims", "Print what papers claim and what was measured here, held or not; or measure again.", """
        panoptes claims
        panoptes claims run clip-zero-shot
        panoptes claims --json
        """)
    {
        Add(Ledger);
        SetAction(List);
        Add(new RunCommand());
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
        foreach (var claim in claims) table.AddRow(Markup.Escape(claim.Name), Markup.Escape($"{claim.Statement} ({claim.Paper})"), Markup.Escape(Numbers(claim)), claim.Verdict);
        terminal.Write(table);
    }

    /// <summary>The measures of a claim with what each had to reach.</summary>
    internal static string Numbers(Claim claim) => string.Join("; ", claim.Measures.Select(static m => string.Create(CultureInfo.InvariantCulture,
        $"{m.Name} {(m.Value is { } v ? v.ToString("0.####", CultureInfo.InvariantCulture) : "–")}{(m.AtLeast is { } low ? $" (at least {low:0.####})" : "")}{(m.AtMost is { } high ? $" (at most {high:0.####})" : "")}")));

    sealed class RunCommand : ExampleCommand
    {
        readonly Argument<string> name = new("NAME") { Description = "The claim to measure." };

        public RunCommand() : base("run", "Measure a claim again and write the numbers into the ledger.", "panoptes claims run clip-zero-shot")
        {
            Add(name);
            SetAction(RunAsync);
        }

        async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
        {
            var terminal = new Terminal(parsed);
            var (folder, wanted) = (parsed.GetValue(Ledger)!, parsed.GetRequiredValue(name));
            var claims = Claim.LoadAll(folder);
            var claim = claims.FirstOrDefault(c => c.Name == wanted)
                ?? throw new PanoptesException($"The ledger in {folder} has no claim {wanted}; it has {string.Join(", ", claims.Select(static c => c.Name))}.");
            terminal.Note($"Running panoptes {string.Join(' ', claim.Command)}");
            claim = await claim.MeasureAsync(parsed.InvocationConfiguration.Error, cancel);
            claim.Save(folder);
            Print(terminal, [claim]);
            return App.Success;
        }
    }
}
