using Panoptes.Representation;

namespace Panoptes.Parity.Adapters;

/// <summary>transformers' T5EncoderModel.</summary>
sealed class T5EncoderAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "T5EncoderModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<T5EncoderModel>(c.Folder);
        var mask = c.HasInput("attention_mask") ? c.Input("attention_mask") : null;
        var states = new List<Tensor>();
        var output = model.Forward(c.Input("input_ids"), mask, states);
        yield return ("last_hidden_state", mask is null ? output : output * mask.unsqueeze(-1));
        for (var i = 0; i < states.Count; i++) yield return ($"hidden_states.{i}", states[i]);
    }
}

/// <summary>transformers' T5ForConditionalGeneration, whole and token by token.</summary>
sealed class T5Adapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "T5ForConditionalGeneration" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<T5ForConditionalGeneration>(c.Folder);
        var (ids, written) = (c.Input("input_ids"), c.Input("decoder_input_ids"));
        var mask = c.HasInput("attention_mask") ? c.Input("attention_mask") : null;
        var encoded = model.Encoder.Forward(ids, mask);
        yield return ("encoder_last_hidden_state", mask is null ? encoded : encoded * mask.unsqueeze(-1));
        yield return ("logits", model.Forward(ids, mask, written));

        using var writer = model.Read(ids, mask, (int)written.shape[1]);
        var first = writer.Next(written.narrow(1, 0, 2));
        var steps = Enumerable.Range(2, (int)written.shape[1] - 2).Select(i => writer.Next(written.narrow(1, i, 1))).Prepend(first);
        yield return ("logits", cat([model.Forward(ids, mask, written.narrow(1, 0, 1)), stack(steps, 1)], 1));
        if (!c.HasInput("labels")) yield break;
        yield return ("loss", model.Loss(ids, mask, c.Input("labels")));
        yield return ("logits_from_labels", model.Forward(ids, mask, model.Shifted(c.Input("labels"))));
    }
}
