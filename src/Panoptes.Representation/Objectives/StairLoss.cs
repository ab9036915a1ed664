using Panoptes.Native;

namespace Panoptes.Representation.Objectives;

/// <summary>
/// STAIR (Chen et al. 2023, arXiv:2301.13081): images and texts as sparse, non-negative weights of the words of a vocabulary, so that every
/// dimension can be read. A contrast of inner products, and a price for dimensions that are used by many.
/// </summary>
public sealed class StairLoss(StairOptions options) : FeatureObjective
{
    public override IReadOnlyList<Feature> Needs { get; } = [Feature.Image(), Feature.Text()];

    public override Tensor Loss(BatchFeatures features)
    {
        using var scope = NewDisposeScope();
        var (image, whole) = (features[Feature.Image()], features[Feature.Text()]);
        var (text, step) = (whole, features.Input.Step);
        if (step < options.GroundedSteps)
        {
            // A text has its own tokens alone at first, so that every dimension comes to mean its token; all others come in slowly in the second half, or they
            // would bury what was learned.
            text = whole * OwnTokens(features.Input.Ids[0], whole, Math.Max(0, (2.0 * step / options.GroundedSteps) - 1));
        }
        // The price rises as the square of the step, so that nothing is switched off before it has been of use (SPLADE, Formal et al. 2021).
        var price = options.FlopsWarmupSteps == 0 ? 1 : Math.Pow(Math.Min(1, (double)step / options.FlopsWarmupSteps), 2);
        var loss = ContrastiveLoss.Of(new(image, text, features.Scale));
        return (loss + (Flops(image) * (price * options.ImageFlops)) + (Flops(whole) * (price * options.TextFlops))).MoveToOuterDisposeScope();
    }

    /// <summary>1 for each text's own tokens (CLIP's texts end with the largest id of their vocabulary), <paramref name="others"/> for all others and for what starts and ends every text: [b, vocabulary].</summary>
    internal static Tensor OwnTokens(Tensor ids, Tensor like, double others)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var shares = ones_like(ids, like.dtype).masked_fill_(PairInput.Valid(ids.argmax(-1), ids.shape[1]).logical_not(), others);
        shares.narrow(1, 0, 1).fill_(others);
        return full_like(like, others, like.dtype).scatter_(1, ids, shares).MoveToOuterDisposeScope();
    }

    /// <summary>log(1 + relu(W h + b)), the largest over the tokens: [b, vocabulary].</summary>
    /// <param name="hidden">[b, tokens, width]</param>
    /// <param name="weight">[vocabulary, width]</param>
    /// <param name="bias">[vocabulary]</param>
    /// <param name="valid">[b, tokens], false (or 0) where padding; null: all count.</param>
    public static Tensor Embed(Tensor hidden, Tensor weight, Tensor bias, Tensor? valid = null)
    {
        using var scope = NewDisposeScope();
        if (valid is not null)
        {
            // Padding becomes a copy of a token that counts, which changes no maximum and costs less than to mask all words of the vocabulary.
            var mask = valid.to(ScalarType.Bool);
            var first = mask.to(ScalarType.Int32).argmax(-1).view(-1, 1, 1).expand(-1, 1, hidden.shape[2]);
            hidden = where(mask.unsqueeze(-1), hidden, hidden.gather(1, first));
        }
        // log(1 + relu(x)) never falls and the bias is every token's, so that the largest can be taken first.
        return (is_grad_enabled() ? Largest.apply(hidden, weight, bias) : Largest.Of(hidden, weight, bias).Values).log1p().MoveToOuterDisposeScope();
    }

    /// <summary>
    /// relu(max over the tokens of W h + b) token by token: what all tokens say of all words is never in memory, and of the words that no sample lights up
    /// nothing is computed on the way back.
    /// </summary>
    sealed class Largest : autograd.SingleTensorFunction<Largest>
    {
        public override string Name => nameof(StairLoss);

        /// <returns>[b, vocabulary] float32, and the token that each is of, int16</returns>
        internal static (Tensor Values, Tensor Tokens) Of(Tensor hidden, Tensor weight, Tensor bias)
        {
            using var scope = NewDisposeScope();
            var rows = hidden.transpose(0, 1).contiguous();                                                 // [tokens, b, width]
            var best = TorchOps.Linear(rows[0], weight, null);
            var tokens = zeros_like(best, ScalarType.Int16);
            for (var t = 1; t < rows.shape[0]; t++)
            {
                using var inner = NewDisposeScope();
                var said = TorchOps.Linear(rows[t], weight, null);
                tokens.masked_fill_(said.gt(best), t);
                best = maximum(best, said).MoveToOuterDisposeScope();
            }
            return (nn.functional.relu(best.to(ScalarType.Float32) + bias).MoveToOuterDisposeScope(), tokens.MoveToOuterDisposeScope());
        }

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            var (hidden, weight, bias) = ((Tensor)vars[0], (Tensor)vars[1], (Tensor)vars[2]);
            var (values, tokens) = Of(hidden, weight, bias);
            ctx.save_for_backward([hidden, weight, values, tokens]);
            ctx.save_data(nameof(Autocast), Autocast.Dtype ?? hidden.dtype);
            return values;
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad)
        {
            using var scope = NewDisposeScope();
            var saved = ctx.get_saved_variables();
            var (hidden, weight, values, tokens) = (saved[0], saved[1], saved[2], saved[3]);
            var dtype = (ScalarType)ctx.get_data(nameof(Autocast));
            var (batch, count, width) = (hidden.shape[0], hidden.shape[1], hidden.shape[2]);
            var lit = values.gt(0);
            var words = lit.any(0).nonzero().squeeze(1);
            var own = (grad * lit).index_select(1, words);                                                  // [b, words]
            var of = tokens.index_select(1, words);
            // [b, tokens, words]: each word's gradient at the token that it is of.
            var each = where(of.unsqueeze(1).eq(arange(count, dtype: ScalarType.Int16, device: of.device).view(1, -1, 1)), own.to(dtype).unsqueeze(1), zeros([], dtype, of.device)).flatten(0, 1);
            var ofHidden = each.matmul(weight.index_select(0, words).to(dtype)).view(batch, count, width).to(hidden.dtype);
            var ofWeight = zeros_like(weight).index_copy_(0, words, each.t().matmul(hidden.to(dtype).flatten(0, 1)).to(weight.dtype));
            var ofBias = zeros(weight.shape[0], dtype: weight.dtype, device: weight.device).index_copy_(0, words, own.sum([0L]).to(weight.dtype));
            return [ofHidden.MoveToOuterDisposeScope(), ofWeight.MoveToOuterDisposeScope(), ofBias.MoveToOuterDisposeScope()];
        }
    }

    /// <summary>The FLOPs regularizer (Paria et al. 2020, arXiv:2004.05665): the squares of every dimension's mean activation, summed.</summary>
    public static Tensor Flops(Tensor embeddings)
    {
        using var scope = NewDisposeScope();
        return embeddings.mean([0]).square().sum().MoveToOuterDisposeScope();
    }
}

/// <summary>STAIR in a recipe, for a <see cref="StairModel"/>.</summary>
public sealed record StairOptions : ObjectiveOptions
{
    /// <summary>The price of the images' dimensions that are at work.</summary>
    public double ImageFlops { get; init; } = 1e-3;

    /// <summary>The price of the texts' dimensions.</summary>
    public double TextFlops { get; init; } = 1e-3;

    /// <summary>Steps over which both prices rise from 0.</summary>
    public long FlopsWarmupSteps { get; init; }

    /// <summary>Steps in whose first half a text's weights lie on its own tokens alone, all others coming in over the second.</summary>
    public long GroundedSteps { get; init; }

    public override Objective Create(ObjectiveSetting setting)
    {
        if (setting.Towers.Model is not StairModel) throw new PanoptesException($"stair needs a StairModel; found a {setting.Towers.Model.GetType().Name}.");
        if (ImageFlops < 0 || TextFlops < 0 || FlopsWarmupSteps < 0 || GroundedSteps < 0) throw new PanoptesException("stair: prices and steps cannot be negative.");
        return new StairLoss(this);
    }
}
