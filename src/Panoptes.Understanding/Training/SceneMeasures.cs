using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Representation.Training;
using Panoptes.Text;

namespace Panoptes.Understanding.Training;

/// <summary>What models that name, caption and find are measured by, on scenes whose drawings they have not seen.</summary>
static class SceneMeasures
{
    /// <summary>How many scenes are looked at together; all measures take them in the same batches.</summary>
    public const int BatchSize = 16;

    /// <summary>Every thing with its name and mask: panoptic quality of the things, and the mean IoU over the names and the background.</summary>
    /// <param name="tests">The scenes.</param>
    /// <param name="predict">Of a batch, for the names in the order of <see cref="SceneTests.Names"/> and the background after them.</param>
    /// <param name="split">The held-out scenes.</param>
    public static IEnumerable<KeyValuePair<string, double>> Things(SceneTests tests, Func<SceneBatch, MaskPrediction> predict, EmojiSplit split = EmojiSplit.HeldOutStyle, IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default)
    {
        // The background is a segment, too: what is told there counts as wrong.
        var background = tests.Names.Count + 1;
        var quality = new PanopticQuality([.. Enumerable.Range(1, tests.Names.Count).Select(static i => new PanopticCategory(i, true)), new(background, false)]);
        var scores = new SegmentationScores(tests.Names.Count + 1);
        var (done, total) = (0, tests.Scenes(split).Count);
        foreach (var batch in tests.Batches(split, BatchSize))
        {
            cancel.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            using (batch)
            {
                var output = predict(batch);
                for (var i = 0; i < batch.Count; i++)
                {
                    var scene = batch.Scenes[i];
                    var told = SegmentationOutput.Panoptic(output.Classes[i].to(ScalarType.Float32), output.Masks[i].to(ScalarType.Float32), scene.Size, scene.Size, new() { RestIsNothing = true });
                    var (ids, foundIds) = (Array.ConvertAll(scene.Ids, v => v == 0 ? scene.Objects.Count + 1 : v), Array.ConvertAll(told.Ids.Labels, static v => v == 0 ? int.MaxValue : v));
                    PanopticSegment[] labeled = [.. scene.Objects.Select((o, k) => new PanopticSegment(k + 1, tests.NameOf(o.Concept) + 1)), .. Rest(ids, scene.Objects.Count + 1)];
                    PanopticSegment[] found = [.. told.Segments.Select(static s => new PanopticSegment(s.Id, s.Class + 1)).DistinctBy(static s => s.Id), .. Rest(foundIds, int.MaxValue)];
                    quality.Add(ids, labeled, foundIds, found);
                    var (ofLabel, ofTold) = (labeled.ToDictionary(static s => s.Id, s => s.Category % background), found.ToDictionary(static s => s.Id, s => s.Category % background));
                    scores.Add(Array.ConvertAll(ids, v => ofLabel[v]), Array.ConvertAll(foundIds, v => ofTold[v]));
                }
            }
            progress?.Report(new(done += batch.Count, total));
        }
        var mean = quality.Mean(things: true);
        return [new("pq", mean.Quality), new("sq", mean.Segmentation), new("rq", mean.Recognition), new("miou", scores.MeanIou)];

        // Nothing may cover all of a picture.
        PanopticSegment[] Rest(int[] pixels, int id) => pixels.AsSpan().Contains(id) ? [new(id, background)] : [];
    }

    /// <summary>CIDEr-D and the share of words that are right, of what a model says of scenes; and the same of captions that belong to other scenes.</summary>
    /// <param name="write">The captions of a batch.</param>
    /// <inheritdoc cref="Things"/>
    public static IEnumerable<KeyValuePair<string, double>> Captions(SceneTests tests, Func<SceneBatch, IReadOnlyList<string>> write, EmojiSplit split = EmojiSplit.HeldOutStyle, CancellationToken cancel = default)
    {
        var (said, meant) = (new List<string>(), new List<IReadOnlyList<string>>());
        foreach (var batch in tests.Batches(split, BatchSize))
        {
            cancel.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            using (batch)
            {
                said.AddRange(write(batch));
                meant.AddRange(batch.Captions.Select(static c => (IReadOnlyList<string>)[c]));
            }
        }
        var (scores, chance) = (Captioning.Score(said, meant), Captioning.Score([.. said.Skip(1), said[0]], meant));
        return [new("cider", scores.CiderD), new("cider_chance", chance.CiderD), new("caption_f1", scores.WordF1)];
    }

    /// <summary>Images found by their captions and captions by their images, among those of all scenes: the mean of both shares that come first.</summary>
    /// <param name="embed">Images and texts of a batch, [b, embedding] each.</param>
    /// <inheritdoc cref="Things"/>
    public static IEnumerable<KeyValuePair<string, double>> Retrieval(SceneTests tests, Func<SceneBatch, (Tensor Images, Tensor Texts)> embed, EmojiSplit split = EmojiSplit.HeldOutStyle, CancellationToken cancel = default)
    {
        using var scope = NewDisposeScope();
        var (images, texts) = (new List<Tensor>(), new List<Tensor>());
        foreach (var batch in tests.Batches(split, BatchSize))
        {
            cancel.ThrowIfCancellationRequested();
            using var inner = NewDisposeScope();
            using (batch)
            {
                var (i, t) = embed(batch);
                images.Add(i.to(ScalarType.Float32).MoveToOuterDisposeScope());
                texts.Add(t.to(ScalarType.Float32).MoveToOuterDisposeScope());
            }
        }
        // Scenes of the same caption are as right as each other.
        var groups = new Dictionary<string, int>(StringComparer.Ordinal);
        int[] of = [.. tests.Scenes(split).Select(s => groups.TryGetValue(s.Caption, out var g) ? g : groups[s.Caption] = groups.Count)];
        var report = Evaluation.Retrieval.Score(cat([.. images]), cat([.. texts]), of, of, cancel);
        return [new("retrieval", (report.ImageToText.R1 + report.TextToImage.R1) / 2)];
    }

    /// <summary>What expressions mean: cumulative IoU, and the share of those found with an IoU of 0.5.</summary>
    /// <param name="refer">The masks of expressions, [expressions, rows, columns] logits: a batch, the expressions, and the picture that each is about.</param>
    /// <param name="each">How many expressions of a scene.</param>
    /// <inheritdoc cref="Things"/>
    public static IEnumerable<KeyValuePair<string, double>> Referring(SceneTests tests, Func<SceneBatch, IReadOnlyList<string>, IReadOnlyList<int>, Tensor> refer, int each = 3, EmojiSplit split = EmojiSplit.HeldOutStyle, CancellationToken cancel = default)
    {
        var (scores, first) = (new ReferringScores(), 0);
        foreach (var batch in tests.Batches(split, BatchSize))
        {
            cancel.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            using (batch)
            {
                // Of different kinds, as far as there are.
                (int Image, SceneReference Said)[] asked = [.. Enumerable.Range(0, batch.Count).SelectMany(i => tests.References(split, first + i).Where(static r => r.Objects.Count == 1).GroupBy(static r => r.Kind).Select(static g => g.First()).Take(each).Select(r => (i, r)))];
                first += batch.Count;
                if (asked.Length == 0) continue;
                var side = batch.Ids.shape[1];
                var masks = InteractiveEvaluation.Enlarge(refer(batch, [.. asked.Select(static a => a.Said.Text)], [.. asked.Select(static a => a.Image)]).to(ScalarType.Float32).unsqueeze(1), side, side).gt(0).to(ScalarType.Byte).flatten(1);
                for (var k = 0; k < asked.Length; k++)
                    scores.Add(masks[k].data<byte>().ToArray(), batch.Mask(asked[k].Image, asked[k].Said.Objects).to(ScalarType.Byte).flatten().data<byte>().ToArray());
            }
        }
        return [new("referring_ciou", scores.CumulativeIou), new("referring_50", scores.Precision(0.5))];
    }

    /// <summary>Ids as words.</summary>
    public static IReadOnlyList<string> Words(Tokenizer tokenizer, IReadOnlyList<int[]> ids) => [.. ids.Select(i => tokenizer.Decode(i))];
}
