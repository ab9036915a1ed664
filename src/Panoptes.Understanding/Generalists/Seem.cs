using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// SEEM (Zou et al. 2023, arXiv:2304.06718): X-Decoder whose prompted queries listen to places, words, regions of other images and what earlier turns left, in any combination. Its
// pieces and their keys are those of the authors' code (UX-Decoder/Segment-Everything-Everywhere-All-At-Once); SeemPrompts.cs has what they compute.

/// <summary>A whole SEEM ("seem").</summary>
public sealed record SeemModelConfig : XDecoderModelConfig
{
    public SeemModelConfig() => (ModelType, Architectures) = ("seem", ["SeemModel"]);

    /// <summary>How many slots its memory has.</summary>
    public int NumMemories { get; init; } = 32;

    /// <summary>The most pixels of a prompt's one sign that are looked at.</summary>
    public int MaxPoints { get; init; } = 512;
}

/// <summary>Parameters in a row, under the keys 0, 1, 2, ….</summary>
public sealed class ParameterList(IEnumerable<Parameter> items) : Module
{
    readonly Parameter[] items = [.. items];

    public Parameter this[int index] => items[index];

    protected override IEnumerable<(string Key, object? Child)> Children() => items.Select(static (p, i) => (i.ToString(System.Globalization.CultureInfo.InvariantCulture), (object?)p));
}

/// <summary>What SEEM has beside X-Decoder. Keys: mask_sptial_embed.N (so spelled), spatial_featured, spatial_embed, pn_indicator.</summary>
public sealed class SeemParts(SeemModelConfig c) : Module
{
    /// <summary>What places are read by, a scale each.</summary>
    public ParameterList MaskSptialEmbed { get; } = new(Enumerable.Range(0, c.DecoderConfig.NumFeatureLevels).Select(_ => new Parameter([c.DecoderConfig.HiddenSize, c.DecoderConfig.HiddenSize], Init.TruncatedNormal(0.02))));

    /// <summary>Memory before the first turn.</summary>
    public Embedding SpatialFeatured { get; } = new(c.NumMemories, c.DecoderConfig.HiddenSize);

    /// <summary>The memory's slots as they ask.</summary>
    public Embedding SpatialEmbed { get; } = new(c.NumMemories, c.DecoderConfig.HiddenSize);

    /// <summary>Of what is meant, and of what is not.</summary>
    public Embedding PnIndicator { get; } = new(2, c.DecoderConfig.HiddenSize);
}

/// <summary>What earlier turns left.</summary>
/// <param name="Slots">[b, memories, width]</param>
/// <param name="MaskLogits">[b, rows, columns]: what the turn before gave.</param>
public sealed record SeemMemory(Tensor Slots, Tensor MaskLogits);

/// <summary>What is meant, in any combination; one row an answer.</summary>
public sealed record SeemQuestion
{
    /// <summary>Places in the images themselves.</summary>
    public SeemPoints? Points { get; init; }

    /// <summary>Other images, an image a row.</summary>
    public DecoderMaps? Examples { get; init; }

    /// <summary>Places in them: what is like it is meant.</summary>
    public SeemPoints? ExamplePoints { get; init; }

    /// <summary>Words of expressions.</summary>
    public DecoderWords? Words { get; init; }

    /// <summary>[b, projection], of length 1: what the expressions mean as wholes.</summary>
    public Tensor? Text { get; init; }

    /// <summary>What the turn before left.</summary>
    public SeemMemory? Memory { get; init; }
}

/// <summary>What the prompted queries say before the first layer and after every one.</summary>
/// <param name="Similarity">[b, queries]: logits of each being what is meant, all kinds of prompts together.</param>
/// <param name="MaskLogits">[b, queries, rows, columns]</param>
public sealed record SeemStep(Tensor Similarity, Tensor MaskLogits);

/// <summary>What a run gives.</summary>
/// <param name="Steps">Before the first layer and after every one.</param>
/// <param name="Chosen">[b] int64: the query that fits best.</param>
/// <param name="MaskLogits">[b, rows, columns]: its mask.</param>
/// <param name="Memory">For the next turn.</param>
public sealed record SeemOutput(IReadOnlyList<SeemStep> Steps, Tensor Chosen, Tensor MaskLogits, SeemMemory Memory);

/// <summary>SEEM. Keys: X-Decoder's, and under sem_seg_head.predictor those of <see cref="SeemParts"/>.</summary>
public sealed class SeemModel : Module
{
    public SeemModel(SeemModelConfig config, IImageTower tower)
    {
        Config = config;
        XDecoder = new(config, tower);
        Parts = new(config);
    }

    public SeemModelConfig Config { get; }

    /// <summary>Everything that needs no pointing: names, captions, referring expressions, retrieval.</summary>
    [Key("")]
    public XDecoderModel XDecoder { get; }

    [Key("sem_seg_head.predictor")]
    public SeemParts Parts { get; }

    XDecoder Decoder => XDecoder.Decoder;

    internal static SeemModel Build(ModelSource source)
    {
        var config = source.Read<SeemModelConfig>();
        return new(config, DecoderPyramid.Build(config.BackboneConfig, source, "pyramid.backbone"));
    }

    /// <inheritdoc cref="XDecoderModel.Encode"/>
    public DecoderMaps Encode(Tensor pixels) => XDecoder.Encode(pixels);

    /// <summary>Answers a question about each image.</summary>
    /// <param name="maps">The images.</param>
    /// <param name="question">What is meant in each.</param>
    /// <exception cref="PanoptesException">Nothing is asked, or an example comes without its places.</exception>
    public SeemOutput Answer(DecoderMaps maps, SeemQuestion question)
    {
        if (question is { Points: null, ExamplePoints: null, Words: null }) throw new PanoptesException("Nothing was asked; expected places, a region of another image, or words.");
        if (question.Examples is null != question.ExamplePoints is null || question.Words is null != question.Text is null) throw new PanoptesException("An example needs its image and its places, an expression its words and its meaning.");
        using var scope = NewDisposeScope();
        var (batch, queries, slots) = (maps.MaskFeatures.shape[0], Decoder.Config.NumQueries - 1, Config.NumMemories);
        var sources = Decoder.Sources(maps);
        // Prompted queries are copies of the latent ones; memory looks at the image as they do.
        var x = cat([Understanding.XDecoder.Rows(Decoder.QueryFeat, batch).narrow(1, 0, queries), question.Memory?.Slots ?? Understanding.XDecoder.Rows(Parts.SpatialFeatured, batch)], 1);
        var position = cat([Understanding.XDecoder.Rows(Decoder.QueryEmbed, batch).narrow(1, 0, queries), Understanding.XDecoder.Rows(Parts.SpatialEmbed, batch)], 1);

        var (kinds, real) = (new List<SeemKind>(), new List<Tensor>());
        Take(SeemKind.Prompted, null, queries);
        Take(SeemKind.Memory, null, slots);
        if (question.Points is { } here) Take(SeemKind.Visual, here.Real, here.Real.shape[1]);
        if (question.ExamplePoints is { } there) Take(SeemKind.Visual, there.Real, there.Real.shape[1]);
        if (question.Words is { } said) Take(SeemKind.Word, said.Real, said.Tokens.shape[1]);
        var allowed = SeemPrompts.WithItself(SeemPrompts.Allowed(kinds, cat(real, 1)));

        // What is pointed at, as masks are compared.
        var pointed = question.Points is { } p ? SeemPrompts.MaskPrompt(maps.MaskFeatures, p) : null;
        var shown = question.ExamplePoints is { } e ? SeemPrompts.MaskPrompt(question.Examples!.MaskFeatures, e) : null;
        Tensor[] visual = [.. Enumerable.Range(0, sources.Length).Select(VisualTokens).OfType<Tensor>()];
        var words = question.Words?.Tokens;

        var (steps, seen) = (new List<SeemStep>(), new List<Tensor>());
        Read(0);
        for (var i = 0; i < Decoder.TransformerFfnLayers.Count; i++)
        {
            var level = i % sources.Length;
            Tensor[] parts = [.. visual.Length > 0 ? [visual[level]] : Array.Empty<Tensor>(), .. words is null ? Array.Empty<Tensor>() : [words]];
            // Places are where they are; words keep their own places of the sentence.
            Tensor[] places = [.. visual.Length > 0 ? [zeros_like(visual[level])] : Array.Empty<Tensor>(), .. words is null ? Array.Empty<Tensor>() : [question.Words!.Tokens]];
            (x, var tokens) = Decoder.Layer(i, x, position, sources[level], seen[^1], allowed, cat(parts, 1), cat(places, 1));
            if (words is not null) words = tokens!.narrow(1, tokens.shape[1] - words.shape[1], words.shape[1]);
            Read((i + 1) % sources.Length);
        }
        var chosen = steps[^1].Similarity.argmax(1);
        var mask = SeemPrompts.Pick(steps[^1].MaskLogits, chosen);
        foreach (var (similarity, masks) in steps)
        {
            similarity.MoveToOuterDisposeScope();
            masks.MoveToOuterDisposeScope();
        }
        return new(steps, chosen.MoveToOuterDisposeScope(), mask.MoveToOuterDisposeScope(), new(x.narrow(1, queries, slots).MoveToOuterDisposeScope(), mask.alias().MoveToOuterDisposeScope()));

        void Take(SeemKind kind, Tensor? which, long count)
        {
            kinds.AddRange(Enumerable.Repeat(kind, (int)count));
            real.Add(which ?? ones(batch, count, dtype: ScalarType.Bool, device: maps.MaskFeatures.device));
        }

        Tensor? VisualTokens(int level)
        {
            var (projection, indicators) = (Parts.MaskSptialEmbed[level].Value, Parts.PnIndicator.Weight.Value);
            Tensor[] parts =
            [
                .. question.Points is { } points ? [SeemPrompts.PointTokens(maps.Features[level], projection, indicators, points)] : Array.Empty<Tensor>(),
                .. question.ExamplePoints is { } example ? [SeemPrompts.PointTokens(question.Examples!.Features[level], projection, indicators, example)] : Array.Empty<Tensor>(),
            ];
            return parts.Length == 0 ? null : cat(parts, 1);
        }

        void Read(int level)
        {
            var y = Decoder.DecoderNorm.Forward(x.narrow(1, 0, queries));
            var keys = Decoder.MaskEmbed.Forward(y);
            var masks = keys.matmul(maps.MaskFeatures.flatten(2)).unflatten(2, [maps.MaskFeatures.shape[2], maps.MaskFeatures.shape[3]]);
            // Each kind of prompt has its own opinion, and all of them count alike.
            var opinions = new List<Tensor>();
            if (pointed is not null) opinions.Add(Opinion(SeemPrompts.Similarity(keys, pointed), Given(question.Points!)));
            if (shown is not null) opinions.Add(Opinion(SeemPrompts.Similarity(keys, shown), Given(question.ExamplePoints!)));
            if (question.Text is { } text) opinions.Add(Opinion(Decoder.Similarity(Decoder.Meanings(y), text.unsqueeze(1)).squeeze(-1), question.Words!.Real?.any(1)));
            steps.Add(new(stack(opinions).sum([0]), masks));
            var size = maps.Size(level);
            var remembered = question.Memory is { } memory ? SeemPrompts.Remembered(memory.MaskLogits, size) : ones(batch, size.Rows * size.Columns, dtype: ScalarType.Bool, device: y.device);
            seen.Add(cat([Understanding.XDecoder.Seen(masks, size), remembered.unsqueeze(1).expand(-1, slots, -1)], 1));
        }

        // Where nothing is meant by a kind of prompt, it has no opinion.
        static Tensor Opinion(Tensor similarity, Tensor? given) => given is null ? similarity.log_softmax(-1) : similarity.log_softmax(-1) * given.unsqueeze(-1).to(similarity.dtype);

        static Tensor Given(SeemPoints points) => points.Real.logical_and(points.Negative.eq(0)).any(1);
    }

    /// <summary>The loss of a run: every reading of it, or the last.</summary>
    /// <param name="output">For the batch.</param>
    /// <param name="wanted">[b, height, width], 0 or 1: what is meant in each image.</param>
    /// <param name="options">What the parts weigh.</param>
    /// <param name="generator">Draws the points at which masks are compared.</param>
    /// <param name="auxiliary">Whether what is read before the last layer is trained, too.</param>
    /// <returns>a scalar</returns>
    public static Tensor Loss(SeemOutput output, Tensor wanted, MaskLossOptions? options = null, Generator? generator = null, bool auxiliary = true)
    {
        using var scope = NewDisposeScope();
        Tensor[] totals = [.. (auxiliary ? output.Steps : [output.Steps[^1]]).Select(s => PromptedLoss.Of(s.Similarity, s.MaskLogits, wanted, options, generator).Total)];
        return stack(totals).sum().MoveToOuterDisposeScope();
    }
}
