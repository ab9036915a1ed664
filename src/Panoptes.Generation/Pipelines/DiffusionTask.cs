namespace Panoptes.Generation;

/// <summary>One batch to be made, as tensors: what users say in pictures and words (<see cref="Diffusion"/>), or peers' cases. All tensors stay the caller's.</summary>
public sealed record DiffusionTask
{
    /// <summary>What is wanted, a row an image.</summary>
    public required Conditioning Positive { get; init; }

    /// <summary>What is not; null: nothing, without guidance.</summary>
    public Conditioning? Negative { get; init; }

    /// <summary>In pixels, a multiple of <see cref="DiffusionModel.Multiple"/>.</summary>
    public required int Height { get; init; }

    /// <summary>In pixels, a multiple of <see cref="DiffusionModel.Multiple"/>.</summary>
    public required int Width { get; init; }

    /// <summary>How many of the scheduler's, from 1 to what the model was trained with.</summary>
    public required int Steps { get; init; }

    /// <summary>Classifier-free guidance's scale; at most 1: none.</summary>
    public double Guidance { get; init; } = 1;

    /// <summary>As <see cref="Denoising.Rescale"/>.</summary>
    public double Rescale { get; init; }

    /// <summary>As <see cref="Denoising.Repeats"/>.</summary>
    public int Repeats { get; init; } = 1;

    /// <summary>Another scheduler than the model's own; null: that.</summary>
    public DiffusionScheduler? Scheduler { get; init; }

    /// <summary>What the scheduler takes beside a number of steps.</summary>
    public SamplingOptions Sampling { get; init; } = new();

    /// <summary>Where all chance comes from, in the order in which the peer draws.</summary>
    public required NoiseSource Noise { get; init; }

    /// <summary>[images, channels, rows, columns]: the noise to begin with; null: drawn.</summary>
    public Tensor? Latents { get; init; }

    /// <summary>[1 or images, 3, height, width] from 0 to 1: what is to be changed (with <see cref="SamplingOptions.Strength"/>), or filled where <see cref="Mask"/> says; null: nothing is given.</summary>
    public Tensor? Image { get; init; }

    /// <summary>[images, channels, rows, columns]: latents to be changed (with <see cref="SamplingOptions.Strength"/>), in place of a picture's; null: none are given.</summary>
    public Tensor? Clean { get; init; }

    /// <summary>[1 or images, 1, height, width]: from 0.5 on, what is to be made anew; null: all.</summary>
    public Tensor? Mask { get; init; }

    /// <summary>What comes between the steps.</summary>
    public IReadOnlyList<IStepHook> Hooks { get; init; } = [];

    /// <summary>How large pictures go through the autoencoder.</summary>
    public AutoencoderParts? Parts { get; init; }

    /// <summary>Runs the task: text to image, image to image, or inpainting by a network of nine channels or a plain one.</summary>
    /// <returns>The last latents, the caller's: [images, channels, rows, columns]</returns>
    /// <exception cref="PanoptesException">A size that does not fit, a picture or a mask of another one, a mask without a picture, a network that needs a picture and has none.</exception>
    public Tensor Run(DiffusionModel model, CancellationToken cancel = default)
    {
        Check(model);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var images = Positive.Count;
        long[] shape = [images, model.LatentChannels, Height / model.PixelsPerPlace, Width / model.PixelsPerPlace];
        var isWhole = Sampling is { Strength: 1, LcmStrength: 1 };
        var run = model.Start(Scheduler ?? model.Scheduler, Steps, Image is null && Clean is null ? Sampling with { Strength = 1, LcmStrength = 1 } : Sampling, Height, Width);
        var hooks = new List<IStepHook>(Hooks);
        Tensor? channels = null;
        Tensor latents;
        if (Clean is not null) latents = run.AddNoise(Clean, Noise.Normal(shape, model.Dtype), run.Begin);
        else if (Image is null) latents = Scaled(Latents ?? Noise.Normal(shape, model.Dtype), run);
        else
        {
            // One picture of all images is encoded, and, where all noise is of one source, drawn, once, as the peer does it.
            var pixels = Image * 2 - 1;
            // A network of nine channels that begins with noise alone looks at nothing but what is around the mask.
            var hidden = Mask is not null && model.FillsMasks && !model.ReadsWhatStays && (isWhole || Latents is not null);
            var clean = hidden ? null : Encoded(pixels);
            var noise = Latents ?? Noise.Normal(shape, model.Dtype);
            latents = Mask is not null && (Latents is not null || isWhole) ? Scaled(noise, run) : run.AddNoise(clean!, noise, run.Begin);
            if (Mask is not null)
            {
                var mask = Mask.ge(0.5).to(ScalarType.Float32);
                var coarse = nn.functional.interpolate(mask, size: [shape[2], shape[3]], mode: InterpolationMode.Nearest).to(model.Dtype).expand(images, -1, -1, -1);
                if (model.ReadsWhatStays)
                {
                    channels = cat([clean! * (1 - coarse), 1 - coarse], 1);
                    latents = (1 - coarse) * run.AddNoise(clean!, noise, run.Begin) + coarse * latents;
                    hooks.Insert(0, new KeepOutside(clean!, noise, coarse));
                }
                else if (model.FillsMasks) channels = cat([coarse, Encoded(pixels * (1 - mask))], 1);
                else
                {
                    // The peer draws for a picture that it then does not use.
                    Noise.Normal(shape, model.Dtype).Dispose();
                    hooks.Insert(0, new KeepOutside(clean!, noise, coarse));
                }
            }
        }
        using var denoising = new Denoising(model, run, Positive, IsGuided(model) ? Negative : null, hooks) { GuidanceScale = Guidance, Rescale = Rescale, Repeats = Repeats, Channels = channels, Noise = Noise };
        return denoising.Start(latents, cancel).MoveToOuterDisposeScope();

        Tensor Encoded(Tensor pictures) => model.Encode(pictures, Noise, Parts, Noise.IsOfEach ? images : null).expand(images, -1, -1, -1);
    }

    bool IsGuided(DiffusionModel model) => Guidance > 1 && model.AsksTwice && Negative is not null;

    static Tensor Scaled(Tensor noise, SchedulerRun run)
    {
        using var scope = NewDisposeScope();
        using var sigma = run.InitNoiseSigma.ToScalar();
        return noise.mul(sigma).MoveToOuterDisposeScope();
    }

    void Check(DiffusionModel model)
    {
        if (Height < model.Multiple || Width < model.Multiple || Height % model.Multiple != 0 || Width % model.Multiple != 0)
            throw new PanoptesException($"Images of {Width}x{Height} pixels were asked for; this model makes sides that are multiples of {model.Multiple}.");
        if (Image is { } image && (image.dim() != 4 || image.shape[1] != 3 || image.shape[2] != Height || image.shape[3] != Width))
            throw new PanoptesException($"A picture of [{string.Join(", ", image.shape)}] was given for images of {Width}x{Height}; expected [images, 3, {Height}, {Width}].");
        if (Mask is { } mask && (mask.dim() != 4 || mask.shape[1] != 1 || mask.shape[2] != Height || mask.shape[3] != Width))
            throw new PanoptesException($"A mask of [{string.Join(", ", mask.shape)}] was given for images of {Width}x{Height}; expected [images, 1, {Height}, {Width}].");
        if (Clean is { } clean && (Image is not null || !clean.shape.AsSpan().SequenceEqual([Positive.Count, model.LatentChannels, Height / model.PixelsPerPlace, Width / model.PixelsPerPlace])))
            throw new PanoptesException($"Latents of [{string.Join(", ", clean.shape)}] were to be changed; expected [{Positive.Count}, {model.LatentChannels}, {Height / model.PixelsPerPlace}, {Width / model.PixelsPerPlace}], and no picture beside them.");
        if (Mask is not null && Image is null) throw new PanoptesException("A mask was given without a picture; expected both.");
        if (Mask is null && model.FillsMasks) throw new PanoptesException("This model fills masks; expected a picture and a mask.");
        if (model.ChannelsRead != model.LatentChannels && !model.FillsMasks) throw new PanoptesException($"This network reads {model.ChannelsRead} channels; expected {model.LatentChannels}, or {2 * model.LatentChannels + 1} to fill masks.");
        if (Latents is { } latents && !latents.shape.AsSpan().SequenceEqual([Positive.Count, model.LatentChannels, Height / model.PixelsPerPlace, Width / model.PixelsPerPlace]))
            throw new PanoptesException($"Latents of [{string.Join(", ", latents.shape)}] were given; expected [{Positive.Count}, {model.LatentChannels}, {Height / model.PixelsPerPlace}, {Width / model.PixelsPerPlace}].");
    }
}

/// <summary>Inpainting by a network that knows of no masks, or is told what stays: after every step what is outside is the picture's, with as much noise as the next step expects.</summary>
/// <param name="clean">[images, channels, rows, columns]: the picture's latents</param>
/// <param name="noise">As many: the one noise that it is mixed with.</param>
/// <param name="mask">[images, 1, rows, columns]: 1 where it is made anew</param>
sealed class KeepOutside(Tensor clean, Tensor noise, Tensor mask) : IStepHook
{
    public void Stepped(DenoisingStep step)
    {
        var outside = step.Index + 1 < step.Run.Count ? step.Run.AddNoise(clean, noise, step.Index + 1) : clean;
        step.Latents = (1 - mask) * outside + mask * step.Latents;
    }
}
