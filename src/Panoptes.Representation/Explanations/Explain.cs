using Panoptes.Evaluation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation.Objectives;
using Panoptes.Text;

namespace Panoptes.Representation.Explanations;

/// <summary>Where in an image a word is.</summary>
public sealed record WordMap(string Word, HeatMap Map);

/// <summary>How a text is found in an image.</summary>
/// <param name="Text">The text.</param>
/// <param name="Similarity">Of the whole image to the whole text, as the model compares them.</param>
/// <param name="Whole">How like the text each patch is.</param>
/// <param name="Words">How like each of its words each patch is.</param>
public sealed record TextExplanation(string Text, double Similarity, HeatMap Whole, IReadOnlyList<WordMap> Words);

/// <summary>A token of the vocabulary that an image lights up, with its weight and where it is.</summary>
public sealed record WeightedToken(string Token, float Weight, HeatMap Map);

/// <summary>What a masked autoencoder makes of an image of which it sees a part.</summary>
/// <param name="View">What the model would see of the whole.</param>
/// <param name="Seen">The patches that it sees, the others gray.</param>
/// <param name="Told">The same with the other patches as the decoder tells them.</param>
/// <param name="Loss">The mean square error over the masked patches, as it is trained.</param>
/// <param name="IsNormalized">
/// Whether the decoder tells patches without their mean and contrast (<see cref="MaeConfig.NormPixLoss"/>): each was given those of its own pixels back, which the model does not know.
/// </param>
public sealed record MaskedView(Image View, Image Seen, Image Told, double Loss, bool IsNormalized);

/// <summary>What can be read out of a model about one image.</summary>
public static class Explain
{
    /// <summary>What the model sees of an image: resized and cropped as its processor does.</summary>
    public static Image View(ImageEncoder model, Image image)
    {
        using var scope = NewDisposeScope();
        return Picture(model.Processor, model.Processor.Process(image)[0]);
    }

    /// <summary>The picture of normalized pixels, [3, height, width].</summary>
    static Image Picture(ImageProcessor processor, Tensor pixels)
    {
        var (mean, std) = (tensor(processor.Mean.ToArray()).view(3, 1, 1), tensor(processor.Std.ToArray()).view(3, 1, 1));
        return Image.FromTensor(((pixels.cpu().to(ScalarType.Float32) * std) + mean).clamp(0, 1).mul(255).round().to(ScalarType.Byte));
    }

    /// <summary>
    /// The similarity of every patch to a text and to each of its words, as FILIP compares them (Yao et al. 2022, arXiv:2111.07783); a model that was not trained so shows
    /// what its single tokens hold, which is less.
    /// </summary>
    /// <exception cref="PanoptesException">The text is too long, or the model's patches cannot be compared with texts.</exception>
    public static TextExplanation Words(Clip clip, Image image, string text)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var towers = clip.Towers;
        var seen = towers.Images.Forward(clip.Encoder.OnDevice(clip.Processor.Process(image)));
        var patches = FilipLoss.PatchesOf(towers, seen.LastHiddenState)[0].to(ScalarType.Float32);                                        // [patches, d]
        var tokens = ClipParts.Tokenize(clip.Tokenizer, towers.Texts!, [text], truncate: false);
        var output = towers.Texts!.Forward(clip.Encoder.OnDevice(tokens.InputIds()), ClipParts.MaskOf(towers.Texts, tokens) is { } mask ? clip.Encoder.OnDevice(mask) : null);
        var words = FilipLoss.WordsOf(towers, output.LastHiddenState)[0].to(ScalarType.Float32);                                          // [tokens, d]
        var similarity = patches.matmul(words.t());                                                                                       // [patches, tokens]
        var embedding = output.Embedding.to(ScalarType.Float32);
        var whole = patches.matmul(DualEncoder.Normalize(embedding).t()).squeeze(1);
        var both = towers.Comparable(seen.Embedding.to(ScalarType.Float32)).matmul(towers.Comparable(embedding).t());
        return new(text, both.item<float>(), HeatMap.OfSquare(whole), [.. WordsOf(clip, text).Select(w =>
            new WordMap(w.Word, HeatMap.OfSquare(similarity.index_select(1, clip.Encoder.OnDevice(tensor(w.Tokens.Select(static t => (long)t).ToArray()))).mean([1]))))]);
    }

    /// <summary>
    /// The patches' similarities to many texts at once, [images, texts, rows, columns]: to the mean of a text's own tokens, as FILIP's are trained to be compared, or to
    /// the text as a whole, which is all that CLIP trains.
    /// </summary>
    /// <param name="towers">The model, in evaluation mode.</param>
    /// <param name="processor">Its own.</param>
    /// <param name="tokenizer">Its own.</param>
    /// <param name="byTokens">Whether the texts' tokens are compared, or the texts as a whole.</param>
    public static Evaluation.WordHeatMaps Maps(Towers towers, ImageProcessor processor, Text.Tokenizer tokenizer, bool byTokens) => (images, words) =>
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var patches = FilipLoss.PatchesOf(towers, towers.Images.Forward(processor.Process(images)).LastHiddenState).to(ScalarType.Float32);                // [b, patches, d]
        var tokens = ClipParts.Tokenize(tokenizer, towers.Texts!, words, truncate: true);
        var output = towers.Texts!.Forward(tokens.InputIds(), ClipParts.MaskOf(towers.Texts, tokens));
        Tensor texts;
        if (byTokens)
        {
            // Neither the start, nor the end, nor the padding.
            var own = PairInput.Valid(tokens.OwnTokens() - 1, output.LastHiddenState.shape[1]).to(ScalarType.Float32);
            own.narrow(1, 0, 1).zero_();
            texts = (FilipLoss.WordsOf(towers, output.LastHiddenState).to(ScalarType.Float32) * own.unsqueeze(-1)).sum(1) / own.sum(1, keepdim: true).clamp(min: 1);
        }
        else texts = DualEncoder.Normalize(output.Embedding.to(ScalarType.Float32));
        var maps = patches.matmul(texts.t()).transpose(1, 2);                                                                                            // [b, words, patches]
        var side = (int)Math.Round(Math.Sqrt(maps.shape[2]));
        return maps.reshape(images.Count, words.Count, side, side).MoveToOuterDisposeScope();
    };

    /// <summary>
    /// Attention roll-out (Abnar and Zuidema 2020, arXiv:2005.00928): how much of each patch has come into the pooled token through all layers; half of every
    /// layer is what was there before.
    /// </summary>
    /// <exception cref="PanoptesException">The tower is not a plain transformer over patches.</exception>
    public static HeatMap Rollout(ImageEncoder model, Image image)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var recorder = new AttentionRecorder();
        var tower = model.Towers.Images;
        tower.Forward(model.Encoder.OnDevice(model.Processor.Process(image)));
        Tensor? flow = null;
        var count = recorder.Probabilities.Count == 0 ? 0 : recorder.Probabilities[0].shape[^1];
        if (count == 0 || recorder.Probabilities.Any(p => p.shape[0] != 1 || p.shape[2] != count || p.shape[3] != count))
            throw new PanoptesException($"The attention of {tower.Backbone.GetType().Name} does not go from all of an image's tokens to all of them in every layer, so that it cannot be rolled out; expected a plain vision transformer.");
        foreach (var probabilities in recorder.Probabilities)
        {
            var layer = (probabilities[0].cpu().to(ScalarType.Float32).mean([0]) + eye(count)) / 2;                                             // [tokens, tokens]
            flow = flow is null ? layer : layer.matmul(flow);
        }
        var prefix = tower.PrefixTokens;
        var pooled = prefix > 0 ? flow![0] : flow!.mean([0]);
        return HeatMap.OfSquare(pooled.narrow(0, prefix, count - prefix));
    }

    /// <summary>The tokens that an image lights up in a STAIR model, the brightest first.</summary>
    /// <exception cref="PanoptesException">The model is no STAIR model.</exception>
    public static IReadOnlyList<WeightedToken> SparseWords(Clip clip, Image image, int top = 20)
    {
        if (clip.Model is not StairModel) throw new PanoptesException($"A {clip.Model.GetType().Name} does not embed in words; expected a StairModel.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var tower = clip.Towers.Images;
        var output = tower.Forward(clip.Encoder.OnDevice(clip.Processor.Process(image)));
        var places = tower.EmbedTokens(output.LastHiddenState)[0].cpu().to(ScalarType.Float32);                                           // [tokens, vocabulary]
        var weights = output.Embedding[0].to(ScalarType.Float32).cpu().data<float>().ToArray();
        var prefix = tower.PrefixTokens;
        return [.. Enumerable.Range(0, weights.Length).Where(i => weights[i] > 0).OrderByDescending(i => weights[i]).Take(top).Select(i =>
            new WeightedToken((clip.Tokenizer.TokenOf(i) ?? "").Replace(ClipVocabulary.EndOfWord, "", StringComparison.Ordinal), weights[i],
                HeatMap.OfSquare(places.select(1, i).narrow(0, prefix, places.shape[0] - prefix))))];
    }

    /// <summary>What a masked autoencoder tells of the patches that it does not see.</summary>
    /// <param name="model">A model in pretraining, with its decoder.</param>
    /// <param name="image">Any size.</param>
    /// <param name="seed">Which patches are masked.</param>
    /// <exception cref="PanoptesException">The model has no decoder of pixels.</exception>
    public static MaskedView Reconstruct(ImageEncoder model, Image image, ulong seed = 0)
    {
        if (model.Model is not MaeForPreTraining mae) throw new PanoptesException($"A {model.Model.GetType().Name} tells no masked pixels; expected a masked autoencoder with its decoder (MaeForPreTraining).");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var random = new Generator(seed);                                                                                           // libtorch's CPU generator: the same mask on every device
        var pixels = model.Encoder.OnDevice(model.Processor.Process(image));
        var patches = mae.Patchify(pixels).to(ScalarType.Float32);                                                                        // [1, patches, patch · patch · 3]
        var noise = rand([1, patches.shape[1]], generator: random);
        var output = mae.Reconstruct(pixels, PatchMask.FromNoise(model.Encoder.OnDevice(noise), mae.Config.MaskRatio));
        var told = output.Logits.to(ScalarType.Float32);
        if (mae.Config.NormPixLoss) told = (told * (patches.var(-1, unbiased: true, keepdim: true) + 1e-6).sqrt()) + patches.mean([-1], keepdim: true);
        var masked = output.Mask.unsqueeze(-1).to(ScalarType.Bool);
        var gray = (0.5 - tensor(model.Processor.Mean.ToArray())) / tensor(model.Processor.Std.ToArray());                                // of middle gray, as the processor normalizes it
        var blank = model.Encoder.OnDevice(gray.repeat(patches.shape[2] / 3));                                                            // a patch's channels come last
        return new(Show(patches), Show(where(masked, blank, patches)), Show(where(masked, told, patches)), output.Loss.to(ScalarType.Float32).item<float>(), mae.Config.NormPixLoss);

        Image Show(Tensor shown) => Picture(model.Processor, mae.Unpatchify(shown)[0]);
    }

    /// <summary>The images whose pooled features are nearest to an image's, the nearest first, as k-NN compares them.</summary>
    /// <param name="model">Any with an image tower.</param>
    /// <param name="images">What neighbors are looked for of.</param>
    /// <param name="total">How many images there are to look among.</param>
    /// <param name="load">Makes the image of an index; called from several threads at once.</param>
    /// <param name="top">How many neighbors each image gets, at most.</param>
    /// <exception cref="PanoptesException">No image, or one that cannot be loaded.</exception>
    public static IReadOnlyList<IReadOnlyList<Neighbor>> Neighbors(ImageEncoder model, IReadOnlyList<Image> images, int total, Func<int, Image> load, int top = 12,
        IProgress<int>? progress = null, CancellationToken cancel = default)
    {
        if (total < 1) throw new PanoptesException("There are no images to look for neighbors among.");
        using var known = model.Encoder.Features(total, load, progress, cancel);
        using var queries = model.Features(images);
        return NearestNeighbors.Find(known, queries, top, cancel: cancel);
    }

    /// <summary>The words of a text, each with the places of its tokens among all, special ones counted.</summary>
    static List<(string Word, List<int> Tokens)> WordsOf(Clip clip, string text)
    {
        var encoding = clip.Tokenizer.EncodeDetailed(text);
        var runes = text.EnumerateRunes().ToArray();                                       // offsets count code points
        var words = new List<(string Word, List<int> Tokens)>();
        var end = -1;
        for (var i = 0; i < encoding.Length; i++)
        {
            if (encoding.SpecialTokens[i]) continue;
            var (start, stop) = encoding.Offsets[i];
            if (words.Count == 0 || start > end || (start < runes.Length && start > 0 && System.Text.Rune.IsWhiteSpace(runes[start - 1]))) words.Add(("", []));
            var (word, tokens) = words[^1];
            tokens.Add(i);
            words[^1] = (word + string.Concat(runes[start..Math.Min(stop, runes.Length)]), tokens);
            end = stop;
        }
        return words;
    }
}
