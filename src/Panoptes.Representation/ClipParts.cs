using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Text;

namespace Panoptes.Representation;

/// <summary>What stands beside the weights of a model of the CLIP family: its image processor and its tokenizer.</summary>
static class ClipParts
{
    /// <exception cref="PanoptesException">One of them is missing, broken, or made for another model.</exception>
    internal static (ImageProcessor Processor, Tokenizer Tokenizer) Load(string path, DualEncoder model)
    {
        var folder = ModelFolder.FolderOf(path);
        var processor = HasProcessor(folder) ? ImageProcessor.Load(folder) : OpenAiProcessor(folder, model);
        var tokenizer = Tokenizer.Load(folder);
        if (tokenizer.VocabularySize > model.Texts.VocabularySize)
            throw new PanoptesException($"{folder}: its tokenizer has {tokenizer.VocabularySize} ids, but the model knows {model.Texts.VocabularySize}; expected a tokenizer of this model.");
        if (processor is PictureProcessor picture && picture.OutputSize(new Image(64, 64, 3)) is var (height, width)
            && (height != model.Images.ImageSize || width != model.Images.ImageSize) && model.Images is ClipVisionModel or SiglipVisionModel or OpenClipVisual)
            throw new PanoptesException($"{folder}: its image processor makes {width}x{height} pixels, but the model takes {model.Images.ImageSize}x{model.Images.ImageSize}.");
        if (processor is NaFlexImageProcessor patches && (model as Siglip2Model)?.Vision.Config.PatchSize != patches.PatchSize)
            throw new PanoptesException($"{folder}: its image processor makes patches of {patches.PatchSize}x{patches.PatchSize} pixels, but the model takes {(model is Siglip2Model naFlex ? $"patches of {naFlex.Vision.Config.PatchSize}x{naFlex.Vision.Config.PatchSize}" : "whole images")}.");
        return (processor, tokenizer);
    }

    /// <summary>The same of any model with an image tower; one that reads no texts has no tokenizer.</summary>
    /// <exception cref="PanoptesException">The model has no image tower, or a part is missing, broken, or made for another model.</exception>
    internal static (ImageProcessor Processor, Tokenizer? Tokenizer) Load(string path, Nn.Module model)
    {
        if (model is DualEncoder both) return Load(path, both);
        if (model is not IImageTower) throw new PanoptesException($"{path} holds a {model.GetType().Name}; expected a model with an image tower.");
        var folder = ModelFolder.FolderOf(path);
        return (ImageProcessor.Load(folder), Towers.Of(model).Texts is null ? null : Tokenizer.Load(folder));
    }

    internal static void Save(string folder, ImageProcessor processor, Tokenizer? tokenizer)
    {
        processor.Save(folder);
        tokenizer?.Save(folder);
    }

    /// <summary>Ids as the text tower was trained with: [texts, context length] int64, owned by the caller.</summary>
    /// <exception cref="PanoptesException">A text is longer than the model takes and may not be cut.</exception>
    internal static Tensor Tokenize(Tokenizer tokenizer, DualEncoder model, IReadOnlyList<string> texts, bool truncate) =>
        Tokenize(tokenizer, model.Texts, texts, truncate).InputIds();

    /// <summary>The same with the texts' lengths.</summary>
    internal static TokenBatch Tokenize(Tokenizer tokenizer, ITextTower tower, IReadOnlyList<string> texts, bool truncate)
    {
        var batch = tokenizer.Encode(texts, tower.ContextLength);
        if (!truncate)
            foreach (var i in batch.Truncated)
                throw new PanoptesException($"The text \"{Start(texts[i])}\" has {batch.Lengths[i]} tokens; the model takes at most {batch.Columns}. Shorten it, or ask for long texts to be cut.");
        return batch;
    }

    /// <summary>Which of the tokens are the texts' own, for a tower that padding would change; null for any other.</summary>
    internal static Tensor? MaskOf(ITextTower tower, TokenBatch tokens) => tower.SeesPadding ? Objectives.PairInput.Valid(tokens.OwnTokens(), tokens.Columns) : null;

    static string Start(string text) => text.Length <= 60 ? text : text[..60] + "…";

    static bool HasProcessor(string folder) =>
        File.Exists(Path.Combine(folder, "preprocessor_config.json")) || File.Exists(Path.Combine(folder, "processor_config.json")) || File.Exists(Path.Combine(folder, "open_clip_config.json"));

    /// <summary>OpenAI's own files come alone: their images are prepared as CLIP's paper did.</summary>
    static ImageProcessor OpenAiProcessor(string folder, DualEncoder model)
    {
        if (model is not OpenClipModel) return ImageProcessor.Load(folder);                        // says which files are missing
        var side = model.Images.ImageSize;
        return ImageProcessor.Parse($$"""{"image_processor_type":"CLIPImageProcessorPil","size":{"shortest_edge":{{side}}},"crop_size":{{side}}}""", folder);
    }
}
