using System.CommandLine;
using Panoptes.Imaging;
using Panoptes.Understanding;

namespace Panoptes.Cli.Commands;

/// <summary>Says how far everything in images is.</summary>
sealed class DepthCommand : ExampleCommand
{
    readonly Argument<string[]> images = new("IMAGE") { Description = "Image files.", Arity = ArgumentArity.OneOrMore };
    readonly Option<string> model = new("--model", "-m") { Description = "A Unified-IO that learned depth: a folder, a file or a hub id (OWNER/NAME[@REVISION]).", HelpName = "MODEL", Required = true };
    readonly Option<string?> output = new("--out", "-o") { Description = "Where the gray picture goes, black being near and white far; IMAGE.depth.png by default, for several images a folder.", HelpName = "PNG|FOLDER" };

    public DepthCommand() : base("depth", "Say how far everything in images is, as gray pictures.", """
        panoptes depth scene.png --model runs/unified-io/last
        panoptes depth *.png --model runs/unified-io/last --out depths
        """)
    {
        Add(images);
        foreach (var option in (ReadOnlySpan<Option>)[model, output]) Add(option);
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var files = SharedOptions.ImageFiles(parsed, images);
        if (files.Length > 1 && parsed.GetValue(output) is null) throw new UsageException("There are several images; expected a folder for their pictures with --out.");
        var pictures = Pictures.Of(files, parsed.GetValue(output), ".depth.png", always: true);
        using var teller = ModelLoader.LoadDepth(parsed, ModelLoader.Resolve(parsed, parsed.GetRequiredValue(model)));
        var done = 0;
        await terminal.InChunks("Looking", files, chunk =>
        {
            foreach (var photo in SharedOptions.LoadImages(chunk)) teller.Depth(photo).Save(pictures[done++]!);
            return chunk;
        }, cancel, size: 8);
        if (terminal.IsJson) terminal.WriteJson(files.Zip(pictures, static (file, picture) => new { image = file, picture }));
        else Pictures.Note(terminal, pictures);
        return App.Success;
    }
}
