using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>
/// Image and text tokens, projected each by their own weights, see each other as one sequence (MMDiT; Esser et al. 2024, arXiv:2403.03206). Keys: to_q, to_k, to_v, to_out.0, norm_q, norm_k;
/// for the text add_q_proj, add_k_proj, add_v_proj, to_add_out, norm_added_q, norm_added_k.
/// </summary>
/// <param name="width">Of all tokens.</param>
/// <param name="heads">How many heads.</param>
/// <param name="headSize">The size of one.</param>
/// <param name="normalized">Whether each head's queries and keys are normalized by their root mean square.</param>
/// <param name="text">Whether there is text with weights of its own.</param>
/// <param name="textOut">Whether what the text sees is wanted, too.</param>
/// <param name="projects">Whether what is seen is projected here; where not, the block does it.</param>
/// <param name="textFirst">Whether the text's tokens come before the image's in the sequence.</param>
public sealed class JointAttention(int width, int heads, int headSize, bool normalized, bool text, bool textOut = true, bool projects = true, bool textFirst = false) : HookedAttention
{
    const double Eps = 1e-6;

    public Linear ToQ { get; } = new(width, heads * headSize);

    public Linear ToK { get; } = new(width, heads * headSize);

    public Linear ToV { get; } = new(width, heads * headSize);

    public Linear? AddQProj { get; } = text ? new(width, heads * headSize) : null;

    public Linear? AddKProj { get; } = text ? new(width, heads * headSize) : null;

    public Linear? AddVProj { get; } = text ? new(width, heads * headSize) : null;

    [Key("to_out.0")]
    public Linear? ToOut { get; } = projects ? new(heads * headSize, width) : null;

    public Linear? ToAddOut { get; } = text && textOut ? new(heads * headSize, width) : null;

    public RmsNorm? NormQ { get; } = normalized ? new(headSize, Eps) : null;

    public RmsNorm? NormK { get; } = normalized ? new(headSize, Eps) : null;

    public RmsNorm? NormAddedQ { get; } = normalized && text ? new(headSize, Eps) : null;

    public RmsNorm? NormAddedK { get; } = normalized && text ? new(headSize, Eps) : null;

    /// <param name="x">[b, image tokens, width]; or all tokens, where there is no text apart</param>
    /// <param name="added">[b, text tokens, width], or null</param>
    /// <param name="rotary">Turns queries and keys of the whole sequence: [tokens, 1, head size / 2] complex; null: nothing is turned.</param>
    /// <param name="hook">Comes between; see <see cref="IAttentionHook"/>. It is given the whole sequence.</param>
    /// <param name="map">How many rows and columns the image's tokens are places of, for the hook.</param>
    /// <returns>What image and text see, [b, tokens, width] each; the text's is null where it is not wanted.</returns>
    internal (Tensor Image, Tensor? Text) Forward(Tensor x, Tensor? added = null, Tensor? rotary = null, IAttentionHook? hook = null, (long Rows, long Columns) map = default)
    {
        using var scope = NewDisposeScope();
        Tensor q = Turned(Joined(ToQ, NormQ, AddQProj, NormAddedQ)), k = Turned(Joined(ToK, NormK, AddKProj, NormAddedK)), v = Joined(ToV, null, AddVProj, null);
        var tokens = hook is null || added is null ? x : Sequence(x, added);
        var seen = Attention.MergeHeads(See(q, k, v, heads, null, tokens, null, hook, map));                   // [b, tokens, heads · size]
        if (added is null) return ((ToOut?.Forward(seen) ?? seen).MoveToOuterDisposeScope(), null);
        var (image, written) = (x.shape[1], added.shape[1]);
        var ofImage = ToOut!.Forward(seen.narrow(1, textFirst ? written : 0, image));
        return (ofImage.MoveToOuterDisposeScope(), ToAddOut?.Forward(seen.narrow(1, textFirst ? 0 : image, written)).MoveToOuterDisposeScope());

        Tensor Joined(Linear ofImage, RmsNorm? imageNorm, Linear? ofText, RmsNorm? textNorm)
        {
            using var inner = NewDisposeScope();
            var a = Normalized(ofImage.Forward(x), imageNorm);
            return (added is null ? a : Sequence(a, Normalized(ofText!.Forward(added), textNorm))).MoveToOuterDisposeScope();
        }

        Tensor Turned(Tensor t) => rotary is null ? t : Turn(t.unflatten(2, [heads, headSize]), rotary).flatten(2);
    }

    Tensor Sequence(Tensor image, Tensor written) => cat(textFirst ? [written, image] : [image, written], 1);

    Tensor Normalized(Tensor t, RmsNorm? norm) => norm is null ? t : norm.Forward(t.unflatten(2, [heads, headSize])).flatten(2);

    /// <summary>Every pair of neighboring channels turned: [b, tokens, heads, size].</summary>
    static Tensor Turn(Tensor t, Tensor rotary)
    {
        using var scope = NewDisposeScope();
        var pairs = view_as_complex((t.dtype == ScalarType.Float32 ? t : t.to(ScalarType.Float32)).unflatten(3, [t.shape[3] / 2, 2]));
        return view_as_real(pairs * rotary).flatten(3).to(t.dtype).MoveToOuterDisposeScope();
    }
}
