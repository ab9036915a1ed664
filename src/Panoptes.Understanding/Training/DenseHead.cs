using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation.Training;
using Panoptes.Text;

namespace Panoptes.Understanding.Training;

/// <summary>
/// What Unified-IO's codes are compared with: the same image tower and reader with a head that tells depth and the class of every pixel at once, as dense models do. The head is trained beside the model
/// and is no part of what is saved.
/// </summary>
public sealed record DenseHeadOptions : SceneTaskOptions
{
    public override SceneObjective Create(SceneSetting setting)
    {
        var (model, text) = SequencesOptions.Build(setting);
        if (model is UnifiedIoModel io)
        {
            try
            {
                return new DenseHead(io, text, setting);
            }
            catch
            {
                model.Dispose();
                throw;
            }
        }
        model.Dispose();
        throw new PanoptesException($"This task puts a head on a UnifiedIO's reader; found a {model.GetType().Name}.");
    }
}

/// <inheritdoc cref="DenseHeadOptions"/>
sealed class DenseHead : SceneObjective
{
    const int BatchSize = 32;

    readonly UnifiedIoModel model;
    readonly Tokenizer text;
    readonly SceneSetting setting;
    readonly Dictionary<string, int> classes;
    readonly int grid;

    public DenseHead(UnifiedIoModel model, Tokenizer text, SceneSetting setting)
    {
        (this.model, this.text, this.setting) = (model, text, setting);
        classes = setting.Concepts.Select((c, i) => (setting.Emoji.Concepts[c].Name, i)).GroupBy(static c => c.Name).ToDictionary(static g => g.Key, static g => g.First().i + 1);
        using (var scope = NewDisposeScope())
        using (no_grad())
        {
            var tokens = (int)model.Core.Read(zeros(1, 3, setting.Side, setting.Side), null).Memory.shape[1];
            grid = (int)Math.Sqrt(tokens);
            if (grid * grid != tokens || model.Side % grid != 0) throw new PanoptesException($"The image tower makes {tokens} tokens; a dense head expects a square of them whose side divides the maps' {model.Side} pixels.");
        }
        var (width, each) = (model.Core.Config.HiddenSize, model.Side / grid);
        Hidden = new(width, width, 3, padding: 1);
        Head = new(width, each * each * (2 + classes.Count), 1);
        Hidden.Initialize(setting.Generator);
        Head.Initialize(setting.Generator);
        model.Core.RequiresGrad(false);
        foreach (var part in (Module[])[model.Core.VisionModel, model.Core.VisionProjection, model.Core.Encoder, model.Core.EncoderNorm]) part.RequiresGrad(true);
        model.Core.ImagePositions.RequiresGrad = true;
    }

    public override UnifiedIoModel Model => model;

    public Conv2d Hidden { get; }

    /// <summary>For every pixel of a token's part of the map: depth, nothing, and every class.</summary>
    public Conv2d Head { get; }

    public override string Monitor => "segmentation_iou";

    /// <summary>Distances [b, side, side], and the classes' logits [b, classes + 1, side, side], of which the first is nothing.</summary>
    (Tensor Depth, Tensor Classes) Forward(Tensor pixels)
    {
        var (memory, _) = model.Core.Read(pixels, null);
        var map = memory.transpose(1, 2).reshape(memory.shape[0], -1, grid, grid);
        var told = nn.functional.pixel_shuffle(Head.Forward(nn.functional.gelu(Hidden.Forward(map))), model.Side / grid).to(ScalarType.Float32);
        return (told.select(1, 0), told.narrow(1, 1, told.shape[1] - 1));
    }

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var (told, logits) = Forward(batch.Normalized(Sequences.Mean, Sequences.Std));
        using var exact = Autocast.To(ScalarType.Float32);
        var depth = (told - Depths(batch.Scenes)).abs().mean();
        var segments = nn.functional.cross_entropy(logits, Labels(batch.Scenes));
        return new Dictionary<string, Tensor> { ["loss"] = depth + segments, ["depth"] = depth, ["segments"] = segments };
    }

    Tensor Depths(IReadOnlyList<Scene> scenes) => stack(scenes.Select(s => model.DepthPicture(s).ToTensor(ScalarType.Float32))).mean([1]);

    /// <summary>The class of every pixel of a map, 0 for nothing: [b, side, side] int64.</summary>
    Tensor Labels(IReadOnlyList<Scene> scenes) => stack(scenes.Select(s =>
    {
        var ids = new Image(s.Size, s.Size, 1, s.Ids).Resize(model.Side, model.Side, ResizeFilter.Nearest);
        long[] own = [0, .. s.Objects.Select(o => (long)classes.GetValueOrDefault(o.Name))];
        return tensor([.. ids.Pixels.Select(id => own[id])], [model.Side, model.Side]);
    }));

    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var (measures, done) = (new SequenceMeasures(model, text, tests), 0);
        foreach (var batch in tests.Batches(EmojiSplit.HeldOutStyle, BatchSize))
        {
            cancel.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            using (batch)
            {
                var (depth, logits) = Forward(batch.Normalized(Sequences.Mean, Sequences.Std));
                measures.Depth(depth, Depths(batch.Scenes));
                // What is asked about is what the sequence model is asked about: the pixels that have this class more than any other.
                var asked = tensor([.. batch.Scenes.Select((s, i) => (long)classes.GetValueOrDefault(s.Objects[(done + i) % s.Objects.Count].Name, -1))], [batch.Count, 1, 1]);
                measures.Masks(logits.argmax(1).eq(asked), Labels(batch.Scenes).eq(asked));
            }
            done += batch.Count;
            progress?.Report(new(done, tests.Scenes(EmojiSplit.HeldOutStyle).Count));
        }
        return measures.Result();
    }

    public override void Save(string folder) => Sequences.Save(folder, model, text, setting.Side);
}
