using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>What is done to a scene.</summary>
public enum SceneEditKind
{
    Remove,
    Replace,
    Move,
}

/// <summary>A scene, the same after one change, and the instruction that tells the change.</summary>
/// <param name="Kind">What was done.</param>
/// <param name="Before">The scene as it was.</param>
/// <param name="After">The scene as it is then; the background and the other objects are the same.</param>
/// <param name="Instruction">In English: "remove the red apple", "replace the red apple by a dog", "move the red apple to the upper left".</param>
/// <param name="Mask">[size, size], gray, 255 where the two pictures differ, or what is seen in them does.</param>
public sealed record SceneEdit(SceneEditKind Kind, Scene Before, Scene After, string Instruction, Image Mask)
{
    internal static SceneEdit Of(SceneEditKind kind, Scene before, Scene after, string instruction)
    {
        var mask = new Image(before.Size, before.Size, 1);
        for (var i = 0; i < mask.Pixels.Length; i++)
        {
            var same = before.Image.Pixels.AsSpan(3 * i, 3).SequenceEqual(after.Image.Pixels.AsSpan(3 * i, 3)) && PlacementAt(before, i) == PlacementAt(after, i);
            if (!same) mask.Pixels[i] = 255;
        }
        return new(kind, before, after, instruction, mask);
    }

    static ScenePlacement? PlacementAt(Scene scene, int pixel) => scene.Ids[pixel] == 0 ? null : scene.Layout.Objects[scene.Ids[pixel] - 1];
}
