using System.Text.Json;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

/// <summary>Models that begin with the towers of a trained CLIP, so that they know images and names before they learn to point at anything.</summary>
public static class ClipTowers
{
    /// <summary>The text tower's config as these models have it.</summary>
    /// <exception cref="PanoptesException">A part that they do not have.</exception>
    static ClipTextConfig TextConfig(OpenClipModel clip)
    {
        var t = clip.Config.TextCfg;
        if (t.LsInitValue is not null || t.NoCausalMask || t.PoolType != "argmax") throw new PanoptesException($"The CLIP's text tower {(t.NoCausalMask ? "is not causal" : t.LsInitValue is not null ? "has layer scale" : $"pools by \"{t.PoolType}\"")}; expected a plain causal one that is pooled at its end token.");
        return OpenClipConversion.TextConfig(clip.Config) with { EosTokenId = 2 };    // at the largest id, which is the end's
    }

    /// <summary>The same model with towers like a CLIP's. Its projection is as wide as the CLIP's table of words.</summary>
    /// <returns>A config of the given one's own kind.</returns>
    /// <exception cref="PanoptesException">The CLIP's text tower has a part that this model's does not.</exception>
    public static T WithTowersOf<T>(T config, OpenClipModel clip) where T : XDecoderModelConfig
    {
        XDecoderModelConfig changed = config;
        changed = changed with
        {
            BackboneConfig = Json(clip),
            TextConfig = TextConfig(clip),
            DecoderConfig = config.DecoderConfig with { ProjectionSize = clip.Config.TextCfg.Width, ContextLength = Math.Min(config.DecoderConfig.ContextLength, clip.Config.TextCfg.ContextLength) },
            CaptionStartTokenId = clip.Config.TextCfg.VocabSize - 2,
            CaptionEndTokenId = clip.Config.TextCfg.VocabSize - 1,
        };
        return (T)changed;
    }

    /// <inheritdoc cref="WithTowersOf{T}(T, OpenClipModel)"/>
    public static UniPerceiverConfig WithTowersOf(UniPerceiverConfig config, OpenClipModel clip) => config with
    {
        BackboneConfig = Json(clip),
        TextConfig = TextConfig(clip),
        CaptionStartTokenId = clip.Config.TextCfg.VocabSize - 2,
        CaptionEndTokenId = clip.Config.TextCfg.VocabSize - 1,
    };

    static JsonElement Json(OpenClipModel clip)
    {
        using var json = JsonDocument.Parse(clip.Config.ToJson());
        return json.RootElement.Clone();
    }

    /// <summary>An X-Decoder that begins with a CLIP's towers; everything else is drawn.</summary>
    /// <param name="config">Made by <see cref="WithTowersOf{T}(T, OpenClipModel)"/>.</param>
    /// <param name="clip">Stays the caller's.</param>
    /// <param name="generator">Of everything else.</param>
    public static XDecoderModel XDecoder(XDecoderModelConfig config, OpenClipModel clip, Generator generator) => Begun(new XDecoderModel(config, OpenClipVisual.Create(clip.Config)), generator, m => Take(m, clip));

    /// <inheritdoc cref="XDecoder"/>
    public static SeemModel Seem(SeemModelConfig config, OpenClipModel clip, Generator generator) => Begun(new SeemModel(config, OpenClipVisual.Create(clip.Config)), generator, m => Take(m.XDecoder, clip));

    /// <inheritdoc cref="XDecoder"/>
    public static UniPerceiverModel UniPerceiver(UniPerceiverConfig config, OpenClipModel clip, Generator generator) => Begun(new UniPerceiverModel(config, OpenClipVisual.Create(clip.Config)), generator, m =>
    {
        Copy(clip.Visual, m.Pyramid.Backbone);
        Copy((OpenClipText)clip.Texts, m.TextModel);
    });

    static T Begun<T>(T model, Generator generator, Action<T> take) where T : Module
    {
        model.Initialize(generator);
        take(model);
        return model;
    }

    static void Take(XDecoderModel model, OpenClipModel clip)
    {
        Copy(clip.Visual, model.Pyramid.Backbone);
        var text = (OpenClipText)clip.Texts;
        Copy(text, model.Texts.LangEncoder);
        // Texts are compared where they were compared with images, if that space is as wide.
        if (text.TextProjection is { } projection && projection.Shape.SequenceEqual(model.Texts.LangProj.Shape)) Copy(projection, model.Texts.LangProj);
    }

    /// <summary>The weights of one into another of the same config.</summary>
    internal static void Copy(Module from, Module to)
    {
        foreach (var ((_, source), (_, target)) in from.NamedParameters().Zip(to.NamedParameters())) Copy(source, target);
    }

    static void Copy(Tensor from, Parameter to)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        to.Assign(from.detach().to(ScalarType.Float32).clone());
    }

    static void Copy(OpenClipText from, ClipTextTransformer to)
    {
        Copy(from.TokenEmbedding, to.Embeddings.TokenEmbedding);
        Copy(from.PositionalEmbedding, to.Embeddings.PositionEmbedding.Weight);
        Copy(from.LnFinal, to.FinalLayerNorm);
        foreach (var (block, layer) in from.Transformer.Resblocks.Zip(to.Encoder.Layers))
        {
            Copy(block.Ln1, layer.LayerNorm1);
            Copy(block.Ln2, layer.LayerNorm2);
            Copy(block.Attn.OutProj, layer.SelfAttn.OutProj);
            Copy(block.Mlp.CFc, layer.Mlp.Fc1);
            Copy(block.Mlp.CProj, layer.Mlp.Fc2);
            var width = block.Ln1.Weight.Shape[0];
            foreach (var (projection, i) in new[] { layer.SelfAttn.QProj, layer.SelfAttn.KProj, layer.SelfAttn.VProj }.Select(static (p, i) => (p, i)))
            {
                using var scope = NewDisposeScope();
                Copy(block.Attn.InProjWeight.Value.narrow(0, i * width, width), projection.Weight);
                Copy(block.Attn.InProjBias.Value.narrow(0, i * width, width), projection.Bias!);
            }
        }
    }
}
