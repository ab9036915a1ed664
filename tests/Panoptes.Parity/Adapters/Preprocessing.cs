using System.Text.Json;
using System.Text.Json.Nodes;
using Panoptes.Imaging;

namespace Panoptes.Parity.Adapters;

/// <summary>
/// The preprocess_* cases: decoded pixels, and what each image processor makes of them. Outputs are named IMAGE, TAG.IMAGE or
/// KIND.IMAGE; the pictures lie beside the case or in the sibling case preprocess_images, the arguments of a tag are what the peer was built with.
/// </summary>
public sealed class Preprocessing : IAdapter
{
    public bool Matches(ParityCase c) => (c.Area == "representation" && c.Name.StartsWith("preprocess_", StringComparison.Ordinal)) || c.Name == "preprocess_sam";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        foreach (var output in c.OutputNames)
        {
            var dot = output.IndexOf('.', StringComparison.Ordinal);
            var (tag, name) = dot < 0 ? ("", output) : (output[..dot], output[(dot + 1)..]);
            var image = Image.Load(c.File($"{(Directory.Exists(c.File("images")) ? "" : "../preprocess_images/")}images/{name}.png"));
            yield return (output, c.Architecture switch
            {
                "none" => Pixels(image),
                "image_transform" => OpenClip(c.Arguments.GetProperty(tag)).Process(image)[0],
                "Siglip2ImageProcessor" => Patches(c, tag, image),
                _ => HuggingFace(c, tag).Process(image)[0],
            });
        }
    }

    /// <summary>[h, w] gray, otherwise [h, w, channels].</summary>
    static Tensor Pixels(Image image) => image.Channels == 1 ? image.ToTensor()[0] : image.ToTensor().permute(1, 2, 0);

    static OpenClipTransform OpenClip(JsonElement arguments)
    {
        var json = JsonObject.Create(arguments)!;
        json["size"] = json["image_size"]?.DeepClone();
        return OpenClipTransform.ParsePreprocessConfig(json.ToJsonString(), "arguments");
    }

    static Tensor Patches(ParityCase c, string kind, Image image)
    {
        var processor = (NaFlexImageProcessor)Processor(c, c.Architecture, c.Arguments);
        var batch = processor.ProcessPatches([image]);
        return kind switch
        {
            "pixel_values" => batch.PixelValues[0],
            "pixel_attention_mask" => batch.PixelAttentionMask[0],
            _ => batch.SpatialShapes[0],
        };
    }

    static ImageProcessor HuggingFace(ParityCase c, string tag)
    {
        // Several classes in one case are named "AImageProcessor / BImageProcessor", their tags a, a_other, b; other tags are of the first.
        var classes = c.Architecture.Split(" / ");
        var type = Array.Find(classes, t => t.StartsWith($"{tag.Split('_')[0]}Image", StringComparison.OrdinalIgnoreCase)) ?? classes[0];
        return Processor(c, tag == "pil" ? type + "Pil" : type, tag.Length == 0 ? c.Arguments : c.Arguments.GetProperty(tag));
    }

    /// <summary>The case's preprocessor_config.json, if it has one, with the arguments put over it.</summary>
    static ImageProcessor Processor(ParityCase c, string type, JsonElement arguments)
    {
        var json = c.HasFile("preprocessor_config.json") ? JsonNode.Parse(File.ReadAllText(c.File("preprocessor_config.json")))!.AsObject() : [];
        foreach (var argument in arguments.EnumerateObject()) json[argument.Name] = JsonNode.Parse(argument.Value.GetRawText());
        json["image_processor_type"] = type;
        return ImageProcessor.Parse(json.ToJsonString(), "arguments");
    }
}
