using System.CommandLine;
using Panoptes.Data;
using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Understanding;

namespace Panoptes.Cli.Commands;

/// <summary>Makes of images what controls generation: edges, lines, poses, classes, depth, normals.</summary>
sealed class ConditionCommand : ExampleCommand
{
    readonly Argument<string[]> images = new("IMAGE") { Description = "Image files.", Arity = ArgumentArity.OneOrMore };
    readonly Option<string[]> kind = new("--kind", "-k") { Description = $"What is made, several with commas between: {string.Join(", ", ConditionMakers.All.Select(static k => k.Name))}; all: everything for which the other options tell enough.", HelpName = "KIND", Required = true };
    readonly ConditionOptions told = new();
    readonly Option<int?> resolution = new("--resolution") { Description = "What the short side is brought to before, both sides becoming multiples of 64; the image's own size by default.", HelpName = "PIXELS" };
    readonly Option<string?> output = new("--out", "-o") { Description = "Where the picture goes; for several images or kinds a folder. IMAGE.KIND.png by default.", HelpName = "PNG|FOLDER" };
    readonly Option<string?> sheet = new("--sheet") { Description = "Also show every image beside its conditions in one picture.", HelpName = "PNG" };

    public ConditionCommand() : base("condition", "Make of images what controls generation, as ControlNet's and T2I-Adapter's conditions are: edges, lines, scribbles, drawings, poses, classes, depth and normals.", """
        panoptes condition photo.jpg --kind canny
        panoptes condition photo.jpg --kind canny,softedge,scribble,lineart --out conditions --sheet conditions.png
        panoptes condition photo.jpg --kind canny --set canny.low=50 --set canny.high=120 --resolution 512
        panoptes condition photo.jpg --kind segmentation --segmenter facebook/mask2former-swin-tiny-ade-semantic
        panoptes condition scene.png --kind segmentation --text "a red apple" --text "a cat"
        panoptes condition scene.png --kind segmentation --segmenter zoo/sam-emoji --text "a red apple" --text "a cat"
        panoptes condition scene.png --kind depth,normal --depth runs/unified-io/last
        panoptes condition photo.jpg --kind pose --poses person_keypoints.json
        """)
    {
        Add(images);
        foreach (var option in (ReadOnlySpan<Option>)[kind, .. told.All, resolution, output, sheet]) Add(option);
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
        var options = told.Settings(parsed, kinds);
        if (files.Length > 1 && told.HasDepthPicture(parsed)) throw new UsageException("--depth is the picture of one image, but there are several images; expected a model.");
        var pictures = Places(files, kinds, parsed.GetValue(output));
        var held = new List<IDisposable>();
        try
        {
            var file = "";
            var sources = told.Sources(parsed, kinds, held, () => file, parsed.GetValue(resolution) is not null);
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
        if (kinds is ["all"]) return [.. ConditionMakers.All.Select(static k => k.Name).Where(k => told.Tells(parsed, k))];
        foreach (var name in kinds) told.Check(parsed, name);
        return kinds.Length > 0 ? kinds : throw new UsageException("--kind names nothing; expected canny or another condition.");
    }

    /// <summary>The picture of every kind of every image.</summary>
    static string[][] Places(string[] files, string[] kinds, string? output)
    {
        if (files.Length > 1 && output is null) throw new UsageException("There are several images; expected a folder for their pictures with --out.");
        if (kinds.Length > 1 && output is not null && Path.HasExtension(output) && !Directory.Exists(output)) throw new UsageException($"--out is '{output}', but there are {kinds.Length} kinds; expected a folder.");
        var places = kinds.Select(k => Pictures.Of(files, output, $".{k}.png", always: true)).ToArray();
        return [.. files.Select((_, i) => places.Select(p => p[i]!).ToArray())];
    }
}
