namespace Panoptes.Understanding;

/// <summary>
/// Pix2Seq v2's one vocabulary (Chen et al. 2022, arXiv:2206.07669): special tokens, classes, coordinates and text side by side. A coordinate is a share of the image's side, rounded
/// half to even to one of <see cref="Bins"/> bins; y comes before x. Whatever stands where it cannot be is passed over when tokens are read.
/// </summary>
public sealed record Pix2SeqTokens
{
    /// <summary>The task prefixes.</summary>
    public const int Detection = 10, InstanceSegmentation = 11, KeypointDetection = 12, Captioning = 13;

    /// <summary>What ends and fills a sequence, begins it for the decoder, is called of a box that is noise, stands between polygons, and for a keypoint that is not seen.</summary>
    public const int Padding = 0, Start = 1, Noise = 30, Separator = 40, Invisible = 41;

    /// <summary>Of a class's token: the class is what it has more.</summary>
    public int FirstClass { get; init; } = 100;

    public int FirstCoordinate { get; init; } = 1000;

    public int FirstText { get; init; } = 3000;

    public int Bins { get; init; } = 1000;

    /// <summary>One more than the largest id, with a text vocabulary of so many.</summary>
    public int VocabularySize(int texts) => FirstText + texts;

    /// <summary>How many classes fit before the coordinates.</summary>
    public int MostClasses => FirstCoordinate - FirstClass;

    /// <exception cref="PanoptesException">The parts overlap.</exception>
    public Pix2SeqTokens Checked() => FirstClass > Invisible && FirstCoordinate > FirstClass && Bins >= 2 && FirstText >= FirstCoordinate + Bins ? this
        : throw new PanoptesException($"The vocabulary has classes from {FirstClass}, {Bins} coordinates from {FirstCoordinate} and text from {FirstText}; expected them one after the other, above the {Invisible + 1} special tokens.");

    public bool IsClass(int token) => token >= FirstClass && token < FirstCoordinate;

    public bool IsCoordinate(int token) => token >= FirstCoordinate && token < FirstCoordinate + Bins;

    /// <summary>The bin of a share of the image's side; what lies outside is put at the edge.</summary>
    public int Quantize(double share) => Math.Clamp((int)MathF.Round((float)Math.Clamp(Understanding.Bins.Finite(share), -1, 2) * (Bins - 1)), 0, Bins - 1);

    /// <summary>The share of the image's side that a bin means.</summary>
    public double Dequantize(int bin) => (double)bin / (Bins - 1);

    /// <summary>ymin, xmin, ymax, xmax.</summary>
    public int[] OfBox(ImageBox box, int width, int height)
    {
        Understanding.Bins.Check(width, height);
        return [Coordinate(box.Top / height), Coordinate(box.Left / width), Coordinate(box.Bottom / height), Coordinate(box.Right / width)];
    }

    /// <summary>The box and its class, five tokens.</summary>
    /// <exception cref="PanoptesException">No such class.</exception>
    public int[] OfObject(ImageBox box, int label, int width, int height) => [.. OfBox(box, width, height), OfClass(label)];

    /// <exception cref="PanoptesException">No such class.</exception>
    public int OfClass(int label) => label >= 0 && label < MostClasses ? FirstClass + label : throw new PanoptesException($"The class {label} was given; expected 0 to {MostClasses - 1}.");

    /// <summary>The task, and the object that it is about: what asks for its polygons or keypoints.</summary>
    public int[] Prompt(int task, ImageBox box, int label, int width, int height) => [task, .. OfObject(box, label, width, height)];

    /// <summary>Polygons one after the other, with a separator between.</summary>
    public int[] OfPolygons(IReadOnlyList<IReadOnlyList<ImagePoint>> polygons, int width, int height)
    {
        Understanding.Bins.Check(width, height);
        var tokens = new List<int>();
        foreach (var polygon in polygons)
        {
            if (tokens.Count > 0) tokens.Add(Separator);
            foreach (var p in polygon) tokens.AddRange([Coordinate(p.Y / height), Coordinate(p.X / width)]);
        }
        return [.. tokens];
    }

    /// <summary>Two tokens a keypoint.</summary>
    public int[] OfKeypoints(IReadOnlyList<Keypoint> points, int width, int height)
    {
        Understanding.Bins.Check(width, height);
        return [.. points.SelectMany(p => p.Visibility == 0 ? (int[])[Invisible, Invisible] : [Coordinate(p.Y / height), Coordinate(p.X / width)])];
    }

    /// <summary>A text's ids as tokens.</summary>
    public int[] OfText(IReadOnlyList<int> ids) => [.. ids.Select(id => FirstText + id)];

    /// <summary>The tokens filled up to a length.</summary>
    /// <exception cref="PanoptesException">They are longer.</exception>
    public static int[] Pad(IReadOnlyList<int> tokens, int length) => tokens.Count <= length ? [.. tokens, .. new int[length - tokens.Count]]
        : throw new PanoptesException($"A sequence has {tokens.Count} tokens; expected at most {length}.");

    /// <summary>
    /// The objects of a sequence: every four coordinates that a class follows. A box that is called noise is passed over, and so is whatever is no box; a box whose corners are in another
    /// order is turned around.
    /// </summary>
    public IReadOnlyList<(ImageBox Box, int Label)> Objects(IReadOnlyList<int> tokens, int width, int height)
    {
        Understanding.Bins.Check(width, height);
        var objects = new List<(ImageBox, int)>();
        for (var i = 0; i < tokens.Count && tokens[i] != Padding;)
        {
            if (BoxAt(tokens, i, width, height) is { } box && i + 4 < tokens.Count && (IsClass(tokens[i + 4]) || tokens[i + 4] == Noise))
            {
                if (tokens[i + 4] != Noise) objects.Add((box, tokens[i + 4] - FirstClass));
                i += 5;
            }
            else i++;
        }
        return objects;
    }

    /// <summary>The box whose four coordinates begin at a token; null where not all of them are coordinates.</summary>
    public ImageBox? BoxAt(IReadOnlyList<int> tokens, int start, int width, int height)
    {
        if (start < 0 || start + 4 > tokens.Count) return null;
        for (var i = start; i < start + 4; i++)
            if (!IsCoordinate(tokens[i])) return null;
        return new ImageBox(Share(tokens[start + 1]) * width, Share(tokens[start]) * height, Share(tokens[start + 3]) * width, Share(tokens[start + 2]) * height).Ordered();
    }

    /// <summary>The polygons of a sequence up to its padding, each of three corners or more; those of fewer are left out.</summary>
    public IReadOnlyList<IReadOnlyList<ImagePoint>> Polygons(IReadOnlyList<int> tokens, int width, int height)
    {
        Understanding.Bins.Check(width, height);
        var (polygons, polygon, y) = (new List<IReadOnlyList<ImagePoint>>(), new List<ImagePoint>(), -1);
        foreach (var token in tokens)
        {
            if (token == Padding) break;
            if (token == Separator)
            {
                Close();
                continue;
            }
            if (!IsCoordinate(token)) continue;
            if (y < 0) y = token;
            else
            {
                polygon.Add(new(Share(token) * width, Share(y) * height));
                y = -1;
            }
        }
        Close();
        return polygons;

        void Close()
        {
            if (polygon.Count >= 3) polygons.Add(polygon);
            (polygon, y) = ([], -1);
        }
    }

    /// <summary>The first <paramref name="count"/> keypoints of a sequence; one whose two tokens are not both coordinates is not there (visibility 0), as are those that are missing.</summary>
    public IReadOnlyList<Keypoint> Keypoints(IReadOnlyList<int> tokens, int count, int width, int height)
    {
        Understanding.Bins.Check(width, height);
        return [.. Enumerable.Range(0, count).Select(i => 2 * i + 1 < tokens.Count && IsCoordinate(tokens[2 * i]) && IsCoordinate(tokens[2 * i + 1])
            ? new Keypoint(Share(tokens[2 * i + 1]) * width, Share(tokens[2 * i]) * height, 2) : default)];
    }

    /// <summary>The ids of the text in a sequence up to its padding.</summary>
    public int[] Text(IReadOnlyList<int> tokens) => [.. tokens.TakeWhile(static t => t != Padding).Where(t => t >= FirstText).Select(t => t - FirstText)];

    int Coordinate(double share) => FirstCoordinate + Quantize(share);

    double Share(int token) => Dequantize(token - FirstCoordinate);
}
