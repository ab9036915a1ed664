using Panoptes.Representation.Training;
using Panoptes.Training;
using Panoptes.Understanding.Training;

namespace Panoptes.Understanding.Tests.Training;

/// <summary>Tiny models that are trained on scenes.</summary>
public sealed class SceneRecipeTests : IDisposable
{
    const string Sam = """
        model:
          architecture: SamModel
          config:
            vision_config: {hidden_size: 16, output_channels: 16, num_hidden_layers: 2, num_attention_heads: 2, image_size: 32, patch_size: 8, window_size: 3, global_attn_indexes: [1], num_pos_feats: 8}
            prompt_encoder_config: {hidden_size: 16, image_size: 32, patch_size: 8, mask_input_channels: 4}
            mask_decoder_config: {hidden_size: 16, mlp_dim: 24, num_attention_heads: 2, iou_head_hidden_dim: 16}
        """;

    const string GroupVit = """
        model:
          architecture: GroupViTModel
          config:
            projection_dim: 12
            projection_intermediate_dim: 16
            text_config: {vocab_size: 614, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 40, bos_token_id: 612, eos_token_id: 613}
            vision_config: {hidden_size: 16, intermediate_size: 24, depths: [1, 1], num_hidden_layers: 2, num_group_tokens: [4, 0], num_output_groups: [4, 4], num_attention_heads: 2, image_size: 32, patch_size: 8}
          tokenizer: {merges: MERGES, count: 100}
        """;

    const string Texts = """
            text_config: {vocab_size: 614, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 24, eos_token_id: 2}
            backbone_config: {model_type: vit, image_size: 32, patch_size: 8, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2}
            image_size: 32
            caption_start_token_id: 612
            caption_end_token_id: 613
          tokenizer: {merges: MERGES, count: 100}
        """;

    const string Decoder = """

            decoder_config: {hidden_size: 16, num_attention_heads: 2, decoder_layers: 3, feedforward_size: 24, mask_size: 12, projection_size: 16, num_queries: 5, context_length: 24, num_feature_levels: 3}

        """;

    const string XDecoder = "model:\n  architecture: XDecoderModel\n  config:" + Decoder + Texts;

    const string Seem = "model:\n  architecture: SeemModel\n  config:\n    num_memories: 3\n    max_points: 20" + Decoder + Texts;

    const string Uni = "model:\n  architecture: UniPerceiverModel\n  config: \n    hidden_size: 16\n    num_attention_heads: 2\n    feedforward_size: 24\n    proposal_layers: 2\n    num_proposals: 6\n    num_selected: 4\n    decoder_layers: 2\n    projection_size: 16\n    mask_side: 4\n    global_side: 2\n" + Texts;

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-scenes-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    static SceneRecipe Tiny(string task, string model, string rest = "") => SceneRecipe.Parse($$"""
        name: tiny
        seed: 3
        task: {{{task}}}
        {{TinyTraining.WithMerges(model)}}
        data: {concepts: 40, scenes: {size: 32, max_objects: 2}, batch_size: 3, tests: 3}
        schedule: {learning_rate: 0.002, steps: 6}
        training: {precision: float32, log_every: 1, validate_every: 0}
        {{rest}}
        """, "tiny.yaml", SceneTasks.All);

    [Theory]
    [InlineData("name: segment_anything, things: 2, corrections: 1, test_clicks: 2", Sam, "iou_1 iou_2 iou_box noc_85")]
    [InlineData("name: segment_anything, things: 2, corrections: 1, test_clicks: 1, tune: low_rank, rank: 2", Sam, "iou_1 iou_box noc_85")]
    [InlineData("name: group_vit", GroupVit, "miou miou_chance naming")]
    [InlineData("name: x_decoder, names: 10, points: 20", XDecoder, "pq sq rq miou cider cider_chance caption_f1 retrieval referring_ciou referring_50")]
    [InlineData("name: x_decoder, masks: false, expressions: 0", XDecoder, "cider retrieval")]
    [InlineData("name: seem, names: 10, points: 20, test_clicks: 2, corrections: 1", Seem, "iou_point iou_text iou_composed iou_clicks iou_clicks_without_memory noc_80 noc_80_without_memory pq")]
    [InlineData("name: uni_perceiver, names: 10, points: 20", Uni, "pq cider retrieval")]
    [InlineData("name: image_region_pixel, names: 10", TinyTraining.Clip, "retrieval region_naming miou pixel_naming mean")]
    [InlineData("name: image_region_pixel, image: 0, pixel: 0", TinyTraining.Clip, "mean")]
    public void A_model_is_trained_resumed_to_the_same_bytes_and_measured(string task, string model, string measures)
    {
        var (result, unbroken, broken) = TinyTraining.TrainWithBreak(() => Tiny(task, model), folder);
        Assert.Equal(Weights(unbroken), Weights(broken));
        foreach (var name in measures.Split(' ')) Assert.InRange(result.Validation[name], 0, 5);
        using var loaded = model == TinyTraining.Clip ? Representation.Models.Load(Path.Combine(broken, "last")) : PromptableModels.Load(Path.Combine(broken, "last"));
    }

    static byte[] Weights(string run) => File.ReadAllBytes(Assert.Single(Directory.GetFiles(Path.Combine(run, "last"), "*.safetensors")));

    [Fact]
    public void Only_the_decoder_changes_where_it_alone_is_tuned_and_a_low_rank_change_is_part_of_what_is_saved()
    {
        TinyTraining.Train(Tiny("name: segment_anything, things: 1, corrections: 0, test_clicks: 1", Sam), Path.Combine(folder, "first"));
        var from = $"model: {{from: {Path.Combine(folder, "first", "last")}}}";
        foreach (var (tune, changed) in (ReadOnlySpan<(string, string[])>)[("decoder", ["mask_decoder"]), ("low_rank, rank: 2", ["mask_decoder", "attn.qkv.weight"])])
        {
            var run = Path.Combine(folder, tune[..3]);
            TinyTraining.Train(Tiny($"name: segment_anything, things: 1, corrections: 0, test_clicks: 1, tune: {tune}", from), run);
            using var scope = NewDisposeScope();
            using var before = PromptableModels.Load<SamModel>(Path.Combine(folder, "first", "last"));
            using var after = PromptableModels.Load<SamModel>(Path.Combine(run, "last"));
            var differ = before.NamedParameters().Zip(after.NamedParameters()).Where(static p => !p.First.Parameter.Value.Equals(p.Second.Parameter.Value)).Select(static p => p.First.Key).ToArray();
            Assert.All(differ, key => Assert.Contains(changed, part => key.Contains(part, StringComparison.Ordinal)));
            foreach (var part in changed) Assert.Contains(differ, key => key.Contains(part, StringComparison.Ordinal));
        }
    }

    [Fact]
    public void Clicks_make_a_mask_that_is_answered_rightly_better()
    {
        // A user of a model that always says "everything here" needs as many clicks as there are.
        using var scope = NewDisposeScope();
        var labels = zeros(1, 16, 16, ScalarType.Bool);
        labels.narrow(1, 2, 8).narrow(2, 3, 9).fill_(true);
        var right = InteractiveEvaluation.Clicks(new Told(labels), new([zeros(1, 1, 1, 1)]), labels, 4);
        Assert.Equal([1.0], right[0]);
        var wrong = InteractiveEvaluation.Clicks(new Told(ones_like(labels)), new([zeros(1, 1, 1, 1)]), labels, 4);
        Assert.Equal(4, wrong[0].Count);
        Assert.Equal(72 / 256.0, wrong[0][^1], 1e-6);
        Assert.Equal(72 / 256.0, InteractiveEvaluation.Boxes(new Told(ones_like(labels)), new([zeros(1, 1, 1, 1)]), labels, tensor(new float[] { 3, 2, 12, 10 }, [1, 4]))[0], 1e-6);
    }

    /// <summary>Answers every prompt with the same mask.</summary>
    sealed class Told(Tensor mask) : ISegmentAnything
    {
        public int ImageSize => 16;

        public int MaskSize => 16;

        public SamFeatures EncodeImage(Tensor pixels) => new([pixels]);

        public SamMasks Decode(SamFeatures image, SamPrompts prompts, bool multimask = true) => new(mask.to(ScalarType.Float32).mul(2).sub(1).unsqueeze(1).unsqueeze(1), ones(1, 1, 1), null);
    }

    [Theory]
    [InlineData("name: segment_anything, things: 0", Sam, "things")]
    [InlineData("name: segment_anything, elephants: 2", Sam, "elephants")]
    [InlineData("name: paint", Sam, "paint")]
    [InlineData("name: group_vit", Sam, "GroupViTModel")]
    [InlineData("name: x_decoder, masks: false, captions: false, expressions: 0", XDecoder, "Neither")]
    [InlineData("name: seem, places: 0, words: 0, examples: 0", Seem, "places")]
    [InlineData("name: uni_perceiver, tasks: {answering: 1}", Uni, "Answering")]
    [InlineData("name: image_region_pixel, image: 0, region: 0, pixel: 0", TinyTraining.Clip, "not all 0")]
    [InlineData("name: image_region_pixel", GroupVit, "GroupVitModel")]
    [InlineData("name: x_decoder", "model: {tower_from: ../zoo, architecture: XDecoderModel}", "tower_from")]
    public void A_recipe_that_does_not_fit_is_refused_with_one_sentence(string task, string model, string named)
    {
        var message = Assert.Throws<PanoptesException>(() => Tiny(task, model).Start(Path.Combine(folder, "run")).Dispose()).Message;
        Assert.Contains(named, message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("name: segment_anything, things: 1, corrections: 1, test_clicks: 1", Sam)]
    [InlineData("name: group_vit", GroupVit)]
    [InlineData("name: x_decoder, names: 10, points: 20", XDecoder)]
    [InlineData("name: seem, names: 10, points: 20, examples: 1", Seem)]
    [InlineData("name: uni_perceiver, names: 10, points: 20", Uni)]
    [InlineData("name: image_region_pixel, names: 10", TinyTraining.Clip)]
    public void A_step_in_bfloat16_has_finite_losses(string task, string model)
    {
        var recipe = Tiny(task, model);
        using var ready = (recipe with { Schedule = recipe.Schedule with { Steps = 1 }, Training = recipe.Training with { Precision = "bfloat16" }, Data = recipe.Data with { Tests = 0 } }).Start(Path.Combine(folder, "half"));
        var losses = new List<double>();
        ready.Trainer.Run(new TinyTraining.Now(p => losses.Add(p.Loss)));
        Assert.NotEmpty(losses);
        Assert.All(losses, static l => Assert.True(double.IsFinite(l)));
    }

    [Fact]
    public void Pictures_are_augmented_in_the_scenes_size_and_lie_on_photographs_where_a_recipe_says_so()
    {
        const string task = "name: segment_anything, things: 1, corrections: 0, test_clicks: 1";
        var plain = Tiny(task, Sam);
        double[] losses =
        [
            First(plain.Data),
            First(plain.Data with { Augmentation = new() { Brightness = 0.4f, JitterProbability = 1 } }),
            First(plain.Data with { Photographs = true }),
        ];
        Assert.Equal(3, losses.Distinct().Count());
        Assert.Contains("move", Assert.Throws<PanoptesException>(() => First(plain.Data with { Augmentation = new() { Rotation = 10 } })).Message, StringComparison.Ordinal);

        double First(SceneData data)
        {
            using var ready = (plain with { Data = data with { Tests = 0 }, Schedule = plain.Schedule with { Steps = 1 } }).Start(Path.Combine(folder, Guid.NewGuid().ToString("N")));
            var loss = double.NaN;
            ready.Trainer.Run(new TinyTraining.Now(p => loss = p.Loss));
            return loss;
        }
    }

    [Fact]
    public void A_recipe_of_scenes_is_known_by_its_task_also_where_it_extends_another()
    {
        File.WriteAllText(Path.Combine(folder, "base.yaml"), "name: base\ntask: {name: segment_anything}\nschedule: {learning_rate: 1, steps: 1}\nmodel: {}\n");
        Assert.True(SceneRecipe.IsOne("extends: base.yaml\nname: other\n", Path.Combine(folder, "other.yaml")));
        Assert.False(SceneRecipe.IsOne("name: other\nmodel: {}\n", Path.Combine(folder, "other.yaml")));
    }
}
