using System.Text.Json;
using Panoptes.Nn;

namespace Panoptes.Representation;

// Any image tower and any text tower, each with a projection into a shared space, with the keys and the config.json of Hugging Face's
// VisionTextDualEncoderModel: what LiT (Zhai et al. 2022, arXiv:2111.07991) trains, and every other pair of towers that were not made for each other.

/// <summary>The two towers' own configs, each with its <c>model_type</c>, and what joins them ("vision-text-dual-encoder").</summary>
public sealed record VisionTextDualEncoderConfig : ModelConfig
{
    public JsonElement VisionConfig { get; init; }
    public JsonElement TextConfig { get; init; }
    public int ProjectionDim { get; init; } = 512;
    public double LogitScaleInitValue { get; init; } = 2.6592;
    public string ModelType { get; init; } = "vision-text-dual-encoder";
    public string[] Architectures { get; init; } = ["VisionTextDualEncoderModel"];
}

/// <summary>Keys: vision_model, text_model (each with the keys of its own class), visual_projection, text_projection, logit_scale.</summary>
public sealed class VisionTextDualEncoder : DualEncoder
{
    /// <param name="config">Describes both.</param>
    /// <param name="vision">The image tower, a module; owned by this one from now on.</param>
    /// <param name="text">The text tower, a module; owned by this one from now on.</param>
    public VisionTextDualEncoder(VisionTextDualEncoderConfig config, IImageTower vision, ITextTower text)
    {
        Config = config;
        (VisionModel, TextModel) = ((Module)vision, (Module)text);
        VisualProjection = new(vision.EmbeddingSize, config.ProjectionDim, bias: false, Init.Normal(1 / Math.Sqrt(vision.EmbeddingSize)));
        TextProjection = new(text.EmbeddingSize, config.ProjectionDim, bias: false, Init.Normal(1 / Math.Sqrt(text.EmbeddingSize)));
        LogitScale = new([], Init.Constant(config.LogitScaleInitValue));
        (Images, Texts) = (new ProjectedImages(vision, VisualProjection), new ProjectedTexts(text, TextProjection));
    }

    public VisionTextDualEncoderConfig Config { get; }

    public override Parameter LogitScale { get; }

    public Module VisionModel { get; }

    public Module TextModel { get; }

    public Linear VisualProjection { get; }

    public Linear TextProjection { get; }

    public override IImageTower Images { get; }

    public override ITextTower Texts { get; }

    /// <summary>An image tower followed by a projection.</summary>
    sealed class ProjectedImages(IImageTower tower, Linear projection) : IImageTower
    {
        public IImageTower Backbone => tower.Backbone;

        public int ImageSize => tower.ImageSize;

        public int EmbeddingSize => projection.OutFeatures;

        public int PooledSize => tower.EmbeddingSize;

        public int TokenSize => tower.TokenSize;

        public int PrefixTokens => tower.PrefixTokens;

        public LayerGroups LayerGroups => tower.LayerGroups.WithHead(projection);

        public Tensor Encode(Tensor pixels)
        {
            using var scope = NewDisposeScope();
            return projection.Forward(tower.Encode(pixels)).MoveToOuterDisposeScope();
        }

        public TowerOutput Forward(Tensor pixels, bool hiddenStates = false) => Projected(tower.Forward(pixels, hiddenStates), projection);

        public Tensor EmbedTokens(Tensor tokens)
        {
            using var scope = NewDisposeScope();
            return projection.Forward(tower.EmbedTokens(tokens)).MoveToOuterDisposeScope();
        }
    }

    /// <summary>A text tower followed by a projection.</summary>
    sealed class ProjectedTexts(ITextTower tower, Linear projection) : ITextTower
    {
        public int ContextLength => tower.ContextLength;

        public int VocabularySize => tower.VocabularySize;

        public int EmbeddingSize => projection.OutFeatures;

        public int TokenSize => tower.TokenSize;

        public LayerGroups LayerGroups => tower.LayerGroups.WithHead(projection);

        public Tensor Encode(Tensor inputIds, Tensor? attentionMask = null)
        {
            using var scope = NewDisposeScope();
            return projection.Forward(tower.Encode(inputIds, attentionMask)).MoveToOuterDisposeScope();
        }

        public TowerOutput Forward(Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false) => Projected(tower.Forward(inputIds, attentionMask, hiddenStates), projection);

        public Tensor EmbedTokens(Tensor tokens)
        {
            using var scope = NewDisposeScope();
            return projection.Forward(tower.EmbedTokens(tokens)).MoveToOuterDisposeScope();
        }
    }

    /// <summary>What the tower embeds is what is pooled before this projection.</summary>
    static TowerOutput Projected(TowerOutput output, Linear projection)
    {
        if (!ReferenceEquals(output.Pooled, output.Embedding)) output.Pooled.Dispose();
        return output with { Pooled = output.Embedding, Embedding = projection.Forward(output.Embedding) };
    }
}
