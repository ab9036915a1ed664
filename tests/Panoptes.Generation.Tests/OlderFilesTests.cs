using System.Text.Json.Nodes;
using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Parity;
using Panoptes.Representation;

namespace Panoptes.Generation.Tests;

/// <summary>What public files have that today's peer no longer writes, but reads.</summary>
public sealed class OlderFilesTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-older-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    static string Case(string name) => Path.Combine(Goldens.Root, "generation", name);

    /// <summary>A case's model with its weights under other names, and more of them.</summary>
    void Write(string name, Func<string, string> rename, params ReadOnlySpan<(string Key, Tensor Value)> more)
    {
        using var scope = NewDisposeScope();
        File.Copy(Path.Combine(Case(name), "config.json"), Path.Combine(folder, "config.json"), overwrite: true);
        var tensors = SafeTensors.Load(Path.Combine(Case(name), "diffusion_pytorch_model.safetensors")).ToDictionary(t => rename(t.Key), static t => t.Value);
        foreach (var (key, value) in more) tensors.Add(key, value);
        SafeTensors.Save(Path.Combine(folder, "diffusion_pytorch_model.safetensors"), tensors);
    }

    static void Same(Module a, Module b)
    {
        var theirs = b.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter);
        foreach (var (key, parameter) in a.NamedParameters()) Assert.True(parameter.Value.Equals(theirs[key].Value), key);
    }

    [Theory, InlineData("unet2d_unconditional"), InlineData("autoencoder_kl")]
    public void The_older_names_of_attention_are_read(string name)
    {
        var renamed = 0;
        Write(name, key =>
        {
            var older = OldAttentionKeys.ToOld(key);
            if (older != key) renamed++;
            return older;
        });
        Assert.True(renamed > 0);
        using var older = GenerationModels.Load(folder);
        using var newer = GenerationModels.Load(Case(name));
        Same(newer, older);
    }

    [Fact]
    public void The_older_names_are_read_of_image_tokenizers_too()
    {
        Write("vq_model", OldAttentionKeys.ToOld);
        using var older = Models.Load<VqModel>(folder);
        using var newer = Models.Load<VqModel>(Case("vq_model"));
        Same(newer, older);
    }

    [Fact]
    public void PixArts_caption_for_none_is_passed_over_and_nothing_else_is()
    {
        using var scope = NewDisposeScope();
        Write("pixart_transformer", static k => k, ("caption_projection.y_embedding", ones(120, 16)));
        using (GenerationModels.Load<PixArtTransformer>(folder)) { }
        Write("pixart_transformer", static k => k, ("caption_projection.z_embedding", ones(120, 16)));
        Assert.Contains("unexpected: caption_projection.z_embedding", Assert.Throws<PanoptesException>(() => GenerationModels.Load<PixArtTransformer>(folder)).ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Null_stands_for_a_default_of_every_type()
    {
        var config = ModelConfig.Parse<UNet2DConditionConfig>("""{"upcast_attention":null,"layers_per_block":null,"norm_eps":null,"act_fn":null,"in_channels":null,"down_block_types":null,"mid_block_type":null}""", "config.json");
        Assert.Equal(new UNet2DConditionConfig { MidBlockType = null }.ToJson(), config.ToJson());
        Assert.Equal((false, 2, 1e-5, Activation.Silu, 4), (config.UpcastAttention, config.LayersPerBlock.One, config.NormEps, config.ActFn, config.InChannels));
        Assert.Contains("found 0, expected 1", Assert.Throws<PanoptesException>(static () => ModelConfig.Parse<UNet2DConditionConfig>("""{"in_channels":0}""", "config.json")).Message, StringComparison.Ordinal);
        Assert.Contains("upcast_attention", Assert.Throws<PanoptesException>(static () => ModelConfig.Parse<UNet2DConditionConfig>("""{"upcast_attention":"yes"}""", "config.json")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_autoencoders_sample_size_may_be_a_list()
    {
        Assert.Equal(512, ModelConfig.Parse<AutoencoderKlConfig>("""{"sample_size":[512,256]}""", "config.json").SampleSize);
        Assert.Equal(32, ModelConfig.Parse<AutoencoderKlConfig>("""{"sample_size":32}""", "config.json").SampleSize);
        Assert.Contains("sample_size", Assert.Throws<PanoptesException>(static () => ModelConfig.Parse<AutoencoderKlConfig>("""{"sample_size":[]}""", "config.json")).Message, StringComparison.Ordinal);
        Assert.Contains("sample_size", Assert.Throws<PanoptesException>(static () => ModelConfig.Parse<AutoencoderKlConfig>("""{"sample_size":[-3]}""", "config.json")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_ControlNet_may_call_its_heads_by_their_name_and_the_middle_takes_the_first_of_a_list()
    {
        const string config = """{"block_out_channels":[8,16],"down_block_types":["DownBlock2D","CrossAttnDownBlock2D"],"norm_num_groups":4,"cross_attention_dim":8,"conditioning_embedding_out_channels":[8,8],"layers_per_block":2,""";
        using var scope = NewDisposeScope();
        float[] Middle(string heads)
        {
            using var model = new ControlNetModel(ModelConfig.Parse<ControlNetConfig>(config + heads + "}", "config.json"));
            using var noGrad = no_grad();
            model.Initialize(new Generator(1));
            model.ControlnetMidBlock.Weight.Value.fill_(0.1);
            return model.Forward(new() { Sample = ones(1, 4, 8, 8), Timestep = tensor(5f), Text = arange(24, ScalarType.Float32).view(1, 3, 8).sin() }, ones(1, 3, 16, 16)).Mid.data<float>().ToArray();
        }
        var misnamed = Middle("""
            "attention_head_dim":2
            """);
        Assert.Equal(misnamed, Middle("""
            "num_attention_heads":2,"attention_head_dim":8
            """));
        Assert.NotEqual(misnamed, Middle("""
            "attention_head_dim":8
            """));
        using var listed = new ControlNetModel(ModelConfig.Parse<ControlNetConfig>(config + """
            "attention_head_dim":2,"transformer_layers_per_block":[1,[1,2]]}
            """, "config.json"));
        Assert.Single(((SpatialTransformer)listed.MidBlock!.Attentions![0]).TransformerBlocks);
    }

    [Theory]
    [InlineData("""{"down_block_types":["DownBlock2D",null,"DownBlock2D","DownBlock2D"]}""", "down_block_types has a null")]
    [InlineData("""{"up_block_types":[null,null,null,null]}""", "up_block_types has a null")]
    [InlineData("""{"transformer_layers_per_block":[null,1,1,1]}""", "does not say how many")]
    [InlineData("""{"sample_size":100000}""", "sample_size is 100000; expected 1 to 8192")]
    [InlineData("""{"sample_size":[64,64,64]}""", "sample_size has 3 sides")]
    public void A_damaged_config_is_refused_with_one_sentence(string config, string sentence) =>
        Assert.Contains(sentence, Assert.Throws<PanoptesException>(() => new UNet2DConditionModel(ModelConfig.Parse<UNet2DConditionConfig>(config, "config.json"))).Message, StringComparison.Ordinal);

    void CopyPipeline()
    {
        foreach (var file in Directory.EnumerateFiles(Case("sd_text2img"), "*", SearchOption.AllDirectories))
        {
            var to = Path.Combine(folder, Path.GetRelativePath(Case("sd_text2img"), file));
            Directory.CreateDirectory(Path.GetDirectoryName(to)!);
            File.Copy(file, to);
        }
    }

    [Theory]
    [InlineData("model_index.json", "AutoencoderKL", "vae is AutoencoderFoo")]
    [InlineData("model_index.json", "UNet2DConditionModel", "unet is UNet2DConditionFoo")]
    [InlineData("model_index.json", "CLIPTextModel", "text_encoder is CLIPTextFoo")]
    [InlineData("model_index.json", "DDIMScheduler", "scheduler is DDIMFoo")]
    [InlineData("vae/config.json", "AutoencoderKL", "vae is AutoencoderFoo")]
    [InlineData("unet/config.json", "UNet2DConditionModel", "unet is UNet2DConditionFoo")]
    public void A_part_of_a_class_that_is_not_known_is_refused_with_one_sentence(string file, string type, string sentence)
    {
        CopyPipeline();
        var path = Path.Combine(folder, file);
        var text = File.ReadAllText(path);
        Assert.Contains($"\"{type}\"", text, StringComparison.Ordinal);
        File.WriteAllText(path, text.Replace($"\"{type}\"", $"\"{sentence.Split(' ')[^1]}\"", StringComparison.Ordinal));
        Assert.Contains(sentence, Assert.Throws<PanoptesException>(() => Diffusion.Load(folder)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_pipeline_with_another_model_in_the_autoencoders_place_or_a_name_twice_is_refused_with_one_sentence()
    {
        CopyPipeline();
        var path = Path.Combine(folder, PipelineFolder.FileName);
        var index = JsonNode.Parse(File.ReadAllText(path))!;
        index["vae"] = new JsonArray("diffusers", "UNet2DModel");
        File.WriteAllText(path, index.ToJsonString());
        Assert.Contains("vae is UNet2DModel, which such a pipeline is not read with; expected AutoencoderKL or AutoencoderTiny.", Assert.Throws<PanoptesException>(() => DiffusionModel.Load(folder)).Message, StringComparison.Ordinal);
        File.WriteAllText(path, """{"_class_name":"A","_class_name":"B"}""");
        Assert.StartsWith(path, Assert.Throws<PanoptesException>(() => DiffusionModel.Load(folder)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_DDIM_pipeline_jumps_whatever_its_scheduler_is()
    {
        Directory.CreateDirectory(Path.Combine(folder, "unet"));
        foreach (var name in (string[])["config.json", "diffusion_pytorch_model.safetensors"]) File.Copy(Path.Combine(Case("unet2d_unconditional"), name), Path.Combine(folder, "unet", name));
        Directory.CreateDirectory(Path.Combine(folder, "scheduler"));
        File.WriteAllText(Path.Combine(folder, "scheduler", "scheduler_config.json"), """{"_class_name":"DDPMScheduler","num_train_timesteps":1000,"beta_end":0.01}""");
        File.WriteAllText(Path.Combine(folder, PipelineFolder.FileName), """{"_class_name":"DDIMPipeline","unet":["diffusers","UNet2DModel"],"scheduler":["diffusers","DDPMScheduler"]}""");
        using var model = DiffusionModel.Load(folder);
        Assert.Equal((typeof(DdimScheduler), 50, 0.01), (model.Scheduler.GetType(), model.UsualSteps, ((DdimScheduler)model.Scheduler).BetaEnd));
    }
}
