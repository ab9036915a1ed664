using System.Globalization;
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
        }.Render();
    }

    static string Legend(Claim claim) => string.Join(' ', (string[])
    [
        .. claim.Measures.Any(static m => m.Values is not null) ? ["A dot is a seed, a bar the mean, a whisker the standard deviation."] : Array.Empty<string>(),
        .. claim.Measures.Any(static m => m.IsBounded) ? ["A flag points to where the claim holds."] : Array.Empty<string>(),
    ]);

    /// <summary>Measures of one quantity and one kind share an axis; what is named without a quantity (<c>by chance</c>) joins what stands before it, unless one are shares and the other are not.</summary>
    static List<DotPanel> Panels(Claim claim)
    {
        var panels = new List<(string Kind, string Title, List<DotRow> Rows)>();
        foreach (var measure in claim.Measures)
        {
            var kind = measure.Over is null ? "" : measure.Compared ?? "difference";
            var colon = measure.Name.IndexOf(": ", StringComparison.Ordinal);
            var quantity = colon < 0 ? null : measure.Name[(colon + 2)..];
            var at = quantity is null
                ? panels.Count > 0 && panels[^1].Kind == kind && panels[^1].Rows.All(r => IsShare(r.Values[0]) == IsShare(measure.Value!.Value)) ? panels.Count - 1 : -1
                : panels.FindIndex(p => p.Kind == kind && p.Title == quantity);
            if (at < 0)
            {
                at = panels.Count;
                panels.Add((kind, quantity ?? "", []));
            }
            panels[at].Rows.Add(Row(measure, colon < 0 ? measure.Name : measure.Name[..colon]));
        }
        return [.. panels.Select(static p => new DotPanel(p.Kind.Length == 0 ? p.Title : p.Title.Length == 0 ? p.Kind : $"{p.Title} ({p.Kind})", p.Rows) { Baseline = p.Kind == "ratio" ? 1 : 0 })];
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
