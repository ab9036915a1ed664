using System.CommandLine;
using Panoptes.Audio;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Search;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>Finds images of a folder by text, by an image, or by both.</summary>
sealed class SearchCommand : ExampleCommand
{
    readonly Argument<string> folder = new("FOLDER") { Description = "The folder of images; its subfolders belong to it." };
    readonly Argument<string[]> texts = new("TEXT") { Description = "What to look for, in words; several texts are several searches.", Arity = ArgumentArity.ZeroOrMore };
    readonly Option<string?> image = new("--image", "-i") { Description = "An image to look for; with a text, what is like both.", HelpName = "FILE" };
    readonly Option<string?> audio = new("--audio") { Description = "A sound to look for (.wav), of a model that hears; with a text or an image, what is like both.", HelpName = "FILE" };
    readonly Option<int> top = new("--top", "-n") { Description = "How many images to show.", HelpName = "N", DefaultValueFactory = static _ => 10 };
    readonly Option<string?> sheet = new("--sheet") { Description = "Draw the images found into this picture.", HelpName = "FILE" };
    readonly Option<string?> index = new("--index") { Description = "Where the index is kept; by default .panoptes in the folder.", HelpName = "DIR" };
    readonly Option<bool> reindex = new("--reindex") { Description = "Embed every image again (for another model, or a damaged index)." };
    readonly Option<bool> noUpdate = new("--no-update") { Description = "Search the index as it is, without looking at the folder." };
    readonly Option<bool> strict = new("--strict") { Description = "An image that cannot be read is an error; by default it is counted and skipped." };
    readonly Option<string> model = SharedOptions.Model();

    public SearchCommand() : base("search", "Find images by text, by an image, or by both. An index is kept beside the images and updated where files changed.", """
        panoptes search ~/Pictures "a dog on a beach" "a birthday cake" --top 5 --sheet found.png
        panoptes search ~/Pictures --image sketch.png
        panoptes search ~/Pictures "at night" --image street.jpg --json
        panoptes search ~/Pictures --audio spoken.wav --model runs/imagebind/best
        """)
    {
        Add(folder);
        Add(texts);
        foreach (var option in (ReadOnlySpan<Option>)[image, audio, top, sheet, index, reindex, noUpdate, strict, model]) Add(option);
        SharedOptions.AtLeastOne(top);
        SharedOptions.EndsIn(audio, ".wav");
        SharedOptions.EndsIn(sheet, ".png", ".jpg", ".jpeg", ".webp");
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var (root, wanted) = (parsed.GetRequiredValue(folder), parsed.GetValue(texts) ?? []);
        var (like, heard, sheetFile) = (parsed.GetValue(image), parsed.GetValue(audio), parsed.GetValue(sheet));
        if (wanted.Any(string.IsNullOrWhiteSpace)) throw new UsageException("A text to look for is empty.");
        if (parsed.GetValue(noUpdate) && parsed.GetValue(reindex)) throw new UsageException("--no-update and --reindex contradict each other.");
        if (sheetFile is not null && wanted.Length == 0 && like is null && heard is null) throw new UsageException("--sheet needs something to look for: a text, --image or --audio.");
        if (!Directory.Exists(root)) throw new PanoptesException(File.Exists(root) ? $"{root} is a file; expected a folder of images." : $"The folder {root} does not exist.");
        var indexFolder = parsed.GetValue(index) ?? Path.Combine(root, FolderIndexer.DefaultFolderName);
        var query = like is null ? null : Image.Load(like);
        var sound = heard is null ? null : WavFile.Load(heard);
        var name = parsed.GetRequiredValue(model);
        var path = ModelLoader.Resolve(parsed, name);
        var identity = ModelIdentity.Of(name, path);
        var onlySearch = parsed.GetValue(noUpdate);
        if (onlySearch)
        {
            using var existing = VectorIndex.Open(indexFolder);
            if (existing.Model.Fingerprint != identity.Fingerprint)
                throw new PanoptesException($"The index in {indexFolder} was made with the model {existing.Model.Name}, not with {name}: use that model, or --reindex.");
        }
        using var clip = ModelLoader.Load(parsed, path);
        var report = onlySearch ? null : await terminal.WithProgressAsync($"Indexing {root}", progress => FolderIndexer.UpdateAsync(
            root, ModelLoader.Embedder(clip, identity, ModelLoader.Device(parsed)), indexFolder, parsed.GetValue(reindex), parsed.GetValue(strict),
            new IndexSteps(progress), cancel));
        using var vectors = VectorIndex.Open(indexFolder);
        var answers = await terminal.WithProgress("Searching", _ => Search(clip, vectors, wanted, Like(clip, query, sound, vectors.IsSparse), like ?? heard, parsed.GetValue(top), cancel));
        if (sheetFile is not null) Draw(sheetFile, "panoptes search", root, answers, query);
        Print(terminal, root, vectors, report, answers, sheetFile);
        return App.Success;
    }

    /// <summary>One search and what it found.</summary>
    internal sealed record Answer(string? Text, string? Image, IReadOnlyList<SearchHit> Hits)
    {
        public string Title => (Text, Image) switch
        {
            ({ } text, null) => text,
            (null, { } image) => $"like {Path.GetFileName(image)}",
            _ => $"{Text}, like {Path.GetFileName(Image)}",
        };
    }

    internal static IReadOnlyList<Answer> Search(Clip clip, VectorIndex index, IReadOnlyList<string> texts, float[]? like, string? likeName, int top, CancellationToken cancel)
    {
        if (texts.Count == 0 && like is null) return [];
        var queries = new List<float>();
        if (texts.Count == 0) queries.AddRange(like!);
        else
        {
            using var embedded = clip.EmbedTexts(texts);
            var vectors = embedded.data<float>().ToArray();
            for (var i = 0; i < texts.Count; i++)
                queries.AddRange(like is null ? vectors.AsSpan(i * index.Dimension, index.Dimension) : Both(vectors.AsSpan(i * index.Dimension, index.Dimension), like, index.IsSparse));
        }
        var hits = index.Search(queries.ToArray(), top, cancel);
        return [.. hits.Select((h, i) => new Answer(i < texts.Count ? texts[i] : null, likeName, h))];
    }

    /// <summary>What is looked for beside texts: an image, a sound, or what is like both.</summary>
    static float[]? Like(Clip clip, Image? image, Waveform? sound, bool isSparse)
    {
        var seen = image is null ? null : clip.Embed(image);
        if (sound is null) return seen;
        var heard = clip.Embed(sound);
        return seen is null ? heard : Both(seen, heard, isSparse);
    }

    /// <summary>The direction between two vectors, of length 1; of sparse weights the mean, in which both count by what they weigh.</summary>
    static float[] Both(ReadOnlySpan<float> one, float[] other, bool isSparse)
    {
        var both = new float[other.Length];
        double sum = 0;
        for (var i = 0; i < both.Length; i++) sum += (double)(both[i] = one[i] + other[i]) * both[i];
        var scale = isSparse ? 0.5f : (float)(1 / Math.Max(Math.Sqrt(sum), 1e-12));
        for (var i = 0; i < both.Length; i++) both[i] *= scale;
        return both;
    }

    internal static void Draw(string file, string title, string root, IReadOnlyList<Answer> answers, Image? query)
    {
        var rows = answers.Select(a => new SheetRow(a.Title, [.. a.Hits.Select(h => Cell(root, h)).OfType<SheetCell>()]) { Query = a.Image is null ? null : query }).ToArray();
        new ContactSheet { Title = title, Rows = rows, Columns = Math.Clamp(answers.Count == 0 ? 1 : answers.Max(static a => a.Hits.Count), 1, 10) }.Save(file);
    }

    /// <summary>Null when the file has gone or been spoiled since it was indexed.</summary>
    static SheetCell? Cell(string root, SearchHit hit)
    {
        try
        {
            return new(Image.Load(Path.Combine(root, hit.Path)), Path.GetFileNameWithoutExtension(hit.Path), hit.Score);
        }
        catch (PanoptesException)
        {
            return null;
        }
    }

    static void Print(Terminal terminal, string root, VectorIndex index, IndexReport? report, IReadOnlyList<Answer> answers, string? sheet)
    {
        if (terminal.IsJson)
        {
            terminal.WriteJson(new
            {
                folder = root,
                images = index.Count,
                model = index.Model.Name,
                update = report is null ? null : new { report.Added, report.Changed, report.Removed, report.Reused, seconds = Math.Round(report.Duration.TotalSeconds, 3), bad = report.Bad },
                answers = answers.Select(static a => new { a.Text, a.Image, a.Hits }),
                sheet,
            });
            return;
        }
        foreach (var answer in answers)
        {
            var table = Terminal.Table("", "Score", "Image").Title($"[bold]{Terminal.Escape(answer.Title)}[/]");
            for (var i = 0; i < answer.Hits.Count; i++)
                table.AddRow($"{i + 1}", $"{answer.Hits[i].Score:0.000}", Terminal.Escape(answer.Hits[i].Path));
            terminal.Write(table);
        }
        terminal.Note(report is null ? $"{index.Count} images in the index." : Summary(report));
        if (report is { Bad.Count: > 0 })
        {
            foreach (var bad in report.Bad.Take(5)) terminal.Note($"skipped: {bad.Problem}");
            if (report.Bad.Count > 5) terminal.Note($"… and {report.Bad.Count - 5} more (--json lists them all).");
        }
        if (sheet is not null) terminal.Note($"Drawn into {sheet}.");
    }

    internal static string Summary(IndexReport report)
    {
        var changes = string.Join(", ", new (int Count, string What)[] { (report.Added, "added"), (report.Changed, "changed"), (report.Removed, "removed"), (report.Bad.Count, "unreadable and skipped") }
            .Where(static c => c.Count > 0).Select(static c => $"{c.Count} {c.What}"));
        return $"{report.Images} images in the index{(changes.Length > 0 ? $" ({changes})" : "")}, {report.Duration.TotalSeconds:0.0} s.";
    }
}

/// <summary>An index's progress as a bar's.</summary>
sealed class IndexSteps(IProgress<Step> progress) : IProgress<IndexProgress>
{
    public void Report(IndexProgress value) => progress.Report(new(value.Done, value.Total));
}
