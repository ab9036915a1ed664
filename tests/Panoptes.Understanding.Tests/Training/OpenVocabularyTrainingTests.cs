using Panoptes.Data;
using Panoptes.Representation;
using Panoptes.Representation.Training;
using Panoptes.Training;
using Panoptes.Understanding.Training;

namespace Panoptes.Understanding.Tests.Training;

/// <summary>Tiny models that learn what is where in any words: MaskCLIP's CLIP, MaskCLIP+, OpenSeg.</summary>
public sealed class OpenVocabularyTrainingTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-open-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    static SceneRecipe Tiny(string task, string model, int steps = 4) => SceneRecipe.Parse($$"""
        name: tiny
        seed: 3
        task: {{{task}}}
        {{TinyTraining.WithMerges(model)}}
        data: {concepts: 40, scenes: {size: 32, max_objects: 2}, count: 4, batch_size: 4, tests: 3}
        schedule: {learning_rate: 0.002, steps: {{steps}}}
        training: {precision: float32, log_every: 1, validate_every: 0}
        """, "tiny.yaml", SceneTasks.All);

    string Trained()
    {
        var run = Path.Combine(folder, "clip");
        TinyTraining.Train(Tiny("name: group_vit", TinyTraining.Clip), run);
        return Path.Combine(run, "last");
    }

    string Upon(string architecture, string config = "width: 8") => $"model: {{architecture: {architecture}, config: {{{config}}}, tower_from: {Trained()}}}";

    const string OpenSeg = "width: 8, num_queries: 3, decoder_layers: 1, decoder_heads: 2";

    [Fact]
    public void A_text_that_several_images_show_is_told_from_none_of_them()
    {
        using var scope = NewDisposeScope();
        // Two images along the axes, three texts; the first text is true of both.
        var images = tensor(new float[] { 1, 0, 0, 1 }, [2, 2]);
        var texts = tensor(new float[] { 0.6f, 0.8f, 1, 0, 0, 1 }, [3, 2]);
        var shown = tensor(new[] { true, true, false, true, false, true }, [2, 3]);
        var loss = MultiLabelLoss.Of(images, texts, shown, tensor(2f)).item<float>();
        double E(double x) => Math.Exp(2 * x);
        double[][] c = [[E(0.6), E(1), E(0)], [E(0.8), E(0), E(1)]];
        var fromImages = (Math.Log(c[0].Sum() / (c[0][0] + c[0][1])) + Math.Log(c[1].Sum() / (c[1][0] + c[1][2]))) / 2;
        var fromTexts = (0 + Math.Log((c[0][1] + c[1][1]) / c[0][1]) + Math.Log((c[0][2] + c[1][2]) / c[1][2])) / 3;
        Assert.Equal((fromImages + fromTexts) / 2, loss, 1e-5);
    }

    [Fact]
    public void A_clip_that_was_trained_on_scenes_is_measured_alike_in_training_and_as_users_load_it()
    {
        var recipe = Tiny("name: group_vit", TinyTraining.Clip);
        var result = TinyTraining.Train(recipe, Path.Combine(folder, "run"));
        using var segmenter = OpenVocabularySegmenter.Load(Path.Combine(folder, "run", "last"), new() { Templates = MultiLabelLoss.Templates, TruncateTexts = true });
        Assert.IsType<OpenClipModel>(segmenter.Model);
        var tests = recipe.Tests();
        var before = LiveTensors.Settle();
        var scores = OpenVocabularyEvaluation.Run(tests, segmenter);
        Assert.Equal(before, Tensor.TotalCount);
        Assert.Equal(result.Validation["miou"], scores.MeanIou, 1e-3);
        Assert.Equal(result.Validation["naming"], scores.NamingAccuracy, 1e-3);
    }

    [Fact]
    public void A_model_that_knows_every_pixel_has_a_mean_iou_of_one()
    {
        var tests = Tiny("name: group_vit", TinyTraining.Clip).Tests();
        var scores = OpenVocabularyEvaluation.Run(tests, batch =>
        {
            var said = zeros(batch.Count, tests.Names.Count, 32, 32);
            for (var i = 0; i < batch.Count; i++)
                for (var k = 0; k < batch.Scenes[i].Objects.Count; k++) said[i, tests.NameOf(batch.Scenes[i].Objects[k].Concept)].masked_fill_(batch.Ids[i].eq(k + 1), 1);
            return said;
        });
        Assert.Equal(1, scores.MeanIou, 1e-9);
        Assert.Equal(1, scores.NamingAccuracy, 1e-9);
        Assert.InRange(scores.ChanceIou, 0, 0.5);
    }

    [Theory]
    [InlineData("name: mask_clip_plus, teacher_share: 0.5, least: 0, denoise: 0", "DenseClipModel", "width: 8", "miou miou_chance naming teacher_miou teacher_naming")]
    [InlineData("name: mask_clip_plus, teacher_side: 64", "DenseClipModel", "width: 8", "miou teacher_miou")]
    [InlineData("name: open_seg", "OpenSegModel", OpenSeg, "miou miou_chance naming")]
    [InlineData("name: open_seg, masks: false", "OpenSegModel", OpenSeg, "miou")]
    [InlineData("name: mask_attention, points: 16", "MaskClipPanopticModel", OpenSeg + ", mask_interval: 1", "pq crop_pq accuracy crop_accuracy")]
    public void A_model_that_begins_with_a_clip_is_trained_resumed_to_the_same_bytes_and_measured(string task, string architecture, string config, string measures)
    {
        var model = Upon(architecture, config);
        var (result, unbroken, broken) = TinyTraining.TrainWithBreak(() => Tiny(task, model), folder);
        Assert.Equal(File.ReadAllBytes(Path.Combine(unbroken, "last", "model.safetensors")), File.ReadAllBytes(Path.Combine(broken, "last", "model.safetensors")));
        foreach (var name in measures.Split(' ')) Assert.InRange(result.Validation[name], 0, 1);
        if (result.Validation.TryGetValue("gain", out var gain)) Assert.Equal(result.Validation["miou"] - result.Validation["teacher_miou"], gain, 1e-9);
        using var segmenter = OpenVocabularySegmenter.Load(Path.Combine(broken, "last"), new() { Templates = MultiLabelLoss.Templates, TruncateTexts = true });
        if (result.Validation.TryGetValue("miou", out var miou)) Assert.Equal(miou, OpenVocabularyEvaluation.Run(Tiny(task, model).Tests(), segmenter).MeanIou, 1e-3);
    }

    [Theory]
    [InlineData("name: group_vit", null, null)]
    [InlineData("name: mask_clip_plus, least: 0, teacher_share: 1, denoise: 0, smooth: 0", "DenseClipModel", "width: 8")]
    [InlineData("name: open_seg", "OpenSegModel", OpenSeg)]
    [InlineData("name: mask_attention, points: 64", "MaskClipPanopticModel", OpenSeg + ", mask_interval: 1")]
    public void The_loss_of_the_same_scenes_falls(string task, string? architecture, string? config)
    {
        var losses = new List<double>();
        TinyTraining.Train(Tiny(task, architecture is null ? TinyTraining.Clip : Upon(architecture, config!), steps: 30), Path.Combine(folder, "run"), p => { if (p.What is null) losses.Add(p.Loss); });
        Assert.True(losses[^1] < losses[0] * 0.95, $"{losses[0]} to {losses[^1]}");
    }

    [Fact]
    public void The_text_tower_of_a_segmenter_stays_its_clips_while_the_image_tower_learns()
    {
        var model = Upon("DenseClipModel");
        TinyTraining.Train(Tiny("name: mask_clip_plus, least: 0", model), Path.Combine(folder, "run"));
        using var scope = NewDisposeScope();
        using var before = Models.Load<OpenClipModel>(Path.Combine(folder, "clip", "last"));
        using var after = PromptableModels.Load<DenseClipModel>(Path.Combine(folder, "run", "last"));
        foreach (var ((key, was), (_, now)) in before.NamedParameters().Zip(after.Clip.NamedParameters()))
            if (key.StartsWith("visual.", StringComparison.Ordinal)) continue;
            else Assert.True(was.Value.Equals(now.Value), key);
        Assert.False(before.Visual.Parameters().First().Value.Equals(after.Clip.Visual.Parameters().First().Value));
    }

    [Theory]
    [InlineData("name: mask_clip_plus", "model: {architecture: DenseClipModel, config: {width: 8}}", "tower_from")]
    [InlineData("name: mask_clip_plus, least: 2", "model: {architecture: DenseClipModel, config: {width: 8}}", "least")]
    [InlineData("name: mask_clip_plus, teacher_side: 8", "model: {architecture: DenseClipModel, config: {width: 8}}", "teacher_side")]
    [InlineData("name: mask_attention, points: 0", "model: {architecture: MaskClipPanopticModel, config: {width: 8}}", "points")]
    [InlineData("name: mask_attention, other: ''", "model: {architecture: MaskClipPanopticModel, config: {width: 8}}", "other")]
    [InlineData("name: open_seg, tau: 0", "model: {architecture: OpenSegModel, config: {width: 8}}", "tau")]
    [InlineData("name: open_seg", "model: {architecture: DenseClipModel, config: {width: 8}}", "OpenSegModel")]
    [InlineData("name: group_vit", "model: {architecture: SiglipModel, config: {}}", "GroupViTModel")]
    public void A_recipe_that_does_not_fit_is_refused_with_one_sentence(string task, string model, string named)
    {
        var message = Assert.Throws<PanoptesException>(() => Tiny(task, model).Start(Path.Combine(folder, "run")).Dispose()).Message;
        Assert.Contains(named, message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_clip_stays_as_it_is_where_relative_mask_attention_is_trained_in_it_and_both_ways_to_classify_are_timed()
    {
        var result = TinyTraining.Train(Tiny("name: mask_attention, points: 16", Upon("MaskClipPanopticModel", OpenSeg + ", mask_interval: 1")), Path.Combine(folder, "run"));
        Assert.True(result.Validation["images_per_second"] > 0 && result.Validation["crop_images_per_second"] > 0);
        Assert.Equal(result.Validation["images_per_second"] / result.Validation["crop_images_per_second"], result.Validation["times_as_fast"], 1e-6);
        Assert.Equal(result.Validation["accuracy"] - result.Validation["crop_accuracy"], result.Validation["accuracy_gain"], 1e-9);
        using var scope = NewDisposeScope();
        using var before = Models.Load<OpenClipModel>(Path.Combine(folder, "clip", "last"));
        using var after = PromptableModels.Load<MaskClipPanopticModel>(Path.Combine(folder, "run", "last"));
        foreach (var ((key, was), (_, now)) in before.NamedParameters().Zip(after.Clip.NamedParameters())) Assert.True(was.Value.Equals(now.Value), key);
        Assert.False(after.Attentions[0].Refinement.Weight.Value.eq(0).all().item<bool>());
    }

    [Fact]
    public void A_model_is_not_begun_with_another_one_and_with_towers_at_once()
    {
        var model = Upon("OpenSegModel", OpenSeg).Replace("tower_from", "from: elsewhere, tower_from", StringComparison.Ordinal);
        Assert.Contains("not both", Assert.Throws<PanoptesException>(() => Tiny("name: open_seg", model).Start(Path.Combine(folder, "run")).Dispose()).Message, StringComparison.Ordinal);
    }
}
