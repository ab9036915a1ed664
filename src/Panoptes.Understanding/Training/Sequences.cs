using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Training;
using Panoptes.Text;

namespace Panoptes.Understanding.Training;

/// <summary>
/// Models whose answers are sequences: Pix2Seq v2, UniTAB, Unified-IO and VisionLLM. A batch mixes tasks, each with its share (Pix2Seq v2, section 3.3); all are one loss, the tokens' likelihood.
/// </summary>
public sealed record SequencesOptions : SceneTaskOptions
{
    /// <summary>The tasks by their names in the model, with the share of the batches that each has; null: all of the model's, alike.</summary>
    public Dictionary<string, double>? Tasks { get; init; }

    /// <summary>How many tasks are learned of every image, which is looked at once for all of them.</summary>
    public int TasksPerImage { get; init; } = 1;

    /// <summary>Unified-IO: the folder of a model whose image tokenizer was trained (<c>recipes/unified-io-codes.yaml</c>); relative to the recipe.</summary>
    public string? ImageTokenizer { get; init; }

    /// <summary>What the best model goes by; null: the first measure of the first task.</summary>
    public string? Monitor { get; init; }

    public override SceneObjective Create(SceneSetting setting)
    {
        if (TasksPerImage is < 1 or > 8) throw new PanoptesException($"tasks_per_image is {TasksPerImage}; expected 1 to 8.");
        var (model, text) = Build(setting);
        try
        {
            var known = ((ISequenceModel)model).Tasks;
            var shares = Tasks ?? known.ToDictionary(static t => t, static _ => 1.0);
            foreach (var (task, share) in shares)
                if (!known.Contains(task) || share is not (> 0 and < double.PositiveInfinity)) throw new PanoptesException($"The task {task} has the share {share}; expected a share above 0 of {string.Join(", ", known)}.");
            if (shares.Count == 0) throw new PanoptesException("tasks is empty; expected one at least.");
            var untrained = false;
            if (model is UnifiedIoModel io)
            {
                if (ImageTokenizer is { } from)
                {
                    using var trained = PromptableModels.Load<UnifiedIoModel>(setting.Recipe.ResolveModel(from), new() { Dtype = ScalarType.Float32 });
                    io.TakeTokenizer(trained.Vq);
                }
                else untrained = setting.Recipe.Model.From is null && (shares.ContainsKey(UnifiedIoModel.Depth) || shares.ContainsKey(UnifiedIoModel.Segmentation));
            }
            else if (ImageTokenizer is not null) throw new PanoptesException("image_tokenizer goes with a UnifiedIO alone.");
            return new Sequences(model, text, shares, this, setting) { IsUntrained = untrained };
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>A sequence model and its tokenizer, by a recipe: its classes are the concepts that scenes have, where its config names none.</summary>
    internal static (Module Model, Tokenizer Text) Build(SceneSetting setting)
    {
        var r = setting.Recipe;
        string[] names = [.. setting.Concepts.Select(c => setting.Emoji.Concepts[c].Name)];
        var model = r.Model.Build<Module>(setting, names, fits: static e => typeof(ISequenceModel).IsAssignableFrom(e.Type), field: "classes");
        try
        {
            if (r.Model.From is { } from) return (model, Tokenizer.Load(r.ResolveModel(from)));
            var size = ((SequenceConfig)PromptableModels.Registry.ConfigOf(model)) switch
            {
                Pix2SeqConfig c => c.TextVocabSize,
                UniTabConfig c => c.TextVocabSize,
                UnifiedIoConfig c => c.TextVocabSize,
                var c => ((VisionLlmConfig)c).TextVocabSize,
            };
            return (model, RecipeParts.TokenizerOf(r.Model.Tokenizer ?? throw new PanoptesException("A model that reads texts needs a tokenizer."), r.Folder, setting.Run, 77, size));
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }
}

/// <inheritdoc cref="SequencesOptions"/>
sealed class Sequences(Module model, Tokenizer text, IReadOnlyDictionary<string, double> shares, SequencesOptions options, SceneSetting setting) : SceneObjective
{
    internal static readonly float[] Mean = ImageProcessor.ImageNetMean, Std = ImageProcessor.ImageNetStd;

    const int BatchSize = 32;

    readonly ISequenceModel sequences = (ISequenceModel)model;
    readonly ulong seed = setting.Recipe.Seed;

    public override Module Model => model;

    /// <summary>Whether pictures are to be answered by codes that nothing was learned for.</summary>
    internal bool IsUntrained { get; init; }

    public override int? References => shares.ContainsKey(UniTabModel.Grounding) ? 4 : 0;

    public override string Monitor => options.Monitor ?? SequenceMeasures.First(model, shares.Keys.First());

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        if (IsUntrained) throw new PanoptesException("The image tokenizer is untrained: name the model of one that was trained (task.image_tokenizer), such as recipes/unified-io-codes.yaml makes.");
        var examples = new List<SequenceExample>(batch.Count * options.TasksPerImage);
        var draw = new SampleRandom(seed, step, -1);
        var turn = draw.Next(0f, 1f);
        for (var i = 0; i < batch.Count; i++)
        {
            for (var k = 0; k < options.TasksPerImage; k++)
            {
                // Evenly spread over the shares, so that every batch has each task as often as it should; the tasks of one image are as different as can be.
                var own = new SampleRandom(seed, step, i * options.TasksPerImage + k);
                examples.Add(Example(batch, i, At((turn + (double)(k * batch.Count + i) / (batch.Count * options.TasksPerImage)) % 1), ref own));
            }
        }
        var loss = sequences.Loss(batch.Normalized(Mean, Std), examples);
        return new Dictionary<string, Tensor> { ["loss"] = loss };
    }

    /// <summary>The task at a place from 0 to 1 of all shares together.</summary>
    string At(double place)
    {
        var left = place * shares.Values.Sum();
        foreach (var (task, share) in shares)
            if ((left -= share) < 0) return task;
        return shares.Keys.Last();
    }

    /// <summary>What a task asks of a scene; where the scene has nothing of it, what the next one does.</summary>
    SequenceExample Example(SceneBatch batch, int i, string task, ref SampleRandom random)
    {
        if (sequences.Example(batch.Scenes[i], batch.References[i], task, text, ref random) is { } wanted) return wanted;
        foreach (var other in shares.Keys)
            if (sequences.Example(batch.Scenes[i], batch.References[i], other, text, ref random) is { } found) return found;
        throw new PanoptesException($"Scene {batch.Scenes[i].Layout.Index} has nothing to ask about by {string.Join(", ", shares.Keys)}.");
    }

    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var measures = new SequenceMeasures(model, text, tests);
        var done = 0;
        foreach (var batch in tests.Batches(EmojiSplit.HeldOutStyle, BatchSize))
        {
            using (batch)
            {
                using var scope = NewDisposeScope();
                var pixels = batch.Normalized(Mean, Std);
                foreach (var task in shares.Keys)
                {
                    cancel.ThrowIfCancellationRequested();
                    measures.Add(task, pixels, batch.Scenes, done);
                }
                done += batch.Count;
            }
            progress?.Report(new(done, tests.Scenes(EmojiSplit.HeldOutStyle).Count));
        }
        return measures.Result();
    }

    public override void Save(string folder) => Save(folder, model, text, setting.Side);

    /// <summary>The model with its tokenizer and what prepares its pictures.</summary>
    internal static void Save(string folder, Module model, Tokenizer text, int side)
    {
        PromptableModels.Save(folder, model);
        ClipParts.Save(folder, ImageProcessor.Parse($$"""{"image_processor_type":"ViTImageProcessor","size":{"height":{{side}},"width":{{side}} },"image_mean":[0.485,0.456,0.406],"image_std":[0.229,0.224,0.225]}""", "the recipe"), text);
    }
}
