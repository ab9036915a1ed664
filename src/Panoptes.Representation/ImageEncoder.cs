using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Representation;

/// <summary>How <see cref="ImageEncoder.Load"/> and <see cref="Clip.Load"/> prepare a model, and how it is then used.</summary>
public sealed record ClipOptions
{
    /// <summary>The type of the weights: bfloat16 halves the memory and is several times faster where the processor has it; null: as they are stored.</summary>
    public ScalarType? Dtype { get; init; } = ScalarType.Float32;

    /// <summary>Where the model runs; null: the CPU.</summary>
    public Device? Device { get; init; }

    /// <summary>How many threads libtorch may use, for the whole process; null: as many as there are cores.</summary>
    public int? Threads { get; init; }

    /// <summary>How many images or texts go through the model at once.</summary>
    public int BatchSize { get; init; } = 32;

    /// <summary>Whether texts that are longer than the model takes are cut; by default they are refused.</summary>
    public bool TruncateTexts { get; init; }
}

/// <summary>
/// Any model with an image tower, with its image processor: images in, features out. Not for several threads at once.
/// </summary>
/// <example><code>
/// using var encoder = ImageEncoder.Load("facebook/dinov2-base");
/// float[] feature = encoder.Feature(Image.Load("photo.jpg"));
/// </code></example>
public class ImageEncoder : IDisposable
{
    /// <summary>A model that is in memory already; it is disposed with this object.</summary>
    /// <exception cref="PanoptesException">It has no image tower.</exception>
    public ImageEncoder(Nn.Module model, ImageProcessor processor, ClipOptions? options = null) : this(model, processor, null, options ?? new()) { }

    private protected ImageEncoder(Nn.Module model, ImageProcessor processor, Tokenizer? tokenizer, ClipOptions options)
    {
        if (options.BatchSize < 1) throw new PanoptesException($"The batch size is {options.BatchSize}; expected 1 or more.");
        (Model, Processor, Towers) = (model, processor, Towers.Of(model));
        Encoder = new(Towers, processor, tokenizer, options.BatchSize, options.Device, options.TruncateTexts);
        model.Train(false);
        model.RequiresGrad(false);
        model.Pack();
    }

    public virtual Nn.Module Model { get; }

    public ImageProcessor Processor { get; }

    /// <summary>The model by its towers.</summary>
    public Towers Towers { get; }

    /// <summary>The length of a feature.</summary>
    public int FeatureSize => Towers.Images.PooledSize;

    /// <summary>What the evaluations embed with.</summary>
    internal BatchEncoder Encoder { get; }

    /// <summary>Loads any model that has an image tower; one with a text tower as well is a <see cref="Clip"/>, one that answers questions a <see cref="QuestionAnswerer"/>.</summary>
    /// <param name="model">A folder, a file or a hub id (<c>OWNER/NAME</c>).</param>
    /// <param name="options">The wanted type, device and batch size.</param>
    /// <exception cref="PanoptesException">Nothing there, a model without an image tower, or a file of it is missing or broken.</exception>
    public static ImageEncoder Load(string model, ClipOptions? options = null)
    {
        options ??= new();
        return LoadAs<ImageEncoder>(model, options, (loaded, processor, tokenizer) => loaded switch
        {
            DualEncoder both => new Clip(both, processor, tokenizer!, options),
            Beit3ForVisualQuestionAnswering { Answers.Count: > 0 } answers => new QuestionAnswerer(answers, processor, tokenizer!, options),
            _ => new ImageEncoder(loaded, processor, options),
        });
    }

    /// <summary>Makes something of a model and what stands beside its weights, which becomes its owner.</summary>
    /// <exception cref="PanoptesException">Nothing there, a model without an image tower, or a file of it is missing or broken.</exception>
    internal static T LoadAs<T>(string model, ClipOptions options, Func<Nn.Module, ImageProcessor, Tokenizer?, T> make)
    {
        if (options.Threads is { } threads)
        {
            if (threads < 1) throw new PanoptesException($"{threads} threads were asked for; expected 1 or more.");
            set_num_threads(threads);
        }
        var path = ModelFolder.Resolve(model);
        var loaded = Models.Load(path, new LoadOptions { Dtype = options.Dtype, Device = options.Device });
        try
        {
            var (processor, tokenizer) = ClipParts.Load(path, loaded);
            return make(loaded, processor, tokenizer);
        }
        catch
        {
            loaded.Dispose();
            throw;
        }
    }

    /// <summary>The pooled features of images before any projection, as they are: float32 [images, feature] on the CPU, owned by the caller.</summary>
    /// <exception cref="PanoptesException">No image.</exception>
    public Tensor Features(IReadOnlyList<Image> images)
    {
        if (images.Count == 0) throw new PanoptesException("No images: expected at least one.");
        return Encoder.Features(images.Count, i => images[i]);
    }

    /// <summary>The same of one image.</summary>
    public float[] Feature(Image image)
    {
        using var feature = Features([image]);
        return feature.data<float>().ToArray();
    }

    protected virtual void Dispose(bool disposing)
    {
        if (disposing) Towers.Model.Dispose();
    }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }
}
