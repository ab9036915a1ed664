using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation.Training;
using Panoptes.Text;

namespace Panoptes.Understanding.Training;

/// <summary>
/// SEEM's training (Zou et al. 2023, arXiv:2304.06718): a thing is meant by a place, an expression, a thing of the same name in another image, or several of them, as it is drawn anew in every step; then it is
/// corrected by clicks, at times with the memory of the turn before. Masks with names are learned beside it.
/// </summary>
public sealed record SeemOptions : SceneTaskOptions
{
    /// <summary>How often places are among what is given.</summary>
    public float Places { get; init; } = 0.7f;

    /// <summary>How often words are.</summary>
    public float Words { get; init; } = 0.5f;

    /// <summary>How often a thing of another image is.</summary>
    public float Examples { get; init; } = 0.25f;

    /// <summary>Corrections by a click after the first answer.</summary>
    public int Corrections { get; init; } = 2;

    /// <summary>How often corrections go by the memory of the turns before.</summary>
    public float Memory { get; init; } = 0.5f;

    /// <summary>What masks with names count beside what is pointed at; 0: they are not learned.</summary>
    public double Masks { get; init; } = 0.5;

    /// <summary>Among how many names those of a batch are told.</summary>
    public int Names { get; init; } = 64;

    /// <summary>At how many points masks are compared.</summary>
    public int Points { get; init; } = 512;

    /// <summary>The most clicks of a test.</summary>
    public int TestClicks { get; init; } = 5;

    public override SceneObjective Create(SceneSetting setting)
    {
        if (Corrections < 0 || Names < 1 || Points < 1 || TestClicks < 1 || !(Masks >= 0)) throw new PanoptesException("names, points and test_clicks must be 1 or more, corrections and masks 0 or more.");
        if (Places is not (>= 0 and <= 1) || Words is not (>= 0 and <= 1) || Examples is not (>= 0 and <= 1) || Memory is not (>= 0 and <= 1) || Places + Words + Examples == 0)
            throw new PanoptesException("places, words, examples and memory must be from 0 to 1, and not all of the first three 0.");
        var (model, tokenizer) = setting.Recipe.Model.BuildWithTexts<SeemModel, SeemModelConfig>(setting, ClipTowers.WithTowersOf, ClipTowers.Seem, static m => m.Config.TextConfig);
        return new SeemPrompting(model, tokenizer, this, setting);
    }
}

/// <inheritdoc cref="SeemOptions"/>
sealed class SeemPrompting(SeemModel model, Tokenizer tokenizer, SeemOptions options, SceneSetting setting) : SceneObjective
{
    const int MostPointed = 32, BatchSize = 8;

    readonly IReadOnlyList<string> names = setting.Names;
    readonly XDecoderLossOptions weights = new() { Mask = new() { Points = options.Points } };

    public override SeemModel Model => model;

    public override string Monitor => "iou_composed";

    public override int? References => 4;

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var c = model.Config;
        var maps = model.Encode(SceneLessons.Pixels(batch, c.ImageMean, c.ImageStd, c.ImageSize));
        var draws = rand(5, generator: random).data<float>().ToArray();
        var (objects, said) = Meant(batch, random);

        // At least one kind of prompt, whichever is the likeliest of those drawn.
        var (places, words, examples) = (draws[0] < options.Places, draws[1] < options.Words, draws[2] < options.Examples);
        if (!places && !words && !examples) (places, words) = (options.Places >= options.Words && options.Places > 0, options.Words > options.Places);
        if (!places && !words) examples = true;
        var kind = (PointingKind)Math.Min(3, (int)(draws[3] * 4));
        var (pointed, meant) = SceneLessons.Pointing(batch, objects, kind, random);
        var question = new SeemQuestion();
        if (words) question = Said(question, said);
        if (examples) question = Like(question, batch, maps, objects, random);
        var (positive, negative) = (places ? pointed : zeros_like(pointed), zeros_like(pointed));

        var (total, remembers) = (zeros([], ScalarType.Float32), draws[4] < options.Memory);
        SeemMemory? memory = null;
        for (var turn = 0; turn <= options.Corrections; turn++)
        {
            if (turn > 0 || places) question = question with { Points = SeemPrompts.Points(positive, negative, MostPointed, random) };
            var answer = model.Answer(maps, question with { Memory = memory });
            using (Autocast.To(ScalarType.Float32))
                total = total + SeemModel.Loss(answer, meant, weights.Mask, random).to(ScalarType.Float32);
            if (turn == options.Corrections) break;
            var wrong = Told(answer, meant.shape[1]).logical_xor(meant);
            var click = Click(wrong, random);
            (positive, negative) = (positive.logical_or(click.logical_and(meant)), negative.logical_or(click.logical_and(meant.logical_not())));
            if (remembers) memory = answer.Memory;
        }
        var prompted = total / (options.Corrections + 1);
        if (options.Masks == 0) return new Dictionary<string, Tensor> { ["loss"] = prompted };
        var lesson = SceneLessons.XDecoder(batch, tokenizer, c, SceneLessons.Names(batch, names, options.Names, random)) with { CaptionIds = null, CaptionMask = null, ExpressionIds = null, ExpressionMask = null, ExpressionImages = null, ExpressionTargets = null };
        var masks = model.XDecoder.Losses(lesson, weights, random, maps).Total.to(ScalarType.Float32);
        return new Dictionary<string, Tensor> { ["loss"] = prompted + masks * options.Masks, ["prompted"] = prompted, ["masks"] = masks };
    }

    /// <summary>A thing of each picture, and words that mean it: an expression where one was drawn, or else its name.</summary>
    static (int[] Objects, string[] Said) Meant(SceneBatch batch, Generator random)
    {
        var draws = rand(batch.Count, generator: random).data<float>().ToArray();
        var (objects, said) = (new int[batch.Count], new string[batch.Count]);
        for (var i = 0; i < batch.Count; i++)
        {
            var things = batch.Scenes[i].Objects;
            var expression = batch.References[i].FirstOrDefault(static r => r.Objects.Count == 1);
            objects[i] = expression?.Objects[0] ?? Math.Min(things.Count - 1, (int)(draws[i] * things.Count));
            said[i] = expression?.Text ?? things[objects[i]].Name;
        }
        return (objects, said);
    }

    SeemQuestion Said(SeemQuestion question, IReadOnlyList<string> said)
    {
        var (ids, mask) = SceneLessons.Tokens(tokenizer, model.Config, said, cut: true);
        return question with { Words = model.XDecoder.Texts.Words(ids, mask), Text = model.XDecoder.EmbedTexts(ids, mask) };
    }

    /// <summary>A thing of the same name in another picture of the batch; where there is none, the thing itself.</summary>
    static SeemQuestion Like(SeemQuestion question, SceneBatch batch, DecoderMaps maps, int[] objects, Generator random)
    {
        var (images, masks) = (new long[batch.Count], new Tensor[batch.Count]);
        for (var i = 0; i < batch.Count; i++)
        {
            var (image, thing) = (i, objects[i]);
            for (var k = 1; k < batch.Count; k++)
            {
                var j = (i + k) % batch.Count;
                if (Same(batch.Scenes[j].Objects, batch.Scenes[i].Objects[objects[i]].Concept) is not { } found) continue;
                (image, thing) = (j, found);
                break;
            }
            (images[i], masks[i]) = (image, batch.Mask(image, [thing]));
        }
        return question with { Examples = maps.Select(tensor(images)), ExamplePoints = SeemPrompts.Points(stack(masks), null, MostPointed, random) };

        static int? Same(IReadOnlyList<SceneObject> objects, int concept)
        {
            for (var k = 0; k < objects.Count; k++)
                if (objects[k].Concept == concept) return k;
            return null;
        }
    }

    /// <summary>The mask of each answer in the pictures' size: [b, side, side] bool.</summary>
    static Tensor Told(SeemOutput answer, long side)
    {
        using var scope = NewDisposeScope();
        return InteractiveEvaluation.Enlarge(answer.MaskLogits.detach().to(ScalarType.Float32).unsqueeze(1), side, side).squeeze(1).gt(0).MoveToOuterDisposeScope();
    }

    /// <summary>One random pixel of each row's wrong ones, as a map; of a row without any, none.</summary>
    static Tensor Click(Tensor wrong, Generator random)
    {
        using var scope = NewDisposeScope();
        var (flat, index) = (wrong.flatten(1), InteractiveEvaluation.RandomPixel(wrong, random));
        return zeros_like(flat).scatter_(1, index, ones_like(index).to(ScalarType.Bool)).logical_and(flat).view(wrong.shape).MoveToOuterDisposeScope();
    }

    /// <summary>Every thing by a click, by words, by both and by a thing of another picture; and by clicks that correct, with memory and without it.</summary>
    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var c = model.Config;
        var (sums, things) = (new Dictionary<string, double>(), 0);
        var (remembered, forgotten) = (new ClickScores(), new ClickScores());
        var (first, total) = (0, tests.Scenes(EmojiSplit.HeldOutStyle).Count);
        foreach (var batch in tests.Batches(EmojiSplit.HeldOutStyle, BatchSize))
        {
            cancel.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            using (batch)
            {
                var maps = model.Encode(SceneLessons.Pixels(batch, c.ImageMean, c.ImageStd, c.ImageSize));
                (int Image, int Thing)[] rows = [.. batch.Scenes.SelectMany(static (s, i) => Enumerable.Range(0, s.Objects.Count).Select(k => (i, k)))];
                var here = maps.Select(tensor(rows.Select(static r => (long)r.Image).ToArray()));
                var meant = stack([.. rows.Select(r => batch.Mask(r.Image, [r.Thing]))]);
                string[] said = [.. rows.Select(r => tests.References(EmojiSplit.HeldOutStyle, first + r.Image).FirstOrDefault(e => e.Objects.Count == 1 && e.Objects[0] == r.Thing)?.Text ?? batch.Scenes[r.Image].Objects[r.Thing].Name)];
                var words = Said(new(), said);
                foreach (var (scores, memory) in (ReadOnlySpan<(ClickScores, bool)>)[(remembered, true), (forgotten, false)])
                    foreach (var ious in Clicks(here, meant, memory)) scores.Add(ious);
                // The click is the one that a user begins with.
                var click = SeemPrompts.Points(FirstClicks(meant));
                Add("point", new() { Points = click });
                Add("text", words);
                Add("composed", words with { Points = click });
                things += rows.Length;

                void Add(string name, SeemQuestion question) =>
                    sums[name] = sums.GetValueOrDefault(name) + InteractiveEvaluation.Iou(Told(model.Answer(here, question), meant.shape[1]), meant).sum().item<float>();
            }
            progress?.Report(new(first += batch.Count, total));
        }
        var result = sums.ToDictionary(static s => $"iou_{s.Key}", s => s.Value / things);
        var (with, without) = (remembered.Curve(options.TestClicks), forgotten.Curve(options.TestClicks));
        (result["iou_clicks"], result["iou_clicks_without_memory"]) = (with[^1], without[^1]);
        (result["noc_80"], result["noc_80_without_memory"]) = (remembered.NumberOfClicks(0.8, options.TestClicks), forgotten.NumberOfClicks(0.8, options.TestClicks));
        result["composed_over_single"] = result["iou_composed"] - Math.Max(result["iou_point"], result["iou_text"]);
        result["clicks_spared"] = result["noc_80_without_memory"] - result["noc_80"];
        if (options.Masks > 0)
            foreach (var (name, value) in XDecoding.Measure(model.XDecoder, tokenizer, masks: true, captions: false, expressions: false, tests, null, cancel)) result[name] = value;
        return result;
    }

    static Tensor FirstClicks(Tensor meant)
    {
        var (rows, side) = ((int)meant.shape[0], (int)meant.shape[1]);
        var (bytes, clicks) = (meant.to(ScalarType.Byte).data<byte>().ToArray(), new byte[rows * side * side]);
        for (var i = 0; i < rows; i++)
            if (new ClickSimulator(bytes.AsSpan(i * side * side, side * side), side, side).Next(new byte[side * side]) is { } click) clicks[(((i * side) + click.Y) * side) + click.X] = 1;
        return tensor(clicks, [rows, side, side]).ne(0);
    }

    /// <summary>Of each thing the IoU after every click of a user who corrects.</summary>
    IReadOnlyList<IReadOnlyList<double>> Clicks(DecoderMaps maps, Tensor meant, bool remembers)
    {
        var side = (int)meant.shape[1];
        var (positive, negative) = (new byte[meant.numel()], new byte[meant.numel()]);
        SeemMemory? memory = null;
        return InteractiveEvaluation.Clicks(meant, options.TestClicks, clicks =>
        {
            foreach (var (i, click) in clicks) (click.Positive ? positive : negative)[(((i * side) + click.Y) * side) + click.X] = 1;
            var points = SeemPrompts.Points(tensor(positive, meant.shape).ne(0), tensor(negative, meant.shape).ne(0));
            var answer = model.Answer(maps, new() { Points = points, Memory = memory });
            if (remembers) memory = answer.Memory;
            return Told(answer, side);
        });
    }

    public override void Save(string folder)
    {
        PromptableModels.Save(folder, model);
        tokenizer.Save(folder);
    }
}
