using System.Text.Json;
using Panoptes.Nn;
using Panoptes.Representation.Objectives;

namespace Panoptes.Representation;

// STAIR (Chen et al. 2023, arXiv:2301.13081): images and texts as sparse, non-negative weights of the tokens of the text tower's own
// vocabulary. There is no public checkpoint; the towers keep the keys of their own classes.

/// <summary>The two towers' own configs, each with its <c>model_type</c> ("stair").</summary>
public sealed record StairConfig : ModelConfig
{
    public JsonElement VisionConfig { get; init; }
    public JsonElement TextConfig { get; init; }

    /// <summary>The width of the heads' transformed features; by default the text tower's.</summary>
    public int? HeadSize { get; init; }
    public double LogitScaleInitValue { get; init; }

    /// <summary>Whether a text weighs its own tokens alone, always, as in the first of the paper's stages: what it does not say it does not mean.</summary>
    public bool GroundedTexts { get; init; }
    public string ModelType { get; init; } = "stair";
    public string[] Architectures { get; init; } = ["StairModel"];
}

/// <summary>What brings a tower's tokens to the vocabulary's width, as BERT's head does. Keys: dense, norm.</summary>
public sealed class StairTransform(int width, int size) : Module
{
    public Linear Dense { get; } = new(width, size, initializer: Init.Normal(1 / Math.Sqrt(width)));

    public LayerNorm Norm { get; } = new(size);

    /// <param name="tokens">[b, tokens, width]</param>
    /// <returns>[b, tokens, size]</returns>
    public Tensor Forward(Tensor tokens)
    {
        using var hidden = Dense.Forward(tokens, Activation.Gelu);
        return Norm.Forward(hidden);
    }
}

/// <summary>
/// Both towers embed in the vocabulary: log(1 + relu(logit)), the largest over the tokens. What is compared is the inner product, without normalization.
/// Keys: vision_model, text_model, vision_transform, text_transform, decoder (shared by both sides), logit_scale.
/// </summary>
public sealed class StairModel : DualEncoder
{
    public StairModel(StairConfig config, IImageTower vision, ITextTower text)
    {
        Config = config;
        (VisionModel, TextModel) = ((Module)vision, (Module)text);
        var size = config.HeadSize ?? text.EmbeddingSize;
        (VisionTransform, TextTransform) = (new(vision.EmbeddingSize, size), new(text.EmbeddingSize, size));
        // Begins with every dimension at work, since one that is not gets no gradient; the objective's price then switches off what is of no use. The rows begin small: what is
        // random in them the largest over the tokens picks out, and it is unlearned one token at a time (loss after 120 steps of stair.yaml, one seed: 4.57 from a deviation of 0.3, 4.47 from 0.02).
        Decoder = new(size, text.VocabularySize, initializer: Init.Normal(0.02 / Math.Sqrt(size)), biasInitializer: Init.Constant(0.2));
        LogitScale = new([], Init.Constant(config.LogitScaleInitValue));
        (Images, Texts) = (new SparseImages(vision, this), new SparseTexts(text, this));
    }

    public StairConfig Config { get; }

    public override Parameter LogitScale { get; }

    public Module VisionModel { get; }

    public Module TextModel { get; }

    public StairTransform VisionTransform { get; }

    public StairTransform TextTransform { get; }

    public Linear Decoder { get; }

    public override IImageTower Images { get; }

    public override ITextTower Texts { get; }

    /// <summary>The weights are compared as they are.</summary>
    public override Tensor Comparable(Tensor embedding) => embedding.alias();

    /// <summary>What each token says of every word: [b, tokens, vocabulary].</summary>
    Tensor Weigh(StairTransform transform, Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return nn.functional.relu(Decoder.Forward(transform.Forward(tokens))).log1p().MoveToOuterDisposeScope();
    }

    Tensor Sparse(StairTransform transform, Tensor tokens, Tensor? valid) =>
        StairLoss.Embed(transform.Forward(tokens), Decoder.Weight, Decoder.Bias!, valid);

    /// <summary>The image tower with its way into the vocabulary.</summary>
    sealed class SparseImages(IImageTower tower, StairModel model) : IImageTower
    {
        public IImageTower Backbone => tower.Backbone;

        public int ImageSize => tower.ImageSize;

        public int EmbeddingSize => model.Decoder.OutFeatures;

        public int TokenSize => tower.TokenSize;

        public int PrefixTokens => tower.PrefixTokens;

        public LayerGroups LayerGroups => tower.LayerGroups.WithHead(model.VisionTransform, model.Decoder);

        public Tensor Encode(Tensor pixels)
        {
            using var scope = NewDisposeScope();
            return Forward(pixels).Embedding.MoveToOuterDisposeScope();
        }

        public TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
        {
            using var scope = NewDisposeScope();
            var output = tower.Forward(pixels, hiddenStates);
            var embedding = model.Sparse(model.VisionTransform, tower.EmbedTokens(output.LastHiddenState), null);
            TowerOutput.Keep(output.LastHiddenState, embedding, output.HiddenStates);
            return new(output.LastHiddenState, embedding, embedding, output.HiddenStates);
        }

        /// <summary>What each patch says of every word of the vocabulary.</summary>
        public Tensor EmbedTokens(Tensor tokens)
        {
            using var scope = NewDisposeScope();
            return model.Weigh(model.VisionTransform, tower.EmbedTokens(tokens)).MoveToOuterDisposeScope();
        }
    }

    /// <summary>The text tower with its way into the vocabulary.</summary>
    sealed class SparseTexts(ITextTower tower, StairModel model) : ITextTower
    {
        public int ContextLength => tower.ContextLength;

        public int VocabularySize => tower.VocabularySize;

        public int EmbeddingSize => model.Decoder.OutFeatures;

        public int TokenSize => tower.TokenSize;

        /// <summary>The decoder is the image side's as well and counted there.</summary>
        public LayerGroups LayerGroups => tower.LayerGroups.WithHead(model.TextTransform);

        public Tensor Encode(Tensor inputIds, Tensor? attentionMask = null)
        {
            using var scope = NewDisposeScope();
            return Forward(inputIds, attentionMask).Embedding.MoveToOuterDisposeScope();
        }

        public TowerOutput Forward(Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false)
        {
            using var scope = NewDisposeScope();
            var output = tower.Forward(inputIds, attentionMask, hiddenStates);
            var embedding = model.Sparse(model.TextTransform, tower.EmbedTokens(output.LastHiddenState), attentionMask ?? Valid(inputIds));
            if (model.Config.GroundedTexts) embedding *= StairLoss.OwnTokens(inputIds, embedding, 0);
            TowerOutput.Keep(output.LastHiddenState, embedding, output.HiddenStates);
            return new(output.LastHiddenState, embedding, embedding, output.HiddenStates);
        }

        public Tensor EmbedTokens(Tensor tokens)
        {
            using var scope = NewDisposeScope();
            return model.Weigh(model.TextTransform, tower.EmbedTokens(tokens)).MoveToOuterDisposeScope();
        }

        /// <summary>A text's own tokens: CLIP's texts end with the largest id of their vocabulary.</summary>
        static Tensor Valid(Tensor ids)
        {
            using var scope = NewDisposeScope();
            return PairInput.Valid(ids.argmax(-1) + 1, ids.shape[1]).MoveToOuterDisposeScope();
        }
    }
}
