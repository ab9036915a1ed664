using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Panoptes.Checkpoints;
using Panoptes.Evaluation;

namespace Panoptes.Cli;

/// <summary>
/// The trials of a claim, every arm with every seed, seed by seed so that what the machine does meanwhile meets all arms alike. Outputs are kept as
/// they come: an interrupted measurement goes on where it was, a finished one starts anew.
/// </summary>
sealed class ClaimTrials(Claim claim, string folder)
{
    /// <summary>What the commands of each trial printed, under the trial's name, and the minutes they took.</summary>
    JsonObject outputs = [];

    /// <summary>How long all commands took.</summary>
    internal double Minutes => outputs.Sum(static t => t.Value!["minutes"]!.GetValue<double>());

    string Progress => Path.Combine(folder, "outputs.json");

    string Finished => Path.Combine(folder, "finished.json");

    /// <exception cref="PanoptesException">The claim does not fit together, or a command failed.</exception>
    /// <param name="run">Runs a command and returns what it printed.</param>
    /// <param name="jobs">How many trials run at once; <paramref name="run"/> is called so often at the same time.</param>
    /// <param name="output">Is told what runs.</param>
    /// <param name="cancel">Stops; what is done stays done.</param>
    internal async Task<ClaimTrials> RunAsync(Func<IReadOnlyList<string>, CancellationToken, Task<string>> run, int jobs, Action<string> output, CancellationToken cancel)
    {
        if (claim.Seeds.Count == 0 || claim.Seeds.Distinct().Count() < claim.Seeds.Count) throw new PanoptesException($"The claim {claim.Name} has arms; expected one or more different seeds.");
        foreach (var measure in claim.Measures)
        {
            if (measure.Against is { } law)
            {
                if (measure.Fit is not ("exponent" or "r2") || measure.Arm is not null || measure.Over is not null) throw new PanoptesException($"The claim {claim.Name} fits a law against arms for \"{measure.Name}\"; expected fit: exponent or r2, and neither arm nor over.");
                if (law.Count < 3 || law.Values.Any(static x => x <= 0)) throw new PanoptesException($"The claim {claim.Name} fits a law to {law.Count} points for \"{measure.Name}\"; expected three or more, each with a size above 0.");
                foreach (var name in law.Keys) Known(name);
                continue;
            }
            if (measure.Arm is null) throw new PanoptesException($"The claim {claim.Name} does not say which arm \"{measure.Name}\" is of.");
            foreach (var name in new[] { measure.Arm, measure.Over })
                if (name is not null) Known(name);
            if (measure.Compared is not (null or "difference" or "ratio")) throw new PanoptesException($"The claim {claim.Name} compares by {measure.Compared}; expected difference or ratio.");
        }
        Open();
        var left = claim.Seeds.SelectMany(seed => claim.Arms!.Select(arm => (Seed: seed, Arm: arm))).Where(t => !outputs.ContainsKey(NameOf(t.Arm.Name, t.Seed)));
        await Parallel.ForEachAsync(left.ToArray(), new ParallelOptions { MaxDegreeOfParallelism = jobs, CancellationToken = cancel }, async (t, stop) =>
        {
            var (clock, printed, trial) = (Stopwatch.StartNew(), new JsonObject(), NameOf(t.Arm.Name, t.Seed));
            foreach (var (name, arguments) in t.Arm.Commands)
            {
                string[] filled = [.. arguments.Select(a => a.Replace("{seed}", t.Seed.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal).Replace("{run}", Path.Combine(folder, trial), StringComparison.Ordinal))];
                output($"{t.Arm.Name}, seed {t.Seed}: panoptes {string.Join(' ', filled)}");
                printed[name] = JsonNode.Parse(await run(filled, stop));
            }
            printed["minutes"] = clock.Elapsed.TotalMinutes;
            lock (outputs)
            {
                outputs[trial] = printed;
                AtomicFile.WriteText(Progress, outputs.ToJsonString());
            }
        });
        File.Move(Progress, Finished, overwrite: true);
        return this;

        void Known(string name)
        {
            if (claim.Arms!.All(a => a.Name != name)) throw new PanoptesException($"The claim {claim.Name} has no arm {name}; it has {string.Join(", ", claim.Arms!.Select(static a => a.Name))}.");
        }
    }

    /// <summary>The numbers of a measure, a seed each.</summary>
    internal IReadOnlyList<double> Values(ClaimMeasure measure) =>
    [
        .. claim.Seeds.Select(seed =>
        {
            if (measure.Against is { } law)
            {
                var fit = PowerLaw.Fit([.. law.Values], [.. law.Keys.Select(arm => 1 - Read(arm, seed, measure))]);
                return measure.Fit == "r2" ? fit.R2 : fit.Exponent;
            }
            var own = Read(measure.Arm!, seed, measure);
            return measure.Over is not { } over ? own : measure.Compared == "ratio" ? own / Read(over, seed, measure) : own - Read(over, seed, measure);
        }),
    ];

    double Read(string arm, ulong seed, ClaimMeasure measure)
    {
        using var printed = JsonDocument.Parse(outputs[NameOf(arm, seed)]!.ToJsonString());
        return measure.Read(printed.RootElement, claim.Name);
    }

    /// <summary>Forgets what an interrupted measurement left.</summary>
    internal void Restart()
    {
        if (Directory.Exists(folder)) Clear();
    }

    /// <summary>Goes on with what an interrupted measurement left; otherwise clears the folder.</summary>
    void Open()
    {
        if (File.Exists(Progress))
        {
            try
            {
                outputs = JsonNode.Parse(ModelFolder.ReadText(Progress)) as JsonObject ?? [];
                return;
            }
            catch (JsonException)                                                        // damaged: measured anew
            {
            }
        }
        if (Directory.Exists(folder)) Clear();
        Directory.CreateDirectory(folder);
        AtomicFile.WriteText(Progress, outputs.ToJsonString());
    }

    void Clear()
    {
        if (!File.Exists(Progress) && !File.Exists(Finished) && Directory.EnumerateFileSystemEntries(folder).Any())
            throw new PanoptesException($"{folder} holds other things than a claim's runs; nothing was deleted. Name another folder with --runs.");
        Directory.Delete(folder, recursive: true);
    }

    static string NameOf(string arm, ulong seed) => string.Create(CultureInfo.InvariantCulture, $"{string.Concat(arm.Select(static c => char.IsAsciiLetterOrDigit(c) ? char.ToLowerInvariant(c) : '-'))}-{seed}");
}
