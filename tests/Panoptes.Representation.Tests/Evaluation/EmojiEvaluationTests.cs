using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Representation.Evaluation;

namespace Panoptes.Representation.Tests.Evaluation;

public sealed class EmojiEvaluationTests : IDisposable
{
    static readonly EmojiEvaluationOptions Plain = new() { Templates = ["{}"] };
    readonly TinyClip tiny = new();
    readonly SmallEmoji emoji = new();

    EmojiSet Set { get; }

    public EmojiEvaluationTests() => Set = emoji.Open();

    public void Dispose()
    {
        tiny.Dispose();
        emoji.Dispose();
    }

    [Fact]
    public void Every_task_stands_beside_chance_and_the_color_histogram()
    {
        using var clip = tiny.Load();
        var report = EmojiEvaluation.Run(clip, Set, Plain);
        var heldOut = Set.Concepts.Count(static c => c.HeldOut);
        var style = Set.Styles.Single(static s => s.HeldOut).Count;
        Assert.InRange(heldOut, 2, 20);
        Assert.Equal(["held_out_style", "held_out_concepts_among_themselves", "held_out_concepts_among_all", "held_out_concepts_and_style_among_themselves", "held_out_concepts_and_style_among_all"],
            report.Tasks.Select(static t => t.Name));
        Assert.Equal([Set.Concepts.Count, heldOut, Set.Concepts.Count, heldOut, Set.Concepts.Count], report.Tasks.Select(static t => t.Candidates));
        Assert.Equal([style, Set.Select(EmojiSplit.HeldOutConcepts).Length, Set.Select(EmojiSplit.HeldOutConcepts).Length, Set.Select(EmojiSplit.HeldOutBoth).Length, Set.Select(EmojiSplit.HeldOutBoth).Length],
            report.Tasks.Select(static t => t.Images));
        foreach (var task in report.Tasks)
        {
            Assert.Equal(1.0 / task.Candidates, task.Top1.Chance, 1e-9);
            Assert.Equal(Math.Min(5.0 / task.Candidates, 1), task.Top5.Chance, 1e-9);
            Assert.InRange(task.Top1.Model, 0, 0.5);                                   // random weights
            Assert.True(task.Top5.Model >= task.Top1.Model);
            Assert.True(task.Top5.ColorHistogram >= task.Top1.ColorHistogram);
        }
        Assert.True(report.Tasks[0].Top1.ColorHistogram > 2 * report.Tasks[0].Top1.Chance, "colors alone tell something");
        Assert.Equal(style, report.Retrieval.Model.ImageToText.Queries);
        Assert.Equal(style, report.Retrieval.Model.TextToImage.Gallery);
        Assert.Equal(report.Tasks[0].Top1.Model, report.Retrieval.Model.ImageToText.R1);
        Assert.Equal(report.Tasks[0].Images, report.ByGroup.Sum(static g => g.Images));
        Assert.Equal(report.Tasks[0].Top1.Model, report.ByGroup.Sum(static g => g.Top1.Model * g.Images) / report.Tasks[0].Images, 1e-9);
        Assert.Equal(report.Tasks[0].Top1.ColorHistogram, report.Retrieval.ColorHistogram.ImageToText.R1);
        Assert.Equal(10.0 / Set.Concepts.Count, report.Retrieval.Chance.ImageToText.R10, 1e-9);
        Assert.Equal(Set.Concepts.Select(static c => c.Group).Distinct().Count(), report.Groups.Classes);
        Assert.Empty(report.SharedNames);
    }

    [Fact]
    public void Concepts_of_the_same_name_are_one_class()
    {
        // The first three concepts get the first one's name.
        using var shared = new SmallEmoji(static (i, concept) => concept["names"]!["en"] = i < 3 ? "a face" : (string)concept["names"]!["en"]!);
        using var clip = tiny.Load();
        var report = EmojiEvaluation.Run(clip, shared.Open(), Plain);
        Assert.Equal(["a face"], report.SharedNames);
        Assert.Equal(Set.Concepts.Count - 2, report.Tasks[0].Candidates);
        Assert.True(report.Retrieval.Chance.TextToImage.R1 > 1.0 / report.Retrieval.Model.TextToImage.Gallery);     // three right answers for one text
    }

    [Fact]
    public void No_two_concepts_of_the_bundled_set_have_the_same_name()
    {
        var names = EmojiSet.Open().Concepts.Select(static c => c.Name).ToArray();
        Assert.Equal(names.Length, names.Distinct(StringComparer.OrdinalIgnoreCase).Count());
    }

    [Fact]
    public void The_quick_test_of_a_model_in_training_agrees_and_leaves_the_model_as_it_was()
    {
        using var clip = tiny.Load();
        var full = EmojiEvaluation.Run(clip, Set, Plain);
        var (model, processor, tokenizer) = tiny.LoadForTraining();
        using (model)
        {
            var quick = EmojiEvaluation.ZeroShot(model, processor, tokenizer, Set, Plain);
            Assert.Equal((full.Tasks[0].Images, full.Tasks[0].Candidates), (quick.Images, quick.Candidates));
            Assert.Equal(full.Tasks[0].Top1.Model, quick.Top1, 0.02);                  // packed weights may round a score differently
            Assert.Equal(full.Tasks[0].Top5.Model, quick.Top5, 0.02);
            Assert.Equal(full.Tasks[4].Top1.Model, quick.HeldOutConceptsTop1, 0.15);
            Assert.True(model.Training);
            Assert.True(model.Parameters().First().RequiresGrad);
        }
    }

    [Fact]
    public void An_image_s_rank_is_what_classifying_it_gives()
    {
        using var clip = tiny.Load();
        var quick = EmojiEvaluation.ZeroShot(clip.Model, clip.Processor, clip.Tokenizer, Set, Plain);
        string[] names = [.. Set.Concepts.Select(static c => c.Name)];
        var images = Set.Select(i => Set.Styles[i.Style].HeldOut);
        var right = 0;
        foreach (var chunk in images.Chunk(200))
        {
            var found = clip.Classify([.. chunk.Select(i => new Image(Set.Size, Set.Size, 4, Set.Pixels(i).ToArray()).ToRgb())], names);
            for (var i = 0; i < chunk.Length; i++)
                if (found[i][0].Label == names[Set.Images[chunk[i]].Concept]) right++;
        }
        Assert.Equal((double)right / images.Length, quick.Top1, 1e-9);
    }

    [Fact]
    public void Progress_ends_at_the_total_and_cancelling_stops()
    {
        using var clip = tiny.Load();
        var last = default(Panoptes.Evaluation.EvaluationProgress);
        EmojiEvaluation.Run(clip, Set, Plain, new Immediate(p => last = p));
        Assert.Equal(last.Total, last.Done);
        using var stop = new CancellationTokenSource();
        Assert.ThrowsAny<OperationCanceledException>(() => EmojiEvaluation.Run(clip, Set, Plain, new Immediate(_ => stop.Cancel()), stop.Token));
    }

    [Fact]
    public void The_evaluation_leaves_no_tensor_behind()
    {
        using var clip = tiny.Load();
        EmojiEvaluation.Run(clip, Set, Plain);
        var before = LiveTensors.Settle();
        EmojiEvaluation.Run(clip, Set, Plain);
        EmojiEvaluation.ZeroShot(clip.Model, clip.Processor, clip.Tokenizer, Set, Plain);
        Assert.Equal(before, Tensor.TotalCount);
    }

    sealed class Immediate(Action<Panoptes.Evaluation.EvaluationProgress> report) : IProgress<Panoptes.Evaluation.EvaluationProgress>
    {
        public void Report(Panoptes.Evaluation.EvaluationProgress value) => report(value);
    }
}
