using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation.Training;
using Panoptes.Training;

namespace Panoptes.Generation.Training;

/// <summary>What trains control beside a pipeline that stays as it is: the recipe's model is that pipeline (<c>from</c>).</summary>
public abstract record ControlOptions : SceneTaskOptions
{
    /// <summary>How often a caption is left out, so that guidance can ask without one, and the condition has to tell what there is.</summary>
    public double CaptionDropout { get; init; } = 0.1;

    /// <summary>The bound of min-SNR weights; null: all timesteps count alike.</summary>
    public double? SnrGamma { get; init; }

    /// <summary>From which share of the timesteps on control is learned: what counts only in the first steps of an image, as where things are, need not be learned of pictures with little noise.</summary>
    public double FromNoise { get; init; }

    /// <summary>How images are made to be measured.</summary>
    public GenerationMeasureOptions Measures { get; init; } = new();

    private protected SceneObjective Create(SceneSetting setting, Func<StableDiffusion, SceneObjective> make)
    {
        if (CaptionDropout is not (>= 0 and <= 1)) throw new PanoptesException($"caption_dropout is {CaptionDropout}; expected 0 to 1.");
        if (setting.Recipe.Model.From is null) throw new PanoptesException("Control is trained beside a pipeline that stays as it is; expected its folder (model.from).");
        var pipeline = RecipeModels.Pipeline(setting, null);
        try
        {
            if (setting.Side % pipeline.Multiple != 0) throw new PanoptesException($"Scenes of {setting.Side} pixels were asked for; this pipeline makes sides that are multiples of {pipeline.Multiple}.");
            return make(pipeline);
        }
        catch
        {
            pipeline.Dispose();
            throw;
        }
    }
}

/// <summary>What the trainings of control have in common: a pipeline whose weights stay, the same noise and loss that it was trained with, and the same measures with and without control.</summary>
abstract class ControlTraining : SceneObjective
{
    readonly ControlOptions options;
    readonly DenoisingLoss loss;
    readonly GenerationMeasures measures;
    readonly CaptionReader reader;

    private protected ControlTraining(StableDiffusion pipeline, ControlOptions options, SceneSetting setting)
    {
        (Pipeline, this.options) = (pipeline, options);
        loss = new(pipeline.Scheduler, options.SnrGamma, options.FromNoise);
        pipeline.UNet.RequiresGrad(false);
        pipeline.Prompts.Encoder.RequiresGrad(false);
        pipeline.Autoencoder?.RequiresGrad(false);
        (measures, reader) = (new(options.Measures, setting), new(pipeline.Prompts.Encoder, pipeline.Prompts.Tokenizer));
    }

    private protected StableDiffusion Pipeline { get; }

    public override string Monitor => GenerationMeasures.Monitor;

    /// <summary>The call with what control adds.</summary>
    private protected abstract NetworkCall Controlled(NetworkCall call, SceneBatch batch, Generator random);

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        using var scope = NewDisposeScope();
        Tensor clean, text;
        using (no_grad())
        {
            clean = Pipeline.Encode(SignedPixels.Of(batch), random).to(ScalarType.Float32);
            text = Pipeline.Prompts.Encoder.Read(reader.Ids(batch.Captions, options.CaptionDropout, random), null, 0, normalized: true).Tokens;
        }
        var noisy = loss.Draw(clean, random);
        var told = Pipeline.Predict(Controlled(new() { Sample = noisy.Sample, Timestep = noisy.Timesteps, Conditioning = new() { Text = text } }, batch, random));
        return new Dictionary<string, Tensor> { ["loss"] = DenoisingLoss.Of(told, noisy).MoveToOuterDisposeScope() };
    }

    /// <summary>Images of scenes under control, some at a time.</summary>
    private protected abstract IReadOnlyList<Image> Generate(GenerationMeasures measures, IReadOnlyList<Scene> scenes, IReadOnlyList<long> seeds, CancellationToken cancel);

    /// <summary>How far images keep to what controls them, by names of measures; and the same of images without control.</summary>
    private protected virtual IEnumerable<KeyValuePair<string, double>> Fidelity(IReadOnlyList<Scene> scenes, IReadOnlyList<Image> controlled, IReadOnlyList<Image> plain) => [];

    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var (without, plain) = measures.Of(tests, (scenes, seeds, stop) => measures.Generate(Pipeline, scenes, seeds, [], stop), progress, cancel);
        var (with, controlled) = measures.Of(tests, (scenes, seeds, stop) => Generate(measures, scenes, seeds, stop), progress, cancel);
        var scores = new Dictionary<string, double>(with);
        foreach (var (name, value) in without) scores[$"{name}_without"] = value;
        foreach (var (name, value) in Fidelity(tests.Scenes(EmojiSplit.Train), controlled, plain)) scores[name] = value;
        return scores;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Pipeline.Dispose();
            measures.Dispose();
        }
        base.Dispose(disposing);
    }
}

/// <summary>
/// ControlNet (Zhang et al. 2023, arXiv:2302.05543): a copy of the UNet's downward path reads a condition's image, and adds to the UNet's skips through convolutions that begin at zero, so that training begins with
/// what the pipeline can already do.
/// </summary>
public sealed record ControlNetOptions : ControlOptions
{
    /// <summary>Which conditions (<see cref="SceneConditions"/>); of several each scene has one, as it comes, and the network is not told which.</summary>
    public required string[] Conditions { get; init; }

    /// <summary>Channels of the layers that read the condition's image, each but the first halving it; null: as many layers as the autoencoder has levels.</summary>
    public int[]? EmbeddingChannels { get; init; }

    /// <summary>Whether what is added begins at zero; false: at random, which the paper compares with.</summary>
    public bool ZeroConvolutions { get; init; } = true;

    public override SceneObjective Create(SceneSetting setting) => Create(setting, pipeline =>
    {
        var conditions = new SceneConditions(Conditions);
        var channels = EmbeddingChannels ?? [.. Enumerable.Range(0, 1 + int.Log2(pipeline.PixelsPerPlace)).Select(static i => 16 << i)];
        if (channels.Any(static c => c is < 1 or > 4096)) throw new PanoptesException($"embedding_channels is [{string.Join(", ", channels)}]; expected 1 to 4096 of each layer.");
        if (channels.Length is 0 or > 16 || 1 << (channels.Length - 1) != pipeline.PixelsPerPlace) throw new PanoptesException($"embedding_channels has {channels.Length} layers, which halve an image {Math.Max(0, channels.Length - 1)} times; expected what makes {pipeline.PixelsPerPlace} pixels one.");
        var network = ControlNetModel.Of(pipeline.UNet, setting.Generator, embeddingChannels: channels);
        using var noGrad = no_grad();
        if (!ZeroConvolutions)
        {
            foreach (var layer in (Conv2d[])[network.ControlnetCondEmbedding.ConvOut, .. network.ControlnetDownBlocks, network.ControlnetMidBlock])
            {
                // As a convolution is usually begun.
                var bound = 1 / Math.Sqrt(layer.Weight.Shape[1] * layer.Weight.Shape[2] * layer.Weight.Shape[3]);
                layer.Weight.Value.uniform_(-bound, bound, setting.Generator);
            }
        }
        return new ControlNetTraining(pipeline, network, conditions, this, setting);
    });
}

/// <inheritdoc cref="ControlNetOptions"/>
sealed class ControlNetTraining(StableDiffusion pipeline, ControlNetModel network, SceneConditions conditions, ControlNetOptions options, SceneSetting setting) : ControlTraining(pipeline, options, setting)
{
    public override ControlNetModel Model => network;

    private protected override NetworkCall Controlled(NetworkCall call, SceneBatch batch, Generator random)
    {
        var residuals = network.Forward(new() { Sample = call.Sample, Timestep = call.Timestep, Text = call.Conditioning.Text }, conditions.Of(batch.Scenes, random));
        return call with { DownResiduals = residuals.Down, MidResidual = residuals.Mid };
    }

    private protected override IReadOnlyList<Image> Generate(GenerationMeasures measures, IReadOnlyList<Scene> scenes, IReadOnlyList<long> seeds, CancellationToken cancel)
    {
        using var shown = conditions.Of(scenes, seeds);
        return measures.Generate(Pipeline, scenes, seeds, [new ControlNetCondition(network, shown)], cancel);
    }

    private protected override IEnumerable<KeyValuePair<string, double>> Fidelity(IReadOnlyList<Scene> scenes, IReadOnlyList<Image> controlled, IReadOnlyList<Image> plain) => EdgeFidelity.Of(conditions, scenes, controlled, plain);

    public override void Save(string folder) => GenerationModels.Save(folder, network);
}

/// <summary>How far the edges of generated images are those that controlled them.</summary>
static class EdgeFidelity
{
    public static IEnumerable<KeyValuePair<string, double>> Of(SceneConditions conditions, IReadOnlyList<Scene> scenes, IReadOnlyList<Image> controlled, IReadOnlyList<Image> plain)
    {
        var (with, without) = (new EdgeScores(0, 0, 0, 0), new EdgeScores(0, 0, 0, 0));
        for (var i = 0; i < scenes.Count; i++)
        {
            var kind = conditions.KindOf(i);
            if (!SceneConditions.IsDrawn(kind)) continue;
            var wanted = SceneConditions.Make(kind, scenes[i]);
            with += EdgeScores.Of(SceneConditions.Make(kind, controlled[i]), wanted);
            without += EdgeScores.Of(SceneConditions.Make(kind, plain[i]), wanted);
        }
        if (with.Wanted == 0) yield break;
        yield return new("edge_f1", with.F1);
        yield return new("edge_f1_without", without.F1);
    }
}

/// <summary>T2I-Adapter (Mou et al. 2023, arXiv:2302.08453): a small network reads a condition's image once, and adds to every level of the UNet's downward path.</summary>
public sealed record T2IAdapterOptions : ControlOptions
{
    /// <inheritdoc cref="ControlNetOptions.Conditions"/>
    public required string[] Conditions { get; init; }

    /// <summary>Residual blocks of a level.</summary>
    public int ResBlocks { get; init; } = 2;

    public override SceneObjective Create(SceneSetting setting) => Create(setting, pipeline =>
    {
        var conditions = new SceneConditions(Conditions);
        var network = new T2IAdapter(new() { Channels = pipeline.UNet.Config.BlockOutChannels, NumResBlocks = ResBlocks, DownscaleFactor = pipeline.PixelsPerPlace });
        network.Initialize(setting.Generator);
        return new T2IAdapterTraining(pipeline, network, conditions, this, setting);
    });
}

/// <inheritdoc cref="T2IAdapterOptions"/>
sealed class T2IAdapterTraining(StableDiffusion pipeline, T2IAdapter network, SceneConditions conditions, T2IAdapterOptions options, SceneSetting setting) : ControlTraining(pipeline, options, setting)
{
    public override T2IAdapter Model => network;

    private protected override NetworkCall Controlled(NetworkCall call, SceneBatch batch, Generator random) => call with { AdapterFeatures = network.Forward(conditions.Of(batch.Scenes, random)) };

    private protected override IReadOnlyList<Image> Generate(GenerationMeasures measures, IReadOnlyList<Scene> scenes, IReadOnlyList<long> seeds, CancellationToken cancel)
    {
        using var shown = conditions.Of(scenes, seeds);
        using var adapter = new T2IAdapterCondition(network, shown);
        return measures.Generate(Pipeline, scenes, seeds, [adapter], cancel);
    }

    private protected override IEnumerable<KeyValuePair<string, double>> Fidelity(IReadOnlyList<Scene> scenes, IReadOnlyList<Image> controlled, IReadOnlyList<Image> plain) => EdgeFidelity.Of(conditions, scenes, controlled, plain);

    public override void Save(string folder) => GenerationModels.Save(folder, network);
}

/// <summary>
/// GLIGEN (Li et al. 2023, arXiv:2301.07093): new layers between the UNet's own see boxes with what is in them, through gates that begin closed; all that the pipeline had stays as it is.
/// </summary>
public sealed record GligenOptions : ControlOptions
{
    /// <summary>How often the boxes of a scene are left out.</summary>
    public double BoxDropout { get; init; } = 0.1;

    public override SceneObjective Create(SceneSetting setting)
    {
        if (BoxDropout is not (>= 0 and <= 1)) throw new PanoptesException($"box_dropout is {BoxDropout}; expected 0 to 1.");
        return Create(setting, pipeline =>
        {
            if (pipeline.UNet.PositionNet is not null) return new GligenTraining(pipeline, this, setting);
            var gated = new UNet2DConditionModel(pipeline.UNet.Config with { AttentionType = "gated" });
            using (no_grad())
            {
                var before = pipeline.UNet.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter);
                foreach (var (key, parameter) in gated.NamedParameters())
                    if (before.TryGetValue(key, out var source)) parameter.Assign(source.Value.detach().clone());
                    else parameter.Initialize(setting.Generator);
            }
            try
            {
                var training = new GligenTraining(new(gated, pipeline.Autoencoder, pipeline.Prompts, pipeline.Scheduler) { Defaults = pipeline.Defaults }, this, setting);
                pipeline.UNet.Dispose();
                return training;
            }
            catch
            {
                gated.Dispose();
                throw;
            }
        });
    }
}

/// <inheritdoc cref="GligenOptions"/>
sealed class GligenTraining : ControlTraining
{
    readonly GligenOptions options;

    public GligenTraining(StableDiffusion pipeline, GligenOptions options, SceneSetting setting) : base(pipeline, options, setting)
    {
        this.options = options;
        foreach (var (key, parameter) in pipeline.UNet.NamedParameters()) parameter.RequiresGrad = key.StartsWith("position_net.", StringComparison.Ordinal) || key.Contains(".fuser.", StringComparison.Ordinal);
    }

    /// <summary>The UNet, of which the new layers are trained; it is the pipeline's.</summary>
    public override UNet2DConditionModel Model => Pipeline.UNet;

    private protected override NetworkCall Controlled(NetworkCall call, SceneBatch batch, Generator random)
    {
        using var noGrad = no_grad();
        var names = batch.Scenes.SelectMany(static s => s.Objects.Select(static o => o.Name)).Distinct().Select(static (name, i) => (name, i)).ToDictionary(static n => n.name, static n => n.i, StringComparer.Ordinal);
        var (_, phrases) = Pipeline.Prompts.Read([.. names.Keys], 0, null, names.Count, normalized: true, note: null);              // [names, width]
        var slots = GroundedBoxes.Slots;
        var (boxes, masks, which) = (new float[batch.Count * slots * 4], new float[batch.Count * slots], new long[batch.Count * slots]);
        var kept = rand(batch.Count, generator: random).ge(options.BoxDropout).data<bool>().ToArray();
        for (var i = 0; i < batch.Count; i++)
        {
            var scene = batch.Scenes[i];
            for (var (k, at) = (0, i * slots); kept[i] && k < Math.Min(slots, scene.Objects.Count); k++, at++)
            {
                var o = scene.Objects[k];
                float[] corners = [o.Box.X, o.Box.Y, o.Box.Right, o.Box.Bottom];
                for (var c = 0; c < 4; c++) boxes[(at * 4) + c] = corners[c] / scene.Size;
                (masks[at], which[at]) = (1, names[o.Name]);
            }
        }
        var mask = tensor(masks, [batch.Count, slots]);
        return call with
        {
            Grounding = new() { Boxes = tensor(boxes, [batch.Count, slots, 4]), Masks = mask, Embeddings = phrases.index_select(0, tensor(which)).view(batch.Count, slots, -1) * mask.unsqueeze(-1) },
        };
    }

    private protected override IReadOnlyList<Image> Generate(GenerationMeasures measures, IReadOnlyList<Scene> scenes, IReadOnlyList<long> seeds, CancellationToken cancel)
    {
        // What was learned of much noise alone is asked no longer.
        using var boxes = GroundedBoxes.OfEach(Pipeline, [.. scenes.Select(PhraseBox.Of)], 1 - options.FromNoise);
        return measures.Generate(Pipeline, scenes, seeds, [boxes], cancel);
    }

    public override void Save(string folder) => PipelineFolder.Save(folder, Pipeline);
}
