using System.Runtime.InteropServices;

namespace Panoptes.Data;

/// <summary>Which texts a batch may have, as far as pairs of concepts in a relation go (<see cref="SceneGenerator.IsHeldOut"/>).</summary>
public enum HeldOutRelations
{
    /// <summary>All texts.</summary>
    Included,

    /// <summary>None that speaks of a pair held out: expressions and questions that do are left out, captions say what is there alone.</summary>
    LeftOut,

    /// <summary>Of the expressions only those that speak of a pair held out; captions and questions are as they are.</summary>
    Only,
}

/// <summary>How scenes are served for understanding.</summary>
public sealed record SceneBatchLoaderOptions
{
    public int BatchSize { get; init; } = 16;

    /// <summary>Scenes of an epoch.</summary>
    public int Count { get; init; } = 10_000;

    /// <summary>Whether every epoch has the same scenes in another order; by default each has new ones.</summary>
    public bool Repeat { get; init; }

    /// <summary>Of the order, the augmentation and the choice of expressions; the scenes follow from the generator's.</summary>
    public ulong Seed { get; init; }

    /// <summary>What is done to the pictures' colors, such as <see cref="Augmentation.Photometric"/>; null: nothing. What moves or erases pixels is refused: masks would be wrong.</summary>
    public Augmentation? Augmentation { get; init; }

    /// <summary>How many expressions are drawn for every picture, first their kind and then one of it, so that rare kinds come as often; one may come twice. Null: every one that there is, once.</summary>
    public int? References { get; init; } = 0;

    /// <summary>The kinds of expressions; null: all.</summary>
    public IReadOnlyList<SceneReferenceKind>? ReferenceKinds { get; init; }

    public HeldOutRelations HeldOut { get; init; }

    /// <summary>Which part of each batch this process gets.</summary>
    public Shard Shard { get; init; } = Shard.Whole;

    public LoaderOptions Loader { get; init; } = new();
}

/// <summary>
/// Pictures with all that is known about them: pixels and masks as tensors, which it owns and <see cref="Dispose"/> frees; captions with the objects of their words, questions, relations, keypoints and layout are
/// those of <see cref="Scenes"/>. What is made of them on request belongs to the caller.
/// </summary>
public sealed class SceneBatch : IDisposable
{
    SceneBatch(Tensor images, Tensor ids, IReadOnlyList<Scene> scenes, IReadOnlyList<IReadOnlyList<SceneReference>> references, IReadOnlyList<int> samples) =>
        (Images, Ids, Scenes, References, Samples) = (images, ids, scenes, references, samples);

    /// <summary>[batch, 3, size, size], uint8, red, green and blue.</summary>
    public Tensor Images { get; }

    /// <summary>[batch, size, size], uint8: 0 where no object is seen, k + 1 where object k is, as <see cref="Scene.Ids"/>.</summary>
    public Tensor Ids { get; }

    /// <summary>One a picture.</summary>
    public IReadOnlyList<Scene> Scenes { get; }

    /// <summary>The drawn expressions of every picture; none where none were asked for or a scene has none of the kind.</summary>
    public IReadOnlyList<IReadOnlyList<SceneReference>> References { get; }

    /// <summary>The pictures' numbers within the epoch, or within the list.</summary>
    public IReadOnlyList<int> Samples { get; }

    /// <summary>Pictures in the batch.</summary>
    public int Count => Scenes.Count;

    /// <summary>One caption a picture.</summary>
    public IReadOnlyList<string> Captions => [.. Scenes.Select(static s => s.Caption)];

    /// <summary>Scenes of one size as a batch, as they are: for evaluation.</summary>
    /// <exception cref="PanoptesException">There is no scene, or they differ in size.</exception>
    public static SceneBatch Of(IReadOnlyList<Scene> scenes) =>
        Of(scenes, null, new SampleRandom[scenes.Count], [.. scenes.Select(static _ => (IReadOnlyList<SceneReference>)[])], [.. Enumerable.Range(0, scenes.Count)]);

    internal static SceneBatch Of(IReadOnlyList<Scene> scenes, Augmenter? augmenter, SampleRandom[] random, IReadOnlyList<IReadOnlyList<SceneReference>> references, IReadOnlyList<int> samples)
    {
        if (scenes.Count == 0) throw new PanoptesException("A batch of no scenes was asked for.");
        var (count, size) = (scenes.Count, scenes[0].Size);
        foreach (var scene in scenes)
            if (scene.Size != size) throw new PanoptesException($"A batch of scenes of {size} and of {scene.Size} pixels was asked for; expected one size.");
        using var scope = NewDisposeScope();
        var (images, ids, plane) = (empty(count, 3, size, size, ScalarType.Byte), empty(count, size, size, ScalarType.Byte), size * size);
        var floats = augmenter is null ? [] : new float[3 * plane];
        for (var i = 0; i < count; i++)
        {
            var bytes = images.bytes.Slice(i * 3 * plane, 3 * plane);
            if (augmenter is null) Planes(scenes[i].Image.Pixels, bytes);
            else
            {
                augmenter.Apply(scenes[i].Image.Pixels, size, size, 3, ref random[i], floats);
                for (var j = 0; j < bytes.Length; j++) bytes[j] = (byte)((floats[j] * 255) + 0.5f);
            }
            scenes[i].Ids.CopyTo(ids.bytes.Slice(i * plane, plane));
        }
        return new(images.DetachFromDisposeScope(), ids.DetachFromDisposeScope(), scenes, references, samples);
    }

    /// <summary>The pictures as numbers: [batch, 3, size, size], float32.</summary>
    /// <param name="mean">Subtracted from red, green and blue in 0 to 1.</param>
    /// <param name="std">What the difference is divided by.</param>
    /// <exception cref="PanoptesException">Not three of both, or a deviation of 0.</exception>
    public Tensor Normalized(IReadOnlyList<float> mean, IReadOnlyList<float> std)
    {
        if (mean.Count != 3 || std.Count != 3 || std.Any(static s => s is not > 0)) throw new PanoptesException("Pictures are normalized by three means and three deviations above 0.");
        var result = empty(Images.shape, ScalarType.Float32);
        var (plane, table) = ((int)(Images.shape[2] * Images.shape[3]), new float[256]);
        var (from, to) = (0, 0);
        for (var channel = 0; channel < 3 * Count; channel++, from += plane, to += plane)
        {
            for (var v = 0; v < 256; v++) table[v] = ((v / 255f) - mean[channel % 3]) / std[channel % 3];
            var bytes = Images.bytes.Slice(from, plane);
            var floats = TensorMemory.Floats(result).Slice(to, plane);
            for (var i = 0; i < plane; i++) floats[i] = table[bytes[i]];
        }
        return result;
    }

    /// <summary>The visible parts of a picture's objects: [objects, size, size], bool.</summary>
    public Tensor Masks(int image)
    {
        using var scope = NewDisposeScope();
        return (Ids[image].unsqueeze(0) == arange(1, Scenes[image].Objects.Count + 1, ScalarType.Byte).view(-1, 1, 1)).MoveToOuterDisposeScope();
    }

    /// <summary>What some of a picture's objects cover together, such as those that an expression means: [size, size], bool.</summary>
    public Tensor Mask(int image, IReadOnlyList<int> objects)
    {
        using var scope = NewDisposeScope();
        return isin(Ids[image], tensor(objects.Select(static k => (byte)(k + 1)).ToArray())).MoveToOuterDisposeScope();
    }

    /// <summary>The boxes of the visible parts of a picture's objects: [objects, 4], float32, the left, upper, right and lower edge in pixels.</summary>
    public Tensor Boxes(int image) => tensor(Scenes[image].Objects.SelectMany(static o => (float[])[o.Box.X, o.Box.Y, o.Box.Right, o.Box.Bottom]).ToArray(), [Scenes[image].Objects.Count, 4]);

    /// <summary>The classes of a picture's objects: [objects], int64, positions in <see cref="SceneClasses.Names"/>.</summary>
    /// <exception cref="PanoptesException">A concept has no class.</exception>
    public Tensor Classes(int image, SceneClasses classes) => tensor(Scenes[image].Objects.Select(o => (long)classes.OfConcept(o.Concept)).ToArray());

    /// <summary>The class of every pixel: [batch, size, size], int64.</summary>
    /// <exception cref="PanoptesException">A concept has no class.</exception>
    public Tensor Semantic(SceneClasses classes)
    {
        using var scope = NewDisposeScope();
        var map = empty(Ids.shape, ScalarType.Int64);
        for (var i = 0; i < Count; i++) Scenes[i].FillSemantic(classes, MemoryMarshal.Cast<byte, long>(map.bytes).Slice(i * Scenes[i].Ids.Length, Scenes[i].Ids.Length));
        return map.MoveToOuterDisposeScope();
    }

    /// <summary>Distances: [batch, 1, size, size], float32, 0 to 1, farther being larger.</summary>
    public Tensor Depth()
    {
        var depth = empty(Count, 1, Scenes[0].Size, Scenes[0].Size, ScalarType.Float32);
        for (var i = 0; i < Count; i++) Scenes[i].FillDepth(TensorMemory.Floats(depth).Slice(i * Scenes[i].Ids.Length, Scenes[i].Ids.Length));
        return depth;
    }

    /// <summary>[pixels, 3] to [3, pixels].</summary>
    static void Planes(ReadOnlySpan<byte> from, Span<byte> to)
    {
        var plane = to.Length / 3;
        var green = to.Slice(plane, plane);
        var blue = to.Slice(2 * plane, plane);
        for (var i = 0; i < plane; i++) (to[i], green[i], blue[i]) = (from[3 * i], from[(3 * i) + 1], from[(3 * i) + 2]);
    }

    public void Dispose()
    {
        Images.Dispose();
        Ids.Dispose();
    }
}

/// <summary>Batches of scenes for models that segment, detect, ground and read.</summary>
public static class SceneBatchLoader
{
    /// <summary>
    /// An endless, resumable stream of batches, made ahead as they are needed. In epoch e sample i is scene e * count + i (scene i where epochs repeat); everything in a batch follows from the generator, the
    /// options, the epoch and the sample, whatever the number of workers.
    /// </summary>
    /// <param name="generator">Makes the scenes.</param>
    /// <param name="options">Batch size, number, what batches have.</param>
    /// <exception cref="PanoptesException">An option is out of range, the augmentation moves pixels, or an epoch has fewer scenes than a batch.</exception>
    public static PrefetchLoader<SceneBatch> Create(SceneGenerator generator, SceneBatchLoaderOptions options)
    {
        if (options.Count < 1) throw new PanoptesException($"Epochs of {options.Count} scenes were asked for, but at least 1 was expected.");
        if (options.References is < 0 or > 1000) throw new PanoptesException($"{options.References} expressions a picture were asked for, but 0 to 1000 are possible.");
        Augmenter? augmenter = null;
        if (options.Augmentation is { } augmentation)
        {
            var size = generator.Options.Size;
            if (augmentation.Size != size) throw new PanoptesException($"The augmentation makes pictures of {augmentation.Size} pixels, but the scenes have {size}.");
            if (!augmentation.IsPhotometric) throw new PanoptesException("The augmentation of scenes may change colors and blur, but not move or erase pixels: their masks and boxes would be wrong.");
            augmenter = new(augmentation with { Mean = [0, 0, 0], Std = [1, 1, 1] });
        }
        var sampler = new SequentialSampler(Enumerable.Range(0, options.Count), options.BatchSize, shuffle: true, options.Seed, shard: options.Shard);
        // Scenes that come again are kept, if they are not too many: composing one costs as much as a small model's step over it. (A picture with its ids and coverage is six bytes a pixel.)
        var kept = options.Repeat && 6L * generator.Options.Size * generator.Options.Size * options.Count <= 256 << 20 ? new Scene?[options.Count] : [];
        return PrefetchLoader.Create<BatchPlan, SceneBatch>(sampler, Make, options.Loader);

        SceneBatch Make(BatchPlan plan, CancellationToken cancel)
        {
            var (scenes, references, random) = (new Scene[plan.Samples.Length], new IReadOnlyList<SceneReference>[plan.Samples.Length], new SampleRandom[plan.Samples.Length]);
            for (var i = 0; i < scenes.Length; i++)
            {
                cancel.ThrowIfCancellationRequested();
                var sample = plan.Samples[i];
                scenes[i] = (sample < kept.Length ? kept[sample] : null) ?? Compose(options.Repeat ? sample : ((long)plan.Epoch * options.Count) + sample);
                if (sample < kept.Length) kept[sample] = scenes[i];
                random[i] = new(options.Seed, plan.Epoch, sample);
                references[i] = Draw(scenes[i], ref random[i]);
            }
            return SceneBatch.Of(scenes, augmenter, random, references, plan.Samples);
        }

        Scene Compose(long index)
        {
            var scene = generator.Generate(index);
            if (options.HeldOut == HeldOutRelations.LeftOut) generator.WithoutHeldOut(scene);
            return scene;
        }

        SceneReference[] Draw(Scene scene, ref SampleRandom random)
        {
            if (options.References == 0) return [];
            var kinds = generator.References(scene)
                .Where(r => (options.ReferenceKinds?.Contains(r.Kind) ?? true) && (options.HeldOut == HeldOutRelations.Included || r.IsHeldOut == (options.HeldOut == HeldOutRelations.Only)))
                .GroupBy(static r => r.Kind).Select(static g => g.ToArray()).ToArray();
            if (options.References is not { } count) return [.. kinds.SelectMany(static k => k)];
            if (kinds.Length == 0) return [];
            var drawn = new SceneReference[count];
            for (var i = 0; i < count; i++)
            {
                var kind = kinds[random.Next(kinds.Length)];
                drawn[i] = kind[random.Next(kind.Length)];
            }
            return drawn;
        }
    }
}
