namespace Panoptes.Generation.Training;

/// <summary>What the models of this library can be trained for, on scenes.</summary>
public static class GenerationTasks
{
    /// <summary>Every task by its name, as recipes have it.</summary>
    public static IReadOnlyDictionary<string, Type> All { get; } = new Dictionary<string, Type>
    {
        ["autoencoder"] = typeof(AutoencoderOptions),
        ["autoregressive"] = typeof(AutoregressiveOptions),
        ["diffusion"] = typeof(DiffusionOptions),
        ["gan"] = typeof(GanOptions),
        ["masked_tokens"] = typeof(MaskedTokensOptions),
        ["vae"] = typeof(VaeOptions),
    };
}
