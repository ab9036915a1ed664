using System.CommandLine;
using Panoptes.Imaging;
using Panoptes.Understanding;

namespace Panoptes.Cli.Commands;

/// <summary>Says where in an image the things are that a phrase or a caption speaks of.</summary>
sealed class GroundCommand : ExampleCommand
{
    readonly Argument<string> image = new("IMAGE") { Description = "The image.", HelpName = "IMAGE" };
    readonly Argument<string[]> text = new("TEXT") { Description = "Phrases or captions, each read by itself.", Arity = ArgumentArity.OneOrMore };
    readonly Option<string> model = new("--model", "-m") { Description = "A Grounding DINO, a Florence-2, a Kosmos-2, a UniTAB, an OWL-ViT or an X-Decoder: a folder, a file or a hub id (OWNER/NAME[@REVISION]).", HelpName = "MODEL", DefaultValueFactory = static _ => SharedOptions.DefaultFinder };
    readonly Option<double?> threshold = new("--threshold") { Description = "The score that a box must exceed, from 0 to 1; the model's own by default.", HelpName = "SCORE" };
    readonly Option<string?> output = new("--out", "-o") { Description = "Where the picture with the boxes goes; IMAGE.grounded.png by default.", HelpName = "PNG" };

    public GroundCommand() : base("ground",
        "Draw boxes around what a phrase or a caption speaks of, each bound to its words. Grounding DINO and Florence-2 find the phrases in a caption by themselves; the others take a text as one phrase.", """
        panoptes ground scene.png "the red apple left of the cat"
        panoptes ground photo.jpg "a cat sleeps beside a red apple" --model IDEA-Research/grounding-dino-tiny
        panoptes ground photo.jpg "the red apple left of the cat" "the cat" --model florence-community/Florence-2-base --out found.png --json
        """)
    {
        Add(image);
        Add(text);
        foreach (var option in (ReadOnlySpan<Option>)[model, threshold, output]) Add(option);
        SharedOptions.Share(threshold);
        SharedOptions.EndsIn(output, ".png", ".jpg", ".jpeg", ".webp");
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var path = parsed.GetRequiredValue(image);
        var photo = Image.Load(path).ToRgb();
        var texts = parsed.GetRequiredValue(text);
        foreach (var words in texts) Prompt.Text(words).Check(photo.Width, photo.Height);
        using var grounder = ModelLoader.LoadGrounder(parsed, ModelLoader.Resolve(parsed, parsed.GetRequiredValue(model)));
        var found = await terminal.InChunks<IReadOnlyList<BoundBox>>("Grounding", texts, chunk => [.. chunk.Select(words => grounder.Ground(photo, words, parsed.GetValue(threshold)))], cancel, size: 1);
        var picture = parsed.GetValue(output) ?? Path.ChangeExtension(path, ".grounded.png");
        Overlay.Draw(photo, [.. found.SelectMany(static f => f).Select(static b => b.Found)]).Save(picture);
        if (terminal.IsJson)
            terminal.WriteJson(new { image = path, picture, texts = texts.Zip(found, static (words, boxes) => new { text = words, boxes = boxes.Select(static b => new { words = b.Found.Label, b.Start, b.End, b.Found.Score, box = Pictures.Corner(b.Found.Left, b.Found.Top, b.Found.Right, b.Found.Bottom) }) }) });
        else
        {
            var table = Terminal.Table([.. texts.Length > 1 ? ["Text"] : (string[])[], "Words", "Score", "Box"]);
            foreach (var (words, boxes) in texts.Zip(found))
                foreach (var b in boxes) table.AddRow(texts.Length > 1 ? [words, b.Found.Label] : [b.Found.Label], b.Found);
            terminal.Write(table);
            foreach (var (words, _) in texts.Zip(found).Where(static f => f.Second.Count == 0)) terminal.Note($"Nothing was found for \"{words}\".");
            terminal.Note($"The picture is {picture}.");
        }
        return App.Success;
    }
}
