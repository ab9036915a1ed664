using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Parity;

namespace Panoptes.Understanding.Tests;

public sealed class SamTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-sam-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    static Sam Tiny(bool sam2 = false, long seed = 7)
    {
        Module model = sam2 ? new Sam2Model(ModelConfig.Parse<Sam2Config>(SamTiny.Sam2, "tiny")) : new SamModel(ModelConfig.Parse<SamConfig>(SamTiny.Sam, "tiny"));
        model.Initialize(new Generator((ulong)seed));
        return new(model);
    }

    static Image Picture(int width, int height)
    {
        var pixels = new byte[width * height * 3];
        for (var i = 0; i < pixels.Length; i++) pixels[i] = (byte)(i * 37 + i / 7 * 11);
        return new(width, height, 3, pixels);
    }

    static RunLengthMask Rectangle(int width, int height, int left, int top, int w, int h)
    {
        var pixels = new byte[width * height];
        for (var y = top; y < top + h; y++) pixels.AsSpan(y * width + left, w).Fill(1);
        return RunLengthMask.Encode(pixels, height, width);
    }

    static byte[] Pixels(RunLengthMask mask)
    {
        var pixels = new byte[mask.Width * mask.Height];
        mask.Decode(pixels);
        return pixels;
    }

    [Theory, InlineData(false), InlineData(true)]
    public void A_click_gives_the_masks_of_the_peers_chain_of_steps_the_best_first(bool sam2)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var sam = Tiny(sam2);
        using var image = sam.Encode(Picture(50, 30));
        var masks = sam.Segment(image, Prompt.Point(20, 11), Prompt.Point(45, 4, positive: false));
        Assert.Equal(3, masks.Count);
        Assert.Equal(masks.OrderByDescending(static m => m.Score).Select(static m => m.Score), masks.Select(static m => m.Score));

        // SAM keeps the proportion (20 x 12 of 20 x 20 pixels), SAM 2 squashes to 32 x 32.
        var (size, w, h) = sam2 ? (32, 32, 32) : (20, 20, 12);
        var points = tensor(new[] { 20f * w / 50, 11f * h / 30, 45f * w / 50, 4f * h / 30 }, [1, 1, 2, 2]);
        var decoded = ((ISegmentAnything)sam.Model).Decode(image.Features, new(points, tensor(new long[] { 1, 0 }, [1, 1, 2])));
        var expected = sam2
            ? nn.functional.interpolate(decoded.Logits[0], [30, 50], mode: InterpolationMode.Bilinear, align_corners: false)
            : SamAutomaticMasks.Upscale(decoded.Logits[0], size, (h, w), (30, 50));
        var order = decoded.IouScores.flatten().argsort(descending: true).data<long>().ToArray();
        for (var i = 0; i < 3; i++)
        {
            var theirs = expected[0, order[i]].gt(0).to(ScalarType.Byte).contiguous().data<byte>().ToArray();
            // Where a logit is 0 but for rounding, either side is right.
            Assert.InRange(theirs.Zip(Pixels(masks[i].Mask)).Count(static p => p.First != p.Second), 0, 2);
        }
    }

    [Fact]
    public void A_mask_whose_first_channels_nearly_agree_is_embedded_as_exactly_as_any_other()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var embedding = new SamMaskEmbedding(16, 24, Activation.Gelu, 1e-6);
        embedding.Initialize(new Generator(5));
        // Four channels that differ by a thousandth: their norm divides by a thousandth, too.
        var common = randn([1, 1, 2, 2], generator: new Generator(6));
        embedding.Conv1.Weight.Assign((common + (randn([4, 1, 2, 2], generator: new Generator(7)) * 1e-3)).DetachFromDisposeScope());
        var masks = randn([2, 1, 32, 32], generator: new Generator(8)) * 5;
        var ours = embedding.Forward(masks);
        Assert.Equal(ScalarType.Float32, ours.dtype);
        embedding.To(ScalarType.Float64);
        var exact = embedding.Forward(masks.to(ScalarType.Float64));
        Assert.InRange((ours - exact).abs().max().ToDouble(), 0, 1e-5);
    }

    [Theory, InlineData(false), InlineData(true)]
    public void Groups_of_prompts_are_answered_as_each_would_be_alone(bool sam2)
    {
        using var sam = Tiny(sam2);
        using var image = sam.Encode(Picture(41, 60));
        var stroke = Rectangle(41, 60, 5, 10, 20, 2);
        IReadOnlyList<IReadOnlyList<Prompt>> groups =
        [
            [Prompt.Point(3, 4)],
            [Prompt.Box(2, 3, 30, 40)],
            [Prompt.Point(10, 10), Prompt.Point(20, 30, positive: false)],
            [Prompt.Point(40, 59)],
            [Prompt.Scribble(stroke), Prompt.Box(0, 0, 41, 60)],
            [Prompt.Mask(Rectangle(41, 60, 8, 8, 12, 30))],
            [Prompt.Mask(Rectangle(41, 60, 20, 8, 12, 30)), Prompt.Point(22, 12)],
        ];
        var together = sam.Segment(image, groups, MaskChoice.All);
        Assert.Equal(groups.Count, together.Count);
        for (var i = 0; i < groups.Count; i++)
        {
            var alone = sam.Segment(image, groups[i]);
            Assert.Equal(alone.Select(static m => m.Score), together[i].Select(static m => m.Score), (a, b) => Math.Abs(a - b) < 1e-4);
            Assert.Equal(alone.Select(static m => m.Mask.Area), together[i].Select(static m => m.Mask.Area));
        }
        Assert.All(sam.Segment(image, groups), static g => Assert.Single(g));
        Assert.All(sam.Segment(image, groups, MaskChoice.Single), static g => Assert.Single(g));
        Assert.All(sam.Segment(image, groups).Zip(together), static p => Assert.Equal(p.Second[0].Score, p.First[0].Score, 1e-4f));
    }

    [Fact]
    public void A_mask_prompt_changes_the_answer_and_so_does_its_place()
    {
        using var sam = Tiny();
        using var image = sam.Encode(Picture(40, 40));
        float[] Scores(params Prompt[] prompts) => [.. sam.Segment(image, prompts).Select(static m => m.Score)];
        var (none, left, right) = (Scores(Prompt.Point(9, 9)), Scores(Prompt.Point(9, 9), Prompt.Mask(Rectangle(40, 40, 0, 0, 20, 40))), Scores(Prompt.Point(9, 9), Prompt.Mask(Rectangle(40, 40, 20, 0, 20, 40))));
        Assert.NotEqual(none, left);
        Assert.NotEqual(left, right);
    }

    [Theory, InlineData(false), InlineData(true)]
    public void A_saved_image_is_prompted_again_with_the_same_answer(bool sam2)
    {
        using var sam = Tiny(sam2);
        var path = Path.Combine(folder, "image.safetensors");
        using var image = sam.Encode(Picture(33, 20));
        image.Save(path);
        using var again = SamImage.Load(path);
        Assert.Equal((33, 20, sam.Fingerprint), (again.Width, again.Height, again.Fingerprint));
        Assert.Equal(sam.Segment(image, Prompt.Point(5, 5)).Select(static m => (m.Score, m.Mask.Counts)), sam.Segment(again, Prompt.Point(5, 5)).Select(static m => (m.Score, m.Mask.Counts)));

        using var other = Tiny(sam2, seed: 8);
        Assert.Contains("another model", Assert.Throws<PanoptesException>(() => other.Segment(again, Prompt.Point(5, 5))).Message, StringComparison.Ordinal);
        File.Copy(Path.Combine(Goldens.Root, "segmentation", "sam-none", "inputs.safetensors"), path, overwrite: true);
        Assert.Contains("no saved image of a SAM", Assert.Throws<PanoptesException>(() => SamImage.Load(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_encoder_in_bfloat16_is_the_same_model_with_nearly_the_same_image()
    {
        using var scope = NewDisposeScope();
        using var sam = Tiny();
        PromptableModels.Save(folder, sam.Model);
        using var half = Sam.Load(folder, new() { Dtype = ScalarType.BFloat16 });
        Assert.Equal(sam.Fingerprint, half.Fingerprint);
        using var a = sam.Encode(Picture(20, 20));
        using var b = half.Encode(Picture(20, 20));
        Assert.InRange((a.Features.Embeddings - b.Features.Embeddings).abs().max().item<float>(), 1e-6f, 0.1f);
        Assert.Equal(3, half.Segment(a, Prompt.Point(3, 3)).Count);
    }

    [Theory, InlineData(false), InlineData(true)]
    public void Prompts_answered_in_bfloat16_score_nearly_the_same(bool sam2)
    {
        using var sam = Tiny(sam2);
        PromptableModels.Save(folder, sam.Model);
        using var half = Sam.Load(folder, new() { Dtype = ScalarType.BFloat16, PromptDtype = ScalarType.BFloat16 });
        using var image = sam.Encode(Picture(20, 20));
        Prompt[] prompts = [Prompt.Point(3, 3), Prompt.Mask(Rectangle(20, 20, 2, 2, 8, 8)), Prompt.Box(1, 1, 15, 15)];
        float[] Scores(Sam of) => [.. of.Segment(image, prompts).Select(static m => m.Score)];
        Assert.All(Scores(sam).Zip(Scores(half)), static p => Assert.Equal(p.First, p.Second, 0.03f));
        using var own = half.Encode(Picture(20, 20));
        Assert.NotEmpty(half.Everything(Picture(20, 20), new() { PointsPerSide = 2, PredictedIou = 0, Stability = 0 }));
    }

    public static TheoryData<string, Func<SamImage, Prompt[]>> Impossible => new()
    {
        { "outside the image", static _ => [Prompt.Point(51, 3)] },
        { "outside the image", static _ => [Prompt.Box(0, 0, 50, 31)] },
        { "is empty", static _ => [Prompt.Box(9, 3, 9, 8)] },
        { "expected the image's 50 x 30", static _ => [Prompt.Mask(Rectangle(30, 50, 1, 1, 3, 3))] },
        { "expected at least one pixel", static _ => [Prompt.Scribble(Rectangle(50, 30, 1, 1, 0, 0))] },
        { "does not read", static _ => [Prompt.Text("the red apple")] },
        { "one image at a time", static _ => [Prompt.Like(Picture(4, 4), Rectangle(4, 4, 0, 0, 1, 1))] },
        { "There is no prompt", static _ => [] },
        { "two boxes", static _ => [Prompt.Box(0, 0, 3, 3), Prompt.Box(1, 1, 4, 4)] },
    };

    [Theory, MemberData(nameof(Impossible))]
    public void A_prompt_that_cannot_be_answered_is_refused_with_one_sentence(string because, Func<SamImage, Prompt[]> prompts)
    {
        using var sam = Tiny();
        using var image = sam.Encode(Picture(50, 30));
        Assert.Contains(because, Assert.Throws<PanoptesException>(() => sam.Segment(image, prompts(image))).Message, StringComparison.Ordinal);
    }

    [Theory, InlineData(1, 1), InlineData(1, 3000), InlineData(5000, 2)]
    public void Images_of_any_shape_are_segmented(int width, int height)
    {
        foreach (var sam2 in new[] { false, true })
        {
            using var sam = Tiny(sam2);
            var masks = sam.Segment(Picture(width, height), Prompt.Point(width / 2, height / 2));
            Assert.All(masks, m => Assert.Equal((width, height), (m.Mask.Width, m.Mask.Height)));
            Assert.All(sam.Everything(Picture(width, height), new() { PointsPerSide = 2, PredictedIou = 0, Stability = 0, CropLayers = 1 }), m => Assert.Equal((width, height), (m.Mask.Width, m.Mask.Height)));
        }
    }

    [Fact]
    public void A_hundred_megapixels_are_segmented()
    {
        using var sam = Tiny();
        var masks = sam.Segment(new Image(10_000, 10_000, 1), Prompt.Box(1000, 2000, 9000, 8000));
        Assert.All(masks, static m => Assert.Equal((10_000, 10_000), (m.Mask.Width, m.Mask.Height)));
    }

    [Fact]
    public void An_open_image_answers_as_the_image_itself()
    {
        using var sam = Tiny();
        IPromptable any = sam;
        var photo = Picture(30, 22);
        using var open = any.Open(photo);
        Assert.Equal(any.Segment(photo, [Prompt.Point(4, 4)]).Select(static m => m.Mask.Counts), open.Segment([Prompt.Point(4, 4)]).Select(static m => m.Mask.Counts));
        Assert.False(any.Takes.HasFlag(PromptKinds.Texts));
        Assert.True(any.Takes.HasFlag(PromptKinds.Everything));
    }

    [Fact]
    public void A_scribble_becomes_pixels_of_its_own_spread_over_it_and_always_the_same()
    {
        var stroke = RunLengthMask.Merge([Rectangle(60, 40, 2, 3, 50, 2), Rectangle(60, 40, 10, 30, 4, 4)]);
        var points = Sam.Sample(stroke, 8).ToArray();
        Assert.Equal(8, points.Distinct().Count());
        var pixels = Pixels(stroke);
        Assert.All(points, p => Assert.Equal(1, pixels[p.Y * 60 + p.X]));
        Assert.Equal(points, Sam.Sample(stroke, 8));
        Assert.True(points.Max(static p => p.X) - points.Min(static p => p.X) > 35);
        Assert.Equal([(7, 9)], Sam.Sample(Rectangle(60, 40, 7, 9, 1, 1), 8));
        Assert.Equal(3, Sam.Sample(Rectangle(60, 40, 0, 0, 3, 1), 8).Count());
    }

    [Theory, InlineData(5, 9, 5, 9), InlineData(5, 9, 23, 31), InlineData(40, 33, 7, 11), InlineData(16, 16, 16, 50)]
    public void Tracing_a_mask_gives_what_stretching_it_as_a_tensor_does(int rows, int columns, int height, int width)
    {
        using var scope = NewDisposeScope();
        var logits = randn([1, 1, rows, columns], generator: new Generator(3));
        var large = (rows, columns) == (height, width) ? logits : nn.functional.interpolate(logits, [height, width], mode: InterpolationMode.Bilinear, align_corners: false);
        var traced = MaskTracing.Trace(logits[0, 0].t().contiguous().data<float>().ToArray(), rows, rows, columns, MaskPlace.Whole(width, height), 0, 0.5f);
        Assert.Equal(large.gt(0).to(ScalarType.Byte).contiguous().data<byte>().ToArray(), Pixels(traced.Mask));
        Assert.Equal(((int)large.gt(0.5).sum().item<long>(), (int)large.gt(-0.5).sum().item<long>()), (traced.Certain, traced.Possible));
    }

    [Fact]
    public void Everything_finds_what_clicking_at_each_point_of_a_grid_finds_without_duplicates()
    {
        using var sam = Tiny();
        var photo = Picture(48, 36);
        var options = new SamEverythingOptions { PointsPerSide = 4, PointsPerBatch = 3, PredictedIou = 0, Stability = 0.3, StabilityOffset = 1e-4, BoxNms = 0.8 };
        var told = new List<double>();
        var found = sam.Everything(photo, options, new Listener(told.Add));
        Assert.NotEmpty(found);
        Assert.Equal(1, told[^1], 1e-9);
        Assert.Equal(told.Order(), told);

        using var image = sam.Encode(photo);
        var all = SamAutomaticMasks.PointGrid(4).SelectMany(p => sam.Segment(image, Prompt.Point(p.X * 48, p.Y * 36))).ToArray();
        Assert.All(found, f => Assert.Contains(all, a => a.Mask.Counts == f.Mask.Counts && Math.Abs(a.Score - f.Score) < 1e-5));
        for (var i = 0; i < found.Count; i++)
            for (var k = 0; k < i; k++) Assert.True(SamAutomaticMasks.BoxOf(found[i].Mask).Iou(SamAutomaticMasks.BoxOf(found[k].Mask)) <= 0.8f);
        Assert.Equal(found.OrderByDescending(static f => f.Score).Select(static f => f.Score), found.Select(static f => f.Score));
        Assert.True(sam.Everything(photo, options with { CropLayers = 1, CropPointsDownscale = 2 }).Count > 0);
        Assert.Empty(sam.Everything(photo, options with { PredictedIou = 1 }));
    }

    [Fact]
    public void Everything_is_searched_as_the_models_own_files_say()
    {
        var folder = Directory.CreateTempSubdirectory("panoptes-sam-").FullName;
        try
        {
            var photo = Picture(48, 36);
            using (var tiny = Tiny()) PromptableModels.Save(folder, tiny.Model);
            using (var usual = Sam.Load(folder)) Assert.Equal(new(), usual.Searching);
            File.WriteAllText(Path.Combine(folder, "generation_config.json"), """{"points_per_crop": 4, "pred_iou_thresh": 0, "stability_score_thresh": 0.3, "stability_score_offset": 1e-4, "crops_nms_thresh": 0.8}""");
            using (var sam = Sam.Load(folder))
            {
                var options = new SamEverythingOptions { PointsPerSide = 4, PredictedIou = 0, Stability = 0.3, StabilityOffset = 1e-4, BoxNms = 0.8 };
                Assert.Equal(options, sam.Searching);
                var found = sam.Everything(photo).Select(static s => (s.Mask.Counts, s.Score)).ToArray();
                Assert.NotEmpty(found);
                Assert.Equal(sam.Everything(photo, options).Select(static s => (s.Mask.Counts, s.Score)), found);
            }
            File.WriteAllText(Path.Combine(folder, "generation_config.json"), """{"pred_iou_thresh": 88}""");
            Assert.Contains("the predicted IoU is 88; expected 0 to 1", Assert.Throws<PanoptesException>(() => Sam.Load(folder)).Message, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void Everything_comes_without_small_holes_and_islands_and_without_what_becomes_alike_by_that()
    {
        using var sam = Tiny();
        var photo = Picture(48, 36);
        var options = new SamEverythingOptions { PointsPerSide = 4, PredictedIou = 0, Stability = 0, BoxNms = 0.9 };
        var plain = sam.Everything(photo, options);
        var clean = sam.Everything(photo, options with { MinRegionArea = 30 });
        Assert.Contains(plain, static s => !ReferenceEquals(s.Mask, MaskRegions.RemoveIslands(s.Mask, 30)) || !ReferenceEquals(s.Mask, MaskRegions.FillHoles(s.Mask, 30)));
        Assert.All(clean, static s => Assert.Same(s.Mask, MaskRegions.FillHoles(s.Mask, 30)));
        Assert.InRange(clean.Count, 1, plain.Count);
        for (var i = 0; i < clean.Count; i++)
            for (var k = 0; k < i; k++) Assert.True(SamAutomaticMasks.BoxOf(clean[i].Mask).Iou(SamAutomaticMasks.BoxOf(clean[k].Mask)) <= 0.9f);
        Assert.Equal(plain.Select(static s => s.Mask.Counts), sam.Everything(photo, options with { MinRegionArea = 0 }).Select(static s => s.Mask.Counts));
        Assert.Contains("0 or more pixels", Assert.Throws<PanoptesException>(() => sam.Everything(photo, options with { MinRegionArea = -1 })).Message, StringComparison.Ordinal);
    }

    sealed class Listener(Action<double> told) : IProgress<double>
    {
        public void Report(double value) => told(value);
    }

    [Fact]
    public void A_search_for_everything_can_be_stopped_and_refuses_options_that_cannot_be()
    {
        using var sam = Tiny();
        using var cancel = new CancellationTokenSource();
        var points = 0;
        Assert.Throws<OperationCanceledException>(() => sam.Everything(Picture(20, 20), new() { PointsPerBatch = 1 }, new Listener(_ => { if (++points == 3) cancel.Cancel(); }), cancel.Token));
        Assert.Equal(3, points);
        Assert.Contains("expected 1 to 1024", Assert.Throws<PanoptesException>(() => sam.Everything(Picture(20, 20), new() { PointsPerSide = 0 })).Message, StringComparison.Ordinal);
        Assert.Contains("expected 0 to 1", Assert.Throws<PanoptesException>(() => sam.Everything(Picture(20, 20), new() { Stability = double.NaN })).Message, StringComparison.Ordinal);
    }

    [Theory, InlineData(false), InlineData(true)]
    public void No_public_call_leaves_a_tensor_behind(bool sam2)
    {
        var path = Path.Combine(folder, "leak.safetensors");
        using (var sam = Tiny(sam2)) PromptableModels.Save(folder, sam.Model);
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        void Once()
        {
            using var sam = Sam.Load(folder);
            var photo = Picture(30, 22);
            using var image = sam.Encode(photo);
            image.Save(path);
            using var again = SamImage.Load(path);
            sam.Segment(again, Prompt.Point(4, 4), Prompt.Box(1, 1, 20, 20), Prompt.Mask(Rectangle(30, 22, 3, 3, 9, 9)));
            sam.Segment(image, [[Prompt.Point(4, 4)], [Prompt.Scribble(Rectangle(30, 22, 3, 3, 9, 9))]], MaskChoice.Single);
            sam.Segment(photo, Prompt.Point(1, 1));
            using (var open = ((IPromptable)sam).Open(photo)) open.Segment([Prompt.Point(1, 1)]);
            Assert.Throws<PanoptesException>(() => sam.Segment(image, Prompt.Point(400, 1)));
            sam.Everything(photo, new() { PointsPerSide = 2, PredictedIou = 0, Stability = 0, CropLayers = 1 });
            Assert.Throws<PanoptesException>(() => Sam.Load(Path.Combine(Goldens.Root, "segmentation", "rle")));
        }
    }

    [Fact]
    public void A_model_goes_to_the_authors_own_names_and_back_with_every_number()
    {
        using var noGrad = no_grad();
        // As many heads as the authors' models have, which no shape tells.
        var config = ModelConfig.Parse<SamConfig>(SamTiny.Sam.Replace("\"num_attention_heads\": 2, \"iou", "\"num_attention_heads\": 8, \"iou", StringComparison.Ordinal), "tiny");
        using var model = new SamModel(config);
        model.Initialize(new Generator(5));
        var path = Path.Combine(folder, "sam_vit_tiny.safetensors");
        SamOriginal.Save(path, model);
        using var loaded = PromptableModels.Load<SamModel>(path);
        Assert.Equal(1e-5, loaded.Config.MaskDecoderConfig.LayerNormEps);
        Assert.Equal(config.VisionConfig.GlobalAttnIndexes, loaded.Config.VisionConfig.GlobalAttnIndexes);
        Assert.Equal((3, 2, 20), (loaded.Config.VisionConfig.WindowSize, loaded.Config.VisionConfig.NumAttentionHeads, loaded.Config.VisionConfig.ImageSize));
        Assert.All(model.NamedParameters().Zip(loaded.NamedParameters()), static p =>
        {
            Assert.Equal(p.First.Key, p.Second.Key);
            Assert.Equal(p.First.Parameter.Value.data<float>().ToArray(), p.Second.Parameter.Value.data<float>().ToArray());
        });

        // Under Hugging Face's names the decoder keeps its eps.
        var other = Path.Combine(folder, "converted");
        PromptableModels.Save(other, loaded);
        using var converted = PromptableModels.Load<SamModel>(other);
        Assert.Equal(1e-5, converted.Config.MaskDecoderConfig.LayerNormEps);
        using var sam = Sam.Load(path);
        Assert.Equal(3, sam.Segment(Picture(30, 20), Prompt.Point(3, 3)).Count);
    }

    [Fact]
    public void A_file_that_is_half_a_SAM_is_refused_with_one_sentence()
    {
        using var scope = NewDisposeScope();
        var path = Path.Combine(folder, "half.safetensors");
        SafeTensors.Save(path, new Dictionary<string, Tensor>
        {
            ["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"] = zeros(2, 8),
            ["image_encoder.patch_embed.proj.weight"] = zeros(16, 3, 4, 4),
        });
        Assert.Contains("image_encoder.pos_embed is missing", Assert.Throws<PanoptesException>(() => Sam.Load(path)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("\"num_pos_feats\": 8", "\"num_pos_feats\": 7", "num_pos_feats is 7")]
    [InlineData("\"output_channels\": 16", "\"output_channels\": 24", "expected the same")]
    [InlineData("\"image_size\": 20, \"patch_size\": 4, \"mask", "\"image_size\": 24, \"patch_size\": 4, \"mask", "expected vision_config's")]
    public void Sizes_that_do_not_go_together_are_named(string from, string to, string because) =>
        Assert.Contains(because, Assert.Throws<PanoptesException>(() => new SamModel(ModelConfig.Parse<SamConfig>(SamTiny.Sam.Replace(from, to, StringComparison.Ordinal), "tiny"))).Message, StringComparison.Ordinal);
}
