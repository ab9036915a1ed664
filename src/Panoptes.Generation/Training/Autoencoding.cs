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
        FeatureJudge? judge = null;
        try
        {
            if (setting.Side % model.Config.PixelsPerPlace != 0) throw new PanoptesException($"Scenes of {setting.Side} pixels were asked for; this autoencoder takes sides that are multiples of {model.Config.PixelsPerPlace}.");
            judge = Perceptual is null ? null : FeatureJudge.Load(setting.Recipe.ResolveModel(Perceptual));
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
sealed class Autoencoding(AutoencoderKl model, FeatureJudge? judge, AutoencoderOptions options, SceneSetting setting) : SceneObjective
{
    const int BatchSize = 32;

    /// <summary>Pictures that latents are scaled by, and reconstructions that are shown.</summary>
    const int Seen = 256, Shown = 16;

    static readonly float[] Half = [0.5f, 0.5f, 0.5f];

    double scale = model.Config.ScalingFactor;

    public override AutoencoderKl Model => model;

    public override string Monitor => "psnr";

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var pixels = batch.Normalized(Half, Half);
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
                    var pixels = batch.Normalized(Half, Half);
                    using var posterior = model.Encode(pixels);
                    var decoded = model.Decode(posterior.Mean).clamp(-1, 1);
                    error += ((decoded - pixels) / 2).square().mean([1, 2, 3]).log10().sum().item<float>();
                    if (split == EmojiSplit.Train && count < Seen * posterior.Mean[0].numel())
                    {
                        sum += posterior.Mean.square().sum().item<float>() + posterior.LogVariance.exp().sum().item<float>();
                        count += posterior.Mean.numel();
                    }
                    for (var i = 0; i < batch.Count && cells.Count < 2 * Shown; i++)
                        foreach (var picture in (Tensor[])[pixels[i], decoded[i]]) cells.Add(new(Image.FromTensor(((picture + 1) * 127.5).round().clamp(0, 255).to(ScalarType.Byte))));
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

/// <summary>A trained image tower whose features say how alike pictures are.</summary>
sealed class FeatureJudge : IDisposable
{
    readonly Module model;
    readonly IImageTower tower;
    readonly Renormalization view;

    FeatureJudge(Module model, IImageTower tower, Renormalization view)
    {
        (this.model, this.tower, this.view) = (model, tower, view);
        model.RequiresGrad(false);
        model.Train(false);
    }

    /// <summary>Loads one in float32.</summary>
    /// <exception cref="PanoptesException">No model, or one without an image tower.</exception>
    public static FeatureJudge Load(string path)
    {
        var model = Models.Load(path, new() { Dtype = ScalarType.Float32 });
        try
        {
            var (processor, _) = ClipParts.Load(path, model);
            return new(model, Towers.Of(model).Images, new([.. processor.Std.Select(static s => 0.5f / s)], [.. processor.Mean.Zip(processor.Std, static (m, s) => (0.5f - m) / s)]));
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>The mean distance over all maps (<see cref="PerceptualDistance"/>), with gradients to the second pictures: a scalar.</summary>
    /// <param name="first">[b, 3, height, width] from -1 to 1</param>
    /// <param name="second">As many.</param>
    public Tensor Distance(Tensor first, Tensor second)
    {
        using var scope = NewDisposeScope();
        IReadOnlyList<Tensor> real;
        using (no_grad()) real = Features(first);
        return PerceptualDistance.Of(real, Features(second), -1).mean().MoveToOuterDisposeScope();

        IReadOnlyList<Tensor> Features(Tensor pixels)
        {
            var output = tower.Forward(view.Apply(pixels, tower.ImageSize), hiddenStates: true);
            return [.. (output.HiddenStates ?? [output.LastHiddenState]).Select(static f => f.to(ScalarType.Float32))];
        }
    }

    public void Dispose() => model.Dispose();
}
