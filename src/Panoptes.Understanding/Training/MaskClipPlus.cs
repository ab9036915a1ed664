using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Training;

namespace Panoptes.Understanding.Training;

/// <summary>
/// MaskCLIP+'s training (Zhou et al. 2022, arXiv:2112.01071, section 3.3): a segmenter that begins with the weights of a CLIP (<c>model.tower_from</c>) learns what MaskCLIP reads out of that CLIP, and then what it says
/// itself. No mask and no caption is seen; the texts' tower stays as it is, so that any name can be asked for.
/// </summary>
public sealed record MaskClipPlusOptions : SceneTaskOptions
{
    /// <summary>The share of the steps in which the teacher labels; in the rest the segmenter labels for itself (the paper's one tenth and nine).</summary>
    public double TeacherShare { get; init; } = 0.5;

    /// <summary>The side in pixels to which scenes are enlarged for the teacher, whose map is coarse; null: as they are.</summary>
    public int? TeacherSide { get; init; }

    /// <summary>A place whose likeliest name has less than this probability has no label.</summary>
    public double Least { get; init; } = 0.5;

    /// <summary>The teacher's prompt denoising (<see cref="MaskClipOptions.DenoiseThreshold"/>).</summary>
    public double Denoise { get; init; } = 0.5;

    /// <summary>The teacher's key smoothing (<see cref="MaskClipOptions.KeySmoothingThreshold"/>); null: as users get it, 1 for a transformer and none for a ResNet.</summary>
    public double? Smooth { get; init; }

    public override SceneObjective Create(SceneSetting setting)
    {
        if (TeacherShare is not (>= 0 and <= 1) || Least is not (>= 0 and <= 1) || Denoise is not (>= 0 and <= 1) || Smooth is not (null or >= 0)) throw new PanoptesException("teacher_share, least and denoise must be from 0 to 1, and smooth 0 or more.");
        if (TeacherSide is < 32 or > 1024) throw new PanoptesException($"teacher_side is {TeacherSide}; expected 32 to 1024 pixels.");
        var teacher = setting.Recipe.Model.LoadClip(setting);
        try
        {
            MaskClip.PlaceSize(teacher);
            return setting.Recipe.Model.TrainUponClip<DenseClipModel>(setting, static m => m.Clip, (model, texts) => new MaskClipPlusTraining(model, teacher, texts, this, setting));
        }
        catch
        {
            teacher.Dispose();
            throw;
        }
    }
}

/// <inheritdoc cref="MaskClipPlusOptions"/>
sealed class MaskClipPlusTraining : SceneObjective
{
    readonly DenseClipModel model;
    readonly OpenClipModel teacher;                                                       // no part of what is trained or kept
    readonly SceneTexts texts;
    readonly MaskClipPlusOptions options;
    readonly MaskClipOptions maskClip;
    readonly Tensor names;                                                                // [names, embedding]
    readonly long teaching;

    public MaskClipPlusTraining(DenseClipModel model, OpenClipModel teacher, SceneTexts texts, MaskClipPlusOptions options, SceneSetting setting)
    {
        (this.model, this.teacher, this.texts, this.options) = (model, teacher, texts, options);
        teacher.Train(false);
        teacher.RequiresGrad(false);
        // What is asked for is not trained: the segmenter learns to answer it.
        ((Module)model.Clip.Texts).RequiresGrad(false);
        model.Clip.LogitScale.RequiresGrad = false;
        names = texts.Names(setting.Names);
        var usual = OpenVocabularySegmenter.MaskClipOf(teacher);
        maskClip = usual with { DenoiseThreshold = options.Denoise, KeySmoothingThreshold = options.Smooth ?? usual.KeySmoothingThreshold };
        teaching = (long)Math.Round(setting.Recipe.Schedule.Steps * options.TeacherShare);
    }

    public override DenseClipModel Model => model;

    public override string Monitor => "miou";

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var pixels = texts.Pixels(batch);
        var logits = model.Forward(pixels, names).to(ScalarType.Float32);
        using var exact = Autocast.To(ScalarType.Float32);
        var labels = step < teaching ? MaskClipPlus.Labels(teacher, Enlarged(pixels), names, maskClip, options.Least) : MaskClipPlus.OwnLabels(logits, options.Least);
        return new Dictionary<string, Tensor> { ["loss"] = MaskClipPlus.Loss(logits, labels), ["labeled"] = labels.ne(MaskClipPlus.Ignored).to(ScalarType.Float32).mean() };
    }

    /// <summary>The segmenter's measures, and its teacher's on the same scenes.</summary>
    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var found = texts.Measure(tests, (pixels, asked) => OpenVocabularySegmenter.Dense(model, pixels, asked), progress, cancel).ToDictionary();
        foreach (var (name, value) in texts.Measure(tests, (pixels, asked) => OpenVocabularySegmenter.Dense(teacher, Enlarged(pixels), asked, maskClip), progress, cancel)) found[$"teacher_{name}"] = value;
        found["gain"] = found["miou"] - found["teacher_miou"];
        return found;
    }

    Tensor Enlarged(Tensor pixels) => options.TeacherSide is { } side && side != pixels.shape[2] ? nn.functional.interpolate(pixels, [side, side], mode: InterpolationMode.Bilinear, align_corners: false) : pixels;

    public override void Save(string folder)
    {
        PromptableModels.Save(folder, model);
        texts.Save(folder);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            names.Dispose();
            teacher.Dispose();
        }
        base.Dispose(disposing);
    }
}
