using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Generation;

/// <summary>How prompts are read, beyond their words.</summary>
public sealed record PromptOptions
{
    /// <summary>How many of a CLIP text encoder's last layers are left out; null: as the family does it.</summary>
    public int? ClipSkip { get; init; }

    /// <summary>The wanted image's height and width, in pixels.</summary>
    public (int Height, int Width) Size { get; init; }

    /// <summary>What a model reads that reads a picture (<see cref="DiffusionModel.ReadsPicture"/>).</summary>
    public Imaging.Image? Picture { get; init; }

    /// <summary>SDXL: the size of the image that the wanted one is as if taken from; null: <see cref="Size"/>.</summary>
    public (int Height, int Width)? OriginalSize { get; init; }

    /// <summary>SDXL: where the wanted image is as if cropped.</summary>
    public (int Top, int Left) Crop { get; init; }

    /// <summary>SDXL: the size that is wanted; null: <see cref="Size"/>.</summary>
    public (int Height, int Width)? TargetSize { get; init; }

    /// <summary>Receives a sentence where a prompt is longer than the context; null: nobody reads it.</summary>
    public Action<string>? Note { get; init; }
}

/// <summary>A family of latent diffusion models with its parts: what reads prompts, the network, the autoencoder and the scheduler. It owns them.</summary>
public abstract class DiffusionModel(DiffusionScheduler scheduler, LatentAutoencoder? autoencoder) : IDisposable
{
    /// <summary>Loads a pipeline.</summary>
    /// <param name="model">A diffusers folder, one file of the original form, or a hub id, whose pipeline is taken from the cache or downloaded.</param>
    /// <param name="options">The type that weights get, and what stops the loading; null: float32, and nothing.</param>
    /// <param name="config">For a file: a diffusers folder that says what the file does not (<see cref="SingleFile.Load"/>); null: none.</param>
    /// <exception cref="PanoptesException">No pipeline there, or one that is not supported.</exception>
    public static DiffusionModel Load(string model, LoadOptions? options = null, string? config = null)
    {
        var path = ModelFolder.Resolve(model, options?.Cancel ?? default);
        if (File.Exists(path)) return SingleFile.Load(path, options, config);
        return config is null ? PipelineFolder.Load(path, options) : throw new PanoptesException($"{model} is no file, but a folder with settings was named; expected a file of the original form, which has none.");
    }

    /// <summary>Decides the noise levels and the steps; another may be asked for where the pictures are.</summary>
    public DiffusionScheduler Scheduler { get; } = scheduler;

    /// <summary>From pixels to latents and back; null: the network works on pixels.</summary>
    public LatentAutoencoder? Autoencoder { get; } = autoencoder;

    /// <summary>The network that is asked at every step.</summary>
    public abstract Module Network { get; }

    /// <summary>What reads prompts, where anything does.</summary>
    public virtual IEnumerable<Module> TextEncoders => [];

    /// <summary>Freezes the weights and lays them out for inference, where that is faster; gradients by latents bring the plain ones back (<see cref="Module.Pack"/>).</summary>
    public void Pack()
    {
        foreach (var module in Parts)
        {
            module.RequiresGrad(false);
            module.Pack();
        }
    }

    IEnumerable<Module> Parts => Autoencoder is null ? [.. TextEncoders, Network] : [.. TextEncoders, Network, Autoencoder];

    /// <summary>The network's type, in which latents are kept, too.</summary>
    public ScalarType Dtype => Network.NamedParameters().Select(static p => p.Parameter.Dtype).FirstOrDefault(static d => d is not null) ?? ScalarType.Float32;

    /// <summary>Channels of the latents.</summary>
    public virtual int LatentChannels => Autoencoder?.LatentChannels ?? 3;

    /// <summary>Channels that the network reads; more than <see cref="LatentChannels"/> where it sees a mask or an image beside them.</summary>
    public virtual int ChannelsRead => LatentChannels;

    /// <summary>Whether it fills masks: behind the latents it reads what is around them.</summary>
    public bool FillsMasks => ChannelsRead == 2 * LatentChannels + 1;

    /// <summary>Whether a model that fills masks reads the latents of what stays and then where that is, and what stays is put back in every step (GLIGEN); the others read the mask, and then the latents of the picture without what is in it.</summary>
    public virtual bool ReadsWhatStays => false;

    /// <summary>How many pixels a side one place of the latents stands for.</summary>
    public int PixelsPerPlace => Autoencoder?.PixelsPerPlace ?? 1;

    /// <summary>What sides of images must be multiples of.</summary>
    public virtual int Multiple => PixelsPerPlace;

    /// <summary>The side of the images that the network was made for, in pixels.</summary>
    public abstract int Side { get; }

    /// <summary>The size of images that nobody says a size of, in pixels: <see cref="Side"/> twice, unless the network was made for another shape.</summary>
    public virtual (int Width, int Height) UsualSize => (Side, Side);

    /// <summary>That size by a UNet's sample_size: one side, or rows and columns.</summary>
    private protected (int Width, int Height) SizeBy(OneOrMany<int>? sample) => sample is { Many: [var rows, var columns] } ? (columns * PixelsPerPlace, rows * PixelsPerPlace) : (Side, Side);

    /// <summary>How this model's images are usually made, where its family's way does not suit it; null: as in the family.</summary>
    public GenerationDefaults? Defaults { get; set; }

    /// <summary>How strongly the model usually follows prompts.</summary>
    public double UsualGuidance => Defaults?.GuidanceScale ?? FamilyGuidance;

    /// <summary>How many steps it usually takes.</summary>
    public int UsualSteps => Defaults?.NumInferenceSteps ?? FamilySteps;

    private protected abstract double FamilyGuidance { get; }

    private protected virtual int FamilySteps => 50;

    /// <summary>Whether guidance asks the network about what is not wanted, too (classifier-free); otherwise it is told how strong guidance is.</summary>
    public virtual bool AsksTwice => true;

    /// <summary>Whether it makes a difference how strong guidance is.</summary>
    public virtual bool IsToldGuidance => AsksTwice;

    /// <summary>Whether last layers of a CLIP may be left out (<see cref="PromptOptions.ClipSkip"/>).</summary>
    public virtual bool SkipsLayers => false;

    /// <summary>In how many parts a prompt is read that is longer than the context; prompts that are read together all get as many as the longest.</summary>
    public virtual int PartsOf(string prompt) => 1;

    /// <summary>Whether a picture is not what is changed, but what is wanted, in the place of words.</summary>
    public virtual bool ReadsPicture => false;

    /// <summary>Reads prompts.</summary>
    /// <param name="prompts">One an image.</param>
    /// <param name="negatives">What is not wanted, one an image; null: nothing is said of it.</param>
    /// <param name="options">The image's size, and how they are read.</param>
    /// <returns>Both, the caller's.</returns>
    /// <exception cref="PanoptesException">A prompt that cannot be read.</exception>
    public virtual (Conditioning Positive, Conditioning Negative) Describe(IReadOnlyList<string> prompts, IReadOnlyList<string>? negatives, PromptOptions options)
    {
        using var scope = NewDisposeScope();
        var both = Read([.. prompts, .. negatives ?? [.. prompts.Select(static _ => "")]], prompts.Count, options);
        return (both.Rows(0, prompts.Count).MoveToOuterDisposeScope(), both.Rows(prompts.Count, prompts.Count).MoveToOuterDisposeScope());
    }

    /// <summary>Reads all prompts in one batch.</summary>
    /// <param name="prompts">What is wanted, and behind it what is not.</param>
    /// <param name="wanted">How many say what is wanted.</param>
    private protected abstract Conditioning Read(IReadOnlyList<string> prompts, int wanted, PromptOptions options);

    /// <summary>What the network says: as the call's latents, without other channels; behind that as many channels of the variance, where it tells one.</summary>
    public abstract Tensor Predict(NetworkCall call);

    /// <summary>Lays out a sampling of images of a size.</summary>
    /// <param name="scheduler"><see cref="Scheduler"/>, or another.</param>
    /// <param name="height">In pixels.</param>
    /// <param name="width">In pixels.</param>
    public virtual SchedulerRun Start(DiffusionScheduler scheduler, int steps, SamplingOptions options, int height, int width) => scheduler.Start(steps, options);

    /// <summary>What models of flows sample with: strengths as the peer's pipelines of flows round them, and, where the schedule is shifted by the image's size, by how much.</summary>
    /// <param name="tokens">Of the image.</param>
    private protected SamplingOptions OfFlow(DiffusionScheduler scheduler, SamplingOptions options, int tokens) => options with
    {
        RoundsStrengthUp = true,
        // Another sampler keeps the limits of the model's own.
        Mu = scheduler is FlowMatchEulerScheduler { UseDynamicShifting: true } or SolverScheduler { UseDynamicShifting: true } ? options.Mu ?? (Scheduler as FlowMatchEulerScheduler ?? new()).ShiftOf(tokens) : scheduler is FlowMatchEulerScheduler ? null : options.Mu,
    };

    /// <summary>Latents of pictures, drawn from what the autoencoder takes them for: [b, channels, rows, columns].</summary>
    /// <param name="pixels">[b, 3, height, width] from -1 to 1</param>
    /// <param name="noise">Draws them; null: the likeliest.</param>
    /// <param name="parts">How large pictures go through the autoencoder.</param>
    /// <param name="draws">How often latents of one picture are drawn; null: once of each picture.</param>
    public Tensor Encode(Tensor pixels, NoiseSource? noise, AutoencoderParts? parts = null, long? draws = null)
    {
        using var scope = NewDisposeScope();
        // Of colors, a model of grey pixels sees how bright they are.
        if (Autoencoder is null) return (LatentChannels == 1 ? (pixels * tensor([0.299f, 0.587f, 0.114f], device: pixels.device).view(3, 1, 1)).sum(1, keepdim: true) : pixels).to(Dtype).alias().MoveToOuterDisposeScope();
        return Autoencoder.ToLatents(pixels, noise, parts, draws).to(Dtype).alias().MoveToOuterDisposeScope();
    }

    /// <summary>Pictures of latents: [b, 3, height, width] from 0 to 1.</summary>
    /// <exception cref="PanoptesException">The autoencoder gave numbers that are none.</exception>
    public Tensor Decode(Tensor latents, AutoencoderParts? parts = null)
    {
        using var scope = NewDisposeScope();
        var pictures = DecodeUnbounded(latents, parts);
        Damage.Check(pictures, "autoencoder");
        return pictures.clamp(0, 1).MoveToOuterDisposeScope();
    }

    /// <summary>The same as the autoencoder has them, some of it blacker than black or whiter than white: gradients reach everywhere.</summary>
    internal Tensor DecodeUnbounded(Tensor latents, AutoencoderParts? parts = null)
    {
        using var scope = NewDisposeScope();
        var pixels = (Autoencoder?.ToPixels(latents, parts) ?? latents).to(ScalarType.Float32) / 2 + 0.5;
        return (pixels.shape[1] == 1 ? pixels.expand(-1, 3, -1, -1) : pixels).MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        foreach (var module in Parts) module.Dispose();
        GC.SuppressFinalize(this);
    }
}
