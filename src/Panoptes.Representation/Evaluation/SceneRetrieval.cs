using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Representation.Evaluation;

/// <summary>Whether scenes find their captions and captions their scenes, among scenes that were never composed before of the drawings that are trained on.</summary>
static class SceneRetrieval
{
    const int Scenes = 500;
    const ulong Seed = 0x5CE2E;

    internal static RetrievalReport Run(DualEncoder model, ImageProcessor processor, Tokenizer tokenizer, EmojiSet set, SceneOptions options, int batchSize, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var generator = new SceneGenerator(set, SceneGenerator.Things(set), options, Seed);
        var scenes = new Scene[Scenes];
        Parallel.For(0, Scenes, new ParallelOptions { CancellationToken = cancel }, i => scenes[i] = generator.Generate(i));
        // Scenes of one thing may have the same caption, which is right for each of them.
        string[] captions = [.. scenes.Select(static s => s.Caption).Distinct()];
        var captionOf = captions.Select(static (caption, i) => (caption, i)).ToDictionary(static c => c.caption, static c => c.i);
        return EmojiEvaluation.Evaluating(model, () =>
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            var parts = new PartialProgress(progress, Scenes + captions.Length);
            var encoder = new BatchEncoder(Towers.Of(model), processor, tokenizer, batchSize, truncateTexts: true);
            var images = encoder.Images(Scenes, i => scenes[i].Image, parts.Part(Scenes), cancel);
            var texts = encoder.Texts(captions, parts.Part(captions.Length), cancel);
            return Retrieval.Score(images.matmul(texts.t()), [.. scenes.Select(s => captionOf[s.Caption])], [.. Enumerable.Range(0, captions.Length)]);
        });
    }
}
