using System.CommandLine;
using Panoptes.Data;
using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Understanding;

namespace Panoptes.Cli.Commands;

/// <summary>Makes of images what controls generation: edges, lines, poses, classes, depth, normals.</summary>
sealed class ConditionCommand : ExampleCommand
{
    /// <summary>Kinds that are drawn from what no image tells by itself, and the option that tells it.</summary>
    static readonly Dictionary<string, string> Told = new() { ["pose"] = "--poses", ["segmentation"] = "--segmenter", ["depth"] = "--depth", ["normal"] = "--depth" };

    readonly Argument<string[]> images = new("IMAGE") { Description = "Image files.", Arity = ArgumentArity.OneOrMore };
    readonly Option<string[]> kind = new("--kind", "-k") { Description = $"What is made, several with commas between: {string.Join(", ", ConditionMakers.All.Select(static k => k.Name))}; all: everything for which the other options tell enough.", HelpName = "KIND", Required = true };
    readonly Option<string?> segmenter = new("--segmenter") { Description = "For segmentation: a model that says what every pixel is of (Mask2Former, OneFormer, BEiT), or tells names apart (GroupViT, X-Decoder, Uni-Perceiver, a SAM with the bundled X-Decoder …).", HelpName = "MODEL" };
    readonly Option<string[]> text = new("--text", "-t") { Description = "A name that --segmenter is to tell apart from the others. May be repeated.", HelpName = "WORDS" };
    readonly Option<string?> depth = new("--depth") { Description = "For depth and normal: a Unified-IO that learned depth, or a gray picture of the image's size, black being near, as panoptes depth writes it.", HelpName = "MODEL|PNG" };
    readonly Option<string?> poses = new("--poses") { Description = "For pose: COCO's annotations of keypoints, in which the image is named.", HelpName = "JSON" };
    readonly Option<string[]> set = new("--set") { Description = "An option of a kind, such as canny.low=50. May be repeated.", HelpName = "KIND.OPTION=VALUE" };
    readonly Option<int?> resolution = new("--resolution") { Description = "What the short side is brought to before, both sides becoming multiples of 64; the image's own size by default.", HelpName = "PIXELS" };
    readonly Option<string?> output = new("--out", "-o") { Description = "Where the picture goes; for several images or kinds a folder. IMAGE.KIND.png by default.", HelpName = "PNG|FOLDER" };
    readonly Option<string?> sheet = new("--sheet") { Description = "Also show every image beside its conditions in one picture.", HelpName = "PNG" };

    public ConditionCommand() : base("condition", "Make of images what controls generation, as ControlNet's and T2I-Adapter's conditions are: edges, lines, scribbles, drawings, poses, classes, depth and normals.", """
        panoptes condition photo.jpg --kind canny
        panoptes condition photo.jpg --kind canny,softedge,scribble,lineart --out conditions --sheet conditions.png
        panoptes condition photo.jpg --kind canny --set canny.low=50 --set canny.high=120 --resolution 512
        panoptes condition photo.jpg --kind segmentation --segmenter facebook/mask2former-swin-tiny-ade-semantic
        panoptes condition scene.png --kind segmentation --segmenter zoo/sam-emoji --text "a red apple" --text "a cat"
        panoptes condition scene.png --kind depth,normal --depth runs/unified-io/last
        panoptes condition photo.jpg --kind pose --poses person_keypoints.json
        """)
    {
        Add(images);
        foreach (var option in (ReadOnlySpan<Option>)[kind, segmenter, text, depth, poses, set, resolution, output, sheet]) Add(option);
        kind.CompletionSources.Add([.. ConditionMakers.All.Select(static k => k.Name)]);
        SharedOptions.AtLeastOne(resolution);
        SharedOptions.EndsIn(sheet, ".png", ".jpg", ".jpeg", ".webp");
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var files = SharedOptions.ImageFiles(parsed, images);
        var kinds = Kinds(parsed);
        var options = Settings(parsed, kinds);
        if (files.Length > 1 && parsed.GetValue(depth) is { } map && IsPicture(map)) throw new UsageException("--depth is the picture of one image, but there are several images; expected a model.");
        var pictures = Places(files, kinds, parsed.GetValue(output));
        var held = new List<IDisposable>();
        try
        {
            var file = "";
            var sources = Sources(parsed, kinds, held, () => file);
            ConditionMaker[] makers = [.. kinds.Select(k => ConditionMakers.Create(k, sources, options.GetValueOrDefault(k))).Select(m => m with { Resolution = parsed.GetValue(resolution) ?? m.Resolution })];
            var done = 0;
            var rows = new List<SheetRow>();
            await terminal.InChunks("Drawing", files, chunk =>
            {
                file = chunk[0];
                var photo = Image.Load(file);
                var made = makers.Select(m => m.Make(photo)).ToArray();
                for (var k = 0; k < made.Length; k++) made[k].Save(pictures[done][k]);
                if (parsed.GetValue(sheet) is not null) rows.Add(new("", [new(photo, Path.GetFileName(file)), .. made.Zip(kinds, static (m, k) => new SheetCell(m, k))]));
                done++;
                return chunk;
            }, cancel, size: 1);
            if (parsed.GetValue(sheet) is { } strip) new ContactSheet { Rows = rows, Columns = Math.Min(7, kinds.Length + 1) }.Save(strip);
        }
        finally
        {
            foreach (var model in held) model.Dispose();
        }
        if (terminal.IsJson) terminal.WriteJson(files.Select((f, i) => new { image = f, pictures = kinds.Zip(pictures[i]).ToDictionary(static p => p.First, static p => p.Second) }));
        else Pictures.Note(terminal, [.. pictures.SelectMany(static p => p)]);
        return App.Success;
    }

    string[] Kinds(ParseResult parsed)
    {
        var kinds = parsed.GetRequiredValue(kind).SelectMany(static k => k.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)).Select(static k => k.ToLowerInvariant()).Distinct().ToArray();
        if (kinds is ["all"]) return [.. ConditionMakers.All.Select(static k => k.Name).Where(k => !Told.TryGetValue(k, out var option) || Given(option))];
        foreach (var name in kinds)
        {
            if (ConditionMakers.All.All(k => k.Name != name)) throw new UsageException($"There is no condition '{name}'; expected {string.Join(", ", ConditionMakers.All.Select(static k => k.Name))}.");
            if (Told.TryGetValue(name, out var option) && !Given(option)) throw new UsageException($"The condition {name} is drawn from what no image tells by itself; expected {option}.");
        }
        return kinds.Length > 0 ? kinds : throw new UsageException("--kind names nothing; expected canny or another condition.");

        bool Given(string option) => parsed.GetValue(option switch { "--poses" => poses, "--depth" => depth, _ => segmenter }) is not null;
    }

    /// <summary>What --set says of each kind.</summary>
    Dictionary<string, Dictionary<string, string>> Settings(ParseResult parsed, string[] kinds)
    {
        var options = new Dictionary<string, Dictionary<string, string>>(StringComparer.OrdinalIgnoreCase);
        foreach (var given in parsed.GetValue(set) ?? [])
        {
            if (given.IndexOf('=', StringComparison.Ordinal) is not (> 0 and var equals) || given.IndexOf('.', StringComparison.Ordinal) is not (> 0 and var dot) || dot > equals) throw new UsageException($"--set is '{given}'; expected KIND.OPTION=VALUE, such as canny.low=50.");
            var name = given[..dot].ToLowerInvariant();
            if (!kinds.Contains(name)) throw new UsageException($"--set speaks of {name}, which is not made; expected {string.Join(" or ", kinds)}.");
            if (!options.TryGetValue(name, out var own)) options[name] = own = [];
            own[given[(dot + 1)..equals]] = given[(equals + 1)..];
        }
        return options;
    }

    /// <summary>The picture of every kind of every image.</summary>
    static string[][] Places(string[] files, string[] kinds, string? output)
    {
        if (files.Length > 1 && output is null) throw new UsageException("There are several images; expected a folder for their pictures with --out.");
        if (kinds.Length > 1 && output is not null && Path.HasExtension(output) && !Directory.Exists(output)) throw new UsageException($"--out is '{output}', but there are {kinds.Length} kinds; expected a folder.");
        var places = kinds.Select(k => Pictures.Of(files, output, $".{k}.png", always: true)).ToArray();
        return [.. files.Select((_, i) => places.Select(p => p[i]!).ToArray())];
    }

    /// <summary>What the kinds are drawn from, by the models and files that were named.</summary>
    /// <param name="held">Gets the models, which the caller disposes.</param>
    /// <param name="file">The image that is asked about.</param>
    ConditionSources Sources(ParseResult parsed, string[] kinds, List<IDisposable> held, Func<string> file)
    {
        var sources = new ConditionSources();
        if (kinds.Contains("segmentation"))
        {
            string[] words = [.. (parsed.GetValue(text) ?? []).Distinct()];
            var path = ModelLoader.Resolve(parsed.GetValue(segmenter)!);
            // A SAM reads no words: the bundled model finds boxes for it.
            var reads = PromptableModels.Registry.TypeOf(path) is not { } type || !type.IsAssignableTo(typeof(ISegmentAnything));
            var model = ModelLoader.LoadPromptable(parsed, path, words, reads ? null : ModelLoader.Resolve(SharedOptions.DefaultFinder));
            if (model is IDisposable disposable) held.Add(disposable);
            sources = sources with { Classes = photo => Classes(model.Panoptic(photo, words)?.Found ?? PanopticSegmentation.Of([.. words.SelectMany(w => model.Segment(photo, [Prompt.Text(w)]))], photo.Width, photo.Height)) };
        }
        if (kinds.Contains("depth") || kinds.Contains("normal"))
        {
            var named = parsed.GetValue(depth)!;
            if (IsPicture(named))
            {
                // As the image is brought to another size, so is what is known of it.
                var (map, resized) = (Image.Load(named), parsed.GetValue(resolution) is not null);
                sources = sources with { Depth = photo => Depth(resized ? map.Resize(photo.Width, photo.Height, ResizeFilter.Bilinear) : map) };
            }
            else
            {
                var teller = ModelLoader.LoadDepth(parsed, ModelLoader.Resolve(named));
                held.Add(teller);
                sources = sources with { Depth = photo => Depth(teller.Depth(photo)) };
            }
        }
        if (kinds.Contains("pose"))
        {
            var annotations = CocoFile.Load(parsed.GetValue(poses)!);
            sources = sources with { Poses = photo => Poses(annotations, file(), photo) };
        }
        return sources;
    }

    static bool IsPicture(string path) => Path.GetExtension(path).ToLowerInvariant() is ".png" or ".webp" or ".jpg" or ".jpeg";

    static ClassMap Classes(PanopticSegmentation found)
    {
        var classes = found.Segments.GroupBy(static s => s.Id).ToDictionary(static g => g.Key, static g => g.First().Class);
        return new(found.Ids.Width, found.Ids.Height, [.. found.Ids.Labels.Select(id => classes.GetValueOrDefault(id, -1))], found.Names);
    }

    static DepthMap Depth(Image gray) => new(gray.Width, gray.Height, [.. gray.ToGray().Pixels.Select(static v => v / 255f)]);

    /// <summary>Everyone's keypoints, in pixels of the image as it is drawn.</summary>
    static IReadOnlyList<IReadOnlyList<double>> Poses(CocoFile annotations, string file, Image photo)
    {
        var image = annotations.Images.FirstOrDefault(i => Path.GetFileName(i.FileName) == Path.GetFileName(file))
            ?? throw new PanoptesException($"The annotations know no image {Path.GetFileName(file)}; they are of {annotations.Images.Count} others.");
        var (x, y) = ((double)photo.Width / image.Width, (double)photo.Height / image.Height);
        return [.. annotations.Annotations.Where(a => a.Image == image.Id).Select(static a => a.Keypoints).OfType<IReadOnlyList<double>>().Select(keypoints => (IReadOnlyList<double>)[.. keypoints.Select((v, i) => (i % 3) switch { 0 => v * x, 1 => v * y, _ => v })])];
    }
}
