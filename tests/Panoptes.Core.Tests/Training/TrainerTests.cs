using System.Text.Json;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Training;

namespace Panoptes.Core.Tests.Training;

public sealed class TrainerTests
{
    static readonly TrainingOptions Usual = new()
    {
        Schedule = new CosineSchedule(0.2, 60) { WarmupSteps = 5 },
        ClipGradNorm = 1,
        EmaDecay = 0.9,
        LogEvery = 7,
        ValidateEvery = 10,
        CheckpointEvery = 9,
        Monitor = "score",
    };

    [Fact]
    public void Training_learns_and_leaves_its_logs_pictures_and_models()
    {
        using var folder = new TemporaryFolder();
        using var task = new LineTask();
        var seen = new List<string?>();
        var result = Train(task, Usual, folder.Path, new Watch(p => seen.Add(p.What)));

        Assert.Equal(60, result.Steps);
        Assert.False(result.StoppedEarly);
        Assert.Equal(6, seen.Count(static w => w == "validating 25 %"));
        Assert.InRange(task.Slope, 2.8f, 3.2f);
        Assert.Equal(6, task.Validations);
        Assert.True(File.Exists(folder["curves.png"]) && File.Exists(folder["best/model.safetensors"]) && File.Exists(folder["last/model.safetensors"]));
        Assert.NotEmpty(Directory.GetFiles(folder["events"]));
        Assert.Equal(2, Directory.GetDirectories(folder["checkpoints"]).Length);
        Assert.Equal([7, 14, 21, 28, 35, 42, 49, 56, 60], Lines(folder.Path).Where(static l => l.ContainsKey("loss")).Select(static l => (int)l["step"]));
        Assert.Equal(6, Lines(folder.Path).Count(static l => l.ContainsKey("val/score")));
        Assert.False(File.Exists(folder[".lock"]));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(9)]                                                                    // a checkpoint's own step
    [InlineData(10)]                                                                   // where validation is due
    [InlineData(33)]
    [InlineData(59)]
    public void A_run_that_was_interrupted_gives_the_numbers_of_an_unbroken_one(int after)
    {
        using var unbroken = new TemporaryFolder();
        using var broken = new TemporaryFolder();
        using var whole = new LineTask();
        var expected = Train(whole, Usual, unbroken.Path);

        using (var first = new LineTask())
        using (var cancel = new CancellationTokenSource())
            Assert.Throws<OperationCanceledException>(() => Train(first, Usual, broken.Path, new Watch(p => { if (p.Step == after) cancel.Cancel(); }), cancel.Token));
        using var second = new LineTask();
        var result = Train(second, Usual, broken.Path);

        Same(expected, result, whole, second, unbroken.Path, broken.Path);
    }

    [Theory]
    [InlineData(2)]
    [InlineData(30)]
    public void A_run_that_was_killed_goes_on_from_its_last_checkpoint_with_the_same_numbers(int after)
    {
        using var unbroken = new TemporaryFolder();
        using var broken = new TemporaryFolder();
        using var whole = new LineTask();
        var expected = Train(whole, Usual, unbroken.Path);

        // What a kill leaves: checkpoints and logs as they are, nothing put in order, a record cut in half, a checkpoint half written.
        using (var first = new LineTask())
            Assert.Throws<InvalidOperationException>(() => Train(first, Usual, broken.Path, new Watch(p => { if (p.Step == after) throw new InvalidOperationException("killed"); })));
        File.AppendAllText(broken["metrics.jsonl"], "{\"step\":3");
        Directory.CreateDirectory(broken["checkpoints/.step-00000099.partial"]);
        File.WriteAllText(broken["checkpoints/.step-00000099.partial/model.safetensors"], "half");
        using var second = new LineTask();
        var result = Train(second, Usual, broken.Path);

        Same(expected, result, whole, second, unbroken.Path, broken.Path);
    }

    [Fact]
    public void A_finished_run_is_not_trained_again()
    {
        using var folder = new TemporaryFolder();
        using (var first = new LineTask()) Train(first, Usual, folder.Path);
        var before = File.ReadAllText(folder["metrics.jsonl"]);
        using var again = new LineTask();
        var result = Train(again, Usual, folder.Path);
        Assert.Equal((60, 0), (result.Steps, again.Validations));
        Assert.Equal(before, File.ReadAllText(folder["metrics.jsonl"]));
    }

    [Fact]
    public void Training_stops_when_validation_no_longer_improves_and_keeps_the_best()
    {
        using var folder = new TemporaryFolder();
        using var task = new LineTask { Scores = new([0.1, 0.5, 0.4, 0.3, 0.2]) };
        var result = Train(task, Usual with { Patience = 2 }, folder.Path);
        Assert.Equal((40, true, 0.5, 20), (result.Steps, result.StoppedEarly, result.Best, result.BestStep));

        using var again = new LineTask { Scores = new() };
        Assert.True(Train(again, Usual with { Patience = 2 }, folder.Path).Steps == 40);
    }

    [Fact]
    public void Training_stops_where_what_is_enough_is_reached_and_stays_stopped()
    {
        using var folder = new TemporaryFolder();
        using var task = new LineTask { Scores = new([0.1, 0.2, 0.5, 0.9]) };
        var result = Train(task, Usual with { Target = 0.5 }, folder.Path);
        Assert.Equal((30, true, 0.5, 30), (result.Steps, result.StoppedEarly, result.Best, result.BestStep));

        using var again = new LineTask { Scores = new() };
        Assert.Equal(30, Train(again, Usual with { Target = 0.5 }, folder.Path).Steps);
    }

    [Fact]
    public void A_run_that_diverges_ends_with_one_sentence_and_keeps_its_last_checkpoint()
    {
        using var folder = new TemporaryFolder();
        using (var good = new LineTask())
        using (var cancel = new CancellationTokenSource())
            Assert.Throws<OperationCanceledException>(() => Train(good, Usual, folder.Path, new Watch(p => { if (p.Step == 12) cancel.Cancel(); }), cancel.Token));
        using var bad = new LineTask { Factor = double.PositiveInfinity };
        var e = Assert.Throws<PanoptesException>(() => Train(bad, Usual, folder.Path));
        Assert.Contains("step 12", e.Message, StringComparison.Ordinal);
        Assert.True(Directory.Exists(folder["checkpoints/step-00000012"]));
    }

    [Fact]
    public void Two_trainers_do_not_share_a_folder()
    {
        using var folder = new TemporaryFolder();
        using var first = new LineTask();
        using var second = new LineTask();
        var refused = "";
        Train(first, Usual, folder.Path, new Watch(p =>
        {
            if (p.Step == 5 && p.What is null) refused = Assert.Throws<PanoptesException>(() => Train(second, Usual, folder.Path)).Message;
        }));
        Assert.Contains("Another process trains", refused, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("state.json")]
    [InlineData("model.safetensors")]
    [InlineData("optimizer.safetensors")]
    [InlineData("ema.safetensors")]
    public void A_damaged_checkpoint_is_told_by_its_file(string file)
    {
        using var folder = new TemporaryFolder();
        using (var first = new LineTask()) Train(first, Usual with { Schedule = new ConstantSchedule(0.01, 3) }, folder.Path);
        var path = folder[$"checkpoints/step-00000003/{file}"];
        File.WriteAllBytes(path, File.ReadAllBytes(path)[..^5]);
        using var task = new LineTask();
        var e = Assert.Throws<PanoptesException>(() => Train(task, Usual, folder.Path));
        Assert.Contains(file, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Training_keeps_no_tensor()
    {
        using var folder = new TemporaryFolder();
        using (var warm = new LineTask()) Train(warm, Usual with { Schedule = new ConstantSchedule(0.01, 3) }, folder.Path);
        using var other = new TemporaryFolder();
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        using (var task = new LineTask()) Train(task, Usual, other.Path);
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }

    static void Same(TrainingResult expected, TrainingResult result, LineTask whole, LineTask resumed, string unbroken, string broken)
    {
        Assert.Equal(whole.Slope, resumed.Slope);
        Assert.Equal((expected.Best, expected.BestStep, expected.Steps), (result.Best, result.BestStep, result.Steps));
        Assert.Equal(Measured(unbroken), Measured(broken));
        Assert.Equal(File.ReadAllBytes(Path.Combine(unbroken, "best/model.safetensors")), File.ReadAllBytes(Path.Combine(broken, "best/model.safetensors")));
    }

    static TrainingResult Train(LineTask task, TrainingOptions options, string folder, IProgress<TrainingProgress>? progress = null, CancellationToken cancel = default)
    {
        using var optimizer = new AdamW(ParameterGroup.Of(task.Model, 0.01));
        return new Trainer(task, optimizer, options, folder).Run(progress, cancel);
    }

    static List<Dictionary<string, double>> Lines(string folder) =>
        [.. File.ReadLines(Path.Combine(folder, "metrics.jsonl")).Select(static l => JsonSerializer.Deserialize<Dictionary<string, double>>(l)!)];

    /// <summary>Every line but for what a clock says.</summary>
    static IEnumerable<string> Measured(string folder) =>
        Lines(folder).Select(static l => string.Join(' ', l.Where(static v => v.Key is not ("seconds" or "samples_per_second")).Select(static v => $"{v.Key}={v.Value:r}")));

    sealed class Watch(Action<TrainingProgress> see) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value) => see(value);
    }
}
