using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Security.Cryptography;
using Panoptes.Checkpoints;
using Panoptes.Generation;
using Panoptes.Imaging;
using Spectre.Console;
using Spectre.Console.Rendering;
using static TorchSharp.torch;

namespace Panoptes.Cli.Commands;

/// <summary>What commands that make images have in common: their options, their files, previews, and how an image is made again.</summary>
abstract class ImageCommand : ExampleCommand
{
    readonly Argument<string[]> prompts = new("PROMPT") { Description = "What is to be seen; parts may count more or less: \"a (red:1.3) apple\". Several make a row of the grid each.", Arity = ArgumentArity.ZeroOrMore };
    readonly Option<string?> model = new("--model", "-m") { Description = "A diffusion pipeline: a diffusers folder with model_index.json, one file of the original form (.safetensors, .ckpt), or a hub id (OWNER/NAME[@REVISION]). By default the bundled small one, which draws a few things.", HelpName = "MODEL" };
    readonly Option<string?> config = new("--config") { Description = "For a model in one file: a diffusers folder that says what the file does not (scheduler, tokenizers, a part's config.json), and has the parts that the file lacks.", HelpName = "FOLDER" };
    readonly Option<string?> negative = new("--negative", "-n") { Description = "What is not wanted.", HelpName = "WORDS" };
    readonly Option<int[]> steps = new("--steps") { Description = "How many steps; by default as the model's family has it. May be repeated, as --guidance and --scheduler may: images are made each way.", HelpName = "N" };
    readonly Option<double[]> guidance = new("--guidance", "-g") { Description = "How strongly the prompt is followed; 1: as it comes.", HelpName = "SCALE" };
    readonly Option<double?> rescale = new("--rescale") { Description = "How much of the contrast that strong guidance adds is taken back, from 0 to 1.", HelpName = "SHARE" };
    readonly Option<string[]> scheduler = new("--scheduler") { Description = $"Another sampler than the model's own: {string.Join(", ", Samplers.All.Select(static s => s.Name))}.", HelpName = "NAME" };
    readonly Option<double?> eta = new("--eta") { Description = "DDIM: how much noise is drawn at each step, from 0 to 1.", HelpName = "ETA" };
    readonly Option<long[]> seed = new("--seed", "-s") { Description = "What all chance follows from; the same gives the same image. A new one by default, which is told. May be repeated.", HelpName = "N" };
    readonly Option<int?> count = new("--count", "-c") { Description = "How many images of each prompt, with seeds that follow each other.", HelpName = "N" };
    readonly Option<string?> size = new("--size") { Description = "Width and height in pixels, or one number for both.", HelpName = "WxH" };
    readonly Option<string?> image;
    readonly Option<double?> strength = new("--strength") { Description = "How far from the picture: 0.8 by default, 1 is as good as nothing of it.", HelpName = "SHARE" };
    readonly Option<string?> mask = new("--mask") { Description = "White where the picture is made anew; of the picture's size. What is transparent stays, as what is black.", HelpName = "PNG" };
    readonly Option<int?> clipSkip = new("--clip-skip") { Description = "How many of the text encoder's last layers are left out.", HelpName = "N" };
    readonly Option<int?> interpolate = new("--interpolate") { Description = "So many images on the way from each prompt to the next, or, of one prompt, from each seed to the next, both ends counted.", HelpName = "N" };
    readonly Option<double?> variation = new("--variation") { Description = "Variations of one image, as many as --count says: its noise goes so far toward that of the next seeds, from 0 to 1.", HelpName = "SHARE" };
    readonly Option<double?> upscale = new("--upscale") { Description = "How many times as large the image is made before it is one: its latents are enlarged and made anew in part.", HelpName = "FACTOR" };
    readonly Option<double?> upscaleStrength = new("--upscale-strength") { Description = "In how large a part: 0.6 by default.", HelpName = "SHARE" };
    readonly Option<bool> upscaleNearest = new("--upscale-nearest") { Description = "Enlarge latents by repeating them, not by lines between them." };
    readonly Option<int?> repeats = new("--repeats") { Description = "How often every step is taken, with new noise each time but the first; 1 by default. Guidance by a text gains by it.", HelpName = "N" };
    readonly Option<string?> from = new("--from") { Description = "Makes the image of a PNG again, by what it says of itself; other options change that.", HelpName = "IMAGE" };
    readonly Option<bool> grid = new("--grid") { Description = "Also write all images as one picture: a row a prompt and a way, a column a seed." };
    readonly Option<bool> tiled = new("--tiled") { Description = "Decode large images in tiles, which takes less memory." };
    readonly Option<bool> sliced = new("--sliced") { Description = "Take one image after the other through the autoencoder, which takes less memory." };
    readonly Option<int?> batch = new("--batch") { Description = "How many images are made at once; 4 by default.", HelpName = "N" };
    readonly Option<string> preview = new("--preview") { Description = "How the terminal shows what it becomes: auto, kitty, sixel, blocks or none.", HelpName = "HOW", DefaultValueFactory = static _ => "auto" };
    readonly Option<string?> output = new("--out", "-o") { Description = "A file for one image, otherwise a folder; here by default, named after prompt and seed.", HelpName = "PNG|FOLDER" };

    /// <param name="picture">The option that names the picture to be changed.</param>
    protected ImageCommand(string name, string description, string example, Option<string?> picture) : base(name, description, example)
    {
        image = picture;
        Add(prompts);
        foreach (var option in (ReadOnlySpan<Option>)[model, config, negative, steps, guidance, rescale, scheduler, eta, seed, count, size, image, strength, mask, clipSkip, interpolate, variation, upscale, upscaleStrength, upscaleNearest, repeats, from, grid, tiled, sliced, batch, preview, output]) Add(option);
        foreach (var (option, most) in (ReadOnlySpan<(Option, int)>)[(steps, 10_000), (count, 10_000), (interpolate, 10_000), (batch, 256), (repeats, 100)]) SharedOptions.OneTo(option, most);
        foreach (var option in (ReadOnlySpan<Option>)[rescale, eta, strength, variation, upscaleStrength]) SharedOptions.Share(option);
        SharedOptions.OneOf(scheduler, [.. Samplers.All.Select(static s => s.Name)]);
        SharedOptions.OneOf(preview, "auto", "kitty", "sixel", "blocks", "none");
        SetAction(RunAsync);
    }

    /// <summary>What the images are to obey beside their words.</summary>
    /// <param name="before">What is made again, with its file; null: something new is made.</param>
    /// <param name="held">Gets the models, which live as long as the command.</param>
    protected abstract IReadOnlyList<ImageControl> Controls(ParseResult parsed, Made? before, List<IDisposable> held);

    /// <summary>The networks that stand in the model's own folder, as <see cref="PipelineFolder.Controls"/> tells them.</summary>
    protected (string[] ControlNets, string[] Adapters) OwnNetworks(ParseResult parsed, Made? before) =>
        NameOf(parsed, before) is var name && Directory.Exists(name) ? PipelineFolder.Controls(name) : PipelineFolder.Controls(ModelLoader.Resolve(parsed, name));

    string NameOf(ParseResult parsed, Made? before) => parsed.GetValue(model) ?? before?.Parameters.Model ?? SharedOptions.DefaultGenerator;

    /// <summary>An image that is made again.</summary>
    /// <param name="File">The PNG.</param>
    /// <param name="Png">What it holds.</param>
    /// <param name="Parameters">What it says of itself.</param>
    protected sealed record Made(string File, byte[] Png, ImageParameters Parameters);

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        ModelLoader.UseThreads(parsed);
        var made = parsed.GetValue(from) is { } file ? Before(file) : null;
        var before = made?.Parameters;
        var name = NameOf(parsed, made);
        var requests = Requests(parsed, before);
        var files = Files(parsed, requests);
        var gridFile = parsed.GetValue(grid) ? Free(Path.Combine(Path.GetDirectoryName(files[0]) is { Length: > 0 } beside ? beside : ".", "grid.png"), []) : null;
        foreach (var written in files.Append(gridFile).OfType<string>().DistinctBy(Path.GetDirectoryName)) AtomicFile.Check(written);
        var path = ModelLoader.Resolve(parsed, name);
        if (gridFile is not null && files.Any(f => string.Equals(Path.GetFullPath(f), Path.GetFullPath(gridFile), StringComparison.OrdinalIgnoreCase))) throw new UsageException($"--grid writes {gridFile}, which --out names, too; expected another file.");
        var settings = parsed.GetValue(config) ?? (parsed.GetValue(model) is null ? before?.Config : null);
        var (held, saved) = (new List<IDisposable>(), 0);
        IReadOnlyList<GeneratedImage> images;
        try
        {
            var controls = Controls(parsed, made, held);
            requests = [.. requests.Select(r => r with { Controls = controls })];
            using var maker = ImageMaker.IsIn(path) ? Drawing(parsed, terminal, path, name, before) : Diffusing(parsed, terminal, path, name, settings, before);
            images = await Make(terminal, maker, requests, parsed.GetRequiredValue(preview), Save, cancel);
        }
        finally
        {
            foreach (var one in held) one.Dispose();
        }
        if (before is not null) Compare(parsed, before, images[0].Parameters);
        if (gridFile is not null) Sheet(images).Save(gridFile);
        if (terminal.IsJson)
        {
            terminal.WriteJson(new { images = images.Select((m, i) => new { file = files[i], m.Parameters }), grid = gridFile });
            return App.Success;
        }
        var table = Terminal.Table("Image", "Seed", "Prompt");
        for (var i = 0; i < images.Count; i++) table.AddRow(Terminal.Escape(files[i]), images[i].Parameters.Seed.ToString(CultureInfo.InvariantCulture), Terminal.Escape(images[i].Parameters.Prompt));
        terminal.Write(table);
        if (gridFile is not null) terminal.Note($"All of them are in {gridFile}.");
        return App.Success;

        // As they are done: whoever stops has those.
        void Save(IReadOnlyList<GeneratedImage> finished)
        {
            foreach (var one in finished) one.Save(files[saved++]);
        }
    }

    Diffusion Diffusing(ParseResult parsed, Terminal terminal, string path, string name, string? settings, ImageParameters? before)
    {
        var inTiles = parsed.GetValue(tiled) || before?.Tiled == true;
        return new(DiffusionModel.Load(path, Loading(parsed, before), settings), name)
        {
            Config = settings,
            BatchSize = parsed.GetValue(batch) ?? 4,
            Parts = inTiles || parsed.GetValue(sliced) ? new() { Tiled = inTiles, Sliced = parsed.GetValue(sliced) } : null,
            Note = terminal.Note,
        };
    }

    /// <summary>A model that takes no noise away.</summary>
    IImageMaker Drawing(ParseResult parsed, Terminal terminal, string path, string name, ImageParameters? before)
    {
        SharedOptions.Idle(parsed, $"goes with diffusion, but {name} takes no noise away", config, tiled, sliced);
        return ImageMaker.Load(path, Loading(parsed, before), name, parsed.GetValue(batch), terminal.Note);
    }

    /// <summary>As the options say, or else as the image was computed that is made again.</summary>
    static LoadOptions Loading(ParseResult parsed, ImageParameters? before)
    {
        var options = ModelLoader.Load(parsed);
        return SharedOptions.IsGiven(parsed, SharedOptions.Precision) || before?.Dtype is not ("bfloat16" or "float32") ? options : options with { Dtype = before.Dtype == "bfloat16" ? ScalarType.BFloat16 : ScalarType.Float32 };
    }

    static Made Before(string file)
    {
        var png = Pictures.Read(file);
        return new(file, png, ImageParameters.Read(png, file) ?? throw new PanoptesException($"{file} does not say how it was made; expected a PNG that panoptes generate or control has written."));
    }

    /// <summary>What is wanted: a request a prompt; what is not said is as it was before, where there is a before.</summary>
    List<ImageRequest> Requests(ParseResult parsed, ImageParameters? before)
    {
        var words = parsed.GetValue(prompts) is { Length: > 0 } given ? given : before is not null ? [before.Prompt] : throw new UsageException("No prompt is given; expected words, or --from an image.");
        var (width, height) = parsed.GetValue(size) is { } text ? Size(text) : (before?.Width, before?.Height);
        if (parsed.GetValue(image) is null && (parsed.GetValue(mask) is not null || parsed.GetValue(strength) is not null) && before?.Image is null) throw new UsageException($"--mask and --strength go with {image.Name}.");
        var (imageFile, maskFile) = (FileOf(parsed, image, before?.Image, before?.ImageFile, "of a picture"), FileOf(parsed, mask, before?.Mask, before?.MaskFile, "with a mask"));
        if (parsed.GetValue(output) is { } named && string.IsNullOrWhiteSpace(named)) throw new UsageException("--out is empty; expected a file or a folder.");
        long[] seeds = parsed.GetValue(seed) is { Length: > 0 } numbers ? numbers : [before?.Seed ?? RandomNumberGenerator.GetInt32(int.MaxValue)];
        var (picture, hole) = (imageFile is null ? null : Image.Load(imageFile), maskFile is null ? null : Image.Load(maskFile));
        var larger = parsed.GetValue(upscale) is { } factor ? new LatentUpscale(factor) : before?.Upscale;
        if (larger is null && (parsed.GetValue(upscaleStrength) is not null || parsed.GetValue(upscaleNearest))) throw new UsageException("--upscale-strength and --upscale-nearest go with --upscale.");
        if (larger is not null) larger = larger with { Strength = parsed.GetValue(upscaleStrength) ?? larger.Strength, Nearest = parsed.GetValue(upscaleNearest) || larger.Nearest };
        // All ways of those that are told.
        Way[] ways = [.. from sampler in Told(parsed, scheduler, before?.Sampler) from taken in Told(parsed, steps, before?.Steps) from scale in Told(parsed, guidance, before?.Guidance) select new Way(sampler, taken, scale)];
        ImageRequest Of(Way way, string prompt, long start, int count, Interpolation? toward) => new(prompt)
        {
            NegativePrompt = parsed.GetValue(negative) ?? before?.NegativePrompt,
            Width = width,
            Height = height,
            Steps = way.Steps,
            Guidance = way.Guidance,
            GuidanceRescale = parsed.GetValue(rescale) ?? before?.GuidanceRescale ?? 0,
            Sampler = way.Sampler,
            Eta = parsed.GetValue(eta) ?? (SharedOptions.IsGiven(parsed, scheduler) ? null : before?.Eta) ?? 0,
            Seed = start,
            Count = count,
            Toward = toward,
            Upscale = larger,
            Image = picture,
            ImageFile = imageFile,
            Strength = picture is null ? null : parsed.GetValue(strength) ?? before?.Strength,
            Mask = hole,
            MaskFile = maskFile,
            ClipSkip = parsed.GetValue(clipSkip) ?? before?.ClipSkip,
            Repeats = parsed.GetValue(repeats) ?? before?.Repeats ?? 1,
            Threads = SharedOptions.IsGiven(parsed, SharedOptions.Threads) ? null : before?.Threads,
            // To the last bit, one image of a batch is made again as one of a batch.
            Batch = SharedOptions.IsGiven(parsed, batch) || count != 1 || words.Length > 1 || seeds.Length > 1 || ways.Length > 1 || toward != before?.Toward ? null : before?.Batch,
        };
        if (before?.Toward is not null) SharedOptions.Idle(parsed, $"would begin at an image that is itself on the way to another; expected one that {parsed.GetValue(from)} came from", variation, interpolate);
        var many = parsed.GetValue(count) ?? 1;
        foreach (var one in seeds)
            if (one > long.MaxValue - many) throw new UsageException($"--seed is {one}; expected room for {many} more.");
        if (ways.Length > 1) SharedOptions.Idle(parsed, "goes with one scheduler, one number of steps and one guidance", interpolate, variation);
        if (parsed.GetValue(interpolate) is { } points)
        {
            if (parsed.GetValue(variation) is not null) throw new UsageException("--interpolate and --variation contradict each other; expected one of both.");
            if (words.Length > 1 || seeds.Length > 1) SharedOptions.Idle(parsed, "goes with --interpolate where there is one prompt and one seed", count);
            if (points < 2) throw new UsageException($"--interpolate is {points}; expected 2 or more, both ends counted.");
            if (words.Length == 1 && seeds.Length == 1) seeds = [.. Enumerable.Range(0, many).Select(k => seeds[0] + k)];
            if (words.Length == 1 && seeds.Length == 1) throw new UsageException("--interpolate has no way to go; expected several prompts, or several seeds by --seed or --count.");
            if (words.Length > 1 && seeds.Length > 1) throw new UsageException("--interpolate goes from prompt to prompt or from seed to seed; expected several of one of both.");
            var legs = Math.Max(words.Length, seeds.Length) - 1;
            // Where one way ends the next begins.
            return [.. Enumerable.Range(0, legs).SelectMany(leg => Enumerable.Range(leg == 0 ? 0 : 1, leg == 0 ? points : points - 1).Select(k => words.Length > 1
                ? Of(ways[0], words[leg], seeds[0], 1, new((double)k / (points - 1)) { Prompt = words[leg + 1] })
                : Of(ways[0], words[0], seeds[leg], 1, new((double)k / (points - 1)) { Seed = seeds[leg + 1] })))];
        }
        var pairs = words.SelectMany(prompt => seeds.Select(start => (prompt, start)));
        if (parsed.GetValue(variation) is { } share) return [.. pairs.SelectMany(p => Enumerable.Range(1, many).Select(k => Of(ways[0], p.prompt, p.start, 1, new(share) { Seed = p.start + k })))];
        return [.. words.SelectMany(prompt => ways.SelectMany(way => seeds.Select(start => Of(way, prompt, start, many, before?.Toward))))];
    }

    /// <summary>How an image is made that may be made in several ways.</summary>
    readonly record struct Way(string? Sampler, int? Steps, double? Guidance);

    static T?[] Told<T>(ParseResult parsed, Option<T[]> option, T? before) where T : struct => parsed.GetValue(option) is { Length: > 0 } told ? [.. told.Select(static v => (T?)v)] : [before];

    static string?[] Told(ParseResult parsed, Option<string[]> option, string? before) => parsed.GetValue(option) is { Length: > 0 } told ? [.. told] : [before];

    /// <summary>The file that an option names, or else the one that an image was made of before, which its own file names and does not hold.</summary>
    static string? FileOf(ParseResult parsed, Option<string?> option, string? hash, string? before, string how) => parsed.GetValue(option) is { } file ? file : hash is null ? null
        : before is not null && File.Exists(before) ? before
        : throw new UsageException($"The image was made {how}, {(before is null ? "which its file does not hold" : $"{before}, which is not there")}; name it by {option.Name}.");

    static (int? Width, int? Height) Size(string text)
    {
        var parts = text.Split('x');
        if (parts.Length is 1 or 2 && parts.All(static p => int.TryParse(p, NumberStyles.None, CultureInfo.InvariantCulture, out var n) && n is >= 1 and <= 8192)) return (int.Parse(parts[0], CultureInfo.InvariantCulture), int.Parse(parts[^1], CultureInfo.InvariantCulture));
        throw new UsageException($"--size is '{text}'; expected a number of pixels from 1 to 8192, or two as 512x768.");
    }

    /// <summary>The file of each image.</summary>
    string[] Files(ParseResult parsed, List<ImageRequest> requests)
    {
        var named = parsed.GetValue(output);
        var all = requests.SelectMany(static r => Enumerable.Range(0, r.Count).Select(k => (r.Prompt, Seed: r.Seed!.Value + k))).ToArray();
        if (named is not null && !Directory.Exists(named))
        {
            if (Path.GetExtension(named).ToUpperInvariant() is ".GIF" or ".TIF" or ".TIFF" or ".BMP" or ".AVIF" or ".HEIC" or ".JXL") throw new UsageException($"--out is '{named}'; expected .png, .jpg or .webp, or a folder.");
            if (File.Exists(named) && !Pictures.IsPicture(named)) throw new PanoptesException($"{named} is a file, but of no picture; expected a folder, or a name that ends in .png, .jpg or .webp.");
        }
        var isFile = named is not null && !Directory.Exists(named) && Pictures.IsPicture(named);
        if (isFile) return all.Length == 1 ? [named!] : throw new UsageException($"--out is '{named}', but there are {all.Length} images; expected a folder.");
        // No two get the same, nor that of a file that is there: it may have been made by other options, or be what is made again.
        var taken = new HashSet<string>(StringComparer.OrdinalIgnoreCase);
        return [.. all.Select(a => Path.Combine(named ?? "", string.Create(CultureInfo.InvariantCulture, $"{Slug(a.Prompt)}-{a.Seed}.png")))
            .Select(file => Free(file, taken))];
    }

    /// <summary>A file's name, or the first of those with a number behind it, that nothing has.</summary>
    static string Free(string file, HashSet<string> taken) => Enumerable.Range(1, int.MaxValue).Select(n => n == 1 ? file : Path.ChangeExtension(file, string.Create(CultureInfo.InvariantCulture, $".{n}.png"))).First(f => !File.Exists(f) && taken.Add(f));

    public override IEnumerable<Symbol> MayBeEmpty => [prompts, negative];

    /// <summary>A prompt as a file's name: its letters and digits, at most forty.</summary>
    static string Slug(string prompt)
    {
        var name = new string([.. prompt.Select(static c => char.IsAsciiLetterOrDigit(c) ? char.ToLowerInvariant(c) : '-')]);
        name = string.Join('-', name.Split('-', StringSplitOptions.RemoveEmptyEntries));
        return name.Length == 0 ? "image" : name.Length <= 40 ? name : name[..40].TrimEnd('-');
    }

    static async Task<IReadOnlyList<GeneratedImage>> Make(Terminal terminal, IImageMaker maker, IReadOnlyList<ImageRequest> requests, string how, Action<IReadOnlyList<GeneratedImage>> finished, CancellationToken cancel)
    {
        PictureProtocol? protocol = !terminal.IsInteractive || how == "none" || (how == "auto" && Environment.GetEnvironmentVariable("TERM") == "dumb") ? null : how == "auto" ? TerminalPicture.Detect(Environment.GetEnvironmentVariable) : Enum.Parse<PictureProtocol>(how, ignoreCase: true);
        if (protocol is not { } shown)
            return await terminal.WithProgress("Generating", progress => maker.Generate(requests, new ImageSteps(progress, finished), cancel: cancel));
        IReadOnlyList<GeneratedImage> images = [];
        var clock = System.Diagnostics.Stopwatch.StartNew();
        await terminal.Messages.Live(new Markup("")).StartAsync(async live =>
        {
            Image? picture = null;
            await foreach (var progress in maker.GenerateAsync(requests, previewEvery: 4, cancel))
            {
                if (progress.Finished is { } done) finished(done);
                images = progress.Images ?? images;
                picture = progress.Finished is [.., var last] ? last.Image : progress.Preview ?? picture;
                var left = progress.Done == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $", {TimeSpan.FromSeconds(Math.Round(clock.Elapsed.TotalSeconds / progress.Done * (progress.Total - progress.Done))):c} left");
                var line = new Markup($"{(maker is CaptionedImages ? "Image" : "Step")} {progress.Done} of {progress.Total}{left}");
                live.UpdateTarget(picture is null ? line : new Rows((IRenderable[])[new TerminalPicture(picture, shown, Math.Min(48, terminal.Messages.Profile.Width), Math.Max(1, terminal.Messages.Profile.Height - 2)), line]));
            }
        });
        return images;
    }

    /// <summary>Says where what an image was made of is not what it is made of now.</summary>
    static void Compare(ParseResult parsed, ImageParameters before, ImageParameters now)
    {
        var terminal = new Terminal(parsed);
        if (before.Image != now.Image && before.Image is not null) terminal.Note("The picture is not the one that the image was made of.");
        if (before.Mask != now.Mask && before.Mask is not null) terminal.Note("The mask is not the one that the image was made with.");
        if (before.Threads != now.Threads && before.Threads is not null) terminal.Note($"The image was computed by {before.Threads} threads, this one by {now.Threads}; they may differ in last bits.");
        if (before.Dtype != now.Dtype) terminal.Note($"The image was computed in {before.Dtype}, this one in {now.Dtype}; see --precision.");
    }

    /// <summary>A row a prompt and a way, which says what others have otherwise, a column a seed; on the way to another image its share.</summary>
    static Image Sheet(IReadOnlyList<GeneratedImage> images)
    {
        var rows = new List<SheetRow>();
        var first = images[0].Parameters;
        var (samplers, steps, guidances) = (images.Any(m => m.Parameters.Sampler != first.Sampler), images.Any(m => m.Parameters.Steps != first.Steps), images.Any(m => m.Parameters.Guidance != first.Guidance));
        foreach (var row in images.GroupBy(static m => (m.Parameters.Prompt, m.Parameters.Sampler, m.Parameters.Steps, m.Parameters.Guidance))) rows.Add(new(Title(row.First().Parameters), [.. row.Select(static m => new SheetCell(m.Image, Label(m.Parameters)))]));
        return new ContactSheet { Rows = rows, CellSize = Math.Clamp(images.Max(static m => Math.Max(m.Image.Width, m.Image.Height)), 128, 320), Columns = Math.Clamp(rows.Max(static r => r.Cells.Count), 1, 16) }.Render();

        string Title(ImageParameters p) => string.Join(", ", (string[])[p.Prompt, .. samplers ? [p.Sampler ?? "the model's own sampler"] : Array.Empty<string>(), .. steps ? [p.Steps == 1 ? "1 step" : $"{p.Steps} steps"] : Array.Empty<string>(), .. guidances ? [string.Create(CultureInfo.InvariantCulture, $"guidance {p.Guidance}")] : Array.Empty<string>()]);

        static string Label(ImageParameters p) => p.Toward is { } toward ? string.Create(CultureInfo.InvariantCulture, $"{p.Seed} +{toward.Share:0.##}{(toward.Prompt is { } other ? $" to {other}" : "")}") : p.Seed.ToString(CultureInfo.InvariantCulture);
    }
}
