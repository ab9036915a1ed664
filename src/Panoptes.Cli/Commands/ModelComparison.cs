using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Representation;
using Panoptes.Representation.Evaluation;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>One model's row of the comparison; null where the model or the machine does not allow it.</summary>
sealed record ComparedModel
{
    public required string Model { get; init; }

    public required double MillionParameters { get; init; }

    /// <summary>The side of the images that the tower takes.</summary>
    public required int ImageSize { get; init; }

    /// <summary>Top-1 over the names of all concepts in the emoji's held-out style.</summary>
    public double? EmojiZeroShot { get; init; }

    /// <summary>k-NN over CLDR's subgroups in the held-out style, from the other styles.</summary>
    public required double EmojiNeighbors { get; init; }

    /// <summary>A linear probe of the same.</summary>
    public required double EmojiProbe { get; init; }

    public double? FashionNeighbors { get; init; }

    public double? FashionProbe { get; init; }
}

/// <summary>What every model of a comparison is measured by, and what knows nothing but pixels.</summary>
sealed record Comparison(IReadOnlyList<ComparedModel> Models, ComparedModel Colors, ComparedModel Chance);

/// <summary>Image towers of any kind side by side: the same tasks, whether they read texts or not.</summary>
static class ModelComparison
{
    /// <param name="load">Loads a model by what the user called it.</param>
    /// <param name="models">What the user called them.</param>
    /// <param name="set">The emoji.</param>
    /// <param name="fashion">Fashion-MNIST where it is there.</param>
    /// <param name="progress">Is told how far the model at hand is.</param>
    internal static Comparison Run(Func<string, ImageEncoder> load, IReadOnlyList<string> models, EmojiSet set, FashionMnist? fashion, IProgress<EvaluationProgress> progress, CancellationToken cancel)
    {
        var (test, train) = ImageSource.OfEmojiStyles(set, EmojiLabel.Subgroup);
        var rows = new List<ComparedModel>();
        ImageReport? emoji = null, clothes = null;
        foreach (var name in models)
        {
            using var encoder = load(name);
            var options = new ImageEvaluationOptions { Tasks = [EvaluationTask.Knn, EvaluationTask.LinearProbe] };
            emoji = ImageEvaluation.Run(encoder, test, train, options, progress, cancel);
            if (fashion is not null)
                clothes = ImageEvaluation.Run(encoder, ImageSource.Of(fashion.Test, FashionMnist.Classes, "Fashion-MNIST's test images"),
                    ImageSource.Of(fashion.Train, FashionMnist.Classes, "Fashion-MNIST's training images"), options, progress, cancel);
            rows.Add(new()
            {
                Model = name,
                MillionParameters = encoder.Model.ParameterCount / 1e6,
                ImageSize = encoder.Towers.Images.ImageSize,
                EmojiZeroShot = encoder is Clip clip ? EmojiEvaluation.ZeroShot(clip.Model, clip.Processor, clip.Tokenizer, set, null, progress, cancel).Top1 : null,
                EmojiNeighbors = emoji.Knn!.Report.Top1,
                EmojiProbe = emoji.LinearProbe!.Report.Top1,
                FashionNeighbors = clothes?.Knn!.Report.Top1,
                FashionProbe = clothes?.LinearProbe!.Report.Top1,
            });
        }
        var names = set.Concepts.Select(static c => c.Name).Distinct(StringComparer.Ordinal).Count();
        var (colors, chance) = (emoji!.Baselines!.HistogramTop1, emoji.Knn!.Report.Chance);
        return new(rows,
            new() { Model = "nearest colors", MillionParameters = 0, ImageSize = 0, EmojiNeighbors = colors, EmojiProbe = colors, FashionNeighbors = clothes?.Baselines!.HistogramTop1, FashionProbe = clothes?.Baselines!.HistogramTop1 },
            new() { Model = "chance", MillionParameters = 0, ImageSize = 0, EmojiZeroShot = 1.0 / names, EmojiNeighbors = chance, EmojiProbe = chance, FashionNeighbors = clothes?.Knn!.Report.Chance, FashionProbe = clothes?.Knn!.Report.Chance });
    }

    internal static void Show(Terminal terminal, Comparison comparison)
    {
        var table = Terminal.Table("Model", "Parameters", "Pixels", "Emoji: names, zero-shot", "Emoji: subgroups, k-NN", "probe", "Fashion-MNIST: k-NN", "probe");
        foreach (var m in comparison.Models)
            table.AddRow(Terminal.Escape(m.Model), $"{m.MillionParameters:0.0} M", $"{m.ImageSize}", Percent(m.EmojiZeroShot), Percent(m.EmojiNeighbors), Percent(m.EmojiProbe), Percent(m.FashionNeighbors), Percent(m.FashionProbe));
        foreach (var m in (ComparedModel[])[comparison.Colors, comparison.Chance])
            table.AddRow(m.Model, "", "", Percent(m.EmojiZeroShot), Percent(m.EmojiNeighbors), "", Percent(m.FashionNeighbors), "");
        table.Caption = new("All in a drawing style that no model here was trained on; k-NN and probe learn from the other styles. Top-1.");
        terminal.Write(table);
    }

    static string Percent(double? share) => share is { } known ? EvaluateCommand.Percent(known) : "–";
}
