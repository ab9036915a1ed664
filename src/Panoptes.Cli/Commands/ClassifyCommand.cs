using System.CommandLine;
using Panoptes.Audio;
using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Representation;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>Tells which of some labels fit images.</summary>
sealed class ClassifyCommand : ExampleCommand
{
    readonly Argument<string[]> images = new("IMAGE") { Description = "Image files; or .wav files, of a model that hears.", Arity = ArgumentArity.OneOrMore };
    readonly Option<string[]> labels = new("--labels", "-l") { Description = "The labels, separated by commas.", HelpName = "A,B,C" };
    readonly Option<string?> labelsFile = new("--labels-file") { Description = "A text file with one label a line.", HelpName = "FILE" };
    readonly Option<string[]> template = new("--template", "-t") { Description = "A sentence with {} where the label goes; with several, a label is their mean.", HelpName = "TEXT" };
    readonly Option<int> top = new("--top", "-n") { Description = "How many labels to show for each image.", HelpName = "N", DefaultValueFactory = static _ => 5 };
    readonly Option<string> model = SharedOptions.Model();

    public ClassifyCommand() : base("classify", "Tell which of your labels fit an image, without training.", """
        panoptes classify photo.jpg --labels "an apple,a pear,a cat"
        panoptes classify spoken.wav --labels "an apple,a pear" --model runs/imagebind/best
        panoptes classify *.png --labels-file labels.txt --template "a photo of {}." --top 3 --json
        """)
    {
        Add(images);
        foreach (var option in (ReadOnlySpan<Option>)[labels, labelsFile, template, top, model]) Add(option);
        SharedOptions.AtLeastOne(top);
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var templates = SharedOptions.Templates(parsed, template, "label");
        var names = Labels(parsed);
        var files = SharedOptions.ImageFiles(parsed, images);
        var ofSounds = Sounds.AreMeant(files);
        using var clip = ModelLoader.Load(parsed, ModelLoader.Resolve(parsed, parsed.GetRequiredValue(model)));
        var results = await terminal.InChunks("Classifying", files,
            chunk => ofSounds ? clip.Classify([.. chunk.Select(WavFile.Load)], names, templates) : clip.Classify(SharedOptions.LoadImages(chunk), names, templates), cancel);
        var shown = Math.Min(parsed.GetValue(top), names.Length);
        if (terminal.IsJson) terminal.WriteJson(files.Zip(results, (file, r) => new { image = file, labels = r.Take(shown) }));
        else if (files.Length == 1) terminal.Write(Bars(results[0], shown));
        else terminal.Write(Rows(files, results, shown));
        return App.Success;
    }

    string[] Labels(ParseResult parsed)
    {
        var (listed, file) = (parsed.GetValue(labels) ?? [], parsed.GetValue(labelsFile));
        if (listed.Length == 0 && file is null) throw new UsageException("No labels: expected --labels A,B,C or --labels-file FILE.");
        if (listed.Length > 0 && file is not null) throw new UsageException("--labels and --labels-file were both given; expected one of them.");
        IEnumerable<string> lines = file is null ? listed.SelectMany(static l => l.Split(',')) : ModelFolder.ReadText(file).Split('\n');
        string[] names = [.. lines.Select(static l => l.Trim()).Where(static l => l.Length > 0).Distinct(StringComparer.Ordinal)];
        if (names.Length == 0) throw file is null ? new UsageException("--labels lists no label.") : new PanoptesException($"{file} lists no label: expected one a line.");
        return names;
    }

    static Table Bars(IReadOnlyList<LabelProbability> labels, int top)
    {
        var table = Terminal.Table("Label", "Probability", "");
        foreach (var (label, probability) in labels.Take(top))
            table.AddRow(Terminal.Escape(label), $"{probability:P1}", $"[green]{new string('█', (int)Math.Round(probability * 30))}[/]");
        return table;
    }

    static Table Rows(string[] files, List<IReadOnlyList<LabelProbability>> results, int top)
    {
        var table = Terminal.Table("Image", "Label", "Probability", "Others");
        for (var i = 0; i < files.Length; i++)
            table.AddRow(Terminal.Escape(files[i]), Terminal.Escape(results[i][0].Label), $"{results[i][0].Probability:P1}",
                Terminal.Escape(string.Join(", ", results[i].Skip(1).Take(top - 1).Select(static l => $"{l.Label} {l.Probability:P0}"))));
        return table;
    }
}
