using System.Text.Json.Serialization;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// Grounding DINO (Liu et al. 2023, arXiv:2303.05499) with the keys and the config.json of Hugging Face's GroundingDinoForObjectDetection: a Swin and a BERT that look at each other, and queries that
// are the places of the image whose features are nearest to some word.

/// <summary>The config ("grounding-dino"). The peer's dropout and stochastic depth of the fusion are not applied.</summary>
public sealed record GroundingDinoConfig : ModelConfig
{
    /// <summary>The backbone's own config, of model_type "swin".</summary>
    public SwinConfig? BackboneConfig { get; init; }

    /// <summary>The text tower's own config, of model_type "bert".</summary>
    public AlignTextConfig TextConfig { get; init => field = value.ModelType == new AlignTextConfig().ModelType ? value with { ModelType = "bert" } : value; } = new() { ModelType = "bert" };
    public int NumQueries { get; init; } = 900;
    public int EncoderLayers { get; init; } = 6;
    public int EncoderFfnDim { get; init; } = 2048;
    public int EncoderAttentionHeads { get; init; } = 8;
    public int DecoderLayers { get; init; } = 6;
    public int DecoderFfnDim { get; init; } = 2048;
    public int DecoderAttentionHeads { get; init; } = 8;
    public Activation ActivationFunction { get; init; } = Activation.Relu;
    public int DModel { get; init; } = 256;
    public string PositionEmbeddingType { get; init; } = "sine";
    public int PositionalEmbeddingTemperature { get; init; } = 20;
    public int NumFeatureLevels { get; init; } = 4;
    public int EncoderNPoints { get; init; } = 4;
    public int DecoderNPoints { get; init; } = 4;
    public bool TwoStage { get; init; } = true;
    public bool EmbeddingInitTarget { get; init; } = true;
    public int QueryDim { get; init; } = 4;

    /// <summary>Whether all decoder layers move boxes by the same head.</summary>
    public bool DecoderBboxEmbedShare { get; init; } = true;

    /// <summary>How many tokens of text there may be; logits are filled up to as many.</summary>
    public int MaxTextLen { get; init; } = 256;
    public double LayerNormEps { get; init; } = 1e-5;
    public double ClassCost { get; init; } = 1;
    public double BboxCost { get; init; } = 5;
    public double GiouCost { get; init; } = 2;
    public double BboxLossCoefficient { get; init; } = 5;
    public double GiouLossCoefficient { get; init; } = 2;
    public double FocalAlpha { get; init; } = 0.25;
    public string ModelType { get; init; } = "grounding-dino";
    public string[] Architectures { get; init; } = ["GroundingDinoForObjectDetection"];

    /// <summary>What matching and loss weigh.</summary>
    [JsonIgnore]
    public DetrLossOptions Loss => new() { ClassCost = ClassCost, BboxCost = BboxCost, GiouCost = GiouCost, BboxLossCoefficient = BboxLossCoefficient, GiouLossCoefficient = GiouLossCoefficient };

    [JsonIgnore]
    internal SwinConfig Swin => BackboneConfig ?? new() { OutFeatures = ["stage2", "stage3", "stage4"] };

    /// <exception cref="PanoptesException">A field has a value that is not supported.</exception>
    internal void Check()
    {
        if (Swin.ModelType != "swin") throw new PanoptesException($"backbone_config.model_type is \"{Swin.ModelType}\"; expected \"swin\".");
        if (TextConfig.ModelType != "bert") throw new PanoptesException($"text_config.model_type is \"{TextConfig.ModelType}\"; expected \"bert\".");
        if (PositionEmbeddingType != "sine") throw new PanoptesException($"position_embedding_type is \"{PositionEmbeddingType}\"; expected \"sine\".");
        if (!EmbeddingInitTarget) throw new PanoptesException("embedding_init_target is false; expected true.");
        if (QueryDim != 4) throw new PanoptesException($"query_dim is {QueryDim}; expected 4.");
        if (DModel % 32 != 0) throw new PanoptesException($"d_model is {DModel}; expected a multiple of 32.");
        if (EncoderAttentionHeads % 2 != 0) throw new PanoptesException($"encoder_attention_heads is {EncoderAttentionHeads}; expected an even number.");
    }
}

/// <summary>BERT without its pooler, whose phrases do not see each other. Keys: embeddings, encoder.layer.N.</summary>
public sealed class GroundingDinoText(AlignTextConfig c) : Module
{
    public BertEmbeddings Embeddings { get; } = new(c.VocabSize, c.MaxPositionEmbeddings, c.TypeVocabSize, c.HiddenSize, c.LayerNormEps, c.PadTokenId, c.InitializerRange);

    public BertEncoder Encoder { get; } = new(c);

    internal Tensor Forward(Tensor ids, Tensor? types, PhraseMasks phrases)
    {
        using var scope = NewDisposeScope();
        return BlockStack.Forward(Encoder.Layer, Embeddings.Forward(ids, types, phrases.Positions), static (layer, x, _, mask) => layer.Forward(x, mask), shared: phrases.Seen, checkpointed: ActivationsCheckpointed)
            .MoveToOuterDisposeScope();
    }
}

/// <summary>Which tokens of a text see each other, and where in its phrase each stands.</summary>
/// <param name="Seen">[b, 1, tokens, tokens] bool</param>
/// <param name="Positions">[b, tokens] int64</param>
sealed record PhraseMasks(Tensor Seen, Tensor Positions)
{
    /// <summary>BERT's ids for the beginning and the end of a text, a full stop and a question mark: what phrases end with.</summary>
    static readonly long[] Ends = [101, 102, 1012, 1029];

    internal static bool IsEnd(long id) => Ends.Contains(id);

    /// <param name="ids">[b, tokens] int64</param>
    internal static PhraseMasks Of(Tensor ids)
    {
        var (batch, length) = (ids.shape[0], (int)ids.shape[1]);
        var values = ids.cpu().contiguous().data<long>().ToArray();
        var (seen, positions) = (new bool[batch * length * length], new long[batch * length]);
        for (var b = 0; b < batch; b++)
        {
            // A token belongs to the next end from it on; what the text's first or very last token ends, or nothing, is no phrase, and its tokens see only themselves.
            for (var (start, i) = (0, 0); i < length; i++)
            {
                seen[(b * length + i) * length + i] = true;
                if (!IsEnd(values[b * length + i])) continue;
                if (i > 0 && i < length - 1)
                    for (var j = start; j <= i; j++)
                    {
                        positions[b * length + j] = j - start;
                        seen.AsSpan((b * length + j) * length + start, i - start + 1).Fill(true);
                    }
                start = i + 1;
            }
        }
        return new(tensor(seen, [batch, 1, length, length]).to(ids.device), tensor(positions, [batch, length]).to(ids.device));
    }
}

/// <summary>Multi-head attention. Keys: query, key, value, out_proj.</summary>
public sealed class GroundingDinoAttention(int width, int heads) : Module
{
    public Linear Query { get; } = new(Attention.Divisible(width, heads), width);

    public Linear Key { get; } = new(width, width);

    public Linear Value { get; } = new(width, width);

    public Linear OutProj { get; } = new(width, width);

    /// <param name="queries">[b, queries, width]</param>
    /// <param name="keys">[b, keys, width]</param>
    /// <param name="values">[b, keys, width]</param>
    /// <param name="mask">As in <see cref="Attention.Apply"/>.</param>
    internal Tensor Forward(Tensor queries, Tensor keys, Tensor values, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        return OutProj.Forward(Attention.MergeHeads(Attention.Apply(Split(Query, queries), Split(Key, keys), Split(Value, values), mask))).MoveToOuterDisposeScope();

        Tensor Split(Linear projection, Tensor x) => Attention.SplitHeads(projection.Forward(x), heads);
    }
}

/// <summary>Words that see the other words of their phrase. Keys: self_attn, fc1, fc2, layer_norm_before, layer_norm_after.</summary>
public sealed class GroundingDinoTextEnhancerLayer(GroundingDinoConfig c) : Module
{
    public GroundingDinoAttention SelfAttn { get; } = new(c.DModel, c.EncoderAttentionHeads / 2);

    public Linear Fc1 { get; } = new(c.DModel, c.EncoderFfnDim / 2);

    public Linear Fc2 { get; } = new(c.EncoderFfnDim / 2, c.DModel);

    public LayerNorm LayerNormBefore { get; } = new(c.DModel, c.LayerNormEps);

    public LayerNorm LayerNormAfter { get; } = new(c.DModel, c.LayerNormEps);

    internal Tensor Forward(Tensor x, Tensor places, Tensor mask)
    {
        using var scope = NewDisposeScope();
        var placed = x + places;
        x = LayerNormBefore.Forward(x + SelfAttn.Forward(placed, placed, x, mask));
        return LayerNormAfter.Forward(x + Mlp.Apply(Fc1, Fc2, c.ActivationFunction, x)).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// Image and text asking each other with the same scores. Keys: vision_proj, text_proj, values_vision_proj, values_text_proj, out_vision_proj, out_text_proj.
/// </summary>
public sealed class GroundingDinoBiAttention(GroundingDinoConfig c) : Module
{
    readonly int heads = c.EncoderAttentionHeads / 2;

    public Linear VisionProj { get; } = new(c.DModel, Attention.Divisible(c.EncoderFfnDim / 2, c.EncoderAttentionHeads / 2), initializer: Init.XavierUniform);

    public Linear TextProj { get; } = new(c.DModel, c.EncoderFfnDim / 2, initializer: Init.XavierUniform);

    public Linear ValuesVisionProj { get; } = new(c.DModel, c.EncoderFfnDim / 2, initializer: Init.XavierUniform);

    public Linear ValuesTextProj { get; } = new(c.DModel, c.EncoderFfnDim / 2, initializer: Init.XavierUniform);

    public Linear OutVisionProj { get; } = new(c.EncoderFfnDim / 2, c.DModel, initializer: Init.XavierUniform);

    public Linear OutTextProj { get; } = new(c.EncoderFfnDim / 2, c.DModel, initializer: Init.XavierUniform);

    /// <summary>What the image learns of the text, and the text of the image.</summary>
    internal (Tensor Vision, Tensor Text) Forward(Tensor vision, Tensor text, Tensor? visionMask, Tensor? textMask)
    {
        using var scope = NewDisposeScope();
        var (places, words) = (Split(VisionProj, vision), Split(TextProj, text));
        var ofText = OutVisionProj.Forward(Attention.MergeHeads(Attention.Apply(places, words, Split(ValuesTextProj, text), textMask)));
        var ofVision = OutTextProj.Forward(Attention.MergeHeads(Attention.Apply(words, places, Split(ValuesVisionProj, vision), visionMask)));
        return (ofText.MoveToOuterDisposeScope(), ofVision.MoveToOuterDisposeScope());

        Tensor Split(Linear projection, Tensor x) => Attention.SplitHeads(projection.Forward(x), heads);
    }
}

/// <summary>Image and text take something of each other, little at the start of training. Keys: layer_norm_vision, layer_norm_text, attn, vision_param, text_param.</summary>
public sealed class GroundingDinoFusionLayer(GroundingDinoConfig c) : Module
{
    public LayerNorm LayerNormVision { get; } = new(c.DModel, c.LayerNormEps);

    public LayerNorm LayerNormText { get; } = new(c.DModel, c.LayerNormEps);

    public GroundingDinoBiAttention Attn { get; } = new(c);

    public Parameter VisionParam { get; } = new([c.DModel], Init.Constant(1e-4));

    public Parameter TextParam { get; } = new([c.DModel], Init.Constant(1e-4));

    internal (Tensor Vision, Tensor Text) Forward(Tensor vision, Tensor text, Tensor? visionMask, Tensor? textMask)
    {
        using var scope = NewDisposeScope();
        (vision, text) = (LayerNormVision.Forward(vision), LayerNormText.Forward(text));
        var (ofText, ofVision) = Attn.Forward(vision, text, visionMask, textMask);
        return ((vision + VisionParam.Value * ofText).MoveToOuterDisposeScope(), (text + TextParam.Value * ofVision).MoveToOuterDisposeScope());
    }
}

/// <summary>Places that see a few others on all scales. Keys: self_attn, self_attn_layer_norm, fc1, fc2, final_layer_norm.</summary>
public sealed class GroundingDinoDeformableLayer(GroundingDinoConfig c) : Module
{
    public DeformableAttention SelfAttn { get; } = new(c.DModel, c.EncoderAttentionHeads, c.NumFeatureLevels, c.EncoderNPoints);

    public LayerNorm SelfAttnLayerNorm { get; } = new(c.DModel, c.LayerNormEps);

    public Linear Fc1 { get; } = new(c.DModel, c.EncoderFfnDim);

    public Linear Fc2 { get; } = new(c.EncoderFfnDim, c.DModel);

    public LayerNorm FinalLayerNorm { get; } = new(c.DModel, c.LayerNormEps);

    internal Tensor Forward(Tensor x, Scales scales)
    {
        using var scope = NewDisposeScope();
        x = SelfAttnLayerNorm.Forward(x + SelfAttn.Forward(x + scales.Places, x, scales.Centers, scales.Sizes, scales.Padding));
        return FinalLayerNorm.Forward(x + Mlp.Apply(Fc1, Fc2, c.ActivationFunction, x)).MoveToOuterDisposeScope();
    }
}

/// <summary>Keys: text_enhancer_layer, fusion_layer, deformable_layer.</summary>
public sealed class GroundingDinoEncoderLayer(GroundingDinoConfig c) : Module
{
    public GroundingDinoTextEnhancerLayer TextEnhancerLayer { get; } = new(c);

    public GroundingDinoFusionLayer FusionLayer { get; } = new(c);

    public GroundingDinoDeformableLayer DeformableLayer { get; } = new(c);

    internal (Tensor Vision, Tensor Text) Forward(Tensor vision, Tensor text, Scales scales, TextTokens words)
    {
        using var scope = NewDisposeScope();
        var (fusedVision, fusedText) = FusionLayer.Forward(vision, text, scales.Mask, words.Mask);
        text = TextEnhancerLayer.Forward(fusedText, words.Places, words.Phrases.Seen);
        return (DeformableLayer.Forward(fusedVision, scales).MoveToOuterDisposeScope(), text.MoveToOuterDisposeScope());
    }
}

/// <summary>Keys: layers.N.</summary>
public sealed class GroundingDinoEncoder(GroundingDinoConfig c) : Module
{
    public ModuleList<GroundingDinoEncoderLayer> Layers { get; } = new(c.EncoderLayers, _ => new GroundingDinoEncoderLayer(c));
}

/// <summary>
/// Queries that see each other, the text, and the image about their boxes. Keys: self_attn, self_attn_layer_norm, encoder_attn_text, encoder_attn_text_layer_norm, encoder_attn, encoder_attn_layer_norm,
/// fc1, fc2, final_layer_norm.
/// </summary>
public sealed class GroundingDinoDecoderLayer(GroundingDinoConfig c) : Module
{
    public GroundingDinoAttention SelfAttn { get; } = new(c.DModel, c.DecoderAttentionHeads);

    public LayerNorm SelfAttnLayerNorm { get; } = new(c.DModel, c.LayerNormEps);

    public GroundingDinoAttention EncoderAttnText { get; } = new(c.DModel, c.DecoderAttentionHeads);

    public LayerNorm EncoderAttnTextLayerNorm { get; } = new(c.DModel, c.LayerNormEps);

    public DeformableAttention EncoderAttn { get; } = new(c.DModel, c.DecoderAttentionHeads, c.NumFeatureLevels, c.DecoderNPoints);

    public LayerNorm EncoderAttnLayerNorm { get; } = new(c.DModel, c.LayerNormEps);

    public Linear Fc1 { get; } = new(c.DModel, c.DecoderFfnDim);

    public Linear Fc2 { get; } = new(c.DecoderFfnDim, c.DModel);

    public LayerNorm FinalLayerNorm { get; } = new(c.DModel, c.LayerNormEps);

    /// <param name="x">[b, queries, width]</param>
    /// <param name="places">[b, queries, width]: of their boxes.</param>
    /// <param name="boxes">[b, queries, levels, 4], as fractions of each map.</param>
    internal Tensor Forward(Tensor x, Tensor places, Tensor boxes, Tensor vision, Tensor text, Scales scales, Tensor? textMask)
    {
        using var scope = NewDisposeScope();
        var placed = x + places;
        x = SelfAttnLayerNorm.Forward(x + SelfAttn.Forward(placed, placed, x, null));
        x = EncoderAttnTextLayerNorm.Forward(x + EncoderAttnText.Forward(x + places, text, text, textMask));
        x = EncoderAttnLayerNorm.Forward(x + EncoderAttn.Forward(x + places, vision, boxes, scales.Sizes, scales.Padding));
        return FinalLayerNorm.Forward(x + Mlp.Apply(Fc1, Fc2, c.ActivationFunction, x)).MoveToOuterDisposeScope();
    }
}

/// <summary>Keys: layers.N, layer_norm, reference_points_head, bbox_embed.N (the model's own).</summary>
public sealed class GroundingDinoDecoder(GroundingDinoConfig c, ModuleList<MlpHead> bboxEmbed) : Module
{
    public LayerNorm LayerNorm { get; } = new(c.DModel, c.LayerNormEps);

    public ModuleList<GroundingDinoDecoderLayer> Layers { get; } = new(c.DecoderLayers, _ => new GroundingDinoDecoderLayer(c));

    public MlpHead ReferencePointsHead { get; } = new(2 * c.DModel, c.DModel, c.DModel, 2);

    public ModuleList<MlpHead> BboxEmbed { get; } = bboxEmbed;

    /// <summary>Every layer's queries after the norm, and the boxes that each was given: what the heads turn into predictions.</summary>
    /// <param name="x">[b, queries, width]</param>
    /// <param name="boxes">[b, queries, 4]</param>
    internal (List<Tensor> Queries, List<Tensor> Boxes) Forward(Tensor x, Tensor boxes, Tensor vision, Tensor text, Scales scales, Tensor? textMask)
    {
        using var scope = NewDisposeScope();
        var (queries, given) = (new List<Tensor>(), new List<Tensor>());
        for (var i = 0; i < Layers.Count; i++)
        {
            given.Add(boxes);
            var onMaps = boxes.unsqueeze(2) * cat([scales.Valid, scales.Valid], -1).unsqueeze(1);  // [b, queries, levels, 4]
            var places = ReferencePointsHead.Forward(SinePositions.OfBoxes(onMaps.select(2, 0), c.DModel / 2).to(x.dtype));
            x = Layers[i].Forward(x, places, onMaps, vision, text, scales, textMask);
            if (i < Layers.Count - 1) boxes = (BboxEmbed[i].Forward(x).to(ScalarType.Float32) + Logit(boxes)).sigmoid().detach();   // half precision is too coarse for places
            queries.Add(LayerNorm.Forward(x).MoveToOuterDisposeScope());
        }
        foreach (var box in given.Skip(1)) box.MoveToOuterDisposeScope();
        return (queries, given);
    }

    internal static Tensor Logit(Tensor boxes)
    {
        using var scope = NewDisposeScope();
        var inside = boxes.clamp(1e-5, 1 - 1e-5);
        return (inside / (1 - inside)).log().MoveToOuterDisposeScope();
    }
}

/// <summary>An image on several scales, all places in a row.</summary>
/// <param name="Sizes">Of each map.</param>
/// <param name="Places">[b, places, width]: what is added to what asks.</param>
/// <param name="Padding">[b, places] bool, true where there is no image.</param>
/// <param name="Valid">[b, levels, 2]: how much of each map's width and height is image.</param>
/// <param name="Centers">[b, places, levels, 2]: each place's center on every map.</param>
/// <param name="Mask">[b, 1, 1, places] bool for attention; null where all is image.</param>
sealed record Scales(IReadOnlyList<(int Height, int Width)> Sizes, Tensor Places, Tensor Padding, Tensor Valid, Tensor Centers, Tensor? Mask);

/// <summary>A text's tokens.</summary>
/// <param name="Phrases">Which see each other.</param>
/// <param name="Places">[b, tokens, width]</param>
/// <param name="Real">[b, tokens] bool</param>
/// <param name="Mask">The same for attention, [b, 1, 1, tokens]; null where all are real.</param>
sealed record TextTokens(PhraseMasks Phrases, Tensor Places, Tensor Real, Tensor? Mask);

/// <summary>A convolution and a norm. Keys: 0, 1.</summary>
public sealed class GroundingDinoProjection(int inChannels, int outChannels, int kernel) : Module
{
    [Key("0")]
    public Conv2d Convolution { get; } = new(inChannels, outChannels, kernel, kernel == 1 ? 1 : 2, kernel / 2);

    [Key("1")]
    public GroupNorm Norm { get; } = new(32, outChannels);

    internal Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return Norm.Forward(Convolution.Forward(x)).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// All but the heads. Keys: backbone.conv_encoder.model, input_proj_vision.N, text_backbone, text_projection, query_position_embeddings, encoder, decoder, level_embed; with two stages enc_output,
/// enc_output_norm, encoder_output_bbox_embed, and reference_points with one.
/// </summary>
public sealed class GroundingDinoModel : Module
{
    readonly GroundingDinoConfig c;

    internal GroundingDinoModel(GroundingDinoConfig config, ModuleList<MlpHead> bboxEmbed)
    {
        c = config;
        c.Check();
        Backbone = new(c.Swin);
        var channels = Backbone.Channels;
        if (c.NumFeatureLevels < channels.Count || c.NumFeatureLevels > 8) throw new PanoptesException($"num_feature_levels is {c.NumFeatureLevels}; expected {channels.Count}, which the backbone gives, to 8.");
        InputProjVision = new(c.NumFeatureLevels, i => i < channels.Count ? new GroundingDinoProjection(channels[i], c.DModel, 1) : new GroundingDinoProjection(i == channels.Count ? channels[^1] : c.DModel, c.DModel, 3));
        TextBackbone = new(c.TextConfig);
        TextProjection = new(c.TextConfig.HiddenSize, c.DModel);
        QueryPositionEmbeddings = new(c.NumQueries, c.DModel);
        Encoder = new(c);
        Decoder = new(c, bboxEmbed);
        LevelEmbed = new([c.NumFeatureLevels, c.DModel], Init.Normal(1));
        if (c.TwoStage) (EncOutput, EncOutputNorm, EncoderOutputBboxEmbed) = (new(c.DModel, c.DModel), new(c.DModel, c.LayerNormEps), new(c.DModel, c.DModel, 4, 3, Init.Zeros));
        else ReferencePoints = new(c.NumQueries, 4, Init.XavierUniform);
    }

    [Key("backbone.conv_encoder.model")]
    public SwinBackbone Backbone { get; }

    public ModuleList<GroundingDinoProjection> InputProjVision { get; }

    public GroundingDinoText TextBackbone { get; }

    public Linear TextProjection { get; }

    public Embedding QueryPositionEmbeddings { get; }

    public GroundingDinoEncoder Encoder { get; }

    public GroundingDinoDecoder Decoder { get; }

    public Parameter LevelEmbed { get; }

    public Linear? EncOutput { get; }

    public LayerNorm? EncOutputNorm { get; }

    public MlpHead? EncoderOutputBboxEmbed { get; }

    /// <summary>Where queries start that do not ask the image first.</summary>
    public Embedding? ReferencePoints { get; }

    /// <summary>The image's maps in a row, [b, places, width], and what is known of them.</summary>
    internal (Tensor Image, Scales Scales) Look(Tensor pixels, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        var found = Backbone.Forward(pixels);
        var maps = new List<Tensor>();
        for (var i = 0; i < c.NumFeatureLevels; i++) maps.Add(InputProjVision[i].Forward(i < found.Count ? found[i] : i == found.Count ? found[^1] : maps[^1]));
        var real = maps.ConvertAll(m => SinePositions.Shrink(mask, pixels, m.shape[2], m.shape[3]));
        var places = cat([.. real.Select((r, i) => SinePositions.Of(r, c.DModel / 2, c.PositionalEmbeddingTemperature) + LevelEmbed.Value[i])], 1);
        var padding = cat([.. real.Select(static r => r.flatten(1))], 1).logical_not();
        // How far the first row and column are image.
        var valid = stack([.. real.Select(static r => stack([r.select(1, 0).to(ScalarType.Float32).mean([1]), r.select(2, 0).to(ScalarType.Float32).mean([1])], -1))], 1);
        (int Height, int Width)[] sizes = [.. maps.Select(static m => ((int)m.shape[2], (int)m.shape[3]))];
        var centers = cat([.. sizes.Select((s, i) => Grid(s, 0.5f).unsqueeze(0).to(pixels.device) / (valid.narrow(1, i, 1) * tensor(new[] { (float)s.Width, s.Height }).to(pixels.device)))], 1);   // [b, places, 2]
        var image = cat([.. maps.Select(static m => m.flatten(2).transpose(1, 2))], 1);
        var scales = new Scales(sizes, places.to(image.dtype).MoveToOuterDisposeScope(), padding.MoveToOuterDisposeScope(), valid.MoveToOuterDisposeScope(),
            (centers.unsqueeze(2) * valid.unsqueeze(1)).MoveToOuterDisposeScope(), KeyMask.Of(padding.logical_not())?.MoveToOuterDisposeScope());
        return (image.MoveToOuterDisposeScope(), scales);
    }

    /// <summary>The text's tokens before they see the image, [b, tokens, width], and what is known of them.</summary>
    internal (Tensor Text, TextTokens Words) Read(Tensor ids, Tensor? mask, Tensor? types)
    {
        if (ids.shape[1] > c.MaxTextLen) throw new PanoptesException($"A text of {ids.shape[1]} tokens was given to a model whose texts have at most {c.MaxTextLen}.");
        using var scope = NewDisposeScope();
        var phrases = PhraseMasks.Of(ids);
        var text = TextProjection.Forward(TextBackbone.Forward(ids, types, phrases));
        var places = SinePositions.OfBoxes(phrases.Positions.unsqueeze(-1).to(ScalarType.Float32), c.DModel).to(text.dtype);
        var real = mask?.ne(0) ?? ones_like(ids, ScalarType.Bool);
        phrases.Seen.MoveToOuterDisposeScope();
        phrases.Positions.MoveToOuterDisposeScope();
        return (text.MoveToOuterDisposeScope(), new(phrases, places.MoveToOuterDisposeScope(), real.MoveToOuterDisposeScope(), KeyMask.Of(real)?.MoveToOuterDisposeScope()));
    }

    /// <summary>The places of the image that are nearest to some word: what the decoder starts from.</summary>
    /// <param name="vision">[b, places, width] of the encoder</param>
    /// <param name="text">[b, tokens, width] of the encoder</param>
    /// <returns>Their likeness to each token [b, queries, tokens], and their boxes [b, queries, 4].</returns>
    internal DetectionPrediction Propose(Tensor vision, Tensor text, Scales scales, TextTokens words)
    {
        using var scope = NewDisposeScope();
        var batch = vision.shape[0];
        var places = new List<Tensor>();
        for (var (i, scale) = (0, 0.05f); i < scales.Sizes.Count; i++, scale *= 2)
        {
            var (height, width) = scales.Sizes[i];
            var extent = (scales.Valid.select(1, i) * tensor(new[] { (float)width, height }).to(vision.device)).round().unsqueeze(1);   // [b, 1, 2] places of image
            var centers = Grid((height, width), 0.5f).to(vision.device).unsqueeze(0) / extent;
            places.Add(cat([centers, full_like(centers, scale)], -1));
        }
        var boxes = cat(places, 1);                                                               // [b, places, 4]
        var unusable = boxes.gt(0.01).logical_and(boxes.lt(0.99)).all(-1).logical_not().logical_or(scales.Padding).unsqueeze(-1);
        var features = EncOutputNorm!.Forward(EncOutput!.Forward(vision.masked_fill(unusable, 0)));
        var logits = GroundingDinoForObjectDetection.Compare(features, text, words.Real);
        var moved = EncoderOutputBboxEmbed!.Forward(features).to(ScalarType.Float32) + (boxes / (1 - boxes)).log().masked_fill(unusable, double.PositiveInfinity);
        var (_, best) = logits.detach().amax([-1]).topk((int)Math.Min(c.NumQueries, logits.shape[1]), 1);
        return new(logits.gather(1, best.unsqueeze(-1).expand(batch, -1, logits.shape[2])).MoveToOuterDisposeScope(),
            moved.gather(1, best.unsqueeze(-1).expand(batch, -1, 4)).sigmoid().MoveToOuterDisposeScope());
    }

    /// <summary>Every place of a map, (x, y) counted in places from <paramref name="first"/>: [rows · columns, 2].</summary>
    static Tensor Grid((int Height, int Width) size, float first)
    {
        using var scope = NewDisposeScope();
        var (x, y) = (arange(size.Width).to(ScalarType.Float32) + first, arange(size.Height).to(ScalarType.Float32) + first);
        return stack([x.expand(size.Height, -1), y.unsqueeze(1).expand(-1, size.Width)], -1).view(-1, 2).MoveToOuterDisposeScope();
    }
}

/// <summary>What <see cref="GroundingDinoForObjectDetection"/> gives. Logits are likenesses to tokens, [b, queries, max_text_len], minus infinity where there is no token.</summary>
/// <param name="Layers">Every decoder layer's logits and boxes [b, queries, 4] (center x, center y, width, height as fractions of the padded image), or the last's alone, which is the answer.</param>
/// <param name="Proposals">The places of the image that the decoder started from; with gradients, for training. Null where there is one stage.</param>
/// <param name="LastHiddenState">[b, queries, width]</param>
/// <param name="Vision">[b, places, width] of the encoder.</param>
/// <param name="Text">[b, tokens, width] of the encoder.</param>
/// <param name="Start">The boxes that the decoder started from, [b, queries, 4].</param>
/// <param name="TargetLogits">The likeness of the queries, before they have seen anything, to the text before it has.</param>
public sealed record GroundingDinoOutput(IReadOnlyList<DetectionPrediction> Layers, DetectionPrediction? Proposals, Tensor LastHiddenState, Tensor Vision, Tensor Text, Tensor Start, Tensor TargetLogits)
{
    public Tensor Logits => Layers[^1].Logits;

    public Tensor Boxes => Layers[^1].Boxes;
}

/// <summary>Grounding DINO. Keys: bbox_embed.N, model.</summary>
public sealed class GroundingDinoForObjectDetection : Module
{
    public GroundingDinoForObjectDetection(GroundingDinoConfig config)
    {
        Config = config;
        var shared = config.DecoderBboxEmbedShare ? Head() : null;
        BboxEmbed = new(config.DecoderLayers, _ => shared ?? Head());
        Model = new(config, BboxEmbed);

        MlpHead Head() => new(config.DModel, config.DModel, 4, 3, Init.Zeros);
    }

    public GroundingDinoConfig Config { get; }

    public ModuleList<MlpHead> BboxEmbed { get; }

    public GroundingDinoModel Model { get; }

    /// <param name="pixels">[b, channels, height, width]; images of several sizes are filled up with zeros at the right and bottom.</param>
    /// <param name="ids">[b, tokens] int64: phrases that end with a full stop each.</param>
    /// <param name="mask">[b, tokens], 0 where a text is filled up; or null</param>
    /// <param name="pixelMask">[b, height, width], false (or 0) where an image is filled up; null: nowhere.</param>
    /// <param name="types">[b, tokens] int64, BERT's kinds of sentences; or null</param>
    /// <param name="allLayers">Whether every decoder layer is asked for its prediction, as training does, or the last alone.</param>
    /// <exception cref="PanoptesException">A text longer than max_text_len, or not as many texts as images.</exception>
    public GroundingDinoOutput Forward(Tensor pixels, Tensor ids, Tensor? mask = null, Tensor? pixelMask = null, Tensor? types = null, bool allLayers = false)
    {
        if (ids.shape[0] != pixels.shape[0]) throw new PanoptesException($"{ids.shape[0]} texts were given for {pixels.shape[0]} images; expected one each.");
        using var scope = NewDisposeScope();
        var (vision, scales) = Model.Look(pixels, pixelMask);
        var (text, words) = Model.Read(ids, mask, types);
        var own = Model.QueryPositionEmbeddings.Weight.Value;
        var before = text;
        foreach (var layer in Model.Encoder.Layers) (vision, text) = layer.Forward(vision, text, scales, words);
        var proposals = Config.TwoStage ? Model.Propose(vision, text, scales, words) : null;
        var start = proposals?.Boxes.detach() ?? Model.ReferencePoints!.Weight.Value.to(ScalarType.Float32).sigmoid().unsqueeze(0).expand(pixels.shape[0], -1, -1);
        var target = own.narrow(0, 0, start.shape[1]).unsqueeze(0).expand(pixels.shape[0], -1, -1);
        var (queries, boxes) = Model.Decoder.Forward(target, start, vision, text, scales, words.Mask);
        var layers = new List<DetectionPrediction>();
        for (var i = allLayers ? 0 : queries.Count - 1; i < queries.Count; i++)
            layers.Add(new(Padded(Compare(queries[i], text, words.Real)).MoveToOuterDisposeScope(), (BboxEmbed[i].Forward(queries[i]).to(ScalarType.Float32) + GroundingDinoDecoder.Logit(boxes[i])).sigmoid().MoveToOuterDisposeScope()));
        return new(layers, proposals is null ? null : new(Padded(proposals.Logits).MoveToOuterDisposeScope(), proposals.Boxes.MoveToOuterDisposeScope()), queries[^1].MoveToOuterDisposeScope(), vision.MoveToOuterDisposeScope(),
            text.MoveToOuterDisposeScope(), start.MoveToOuterDisposeScope(), Padded(Compare(target, before, words.Real)).MoveToOuterDisposeScope());
    }

    /// <summary>The loss of all decoder layers and of what they started from, a scalar.</summary>
    /// <param name="targets">One an image; labels are the numbers of its text's phrases.</param>
    /// <inheritdoc cref="Forward"/>
    public Tensor Loss(Tensor pixels, Tensor ids, IReadOnlyList<DetectionTarget> targets, Tensor? mask = null, Tensor? pixelMask = null, Tensor? types = null)
    {
        using var scope = NewDisposeScope();
        var output = Forward(pixels, ids, mask, pixelMask, types, allLayers: true);
        var phrases = GroundingDinoLoss.Phrases(ids, Config.MaxTextLen);
        var real = nn.functional.pad((mask?.ne(0) ?? ones_like(ids, ScalarType.Bool)).to(ScalarType.Float32), [0, Config.MaxTextLen - ids.shape[1]]).ne(0);
        return stack([.. (output.Proposals is { } proposals ? output.Layers.Append(proposals) : output.Layers).Select(p => GroundingDinoLoss.Of(p, targets, phrases, real, Config.Loss, Config.FocalAlpha).Total)]).sum().MoveToOuterDisposeScope();
    }

    Tensor Padded(Tensor logits) => nn.functional.pad(logits, [0, Config.MaxTextLen - logits.shape[2]], value: double.NegativeInfinity);

    /// <summary>The likeness of each query to each token: [b, queries, tokens].</summary>
    internal static Tensor Compare(Tensor queries, Tensor text, Tensor real)
    {
        using var scope = NewDisposeScope();
        return queries.matmul(text.transpose(-1, -2)).masked_fill(real.logical_not().unsqueeze(1), double.NegativeInfinity).MoveToOuterDisposeScope();
    }
}
