using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>Conditions of scenes (<see cref="ConditionMakers"/>): drawn of the picture or, for depth, normals and classes, of what is known of the scene.</summary>
/// <param name="kinds">canny, lines, softedge, scribble, sketch, lineart, segmentation, depth, normal or pose; at least one.</param>
public sealed class SceneConditions(IReadOnlyList<string> kinds)
{
    /// <summary>Kinds that a picture tells, and those that a scene does.</summary>
    static readonly string[] Drawn = ["canny", "lines", "softedge", "scribble", "sketch", "lineart"], Told = ["segmentation", "depth", "normal", "pose"];

    readonly string[] kinds = kinds.Count > 0 ? [.. kinds.Select(Checked)] : throw new PanoptesException("No condition is named; expected canny, depth or another one.");

    /// <summary>Whether the picture alone tells a kind, so that the same can be drawn of a generated image.</summary>
    public static bool IsDrawn(string kind) => Drawn.Contains(kind);

    /// <summary>A scene's condition.</summary>
    public static Image Make(string kind, Scene scene) => ConditionMakers.Create(kind, Known(scene)).Make(scene.Image);

    /// <summary>What an image shows in its place, for kinds that are drawn of it.</summary>
    public static Image Make(string kind, Image image) => ConditionMakers.Create(kind).Make(image);

    /// <summary>Which kind comes for a number: one after the other.</summary>
    public string KindOf(long number) => kinds[number % kinds.Length];

    /// <summary>Conditions of numbered scenes: [scenes, 3, side, side] from 0 to 1.</summary>
    internal Tensor Of(IReadOnlyList<Scene> scenes, IReadOnlyList<long> numbers)
    {
        using var scope = NewDisposeScope();
        return stack(scenes.Zip(numbers, (s, n) => Make(KindOf(n), s).ToTensor(ScalarType.Float32))).MoveToOuterDisposeScope();
    }

    /// <summary>The same, of kinds as they come.</summary>
    internal Tensor Of(IReadOnlyList<Scene> scenes, Generator random)
    {
        using var drawn = randint(0, kinds.Length, [scenes.Count], ScalarType.Int64, generator: random);
        return Of(scenes, drawn.data<long>().ToArray());
    }

    static string Checked(string kind)
    {
        var name = kind.ToLowerInvariant();
        if (!IsDrawn(name) && !Told.Contains(name)) throw new PanoptesException($"Scenes have no condition '{kind}'; expected {string.Join(", ", [.. Drawn, .. Told[..^1]])} or {Told[^1]}.");
        ConditionMakers.Create(name, Known(null));
        return name;
    }

    static ConditionSources Known(Scene? scene) => new()
    {
        Poses = _ => scene!.Poses(),
        Depth = _ => new(scene!.Size, scene.Size, scene.Depth()),
        Classes = _ => new(scene!.Size, scene.Size, Array.ConvertAll(scene.Ids, static id => id - 1), [.. scene.Objects.Select(static o => o.Name)]),
    };
}
