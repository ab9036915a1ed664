using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Generation;

/// <summary>Prompts by T5's encoder, padded to a fixed length; what is longer is cut, and said. Parts that are to count more or less count as all others, which is said, too: its states are of whole texts.</summary>
/// <param name="encoder">The encoder.</param>
/// <param name="tokenizer">With an end and a padding token.</param>
/// <param name="length">How many tokens a prompt has, padded.</param>
/// <param name="masked">Whether padding is told apart from the text (PixArt) or seen as the text is (SD 3, Flux).</param>
public sealed class T5Prompts(T5EncoderModel encoder, Tokenizer tokenizer, int length, bool masked)
{
    public T5EncoderModel Encoder { get; } = encoder;

    public Tokenizer Tokenizer { get; } = tokenizer;

    /// <summary>How many tokens a prompt has, padded.</summary>
    public int Length { get; } = length;

    /// <returns>[prompts, tokens, width], and which tokens are the text's own: [prompts, tokens], or null.</returns>
    internal (Tensor States, Tensor? Mask) Read(IReadOnlyList<string> prompts, Action<string>? note)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        string[] plain = [.. prompts.Select(Plain)];
        var batch = Tokenizer.Encode(plain, Length);
        foreach (var (prompt, own) in prompts.Zip(plain).DistinctBy(static p => p.First))
            if (own != prompt) note?.Invoke($"The prompt \"{PromptTokens.Shown(prompt)}\" has weights, which T5 does not read.");
        foreach (var i in batch.Truncated.DistinctBy(i => prompts[i])) note?.Invoke($"The prompt \"{PromptTokens.Shown(prompts[i])}\" has {batch.Lengths[i]} tokens, of which T5 reads the first {Length}.");
        var mask = masked ? batch.AttentionMask() : null;
        var states = Encoder.Forward(batch.InputIds(), mask);
        Damage.Check(states, "text encoder");
        return (states.MoveToOuterDisposeScope(), mask?.MoveToOuterDisposeScope());

        // What is no weight stays as it is, backslashes, too.
        static string Plain(string prompt) => WeightedPrompt.Parse(prompt) is var parts && parts.All(static part => part.Weight == 1) ? prompt : string.Concat(parts.Select(static part => part.Text));
    }
}
