using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Training;

namespace Panoptes.Understanding.Training;

/// <summary>
/// OpenSeg's training (Ghiasi et al. 2022, arXiv:2112.12143) upon a CLIP (<c>model.tower_from</c>): masks without any name teach what proposals are, and the names in captions look for the regions that they mean,
/// so that regions get names that nobody gave them. The text tower stays as it is.
/// </summary>
public sealed record OpenSegOptions : SceneTaskOptions
{
    /// <summary>Whether the things' masks are seen, as masks of something; otherwise proposals are learned through the captions alone.</summary>
    public bool Masks { get; init; } = true;

    /// <summary>The temperature by which a word chooses among regions, and an image among captions.</summary>
    public double Tau { get; init; } = 0.1;

    public override SceneObjective Create(SceneSetting setting)
    {
        if (!(Tau > 0)) throw new PanoptesException($"tau is {Tau}; expected above 0.");
        return setting.Recipe.Model.TrainUponClip<OpenSegModel>(setting, static m => m.Clip, (model, texts) => new OpenSegTraining(model, texts, this, setting));
    }
}

/// <inheritdoc cref="OpenSegOptions"/>
sealed class OpenSegTraining : SceneObjective
{
    readonly OpenSegModel model;
    readonly SceneTexts texts;
    readonly OpenSegOptions options;
    readonly int[] concepts;                                                               // in order
    readonly Tensor names;                                                                // [names, embedding]

    public OpenSegTraining(OpenSegModel model, SceneTexts texts, OpenSegOptions options, SceneSetting setting)
    {
        (this.model, this.texts, this.options, concepts) = (model, texts, options, [.. setting.Concepts]);
        ((Module)model.Clip.Texts).RequiresGrad(false);
        model.Clip.LogitScale.RequiresGrad = false;
        names = texts.Names(setting.Names);
    }

    public override OpenSegModel Model => model;

    public override string Monitor => "miou";

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var output = model.Forward(texts.Pixels(batch));
        output = new(output.MaskLogits.to(ScalarType.Float32), output.Regions.to(ScalarType.Float32), output.Pixels.to(ScalarType.Float32));
        using var exact = Autocast.To(ScalarType.Float32);
        var (words, there) = Words(batch);
        var grounding = OpenSegModel.Loss(output, words, there, tau: options.Tau);
        if (!options.Masks) return new Dictionary<string, Tensor> { ["loss"] = grounding };
        var masks = OpenSeg.MaskLoss(output.MaskLogits, nn.functional.interpolate(Things(batch), output.MaskLogits.shape[2..], mode: InterpolationMode.Area));
        return new Dictionary<string, Tensor> { ["loss"] = grounding + masks, ["grounding"] = grounding, ["masks"] = masks };
    }

    /// <summary>The names that each caption says, each once: [b, words, embedding], and which are there: [b, words] bool.</summary>
    (Tensor Words, Tensor There) Words(SceneBatch batch)
    {
        var said = batch.Scenes.Select(s => s.Objects.Select(o => (long)Array.BinarySearch(concepts, o.Concept)).Distinct().ToArray()).ToArray();
        var most = said.Max(static s => s.Length);
        var index = tensor((long[])[.. said.SelectMany(s => s.Concat(Enumerable.Repeat(-1L, most - s.Length)))], [said.Length, most]);
        return (names.index_select(0, index.clamp(min: 0).flatten()).view(said.Length, most, -1), index.ge(0));
    }

    /// <summary>The visible parts of things, whatever they are: [b, things, side, side] float32, empty where a scene has fewer.</summary>
    static Tensor Things(SceneBatch batch) =>
        batch.Ids.unsqueeze(1).eq(arange(1, batch.Scenes.Max(static s => s.Objects.Count) + 1, ScalarType.Byte).view(1, -1, 1, 1)).to(ScalarType.Float32);

    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel) =>
        texts.Measure(tests, (pixels, asked) => OpenVocabularySegmenter.Dense(model, pixels, asked), progress, cancel);

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
