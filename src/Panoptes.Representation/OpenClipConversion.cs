using Panoptes.Nn;

namespace Panoptes.Representation;

/// <summary>
/// The one place that knows how open_clip's (and OpenAI's) names correspond to Hugging Face's:
/// <code>
/// open_clip                              Hugging Face
/// visual.class_embedding                 vision_model.embeddings.class_embedding
/// visual.conv1.weight                    vision_model.embeddings.patch_embedding.weight
/// visual.positional_embedding            vision_model.embeddings.position_embedding.weight
/// visual.ln_pre, visual.ln_post          vision_model.pre_layrnorm, vision_model.post_layernorm
/// visual.proj [in, out]                  visual_projection.weight [out, in]
/// visual.transformer.resblocks.N         vision_model.encoder.layers.N
/// token_embedding.weight                 text_model.embeddings.token_embedding.weight
/// positional_embedding                   text_model.embeddings.position_embedding.weight
/// ln_final                               text_model.final_layer_norm
/// text_projection [in, out]              text_projection.weight [out, in]
/// transformer.resblocks.N                text_model.encoder.layers.N
///   ln_1, ln_2                             layer_norm1, layer_norm2
///   attn.in_proj_weight, in_proj_bias      self_attn.q_proj, k_proj, v_proj (stacked in this order)
///   attn.out_proj                          self_attn.out_proj
///   mlp.c_fc, mlp.c_proj                   mlp.fc1, mlp.fc2
/// </code>
/// </summary>
public static class OpenClipConversion
{
    const int EndOfText = 49407;                                                                   // of CLIP's own vocabulary

    /// <summary>The sizes of its text tower by Hugging Face's names; which token ends a text is the caller's to say.</summary>
    internal static ClipTextConfig TextConfig(OpenClipConfig c)
    {
        var t = c.TextCfg;
        return new()
        {
            HiddenSize = t.Width,
            IntermediateSize = (int)(t.Width * t.MlpRatio),
            NumHiddenLayers = t.Layers,
            NumAttentionHeads = t.Heads,
            VocabSize = t.VocabSize,
            MaxPositionEmbeddings = t.ContextLength,
            ProjectionDim = c.EmbedDim,
            LayerNormEps = t.NormKwargs?.Eps ?? 1e-5,
            HiddenAct = OpenClipVisual.Act(c, t.ActKwargs),
        };
    }

    /// <summary>The same model as Hugging Face's CLIP, with weights of its own.</summary>
    /// <exception cref="PanoptesException">It has parts that Hugging Face's CLIP does not have; the message names the first.</exception>
    public static ClipModel ToClip(OpenClipModel source)
    {
        using var scope = NewDisposeScope();
        var (c, v, t) = (source.Config, source.Config.VisionCfg, source.Config.TextCfg);
        Require(source.Visual is OpenClipVision, "an image tower that is no vision transformer");
        Require(v.LsInitValue is null && t.LsInitValue is null, "layer scale");
        Require(v.PoolType == "tok", $"the image pooling \"{v.PoolType}\"");
        Require(!v.NoLnPre, "no norm before the image transformer");
        Require(v.ImageSize[0] == v.ImageSize[^1], "images that are not square");
        Require(!t.NoCausalMask, "a text tower that is not causal");
        Require(t.PoolType == "argmax" || (t.PoolType == "eos" && t.EosId != 2), $"the text pooling \"{t.PoolType}\"");
        Require(t.ProjType == "linear" && !t.ProjBias, "a text projection that is no plain matrix");
        Require(c.InitLogitBias is null && !c.NonscalarLogitScale, "a bias of the logits");

        var (visual, text) = ((OpenClipVision)source.Visual, (OpenClipText)source.Texts);
        var model = new ClipModel(new()
        {
            ProjectionDim = c.EmbedDim,
            VisionConfig = new()
            {
                HiddenSize = v.Width,
                IntermediateSize = (int)(v.Width * v.MlpRatio),
                NumHiddenLayers = v.Layers[0],
                NumAttentionHeads = v.Width / v.HeadWidth,
                ImageSize = v.ImageSize[0],
                PatchSize = v.PatchSize ?? 16,
                ProjectionDim = c.EmbedDim,
                LayerNormEps = v.NormKwargs?.Eps ?? 1e-5,
                HiddenAct = OpenClipVisual.Act(c, v.ActKwargs),
            },
            TextConfig = TextConfig(c) with
            {
                // The largest id and the first end token are the same token in CLIP's own vocabulary; elsewhere 2 asks for the largest.
                EosTokenId = t.PoolType == "eos" ? t.EosId : t.VocabSize == EndOfText + 1 ? EndOfText : 2,
            },
        });
        foreach (var (from, to) in Pairs(visual, text, source.LogitScale, model)) to.Assign(Copy(from.Value));
        model.Vision.VisualProjection!.Weight.Assign(Copy(visual.Proj.Value.t()));
        model.Text.TextProjection!.Weight.Assign(Copy(text.TextProjection!.Value.t()));
        foreach (var (block, layer) in Blocks(visual, text, model))
        {
            var width = block.Ln1.Weight.Shape[0];
            Linear[] projections = [layer.SelfAttn.QProj, layer.SelfAttn.KProj, layer.SelfAttn.VProj];
            for (var i = 0; i < 3; i++)
            {
                projections[i].Weight.Assign(Copy(block.Attn.InProjWeight.Value.narrow(0, i * width, width)));
                projections[i].Bias!.Assign(Copy(block.Attn.InProjBias.Value.narrow(0, i * width, width)));
            }
        }
        return model;

        static void Require(bool holds, string what)
        {
            if (!holds) throw new PanoptesException($"The model has {what}, which Hugging Face's CLIP does not; it can only be kept as an open_clip model.");
        }
    }

    /// <summary>The same model under open_clip's names, with weights of its own.</summary>
    /// <exception cref="PanoptesException">It has parts that open_clip's CLIP does not have; the message names the first.</exception>
    public static OpenClipModel FromClip(ClipModel source)
    {
        using var scope = NewDisposeScope();
        var (v, t) = (source.Config.Vision, source.Config.Text);
        if (v.HiddenAct is not (Activation.Gelu or Activation.QuickGelu or Activation.GeluTanh) || v.HiddenAct != t.HiddenAct)
            throw new PanoptesException($"The towers' activations are {v.HiddenAct} and {t.HiddenAct}; open_clip's CLIP has one GELU for both.");
        if (v.NumChannels != 3) throw new PanoptesException($"The image tower takes {v.NumChannels} channels; open_clip's takes 3.");
        var options = v.HiddenAct == Activation.GeluTanh ? new OpenClipActivation { Approximate = "tanh" } : null;
        var model = new OpenClipModel(new()
        {
            EmbedDim = source.Config.ProjectionDim,
            QuickGelu = v.HiddenAct == Activation.QuickGelu,
            VisionCfg = new()
            {
                Layers = [v.NumHiddenLayers],
                Width = v.HiddenSize,
                HeadWidth = v.HiddenSize / v.NumAttentionHeads,
                PatchSize = v.PatchSize,
                ImageSize = [v.ImageSize],
                MlpRatio = Ratio(v.IntermediateSize, v.HiddenSize),
                NormKwargs = new() { Eps = v.LayerNormEps },
                ActKwargs = options,
            },
            TextCfg = new()
            {
                ContextLength = t.MaxPositionEmbeddings,
                VocabSize = t.VocabSize,
                Width = t.HiddenSize,
                Heads = t.NumAttentionHeads,
                Layers = t.NumHiddenLayers,
                MlpRatio = Ratio(t.IntermediateSize, t.HiddenSize),
                NormKwargs = new() { Eps = t.LayerNormEps },
                ActKwargs = options,
                PoolType = t.EosTokenId == 2 || t.EosTokenId == t.VocabSize - 1 ? "argmax" : "eos",
                EosId = t.EosTokenId,
            },
        });
        var (visual, text) = ((OpenClipVision)model.Visual, (OpenClipText)model.Texts);
        foreach (var (to, from) in Pairs(visual, text, model.LogitScale, source)) to.Assign(Copy(from.Value));
        visual.Proj.Assign(Copy(source.Vision.VisualProjection!.Weight.Value.t()));
        text.TextProjection!.Assign(Copy(source.Text.TextProjection!.Weight.Value.t()));
        foreach (var (block, layer) in Blocks(visual, text, source))
        {
            using var noGrad = no_grad();
            var attention = layer.SelfAttn;
            block.Attn.InProjWeight.Assign(cat([attention.QProj.Weight.Value, attention.KProj.Weight.Value, attention.VProj.Weight.Value]));
            block.Attn.InProjBias.Assign(cat([attention.QProj.Bias!.Value, attention.KProj.Bias!.Value, attention.VProj.Bias!.Value]));
        }
        return model;
    }

    /// <summary>The ratio from which open_clip, rounding down, gets <paramref name="hidden"/> back.</summary>
    static double Ratio(int hidden, int width)
    {
        var ratio = (double)hidden / width;
        return (int)(width * ratio) == hidden ? ratio : Math.BitIncrement(ratio);
    }

    static Tensor Copy(Tensor tensor)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        return tensor.detach().contiguous().clone().MoveToOuterDisposeScope();
    }

    static IEnumerable<(OpenClipBlock Block, EncoderLayer Layer)> Blocks(OpenClipVision visual, OpenClipText text, ClipModel clip) =>
        visual.Transformer.Resblocks.Zip(clip.Vision.VisionModel.Encoder.Layers).Concat(text.Transformer.Resblocks.Zip(clip.Text.TextModel.Encoder.Layers));

    /// <summary>Everything that is the same tensor under both names.</summary>
    static List<(Parameter OpenClip, Parameter Clip)> Pairs(OpenClipVision visual, OpenClipText text, Parameter logitScale, ClipModel clip)
    {
        var (image, words) = (clip.Vision.VisionModel, clip.Text.TextModel);
        List<(Parameter, Parameter)> pairs =
        [
            (logitScale, clip.LogitScale),
            (visual.ClassEmbedding, image.Embeddings.ClassEmbedding),
            (visual.Conv1.Weight, image.Embeddings.PatchEmbedding.Weight),
            (visual.PositionalEmbedding, image.Embeddings.PositionEmbedding.Weight),
            (text.TokenEmbedding.Weight, words.Embeddings.TokenEmbedding.Weight),
            (text.PositionalEmbedding, words.Embeddings.PositionEmbedding.Weight),
        ];
        Norms(visual.LnPre!, image.PreLayrnorm);
        Norms(visual.LnPost, image.PostLayernorm);
        Norms(text.LnFinal, words.FinalLayerNorm);
        foreach (var (block, layer) in Blocks(visual, text, clip))
        {
            Norms(block.Ln1, layer.LayerNorm1);
            Norms(block.Ln2, layer.LayerNorm2);
            Linears(block.Attn.OutProj, layer.SelfAttn.OutProj);
            Linears(block.Mlp.CFc, layer.Mlp.Fc1);
            Linears(block.Mlp.CProj, layer.Mlp.Fc2);
        }
        return pairs;

        void Norms(LayerNorm a, LayerNorm b) => pairs.AddRange([(a.Weight, b.Weight), (a.Bias, b.Bias)]);

        void Linears(Linear a, Linear b) => pairs.AddRange([(a.Weight, b.Weight), (a.Bias!, b.Bias!)]);
    }
}
