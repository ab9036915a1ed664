using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Understanding.Tests;

/// <summary>What scenes say of their things, said to a session that knows where everything is and what it is called.</summary>
public sealed class SessionSceneTests
{
    sealed class Known(Scene scene) : IPromptable
    {
        public PromptKinds Takes => PromptKinds.Everything;

        public IReadOnlyList<Segment> Segment(Image image, IReadOnlyList<Prompt> prompts) =>
            [.. Enumerable.Range(0, scene.Objects.Count).Select(k => new Segment(RunLengthMask.Encode(scene.Mask(k).Pixels, scene.Size, scene.Size), 1, scene.Objects[k].Name))];
    }

    sealed class Named(IReadOnlyList<string> names) : INamer
    {
        public IReadOnlyList<string> Vocabulary => names;

        public IReadOnlyList<IReadOnlyList<float>> Fit(Image image, IReadOnlyList<RunLengthMask> parts, IReadOnlyList<string> texts) => [.. parts.Select(_ => texts.Select(static _ => 0f).ToArray())];
    }

    [Fact]
    public void Expressions_of_every_kind_mean_the_things_that_they_mean()
    {
        var emoji = EmojiSet.Open().Subset(60);
        var images = SceneGenerator.Things(emoji);
        var names = new Named([.. images.Select(i => emoji.Concepts[emoji.Images[i].Concept].Name).Distinct()]);
        var scenes = new SceneGenerator(emoji, images, new() { Size = 96, MinObjects = 2, MaxObjects = 6, Scale = new(0.12f, 0.35f), RepeatProbability = 0.5f }, seed: 9);
        var (said, right, wrong) = (new Dictionary<SceneReferenceKind, int>(), new Dictionary<SceneReferenceKind, int>(), new List<string>());
        for (var i = 0; i < 60; i++)
        {
            var scene = scenes.Generate(i);
            using var session = new Session(new Known(scene), names);
            session.Look(scene.Image);
            foreach (var reference in scenes.References(scene))
            {
                // What is in front cannot be told from masks, and is said so.
                if (reference.Text.Contains("in front of", StringComparison.Ordinal)) continue;
                session.Say("clear");
                said[reference.Kind] = said.GetValueOrDefault(reference.Kind) + 1;
                var answer = session.Say(reference.Text);
                if (answer.Selected.Select(s => scene.Objects.Index().Single(o => o.Item.Box == s.Box && o.Item.Pixels == s.Mask.Area).Index).Order().SequenceEqual(reference.Objects)) right[reference.Kind] = right.GetValueOrDefault(reference.Kind) + 1;
                else wrong.Add($"{i}: \"{reference.Text}\": {answer.Text}");
            }
        }
        foreach (var (kind, count) in said)
        {
            // A drawing's color is judged by all of it there, and by its visible pixels here.
            var least = kind == SceneReferenceKind.Color ? 0.7 : 0.98;
            Assert.True(right.GetValueOrDefault(kind) >= least * count, $"{kind}: {right.GetValueOrDefault(kind)} of {count}; {string.Join("; ", wrong.Take(12))}");
        }
        Assert.True(said.Count >= 6 && said.Values.Sum() > 300, string.Join(", ", said));
    }
}
