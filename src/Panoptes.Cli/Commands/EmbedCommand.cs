using System.CommandLine;
using Panoptes.Audio;
using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Search;

namespace Panoptes.Cli.Commands;

/// <summary>Turns images or texts into vectors in a file.</summary>
sealed class EmbedCommand : ExampleCommand
{
    const int Batch = 64;

    readonly Argument<string[]> inputs = new("INPUT") { Description = "Image files, or folders whose images are all meant; or .wav files, of a model that hears.", Arity = ArgumentArity.ZeroOrMore };
    readonly Option<string> output = new("--out", "-o") { Description = "The file to write: .parquet, .npy or .safetensors.", HelpName = "FILE", Required = true };
    readonly Option<string[]> text = new("--text") { Description = "Embed this text instead of images; may be repeated.", HelpName = "TEXT" };
    readonly Option<string?> textFile = new("--texts-file") { Description = "Embed the lines of a text file.", HelpName = "FILE" };
    readonly Option<bool> strict = new("--strict") { Description = "An image that cannot be read is an error; by default it is counted and skipped." };
    readonly Option<string> model = SharedOptions.Model();

    public EmbedCommand() : base("embed", "Turn images or texts into vectors of length 1, in a Parquet, NumPy or safetensors file.", """
        panoptes embed ~/Pictures --out pictures.parquet
        panoptes embed a.png b.png --out two.npy
        panoptes embed spoken.wav --out sounds.npy --model runs/imagebind/best
        panoptes embed --texts-file captions.txt --out captions.safetensors
        """)
    {
        Add(inputs);
        foreach (var option in (ReadOnlySpan<Option>)[output, text, textFile, strict, model]) Add(option);
        SharedOptions.EndsIn(output, ".parquet", ".npy", ".safetensors");
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var target = parsed.GetRequiredValue(output);
        var format = VectorFiles.FormatOf(target);
        var images = parsed.GetValue(inputs) ?? [];
        var ofTexts = parsed.GetValue(text) is { Length: > 0 } || parsed.GetValue(textFile) is not null;
        if (ofTexts && images.Length > 0) throw new UsageException("Images and texts were both given; expected one kind.");
        if (!ofTexts && images.Length == 0) throw new UsageException("Nothing to embed: expected image files, folders, --text or --texts-file.");
        var texts = Texts(parsed);
        if (ofTexts && texts.Count == 0) throw new PanoptesException($"{parsed.GetValue(textFile)} has no text: expected one a line.");
        var files = Files(images, cancel);
        using var clip = ModelLoader.Load(parsed, ModelLoader.Resolve(parsed, parsed.GetRequiredValue(model)), Batch);
        var names = new List<string>();
        var bad = new List<BadImage>();
        var dimension = clip.EmbeddingSize;
        await terminal.WithProgress("Embedding", progress =>
        {
            var vectors = new List<float[]>();
            if (texts.Count > 0) EmbedTexts(clip, texts, names, vectors, progress, cancel);
            else if (Sounds.AreMeant(files)) EmbedSounds(clip, files, names, vectors, progress, cancel);
            else EmbedImages(clip, files, parsed.GetValue(strict), names, vectors, bad, progress, cancel);
            if (names.Count == 0) throw new PanoptesException($"None of the {files.Count} images could be read; the first: {bad[0].Problem}");
            cancel.ThrowIfCancellationRequested();
            VectorFiles.Save(target, names, vectors.SelectMany(static v => v).ToArray(), cancel);
            return 0;
        });
        if (terminal.IsJson) terminal.WriteJson(new { file = target, format = format.ToString().ToLowerInvariant(), rows = names.Count, dimension, bad });
        else
        {
            terminal.WriteLine($"{names.Count} vectors of {dimension} numbers in {target}{(format == VectorFormat.Npy ? $", names in {VectorFiles.NamesFile(target)}" : "")}.");
            foreach (var b in bad.Take(5)) terminal.Note($"skipped: {b.Problem}");
            if (bad.Count > 5) terminal.Note($"… and {bad.Count - 5} more (--json lists them all).");
        }
        return App.Success;
    }

    List<string> Texts(ParseResult parsed)
    {
        var texts = new List<string>(parsed.GetValue(text) ?? []);
        if (parsed.GetValue(textFile) is { } file)
            texts.AddRange(ModelFolder.ReadText(file).Split('\n').Select(static l => l.Trim()).Where(static l => l.Length > 0));
        return texts;
    }

    static List<string> Files(string[] inputs, CancellationToken cancel)
    {
        var files = new List<string>();
        foreach (var input in inputs)
        {
            if (Directory.Exists(input))
            {
                var before = files.Count;
                foreach (var file in FolderIndexer.Files(input, cancel)) files.Add(Path.Combine(input, file));
                if (files.Count == before) throw new PanoptesException($"{input} holds no images.");
            }
            else if (File.Exists(input)) files.Add(input);
            else throw new PanoptesException($"{input} does not exist.");
        }
        return files;
    }

    static void EmbedTexts(Clip clip, List<string> texts, List<string> names, List<float[]> vectors, IProgress<Step> progress, CancellationToken cancel)
    {
        foreach (var chunk in texts.Chunk(Batch))
        {
            cancel.ThrowIfCancellationRequested();
            using var embedded = clip.EmbedTexts(chunk);
            vectors.Add(embedded.data<float>().ToArray());
            names.AddRange(chunk);
            progress.Report(new(names.Count, texts.Count));
        }
    }

    static void EmbedSounds(Clip clip, List<string> files, List<string> names, List<float[]> vectors, IProgress<Step> progress, CancellationToken cancel)
    {
        foreach (var file in files)
        {
            cancel.ThrowIfCancellationRequested();
            vectors.Add(clip.Embed(WavFile.Load(file)));
            names.Add(file);
            progress.Report(new(names.Count, files.Count));
        }
    }

    static void EmbedImages(Clip clip, List<string> files, bool strict, List<string> names, List<float[]> vectors, List<BadImage> bad, IProgress<Step> progress, CancellationToken cancel)
    {
        // The next batch is decoded while the model works on this one.
        var chunks = files.Chunk(Batch).ToArray();
        var next = Task.Run(() => Decode(chunks[0]), cancel);
        for (var c = 0; c < chunks.Length; c++)
        {
            var decoded = next.GetAwaiter().GetResult();
            cancel.ThrowIfCancellationRequested();
            if (c + 1 < chunks.Length)
            {
                var following = chunks[c + 1];
                next = Task.Run(() => Decode(following), cancel);
            }
            foreach (var (file, _, problem) in decoded)
            {
                if (problem is null) continue;
                if (strict) throw new PanoptesException(problem);
                bad.Add(new(file, problem));
            }
            var good = decoded.Where(static d => d.Image is not null).ToArray();
            if (good.Length > 0)
            {
                using var embedded = clip.EmbedImages([.. good.Select(static g => g.Image!)]);
                vectors.Add(embedded.data<float>().ToArray());
                names.AddRange(good.Select(static g => g.File));
            }
            progress.Report(new(names.Count + bad.Count, files.Count));
        }
    }

    static (string File, Image? Image, string? Problem)[] Decode(string[] files) => [.. files.AsParallel().AsOrdered().Select(static file =>
    {
        try
        {
            return (file, (Image?)Image.Load(file), (string?)null);
        }
        catch (PanoptesException e)
        {
            return (file, null, e.Message);
        }
    })];
}
