using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Representation.Training;
using Panoptes.Understanding.Training;

namespace Panoptes.Understanding;

/// <summary>How well pixels are told what they are by names alone.</summary>
/// <param name="MeanIou">Over the names and the background.</param>
/// <param name="ChanceIou">The same of maps that belong to other scenes: what knowing the usual shapes and places is worth.</param>
/// <param name="PixelAccuracy">Of all pixels.</param>
/// <param name="NamingAccuracy">Of the pixels of things, whichever were taken for background: the share whose most likely name is theirs.</param>
/// <param name="Threshold">Below which similarity a pixel is background, chosen on scenes of the training style.</param>
public sealed record OpenVocabularyScores(double MeanIou, double ChanceIou, double PixelAccuracy, double NamingAccuracy, double Threshold);

/// <summary>Measures models that label pixels by names, on scenes whose things are held out by style.</summary>
public static class OpenVocabularyEvaluation
{
    // As many scenes as decide about a threshold.
    const int Deciding = 50, Steps = 40, BatchSize = 16;

    /// <summary>A model that users load, by its own way from names to pixels.</summary>
    /// <param name="tests">The scenes.</param>
    /// <param name="segmenter">The model; its options say how names are put and at which size it looks.</param>
    /// <param name="split">The held-out scenes.</param>
    public static OpenVocabularyScores Run(SceneTests tests, OpenVocabularySegmenter segmenter, EmojiSplit split = EmojiSplit.HeldOutStyle, IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default)
    {
        using var pause = Native.FinalizerPause.TryBegin();
        using var names = segmenter.Names(tests.Names);
        return Run(tests, batch => segmenter.Dense(batch, names), split, progress, cancel);
    }

    /// <param name="tests">The scenes.</param>
    /// <param name="similarities">What the model says of a batch: [b, names, height, width] in any unit and size, larger being likelier, for the names in the order of <see cref="SceneTests.Names"/>.</param>
    /// <param name="split">The held-out scenes.</param>
    public static OpenVocabularyScores Run(SceneTests tests, Func<SceneBatch, Tensor> similarities, EmojiSplit split = EmojiSplit.HeldOutStyle, IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default)
    {
        var names = tests.Names.Count;
        var threshold = Threshold(tests, similarities, cancel);
        var (scores, chance) = (new SegmentationScores(names + 1), new SegmentationScores(names + 1));
        var (right, things, done) = (0L, 0L, 0);
        int[]? before = null;
        var total = tests.Scenes(split).Count;
        foreach (var batch in tests.Batches(split, BatchSize))
        {
            cancel.ThrowIfCancellationRequested();
            using (batch)
            {
                var (best, name, labels) = Told(tests, batch, similarities);
                var pixels = labels.Length / batch.Scenes.Count;
                var told = new int[labels.Length];
                for (var i = 0; i < told.Length; i++)
                {
                    told[i] = best[i] >= threshold ? name[i] + 1 : 0;
                    if (labels[i] == 0) continue;
                    things++;
                    if (name[i] + 1 == labels[i]) right++;
                }
                scores.Add(labels, told);
                for (var i = 0; i < batch.Scenes.Count; i++)
                {
                    before ??= told[^pixels..];
                    chance.Add(labels.AsSpan(i * pixels, pixels), before);
                    before = told[(i * pixels)..((i + 1) * pixels)];
                }
            }
            progress?.Report(new(done += batch.Scenes.Count, total));
        }
        return new(scores.MeanIou, chance.MeanIou, scores.PixelAccuracy, things == 0 ? 0 : (double)right / things, threshold);
    }

    /// <summary>The similarity from which on a pixel counts as a thing, by the mean IoU on scenes of the training style: what <see cref="Run(SceneTests, OpenVocabularySegmenter, EmojiSplit, IProgress{EvaluationProgress}?, CancellationToken)"/> goes by.</summary>
    /// <param name="tests">The scenes.</param>
    /// <param name="segmenter">The model.</param>
    public static float Threshold(SceneTests tests, OpenVocabularySegmenter segmenter, CancellationToken cancel = default)
    {
        using var names = segmenter.Names(tests.Names);
        return Threshold(tests, batch => segmenter.Dense(batch, names), cancel);
    }

    static float Threshold(SceneTests tests, Func<SceneBatch, Tensor> similarities, CancellationToken cancel)
    {
        var (best, name, labels) = (new List<float>(), new List<int>(), new List<int>());
        foreach (var batch in tests.Batches(EmojiSplit.Train, BatchSize, Deciding))
        {
            cancel.ThrowIfCancellationRequested();
            using (batch)
            {
                var (b, n, l) = Told(tests, batch, similarities);
                best.AddRange(b);
                name.AddRange(n);
                labels.AddRange(l);
            }
        }
        float[] sorted = [.. best.Order()];
        var (chosen, highest) = (0f, -1.0);
        var (label, told) = (labels.ToArray(), new int[labels.Count]);
        for (var step = 0; step < Steps; step++)
        {
            var threshold = sorted[(long)step * (sorted.Length - 1) / Steps];
            for (var i = 0; i < told.Length; i++) told[i] = best[i] >= threshold ? name[i] + 1 : 0;
            var scores = new SegmentationScores(tests.Names.Count + 1);
            scores.Add(label, told);
            if (scores.MeanIou > highest) (chosen, highest) = (threshold, scores.MeanIou);
        }
        return chosen;
    }

    static (float[] Best, int[] Name, int[] Labels) Told(SceneTests tests, SceneBatch batch, Func<SceneBatch, Tensor> similarities)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var said = similarities(batch).to(ScalarType.Float32);
        var side = batch.Ids.shape[1];
        if (said.shape[2] != side || said.shape[3] != side) said = nn.functional.interpolate(said, [side, side], mode: InterpolationMode.Bilinear, align_corners: false);
        var (best, name) = said.max(1);
        var labels = new int[batch.Scenes.Count * side * side];
        for (var (s, at) = (0, 0); s < batch.Scenes.Count; s++)
        {
            var scene = batch.Scenes[s];
            int[] classes = [0, .. scene.Objects.Select(o => tests.NameOf(o.Concept) + 1)];
            foreach (var id in scene.Ids) labels[at++] = classes[id];
        }
        return (best.contiguous().data<float>().ToArray(), [.. name.contiguous().data<long>().ToArray().Select(static n => (int)n)], labels);
    }
}
