using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation.Training;
using Panoptes.Text;

namespace Panoptes.Understanding.Training;

/// <summary>
/// X-Decoder's training (Zou et al. 2022, arXiv:2212.11270): masks with names, captions (word by word, and found among others) and what expressions mean, all from one decoder in every step; each can be left out.
/// </summary>
public sealed record XDecoderOptions : SceneTaskOptions
{
    /// <summary>Whether masks and their names are learned.</summary>
    public bool Masks { get; init; } = true;

    /// <summary>Whether captions are learned: to write them and to find them.</summary>
    public bool Captions { get; init; } = true;

    /// <summary>How many referring expressions of every scene are learned; 0: none.</summary>
    public int Expressions { get; init; } = 1;

    /// <summary>Among how many names those of a batch are told.</summary>
    public int Names { get; init; } = 64;

    /// <summary>At how many points masks are compared.</summary>
    public int Points { get; init; } = 512;

    public override SceneObjective Create(SceneSetting setting)
    {
        if (Expressions < 0 || Names < 1 || Points < 1) throw new PanoptesException("names and points must be 1 or more, and expressions 0 or more.");
        if (!Masks && !Captions && Expressions == 0) throw new PanoptesException("Neither masks nor captions nor expressions are to be learned; expected at least one of them.");
        var (model, tokenizer) = setting.Recipe.Model.BuildWithTexts<XDecoderModel, XDecoderModelConfig>(setting, ClipTowers.WithTowersOf, ClipTowers.XDecoder, static m => m.Config.TextConfig);
        return new XDecoding(model, tokenizer, this, setting);
    }
}

/// <inheritdoc cref="XDecoderOptions"/>
sealed class XDecoding(XDecoderModel model, Tokenizer tokenizer, XDecoderOptions options, SceneSetting setting) : SceneObjective
{
    readonly IReadOnlyList<string> names = setting.Names;
    readonly XDecoderLossOptions weights = new() { Mask = new() { Points = options.Points } };

    public override XDecoderModel Model => model;

    public override string Monitor => options.Masks ? "pq" : options.Captions ? "cider" : "referring_ciou";

    public override int? References => options.Expressions;

    public override IReadOnlyDictionary<string, Tensor> Losses(SceneBatch batch, long step, Generator random)
    {
        var lesson = SceneLessons.XDecoder(batch, tokenizer, model.Config, SceneLessons.Names(batch, names, options.Names, random));
        if (!options.Masks) lesson = lesson with { ClassIds = null, ClassMask = null, Targets = null };
        if (!options.Captions) lesson = lesson with { CaptionIds = null, CaptionMask = null };
        var losses = model.Losses(lesson, weights, random);
        (string Name, Tensor? Loss)[] parts = [("loss", losses.Total), ("masks", losses.Masks), ("caption", losses.Caption), ("retrieval", losses.Retrieval), ("referring", losses.Referring)];
        return parts.Where(static p => p.Loss is not null).ToDictionary(static p => p.Name, static p => p.Loss!.to(ScalarType.Float32));
    }

    public override IReadOnlyDictionary<string, double> Measure(SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel) =>
        Measure(model, tokenizer, options.Masks, options.Captions, options.Expressions > 0, tests, progress, cancel).ToDictionary();

    /// <summary>All that an X-Decoder was taught, on the held-out style.</summary>
    internal static IEnumerable<KeyValuePair<string, double>> Measure(XDecoderModel model, Tokenizer tokenizer, bool masks, bool captions, bool expressions, SceneTests tests, IProgress<EvaluationProgress>? progress, CancellationToken cancel)
    {
        var c = model.Config;
        DecoderMaps Maps(SceneBatch batch) => model.Encode(SceneLessons.Pixels(batch, c.ImageMean, c.ImageStd, c.ImageSize));
        if (masks)
        {
            using var scope = NewDisposeScope();
            var (ids, mask) = SceneLessons.Tokens(tokenizer, c, [.. tests.Names, XDecoderSegmenter.Background]);
            var classes = model.EmbedTexts(ids, mask);
            foreach (var value in SceneMeasures.Things(tests, batch =>
            {
                // The image's own query stands for no thing.
                var found = model.Segment(Maps(batch), classes);
                return new(found.Classes.narrow(1, 0, found.Classes.shape[1] - 1), found.Masks.narrow(1, 0, found.Masks.shape[1] - 1));
            }, progress: progress, cancel: cancel)) yield return value;
        }
        if (captions)
        {
            foreach (var value in SceneMeasures.Captions(tests, batch => SceneMeasures.Words(tokenizer, model.Caption(Maps(batch))), cancel: cancel)) yield return value;
            foreach (var value in SceneMeasures.Retrieval(tests, batch =>
            {
                var (ids, mask) = SceneLessons.Tokens(tokenizer, c, batch.Captions, cut: true);
                return (model.EmbedImages(Maps(batch)), model.EmbedTexts(ids, mask));
            }, cancel: cancel)) yield return value;
        }
        if (expressions)
        {
            foreach (var value in SceneMeasures.Referring(tests, (batch, said, images) =>
            {
                var (ids, mask) = SceneLessons.Tokens(tokenizer, c, said, cut: true);
                var (similarity, masks) = model.Refer(Maps(batch).Select(tensor(images.Select(static i => (long)i).ToArray())), ids, mask);
                return SeemPrompts.Pick(masks, similarity.argmax(1));
            }, cancel: cancel)) yield return value;
        }
    }

    public override void Save(string folder)
    {
        PromptableModels.Save(folder, model);
        tokenizer.Save(folder);
    }
}
