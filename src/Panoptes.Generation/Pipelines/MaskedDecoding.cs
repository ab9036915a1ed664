namespace Panoptes.Generation;

/// <summary>The decoding of masked tokens by aMUSEd's transformer.</summary>
static class MaskedDecoding
{
    /// <summary>How well images are to be liked, as aMUSEd tells its transformer: the peer's default.</summary>
    const float Aesthetic = 6;

    /// <summary>How likely every token is, by those that are known and the caption: [b, codes, rows, columns] logits.</summary>
    /// <param name="tokens">[b, rows, columns] int64</param>
    public static Tensor Tell(UVit transformer, Tensor tokens, Tensor states, Tensor pooled, (int Width, int Height) size) =>
        transformer.Forward(tokens, states, pooled, tensor([size.Width, size.Height, 0f, 0f, Aesthetic]).unsqueeze(0).expand(tokens.shape[0], -1).to(states.dtype));

    /// <summary>Takes the steps of a decoding.</summary>
    /// <param name="begin">The first step.</param>
    /// <param name="masked">As <see cref="MaskedTokenRun.Step"/>'s.</param>
    /// <param name="tokens">[b, rows, columns] int64, the mask's where unknown.</param>
    /// <param name="states">[b, texts, width], what is not wanted first where captions are followed more closely than they come.</param>
    /// <param name="pooled">[b, width]</param>
    /// <param name="temperature">What logits are divided by.</param>
    /// <param name="stepped">Told after every step which it was, and of the tokens as if all were known; null: nobody is.</param>
    /// <returns>All tokens known.</returns>
    /// <exception cref="PanoptesException">Logits that are not finite.</exception>
    public static Tensor Fill(UVit transformer, MaskedTokenRun run, int begin, double masked, Tensor tokens, Tensor states, Tensor pooled, (int Width, int Height) size, double guidance, double temperature, NoiseSource noise, CancellationToken cancel, Action<int, Tensor>? stepped = null)
    {
        var images = tokens.shape[0];
        var guided = states.shape[0] == 2 * images;
        for (var i = begin; i < run.Count; i++)
        {
            cancel.ThrowIfCancellationRequested();
            using var step = NewDisposeScope();
            var logits = Tell(transformer, guided ? cat([tokens, tokens]) : tokens, states, pooled, size).to(ScalarType.Float32);
            if (guided) logits = Guidance.ClassifierFree(logits.narrow(0, 0, images), logits.narrow(0, images, images), guidance);
            Damage.Check(logits, "network", guided);
            var next = run.Step(i, logits / temperature, tokens, noise, masked);
            stepped?.Invoke(i, next.Clean);
            tokens = next.Tokens.MoveToOuterDisposeScope();
        }
        return tokens;
    }
}
