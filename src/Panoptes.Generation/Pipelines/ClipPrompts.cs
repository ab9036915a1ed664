using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Generation;

/// <summary>Prompts by a CLIP text encoder, of any length and with weights (<see cref="PromptTokens"/>).</summary>
public sealed class ClipPrompts(ClipTextModel encoder, Tokenizer tokenizer)
{
    public ClipTextModel Encoder { get; } = encoder;

    public Tokenizer Tokenizer { get; } = tokenizer;

    /// <summary>The places that prompts may speak of; null: the tokenizer knows none.</summary>
    public ReCo? Places { get; } = ReCo.In(tokenizer);

    /// <summary>How many windows a prompt has.</summary>
    internal int PartsOf(string prompt) => TokensOf(prompt).Windows.Count;

    /// <summary>A prompt as the encoder reads it.</summary>
    internal PromptTokens TokensOf(string prompt) => PromptTokens.Of(Places?.Write(prompt) ?? prompt, Tokenizer, Encoder.ContextLength);

    /// <summary>Reads prompts that go together, so that all get as many windows as the longest needs.</summary>
    /// <param name="prompts">One a row.</param>
    /// <param name="usual">How many last layers the family leaves out.</param>
    /// <param name="skip">How many more of them, of the first <paramref name="wanted"/> prompts: what is not wanted is always read as usual, as the peer does it.</param>
    /// <param name="wanted">How many of the prompts say what is wanted.</param>
    /// <param name="normalized">Whether the encoder's last norm follows all the same.</param>
    /// <param name="note">Told of prompts that are longer than the context.</param>
    /// <returns>[prompts, tokens, width], and the whole text by the first window: [prompts, width], projected where the encoder projects it.</returns>
    internal (Tensor States, Tensor Pooled) Read(IReadOnlyList<string> prompts, int usual, int? skip, int wanted, bool normalized, Action<string>? note)
    {
        var layers = Encoder.Config.NumHiddenLayers;
        var deepest = usual + (skip ?? 0);
        if (skip < 0 || deepest > layers) throw new PanoptesException($"The last {deepest} of {layers} layers of the text encoder were to be left out; expected 0 to {layers}.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (context, room) = (Encoder.ContextLength, Encoder.ContextLength - 2);
        PromptTokens[] all = [.. prompts.Select(TokensOf)];
        foreach (var (own, prompt) in all.Zip(prompts).DistinctBy(static p => p.Second))
            if (own.Windows.Count > 1) note?.Invoke($"The prompt \"{PromptTokens.Shown(prompt)}\" has {own.Count} tokens and is read in {own.Windows.Count} parts of {room}.");
        var windows = all.Max(static t => t.Windows.Count);
        var empty = windows > 1 ? PromptTokens.Of("", Tokenizer, context).Windows[0] : null;
        var ids = tensor([.. all.SelectMany(t => t.Windows.Concat(Enumerable.Repeat(empty!, windows - t.Windows.Count)).SelectMany(static w => w.Select(static id => (long)id)))], [all.Length * windows, context]);
        var (states, pooled) = Encoder.Read(ids, null, usual, normalized, pooled: true);
        if (deepest != usual) states = cat([Encoder.Read(ids.narrow(0, 0, wanted * windows), null, deepest, normalized).Tokens, states.narrow(0, wanted * windows, (all.Length - wanted) * windows)]);
        states = states.reshape(all.Length, windows * context, -1);
        if (Array.Exists(all, static t => t.IsWeighted))
            states = stack([.. all.Select((t, i) => t.IsWeighted
                ? WeightedPrompt.Weigh(states[i], tensor([.. t.Weights.SelectMany(static w => w), .. Enumerable.Repeat(1f, (windows - t.Windows.Count) * context)]))
                : states[i])]);
        Damage.Check(states, "text encoder");
        return (states.alias().MoveToOuterDisposeScope(), pooled!.view(all.Length, windows, -1).select(1, 0).contiguous().MoveToOuterDisposeScope());
    }
}
