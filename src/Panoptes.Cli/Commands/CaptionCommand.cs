using System.CommandLine;
using System.Globalization;
using Panoptes.Representation;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>Says what is to be seen in images.</summary>
sealed class CaptionCommand : ExampleCommand
{
    static readonly CaptionOptions Usual = new();

    readonly Argument<string[]> images = new("IMAGE") { Description = "Image files.", Arity = ArgumentArity.OneOrMore };
    readonly Option<string> model = new("--model", "-m") { Description = "A CoCa or a BEiT-3 for captions: a folder, a file or a hub id (OWNER/NAME[@REVISION]).", HelpName = "MODEL", Required = true };
    readonly Option<int> beams = new("--beams", "-b") { Description = "How many texts are followed at once; 1 takes the likeliest word every time.", HelpName = "N", DefaultValueFactory = static _ => 4 };
    readonly Option<int> least = new("--min-tokens") { Description = "The fewest tokens of a caption.", HelpName = "N", DefaultValueFactory = static _ => 1 };
    readonly Option<int> most = new("--max-tokens") { Description = "The most tokens of a caption.", HelpName = "N", DefaultValueFactory = static _ => Usual.MaxTokens };

    public CaptionCommand() : base("caption", "Say what is to be seen in images, with a model that writes captions (CoCa, BEiT-3).", """
        panoptes caption photo.jpg --model runs/coca/last
        panoptes caption *.png --model runs/coca/last --beams 1 --json
        """)
    {
        Add(images);
        foreach (var option in (ReadOnlySpan<Option>)[model, beams, least, most]) Add(option);
        foreach (var option in (ReadOnlySpan<Option>)[beams, least, most]) SharedOptions.AtLeastOne(option);
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var files = SharedOptions.ImageFiles(parsed, images);
        var search = new CaptionOptions { Beams = parsed.GetValue(beams), MinTokens = parsed.GetValue(least), MaxTokens = parsed.GetValue(most) };
        using var captioner = ModelLoader.LoadCaptioner(parsed, ModelLoader.Resolve(parsed.GetRequiredValue(model)));
        var captions = await terminal.InChunks("Captioning", files, chunk => captioner.Caption(SharedOptions.LoadImages(chunk), search), cancel);
        if (terminal.IsJson) terminal.WriteJson(files.Zip(captions, static (file, c) => new { image = file, caption = c.Text, c.Score }));
        else
        {
            var table = Terminal.Table("Image", "Caption", "Score");
            foreach (var (file, caption) in files.Zip(captions)) table.AddRow(Markup.Escape(file), Markup.Escape(caption.Text), caption.Score.ToString("0.00", CultureInfo.InvariantCulture));
            terminal.Write(table);
        }
        return App.Success;
    }
}
