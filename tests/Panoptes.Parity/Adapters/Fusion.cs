using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Panoptes.Audio;
using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Objectives;

namespace Panoptes.Parity.Adapters;

/// <summary>open_clip's CoCa with its loss.</summary>
sealed class CoCaAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "CoCa" && c.Call == "forward + CoCaLoss";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<CoCaModel>(c.Folder);
        var output = model.Forward(c.Input("image"), c.Input("text"));
        yield return ("image_latent", output.Pairs.Image);
        yield return ("text_latent", output.Pairs.Text);
        yield return ("logits", output.Logits);
        yield return ("labels", output.Labels);
        yield return ("image_embs", output.ImageTokens);
        yield return ("token_embs", output.TextTokens);
        yield return ("logit_scale", output.Pairs.Scale);
        yield return ("contrastive_loss", ContrastiveLoss.Of(output.Pairs) * CoCaLossAdapter.Weight(c, "clip_loss_weight"));
        yield return ("caption_loss", CaptioningLoss.Of(output.Logits, output.Labels, model.Config.TextCfg.PadId) * CoCaLossAdapter.Weight(c, "caption_loss_weight"));

        // The cheaper path of search must agree as well.
        var features = model.Features(c.Input("image"), c.Input("text"));
        yield return ("image_latent", features.Image);
        yield return ("text_latent", features.Text);
    }
}

/// <summary>CoCa's loss with the gradients of all that it is given.</summary>
sealed class CoCaLossAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "CoCaLoss" && c.Call == "function";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var grad = enable_grad();
        var given = c.InputNames.Where(static n => n != "labels").ToDictionary(static n => n, n => c.Input(n).clone().requires_grad_(true));
        var contrastive = ContrastiveLoss.Of(new(given["image_features"], given["text_features"], given["logit_scale"])) * Weight(c, "clip_loss_weight");
        var caption = CaptioningLoss.Of(given["logits"], c.Input("labels"), c.Arguments.GetProperty("pad_id").GetInt32()) * Weight(c, "caption_loss_weight");
        var loss = contrastive + caption;
        loss.backward();
        yield return ("loss", loss.detach());
        yield return ("contrastive_loss", contrastive.detach());
        yield return ("caption_loss", caption.detach());
        foreach (var (name, tensor) in given) yield return ($"grad_{name}", tensor.grad!);
    }

    internal static double Weight(ParityCase c, string name) => c.Arguments.GetProperty(name).GetDouble();
}

/// <summary>timm's Eva alone, whatever it was trained for.</summary>
sealed class EvaAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "Eva" && c.Call == "forward_features / forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = Models.Load<TimmEva>(c.Folder);
        var output = model.Forward(c.Input("x"));
        yield return ("features", output.LastHiddenState);
        yield return ("pre_logits", output.Pooled);
        yield return ("output", model.Classify(c.Input("x")));
        yield return (output.Embedding.shape[1] == output.Pooled.shape[1] ? "pre_logits" : "output", model.Encode(c.Input("x")));
    }
}

/// <summary>ImageBind's six towers, from tokens to embeddings.</summary>
sealed class ImageBindAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "ImageBindModel" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        // The sizes that the peer has as plain numbers are among the arguments.
        var config = JsonNode.Parse(File.ReadAllText(c.File("config.json")))!.AsObject();
        foreach (var size in (string[])["image_size", "vocab_size", "context_length", "imu_length"]) config[size] = c.Arguments.GetProperty(size).GetInt32();
        using var model = new ImageBindModel(ModelConfig.Parse<ImageBindConfig>(config.ToJsonString(), c.Name));
        ModelFolder.Load(model, c.Folder);
        foreach (var entry in c.Arguments.GetProperty("modality_of_input").EnumerateObject())
        {
            var (name, modality, input) = (entry.Name, Enum.Parse<Modality>(entry.Value.GetString()!, ignoreCase: true), c.Input(entry.Name));
            yield return ($"embedding.{name}", model.Embed(modality, input));
            var tower = model.Tower(modality);
            var clips = input.dim() >= 5 ? input.flatten(0, 1) : input;
            var output = tower.Forward(clips);
            yield return ($"tokens.{name}", tower.Input.Forward(clips));
            yield return ($"trunk.{name}", output.LastHiddenState);
            yield return ($"head.{name}", output.Embedding);
            yield return ($"head.{name}", tower.Encode(clips));
        }
    }
}

/// <summary>ImageBind's loss with the gradients of all that it is given.</summary>
sealed class ImageBindLossAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Name == "loss_imagebind";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var grad = enable_grad();
        var given = c.InputNames.ToDictionary(static n => n, n => c.Input(n).clone().requires_grad_(true));
        var images = DualEncoder.Normalize(given["vision"]);
        var loss = zeros([]);
        foreach (var name in given.Keys.Where(static n => n != "vision" && !n.StartsWith("log_scale_", StringComparison.Ordinal)))
        {
            var (others, scale) = (DualEncoder.Normalize(given[name]), given[$"log_scale_{name}"]);
            var part = ImageBindLoss.Of(images, others, scale);
            loss += part;
            yield return ($"logits_{name}", ImageBindLoss.Logits(images, others, scale).detach());
            yield return ($"loss_{name}", part.detach());
        }
        loss.backward();
        yield return ("loss", loss.detach());
        foreach (var (name, tensor) in given) yield return ($"grad_{name}", tensor.grad!);
    }
}

/// <summary>ImageBind's audio: the filter bank, the whole of its preprocessing, resampling, and where clips lie.</summary>
sealed class ImageBindAudioAdapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "waveform2melspec" && c.Call == "load_and_transform_audio_data";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        var a = c.Arguments;
        var filters = new MelFilterBank
        {
            SampleRate = a.GetProperty("sample_rate").GetInt32(),
            Bands = a.GetProperty("num_mel_bins").GetInt32(),
            FrameMilliseconds = a.GetProperty("frame_length_ms").GetDouble(),
            ShiftMilliseconds = a.GetProperty("frame_shift_ms").GetDouble(),
        };
        var processor = new SpectrogramProcessor
        {
            Filters = filters,
            TargetLength = a.GetProperty("target_length").GetInt32(),
            Mean = a.GetProperty("mean").GetDouble(),
            Std = a.GetProperty("std").GetDouble(),
            ClipSeconds = a.GetProperty("clip_duration").GetDouble(),
        };
        CheckClips(a.GetProperty("clip_timepoints_of_duration_and_clips"), processor);
        foreach (var name in c.OutputNames.Where(static n => n.StartsWith("melspec_normalised.", StringComparison.Ordinal)))
            yield return (name, processor.Spectrogram(Sound(c, name["melspec_normalised.".Length..], filters.SampleRate)));
        foreach (var name in c.OutputNames.Where(static n => n.StartsWith("fbank.", StringComparison.Ordinal)))
        {
            var sound = Sound(c, name["fbank.".Length..], filters.SampleRate);
            var mean = sound.Channels.SelectMany(static s => s).Average(static s => (double)s);
            yield return (name, filters.Compute([.. sound.Channels[0].Select(s => (float)(s - mean))]).narrow(0, 0, c.Output(name).shape[0]));
        }
        var rows = (int)(filters.Bands / c.Output("mel_filters").shape[0]);
        yield return ("mel_filters", tensor(filters.Filters()).view(filters.Bands / rows, rows, -1).select(1, 0));
        yield return ("window", tensor(filters.Window()));
        foreach (var name in c.InputNames.Select(static n => n["waveform_".Length..]).Where(static n => int.TryParse(n, out _)))
            yield return ($"resampled_{filters.SampleRate}", tensor(Sound(c, name, int.Parse(name, CultureInfo.InvariantCulture)).Resample(filters.SampleRate).Channels[0]).unsqueeze(0));
    }

    static Waveform Sound(ParityCase c, string name, int rate) =>
        new([.. Enumerable.Range(0, (int)c.Input($"waveform_{name}").shape[0]).Select(i => c.Input($"waveform_{name}")[i].data<float>().ToArray())], rate);

    static void CheckClips(JsonElement expected, SpectrogramProcessor processor)
    {
        foreach (var entry in expected.EnumerateObject())
        {
            var parts = entry.Name.Split('/');
            var ours = (processor with { Clips = int.Parse(parts[1], CultureInfo.InvariantCulture) }).ClipTimes(double.Parse(parts[0], CultureInfo.InvariantCulture));
            var theirs = entry.Value.EnumerateArray().Select(static t => (t[0].GetDouble(), t[1].GetDouble())).ToArray();
            if (ours.Count != theirs.Length || ours.Zip(theirs).Any(static p => Math.Abs(p.First.Start - p.Second.Item1) + Math.Abs(p.First.End - p.Second.Item2) > 1e-9))
                throw new InvalidOperationException($"clips of {entry.Name}: {string.Join(", ", ours)}, expected {string.Join(", ", theirs)}");
        }
    }
}
