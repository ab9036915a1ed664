using Panoptes.Data;
using Panoptes.Data.Speech;
using Panoptes.Representation.Training;

namespace Panoptes.Representation.Tests.Training;

/// <summary>Modalities bound to the images of a tiny CLIP.</summary>
public sealed class BindingTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-binding-").FullName;

    public BindingTests()
    {
        using var ready = RecipeRun.Create(Recipe.Parse($$"""
            name: clip
            seed: 3
            model:
              architecture: CLIPModel
              config:
                projection_dim: 12
                vision_config: {hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, image_size: 32, patch_size: 16}
                text_config: {hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 614, max_position_embeddings: 40, bos_token_id: 612, eos_token_id: 613}
              tokenizer: {merges: {{Path.Combine(Parity.Goldens.Repository, "data", "tokenizers", "clip", "merges.txt")}}, count: 100}
            data: {set: emoji, concepts: 40, batch_size: 12, validate: false}
            schedule: {learning_rate: 0.002, steps: 1}
            training: {precision: float32, validate_every: 0}
            """, "clip.yaml"), Path.Combine(folder, "clip"));
        ready.Trainer.Run();
    }

    string Clip => Path.Combine(folder, "clip", "last");

    public void Dispose() => Directory.Delete(folder, recursive: true);

    Recipe Tiny(string bind = "", string data = "", string rest = "") => Recipe.Parse($$"""
        name: bind
        seed: 5
        model:
          from: {{Clip}}
          bind: {image_size: 16, audio_embed_dim: 16, audio_num_blocks: 1, audio_num_heads: 2, audio_num_mel_bins: 16, audio_target_len: 96, depth_embed_dim: 16, depth_num_blocks: 1, depth_num_heads: 2, depth_kernel_size: 8,
            thermal_embed_dim: 16, thermal_num_blocks: 1, thermal_num_heads: 2, thermal_kernel_size: 8, imu_embed_dim: 16, imu_num_blocks: 2, imu_num_heads: 2, imu_length: 40 {{bind}}}
        data: {set: emoji, concepts: 40, modalities: [audio, depth, thermal, audio, imu], voices: 1, batch_size: 6, scenes: {scale: [0.6, 0.9]} {{data}}}
        schedule: {learning_rate: 0.002, steps: 10}
        training: {precision: float32, log_every: 1, validate_every: 0}
        {{rest}}
        """, "bind.yaml");

    [Fact]
    public void Modalities_are_learned_resumed_to_the_same_bytes_and_measured_as_by_hand()
    {
        var (unbroken, broken) = (Path.Combine(folder, "unbroken"), Path.Combine(folder, "broken"));
        var before = LiveTensors.Settle();
        var validation = Train(unbroken);
        Assert.Equal(before, Tensor.TotalCount);
        using (var cancel = new CancellationTokenSource())
            Assert.Throws<OperationCanceledException>(() => Train(broken, p => { if (p.Step == 4) cancel.Cancel(); }, cancel.Token));
        Train(broken);
        Assert.Equal(File.ReadAllBytes(Path.Combine(unbroken, "last", "model.safetensors")), File.ReadAllBytes(Path.Combine(broken, "last", "model.safetensors")));

        using var scope = NewDisposeScope();
        using var clip = Representation.Clip.Load(Path.Combine(broken, "last"));
        using var locked = Representation.Clip.Load(Clip);
        Assert.Equal(locked.Embed("a cat"), clip.Embed("a cat"));
        Assert.Equal(locked.Embed(new Imaging.Image(40, 40, 3)), clip.Embed(new Imaging.Image(40, 40, 3)));
        Assert.True(clip.Hears);
        Assert.False(locked.Hears);
        Assert.Contains("no tower for sounds", Assert.Throws<PanoptesException>(() => locked.Embed(new Audio.Waveform([new float[9000]], 16000))).Message, StringComparison.Ordinal);
        Assert.Equal(1, clip.Embed(new Audio.Waveform([new float[9000]], 16000)).Sum(static v => v * (double)v), 1e-5);

        // Every recording of a voice that was not learned from, of concepts that were, and all names.
        var (set, speech, bound) = (EmojiSet.Open().Subset(40), SpeechSet.Open(), (BoundEncoder)clip.Model);
        string[] names = [.. set.Concepts.Select(static c => c.Name).Distinct()];
        var texts = clip.EmbedLabels(names, new EmojiCaptions().Templates);
        var (right, all) = (0, 0);
        foreach (var concept in set.Concepts.Where(static c => !c.HeldOut))
            for (var voice = 1; voice < speech.Voices.Count; voice++)
            {
                var heard = clip.Embed(Modality.Audio, bound.Encoders.Sounds.Spectrogram(speech.Sound(speech.Find(concept.Code, voice)!.Value.Index)).unsqueeze(0));
                if (names[heard.matmul(texts.t()).argmax().item<long>()] == concept.Name) right++;
                all++;
            }
        Assert.Equal((double)right / all, validation["audio_to_text_top1"], 0.011);                  // spectrograms are kept in half precision
        Assert.Equal(1.0 / names.Length, validation["chance_top1"], 1e-9);
        var motions = set.Concepts.Where(c => !c.HeldOut && set.Find(c.Index, set.Styles.First(static s => s.HeldOut).Index) is not null).Select(SimulatedSensors.MotionOf).ToArray();
        Assert.Equal(motions.Average(m => set.Concepts.Count(c => SimulatedSensors.MotionOf(c) == m) / (double)names.Length), validation["imu_to_motion_chance"], 1e-9);
        foreach (var name in (string[])["audio_to_image_top1", "audio_to_text_top5", "depth_to_text_top1", "thermal_to_text_top1", "imu_to_motion_top1", "image_to_text_top1"]) Assert.InRange(validation[name], 0, 1);

        IReadOnlyDictionary<string, double> Train(string run, Action<Panoptes.Training.TrainingProgress>? watch = null, CancellationToken cancel = default)
        {
            using var ready = RecipeRun.Create(Tiny(), run);
            return ready.Trainer.Run(watch is null ? null : new Watch(watch), cancel).Validation;
        }
    }

    [Fact]
    public void Pairs_are_of_one_concept_and_every_concept_comes_once()
    {
        using var scope = NewDisposeScope();
        var set = EmojiSet.Open().Subset(40);
        var images = set.Select(EmojiSplit.Train);
        var samples = SensorSamples.Thermal(set, images, 16);
        var rows = set.Concepts.Select(c => Enumerable.Range(0, images.Length).Where(r => set.Images[images[r]].Concept == c.Index).ToArray()).ToArray();
        var pairs = new BoundPairs(samples, arange(images.Length).unsqueeze(1), [.. samples.Concepts.Select(c => rows[c])]);
        var seen = new HashSet<int>();
        for (var step = 0; step < 20; step++)
        {
            var (drawn, shown) = pairs.Draw(8, 1, step);
            Assert.Equal(drawn.Select(s => samples.Concepts[s]), shown.Select(r => set.Images[images[r]].Concept));
            Assert.Equal(8, drawn.Select(s => samples.Concepts[s]).Distinct().Count());
            Assert.Equal(shown.Select(static r => (long)r), pairs.Embedded(shown).data<long>().ToArray());
            Assert.Equal(drawn, pairs.Draw(8, 1, step).Samples);
            seen.UnionWith(drawn);
        }
        Assert.True(seen.Count > 80);
        Assert.Equal([3, 1, 16, 16], samples.Stack([4, 5, 6], vary: true, 1, 2).shape);
    }

    [Theory]
    [InlineData("", ", images: 20", "", "images does not go with modalities")]
    [InlineData(", imu_lenght: 3", "", "", "imu_lenght")]
    [InlineData("", "", "objectives: [{name: sigmoid}]", "by contrast alone")]
    public void What_does_not_go_with_modalities_is_told(string bind, string data, string rest, string expected)
    {
        var before = LiveTensors.Settle();
        Assert.Contains(expected, Assert.Throws<PanoptesException>(() => RecipeRun.Create(Tiny(bind, data, rest), Path.Combine(folder, "run"))).Message, StringComparison.Ordinal);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Theory]
    [InlineData("batch_size: 6", "batch_size: 300", "300 samples of different concepts")]
    [InlineData("image_size: 16", "image_size: 24", "24 pixels")]
    [InlineData("set: emoji", "set: scenes", "are those of the emoji")]
    [InlineData("modalities: [audio, depth, thermal, audio, imu], ", "", "bind describes encoders")]
    [InlineData("modalities: [audio, depth, thermal, audio, imu]", "modalities: [text]", "modalities names text")]
    public void A_recipe_that_cannot_be_bound_is_refused(string part, string instead, string expected)
    {
        var recipe = Recipe.Parse(Tiny().Text.Replace(part, instead, StringComparison.Ordinal), "bind.yaml");
        var before = LiveTensors.Settle();
        Assert.Contains(expected, Assert.Throws<PanoptesException>(() => RecipeRun.Create(recipe, Path.Combine(folder, "run"))).Message, StringComparison.Ordinal);
        Assert.Equal(before, Tensor.TotalCount);
    }

    sealed class Watch(Action<Panoptes.Training.TrainingProgress> report) : IProgress<Panoptes.Training.TrainingProgress>
    {
        public void Report(Panoptes.Training.TrainingProgress value) => report(value);
    }
}
