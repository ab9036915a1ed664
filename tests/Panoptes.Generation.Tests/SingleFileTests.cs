using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Parity;
using Panoptes.Text;

namespace Panoptes.Generation.Tests;

/// <summary>Pipelines as one file under the original names.</summary>
public sealed class SingleFileTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-single-").FullName;

    string At(string name) => Path.Combine(folder, name);

    static string Case(string name) => Path.Combine(Goldens.Root, "generation", name);

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Theory, InlineData("sd_text2img", "single_file_sd1"), InlineData("sd2_text2img_v", "single_file_sd2"), InlineData("sdxl_text2img_calm", "single_file_sdxl"), InlineData("sd3_pipeline", "single_file_sd3")]
    public void What_is_written_has_the_names_and_values_that_the_peers_converters_read_and_comes_back_unchanged(string source, string peer)
    {
        using var model = PipelineFolder.Load(Case(source));
        SingleFile.Save(At("whole.safetensors"), model);
        using (var written = Weights.Open(At("whole.safetensors")))
        using (var expected = Weights.Open(Path.Combine(Case(peer), "original.safetensors")))
        {
            // Training's leftovers, and what the family does not use, are in the peer's file alone.
            string[] left = ["model_ema.decay", "alphas_cumprod", "cond_stage_model.transformer.text_model.embeddings.position_ids", "cond_stage_model.model.logit_scale", "cond_stage_model.model.text_projection"];
            Assert.Equal(expected.Keys.Except(left).Order(StringComparer.Ordinal), written.Keys.Order(StringComparer.Ordinal));
            foreach (var key in written.Keys)
            {
                using var scope = NewDisposeScope();
                Assert.True(written.Read(key).Equals(expected.Read(key)), key);
            }
        }
        using var again = SingleFile.Load(At("whole.safetensors"), config: Case(source));
        Same(model.Network, again.Network);
        Same(model.Autoencoder!, again.Autoencoder!);
        foreach (var (a, b) in model.TextEncoders.Zip(again.TextEncoders)) Same(a, b);
    }

    static void Same(Module a, Module b)
    {
        var theirs = b.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter);
        foreach (var (key, parameter) in a.NamedParameters()) Assert.True(parameter.Value.Equals(theirs[key].Value), key);
    }

    [Theory, InlineData("sd15-unet", 0, 768), InlineData("sd15-inpainting-unet", 0, 768), InlineData("sd21-unet", 1, 768), InlineData("sdxl-unet", 2, 1280)]
    public void A_UNets_sizes_follow_from_the_keys_and_shapes_of_its_public_checkpoint(string layout, int family, int pooled)
    {
        var config = Config<UNet2DConditionConfig>(layout);
        using var model = new UNet2DConditionModel(config);
        var told = OriginalConfigs.UNet(ShapesOf(model, OriginalKeys.UNet(config)), (OriginalFamily)family, pooled);
        Assert.Equal(Json(config), Json(told));
    }

    [Fact]
    public void A_ControlNets_sizes_follow_from_those_of_its_public_checkpoint()
    {
        var config = Config<ControlNetConfig>("controlnet-sd15");
        using var model = new ControlNetModel(config);
        Assert.Equal(Json(config), Json(OriginalConfigs.ControlNet(ShapesOf(model, OriginalKeys.ControlNet(config)))));
    }

    [Theory, InlineData("controlnet"), InlineData("sd_controlnet/controlnet")]
    public void A_ControlNet_comes_back_from_one_file_unchanged_alone_or_beside_a_pipeline(string source)
    {
        using var model = GenerationModels.Load<ControlNetModel>(Case(source));
        SingleFile.Save(At("control.safetensors"), model);
        Assert.True(SingleFile.HoldsControlNet(At("control.safetensors")));
        using (var written = Weights.Open(At("control.safetensors")))
        {
            Assert.True(written.Contains("control_model.input_hint_block.0.weight") && written.Contains("control_model.middle_block_out.0.bias") && written.Contains("control_model.zero_convs.1.0.weight"));
            Assert.DoesNotContain(written.Keys, static k => k.Contains("controlnet_", StringComparison.Ordinal));
        }
        using var again = SingleFile.LoadControlNet(At("control.safetensors"), config: Case(source));
        Same(model, again);
        Assert.False(SingleFile.HoldsControlNet(Path.Combine(Case("single_file_sd1"), "original.safetensors")));
        Assert.Contains("holds no ControlNet", Assert.Throws<PanoptesException>(() => SingleFile.LoadControlNet(Path.Combine(Case("single_file_sd1"), "original.safetensors"))).Message, StringComparison.Ordinal);
    }

    [Theory, InlineData("sd15-vae", 0), InlineData("sdxl-vae", 2), InlineData("flux-vae", 4)]
    public void An_autoencoders_sizes_follow_as_well(string layout, int family)
    {
        var config = Config<AutoencoderKlConfig>(layout);
        using var model = new AutoencoderKl(config);
        Assert.Equal(Json(config), Json(OriginalConfigs.Autoencoder(ShapesOf(model, OriginalKeys.Autoencoder(config)), (OriginalFamily)family)));
    }

    [Fact]
    public void A_transformers_sizes_follow_as_well()
    {
        var sd3 = Config<Sd3Config>("sd3-medium-transformer");
        using var first = new Sd3Transformer(sd3);
        Assert.Equal(Json(sd3), Json(OriginalConfigs.Sd3(ShapesOf(first, OriginalKeys.Sd3(sd3)))));
        var flux = Config<FluxConfig>("flux1-dev-transformer");
        using var second = new FluxTransformer(flux);
        Assert.Equal(Json(flux), Json(OriginalConfigs.Flux(ShapesOf(second, OriginalKeys.Flux))));
    }

    [Theory, InlineData("sd15-text-encoder", false), InlineData("sd21-text-encoder", true), InlineData("sdxl-text-encoder-2", true)]
    public void A_text_encoders_sizes_follow_as_well(string layout, bool openClip)
    {
        var config = Config<Representation.ClipTextConfig>(layout);
        using var model = new Representation.ClipTextModel(config);
        var shapes = ShapesOf(model, openClip ? OriginalKeys.OpenClipText : static k => new(k));
        var told = openClip ? OriginalConfigs.OpenClip(shapes, layout.StartsWith("sd21", StringComparison.Ordinal) ? OriginalFamily.StableDiffusion2 : OriginalFamily.StableDiffusionXl) : OriginalConfigs.Clip(shapes, Activation.QuickGelu);
        Assert.Equal((config.VocabSize, config.HiddenSize, config.IntermediateSize, config.NumHiddenLayers, config.NumAttentionHeads, config.MaxPositionEmbeddings, config.HiddenAct, config.EosTokenId),
            (told.VocabSize, told.HiddenSize, told.IntermediateSize, told.NumHiddenLayers, told.NumAttentionHeads, told.MaxPositionEmbeddings, told.HiddenAct, told.EosTokenId));
    }

    static T Config<T>(string layout) where T : ModelConfig
    {
        using var json = JsonDocument.Parse(File.ReadAllText(Path.Combine(Goldens.Root, "layouts", layout + ".json")));
        return ModelConfig.Parse<T>(json.RootElement.GetProperty("config").GetRawText(), layout);
    }

    /// <summary>A config without what only this program's reading adds.</summary>
    static string Json<T>(T config) where T : ModelConfig => (config with { }).ToJson();

    /// <summary>The shapes of a model's weights as an original file has them, without any weight.</summary>
    static Func<string, long[]?> ShapesOf(Module model, Func<string, OriginalKey> keys)
    {
        var shapes = new Dictionary<string, long[]>(StringComparer.Ordinal);
        foreach (var group in model.DistinctParameters().Select(p => (p.Parameter, Original: keys(p.Key))).GroupBy(static p => p.Original.Name, StringComparer.Ordinal))
        {
            var (first, form) = (group.First().Parameter.Shape, group.First().Original.Form);
            shapes[group.Key] = form switch
            {
                OriginalForm.Transposed => [first[1], first[0]],
                OriginalForm.Pointwise => [.. first, 1, 1],
                _ => [group.Sum(static p => p.Parameter.Shape[0]), .. first.Skip(1)],
            };
        }
        return shapes.GetValueOrDefault;
    }

    [Fact]
    public void The_familys_usual_settings_are_taken_where_no_folder_is_named()
    {
        // Widths of which the heads can be told, and a vocabulary that OpenAI's tokenizer fits.
        using (var small = Small())
            SingleFile.Save(At("small.safetensors"), small);
        using var model = (StableDiffusion)DiffusionModel.Load(At("small.safetensors"));
        Assert.Equal("PNDMScheduler", model.Scheduler.ClassName);
        Assert.Equal([49406, 320, 1125, 539, 550, 18376, 49407], model.Prompts.Tokenizer.Encode("a photo of an astronaut"));
        Assert.Equal(0.18215, ((AutoencoderKl)model.Autoencoder!).Config.ScalingFactor);
        Assert.Equal(512, model.Side);
        Assert.Equal(8, model.UNet.Config.AttentionHeadDim[0]);
    }

    [Fact]
    public void A_trainers_checkpoint_in_half_precision_is_read_as_well()
    {
        using var model = SingleFile.Load(Path.Combine(Case("single_file_sd1"), "half.ckpt"), config: Case("sd_text2img"));
        using var whole = PipelineFolder.Load(Case("sd_text2img"));
        var theirs = whole.Network.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter);
        using var scope = NewDisposeScope();
        foreach (var (key, parameter) in model.Network.NamedParameters()) Assert.True(parameter.Value.allclose(theirs[key].Value, 1e-3, 1e-3), key);
    }

    static StableDiffusion Small()
    {
        var random = new Generator(1);
        var unet = new UNet2DConditionModel(new() { BlockOutChannels = [32, 64], LayersPerBlock = 1, DownBlockTypes = ["CrossAttnDownBlock2D", "DownBlock2D"], UpBlockTypes = ["UpBlock2D", "CrossAttnUpBlock2D"], CrossAttentionDim = 64 });
        var autoencoder = new AutoencoderKl(new() { BlockOutChannels = [32, 32, 32, 32], LayersPerBlock = 1, DownBlockTypes = [.. Enumerable.Repeat("DownEncoderBlock2D", 4)], UpBlockTypes = [.. Enumerable.Repeat("UpDecoderBlock2D", 4)] });
        var text = new Representation.ClipTextModel(new() { HiddenSize = 64, IntermediateSize = 128, NumHiddenLayers = 2, NumAttentionHeads = 1 });
        foreach (var part in (Module[])[unet, autoencoder, text]) part.Initialize(random);
        return new(unet, autoencoder, new(text, ClipTokenizer.OpenAi()), new PndmScheduler());
    }

    [Fact]
    public void A_pipeline_of_one_file_is_written_as_a_folder_with_its_tokenizer_and_makes_the_same_image()
    {
        using (var small = Small()) SingleFile.Save(At("small.safetensors"), small);
        using var one = Diffusion.Load(At("small.safetensors"));
        PipelineFolder.Save(At("folder"), one.Model);
        using var other = Diffusion.Load(At("folder"));
        ImageRequest request = new("a red apple") { Width = 64, Height = 64, Steps = 2, Seed = 1 };
        Assert.Equal(one.Generate([request])[0].Image.Pixels, other.Generate([request])[0].Image.Pixels);
    }

    [Fact]
    public void What_reads_a_Flux_prompts_is_in_its_file_too()
    {
        using var generator = new Generator(1);
        using var flux = new Flux(new(new() { NumLayers = 1, NumSingleLayers = 1, NumAttentionHeads = 1, JointAttentionDim = 12, PooledProjectionDim = 64 }),
            new AutoencoderKl(new() { BlockOutChannels = [32, 32, 32, 32], LayersPerBlock = 1, LatentChannels = 16, UseQuantConv = false, UsePostQuantConv = false, DownBlockTypes = [.. Enumerable.Repeat("DownEncoderBlock2D", 4)], UpBlockTypes = [.. Enumerable.Repeat("UpDecoderBlock2D", 4)] }),
            new(new(new() { HiddenSize = 64, IntermediateSize = 128, NumHiddenLayers = 2, NumAttentionHeads = 1 }), ClipTokenizer.OpenAi()), null, new FlowMatchEulerScheduler());
        foreach (var part in (Module[])[flux.Network, flux.Autoencoder!, .. flux.TextEncoders]) part.Initialize(generator);
        SingleFile.Save(At("flux.safetensors"), flux);
        using var again = SingleFile.Load(At("flux.safetensors"));
        Same(flux.Network, again.Network);
        Same(Assert.Single(flux.TextEncoders), Assert.Single(again.TextEncoders));
    }

    [Fact]
    public void Velocities_are_predicted_by_a_second_version_as_the_peer_takes_it_unless_a_folder_says_otherwise()
    {
        Assert.Contains("v_prediction", OriginalConfigs.Scheduler(OriginalFamily.StableDiffusion2, fills: false, guided: false), StringComparison.Ordinal);
        Assert.DoesNotContain("v_prediction", OriginalConfigs.Scheduler(OriginalFamily.StableDiffusion2, fills: true, guided: false), StringComparison.Ordinal);
        using var model = SingleFile.Load(Path.Combine(Case("single_file_sd1"), "original.safetensors"), config: Case("sd_text2img"));
        Assert.Equal("DDIMScheduler", model.Scheduler.ClassName);
    }

    [Fact]
    public void The_vocabulary_that_comes_along_is_the_public_one()
    {
        var (ours, theirs) = (ClipTokenizer.OpenAi(), Tokenizer.Load(Path.Combine(Goldens.Root, "representation", "clip_tokenizer")));
        foreach (var text in (string[])["a red apple left of a cat", "Émile's naïve 🍎 — 3,141.59!", "日本語", "<|endoftext|> x"]) Assert.Equal(theirs.Encode(text), ours.Encode(text));
        Assert.Equal((theirs.VocabularySize, theirs.PadId), (ours.VocabularySize, ours.PadId));
        Assert.Equal(0, ClipTokenizer.OpenAi("!").PadId);
        ClipTokenizer.OpenAi("!").Save(At("tokenizer"));
        Assert.Equal(0, Tokenizer.Load(At("tokenizer")).PadId);
    }

    [Theory]
    [InlineData("lora_unet_down.weight", "is a LoRA")]
    [InlineData("control_model.time_embed.0.weight", "is a ControlNet")]
    [InlineData("down_blocks.0.resnets.0.conv1.weight", "is one part of a pipeline, under diffusers' names")]
    [InlineData("encoder.layer.0.weight", "begins with encoder.layer.0.weight; expected a whole Stable Diffusion, SD 3 or Flux in one file")]
    [InlineData("conditioner.embedders.0.model.ln_final.weight", "is SDXL's refiner, which is not supported")]
    [InlineData("model.diffusion_model.input_blocks.0.0.weight", "input_blocks.0.0.weight is [2]; expected 4 dimensions; a pipeline's folder may tell its settings (--config)")]
    [InlineData("joint_blocks.0.x_block.attn.qkv.weight", "pos_embed is missing")]
    [InlineData("double_blocks.0.img_attn.qkv.weight", "img_in.weight is missing")]
    public void A_file_that_is_no_pipeline_is_refused_with_one_sentence(string key, string sentence)
    {
        using (var one = ones(2)) SafeTensors.Save(At("odd.safetensors"), [new(key, one)]);
        var before = LiveTensors.Settle();
        var message = Assert.Throws<PanoptesException>(() => DiffusionModel.Load(At("odd.safetensors"))).Message;
        Assert.Contains(sentence, message, StringComparison.Ordinal);
        Assert.StartsWith(At("odd.safetensors"), message, StringComparison.Ordinal);
        Assert.Equal(before, LiveTensors.Settle());
    }

    [Fact]
    public void A_missing_part_a_stray_key_and_a_wrong_shape_are_told_by_name_and_leave_nothing_behind()
    {
        var source = Path.Combine(Case("single_file_sd1"), "original.safetensors");
        Write("no-vae.safetensors", static k => !k.StartsWith("first_stage_model.", StringComparison.Ordinal), null);
        Write("stray.safetensors", static _ => true, "model.diffusion_model.input_blocks.7.0.extra");
        Write("short.safetensors", static k => k != "model.diffusion_model.out.2.weight", null);
        // A folder gives what the file has not.
        using (SingleFile.Load(At("no-vae.safetensors"), config: Case("sd_text2img"))) { }
        var before = LiveTensors.Settle();
        Assert.Contains("unexpected: input_blocks.7.0.extra", Refused("stray.safetensors"), StringComparison.Ordinal);
        Assert.Contains("missing: conv_out.weight [4, 8, 3, 3]", Refused("short.safetensors"), StringComparison.Ordinal);
        Assert.Equal(before, LiveTensors.Settle());
        using (var small = Small()) SingleFile.Save(At("small.safetensors"), small);
        using (var weights = Weights.Open(At("small.safetensors")))
        using (var scope = NewDisposeScope())
            SafeTensors.Save(At("small-no-vae.safetensors"), weights.Keys.Where(static k => !k.StartsWith("first_stage_model.", StringComparison.Ordinal)).Select(k => KeyValuePair.Create(k, weights.Read(k))));
        Assert.Contains("has no vae; name a pipeline's folder that has one (--config)", Assert.Throws<PanoptesException>(() => SingleFile.Load(At("small-no-vae.safetensors"))).Message, StringComparison.Ordinal);

        string Refused(string name) => Assert.Throws<PanoptesException>(() => SingleFile.Load(At(name), config: Case("sd_text2img"))).Message;

        void Write(string name, Func<string, bool> keep, string? stray)
        {
            using var scope = NewDisposeScope();
            using var weights = Weights.Open(source);
            SafeTensors.Save(At(name), [.. weights.Keys.Where(keep).Select(k => KeyValuePair.Create(k, weights.Read(k))), .. stray is null ? [] : (KeyValuePair<string, Tensor>[])[new(stray, ones(1))]]);
        }
    }
}
