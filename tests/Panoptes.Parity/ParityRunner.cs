using System.Globalization;
using System.Reflection;

namespace Panoptes.Parity;

public enum CaseStatus
{
    Pass,
    Fail,

    /// <summary>No adapter answers this architecture and call yet.</summary>
    None,
}

/// <summary>What came of one case: the largest error beside the tolerance, and what was wrong, a line each.</summary>
public sealed record CaseResult(string Area, string Name, CaseStatus Status, double Error, double Tolerance, IReadOnlyList<string> Faults)
{
    public override string ToString() => string.Create(CultureInfo.InvariantCulture,
        $"{Status.ToString().ToUpperInvariant()}  {Area}/{Name}  error={Error:G3} tolerance={Tolerance:G3}{string.Concat(Faults.Select(static f => $"\n      {f}"))}");
}

/// <summary>Runs golden cases and layouts through the adapters of this assembly; the console program and the tests call the same code.</summary>
public static class ParityRunner
{
    static readonly Lazy<IReadOnlyList<IAdapter>> Adapters = new(Make<IAdapter>);
    static readonly Lazy<IReadOnlyList<ILayoutAdapter>> LayoutAdapters = new(Make<ILayoutAdapter>);

    /// <summary>Runs whatever <paramref name="path"/> is: a case's folder, or a layout's file.</summary>
    public static CaseResult Run(string path) => File.Exists(path)
        ? RunLayout(ParityLayout.TryLoad(path) ?? throw new PanoptesException($"{path} is not a layout."))
        : RunCase(path);

    /// <summary>Every case folder and layout file at or below <paramref name="folder"/>, in order of name.</summary>
    /// <exception cref="PanoptesException">There is no such folder.</exception>
    public static IReadOnlyList<string> Find(string folder)
    {
        if (File.Exists(folder)) return [folder];
        if (!Directory.Exists(folder)) throw new PanoptesException($"{folder} does not exist; expected a folder with case.json below it, or layouts.");
        var cases = Directory.EnumerateFiles(folder, "case.json", SearchOption.AllDirectories).Select(static f => Path.GetDirectoryName(f)!).ToHashSet(StringComparer.Ordinal);
        var layouts = Directory.EnumerateFiles(folder, "*.json", SearchOption.AllDirectories)
            .Where(f => !Below(cases, f) && ParityLayout.TryLoad(f) is not null);
        return [.. cases.Concat(layouts).Order(StringComparer.Ordinal)];

        static bool Below(HashSet<string> cases, string file)
        {
            for (var d = Path.GetDirectoryName(file); d is not null; d = Path.GetDirectoryName(d))
                if (cases.Contains(d)) return true;
            return false;
        }
    }

    static CaseResult RunLayout(ParityLayout layout)
    {
        var adapters = LayoutAdapters.Value.Where(a => a.Matches(layout)).ToArray();
        if (adapters.Length == 0) return new("layouts", layout.Name, CaseStatus.None, 0, 0, []);
        try
        {
            return layout.Compare(adapters[0]);
        }
        catch (Exception e)                                                          // whatever a model throws is this case's failure
        {
            return new("layouts", layout.Name, CaseStatus.Fail, double.NaN, 0, [Describe(e)]);
        }
    }

    static CaseResult RunCase(string folder)
    {
        using var c = ParityCase.Load(folder);
        var adapters = Adapters.Value.Where(a => a.Matches(c)).ToArray();
        if (adapters.Length == 0) return new(c.Area, c.Name, CaseStatus.None, 0, c.Tolerance, []);
        if (adapters.Length > 1)
            return new(c.Area, c.Name, CaseStatus.Fail, double.NaN, c.Tolerance, [$"several adapters match: {string.Join(", ", adapters.Select(static a => a.GetType().Name))}"]);
        var faults = new List<string>();
        var seen = new HashSet<string>(StringComparer.Ordinal);
        var largest = 0.0;
        try
        {
            using var scope = NewDisposeScope();
            foreach (var (name, ours) in adapters[0].Run(c))
            {
                if (!c.HasOutput(name)) continue;                                    // adapters may offer more than a case asks
                seen.Add(name);
                var theirs = c.Output(name);
                if (!ours.shape.AsSpan().SequenceEqual(theirs.shape))
                {
                    faults.Add($"{name} has shape [{string.Join(", ", ours.shape)}], expected [{string.Join(", ", theirs.shape)}]");
                    continue;
                }
                var error = Error(ours, theirs);
                if (!(error <= c.Tolerance)) faults.Add(string.Create(CultureInfo.InvariantCulture, $"{name}: error {error:G3}"));
                largest = double.IsNaN(error) || double.IsNaN(largest) ? double.NaN : Math.Max(largest, error);
            }
        }
        catch (Exception e)                                                          // whatever a model throws is this case's failure
        {
            faults.Add(Describe(e));
        }
        var missing = c.OutputNames.Where(n => !seen.Contains(n)).Order(StringComparer.Ordinal).ToArray();
        if (missing.Length > 0) faults.Add($"not produced: {string.Join(", ", missing)}");
        return new(c.Area, c.Name, faults.Count == 0 ? CaseStatus.Pass : CaseStatus.Fail, largest, c.Tolerance, faults);
    }

    /// <summary>The largest |ours - theirs| / max(1, |theirs|); NaN where only one side is not a number.</summary>
    public static double Error(Tensor ours, Tensor theirs)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        if (theirs.numel() == 0) return 0;
        var a = Plain(ours);
        var b = Plain(theirs);
        var difference = (a - b).abs() / b.abs().clamp(min: 1);
        // Equal infinities differ by NaN, and a NaN on both sides is agreement.
        difference = where(a.eq(b).logical_or(a.isnan().logical_and(b.isnan())), zeros_like(difference), difference);
        return difference.max().item<double>();

        static Tensor Plain(Tensor t) => (t.is_complex() ? view_as_real(t.detach()) : t.detach()).cpu().to(ScalarType.Float64);
    }

    static IReadOnlyList<T> Make<T>() => [.. Assembly.GetExecutingAssembly().GetTypes()
        .Where(static t => typeof(T).IsAssignableFrom(t) && t is { IsClass: true, IsAbstract: false })
        .OrderBy(static t => t.FullName, StringComparer.Ordinal)
        .Select(static t => (T)Activator.CreateInstance(t)!)];

    static string Describe(Exception e)
    {
        while (e is TargetInvocationException { InnerException: { } inner }) e = inner;
        return e is PanoptesException ? e.Message : e.ToString();
    }
}
