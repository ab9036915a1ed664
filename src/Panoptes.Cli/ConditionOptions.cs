using System.CommandLine;
using Panoptes.Data;
using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Understanding;

namespace Panoptes.Cli;

/// <summary>The options that tell what conditions are drawn from, and how.</summary>
sealed class ConditionOptions
{
    /// <summary>Kinds that are drawn from what no image tells by itself, and what tells it.</summary>
    static readonly Dictionary<string, string> Told = new() { ["pose"] = "--poses", ["segmentation"] = "--segmenter, or names for the bundled one by --text", ["depth"] = "--depth", ["normal"] = "--depth" };

    readonly Option<string?> segmenter = new("--segmenter") { Description = "For segmentation: a model that says what every pixel is of (Mask2Former, OneFormer, BEiT), or tells names apart (GroupViT, X-Decoder, Uni-Perceiver, a SAM with the bundled X-Decoder …); with --text the bundled X-Decoder by default.", HelpName = "MODEL" };
    readonly Option<string[]> text = new("--text", "-t") { Description = "A name that --segmenter is to tell apart from the others. May be repeated.", HelpName = "WORDS" };
    readonly Option<string?> depth = new("--depth") { Description = "For depth and normal: a Unified-IO that learned depth, or a gray picture of the image's size, black being near, as panoptes depth writes it.", HelpName = "MODEL|PNG" };
    readonly Option<string?> poses = new("--poses") { Description = "For pose: COCO's annotations of keypoints, in which the image is named.", HelpName = "JSON" };
    readonly Option<string[]> set = new("--set") { Description = "An option of a kind, such as canny.low=50. May be repeated.", HelpName = "KIND.OPTION=VALUE" };

    public IEnumerable<Option> All => [segmenter, text, depth, poses, set];

    /// <summary>Whether the options tell enough for a kind.</summary>
    public bool Tells(ParseResult parsed, string kind) => kind switch
    {
        "pose" => parsed.GetValue(poses) is not null,
        "depth" or "normal" => parsed.GetValue(depth) is not null,
        // The bundled segmenter tells names apart, and knows none by itself.
        "segmentation" => parsed.GetValue(segmenter) is not null || parsed.GetValue(text) is { Length: > 0 },
        _ => true,
    };

    /// <exception cref="UsageException">There is no such kind, or the options do not tell enough for it.</exception>
    public void Check(ParseResult parsed, string kind)
    {
        if (ConditionMakers.All.All(k => k.Name != kind)) throw new UsageException($"There is no condition '{kind}'; expected {string.Join(", ", ConditionMakers.All.Select(static k => k.Name))}.");
        if (!Tells(parsed, kind)) throw new UsageException($"The condition {kind} is drawn from what no image tells by itself; expected {Told[kind]}.");
    }

    /// <summary>Whether depth is told by a picture, which is of one image.</summary>
    public bool HasDepthPicture(ParseResult parsed) => parsed.GetValue(depth) is { } map && Pictures.IsPicture(map);

    /// <summary>What --set says of each kind.</summary>
    public Dictionary<string, Dictionary<string, string>> Settings(ParseResult parsed, IReadOnlyList<string> kinds)
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

    /// <summary>What the kinds are drawn from, by the models and files that were named.</summary>
    /// <param name="held">Gets the models, which the caller disposes.</param>
    /// <param name="file">The image that is asked about.</param>
    /// <param name="resized">Whether images are brought to another size before, which what is known of them then is, too.</param>
    public ConditionSources Sources(ParseResult parsed, IReadOnlyList<string> kinds, List<IDisposable> held, Func<string> file, bool resized)
    {
        var sources = new ConditionSources();
        if (kinds.Contains("segmentation"))
        {
            string[] words = [.. (parsed.GetValue(text) ?? []).Distinct()];
            var path = ModelLoader.Resolve(parsed, parsed.GetValue(segmenter) ?? SharedOptions.DefaultFinder);
            // A SAM reads no words: the bundled model finds boxes for it.
            var reads = PromptableModels.Registry.TypeOf(path) is not { } type || !type.IsAssignableTo(typeof(ISegmentAnything));
            var model = ModelLoader.LoadPromptable(parsed, path, words, reads ? null : ModelLoader.Resolve(parsed, SharedOptions.DefaultFinder));
            if (model is IDisposable disposable) held.Add(disposable);
            sources = sources with { Classes = photo => Classes(model.Panoptic(photo, words)?.Found ?? PanopticSegmentation.Of([.. words.SelectMany(w => model.Segment(photo, [Prompt.Text(w)]))], photo.Width, photo.Height)) };
        }
        if (kinds.Contains("depth") || kinds.Contains("normal"))
        {
            var named = parsed.GetValue(depth)!;
            if (Pictures.IsPicture(named))
            {
                var map = Image.Load(named);
                sources = sources with { Depth = photo => Depth(resized ? map.Resize(photo.Width, photo.Height, ResizeFilter.Bilinear) : map) };
            }
            else
            {
                var teller = ModelLoader.LoadDepth(parsed, ModelLoader.Resolve(parsed, named));
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
