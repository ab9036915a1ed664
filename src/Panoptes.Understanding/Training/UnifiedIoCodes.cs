using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation.Objectives;
using Panoptes.Representation.Training;
using Panoptes.Text;

namespace Panoptes.Understanding.Training;

/// <summary>
/// Unified-IO's first step (Lu et al. 2022, arXiv:2206.08916, section 3.1): a VQ-VAE learns the pictures that are to be answered, maps of depth and of segments, so that its codes can be written as words
/// are. Nothing else of the model is trained; <see cref="SequencesOptions.ImageTokenizer"/> takes the codes over.
/// </summary>
public sealed record UnifiedIoCodesOptions : SceneTaskOptions
{
    /// <summary>How far a reconstruction is from the map: <c>l1</c> or <c>l2</c>.</summary>
    public PixelError Pixels { get; init; } = PixelError.L1;

    /// <summary>How much the latents keep to their codes.</summary>
    public double Commitment { get; init; } = 0.25;

    public override SceneObjective Create(SceneSetting setting)
    {
        if (Commitment is not (>= 0 and < double.PositiveInfinity)) throw new PanoptesException($"commitment is {Commitment}; expected 0 or more.");
        var (model, text) = SequencesOptions.Build(setting);
        if (model is UnifiedIoModel io) return new UnifiedIoCodes(io, text, this, setting);
        model.Dispose();
        throw new PanoptesException($"This task trains the codes of a UnifiedIO; found a {model.GetType().Name}.");
    }
}

/// <inheritdoc cref="UnifiedIoCodesOptions"/>
sealed class UnifiedIoCodes : SceneObjective
{
    const int BatchSize = 32;

    readonly UnifiedIoModel model;
    readonly Tokenizer text;
    readonly SceneSetting setting;

    public UnifiedIoCodes(UnifiedIoModel model, Tokenizer text, UnifiedIoCodesOptions options, SceneSetting setting)
    {
        (this.model, this.text, this.setting) = (model, text, setting);
        Codes = new(model.Vq, new() { Name = "vq_vae", Pixels = options.Pixels, Commitment = options.Commitment });
        Codes.Initialize(setting.Generator);
        model.Core.RequiresGrad(false);
        model.Vq.RequiresGrad(true);
        if (Codes.Uses is not null) model.Vq.Quantize.RequiresGrad(false);               // the codes follow by moving averages
    }

    public override UnifiedIoModel Model => model;

    /// <summary>How the codebook follows.</summary>
    public VqVae Codes { get; }

    public override string Monitor => "segmentation_iou";

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var pictures = new List<Image>(2 * batch.Count);
        for (var i = 0; i < batch.Count; i++)
        {
            var (scene, draw) = (batch.Scenes[i], new SampleRandom(setting.Recipe.Seed, step, i));
            pictures.AddRange([model.DepthPicture(scene), model.SegmentPicture(scene, scene.Objects[draw.Next(scene.Objects.Count)].Name)]);
        }
        var pixels = stack(pictures.Select(static p => p.ToTensor(ScalarType.Float32))) * 2 - 1;
        return new Dictionary<string, Tensor> { ["loss"] = Codes.Loss(pixels, step, random) };
    }

    public override void AfterStep() => Codes.AfterStep();

    /// <summary>How near a map comes to itself through the codes: the best that any answer by them can be.</summary>
    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var (measures, done) = (new SequenceMeasures(model, text, tests), 0);
        foreach (var chunk in tests.Scenes(EmojiSplit.HeldOutStyle).Chunk(BatchSize))
        {
            cancel.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var depth = stack(chunk.Select(s => model.DepthPicture(s).ToTensor(ScalarType.Float32)));
            var segments = stack(chunk.Select((s, i) => model.SegmentPicture(s, s.Objects[(done + i) % s.Objects.Count].Name).ToTensor(ScalarType.Float32)));
            measures.Depth(model.Vq.Picture(model.Vq.Tokenize(depth)).mean([1]), depth.mean([1]));
            measures.Segments(model.Vq.Picture(model.Vq.Tokenize(segments)), segments);
            done += chunk.Length;
            progress?.Report(new(done, tests.Scenes(EmojiSplit.HeldOutStyle).Count));
        }
        return measures.Result();
    }

    public override void Save(string folder) => Sequences.Save(folder, model, text, setting.Side);
}
