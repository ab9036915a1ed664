using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>
/// A codebook that is chosen from by a distribution over its codes (Jang et al. 2016, arXiv:1611.01144). Keys: proj [codes, width, 1, 1], embed [codes, width].
/// </summary>
public sealed class GumbelQuantizer(int codes, int width) : Module
{
    public Conv2d Proj { get; } = new(width, codes, 1);

    public Embedding Embed { get; } = new(codes, width);

    /// <summary>How likely each code is at every place: [b, codes, rows, columns].</summary>
    /// <param name="latents">[b, width, rows, columns]</param>
    public Tensor Logits(Tensor latents) => Proj.Forward(latents);

    /// <summary>The likeliest code of every place: [b, rows, columns] int64.</summary>
    /// <param name="latents">[b, width, rows, columns]</param>
    public Tensor Likeliest(Tensor latents)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return Logits(latents).argmax(1).MoveToOuterDisposeScope();
    }

    /// <summary>The codes of <paramref name="tokens"/>: [b, width, rows, columns].</summary>
    /// <param name="tokens">[b, rows, columns] int64</param>
    public Tensor Entries(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return Embed.Forward(tokens).permute(0, 3, 1, 2).MoveToOuterDisposeScope();
    }

    /// <summary>Codes drawn by their likelihoods, with the gradient of a soft choice: [b, width, rows, columns].</summary>
    /// <param name="logits">[b, codes, rows, columns]</param>
    /// <param name="temperature">The lower, the nearer is the soft choice to the drawn one.</param>
    /// <param name="random">Draws.</param>
    public Tensor Draw(Tensor logits, double temperature, Generator random)
    {
        using var scope = NewDisposeScope();
        var noise = empty(logits.shape, logits.dtype, device: logits.device).exponential_(1, random).log().neg();
        var soft = ((logits + noise) / temperature).softmax(1);
        var drawn = Entries(soft.argmax(1));
        var mixed = soft.permute(0, 2, 3, 1).matmul(Embed.Weight.Value).permute(0, 3, 1, 2);
        // The drawn codes' values, the soft choice's gradient.
        return (mixed + (drawn - mixed).detach()).MoveToOuterDisposeScope();
    }

    /// <summary>How far the likelihoods are from all codes being alike: the mean of Σ q log(codes · q).</summary>
    /// <param name="logits">[b, codes, rows, columns]</param>
    public static Tensor Divergence(Tensor logits)
    {
        using var scope = NewDisposeScope();
        var q = logits.softmax(1);
        return (q * (q * logits.shape[1] + 1e-10).log()).sum(1).mean().MoveToOuterDisposeScope();
    }
}

/// <summary>
/// VQ-GAN's autoencoder with a codebook of <see cref="GumbelQuantizer"/>: CompVis/taming-transformers' GumbelVQ, which the public f8 model of 8192 codes is. Keys as <see cref="VqModel"/>'s, but of the
/// codebook; its own files are read by <see cref="TamingVqgan.LoadGumbel"/>. Images are taken from -1 to 1.
/// </summary>
public sealed class GumbelVq(VqConfig config) : Module, IImageTokenizer
{
    public VqConfig Config { get; } = config;

    public VqEncoder Encoder { get; } = new(config.Checked());

    public Conv2d QuantConv { get; } = new(config.LatentChannels, config.CodeSize, 1);

    public GumbelQuantizer Quantize { get; } = new(config.NumVqEmbeddings, config.CodeSize);

    public Conv2d PostQuantConv { get; } = new(config.CodeSize, config.LatentChannels, 1);

    public VqDecoder Decoder { get; } = new(config);

    public int VocabularySize => Config.NumVqEmbeddings;

    public int PixelsPerToken => 1 << (Config.BlockOutChannels.Length - 1);

    /// <summary>What codes are chosen by: [b, code size, height / pixels, width / pixels].</summary>
    /// <param name="pixels">[b, channels, height, width] from -1 to 1</param>
    /// <exception cref="PanoptesException">The image's sides are no multiples of a token's.</exception>
    public Tensor Latents(Tensor pixels)
    {
        if (pixels.shape[2] % PixelsPerToken != 0 || pixels.shape[3] % PixelsPerToken != 0)
            throw new PanoptesException($"Images of {pixels.shape[3]}x{pixels.shape[2]} pixels were to be made tokens; expected multiples of {PixelsPerToken}.");
        using var scope = NewDisposeScope();
        return QuantConv.Forward(Encoder.Forward(pixels.to(QuantConv.Weight.Value.dtype))).MoveToOuterDisposeScope();
    }

    /// <summary>Codes back to pixels: [b, channels, height, width], about -1 to 1.</summary>
    /// <param name="codes">[b, code size, rows, columns]</param>
    public Tensor Decode(Tensor codes)
    {
        using var scope = NewDisposeScope();
        return Decoder.Forward(PostQuantConv.Forward(codes), Config.Conditioned is null ? null : codes).MoveToOuterDisposeScope();
    }

    /// <summary>As in training: what comes back out of drawn codes, and how far the likelihoods are from all being alike.</summary>
    /// <param name="pixels">[b, channels, height, width] from -1 to 1</param>
    /// <param name="temperature">As in <see cref="GumbelQuantizer.Draw"/>.</param>
    /// <param name="random">Draws.</param>
    public (Tensor Decoded, Tensor Divergence) Forward(Tensor pixels, double temperature, Generator random)
    {
        using var scope = NewDisposeScope();
        var logits = Quantize.Logits(Latents(pixels));
        return (Decode(Quantize.Draw(logits, temperature, random)).MoveToOuterDisposeScope(), GumbelQuantizer.Divergence(logits).MoveToOuterDisposeScope());
    }

    public Tensor Tokenize(Tensor images)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return Quantize.Likeliest(Latents(images * 2 - 1)).MoveToOuterDisposeScope();
    }

    /// <summary>The picture of the tokens: [b, channels, height, width] from 0 to 1, without a gradient.</summary>
    /// <param name="tokens">[b, rows, columns] int64</param>
    public Tensor Picture(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return ((Decode(Quantize.Entries(tokens)) + 1) / 2).clamp(0, 1).MoveToOuterDisposeScope();
    }
}
