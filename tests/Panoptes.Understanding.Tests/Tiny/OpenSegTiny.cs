namespace Panoptes.Understanding.Tests;

static class OpenSegTiny
{
    internal const string OpenSeg = $$"""{"architectures": ["OpenSegModel"], "model_type": "openseg", "width": 16, "num_queries": 5, "decoder_layers": 1, "decoder_heads": 2, "clip": {{MaskClipTests.OpenClipResNet}} }""";

    internal const string DenseClip = $$"""{"architectures": ["DenseClipModel"], "model_type": "dense_clip", "width": 16, "clip": {{MaskClipTests.OpenClip}} }""";

    internal static Tensor Words => tensor((long[])[1, 7, 39, 0, 1, 9, 39, 0, 1, 11, 39, 0, 1, 20, 39, 0], [2, 2, 4]);

    public static Dictionary<string, TinyModel> Tiny { get; } = new()
    {
        ["OpenSegModel"] = new(OpenSeg, static m =>
        {
            var model = (OpenSegModel)m;
            var pixels = GroupVitTiny.Pixels(64);
            var output = model.Forward(pixels);
            var words = model.EmbedWords(Words);
            return cat([output.MaskLogits.flatten(1), output.Regions.flatten(1), output.Pixels.flatten(1), words.flatten(1), model.Segment(pixels, words[0]).flatten(1)], 1);
        })
        {
            // What pools the image as a whole.
            Unused = static key => key.StartsWith("clip.visual.attnpool.", StringComparison.Ordinal),
        },
        ["DenseClipModel"] = new(DenseClip, static m =>
        {
            var model = (DenseClipModel)m;
            var texts = model.Clip.Texts.Encode(Words.flatten(0, 1));
            return cat([model.Forward(GroupVitTiny.Pixels(16), texts).flatten(1), texts.flatten().expand(2, -1)], 1);
        })
        {
            Unused = static key => key.StartsWith("clip.visual.ln_post.", StringComparison.Ordinal) || key == "clip.visual.proj",
        },
    };
}
