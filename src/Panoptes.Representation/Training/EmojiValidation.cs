using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation.Evaluation;
using Panoptes.Representation.Explanations;
using Panoptes.Text;

namespace Panoptes.Representation.Training;

/// <summary>What a recipe measures on the emoji while a model is trained.</summary>
/// <param name="Set">All or some of them.</param>
/// <param name="Measures">In order; the first decides which model is the best.</param>
sealed record EmojiValidation(EmojiSet Set, IReadOnlyList<RecipeMeasure> Measures)
{
    public required EmojiEvaluationOptions Options { get; init; }

    public required WordPointingOptions Pointing { get; init; }

    /// <summary>What scenes are like that questions are asked about, or that captions are sought for.</summary>
    public required SceneOptions Scenes { get; init; }

    /// <summary>What a classifier tells apart.</summary>
    public EmojiLabel Label { get; init; }

    /// <summary>The run's folder, which gets a sheet of reconstructions; null: none.</summary>
    public string? Run { get; init; }

    /// <summary>The number that the best model goes by.</summary>
    internal string Monitor => Measures[0] switch
    {
        RecipeMeasure.ZeroShot => "top1",
        RecipeMeasure.Neighbors => "knn_subgroups",
        RecipeMeasure.Classes => "classes",
        RecipeMeasure.Captions => "caption_cider",
        RecipeMeasure.Retrieval => "image_to_text_r10",
        RecipeMeasure.Answers => "answers",
        RecipeMeasure.Reconstruction => "psnr",
        _ => "pointing",
    };

    /// <summary>All measures of a model; a <see cref="ModelValidation"/>.</summary>
    internal IReadOnlyDictionary<string, double> Measure(Module model, ImageProcessor processor, Tokenizer? tokenizer, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var found = new Dictionary<string, double>();
        foreach (var measure in Measures.Distinct())
        {
            if (measure == RecipeMeasure.Neighbors) found["knn_subgroups"] = EmojiEvaluation.Neighbors(model, processor, Set, options: Options, progress: progress, cancel: cancel);
            else if (measure == RecipeMeasure.Classes) found["classes"] = ClassAccuracy.Of((ImageClassifier)model, processor, ImageSource.OfEmojiStyles(Set, Label).Test, Options.BatchSize, progress, cancel);
            else if (measure == RecipeMeasure.Answers)
                foreach (var (name, value) in QuestionAnswering.Run((Beit3ForVisualQuestionAnswering)model, processor, tokenizer!, Set, Scenes, Options.BatchSize, progress, cancel)) found[name] = value;
            else if (measure == RecipeMeasure.Reconstruction) Reconstruct(found, (VqModel)model, processor, progress, cancel);
            else if (measure == RecipeMeasure.Pointing) Point(found, Towers.Of(model), processor, tokenizer!, progress, cancel);
            else if (measure == RecipeMeasure.Retrieval) Retrieve(found, (DualEncoder)model, processor, tokenizer!, progress, cancel);
            else if (measure == RecipeMeasure.Captions) Say(found, model, processor, tokenizer!, progress, cancel);
            else Name(found, (DualEncoder)model, processor, tokenizer!, progress, cancel);
        }
        return found;
    }

    /// <summary>A model shows what it can by its way of comparing: by a text's tokens, or by the text as a whole.</summary>
    void Point(Dictionary<string, double> found, Towers towers, ImageProcessor processor, Tokenizer tokenizer, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var byTokens = WordPointing.Run(Explain.Maps(towers, processor, tokenizer, byTokens: true), Set, Pointing, progress, cancel);
        var byText = WordPointing.Run(Explain.Maps(towers, processor, tokenizer, byTokens: false), Set, Pointing, progress, cancel);
        found["pointing_by_tokens"] = byTokens.Model.Box;
        found["pointing_by_chance"] = byTokens.Chance.Box;
        found["pointing_by_text"] = byText.Model.Box;
        found["pointing"] = Math.Max(byTokens.Model.Box, byText.Model.Box);
    }

    void Retrieve(Dictionary<string, double> found, DualEncoder model, ImageProcessor processor, Tokenizer tokenizer, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var report = SceneRetrieval.Run(model, processor, tokenizer, Set, Scenes, Options.BatchSize, progress, cancel);
        foreach (var (way, scores) in new[] { ("image_to_text", report.ImageToText), ("text_to_image", report.TextToImage) })
            (found[$"{way}_r1"], found[$"{way}_r5"], found[$"{way}_r10"]) = (scores.R1, scores.R5, scores.R10);
    }

    void Say(Dictionary<string, double> found, Module model, ImageProcessor processor, Tokenizer tokenizer, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var read = CaptionEvaluation.Run(model, processor, tokenizer, Set, Options.Templates, new() { MinTokens = 1 }, Options.BatchSize, progress, cancel);
        found["caption_cider"] = read.Model.CiderD;
        found["caption_cider_by_chance"] = read.Chance.CiderD;
        found["caption_words"] = read.Model.WordF1;
        found["caption_words_by_chance"] = read.Chance.WordF1;
        found["caption_words_over_chance"] = read.Model.WordF1 - read.Chance.WordF1;
        found["caption_exact"] = read.Model.Exact;
        found["caption_exact_by_chance"] = read.Chance.Exact;
    }

    void Reconstruct(Dictionary<string, double> found, VqModel model, ImageProcessor processor, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var report = ReconstructionEvaluation.Run(model, processor, Set, Options.BatchSize, progress: progress, cancel: cancel);
        found["psnr"] = report.Psnr;
        found["perplexity"] = report.Perplexity;
        found["codes_used"] = report.CodesUsed;
        var side = model.ImageSize / model.PixelsPerToken;
        if (Run is not null) report.Sheet("Images out of their tokens", side * side).Save(Path.Combine(Run, "reconstructions.png"));
    }

    void Name(Dictionary<string, double> found, DualEncoder model, ImageProcessor processor, Tokenizer tokenizer, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var named = EmojiEvaluation.ZeroShot(model, processor, tokenizer, Set, Options, progress, cancel);
        found["top1"] = named.Top1;
        found["top5"] = named.Top5;
        found["top1_train_concepts"] = named.TrainConceptsTop1;
        found["top1_held_out_concepts"] = named.HeldOutConceptsTop1;
        if (model is not StairModel sparse) return;
        var read = SparseEvaluation.Run(sparse, processor, tokenizer, Set, Options.BatchSize, progress, cancel);
        found["active_in_images"] = read.ImageActive;
        found["active_in_texts"] = read.TextActive;
        found["named_in_top"] = read.NamedInTop;
        found["named_by_chance"] = read.NamedByChance;
    }
}
