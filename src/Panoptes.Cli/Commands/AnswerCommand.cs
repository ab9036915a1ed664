using System.CommandLine;
using System.Globalization;
using Panoptes.Representation;
using Panoptes.Understanding;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>Answers a question about images.</summary>
sealed class AnswerCommand : ExampleCommand
{
    readonly Argument<string> question = new("QUESTION") { Description = "What is asked about each image." };
    readonly Argument<string[]> images = new("IMAGE") { Description = "Image files.", Arity = ArgumentArity.OneOrMore };
    readonly Option<string> model = new("--model", "-m") { Description = "A BEiT-3 that answers questions, a UniTAB, a VisionLLM or a Unified-IO: a folder, a file or a hub id (OWNER/NAME[@REVISION]).", HelpName = "MODEL", Required = true };
    readonly Option<int> top = new("--top", "-n") { Description = "How many answers to show for each image, by a BEiT-3.", HelpName = "N", DefaultValueFactory = static _ => 3 };

    public AnswerCommand() : base("answer", "Answer a question about images, with a model that learned to (BEiT-3; UniTAB, VisionLLM and Unified-IO in words of their own).", """
        panoptes answer "how many things are there?" scene.png --model runs/beit3-vqa/best
        panoptes answer "is there a red apple?" *.png --model runs/beit3-vqa/best --top 1 --json
        """)
    {
        Add(question);
        Add(images);
        foreach (var option in (ReadOnlySpan<Option>)[model, top]) Add(option);
        SharedOptions.AtLeastOne(top);
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var (files, asked) = (SharedOptions.ImageFiles(parsed, images), parsed.GetRequiredValue(question));
        var path = ModelLoader.Resolve(parsed, parsed.GetRequiredValue(model));
        if (PromptableModels.Registry.TypeOf(path) is not null) return await Write(parsed, terminal, path, files, asked, cancel);
        using var answerer = ModelLoader.LoadAnswerer(parsed, path);
        var answers = await terminal.InChunks("Answering", files, chunk => answerer.Answer(SharedOptions.LoadImages(chunk), [.. chunk.Select(_ => asked)], parsed.GetValue(top)), cancel);
        if (terminal.IsJson) terminal.WriteJson(files.Zip(answers, static (file, a) => new { image = file, answers = a }));
        else
        {
            var table = Terminal.Table("Image", "Answers");
            foreach (var (file, given) in files.Zip(answers))
                table.AddRow(Terminal.Escape(file), Terminal.Escape(string.Join(", ", given.Select(static a => string.Create(CultureInfo.InvariantCulture, $"{a.Text} ({a.Probability:P0})")))));
            terminal.Write(table);
        }
        return App.Success;
    }

    /// <summary>The answer of a model that writes, which has one.</summary>
    async Task<int> Write(ParseResult parsed, Terminal terminal, string path, string[] files, string asked, CancellationToken cancel)
    {
        if (parsed.GetResult(top) is { Implicit: false }) throw new UsageException("--top is for a BEiT-3; this model writes one answer.");
        using var writer = ModelLoader.LoadWriter(parsed, path);
        var answers = await terminal.InChunks<ImageCaption>("Answering", files, chunk => [.. SharedOptions.LoadImages(chunk).Select(photo => writer.Answer(photo, asked))], cancel, size: 8);
        if (terminal.IsJson) terminal.WriteJson(files.Zip(answers, static (file, a) => new { image = file, answers = (object[])[new { a.Text, probability = Math.Exp(Math.Min(0, a.Score)) }] }));
        else
        {
            var table = Terminal.Table("Image", "Answer");
            foreach (var (file, given) in files.Zip(answers)) table.AddRow(Terminal.Escape(file), Terminal.Escape(given.Text));
            terminal.Write(table);
        }
        return App.Success;
    }
}
