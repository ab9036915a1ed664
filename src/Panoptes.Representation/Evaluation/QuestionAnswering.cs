using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Text;

namespace Panoptes.Representation.Evaluation;

/// <summary>Questions about scenes in the style that nothing is trained on, answered by a model.</summary>
static class QuestionAnswering
{
    const int Scenes = 300;
    const ulong Seed = 0x5CE2E;

    /// <returns>
    /// The share of right answers as <c>answers</c> and by kind as <c>answers_KIND</c>, and as <c>answers_by_majority</c> what always saying each kind's most frequent answer gives.
    /// </returns>
    internal static IReadOnlyDictionary<string, double> Run(Beit3ForVisualQuestionAnswering model, ImageProcessor processor, Tokenizer tokenizer, EmojiSet set, SceneOptions options,
        int batchSize, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var generator = new SceneGenerator(set, SceneGenerator.Things(set, EmojiSplit.HeldOutStyle), options, Seed);
        var scenes = new Scene[Scenes];
        Parallel.For(0, Scenes, new ParallelOptions { CancellationToken = cancel }, i => scenes[i] = generator.Generate(i));
        var known = model.Answers.ToHashSet(StringComparer.Ordinal);
        (Scene Scene, SceneQuestion Question)[] asked = [.. scenes.SelectMany(s => s.Questions.Where(q => known.Contains(q.Answer)).Select(q => (s, q)))];
        if (asked.Length == 0) throw new PanoptesException("There is no question about scenes of these concepts that the model has the answer to.");
        var right = new bool[asked.Length];
        for (var start = 0; start < asked.Length; start += batchSize)
        {
            cancel.ThrowIfCancellationRequested();
            using var inner = NewDisposeScope();
            var part = asked[start..Math.Min(asked.Length, start + batchSize)];
            var told = QuestionAnswerer.Logits(model, processor, tokenizer, [.. part.Select(static a => a.Scene.Image)], [.. part.Select(static a => a.Question.Text)], truncate: true)
                .argmax(1).data<long>().ToArray();
            for (var i = 0; i < part.Length; i++) right[start + i] = model.Answers[(int)told[i]] == part[i].Question.Answer;
            progress?.Report(new(start + part.Length, asked.Length));
        }
        var found = new Dictionary<string, double> { ["answers"] = right.Average(static r => r ? 1.0 : 0) };
        var majority = 0;
        foreach (var kind in asked.Select(static (a, i) => (a.Question, i)).GroupBy(static a => a.Question.Kind).OrderBy(static g => g.Key))
        {
            found[$"answers_{Module.SnakeCase(kind.Key.ToString())}"] = kind.Average(a => right[a.i] ? 1.0 : 0);
            majority += kind.GroupBy(static a => a.Question.Answer).Max(static g => g.Count());
        }
        found["answers_by_majority"] = (double)majority / asked.Length;
        return found;
    }
}
