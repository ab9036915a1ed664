using System.Globalization;
using Panoptes.Evaluation;

namespace Panoptes.Parity.Adapters;

/// <summary>Top-k accuracy of logits, and recall@k of a similarity in which every image owns equally many captions that follow each other.</summary>
public sealed class RetrievalMetrics : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "metric-retrieval";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var (logits, similarity) = (c.Input("logits"), c.Input("similarity"));
        int[] labels = [.. c.Input("labels").data<long>().Select(static l => (int)l)];
        int[] classes = [.. Enumerable.Range(0, (int)logits.shape[1])];
        var accuracy = Ranking.OfScores(logits, labels, classes);
        foreach (var output in c.OutputNames.Where(static n => n.StartsWith("top", StringComparison.Ordinal)))
            yield return (output, tensor(accuracy.TopK(int.Parse(output.AsSpan(3), CultureInfo.InvariantCulture))));

        var (images, texts) = ((int)similarity.shape[0], (int)similarity.shape[1]);
        int[] imageGroups = [.. Enumerable.Range(0, images)], textGroups = [.. Enumerable.Range(0, texts).Select(t => t / (texts / images))];
        var report = Retrieval.Score(similarity, imageGroups, textGroups);
        foreach (var (way, scores) in new[] { ("image_to_text", report.ImageToText), ("text_to_image", report.TextToImage) })
        {
            yield return ($"{way}_r1", tensor(scores.R1));
            yield return ($"{way}_r5", tensor(scores.R5));
            yield return ($"{way}_r10", tensor(scores.R10));
            yield return ($"median_rank_{way}", tensor((double)scores.MedianRank));
        }
        yield return ("ranks_image_to_text", tensor(Ranking.OfScores(similarity, imageGroups, textGroups).Ranks.Select(static r => (long)r).ToArray()));
        yield return ("ranks_text_to_image", tensor(Ranking.OfScores(similarity.t(), textGroups, imageGroups).Ranks.Select(static r => (long)r).ToArray()));
    }
}
