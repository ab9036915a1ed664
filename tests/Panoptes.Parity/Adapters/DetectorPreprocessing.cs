using System.Text.Json.Nodes;
using Panoptes.Imaging;

namespace Panoptes.Parity.Adapters;

/// <summary>The image processors of the detectors, a batch at a time: outputs are named TAG.pixel_values and TAG.pixel_mask, by the arguments of the tag.</summary>
sealed class DetectorPreprocessing : IAdapter
{
    internal static readonly string[] Types = ["DetrImageProcessor", "GroundingDinoImageProcessor", "OwlViTImageProcessor"];

    public bool Matches(ParityCase c) => Types.Contains(c.Architecture) && c.Call == "preprocess";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        Image[] images = [.. Enumerable.Range(0, c.InputNames.Count).Select(i => c.Input($"image.{i}")).Select(static t => Image.FromTensor(t.permute(2, 0, 1)))];
        foreach (var tag in c.Arguments.EnumerateObject())
        {
            var json = JsonNode.Parse(tag.Value.GetRawText())!.AsObject();
            json["image_processor_type"] = c.Architecture;
            switch (ImageProcessor.Parse(json.ToJsonString(), "arguments"))
            {
                case PaddedImageProcessor padded:
                    var batch = padded.ProcessPadded(images);
                    yield return ($"{tag.Name}.pixel_values", batch.PixelValues);
                    yield return ($"{tag.Name}.pixel_mask", batch.PixelMask);
                    break;
                case var other:
                    yield return ($"{tag.Name}.pixel_values", other.Process(images));
                    break;
            }
        }
    }
}
