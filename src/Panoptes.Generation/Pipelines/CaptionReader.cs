using Panoptes.Representation;
using Panoptes.Text;

namespace Panoptes.Generation;

/// <summary>What makes captions the ids that a text encoder takes.</summary>
sealed class CaptionReader(ClipTextModel encoder, Tokenizer tokenizer)
{
    public Tokenizer Tokenizer => tokenizer;

    /// <summary>[captions, context] int64; what follows the context is cut: it cannot be learned from.</summary>
    public Tensor Ids(IReadOnlyList<string> captions) =>
        tensor([.. captions.SelectMany(c => PromptTokens.Of(c, tokenizer, encoder.ContextLength).Windows[0].Select(static id => (long)id))], [captions.Count, encoder.ContextLength]);

    /// <summary>The same, some of the captions left out.</summary>
    public Tensor Ids(IReadOnlyList<string> captions, double dropout, Generator random)
    {
        using var drawn = rand(captions.Count, generator: random);
        return Ids([.. captions.Zip(drawn.data<float>().ToArray(), (c, r) => r < dropout ? "" : c)]);
    }
}
