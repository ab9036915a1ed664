using Panoptes.Data;
using Panoptes.Imaging;

namespace Panoptes.Understanding;

/// <summary>One number for every pixel of an image: a class, or the id of a segment.</summary>
public sealed record LabelMap
{
    /// <summary>Wraps <paramref name="labels"/>, which is not copied.</summary>
    /// <exception cref="ArgumentException">A size below 1, or an array of another length.</exception>
    public LabelMap(int width, int height, int[] labels)
    {
        if (width < 1 || height < 1 || labels.LongLength != (long)width * height) throw new ArgumentException($"{labels.LongLength} labels were given for {width}x{height} pixels.");
        (Width, Height, Labels) = (width, height, labels);
    }

    public int Width { get; }

    public int Height { get; }

    /// <summary>[height, width], row by row.</summary>
    public int[] Labels { get; }

    /// <summary>How many pixels have each of the labels that are there, by label.</summary>
    public SortedDictionary<int, int> Areas()
    {
        var areas = new SortedDictionary<int, int>();
        for (var i = 0; i < Labels.Length;)
        {
            // Neighbors are mostly alike: one look into the table a run.
            var (label, start) = (Labels[i], i);
            while (i < Labels.Length && Labels[i] == label) i++;
            areas[label] = areas.GetValueOrDefault(label) + i - start;
        }
        return areas;
    }

    /// <summary>The pixels that have this label.</summary>
    public RunLengthMask Mask(int label)
    {
        var mask = new byte[Labels.Length];
        for (var i = 0; i < mask.Length; i++) mask[i] = Labels[i] == label ? (byte)1 : (byte)0;
        return RunLengthMask.Encode(mask, Height, Width);
    }

    /// <summary>0 where no segment is, i + 1 where the i-th is; where several are, the last of them.</summary>
    /// <exception cref="PanoptesException">A mask is of another size.</exception>
    public static LabelMap Of(IReadOnlyList<Segment> segments, int width, int height)
    {
        var labels = new int[checked(width * height)];
        for (var k = 0; k < segments.Count; k++)
        {
            var mask = segments[k].Mask;
            if ((mask.Width, mask.Height) != (width, height)) throw new PanoptesException($"A segment's mask has {mask.Width} x {mask.Height} pixels; expected the image's {width} x {height}.");
            for (var (i, at) = (0, 0); i < mask.Runs.Count; at += mask.Runs[i], i++)
                if (i % 2 == 1)
                    for (var p = at; p < at + mask.Runs[i]; p++) labels[(p % height * width) + (p / height)] = k + 1;   // runs go down the columns
        }
        return new(width, height, labels);
    }

    /// <summary>The labels as a picture without loss: gray where all are from 0 to 255, otherwise in COCO's colors, R + 256 G + 65536 B.</summary>
    /// <exception cref="PanoptesException">A label is below 0 or above 16,777,215.</exception>
    public Image ToImage()
    {
        var most = 0;
        foreach (var label in Labels)
        {
            if (label is < 0 or > 0xFFFFFF) throw new PanoptesException($"A label map has the label {label}; a picture of it holds labels from 0 to {0xFFFFFF}.");
            most = Math.Max(most, label);
        }
        var image = new Image(Width, Height, most < 256 ? 1 : 3);
        for (var (i, o) = (0, 0); i < Labels.Length; i++)
        {
            image.Pixels[o++] = (byte)Labels[i];
            if (image.Channels == 1) continue;
            image.Pixels[o++] = (byte)(Labels[i] >> 8);
            image.Pixels[o++] = (byte)(Labels[i] >> 16);
        }
        return image;
    }

    /// <summary>Reads what <see cref="ToImage"/> makes; alpha says nothing.</summary>
    public static LabelMap FromImage(Image image)
    {
        var labels = new int[image.Width * image.Height];
        for (var (i, o) = (0, 0); i < labels.Length; i++, o += image.Channels)
            labels[i] = image.Channels == 1 ? image.Pixels[o] : image.Pixels[o] | (image.Pixels[o + 1] << 8) | (image.Pixels[o + 2] << 16);
        return new(image.Width, image.Height, labels);
    }
}
