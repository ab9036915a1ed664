namespace Panoptes.Generation;

/// <summary>What a broken checkpoint shows itself by.</summary>
static class Damage
{
    /// <summary>Refuses numbers that are none.</summary>
    /// <param name="numbers">Of any shape.</param>
    /// <param name="of">What gave them: "network".</param>
    /// <param name="guided">Whether guidance has a part in them.</param>
    /// <exception cref="PanoptesException">Some are not finite.</exception>
    public static void Check(Tensor numbers, string of, bool guided = false)
    {
        using var scope = NewDisposeScope();
        if (!numbers.isfinite().all().item<bool>()) throw new PanoptesException($"The {of} gave numbers that are not finite: its weights are damaged, {(guided ? "bfloat16 is too narrow for them, or guidance is too strong" : "or bfloat16 is too narrow for them")}.");
    }
}
