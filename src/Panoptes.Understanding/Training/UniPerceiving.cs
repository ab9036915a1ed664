using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Nn;
using Panoptes.Representation.Training;
using Panoptes.Text;
using Panoptes.Training;

namespace Panoptes.Understanding.Training;

/// <summary>
/// Uni-Perceiver v2's training (Li et al. 2022, arXiv:2211.09808): every step is one task's alone (unmixed sampling), all of them by one likelihood of targets; with the optimizer mt_adamw the tasks'
/// gradients count alike.
/// </summary>
public sealed record UniPerceiverOptions : SceneTaskOptions
{
    /// <summary>The tasks with their shares of the steps: detection, retrieval, captioning.</summary>
    public Dictionary<UniTask, double> Tasks { get; init; } = new() { [UniTask.Detection] = 1, [UniTask.Retrieval] = 1, [UniTask.Captioning] = 1 };

    /// <summary>Among how many names those of a batch are told.</summary>
    public int Names { get; init; } = 64;

    /// <summary>At how many points masks are compared.</summary>
    public int Points { get; init; } = 512;

    public override SceneObjective Create(SceneSetting setting)
    {
        if (Names < 1 || Points < 1) throw new PanoptesException("names and points must be 1 or more.");
        foreach (var task in Tasks.Keys)
            if (task is UniTask.Classification or UniTask.Answering) throw new PanoptesException($"The task {task} does not go with scenes of several things; expected detection, retrieval and captioning.");
        var mixture = new TaskMixture([.. Tasks.OrderBy(static t => t.Key).Select(static t => new TrainedTask(t.Key.ToString(), t.Value))], setting.Recipe.Seed);
        var (model, tokenizer) = setting.Recipe.Model.BuildWithTexts<UniPerceiverModel, UniPerceiverConfig>(setting, ClipTowers.WithTowersOf, ClipTowers.UniPerceiver, static m => m.Config.TextConfig);
        model.Config = model.Config with { CaptionTokens = CaptionTokens(setting, tokenizer, model.Config.TextConfig.MaxPositionEmbeddings) };
        return new UniPerceiving(model, tokenizer, mixture, this, setting);
    }

    /// <summary>The tokens that captions of scenes are made of, the end among them.</summary>
    static int[] CaptionTokens(SceneSetting setting, Tokenizer tokenizer, int most)
    {
        using var scope = NewDisposeScope();
        var (ids, mask) = SceneLessons.Tokens(tokenizer, most, SceneGenerator.CaptionParts(setting.Emoji, setting.Concepts, setting.Recipe.Data.Scenes), cut: true);
        return [.. ids.masked_select(mask.ne(0)).data<long>().ToArray().Select(static id => (int)id).Distinct().Order()];
    }
}

/// <inheritdoc cref="UniPerceiverOptions"/>
sealed class UniPerceiving(UniPerceiverModel model, Tokenizer tokenizer, TaskMixture mixture, UniPerceiverOptions options, SceneSetting setting) : SceneObjective
{
    readonly IReadOnlyList<string> names = setting.Names;
    readonly MaskLossOptions masks = new() { Points = options.Points };

    MtAdamW? optimizer;

    public override UniPerceiverModel Model => model;

    public override string Monitor => options.Tasks.ContainsKey(UniTask.Detection) ? "pq" : options.Tasks.ContainsKey(UniTask.Captioning) ? "cider" : "retrieval";

    public override void Attach(Optimizer optimizer) => this.optimizer = optimizer as MtAdamW;

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var task = mixture.At(step);
        if (optimizer is not null) optimizer.Task = task;
        var kind = Enum.Parse<UniTask>(task.Name);
        var lesson = SceneLessons.UniPerceiver(batch, tokenizer, model.Config, SceneLessons.Names(batch, names, options.Names, random));
        var loss = model.Loss(kind, lesson, masks, random).to(ScalarType.Float32);
        return new Dictionary<string, Tensor> { ["loss"] = loss, [task.Name.ToLowerInvariant()] = loss };
    }

    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        using var scope = NewDisposeScope();
        var (c, result) = (model.Config, new Dictionary<string, double>());
        var most = c.TextConfig.MaxPositionEmbeddings;
        UniImages Images(SceneBatch batch) => model.Encode(SceneLessons.Pixels(batch, c.ImageMean, c.ImageStd, c.ImageSize));
        if (options.Tasks.ContainsKey(UniTask.Detection))
        {
            var (ids, mask) = SceneLessons.Tokens(tokenizer, most, [.. tests.Names, XDecoderSegmenter.Background]);
            var targets = model.Targets(ids, mask);
            Add(SceneMeasures.Things(tests, batch => model.Segment(Images(batch), targets), progress: progress, cancel: cancel));
        }
        if (options.Tasks.ContainsKey(UniTask.Retrieval))
        {
            Add(SceneMeasures.Retrieval(tests, batch =>
            {
                var (ids, mask) = SceneLessons.Tokens(tokenizer, most, batch.Captions, cut: true);
                return (model.Represent(Images(batch)).Whole, model.Targets(ids, mask));
            }, cancel: cancel));
        }
        if (options.Tasks.ContainsKey(UniTask.Captioning))
        {
            var vocabulary = tensor(c.CaptionTokens!.Select(static id => (long)id).ToArray());
            Add(SceneMeasures.Captions(tests, batch => SceneMeasures.Words(tokenizer, model.Caption(Images(batch), vocabulary, most)), cancel: cancel));
        }
        return result;

        void Add(IEnumerable<KeyValuePair<string, double>> values)
        {
            foreach (var (name, value) in values) result[name] = value;
        }
    }

    public override void Save(string folder)
    {
        PromptableModels.Save(folder, model);
        tokenizer.Save(folder);
    }
}
