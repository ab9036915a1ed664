using Panoptes.Audio;
using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Representation;

/// <summary>How likely a label is for an image, from 0 to 1.</summary>
public sealed record LabelProbability(string Label, float Probability);

/// <summary>
/// A model of the CLIP family with its image processor and its tokenizer: images and texts in, probabilities or embeddings out.
/// Reads Hugging Face's CLIP, SigLIP and SigLIP 2 folders, open_clip's folders, and OpenAI's own files. Not for several threads at once.
/// </summary>
/// <example><code>
/// using var clip = Clip.Load("zoo/clip-emoji");
/// foreach (var (label, probability) in clip.Classify("photo.jpg", ["a red apple", "a cat"])) Console.WriteLine($"{probability:P0} {label}");
/// </code></example>
public sealed class Clip : ImageEncoder
{
    /// <summary>A model that is in memory already; it is disposed with this object.</summary>
    public Clip(DualEncoder model, ImageProcessor processor, Tokenizer tokenizer, ClipOptions? options = null) : base(model, processor, tokenizer, options ?? new()) =>
        (Model, Tokenizer) = (model, tokenizer);

    public override DualEncoder Model { get; }

    public Tokenizer Tokenizer { get; }

    /// <summary>The length of an embedding.</summary>
    public int EmbeddingSize => Model.Images.EmbeddingSize;

    /// <param name="model">A folder, a file or a hub id (<c>OWNER/NAME</c>).</param>
    /// <param name="options">The wanted type, device and batch size.</param>
    /// <exception cref="PanoptesException">Nothing there, not a model of this family, or a file of it is missing or broken.</exception>
    public static new Clip Load(string model, ClipOptions? options = null)
    {
        var loaded = ImageEncoder.Load(model, options);
        if (loaded is Clip clip) return clip;
        loaded.Dispose();
        throw new PanoptesException($"{model} holds a {loaded.Model.GetType().Name}; expected a model with an image tower and a text tower.");
    }

    /// <summary>How likely each label is for the image in <paramref name="path"/>, the likeliest first; see <see cref="Classify(Image, IReadOnlyList{string}, IReadOnlyList{string}?)"/>.</summary>
    /// <exception cref="PanoptesException">The file is no image, or a label is too long.</exception>
    public IReadOnlyList<LabelProbability> Classify(string path, IReadOnlyList<string> labels, IReadOnlyList<string>? templates = null) =>
        Classify(Image.Load(path), labels, templates);

    /// <summary>
    /// How likely each label is, the likeliest first: for CLIP they share a probability of 1 (softmax), for SigLIP, which judges each
    /// pair by itself, each has its own (sigmoid).
    /// </summary>
    /// <param name="image">The picture.</param>
    /// <param name="labels">What it may show, in words.</param>
    /// <param name="templates">Sentences with <c>{}</c> where the label goes ("a photo of a {}."); a label's embedding is their mean. By default the label alone.</param>
    /// <exception cref="PanoptesException">No label, a template without <c>{}</c>, or a text longer than the model takes.</exception>
    public IReadOnlyList<LabelProbability> Classify(Image image, IReadOnlyList<string> labels, IReadOnlyList<string>? templates = null) =>
        Classify([image], labels, templates)[0];

    /// <summary>The same for many images, in their order.</summary>
    /// <inheritdoc cref="Classify(Image, IReadOnlyList{string}, IReadOnlyList{string}?)"/>
    public IReadOnlyList<IReadOnlyList<LabelProbability>> Classify(IReadOnlyList<Image> images, IReadOnlyList<string> labels, IReadOnlyList<string>? templates = null)
    {
        using var scope = NewDisposeScope();
        return Classified(EmbedImages(images), labels, templates);
    }

    /// <summary>The same for sounds, of a model that hears (see <see cref="EmbedSounds"/>).</summary>
    /// <exception cref="PanoptesException">The model has no audio tower, or as for images.</exception>
    public IReadOnlyList<IReadOnlyList<LabelProbability>> Classify(IReadOnlyList<Waveform> sounds, IReadOnlyList<string> labels, IReadOnlyList<string>? templates = null)
    {
        using var scope = NewDisposeScope();
        return Classified(EmbedSounds(sounds), labels, templates);
    }

    List<LabelProbability>[] Classified(Tensor embedded, IReadOnlyList<string> labels, IReadOnlyList<string>? templates)
    {
        using var noGrad = no_grad();
        var logits = Logits(embedded, EmbedLabels(labels, templates));
        var probabilities = (Model.LogitBias is null ? logits.softmax(-1) : logits.sigmoid()).data<float>().ToArray();
        var results = new List<LabelProbability>[(int)embedded.shape[0]];
        for (var i = 0; i < results.Length; i++)
        {
            results[i] = new(labels.Count);
            for (var j = 0; j < labels.Count; j++) results[i].Add(new(labels[j], probabilities[i * labels.Count + j]));
            results[i].Sort(static (a, b) => b.Probability.CompareTo(a.Probability));
        }
        return results;
    }

    /// <summary>Embeds images: float32 [images, embedding] on the CPU, each row of length 1, owned by the caller.</summary>
    /// <exception cref="PanoptesException">No image.</exception>
    public Tensor EmbedImages(IReadOnlyList<Image> images)
    {
        if (images.Count == 0) throw new PanoptesException("No images to embed: expected at least one.");
        return Encoder.Images(images);
    }

    /// <summary>
    /// Embeds image files; while a batch goes through the model, the next one is read. float32 [files, embedding] on the CPU, each row
    /// of length 1, owned by the caller.
    /// </summary>
    /// <param name="paths">The files, at least one.</param>
    /// <param name="progress">Is told how many are done.</param>
    /// <param name="cancellation">Stops between batches.</param>
    /// <exception cref="PanoptesException">A file is no image; the message names it.</exception>
    public Tensor EmbedFiles(IReadOnlyList<string> paths, IProgress<int>? progress = null, CancellationToken cancellation = default)
    {
        if (paths.Count == 0) throw new PanoptesException("No images to embed: expected at least one file.");
        return Encoder.Images(paths.Count, i => Image.Load(paths[i]), progress, cancellation);
    }

    /// <summary>Embeds texts: float32 [texts, embedding] on the CPU, each row of length 1, owned by the caller.</summary>
    /// <exception cref="PanoptesException">No text, or one longer than the model takes (see <see cref="ClipOptions.TruncateTexts"/>).</exception>
    public Tensor EmbedTexts(IReadOnlyList<string> texts)
    {
        if (texts.Count == 0) throw new PanoptesException("No texts to embed: expected at least one.");
        return Encoder.Texts(texts);
    }

    /// <summary>Embeds labels, each as the mean over <paramref name="templates"/>: float32 [labels, embedding], each row of length 1, owned by the caller.</summary>
    /// <inheritdoc cref="Classify(Image, IReadOnlyList{string}, IReadOnlyList{string}?)" path="/exception"/>
    public Tensor EmbedLabels(IReadOnlyList<string> labels, IReadOnlyList<string>? templates = null) => Encoder.Labels(labels, templates);

    /// <summary>Whether the model has a tower for sounds (an ImageBind, or what a recipe with the modality audio trains).</summary>
    public bool Hears => Model is IBoundModel bound && bound.Modalities.Contains(Modality.Audio);

    /// <summary>
    /// Embeds sounds, each the mean over clips that are spread over it, in the space of images and texts: float32 [sounds, embedding] on the CPU, each row of length 1,
    /// owned by the caller.
    /// </summary>
    /// <exception cref="PanoptesException">No sound, or the model has no audio tower (<see cref="Hears"/>).</exception>
    public Tensor EmbedSounds(IReadOnlyList<Waveform> sounds)
    {
        if (sounds.Count == 0) throw new PanoptesException("No sounds to embed: expected at least one.");
        if (Model is not IBoundModel bound || !Hears) throw new PanoptesException($"This {Model.GetType().Name} has no tower for sounds; expected an ImageBind, or a model that recipes/imagebind.yaml trains.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return cat([.. sounds.Select(s => Embed(Modality.Audio, bound.Encoders.Sounds.Process(s).unsqueeze(0)))]).MoveToOuterDisposeScope();
    }

    /// <summary>Embeds what a sensor gives, of a model with a tower for it: float32 [b, embedding] on the CPU, each row of length 1, owned by the caller.</summary>
    /// <param name="modality">What <paramref name="input"/> is.</param>
    /// <param name="input">As <see cref="Modality"/> says.</param>
    /// <exception cref="PanoptesException">The model has no such tower.</exception>
    public Tensor Embed(Modality modality, Tensor input)
    {
        if (Model is not IBoundModel bound) throw new PanoptesException($"This {Model.GetType().Name} has towers for images and texts alone; expected an ImageBind, or a model that recipes/imagebind.yaml trains.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return DualEncoder.Normalize(bound.Embed(modality, input.to(Model.LogitScale.Value.device)).cpu().to(ScalarType.Float32)).MoveToOuterDisposeScope();
    }

    /// <summary>The embedding of one sound, of length 1.</summary>
    /// <exception cref="PanoptesException">The model has no audio tower.</exception>
    public float[] Embed(Waveform sound)
    {
        using var embedded = EmbedSounds([sound]);
        return embedded.data<float>().ToArray();
    }

    /// <summary>The embedding of one image, of length 1.</summary>
    public float[] Embed(Image image)
    {
        using var embedded = EmbedImages([image]);
        return embedded.data<float>().ToArray();
    }

    /// <summary>The embedding of one text, of length 1.</summary>
    /// <exception cref="PanoptesException">The text is longer than the model takes.</exception>
    public float[] Embed(string text)
    {
        using var embedded = EmbedTexts([text]);
        return embedded.data<float>().ToArray();
    }

    /// <summary>How near each image is to each text: the cosine, from -1 to 1, [images, texts].</summary>
    /// <exception cref="PanoptesException">Nothing given, or a text longer than the model takes.</exception>
    public float[,] Similarity(IReadOnlyList<Image> images, IReadOnlyList<string> texts)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var cosines = EmbedImages(images).matmul(EmbedTexts(texts).t()).data<float>().ToArray();
        var table = new float[images.Count, texts.Count];
        Buffer.BlockCopy(cosines, 0, table, 0, cosines.Length * sizeof(float));
        return table;
    }

    /// <summary>Writes model, image processor and tokenizer into <paramref name="folder"/>, for <see cref="Load"/> and for the Python peer.</summary>
    /// <exception cref="PanoptesException">The files cannot be written.</exception>
    public void Save(string folder, SaveOptions? saving = null)
    {
        Models.Save(folder, Model, saving);
        ClipParts.Save(folder, Processor, Tokenizer);
    }

    /// <summary>cosine · scale + bias, float32.</summary>
    Tensor Logits(Tensor images, Tensor labels) =>
        new PairFeatures(images, labels, Model.LogitScale.Value.to(ScalarType.Float32).cpu().exp(), Model.LogitBias?.Value.to(ScalarType.Float32).cpu()).Logits();
}
