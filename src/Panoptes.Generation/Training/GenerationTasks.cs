namespace Panoptes.Generation.Training;

/// <summary>What the models of this library can be trained for, on scenes.</summary>
public static class GenerationTasks
{
    /// <summary>Every task by its name, as recipes have it.</summary>
    public static IReadOnlyDictionary<string, Type> All { get; } = new Dictionary<string, Type>
    {
        ["autoencoder"] = typeof(AutoencoderOptions),
        ["autoregressive"] = typeof(AutoregressiveOptions),
        ["control_net"] = typeof(ControlNetOptions),
        ["diffusion"] = typeof(DiffusionOptions),
        ["gan"] = typeof(GanOptions),
        ["gligen"] = typeof(GligenOptions),
        ["masked_tokens"] = typeof(MaskedTokensOptions),
        ["reco"] = typeof(ReCoOptions),
        ["t2i_adapter"] = typeof(T2IAdapterOptions),
        ["vae"] = typeof(VaeOptions),
    };
}
