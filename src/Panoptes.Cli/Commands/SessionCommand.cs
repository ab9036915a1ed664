using System.CommandLine;
using System.Globalization;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Understanding;
using Spectre.Console;
using Color = Spectre.Console.Color;

namespace Panoptes.Cli.Commands;

/// <summary>A talk about pictures.</summary>
sealed class SessionCommand : ExampleCommand
{
    readonly Argument<string[]> images = new("IMAGE") { Description = "Pictures to talk about; more can be looked at later.", Arity = ArgumentArity.ZeroOrMore };
    readonly Option<string> model = new("--model", "-m") { Description = "What segments: a SAM, as a folder, a file or a hub id (OWNER/NAME[@REVISION]).", HelpName = "MODEL", DefaultValueFactory = static _ => SharedOptions.DefaultSegmenter };
    readonly Option<string> namer = new("--names-by") { Description = "A CLIP that tells what things are called.", HelpName = "MODEL", DefaultValueFactory = static _ => SharedOptions.DefaultModel };
    readonly Option<string?> names = new("--names") { Description = "What things may be called, with commas between; by default nothing is called by a name but what you call so.", HelpName = "LIST" };
    readonly Option<string?> file = new("--session", "-s") { Description = "The session's file: it is gone on with where it is there, and written after every turn.", HelpName = "FILE" };
    readonly Option<string?> output = new("--out", "-o") { Description = "Where the picture with what is selected goes after every turn.", HelpName = "PNG" };
    readonly Option<string[]> say = new("--say") { Description = "Say this, as if it were typed; may be repeated. Nothing is asked then.", HelpName = "SENTENCE" };

    public SessionCommand() : base("session", "Talk about pictures: select things by pointing and by words that build on what was said before.", $"""
        panoptes session scene.png --names "apple,cat,cup" --out selected.png
        panoptes session photo.jpg --model facebook/sam-vit-base --out selected.png
        panoptes session table.jpg --model facebook/sam-vit-base --names "apple,cat,cup" --say "the cat left of the apple" --say "now its shadow too" --out cat.png
        panoptes session --session table.session --model facebook/sam-vit-base
        Besides sentences: look IMAGE, point X,Y[,-], box LEFT,TOP,RIGHT,BOTTOM, more X,Y[,-], show, help, quit.
        """)
    {
        Add(images);
        foreach (var option in (ReadOnlySpan<Option>)[model, namer, names, file, output, say]) Add(option);
        SharedOptions.EndsIn(output, ".png", ".jpg", ".jpeg", ".webp");
        SetAction((parsed, cancel) => Task.Run(() => Run(parsed, cancel), CancellationToken.None));
    }

    int Run(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        string[] files = parsed.GetValue(images) is { Length: > 0 } ? SharedOptions.ImageFiles(parsed, images) : [];
        ModelLoader.UseThreads(parsed);
        using var sam = Sam.Load(ModelLoader.Resolve(parsed, parsed.GetRequiredValue(model)), new() { Dtype = ModelLoader.Precision(parsed) });
        string[] vocabulary = [.. (parsed.GetValue(names) ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)];
        using var clip = vocabulary.Length == 0 ? null : ModelLoader.Load(parsed, ModelLoader.Resolve(parsed, parsed.GetRequiredValue(namer)));
        var told = clip is null ? null : new ClipNamer(clip, vocabulary);
        var saved = parsed.GetValue(file);
        using var session = saved is not null && File.Exists(saved) ? Session.Load(saved, sam, told) : new Session(sam, told);
        foreach (var path in files) session.Look(Image.Load(path).ToRgb(), Path.GetFileName(path));
        if (session.PictureCount == 0 && parsed.GetValue(say) is { Length: > 0 }) throw new UsageException("There is no picture to talk about; name one, or a session that has one.");

        var turns = new List<object>();
        foreach (var line in Lines(terminal, parsed.GetValue(say) ?? [], cancel))
        {
            cancel.ThrowIfCancellationRequested();
            SessionAnswer answer;
            try
            {
                answer = Answer(session, line);
            }
            catch (Exception e) when (e is PanoptesException or UsageException)
            {
                answer = new(false, e.Message, session.Selected);
            }
            if (terminal.IsJson) turns.Add(new { said = line, answer.Understood, answer = answer.Text, picture = session.CurrentPicture, selected = answer.Selected.Select(static s => new { s.Label, s.Score, box = new[] { s.Box.X, s.Box.Y, s.Box.Width, s.Box.Height }, counts = s.Mask.Counts }).ToArray() });
            else terminal.WriteLine(answer.Text);
            if (!answer.Understood) continue;
            if (saved is not null) session.Save(saved);
            if (session.CurrentImage is not { } picture) continue;
            var drawn = new Lazy<Image>(() => Overlay.Draw(picture, session.Selected, new() { Legend = false }));
            if (parsed.GetValue(output) is { } path) drawn.Value.Save(path);
            if (terminal.IsInteractive && !terminal.IsJson) Show(terminal, drawn.Value);
        }
        if (terminal.IsJson) terminal.WriteJson(turns);
        return App.Success;
    }

    static SessionAnswer Answer(Session session, string line)
    {
        var space = line.IndexOf(' ', StringComparison.Ordinal);
        var (word, rest) = space < 0 ? (line, "") : (line[..space], line[(space + 1)..].Trim());
        return word.ToLowerInvariant() switch
        {
            "look" when rest.Length > 0 && File.Exists(rest) => session.Look(Image.Load(rest).ToRgb(), Path.GetFileName(rest)),
            "point" => session.Point([PromptParser.Point(rest)]),
            "more" when rest.Contains(',', StringComparison.Ordinal) => session.Point([PromptParser.Point(rest)], more: true),
            "box" when rest.Contains(',', StringComparison.Ordinal) => session.Point([PromptParser.Box(rest)]),
            "show" when rest.Length == 0 => new(true, $"{session.Selected.Count.ToString(CultureInfo.InvariantCulture)} selected.", session.Selected),
            _ => session.Say(line),
        };
    }

    /// <summary>What is said: given beforehand, or typed until the end of the input.</summary>
    static IEnumerable<string> Lines(Terminal terminal, string[] given, CancellationToken cancel)
    {
        if (given.Length > 0)
        {
            foreach (var line in given) yield return line;
            yield break;
        }
        if (terminal.IsInteractive && !Console.IsInputRedirected) terminal.Note("Say what you mean, or help; quit ends the talk.");
        while (!cancel.IsCancellationRequested)
        {
            if (terminal.IsInteractive && !Console.IsInputRedirected) terminal.Messages.Markup("[bold]>[/] ");
            if (Console.In.ReadLine() is not { } line || line.Trim() is "quit" or "exit") yield break;
            if (line.Trim() is { Length: > 0 } said) yield return said;
        }
    }

    /// <summary>A small picture in the terminal: every pixel is two characters wide.</summary>
    static void Show(Terminal terminal, Image image)
    {
        var width = Math.Min(64, Math.Max(16, terminal.Messages.Profile.Width / 2 - 2));
        var height = Math.Max(1, (int)Math.Round((double)image.Height * width / image.Width));
        var small = image.Resize(width, height).ToRgb();
        var canvas = new Canvas(width, height) { Scale = false };
        for (var y = 0; y < height; y++)
            for (var x = 0; x < width; x++)
            {
                var at = (y * width + x) * 3;
                canvas.SetPixel(x, y, new Color(small.Pixels[at], small.Pixels[at + 1], small.Pixels[at + 2]));
            }
        terminal.Messages.Write(canvas);
    }
}
