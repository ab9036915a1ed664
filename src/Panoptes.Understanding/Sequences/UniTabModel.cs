using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>The config of UniTAB (Yang et al. 2022, arXiv:2111.12085) as it is trained here ("unitab"): text, the marks around words with a box, and the boxes' bins.</summary>
public sealed record UniTabConfig : SequenceConfig
{
    /// <summary>How many ids the text tokenizer has.</summary>
    public int TextVocabSize { get; init; } = 50265;

    public int CoordinateBins { get; init; } = 200;
    public string ModelType { get; init; } = "unitab";
    public string[] Architectures { get; init; } = ["UniTAB"];
}

/// <summary>
/// UniTAB: one reader of image and text, one writer of text in which words are bound to boxes; captioning with grounding, grounding and questions are the same sequence problem. Keys: those of
/// <see cref="SequenceCore"/>.
/// </summary>
public sealed class UniTabModel : Module, ISequenceModel
{
    /// <summary>The names of the tasks.</summary>
    public const string GroundedCaptioning = "grounded_captioning", Captioning = "captioning", Grounding = "grounding", Answering = "answering";

    const string CaptionPrompt = "describe the image", GroundedPrompt = "describe the image with boxes";

    readonly UniTabTokens tokens;

    /// <exception cref="PanoptesException">There is no such image tower.</exception>
    public UniTabModel(UniTabConfig config, ModelSource source)
    {
        (Config, tokens) = (config, new() { TextVocabulary = config.TextVocabSize, Bins = config.CoordinateBins });
        if (config.CoordinateBins < 2) throw new PanoptesException($"coordinate_bins is {config.CoordinateBins}; expected 2 or more.");
        Core = new(config, source, EndId + 1, PromptPlace.Reader, (tokens.FirstBin, tokens.Bins));
    }

    public UniTabConfig Config { get; }

    [Key("")]
    public SequenceCore Core { get; }

    /// <summary>What the writer begins with, after all that its vocabulary has.</summary>
    public int StartId => tokens.VocabularySize;

    public int EndId => tokens.VocabularySize + 1;

    public IReadOnlyList<string> Tasks { get; } = [GroundedCaptioning, Captioning, Grounding, Answering];

    public SequenceExample? Example(Scene scene, IReadOnlyList<SceneReference> references, string task, Tokenizer text, ref SampleRandom random)
    {
        switch (task)
        {
            case GroundedCaptioning:
                return SequenceExample.Of(task, Words(GroundedPrompt), [.. tokens.Encode(SceneWords.Pieces(scene), scene.Size, scene.Size, Words), EndId]);
            case Captioning:
                return SequenceExample.Of(task, Words(CaptionPrompt), [.. Words(scene.Caption), EndId]);
            case Grounding:
                if (SceneWords.Pick(references, 1, ref random) is not { } meant) return null;
                return SequenceExample.Of(task, Words(meant.Text), [.. tokens.Encode([new(meant.Text, SceneWords.BoxOf(scene.Objects[meant.Objects[0]]))], scene.Size, scene.Size, Words), EndId]);
            case Answering:
                if (scene.Questions.Count == 0) return null;
                var question = scene.Questions[random.Next(scene.Questions.Count)];
                return SequenceExample.Of(task, Words(question.Text), [.. Words(question.Answer), EndId]);
            default:
                throw new PanoptesException($"The task {task} is unknown; expected {string.Join(", ", Tasks)}.");
        }

        int[] Words(string words) => text.Encode(words, addSpecialTokens: false);
    }

    public Tensor Loss(Tensor pixels, IReadOnlyList<SequenceExample> examples) => Core.Loss(pixels, examples, StartId);

    /// <summary>A caption of every image, in pieces with the boxes of those that have one.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="text">The tokenizer of the model's texts.</param>
    /// <param name="width">Of the images that the boxes are for, in pixels.</param>
    /// <param name="height">Of these images.</param>
    /// <param name="options">How it is sought; null: greedily.</param>
    public IReadOnlyList<IReadOnlyList<CaptionPiece>> Caption(Tensor pixels, Tokenizer text, int width, int height, SequenceOptions? options = null) =>
        [.. Write(pixels, [GroundedPrompt], text, options).Select(w => tokens.Decode(w.Ids, width, height, ids => text.Decode(ids)))];

    /// <summary>Where the thing is that an expression speaks of, in every image; null where no box was written.</summary>
    /// <inheritdoc cref="Caption"/>
    /// <param name="expression">"the cat left of the apple".</param>
    /// <exception cref="PanoptesException">The expression is empty.</exception>
    public IReadOnlyList<Detection?> Ground(Tensor pixels, string expression, Tokenizer text, int width, int height, SequenceOptions? options = null) => Ground(pixels, [expression], text, width, height, options);

    /// <summary>The same with an expression of its own for every image.</summary>
    /// <inheritdoc cref="Ground(Tensor, string, Tokenizer, int, int, SequenceOptions?)"/>
    /// <param name="expressions">One for all images, or one each.</param>
    public IReadOnlyList<Detection?> Ground(Tensor pixels, IReadOnlyList<string> expressions, Tokenizer text, int width, int height, SequenceOptions? options = null)
    {
        foreach (var expression in expressions) Prompt.Text(expression).Check(width, height);
        return [.. Write(pixels, expressions, text, options).Select((w, i) => tokens.Decode(w.Ids, width, height, ids => text.Decode(ids)).FirstOrDefault(static p => p.Box is not null).Box?
            .Named(expressions[Math.Min(i, expressions.Count - 1)], Math.Exp(Math.Min(0, w.Score))))];
    }

    /// <summary>The answer to a question about every image.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="question">"what is left of the cat?"</param>
    /// <param name="text">The tokenizer of the model's texts.</param>
    /// <param name="options">How it is sought; null: greedily.</param>
    /// <exception cref="PanoptesException">The question is empty.</exception>
    public IReadOnlyList<ImageCaption> Answer(Tensor pixels, string question, Tokenizer text, SequenceOptions? options = null) => Answer(pixels, [question], text, options);

    /// <summary>The same with a question of its own for every image.</summary>
    /// <inheritdoc cref="Answer(Tensor, string, Tokenizer, SequenceOptions?)"/>
    /// <param name="questions">One for all images, or one each.</param>
    public IReadOnlyList<ImageCaption> Answer(Tensor pixels, IReadOnlyList<string> questions, Tokenizer text, SequenceOptions? options = null)
    {
        if (questions.Any(string.IsNullOrWhiteSpace)) throw new PanoptesException("The question is empty; expected words.");
        return Words(Write(pixels, questions, text, options), text);
    }

    /// <summary>A caption of every image without boxes.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="text">The tokenizer of the model's texts.</param>
    /// <param name="options">How it is sought; null: greedily.</param>
    public IReadOnlyList<ImageCaption> Describe(Tensor pixels, Tokenizer text, SequenceOptions? options = null) => Words(Write(pixels, [CaptionPrompt], text, options), text);

    ImageCaption[] Words(IReadOnlyList<GeneratedCaption> written, Tokenizer text) => [.. written.Select(w => new ImageCaption(text.Decode([.. w.Ids.Where(id => id < Config.TextVocabSize)]).Trim(), w.Score))];

    IReadOnlyList<GeneratedCaption> Write(Tensor pixels, IReadOnlyList<string> prompts, Tokenizer text, SequenceOptions? options)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        int[][] ids = [.. prompts.Select(p => text.Encode(p, addSpecialTokens: false))];
        var (memory, mask) = Core.Read(pixels, ids.Length == 1 ? [.. Enumerable.Repeat(ids[0], (int)pixels.shape[0])] : ids);
        return SequenceWriter.Search(Core, memory, mask, [[StartId]], EndId, options ?? new() { MaxTokens = 80 });
    }
}
