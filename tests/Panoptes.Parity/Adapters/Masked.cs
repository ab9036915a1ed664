using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Parity.Adapters;

/// <summary>Hugging Face's ViTMAEForPreTraining, with the noise that decides the mask.</summary>
sealed class MaeAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "ViTMAEForPreTraining" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<MaeForPreTraining>(c.Folder);
        var mask = PatchMask.FromNoise(c.Input("noise"), model.Config.MaskRatio);
        var output = model.Reconstruct(c.Input("pixel_values"), mask, hiddenStates: true);
        yield return ("loss", output.Loss);
        yield return ("loss", model.Loss(c.Input("pixel_values"), mask));                          // the cheaper path of training
        yield return ("logits", output.Logits);
        yield return ("mask", output.Mask);
        yield return ("ids_restore", output.IdsRestore);
        for (var i = 0; i < output.Encoder.HiddenStates!.Count; i++) yield return ($"hidden_states.{i}", output.Encoder.HiddenStates[i]);
    }
}

/// <summary>Hugging Face's ViTMAEModel, with interpolated positions.</summary>
sealed class MaeEncoderAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "ViTMAEModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<MaeModel>(c.Folder);
        model.InterpolatePositions = c.Arguments.TryGetProperty("interpolate_pos_encoding", out var flag) && flag.GetBoolean();
        var mask = PatchMask.FromNoise(c.Input("noise"), model.Config.MaskRatio);
        yield return ("last_hidden_state", model.Forward(c.Input("pixel_values"), mask).LastHiddenState);
        yield return ("mask", mask.ToTensor());
        yield return ("ids_restore", mask.Restore());
    }
}

/// <summary>MAE's fixed positions, of every width and grid that an output is named after.</summary>
sealed class MaeSinCosAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "mae_sincos";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c) => c.OutputNames.Select(static name =>
    {
        var parts = name["dim".Length..].Split("_grid");
        var side = int.Parse(parts[1], System.Globalization.CultureInfo.InvariantCulture);
        return (name, Positions.SinCos(side, side, int.Parse(parts[0], System.Globalization.CultureInfo.InvariantCulture)));
    });
}

/// <summary>The files of MAE's own code: pretrained, and fine-tuned with either pooling.</summary>
sealed class MaeOriginalAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "MaskedAutoencoderViT" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var config = ModelFolder.ReadConfig<MaeOriginalConfig>(c.Folder);
        using (var model = (MaeForPreTraining)MaeOriginal.Load(c.File("model.safetensors"), config))
        {
            var mask = PatchMask.FromNoise(c.Input("noise"), c.Arguments.GetProperty("mask_ratio").GetDouble());
            var output = model.Reconstruct(c.Input("image"), mask);
            yield return ("latent", output.Encoder.LastHiddenState);
            yield return ("mask", output.Mask);
            yield return ("ids_restore", output.IdsRestore);
            yield return ("pred", output.Logits);
            yield return ("loss_plain", output.Loss);
            yield return ("patchified", model.Patchify(c.Input("image")).narrow(0, 0, 1).narrow(1, 0, c.Output("patchified").shape[1]));
            yield return ("unpatchified", model.Unpatchify(output.Logits).narrow(0, 0, 1));
            using var normalized = (MaeForPreTraining)MaeOriginal.Load(c.File("model.safetensors"), config with { NormPixLoss = true });
            yield return ("loss_normalised", normalized.Loss(c.Input("image"), mask));
        }
        foreach (var pooling in (string[])["global_pool", "class_token"])
        {
            using var tuned = (MaeForImageClassification)MaeOriginal.Load(c.File($"finetuned_{pooling}.safetensors"), config);
            yield return ($"features_{pooling}", tuned.Encode(c.Input("image")));
            yield return ($"logits_{pooling}", tuned.Logits(c.Input("image")));
        }
    }
}

/// <summary>MAE's own full-size files.</summary>
sealed class MaeOriginalLayouts : ILayoutAdapter
{
    public bool Matches(ParityLayout layout) => layout.Architecture == "MaskedAutoencoderViT";

    public Module Build(ParityLayout layout) => new MaeForPreTraining(ModelConfig.Parse<MaeOriginalConfig>(layout.Config.GetRawText(), layout.Name).ToMae());

    public IEnumerable<(string Key, long[] Shape)> Keys(Module model, ParityLayout layout)
    {
        foreach (var (key, parameter) in model.NamedParameters())
        {
            var (name, third) = MaeOriginal.Original(key);
            if (third is null or 0) yield return (name, third is null ? parameter.Shape : [3 * parameter.Shape[0], .. parameter.Shape.AsSpan(1)]);
        }
    }
}

/// <summary>Hugging Face's BeitForMaskedImageModeling.</summary>
sealed class BeitMaskedAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "BeitForMaskedImageModeling" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<BeitForMaskedImageModeling>(c.Folder);
        var (pixels, masked) = (c.Input("pixel_values"), c.Input("bool_masked_pos"));
        var output = model.Forward(pixels, masked, hiddenStates: true);
        var logits = model.Logits(output.LastHiddenState);
        yield return ("logits", logits);
        yield return ("loss", model.Loss(pixels, masked, c.Input("labels")));
        var tokens = zeros_like(masked, dtype: ScalarType.Int64);
        tokens[masked] = c.Input("labels");
        yield return ("loss", model.Loss(pixels, masked, tokens));                                 // as a tokenizer gives them
        for (var i = 0; i < output.HiddenStates!.Count; i++) yield return ($"hidden_states.{i}", output.HiddenStates[i]);
    }
}

/// <summary>Hugging Face's BeitModel, for images of any size.</summary>
sealed class BeitAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "BeitModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<BeitModel>(c.Folder);
        var output = model.Forward(c.Input("pixel_values"));
        yield return ("last_hidden_state", output.LastHiddenState);
        yield return ("pooler_output", output.Pooled);
        yield return ("pooler_output", model.Encode(c.Input("pixel_values")));
    }
}

/// <summary>Hugging Face's BeitForSemanticSegmentation.</summary>
sealed class BeitSegmentationAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "BeitForSemanticSegmentation" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<BeitForSemanticSegmentation>(c.Folder);
        yield return ("logits", model.Forward(c.Input("pixel_values")));
        yield return ("loss", model.Loss(c.Input("pixel_values"), c.Input("labels")));
    }
}

/// <summary>BEiT-3 with all its heads, or the bare network.</summary>
sealed class Beit3Adapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "BEiT3" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var config = ModelFolder.ReadConfig<Beit3Config>(c.Folder);
        var (image, text, masked, own) = (c.Input("image"), c.Input("text"), c.Input("masked"), 1 - c.Input("text_padding"));
        using (var model = Load(new Beit3Model(config)))
        {
            var network = model.Beit3;
            yield return ("vision_only", network.Forward(image).Tokens);
            yield return ("vision_masked", network.Forward(image, masked: masked).Tokens);
            yield return ("text_only", network.Forward(null, text, own).Tokens);
            // Where the masked image has no output of its own, it is the one that is fused.
            var fused = network.Forward(image, text, own, c.HasOutput("vision_masked") ? null : masked, hiddenStates: true);
            yield return ("fused", fused.Tokens);
            for (var i = 0; i < fused.HiddenStates!.Count; i++) yield return ($"fused_states.{i}", fused.HiddenStates[i]);
            yield return ("fused_unpadded", network.Forward(image, text).Tokens);
        }
        if (!c.HasOutput("vqa_logits")) yield break;
        using (var model = Load(new Beit3ForRetrieval(config)))
        {
            var features = model.Features(image, text, own);
            yield return ("retrieval_vision", features.Image);
            yield return ("retrieval_vision", DualEncoder.Normalize(model.Images.Forward(image).Embedding));
            yield return ("retrieval_language", features.Text);
            yield return ("retrieval_language", DualEncoder.Normalize(model.Texts.Forward(text, own).Embedding));
            yield return ("retrieval_logits_per_image", features.Logits());
        }
        using (var model = Load(new Beit3ForVisualQuestionAnswering(config with { NumLabels = (int)c.Output("vqa_logits").shape[1] })))
        {
            yield return ("vqa_pooled", model.Pool(image, text, own));
            yield return ("vqa_logits", model.Logits(image, text, own));
        }
        using (var model = Load(new Beit3ForCaptioning(config)))
        {
            yield return ("caption_states", model.States(image, text, own));
            yield return ("caption_logits", model.Logits(image, text, own)[c.Input("lang_mask").ne(0)]);
            var (first, next) = (c.Arguments.GetProperty("incremental_first_length").GetInt64(), c.Input("incremental_positions").shape[1]);
            using var cache = new Beit3Cache((int)next);
            yield return ("caption_incremental_first", model.Logits(image, text.narrow(1, 0, first), cache: cache));
            yield return ("caption_incremental_next", model.Logits(null, text.narrow(1, first, next), cache: cache));
        }

        // The file holds every head.
        T Load<T>(T model) where T : Module
        {
            ModelFolder.Load(model, c.File("model.safetensors"), new() { Ignored = static key => !key.StartsWith("beit3.", StringComparison.Ordinal) });
            return model;
        }
    }
}

/// <summary>BEiT-3's full-size files, by the names of their tasks.</summary>
sealed class Beit3Layouts : ILayoutAdapter
{
    static readonly Dictionary<string, string> Architectures = new()
    {
        ["BEiT3Forclassification"] = "BEiT3ForImageClassification",
        ["BEiT3Fornlvr2"] = "BEiT3ForVisualReasoning",
        ["BEiT3Forvqa"] = "BEiT3ForVisualQuestionAnswering",
        ["BEiT3Forcaptioning"] = "BEiT3ForCaptioning",
        ["BEiT3Forretrieval"] = "BEiT3ForRetrieval",
    };

    public bool Matches(ParityLayout layout) => Architectures.ContainsKey(layout.Architecture);

    public Module Build(ParityLayout layout) => Models.All.Single(e => e.Architecture == Architectures[layout.Architecture])
        .Build(new(layout.Config.GetRawText(), layout.Name, key => layout.Keys.TryGetValue(key, out var entry) ? entry.Shape : null));
}

/// <summary>DALL-E's discrete VAE: tokens of images, and images of tokens.</summary>
sealed class DalleAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "Encoder, Decoder" && c.Peer.StartsWith("openai/DALL-E", StringComparison.Ordinal) && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = DalleDvae.Load(c.File("encoder.safetensors"), c.File("decoder.safetensors"), ModelFolder.ReadConfig<DalleDvaeConfig>(c.Folder));
        var mapped = DalleEncoder.MapPixels(c.Input("image"));
        yield return ("mapped", mapped);
        yield return ("logits", model.Encoder.Forward(mapped));
        var tokens = model.Tokenize(c.Input("image"));
        yield return ("indices", tokens);
        yield return ("decoder", model.Decoder.Forward(nn.functional.one_hot(tokens, model.VocabularySize).permute(0, 3, 1, 2).to(ScalarType.Float32)));
        yield return ("reconstruction", model.Decode(tokens));
    }
}

/// <summary>DALL-E's full-size encoder and decoder.</summary>
sealed class DalleLayouts : ILayoutAdapter
{
    public bool Matches(ParityLayout layout) => layout.Architecture is "Encoder" or "Decoder" && layout.Peer.StartsWith("openai/DALL-E", StringComparison.Ordinal);

    public Module Build(ParityLayout layout) => layout.Architecture == "Encoder"
        ? new DalleEncoder(ModelConfig.Parse<DalleEncoderConfig>(layout.Config.GetRawText(), layout.Name))
        : new DalleDecoder(ModelConfig.Parse<DalleDecoderConfig>(layout.Config.GetRawText(), layout.Name));
}
