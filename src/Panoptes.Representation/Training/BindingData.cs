using Panoptes.Data;
using Panoptes.Data.Speech;
using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Representation.Evaluation;
using Panoptes.Text;

namespace Panoptes.Representation.Training;

/// <summary>A modality's samples and the images that belong to them, which the locked tower has embedded once.</summary>
/// <param name="Samples">Of one modality.</param>
/// <param name="Images">[images, embedding], as they are compared.</param>
/// <param name="ImagesOf">For every sample the rows that show what it is of.</param>
public sealed record BoundPairs(SensorSamples Samples, Tensor Images, int[][] ImagesOf)
{
    readonly int[][] byConcept = [.. Enumerable.Range(0, Samples.Concepts.Length).Where(i => ImagesOf[i].Length > 0).GroupBy(i => Samples.Concepts[i]).OrderBy(static g => g.Key).Select(static g => g.ToArray())];

    /// <summary>How many concepts there are pairs of.</summary>
    public int Concepts => byConcept.Length;

    /// <summary>Pairs of different concepts, drawn by the seed and the step: the samples' and the images' positions.</summary>
    public (int[] Samples, int[] Images) Draw(int count, ulong seed, long step)
    {
        var random = new SampleRandom(seed, step, -1);
        int[] order = [.. Enumerable.Range(0, byConcept.Length)];
        random.Shuffle<int>(order);
        var (samples, images) = (new int[count], new int[count]);
        for (var i = 0; i < count; i++)
        {
            var own = byConcept[order[i]];
            samples[i] = own[random.Next(own.Length)];
            var shown = ImagesOf[samples[i]];
            images[i] = shown[random.Next(shown.Length)];
        }
        return (samples, images);
    }

    /// <summary>The rows of <see cref="Images"/>: [images, embedding].</summary>
    public Tensor Embedded(int[] images)
    {
        using var scope = NewDisposeScope();
        return Images.index_select(0, tensor(Array.ConvertAll(images, static i => (long)i))).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// The emoji and scenes made of them as pairs of an image and another modality, and the tests of what was never paired. Images go through the locked tower once,
/// as they are; spectrograms and maps of depth are computed once.
/// </summary>
sealed class BindingData : IDisposable
{
    /// <summary>Scenes a concept, to learn from; and to be tested on, in the style that nothing is trained on.</summary>
    const int ScenesOfConcept = 8, TestScenesOfConcept = 1, Batch = 128;

    readonly List<Tensor> owned = [];
    readonly List<(string Name, SensorSamples Samples, Func<SensorSamples, Tensor, Dictionary<string, double>> Measure)> tests = [];
    readonly Dictionary<string, double> known = [];

    /// <summary>What a step learns, in turn.</summary>
    internal IReadOnlyList<Modality> Order { get; }

    internal Dictionary<Modality, BoundPairs> Pairs { get; } = [];

    /// <summary>The number that the best model goes by.</summary>
    internal string Monitor => $"{Name(Order[0])}_to_{(Order[0] == Modality.Imu ? "motion" : "text")}_top1";

    static string Name(Modality modality) => Nn.Module.SnakeCase(modality.ToString());

    /// <param name="recipe">Names the modalities, the concepts and what scenes are like.</param>
    /// <param name="model">Its images are what everything is bound to.</param>
    /// <param name="processor">Of its images.</param>
    /// <param name="tokenizer">Of its texts.</param>
    /// <param name="precision">What the locked towers compute in.</param>
    /// <exception cref="PanoptesException">The data are none that this can be learned from, or there are too few concepts for a batch.</exception>
    internal BindingData(Recipe recipe, IBoundModel model, ImageProcessor processor, Tokenizer tokenizer, ScalarType precision)
    {
        var d = recipe.Data;
        Order = d.Modalities!;
        if (Order.Count == 0) throw new PanoptesException("modalities is empty; expected some of audio, depth, thermal and imu.");
        if (d.Set != "emoji") throw new PanoptesException($"modalities are those of the emoji and do not go with the data {d.Set}.");
        foreach (var (field, given) in (ReadOnlySpan<(string, object?)>)[("images", d.Images), ("annotations", d.Annotations), ("knowledge", d.Knowledge), ("measures", d.Measures), ("validation_set", d.ValidationSet), ("table", d.Table)])
            if (given is not null) throw new PanoptesException($"{field} does not go with modalities.");
        try
        {
            var set = RecipeParts.Chosen(EmojiSet.Open(), d.Concepts, d.Names);
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            Prepare(recipe, set, model, new BatchEncoder(Towers.Of((Nn.Module)model), processor, tokenizer, Batch, truncateTexts: true), precision);
            foreach (var (modality, pairs) in Pairs)
                if (pairs.Concepts < d.BatchSize) throw new PanoptesException($"Batches of {d.BatchSize} samples of different concepts were asked for, but there are {pairs.Concepts} concepts with {Name(modality)}.");
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    void Prepare(Recipe recipe, EmojiSet set, IBoundModel model, BatchEncoder encoder, ScalarType precision)
    {
        var (c, learned, unseen) = (model.Encoders, set.Select(EmojiSplit.Train), set.Select(EmojiSplit.HeldOutStyle));
        var drawings = Encoded(() => encoder.Images(learned.Length, i => ImageSource.Picture(set, learned[i])));
        var rowsOf = new int[set.Concepts.Count][];
        Array.Fill(rowsOf, []);
        foreach (var group in learned.Select(static (image, row) => (image, row)).GroupBy(p => set.Images[p.image].Concept)) rowsOf[group.Key] = [.. group.Select(static p => p.row)];

        // Concepts of one name are one class.
        string[] names = [.. set.Concepts.Select(static n => n.Name).Distinct(StringComparer.Ordinal)];
        var index = names.Select(static (name, i) => (name, i)).ToDictionary(static p => p.name, static p => p.i, StringComparer.Ordinal);
        int[] classOf = [.. set.Concepts.Select(n => index[n.Name])];
        int[] all = [.. Enumerable.Range(0, names.Length)];
        var texts = Encoded(() => encoder.Labels(names, (recipe.Data.Captions ?? new()).Templates));
        known["chance_top1"] = 1.0 / names.Length;
        // What the locked towers themselves make of the images that are learned from: more than that cannot come through them.
        known["image_to_text_top1"] = Ranking.OfVectors(drawings, texts, [.. learned.Select(i => classOf[set.Images[i].Concept])], all).TopK(1);

        foreach (var modality in Order.Distinct())
        {
            switch (modality)
            {
                case Modality.Audio:
                    var speech = SpeechSet.Open();
                    var voices = speech.Voices.Where(static v => !v.HeldOut).Take(recipe.Data.Voices ?? int.MaxValue).ToHashSet();
                    if (voices.Count == 0) throw new PanoptesException($"voices is {recipe.Data.Voices}; expected 1 or more.");
                    var spoken = SensorSamples.Speech(set, speech, c.Sounds, (concept, voice) => !concept.HeldOut && voices.Contains(voice));
                    Pairs[modality] = new(spoken, drawings, [.. spoken.Concepts.Select(n => rowsOf[n])]);
                    var others = unseen.Length == 0 ? null : Encoded(() => encoder.Images(unseen.Length, i => ImageSource.Picture(set, unseen[i])));
                    tests.Add(("audio", SensorSamples.Speech(set, speech, c.Sounds, (concept, voice) => !concept.HeldOut && !voices.Contains(voice)), (samples, embedded) =>
                    {
                        var found = ToTexts(samples, embedded);
                        if (others is not null) found["image_top1"] = Ranking.OfVectors(embedded, others, samples.Concepts, [.. unseen.Select(i => set.Images[i].Concept)]).TopK(1);
                        return found;
                    }
                    ));
                    var unheard = SensorSamples.Speech(set, speech, c.Sounds, (concept, voice) => concept.HeldOut && !voices.Contains(voice));
                    if (unheard.Concepts.Length > 0) tests.Add(("audio_of_held_out_concepts", unheard, ToTexts));
                    break;
                case Modality.Depth:
                    var scenes = Scenes(recipe, model, set, EmojiSplit.Train, ScenesOfConcept);
                    Pairs[modality] = new(SensorSamples.Depth(scenes, c.ImageSize), Encoded(() => encoder.Images([.. scenes.Select(static s => s.Image)])), [.. Enumerable.Range(0, scenes.Length).Select(static i => new[] { i })]);
                    tests.Add(("depth", SensorSamples.Depth(Scenes(recipe, model, set, EmojiSplit.HeldOutStyle, TestScenesOfConcept), c.ImageSize), ToTexts));
                    break;
                case Modality.Thermal:
                    Pairs[modality] = new(SensorSamples.Thermal(set, learned, c.ImageSize), drawings, [.. Enumerable.Range(0, learned.Length).Select(static i => new[] { i })]);
                    tests.Add(("thermal", SensorSamples.Thermal(set, unseen, c.ImageSize), ToTexts));
                    break;
                case Modality.Imu:
                    Pairs[modality] = new(SensorSamples.Motions(set, learned, c.ImuLength), drawings, [.. Enumerable.Range(0, learned.Length).Select(static i => new[] { i })]);
                    // A motion tells how a thing moves, not what it is: the name found is right where its thing moves in the same way.
                    int[] motions = [.. set.Concepts.Select(static n => (int)SimulatedSensors.MotionOf(n))];
                    int[] motionOfName = [.. names.Select(n => motions[Array.FindIndex([.. set.Concepts], e => e.Name == n)])];
                    tests.Add(("imu", SensorSamples.Motions(set, unseen, c.ImuLength), (samples, embedded) =>
                    {
                        var ranking = Ranking.OfVectors(embedded, texts, [.. samples.Concepts.Select(n => motions[n])], motionOfName);
                        return new() { ["motion_top1"] = ranking.TopK(1), ["motion_chance"] = ranking.ChanceOfTopK(1) };
                    }
                    ));
                    break;
                default:
                    throw new PanoptesException($"modalities names {Name(modality)}; expected audio, depth, thermal or imu.");
            }
        }

        Tensor Encoded(Func<Tensor> encode)
        {
            using var autocast = Autocast.To(precision);
            var tensor = encode();
            owned.Add(tensor.DetachFromDisposeScope());
            return tensor;
        }

        Dictionary<string, double> ToTexts(SensorSamples samples, Tensor embedded)
        {
            var ranking = Ranking.OfVectors(embedded, texts, [.. samples.Concepts.Select(n => classOf[n])], all);
            return new() { ["text_top1"] = ranking.TopK(1), ["text_top5"] = ranking.TopK(5) };
        }
    }

    /// <summary>Scenes of one thing each, as many of every concept that can be pointed at.</summary>
    static Scene[] Scenes(Recipe recipe, IBoundModel model, EmojiSet set, EmojiSplit split, int each)
    {
        var options = (recipe.Data.Scenes ?? new()) with { Size = ((DualEncoder)model).Images.ImageSize, MinObjects = 1, MaxObjects = 1 };
        var things = SceneGenerator.Things(set, split);
        if (things.Length == 0) throw new PanoptesException("None of the concepts is a thing that scenes are made of; expected more concepts.");
        // One generator a concept, so that none is drawn more often than another.
        var made = things.GroupBy(i => set.Images[i].Concept).Select(g => (g.Key, Generator: new SceneGenerator(set, [.. g], options, recipe.Seed))).ToArray();
        var scenes = new Scene[made.Length * each];
        Parallel.For(0, scenes.Length, i => scenes[i] = made[i / each].Generator.Generate(((long)made[i / each].Key * each) + (i % each)));
        return scenes;
    }

    /// <summary>Every test of a model in inference mode: MODALITY_to_text_top1 and the like, beside chance and what the images themselves give.</summary>
    internal IReadOnlyDictionary<string, double> Measure(IBoundModel model, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var found = new Dictionary<string, double>(known);
        var parts = new PartialProgress(progress, tests.Sum(static t => t.Samples.Concepts.Length));
        foreach (var (name, samples, measure) in tests)
        {
            using var inner = NewDisposeScope();
            var (embedded, part) = (new List<Tensor>(), parts.Part(samples.Concepts.Length));
            for (var start = 0; start < samples.Concepts.Length; start += Batch)
            {
                cancel.ThrowIfCancellationRequested();
                using var one = NewDisposeScope();
                int[] chosen = [.. Enumerable.Range(start, Math.Min(Batch, samples.Concepts.Length - start))];
                embedded.Add(DualEncoder.Normalize(model.Tower(samples.Modality).Encode(samples.Stack(chosen, vary: false, 0, start))).to(ScalarType.Float32).MoveToOuterDisposeScope());
                part.Report(start + chosen.Length);
            }
            foreach (var (measured, value) in measure(samples, cat(embedded))) found[$"{name}_to_{measured}"] = value;
        }
        return found;
    }

    public void Dispose()
    {
        foreach (var tensor in owned) tensor.Dispose();
        owned.Clear();
    }
}
