using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation.Objectives;

namespace Panoptes.Representation.Training;

/// <summary>An objective and how much it counts.</summary>
/// <param name="Name">What its loss is logged as.</param>
/// <param name="Objective">What is made small.</param>
/// <param name="Weight">Its factor in the sum.</param>
public sealed record WeightedObjective(string Name, IPairObjective Objective, double Weight = 1);

/// <summary>
/// From one batch of pairs to gradients. A batch too large for memory goes through the towers in pieces, with the numbers of the whole:
/// first all features without gradients, then the loss's gradient with respect to them, then each piece again with its part of that
/// gradient (GradCache, Gao et al. 2021, arXiv:2101.06983; open_clip's accum_freq). What is left out at random is the same both times.
/// Batch norms alone see pieces: their means are a piece's, and each piece counts once in their running statistics.
/// </summary>
public sealed record PairGradients
{
    public required IReadOnlyList<WeightedObjective> Objectives { get; init; }

    /// <summary>Pairs that go through the towers at once; null: all.</summary>
    public int? MicroBatch { get; init; }

    /// <summary>What the towers compute in; weights and losses stay float32.</summary>
    public ScalarType Precision { get; init; } = ScalarType.Float32;

    /// <summary>Adds the batch's gradients to the model's.</summary>
    /// <param name="model">In training mode.</param>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="ids">[b, tokens] int64</param>
    /// <param name="mask">[b, tokens], 0 where padding, or null.</param>
    /// <param name="seed">Of what the towers draw at random in this step.</param>
    /// <returns>The weighted sum as <c>loss</c>, and each objective's own as <c>loss/NAME</c> where there are several.</returns>
    public IReadOnlyDictionary<string, double> Backward(DualEncoder model, Tensor pixels, Tensor ids, Tensor? mask = null, ulong seed = 0)
    {
        using var scope = NewDisposeScope();
        var count = (int)pixels.shape[0];
        var piece = Math.Min(MicroBatch ?? count, count);
        if (piece < 1) throw new PanoptesException($"The micro-batch is {piece}; expected 1 or more.");
        using var random = new Generator(0);
        var images = model.Images as IPatchDropout;
        if (images is not null) images.Random = random;
        try
        {
            if (piece == count)
            {
                var whole = Losses(Features(0, count), model, out var logged);
                whole.backward();
                return logged;
            }

            var (imageParts, textParts) = (new List<Tensor>(), new List<Tensor>());
            using (no_grad())
            {
                for (var start = 0; start < count; start += piece)
                {
                    using var inner = NewDisposeScope();
                    var (image, text) = Features(start, Math.Min(piece, count - start));
                    imageParts.Add(image.MoveToOuterDisposeScope());
                    textParts.Add(text.MoveToOuterDisposeScope());
                }
            }
            var (allImages, allTexts) = (cat(imageParts).requires_grad_(), cat(textParts).requires_grad_());
            var loss = Losses((allImages, allTexts), model, out var values);
            loss.backward();
            var (imageGradient, textGradient) = (allImages.grad!, allTexts.grad!);
            for (var start = 0; start < count; start += piece)
            {
                using var inner = NewDisposeScope();
                var size = Math.Min(piece, count - start);
                Tensor image, text;
                using (ActivationCheckpoint.Repeating()) (image, text) = Features(start, size);
                var (outputs, gradients) = (new List<Tensor>(), new List<Tensor>());
                foreach (var (output, gradient) in new[] { (image, imageGradient), (text, textGradient) })
                {
                    if (!output.requires_grad) continue;                                // a locked tower
                    outputs.Add(output);
                    gradients.Add(gradient.narrow(0, start, size));
                }
                if (outputs.Count > 0) autograd.backward(outputs, gradients);
            }
            return values;
        }
        finally
        {
            if (images is not null) images.Random = null;
        }

        (Tensor Image, Tensor Text) Features(int start, int size)
        {
            random.manual_seed((long)(seed * 0x9E3779B97F4A7C15 + (ulong)start));
            using var inner = NewDisposeScope();
            Tensor image, text;
            using (Autocast.To(Precision))
            {
                image = model.Images.Encode(pixels.narrow(0, start, size));
                text = model.Texts.Encode(ids.narrow(0, start, size), mask?.narrow(0, start, size));
            }
            return (Normalized(image).MoveToOuterDisposeScope(), Normalized(text).MoveToOuterDisposeScope());
        }
    }

    static Tensor Normalized(Tensor x) => DualEncoder.Normalize(x.to(ScalarType.Float32));

    Tensor Losses((Tensor Image, Tensor Text) features, DualEncoder model, out Dictionary<string, double> logged)
    {
        logged = [];
        var pair = new PairFeatures(features.Image, features.Text, model.LogitScale.Value.exp(), model.LogitBias?.Value);
        Tensor? sum = null;
        foreach (var (name, objective, weight) in Objectives)
        {
            var loss = objective.Loss(pair);
            if (Objectives.Count > 1) logged[$"loss/{name}"] = loss.item<float>();
            var part = weight == 1 ? loss : loss * weight;
            sum = sum is null ? part : sum + part;
        }
        logged["loss"] = (sum ?? throw new PanoptesException("Training needs at least one objective.")).item<float>();
        return sum;
    }
}
