using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;

namespace Panoptes.Representation.Evaluation;

/// <summary>Where words are in pictures: [images, words, h, w] of any height and width, higher where the word is more. The caller frees it.</summary>
/// <param name="images">Pictures of one size.</param>
/// <param name="words">Concepts' English names, the same for every picture.</param>
public delegate Tensor WordHeatMaps(IReadOnlyList<Image> images, IReadOnlyList<string> words);

/// <summary>How pointing is tested.</summary>
public sealed record WordPointingOptions
{
    /// <summary>How many scenes.</summary>
    public int Scenes { get; init; } = 500;

    /// <summary>What they are like.</summary>
    public SceneOptions Composition { get; init; } = new() { MinObjects = 2, MaxObjects = 4 };

    /// <summary>Of the scenes.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>Whose drawings they show: by default things that models are trained on, in the style that they never saw.</summary>
    public EmojiSplit Split { get; init; } = EmojiSplit.HeldOutStyle;

    /// <summary>Scenes whose heat maps are made at once.</summary>
    public int BatchSize { get; init; } = 16;
}

/// <summary>How often pointing hits, from 0 to 1.</summary>
/// <param name="Box">The box of an object of that name.</param>
/// <param name="Mask">The visible pixels of one.</param>
public sealed record PointingAccuracy(double Box, double Mask);

/// <summary>Word pointing accuracy, beside what can be had without looking.</summary>
/// <param name="Scenes">How many scenes there were.</param>
/// <param name="Words">How many names were sought in them.</param>
/// <param name="Model">Of the heat maps' maxima. Where several pixels share the maximum, the share of them that hit.</param>
/// <param name="Chance">Of a random pixel: the mean share of the image's area.</param>
/// <param name="Center">Of the image's middle.</param>
public sealed record WordPointingReport(int Scenes, int Words, PointingAccuracy Model, PointingAccuracy Chance, PointingAccuracy Center);

/// <summary>
/// Whether a model knows where a word's thing is: the maximum of the word's heat map should lie on it (the pointing game, Zhang et al. 2016,
/// arXiv:1608.00507) in scenes of several objects, for the name of each.
/// </summary>
public static class WordPointing
{
    /// <summary>Measures over scenes that follow from the options alone.</summary>
    /// <param name="heatMaps">Makes the heat maps; they are resized to the picture bilinearly.</param>
    /// <param name="set">The emoji.</param>
    /// <param name="options">How many scenes of what kind.</param>
    /// <param name="progress">Is told how many scenes are done.</param>
    /// <param name="cancel">Stops between batches.</param>
    /// <exception cref="PanoptesException">An option is out of range, or the heat maps have another shape or hold what is no number.</exception>
    public static WordPointingReport Run(WordHeatMaps heatMaps, EmojiSet set, WordPointingOptions? options = null, IProgress<EvaluationProgress>? progress = null, CancellationToken cancel = default)
    {
        options ??= new();
        if (options.Scenes < 1 || options.BatchSize < 1) throw new PanoptesException($"{options.Scenes} scenes in batches of {options.BatchSize} were asked for, but at least 1 of each was expected.");
        var generator = new SceneGenerator(set, SceneGenerator.Things(set, options.Split), options.Composition, options.Seed);
        var (words, model, chance, center) = (0, new Sums(), new Sums(), new Sums());
        for (var start = 0; start < options.Scenes; start += options.BatchSize)
        {
            cancel.ThrowIfCancellationRequested();
            var scenes = Enumerable.Range(start, Math.Min(options.BatchSize, options.Scenes - start)).Select(i => generator.Generate(i)).ToArray();
            string[] names = [.. scenes.SelectMany(static s => s.Objects).Select(static o => o.Name).Distinct()];
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            var heat = heatMaps([.. scenes.Select(static s => s.Image)], names);
            if (heat.dim() != 4 || heat.shape[0] != scenes.Length || heat.shape[1] != names.Length || heat.shape[2] < 1 || heat.shape[3] < 1)
                throw new PanoptesException($"The heat maps are [{string.Join(", ", heat.shape)}], but [{scenes.Length}, {names.Length}, height, width] was expected.");
            for (var i = 0; i < scenes.Length; i++)
            {
                foreach (var name in scenes[i].Objects.Select(static o => o.Name).Distinct())
                {
                    using var inner = NewDisposeScope();
                    var size = scenes[i].Size;
                    var map = heat[i, Array.IndexOf(names, name)].to(ScalarType.Float32).cpu();
                    var values = nn.functional.interpolate(map.unsqueeze(0).unsqueeze(0), [size, size], mode: InterpolationMode.Bilinear).data<float>().ToArray();
                    if (!Array.TrueForAll(values, float.IsFinite)) throw new PanoptesException($"The heat map of '{name}' holds values that are no numbers.");
                    var largest = values.Max();
                    var threshold = largest - (1e-6f * Math.Abs(largest));                                       // equal but for rounding
                    model.Add(scenes[i], name, p => values[p] >= threshold);
                    chance.Add(scenes[i], name, static _ => true);
                    center.Add(scenes[i], name, p => p == ((size / 2) * size) + (size / 2));
                    words++;
                }
            }
            progress?.Report(new(start + scenes.Length, options.Scenes));
        }
        return new(options.Scenes, words, model.Mean(words), chance.Mean(words), center.Mean(words));
    }

    /// <summary>Adds up which share of the pixels that are pointed at hits.</summary>
    sealed class Sums
    {
        double box, mask;

        internal void Add(Scene scene, string name, Func<int, bool> isPointedAt)
        {
            var objects = scene.Objects.Where(o => o.Name == name).ToArray();
            var (all, inBox, inMask) = (0, 0, 0);
            for (var p = 0; p < scene.Ids.Length; p++)
            {
                if (!isPointedAt(p)) continue;
                all++;
                if (Array.Exists(objects, o => o.Box.Contains(p % scene.Size, p / scene.Size))) inBox++;
                if (scene.Ids[p] > 0 && scene.Objects[scene.Ids[p] - 1].Name == name) inMask++;
            }
            box += (double)inBox / all;
            mask += (double)inMask / all;
        }

        internal PointingAccuracy Mean(int words) => new(box / words, mask / words);
    }
}
