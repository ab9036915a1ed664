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
        // Gradients go through the network that stays, too.
        pipeline.UNet.CheckpointActivations(setting.Recipe.Training.CheckpointActivations);
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

    /// <summary>
    /// A CLIP (transformers' layout), whose image encoder stays as it is: pictures of what is in a box tell it, too, beside words or in their place (section 3.2). Beside a pipeline that sees boxes already, only what reads
    /// these pictures is learned. Null: words alone, or what the pipeline has.
    /// </summary>
    public string? Examples { get; init; }

    public override SceneObjective Create(SceneSetting setting)
    {
        if (BoxDropout is not (>= 0 and <= 1)) throw new PanoptesException($"box_dropout is {BoxDropout}; expected 0 to 1.");
        return Create(setting, pipeline =>
        {
            if (Examples is not null && pipeline.Examples is not null) throw new PanoptesException("The pipeline takes example images already; expected a recipe without examples.");
            if (Examples is null && pipeline.UNet.PositionNet is not null) return new GligenTraining(pipeline, this, setting, GligenLayers.IsOne);
            var (examples, length) = Examples is null ? (null, 1) : GligenLayers.Examples(pipeline, setting.Recipe.ResolveModel(Examples), setting);
            var had = pipeline.UNet.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter);
            var gated = new UNet2DConditionModel(pipeline.UNet.Config with { AttentionType = examples is null ? "gated" : "gated-text-image" });
            try
            {
                GligenLayers.Begin(gated, had, length, setting.Generator);
                var training = new GligenTraining(new(gated, pipeline.Autoencoder, pipeline.Prompts, pipeline.Scheduler) { Defaults = pipeline.Defaults, Examples = examples }, this, setting, key => GligenLayers.IsNew(key, had));
                pipeline.UNet.Dispose();
                return training;
            }
            catch
            {
                gated.Dispose();
                foreach (var module in examples?.Modules ?? []) module.Dispose();
                throw;
            }
        });
    }
}

/// <inheritdoc cref="GligenOptions"/>
sealed class GligenTraining : ControlTraining
{
    readonly GligenOptions options;

    /// <param name="trains">Which parameters of the UNet are trained, by their keys.</param>
    public GligenTraining(StableDiffusion pipeline, GligenOptions options, SceneSetting setting, Func<string, bool> trains) : base(pipeline, options, setting)
    {
        this.options = options;
        foreach (var (key, parameter) in pipeline.UNet.NamedParameters()) parameter.RequiresGrad = trains(key);
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
        var grounding = new Grounding { Boxes = tensor(boxes, [batch.Count, slots, 4]), Masks = mask };
        var words = phrases.index_select(0, tensor(which)).view(batch.Count, slots, -1);
        if (Pipeline.Examples is not { } examples) return call with { Grounding = grounding with { Embeddings = words * mask.unsqueeze(-1) } };
        // A third of the boxes are told by words, a third by pictures, a third by both.
        var draw = rand([batch.Count, slots], generator: random);
        var (said, shown) = (mask * draw.lt(2 / 3.0), mask * draw.ge(1 / 3.0));
        var pictures = zeros_like(words).flatten(0, 1);
        long[] places = [.. Enumerable.Range(0, masks.Length).Where(at => masks[at] > 0)];
        if (places.Length > 0) pictures.index_copy_(0, tensor(places), examples.Read([.. places.Select(at => batch.Scenes[(int)(at / slots)].Cut((int)(at % slots)))]).to(pictures.dtype));
        return call with
        {
            Grounding = grounding with { PhraseMasks = said, PhraseEmbeddings = words * said.unsqueeze(-1), ImageMasks = shown, ImageEmbeddings = pictures.view(words.shape) * shown.unsqueeze(-1) },
        };
    }

    private protected override IReadOnlyList<Image> Generate(GenerationMeasures measures, IReadOnlyList<Scene> scenes, IReadOnlyList<long> seeds, CancellationToken cancel)
    {
        // What was learned of much noise alone is asked no longer.
        using var boxes = GroundedBoxes.OfEach(Pipeline, [.. scenes.Select(s => Pipeline.Examples is null ? PhraseBox.Of(s) : PhraseBox.ShownIn(s))], 1 - options.FromNoise);
        return measures.Generate(Pipeline, scenes, seeds, [boxes], cancel);
    }

    public override void Save(string folder) => PipelineFolder.Save(folder, Pipeline);
}

/// <summary>How the layers of a GLIGEN begin.</summary>
static class GligenLayers
{
    /// <summary>How many training scenes tell where among the phrases' embeddings those of pictures belong.</summary>
    const int Seen = 256;

    public static bool IsOne(string key) => key.StartsWith("position_net.", StringComparison.Ordinal) || key.Contains(".fuser.", StringComparison.Ordinal);

    /// <summary>Whether a parameter is none that the pipeline had, or has under the name that it has where there are words alone.</summary>
    public static bool IsNew(string key, IReadOnlyDictionary<string, Parameter> had) => !had.ContainsKey(OfWords(key)) || ReadsPictures(key);

    /// <summary>Sets all parameters: what the pipeline had stays, what reads pictures begins as what reads words, and the rest is random, with closed gates.</summary>
    /// <param name="gated">With the new layers.</param>
    /// <param name="had">What the pipeline had.</param>
    /// <param name="length">The phrases' embeddings over the pictures', which all have one length.</param>
    /// <param name="generator">Of what is random.</param>
    public static void Begin(UNet2DConditionModel gated, IReadOnlyDictionary<string, Parameter> had, double length, Generator generator)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        foreach (var (key, parameter) in gated.NamedParameters())
            if (!had.TryGetValue(OfWords(key), out var source)) parameter.Initialize(generator);
            else
            {
                var value = source.Value.detach().clone();
                if (key == "position_net.linears_image.0.weight") value.narrow(1, 0, gated.Config.CrossAttentionDim[0]).mul_(length);
                else if (key == "position_net.null_image_feature") value.div_(length);
                parameter.Assign(value.DetachFromDisposeScope());
            }
    }

    /// <summary>
    /// A CLIP's image encoder with the matrix that brings its embeddings nearest to the phrases': the pictures are the things of training scenes, cut out, the phrases their names (the paper's matrix is CLIP's own).
    /// </summary>
    /// <exception cref="PanoptesException">The folder holds none, or one of embeddings of another width.</exception>
    /// <returns>It, and how long the phrases' embeddings are beside the pictures'.</returns>
    public static (ImageExamples Examples, double Length) Examples(StableDiffusion pipeline, string folder, SceneSetting setting)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var encoder = Representation.Models.Load<Representation.ClipVisionModel>(folder, new() { Dtype = ScalarType.Float32 });
        var width = pipeline.UNet.Config.CrossAttentionDim[0];
        var projection = new ClipImageProjection(new() { HiddenSize = width });
        try
        {
            if (encoder.EmbeddingSize != width) throw new PanoptesException($"The encoder of examples gives embeddings of {encoder.EmbeddingSize} numbers; expected {width}, as the pipeline's phrases have.");
            var examples = new ImageExamples(encoder, projection, ImageProcessor.Load(folder));
            var things = setting.FirstScenes(Seen).SelectMany(static s => s.Objects.Select((o, k) => (Picture: s.Cut(k), o.Name))).ToArray();
            var (_, phrases) = pipeline.Prompts.Read([.. things.Select(static t => t.Name)], 0, null, things.Length, normalized: true, note: null);
            var seen = examples.Embed([.. things.Select(static t => t.Picture)]);
            // Ridge regression; the penalty is small beside the embeddings' own size.
            var gram = seen.t().mm(seen);
            var weight = linalg.solve(gram + eye(width) * (gram.trace() / width * 1e-3), seen.t().mm(phrases.to(ScalarType.Float32)));
            projection.Project.Weight.Assign(weight.t().contiguous().DetachFromDisposeScope());
            return (examples, phrases.norm(1, false, 2f).mean().ToDouble() / ImageExamples.Length);
        }
        catch
        {
            encoder.Dispose();
            projection.Dispose();
            throw;
        }
    }

    static bool ReadsPictures(string key) => key.StartsWith("position_net.linears_image.", StringComparison.Ordinal) || key == "position_net.null_image_feature";

    /// <summary>A key of layers for words and pictures as it is where there are words alone.</summary>
    static string OfWords(string key) => key.Replace(".linears_text.", ".linears.", StringComparison.Ordinal).Replace(".linears_image.", ".linears.", StringComparison.Ordinal)
        .Replace(".null_text_feature", ".null_positive_feature", StringComparison.Ordinal).Replace(".null_image_feature", ".null_positive_feature", StringComparison.Ordinal);
}
