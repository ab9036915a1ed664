using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Parity;
using Panoptes.Representation;
using Panoptes.Text;
using Panoptes.Understanding.Tests.Tiny;

namespace Panoptes.Understanding.Tests;

/// <summary>Complete folders of tiny models of random weights, with all that users' classes read beside the weights.</summary>
static class TinyFolders
{
    const string Beit = """
        {"architectures": ["BeitForSemanticSegmentation"], "hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 32, "patch_size": 8, "drop_path_rate": 0.0,
        "use_mean_pooling": false, "use_relative_position_bias": true, "out_indices": [1, 2, 3, 4], "pool_scales": [1, 2], "auxiliary_channels": 8, "id2label": {"0": "cat", "1": "sky"}}
        """;

    static readonly string[] Words = ["a", "the", "red", "apple", "cat", "left", "of", "what", "is", "image", "locate", "in", "describe", "does", "mask", "with", "region", "?", ".", "an", "question", "answer", ":", "phrases", "caption"];

    static readonly PaddedImageProcessor Small = new() { ProcessorType = "Mask2FormerImageProcessor", Size = PaddedSize.Edges(40, 100), SizeDivisor = 32 };

    /// <summary>An OWL-ViT, a Grounding DINO or a DETR.</summary>
    public static void Detector(string folder, string architecture)
    {
        Directory.CreateDirectory(folder);
        var config = DetectorsTiny.Tiny[architecture].Config;
        switch (architecture)
        {
            case "OwlViTForObjectDetection":
                var merges = Path.Combine(folder, "all-merges.txt");
                File.WriteAllText(merges, "#version: 0.2\nc a\nca t</w>\nd o\n");
                config = config.Replace("\"vocab_size\": 50", $"\"vocab_size\": {ClipVocabulary.Truncate(merges, 2, folder, 8)}", StringComparison.Ordinal);
                File.Delete(merges);
                break;
            case "GroundingDinoForObjectDetection":
                string[] words = [.. Enumerable.Range(0, 1032).Select(static i => $"[unused{i}]")];
                (words[0], words[100], words[101], words[102], words[1012], words[1029], words[5], words[6], words[7], words[8]) = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "?", "a", "red", "cat", "dog");
                File.WriteAllLines(Path.Combine(folder, "vocab.txt"), words);
                break;
        }
        File.WriteAllText(Path.Combine(folder, "preprocessor_config.json"), architecture == "OwlViTForObjectDetection"
            ? """{"image_processor_type": "OwlViTImageProcessor", "size": {"height": 32, "width": 32}}"""
            : $$"""{"image_processor_type": "{{architecture[..^18]}}ImageProcessor", "size": {"shortest_edge": 64, "longest_edge": 96} }""");
        Save(folder, PromptableModels.All.Single(e => e.Architecture == architecture).Build(new(config, architecture, static _ => null)), 11);
    }

    /// <summary>A Mask2Former, a OneFormer or a DETR with masks of three classes, or a BEiT of two (cat, sky).</summary>
    public static void Segmenter(string folder, string architecture)
    {
        if (architecture == "BeitForSemanticSegmentation")
        {
            using var beit = Models.All.Single(static e => e.Architecture == "BeitForSemanticSegmentation").Build(new(Beit, "beit", static _ => null));
            beit.Initialize(new Generator(7));
            Models.Save(folder, beit);
            File.WriteAllText(Path.Combine(folder, "preprocessor_config.json"), """{"image_processor_type": "BeitImageProcessor", "size": {"height": 32, "width": 32}}""");
            return;
        }
        var config = (architecture == "DetrForSegmentation" ? DetectorsTiny.Tiny : UniversalSegmentationTiny.Tiny)[architecture].Config.Replace("\"is_training\": true", "\"is_training\": false", StringComparison.Ordinal).Replace("\"task_seq_len\": 6", "\"task_seq_len\": 77", StringComparison.Ordinal);
        Save(folder, PromptableModels.All.Single(e => e.Architecture == architecture).Build(new(config, architecture, static _ => null)), 7);
        var one = architecture.StartsWith("One", StringComparison.Ordinal);
        (architecture switch
        {
            "DetrForSegmentation" => Small with { ProcessorType = "DetrImageProcessor", SizeDivisor = 1 },
            "OneFormerForUniversalSegmentation" => Small with { ProcessorType = "OneFormerImageProcessor", SizeDivisor = 1 },
            _ => Small,
        }).Save(folder);
        if (one)
            foreach (var file in Directory.GetFiles(Path.Combine(Goldens.Root, "representation", "clip_tokenizer"), "*.*").Where(static f => Path.GetFileName(f) is "vocab.json" or "merges.txt")) File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
    }

    /// <summary>An X-Decoder, a SEEM or a Uni-Perceiver v2, which reads what the bundled CLIP's tokenizer writes.</summary>
    public static void Decoder(string folder, string architecture)
    {
        var tokenizer = Tokenizer.Load(Path.Combine(Goldens.Repository, "zoo", "clip-emoji"));
        var config = XDecoderTiny.Tiny[architecture].Config.Replace("\"vocab_size\": 40", $"\"vocab_size\": {tokenizer.VocabularySize}", StringComparison.Ordinal)
            .Replace("\"max_position_embeddings\": 9", "\"max_position_embeddings\": 12", StringComparison.Ordinal);
        Save(folder, PromptableModels.All.Single(e => e.Architecture == architecture).Build(new(config, architecture, static _ => null)), 3);
        tokenizer.Save(folder);
    }

    /// <summary>A UniTAB, a VisionLLM, a Unified-IO or a Pix2Seq v2 (of cat and dog), as recipes save them.</summary>
    public static void Trained(string folder, string architecture)
    {
        var tokenizer = Tokenizer.Load(Path.Combine(Goldens.Repository, "zoo", "clip-emoji"));
        var config = SequencesTiny.Tiny[architecture].Config.Replace("\"text_vocab_size\":10", $"\"text_vocab_size\":{tokenizer.VocabularySize}", StringComparison.Ordinal)
            .Replace("\"max_sequence_tokens\":16", "\"max_sequence_tokens\":96", StringComparison.Ordinal).Replace("\"max_prompt_tokens\":8", "\"max_prompt_tokens\":48", StringComparison.Ordinal);
        Save(folder, PromptableModels.All.Single(e => e.Architecture == architecture).Build(new(config, architecture, static _ => null)), 5);
        tokenizer.Save(folder);
        File.WriteAllText(Path.Combine(folder, "preprocessor_config.json"), """{"image_processor_type":"ViTImageProcessor","size":{"height":16,"width":16} }""");
    }

    static void Save(string folder, Module module, ulong seed)
    {
        using (module)
        {
            module.Initialize(new Generator(seed));
            PromptableModels.Save(folder, module);
        }
    }

    /// <summary>A Florence-2 of few words.</summary>
    public static void Florence(string folder)
    {
        string[] tokens = ["<s>", "<pad>", "</s>", "<unk>", .. Words, .. Enumerable.Range(0, 1000).Select(static i => $"<loc_{i}>"), "<poly>", "</poly>", "<sep>", "<image>"];
        SaveTokenizer(folder, tokens, static t => t.StartsWith('<'));
        var config = $$$"""
            {"architectures":["Florence2ForConditionalGeneration"],"model_type":"florence2","image_token_id":{{{tokens.Length - 1}}},
             "vision_config":{"depths":[1,1],"patch_size":[7,3],"patch_stride":[4,2],"patch_padding":[3,1],"patch_prenorm":[false,true],"embed_dim":[8,16],"num_heads":[2,2],"num_groups":[2,4],"window_size":3,
              "mlp_ratio":2.0,"projection_dim":16,"max_temporal_embeddings":3,"max_position_embeddings":6},
             "text_config":{"vocab_size":{{{tokens.Length}}},"d_model":16,"encoder_layers":1,"decoder_layers":1,"encoder_attention_heads":2,"decoder_attention_heads":2,"encoder_ffn_dim":24,"decoder_ffn_dim":24,
              "max_position_embeddings":64,"init_std":0.3}}
            """;
        Sequence(folder, new Florence2Model(ModelConfig.Parse<Florence2Config>(config, "test")), 32);
    }

    /// <summary>A Kosmos-2 of few words.</summary>
    public static void Kosmos(string folder)
    {
        string[] tokens = ["<s>", "<pad>", "</s>", "<unk>", "i0", "i1", "i2", .. Words, "<image>", "</image>", "<phrase>", "</phrase>", "<object>", "</object>", "</delimiter_of_multi_objects/>", "<grounding>",
            .. Enumerable.Range(0, 1024).Select(static i => $"<patch_index_{i:0000}>")];
        SaveTokenizer(folder, tokens, static t => t is "<s>" or "<pad>" or "</s>" or "<unk>");
        var config = $$$"""
            {"architectures":["Kosmos2ForConditionalGeneration"],"model_type":"kosmos-2","latent_query_num":3,
             "vision_config":{"hidden_size":12,"intermediate_size":20,"num_hidden_layers":1,"num_attention_heads":2,"image_size":8,"patch_size":4},
             "text_config":{"vocab_size":{{{tokens.Length}}},"max_position_embeddings":64,"embed_dim":16,"layers":2,"ffn_dim":24,"attention_heads":2,"init_std":0.3}}
            """;
        Sequence(folder, new Kosmos2Model(ModelConfig.Parse<Kosmos2Config>(config, "test")), 8);
    }

    static void Sequence(string folder, Module module, int side)
    {
        Save(folder, module, 11);
        File.WriteAllText(Path.Combine(folder, "preprocessor_config.json"), $$"""{"image_processor_type":"CLIPImageProcessor","do_center_crop":false,"size":{"height":{{side}},"width":{{side}} } }""");
    }

    /// <summary>Words by spaces, marks wherever they stand.</summary>
    static void SaveTokenizer(string folder, string[] tokens, Func<string, bool> special)
    {
        var added = tokens.Select(static (t, i) => (t, i)).Where(static p => p.t.StartsWith('<')).Select(p => new Dictionary<string, object>
        {
            ["id"] = p.i,
            ["content"] = p.t,
            ["single_word"] = false,
            ["lstrip"] = true,
            ["rstrip"] = false,
            ["normalized"] = false,
            ["special"] = special(p.t),
        });
        File.WriteAllText(Path.Combine(folder, "tokenizer.json"), JsonSerializer.Serialize(new Dictionary<string, object?>
        {
            ["version"] = "1.0",
            ["truncation"] = null,
            ["padding"] = null,
            ["added_tokens"] = added,
            ["normalizer"] = new { type = "Lowercase" },
            ["pre_tokenizer"] = new { type = "WhitespaceSplit" },
            ["post_processor"] = null,
            ["decoder"] = null,
            ["model"] = new Dictionary<string, object> { ["type"] = "WordLevel", ["vocab"] = tokens.Select(static (t, i) => (t, i)).ToDictionary(static p => p.t, static p => p.i), ["unk_token"] = "<unk>" },
        }));
    }
}
