using System.Diagnostics;
using Panoptes.Data;

namespace Panoptes.Understanding.Tests;

/// <summary>What the token schemes hold for every box and every sequence, sensible or not; the seeds are fixed.</summary>
public sealed class TokenSchemeTests
{
    const int Width = 640, Height = 480;

    static readonly Pix2SeqTokens Pix2Seq = new();
    static readonly UnifiedIoTokens UnifiedIo = new();
    static readonly UniTabTokens UniTab = new() { TextVocabulary = 100 };
    static readonly Kosmos2Tokens Kosmos2 = new();

    public static TheoryData<int> Seeds => [.. Enumerable.Range(0, 40)];

    [Theory, MemberData(nameof(Seeds))]
    public void A_box_comes_back_within_a_bin_in_every_scheme(int seed)
    {
        var box = Box(seed);
        Near(box, Pix2Seq.Objects(Pix2Seq.OfObject(box, 7, Width, Height), Width, Height).Single().Box, Width / 999.0);
        Near(box, UnifiedIo.Objects(UnifiedIo.OfObjects([new(box, "cat")], Width, Height), Width, Height).Single().Box, Width / 999.0 + Width / 1000.0);
        Near(box, UniTab.Parse(UniTab.ToText([new("cat", box)], Width, Height), Width, Height).Single().Box!.Value, Width / 199.0);
        Near(box, Florence2Tokens.Boxes("cat" + Florence2Tokens.OfBox(box, Width, Height), Width, Height).Single().Boxes.Single(), Width / 1000.0 + 1);
        var share = box.Scaled(1.0 / Width, 1.0 / Height);
        Near(share, Kosmos2.Parse(Kosmos2.OfPhrase(" cat", [share])).Phrases.Single().Boxes.Single(), 1.0 / 32);
    }

    [Theory, MemberData(nameof(Seeds))]
    public void Pix2Seq_reads_any_tokens_as_boxes_within_the_image_and_polygons_of_three_corners(int seed)
    {
        var random = new Random(seed);
        var tokens = Enumerable.Range(0, 300).Select(_ => random.Next(6) switch { 0 => random.Next(-5, 5000), 1 => int.MaxValue, 2 => random.Next(100, 1000), 3 => Pix2SeqTokens.Separator, _ => random.Next(1000, 2000) }).ToArray();
        Assert.All(Pix2Seq.Objects(tokens, Width, Height), static o => Assert.True(IsWithin(o.Box) && o.Label is >= 0 and < 900));
        Assert.All(Pix2Seq.Polygons(tokens, Width, Height), static p => Assert.True(p.Count >= 3 && p.All(static q => q.X is >= 0 and <= Width && q.Y is >= 0 and <= Height)));
        Assert.Equal(17, Pix2Seq.Keypoints(tokens, 17, Width, Height).Count);
        Assert.All(Pix2Seq.Text(tokens), static id => Assert.True(id >= 0));
    }

    [Theory, MemberData(nameof(Seeds))]
    public void Texts_that_were_torn_apart_are_read_as_boxes_within_the_image(int seed)
    {
        var random = new Random(seed);
        string[] parts = ["<extra_id_100>", "<extra_id_1099>", "<extra_id_99999999999>", "<extra_id_", "cat", " ", "<obj>", @"<\obj>", "<7>", "<200>", "<loc_999>", "<loc_0>", "<loc_1000>", "<loc_", "<poly>", "</poly>", "<sep>", ">", "<", "\n", "é",
            "<phrase>", "</phrase>", "<object>", "</object>", "<patch_index_0044>", "<patch_index_9999>", "</delimiter_of_multi_objects/>", "<s>", "</s>", "1", "3"];
        var text = string.Concat(Enumerable.Range(0, 200).Select(_ => parts[random.Next(parts.Length)]));
        Assert.All(UnifiedIo.Objects(text, Width, Height), static o => Assert.True(IsWithin(o.Box)));
        Assert.All(UnifiedIo.Keypoints(text, Width, Height), static p => Assert.InRange(p.Visibility, 0, 2));
        Assert.All(UniTab.Parse(text, Width, Height), static p => Assert.True(p.Box is not { } box || IsWithin(box)));
        Assert.All(Florence2Tokens.Boxes(text, Width, Height).Concat(Florence2Tokens.Boxes(text, Width, Height, named: false)).SelectMany(static p => p.Boxes), static b => Assert.True(IsWithin(b.Ordered())));
        Assert.All(Florence2Tokens.Polygons(text, Width, Height).SelectMany(static p => p.Polygons).SelectMany(static p => p), static q => Assert.True(q.X is >= 0 and < Width && q.Y is >= 0 and < Height));
        Florence2Tokens.Words(text, Width, Height);
        var caption = Kosmos2.Parse(text);
        Assert.All(caption.Phrases, p => Assert.True(p.Start >= 0 && p.Start <= p.End && p.End <= caption.Text.Length && p.Boxes.All(static b => b.Left >= 0 && b.Right <= 1 && b.Left < b.Right && b.Top < b.Bottom)));
    }

    [Theory, MemberData(nameof(Seeds))]
    public void UniTab_gives_back_the_pieces_of_a_caption_from_text_and_from_ids(int seed)
    {
        var random = new Random(seed);
        var pieces = Enumerable.Range(0, 6).Select(i => i % 2 == 0 ? new CaptionPiece($"word {random.Next(10)}", Box(seed + i)) : new CaptionPiece($" and {random.Next(10)} ")).ToArray();
        var back = UniTab.Parse(UniTab.ToText(pieces, Width, Height), Width, Height);
        Assert.Equal(pieces.Select(static p => p.Text.Trim()), back.Select(static p => p.Text.Trim()));
        Assert.Equal(pieces.Select(static p => p.Box is null), back.Select(static p => p.Box is null));
        var scheme = UniTab with { TextVocabulary = 128 };
        Assert.Equal(back, scheme.Decode(scheme.Encode(pieces, Width, Height, static t => [.. t.Select(static c => (int)c)]), Width, Height, static ids => new([.. ids.Select(static i => (char)i)])));
    }

    [Fact]
    public void A_word_that_no_box_follows_is_passed_over_and_a_box_without_a_name_has_none()
    {
        Assert.Equal([new(new(0.64, 0.64, 640, 480), "")], UnifiedIo.Objects("a cat <extra_id_100> <extra_id_100> <extra_id_1099> <extra_id_1099>", Width, Height));
        Assert.Empty(UnifiedIo.Objects("<extra_id_100> <extra_id_100> and <extra_id_100> <extra_id_100>", Width, Height));
        Assert.Empty(Florence2Tokens.Boxes("<loc_1><loc_2><loc_3><loc_4>", Width, Height));
        Assert.Equal("", Florence2Tokens.Boxes("<loc_1><loc_2><loc_3><loc_4>", Width, Height, named: false).Single().Name);
    }

    [Fact]
    public void Florence_polygons_are_split_at_separators_and_things_at_their_marks()
    {
        var found = Florence2Tokens.Polygons("cats<poly><loc_0><loc_0><loc_10><loc_0><loc_10><loc_10><sep><loc_5><loc_5></poly><poly><loc_1><loc_1><loc_2><loc_2><loc_3><loc_3></poly></s>", 1000, 1000);
        Assert.Equal(["cats", "cats"], found.Select(static f => f.Name));
        Assert.Equal([3, 1], found[0].Polygons.Select(static p => p.Count));
        Assert.Equal([new ImagePoint(1, 1), new(2, 2), new(3, 3)], found[1].Polygons.Single());
        Assert.Equal("sign", Florence2Tokens.Words("sign<loc_1><loc_1><loc_9><loc_1><loc_9><loc_9><loc_1><loc_9>", 1000, 1000).Single().Text);
    }

    [Fact]
    public void Noise_is_passed_over_and_the_objects_after_a_broken_one_are_found()
    {
        int[] good = Pix2Seq.OfObject(new(0, 0, 64, 48), 3, Width, Height), noise = [.. Pix2Seq.OfBox(new(9, 9, 20, 20), Width, Height), Pix2SeqTokens.Noise];
        Assert.Equal([3, 3], Pix2Seq.Objects([.. noise, .. good, 1500, 1500, .. good, Pix2SeqTokens.Padding, .. good], Width, Height).Select(static o => o.Label));
    }

    [Fact]
    public void A_place_that_is_no_number_an_image_without_pixels_and_a_class_that_is_none_are_refused_with_one_sentence()
    {
        Assert.Equal("A place of NaN was given; expected a number of pixels.", Assert.Throws<PanoptesException>(() => Pix2Seq.OfBox(new(double.NaN, 0, 1, 1), Width, Height)).Message);
        Assert.Equal("An image of 0x480 pixels was given; expected at least 1x1.", Assert.Throws<PanoptesException>(() => Florence2Tokens.Boxes("", 0, Height)).Message);
        Assert.Equal("The class 900 was given; expected 0 to 899.", Assert.Throws<PanoptesException>(() => Pix2Seq.OfClass(900)).Message);
        Assert.Equal("A sequence has 3 tokens; expected at most 2.", Assert.Throws<PanoptesException>(() => Pix2SeqTokens.Pad([1, 2, 3], 2)).Message);
        Assert.Contains("expected left < right", Assert.Throws<PanoptesException>(() => Kosmos2.PatchesOf(new(0.5, 0, 0.2, 1))).Message, StringComparison.Ordinal);
        Assert.Contains("expected them one after the other", Assert.Throws<PanoptesException>(() => new Pix2SeqTokens { FirstText = 1500 }.Checked()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Long_damaged_texts_are_read_in_a_moment()
    {
        var watch = Stopwatch.StartNew();
        foreach (var part in (string[])["<", "a", "<loc_1>", "<patch_index_0001><patch_index_0002></delimiter_of_multi_objects/>", "<phrase>", "<object>", "<extra_id_", "<obj>", "< \n", "1"])
        {
            var text = "<object>" + string.Concat(Enumerable.Repeat(part, 200_000 / part.Length));
            UnifiedIo.Objects(text, Width, Height);
            UniTab.Parse(text, Width, Height);
            Florence2Tokens.Boxes(text, Width, Height);
            Florence2Tokens.Polygons(text, Width, Height);
            Kosmos2.Parse(text);
        }
        Assert.InRange(watch.Elapsed.TotalSeconds, 0, 10);
    }

    static ImageBox Box(int seed)
    {
        var random = new SampleRandom((ulong)seed, 0, 0);
        return new ImageBox(random.Next(0, Width), random.Next(0, Height), random.Next(0, Width), random.Next(0, Height)).Ordered();
    }

    static bool IsWithin(ImageBox box) => box.Left >= 0 && box.Top >= 0 && box.Left <= box.Right && box.Top <= box.Bottom && box.Right <= Width && box.Bottom <= Height;

    static void Near(ImageBox expected, ImageBox found, double most)
    {
        Assert.InRange(Math.Abs(expected.Left - found.Left), 0, most);
        Assert.InRange(Math.Abs(expected.Top - found.Top), 0, most);
        Assert.InRange(Math.Abs(expected.Right - found.Right), 0, most);
        Assert.InRange(Math.Abs(expected.Bottom - found.Bottom), 0, most);
    }
}
