using Panoptes.Text;

namespace Panoptes.Generation;

/// <summary>A prompt as a text encoder takes it: as many windows of its context length as it needs, each with a start and an end of its own.</summary>
/// <param name="Windows">Ids of one context length each.</param>
/// <param name="Weights">How much every one of these tokens counts.</param>
/// <param name="Count">How many tokens the prompt's text has.</param>
public sealed record PromptTokens(IReadOnlyList<int[]> Windows, IReadOnlyList<float[]> Weights, int Count)
{
    /// <summary>Whether any token counts other than 1.</summary>
    public bool IsWeighted => Weights.Any(static w => w.Any(static x => x != 1));

    /// <summary>The most windows that a prompt may fill; what is longer is no prompt.</summary>
    public const int MostWindows = 16;

    /// <summary>As much of a prompt as a sentence about it says.</summary>
    internal static string Shown(string prompt) => prompt.Length > 40 ? prompt[..40] + "…" : prompt;

    /// <summary>Reads a prompt whose parts may have weights (<see cref="WeightedPrompt"/>).</summary>
    /// <param name="prompt">In words; may be empty.</param>
    /// <param name="tokenizer">With a start, an end and a padding token.</param>
    /// <param name="context">The encoder's context length.</param>
    /// <exception cref="PanoptesException">The tokenizer lacks a special token, or the prompt fills more than <see cref="MostWindows"/>.</exception>
    public static PromptTokens Of(string prompt, Tokenizer tokenizer, int context)
    {
        if (tokenizer.StartId is not { } start || tokenizer.EndId is not { } end) throw new PanoptesException("The prompt's tokenizer has no start or no end token.");
        var (pad, room) = (tokenizer.PadId ?? end, context - 2);
        var (ids, weights) = (new List<int>(), new List<float>());
        var parts = WeightedPrompt.Parse(prompt);
        foreach (var part in parts)
        {
            var own = tokenizer.Encode(part.Text, addSpecialTokens: false);
            ids.AddRange(own);
            weights.AddRange(Enumerable.Repeat((float)part.Weight, own.Length));
        }
        var count = Math.Max(1, (ids.Count + room - 1) / room);
        if (count > MostWindows) throw new PanoptesException($"The prompt has {ids.Count} tokens; expected at most {MostWindows * room}.");
        var (windows, factors) = (new List<int[]>(), new List<float[]>());
        for (var k = 0; k < count; k++)
        {
            var (window, factor) = (new int[context], new float[context]);
            Array.Fill(window, pad);
            Array.Fill(factor, 1);
            var length = Math.Min(room, ids.Count - (k * room));
            window[0] = start;
            for (var i = 0; i < length; i++) (window[1 + i], factor[1 + i]) = (ids[(k * room) + i], weights[(k * room) + i]);
            window[1 + length] = end;
            windows.Add(window);
            factors.Add(factor);
        }
        return new(windows, factors, ids.Count);
    }
}
