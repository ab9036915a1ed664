using Panoptes.Data;
using Panoptes.Representation.Training;
using Panoptes.Text;
using Panoptes.Training;
using Panoptes.Understanding.Training;

namespace Panoptes.Understanding.Tests.Training;

/// <summary>Tiny models that answer with sequences, trained by recipes.</summary>
public sealed class SequencesTests : IDisposable
{
    const string Sizes = "vision_config: {model_type: convnext, image_size: 32, patch_size: 4, hidden_sizes: [8, 16], depths: [1, 1], num_stages: 2}, hidden_size: 16, num_attention_heads: 2, intermediate_size: 24, "
        + "encoder_layers: 1, decoder_layers: 1, max_image_tokens: 16, max_prompt_tokens: 110, max_sequence_tokens: 190, text_vocab_size: 614";

    const string Pix2Seq = "architecture: Pix2SeqV2, config: {coordinate_bins: 8, max_objects: 3, max_corners: 6, " + Sizes;
    const string UniTab = "architecture: UniTAB, config: {coordinate_bins: 8, " + Sizes;
    const string UnifiedIo = "architecture: UnifiedIO, config: {location_bins: 8, vq_config: {sample_size: 16, block_out_channels: [8, 8, 8], down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D, DownEncoderBlock2D], "
        + "up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D, UpDecoderBlock2D], norm_num_groups: 2, num_vq_embeddings: 8, latent_channels: 4}, " + Sizes;
    const string VisionLlm = "architecture: VisionLLM, config: {max_bins: 8, max_classes: 6, max_objects: 2, " + Sizes;

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-sequences-").FullName;
    readonly int threads = get_num_threads();

    public SequencesTests() => set_num_threads(1);

    public void Dispose()
    {
        set_num_threads(threads);
        Directory.Delete(folder, recursive: true);
    }

    static SceneRecipe Tiny(string task, string model, int steps = 4) => SceneRecipe.Parse($$"""
        name: tiny
        seed: 3
        task: {{{task}}}
        model: {{{(model.StartsWith("from", StringComparison.Ordinal) ? model : $"{model}}}, tokenizer: {{merges: {Path.Combine(Parity.Goldens.Repository, "data", "tokenizers", "clip", "merges.txt")}, count: 100}}")}}}
        data: {concepts: 12, count: 6, scenes: {size: 32, max_objects: 2}, batch_size: 6, tests: 3}
        schedule: {learning_rate: 0.01, steps: {{steps}}}
        training: {precision: float32, log_every: 1, validate_every: 0}
        """, "tiny.yaml", SceneTasks.All);

    [Theory]
    [InlineData("", Pix2Seq, "ap ap50 ap75 cider words mask_iou oks")]
    [InlineData(", tasks_per_image: 2", UniTab, "cider words grounded_f1 grounded_f1_shuffled grounding answers")]
    [InlineData(", tasks: {detection: 2, captioning: 1, grounding: 1, answering: 1}", UnifiedIo, "ap50 cider grounding answers")]
    [InlineData(", tasks: {detection: 1, grounding: 1, captioning: 1, answering: 1}, tasks_per_image: 2", VisionLlm, "ap50 ap50_format ap50_swapped ap50_bins grounding cider answers")]
    public void A_model_learns_its_tasks_is_measured_and_loads_with_its_tokenizer(string rest, string model, string measures)
    {
        var losses = new List<double>();
        Train(Tiny($"name: sequences{rest}", model, 1), "warm");
        var before = LiveTensors.Settle();
        var result = Train(Tiny($"name: sequences{rest}", model, 12), "run", p => losses.Add(p.Loss));
        Assert.Equal(before, LiveTensors.Settle());
        Assert.True(losses[^1] < losses[0] - 0.2, $"{losses[0]} to {losses[^1]}");
        foreach (var name in measures.Split(' ')) Assert.InRange(result.Validation[name], 0, 10);
        using var loaded = PromptableModels.Load(Path.Combine(folder, "run", "last"));
        Assert.IsAssignableFrom<ISequenceModel>(loaded);
        Assert.Equal(614, Tokenizer.Load(Path.Combine(folder, "run", "last")).VocabularySize);
        if (loaded is Pix2SeqModel pix2seq) Assert.Equal(Set(12).Select(static c => c), pix2seq.Config.Classes);
    }

    [Theory]
    [InlineData(Pix2Seq)]
    [InlineData(UniTab)]
    [InlineData(VisionLlm)]
    public void A_model_trains_in_bfloat16_as_well(string model)
    {
        var recipe = Tiny("name: sequences", model, 2);
        var result = Train(recipe with { Training = recipe.Training with { Precision = "bfloat16" } }, "run");
        Assert.All(result.Validation.Values, static v => Assert.True(double.IsFinite(v)));
        Assert.NotEmpty(result.Validation);
    }

    [Fact]
    public void Codes_are_learned_first_taken_over_and_compared_with_a_dense_head()
    {
        var losses = new List<double>();
        var codes = Train(Tiny("name: unified_io_codes", UnifiedIo, 12), "codes", p => losses.Add(p.Loss));
        Assert.True(losses[^1] < losses[0], $"{losses[0]} to {losses[^1]}");
        Assert.InRange(codes.Validation["segmentation_iou"], 0, 1);

        var told = Train(Tiny($"name: sequences, tasks: {{depth: 1, segmentation: 1}}, image_tokenizer: {Path.Combine(folder, "codes", "last")}", UnifiedIo), "io");
        Assert.InRange(told.Validation["depth_right"], 0, 1);
        Assert.InRange(told.Validation["segmentation_iou"], 0, 1);
        using (var before = PromptableModels.Load<UnifiedIoModel>(Path.Combine(folder, "codes", "last")))
        using (var after = PromptableModels.Load<UnifiedIoModel>(Path.Combine(folder, "io", "last")))
        {
            using var scope = NewDisposeScope();
            Assert.All(before.Vq.NamedParameters().Zip(after.Vq.NamedParameters()), static p => Assert.True(p.First.Parameter.Value.Equals(p.Second.Parameter.Value)));
        }
        Assert.InRange(Train(Tiny("name: sequences, tasks: {depth: 1}", $"from: {Path.Combine(folder, "codes", "last")}"), "from").Validation["depth_rmse"], 0, 1);

        losses.Clear();
        var dense = Train(Tiny("name: dense_head", UnifiedIo, 12), "dense", p => losses.Add(p.Loss));
        Assert.True(losses[^1] < losses[0], $"{losses[0]} to {losses[^1]}");
        Assert.InRange(dense.Validation["depth_right"], 0, 1);
        Assert.InRange(dense.Validation["segmentation_iou"], 0, 1);
    }

    [Theory]
    [InlineData("name: sequences, tasks: {sleeping: 1}", Pix2Seq, "sleeping")]
    [InlineData("name: sequences, tasks: {detection: 0}", Pix2Seq, "share")]
    [InlineData("name: sequences, tasks: {}", Pix2Seq, "tasks is empty")]
    [InlineData("name: sequences, tasks_per_image: 0", Pix2Seq, "tasks_per_image is 0")]
    [InlineData("name: sequences, image_tokenizer: somewhere", Pix2Seq, "image_tokenizer")]
    [InlineData("name: sequences", "architecture: SamModel, config: {", "SamModel")]
    [InlineData("name: unified_io_codes", Pix2Seq, "Pix2SeqModel")]
    [InlineData("name: unified_io_codes, commitment: -1", UnifiedIo, "commitment")]
    [InlineData("name: dense_head", UniTab, "UniTabModel")]
    public void A_recipe_that_does_not_fit_is_refused_with_one_sentence(string task, string model, string named)
    {
        var before = LiveTensors.Settle();
        Assert.Contains(named, Assert.Throws<PanoptesException>(() => Tiny(task, model).Start(Path.Combine(folder, "run")).Dispose()).Message, StringComparison.Ordinal);
        Assert.Equal(before, LiveTensors.Settle());
    }

    [Fact]
    public void Pictures_by_codes_that_nothing_was_learned_for_are_refused()
    {
        using var ready = Tiny("name: sequences, tasks: {depth: 1}", UnifiedIo).Start(Path.Combine(folder, "run"));
        Assert.Contains("image tokenizer is untrained", Assert.Throws<PanoptesException>(() => ready.Trainer.Run()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Maps_that_are_right_have_the_best_measures_and_boxes_that_change_places_none()
    {
        using var scope = NewDisposeScope();
        var tests = new SceneTests(EmojiSet.Open().Subset(12), new() { Size = 32, MaxObjects = 2 }, 3);
        using var model = (Nn.Module)Tiny("name: sequences, tasks: {captioning: 1}", UnifiedIo).Start(Path.Combine(folder, "run")).Model;
        var measures = new SequenceMeasures(model, Tokenizer.Load(Path.Combine(folder, "run", "tokenizer")), tests);
        var map = rand([2, 16, 16], generator: new Generator(1));
        measures.Depth(map, map);
        measures.Masks(map.gt(0.5), map.gt(0.5));
        Assert.Equal(new Dictionary<string, double> { ["depth_rmse"] = 0, ["depth_right"] = 1, ["segmentation_iou"] = 1 }, measures.Result());
        measures.Depth((map * 0 + 0.5).narrow(0, 0, 1), (map * 0 + 0.7).narrow(0, 0, 1));          // a factor of 1.4
        measures.Masks(zeros(1, 16, 16, ScalarType.Bool), map.gt(0.5).narrow(0, 0, 1));
        Assert.Equal(2 / 3.0, measures.Result()["depth_right"], 1e-6);
        Assert.Equal(Math.Sqrt(0.04 / 3), measures.Result()["depth_rmse"], 1e-6);
        Assert.Equal(2 / 3.0, measures.Result()["segmentation_iou"], 1e-6);

        (string, ImageBox)[] meant = [("cat", new(0, 0, 10, 10)), ("dog", new(20, 20, 30, 30)), ("cat", new(0, 20, 10, 30))];
        Assert.Equal(3, SequenceMeasures.Hits(meant, meant));
        Assert.Equal(0, SequenceMeasures.Hits([("cat", new(20, 20, 30, 30)), ("dog", new(0, 0, 10, 10))], meant));
        Assert.Equal(1, SequenceMeasures.Hits([("cat", new(0, 0, 10, 9)), ("cat", new(0, 0, 10, 10)), ("dog", new(20, 20, 30, 24))], meant));      // twice the same; an IoU of 0.4
    }

    [Fact]
    public void Several_tasks_of_an_image_cost_what_they_cost_apart_and_many_prompts_are_answered_as_each_alone()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        foreach (var architecture in (string[])[Pix2Seq, UniTab])
        {
            using var ready = Tiny("name: sequences, tasks: {captioning: 1}", architecture).Start(Path.Combine(folder, architecture[..22]));
            var (model, text) = ((ISequenceModel)ready.Model, Tokenizer.Load(Path.Combine(folder, architecture[..22], "tokenizer")));
            var set = EmojiSet.Open().Subset(12);
            var scenes = new SceneGenerator(set, SceneGenerator.Things(set), new() { Size = 32, MaxObjects = 2 }, 5);
            using var batch = SceneBatch.Of([scenes.Generate(0), scenes.Generate(1)]);
            var pixels = batch.Normalized([0.5f, 0.5f, 0.5f], [0.5f, 0.5f, 0.5f]);
            var examples = new List<SequenceExample>();
            foreach (var scene in batch.Scenes)
                foreach (var task in (string[])[model.Tasks[0], "captioning"])
                {
                    var random = new SampleRandom(1, 2, examples.Count);
                    examples.Add(model.Example(scene, scenes.References(scene), task, text, ref random)!);
                }
            var together = model.Loss(pixels, examples).item<float>();
            Assert.Equal(model.Loss(pixels.repeat_interleave(2, 0), examples).item<float>(), together, 1e-4);
            Assert.Contains("as many of each", Assert.Throws<PanoptesException>(() => model.Loss(pixels, examples[..3])).Message, StringComparison.Ordinal);
            Assert.Contains("as many of each", Assert.Throws<PanoptesException>(() => model.Core.Read(pixels, [[1], [1], [1]])).Message, StringComparison.Ordinal);
            if (model is UniTabModel tab)
            {
                string[] asked = ["the cat", "the red apple left of the dog"];
                var many = tab.Answer(pixels, asked, text);
                for (var i = 0; i < 2; i++) Assert.Equal(tab.Answer(pixels.narrow(0, i, 1), asked[i], text)[0].Text, many[i].Text);
                Assert.Equal(2, tab.Ground(pixels, asked, text, 32, 32).Count);
            }
            else
            {
                var pix2seq = (Pix2SeqModel)model;
                (BoxPrompt, string)[] asked = [.. batch.Scenes.Select(static s => (new BoxPrompt(s.Objects[0].Box.X, s.Objects[0].Box.Y, s.Objects[0].Box.Right, s.Objects[0].Box.Bottom), s.Objects[0].Name))];
                var many = pix2seq.PointsOf(pixels, asked, 5, 32, 32);
                for (var i = 0; i < 2; i++) Assert.Equal(pix2seq.PointsOf(pixels.narrow(0, i, 1), asked[i].Item1, asked[i].Item2, 5, 32, 32), many[i]);
            }
        }
    }

    /// <summary>What the things of a subset are called.</summary>
    static IEnumerable<string> Set(int concepts)
    {
        var set = EmojiSet.Open().Subset(concepts);
        return SceneGenerator.Things(set).Select(i => set.Images[i].Concept).Distinct().Order().Select(c => set.Concepts[c].Name);
    }

    TrainingResult Train(SceneRecipe recipe, string run, Action<TrainingProgress>? seen = null) => TinyTraining.Train(recipe, Path.Combine(folder, run), seen);
}
