using System.Text.Json;
using System.Text.Json.Serialization;
using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>An open_clip image tower ("vision_cfg"): a vision transformer, CLIP's ResNet where <see cref="Layers"/> has four numbers, or one of timm's by name.</summary>
public sealed record OpenClipVisionConfig : ModelConfig
{
    [JsonConverter(typeof(OneOrMoreConverter))]
    public int[] Layers { get; init; } = [12];
    public int Width { get; init; } = 768;

    /// <summary>The size of one head; their number follows.</summary>
    public int HeadWidth { get; init; } = 64;
    public double MlpRatio { get; init; } = 4;
    public int? PatchSize { get; init; }

    [JsonConverter(typeof(OneOrMoreConverter))]
    public int[] ImageSize { get; init; } = [224];

    /// <summary>Where given, each residual branch is scaled by a learned vector that starts at this.</summary>
    public double? LsInitValue { get; init; }

    /// <summary>The fraction of patches left out in training (FLIP).</summary>
    public double PatchDropout { get; init; }
    public bool NoLnPre { get; init; }
    public bool FinalLnAfterPool { get; init; }

    /// <summary>"tok" (the class token) or "avg" (the mean of the patches).</summary>
    public string PoolType { get; init; } = "tok";

    /// <summary>Whether learned queries pool the tokens by attention, the first of them for the embedding (CoCa).</summary>
    public bool AttentionalPool { get; init; }
    public int AttnPoolerQueries { get; init; } = 256;
    public int AttnPoolerHeads { get; init; } = 8;

    /// <summary>Whether open_clip's tower gives its tokens, too, as CoCa needs; ours always does.</summary>
    public bool? OutputTokens { get; init; }
    public OpenClipNorm? NormKwargs { get; init; }
    public OpenClipActivation? ActKwargs { get; init; }
    public string? TimmModelName { get; init; }
    public string? TimmPool { get; init; }
    public string? TimmProj { get; init; }

    /// <summary>Sizes other than those that an EVA's name stands for, to train small ones; open_clip itself goes by the name alone.</summary>
    public EvaArgs? TimmModelArgs { get; init; }
}

/// <summary>An open_clip text tower ("text_cfg").</summary>
public sealed record OpenClipTextConfig : ModelConfig
{
    public int ContextLength { get; init; } = 77;
    public int VocabSize { get; init; } = 49408;
    public int Width { get; init; } = 512;
    public int Heads { get; init; } = 8;
    public int Layers { get; init; } = 12;
    public double MlpRatio { get; init; } = 4;
    public double? LsInitValue { get; init; }
    public int PadId { get; init; }
    public int EosId { get; init; } = 2;
    public bool NoCausalMask { get; init; }

    /// <summary>"argmax" (the largest id), "eos" (the first <see cref="EosId"/>), "first" or "last".</summary>
    public string PoolType { get; init; } = "argmax";
    public bool ProjBias { get; init; }

    /// <summary>"linear" or "none".</summary>
    public string ProjType { get; init; } = "linear";

    /// <summary>Whether a class token is appended to the text and pooled (CoCa).</summary>
    public bool EmbedCls { get; init; }

    /// <summary>Whether padding hides its own keys; by default each hides the key after it, as in all published CoCa models.</summary>
    public bool? CorrectClsMask { get; init; }

    /// <summary>Whether open_clip's tower gives its tokens, too, as CoCa needs; ours always does.</summary>
    public bool? OutputTokens { get; init; }
    public OpenClipNorm? NormKwargs { get; init; }
    public OpenClipActivation? ActKwargs { get; init; }
}

/// <summary>CoCa's decoder ("multimodal_cfg"). Its MLPs are always four times as wide as it is: open_clip does not look at mlp_ratio there.</summary>
public sealed record OpenClipMultimodalConfig : ModelConfig
{
    public int ContextLength { get; init; } = 77;
    public int Width { get; init; } = 512;
    public int Heads { get; init; } = 8;
    public int Layers { get; init; } = 12;
    public double? LsInitValue { get; init; }
}

/// <summary>Options of the norms ("norm_kwargs").</summary>
public sealed record OpenClipNorm
{
    public double Eps { get; init; } = 1e-5;
}

/// <summary>Options of the activation ("act_kwargs").</summary>
public sealed record OpenClipActivation
{
    /// <summary>"tanh" for GELU's approximation.</summary>
    public string? Approximate { get; init; }
}

/// <summary>The model ("model_cfg" in open_clip_config.json, or a whole file of open_clip's model_configs).</summary>
public sealed record OpenClipConfig : ModelConfig
{
    public int EmbedDim { get; init; } = 512;
    public OpenClipVisionConfig VisionCfg { get; init; } = new();
    public OpenClipTextConfig TextCfg { get; init; } = new();

    /// <summary>The decoder that makes the model a <see cref="CoCaModel"/>; null: a CLIP.</summary>
    public OpenClipMultimodalConfig? MultimodalCfg { get; init; }
    public bool QuickGelu { get; init; }
    public double? InitLogitScale { get; init; }
    public double? InitLogitBias { get; init; }
    public bool NonscalarLogitScale { get; init; }

    /// <summary>Whether the text tower's keys begin with "text." instead of standing beside the model's own.</summary>
    public bool CustomText { get; init; }

    // Switches of parts that no published model uses.
    static readonly string[] UnsupportedVision =
        ["qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc", "timm_model_pretrained"];

    static readonly string[] UnsupportedText =
        ["hf_model_name", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"];

    /// <summary>Reads model_cfg out of open_clip_config.json (or the whole of a model_configs file).</summary>
    /// <exception cref="PanoptesException">Not such a file, or it asks for a part that is not supported.</exception>
    public static OpenClipConfig Read(string json, string source)
    {
        JsonElement root;
        try
        {
            root = JsonDocument.Parse(json).RootElement;
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"{source}: not JSON ({e.Message.TrimEnd('.')}).", e);
        }
        if (root.ValueKind == JsonValueKind.Object && root.TryGetProperty("model_cfg", out var inner)) root = inner;
        if (root.ValueKind != JsonValueKind.Object || !root.TryGetProperty("vision_cfg", out _))
            throw new PanoptesException($"{source}: expected an open_clip config with \"model_cfg\" or \"vision_cfg\".");
        var config = Parse<OpenClipConfig>(root.GetRawText(), source);
        Refuse(config.VisionCfg.Unknown, "vision_cfg", UnsupportedVision, source);
        Refuse(config.TextCfg.Unknown, "text_cfg", UnsupportedText, source);
        if (config.TextCfg.EmbedCls != config.MultimodalCfg is not null)
            throw new PanoptesException($"{source}: text_cfg.embed_cls is {(config.TextCfg.EmbedCls ? "true" : "false")}; expected true with \"multimodal_cfg\" (CoCa) and false without.");
        Expect(config.VisionCfg.PoolType, "vision_cfg.pool_type", ["tok", "avg"], source);
        Expect(config.TextCfg.PoolType, "text_cfg.pool_type", ["argmax", "eos", "first", "last"], source);
        Expect(config.TextCfg.ProjType, "text_cfg.proj_type", ["linear", "none"], source);
        return config;
    }

    static void Refuse(Dictionary<string, JsonElement>? unknown, string part, string[] unsupported, string source)
    {
        foreach (var name in unsupported)
            if (unknown?.TryGetValue(name, out var value) == true && value.ValueKind is not (JsonValueKind.False or JsonValueKind.Null))
                throw new PanoptesException($"{source}: {part}.{name} is {value.GetRawText()}, which is not supported.");
    }

    static void Expect(string value, string field, string[] known, string source)
    {
        if (!known.Contains(value)) throw new PanoptesException($"{source}: {field} is \"{value}\"; expected one of {string.Join(", ", known)}.");
    }

    /// <summary>The sizes of one of OpenAI's own files, which carry no config: all of them follow from the shapes.</summary>
    /// <param name="shape">The shape of a key, or null where the file has no such key.</param>
    /// <param name="source">The file, for errors.</param>
    /// <exception cref="PanoptesException">The keys are not those of OpenAI's CLIP.</exception>
    public static OpenClipConfig FromShapes(Func<string, long[]?> shape, string source)
    {
        var text = Of("positional_embedding", 2);
        int[] layers;
        int width, image;
        int? patch = null;
        if (shape("visual.proj") is not null)
        {
            var conv = Of("visual.conv1.weight", 4);
            (width, patch) = ((int)conv[0], (int)conv[^1]);
            layers = [Count(i => $"visual.transformer.resblocks.{i}.ln_1.weight")];
            image = Side(Of("visual.positional_embedding", 2)[0] - 1) * patch.Value;
        }
        else
        {
            width = (int)Of("visual.layer1.0.conv1.weight", 4)[0];
            layers = [.. Enumerable.Range(1, 4).Select(l => Count(i => $"visual.layer{l}.{i}.conv1.weight"))];
            image = Side(Of("visual.attnpool.positional_embedding", 2)[0] - 1) * 32;
        }
        return new()
        {
            EmbedDim = (int)Of("text_projection", 2)[1],
            QuickGelu = true,
            VisionCfg = new() { Layers = layers, Width = width, PatchSize = patch, ImageSize = [image] },
            TextCfg = new()
            {
                ContextLength = (int)text[0],
                VocabSize = (int)Of("token_embedding.weight", 2)[0],
                Width = (int)text[1],
                Heads = (int)text[1] / 64,
                Layers = Count(i => $"transformer.resblocks.{i}.ln_1.weight"),
            },
        };

        long[] Of(string key, int rank)
        {
            var found = shape(key) ?? throw new PanoptesException($"{source}: the key \"{key}\" of OpenAI's CLIP is missing.");
            return found.Length == rank ? found : throw new PanoptesException($"{source}: \"{key}\" is [{string.Join(", ", found)}]; expected {rank} dimensions, as in OpenAI's CLIP.");
        }

        int Count(Func<int, string> key)
        {
            var count = 0;
            while (shape(key(count)) is not null) count++;
            return count;
        }

        static int Side(long tokens) => (int)Math.Round(Math.Sqrt(tokens));
    }
}

/// <summary>A number, or a list of them: both read as a list, and a list of one is written as a number.</summary>
sealed class OneOrMoreConverter : JsonConverter<int[]>
{
    public override int[] Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        if (reader.TokenType == JsonTokenType.Number) return [reader.GetInt32()];
        if (reader.TokenType != JsonTokenType.StartArray) throw new JsonException("expected a number or a list of numbers");
        var values = new List<int>();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray) values.Add(reader.GetInt32());
        if (values.Count == 0) throw new JsonException("expected at least one number");
        return [.. values];
    }

    public override void Write(Utf8JsonWriter writer, int[] value, JsonSerializerOptions options)
    {
        if (value.Length == 1)
        {
            writer.WriteNumberValue(value[0]);
            return;
        }
        writer.WriteStartArray();
        foreach (var v in value) writer.WriteNumberValue(v);
        writer.WriteEndArray();
    }
}
