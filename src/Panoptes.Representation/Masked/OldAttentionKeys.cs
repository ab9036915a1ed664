using Panoptes.Checkpoints;

namespace Panoptes.Representation;

/// <summary>What attention layers were called in files that older versions of diffusers wrote, such as those of Stable Diffusion 1 and 2 and of the first UNet2DModels: query, key, value, proj_attn. The peer still reads them.</summary>
public static class OldAttentionKeys
{
    static readonly (string Old, string New)[] Names = [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];

    /// <summary>Reads a file whose layers have the older names under the newer ones; other files as they are.</summary>
    internal static LoadOptions Adjust(Weights weights, LoadOptions options) => weights.Keys.Any(static k => k.EndsWith(".proj_attn.weight", StringComparison.Ordinal)) ? options with { Mapping = options.Mapping ?? ToNew } : options;

    /// <summary>The newer key of an older one.</summary>
    public static string ToNew(string key) => Renamed(key, static n => n.Old, static n => n.New);

    /// <summary>The opposite of <see cref="ToNew"/>.</summary>
    public static string ToOld(string key) => Renamed(key, static n => n.New, static n => n.Old);

    static string Renamed(string key, Func<(string Old, string New), string> from, Func<(string Old, string New), string> to)
    {
        if (!key.Contains(".attentions.", StringComparison.Ordinal)) return key;
        foreach (var name in Names) key = key.Replace($".{from(name)}.", $".{to(name)}.", StringComparison.Ordinal);
        return key;
    }
}
