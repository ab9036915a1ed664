using System.Text.Json;
using System.Text.Json.Serialization;
using Panoptes.Checkpoints;

namespace Panoptes.Generation;

/// <summary>How a model's images are usually made, where its family's way does not suit it: generation_config.json in a pipeline's folder, under the names of diffusers' calls.</summary>
public sealed record GenerationDefaults
{
    public const string FileName = "generation_config.json";

    /// <summary>How strongly prompts are followed; null: as the family does.</summary>
    public double? GuidanceScale { get; init; }

    /// <summary>How many steps are taken; null: as the family does.</summary>
    public int? NumInferenceSteps { get; init; }

    static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, WriteIndented = true, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull };

    /// <summary>What a folder says; null: nothing.</summary>
    /// <exception cref="PanoptesException">The file is damaged, or a number is none that can be.</exception>
    internal static GenerationDefaults? In(string folder)
    {
        var path = Path.Combine(folder, FileName);
        if (!File.Exists(path)) return null;
        GenerationDefaults told;
        try
        {
            told = JsonSerializer.Deserialize<GenerationDefaults>(ModelFolder.ReadText(path), Json) ?? throw new JsonException("it is null");
        }
        catch (JsonException e)
        {
            throw new PanoptesException($"{path}: {JsonFault.Of(e)}.", e);
        }
        if (told.NumInferenceSteps is < 1 or > 10_000) throw new PanoptesException($"{path}: num_inference_steps is {told.NumInferenceSteps}; expected 1 to 10,000.");
        return told.GuidanceScale is null or (>= 0 and <= 1000) ? told : throw new PanoptesException($"{path}: guidance_scale is {told.GuidanceScale}; expected 0 to 1000.");
    }

    internal void Save(string folder) => AtomicFile.WriteText(Path.Combine(folder, FileName), JsonSerializer.Serialize(this, Json) + "\n");
}
