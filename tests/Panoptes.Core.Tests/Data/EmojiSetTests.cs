using System.Text.Json.Nodes;
using CsCheck;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

/// <summary>The bundled emoji: what the set promises, how it is served, and what a damaged one gets.</summary>
public sealed class EmojiSetTests : IDisposable
{
    static readonly Lazy<EmojiSet> Bundled = new(static () => EmojiSet.Open());

    readonly TemporaryFolder folder = new();

    internal static EmojiSet Set => Bundled.Value;

    public void Dispose() => folder.Dispose();

    [Fact]
    public void It_has_ten_styles_of_which_OpenMoji_alone_is_held_out()
    {
        Assert.Equal(10, Set.Styles.Count);
        Assert.Equal("openmoji", Assert.Single(Set.Styles, static s => s.HeldOut).Name);
        Assert.All(Set.Styles, static s => Assert.True(s.License.Length > 0 && s.Author.Length > 0 && s.LicenseUrl.StartsWith("http", StringComparison.Ordinal)));
        Assert.Equal(72, Set.Size);
        Assert.All(Set.Styles, s => Assert.Equal(s.Count, Set.Images.Count(i => i.Style == s.Index)));
        Assert.Equal(Enumerable.Range(0, Set.Images.Count), Set.Images.Select(static i => i.Index));
    }

    [Fact]
    public void Every_concept_has_names_in_English_and_Chinese_and_is_drawn()
    {
        Assert.InRange(Set.Concepts.Count, 1800, 2000);
        Assert.All(Set.Concepts, static c => Assert.True(c.Names["en"].Length > 0 && c.Names["zh"].Length > 0 && c.Group.Length > 0 && c.Subgroup.Length > 0, c.Code));
        Assert.Equal(Set.Concepts.Count, Set.Concepts.Select(static c => c.Code).Distinct().Count());
        Assert.Equal(Set.Concepts.Count, Set.Images.Select(static i => i.Concept).Distinct().Count());
        var apple = Set.Concepts.Single(static c => c.Code == "1F34E");
        Assert.Equal(("red apple", "food-drink", "food-fruit", "🍎"), (apple.Name, apple.Group, apple.Subgroup, apple.Emoji));
    }

    [Fact]
    public void One_concept_in_ten_is_held_out_in_every_style()
    {
        Assert.InRange(Set.Concepts.Count(static c => c.HeldOut) / (double)Set.Concepts.Count, 0.08, 0.12);
        Assert.All(Set.Styles, style =>
        {
            var drawn = Set.Images.Where(i => i.Style == style.Index).ToArray();
            Assert.InRange(drawn.Count(static i => Set.Concepts[i.Concept].HeldOut) / (double)drawn.Length, 0.07, 0.13);
        });
    }

    [Fact]
    public void The_four_splits_share_nothing_and_are_the_whole()
    {
        var splits = Enum.GetValues<EmojiSplit>().ToDictionary(static s => s, static s => Set.Select(s));
        Assert.Equal(Enumerable.Range(0, Set.Images.Count), splits.Values.SelectMany(static s => s).Order());
        Assert.All(splits[EmojiSplit.Train], static i => Assert.False(Set.Concepts[Set.Images[i].Concept].HeldOut || Set.Styles[Set.Images[i].Style].HeldOut));
        Assert.All(splits[EmojiSplit.HeldOutStyle], static i => Assert.True(!Set.Concepts[Set.Images[i].Concept].HeldOut && Set.Styles[Set.Images[i].Style].HeldOut));
        Assert.All(splits[EmojiSplit.HeldOutConcepts], static i => Assert.True(Set.Concepts[Set.Images[i].Concept].HeldOut && !Set.Styles[Set.Images[i].Style].HeldOut));
        Assert.Equal(9, splits[EmojiSplit.Train].Select(static i => Set.Images[i].Style).Distinct().Count());
    }

    [Fact]
    public void Images_are_found_by_concept_and_style_and_their_pixels_have_alpha()
    {
        foreach (var image in Set.Images.Where(static i => i.Index % 997 == 0))
        {
            Assert.Equal(image, Set.Find(image.Concept, image.Style));
            var pixels = Set.Pixels(image.Index);
            Assert.Equal(72 * 72 * 4, pixels.Length);
            var (clear, solid) = (0, 0);
            for (var i = 3; i < pixels.Length; i += 4)
            {
                if (pixels[i] == 0) clear++;
                if (pixels[i] == 255) solid++;
            }
            Assert.True(clear > 0 && solid > 100, $"image {image.Index}: {clear} clear, {solid} solid pixels");
            Assert.Equal(Panoptes.Imaging.Image.Decode(Set.Encoded(image.Index).Span).Pixels, pixels.ToArray());
        }
        Assert.Contains(Set.Concepts, static c => Set.Find(c.Index, 0) is null);                      // not every style draws everything
    }

    [Fact]
    public void A_loader_serves_distinct_concepts_with_captions_the_same_whatever_the_workers()
    {
        var train = Set.Select(EmojiSplit.Train);
        var options = new EmojiLoaderOptions { BatchSize = 64, Seed = 7, Augmentation = Augmentation.Drawings(32) };
        using var one = EmojiLoader.Create(Set, train, options with { Loader = new() { Workers = 1 } });
        using var three = EmojiLoader.Create(Set, train, options with { Loader = new() { Workers = 3 } });
        three.Restore(new(0, 1));
        one.Next().Dispose();
        for (var b = 0; b < 2; b++)
        {
            using var x = one.Next();
            using var y = three.Next();
            Assert.Equal([64, 3, 32, 32], x.Images.shape);
            Assert.True(x.Images.equal(y.Images).all().item<bool>());
            Assert.Equal(x.Texts, y.Texts);
            Assert.Equal(x.Samples, y.Samples);
            Assert.Equal(64, x.Labels.Distinct().Count());
            for (var i = 0; i < x.Count; i++)
            {
                Assert.Equal(Set.Images[x.Samples[i]].Concept, x.Labels[i]);
                Assert.Contains(Set.Concepts[x.Labels[i]].Name, x.Texts[i], StringComparison.Ordinal);
            }
            using var labels = x.LabelTensor();
            Assert.Equal(x.Labels.Select(static l => (long)l), labels.data<long>().ToArray());
        }
    }

    [Fact]
    public void Captions_use_every_template_language_and_some_tags()
    {
        var apple = Set.Concepts.Single(static c => c.Code == "1F34E");
        var captions = new EmojiCaptions { Languages = ["en", "zh"], TagProbability = 0.5f };
        var texts = new List<string>();
        for (var i = 0; i < 400; i++)
        {
            var random = new SampleRandom(1, 0, i);
            texts.Add(captions.Draw(apple, ref random));
        }
        Assert.All(captions.Templates, t => Assert.Contains(t.Replace("{}", "red apple", StringComparison.Ordinal), texts));
        Assert.Contains(apple.Names["zh"], texts);
        Assert.InRange(texts.Count(static t => t.Contains(',', StringComparison.Ordinal)), 150, 250);
        var unknown = new SampleRandom(1, 0, 0);
        Assert.Contains("'xx'", Assert.Throws<PanoptesException>(() => new EmojiCaptions { Languages = ["xx"] }.Draw(apple, ref unknown)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_part_of_the_set_is_a_set_too()
    {
        var set = EmojiSet.Open(Small());
        Assert.Equal("streamline-emojis", Assert.Single(set.Styles).Name);
        Assert.Equal(set.Styles[0].Count, set.Images.Count);
        var all = set.DecodeAll();
        Assert.Equal(set.Images.Count * set.ImageBytes, all.Length);
        Assert.Equal(all.AsSpan(set.ImageBytes, set.ImageBytes).ToArray(), set.Pixels(1).ToArray());
    }

    [Theory]
    [InlineData("styles.json", "", "is not the emoji set's list of styles")]
    [InlineData("styles.json", """{"size":72,"concepts":3,"styles":[]}""", "0 styles")]
    [InlineData("styles.json", """{"size":99999,"concepts":3,"styles":[]}""", "99999 pixels")]
    [InlineData("concepts.jsonl", "{}\n", "line 1 is not a concept")]
    [InlineData("concepts.jsonl", "", "has 0 concepts")]
    [InlineData("streamline-emojis.parquet", "PAR1", "is not a Parquet file that can be read: it has 4 bytes")]
    public void A_damaged_set_is_one_sentence_with_the_file(string file, string content, string expected)
    {
        var root = Small();
        folder.Write(file, content);
        var message = Assert.Throws<PanoptesException>(() => EmojiSet.Open(root)).Message;
        Assert.Contains(folder[file], message, StringComparison.Ordinal);
        Assert.Contains(expected, message, StringComparison.Ordinal);
        File.Delete(folder[file]);
        Assert.Contains(file, Assert.Throws<PanoptesException>(() => EmojiSet.Open(root)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Styles_whose_names_are_paths_are_refused()
    {
        var root = Small(static style => style["name"] = "../streamline-emojis");
        Assert.Contains("'../streamline-emojis'", Assert.Throws<PanoptesException>(() => EmojiSet.Open(root)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Any_damage_to_a_file_is_a_set_or_one_sentence()
    {
        var root = Small();
        string[] names = ["styles.json", "concepts.jsonl", "streamline-emojis.parquet"];
        byte[][] originals = [.. names.Select(n => File.ReadAllBytes(folder[n]))];
        Gen.Select(Gen.Int[0, 2], Gen.Select(Gen.Double[0, 1], Gen.Byte).Array[1, 6], Gen.Bool).Sample((file, edits, tail) =>
        {
            var bytes = originals[file].ToArray();
            var reach = tail ? Math.Min(2000, bytes.Length) : bytes.Length;
            foreach (var (at, value) in edits) bytes[bytes.Length - 1 - (int)(at * (reach - 1))] = value;
            File.WriteAllBytes(folder[names[file]], bytes);
            try
            {
                Assert.InRange(EmojiSet.Open(root).Images.Count, 1, 2000);
            }
            catch (PanoptesException e)
            {
                Assert.Contains(folder.Path, e.Message, StringComparison.Ordinal);
            }
            File.WriteAllBytes(folder[names[file]], originals[file]);
        }, iter: 20, threads: 1);
    }

    [Fact]
    public void A_damaged_image_is_told_when_it_is_wanted()
    {
        var root = Small();
        var bytes = File.ReadAllBytes(folder["streamline-emojis.parquet"]);
        var at = bytes.AsSpan().IndexOf("WEBP"u8);
        bytes.AsSpan(at, 4).Fill((byte)'x');
        folder.Write("streamline-emojis.parquet", bytes);
        var set = EmojiSet.Open(root);
        Assert.Contains("is no image", Assert.Throws<PanoptesException>(() => set.DecodeAll()).Message, StringComparison.Ordinal);
    }

    /// <summary>The smallest style alone, with all concepts.</summary>
    string Small(Action<JsonObject>? change = null)
    {
        var source = Path.Combine(Panoptes.Parity.Goldens.Repository, "data", "emoji");
        var manifest = JsonNode.Parse(File.ReadAllText(Path.Combine(source, "styles.json")))!.AsObject();
        var style = manifest["styles"]!.AsArray().Single(static s => (string?)s!["name"] == "streamline-emojis")!.DeepClone().AsObject();
        style["index"] = 0;
        change?.Invoke(style);
        manifest["styles"] = new JsonArray(style);
        folder.Write("styles.json", manifest.ToJsonString());
        foreach (var name in new[] { "concepts.jsonl", "streamline-emojis.parquet" }) File.Copy(Path.Combine(source, name), folder[name]);
        return folder.Path;
    }

    [Fact]
    public void A_subset_has_its_concepts_in_all_styles_and_lies_within_every_larger_one()
    {
        var set = EmojiSet.Open();
        var (small, large) = (set.Subset(30), set.Subset(200));
        Assert.Equal((30, 200), (small.Concepts.Count, large.Concepts.Count));
        Assert.Subset(large.Concepts.Select(static c => c.Code).ToHashSet(), small.Concepts.Select(static c => c.Code).ToHashSet());
        foreach (var concept in small.Concepts)
        {
            Assert.Same(concept, small.Concepts[concept.Index]);
            var old = set.Concepts.Single(c => c.Code == concept.Code);
            Assert.Equal(old with { Index = concept.Index }, concept);
            foreach (var style in set.Styles)
            {
                var (mine, theirs) = (small.Find(concept.Index, style.Index), set.Find(old.Index, style.Index));
                Assert.Equal(theirs is null, mine is null);
                if (mine is { } image) Assert.True(small.Pixels(image.Index).SequenceEqual(set.Pixels(theirs!.Value.Index)));
            }
        }
        Assert.Equal(small.Images.Count, small.Styles.Sum(static s => s.Count));
        Assert.Contains("2000", Assert.Throws<PanoptesException>(() => set.Subset(2000)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Further_views_are_other_draws_of_the_same_samples_and_leave_the_first_as_it_was()
    {
        var set = EmojiSet.Open().Subset(40);
        var options = new EmojiLoaderOptions { BatchSize = 8, Seed = 3, Augmentation = Augmentation.Drawings(24) };
        using var plain = EmojiLoader.Create(set, set.Select(EmojiSplit.Train), options);
        using var more = EmojiLoader.Create(set, set.Select(EmojiSplit.Train), options with { Views = new() { Images = 2, Texts = 1 } });
        using ImageTextBatch one = plain.Next(default), many = more.Next(default);
        Assert.Equal(one.Texts, many.Texts);
        Assert.Equal(one.Images.data<float>().ToArray(), many.Images.data<float>().ToArray());
        Assert.Equal(2, many.MoreImages.Count);
        Assert.NotEqual(many.MoreImages[0].data<float>().ToArray(), many.MoreImages[1].data<float>().ToArray());
        for (var i = 0; i < many.Count; i++)
            Assert.Subset(many.Texts[i].Split(' ').ToHashSet(), many.MoreTexts.Single()[i].Split(' ').ToHashSet());
    }

    [Theory]
    [InlineData(EmojiLabel.Concept)]
    [InlineData(EmojiLabel.Subgroup)]
    [InlineData(EmojiLabel.Group)]
    public void Images_are_annotated_by_labels_or_captions_in_the_same_way_every_epoch(EmojiLabel level)
    {
        var set = EmojiSet.Open().Subset(60);
        var annotations = new EmojiAnnotations { Label = level, LabeledShare = 0.5, Noise = 0.4 };
        var names = annotations.Names(set);
        using var loader = EmojiLoader.Create(set, set.Select(EmojiSplit.Train), new() { BatchSize = 50, DistinctConcepts = false, Augmentation = Augmentation.None(8), Annotations = annotations, Captions = new() { Templates = ["{}"], TagProbability = 0 } });
        var seen = new Dictionary<int, (int Label, string Text)>();
        var (labeled, wrong) = (0, 0);
        for (var i = 0; i < 30; i++)
        {
            using var batch = loader.Next(default);
            for (var j = 0; j < batch.Count; j++)
            {
                var found = (batch.Labels[j], batch.Texts[j]);
                if (seen.TryGetValue(batch.Samples[j], out var before))
                {
                    Assert.Equal(before, found);
                    continue;
                }
                seen.Add(batch.Samples[j], found);
                var concept = set.Concepts[set.Images[batch.Samples[j]].Concept];
                if (found.Item1 < 0) Assert.Equal(concept.Name, found.Item2);
                else
                {
                    labeled++;
                    Assert.Equal(names[found.Item1], found.Item2);
                    if (found.Item2 != (level == EmojiLabel.Concept ? concept.Name : level == EmojiLabel.Subgroup ? concept.Subgroup : concept.Group)) wrong++;
                }
            }
        }
        Assert.True(seen.Count > 200);
        Assert.InRange((double)labeled / seen.Count, 0.4, 0.6);
        Assert.InRange((double)wrong / labeled, 0.25, 0.55);
        foreach (var kind in Enum.GetValues<AnnotationKind>())
        {
            using var one = EmojiLoader.Create(set, set.Select(EmojiSplit.Train), new() { BatchSize = 40, DistinctConcepts = false, Augmentation = Augmentation.None(8), Annotations = annotations with { Only = kind } });
            using var batch = one.Next(default);
            for (var j = 0; j < batch.Count; j++)
            {
                Assert.Equal(kind == AnnotationKind.Labeled, batch.Labels[j] >= 0);
                if (seen.TryGetValue(batch.Samples[j], out var mixed)) Assert.Equal(mixed.Label, batch.Labels[j]);
            }
        }
        Assert.Contains("labeled_share", Assert.Throws<PanoptesException>(() => EmojiLoader.Create(set, set.Select(EmojiSplit.Train), new() { Annotations = new() { Only = AnnotationKind.Captioned } })).Message, StringComparison.Ordinal);
    }
}
