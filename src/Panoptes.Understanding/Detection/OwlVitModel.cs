using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

// OWL-ViT (Minderer et al. 2022, arXiv:2205.06230) with the keys and the config.json of Hugging Face's OwlViTForObjectDetection: a CLIP whose every patch names a thing and says where it is.

/// <summary>The text tower's config ("owlvit_text_model"): CLIP's for short texts, pooled at the largest id whatever eos_token_id says.</summary>
public sealed record OwlVitTextConfig : ClipTextConfig
{
    public OwlVitTextConfig() => (MaxPositionEmbeddings, PadTokenId, ModelType) = (16, 0, "owlvit_text_model");
}

/// <summary>The image tower's config ("owlvit_vision_model"): CLIP's for other images.</summary>
public sealed record OwlVitVisionConfig : ClipVisionConfig
{
    public OwlVitVisionConfig() => (ImageSize, ModelType) = (768, "owlvit_vision_model");
}

/// <summary>Both towers ("owlvit").</summary>
public sealed record OwlVitConfig : ModelConfig
{
    public OwlVitTextConfig TextConfig { get; init; } = new();
    public OwlVitVisionConfig VisionConfig { get; init; } = new();
    public int ProjectionDim { get; init; } = 512;
    public double LogitScaleInitValue { get; init; } = 2.6592;
    public string ModelType { get; init; } = "owlvit";
    public string[] Architectures { get; init; } = ["OwlViTForObjectDetection"];
}

/// <summary>The image transformer. Keys: embeddings, pre_layernorm, encoder, post_layernorm.</summary>
public sealed class OwlVitVisionTransformer(OwlVitVisionConfig c) : Module
{
    public ClipVisionEmbeddings Embeddings { get; } = new(c);

    public LayerNorm PreLayernorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    public Encoder Encoder { get; } = new(c.NumHiddenLayers, c.HiddenSize, c.NumAttentionHeads, c.IntermediateSize, c.HiddenAct, c.LayerNormEps,
        ClipInit.Encoder(c.HiddenSize, c.NumHiddenLayers, c.InitializerFactor));

    public LayerNorm PostLayernorm { get; } = new(c.HiddenSize, c.LayerNormEps);

    /// <returns>[b, 1 + patches, width] after the last norm, the class token first</returns>
    public Tensor Forward(Tensor pixels, bool interpolate)
    {
        using var scope = NewDisposeScope();
        return PostLayernorm.Forward(Encoder.Forward(PreLayernorm.Forward(Embeddings.Forward(pixels, interpolate)))).MoveToOuterDisposeScope();
    }
}

/// <summary>The towers. Keys: text_model, vision_model, visual_projection, text_projection, logit_scale (the last of these and the first projection are for pre-training alone).</summary>
public sealed class OwlVitModel(OwlVitConfig c) : Module
{
    public ClipTextTransformer TextModel { get; } = new(c.TextConfig with { EosTokenId = 2 });

    public OwlVitVisionTransformer VisionModel { get; } = new(c.VisionConfig);

    public Linear VisualProjection { get; } = new(c.VisionConfig.HiddenSize, c.ProjectionDim, bias: false, Init.Normal(1 / Math.Sqrt(c.VisionConfig.HiddenSize)));

    public Linear TextProjection { get; } = new(c.TextConfig.HiddenSize, c.ProjectionDim, bias: false, Init.Normal(1 / Math.Sqrt(c.TextConfig.HiddenSize)));

    public Parameter LogitScale { get; } = new([], Init.Constant(c.LogitScaleInitValue));
}

/// <summary>What every patch stands for, and how sure it is. Keys: dense0, logit_shift, logit_scale.</summary>
public sealed class OwlVitClassHead(OwlVitConfig c) : Module
{
    public Linear Dense0 { get; } = new(c.VisionConfig.HiddenSize, c.TextConfig.HiddenSize);

    public Linear LogitShift { get; } = new(c.VisionConfig.HiddenSize, 1);

    public Linear LogitScale { get; } = new(c.VisionConfig.HiddenSize, 1);

    /// <param name="tokens">[b, patches, width]</param>
    /// <param name="queries">[b, queries, size]</param>
    /// <returns>(cosine + shift) · scale, [b, patches, queries]; the patches' embeddings of length 1, [b, patches, size]</returns>
    internal (Tensor Logits, Tensor Embeddings) Forward(Tensor tokens, Tensor queries)
    {
        using var scope = NewDisposeScope();
        var own = Unit(Dense0.Forward(tokens));
        var logits = (own.matmul(Unit(queries).transpose(-1, -2)) + LogitShift.Forward(tokens)) * (nn.functional.elu(LogitScale.Forward(tokens), 1) + 1);
        return (logits.MoveToOuterDisposeScope(), own.MoveToOuterDisposeScope());
    }

    static Tensor Unit(Tensor x) => x / (x.norm(-1, keepdim: true) + 1e-6);
}

/// <summary>Where the thing of every patch is. Keys: dense0, dense1, dense2.</summary>
public sealed class OwlVitBoxHead(OwlVitConfig c) : Module
{
    public Linear Dense0 { get; } = new(c.VisionConfig.HiddenSize, c.VisionConfig.HiddenSize);

    public Linear Dense1 { get; } = new(c.VisionConfig.HiddenSize, c.VisionConfig.HiddenSize);

    public Linear Dense2 { get; } = new(c.VisionConfig.HiddenSize, 4);

    internal Tensor Forward(Tensor tokens) => Dense2.Forward(Dense1.Forward(Dense0.Forward(tokens, Activation.Gelu), Activation.Gelu));
}

/// <summary>What <see cref="OwlVitForObjectDetection"/> finds.</summary>
/// <param name="Logits">[b, patches, queries]; a query that is padding has the lowest float32.</param>
/// <param name="Boxes">[b, patches, 4]: center x, center y, width, height, as fractions of the image.</param>
/// <param name="ClassEmbeds">[b, patches, embedding], of length 1: what each patch stands for.</param>
public sealed record OwlVitOutput(Tensor Logits, Tensor Boxes, Tensor ClassEmbeds);

/// <summary>OWL-ViT. Keys: owlvit, class_head, box_head, layer_norm.</summary>
public sealed class OwlVitForObjectDetection : Module
{
    // What the box of a patch is before the model has learned anything: about the patch itself, before the sigmoid. [rows · columns, 4]
    readonly SizeCache<(int Rows, int Columns)> biases = new(static g =>
    {
        var (x, y) = (arange(1, g.Columns + 1).to(ScalarType.Float32) / g.Columns, arange(1, g.Rows + 1).to(ScalarType.Float32) / g.Rows);
        var boxes = stack([x.expand(g.Rows, -1), y.unsqueeze(1).expand(-1, g.Columns), full_like(x, 1f / g.Columns).expand(g.Rows, -1), full_like(x, 1f / g.Rows).expand(g.Rows, -1)], -1).view(-1, 4);
        return (boxes + 1e-4).log() - (-boxes + 1e-4).log1p();
    });

    public OwlVitForObjectDetection(OwlVitConfig config)
    {
        if (config.TextConfig.HiddenSize != config.ProjectionDim)
            throw new PanoptesException($"projection_dim is {config.ProjectionDim} and text_config.hidden_size {config.TextConfig.HiddenSize}; expected as many.");
        Config = config;
        Owlvit = new(config);
        ClassHead = new(config);
        BoxHead = new(config);
        LayerNorm = new(config.VisionConfig.HiddenSize, config.VisionConfig.LayerNormEps);
    }

    public OwlVitConfig Config { get; }

    public OwlVitModel Owlvit { get; }

    public OwlVitClassHead ClassHead { get; }

    public OwlVitBoxHead BoxHead { get; }

    public LayerNorm LayerNorm { get; }

    /// <summary>Whether images of other sizes than the config's are taken, with positions resized to them.</summary>
    public bool InterpolatePositions { get; set; }

    /// <summary>All that detection needs of an image, for any number of calls of <see cref="Detect"/>.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <returns>[b, rows, columns, width]: the patches, each multiplied by the class token and normalized</returns>
    public Tensor EncodeImages(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var tokens = Owlvit.VisionModel.Forward(pixels, InterpolatePositions);
        var map = LayerNorm.Forward(tokens.narrow(1, 1, tokens.shape[1] - 1) * tokens.narrow(1, 0, 1));
        return map.unflatten(1, [pixels.shape[2] / Config.VisionConfig.PatchSize, pixels.shape[3] / Config.VisionConfig.PatchSize]).MoveToOuterDisposeScope();
    }

    /// <param name="ids">[texts, tokens] int64</param>
    /// <param name="mask">[texts, tokens], 0 where padding; or null</param>
    /// <returns>[texts, embedding], of length 1</returns>
    public Tensor EncodeTexts(Tensor ids, Tensor? mask = null)
    {
        using var scope = NewDisposeScope();
        var texts = Owlvit.TextProjection.Forward(Owlvit.TextModel.ForwardPooled(ids, mask));
        return (texts / texts.norm(-1, keepdim: true)).MoveToOuterDisposeScope();
    }

    /// <summary>Every patch's likeness to each query, and its box.</summary>
    /// <param name="map">Of <see cref="EncodeImages"/>.</param>
    /// <param name="queries">[b, queries, embedding] of <see cref="EncodeTexts"/>, or [queries, embedding] for all images alike.</param>
    /// <param name="present">[b, queries] bool, false where a query is padding; or null</param>
    public OwlVitOutput Detect(Tensor map, Tensor queries, Tensor? present = null)
    {
        using var scope = NewDisposeScope();
        var tokens = map.flatten(1, 2);
        var (logits, embeddings) = ClassHead.Forward(tokens, queries.dim() == 2 ? queries.unsqueeze(0) : queries);
        if (present is not null) logits = logits.masked_fill(present.logical_not().unsqueeze(1), float.MinValue);
        return new(logits.MoveToOuterDisposeScope(), Place(map).MoveToOuterDisposeScope(), embeddings.MoveToOuterDisposeScope());
    }

    /// <summary>Everything at once.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="ids">[b · queries, tokens] int64; a query whose first id is 0 is padding.</param>
    /// <param name="mask">[b · queries, tokens], 0 where padding; or null</param>
    /// <exception cref="PanoptesException">The images do not have equally many queries.</exception>
    public OwlVitOutput Forward(Tensor pixels, Tensor ids, Tensor? mask = null)
    {
        var batch = pixels.shape[0];
        if (ids.shape[0] % batch != 0) throw new PanoptesException($"{ids.shape[0]} texts were given for {batch} images; expected equally many for each.");
        using var scope = NewDisposeScope();
        var output = Detect(EncodeImages(pixels), EncodeTexts(ids, mask).view(batch, -1, Config.ProjectionDim), ids.select(1, 0).view(batch, -1).gt(0));
        return new(output.Logits.MoveToOuterDisposeScope(), output.Boxes.MoveToOuterDisposeScope(), output.ClassEmbeds.MoveToOuterDisposeScope());
    }

    /// <summary>What is searched for where an image shows it: of the patches whose boxes fill that image best, what the one stands for that is least like the image as a whole.</summary>
    /// <param name="map">[b, rows, columns, width] of <see cref="EncodeImages"/></param>
    /// <returns>[b, 1, embedding], as queries of <see cref="Detect"/>, and every patch's box [b, patches, 4]</returns>
    public (Tensor Queries, Tensor Boxes) EncodeExamples(Tensor map)
    {
        using var scope = NewDisposeScope();
        var (embeddings, boxes) = (ClassHead.Dense0.Forward(map.flatten(1, 2)), Place(map));
        var (corners, whole) = (Boxes.ToCorners(boxes), tensor(new[] { 0f, 0, 1, 1 }, [1, 1, 4]).to(map.device));
        var fit = Boxes.Iou(whole, corners).squeeze(1);                                           // [b, patches]
        fit = where(fit.eq(0).all(-1, keepdim: true), Boxes.GeneralizedIou(whole, corners).squeeze(1), fit);
        var best = fit.amax([-1], keepdim: true);
        var likeness = (embeddings * embeddings.mean([1], keepdim: true)).sum(-1);
        // Within 80 % of the best; a best below zero is worse the farther it is from it.
        var chosen = likeness.masked_fill(fit.lt(where(best.gt(0), best * 0.8, best * 1.25)), double.PositiveInfinity).argmin(-1);
        return (Encoder.TokenAt(embeddings, chosen).MoveToOuterDisposeScope(), boxes.MoveToOuterDisposeScope());
    }

    /// <summary>Finds what is like the thing that another image shows.</summary>
    /// <param name="pixels">[b, channels, height, width]</param>
    /// <param name="examples">[b, channels, height, width], one for each image.</param>
    /// <returns>What was found, of one query; and the boxes in the examples, [b, patches, 4]</returns>
    public (OwlVitOutput Found, Tensor ExampleBoxes) ForwardByExample(Tensor pixels, Tensor examples)
    {
        using var scope = NewDisposeScope();
        var (queries, boxes) = EncodeExamples(EncodeImages(examples));
        var found = Detect(EncodeImages(pixels), queries);
        return (new(found.Logits.MoveToOuterDisposeScope(), found.Boxes.MoveToOuterDisposeScope(), found.ClassEmbeds.MoveToOuterDisposeScope()), boxes.MoveToOuterDisposeScope());
    }

    Tensor Place(Tensor map)
    {
        using var scope = NewDisposeScope();
        var change = BoxHead.Forward(map.flatten(1, 2));
        return (change.to(ScalarType.Float32) + biases.Get(((int)map.shape[1], (int)map.shape[2])).to(change.device)).sigmoid().MoveToOuterDisposeScope();
    }

    protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        if (disposing) biases.Dispose();
    }
}
