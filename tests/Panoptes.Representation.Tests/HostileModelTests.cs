using System.Text;
using CsCheck;
using Panoptes.Checkpoints;
using Panoptes.Core.Tests.Hostile;
using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Representation.Tests;

/// <summary>Whole model folders with one damaged file: the model works or gives one sentence that names the file, in bounded time and memory.</summary>
public sealed class HostileModelTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-hostile-").FullName;
    readonly Image picture = new(20, 16, 3);

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Theory]
    [InlineData("CLIPModel", "config.json")]
    [InlineData("SiglipModel", "config.json")]
    [InlineData("Siglip2Model", "config.json")]
    [InlineData("CLIP", "open_clip_config.json")]
    [InlineData("CLIPModel", "preprocessor_config.json")]
    [InlineData("Siglip2Model", "preprocessor_config.json")]
    [InlineData("CLIPModel", "tokenizer_config.json")]
    [InlineData("CLIPModel", "vocab.json")]
    public void A_damaged_settings_file_gives_a_model_or_one_sentence(string architecture, string name)
    {
        TinyClip.Write(folder, architecture);
        byte[][] seeds = [File.ReadAllBytes(Path.Combine(folder, name))];
        Try(name, seeds[0]);
        Mutation.OfJson(seeds).Sample(bytes => Try(name, bytes), iter: 150, threads: 1, print: Mutation.Print);
    }

    [Theory]
    [InlineData("CoCa", """{"embed_dim":16,"custom_text":true,"quick_gelu":true,"vision_cfg":{"image_size":16,"layers":2,"width":24,"head_width":8,"patch_size":8,"attentional_pool":true,"attn_pooler_queries":3,"attn_pooler_heads":2},"text_cfg":{"context_length":8,"width":16,"heads":2,"layers":2,"vocab_size":40,"embed_cls":true,"correct_cls_mask":true,"ls_init_value":0.1},"multimodal_cfg":{"context_length":8,"width":16,"heads":2,"layers":2,"ls_init_value":0.1}}""")]
    [InlineData("CustomTextCLIP", """{"embed_dim":12,"custom_text":true,"vision_cfg":{"image_size":16,"timm_model_name":"eva02_base_patch16_clip_224","timm_pool":"token","timm_model_args":{"patch_size":8,"embed_dim":16,"depth":2,"num_heads":2,"ref_feat_shape":[4,4]}},"text_cfg":{"context_length":8,"vocab_size":40,"width":16,"heads":2,"layers":2}}""")]
    [InlineData("Eva", """{"architecture":"eva02_base_patch14_224","num_classes":12,"global_pool":"avg","model_args":{"img_size":[16,24],"patch_size":8,"embed_dim":16,"depth":2,"num_heads":2,"mlp_ratio":2.0,"ref_feat_shape":[4,4],"init_values":0.1,"qkv_fused":true,"swiglu_mlp":true,"scale_mlp":false}}""")]
    [InlineData("ImageBindModel", """{"kernel_size":[2,8,8],"image_size":16,"vocab_size":40,"context_length":8,"imu_length":40,"out_embed_dim":12,"vision_embed_dim":16,"vision_num_blocks":2,"vision_num_heads":2,"text_embed_dim":16,"audio_embed_dim":16,"audio_kernel_size":8,"audio_stride":4,"audio_num_mel_bins":16,"audio_target_len":20,"audio_drop_path":0.1,"depth_kernel_size":8,"thermal_kernel_size":8,"imu_kernel_size":8}""")]
    [InlineData("BoundEncoder", """{"base_architecture":"CLIP","base_config":{"embed_dim":12,"vision_cfg":{"image_size":16,"layers":2,"width":16,"head_width":8,"patch_size":8},"text_cfg":{"context_length":8,"vocab_size":40,"width":16,"heads":2,"layers":2}},"modalities":["audio","imu"],"encoders":{"imu_length":40,"imu_num_blocks":1,"audio_embed_dim":16,"audio_num_heads":2,"audio_kernel_size":8,"audio_stride":4,"audio_num_mel_bins":16,"audio_target_len":20}}""")]
    [InlineData("ViTMAEForPreTraining", """{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"decoder_hidden_size":12,"decoder_intermediate_size":20,"decoder_num_hidden_layers":2,"decoder_num_attention_heads":2,"image_size":16,"patch_size":4,"mask_ratio":0.75}""")]
    [InlineData("BeitForSemanticSegmentation", """{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"image_size":16,"patch_size":8,"use_relative_position_bias":true,"use_mask_token":true,"out_indices":[1,2,3,3],"pool_scales":[1,2],"auxiliary_channels":6,"auxiliary_num_convs":2,"auxiliary_concat_input":true,"drop_path_rate":0.1,"num_labels":4}""")]
    [InlineData("BEiT3ForPretraining", """{"img_size":16,"patch_size":8,"in_chans":3,"vocab_size":40,"encoder_embed_dim":16,"encoder_attention_heads":2,"encoder_ffn_embed_dim":24,"encoder_layers":2,"max_source_positions":12,"visual_vocab_size":11,"multiway":true,"normalize_output":true,"drop_path_rate":0.1}""")]
    [InlineData("DalleDvae", """{"encoder":{"group_count":4,"n_hid":4,"n_blk_per_group":1,"input_channels":3,"vocab_size":12},"decoder":{"group_count":4,"n_init":6,"n_hid":4,"n_blk_per_group":1,"output_channels":3,"vocab_size":12}}""")]
    [InlineData("VQModel", """{"_class_name":"VQModel","in_channels":3,"out_channels":3,"block_out_channels":[4,8],"down_block_types":["DownEncoderBlock2D","AttnDownEncoderBlock2D"],"up_block_types":["AttnUpDecoderBlock2D","UpDecoderBlock2D"],"layers_per_block":1,"act_fn":"silu","norm_num_groups":4,"norm_type":"group","latent_channels":3,"vq_embed_dim":5,"num_vq_embeddings":12,"sample_size":16,"mid_block_add_attention":true}""")]
    public void A_damaged_config_describes_a_model_or_gives_one_sentence(string architecture, string config)
    {
        var entry = Models.All.First(e => e.Architecture == architecture);
        Mutation.OfJson([Encoding.UTF8.GetBytes(config)]).Sample(bytes =>
        {
            try
            {
                entry.Build(new(Encoding.UTF8.GetString(bytes), "the config", static _ => null)).Dispose();
            }
            catch (PanoptesException e)
            {
                Assert.DoesNotContain('\n', e.Message);
            }
        }, iter: 400, threads: 1, print: Mutation.Print);
    }

    [Theory]
    [InlineData("CLIPModel", "model.safetensors")]
    [InlineData("CLIP", "open_clip_model.safetensors")]
    public void Damaged_weights_give_a_model_or_one_sentence(string architecture, string name)
    {
        TinyClip.Write(folder, architecture);
        byte[][] seeds = [File.ReadAllBytes(Path.Combine(folder, name))];
        Mutation.OfBytes(seeds).Sample(bytes => Try(name, bytes), iter: 150, threads: 1);
    }

    [Fact]
    public void Weights_of_OpenAI_that_lack_dimensions_are_refused()
    {
        TinyClip.Write(folder, "CLIP");
        var path = Path.Combine(folder, "open_clip_model.safetensors");
        using var scope = NewDisposeScope();
        var tensors = SafeTensors.Load(path);
        File.Delete(Path.Combine(folder, "open_clip_config.json"));
        foreach (var key in (string[])["visual.conv1.weight", "positional_embedding", "visual.positional_embedding", "text_projection", "token_embedding.weight"])
        {
            SafeTensors.Save(Path.Combine(folder, "w.safetensors"), tensors.Select(t => KeyValuePair.Create(t.Key, t.Key == key ? ones(1).squeeze() : t.Value)));
            Assert.Contains(key, Assert.Throws<PanoptesException>(() => Models.Load(Path.Combine(folder, "w.safetensors"))).Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("\"num_hidden_layers\":2", "\"num_hidden_layers\":2000000000", "num_hidden_layers")]
    [InlineData("\"num_attention_heads\":2", "\"num_attention_heads\":3", "attention heads")]
    [InlineData("\"num_attention_heads\":2", "\"num_attention_heads\":0", "num_attention_heads")]
    [InlineData("\"patch_size\":8", "\"patch_size\":0", "patch_size")]
    [InlineData("\"hidden_size\":16", "\"hidden_size\":-16", "hidden_size")]
    [InlineData("\"vocab_size\"", "\"hidden_act\":\"mish\",\"vocab_size\"", "hidden_act")]
    [InlineData("\"patch_size\":8", "\"patch_size\":4", "does not fit the model")]
    public void A_size_that_no_model_has_is_refused_by_name(string good, string bad, string named)
    {
        TinyClip.Write(folder, "CLIPModel");
        var path = Path.Combine(folder, "config.json");
        var compact = System.Text.Json.Nodes.JsonNode.Parse(File.ReadAllText(path))!.ToJsonString();
        Assert.Contains(good, compact, StringComparison.Ordinal);
        File.WriteAllText(path, compact.Replace(good, bad, StringComparison.Ordinal));
        var message = Assert.Throws<PanoptesException>(() => Clip.Load(folder)).Message;
        Assert.Contains(named, message, StringComparison.Ordinal);
        Assert.Contains(folder, message, StringComparison.Ordinal);
    }

    /// <summary>Loads and uses the folder's model.</summary>
    void Try(string name, byte[] bytes) => Mutation.Check(Path.Combine(folder, name), bytes, () =>
    {
        var before = LiveTensors.Settle();
        using (var clip = Clip.Load(folder))
        {
            // What may be said of an image or text that does not go with the model does not name a file.
            try
            {
                clip.Classify(picture, ["a cat", "dog"]);
            }
            catch (PanoptesException e)
            {
                Assert.DoesNotContain('\n', e.Message);
            }
        }
        Assert.Equal(before, Tensor.TotalCount);
    }, alongside: Directory.GetFiles(folder).Sum(static f => new FileInfo(f).Length), constant: 32 << 20);
}
