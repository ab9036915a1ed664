using Panoptes.Imaging;

namespace Panoptes.Data;

/// <summary>Gray images of one size, each with its class.</summary>
/// <param name="Width">Pixels a row.</param>
/// <param name="Height">Rows.</param>
/// <param name="Pixels">[images, height, width]</param>
/// <param name="Labels">For every image its class, from 0.</param>
public sealed record LabeledImages(int Width, int Height, byte[] Pixels, IReadOnlyList<int> Labels)
{
    public int Count => Labels.Count;

    /// <summary>One image, of one channel.</summary>
    public Image this[int index] => new(Width, Height, 1, Pixels.AsSpan(index * Width * Height, Width * Height).ToArray());

    /// <summary>Some of them.</summary>
    public LabeledImages Select(IReadOnlyList<int> indices)
    {
        var (size, pixels) = (Width * Height, new byte[indices.Count * Width * Height]);
        for (var i = 0; i < indices.Count; i++) Pixels.AsSpan(indices[i] * size, size).CopyTo(pixels.AsSpan(i * size));
        return new(Width, Height, pixels, [.. indices.Select(i => Labels[i])]);
    }

    /// <summary>The indices of some of them, of every class as many (but for a remainder), the same every time and each number's among those of every larger one.</summary>
    /// <exception cref="PanoptesException">There are not so many.</exception>
    public int[] Balanced(int count)
    {
        if (count < 1 || count > Count) throw new PanoptesException($"{count} images were asked for; expected 1 to {Count}.");
        int[] order = [.. Enumerable.Range(0, Count)];
        new SampleRandom(0, 0, 0).Shuffle<int>(order);
        // The first of every class, then the second of every class, and so on.
        var ranked = order.GroupBy(i => Labels[i]).SelectMany(static members => members.Select(static (image, rank) => (image, rank)));
        return [.. ranked.OrderBy(static r => r.rank).Take(count).Select(static r => r.image).Order()];
    }

    /// <summary>Every image as a row of its pixels from 0 to 1: [images, height · width] float32, owned by the caller.</summary>
    public Tensor PixelTensor()
    {
        using var scope = NewDisposeScope();
        return tensor(Pixels, [Count, Width * Height]).to(ScalarType.Float32).div_(255).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747): 70,000 gray images of 28x28 pixels, white clothes on black, in ten
/// classes. It is not bundled; Debian has it as the package dataset-fashion-mnist.
/// </summary>
public sealed record FashionMnist(LabeledImages Train, LabeledImages Test)
{
    const string DebianFolder = "/usr/share/datasets/fashion-mnist";

    /// <summary>The classes in the order of their labels, as the data set's authors call them.</summary>
    public static IReadOnlyList<string> Classes { get; } = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

    /// <summary>The four files, without the ending that compressed ones have.</summary>
    static readonly string[] Files = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

    /// <summary>
    /// Reads the four IDX files (plain or .gz) of a folder, or finds them: in the folder that the environment's PANOPTES_DATA names or its
    /// folder fashion-mnist, or where Debian puts them.
    /// </summary>
    /// <exception cref="PanoptesException">They are not there, or one of them is damaged or does not go with the others.</exception>
    public static FashionMnist Open(string? folder = null)
    {
        folder ??= Find() ?? throw new PanoptesException($"Fashion-MNIST was not found: install the Debian package dataset-fashion-mnist (apt-get install dataset-fashion-mnist), or set PANOPTES_DATA to a folder with fashion-mnist/{Files[0]}.gz and the other three files.");
        foreach (var name in Files)
            if (PathOf(folder, name) is null) throw new PanoptesException($"{folder} has neither {name}.gz nor {name}; expected the four files of Fashion-MNIST.");
        return new(Read(folder, Files[0], Files[1]), Read(folder, Files[2], Files[3]));
    }

    /// <summary>Where the data set is on this machine, or null.</summary>
    public static string? Find()
    {
        var named = Environment.GetEnvironmentVariable("PANOPTES_DATA");
        string[] candidates = named is { Length: > 0 } ? [Path.Combine(named, "fashion-mnist"), named, DebianFolder] : [DebianFolder];
        return candidates.FirstOrDefault(IsIn);
    }

    /// <summary>Whether a folder holds such a data set's training images.</summary>
    public static bool IsIn(string folder) => PathOf(folder, Files[0]) is not null;

    static string? PathOf(string folder, string name)
    {
        var path = Path.Combine(folder, name);
        return File.Exists(path + ".gz") ? path + ".gz" : File.Exists(path) ? path : null;
    }

    static LabeledImages Read(string folder, string images, string labels)
    {
        var (imageFile, labelFile) = (PathOf(folder, images)!, PathOf(folder, labels)!);
        var (pixels, classes) = (IdxFile.Read(imageFile, 3), IdxFile.Read(labelFile, 1));
        if (pixels.Shape[0] != classes.Shape[0]) throw new PanoptesException($"{imageFile} holds {pixels.Shape[0]} images, but {labelFile} {classes.Shape[0]} labels; expected as many.");
        foreach (var label in classes.Values)
            if (label >= Classes.Count) throw new PanoptesException($"{labelFile} holds the label {label}; expected 0 to {Classes.Count - 1}.");
        return new(pixels.Shape[2], pixels.Shape[1], pixels.Values, [.. classes.Values.Select(static l => (int)l)]);
    }
}
