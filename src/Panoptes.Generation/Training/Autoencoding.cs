using System.Text.Json.Nodes;
using Panoptes.Checkpoints;
using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Objectives;
using Panoptes.Representation.Training;
using Panoptes.Training;

namespace Panoptes.Generation.Training;

/// <summary>
/// The autoencoder whose latents diffusion models work in (Rombach et al. 2022, arXiv:2112.10752, section 3.1): absolute differences of pixels, distances in the features of a trained model, and a small
/// divergence of the latents from a normal distribution.
/// </summary>
public sealed record AutoencoderOptions : SceneTaskOptions
{
    /// <summary>The weight of the divergence, of its mean over the numbers of the latents.</summary>
    public double KlWeight { get; init; } = 1e-4;

    /// <summary>A model whose features are compared, too; null: none.</summary>
    public string? Perceptual { get; init; }

    /// <summary>How much these distances count; null: 0.1.</summary>
    public double? PerceptualWeight { get; init; }

    public override SceneObjective Create(SceneSetting setting)
    {
        if (KlWeight is not (>= 0 and <= 1e6)) throw new PanoptesException($"kl_weight is {KlWeight}; expected 0 or more.");
        if (PerceptualWeight is not (null or (>= 0 and <= 1e6))) throw new PanoptesException($"perceptual_weight is {PerceptualWeight}; expected 0 or more.");
        if (Perceptual is null && PerceptualWeight is not null) throw new PanoptesException("perceptual_weight goes with a model whose features are compared (perceptual).");
        var model = RecipeModels.Build<AutoencoderKl>(setting);
        PerceptualJudge? judge = null;
        try
        {
            if (setting.Side % model.Config.PixelsPerPlace != 0) throw new PanoptesException($"Scenes of {setting.Side} pixels were asked for; this autoencoder takes sides that are multiples of {model.Config.PixelsPerPlace}.");
            judge = Perceptual is null ? null : PerceptualJudge.Load(ModelFolder.Resolve(setting.Recipe.ResolveModel(Perceptual)), Renormalization.FromSigned);
            return new Autoencoding(model, judge, this, setting);
        }
        catch
        {
            model.Dispose();
            judge?.Dispose();
            throw;
        }
    }
}

/// <inheritdoc cref="AutoencoderOptions"/>
sealed class Autoencoding(AutoencoderKl model, PerceptualJudge? judge, AutoencoderOptions options, SceneSetting setting) : SceneObjective
{
    const int BatchSize = 32;

    /// <summary>Scenes that latents are scaled by, and reconstructions that are shown.</summary>
    const int Seen = 256, Shown = 16;

    public override AutoencoderKl Model => model;

    public override string Monitor => "psnr";

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var pixels = SignedPixels.Of(batch);
        var posterior = model.Encode(pixels);
        var decoded = model.Decode(posterior.Sample(random));
        using var exact = Autocast.To(ScalarType.Float32);
        var difference = (decoded.to(ScalarType.Float32) - pixels).abs().mean();
        var kl = new LatentPosterior(posterior.Mean.to(ScalarType.Float32), posterior.LogVariance.to(ScalarType.Float32)).Kl().mean() / posterior.Mean[0].numel();
        var loss = difference + options.KlWeight * kl;
        var losses = new Dictionary<string, Tensor> { ["pixels"] = difference, ["kl"] = kl };
        if (judge is not null)
        {
            // Features are compared under the recipe's precision again.
            using var fast = Autocast.To(RecipeParts.PrecisionOf(setting.Recipe.Training.Precision));
            losses["perceptual"] = judge.Distance(pixels, decoded);
            loss = loss + (options.PerceptualWeight ?? 0.1) * losses["perceptual"];
        }
        losses["loss"] = loss;
        return losses;
    }

    /// <summary>The peak signal-to-noise ratio in decibels of scenes that were never seen.</summary>
    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var measures = new Dictionary<string, double>();
        var cells = new List<SheetCell>();
        foreach (var (name, split) in ((string, EmojiSplit)[])[("psnr", EmojiSplit.Train), ("psnr_style", EmojiSplit.HeldOutStyle)])
        {
            // The held-out style has no drawings in scenes that are limited to others.
            if (split != EmojiSplit.Train && setting.Recipe.Data.Scenes.Styles is not null) continue;
            var (error, pictures) = (0.0, 0);
            foreach (var batch in tests.Batches(split, BatchSize))
            {
                cancel.ThrowIfCancellationRequested();
                using var scope = NewDisposeScope();
                using (batch)
                {
                    var pixels = SignedPixels.Of(batch);
                    using var posterior = model.Encode(pixels);
                    var decoded = model.Decode(posterior.Mean).clamp(-1, 1);
                    error += ((decoded - pixels) / 2).square().mean([1, 2, 3]).log10().sum().item<float>();
                    for (var i = 0; i < batch.Count && cells.Count < 2 * Shown; i++)
                        foreach (var picture in (Tensor[])[pixels[i], decoded[i]]) cells.Add(new(SignedPixels.ToImage(picture)));
                    pictures += batch.Count;
                    progress?.Report(new(pictures, tests.Scenes(split).Count));
                }
            }
            measures[name] = -10 * error / Math.Max(1, pictures);
        }
        ContactSheet.Grid(cells, "Pictures and what comes back of them", 8).Save(Path.Combine(setting.Run, "reconstructions.png"));
        return measures;
    }

    public override void Save(string folder)
    {
        GenerationModels.Save(folder, model);
        // What latents are multiplied by, so that diffusion has a deviation of 1, follows from the trained weights (section 4.3.2 of the paper), so it is no part of the config that training begins with.
        var path = Path.Combine(folder, "config.json");
        var config = JsonNode.Parse(ModelFolder.ReadText(path))!.AsObject();
        config["scaling_factor"] = 1 / Math.Max(Deviation(), 1e-6);
        AtomicFile.WriteText(path, config.ToJsonString(ModelConfig.JsonOptions) + "\n");
    }

    /// <summary>The deviation of the latents of the first training scenes.</summary>
    double Deviation()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (sum, count) = (0.0, 0L);
        foreach (var chunk in setting.FirstScenes(Seen).Chunk(BatchSize))
        {
            using var step = NewDisposeScope();
            using var batch = SceneBatch.Of(chunk);
            var posterior = model.Encode(SignedPixels.Of(batch));
            sum += posterior.Mean.square().sum().item<float>() + posterior.LogVariance.exp().sum().item<float>();
            count += posterior.Mean.numel();
        }
        return Math.Sqrt(sum / count);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) judge?.Dispose();
        base.Dispose(disposing);
    }
}
