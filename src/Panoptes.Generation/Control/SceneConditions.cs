using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Generation;

/// <summary>Conditions of scenes (<see cref="ConditionMakers"/>): drawn of the picture or, for depth, normals and classes, of what is known of the scene.</summary>
/// <param name="kinds">canny, lines, softedge, scribble, sketch, lineart, segmentation, depth or normal; at least one.</param>
public sealed class SceneConditions(IReadOnlyList<string> kinds)
{
    readonly string[] kinds = kinds.Count > 0 ? [.. kinds.Select(Checked)] : throw new PanoptesException("No condition is named; expected canny, depth or another one.");

    /// <summary>Whether the picture alone tells a kind, so that the same can be drawn of a generated image.</summary>
    public static bool IsDrawn(string kind) => kind is "canny" or "lines" or "softedge" or "scribble" or "sketch" or "lineart";

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
        if (!IsDrawn(kind.ToLowerInvariant()) && kind.ToLowerInvariant() is not ("segmentation" or "depth" or "normal" or "pose")) throw new PanoptesException($"Scenes have no condition '{kind}'; expected canny, lines, softedge, scribble, sketch, lineart, segmentation, depth, normal or pose.");
        ConditionMakers.Create(kind, Known(null));
        return kind.ToLowerInvariant();
    }

    static ConditionSources Known(Scene? scene) => new()
    {
        Poses = _ => scene!.Poses(),
        Depth = _ => new(scene!.Size, scene.Size, scene.Depth()),
        Classes = _ => new(scene!.Size, scene.Size, Array.ConvertAll(scene.Ids, static id => id - 1), [.. scene.Objects.Select(static o => o.Name)]),
    };
}
