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

/// <summary>Logistic regression, compared by what its optimum decides: the weights, and the probabilities of other samples.</summary>
public sealed class LinearProbes : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "LogisticRegression" && c.Call == "fit";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        int[] labels = [.. c.Input("y").data<long>().Select(static l => (int)l)], testLabels = [.. c.Input("y_test").data<long>().Select(static l => (int)l)];
        var classes = (int)c.Output("weight").shape[0];
        var probe = LinearProbe.Fit(c.Input("x"), labels, classes, c.Arguments.GetProperty("C").GetDouble());
        yield return ("weight", probe.Weight());
        yield return ("probabilities", probe.Logits(c.Input("x_test")).softmax(1));
        yield return ("accuracy", tensor(probe.Accuracy(c.Input("x_test"), testLabels)));
    }
}
