namespace Panoptes.Data;

/// <summary>In what way a sample of a data set is of no use.</summary>
public enum DataProblemKind
{
    /// <summary>The file that the row names is not there.</summary>
    MissingFile,

    /// <summary>The file is there, but is no image that can be decoded.</summary>
    BadImage,

    /// <summary>The data set has captions, but not for this image.</summary>
    NoCaption,

    /// <summary>The row itself is wrong: too few fields, a label that is no number, a path that leads out of the data's folder.</summary>
    BadRow,
}

/// <summary>One sample that was not used.</summary>
/// <param name="Kind">In what way it is of no use.</param>
/// <param name="Where">The file, or the row of a table.</param>
/// <param name="Message">One sentence that names both.</param>
public sealed record DataProblem(DataProblemKind Kind, string Where, string Message);

/// <summary>
/// What could not be used of a data set: counted by kind, each sample once however often it is met, with the first few told in full.
/// Readers and loaders share one; a command prints it with <see cref="Lines"/>. Safe for any number of threads.
/// </summary>
/// <param name="strict">Whether the first problem is an error.</param>
public sealed class DataProblems(bool strict = false)
{
    /// <summary>How many problems are kept with their sentences.</summary>
    public const int Kept = 10;

    readonly Lock gate = new();
    readonly HashSet<string> seen = new(StringComparer.Ordinal);
    readonly int[] counts = new int[Enum.GetValues<DataProblemKind>().Length];
    readonly List<DataProblem> first = [];

    /// <summary>Whether the first problem is an error.</summary>
    public bool Strict { get; } = strict;

    /// <summary>Samples that were not used.</summary>
    public int Count
    {
        get
        {
            lock (gate) return seen.Count;
        }
    }

    /// <summary>The first <see cref="Kept"/> of them, in the order in which they were met.</summary>
    public IReadOnlyList<DataProblem> First
    {
        get
        {
            lock (gate) return [.. first];
        }
    }

    /// <summary>How many there are of a kind.</summary>
    public int CountOf(DataProblemKind kind)
    {
        lock (gate) return counts[(int)kind];
    }

    /// <summary>Counts a problem, unless it was counted before.</summary>
    /// <exception cref="PanoptesException">Problems are errors (<see cref="Strict"/>).</exception>
    public void Add(DataProblem problem)
    {
        if (Strict) throw new PanoptesException(problem.Message);
        lock (gate)
        {
            if (!seen.Add(problem.Where)) return;
            counts[(int)problem.Kind]++;
            if (first.Count < Kept) first.Add(problem);
        }
    }

    /// <summary>What to tell the user: a line with the counts, the first problems, and how many more there are. Empty where all is well.</summary>
    public IReadOnlyList<string> Lines()
    {
        lock (gate)
        {
            if (seen.Count == 0) return [];
            string[] kinds = [.. Enum.GetValues<DataProblemKind>().Where(k => counts[(int)k] > 0).Select(k => $"{counts[(int)k]:N0} {Name(k, counts[(int)k])}")];
            List<string> lines = [$"{seen.Count:N0} {(seen.Count == 1 ? "sample is" : "samples are")} not used: {string.Join(", ", kinds)}."];
            lines.AddRange(first.Select(static p => p.Message));
            if (seen.Count > first.Count) lines.Add($"… and {seen.Count - first.Count:N0} more.");
            return lines;
        }
    }

    static string Name(DataProblemKind kind, int count) => (kind, count) switch
    {
        (DataProblemKind.MissingFile, 1) => "missing file",
        (DataProblemKind.MissingFile, _) => "missing files",
        (DataProblemKind.BadImage, 1) => "unreadable image",
        (DataProblemKind.BadImage, _) => "unreadable images",
        (DataProblemKind.NoCaption, 1) => "missing caption",
        (DataProblemKind.NoCaption, _) => "missing captions",
        (_, 1) => "bad row",
        _ => "bad rows",
    };
}

/// <summary>A sample that is of no use; whoever reads it counts it and goes on.</summary>
sealed class BadSampleException(DataProblemKind kind, string where, string message, Exception? inner = null) : PanoptesException(message, inner!)
{
    internal DataProblem Problem => new(kind, where, Message);
}
