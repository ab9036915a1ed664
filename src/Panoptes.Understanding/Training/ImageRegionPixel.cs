using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Objectives;
using Panoptes.Representation.Training;

namespace Panoptes.Understanding.Training;

/// <summary>
/// A CLIP that is pretrained at three levels at once: whole images with their captions, regions with their descriptions, and pixels with their names, the latter two by the features that its image tower has of
/// every place (<see cref="MaskClip.Features"/>). What is saved is a CLIP like any other. Any of the three can be left out.
/// </summary>
public sealed record ImageRegionPixelOptions : SceneTaskOptions
{
    /// <summary>The weight of images with their captions: CLIP's own loss.</summary>
    public double Image { get; init; } = 1;

    /// <summary>The weight of regions, each to be told from what the batch's other regions are called.</summary>
    public double Region { get; init; } = 1;

    /// <summary>The weight of pixels, each to be told the name of what is there, or that there is nothing.</summary>
    public double Pixel { get; init; } = 1;

    /// <summary>Among how many names pixels are told apart.</summary>
    public int Names { get; init; } = 64;

    public override SceneObjective Create(SceneSetting setting)
    {
        if (!(Image >= 0 && Region >= 0 && Pixel >= 0 && Image + Region + Pixel > 0) || Names < 1) throw new PanoptesException("image, region and pixel must be 0 or more and not all 0, and names 1 or more.");
        var model = setting.Recipe.Model.Build<DualEncoder>(setting);
        try
        {
            MaskClip.PlaceSize(model);                                                 // refuses a tower that has no features of places
            return new ImageRegionPixel(model, SceneTexts.Of(setting, model), this, setting);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }
}

/// <inheritdoc cref="ImageRegionPixelOptions"/>
sealed class ImageRegionPixel(DualEncoder model, SceneTexts texts, ImageRegionPixelOptions options, SceneSetting setting) : SceneObjective
{
    const int BatchSize = 16;

    readonly IReadOnlyList<string> names = setting.Names;

    public override DualEncoder Model => model;

    public override string Monitor => "mean";

    public override int? References => options.Region > 0 ? 3 : 0;

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var pixels = texts.Pixels(batch);
        // All that is said in a step is read at once, each text once.
        var said = new Texts();
        long[] captions = options.Image > 0 ? [.. batch.Captions.Select(said.Add)] : [];
        (int Image, int Thing)[] regions = options.Region > 0 ? [.. Regions(batch)] : [];
        long[] descriptions = [.. regions.Select(r => said.Add(Description(batch, r.Image, r.Thing)))];
        var classes = options.Pixel > 0 ? SceneLessons.Names(batch, names, options.Names, random) : [];
        long[] named = options.Pixel > 0 ? [.. classes.Select(said.Add), said.Add(XDecoderSegmenter.Background)] : [];
        var words = DualEncoder.Normalize(texts.Encode(said.All).to(ScalarType.Float32));
        var image = options.Image > 0 ? DualEncoder.Normalize(model.Images.Encode(pixels).to(ScalarType.Float32)) : null;
        var dense = options.Region + options.Pixel > 0 ? MaskClip.Features(model, pixels).Dense.to(ScalarType.Float32) : null;

        using var exact = Autocast.To(ScalarType.Float32);                             // cosines are compared in float32
        var (scale, total, losses) = (model.LogitScale.Value.exp(), zeros([], ScalarType.Float32), new Dictionary<string, Tensor>());
        if (image is not null) Add("image", options.Image, ContrastiveLoss.Of(new(image, words.index_select(0, tensor(captions)), scale)));
        if (regions.Length > 0)
        {
            // Among what is said of the batch's regions, each once.
            long[] candidates = [.. descriptions.Distinct()];
            var right = descriptions.Select(d => (long)Array.IndexOf(candidates, d)).ToArray();
            var logits = Pool(dense!, batch, regions).matmul(words.index_select(0, tensor(candidates)).t()) * scale;
            Add("region", options.Region, nn.functional.cross_entropy(logits, tensor(right)));
        }
        if (options.Pixel > 0)
        {
            var logits = Similarity(dense!, words.index_select(0, tensor(named))) * scale;
            Add("pixel", options.Pixel, nn.functional.cross_entropy(logits, Labels(batch, classes, dense!.shape[2], dense.shape[3])));
        }
        losses["loss"] = total;
        return losses;

        void Add(string name, double weight, Tensor loss) => total = total + (losses[name] = loss) * weight;
    }

    /// <summary>Texts, each once, with its position.</summary>
    sealed class Texts
    {
        readonly Dictionary<string, long> positions = new(StringComparer.Ordinal);

        public List<string> All { get; } = [];

        public long Add(string text)
        {
            if (positions.TryGetValue(text, out var at)) return at;
            All.Add(text);
            return positions[text] = All.Count - 1;
        }
    }

    static IEnumerable<(int Image, int Thing)> Regions(SceneBatch batch) => batch.Scenes.SelectMany(static (s, i) => Enumerable.Range(0, s.Objects.Count).Select(k => (i, k)));

    /// <summary>An expression that means the thing, where one was drawn, or else its name.</summary>
    static string Description(SceneBatch batch, int image, int thing) => batch.References[image].FirstOrDefault(r => r.Objects.Count == 1 && r.Objects[0] == thing)?.Text ?? batch.Scenes[image].Objects[thing].Name;

    /// <summary>The mean of the features in each region's box: [regions, embedding], of length 1.</summary>
    static Tensor Pool(Tensor dense, SceneBatch batch, (int Image, int Thing)[] regions)
    {
        using var scope = NewDisposeScope();
        var side = (int)batch.Ids.shape[1];
        var inside = new byte[regions.Length * side * side];
        for (var i = 0; i < regions.Length; i++)
        {
            var box = batch.Scenes[regions[i].Image].Objects[regions[i].Thing].Box;
            for (var y = box.Y; y < box.Bottom; y++) inside.AsSpan((((i * side) + y) * side) + box.X, box.Width).Fill(1);
        }
        var share = nn.functional.adaptive_avg_pool2d(tensor(inside, [regions.Length, 1, side, side]).to(ScalarType.Float32), [dense.shape[2], dense.shape[3]]).flatten(1).unsqueeze(-1);   // [regions, places, 1]
        var places = dense.index_select(0, tensor(regions.Select(static r => (long)r.Image).ToArray())).flatten(2);                                                                        // [regions, embedding, places]
        return DualEncoder.Normalize(places.matmul(share).squeeze(-1)).MoveToOuterDisposeScope();
    }

    /// <summary>[b, embedding, rows, columns] and [texts, embedding] to cosines [b, texts, rows, columns].</summary>
    static Tensor Similarity(Tensor dense, Tensor words) => words.matmul(dense.flatten(2)).unflatten(2, [dense.shape[2], dense.shape[3]]);

    /// <summary>What is in the middle of each place: positions in the names, the background after them. [b, rows, columns]</summary>
    static Tensor Labels(SceneBatch batch, IReadOnlyList<string> classes, long rows, long columns)
    {
        using var scope = NewDisposeScope();
        var positions = classes.Select(static (n, i) => (n, i)).ToDictionary(static c => c.n, static c => (long)c.i, StringComparer.Ordinal);
        var most = batch.Scenes.Max(static s => s.Objects.Count) + 1;
        var table = new long[batch.Count * most];
        for (var i = 0; i < batch.Count; i++)
        {
            table[i * most] = classes.Count;
            for (var k = 0; k < batch.Scenes[i].Objects.Count; k++) table[(i * most) + k + 1] = positions[batch.Scenes[i].Objects[k].Name];
        }
        var side = batch.Ids.shape[1];
        var middles = batch.Ids.index_select(1, Middles(rows)).index_select(2, Middles(columns)).to(ScalarType.Int64);
        return tensor(table, [batch.Count, most]).gather(1, middles.flatten(1)).view(batch.Count, rows, columns).MoveToOuterDisposeScope();

        Tensor Middles(long count) => arange(count, dtype: ScalarType.Int64).mul(2).add(1).mul(side).div(2 * count, RoundingMode.floor);
    }

    public override void AfterStep() => texts.BoundScale();

    /// <summary>All three levels, whichever are trained: captions found, regions named, pixels named.</summary>
    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        using var words = texts.Names(tests.Names);
        var result = SceneMeasures.Retrieval(tests, batch => (DualEncoder.Normalize(model.Images.Encode(texts.Pixels(batch))), DualEncoder.Normalize(texts.Encode(batch.Captions))), cancel: cancel).ToDictionary();
        var (right, things) = (0L, 0);
        foreach (var batch in tests.Batches(EmojiSplit.HeldOutStyle, BatchSize))
        {
            cancel.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            using (batch)
            {
                (int Image, int Thing)[] regions = [.. Regions(batch)];
                var told = Pool(MaskClip.Features(model, texts.Pixels(batch)).Dense.to(ScalarType.Float32), batch, regions).matmul(words.t()).argmax(-1).data<long>().ToArray();
                for (var i = 0; i < regions.Length; i++)
                    if (told[i] == tests.NameOf(batch.Scenes[regions[i].Image].Objects[regions[i].Thing].Concept)) right++;
                things += regions.Length;
            }
        }
        result["region_naming"] = (double)right / things;
        var pixels = OpenVocabularyEvaluation.Run(tests, batch => Similarity(MaskClip.Features(model, texts.Pixels(batch)).Dense.to(ScalarType.Float32), words), progress: progress, cancel: cancel);
        (result["miou"], result["pixel_naming"]) = (pixels.MeanIou, pixels.NamingAccuracy);
        result["mean"] = (result["retrieval"] + result["region_naming"] + result["miou"]) / 3;
        return result;
    }

    public override void Save(string folder)
    {
        Models.Save(folder, model);
        texts.Save(folder);
    }
}
