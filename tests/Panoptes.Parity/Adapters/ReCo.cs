using Panoptes.Text;
using Tokens = Panoptes.Generation.ReCo;

namespace Panoptes.Parity.Adapters;

/// <summary>ReCo's prompts and places.</summary>
sealed class ReCoAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "ReCo";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var bins = c.Arguments.GetProperty("num_bins").GetInt32();
        if (c.HasInput("boxes"))
        {
            yield return ("bins", Tokens.Quantize(c.Input("boxes"), bins));
            yield break;
        }
        var tokens = Tokens.Adding(Tokenizer.Load(c.Folder), bins).Encode(c.Arguments.GetProperty("prompt").GetString()!, c.Arguments.GetProperty("max_length").GetInt32());
        yield return ("input_ids", tensor(tokens.Ids));
        yield return ("boxes", stack(tokens.Bins.Select(static b => tensor(b.Select(static v => (long)v).ToArray()))));
    }
}
