using System.Text.Json.Nodes;

namespace Panoptes.Imaging;

/// <summary>A batch of images as patches, padded to one length. Disposing it disposes the three tensors.</summary>
/// <param name="PixelValues">float32 [b, n, patch * patch * 3]: patches row by row, each (row, column, channel); zero where padded.</param>
/// <param name="PixelAttentionMask">int32 [b, n]: 1 for a patch, 0 for padding.</param>
/// <param name="SpatialShapes">int64 [b, 2]: rows and columns of patches.</param>
public sealed record PatchBatch(Tensor PixelValues, Tensor PixelAttentionMask, Tensor SpatialShapes) : IDisposable
{
    public void Dispose()
    {
        PixelValues.Dispose();
        PixelAttentionMask.Dispose();
        SpatialShapes.Dispose();
    }
}

/// <summary>
/// SigLIP 2's NaFlex processor (Tschannen et al. 2025, arXiv:2502.14786; transformers' Siglip2ImageProcessor): each image keeps its
/// proportions, at the largest multiple of the patch size that has no more than a given number of patches.
/// </summary>
public sealed record NaFlexImageProcessor : ImageProcessor
{
    public string ProcessorType { get; init; } = "Siglip2ImageProcessor";

    public int PatchSize { get; init; } = 16;

    public int MaxNumPatches { get; init; } = 256;

    public ResizeFilter Filter { get; init; } = ResizeFilter.Bilinear;

    public ResizeRounding ResizeRounding { get; init; } = ResizeRounding.Torchvision;

    public bool DoResize { get; init; } = true;

    public bool DoRescale { get; init; } = true;

    public double RescaleFactor { get; init; } = 1 / 255.0;

    public bool DoNormalize { get; init; } = true;

    IReadOnlyDictionary<string, JsonNode?> Rest { get; init; } = new Dictionary<string, JsonNode?>();

    /// <summary>Public models have at most 1,024; what attention costs grows with the square.</summary>
    const int MostPatches = 4096;

    internal static NaFlexImageProcessor Read(JsonFields fields, string type) => new()
    {
        ProcessorType = type,
        PatchSize = fields.Count("patch_size") ?? 16,
        MaxNumPatches = fields.Count("max_num_patches", MostPatches) ?? 256,
        Filter = HuggingFaceImageProcessor.ReadFilter(fields, ResizeFilter.Bilinear),
        ResizeRounding = type.EndsWith("Pil", StringComparison.Ordinal) ? ResizeRounding.Pillow : ResizeRounding.Torchvision,
        DoResize = fields.Flag("do_resize", true),
        DoRescale = fields.Flag("do_rescale", true),
        RescaleFactor = HuggingFaceImageProcessor.ReadPositive(fields, "rescale_factor", 1 / 255.0),
        DoNormalize = fields.Flag("do_normalize", true),
        Mean = fields.Channels("image_mean", [0.5f, 0.5f, 0.5f]),
        Std = fields.Channels("image_std", [0.5f, 0.5f, 0.5f]),
        Rest = fields.Rest(),
    };

    /// <summary>(height, width) that an image is resized to: found by halving the interval of scales, as the peer does.</summary>
    public (int Height, int Width) TargetSize(int height, int width)
    {
        const double epsilon = 1e-5;
        double low = epsilon / 10, high = 100;
        while (high - low >= epsilon)
        {
            var middle = (low + high) / 2;
            var patches = (double)(Side(middle, height) / PatchSize) * (Side(middle, width) / PatchSize);
            if (patches <= MaxNumPatches) low = middle;
            else high = middle;
        }
        return (Side(low, height), Side(low, width));

        int Side(double scale, int size) => Math.Max(PatchSize, (int)Math.Ceiling(size * scale / PatchSize) * PatchSize);
    }

    /// <summary>The patches alone: float32 [b, n, patch * patch * 3]; <see cref="ProcessPatches"/> gives the mask and shapes as well.</summary>
    /// <inheritdoc/>
    public override Tensor Process(IReadOnlyList<Image> images)
    {
        var batch = ProcessPatches(images);
        batch.PixelAttentionMask.Dispose();
        batch.SpatialShapes.Dispose();
        return batch.PixelValues;
    }

    /// <summary>Prepares the images in parallel; the caller owns the batch.</summary>
    /// <exception cref="PanoptesException">No image, or (without resizing) one whose sides are no multiples of the patch size or that has too many patches.</exception>
    public PatchBatch ProcessPatches(IReadOnlyList<Image> images)
    {
        if (images.Count == 0) throw new PanoptesException("No images to process: expected at least one.");
        var sizes = new (int Height, int Width)[images.Count];
        for (var i = 0; i < sizes.Length; i++) sizes[i] = SizeOf(images[i]);
        var length = PatchSize * PatchSize * 3;
        var batch = new PatchBatch(zeros([images.Count, MaxNumPatches, length], ScalarType.Float32), zeros([images.Count, MaxNumPatches], ScalarType.Int32),
            zeros([images.Count, 2], ScalarType.Int64));
        try
        {
            Fill(images, sizes, batch, length);
            return batch;
        }
        catch
        {
            batch.Dispose();
            throw;
        }
    }

    (int Height, int Width) SizeOf(Image image)
    {
        if (DoResize) return TargetSize(image.Height, image.Width);
        var patches = image.Height / PatchSize * (image.Width / PatchSize);
        return image.Height % PatchSize == 0 && image.Width % PatchSize == 0 && patches <= MaxNumPatches
            ? (image.Height, image.Width)
            : throw new PanoptesException($"An image of {image.Width}x{image.Height} that is not to be resized does not make up to {MaxNumPatches} whole patches of {PatchSize}x{PatchSize}.");
    }

    unsafe void Fill(IReadOnlyList<Image> images, (int Height, int Width)[] sizes, PatchBatch batch, int length)
    {
        var table = HuggingFaceImageProcessor.Table(DoRescale, RescaleFactor, DoNormalize, Mean, Std);
        fixed (byte* values = batch.PixelValues.bytes, masks = batch.PixelAttentionMask.bytes, shapes = batch.SpatialShapes.bytes)
        {
            var (v, m, s) = ((nint)values, (nint)masks, (nint)shapes);             // native memory: it does not move
            Parallel.For(0, images.Count, i =>
            {
                var (height, width) = sizes[i];
                var (rows, columns) = (height / PatchSize, width / PatchSize);
                var image = images[i].ToRgb().Resize(width, height, Filter, ResizeRounding);
                var target = new Span<float>((float*)v + (long)i * MaxNumPatches * length, rows * columns * length);
                Patches(image, target, table);
                new Span<int>((int*)m + (long)i * MaxNumPatches, rows * columns).Fill(1);
                var shape = (long*)s + i * 2;
                (shape[0], shape[1]) = (rows, columns);
            });
        }
    }

    void Patches(Image image, Span<float> target, ReadOnlySpan<float> table)
    {
        var o = 0;
        for (var top = 0; top < image.Height; top += PatchSize)
            for (var left = 0; left < image.Width; left += PatchSize)
                for (var y = top; y < top + PatchSize; y++)
                {
                    var row = image.Row(y).Slice(left * 3, PatchSize * 3);
                    for (var x = 0; x < row.Length; x += 3, o += 3)
                    {
                        target[o] = table[row[x]];
                        target[o + 1] = table[256 + row[x + 1]];
                        target[o + 2] = table[512 + row[x + 2]];
                    }
                }
    }

    /// <summary>Writes preprocessor_config.json.</summary>
    public override void Save(string folder)
    {
        var json = new JsonObject
        {
            ["image_processor_type"] = ProcessorType,
            ["do_resize"] = DoResize,
            ["resample"] = (int)Filter,
            ["do_rescale"] = DoRescale,
            ["rescale_factor"] = RescaleFactor,
            ["do_normalize"] = DoNormalize,
            ["image_mean"] = Numbers(Mean),
            ["image_std"] = Numbers(Std),
            ["patch_size"] = PatchSize,
            ["max_num_patches"] = MaxNumPatches,
        };
        foreach (var (name, value) in Rest) json[name] = value?.DeepClone();
        Write(Path.Combine(folder, "preprocessor_config.json"), json);
    }
}
