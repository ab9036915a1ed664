using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Representation;
using Panoptes.Understanding;
using static TorchSharp.torch;

namespace Panoptes.Cli;

/// <summary>Whether what captions name is found in images, and where they say, by a detector that tells all names of the scenes apart, and by the judge, which sees what lies in a box.</summary>
/// <param name="Found">The share of the things that captions name that is found under its name.</param>
/// <param name="Named">The share of the names that are found that the caption has.</param>
/// <param name="Relations">The share of the relations that captions tell for which both are found, and lie so; null: none tells any.</param>
/// <param name="Told">How many captions tell one.</param>
/// <param name="BoxAp">COCO's AP of the boxes that things have in the scenes, by the detector's.</param>
/// <param name="BoxAp50">The same at an IoU of 0.5.</param>
/// <param name="InBoxes">The share of the boxes that things have in the scenes in which, cut out, the judge sees that thing rather than another of the names.</param>
sealed record NamedThings(double Found, double Named, double? Relations, int Told, double BoxAp, double BoxAp50, double InBoxes)
{
    public static NamedThings Of(Clip judge, IGrounder finder, IReadOnlyList<Scene> scenes, IReadOnlyList<Image> images, IReadOnlyList<string> names, IProgress<Step> progress, CancellationToken cancel)
    {
        var (wanted, found, told, right, relations, hold) = (0, 0, 0, 0, 0, 0);
        var categories = names.Select(static (name, i) => (name, i)).ToDictionary(static n => n.name, static n => n.i, StringComparer.Ordinal);
        var (labeled, detected) = (new List<LabeledThing>(), new List<DetectedThing>());
        for (var i = 0; i < images.Count; i++)
        {
            cancel.ThrowIfCancellationRequested();
            var all = finder.FindApart(images[i], names);
            labeled.AddRange(scenes[i].Objects.Select(o => new LabeledThing(i, categories[o.Name], new(o.Box.X, o.Box.Y, o.Box.Width, o.Box.Height), o.Pixels)));
            detected.AddRange(all.Select(d => new DetectedThing(i, categories[d.Label], new(d.Left, d.Top, d.Right - d.Left, d.Bottom - d.Top), d.Score)));
            var boxes = all.GroupBy(static d => d.Label).ToDictionary(static g => g.Key, static g => g.MaxBy(static d => d.Score)!, StringComparer.Ordinal);
            var own = scenes[i].Objects.Select(static o => o.Name).ToHashSet(StringComparer.Ordinal);
            wanted += own.Count;
            found += own.Count(boxes.ContainsKey);
            told += boxes.Count;
            right += boxes.Keys.Count(own.Contains);
            if (scenes[i].CaptionRelation is { Kind: not SceneRelationKind.InFrontOf } relation)
            {
                relations++;
                if (boxes.TryGetValue(scenes[i].Objects[relation.Subject].Name, out var subject) && boxes.TryGetValue(scenes[i].Objects[relation.Object].Name, out var other) && Lies(subject, relation.Kind, other)) hold++;
            }
            progress.Report(new(i + 1, images.Count));
        }
        var scores = DetectionScores.Of(labeled, detected, [.. categories.Values]);
        return new((double)found / Math.Max(1, wanted), (double)right / Math.Max(1, told), relations == 0 ? null : (double)hold / relations, relations, scores.Ap ?? 0, scores.Ap50 ?? 0, Seen(judge, scenes, images, names));

        static double Seen(Clip judge, IReadOnlyList<Scene> scenes, IReadOnlyList<Image> images, IReadOnlyList<string> names)
        {
            using var scope = NewDisposeScope();
            var parts = scenes.Zip(images).SelectMany(static p => p.First.Objects.Where(static o => o.Pixels > 0).Select(o => (o.Name, Part: p.Second.Crop(o.Box)))).ToArray();
            if (parts.Length == 0) return 0;
            var likest = judge.EmbedImages([.. parts.Select(static p => p.Part)]).matmul(judge.EmbedLabels(names).t()).argmax(1).data<long>().ToArray();
            return parts.Zip(likest).Average(p => names[(int)p.Second] == p.First.Name ? 1.0 : 0);
        }

        static bool Lies(Detection a, SceneRelationKind kind, Detection b)
        {
            var (dx, dy) = (a.Left + a.Right - b.Left - b.Right, a.Top + a.Bottom - b.Top - b.Bottom);
            // The axis on which they are further apart decides, as in captions.
            return Math.Abs(dx) > Math.Abs(dy)
                ? kind == (dx < 0 ? SceneRelationKind.LeftOf : SceneRelationKind.RightOf)
                : kind == (dy < 0 ? SceneRelationKind.Above : SceneRelationKind.Below);
        }
    }
}
