using System.Globalization;
using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation.Training;

namespace Panoptes.Understanding.Training;

/// <summary>DETR's training (Carion et al. 2020, arXiv:2005.12872): a set of boxes and classes is predicted at once and matched to the things there are.</summary>
public sealed record DetectionOptions : SceneTaskOptions
{
    /// <summary>What the classes are.</summary>
    public EmojiLabel Classes { get; init; } = EmojiLabel.Group;

    public override SceneObjective Create(SceneSetting setting)
    {
        var classes = SceneClasses.Of(setting.Emoji, setting.Concepts, Classes);
        string[] labels = [.. classes.Names.Take(classes.Things)];
        return new Detection(setting.Recipe.Model.Build<DetrForObjectDetection>(setting, labels), classes, setting.Side);
    }
}

/// <inheritdoc cref="DetectionOptions"/>
sealed class Detection(DetrForObjectDetection model, SceneClasses classes, int side) : SceneObjective
{
    const int BatchSize = 16;

    static readonly float[] Mean = ImageProcessor.ImageNetMean, Std = ImageProcessor.ImageNetStd;

    public override DetrForObjectDetection Model => model;

    public override string Monitor => "ap";

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var layers = model.Forward(batch.Normalized(Mean, Std), allLayers: true).Layers.Select(static l => new DetectionPrediction(l.Logits.to(ScalarType.Float32), l.Boxes.to(ScalarType.Float32))).ToArray();
        using var exact = Autocast.To(ScalarType.Float32);
        DetectionTarget[] targets = [.. Enumerable.Range(0, batch.Count).Select(i => new DetectionTarget(batch.Classes(i, classes), Boxes.ToCenters(batch.Boxes(i) / batch.Scenes[i].Size)))];
        var last = DetrLoss.Of(layers[^1], targets, model.Config.Loss);
        var total = last.Total;
        foreach (var layer in layers[..^1]) total = total + DetrLoss.Of(layer, targets, model.Config.Loss).Total;
        return new Dictionary<string, Tensor> { ["loss"] = total, ["classes"] = last.Classes, ["boxes"] = last.Boxes, ["giou"] = last.Giou };
    }

    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var (labeled, detected) = (new List<LabeledThing>(), new List<DetectedThing>());
        var (done, size) = (0, tests.Options.Size);
        foreach (var batch in tests.Batches(EmojiSplit.HeldOutStyle, BatchSize))
        {
            cancel.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            using (batch)
            {
                var output = model.Forward(batch.Normalized(Mean, Std));
                var found = DetectionOutput.FromClasses(output.Logits.to(ScalarType.Float32), output.Boxes.to(ScalarType.Float32), [.. batch.Scenes.Select(_ => (size, size))], 0, static c => c.ToString(CultureInfo.InvariantCulture));
                for (var i = 0; i < batch.Count; i++)
                {
                    var image = done + i;
                    labeled.AddRange(batch.Scenes[i].Objects.Select(o => new LabeledThing(image, classes.OfConcept(o.Concept), new(o.Box.X, o.Box.Y, o.Box.Width, o.Box.Height), o.Pixels)));
                    detected.AddRange(found[i].Select(f => new DetectedThing(image, int.Parse(f.Label, CultureInfo.InvariantCulture), new(f.Left, f.Top, f.Right - f.Left, f.Bottom - f.Top), f.Score)));
                }
            }
            progress?.Report(new(done += batch.Count, tests.Scenes(EmojiSplit.HeldOutStyle).Count));
        }
        var scores = DetectionScores.Of(labeled, detected, [.. Enumerable.Range(0, classes.Things)]);
        return new Dictionary<string, double> { ["ap"] = scores.Ap ?? 0, ["ap50"] = scores.Ap50 ?? 0, ["ap75"] = scores.Ap75 ?? 0 };
    }

    public override void Save(string folder)
    {
        PromptableModels.Save(folder, model);
        new PaddedImageProcessor { Size = PaddedSize.Edges(side, side), Mean = Mean, Std = Std }.Save(folder);
    }
}
