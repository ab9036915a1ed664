namespace Panoptes.Generation;

/// <summary>What is asked of every transformer's config.</summary>
static class TransformerSizes
{
    /// <summary>The width of tokens.</summary>
    /// <exception cref="PanoptesException">More than any model has.</exception>
    internal static int Width(int heads, int headSize) => (long)heads * headSize <= 1 << 15 ? heads * headSize
        : throw new PanoptesException($"num_attention_heads is {heads} and attention_head_dim {headSize}; expected a product of at most {1 << 15}.");

    /// <exception cref="PanoptesException">Sizes that do not fit together, or that no model has.</exception>
    internal static void Patches(int side, int patch, int inChannels, int? outChannels)
    {
        if (side > 1 << 14 || patch > side || Math.Max(inChannels, outChannels ?? 0) > 1 << 12 || patch > 64)
            throw new PanoptesException($"sample_size is {side}, patch_size {patch}, in_channels {inChannels}; expected a side of at most {1 << 14} in patches of at most 64, and at most {1 << 12} channels.");
    }
}
