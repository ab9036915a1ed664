using System.Diagnostics;
using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using Panoptes.Checkpoints;

namespace Panoptes.Cli;

/// <summary>What a paper says, what measures it here, and what came out.</summary>
sealed record Claim
{
    /// <summary>The file's name without .json.</summary>
    public required string Name { get; init; }

    /// <summary>Authors, year, number.</summary>
    public required string Paper { get; init; }

    /// <summary>The paper's claim, in one sentence.</summary>
    public required string Statement { get; init; }

    /// <summary>The arguments of <c>panoptes</c> that measure it; <c>--json</c> is added. Null where several arms are compared.</summary>
    public IReadOnlyList<string>? Command { get; init; }

    /// <summary>What is compared: each is trained and measured by commands of its own, once a seed.</summary>
    public IReadOnlyList<ClaimArm>? Arms { get; init; }

    /// <summary>The seeds of every arm.</summary>
    public IReadOnlyList<ulong> Seeds { get; init; } = [];

    /// <summary>The recipe that trained what is measured, and its seed; null: nothing was trained for it.</summary>
    public string? Trained { get; init; }

    /// <summary>Which numbers of the command's output count, and what each must reach for the claim to hold.</summary>
    public required IReadOnlyList<ClaimMeasure> Measures { get; init; }

    /// <summary>What the last run was made with; null before the first.</summary>
    public ClaimRun? LastRun { get; init; }

    /// <summary>What limits it, or explains it.</summary>
    public string? Note { get; init; }

    /// <summary>
    /// From the measures: held, partly or not held; undecided where nothing fails but something lies within the spread over seeds; not measured before the first run.
    /// </summary>
    public string Verdict
    {
        get
        {
            if (!IsMeasured) return "not measured";
            ClaimOutcome[] outcomes = [.. Measures.Where(static m => m.IsBounded).Select(static m => m.Outcome)];
            if (outcomes.All(static o => o == ClaimOutcome.Held)) return "held";
            if (outcomes.Contains(ClaimOutcome.NotHeld)) return outcomes.Contains(ClaimOutcome.Held) ? "partly" : "not held";
            return "undecided";
        }
    }

    /// <summary>Whether every measure has its number.</summary>
    internal bool IsMeasured => LastRun is not null && Measures.All(static m => m.Value is not null);

    /// <summary>What is told of several arms alike and decides nothing (<c>QUANTITY, ARM</c>), by arm, so that it can stand side by side; empty where the arms have little in common.</summary>
    internal IReadOnlyDictionary<string, IReadOnlyList<ClaimMeasure>> SideBySide
    {
        get
        {
            const int fewest = 3;
            var rows = Measures.Where(static m => m.Quantity is not null).GroupBy(static m => m.Arm!, StringComparer.Ordinal).ToDictionary(static g => g.Key, static g => (IReadOnlyList<ClaimMeasure>)[.. g], StringComparer.Ordinal);
            return rows.Count > 1 && rows.Values.Select(static row => row.Select(static m => m.Quantity)).Aggregate(static (a, b) => a.Intersect(b, StringComparer.Ordinal)).Count() >= fewest ? rows : new();
        }
    }

    /// <summary>When and with what it was measured last, in words.</summary>
    internal string Circumstances => LastRun is null ? "" : string.Create(CultureInfo.InvariantCulture,
        $"Measured on {LastRun.Date} at commit {LastRun.Commit}{(Seeds.Count > 0 ? $", seeds {string.Join(", ", Seeds)}" : "")}{(Trained is null ? "" : $", trained by {Trained}")}, {LastRun.Machine}, {LastRun.Minutes:0.#} minutes");

    static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        IndentSize = 1,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        DefaultIgnoreCondition = System.Text.Json.Serialization.JsonIgnoreCondition.WhenWritingNull,
    };

    /// <summary>The ledger: every claim of a folder, by name.</summary>
    /// <exception cref="PanoptesException">There is no such folder, or a file of it is no claim.</exception>
    public static IReadOnlyList<Claim> LoadAll(string folder)
    {
        if (!Directory.Exists(folder)) throw new PanoptesException($"There is no ledger of claims in {folder}: name its folder with --ledger.");
        return [.. Directory.GetFiles(folder, "*.json").Order(StringComparer.Ordinal).Select(Load)];
    }

    static Claim Load(string path)
    {
        try
        {
            var claim = JsonSerializer.Deserialize<Claim>(ModelFolder.ReadText(path), Json) ?? throw new JsonException("it is null");
            if (claim.Name != Path.GetFileNameWithoutExtension(path)) throw new PanoptesException($"{path} names itself {claim.Name}; expected the file's own name.");
            return claim;
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"{path} is no claim: {e.Message.TrimEnd('.')}.", e);
        }
    }

    /// <summary>Writes the claim into the ledger's folder.</summary>
    public void Save(string folder) => AtomicFile.WriteText(Path.Combine(folder, Name + ".json"), JsonSerializer.Serialize(this, Json) + "\n");

    const string TableBegins = "<!-- claims: made by `panoptes claims readme` -->", TableEnds = "<!-- claims end -->";

    /// <summary>A document with the ledger as a table between its two marks, everything else as it was.</summary>
    /// <exception cref="PanoptesException">The document has not exactly these two marks.</exception>
    public static string PutIntoDocument(IReadOnlyList<Claim> claims, string document, string path)
    {
        var (begin, end) = (document.IndexOf(TableBegins, StringComparison.Ordinal), document.IndexOf(TableEnds, StringComparison.Ordinal));
        if (begin < 0 || end < begin || document.LastIndexOf(TableBegins, StringComparison.Ordinal) != begin || document.LastIndexOf(TableEnds, StringComparison.Ordinal) != end)
            throw new PanoptesException($"{path} has no place for the claims: expected one line {TableBegins} and below it one line {TableEnds}.");
        var rows = claims.Select(static c => $"| `{c.Name}` | {Cell(c.Statement)} ({Cell(c.Paper)}) | {string.Join("<br>", Shown(c).Select(static m => Cell(m.ToString())))} | {c.Verdict} | {c.LastRun?.Date ?? "–"} |\n");
        return $"{document[..begin]}{TableBegins}\n| Claim | What the paper says | Measured here | Verdict | On |\n|---|---|---|---|---|\n{string.Concat(rows)}{document[end..]}";

        // What decides; the method's page has the rest.
        static IEnumerable<ClaimMeasure> Shown(Claim claim) => claim.Measures.Any(static m => m.IsBounded) ? claim.Measures.Where(static m => m.IsBounded) : claim.Measures;

        static string Cell(string text) => text.Replace("|", "\\|", StringComparison.Ordinal).ReplaceLineEndings(" ");
    }

    /// <summary>Runs what measures it and takes the numbers.</summary>
    /// <param name="runs">Where arms keep what they train; a run that was interrupted goes on from there.</param>
    /// <param name="jobs">How many trials run at once, each in a process of its own with its share of the threads; 1: one after the other in this one.</param>
    /// <param name="threads">Threads of all of them together; null: all cores.</param>
    /// <param name="output">Is told what runs.</param>
    /// <param name="error">Gets the commands' own messages.</param>
    /// <param name="cancel">Stops; what is done stays done.</param>
    /// <exception cref="PanoptesException">A command failed, or a number is missing from its output.</exception>
    public async Task<Claim> MeasureAsync(string runs, int jobs, int? threads, Action<string> output, TextWriter error, CancellationToken cancel)
    {
        if (Command is null == Arms is null) throw new PanoptesException($"The claim {Name} has {(Command is null ? "neither a command nor" : "both a command and")} arms; expected one of them.");
        IReadOnlyList<ClaimMeasure> measured;
        double minutes;
        if (Command is not null)
        {
            var clock = Stopwatch.StartNew();
            output($"Running panoptes {string.Join(' ', Command)}");
            using var result = JsonDocument.Parse(await RunAsync(Command, error, cancel));
            measured = [.. Measures.Select(m => m.With([m.Read(result.RootElement, Name)]))];
            minutes = clock.Elapsed.TotalMinutes;
        }
        else
        {
            var trials = await new ClaimTrials(this, Path.Combine(runs, Name)).RunAsync((arguments, token) => jobs == 1 ? RunAsync(arguments, error, token) : RunApartAsync(arguments, Math.Max(1, (threads ?? Environment.ProcessorCount) / jobs), error, token), jobs, output, cancel);
            measured = [.. Measures.Select(m => m.With(trials.Values(m)))];
            minutes = trials.Minutes;
        }
        return this with
        {
            Measures = measured,
            LastRun = new()
            {
                Date = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
                Minutes = Math.Round(minutes, 2),
                Commit = Commit(),
                Machine = $"{Environment.ProcessorCount} cores, {System.Runtime.InteropServices.RuntimeInformation.OSArchitecture}".ToLowerInvariant(),
            },
        };
    }

    async Task<string> RunAsync(IReadOnlyList<string> arguments, TextWriter error, CancellationToken cancel)
    {
        using var output = new StringWriter(CultureInfo.InvariantCulture);
        var code = await App.RunAsync([.. arguments, "--json"], output, error, cancel);
        cancel.ThrowIfCancellationRequested();
        return code == App.Success ? output.ToString() : throw new PanoptesException($"The claim {Name} was not measured: `panoptes {string.Join(' ', arguments)}` ended with {code}.");
    }

    /// <summary>The same in a process of its own.</summary>
    async Task<string> RunApartAsync(IReadOnlyList<string> arguments, int threads, TextWriter error, CancellationToken cancel)
    {
        var number = threads.ToString(CultureInfo.InvariantCulture);
        var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet", [typeof(App).Assembly.Location, .. arguments, "--json", "--threads", number]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["OMP_NUM_THREADS"] = number;
        using var process = Process.Start(start)!;
        try
        {
            var (told, complaint) = (process.StandardOutput.ReadToEndAsync(cancel), process.StandardError.ReadToEndAsync(cancel));
            await process.WaitForExitAsync(cancel);
            if (process.ExitCode == App.Success) return await told;
            await error.WriteAsync(await complaint);
            throw new PanoptesException($"The claim {Name} was not measured: `panoptes {string.Join(' ', arguments)}` ended with {process.ExitCode}.");
        }
        finally
        {
            if (!process.HasExited) process.Kill(entireProcessTree: true);
        }
    }

    /// <summary>The commit of the checkout that the command runs in, or "unknown" outside one.</summary>
    static string Commit()
    {
        try
        {
            using var git = Process.Start(new ProcessStartInfo("git", ["rev-parse", "--short=12", "HEAD"]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
            var text = git.StandardOutput.ReadToEnd().Trim();
            git.WaitForExit();
            return git.ExitCode == 0 ? text : "unknown";
        }
        catch (System.ComponentModel.Win32Exception)                                     // no git
        {
            return "unknown";
        }
    }
}

/// <summary>One side of a comparison.</summary>
sealed record ClaimArm
{
    /// <summary>What the measures call it.</summary>
    public required string Name { get; init; }

    /// <summary>
    /// Arguments of <c>panoptes</c> under the names that the measures' paths begin with, run in order; <c>{seed}</c> is the trial's seed and <c>{run}</c> its folder.
    /// </summary>
    public required IReadOnlyDictionary<string, IReadOnlyList<string>> Commands { get; init; }
}

/// <summary>Whether a number is what the claim says.</summary>
enum ClaimOutcome
{
    Held,
    NotHeld,

    /// <summary>The bound lies within the spread over seeds.</summary>
    Undecided,
}

static class ClaimOutcomes
{
    public static string InWords(this ClaimOutcome outcome) => outcome switch { ClaimOutcome.Held => "held", ClaimOutcome.NotHeld => "not held", _ => "undecided" };
}

/// <summary>One number of a claim.</summary>
sealed record ClaimMeasure
{
    /// <summary>What it is, in words.</summary>
    public required string Name { get; init; }

    /// <summary>Where it stands in the command's JSON: names and indices with dots between.</summary>
    public required string Path { get; init; }

    /// <summary>Of which arm it is.</summary>
    public string? Arm { get; init; }

    /// <summary>The arm that it is compared with, seed by seed; null: the number itself counts.</summary>
    public string? Over { get; init; }

    /// <summary>How it is compared: <c>difference</c> (by default) or <c>ratio</c>.</summary>
    public string? Compared { get; init; }

    /// <summary>
    /// Instead of one arm: several, each with its size (images, parameters, work), through whose errors, 1 minus the number, a power law of that size is laid, seed by seed.
    /// </summary>
    public IReadOnlyDictionary<string, double>? Against { get; init; }

    /// <summary>What of the law counts: its <c>exponent</c>, or the share of the errors' variance that it explains in logarithms, <c>r2</c>.</summary>
    public string? Fit { get; init; }

    /// <summary>The claim holds from here on; null: no such bound.</summary>
    public double? AtLeast { get; init; }

    /// <summary>The claim holds up to here; null: no such bound.</summary>
    public double? AtMost { get; init; }

    /// <summary>As last measured, the mean over the seeds.</summary>
    public double? Value { get; init; }

    /// <summary>The standard deviation over the seeds; null where there is one measurement.</summary>
    public double? Spread { get; init; }

    /// <summary>Every seed's, where there are several.</summary>
    public IReadOnlyList<double>? Values { get; init; }

    /// <summary>The number with what it had to reach: <c>top-1 0.31 ± 0.02 (at least 0.8)</c>.</summary>
    public override string ToString() => IsBounded ? $"{Name} {Number} ({Bounds})" : $"{Name} {Number}";

    /// <summary>The number alone: <c>0.31 ± 0.02</c>, or a dash before it is measured.</summary>
    internal string Number => Value is { } v ? Short(v) + (Spread is { } s ? $" ± {Short(s)}" : "") : "–";

    /// <summary>What it has to reach: <c>at least 0.8</c>; empty where nothing is asked.</summary>
    internal string Bounds => string.Join(", ", (string[])[.. AtLeast is { } low ? [$"at least {Short(low)}"] : Array.Empty<string>(), .. AtMost is { } high ? [$"at most {Short(high)}"] : Array.Empty<string>()]);

    internal static string Short(double value) => value.ToString("0.####", CultureInfo.InvariantCulture);

    /// <summary>Of a number that is an arm's alone and decides nothing, what it is without the arm; null of others.</summary>
    internal string? Quantity => this is { IsBounded: false, Over: null, Against: null, Arm: { } arm } && Name.EndsWith(", " + arm, StringComparison.Ordinal) ? Name[..^(arm.Length + 2)] : null;

    internal bool IsBounded => AtLeast is not null || AtMost is not null;

    internal ClaimOutcome Outcome
    {
        get
        {
            var (value, spread) = (Value ?? double.NaN, Spread ?? 0);
            if (value - spread >= (AtLeast ?? double.NegativeInfinity) && value + spread <= (AtMost ?? double.PositiveInfinity)) return ClaimOutcome.Held;
            return value + spread < (AtLeast ?? double.NegativeInfinity) || value - spread > (AtMost ?? double.PositiveInfinity) || double.IsNaN(value) ? ClaimOutcome.NotHeld : ClaimOutcome.Undecided;
        }
    }

    /// <summary>The same with what was measured.</summary>
    internal ClaimMeasure With(IReadOnlyList<double> values)
    {
        var mean = values.Average();
        return this with
        {
            Value = Math.Round(mean, 6),
            Spread = values.Count < 2 ? null : Math.Round(Math.Sqrt(values.Sum(v => (v - mean) * (v - mean)) / (values.Count - 1)), 6),
            Values = values.Count < 2 ? null : [.. values.Select(static v => Math.Round(v, 6))],
        };
    }

    internal double Read(JsonElement root, string claim)
    {
        var at = root;
        foreach (var part in Path.Split('.'))
        {
            var found = at.ValueKind switch
            {
                JsonValueKind.Object => at.TryGetProperty(part, out var child) ? child : default,
                JsonValueKind.Array when int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out var index) && index < at.GetArrayLength() => at[index],
                _ => default,
            };
            if (found.ValueKind == JsonValueKind.Undefined) throw new PanoptesException($"The claim {claim} expects the number {Path}, but the command's output has no {part} there.");
            at = found;
        }
        return at.ValueKind == JsonValueKind.Number ? at.GetDouble() : throw new PanoptesException($"The claim {claim} expects a number at {Path}, but the command's output has {at.GetRawText()}.");
    }
}

/// <summary>When and with what a claim was measured.</summary>
sealed record ClaimRun
{
    public required string Date { get; init; }

    public required string Commit { get; init; }

    public required string Machine { get; init; }

    public required double Minutes { get; init; }
}
