using Panoptes.Data;
using Panoptes.Data.Emoji;

namespace Panoptes.Core.Tests.Data;

public sealed class EmojiPosesTests : IDisposable
{
    static readonly string[] People = ["person standing", "person running", "person cartwheeling", "person fencing", "person golfing"];

    readonly string file = Path.GetTempFileName();

    public void Dispose() => File.Delete(file);

    [Fact]
    public void Every_pose_is_of_a_drawing_and_its_joints_lie_on_the_person_or_close_by()
    {
        var set = EmojiSet.Open();
        var known = set.Images.Where(i => set.Pose(i.Index) is not null).ToArray();
        Assert.Equal(24, known.Length);
        foreach (var image in known)
        {
            var pose = set.Pose(image.Index)!;
            Assert.Equal(17, pose.Count);
            var pixels = set.Pixels(image.Index).ToArray();
            foreach (var joint in pose)
            {
                if (joint is not { } at) continue;
                var (x, y) = ((int)(at.X * set.Size), (int)(at.Y * set.Size));
                var opaque = false;
                for (var dy = -4; dy <= 4; dy++)
                    for (var dx = -4; dx <= 4; dx++)
                        if (x + dx >= 0 && x + dx < set.Size && y + dy >= 0 && y + dy < set.Size && pixels[((((y + dy) * set.Size) + x + dx) * 4) + 3] > 127) opaque = true;
                Assert.True(opaque, $"{set.Concepts[image.Concept].Name} in {set.Styles[image.Style].Name}: nothing is drawn at {at}.");
            }
        }
    }

    [Fact]
    public void Poses_are_where_scenes_have_their_people_however_they_are_turned()
    {
        var set = EmojiSet.Open().Subset(People);
        var generator = new SceneGenerator(set, SceneGenerator.Things(set), new() { Size = 96, MinObjects = 2, MaxObjects = 2, Styles = ["noto", "twemoji"], Scale = new(0.4f, 0.6f), Rotation = 60, MinVisible = 1 }, 5);
        for (var i = 0; i < 20; i++)
        {
            var scene = generator.Generate(i);
            var poses = scene.Poses();
            Assert.Equal(scene.Objects.Count, poses.Count);
            foreach (var (pose, thing) in poses.Zip(scene.Objects))
            {
                Assert.Equal(3 * 17, pose.Count);
                var seen = pose.Chunk(3).Where(static k => k[2] > 0).ToArray();
                Assert.InRange(seen.Length, 11, 17);
                // Nothing hides them: what lies on them is their own.
                Assert.True(seen.Count(static k => k[2] == 2) >= seen.Length - 3);
                Assert.All(seen, k => Assert.True(k[0] > thing.Box.X - 4 && k[0] < thing.Box.Right + 4 && k[1] > thing.Box.Y - 4 && k[1] < thing.Box.Bottom + 4, $"scene {i}: {k[0]}, {k[1]}"));
            }
        }
    }

    [Fact]
    public void Things_have_no_pose()
    {
        var set = EmojiSet.Open().Subset(["cat", "pizza"]);
        Assert.Empty(new SceneGenerator(set, SceneGenerator.Things(set), new() { Size = 64, Styles = ["noto"] }, 1).Generate(0).Poses());
    }

    [Theory]
    [InlineData("[]", "holds no poses")]
    [InlineData("""{"poses":[null]}""", "pose 0 has 0 keypoints; expected 17")]
    [InlineData("""{"poses":[{"code":"A","style":"noto","keypoints":[[1,2]]}]}""", "pose 0 has 1 keypoints; expected 17")]
    [InlineData("""{"poses":[{"code":"A","style":"noto","keypoints":[[1,200],null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null]}]}""", "two numbers from 0 to 100")]
    [InlineData("""{"poses":[{"code":"A","style":"noto","keypoints":[null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null]},{"code":"A","style":"noto","keypoints":[null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null]}]}""", "has two poses")]
    public void A_damaged_file_is_refused_with_one_sentence(string json, string sentence)
    {
        File.WriteAllText(file, json);
        Assert.Contains(sentence, Assert.Throws<PanoptesException>(() => EmojiPoses.Read(file)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_of_no_poses_has_none()
    {
        File.WriteAllText(file, """{"poses":[]}""");
        Assert.Null(EmojiPoses.Read(file).Of("A", "noto"));
    }
}
