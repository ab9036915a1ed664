namespace Panoptes.Understanding.Training;

/// <summary>What the models of this library can be trained for, on scenes.</summary>
public static class SceneTasks
{
    /// <summary>Every task by its name, as recipes have it.</summary>
    public static IReadOnlyDictionary<string, Type> All { get; } = new Dictionary<string, Type>
    {
        ["dense_head"] = typeof(DenseHeadOptions),
        ["detection"] = typeof(DetectionOptions),
        ["group_vit"] = typeof(GroupVitOptions),
        ["image_region_pixel"] = typeof(ImageRegionPixelOptions),
        ["mask_attention"] = typeof(MaskAttentionOptions),
        ["mask_clip_plus"] = typeof(MaskClipPlusOptions),
        ["open_seg"] = typeof(OpenSegOptions),
        ["seem"] = typeof(SeemOptions),
        ["segment_anything"] = typeof(SegmentAnythingOptions),
        ["sequences"] = typeof(SequencesOptions),
        ["uni_perceiver"] = typeof(UniPerceiverOptions),
        ["unified_io_codes"] = typeof(UnifiedIoCodesOptions),
        ["x_decoder"] = typeof(XDecoderOptions),
    };
}
