using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Text;
using static TorchSharp.torch;

namespace Panoptes.Representation.Tests;

/// <summary>A complete folder with a tiny model of random weights and CLIP's own tokenizer cut short, gone when the test is.</summary>
sealed class TinyClip : IDisposable
{
    /// <summary>One whose texts may be long.</summary>
    public TinyClip() => Write(Folder, contextLength: 96);

    public string Folder { get; } = Directory.CreateTempSubdirectory("panoptes-tiny-").FullName;

    public Clip Load() => Clip.Load(Folder);

    /// <summary>The model as it is in training, with its parts.</summary>
    public (DualEncoder Model, ImageProcessor Processor, Tokenizer Tokenizer) LoadForTraining()
    {
        var model = (DualEncoder)Models.Load(Folder, new LoadOptions { Dtype = ScalarType.Float32 });
        model.Train();
        return (model, ImageProcessor.Load(Folder), Tokenizer.Load(Folder));
    }

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    /// <summary>Writes model, image processor and tokenizer of the architecture into <paramref name="folder"/>.</summary>
    public static void Write(string folder, string architecture = "CLIPModel", int contextLength = 16)
    {
        Directory.CreateDirectory(folder);
        var merges = Path.Combine(folder, "all-merges.txt");
        File.WriteAllText(merges, "#version: 0.2\nc a\nca t</w>\nd o\n");
        var ids = ClipVocabulary.Truncate(merges, 2, folder, contextLength);
        File.Delete(merges);
        var clipText = $$"""{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"max_position_embeddings":{{contextLength}},"vocab_size":{{ids}},"eos_token_id":{{ids - 1}}}""";
        var siglipText = $$"""{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"vocab_size":{{ids}},"max_position_embeddings":{{contextLength}}}""";
        const string vision = """{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"image_size":16,"patch_size":8,"num_patches":4}""";
        var openClipText = $$"""{"context_length":{{contextLength}},"width":16,"heads":2,"layers":2,"vocab_size":{{ids}},"ls_init_value":null}""";
        var (config, processor) = architecture switch
        {
            "CLIPModel" => ($$"""{"projection_dim":12,"text_config":{{clipText}},"vision_config":{{vision}}}""", """{"image_processor_type":"CLIPImageProcessor","size":{"shortest_edge":16},"crop_size":16}"""),
            "SiglipModel" => ($$"""{"text_config":{{siglipText}},"vision_config":{{vision}}}""", """{"image_processor_type":"SiglipImageProcessor","size":{"height":16,"width":16}}"""),
            "Siglip2Model" => ($$"""{"model_type":"siglip2","architectures":["Siglip2Model"],"text_config":{{siglipText}},"vision_config":{{vision}}}""", """{"image_processor_type":"Siglip2ImageProcessor","patch_size":8,"max_num_patches":9}"""),
            "StairModel" => ($$"""{"vision_config":{"model_type":"clip_vision_model",{{vision[1..]}},"text_config":{"model_type":"clip_text_model",{{clipText[1..]}}}""", """{"image_processor_type":"CLIPImageProcessor","size":{"shortest_edge":16},"crop_size":16}"""),
            "BEiT3ForCaptioning" => ($$"""{"img_size":16,"patch_size":8,"encoder_embed_dim":16,"encoder_attention_heads":2,"encoder_ffn_embed_dim":24,"encoder_layers":2,"vocab_size":{{ids}},"max_source_positions":{{contextLength + 2}}}""", """{"image_processor_type":"CLIPImageProcessor","size":{"shortest_edge":16},"crop_size":16}"""),
            "BEiT3ForVisualQuestionAnswering" => ($$"""{"img_size":16,"patch_size":8,"encoder_embed_dim":16,"encoder_attention_heads":2,"encoder_ffn_embed_dim":24,"encoder_layers":2,"vocab_size":{{ids}},"max_source_positions":{{contextLength + 2}},"normalize_output":false,"num_labels":3,"id2label":{"0":"yes","1":"no","2":"2"} }""", """{"image_processor_type":"CLIPImageProcessor","size":{"shortest_edge":16},"crop_size":16}"""),
            "CoCa" => ($$"""{"embed_dim":16,"custom_text":true,"vision_cfg":{"image_size":16,"layers":2,"width":24,"head_width":8,"patch_size":8,"attentional_pool":true,"attn_pooler_queries":3,"attn_pooler_heads":2},"text_cfg":{"context_length":{{contextLength}},"width":16,"heads":2,"layers":2,"vocab_size":{{ids}},"embed_cls":true},"multimodal_cfg":{"context_length":{{contextLength}},"width":16,"heads":2,"layers":2} }""", ""),
            _ => ($$"""{"embed_dim":12,"vision_cfg":{"image_size":16,"layers":2,"width":16,"head_width":8,"patch_size":8},"text_cfg":{{openClipText}}}""", ""),
        };
        using var model = Models.All.First(e => e.Architecture == architecture).Build(new(config, architecture, static _ => null));
        using (var generator = new Generator(11)) model.Initialize(generator);
        Models.Save(folder, model);
        if (processor.Length > 0) File.WriteAllText(Path.Combine(folder, "preprocessor_config.json"), processor);
    }
}
