using System.CommandLine;
using System.Globalization;
using Panoptes.Checkpoints;
using Panoptes.Representation.Training;
using Panoptes.Training;
using Panoptes.Understanding.Training;
using Spectre.Console;
using static TorchSharp.torch;

namespace Panoptes.Cli.Commands;

/// <summary>Trains what a recipe describes.</summary>
sealed class TrainCommand : ExampleCommand
{
    readonly Argument<string> recipe = new("recipe") { Description = "The recipe, a YAML file.", HelpName = "RECIPE" };

    readonly Option<string?> run = new("--run") { Description = "The run's folder; runs/NAME by default.", HelpName = "DIR" };

    readonly Option<ulong?> seed = new("--seed") { Description = "Another seed than the recipe's; the run's folder is then runs/NAME-SEED by default.", HelpName = "N" };

    readonly Option<string[]> set = new("--set") { Description = "Give a field of the recipe another value, which is YAML, such as schedule.steps=100 or objectives.0.weight=0.5; nothing behind the sign takes the field away. May be repeated.", HelpName = "FIELD=VALUE" };

    readonly Option<bool> restart = new("--restart") { Description = "Delete what is in the run's folder and start over." };

    public TrainCommand() : base("train",
        "Train what a recipe describes. The run's folder gets metrics.jsonl, curves.png, checkpoints, and the models last and best. A run that was interrupted goes on where it was when the same command is given again.",
        """
        panoptes train recipes/clip-emoji.yaml
        panoptes train recipes/clip-emoji.yaml --run runs/second --threads 2
        panoptes train recipes/clip-emoji.yaml --seed 2
        panoptes train recipes/clip-small.yaml --set data.concepts=200 --set schedule.steps=100 --run runs/quick
        panoptes search ~/Pictures "a red apple" --model runs/clip-emoji/best
        """)
    {
        Add(recipe);
        foreach (var option in (Option[])[run, seed, set, restart]) Add(option);
        SetAction((parsed, cancel) => Task.Run(() => Run(parsed, cancel), CancellationToken.None));
    }

    int Run(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        if (parsed.GetValue(SharedOptions.Device) is not (null or "cpu")) throw new UsageException("Training runs on the processor; leave --device out.");
        var (path, changes) = (parsed.GetRequiredValue(recipe), parsed.GetValue(set) ?? []);
        var text = ModelFolder.ReadText(path);
        TrainingRecipe loaded = SceneRecipe.IsOne(text, path) ? SceneRecipe.Parse(text, path, SceneTasks.All, changes) : Recipe.Parse(text, path, changes);
        if (parsed.GetResult(SharedOptions.Precision) is { Implicit: false }) loaded = loaded.WithPrecision(parsed.GetValue(SharedOptions.Precision)!);
        if (parsed.GetValue(seed) is { } other) loaded = loaded.WithSeed(other);
        var folder = parsed.GetValue(run) ?? Path.Combine("runs", parsed.GetValue(seed) is { } s ? string.Create(CultureInfo.InvariantCulture, $"{loaded.Name}-{s}") : loaded.Name);
        if (parsed.GetValue(restart) && Directory.Exists(folder))
        {
            if (!File.Exists(Path.Combine(folder, "recipe.yaml"))) throw new PanoptesException($"{folder} is not the folder of a run (it has no recipe.yaml); nothing was deleted.");
            Directory.Delete(folder, recursive: true);
        }
        ModelLoader.UseThreads(parsed);
        if (loaded.Training.CheckpointActivations) Native.NativeMemoryPolicy.ReturnFreedMemory();
        else Native.NativeMemoryPolicy.KeepFreedMemory();
        using var ready = loaded.Start(folder);
        terminal.Note($"Training {ready.Model.GetType().Name} with {ready.Model.ParameterCount / 1e6:0.0} million parameters in {folder}.");
        var result = Follow(terminal, progress => ready.Trainer.Run(progress, cancel));
        foreach (var line in ready.Problems?.Lines() ?? []) terminal.Note(line);
        if (terminal.IsJson) terminal.WriteJson(new { run = folder, result.Steps, result.StoppedEarly, result.Best, result.BestStep, result.Validation, result.Seconds, result.SamplesPerSecond });
        else
        {
            var table = Terminal.Table("Measure", "Value");
            foreach (var (name, value) in result.Validation) table.AddRow(Terminal.Escape(name), value.ToString("0.####", CultureInfo.InvariantCulture));
            if (result.Best is { } best) table.AddRow("best", $"{best:0.####} at step {result.BestStep}");
            terminal.Write(table);
            terminal.Note($"{(result.StoppedEarly ? "Stopped early" : "Finished")} after {result.Steps} steps; the models are in {Path.Combine(folder, "best")} and {Path.Combine(folder, "last")}.");
        }
        return App.Success;
    }

    /// <summary>A bar where a person looks; in a log, a line every minute.</summary>
    static TrainingResult Follow(Terminal terminal, Func<IProgress<TrainingProgress>, TrainingResult> work)
    {
        if (!terminal.IsInteractive) return work(new LogLines(terminal));
        TrainingResult? result = null;
        terminal.Messages.Progress().AutoClear(true)
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn(), new SpinnerColumn())
            .Start(context => result = work(new Bar(context.AddTask("starting"))));
        return result!;
    }

    static string Describe(TrainingProgress p)
    {
        var rate = string.Create(CultureInfo.InvariantCulture, $"step {p.Step}/{p.TotalSteps}  epoch {p.Epoch}  loss {p.Loss:0.000}  {p.SamplesPerSecond:0} samples/s");
        var left = p.TimeLeft < TimeSpan.FromDays(2) ? $"  {(int)p.TimeLeft.TotalHours}:{p.TimeLeft:mm\\:ss} left" : "";
        var measured = p.Validation is { } v ? "  " + string.Join(" ", v.Take(3).Select(static m => string.Create(CultureInfo.InvariantCulture, $"{m.Key} {m.Value:0.000}"))) : "";
        return rate + left + measured + (p.What is { } what ? $"  {what}" : "");
    }

    sealed class Bar(ProgressTask bar) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value)
        {
            bar.MaxValue = value.TotalSteps;
            bar.Value = value.Step;
            bar.Description = Terminal.Escape(Describe(value));
        }
    }

    sealed class LogLines(Terminal terminal) : IProgress<TrainingProgress>
    {
        DateTime next = DateTime.UtcNow.AddSeconds(10);

        public void Report(TrainingProgress value)
        {
            if (DateTime.UtcNow < next || value.What is not null) return;
            next = DateTime.UtcNow.AddMinutes(1);
            terminal.Note(Describe(value));
        }
    }
}
