namespace Panoptes.Nn;

/// <summary>The tokenizer's masks as attention wants them.</summary>
public static class KeyMask
{
    /// <param name="mask">[b, tokens], 0 where padding; or null</param>
    /// <returns>[b, 1, 1, tokens] bool; null where nothing is masked, so that the plain fused kernel serves.</returns>
    public static Tensor? Of(Tensor? mask)
    {
        if (mask is null) return null;
        using var scope = NewDisposeScope();
        var seen = mask.ne(0);
        return seen.all().item<bool>() ? null : seen.view(mask.shape[0], 1, 1, -1).MoveToOuterDisposeScope();
    }
}
