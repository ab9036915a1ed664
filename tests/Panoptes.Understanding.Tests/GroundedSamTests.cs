using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Nn;

namespace Panoptes.Understanding.Tests;

public sealed class GroundedSamTests
{
    /// <summary>Knows where everything is.</summary>
    sealed class Oracle(params Detection[] known) : IGrounder
    {
        public bool Disposed { get; private set; }

        public IReadOnlyList<Detection> Find(Image image, IReadOnlyList<string> texts, double? threshold = null) => [.. known.Where(k => texts.Contains(k.Label) && k.Score > (threshold ?? 0.2))];

        public void Dispose() => Disposed = true;
    }

    static readonly Detection Left = new(2, 3, 15, 25, 0.9f, "cat"), Right = new(22, 4, 38, 28, 0.5f, "cat"), Dog = new(5, 5, 30, 29, 0.3f, "dog");

    static Image Picture()
    {
        var picture = new Image(40, 30, 3);
        new System.Random(3).NextBytes(picture.Pixels);
        return picture;
    }

    static GroundedSam Make(params Detection[] known)
    {
        var model = new SamModel(ModelConfig.Parse<SamConfig>(SamTiny.Sam, "tiny"));
        model.Initialize(new Generator(7));
        return new(new Oracle(known), new Sam(model));
    }

    [Fact]
    public void Words_give_the_masks_of_their_boxes_scored_by_both_models()
    {
        using var model = Make(Left, Right, Dog);
        var picture = Picture();
        var found = model.Segment(picture, [Prompt.Text("cat")]);
        using var encoded = model.Sam.Encode(picture);
        var expected = model.Sam.Segment(encoded, [[Prompt.Box(2, 3, 15, 25)], [Prompt.Box(22, 4, 38, 28)]]).Zip([Left, Right], static (m, b) => (m[0].Mask.Counts, Score: m[0].Score * b.Score)).OrderByDescending(static e => e.Score);
        Assert.Equal(expected, found.Select(static s => (s.Mask.Counts, s.Score)));
        Assert.All(found, static s => Assert.Equal("cat", s.Label));
        Assert.Equal(3, model.Segment(picture, [Prompt.Text("cat"), Prompt.Text("dog")]).Count);
        Assert.Empty(model.Segment(picture, [Prompt.Text("mouse")]));
        Assert.Equal(9, model.Segment(picture, [[Prompt.Text("cat"), Prompt.Text("dog")]], MaskChoice.All)[0].Count);
    }

    [Fact]
    public void Places_choose_among_the_boxes_of_a_word_and_go_to_the_SAM_with_the_chosen_one()
    {
        using var model = Make(Left, Right);
        var picture = Picture();
        using var encoded = model.Sam.Encode(picture);
        string Sam(params Prompt[] prompts) => model.Sam.Segment(encoded, [prompts])[0][0].Mask.Counts;
        string[] Found(params Prompt[] prompts) => [.. model.Segment(picture, prompts).Select(static s => s.Mask.Counts)];
        Assert.Equal([Sam(Prompt.Box(22, 4, 38, 28), Prompt.Point(30, 10))], Found(Prompt.Text("cat"), Prompt.Point(30, 10)));
        // What is not meant goes only to things that it is on, and chooses none.
        var apart = Found(Prompt.Text("cat"), Prompt.Point(30, 10, positive: false));
        Assert.Equal(new[] { Sam(Prompt.Box(2, 3, 15, 25)), Sam(Prompt.Box(22, 4, 38, 28), Prompt.Point(30, 10, positive: false)) }.Order(), apart.Order());
        // A box that was drawn stays as it was drawn.
        Assert.Equal([Sam(Prompt.Box(20, 2, 39, 29))], Found(Prompt.Text("cat"), Prompt.Box(20, 2, 39, 29)));
        Assert.Empty(Found(Prompt.Text("cat"), Prompt.Point(18, 10)));
        // Without a word it is the SAM.
        Assert.Equal(model.Sam.Segment(encoded, Prompt.Point(30, 10)).Select(static s => s.Mask.Counts), Found(Prompt.Point(30, 10)));
    }

    /// <summary>Has segments of one name.</summary>
    sealed class Painter(params Segment[] known) : IPromptable, IDisposable
    {
        public bool Disposed { get; private set; }

        /// <summary>What names part a picture into, if it can be parted.</summary>
        public Segment[]? Parts { get; init; }

        public PanopticAnswer? Panoptic(Image image, IReadOnlyList<string> names) => Parts is null ? null : new(PanopticSegmentation.Of(Parts, image.Width, image.Height), static _ => true);

        public PromptKinds Takes => PromptKinds.Texts | PromptKinds.Everything;

        public IReadOnlyList<Segment> Segment(Image image, IReadOnlyList<Prompt> prompts) => [.. known.Where(k => prompts is [] || (prompts is [TextPrompt t] && t.Words == k.Label))];

        public void Dispose() => Disposed = true;
    }

    [Fact]
    public void A_model_of_segments_draws_the_boxes_around_them()
    {
        static Segment Of(float score, string label, params int[] runs) => new(RunLengthMask.FromRuns(4, 5, runs), score, label);
        // Columns of 4 pixels: rows 1 and 2 of columns 1 and 2; and the whole last column.
        Segment small = Of(0.3f, "cat", 5, 2, 2, 2, 9), tall = Of(0.8f, "cat", 16, 4), empty = Of(0.9f, "cat", 20), dog = Of(0.5f, "dog", 0, 1, 19);
        var painter = new Painter(small, tall, empty, dog);
        var picture = new Image(5, 4, 3);
        using (var grounder = new SegmentGrounder(painter))
        {
            Detection first = new(4, 0, 5, 4, 0.8f, "cat"), second = new(1, 1, 3, 3, 0.3f, "cat"), third = new(0, 0, 1, 1, 0.5f, "dog");
            Assert.Equal([first, third, second], grounder.Find(picture, ["cat", "dog"]));
            Assert.Equal([first], grounder.Find(picture, ["cat"], 0.4));
            // A model that answers prompts alone tells nothing apart.
            Assert.Equal([first, third, second], grounder.FindApart(picture, ["cat", "dog"]));
            Assert.True(grounder.FindsAll);
            Assert.Equal([first, third, second], grounder.FindAll(picture));
            Assert.False(grounder.TakesExamples);
            Assert.Throws<PanoptesException>(() => grounder.Find(picture, []));
        }
        Assert.True(painter.Disposed);
        using (var grounder = new SegmentGrounder(new Painter(dog) { Parts = [tall] })) Assert.Equal(["cat"], grounder.FindApart(picture, ["cat", "dog"]).Select(static d => d.Label));
        using var sam = Make().Sam;
        Assert.Contains("takes no texts", Assert.Throws<PanoptesException>(() => new SegmentGrounder(sam)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_pixel_of_what_is_named_is_in_one_segment()
    {
        using var model = Make(Left, Right, Dog, new Detection(3, 3, 3, 9, 0.9f, "dog"));
        var picture = Picture();
        var answer = model.Panoptic(picture, ["cat", "dog"])!;
        var expected = PanopticSegmentation.Of(model.Segment(picture, [Prompt.Text("cat"), Prompt.Text("dog")]), 40, 30);
        Assert.Equal(expected.ToSegments().Select(static s => (s.Label, s.Mask.Counts)), answer.Found.ToSegments().Select(static s => (s.Label, s.Mask.Counts)));
        Assert.NotEmpty(answer.Found.ToSegments());
        Assert.Null(model.Panoptic(picture, []));
    }

    [Fact]
    public void An_open_image_answers_alike_and_everything_goes_with_the_object()
    {
        var picture = Picture();
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        void Once()
        {
            var oracle = Make(Left);
            using (var opened = ((IPromptable)oracle).Open(picture))
                Assert.Equal(oracle.Segment(picture, [Prompt.Text("cat")]).Select(static s => s.Mask.Counts), opened.Segment([Prompt.Text("cat")]).Select(static s => s.Mask.Counts));
            oracle.Dispose();
            Assert.True(((Oracle)oracle.Grounder).Disposed);
        }
    }

    [Fact]
    public void Prompts_that_do_not_fit_are_refused_with_one_sentence()
    {
        using var model = Make(Left);
        Assert.Equal(PromptKinds.Points | PromptKinds.Boxes | PromptKinds.Scribbles | PromptKinds.Masks | PromptKinds.Texts | PromptKinds.Everything, model.Takes);
        foreach (var (prompt, part) in ((Prompt, string)[])[(Prompt.Text(" "), "The text prompt is empty"), (Prompt.Point(41, 0), "outside the image"), (Prompt.Like(Picture(), RunLengthMask.FromRuns(30, 40, [0, 5, 1195])), "takes no example")])
            Assert.Contains(part, Assert.Throws<PanoptesException>(() => model.Segment(Picture(), [prompt])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Words_of_a_caption_keep_their_places_whatever_they_are_written_in()
    {
        Assert.Equal(new BoundBox(Left, 6, 9), BoundBox.In("A red CAT.", Left));
        Assert.Equal(new BoundBox(Dog, 0, 0), BoundBox.In("A red cat.", Dog));
    }
}
