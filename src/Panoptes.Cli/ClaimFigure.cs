using System.Globalization;
using Panoptes.Evaluation;
using Panoptes.Imaging;

namespace Panoptes.Cli;

/// <summary>The picture of a claim, from what the ledger holds alone: a panel for each quantity that its measures are of.</summary>
static class ClaimFigure
{
    /// <exception cref="PanoptesException">The claim is not measured yet.</exception>
    public static Image Draw(Claim claim)
    {
        if (!claim.IsMeasured) throw new PanoptesException($"The claim {claim.Name} is not measured yet: panoptes claims run {claim.Name}.");
        return new DotPlot
        {
            Title = $"{claim.Name}: {claim.Verdict}",
            Subtitle = $"{claim.Statement} ({claim.Paper})",
            Footer = $"{Legend(claim)} {claim.Circumstances}.",
            Panels = Panels(claim),
            Plots = [.. claim.Measures.Where(static m => m.Fit == "exponent").Select(m => Law(claim, m)).OfType<Plot>()],
        }.Render();
    }

    static string Legend(Claim claim) => string.Join(' ', (string[])
    [
        .. claim.Measures.Any(static m => m.Values is not null) ? ["A dot is a seed, a bar the mean, a whisker the standard deviation."] : Array.Empty<string>(),
        .. claim.Measures.Any(static m => m.IsBounded) ? ["A flag points to where the claim holds."] : Array.Empty<string>(),
    ]);

    /// <summary>
    /// Measures of one quantity and one kind share an axis; what is named without a quantity (<c>by chance</c>) joins what stands before it, unless one are shares and the other are not;
    /// all that is said of power laws stands together. What several arms tell alike comes last, the arms below each other.
    /// </summary>
    static List<DotPanel> Panels(Claim claim)
    {
        var panels = new List<(string Kind, string Title, List<DotRow> Rows)>();
        ClaimMeasure[] alike = [.. claim.SideBySide.Values.SelectMany(static row => row)];
        foreach (var measure in claim.Measures.Except(alike))
        {
            var kind = measure.Fit is { } fit ? fit == "r2" ? "R²" : fit : measure.Over is null ? "" : measure.Compared ?? "difference";
            var colon = measure.Name.IndexOf(": ", StringComparison.Ordinal);
            var quantity = colon < 0 ? null : measure.Name[(colon + 2)..];
            var at = measure.Fit is not null ? panels.FindIndex(p => p.Kind == kind) : quantity is null
                ? panels.Count > 0 && panels[^1].Kind == kind && panels[^1].Rows.All(r => IsShare(r.Values[0]) == IsShare(measure.Value!.Value)) ? panels.Count - 1 : -1
                : panels.FindIndex(p => p.Kind == kind && p.Title == quantity);
            if (at < 0)
            {
                at = panels.Count;
                panels.Add((kind, quantity ?? "", []));
            }
            panels[at].Rows.Add(Row(measure, colon < 0 ? measure.Name : measure.Name[..colon]));
        }
        foreach (var group in alike.GroupBy(static m => m.Quantity!, StringComparer.Ordinal)) panels.Add(("", group.Key, [.. group.Select(static m => Row(m, m.Arm!))]));
        return [.. panels.Select(static p => new DotPanel(p.Kind.Length == 0 ? p.Title : p.Title.Length == 0 ? p.Kind : $"{p.Title} ({p.Kind})", p.Rows) { Baseline = p.Kind == "ratio" ? 1 : 0 })];
    }

    /// <summary>The errors that a power law is laid through, those of every seed, and the law through their means; null where the ledger does not hold them.</summary>
    static Plot? Law(Claim claim, ClaimMeasure law)
    {
        var points = law.Against!.Select(p => (Size: p.Value, Errors: claim.Measures.FirstOrDefault(m => m.Arm == p.Key && m.Over is null && m.Path == law.Path) is { Value: { } value } own
            ? (own.Values ?? [value]).Select(static v => 1 - v).ToArray() : null)).Where(static p => p.Errors is not null).OrderBy(static p => p.Size).ToArray();
        if (points.Length < 2 || points.Any(static p => p.Errors!.Average() <= 0)) return null;
        double[] sizes = [.. points.Select(static p => p.Size)];
        var fit = PowerLaw.Fit(sizes, [.. points.Select(static p => p.Errors!.Average())]);
        return new()
        {
            Title = law.Name.Replace("exponent of ", "", StringComparison.Ordinal),
            XLabel = law.Name.Split(" in ")[^1],
            YLabel = "error",
            LogX = true,
            LogY = true,
            Curves =
            [
                new("every seed", [.. points.SelectMany(static p => p.Errors!.Select(_ => p.Size))], [.. points.SelectMany(static p => p.Errors!)]) { HasLine = false },
                new(string.Create(CultureInfo.InvariantCulture, $"{fit.Factor:0.##} · x^{fit.Exponent:0.###}"), sizes, [.. sizes.Select(fit.At)]),
            ],
        };
    }

    static bool IsShare(double value) => Math.Abs(value) <= 1;

    static DotRow Row(ClaimMeasure measure, string label) => new(label, measure.Values ?? [measure.Value!.Value])
    {
        Spread = measure.Spread,
        AtLeast = measure.AtLeast,
        AtMost = measure.AtMost,
        Text = measure.Number,
        Note = measure.IsBounded ? string.Create(CultureInfo.InvariantCulture, $"{measure.Bounds}: {measure.Outcome.InWords()}") : "",
        Tone = !measure.IsBounded ? DotTone.Plain : measure.Outcome switch { ClaimOutcome.Held => DotTone.Good, ClaimOutcome.NotHeld => DotTone.Bad, _ => DotTone.Unclear },
    };
}
