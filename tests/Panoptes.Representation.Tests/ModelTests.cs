using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation.Objectives;

namespace Panoptes.Representation.Tests;

/// <summary>What every registered model must do; a new one is tested by being in <see cref="Models.All"/> and having a tiny config here.</summary>
public sealed class ModelTests : RegisteredModels<ModelTests>, IRegisteredModels
{
    const string ClipText = """{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"max_position_embeddings":8,"vocab_size":40,"eos_token_id":39,"projection_dim":12,"hidden_act":"gelu"}""";
    const string ClipVision = """{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"image_size":16,"patch_size":8,"projection_dim":12}""";
    const string SiglipText = """{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"max_position_embeddings":8,"vocab_size":40,"projection_size":20}""";
    const string SiglipVision = """{"hidden_size":20,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"image_size":16,"patch_size":8,"num_patches":4}""";
    const string OpenClip = """{"embed_dim":12,"vision_cfg":{"image_size":16,"layers":2,"width":16,"head_width":8,"patch_size":8},"text_cfg":{"context_length":8,"vocab_size":40,"width":16,"heads":2,"layers":2}}""";
    const string CustomOpenClip = """{"embed_dim":12,"custom_text":true,"init_logit_bias":-10,"vision_cfg":{"image_size":64,"layers":[1,1,1,1],"width":4,"head_width":16},"text_cfg":{"context_length":8,"vocab_size":40,"width":16,"heads":2,"layers":2,"proj_bias":true,"no_causal_mask":true,"pool_type":"last","ls_init_value":0.1}}""";

    const string CoCa = """{"embed_dim":12,"custom_text":true,"vision_cfg":{"image_size":16,"layers":2,"width":16,"head_width":8,"patch_size":8,"attentional_pool":true,"attn_pooler_queries":3,"attn_pooler_heads":2},"text_cfg":{"context_length":8,"vocab_size":40,"width":12,"heads":2,"layers":2,"embed_cls":true},"multimodal_cfg":{"context_length":8,"vocab_size":40,"width":12,"heads":2,"layers":2}}""";

    const string Vit = """{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"image_size":16,"patch_size":8,"id2label":{"0":"cat","1":"dog","2":"owl"}}""";

    const string Dinov2 = """{"hidden_size":16,"num_hidden_layers":2,"num_attention_heads":2,"mlp_ratio":2,"image_size":16,"patch_size":8}""";
    const string Mae = """{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"decoder_hidden_size":12,"decoder_intermediate_size":20,"decoder_num_hidden_layers":2,"decoder_num_attention_heads":2,"image_size":16,"patch_size":4}""";

    const string Labels = """ "id2label":{"0":"cat","1":"dog","2":"owl"} """;
    const string Swin = $$"""{"image_size":40,"embed_dim":8,"depths":[2,2],"num_heads":[1,2],"window_size":3,"drop_path_rate":0,"use_absolute_embeddings":true,{{Labels}}}""";
    const string ConvNext = $$"""{"image_size":32,"num_stages":2,"hidden_sizes":[8,12],"depths":[2,1],{{Labels}}}""";
    const string FocalNet = $$"""{"image_size":32,"embed_dim":8,"depths":[2,1],"focal_levels":[2,1],"focal_windows":[3,3],"use_layerscale":true,"drop_path_rate":0,{{Labels}}}""";
    const string Beit = """{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"image_size":16,"patch_size":8,"vocab_size":11,"use_mask_token":true,"use_mean_pooling":false,"use_shared_relative_position_bias":true}""";
    const string BeitMean = $$"""{{{Labels}},"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"image_size":16,"patch_size":8,"use_relative_position_bias":true,"use_absolute_position_embeddings":true,"out_indices":[1,2,3,3],"auxiliary_channels":6}""";

    const string Beit3 = """{"img_size":16,"patch_size":8,"vocab_size":40,"encoder_embed_dim":16,"encoder_attention_heads":2,"encoder_ffn_embed_dim":24,"encoder_layers":2,"max_source_positions":12,"visual_vocab_size":11,"num_labels":3}""";

    const string ImageBind = """{"kernel_size":[2,8,8],"image_size":16,"vocab_size":40,"context_length":8,"imu_length":40,"out_embed_dim":12,"vision_embed_dim":16,"vision_num_blocks":2,"vision_num_heads":2,"text_embed_dim":16,"text_num_blocks":2,"text_num_heads":2,"audio_embed_dim":16,"audio_num_blocks":2,"audio_num_heads":2,"audio_kernel_size":8,"audio_stride":4,"audio_num_mel_bins":16,"audio_target_len":20,"audio_drop_path":0,"depth_embed_dim":8,"depth_kernel_size":8,"depth_num_blocks":1,"depth_num_heads":2,"thermal_embed_dim":8,"thermal_kernel_size":8,"thermal_num_blocks":1,"thermal_num_heads":2,"imu_embed_dim":8,"imu_num_blocks":1,"imu_num_heads":2,"imu_drop_path":0}""";

    const string T5 = """{"d_model":16,"d_kv":6,"d_ff":24,"num_layers":2,"num_heads":2,"vocab_size":40,"relative_attention_num_buckets":8,"relative_attention_max_distance":6,"feed_forward_proj":"gated-gelu","tie_word_embeddings":false}""";

    internal static readonly Dictionary<string, string> Tiny = new()
    {
        ["T5EncoderModel"] = T5.Replace("gated-gelu", "relu", StringComparison.Ordinal),
        ["T5ForConditionalGeneration"] = T5,
        ["CLIPModel"] = $$"""{"model_type":"clip","projection_dim":12,"text_config":{{ClipText}},"vision_config":{{ClipVision}}}""",
        ["CLIPTextModelWithProjection"] = ClipText,
        ["CLIPTextModel"] = ClipText,
        ["CLIPVisionModelWithProjection"] = ClipVision,
        ["CLIPVisionModel"] = ClipVision,
        ["SiglipModel"] = $$"""{"text_config":{{SiglipText}},"vision_config":{{SiglipVision}}}""",
        ["SiglipTextModel"] = SiglipText,
        ["SiglipVisionModel"] = SiglipVision,
        ["Siglip2Model"] = $$"""{"model_type":"siglip2","architectures":["Siglip2Model"],"text_config":{{SiglipText}},"vision_config":{{SiglipVision}}}""",
        ["Siglip2TextModel"] = SiglipText,
        ["Siglip2VisionModel"] = SiglipVision,
        ["VisionTextDualEncoderModel"] = $$"""{"projection_dim":12,"vision_config":{"model_type":"clip_vision_model",{{ClipVision[1..]}},"text_config":{"model_type":"siglip_text_model",{{SiglipText[1..]}}}""",
        ["StairModel"] = $$"""{"vision_config":{"model_type":"clip_vision_model",{{ClipVision[1..]}},"text_config":{"model_type":"clip_text_model",{{ClipText[1..]}}}""",
        ["ViTModel"] = Vit,
        ["ViTForImageClassification"] = Vit,
        ["Dinov2Model"] = Dinov2,
        ["Dinov2WithRegistersModel"] = Dinov2.Replace("}", ",\"use_swiglu_ffn\":true}", StringComparison.Ordinal),
        ["DINOv3ViTModel"] = """{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"image_size":16,"patch_size":8,"use_gated_mlp":true,"num_register_tokens":2,"pos_embed_rescale":null}""",
        ["SwinModel"] = Swin,
        ["SwinForImageClassification"] = Swin,
        ["ConvNextModel"] = ConvNext,
        ["ConvNextForImageClassification"] = ConvNext,
        ["ConvNextV2Model"] = ConvNext,
        ["ConvNextV2ForImageClassification"] = ConvNext,
        ["FocalNetModel"] = FocalNet,
        ["FocalNetForImageClassification"] = FocalNet,
        ["VisionTransformer"] = """{"img_size":16,"embed_dim":16,"depth":2,"num_heads":2,"patch_size":8}""",
        ["ImageGPTForCausalImageModeling"] = """{"vocab_size":42,"n_positions":8,"n_embd":16,"n_layer":2,"n_head":2}""",
        ["AlignModel"] = $$"""
            {"projection_dim":24,"text_config":{{ClipText}},"vision_config":{"image_size":32,"width_coefficient":1,"depth_coefficient":1,"in_channels":[32,16],"out_channels":[16,24],
            "kernel_sizes":[3,5],"strides":[1,2],"num_block_repeats":[1,2],"expand_ratios":[1,6],"drop_connect_rate":0} }
            """,
        ["FlavaModel"] = $$"""{"projection_dim":12,"text_config":{{ClipText}},"image_config":{{Vit}},"multimodal_config":{"hidden_size":12,"intermediate_size":24,"num_hidden_layers":1,"num_attention_heads":2} }""",
        ["CLIP"] = OpenClip,
        ["CustomTextCLIP"] = CustomOpenClip,
        ["CoCa"] = CoCa,
        ["ImageBindModel"] = ImageBind,
        ["BoundEncoder"] = $$"""{"base_architecture":"CLIP","base_config":{{OpenClip}},"modalities":["audio","depth","thermal","imu"],"encoders":{{ImageBind}}}""",
        ["Eva"] = """{"architecture":"eva02_base_patch16_clip_224","num_classes":12,"global_pool":"token","model_args":{"img_size":16,"patch_size":8,"embed_dim":16,"depth":2,"num_heads":2,"mlp_ratio":2.0}}""",
        ["ViTMAEForPreTraining"] = Mae,
        ["ViTMAEModel"] = Mae,
        ["BeitModel"] = Beit,
        ["BeitForMaskedImageModeling"] = Beit,
        ["BeitForImageClassification"] = BeitMean,
        ["BeitForSemanticSegmentation"] = BeitMean,
        ["BEiT3"] = Beit3,
        ["BEiT3ForPretraining"] = Beit3.Replace("{", """{"multiway":false,""", StringComparison.Ordinal),
        ["BEiT3ForImageClassification"] = Beit3,
        ["BEiT3ForVisualReasoning"] = Beit3,
        ["BEiT3ForVisualQuestionAnswering"] = Beit3.Replace("{", """{"normalize_output":false,""", StringComparison.Ordinal),
        ["BEiT3ForCaptioning"] = Beit3,
        ["BEiT3ForRetrieval"] = Beit3,
        ["DalleDvae"] = """{"encoder":{"n_hid":8,"n_blk_per_group":1,"vocab_size":12},"decoder":{"n_init":8,"n_hid":8,"n_blk_per_group":1,"vocab_size":12}}""",
        ["GumbelVQ"] = """{"block_out_channels":[4,8],"down_block_types":["DownEncoderBlock2D","AttnDownEncoderBlock2D"],"up_block_types":["AttnUpDecoderBlock2D","UpDecoderBlock2D"],"norm_num_groups":4,"latent_channels":3,"vq_embed_dim":5,"num_vq_embeddings":12,"sample_size":16}""",
        ["VQModel"] = """{"block_out_channels":[4,8],"down_block_types":["DownEncoderBlock2D","AttnDownEncoderBlock2D"],"up_block_types":["AttnUpDecoderBlock2D","UpDecoderBlock2D"],"norm_num_groups":4,"latent_channels":3,"vq_embed_dim":5,"num_vq_embeddings":12,"sample_size":16}""",
        ["ViTMAEForImageClassification"] = Mae.Replace("{", $$"""{{{Labels}},"use_mean_pooling":true,""", StringComparison.Ordinal),
    };

    static IReadOnlyList<ModelEntry> IRegisteredModels.All => Models.All;

    static Module IRegisteredModels.Fresh(string architecture) => Fresh(architecture);

    static Tensor IRegisteredModels.Output(string architecture, Module model) => Output(model);

    static Tensor IRegisteredModels.Loss(string architecture, Module model)
    {
        model.Train();
        return Loss(model);
    }

    static void IRegisteredModels.Save(string folder, Module model) => Models.Save(folder, model);

    static Module IRegisteredModels.Load(string folder) => Models.Load(folder);

    [Theory, MemberData(nameof(Architectures))]
    public void A_model_in_bfloat16_stays_near_float32(string architecture)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Fresh(architecture);
        var exact = Output(model);
        model.To(ScalarType.BFloat16);
        var rounded = Output(model).to(ScalarType.Float32);
        var similarity = (exact * rounded).sum(-1) / exact.norm(-1) / rounded.norm(-1);
        Assert.True(similarity.min().item<float>() > 0.99f, $"cosine {similarity.min().item<float>()}");
    }

    [Theory, MemberData(nameof(Architectures))]
    public void A_tower_leaves_one_tensor_in_the_callers_scope(string architecture)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Fresh(architecture);
        var (pixels, ids) = Inputs(model);
        foreach (var encode in Encoders(model, pixels, ids))
        {
            encode().Dispose();                                                      // what is made once a size
            var before = LiveTensors.Settle();
            using var output = encode();
            Assert.Equal(before + 1, Tensor.TotalCount);
        }
    }

    [Theory, MemberData(nameof(Architectures))]
    public void The_cheap_path_agrees_with_the_full_one(string architecture)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Fresh(architecture);
        var (pixels, ids) = Inputs(model);
        foreach (var (image, text) in Towers(model))
        {
            if (image is not null) Near(image.Forward(pixels).Embedding, image.Encode(pixels));
            if (text is not null) Near(text.Forward(ids).Embedding, text.Encode(ids));
        }

        static void Near(Tensor expected, Tensor actual) => Assert.True((expected - actual).abs().max().item<float>() < 1e-5f);
    }

    [Theory, MemberData(nameof(Architectures))]
    public void Layer_groups_hold_every_trained_weight_of_a_tower_once(string architecture)
    {
        using var scope = NewDisposeScope();
        using var model = Build(architecture);
        foreach (var (image, text) in Towers(model))
            foreach (var tower in (ITower?[])[image, text])
            {
                if (tower is null) continue;
                // A tower that is another one with a projection is no module itself: its weights are the model's on its side.
                var own = (tower is Module module ? module.NamedParameters() : model.NamedParameters().Where(p => p.Key.StartsWith(tower is IImageTower ? "vi" : "te", StringComparison.Ordinal) || (tower is IImageTower && p.Key.StartsWith("dec", StringComparison.Ordinal))))
                    .Select(static p => p.Parameter).Where(static p => p.Trainable).ToHashSet();
                foreach (var groups in (IReadOnlyList<IReadOnlyList<Parameter>>[])[tower.LayerGroups.ForLocking, tower.LayerGroups.ForLayerDecay])
                {
                    var grouped = groups.SelectMany(static g => g).ToArray();
                    Assert.Equal(grouped.Length, grouped.Distinct().Count());
                    Assert.Equal(own, [.. grouped]);
                }
            }
    }

    [Fact]
    public void A_tower_loads_out_of_a_whole_models_file()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = (ClipModel)Fresh("CLIPModel");
        Models.Save(Folder, model);
        using var vision = Models.Load<ClipVisionModel>(Folder);
        using var text = Models.Load<ClipTextModel>(Folder);
        var (pixels, ids) = Inputs(model);
        Assert.Equal(model.Vision.Encode(pixels).data<float>().ToArray(), vision.Encode(pixels).data<float>().ToArray());
        Assert.Equal(model.Text.Encode(ids).data<float>().ToArray(), text.Encode(ids).data<float>().ToArray());
    }

    [Fact]
    public void A_text_towers_file_may_leave_out_its_prefix()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = (ClipTextModel)Fresh("CLIPTextModel");
        Models.Save(Folder, model);
        var bare = model.NamedParameters().Select(static p => KeyValuePair.Create(p.Key.Replace("text_model.", "", StringComparison.Ordinal), p.Parameter.Value));
        SafeTensors.Save(Path.Combine(Folder, "model.safetensors"), bare);
        using var loaded = Models.Load<ClipTextModel>(Folder);
        var ids = Inputs(model).Ids;
        Assert.Equal(model.Encode(ids).data<float>().ToArray(), loaded.Encode(ids).data<float>().ToArray());
    }

    [Fact]
    public void Keys_that_do_not_fit_are_all_named_at_once()
    {
        using var model = Fresh("CLIPModel");
        Models.Save(Folder, model);
        var path = Path.Combine(Folder, "model.safetensors");
        using (var scope = NewDisposeScope())
        {
            var tensors = SafeTensors.Load(path);
            tensors.Remove("logit_scale");
            tensors["stranger"] = zeros(1);
            tensors["visual_projection.weight"] = zeros(12, 15);
            SafeTensors.Save(path, tensors);
        }
        var message = Assert.Throws<PanoptesException>(() => Models.Load(Folder)).Message;
        Assert.Contains("logit_scale", message);
        Assert.Contains("stranger", message);
        Assert.Contains("[12, 15]", message);
        Assert.Contains("[12, 16]", message);
    }

    [Theory]
    [InlineData("""{"architectures":["LlamaForCausalLM"]}""", "LlamaForCausalLM")]
    [InlineData("""{"model_type":"clip","text_config":{"hidden_act":"gelu_10"}}""", "hidden_act")]
    [InlineData("[1, 2]", "architectures")]
    public void A_config_that_is_not_supported_is_refused_by_name(string config, string named)
    {
        using var model = Fresh("CLIPModel");
        Models.Save(Folder, model);
        File.WriteAllText(Path.Combine(Folder, "config.json"), config);
        Assert.Contains(named, Assert.Throws<PanoptesException>(() => Models.Load(Folder)).Message);
    }

    /// <summary>The tiny model of an architecture, without weights.</summary>
    internal static Module Build(string architecture)
    {
        var entry = Models.All.Single(e => e.Architecture == architecture);
        var projected = architecture.EndsWith("WithProjection", StringComparison.Ordinal);
        return entry.Build(new(Tiny[architecture], architecture, Shape));

        // What a model's file says, where it decides: the size of a projection, that a mask token is there.
        long[]? Shape(string key) => projected && key.EndsWith("_projection.weight", StringComparison.Ordinal) ? [12, 16]
            : key is "embeddings.cls_token" or "embeddings.mask_token" or "pooler.dense.weight" ? [1, 1, 16] : null;
    }

    static Module Fresh(string architecture)
    {
        var model = Build(architecture);
        model.Initialize(new Generator(7));
        return model;
    }

    static IEnumerable<(IImageTower? Image, ITextTower? Text)> Towers(Module model) => model switch
    {
        DualEncoder both => [(both.Images, both.Texts)],
        IImageTower image => [(image, null)],
        ITextTower text => [(null, text)],
        AlignModel align => [(align.Vision, align.Text)],
        ImageGptModel or GumbelVq or T5EncoderModel or T5ForConditionalGeneration => [],
        BeitForSemanticSegmentation segmentation => [(segmentation.Beit, null)],
        DalleDvae => [],
        _ => throw new InvalidOperationException(model.GetType().Name),
    };

    static (Tensor Pixels, Tensor Ids) Inputs(Module model)
    {
        var side = Towers(model).FirstOrDefault().Image?.ImageSize ?? 16;
        var generator = new Generator(3);
        var ids = tensor(new long[] { 5, 9, 39, 0, 0, 0, 0, 0, 7, 1, 2, 3, 39, 0, 0, 0 }, [2, 8]);
        return (randn([2, 3, side, side], generator: generator), ids);
    }

    static Tensor Sample(ImageBindConfig c, Modality modality) => modality switch
    {
        Modality.Vision => randn([2, 3, c.ImageSize, c.ImageSize], generator: new Generator(3)),
        Modality.Text => tensor(new long[] { 5, 9, 39, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4, 8, 6, 39 }, [2, 8]),
        Modality.Audio => randn([2, 3, 1, c.AudioNumMelBins, c.AudioTargetLen], generator: new Generator(3)),
        Modality.Imu => randn([2, 6, c.ImuLength], generator: new Generator(3)),
        _ => randn([2, 1, c.ImageSize, c.ImageSize], generator: new Generator(3)),
    };

    static IEnumerable<Func<Tensor>> Encoders(Module model, Tensor pixels, Tensor ids)
    {
        foreach (var (image, text) in Towers(model))
        {
            if (image is not null) yield return () => image.Encode(pixels);
            if (text is not null) yield return () => text.Encode(ids);
        }
    }

    static Tensor Output(Module model)
    {
        var (pixels, ids) = Inputs(model);
        if (model is ImageGptModel colors) return colors.Forward(ids);
        if (model is T5EncoderModel t5) return t5.Forward(ids, ids.ne(0)).flatten(1);
        if (model is T5ForConditionalGeneration writer) return writer.Forward(ids, ids.ne(0), ids).flatten(1);
        if (model is VqModel vq) return vq.Decode(vq.Latents(pixels)).flatten(1);
        if (model is GumbelVq gumbel) return gumbel.Picture(gumbel.Tokenize(pixels)).flatten(1);
        if (model is DalleDvae dalle) return dalle.Decoder.Forward(dalle.Encoder.Forward(pixels.to(dalle.Encoder.Input.W.Value.dtype)).softmax(1)).flatten(1);
        return model is DualEncoder both ? both.Features(pixels, ids).Logits() : Encoders(model, pixels, ids).First()();
    }

    static Tensor Loss(Module model)
    {
        var (pixels, ids) = Inputs(model);
        var masked = tensor(new[] { true, false, false, true, false, true, false, true }, [2, 4]);
        if (model is VqModel vq) return vq.Decode(vq.Latents(pixels)).square().mean() + VectorQuantizer.Loss(vq.Latents(pixels), vq.Quantize.Entries(vq.Quantize.Nearest(vq.Latents(pixels))), 1, 1) + vq.Quantize.Embedding.Weight.Value.square().mean();
        if (model is GumbelVq gumbel && gumbel.Forward(pixels, 1, new Generator(5)) is var (decoded, divergence)) return decoded.square().mean() + divergence;
        if (model is MaeForPreTraining mae) return mae.Loss(pixels);
        if (model is BeitForMaskedImageModeling beit) return beit.Loss(pixels, masked, masked.to(ScalarType.Int64));
        if (model is BeitForSemanticSegmentation segmentation) return segmentation.Loss(pixels, zeros(2, 16, 16, dtype: ScalarType.Int64));
        if (model is Beit3Base beit3) return beit3.Beit3.Forward(pixels, ids, masked: masked).Tokens.square().mean() + Beit3Loss(beit3, pixels, ids, masked);
        if (model is Beit3ForRetrieval retrieval) return ContrastiveLoss.Of(retrieval.Features(pixels, ids)) + retrieval.Beit3.Forward(pixels, ids, masked: masked).Tokens.square().mean();
        if (model is ImageClassifier classifier) return classifier.Logits(pixels).square().mean();
        if (model is ImageGptModel colors) return ImageGptModel.Loss(colors.Forward(ids), ids);
        if (model is T5ForConditionalGeneration writer) return writer.Loss(ids, ids.ne(0), ids);
        if (model is AlignModel align)
        {
            var aligned = align.Forward(pixels, ids);
            return AlignModel.Loss(aligned.LogitsPerImage) + aligned.Text.Pooled.square().mean();
        }
        if (model is FlavaModel flava)
        {
            var (image, text, multimodal) = flava.Forward(pixels, ids, masked: masked);
            var pooled = image.Pooled.square().mean() + text.Pooled.square().mean() + multimodal.Pooled.square().mean();
            return ContrastiveLoss.Of(flava.Features(pixels, ids)) + pooled;
        }
        if (model is IMaskedImageTower tower) return tower.Forward(pixels, masked).Embedding.square().mean();
        if (model is not DualEncoder both) return Output(model).square().mean();
        if (model is CoCaModel coca && coca.Forward(pixels, ids) is var output) return ContrastiveLoss.Of(output.Pairs) + CaptioningLoss.Of(output.Logits, output.Labels);
        if (model is IBoundModel bind)
        {
            var bound = bind.Modalities.Select(m => (bind.Embed(m, Sample(bind.Encoders, m)) * randn([2, 12], generator: new Generator(5))).sum()).Aggregate(static (a, b) => a + b);
            return model is ImageBindModel ? bound : bound + ContrastiveLoss.Of(both.Features(pixels, ids));
        }
        var features = both.Features(pixels, ids);
        return both.LogitBias is null ? ContrastiveLoss.Of(features) : SigmoidLoss.Of(features);
    }

    static Tensor Beit3Loss(Beit3Base model, Tensor pixels, Tensor ids, Tensor masked) => model switch
    {
        Beit3ForPretraining pretraining => pretraining.PairLoss(pixels, masked, masked.to(ScalarType.Int64), ids, ids.eq(1), ids),
        Beit3ForImageClassification classifier => classifier.Logits(pixels).square().mean(),
        Beit3ForVisualReasoning reasoning => reasoning.Logits(pixels, pixels.flip(0), ids).square().mean(),
        Beit3ForVisualQuestionAnswering answering => answering.Logits(pixels, ids).square().mean(),
        Beit3ForCaptioning captioning => captioning.Loss(pixels, ids, ids.eq(1), ids),
        _ => zeros(1),
    };
}
