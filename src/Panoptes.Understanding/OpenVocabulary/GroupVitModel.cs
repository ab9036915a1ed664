using System.Text.Json.Serialization;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// GroupViT (Xu et al. 2022, arXiv:2202.11094) with the keys and the config.json of Hugging Face's GroupViTModel: patches are merged into groups, groups into fewer
// groups, each token going to one of them; trained from pairs of images and texts alone, the groups become segments.

/// <summary>The text tower's config ("groupvit_text_model"): CLIP's, smaller.</summary>
public sealed record GroupVitTextConfig : ClipTextConfig
{
    public GroupVitTextConfig() => (HiddenSize, IntermediateSize, NumAttentionHeads, ModelType) = (256, 1024, 4, "groupvit_text_model");
}

/// <summary>The image tower's config ("groupvit_vision_model").</summary>
public sealed record GroupVitVisionConfig : ModelConfig
{
    public int HiddenSize { get; init; } = 384;
    public int IntermediateSize { get; init; } = 1536;
    public int NumHiddenLayers { get; init; } = 12;

    /// <summary>Layers of each stage.</summary>
    public int[] Depths { get; init; } = [6, 3, 3];

    /// <summary>Learned tokens of each stage that its groups are made of; 0 for a stage that groups nothing.</summary>
    public int[] NumGroupTokens { get; init; } = [64, 8, 0];

    /// <summary>Groups that each stage hands on.</summary>
    public int[] NumOutputGroups { get; init; } = [64, 8, 8];
    public int NumAttentionHeads { get; init; } = 6;
    public int ImageSize { get; init; } = 224;
    public int PatchSize { get; init; } = 16;
    public int NumChannels { get; init; } = 3;
    public Activation HiddenAct { get; init; } = Activation.Gelu;
    public double LayerNormEps { get; init; } = 1e-5;
    public double InitializerFactor { get; init; } = 1;

    /// <summary>What is added to a group's number of tokens before it divides their sum.</summary>
    public double AssignEps { get; init; } = 1;

    /// <summary>Hidden widths of the MLPs over group tokens and over channels, as shares of <see cref="HiddenSize"/>.</summary>
    public double[] AssignMlpRatio { get; init; } = [0.5, 4];
    public string ModelType { get; init; } = "groupvit_vision_model";

    /// <exception cref="PanoptesException">Fields that do not go together.</exception>
    internal GroupVitVisionConfig Checked()
    {
        if (NumGroupTokens.Length != Depths.Length || NumOutputGroups.Length != Depths.Length || Depths.Length == 0)
            throw new PanoptesException($"depths, num_group_tokens and num_output_groups have {Depths.Length}, {NumGroupTokens.Length} and {NumOutputGroups.Length} stages; expected as many of each, at least one.");
        if (AssignMlpRatio is not [> 0 and < 1000, > 0 and < 1000]) throw new PanoptesException($"assign_mlp_ratio is [{string.Join(", ", AssignMlpRatio)}]; expected two positive numbers.");
        for (var i = 0; i + 1 < Depths.Length; i++)
            if (NumGroupTokens[i + 1] > 0 && NumGroupTokens[i] != NumOutputGroups[i])
                throw new PanoptesException($"num_output_groups of stage {i} is {NumOutputGroups[i]}, but it has {NumGroupTokens[i]} group tokens for the stage after it; expected as many.");
        return this;
    }
}

/// <summary>Both towers and what joins them ("groupvit").</summary>
public sealed record GroupVitConfig : ModelConfig
{
    public GroupVitTextConfig TextConfig { get; init; } = new();
    public GroupVitVisionConfig VisionConfig { get; init; } = new();

    /// <summary>Old files carry the text tower's config twice; where this one is given it counts.</summary>
    public GroupVitTextConfig? TextConfigDict { get; init; }

    /// <summary>Old files carry the image tower's config twice; where this one is given it counts.</summary>
    public GroupVitVisionConfig? VisionConfigDict { get; init; }
    public int ProjectionDim { get; init; } = 256;
    public int ProjectionIntermediateDim { get; init; } = 4096;
    public double LogitScaleInitValue { get; init; } = 2.6592;
    public double InitializerFactor { get; init; } = 1;
    public string ModelType { get; init; } = "groupvit";
    public string[]? Architectures { get; init; } = ["GroupViTModel"];

    [JsonIgnore]
    public GroupVitTextConfig Text => TextConfigDict ?? TextConfig;

    [JsonIgnore]
    public GroupVitVisionConfig Vision => VisionConfigDict ?? VisionConfig;
}

/// <summary>Two linear layers whose output may be of another width. Keys: fc1, fc2.</summary>
public sealed class GroupVitMlp(int input, int hidden, int output, Activation activation, EncoderInit init) : Module
{
    public Linear Fc1 { get; } = new(input, hidden, initializer: init.Fc1);

    public Linear Fc2 { get; } = new(hidden, output, initializer: init.Fc2);

    /// <param name="x">[..., input]</param>
    /// <returns>[..., output]</returns>
    public Tensor Forward(Tensor x) => Mlp.Apply(Fc1, Fc2, activation, x);

    /// <summary>The same over the tokens instead of the channels, as in an MLP-Mixer: [b, input, width] to [b, output, width].</summary>
    public Tensor Mix(Tensor x)
    {
        using var scope = NewDisposeScope();
        return Forward(x.transpose(1, 2)).transpose(1, 2).MoveToOuterDisposeScope();
    }
}

/// <summary>Groups look at the tokens that they may take. Keys: attn, norm2, mlp, norm_post.</summary>
public sealed class GroupVitCrossAttention(GroupVitVisionConfig c, EncoderInit init) : Module
{
    public SelfAttention Attn { get; } = new(c.HiddenSize, c.NumAttentionHeads, init.AttentionInput, init.AttentionOutput);

    public LayerNorm Norm2 { get; } = new(c.HiddenSize, c.LayerNormEps);

    public GroupVitMlp Mlp { get; } = new(c.HiddenSize, c.IntermediateSize, c.HiddenSize, c.HiddenAct, init);

    public LayerNorm NormPost { get; } = new(c.HiddenSize, c.LayerNormEps);

    /// <param name="groups">[b, groups, width]</param>
    /// <param name="tokens">[b, tokens, width]</param>
    /// <returns>[b, groups, width]</returns>
    public Tensor Forward(Tensor groups, Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var x = groups + Attn.Forward(tokens, queries: groups);
        return NormPost.Forward(x + Mlp.Forward(Norm2.Forward(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>Every token is given to one group, whose new value is the mean of what it was given. Keys: q_proj, k_proj, v_proj, proj.</summary>
public sealed class GroupVitAssignAttention(GroupVitVisionConfig c) : Module
{
    public Linear QProj { get; } = new(c.HiddenSize, c.HiddenSize);

    public Linear KProj { get; } = new(c.HiddenSize, c.HiddenSize);

    public Linear VProj { get; } = new(c.HiddenSize, c.HiddenSize);

    public Linear Proj { get; } = new(c.HiddenSize, c.HiddenSize);

    /// <param name="groups">[b, groups, width]</param>
    /// <param name="tokens">[b, tokens, width]</param>
    /// <param name="generator">Draws the Gumbel noise of training; null: libtorch's own.</param>
    /// <returns>The groups' values [b, groups, width], and how much of each token is each group's, from 0 to 1: [b, groups, tokens].</returns>
    public (Tensor Values, Tensor Assignment) Forward(Tensor groups, Tensor tokens, Generator? generator)
    {
        using var scope = NewDisposeScope();
        var scores = QProj.Forward(groups).matmul(KProj.Forward(tokens).transpose(1, 2)).mul(1 / Math.Sqrt(c.HiddenSize));      // [b, groups, tokens]
        var soft = scores.softmax(1);
        var hard = Training ? Hard((scores + Gumbel(scores, generator)).softmax(1)) : Hard(soft);
        var share = hard / (hard.sum(-1, keepdim: true) + c.AssignEps);
        var values = Proj.Forward(share.matmul(VProj.Forward(tokens)));
        return (values.MoveToOuterDisposeScope(), soft.MoveToOuterDisposeScope());
    }

    /// <summary>1 at the largest of each column, 0 elsewhere, with the gradient of the soft assignment (straight through).</summary>
    static Tensor Hard(Tensor soft)
    {
        var largest = soft.argmax(1, keepdim: true);
        var hard = zeros_like(soft).scatter(1, largest, ones_like(largest).to(soft.dtype));
        return soft.requires_grad ? hard - soft.detach() + soft : hard;
    }

    /// <summary>-ln(-ln u): the largest of scores with this noise is each with its softmax probability.</summary>
    static Tensor Gumbel(Tensor like, Generator? generator)
    {
        var uniform = rand(like.shape, ScalarType.Float32, generator: generator).clamp(1e-20, 1 - 1e-7);
        return uniform.log_().neg_().log_().neg_().to(like.dtype).to(like.device);
    }
}

/// <summary>A grouping block. Keys: norm_tokens, mlp_inter, norm_post_tokens, norm_x, pre_assign_attn, assign, norm_new_x, mlp_channels.</summary>
public sealed class GroupVitTokenAssign(GroupVitVisionConfig c, int groupTokens, int outputGroups, EncoderInit init) : Module
{
    public LayerNorm NormTokens { get; } = new(c.HiddenSize, c.LayerNormEps);

    public GroupVitMlp MlpInter { get; } = new(groupTokens, (int)(c.AssignMlpRatio[0] * c.HiddenSize), outputGroups, c.HiddenAct, init);

    public LayerNorm NormPostTokens { get; } = new(c.HiddenSize, c.LayerNormEps);

    public LayerNorm NormX { get; } = new(c.HiddenSize, c.LayerNormEps);

    public GroupVitCrossAttention PreAssignAttn { get; } = new(c, init);

    public GroupVitAssignAttention Assign { get; } = new(c);

    public LayerNorm NormNewX { get; } = new(c.HiddenSize, c.LayerNormEps);

    public GroupVitMlp MlpChannels { get; } = new(c.HiddenSize, (int)(c.AssignMlpRatio[1] * c.HiddenSize), c.HiddenSize, c.HiddenAct, init);

    /// <param name="tokens">[b, tokens, width]</param>
    /// <param name="groups">[b, group tokens, width]</param>
    /// <param name="generator">As for <see cref="GroupVitAssignAttention.Forward"/>.</param>
    /// <returns>[b, output groups, width] and the soft assignment [b, output groups, tokens]</returns>
    public (Tensor Groups, Tensor Assignment) Forward(Tensor tokens, Tensor groups, Generator? generator)
    {
        using var scope = NewDisposeScope();
        tokens = NormX.Forward(tokens);
        var projected = PreAssignAttn.Forward(NormPostTokens.Forward(MlpInter.Mix(NormTokens.Forward(groups))), tokens);
        var (values, assignment) = Assign.Forward(projected, tokens, generator);
        var merged = values + projected;
        return ((merged + MlpChannels.Forward(NormNewX.Forward(merged))).MoveToOuterDisposeScope(), assignment.MoveToOuterDisposeScope());
    }
}

/// <summary>What the group tokens of one stage give those of the next. Keys: 0 (a norm), 1 (a mixer).</summary>
public sealed class GroupVitProjector(GroupVitVisionConfig c, int before, int after, EncoderInit init) : Module
{
    [Key("0")]
    public LayerNorm Norm { get; } = new(c.HiddenSize, c.LayerNormEps);

    [Key("1")]
    public GroupVitMlp Mixer { get; } = new(before, c.HiddenSize / 2, after, c.HiddenAct, init);

    public Tensor Forward(Tensor groups)
    {
        using var scope = NewDisposeScope();
        return Mixer.Mix(Norm.Forward(groups)).MoveToOuterDisposeScope();
    }
}

/// <summary>Layers over tokens and group tokens together, then the grouping. Keys: group_token, layers.N, downsample, group_projector.</summary>
public sealed class GroupVitStage : Module
{
    readonly int groups;

    public GroupVitStage(GroupVitVisionConfig c, int stage)
    {
        groups = c.NumGroupTokens[stage];
        var init = ClipInit.Encoder(c.HiddenSize, c.NumHiddenLayers, c.InitializerFactor);
        // Equal tokens would stay equal: they start at random, as the authors' do.
        GroupToken = groups > 0 ? new([1, groups, c.HiddenSize], Init.TruncatedNormal(0.02)) : null;
        Layers = new(c.Depths[stage], c.HiddenSize, c.NumAttentionHeads, c.IntermediateSize, c.HiddenAct, c.LayerNormEps, init);
        Downsample = groups > 0 ? new(c, groups, c.NumOutputGroups[stage], init) : null;
        GroupProjector = stage > 0 && groups > 0 ? new(c, c.NumOutputGroups[stage - 1], groups, init) : null;
    }

    public Parameter? GroupToken { get; }

    [Key("")]
    public Encoder Layers { get; }

    public GroupVitTokenAssign? Downsample { get; }

    public GroupVitProjector? GroupProjector { get; }

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="before">The group tokens of the stage before, or null.</param>
    /// <param name="generator">As for <see cref="GroupVitAssignAttention.Forward"/>.</param>
    /// <returns>The tokens that go on, this stage's group tokens, and the soft assignment; the last two are null where nothing is grouped.</returns>
    public (Tensor Tokens, Tensor? Groups, Tensor? Assignment) Forward(Tensor x, Tensor? before, Generator? generator)
    {
        using var scope = NewDisposeScope();
        if (GroupToken is null) return (Layers.Forward(x).MoveToOuterDisposeScope(), null, null);
        var group = GroupToken.Value.expand(x.shape[0], -1, -1);
        if (GroupProjector is not null) group += GroupProjector.Forward(before!);
        var all = Layers.Forward(cat([x, group.to(x.dtype)], 1));
        var own = all.narrow(1, all.shape[1] - groups, groups);
        var (tokens, assignment) = Downsample!.Forward(all.narrow(1, 0, all.shape[1] - groups), own, generator);
        return (tokens.MoveToOuterDisposeScope(), own.MoveToOuterDisposeScope(), assignment.MoveToOuterDisposeScope());
    }
}

/// <summary>The stages. Keys: stages.N.</summary>
public sealed class GroupVitEncoder(GroupVitVisionConfig c) : Module
{
    public ModuleList<GroupVitStage> Stages { get; } = new(c.Depths.Length, i => new(c, i));
}

/// <summary>Keys: projection.</summary>
public sealed class GroupVitPatches(GroupVitVisionConfig c) : Module
{
    public PatchEmbedding Projection { get; } = new(c.NumChannels, c.HiddenSize, c.PatchSize, bias: true);
}

/// <summary>Patches, a norm, positions. Keys: patch_embeddings, position_embeddings, layernorm.</summary>
public sealed class GroupVitEmbeddings(GroupVitVisionConfig c) : Module
{
    readonly int side = c.ImageSize / c.PatchSize;

    public Parameter PositionEmbeddings { get; } = new([1, c.ImageSize / c.PatchSize * (c.ImageSize / c.PatchSize), c.HiddenSize], Init.TruncatedNormal(0.02));

    public GroupVitPatches PatchEmbeddings { get; } = new(c);

    public LayerNorm Layernorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    /// <param name="pixels">[b, channels, height, width] of any size from one patch on; positions are resized to it.</param>
    /// <returns>[b, patches, width]</returns>
    public Tensor Forward(Tensor pixels)
    {
        var (rows, columns) = ((int)pixels.shape[2] / c.PatchSize, (int)pixels.shape[3] / c.PatchSize);
        if (rows == 0 || columns == 0) throw new PanoptesException($"An image of {pixels.shape[3]}x{pixels.shape[2]} pixels was given; expected at least one patch of {c.PatchSize}x{c.PatchSize}.");
        using var scope = NewDisposeScope();
        var positions = PositionEmbeddings.Value;
        if (rows != side || columns != side) positions = Positions.ResizeBicubic(positions[0], side, side, rows, columns);
        return Layernorm.Forward(PatchEmbeddings.Projection.Forward(pixels)).add(positions).MoveToOuterDisposeScope();
    }
}

/// <summary>What the image tower gives.</summary>
/// <param name="Groups">[b, groups, width] after the last norm: the segments.</param>
/// <param name="Pooled">[b, width]: their mean.</param>
/// <param name="Assignments">How much of each token of a stage is each of its groups', [b, groups, tokens], one for each stage that groups.</param>
public sealed record GroupVitVisionOutput(Tensor Groups, Tensor Pooled, IReadOnlyList<Tensor> Assignments);

/// <summary>The image transformer. Keys: embeddings, encoder, layernorm.</summary>
public sealed class GroupVitVisionTransformer(GroupVitVisionConfig c) : Module
{
    public GroupVitEmbeddings Embeddings { get; } = new(c);

    public GroupVitEncoder Encoder { get; } = new(c);

    public LayerNorm Layernorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="generator">As for <see cref="GroupVitAssignAttention.Forward"/>.</param>
    public GroupVitVisionOutput Forward(Tensor pixels, Generator? generator)
    {
        using var scope = NewDisposeScope();
        var x = Embeddings.Forward(pixels);
        Tensor? groups = null;
        var assignments = new List<Tensor>();
        foreach (var stage in Encoder.Stages)
        {
            (x, groups, var assignment) = stage.Forward(x, groups, generator);
            if (assignment is not null) assignments.Add(assignment.MoveToOuterDisposeScope());
        }
        x = Layernorm.Forward(x);
        return new(x.MoveToOuterDisposeScope(), x.mean([1]).MoveToOuterDisposeScope(), assignments);
    }
}

/// <summary>A head of two linear layers with a batch norm. Keys: 0 (linear), 1 (batch norm), 3 (linear).</summary>
public sealed class GroupVitProjection(int input, int hidden, int output) : Module
{
    [Key("0")]
    public Linear First { get; } = new(input, hidden);

    [Key("1")]
    public BatchNorm Norm { get; } = new(hidden);

    [Key("3")]
    public Linear Last { get; } = new(hidden, output);

    /// <param name="x">[..., input]</param>
    /// <returns>[..., output]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var y = Last.Forward(Norm.Forward(First.Forward(x.flatten(0, -2))).relu_());
        return y.view([.. x.shape[..^1], output]).MoveToOuterDisposeScope();
    }
}

/// <summary>The image tower with its projection.</summary>
public sealed class GroupVitVisionModel(GroupVitConfig config) : Module, IImageTower, IRandomTower
{
    public GroupVitVisionTransformer VisionModel { get; } = new(config.Vision.Checked());

    public GroupVitProjection VisualProjection { get; } = new(config.Vision.HiddenSize, config.ProjectionIntermediateDim, config.ProjectionDim);

    public int EmbeddingSize => config.ProjectionDim;

    public int ImageSize => config.Vision.ImageSize;

    public int PooledSize => config.Vision.HiddenSize;

    public int TokenSize => config.Vision.HiddenSize;

    /// <summary>Draws the Gumbel noise of training; null: libtorch's own generator.</summary>
    public Generator? Random { get; set; }

    public LayerGroups LayerGroups => LayerGroups.Of([VisionModel.Embeddings], VisionModel.Encoder.Stages, [VisionModel.Layernorm], [VisualProjection]);

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return VisualProjection.Forward(Groups(pixels).Pooled).MoveToOuterDisposeScope();
    }

    /// <summary>The tokens are the groups, after the last norm.</summary>
    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        if (hiddenStates) throw new PanoptesException("GroupViT keeps no states between its layers; ask for its groups and their assignments.");
        using var scope = NewDisposeScope();
        var output = Groups(pixels);
        return new(output.Groups.MoveToOuterDisposeScope(), output.Pooled.MoveToOuterDisposeScope(), VisualProjection.Forward(output.Pooled).MoveToOuterDisposeScope());
    }

    /// <summary>The segments and which patches they are made of.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    public GroupVitVisionOutput Groups(Tensor pixels) => VisionModel.Forward(pixels, Random);

    public Tensor EmbedTokens(Tensor tokens) => VisualProjection.Forward(tokens);
}

/// <summary>The text tower with its projection.</summary>
public sealed class GroupVitTextModel(GroupVitConfig config) : Module, ITextTower
{
    public ClipTextTransformer TextModel { get; } = new(config.Text);

    public GroupVitProjection TextProjection { get; } = new(config.Text.HiddenSize, config.ProjectionIntermediateDim, config.ProjectionDim);

    public int EmbeddingSize => config.ProjectionDim;

    public int ContextLength => config.Text.MaxPositionEmbeddings;

    public int VocabularySize => config.Text.VocabSize;

    public int TokenSize => config.Text.HiddenSize;

    public LayerGroups LayerGroups => LayerGroups.Of([TextModel.Embeddings], TextModel.Encoder.Layers, [TextModel.FinalLayerNorm], [TextProjection]);

    public Tensor Encode(Tensor inputIds, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        return TextProjection.Forward(TextModel.ForwardPooled(inputIds, attentionMask)).MoveToOuterDisposeScope();
    }

    public TowerOutput Forward(Tensor inputIds, Tensor? attentionMask = null, bool hiddenStates = false)
    {
        var states = hiddenStates ? new List<Tensor>() : null;
        var (tokens, pooled) = TextModel.Forward(inputIds, attentionMask, states);
        return new(tokens, pooled, TextProjection.Forward(pooled), states);
    }

    public Tensor EmbedTokens(Tensor tokens) => TextProjection.Forward(tokens);
}

/// <summary>What <see cref="GroupVitModel.Forward"/> returns.</summary>
/// <param name="LogitsPerImage">[images, texts]: cosine times scale</param>
/// <param name="ImageEmbeds">[images, embedding], normalized</param>
/// <param name="TextEmbeds">[texts, embedding], normalized</param>
/// <param name="SegmentationLogits">[images, texts, height, width] as the peer defines it: the groups' cosines times the square of the scale, each pixel's groups summed</param>
/// <param name="Vision">The image tower's own outputs.</param>
public sealed record GroupVitOutput(Tensor LogitsPerImage, Tensor ImageEmbeds, Tensor TextEmbeds, Tensor SegmentationLogits, GroupVitVisionOutput Vision);

/// <summary>GroupViT. Keys: logit_scale, text_model, text_projection, vision_model, visual_projection.</summary>
public sealed class GroupVitModel(GroupVitConfig config) : DualEncoder
{
    public GroupVitConfig Config { get; } = config;

    public override Parameter LogitScale { get; } = new([], Init.Constant(config.LogitScaleInitValue));

    /// <summary>The text tower; its keys stand beside the model's own.</summary>
    [Key("")]
    public GroupVitTextModel Text { get; } = new(config);

    /// <summary>The image tower; its keys stand beside the model's own.</summary>
    [Key("")]
    public GroupVitVisionModel Vision { get; } = new(config);

    public override IImageTower Images => Vision;

    public override ITextTower Texts => Text;

    /// <summary>Everything that Hugging Face's GroupViTModel gives with <c>output_segmentation</c>; to train, <see cref="DualEncoder.Features"/> is cheaper.</summary>
    /// <param name="pixels">[images, channels, height, width]</param>
    /// <param name="inputIds">[texts, tokens] int64</param>
    /// <param name="attentionMask">[texts, tokens], 0 where padding</param>
    public GroupVitOutput Forward(Tensor pixels, Tensor inputIds, Tensor? attentionMask = null)
    {
        using var scope = NewDisposeScope();
        var vision = Vision.Groups(pixels);
        var (image, text) = (Normalize(Vision.EmbedTokens(vision.Pooled)), Normalize(Text.Encode(inputIds, attentionMask)));
        var scale = LogitScale.Value.exp();
        var groups = Normalize(Vision.EmbedTokens(vision.Groups)).matmul(text.t()).mul(scale).transpose(1, 2);            // [b, texts, groups]
        var grouping = Grouping(vision.Assignments, pixels.shape[2], pixels.shape[3]);
        var dense = groups.matmul(grouping.flatten(2)).mul(scale).unflatten(2, [pixels.shape[2], pixels.shape[3]]);
        foreach (var assignment in vision.Assignments) assignment.MoveToOuterDisposeScope();
        return new(new PairFeatures(image, text, scale).Logits().MoveToOuterDisposeScope(), image.MoveToOuterDisposeScope(), text.MoveToOuterDisposeScope(), dense.MoveToOuterDisposeScope(),
            vision with { Groups = vision.Groups.MoveToOuterDisposeScope(), Pooled = vision.Pooled.MoveToOuterDisposeScope() });
    }

    /// <summary>
    /// How likely each text is at each pixel: every group chooses among the texts by its cosines times the scale (softmax), a pixel has the choice of its groups, and what is unlikely for the image as a whole is unlikely
    /// everywhere: a group of background, which has no text, would else take any of them. (The authors leave out all but the five likeliest texts of the image, NVlabs/GroupViT,
    /// segmentation/evaluation/group_vit_seg.py; here every text counts as much as it is likely.)
    /// </summary>
    /// <param name="pixels">[images, channels, height, width]</param>
    /// <param name="texts">[texts, embedding], normalized</param>
    /// <param name="height">Of the result.</param>
    /// <param name="width">Of the result.</param>
    /// <returns>[images, texts, height, width] from 0 to 1, whose sum over the texts is at most 1</returns>
    public Tensor Segment(Tensor pixels, Tensor texts, long height, long width)
    {
        using var scope = NewDisposeScope();
        var vision = Vision.Groups(pixels);
        var choice = Choices(vision.Groups).mul(Choices(vision.Pooled.unsqueeze(1))).transpose(1, 2);
        return choice.matmul(Grouping(vision.Assignments, height, width, pixels.shape[2], pixels.shape[3]).to(texts.dtype).flatten(2)).unflatten(2, [height, width]).MoveToOuterDisposeScope();

        Tensor Choices(Tensor tokens) => Normalize(Vision.EmbedTokens(tokens).to(texts.dtype)).matmul(texts.t()).mul(LogitScale.Value.exp()).softmax(-1);
    }

    /// <summary>Which pixels the last groups are made of: the product of the stages' soft assignments, resized bilinearly.</summary>
    /// <param name="assignments">[b, groups, tokens] of every stage that groups.</param>
    /// <param name="height">Of the result.</param>
    /// <param name="width">Of the result.</param>
    /// <param name="pixelHeight">Of what the model was given; by default <paramref name="height"/>.</param>
    /// <param name="pixelWidth">Of what the model was given; by default <paramref name="width"/>.</param>
    /// <returns>[b, groups, height, width]</returns>
    /// <exception cref="PanoptesException">No stage groups.</exception>
    public Tensor Grouping(IReadOnlyList<Tensor> assignments, long height, long width, long? pixelHeight = null, long? pixelWidth = null)
    {
        if (assignments.Count == 0) throw new PanoptesException("This GroupViT has no stage that groups; expected num_group_tokens above 0.");
        using var scope = NewDisposeScope();
        var grouping = assignments[0];
        for (var i = 1; i < assignments.Count; i++) grouping = assignments[i].matmul(grouping);
        var patch = Config.Vision.PatchSize;
        return nn.functional.interpolate(grouping.unflatten(2, [(pixelHeight ?? height) / patch, (pixelWidth ?? width) / patch]), [height, width], mode: InterpolationMode.Bilinear, align_corners: false)
            .MoveToOuterDisposeScope();
    }
}
