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
/// </summary>
public sealed record GroupVitOptions : SceneTaskOptions
{
    /// <summary>How many nouns of each caption are prompted with; 0: the captions alone.</summary>
    public int Nouns { get; init; } = 3;

    public override SceneObjective Create(SceneSetting setting)
    {
        if (Nouns < 0) throw new PanoptesException($"nouns is {Nouns}; expected 0 or more.");
        var model = setting.Recipe.Model.Build<GroupVitModel>(setting);
        try
        {
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
sealed class GroupVit(GroupVitModel model, SceneTexts texts, GroupVitOptions options, ulong seed) : SceneObjective
{
    public override GroupVitModel Model => model;

    public override string Monitor => "miou";

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        model.Vision.Random = random;
        var captions = batch.Scenes.Select(static s => s.Caption).ToArray();
        var said = new List<string>(captions);
        for (var i = 0; i < captions.Length && options.Nouns > 0; i++)
        {
            var draw = new SampleRandom(seed, step, i);
            said.AddRange(MultiLabelLoss.Prompts(captions[i], [.. batch.Scenes[i].Objects.Select(static o => o.Name)], options.Nouns, ref draw));
        }
        var images = DualEncoder.Normalize(model.Vision.Encode(texts.Pixels(batch)).to(ScalarType.Float32));
        var words = DualEncoder.Normalize(texts.Encode(said).to(ScalarType.Float32));
        using var exact = Autocast.To(ScalarType.Float32);                            // cosines are compared in float32
        var (scale, count) = (model.LogitScale.Value.exp(), captions.Length);
        var contrastive = ContrastiveLoss.Of(new(images, words.narrow(0, 0, count), scale));
        if (options.Nouns == 0) return new Dictionary<string, Tensor> { ["loss"] = contrastive };
        var nouns = MultiLabelLoss.Of(images, words.narrow(0, count, words.shape[0] - count).view(count, options.Nouns, -1), scale);
        return new Dictionary<string, Tensor> { ["loss"] = contrastive + nouns, ["contrastive"] = contrastive, ["nouns"] = nouns };
    }

    public override void AfterStep() => texts.BoundScale();

    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        model.Vision.Random = null;
        using var names = texts.Names(tests.Names);
        var scores = OpenVocabularyEvaluation.Run(tests, batch => model.Segment(texts.Pixels(batch), names, tests.Options.Size, tests.Options.Size), progress: progress, cancel: cancel);
        return new Dictionary<string, double> { ["miou"] = scores.MeanIou, ["miou_chance"] = scores.ChanceIou, ["naming"] = scores.NamingAccuracy };
    }

    public override void Save(string folder)
    {
        PromptableModels.Save(folder, model);
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
        if (r.Model.From is { } from)
        {
            var (own, words) = ClipParts.Load(r.Resolve(from), model);
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

    /// <summary>Keeps the factor of cosines at CLIP's 100 at most.</summary>
    public void BoundScale()
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        model.LogitScale.Value.clamp_(0, Math.Log(100));
    }

    public void Save(string folder) => ClipParts.Save(folder, processor, tokenizer);
}
