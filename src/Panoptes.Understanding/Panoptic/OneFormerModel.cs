using System.Text.Json.Serialization;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// OneFormer (Jain et al. 2023, arXiv:2211.06220) with the keys and the config.json of Hugging Face's OneFormerForUniversalSegmentation.

/// <summary>The config ("oneformer").</summary>
public sealed record OneFormerConfig : MaskModelConfig
{
    public int ConvDim { get; init; } = 256;
    public int MaskDim { get; init; } = 256;

    /// <summary>Not supported: the peer never saves what it would project with.</summary>
    public bool EnforceInputProj { get; init; }

    /// <summary>One of them is the task's.</summary>
    public int NumQueries { get; init; } = 150;
    public int QueryDecLayers { get; init; } = 2;

    /// <summary>Whether the queries start as the normalized task token; zeros otherwise.</summary>
    public bool UseTaskNorm { get; init; } = true;
    public double LayerNormEps { get; init; } = 1e-5;
    public int[] Strides { get; init; } = [4, 8, 16, 32];

    /// <summary>How many token ids a task is given as.</summary>
    public int TaskSeqLen { get; init; } = 77;

    /// <summary>Whether there is a text encoder, against which the queries are trained.</summary>
    public bool IsTraining { get; init; }
    public int TextEncoderWidth { get; init; } = 256;
    public int TextEncoderContextLength { get; init; } = 77;
    public int TextEncoderNumLayers { get; init; } = 6;
    public int TextEncoderVocabSize { get; init; } = 49408;
    public int TextEncoderProjLayers { get; init; } = 2;

    /// <summary>How many learned queries stand after those of texts.</summary>
    public int TextEncoderNCtx { get; init; } = 16;
    public double ContrastiveWeight { get; init; } = 0.5;
    public double? ContrastiveTemperature { get; init; } = 0.07;
    public string ModelType { get; init; } = "oneformer";

    private protected override SwinConfig DefaultBackbone => new() { DropPathRate = 0.3 };
}

/// <summary>A residual branch and its norm, before or after it.</summary>
file static class Residual
{
    internal static Tensor Apply(Tensor x, LayerNorm norm, bool before, Func<Tensor, Tensor> branch)
    {
        using var scope = NewDisposeScope();
        return (before ? x + branch(norm.Forward(x)) : norm.Forward(x + branch(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>Masked attention to a level. Keys: multihead_attn, norm.</summary>
public sealed class OneFormerCrossAttention(OneFormerConfig c) : Module
{
    public FusedAttention MultiheadAttn { get; } = new(c.HiddenDim, c.NumAttentionHeads, output: Init.XavierUniform);

    public LayerNorm Norm { get; } = new(c.HiddenDim, c.LayerNormEps);

    public Tensor Forward(Tensor x, Tensor positions, Tensor level, Tensor places, Tensor seen) =>
        Residual.Apply(x, Norm, c.PreNorm, y => MultiheadAttn.Across(y + positions, places, level, seen));
}

/// <summary>Attention among the queries. Keys: self_attn, norm.</summary>
public sealed class OneFormerSelfAttention(OneFormerConfig c) : Module
{
    public QueryAttention SelfAttn { get; } = new(c.HiddenDim, c.NumAttentionHeads);

    public LayerNorm Norm { get; } = new(c.HiddenDim, c.LayerNormEps);

    public Tensor Forward(Tensor x, Tensor positions) => Residual.Apply(x, Norm, c.PreNorm, y => SelfAttn.Forward(y, positions));
}

/// <summary>Feed-forward. Keys: linear1, linear2, norm.</summary>
public sealed class OneFormerFeedForward(OneFormerConfig c) : Module
{
    public Linear Linear1 { get; } = new(c.HiddenDim, c.DimFeedforward, initializer: Init.XavierUniform);

    public Linear Linear2 { get; } = new(c.DimFeedforward, c.HiddenDim, initializer: Init.XavierUniform);

    public LayerNorm Norm { get; } = new(c.HiddenDim, c.LayerNormEps);

    public Tensor Forward(Tensor x) => Residual.Apply(x, Norm, c.PreNorm, y => Mlp.Apply(Linear1, Linear2, Activation.Relu, y));
}

/// <summary>A layer. Keys: cross_attn, self_attn, ffn.</summary>
public sealed class OneFormerLayer(OneFormerConfig c) : Module
{
    public OneFormerCrossAttention CrossAttn { get; } = new(c);

    public OneFormerSelfAttention SelfAttn { get; } = new(c);

    public OneFormerFeedForward Ffn { get; } = new(c);

    /// <param name="x">[b, queries, width]</param>
    /// <param name="positions">[queries, width] of the queries</param>
    /// <param name="level">[b, places, width]</param>
    /// <param name="places">The same with their positions added.</param>
    /// <param name="seen">[b, 1, queries, places] bool</param>
    public Tensor Forward(Tensor x, Tensor positions, Tensor level, Tensor places, Tensor seen)
    {
        using var scope = NewDisposeScope();
        return Ffn.Forward(SelfAttn.Forward(CrossAttn.Forward(x, positions, level, places, seen), positions)).MoveToOuterDisposeScope();
    }
}

/// <summary>A layer that makes object queries of the task's token. Keys: self_attn, multihead_attn, linear1, linear2, norm1, norm2, norm3.</summary>
public sealed class OneFormerQueryLayer(OneFormerConfig c) : Module
{
    public FusedAttention SelfAttn { get; } = new(c.HiddenDim, c.NumAttentionHeads, output: Init.XavierUniform);

    public FusedAttention MultiheadAttn { get; } = new(c.HiddenDim, c.NumAttentionHeads, output: Init.XavierUniform);

    public Linear Linear1 { get; } = new(c.HiddenDim, c.DimFeedforward, initializer: Init.XavierUniform);

    public Linear Linear2 { get; } = new(c.DimFeedforward, c.HiddenDim, initializer: Init.XavierUniform);

    public LayerNorm Norm1 { get; } = new(c.HiddenDim, c.LayerNormEps);

    public LayerNorm Norm2 { get; } = new(c.HiddenDim, c.LayerNormEps);

    public LayerNorm Norm3 { get; } = new(c.HiddenDim, c.LayerNormEps);

    /// <param name="x">[b, queries, width]</param>
    /// <param name="positions">[queries, width] of the queries</param>
    /// <param name="memory">[1, places, width]</param>
    /// <param name="places">[b, places, width]: the same with what is added.</param>
    public Tensor Forward(Tensor x, Tensor positions, Tensor memory, Tensor places)
    {
        using var scope = NewDisposeScope();
        x = Residual.Apply(x, Norm1, c.PreNorm, y => SelfAttn.Across(y + positions, y + positions, y));
        x = Residual.Apply(x, Norm2, c.PreNorm, y => MultiheadAttn.Across(y + positions, places, memory));
        return Residual.Apply(x, Norm3, c.PreNorm, y => Mlp.Apply(Linear1, Linear2, Activation.Relu, y)).MoveToOuterDisposeScope();
    }
}

/// <summary>The layers that make object queries. Keys: layers.N, norm.</summary>
public sealed class OneFormerQueryDecoder(OneFormerConfig c) : Module
{
    public ModuleList<OneFormerQueryLayer> Layers { get; } = new(c.QueryDecLayers, _ => new OneFormerQueryLayer(c));

    public LayerNorm Norm { get; } = new(c.HiddenDim, c.LayerNormEps);
}

/// <summary>Keys: decoder.</summary>
public sealed class OneFormerQueryTransformer(OneFormerConfig c) : Module
{
    public OneFormerQueryDecoder Decoder { get; } = new(c);
}

/// <summary>The layers and what predicts. Keys: query_transformer, decoder_norm, layers.N, query_input_projection, class_embed, mask_embed.layers.</summary>
public sealed class OneFormerDecoder(OneFormerConfig c) : Module
{
    public OneFormerQueryTransformer QueryTransformer { get; } = new(c);

    public LayerNorm DecoderNorm { get; } = new(c.HiddenDim, c.LayerNormEps);

    public ModuleList<OneFormerLayer> Layers { get; } = new(c.DecoderLayers - 1, _ => new OneFormerLayer(c));

    public Conv2d QueryInputProjection { get; } = new(c.MaskDim, c.HiddenDim, 1, initializer: Init.XavierUniform);

    public Linear ClassEmbed { get; } = new(c.HiddenDim, c.Classes + 1);

    [Key("mask_embed.layers")]
    public MaskMlp MaskEmbed { get; } = new(c.HiddenDim, c.HiddenDim, c.MaskDim, 3);
}

/// <summary>Queries that start from the task and look at the levels in turn. Keys: queries_embedder, decoder, level_embed.</summary>
public sealed class OneFormerTransformer(OneFormerConfig c) : Module
{
    public Embedding QueriesEmbedder { get; } = new(c.NumQueries, c.HiddenDim);

    public OneFormerDecoder Decoder { get; } = new(c);

    public Embedding LevelEmbed { get; } = new(PixelDecoder.Levels, c.HiddenDim);

    /// <param name="features">[b, mask width, rows, columns]</param>
    /// <param name="maps">The three levels, [b, width, rows, columns].</param>
    /// <param name="task">[b, width]</param>
    /// <returns>The queries [b, queries, width] before the first layer and after the last, and what is predicted before and after each.</returns>
    internal (Tensor First, Tensor Last, List<MaskPrediction> Predictions) Forward(Tensor features, IReadOnlyList<Tensor> maps, Tensor task)
    {
        using var scope = NewDisposeScope();
        var levels = maps.Select((m, i) => m.flatten(2).transpose(1, 2) + LevelEmbed.Weight.Value[i]).ToArray();
        (int Height, int Width)[] grids = [.. maps.Select(static m => ((int)m.shape[2], (int)m.shape[3]))];
        var places = levels.Select((l, i) => l + MaskedAttention.Positions(grids[i], c.HiddenDim, l)).ToArray();
        var embedder = QueriesEmbedder.Weight.Value;

        // Object queries: the task's token as often as needed, after looking at the finest map. What is attended to is its places' positions; its features are added to the keys.
        if (c.UseTaskNorm) task = Decoder.DecoderNorm.Forward(task);
        var token = task.unsqueeze(1);                                                            // [b, 1, width]
        var memory = MaskedAttention.Positions(((int)features.shape[2], (int)features.shape[3]), c.HiddenDim, features).expand(features.shape[0], -1, -1);
        var seenThere = memory + Decoder.QueryInputProjection.Forward(features).flatten(2).transpose(1, 2);
        var objects = token.expand(-1, c.NumQueries - 1, -1);
        if (!c.UseTaskNorm) objects = zeros_like(objects);
        foreach (var layer in Decoder.QueryTransformer.Decoder.Layers) objects = layer.Forward(objects, embedder.narrow(0, 0, c.NumQueries - 1), memory, seenThere);
        var first = cat([Decoder.QueryTransformer.Decoder.Norm.Forward(objects), token], 1);

        var (x, predictions) = (first, new List<MaskPrediction>());
        Predict();
        for (var i = 0; i < Decoder.Layers.Count; i++)
        {
            var level = i % levels.Length;
            using var seen = MaskedAttention.Seen(predictions[^1].Masks, grids[level]);
            x = Decoder.Layers[i].Forward(x, embedder, levels[level], places[level], seen);
            Predict();
        }
        return (first.MoveToOuterDisposeScope(), x.MoveToOuterDisposeScope(), predictions);

        void Predict()
        {
            var state = Decoder.DecoderNorm.Forward(x);
            predictions.Add(new(Decoder.ClassEmbed.Forward(state).MoveToOuterDisposeScope(), MaskedAttention.Masks(Decoder.MaskEmbed.Forward(state), features).MoveToOuterDisposeScope()));
        }
    }
}

/// <summary>Makes a token of a task's token ids. Keys: task_mlp.layers.</summary>
public sealed class OneFormerTaskEncoder(OneFormerConfig c) : Module
{
    [Key("task_mlp.layers")]
    public MaskMlp TaskMlp { get; } = new(c.TaskSeqLen, c.HiddenDim, c.HiddenDim, 2);
}

/// <summary>A layer over a text, which sees all of it. Keys: self_attn, layer_norm1, mlp, layer_norm2.</summary>
public sealed class OneFormerTextLayer(OneFormerConfig c) : Module
{
    public FusedAttention SelfAttn { get; } = new(c.TextEncoderWidth, Math.Max(c.TextEncoderWidth / 64, 1), Init.Normal(1 / Math.Sqrt(c.TextEncoderWidth)), Init.Normal(1 / Math.Sqrt(2.0 * c.TextEncoderWidth * c.TextEncoderNumLayers)));

    public LayerNorm LayerNorm1 { get; } = new(c.TextEncoderWidth, c.LayerNormEps);

    public Mlp Mlp { get; } = new(c.TextEncoderWidth, 4 * c.TextEncoderWidth, Activation.QuickGelu, Init.Normal(1 / Math.Sqrt(2.0 * c.TextEncoderWidth)), Init.Normal(1 / Math.Sqrt(2.0 * c.TextEncoderWidth * c.TextEncoderNumLayers)));

    public LayerNorm LayerNorm2 { get; } = new(c.TextEncoderWidth, c.LayerNormEps);

    /// <param name="x">[b, tokens, width]</param>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = x + SelfAttn.Forward(LayerNorm1.Forward(x));
        return (x + Mlp.Forward(LayerNorm2.Forward(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>Keys: transformer.layers.N, positional_embedding, ln_final, token_embedding.</summary>
public sealed class OneFormerTextEncoder(OneFormerConfig c) : Module
{
    [Key("transformer.layers")]
    public ModuleList<OneFormerTextLayer> Layers { get; } = new(c.TextEncoderNumLayers, _ => new OneFormerTextLayer(c));

    public Parameter PositionalEmbedding { get; } = new([c.TextEncoderContextLength, c.TextEncoderWidth], Init.Normal(0.01));

    public LayerNorm LnFinal { get; } = new(c.TextEncoderWidth, c.LayerNormEps);

    public Embedding TokenEmbedding { get; } = new(c.TextEncoderVocabSize, c.TextEncoderWidth, Init.Normal(0.02));

    /// <param name="ids">[texts, context] int64</param>
    /// <returns>[texts, width]: the state at the largest id, which is the end's</returns>
    public Tensor Forward(Tensor ids)
    {
        using var scope = NewDisposeScope();
        var x = TokenEmbedding.Forward(ids) + PositionalEmbedding.Value;
        foreach (var layer in Layers) x = layer.Forward(x);
        return LnFinal.Forward(x).take_along_dim(ids.argmax(-1).view(-1, 1, 1), 1).squeeze(1).MoveToOuterDisposeScope();
    }
}

/// <summary>Makes queries of texts, one a thing that is to be found. Keys: text_encoder, text_projector.layers, prompt_ctx.</summary>
public sealed class OneFormerTextMapper(OneFormerConfig c) : Module
{
    public OneFormerTextEncoder TextEncoder { get; } = new(c);

    [Key("text_projector.layers")]
    public MaskMlp TextProjector { get; } = new(c.TextEncoderWidth, c.HiddenDim, c.HiddenDim, c.TextEncoderProjLayers);

    public Embedding PromptCtx { get; } = new(c.TextEncoderNCtx, c.TextEncoderWidth);

    /// <param name="ids">[b, texts, context] int64</param>
    /// <returns>[b, texts + learned, width]</returns>
    public Tensor Forward(Tensor ids)
    {
        using var scope = NewDisposeScope();
        var texts = TextProjector.Forward(TextEncoder.Forward(ids.flatten(0, 1))).unflatten(0, [ids.shape[0], ids.shape[1]]);
        return cat([texts, PromptCtx.Weight.Value.unsqueeze(0).expand(ids.shape[0], -1, -1)], 1).MoveToOuterDisposeScope();
    }
}

/// <summary>The parts. Keys: pixel_level_module, transformer_module, task_encoder, text_mapper.</summary>
public sealed class OneFormerModel(OneFormerConfig c) : Module
{
    public PixelLevelModule PixelLevelModule { get; } = new(c.Swin, channels =>
        new(channels, c.ConvDim, c.MaskDim, c.NumAttentionHeads, c.EncoderFeedforwardDim, c.EncoderLayers, c.Strides, c.CommonStride, c.LayerNormEps));

    public OneFormerTransformer TransformerModule { get; } = new(c);

    public OneFormerTaskEncoder TaskEncoder { get; } = new(c);

    /// <summary>For training alone; null otherwise.</summary>
    public OneFormerTextMapper? TextMapper { get; } = !c.IsTraining ? null
        : c.TextEncoderWidth == c.HiddenDim ? new(c) : throw new PanoptesException($"text_encoder_width is {c.TextEncoderWidth} and hidden_dim {c.HiddenDim}; expected the same.");
}

/// <summary>What OneFormer computes.</summary>
/// <param name="Predictions">One before the first layer and one after each; the last is the answer.</param>
/// <param name="TaskToken">[b, width]</param>
/// <param name="FirstQueries">[b, queries, width] before the first layer: what texts are compared with</param>
/// <param name="Queries">[b, queries, width] after the last layer</param>
public sealed record OneFormerOutput(IReadOnlyList<MaskPrediction> Predictions, Tensor TaskToken, Tensor FirstQueries, Tensor Queries);

/// <summary>OneFormer: one model for semantic, instance and panoptic segmentation, told by a task in words. Keys: model, criterion.empty_weight, criterion.logit_scale.</summary>
public sealed class OneFormerForUniversalSegmentation(OneFormerConfig config) : Module, IMaskSegmenter
{
    public OneFormerConfig Config => config;

    public OneFormerModel Model { get; } = new(Check(config));

    /// <summary>What each class weighs in the loss, as the peer's files keep it: [classes + 1].</summary>
    [Key("criterion.empty_weight")]
    public Parameter EmptyWeight { get; } = MaskLoss.ClassWeights(config.Classes, config.NoObjectWeight);

    /// <summary>The logarithm of what similarities are multiplied by; trained with the text encoder alone.</summary>
    [Key("criterion.logit_scale")]
    public Parameter? LogitScale { get; } = config.ContrastiveTemperature is { } t ? new([], Init.Constant(Math.Log(1 / t))) { Trainable = config.IsTraining } : null;

    IReadOnlyList<string> IMaskSegmenter.Labels => config.Labels();

    static OneFormerConfig Check(OneFormerConfig c)
    {
        if (c.ConvDim != c.HiddenDim || c.MaskDim != c.HiddenDim) throw new PanoptesException($"conv_dim is {c.ConvDim}, mask_dim {c.MaskDim} and hidden_dim {c.HiddenDim}; expected the same.");
        if (c.EnforceInputProj) throw new PanoptesException("enforce_input_proj is true; expected false.");
        return c;
    }

    /// <param name="pixels">[b, channels, height, width], both sides at least 32</param>
    /// <param name="task">[b, task_seq_len]: the token ids of "the task is panoptic", padded with zeros</param>
    public OneFormerOutput Forward(Tensor pixels, Tensor task)
    {
        if (task.dim() != 2 || task.shape[1] != config.TaskSeqLen) throw new PanoptesException($"A task is [{string.Join(", ", task.shape)}]; expected [images, {config.TaskSeqLen}] token ids.");
        using var scope = NewDisposeScope();
        var (features, levels) = Model.PixelLevelModule.Decoder.Forward(Model.PixelLevelModule.Encoder.Forward(pixels));
        var token = Model.TaskEncoder.TaskMlp.Forward(task.to(features.dtype));
        var (first, last, predictions) = Model.TransformerModule.Forward(features, levels, token);
        foreach (var (classes, masks) in predictions) (_, _) = (classes.MoveToOuterDisposeScope(), masks.MoveToOuterDisposeScope());
        return new(predictions, token.MoveToOuterDisposeScope(), first.MoveToOuterDisposeScope(), last.MoveToOuterDisposeScope());
    }

    /// <summary>The loss of every prediction together (of the last alone without use_auxiliary_loss; see <see cref="MaskLoss"/>), and, where there is a text encoder, how well queries and texts agree.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="task">[b, task_seq_len] token ids</param>
    /// <param name="targets">One an image.</param>
    /// <param name="texts">[b, queries - learned, context] token ids of "a photo with a cat", one a thing, filled up with texts for nothing; needed where is_training</param>
    /// <param name="generator">Draws points; null: libtorch's own.</param>
    /// <returns>a scalar</returns>
    public Tensor Loss(Tensor pixels, Tensor task, IReadOnlyList<MaskTarget> targets, Tensor? texts = null, Generator? generator = null)
    {
        using var scope = NewDisposeScope();
        var output = Forward(pixels, task);
        var loss = MaskLoss.Total(config.UseAuxiliaryLoss ? output.Predictions : [output.Predictions[^1]], targets, config.Loss, generator);
        if (Model.TextMapper is not { } mapper || LogitScale is not { } scale) return loss.MoveToOuterDisposeScope();
        if (texts is null) throw new PanoptesException("No texts were given to a OneFormer whose is_training is true; expected one a query.");
        var described = mapper.Forward(texts);
        if (described.shape[1] != config.NumQueries)
            throw new PanoptesException($"{texts.shape[1]} texts were given to a OneFormer of {config.NumQueries} queries and {config.TextEncoderNCtx} learned ones; expected {config.NumQueries - config.TextEncoderNCtx}.");
        return (loss + config.ContrastiveWeight * Contrast(output.FirstQueries, described, scale.Value)).MoveToOuterDisposeScope();
    }

    /// <summary>Contrastive loss of an image's queries and its texts against those of the batch's other images (section 3.3): cross-entropy over images plus that over texts.</summary>
    /// <param name="queries">[b, queries, width]</param>
    /// <param name="texts">[b, queries, width]</param>
    /// <param name="scale">A scalar: the logarithm of what similarities are multiplied by, at most log 100.</param>
    /// <returns>a scalar</returns>
    public static Tensor Contrast(Tensor queries, Tensor texts, Tensor scale)
    {
        using var scope = NewDisposeScope();
        var (image, text) = (Unit(queries), Unit(texts));
        var logits = text.matmul(image.t()) * scale.exp().clamp(max: 100).to(ScalarType.Float32);
        var own = arange(logits.shape[0], dtype: ScalarType.Int64, device: logits.device);
        return (nn.functional.cross_entropy(logits.t(), own) + nn.functional.cross_entropy(logits, own)).MoveToOuterDisposeScope();

        static Tensor Unit(Tensor x) => nn.functional.normalize(x.to(ScalarType.Float32).flatten(1), dim: -1);
    }

    MaskPrediction IMaskSegmenter.Predict(Tensor pixels, Tensor? task)
    {
        using var scope = NewDisposeScope();
        var last = Forward(pixels, task ?? throw new ArgumentNullException(nameof(task))).Predictions[^1];
        return new(last.Classes.MoveToOuterDisposeScope(), last.Masks.MoveToOuterDisposeScope());
    }
}
