using System.Globalization;
using System.Text;
using Panoptes.Checkpoints;
using Panoptes.Imaging;

namespace Panoptes.Cli;

/// <summary>The pages of methods, Markdown files of one folder: in each the blocks between <c>&lt;!-- claim: NAME --&gt;</c> and <c>&lt;!-- claim end --&gt;</c> say what the ledger says, figure included.</summary>
static class ClaimPages
{
    const string Begins = "<!-- claim: ", Closes = " -->", Ends = "<!-- claim end -->";

    /// <summary>Where a page's figures are, beside it.</summary>
    public const string Images = "images";

    /// <summary>The file name of a claim's figure.</summary>
    public static string Figure(string claim) => $"claim-{claim}.png";

    /// <summary>Fills the blocks of all pages and draws the figures that they show; files that say so already are left alone.</summary>
    /// <returns>The files that changed, and the claims that no page shows.</returns>
    /// <exception cref="PanoptesException">There is no such folder, a block is damaged, or a file cannot be written.</exception>
    public static (IReadOnlyList<string> Changed, IReadOnlyList<string> WithoutPage) Fill(IReadOnlyList<Claim> claims, string folder)
    {
        if (!Directory.Exists(folder)) throw new PanoptesException($"There is no folder of pages {folder}.");
        var (changed, shown) = (new List<string>(), new HashSet<string>(StringComparer.Ordinal));
        foreach (var path in Directory.GetFiles(folder, "*.md").Order(StringComparer.Ordinal))
        {
            var text = ModelFolder.ReadText(path);
            var filled = PutIntoPage(claims, text, path, shown);
            if (filled == text) continue;
            AtomicFile.WriteText(path, filled);
            changed.Add(path);
        }
        changed.AddRange(Draw([.. claims.Where(c => c.IsMeasured && shown.Contains(c.Name))], Path.Combine(folder, Images)));
        return (changed, [.. claims.Select(static c => c.Name).Where(n => !shown.Contains(n))]);
    }

    /// <summary>Draws claims' figures into a folder; those that are there already stay as they are.</summary>
    /// <returns>The files that changed.</returns>
    /// <exception cref="PanoptesException">A claim is not measured yet, or a file cannot be written.</exception>
    public static IReadOnlyList<string> Draw(IReadOnlyList<Claim> claims, string folder)
    {
        var changed = new List<string>();
        foreach (var claim in claims)
        {
            var path = Path.Combine(folder, Figure(claim.Name));
            var bytes = ClaimFigure.Draw(claim).Encode(ImageFormat.Png);
            if (File.Exists(path) && File.ReadAllBytes(path).AsSpan().SequenceEqual(bytes)) continue;
            AtomicFile.Write(path, stream => stream.Write(bytes));
            changed.Add(path);
        }
        return changed;
    }

    /// <summary>A page with its blocks filled, everything else as it was. A mark is a line of its own.</summary>
    /// <exception cref="PanoptesException">A block has no end, or an end no beginning.</exception>
    internal static string PutIntoPage(IReadOnlyList<Claim> claims, string page, string path, ISet<string> shown)
    {
        var result = new StringBuilder();
        string? open = null;
        foreach (var line in page.Split('\n'))
        {
            var begins = line.StartsWith(Begins, StringComparison.Ordinal);
            if (begins ? open is not null || !line.EndsWith(Closes, StringComparison.Ordinal) : open is null && line == Ends) throw Damaged();
            if (begins)
            {
                open = line[Begins.Length..^Closes.Length];
                shown.Add(open);
                result.Append(line).Append('\n').Append(Block(claims.FirstOrDefault(c => c.Name == open), open));
                continue;
            }
            if (line == Ends) open = null;
            if (open is null) result.Append(line).Append('\n');
        }
        return open is null ? result.ToString(0, result.Length - 1) : throw Damaged();

        PanoptesException Damaged() => new($"{path} has a damaged block of a claim; expected a line {Begins}NAME{Closes} and below it a line {Ends}.");
    }

    static string Block(Claim? claim, string name)
    {
        var run = $"\n    panoptes claims run {name}\n";
        if (claim is null) return $"*Not measured yet: the ledger has no claim `{name}`.*\n";
        var block = new StringBuilder($"> {Line(claim.Statement)} ({Line(claim.Paper)})\n\n");
        if (!claim.IsMeasured)
        {
            block.Append(CultureInfo.InvariantCulture, $"*Not measured yet.* What will be, and what it must reach for the claim to hold:\n\n");
            foreach (var measure in claim.Measures) block.Append(CultureInfo.InvariantCulture, $"- {Line(measure.Name)}{(measure.IsBounded ? $": {measure.Bounds}" : "")}\n");
            return block.Append(claim.Note is { } remark ? $"\n{Line(remark)}\n" : "").Append(run).ToString();
        }
        var hasSeeds = claim.Measures.Any(static m => m.Values is not null);
        block.Append(CultureInfo.InvariantCulture, $"**{char.ToUpperInvariant(claim.Verdict[0])}{claim.Verdict[1..]}.** {claim.Circumstances}.\n\n| Measured | Value |{(hasSeeds ? " By seed |" : "")} Expected | Outcome |\n|---|---|{(hasSeeds ? "---|" : "")}---|---|\n");
        var compared = claim.SideBySide;
        foreach (var measure in claim.Measures.Except(compared.SelectMany(static row => row.Value)))
            block.Append(CultureInfo.InvariantCulture, $"| {Cell(measure.Name)}{(measure.Over is null ? "" : $" ({measure.Compared ?? "difference"})")} | {measure.Number} |{(hasSeeds ? $" {string.Join(", ", (measure.Values ?? []).Select(ClaimMeasure.Short))} |" : "")} {measure.Bounds} | {(measure.IsBounded ? measure.Outcome.InWords() : "")} |\n");
        if (compared.Count > 0)
        {
            string[] columns = [.. compared.Values.SelectMany(static row => row.Select(static m => m.Quantity!)).Distinct(StringComparer.Ordinal)];
            block.Append(CultureInfo.InvariantCulture, $"\n| |{string.Concat(columns.Select(static c => $" {Cell(c)} |"))}\n|---|{string.Concat(Enumerable.Repeat("---|", columns.Length))}\n");
            foreach (var (arm, row) in compared) block.Append(CultureInfo.InvariantCulture, $"| {Cell(arm)} |{string.Concat(columns.Select(c => $" {row.FirstOrDefault(m => m.Quantity == c)?.Number} |"))}\n");
            if (hasSeeds) block.Append(CultureInfo.InvariantCulture, $"\nMeans and standard deviations over the seeds; each seed's numbers are in `claims/{name}.json`.\n");
        }
        block.Append(CultureInfo.InvariantCulture, $"\n![What was measured for the claim {name}]({Images}/{Figure(name)})\n");
        return block.Append(claim.Note is { } note ? $"\n{Line(note)}\n" : "").Append(run).ToString();

        static string Line(string text) => text.ReplaceLineEndings(" ");

        static string Cell(string text) => Line(text).Replace("|", "\\|", StringComparison.Ordinal);
    }
}
