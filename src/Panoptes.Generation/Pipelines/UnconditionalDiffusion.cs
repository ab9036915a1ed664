using System.Globalization;
using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>DDPM (Ho et al. 2020, arXiv:2006.11239): images of one kind, made of pixels, or of latents (LDM), without a word. The prompt is empty or, of a UNet that was taught classes, a class's number.</summary>
public sealed class UnconditionalDiffusion : DiffusionModel
{
    /// <exception cref="PanoptesException">The UNet works on neither colors nor grey, nor the autoencoder's latents, or gives neither as much nor, with the variance, twice as much.</exception>
    public UnconditionalDiffusion(UNet2DModel unet, DiffusionScheduler scheduler, LatentAutoencoder? autoencoder = null) : base(scheduler, autoencoder)
    {
        var (read, given) = (unet.Config.InChannels, unet.Config.OutChannels);
        if (autoencoder is not null && read != autoencoder.LatentChannels) throw new PanoptesException($"The unet reads {read} channels, but the latents have {autoencoder.LatentChannels}; expected as many.");
        if ((autoencoder is null && read is not (1 or 3)) || (given != read && given != 2 * read)) throw new PanoptesException($"The unet reads {read} channels and gives {given}; expected 3 or, of grey, 1 of pixels, and as many given, or twice as many with the variance.");
        UNet = unet;
    }

    public UNet2DModel UNet { get; }

    public override Module Network => UNet;

    public override int LatentChannels => UNet.Config.InChannels;

    /// <summary>Every level but the last halves the image, or its latents.</summary>
    public override int Multiple => PixelsPerPlace << (UNet.Config.BlockOutChannels.Length - 1);

    public override int Side => (UNet.Config.SampleSize?[0] ?? 32) * PixelsPerPlace;

    public override (int Width, int Height) UsualSize => SizeBy(UNet.Config.SampleSize);

    private protected override double FamilyGuidance => 1;

    /// <summary>The chain that it was trained on has as many steps as that; others jump.</summary>
    private protected override int FamilySteps => Scheduler is DdpmScheduler ? Scheduler.NumTrainTimesteps : 50;

    public override bool AsksTwice => false;

    private protected override Conditioning Read(IReadOnlyList<string> prompts, int wanted, PromptOptions options)
    {
        if (prompts.Skip(wanted).Any(static n => n.Length > 0)) throw new PanoptesException("A negative prompt was given to a model that reads none.");
        // Without classes their numbers only say how many images there are.
        return new() { Classes = tensor([.. prompts.Select((p, i) => i < wanted ? ClassOf(p) : 0)]) };
    }

    long ClassOf(string prompt)
    {
        if (UNet.Config.NumClassEmbeds is not { } classes) return prompt.Trim().Length == 0 ? 0 : throw new PanoptesException($"This model reads no words, but '{PromptTokens.Shown(prompt)}' was given; expected an empty prompt.");
        return int.TryParse(prompt, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number < classes ? number : throw new PanoptesException($"'{PromptTokens.Shown(prompt)}' is no class of this model; expected a number from 0 to {classes - 1}.");
    }

    public override Tensor Predict(NetworkCall call) => UNet.Forward(call.Sample, call.Timestep, UNet.Config.NumClassEmbeds is null ? null : call.Conditioning.Classes, call.Attention);
}
