namespace Panoptes.Benchmarks;

/// <summary>One benchmark: how many of which unit one step stands for, and how its model is built.</summary>
sealed record Case(string Unit, double Per, Func<IRun> Build)
{
    /// <summary>Whether freed memory stays in the process, as in programs that train; otherwise as the C library does it, which programs that make images leave alone.</summary>
    public bool KeepsFreedMemory { get; init; } = true;

    public static IReadOnlyDictionary<string, Case> All { get; } = new Dictionary<string, Case>
    {
        ["clip_b32_image_f32"] = new("images/s", 16, static () => ClipCases.Images(ScalarType.Float32)),
        ["clip_b32_image_bf16"] = new("images/s", 16, static () => ClipCases.Images(ScalarType.BFloat16)),
        ["clip_b32_text_f32"] = new("texts/s", 32, static () => ClipCases.Texts(ScalarType.Float32)),
        ["clip_s8_train_f32"] = new("samples/s", 64, static () => ClipCases.Training(ScalarType.Float32)),
        ["clip_s8_train_bf16"] = new("samples/s", 64, static () => ClipCases.Training(ScalarType.BFloat16)),
        ["clip_s8_train_f32_checkpointed"] = new("samples/s", 64, static () => ClipCases.Training(ScalarType.Float32, checkpointed: true)),
        ["mae_base_train_bf16"] = new("samples/s", 16, static () => MaskedCases.Mae(ScalarType.BFloat16)),
        ["sam_b_encode_bf16"] = new("images/s", 1, static () => SamCases.Encode(ScalarType.BFloat16)),
        ["sam_b_prompt_f32"] = new("prompts/s", 1, static () => SamCases.Prompt()),
        ["sam_b_prompts_bf16"] = new("prompts/s", SamCases.Together, static () => SamCases.Prompts()),
        ["sam_b_everything"] = new("images/s", 1, static () => SamCases.Everything()),
        ["sd15_unet_step_f32"] = new("steps/s", 1, static () => DiffusionCases.UNet(ScalarType.Float32)) { KeepsFreedMemory = false },
        ["sd15_unet_step_bf16"] = new("steps/s", 1, static () => DiffusionCases.UNet(ScalarType.BFloat16)) { KeepsFreedMemory = false },
        ["sd15_vae_decode_bf16"] = new("images/s", 1, static () => DiffusionCases.Decode(ScalarType.BFloat16)) { KeepsFreedMemory = false },
        ["sd15_pipeline_load_bf16"] = new("loads/s", 1, static () => DiffusionCases.Load(ScalarType.BFloat16)) { KeepsFreedMemory = false },
        ["sd15_pipeline_512_bf16"] = new("images of 2 steps/s", 1, static () => DiffusionCases.Generate(ScalarType.BFloat16)) { KeepsFreedMemory = false },
        ["search_million"] = new("queries/s", 1, static () => SearchCases.Million(open: false)),
        ["search_million_opened"] = new("queries/s", 1, static () => SearchCases.Million(open: true)),
    };

    /// <summary>Forgets what was resident before.</summary>
    public static void ResetPeakMemory()
    {
        Panoptes.Native.NativeMemoryPolicy.GiveBack();
        if (OperatingSystem.IsLinux()) File.WriteAllText("/proc/self/clear_refs", "5");
    }

    /// <summary>The most memory that this process ever had resident.</summary>
    public static long PeakMemoryMiB()
    {
        const string field = "VmHWM:";
        if (!File.Exists("/proc/self/status")) return System.Diagnostics.Process.GetCurrentProcess().PeakWorkingSet64 >> 20;
        var line = File.ReadLines("/proc/self/status").First(static l => l.StartsWith(field, StringComparison.Ordinal));
        return long.Parse(line.AsSpan(field.Length).Trim().TrimEnd("kB").Trim(), System.Globalization.CultureInfo.InvariantCulture) >> 10;
    }
}

/// <summary>A built benchmark.</summary>
interface IRun : IDisposable
{
    void Step();
}
