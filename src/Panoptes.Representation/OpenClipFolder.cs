using System.Text.Json.Nodes;
using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>open_clip's layout of a model's folder: open_clip_config.json beside open_clip_model.safetensors.</summary>
static class OpenClipFolder
{
    /// <summary>OpenAI's files carry these numbers among the weights, open_clip's own files may.</summary>
    internal static bool IsNoWeight(string key) => key is "input_resolution" or "context_length" or "vocab_size" or "attn_mask" or "text.attn_mask";

    internal static void Save(string folder, Module model, OpenClipConfig config, SaveOptions? options)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        Directory.CreateDirectory(folder);
        var tensors = model.NamedParameters().Select(p =>
            KeyValuePair.Create(p.Key, options?.Dtype is { } dtype ? p.Parameter.Value.detach().to(dtype) : p.Parameter.Value));
        SafeTensors.Save(Path.Combine(folder, "open_clip_model.safetensors"), tensors, new Dictionary<string, string> { ["format"] = "pt" });

        var path = Path.Combine(folder, "open_clip_config.json");
        var cfg = JsonNode.Parse(config.ToJson())!.AsObject();
        cfg.Remove("architectures");                                             // what a recipe or Hugging Face names; open_clip takes no such argument
        var file = new JsonObject { ["model_cfg"] = cfg, ["preprocess_cfg"] = Preprocessing(path) };
        AtomicFile.WriteText(path, file.ToJsonString(ModelConfig.JsonOptions) + "\n");
    }

    /// <summary>What the folder's file says already, else OpenAI's channel means and deviations.</summary>
    static JsonNode Preprocessing(string path)
    {
        if (File.Exists(path) && JsonNode.Parse(ModelFolder.ReadText(path)) is JsonObject old && old["preprocess_cfg"] is { } known) return known.DeepClone();
        return new JsonObject
        {
            ["mean"] = new JsonArray(0.48145466, 0.4578275, 0.40821073),
            ["std"] = new JsonArray(0.26862954, 0.26130258, 0.27577711),
        };
    }
}
