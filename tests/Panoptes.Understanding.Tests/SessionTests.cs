using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Representation;

namespace Panoptes.Understanding.Tests;

public sealed class SessionTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-session-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    sealed record Thing(string Name, Rgb Color, int X, int Y, int Width, int Height);

    static readonly Rgb Red = new(220, 30, 30), Green = new(40, 170, 60), Gray = new(120, 120, 120), Blue = new(40, 70, 210);

    // Two cats and a dog in a row, three apples below, a shadow by the second cat.
    static readonly Thing[] Table =
    [
        new("cat", Gray, 10, 20, 20, 20), new("dog", Blue, 45, 15, 30, 30), new("cat", Red, 90, 18, 24, 24), new("shadow", new(20, 20, 20), 90, 44, 24, 5),
        new("apple", Red, 12, 70, 10, 10), new("apple", Green, 50, 72, 12, 12), new("apple", Red, 95, 68, 16, 16),
    ];

    static readonly Thing[] Other = [new("apple", Red, 60, 60, 14, 14), new("cat", Gray, 20, 60, 20, 20), new("cat", Gray, 100, 60, 20, 20)];

    static RunLengthMask MaskOf(Thing t, int width = 128, int height = 96)
    {
        var mask = new byte[width * height];
        for (var y = t.Y; y < t.Y + t.Height; y++) mask.AsSpan((y * width) + t.X, t.Width).Fill(1);
        return RunLengthMask.Encode(mask, height, width);
    }

    static Image Paint(Thing[] things)
    {
        var image = new Image(128, 96, 3);
        Array.Fill(image.Pixels, (byte)245);
        foreach (var t in things)
            for (var y = t.Y; y < t.Y + t.Height; y++)
                for (var x = t.X; x < t.X + t.Width; x++) (image.Pixels[((y * 128) + x) * 3], image.Pixels[(((y * 128) + x) * 3) + 1], image.Pixels[(((y * 128) + x) * 3) + 2]) = (t.Color.R, t.Color.G, t.Color.B);
        return image;
    }

    /// <summary>Knows every picture that it was made for.</summary>
    sealed class Oracle(PromptKinds takes, bool labels, params (Image Image, Thing[] Things)[] pictures) : IPromptable
    {
        internal List<string> Asked { get; } = [];

        internal int OpenCount { get; private set; }

        internal int Encoded { get; private set; }

        public PromptKinds Takes => takes;

        public IPromptedImage Open(Image image)
        {
            (OpenCount, Encoded) = (OpenCount + 1, Encoded + 1);
            return new Opened(this, image);
        }

        public IReadOnlyList<Segment> Segment(Image image, IReadOnlyList<Prompt> prompts)
        {
            Asked.Add(string.Join("+", prompts.Select(static p => p.GetType().Name)));
            var things = pictures.Single(p => p.Image.Pixels.AsSpan().SequenceEqual(image.Pixels)).Things;
            if (prompts.Count == 0) return Found(things);
            if (prompts is [TextPrompt text]) return Found(things.Where(t => t.Name == text.Words));
            if (prompts is [ExamplePrompt example])
            {
                var other = pictures.Single(p => p.Image.Pixels.AsSpan().SequenceEqual(example.Image.Pixels)).Things;
                var name = other.MaxBy(t => MaskOf(t).Iou(example.Pixels))!.Name;
                return Found(things.Where(t => t.Name == name));
            }
            var points = prompts.OfType<PointPrompt>().ToArray();
            return Found(things.Where(t => points.All(p => p.Positive == Within(t, p))));
        }

        static bool Within(Thing t, PointPrompt p) => p.X >= t.X && p.X < t.X + t.Width && p.Y >= t.Y && p.Y < t.Y + t.Height;

        List<Segment> Found(IEnumerable<Thing> things) => [.. things.Select(t => new Segment(MaskOf(t), 0.9f, labels ? t.Name : null))];

        sealed class Opened(Oracle oracle, Image image) : IPromptedImage
        {
            public IReadOnlyList<Segment> Segment(IReadOnlyList<Prompt> prompts) => oracle.Segment(image, prompts);

            public void Dispose() => oracle.OpenCount--;
        }
    }

    /// <summary>Names parts by the names of things that are there.</summary>
    sealed class Namer(params Thing[] things) : INamer
    {
        public IReadOnlyList<string> Vocabulary { get; } = [.. things.Select(static t => t.Name).Distinct()];

        public IReadOnlyList<IReadOnlyList<float>> Fit(Image image, IReadOnlyList<RunLengthMask> parts, IReadOnlyList<string> texts) =>
            [.. parts.Select(p => texts.Select(t => things.Any(x => x.Name == t && MaskOf(x).Iou(p) > 0.9) ? 0.95f : 0.01f).ToArray())];
    }

    const PromptKinds Everything = PromptKinds.Everything | PromptKinds.Points;

    static Oracle Model(PromptKinds takes = Everything, bool labels = true) => new(takes, labels, (Paint(Table), Table), (Paint(Other), Other));

    static Session Begun(Oracle? model = null, INamer? namer = null, SessionOptions? options = null)
    {
        var session = new Session(model ?? Model(), namer, options);
        session.Look(Paint(Table));
        return session;
    }

    /// <summary>The selected things by their places in <paramref name="things"/>.</summary>
    static string Selection(Session session, Thing[]? things = null) =>
        string.Join(' ', session.Selected.Select(s => Array.FindIndex(things ?? Table, t => MaskOf(t).Iou(s.Mask) > 0.99)).Order());

    static string After(Session session, params string[] said)
    {
        foreach (var words in said)
        {
            var answer = session.Say(words);
            Assert.True(answer.Understood, $"\"{words}\": {answer.Text}");
        }
        return Selection(session);
    }

    [Theory]
    [InlineData("the dog", "1")]
    [InlineData("all apples", "4 5 6")]
    [InlineData("the cats", "0 2")]
    [InlineData("both cats and the dog", "0 1 2")]
    [InlineData("the left cat", "0")]
    [InlineData("the rightmost cat", "2")]
    [InlineData("the second apple from the left", "5")]
    [InlineData("the last apple", "6")]
    [InlineData("the second from the left", "0")]
    [InlineData("the red cat", "2")]
    [InlineData("the red apples", "4 6")]
    [InlineData("the green apple", "5")]
    [InlineData("the green one", "5")]
    [InlineData("the biggest apple", "6")]
    [InlineData("the second smallest apple", "5")]
    [InlineData("the two leftmost apples", "4 5")]
    [InlineData("the cat left of the dog", "0")]
    [InlineData("the cat right of the dog", "2")]
    [InlineData("the apple below the dog", "5")]
    [InlineData("the dog between the two cats", "1")]
    [InlineData("the apple next to the green apple", "4")]
    [InlineData("the apples bigger than the green apple", "6")]
    [InlineData("everything but the apples", "0 1 2 3")]
    [InlineData("all apples except the left one", "5 6")]
    [InlineData("the apple in the lower right corner", "6")]
    [InlineData("the things on the right", "2 3 6")]
    [InlineData("the middle apple", "5")]
    [InlineData("the red cat's shadow", "3")]
    public void A_phrase_means_the_thing_that_it_names_and_places(string words, string selection)
    {
        using var session = Begun();
        Assert.Equal(selection, After(session, words));
        // The same where the model takes words, and where it only cuts out and a namer names.
        using var texts = Begun(Model(PromptKinds.Everything | PromptKinds.Texts, labels: false));
        Assert.Equal(selection, After(texts, words));
        using var named = Begun(Model(labels: false), new Namer(Table));
        Assert.Equal(selection, After(named, words));
    }

    [Theory]
    [InlineData("2", "the cat", "not that, the other")]
    [InlineData("2", "the cat", "not that")]
    [InlineData("2", "the cats", "the right one")]
    [InlineData("0", "the right cat", "the other")]
    [InlineData("4 5", "the biggest apple", "the others")]
    [InlineData("2 3", "the right cat", "now its shadow too")]
    [InlineData("1 2", "the dog", "and the cat right of it")]
    [InlineData("5", "the smallest apple", "a bigger one")]
    [InlineData("6", "the smallest apple", "bigger one", "bigger")]
    [InlineData("5", "the right apple", "one further left")]
    [InlineData("4 6", "all apples", "remove the green one")]
    [InlineData("5", "the apples", "the green one")]
    [InlineData("4", "the red apples", "the left one")]
    [InlineData("1", "the cat", "no, the dog")]
    [InlineData("6", "the left apple", "not that", "no")]
    [InlineData("0 2", "the cat", "all of them")]
    public void What_was_said_before_decides_what_is_meant(string selection, params string[] said)
    {
        using var session = Begun();
        Assert.Equal(selection, After(session, said));
    }

    [Fact]
    public void A_thing_is_called_by_the_name_that_it_was_given()
    {
        using var session = Begun();
        Assert.Equal("2", After(session, "the red cat", "call it Tom", "the dog", "Tom"));
        Assert.Equal("6", After(session, "the apple below Tom"));
        Assert.Equal(["tom"], session.Names);
        Assert.False(session.Say("call it the left one").Understood);
        Assert.Equal("1 2", After(session, "Tom and the dog", "forget tom", "tom and the dog".Replace("tom", "the red cat", StringComparison.Ordinal)));
        Assert.Empty(session.Names);
    }

    [Fact]
    public void The_same_is_found_again_in_another_picture()
    {
        using var session = Begun();
        After(session, "the cats", "the left one");
        session.Look(Paint(Other));
        After(session, "again on this picture");
        Assert.Equal("1", Selection(session, Other));
        Assert.Equal("0", After(session, "go back to the first picture"));
    }

    [Fact]
    public void What_was_pointed_at_is_found_again_by_its_likeness_where_the_model_takes_examples_and_by_its_name_where_not()
    {
        foreach (var (takes, labels) in new[] { (PromptKinds.Points | PromptKinds.Examples, false), (Everything, true) })
        {
            using var session = Begun(Model(takes, labels));
            session.Point([Prompt.Point(95, 70)]);
            Assert.Equal("6", Selection(session));
            session.Look(Paint(Other));
            After(session, "again");
            Assert.Equal("0", Selection(session, Other));
        }
    }

    [Fact]
    public void What_is_wrong_of_what_was_pointed_at_is_told_to_the_model_by_a_point()
    {
        var model = Model(PromptKinds.Points);
        using var session = Begun(model);
        session.Point([Prompt.Point(95, 70)]);
        var answer = session.Say("not that");
        Assert.Equal("PointPrompt+PointPrompt", model.Asked[^1]);
        Assert.Empty(answer.Selected);                                               // the oracle has nothing else there
        Assert.Contains("not the point", session.Turns[^1].Prompts[^1], StringComparison.Ordinal);
    }

    [Fact]
    public void Turns_are_undone_one_by_one()
    {
        using var session = Begun();
        After(session, "the dog", "and the left cat", "call it both of them".Replace("both of them", "Pair", StringComparison.Ordinal));
        session.Say("undo");
        Assert.Empty(session.Names);
        Assert.Equal("0 1", Selection(session));
        session.Say("undo");
        Assert.Equal("1", Selection(session));
        session.Undo();
        session.Undo();
        Assert.Equal(0, session.PictureCount);
        Assert.False(session.Undo().Understood);
    }

    [Theory]
    [InlineData("the elephant", "I find no elephant here.")]
    [InlineData("the fourth apple", "There are only 3 apples here.")]
    [InlineData("the blue apple", "None of the 3 apples is blue.")]
    [InlineData("two dogs", "There is only one dog here.")]
    [InlineData("the other", "There is no other thing.")]
    [InlineData("it", "Nothing is selected in this picture.")]
    [InlineData("forget Tom", "Nothing is called tom; there are no names yet.")]
    [InlineData("picture 7", "There is one picture, no picture 7.")]
    public void What_is_not_there_is_said_in_one_sentence_and_changes_nothing(string words, string sentence)
    {
        using var session = Begun();
        if (words == "the other") After(session, "everything");
        var (before, turns) = (Selection(session), session.Turns.Count);
        var answer = session.Say(words);
        Assert.False(answer.Understood);
        Assert.Equal(sentence, answer.Text);
        Assert.Equal((before, turns), (Selection(session), session.Turns.Count));
    }

    [Fact]
    public void Things_are_counted_and_named()
    {
        using var session = Begun();
        Assert.Equal("3.", session.Say("how many apples are there?").Text);
        Assert.Equal("That is dog.", session.Say("what is right of the left cat?").Text);
        Assert.StartsWith("None", session.Say("how many elephants are there?").Text, StringComparison.Ordinal);
    }

    [Fact]
    public void A_saved_session_goes_on_where_it_was()
    {
        var path = Path.Combine(folder, "a.session");
        using (var session = Begun())
        {
            After(session, "the red cat", "call it Tom", "all apples", "the left one");
            session.Look(Paint(Other), "other");
            After(session, "again");
            session.Save(path);
        }
        using var resumed = Session.Load(path, Model());
        Assert.Equal("0", Selection(resumed, Other));
        Assert.Equal((2, 1, 7), (resumed.PictureCount, resumed.CurrentPicture, resumed.Turns.Count));
        Assert.Equal("2", After(resumed, "picture 1", "Tom"));
        resumed.Say("undo");
        resumed.Say("undo");
        resumed.Say("undo");
        resumed.Say("undo");
        Assert.Equal("4", Selection(resumed));
        Assert.Equal("6", After(resumed, "the right one"));
    }

    [Fact]
    public void A_session_with_clicks_is_saved_with_them()
    {
        var path = Path.Combine(folder, "clicks.session");
        var model = Model(PromptKinds.Points | PromptKinds.Masks);
        using (var session = Begun(model))
        {
            session.Point([Prompt.Point(95, 70)]);
            session.Save(path);
        }
        using var resumed = Session.Load(path, model);
        resumed.Point([Prompt.Point(100, 75)], more: true);
        Assert.Equal("MaskPrompt+PointPrompt+PointPrompt", model.Asked[^1]);
    }

    [Fact]
    public void A_damaged_session_file_gives_one_sentence_whatever_is_in_it()
    {
        var path = Path.Combine(folder, "b.session");
        using (var session = Begun())
        {
            After(session, "all apples", "the left one", "call it Tom");
            session.Save(path);
        }
        var bytes = File.ReadAllBytes(path);
        var random = new Random(1);
        var refused = 0;
        for (var i = 0; i < 150; i++)
        {
            var damaged = (byte[])bytes.Clone();
            if (i % 3 == 0) damaged = damaged[..random.Next(damaged.Length)];
            else
                for (var k = 0; k < 3; k++) damaged[random.Next(damaged.Length)] = i % 3 == 1 ? (byte)random.Next(256) : (byte)('0' + random.Next(10));
            File.WriteAllBytes(path, damaged);
            try
            {
                using var loaded = Session.Load(path, Model());
                loaded.Say("the other");
            }
            catch (PanoptesException e)
            {
                Assert.DoesNotContain('\n', e.Message);
                refused++;
            }
            catch (InvalidOperationException) { }                                    // the oracle does not know the picture any more
        }
        Assert.True(refused > 75, $"{refused} of 150 were refused");
    }

    [Theory]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("""{"format":"panoptes-session","version":2}""")]
    [InlineData("""{"format":"panoptes-session","version":1}""")]
    [InlineData("""{"format":"panoptes-session","version":1,"state":{"picture":0,"picture_before":-1}}""")]
    [InlineData("""{"format":"panoptes-session","version":1,"state":{"picture":-1,"picture_before":-1,"selected":[5]}}""")]
    [InlineData("""{"format":"panoptes-session","version":1,"state":{"picture":-1,"picture_before":-1},"things":[null]}""")]
    [InlineData("""{"format":"panoptes-session","version":1,"state":{"picture":-1,"picture_before":-1},"turns":[null]}""")]
    [InlineData("""{"format":"panoptes-session","version":1,"pictures":[{"png":"AAAA"}],"state":{"picture":-1,"picture_before":-1}}""")]
    [InlineData("""{"format":"panoptes-session","version":1,"pictures":[null],"state":{"picture":-1,"picture_before":-1}}""")]
    public void A_hostile_session_file_is_refused(string json)
    {
        var path = Path.Combine(folder, "c.session");
        File.WriteAllText(path, json);
        var message = Assert.Throws<PanoptesException>(() => Session.Load(path, Model())).Message;
        Assert.StartsWith(path, message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_session_is_bounded()
    {
        var model = Model();
        using var session = Begun(model, null, new() { MostPictures = 3, MostTurns = 5, OpenPictures = 1 });
        for (var i = 0; i < 20; i++) After(session, i % 2 == 0 ? "the dog" : "the left cat");
        Assert.Equal(5, session.Turns.Count);
        session.Look(Paint(Other));
        After(session, "the apple");
        Assert.Equal((1, 2), (model.OpenCount, model.Encoded));                           // the first picture is given up
        session.Say("picture 1");
        session.Point([Prompt.Point(50, 30)]);
        Assert.Equal((1, 3), (model.OpenCount, model.Encoded));
        session.Look(Paint(Table));
        Assert.Throws<PanoptesException>(() => session.Look(Paint(Table)));
        session.Dispose();
        Assert.Equal(0, model.OpenCount);
    }

    [Fact]
    public void A_prompt_that_does_not_fit_is_refused_with_one_sentence()
    {
        using var session = Begun(Model(PromptKinds.Points));
        Assert.Contains("outside the image", Assert.Throws<PanoptesException>(() => session.Point([Prompt.Point(200, 5)])).Message, StringComparison.Ordinal);
        Assert.Contains("takes no boxes", Assert.Throws<PanoptesException>(() => session.Point([Prompt.Box(1, 1, 5, 5)])).Message, StringComparison.Ordinal);
        Assert.Throws<PanoptesException>(() => session.Point([]));
        using var empty = new Session(Model());
        Assert.False(empty.Say("the cat").Understood);
        Assert.Throws<PanoptesException>(() => empty.Point([Prompt.Point(1, 1)]));
    }

    [Theory]
    [InlineData(220, 30, 30, SceneColor.Red)]
    [InlineData(250, 140, 20, SceneColor.Orange)]
    [InlineData(250, 220, 40, SceneColor.Yellow)]
    [InlineData(60, 160, 60, SceneColor.Green)]
    [InlineData(40, 90, 200, SceneColor.Blue)]
    [InlineData(130, 60, 180, SceneColor.Purple)]
    [InlineData(245, 120, 180, SceneColor.Pink)]
    [InlineData(110, 70, 35, SceneColor.Brown)]
    [InlineData(15, 15, 18, SceneColor.Black)]
    [InlineData(250, 250, 248, SceneColor.White)]
    [InlineData(130, 130, 132, SceneColor.Gray)]
    public void A_pixel_has_the_color_that_people_call_it(byte red, byte green, byte blue, SceneColor color)
    {
        foreach (var word in Enum.GetValues<SceneColor>()) Assert.Equal(word == color, SessionResolver.Is(red, green, blue, word));
    }

    [Fact]
    public void A_real_clip_names_what_scenes_are_made_of()
    {
        var emoji = EmojiSet.Open().Subset(40);
        var images = SceneGenerator.Things(emoji);
        string[] names = [.. images.Select(i => emoji.Concepts[emoji.Images[i].Concept].Name).Distinct().Order(StringComparer.Ordinal)];
        var scenes = new SceneGenerator(emoji, images, new() { Size = 128, MinObjects = 2, MaxObjects = 4, RepeatProbability = 0 }, seed: 5);
        using var clip = Clip.Load(Path.Combine(Panoptes.Parity.Goldens.Repository, "zoo", "clip-emoji"));
        var namer = new ClipNamer(clip, names);
        var (right, placed, asked, places) = (0, 0, 0, 0);
        for (var i = 0; i < 8; i++)
        {
            var scene = scenes.Generate(i);
            using var session = new Session(new Cutter(scene), namer);
            session.Look(scene.Image);
            foreach (var o in scene.Objects)
            {
                asked++;
                if (session.Say($"the {o.Name}").Selected is [var s] && s.Box == o.Box) right++;
            }
            foreach (var r in scene.Relations.Where(static r => r.Kind is SceneRelationKind.LeftOf or SceneRelationKind.Above).Take(2))
            {
                places++;
                session.Say("clear");
                var words = r.Kind == SceneRelationKind.LeftOf ? "left of" : "above";
                if (session.Say($"the {scene.Objects[r.Subject].Name} {words} the {scene.Objects[r.Object].Name}").Selected is [var s] && s.Box == scene.Objects[r.Subject].Box) placed++;
            }
        }
        Assert.True(right >= 0.8 * asked, $"{right} of {asked}");
        Assert.True(placed >= 0.7 * places, $"{placed} of {places}");
    }

    /// <summary>Cuts out everything in a scene, and says nothing of what it is.</summary>
    sealed class Cutter(Scene scene) : IPromptable
    {
        public PromptKinds Takes => PromptKinds.Everything;

        public IReadOnlyList<Segment> Segment(Image image, IReadOnlyList<Prompt> prompts) =>
            [.. Enumerable.Range(0, scene.Objects.Count).Select(k => new Segment(RunLengthMask.Encode(scene.Mask(k).Pixels, scene.Size, scene.Size), 1))];
    }
}
