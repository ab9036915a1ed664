using Panoptes.Nn;

namespace Panoptes.Representation.Objectives;

/// <summary>How far a reconstruction is from the image.</summary>
public enum PixelError
{
    /// <summary>mean |x - x̂|, as in VQ-GAN: sharper.</summary>
    L1,

    /// <summary>mean (x - x̂)², as in VQ-VAE.</summary>
    L2,
}

/// <summary>
/// VQ-VAE (van den Oord et al. 2017, arXiv:1711.00937): an image comes back out of its nearest codes, and the latents keep to them. The codes follow the latents that chose
/// them by moving averages (appendix A.1): of how many, N, and of their sum, m; a code is m / N. A code that hardly any latent chooses starts over as one of the batch's latents, the
/// first of all so that the codebook begins where the latents are.
/// </summary>
public class VqVae : SampleObjective
{
    readonly VqVaeOptions options;
    readonly Dictionary<string, double> report = [];
    Tensor? counts, sums, candidates;

    /// <param name="model">What is trained; it stays the caller's.</param>
    /// <param name="options">The weights of the terms, and how the codebook follows.</param>
    public VqVae(VqModel model, VqVaeOptions options)
    {
        (Tokenizer, this.options) = (model, options);
        if (options.CodebookDecay is null) return;
        (Uses, Sums) = (Buffer(model.VocabularySize), Buffer(model.VocabularySize, model.Config.CodeSize));

        static Parameter Buffer(params ReadOnlySpan<long> shape) => new(shape, Init.Zeros) { Trainable = false };
    }

    /// <summary>What is trained.</summary>
    [NotAChild]
    public VqModel Tokenizer { get; }

    /// <summary>N: how many latents of a batch choose each code, [codes]; null where codes learn by gradient.</summary>
    public Parameter? Uses { get; }

    /// <summary>m: the sum of these latents, [codes, width].</summary>
    public Parameter? Sums { get; }

    public override IReadOnlyDictionary<string, double> Report => report;

    /// <summary>Notes what else of the batch is worth a curve.</summary>
    private protected void Note(string name, double value) => report[name] = value;

    public sealed override Tensor Loss(Towers towers, PairInput input, Generator random) => Loss(input.Images[0], input.Step, random);

    /// <param name="pixels">[b, channels, height, width] from -1 to 1</param>
    /// <param name="step">From 0.</param>
    /// <param name="random">Draws what codes start over as.</param>
    /// <returns>A scalar with its gradient.</returns>
    public Tensor Loss(Tensor pixels, long step, Generator random)
    {
        using var scope = NewDisposeScope();
        var latents = Exact(Tokenizer.Latents(pixels));
        var tokens = Tokenizer.Quantize.Nearest(latents);
        var entries = Tokenizer.Quantize.Entries(tokens);
        Observe(latents, tokens, random);
        var decoded = Exact(Tokenizer.Decode(VectorQuantizer.StraightThrough(latents, entries)));
        var codebook = VectorQuantizer.Loss(latents, entries, Uses is null ? options.Codebook : 0, options.Commitment);
        return (Reconstruction(pixels, decoded, step) + codebook).MoveToOuterDisposeScope();
    }

    /// <summary>At least float32: what was computed in a smaller type is summed in that.</summary>
    internal static Tensor Exact(Tensor x) => x.dtype is ScalarType.BFloat16 or ScalarType.Float16 ? x.to(ScalarType.Float32) : x;

    /// <summary>How wrong the reconstruction is: a scalar with its gradient.</summary>
    private protected virtual Tensor Reconstruction(Tensor pixels, Tensor decoded, long step) => Difference(pixels, decoded);

    private protected Tensor Difference(Tensor pixels, Tensor decoded)
    {
        using var scope = NewDisposeScope();
        var difference = pixels - decoded;
        return (options.Pixels == PixelError.L1 ? difference.abs() : difference.square()).mean().MoveToOuterDisposeScope();
    }

    /// <summary>Takes up how often the codes were chosen, and by what; a batch in pieces counts as one.</summary>
    void Observe(Tensor latents, Tensor tokens, Generator random)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var codes = Tokenizer.VocabularySize;
        var (places, chosen) = (latents.detach().permute(0, 2, 3, 1).flatten(0, 2), tokens.flatten());     // [n, width], [n]
        var (count, sum) = (chosen.bincount(null, codes).to(ScalarType.Float32), zeros(codes, places.shape[1], dtype: places.dtype).index_add(0, chosen, places, 1));
        (counts, sums) = (Kept(counts is null ? count : counts + count, counts), Kept(sums is null ? sum : sums + sum, sums));
        Note("perplexity", Perplexity(counts));
        if (Uses is not null) candidates = Kept(places.index_select(0, randint(places.shape[0], [codes], dtype: ScalarType.Int64, generator: random)), candidates);

        static Tensor Kept(Tensor now, Tensor? before)
        {
            before?.Dispose();
            return now.DetachFromDisposeScope();
        }
    }

    /// <summary>e to the entropy of how often each code is chosen: as many codes, chosen alike, would carry as much.</summary>
    /// <param name="counts">[codes]</param>
    public static double Perplexity(Tensor counts)
    {
        using var scope = NewDisposeScope();
        var share = counts.to(ScalarType.Float64) / counts.sum();
        return Math.Exp(-share.xlogy(share).sum().item<double>());
    }

    /// <summary>Moves the codes to where the latents of the step that was taken were.</summary>
    public override void AfterStep()
    {
        if (counts is not null && Uses is not null)
        {
            using var noGrad = no_grad();
            Note("restarted", Follow(Tokenizer.Quantize.Embedding.Weight.Value, Uses.Value, Sums!.Value, counts, sums!, candidates!, options.CodebookDecay!.Value, options.RestartBelow));
        }
        Forget();
    }

    /// <summary>One step of the averages, in place.</summary>
    /// <param name="codes">[codes, width]</param>
    /// <param name="uses">[codes]: N</param>
    /// <param name="totals">[codes, width]: m</param>
    /// <param name="counts">[codes] of the batch</param>
    /// <param name="sums">[codes, width] of the batch</param>
    /// <param name="candidates">[codes, width]: what a code that starts over becomes</param>
    /// <param name="decay">The share of the old averages that is kept: γ.</param>
    /// <param name="restartBelow">The N below which a code starts over, with an N of 1.</param>
    /// <returns>How many started over.</returns>
    public static int Follow(Tensor codes, Tensor uses, Tensor totals, Tensor counts, Tensor sums, Tensor candidates, double decay, double restartBelow)
    {
        using var scope = NewDisposeScope();
        uses.lerp_(counts, 1 - decay);
        totals.lerp_(sums, 1 - decay);
        var dead = uses.lt(restartBelow);
        uses.masked_fill_(dead, 1);
        totals.copy_(where(dead.unsqueeze(1), candidates, totals));
        codes.copy_(totals / uses.unsqueeze(1));
        return dead.sum().ToInt32();
    }

    void Forget()
    {
        counts?.Dispose();
        sums?.Dispose();
        candidates?.Dispose();
        counts = sums = candidates = null;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) Forget();
        base.Dispose(disposing);
    }
}

/// <summary>VQ-VAE in a recipe; what is trained must be a VQModel.</summary>
public record VqVaeOptions : ObjectiveOptions
{
    /// <summary>How far a reconstruction is from the image: <c>l1</c> or <c>l2</c>.</summary>
    public PixelError Pixels { get; init; } = PixelError.L2;

    /// <summary>β: how much the latents keep to their codes.</summary>
    public double Commitment { get; init; } = 0.25;

    /// <summary>γ, from 0 to below 1: the share of the codebook's averages that a step keeps; null: codes learn by gradient.</summary>
    public double? CodebookDecay { get; init; } = 0.99;

    /// <summary>A code that fewer latents of a batch choose (on the average) starts over.</summary>
    public double RestartBelow { get; init; } = 0.5;

    /// <summary>How much the codes follow the latents where they learn by gradient.</summary>
    public double Codebook { get; init; } = 1;

    public sealed override Objective Create(ObjectiveSetting setting)
    {
        if (setting.Towers.Model is not VqModel model) throw new PanoptesException($"{Name} trains an image tokenizer, a VQModel; found a {setting.Towers.Model.GetType().Name}.");
        if (CodebookDecay is not (null or >= 0 and < 1)) throw new PanoptesException($"{Name}: codebook_decay is {CodebookDecay}; expected from 0 to below 1.");
        if (RestartBelow is not (> 0 and <= 1)) throw new PanoptesException($"{Name}: restart_below is {RestartBelow}; expected above 0 and up to 1.");
        if (Commitment < 0 || Codebook < 0) throw new PanoptesException($"{Name}: commitment is {Commitment} and codebook {Codebook}; expected 0 or more.");
        if (model.Config.InChannels != model.Config.OutChannels) throw new PanoptesException($"{Name}: the model takes {model.Config.InChannels} channels and gives {model.Config.OutChannels}; expected as many.");
        return Make(model, setting);
    }

    private protected virtual Objective Make(VqModel model, ObjectiveSetting setting) => new VqVae(model, this);
}
