using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Representation.Evaluation;

/// <summary>What sparse embeddings cost, and whether they can be read.</summary>
/// <param name="ImageActive">The share of the vocabulary that an image has at work, on the average.</param>
/// <param name="TextActive">The same of the names.</param>
/// <param name="NamedInTop">The share of images all of whose name's tokens are among the <see cref="SparseEvaluation.Top"/> tokens that the image lights up most.</param>
/// <param name="NamedByChance">The same if tokens lit up at random.</param>
public sealed record SparseReport(double ImageActive, double TextActive, double NamedInTop, double NamedByChance);

/// <summary>Tests of a <see cref="StairModel"/> on the emoji's held-out style, of concepts that it was trained on in other styles.</summary>
public static class SparseEvaluation
{
    /// <summary>How many tokens count as an image's top words.</summary>
    public const int Top = 20;

    public static SparseReport Run(StairModel model, ImageProcessor processor, Tokenizer tokenizer, EmojiSet set, int batchSize = 128, IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var images = set.Select(EmojiSplit.HeldOutStyle);
        string[] names = [.. images.Select(i => set.Concepts[set.Images[i].Concept].Name)];
        var encoder = new BatchEncoder(Towers.Of(model), processor, tokenizer, batchSize);
        var parts = new PartialProgress(progress, 2 * images.Length);
        var embedded = encoder.Images(images.Length, i => ImageSource.Picture(set, images[i]), parts.Part(images.Length), cancel);
        var texts = encoder.Texts(names, parts.Part(names.Length), cancel);
        var lit = embedded.topk(Top, 1);
        var (tokens, weights) = (lit.indexes.data<long>().ToArray(), lit.values.data<float>().ToArray());
        var (named, chance) = (0, 0.0);
        for (var i = 0; i < images.Length; i++)
        {
            var top = new HashSet<int>();
            for (var k = i * Top; k < (i + 1) * Top; k++)
                if (weights[k] > 0) top.Add((int)tokens[k]);
            var own = tokenizer.Encode(names[i], addSpecialTokens: false);
            if (own.All(top.Contains)) named++;
            // Each of the name's tokens is among so many drawn from the vocabulary.
            var p = 1.0;
            for (var t = 0; t < own.Distinct().Count(); t++) p *= Math.Max(0.0, Top - t) / (model.Decoder.OutFeatures - t);
            chance += p;
        }
        return new(Active(embedded), Active(texts), (double)named / images.Length, chance / images.Length);

        static double Active(Tensor x)
        {
            using var share = x.gt(0).to(ScalarType.Float32).mean();
            return share.item<float>();
        }
    }
}
