using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Objectives;
using Panoptes.Representation.Training;
using Panoptes.Text;

namespace Panoptes.Understanding.Training;

/// <summary>
/// GroupViT's training (Xu et al. 2022, arXiv:2202.11094): images find their captions and the prompts of the things that these name. That groups become things is learned from texts alone; no mask is seen.
/// A CLIP learns the same from the same texts and is measured by <see cref="MaskClip"/>: what GroupViT is compared with, and the teacher of MaskCLIP+.
/// </summary>
public sealed record GroupVitOptions : SceneTaskOptions
{
    /// <summary>Whether images are also contrasted with the nouns of captions, each in one of the paper's prompts; otherwise with the captions alone.</summary>
    public bool Nouns { get; init; } = true;

    public override SceneObjective Create(SceneSetting setting)
    {
        var model = setting.Recipe.Model.Build<DualEncoder>(setting);
        try
        {
            if (model is not GroupVitModel) MaskClip.PlaceSize(model);                    // says what it takes
            return new GroupVit(model, SceneTexts.Of(setting, model), this, setting.Recipe.Seed);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }
}

/// <inheritdoc cref="GroupVitOptions"/>
sealed class GroupVit(DualEncoder model, SceneTexts texts, GroupVitOptions options, ulong seed) : SceneObjective
{
    public override DualEncoder Model => model;

    public override string Monitor => "miou";

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        (model.Images as IRandomTower)?.Random = random;
        var images = DualEncoder.Normalize(model.Images.Encode(texts.Pixels(batch)).to(ScalarType.Float32));
        var captions = DualEncoder.Normalize(texts.Encode(batch.Captions).to(ScalarType.Float32));
        if (!options.Nouns)
        {
            using var apart = Autocast.To(ScalarType.Float32);
            return new Dictionary<string, Tensor> { ["loss"] = ContrastiveLoss.Of(new(images, captions, model.LogitScale.Value.exp())) };
        }
        // What several scenes show is prompted and encoded once, apart from the captions, which are much longer.
        var (names, shown) = Shown(batch);
        var prompts = DualEncoder.Normalize(texts.Encode(Prompted(names, step)).to(ScalarType.Float32));
        using var exact = Autocast.To(ScalarType.Float32);                            // cosines are compared in float32
        var scale = model.LogitScale.Value.exp();
        var (contrastive, nouns) = (ContrastiveLoss.Of(new(images, captions, scale)), MultiLabelLoss.Of(images, prompts, shown, scale));
        return new Dictionary<string, Tensor> { ["loss"] = contrastive + nouns, ["contrastive"] = contrastive, ["nouns"] = nouns };
    }

    string[] Prompted(IReadOnlyList<string> names, long step)
    {
        var draw = new SampleRandom(seed, step, 0);
        var said = new string[names.Count];
        for (var i = 0; i < said.Length; i++) said[i] = MultiLabelLoss.Prompt(names[i], ref draw);
        return said;
    }

    /// <summary>The names of the things in a batch, each once, and which scenes show them: [b, names] bool.</summary>
    internal static (IReadOnlyList<string> Names, Tensor Shown) Shown(SceneBatch batch)
    {
        var (names, places) = (new List<string>(), new Dictionary<string, int>(StringComparer.Ordinal));
        foreach (var thing in batch.Scenes.SelectMany(static s => s.Objects))
            if (places.TryAdd(thing.Name, names.Count)) names.Add(thing.Name);
        var shown = new bool[batch.Count * names.Count];
        for (var i = 0; i < batch.Count; i++)
            foreach (var thing in batch.Scenes[i].Objects) shown[i * names.Count + places[thing.Name]] = true;
        return (names, tensor(shown, [batch.Count, names.Count]));
    }

    public override void AfterStep() => texts.BoundScale();

    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        (model.Images as IRandomTower)?.Random = null;
        return texts.Measure(tests, (pixels, names) => OpenVocabularySegmenter.Dense(model, pixels, names), progress, cancel);
    }

    public override void Save(string folder)
    {
        if (model is GroupVitModel) PromptableModels.Save(folder, model);
        else Models.Save(folder, model);
        texts.Save(folder);
    }
}

/// <summary>The texts and pictures of scenes as a model of two towers takes them.</summary>
sealed class SceneTexts(DualEncoder model, ImageProcessor processor, Tokenizer tokenizer)
{
    /// <exception cref="PanoptesException">The recipe has no tokenizer, or one of another size.</exception>
    public static SceneTexts Of(SceneSetting setting, DualEncoder model)
    {
        var r = setting.Recipe;
        var side = model.Images.ImageSize;
        if (side != r.Data.Scenes.Size) throw new PanoptesException($"The model takes images of {side} pixels, but the scenes have {r.Data.Scenes.Size}.");
        if ((r.Model.From ?? r.Model.TowerFrom) is { } from)
        {
            var (own, words) = ClipParts.Load(r.ResolveModel(from), model);
            return new(model, own, words ?? throw new PanoptesException($"{from} has no tokenizer."));
        }
        var tokenizer = RecipeParts.TokenizerOf(r.Model.Tokenizer ?? throw new PanoptesException("A model that reads texts needs a tokenizer."), r.Folder, setting.Run, model.Texts.ContextLength, model.Texts.VocabularySize);
        var processor = ImageProcessor.Parse($$"""{"image_processor_type":"CLIPImageProcessor","size":{"shortest_edge":{{side}}},"crop_size":{"height":{{side}},"width":{{side}} } }""", "the recipe");
        return new(model, processor, tokenizer);
    }

    /// <summary>The pictures as the model takes them.</summary>
    public Tensor Pixels(SceneBatch batch) => batch.Normalized(processor.Mean, processor.Std);

    /// <summary>Texts as the model's text tower gives them: [texts, embedding]. Long ones are cut: what follows the context cannot be learned from.</summary>
    public Tensor Encode(IReadOnlyList<string> said)
    {
        var tokens = ClipParts.Tokenize(tokenizer, model.Texts, said, truncate: true);
        return model.Texts.Encode(tokens.InputIds(), ClipParts.MaskOf(model.Texts, tokens));
    }

    /// <summary>Names in the paper's templates, averaged: [names, embedding], normalized; owned by the caller.</summary>
    public Tensor Names(IReadOnlyList<string> names)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var all = MultiLabelLoss.Templates.Select(t => DualEncoder.Normalize(Encode([.. names.Select(n => t.Replace("{}", n, StringComparison.Ordinal))]).to(ScalarType.Float32)));
        return DualEncoder.Normalize(stack([.. all]).mean([0])).MoveToOuterDisposeScope();
    }

    /// <summary>How well a model that is built upon these towers tells every pixel's name.</summary>
    /// <param name="tests">The scenes.</param>
    /// <param name="similarities">Of prepared pictures and of the names' embeddings.</param>
    public IReadOnlyDictionary<string, double> Measure(SceneTests tests, Func<Tensor, Tensor, Tensor> similarities, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        using var names = Names(tests.Names);
        var scores = OpenVocabularyEvaluation.Run(tests, batch => similarities(Pixels(batch), names), progress: progress, cancel: cancel);
        return new Dictionary<string, double> { ["miou"] = scores.MeanIou, ["miou_chance"] = scores.ChanceIou, ["over_chance"] = scores.MeanIou / Math.Max(scores.ChanceIou, 1e-6), ["naming"] = scores.NamingAccuracy };
    }

    /// <summary>Keeps the factor of cosines at CLIP's 100 at most.</summary>
    public void BoundScale()
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        model.LogitScale.Value.clamp_(0, Math.Log(100));
    }

    public void Save(string folder) => ClipParts.Save(folder, processor, tokenizer);
}
