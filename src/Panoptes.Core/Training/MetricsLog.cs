using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Imaging;

namespace Panoptes.Training;

/// <summary>
/// What a run measures: metrics.jsonl (one JSON object a line, with the step), TensorBoard's events, and curves.png. What was written after a
/// checkpoint that is gone back to is dropped.
/// </summary>
sealed class MetricsLog : IDisposable
{
    readonly string folder;
    readonly List<(long Step, Dictionary<string, double> Values)> lines = [];
    readonly StreamWriter writer;
    readonly TensorBoardLog events;

    /// <param name="folder">The run's.</param>
    /// <param name="lastStep">What was measured after this step is dropped.</param>
    /// <exception cref="PanoptesException">A line is no object of numbers, or the files cannot be written.</exception>
    public MetricsLog(string folder, long lastStep)
    {
        this.folder = folder;
        var path = Path.Combine(folder, "metrics.jsonl");
        if (File.Exists(path))
        {
            var kept = new List<string>();
            var number = 0;
            foreach (var line in File.ReadLines(path))
            {
                number++;
                if (Parse(line) is not { } values)
                {
                    if (!line.EndsWith('}')) continue;                                  // a kill cut it off
                    throw new PanoptesException($"{path}: line {number} is no JSON object of numbers with a step.");
                }
                if ((long)values["step"] > lastStep) continue;
                kept.Add(line);
                Remember(values);
            }
            AtomicFile.WriteText(path, string.Concat(kept.Select(static l => l + "\n")));
        }
        writer = new(new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.Read)) { AutoFlush = true };
        events = new(Path.Combine(folder, "events"), lastStep == 0 ? null : lastStep + 1);
    }

    public void Add(long step, IEnumerable<KeyValuePair<string, double>> values)
    {
        var line = new Dictionary<string, double> { ["step"] = step };
        foreach (var (name, value) in values) line[name] = value;
        // Numbers that JSON has no words for are left out of the line.
        writer.WriteLine(JsonSerializer.Serialize(line.Where(static v => double.IsFinite(v.Value)).ToDictionary()));
        foreach (var (name, value) in line)
            if (name != "step") events.Scalar(name, step, value);
        events.Flush();
        Remember(line);
    }

    /// <summary>curves.png: the losses above, what validation measures below, over the steps.</summary>
    public void Draw()
    {
        var file = Path.Combine(folder, "curves.png");
        var names = lines.SelectMany(static l => l.Values.Keys).Distinct().ToArray();
        var losses = Curves(names.Where(static n => n == "loss" || n.StartsWith("loss/", StringComparison.Ordinal)), 0.8);
        var measures = Curves(names.Where(static n => n.StartsWith("val/", StringComparison.Ordinal)), 0);
        if (losses.Length == 0) return;
        var top = new Plot { Title = "Training loss", XLabel = "step", YLabel = "loss", Curves = losses, Scale = 1.5 }.Render(1200, 700);
        if (measures.Length == 0) top.Save(file);
        else
        {
            var below = new Plot { Title = "Validation", XLabel = "step", YLabel = "score", Curves = measures, Scale = 1.5 }.Render(1200, 700);
            new Image(top.Width, top.Height + below.Height, top.Channels, [.. top.Pixels, .. below.Pixels]).Save(file);
        }

        Curve[] Curves(IEnumerable<string> which, double smoothing) => [.. which.Select(n =>
        {
            var points = lines.Where(l => l.Values.ContainsKey(n)).ToArray();
            return new Curve(n, [.. points.Select(static p => (double)p.Step)], [.. points.Select(p => p.Values[n])]) { Smoothing = smoothing };
        })];
    }

    void Remember(Dictionary<string, double> values) => lines.Add(((long)values["step"], values));

    static Dictionary<string, double>? Parse(string line)
    {
        try
        {
            return JsonSerializer.Deserialize<Dictionary<string, double>>(line) is { } values && values.ContainsKey("step") ? values : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    public void Dispose()
    {
        writer.Dispose();
        events.Dispose();
    }
}
