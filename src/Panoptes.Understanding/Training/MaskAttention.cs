using System.Diagnostics;
using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Training;

namespace Panoptes.Understanding.Training;

/// <summary>
/// The training of relative mask attention (MaskCLIP of San Diego, Ding et al. 2023, arXiv:2208.08984): mask proposals, and what refines and classifies them inside a CLIP (<c>model.tower_from</c>) that stays as it
/// is, learn from masks with names. Measured beside cropping, by which the same CLIP looks at every mask by itself.
/// </summary>
public sealed record MaskAttentionOptions : SceneTaskOptions
{
    /// <summary>At how many points two masks are compared.</summary>
    public int Points { get; init; } = 256;

    /// <summary>What is said for a proposal that is none of the named things.</summary>
    public string Other { get; init; } = "other";

    public override SceneObjective Create(SceneSetting setting)
    {
        if (Points is < 1 or > 12544) throw new PanoptesException($"points is {Points}; expected 1 to 12544.");
        if (string.IsNullOrWhiteSpace(Other)) throw new PanoptesException("other is empty; expected a word for what has none of the names.");
        return setting.Recipe.Model.TrainUponClip<MaskClipPanopticModel>(setting, static m => m.Clip, (model, texts) => new MaskAttention(model, texts, this, setting));
    }
}

/// <inheritdoc cref="MaskAttentionOptions"/>
sealed class MaskAttention : SceneObjective
{
    /// <summary>The logit of a pixel that is in a mask for certain.</summary>
    const float Certain = 10;

    readonly MaskClipPanopticModel model;
    readonly SceneTexts texts;
    readonly MaskAttentionOptions options;
    readonly int[] concepts;                                                              // in order
    readonly Tensor names;                                                                // [names + 1, embedding], the last for what has none

    public MaskAttention(MaskClipPanopticModel model, SceneTexts texts, MaskAttentionOptions options, SceneSetting setting)
    {
        (this.model, this.texts, this.options, concepts) = (model, texts, options, [.. setting.Concepts]);
        model.Clip.RequiresGrad(false);
        names = texts.Names([.. setting.Names, options.Other]);
    }

    public override MaskClipPanopticModel Model => model;

    public override string Monitor => "pq";

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var output = model.Forward(texts.Pixels(batch));
        using var exact = Autocast.To(ScalarType.Float32);
        output = new(output.Embeddings.to(ScalarType.Float32), [.. output.Masks.Select(static m => m.to(ScalarType.Float32))]);
        MaskTarget[] targets = [.. Enumerable.Range(0, batch.Count).Select(i => new MaskTarget(tensor(batch.Scenes[i].Objects.Select(o => (long)Array.BinarySearch(concepts, o.Concept)).ToArray()), batch.Masks(i).to(ScalarType.Float32)))];
        return new Dictionary<string, Tensor> { ["loss"] = MaskLoss.Total(model.Predictions(output, names), targets, new() { Points = options.Points }, random) };
    }

    /// <summary>
    /// Of the true masks of held-out scenes, the share that gets its name (<c>accuracy</c>), panoptic quality by the model's own proposals (<c>pq</c>), and how many images' proposals are classified a second, each beside
    /// cropping (<c>crop_…</c>); both are timed in turn, batch by batch.
    /// </summary>
    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var (right, cropRight, all, done) = (0, 0, 0, 0);
        var (time, cropTime) = (new Stopwatch(), new Stopwatch());
        var (told, cropTold) = (new Queue<MaskPrediction>(), new Queue<MaskPrediction>());
        using var kept = NewDisposeScope();
        var known = names.narrow(0, 0, concepts.Length);
        foreach (var batch in tests.Batches(EmojiSplit.HeldOutStyle, SceneMeasures.BatchSize))
        {
            cancel.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            using (batch)
            {
                var pixels = texts.Pixels(batch);
                for (var i = 0; i < batch.Count; i++)
                {
                    var masks = batch.Masks(i).to(ScalarType.Float32).mul(2 * Certain).sub(Certain);
                    var wanted = tensor(batch.Scenes[i].Objects.Select(o => (long)Array.BinarySearch(concepts, o.Concept)).ToArray());
                    int Right(Tensor embeddings) => (int)embeddings.matmul(known.t()).argmax(-1).eq(wanted).sum().item<long>();
                    right += Right(model.Forward(pixels.narrow(0, i, 1), masks.unsqueeze(0)).Embeddings[0]);
                    cropRight += Right(MaskClipPanopticModel.EmbedCrops(model.Clip, pixels[i], masks));
                    all += batch.Scenes[i].Objects.Count;
                }

                var proposals = model.Propose(pixels);
                time.Start();
                var output = model.Forward(pixels, proposals);
                time.Stop();
                cropTime.Start();
                var crops = stack([.. Enumerable.Range(0, batch.Count).Select(i => MaskClipPanopticModel.EmbedCrops(model.Clip, pixels[i], proposals[i]))]);
                cropTime.Stop();
                told.Enqueue(Kept(output.Embeddings, output.Masks[^1]));
                cropTold.Enqueue(Kept(crops, proposals));
            }
            done += batch.Count;                                                          // whether anybody is told or not
            progress?.Report(new(done, tests.Scenes(EmojiSplit.HeldOutStyle).Count));
        }
        return new Dictionary<string, double>([
            .. SceneMeasures.Things(tests, _ => told.Dequeue(), cancel: cancel),
            .. SceneMeasures.Things(tests, _ => cropTold.Dequeue(), cancel: cancel).Select(static m => new KeyValuePair<string, double>($"crop_{m.Key}", m.Value)),
            new("accuracy", (double)right / all),
            new("crop_accuracy", (double)cropRight / all),
            new("accuracy_gain", (double)(right - cropRight) / all),
            new("images_per_second", done / time.Elapsed.TotalSeconds),
            new("crop_images_per_second", done / cropTime.Elapsed.TotalSeconds),
            new("times_as_fast", cropTime.Elapsed / time.Elapsed),
        ]);

        MaskPrediction Kept(Tensor embeddings, Tensor masks) => new(model.Logits(embeddings, names).MoveToOuterDisposeScope(), masks.MoveToOuterDisposeScope());
    }

    public override void Save(string folder)
    {
        PromptableModels.Save(folder, model);
        texts.Save(folder);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) names.Dispose();
        base.Dispose(disposing);
    }
}
