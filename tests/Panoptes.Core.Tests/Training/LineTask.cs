using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Nn;
using Panoptes.Training;

namespace Panoptes.Core.Tests.Training;

/// <summary>A real, tiny training: a line through noisy points, whose batches follow from the position in the data.</summary>
sealed class LineTask : TrainingTask
{
    readonly Line line = new();

    public LineTask()
    {
        BatchSize = 16;
        using var generator = new Generator(3);
        line.Initialize(generator);
    }

    public override Module Model => line;

    public override int BatchSize { get; init; }

    public override LoaderState Data { get; set; } = LoaderState.Start;

    /// <summary>What validation gives at each of its calls, instead of the line's error.</summary>
    public Queue<double>? Scores { get; init; }

    /// <summary>Multiplies the loss.</summary>
    public double Factor { get; init; } = 1;

    public int Validations { get; private set; }

    public float Slope => line.Slope.Value.item<float>();

    public override IReadOnlyDictionary<string, double> Backward(long step, CancellationToken cancel)
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator((ulong)(Data.Epoch * 1000 + Data.Position));
        var x = randn([BatchSize], generator: generator);
        var y = x * 3 - 1 + randn([BatchSize], generator: generator) * 0.1;
        var loss = (line.Slope.Value * x + line.Offset.Value - y).square().mean() * Factor;
        loss.backward();
        Data = Data.Position == 6 ? new(Data.Epoch + 1, 0) : Data with { Position = Data.Position + 1 };
        return new Dictionary<string, double> { ["loss"] = loss.item<float>() };
    }

    public override IReadOnlyDictionary<string, double> Validate(IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        Validations++;
        progress?.Report(new(1, 4));
        Assert.False(line.Training);
        return new Dictionary<string, double> { ["score"] = Scores?.Dequeue() ?? -Math.Abs(Slope - 3) };
    }

    public override void Save(string folder) => Panoptes.Checkpoints.SafeTensors.Save(Path.Combine(folder, "model.safetensors"), new Dictionary<string, Tensor> { ["slope"] = line.Slope.Value });

    protected override void Dispose(bool disposing)
    {
        if (disposing) line.Dispose();
        base.Dispose(disposing);
    }

    sealed class Line : Module
    {
        public Parameter Slope { get; } = new([1], Init.Normal(1));

        public Parameter Offset { get; } = new([1], Init.Zeros);
    }
}
