using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Parity.Adapters;

/// <summary>Full-size checkpoints of Hugging Face's CLIP and SigLIP, of open_clip and of OpenAI.</summary>
sealed class RepresentationLayouts : ILayoutAdapter
{
    public bool Matches(ParityLayout layout) => Models.All.Any(e => e.Architecture == Architecture(layout)) && !TamingLayouts.IsTaming(layout);

    /// <summary>ImageBind's layout names the function that builds the class.</summary>
    static string Architecture(ParityLayout layout) => layout.Architecture == "imagebind_huge" ? "ImageBindModel" : layout.Architecture;

    public Module Build(ParityLayout layout)
    {
        // OpenAI's files have no config: the sizes follow from the shapes, and must be those that the peer was built with.
        var openAi = layout.Peer.StartsWith("openai", StringComparison.Ordinal);
        var source = new ModelSource(openAi ? "" : layout.Config.GetRawText(), layout.Name, key => layout.Keys.TryGetValue(key, out var entry) ? entry.Shape : null);
        var model = Models.All.First(e => e.Architecture == Architecture(layout)).Build(source);
        if (openAi && model is OpenClipModel { Config: var c }
            && (c.VisionCfg.ImageSize[0] != Number("image_resolution") || c.VisionCfg.Width != Number("vision_width") || c.TextCfg.Heads != Number("transformer_heads")
                || c.TextCfg.ContextLength != Number("context_length") || c.TextCfg.Layers != Number("transformer_layers")))
            throw new InvalidOperationException($"The sizes read from the shapes are not those of the peer: {c}");
        return model;

        int Number(string name) => layout.Config.GetProperty(name).GetInt32();
    }
}
