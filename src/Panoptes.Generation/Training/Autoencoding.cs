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

    public double PerceptualWeight { get; init; } = 0.1;

    public override SceneObjective Create(SceneSetting setting)
    {
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

    /// <summary>Pictures that latents are scaled by, and reconstructions that are shown.</summary>
    const int Seen = 256, Shown = 16;

    double scale = model.Config.ScalingFactor;

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
            loss = loss + options.PerceptualWeight * losses["perceptual"];
        }
        losses["loss"] = loss;
        return losses;
    }

    /// <summary>The peak signal-to-noise ratio in decibels of drawings that were never seen, and the latents' deviation, by which diffusion scales them.</summary>
    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var measures = new Dictionary<string, double>();
        var (sum, count) = (0.0, 0L);
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
                    if (split == EmojiSplit.Train && count < Seen * posterior.Mean[0].numel())
                    {
                        sum += posterior.Mean.square().sum().item<float>() + posterior.LogVariance.exp().sum().item<float>();
                        count += posterior.Mean.numel();
                    }
                    for (var i = 0; i < batch.Count && cells.Count < 2 * Shown; i++)
                        foreach (var picture in (Tensor[])[pixels[i], decoded[i]]) cells.Add(new(SignedPixels.ToImage(picture)));
                    pictures += batch.Count;
                    progress?.Report(new(pictures, tests.Scenes(split).Count));
                }
            }
            measures[name] = -10 * error / Math.Max(1, pictures);
        }
        measures["latent_deviation"] = Math.Sqrt(sum / Math.Max(1, count));
        scale = 1 / Math.Max(measures["latent_deviation"], 1e-6);
        ContactSheet.Grid(cells, "Pictures and what comes back of them", 8).Save(Path.Combine(setting.Run, "reconstructions.png"));
        return measures;
    }

    public override void Save(string folder)
    {
        GenerationModels.Save(folder, model);
        // What latents are multiplied by follows from the trained weights (section 4.3.2 of the paper), so it is no part of the config that training begins with.
        var path = Path.Combine(folder, "config.json");
        var config = JsonNode.Parse(ModelFolder.ReadText(path))!.AsObject();
        config["scaling_factor"] = scale;
        AtomicFile.WriteText(path, config.ToJsonString(ModelConfig.JsonOptions) + "\n");
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) judge?.Dispose();
        base.Dispose(disposing);
    }
}
