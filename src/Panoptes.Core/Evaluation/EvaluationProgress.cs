namespace Panoptes.Evaluation;

/// <summary>How far an evaluation has come. The unit is an image or a text that is embedded; other work counts in proportion.</summary>
public readonly record struct EvaluationProgress(int Done, int Total);

/// <summary>A number beside what guessing gives and what a nearest neighbor by color gives (<see cref="ColorHistogram"/>).</summary>
public sealed record Measured(double Model, double Chance, double ColorHistogram);

/// <summary>Adds up the progress of the parts of an evaluation.</summary>
sealed class PartialProgress(IProgress<EvaluationProgress>? progress, int total)
{
    int before;

    /// <summary>Reports for a part that makes up <paramref name="size"/> of the whole and counts to <paramref name="steps"/>; the next part goes on after it.</summary>
    public IProgress<int> Part(int size, int? steps = null)
    {
        var start = before;
        before += size;
        return new Scaled(done => progress?.Report(new(start + (int)((long)done * size / Math.Max(steps ?? size, 1)), total)));
    }

    sealed class Scaled(Action<int> report) : IProgress<int>
    {
        public void Report(int done) => report(done);
    }
}
