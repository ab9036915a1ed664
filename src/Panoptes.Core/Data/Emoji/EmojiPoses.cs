using System.Text.Json;
using Panoptes.Checkpoints;

namespace Panoptes.Data.Emoji;

/// <summary>Where the joints of people are in some of the emoji's drawings, as <c>data/poses/poses.json</c> says: marked by eye, for no drawing tells it.</summary>
sealed class EmojiPoses
{
    /// <summary>COCO's: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right, which are the person's own.</summary>
    internal const int Keypoints = 17;

    static readonly Lazy<EmojiPoses> OfBundled = new(static () => BundledData.Find("poses", "poses.json") is { } file ? Read(file) : new([]));

    readonly Dictionary<(string Code, string Style), (float X, float Y)?[]> poses;

    EmojiPoses(Dictionary<(string Code, string Style), (float X, float Y)?[]> poses) => this.poses = poses;

    /// <summary>Those that come with the emoji; none where their file is missing.</summary>
    /// <exception cref="PanoptesException">The file is damaged.</exception>
    internal static EmojiPoses Bundled => OfBundled.Value;

    /// <param name="file">JSON: <c>poses</c>, each a drawing's <c>code</c> and <c>style</c> and its <c>keypoints</c>, two numbers each or null.</param>
    /// <exception cref="PanoptesException">It is missing or no such file, or a pose comes twice or has other than 17 keypoints within the drawing.</exception>
    internal static EmojiPoses Read(string file)
    {
        PoseFile? read;
        try
        {
            read = JsonSerializer.Deserialize<PoseFile>(ModelFolder.ReadText(file), EmojiBuilder.Json);
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"{file} holds no poses: {e.Message}", e);
        }
        var poses = new Dictionary<(string, string), (float, float)?[]>();
        foreach (var (pose, i) in (read?.Poses ?? []).Select(static (p, i) => (p, i)))
        {
            if (pose is null || pose.Keypoints.Count != Keypoints || pose.Keypoints.Any(static k => k is not null && (k.Length != 2 || !k.All(static v => v is >= 0 and <= 100))))
                throw new PanoptesException($"{file}: pose {i} has {pose?.Keypoints.Count ?? 0} keypoints; expected {Keypoints}, each null or two numbers from 0 to 100.");
            if (!poses.TryAdd((pose.Code, pose.Style), [.. pose.Keypoints.Select(static k => k is null ? ((float, float)?)null : (k[0] / 100, k[1] / 100))])) throw new PanoptesException($"{file}: {pose.Code} in the style {pose.Style} has two poses.");
        }
        return new(poses);
    }

    /// <summary>A drawing's keypoints in parts of its side, null where it does not show one; null where nothing is known of it.</summary>
    internal IReadOnlyList<(float X, float Y)?>? Of(string code, string style) => poses.GetValueOrDefault((code, style));

    sealed record PoseFile(IReadOnlyList<DrawnPose?> Poses);

    sealed record DrawnPose(string Code, string Style, IReadOnlyList<float[]?> Keypoints);
}
