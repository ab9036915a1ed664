using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Text;

namespace Panoptes.Representation;

/// <summary>A model that writes captions: <see cref="CoCaModel"/>, <see cref="Beit3ForCaptioning"/>.</summary>
public interface ICaptionWriter
{
    /// <summary>Writes a caption of every image, the likeliest that a beam search finds. The images go through the model once.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="startId">The id that every text begins with.</param>
    /// <param name="endId">The id that ends it.</param>
    /// <param name="options">How far and how widely to search.</param>
    /// <returns>The ids between the start and the end, and what they score, a caption an image.</returns>
    /// <exception cref="PanoptesException">A search that cannot be: no beam, no token, or more tokens at least than at most.</exception>
    IReadOnlyList<GeneratedCaption> Generate(Tensor pixels, int startId, int endId, CaptionOptions? options = null);
}

/// <summary>How captions are sought.</summary>
public sealed record CaptionOptions
{
    /// <summary>How many texts are followed at once; 1 takes the likeliest token every time (greedy).</summary>
    public int Beams { get; init; } = 1;

    /// <summary>The fewest tokens before the end.</summary>
    public int MinTokens { get; init; } = 4;

    /// <summary>The most tokens, the end included; never more than the model's texts have. Both defaults are open_clip's, which count the start, too.</summary>
    public int MaxTokens { get; init; } = 29;

    /// <summary>Scores are divided by the number of tokens to this power: 0 prefers short captions, more than 1 long ones.</summary>
    public double LengthPenalty { get; init; } = 1;

    /// <summary>The most tokens for a model whose captions have at most <paramref name="room"/>.</summary>
    /// <exception cref="PanoptesException">The search cannot be.</exception>
    internal int Most(int room)
    {
        var most = Math.Min(MaxTokens, room);
        if (Beams < 1 || MinTokens < 0 || most < Math.Max(1, MinTokens))
            throw new PanoptesException($"A caption of {MinTokens} to {most} tokens by {Beams} beams was asked for; expected 1 beam or more, and fewer tokens at least than at most.");
        return most;
    }
}

/// <summary>Ids that were generated, without the start and the end.</summary>
/// <param name="Ids">The tokens.</param>
/// <param name="Score">The sum of their log-probabilities (and the end's) over their number to the power of the length penalty; at most 0.</param>
public sealed record GeneratedCaption(int[] Ids, double Score);

/// <summary>Beam search over texts that grow by a token a step; the bookkeeping only, which is a few numbers a beam.</summary>
/// <param name="stopEarly">Whether an image is done once as many of its texts have ended as are followed, even if what goes on could still become better (transformers' early_stopping).</param>
sealed class BeamSearch(int images, int beams, int endId, double lengthPenalty, bool stopEarly = false)
{
    readonly List<int>[] texts = [.. Enumerable.Range(0, images * beams).Select(static _ => new List<int>())];
    readonly List<GeneratedCaption>[] ended = [.. Enumerable.Range(0, images).Select(static _ => new List<GeneratedCaption>())];
    readonly bool[] done = new bool[images];

    // All beams of an image start as the same text, of which only the first may go on.
    readonly float[] scores = [.. Enumerable.Range(0, images * beams).Select(i => i % beams == 0 ? 0 : float.NegativeInfinity)];

    /// <summary>The tokens to go on with, one a beam.</summary>
    public long[] NextIds { get; } = new long[images * beams];

    /// <summary>The text of a beam so far.</summary>
    public IReadOnlyList<int> TextOf(int beam) => texts[beam];

    /// <summary>Which beam each went on from.</summary>
    public long[] Origins { get; } = new long[images * beams];

    /// <param name="said">[images · beams, vocabulary] log-probabilities of the next token</param>
    /// <param name="last">Whether no further step follows: what has not ended counts as it is.</param>
    /// <returns>Whether all images are done.</returns>
    public bool Step(Tensor said, bool last)
    {
        var vocabulary = (int)said.shape[1];
        using var soFar = tensor(scores, [images * beams, 1], device: said.device);
        using var sums = (said + soFar).view(images, -1);
        // At most half of twice as many candidates can end, so that enough remain to go on.
        var (values, indexes) = sums.topk(Math.Min(2 * beams, beams * vocabulary));
        using (values)
        using (indexes)
        {
            var (candidates, places) = (values.cpu().data<float>().ToArray(), indexes.cpu().data<long>().ToArray());
            var each = candidates.Length / images;
            for (var i = 0; i < images; i++) Advance(i, candidates.AsSpan(i * each, each), places.AsSpan(i * each, each), vocabulary, last);
        }
        return Array.TrueForAll(done, static d => d);
    }

    void Advance(int image, ReadOnlySpan<float> candidates, ReadOnlySpan<long> places, int vocabulary, bool last)
    {
        var first = image * beams;
        for (var b = 0; b < beams; b++) (Origins[first + b], NextIds[first + b]) = (first + b, endId);   // what is done goes on idly
        if (done[image]) return;
        var grown = new List<int>[beams];
        var count = 0;
        for (var rank = 0; rank < candidates.Length && count < beams; rank++)
        {
            if (float.IsNegativeInfinity(candidates[rank])) break;
            var (origin, token) = (first + (int)(places[rank] / vocabulary), (int)(places[rank] % vocabulary));
            if (token == endId)
            {
                // An end that is not among the best is not taken: something better goes on.
                if (rank < beams) End(image, texts[origin], candidates[rank], texts[origin].Count + 1);
                continue;
            }
            grown[count] = [.. texts[origin], token];
            (scores[first + count], Origins[first + count], NextIds[first + count]) = (candidates[rank], origin, token);
            if (last) End(image, grown[count], candidates[rank], grown[count].Count);
            count++;
        }
        for (var b = 0; b < beams; b++)
        {
            if (b < count) texts[first + b] = grown[b];
            else scores[first + b] = float.NegativeInfinity;
        }
        // As transformers' beam search stops: as many have ended as are followed, and the best that goes on is no better so far than the worst of them.
        done[image] = count == 0 || (ended[image].Count >= beams && (stopEarly || Normalized(scores[first], texts[first].Count) <= ended[image][beams - 1].Score));
    }

    void End(int image, List<int> text, float score, int length)
    {
        var list = ended[image];
        var caption = new GeneratedCaption([.. text], Normalized(score, length));
        var place = list.FindIndex(c => c.Score < caption.Score);
        list.Insert(place < 0 ? list.Count : place, caption);
        if (list.Count > beams) list.RemoveAt(beams);
    }

    double Normalized(float score, int length) => score / Math.Pow(length, lengthPenalty);

    public IReadOnlyList<GeneratedCaption> Best() => [.. ended.Select(static e => e[0])];
}

/// <summary>A caption and its score (see <see cref="GeneratedCaption"/>).</summary>
public sealed record ImageCaption(string Text, double Score);

/// <summary>A model that writes captions, with its image processor and its tokenizer. Not for several threads at once.</summary>
/// <example><code>
/// using var captioner = Captioner.Load("runs/coca/last");
/// Console.WriteLine(captioner.Caption("photo.jpg", new() { Beams = 4 }).Text);
/// </code></example>
public sealed class Captioner : IDisposable
{
    const string Expected = "expected a CoCa or a BEiT3ForCaptioning, such as recipes/coca.yaml and recipes/beit3-captions.yaml train.";

    readonly ICaptionWriter writer;
    readonly Tokenizer tokenizer;
    readonly ClipOptions options;

    /// <summary>A model that is in memory already; it is disposed with this object.</summary>
    /// <exception cref="PanoptesException">It writes no captions.</exception>
    public Captioner(Module model, ImageProcessor processor, Tokenizer tokenizer, ClipOptions? options = null)
    {
        writer = model as ICaptionWriter ?? throw new PanoptesException($"A {model.GetType().Name} writes no captions; {Expected}");
        (this.tokenizer, this.options) = (tokenizer, options ?? new());
        Encoder = model is DualEncoder both ? new Clip(both, processor, tokenizer, options) : new ImageEncoder(model, processor, options);
    }

    /// <summary>The same model as an image tower, or, where it has a text tower as well, as a <see cref="Clip"/>: classifying, embedding, searching, saving.</summary>
    public ImageEncoder Encoder { get; }

    /// <param name="model">A folder, a file or a hub id (<c>OWNER/NAME</c>).</param>
    /// <param name="options">The wanted type, device and batch size.</param>
    /// <exception cref="PanoptesException">Nothing there, a model that writes no captions, or a file of it is missing or broken.</exception>
    public static Captioner Load(string model, ClipOptions? options = null)
    {
        options ??= new();
        return ImageEncoder.LoadAs(model, options, (loaded, processor, tokenizer) => loaded is ICaptionWriter ? new Captioner(loaded, processor, tokenizer!, options)
            : throw new PanoptesException($"{model} holds a {loaded.GetType().Name}; {Expected}"));
    }

    /// <summary>A caption of the image in <paramref name="path"/>.</summary>
    /// <exception cref="PanoptesException">The file is no image.</exception>
    public ImageCaption Caption(string path, CaptionOptions? how = null) => Caption([Image.Load(path)], how)[0];

    /// <summary>A caption of the image.</summary>
    public ImageCaption Caption(Image image, CaptionOptions? how = null) => Caption([image], how)[0];

    /// <summary>A caption of every image, in their order; a batch of images is written about at once.</summary>
    /// <param name="images">The pictures.</param>
    /// <param name="how">How far and how widely to search.</param>
    /// <exception cref="PanoptesException">The tokenizer has no start or end token, or the search cannot be.</exception>
    public IReadOnlyList<ImageCaption> Caption(IReadOnlyList<Image> images, CaptionOptions? how = null) =>
        [.. images.Chunk(options.BatchSize).SelectMany(batch => Caption(writer, Encoder.Processor, tokenizer, batch, how, options.Device))];

    /// <summary>A caption of every image of one batch.</summary>
    internal static IReadOnlyList<ImageCaption> Caption(ICaptionWriter writer, ImageProcessor processor, Tokenizer tokenizer, IReadOnlyList<Image> batch, CaptionOptions? how = null, Device? device = null)
    {
        if (tokenizer.StartId is not { } start || tokenizer.EndId is not { } end) throw new PanoptesException("The tokenizer has no start and end token; expected both, as CLIP's has.");
        using var scope = NewDisposeScope();
        var pixels = processor.Process(batch);
        if (device is not null) pixels = pixels.to(device);
        return [.. writer.Generate(pixels, start, end, how).Select(c => new ImageCaption(tokenizer.Decode(c.Ids).Trim(), c.Score))];
    }

    public void Dispose() => Encoder.Dispose();
}
