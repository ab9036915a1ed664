namespace Panoptes.Evaluation;

/// <summary>How far an evaluation has come: images and texts embedded of all that there are.</summary>
public readonly record struct EvaluationProgress(int Done, int Total);

/// <summary>A number beside what guessing gives and what a nearest neighbor by color gives (<see cref="ColorHistogram"/>).</summary>
public sealed record Measured(double Model, double Chance, double ColorHistogram);

/// <summary>Adds up the progress of the parts of an evaluation.</summary>
sealed class PartialProgress(IProgress<EvaluationProgress>? progress, int total)
{
    int before;

    /// <summary>Reports for a part of <paramref name="size"/>; the next part goes on after it.</summary>
    public IProgress<int> Part(int size)
    {
        var start = before;
        before += size;
        return new Shifted(progress, start, total);
    }

    sealed class Shifted(IProgress<EvaluationProgress>? progress, int start, int total) : IProgress<int>
    {
        public void Report(int done) => progress?.Report(new(start + done, total));
    }
}
