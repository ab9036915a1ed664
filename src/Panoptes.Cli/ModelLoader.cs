using System.CommandLine;
using Panoptes.Checkpoints;
using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Search;
using Panoptes.Understanding;
using TorchSharp;
using static TorchSharp.torch;

namespace Panoptes.Cli;

/// <summary>From what the user names and wishes to a model in memory.</summary>
static class ModelLoader
{
    /// <summary>The folder or file of a model; the bundled models are found wherever the command is called from, and those of the hub are downloaded where they are not yet, which a bar tells of.</summary>
    /// <exception cref="PanoptesException">There is no such model.</exception>
    public static string Resolve(ParseResult parsed, string model) => Bundled(model) is var name && (Directory.Exists(name) || File.Exists(name)) ? Path.GetFullPath(name)
        : new Terminal(parsed).WithProgressAsync($"Pulling {model}", progress => ModelFolder.ResolveAsync(model, new HubSteps(progress), App.Stopping)).GetAwaiter().GetResult();

    /// <summary>Where a bundled model is; any other name as it is.</summary>
    /// <exception cref="PanoptesException">There is no such model.</exception>
    public static string Bundled(string model)
    {
        if (Directory.Exists(model) || File.Exists(model) || !model.StartsWith("zoo/", StringComparison.Ordinal)) return model;
        foreach (var start in (ReadOnlySpan<string>)[AppContext.BaseDirectory, Environment.CurrentDirectory])
            for (var folder = new DirectoryInfo(start); folder is not null; folder = folder.Parent)
                if (Directory.Exists(Path.Combine(folder.FullName, model))) return Path.Combine(folder.FullName, model);
        throw new PanoptesException($"The bundled model {model} was not found beside the program or above {Environment.CurrentDirectory}: name another with --model.");
    }

    /// <summary>Computes with as many threads as --threads says.</summary>
    public static void UseThreads(ParseResult parsed)
    {
        if (parsed.GetValue(SharedOptions.Threads) is { } threads) set_num_threads(threads);
    }

    /// <summary>Loads a model as the shared options ask.</summary>
    /// <exception cref="PanoptesException">There is no such model or device, or the model is damaged.</exception>
    public static Clip Load(ParseResult parsed, string path, int batchSize = 64) => Clip.Load(path, Options(parsed, batchSize));

    /// <summary>The same of any model that has an image tower.</summary>
    /// <exception cref="PanoptesException">There is no such model or device, or the model is damaged.</exception>
    public static ImageEncoder LoadEncoder(ParseResult parsed, string path, int batchSize = 64) => ImageEncoder.Load(path, Options(parsed, batchSize));

    /// <summary>The same of a model that writes captions.</summary>
    /// <exception cref="PanoptesException">There is no such model or device, or the model is damaged or writes no captions.</exception>
    public static Captioner LoadCaptioner(ParseResult parsed, string path, int batchSize = 64) => Captioner.Load(path, Options(parsed, batchSize));

    /// <summary>The same of a model that answers questions.</summary>
    /// <exception cref="PanoptesException">There is no such model or device, or the model is damaged or answers no questions.</exception>
    public static QuestionAnswerer LoadAnswerer(ParseResult parsed, string path, int batchSize = 64) => QuestionAnswerer.Load(path, Options(parsed, batchSize));

    /// <summary>What users hold a model in, whose interfaces say what it can be asked, and how it loads, with the words that it is to tell apart if it needs them.</summary>
    sealed record Holder(Type Type, Func<string, IReadOnlyList<string>, LoadOptions, IDisposable> Load)
    {
        public static Holder Of<T>(Func<string, LoadOptions, T> load) where T : IDisposable => new(typeof(T), (path, _, options) => load(path, options));

        public static Holder Of<T>(Func<string, IReadOnlyList<string>, LoadOptions, T> load) where T : IDisposable => new(typeof(T), (path, words, options) => load(path, words, options));

        public bool Segments => Type.IsAssignableTo(typeof(IPromptable));

        public bool Grounds => Type.IsAssignableTo(typeof(IGrounder));
    }

    static readonly Dictionary<Type, Holder> Holders = new()
    {
        [typeof(Florence2Model)] = Holder.Of(Florence.Load),
        [typeof(Kosmos2Model)] = Holder.Of(Kosmos.Load),
        [typeof(UniTabModel)] = Holder.Of(UniTab.Load),
        [typeof(Pix2SeqModel)] = Holder.Of(Pix2Seq.Load),
        [typeof(VisionLlmModel)] = Holder.Of(VisionLlm.Load),
        [typeof(UnifiedIoModel)] = Holder.Of(UnifiedIo.Load),
        [typeof(XDecoderModel)] = Holder.Of(XDecoderSegmenter.Load),
        [typeof(SeemModel)] = Holder.Of(SeemSegmenter.Load),
        [typeof(UniPerceiverModel)] = Holder.Of(UniPerceiverSegmenter.Load),
        [typeof(DetrForObjectDetection)] = Holder.Of(LoadDetector),
        [typeof(DetrForSegmentation)] = Holder.Of(LoadDetector),
        [typeof(OwlVitForObjectDetection)] = Holder.Of(LoadDetector),
        [typeof(GroundingDinoForObjectDetection)] = Holder.Of(LoadDetector),
    };

    static Detector LoadDetector(string path, LoadOptions options) => Detector.Load(path, new() { Dtype = options.Dtype, Device = options.Device });

    /// <summary>Whether a model answers by nothing but boxes.</summary>
    public static bool DrawsBoxes(string path) => PromptableModels.Registry.TypeOf(path) is { } type && type != typeof(DetrForSegmentation) && Holders.TryGetValue(type, out var holder)
        && holder is { Grounds: true, Segments: false };

    /// <summary>Whether a model says of every pixel how likely each name is: any that is loaded as an <see cref="OpenVocabularySegmenter"/>, but for one that tells things apart.</summary>
    public static bool LabelsPixels(string path) => PromptableModels.Registry.TypeOf(path) is var type && (type is null
        ? Models.Registry.TypeOf(path) != typeof(BeitForSemanticSegmentation)
        : type == typeof(GroupVitModel) || type == typeof(ClipSegModel) || type == typeof(OpenSegModel) || type == typeof(DenseClipModel));

    /// <summary>The same of a model that draws boxes around what words speak of, be it around its segments.</summary>
    /// <param name="words">What is asked for, as in <see cref="LoadPromptable"/>.</param>
    /// <exception cref="PanoptesException">There is no such model, or it is damaged or draws no boxes.</exception>
    public static IGrounder LoadGrounder(ParseResult parsed, string path, IReadOnlyList<string>? words = null) => PromptableModels.Registry.TypeOf(path) is { } type && Holders.TryGetValue(type, out var holder) && holder is { Segments: true, Grounds: false }
        ? new SegmentGrounder(LoadPromptable(parsed, path, words ?? []))
        : LoadHeld<IGrounder>(parsed, path, "draws boxes", "draws no boxes by itself", "a DETR, an OWL-ViT, a Grounding DINO, a Florence-2, a Kosmos-2, an X-Decoder, a SEEM, a Uni-Perceiver v2, a UniTAB, a Pix2Seq v2, a VisionLLM or a Unified-IO");

    /// <summary>The same of a model that answers questions in words of its own.</summary>
    /// <exception cref="PanoptesException">There is no such model, or it is damaged or answers no questions.</exception>
    public static IAnswerer LoadWriter(ParseResult parsed, string path) => LoadHeld<IAnswerer>(parsed, path, "answers questions", "answers no questions", "a BEiT-3, a UniTAB, a VisionLLM or a Unified-IO");

    /// <summary>The same of a model that tells depth.</summary>
    /// <exception cref="PanoptesException">There is no such model, or it is damaged or tells no depth.</exception>
    public static UnifiedIo LoadDepth(ParseResult parsed, string path) => LoadHeld<UnifiedIo>(parsed, path, "tells depth", "tells no depth", "a Unified-IO");

    static T LoadHeld<T>(ParseResult parsed, string path, string does, string doesNot, string expected) where T : class, IDisposable
    {
        var type = PromptableModels.Registry.TypeOf(path);
        if (type is null || !Holders.TryGetValue(type, out var holder) || !holder.Type.IsAssignableTo(typeof(T)))
            throw new PanoptesException($"{path} holds {(type is null ? $"no model that {does}" : $"a {type.Name}, which {doesNot}")}; expected {expected}.");
        UseThreads(parsed);
        return (T)holder.Load(path, [], Load(parsed));
    }

    /// <summary>The same of a network that controls generation, ready for inference: a ControlNet, also in a file of the original form, or a T2I-Adapter.</summary>
    /// <param name="model">As the user names it.</param>
    /// <exception cref="PanoptesException">There is no such model, or it is damaged or another one.</exception>
    public static T LoadControl<T>(ParseResult parsed, string model) where T : Module
    {
        var path = Resolve(parsed, model);
        if (PipelineFolder.Is(path)) throw new PanoptesException($"{model} holds a whole pipeline; expected a {typeof(T).Name}, such as a folder of its own.");
        var original = typeof(T) == typeof(ControlNetModel) && SingleFile.HoldsControlNet(path);
        if (!original && GenerationModels.Registry.TypeOf(path) is var type && type != typeof(T)) throw new PanoptesException($"{model} holds {(type is null ? "no model that is known here" : $"a {type.Name}")}; expected a {typeof(T).Name}.");
        var network = original ? (T)(Module)SingleFile.LoadControlNet(path, Load(parsed)) : GenerationModels.Load<T>(path, Load(parsed));
        network.RequiresGrad(false);
        network.Pack();
        return network;
    }

    internal static LoadOptions Load(ParseResult parsed) => new() { Dtype = Precision(parsed), Device = Device(parsed), Cancel = App.Stopping };

    /// <summary>The same of a model that segments by prompts.</summary>
    /// <param name="words">What is asked for, for models that tell things apart by a list of names.</param>
    /// <param name="detector">A model that draws boxes around what words speak of, for a SAM; null: none.</param>
    /// <param name="threshold">The score that its boxes must exceed; null: its own.</param>
    /// <exception cref="PanoptesException">There is no such model, or it is damaged or segments nothing.</exception>
    public static IPromptable LoadPromptable(ParseResult parsed, string path, IReadOnlyList<string> words, string? detector = null, double? threshold = null)
    {
        UseThreads(parsed);
        var type = PromptableModels.Registry.TypeOf(path);
        if (detector is not null)
        {
            if (!typeof(ISegmentAnything).IsAssignableFrom(type)) throw new PanoptesException($"{path} holds {(type is null ? "no SAM" : $"a {type.Name}")}; --detector finds the boxes for a SAM or a SAM 2.");
            var grounder = LoadGrounder(parsed, detector, words);
            try
            {
                return new GroundedSam(grounder, Sam.Load(path, new() { Dtype = Precision(parsed) })) { Threshold = threshold };
            }
            catch
            {
                grounder.Dispose();
                throw;
            }
        }
        return type switch
        {
            _ when typeof(ISegmentAnything).IsAssignableFrom(type) => Sam.Load(path, new() { Dtype = Precision(parsed) }),
            { } when Holders.TryGetValue(type, out var holder) && holder.Segments => (IPromptable)holder.Load(path, words, Load(parsed)),
            _ when type == typeof(Mask2FormerForUniversalSegmentation) || type == typeof(OneFormerForUniversalSegmentation) || type == typeof(DetrForSegmentation) || (type is null && Models.Registry.TypeOf(path) == typeof(BeitForSemanticSegmentation)) => Segmenter.Load(path, Options(parsed, 1)),
            _ => OpenVocabularySegmenter.Load(path, new() { Dtype = Precision(parsed), Device = Device(parsed) }),
        };
    }

    static ClipOptions Options(ParseResult parsed, int batchSize) => new()
    {
        Dtype = Precision(parsed),
        Device = Device(parsed),
        Threads = parsed.GetValue(SharedOptions.Threads),
        BatchSize = batchSize,
    };

    /// <summary>The type that --precision means on this machine.</summary>
    public static ScalarType Precision(ParseResult parsed) => parsed.GetValue(SharedOptions.Precision) switch
    {
        "bfloat16" => ScalarType.BFloat16,
        "auto" when HasBFloat16(parsed) => ScalarType.BFloat16,
        _ => ScalarType.Float32,
    };

    static bool HasBFloat16(ParseResult parsed) => parsed.GetValue(SharedOptions.Device) != "cpu" || Native.TorchOps.HasFastBFloat16;

    /// <summary>The device that --device means, or null for the processor.</summary>
    /// <exception cref="PanoptesException">This machine, or the libtorch that is installed, lacks it.</exception>
    public static Device? Device(ParseResult parsed)
    {
        var name = parsed.GetValue(SharedOptions.Device) ?? "cpu";
        var parts = name.Split(':');
        if (parts[0] == "cpu") return null;
        var there = parts[0] == "cuda" ? cuda.is_available() : mps_is_available();
        if (!there || (parts[0] == "cuda" && parts.Length == 2 && int.Parse(parts[1], null) >= cuda.device_count()))
            throw new PanoptesException($"The device {name} is not there: {(parts[0] == "cuda" ? $"{(there ? cuda.device_count() : 0)} CUDA devices were found, and CUDA needs its own libtorch package" : "Metal was not found")}.");
        return device(name);
    }

    /// <summary>What an index needs of a model.</summary>
    public static ImageEmbedder Embedder(Clip clip, ModelIdentity identity, Device? device)
    {
        return new(identity, clip.EmbeddingSize, Prepare, Embed) { IsSparse = clip.Model is StairModel };

        IDisposable Prepare(Image image) => clip.Processor is NaFlexImageProcessor naFlex && clip.Model is Siglip2Model ? naFlex.ProcessPatches([image]) : clip.Processor.Process(image);

        float[] Embed(IReadOnlyList<IDisposable> inputs)
        {
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            if (inputs[0] is Tensor)
            {
                var pixels = cat([.. inputs.Cast<Tensor>()]);
                return clip.Model.Images.Encode(device is null ? pixels : pixels.to(device)).cpu().to(ScalarType.Float32).data<float>().ToArray();
            }
            // Patches of images of different shapes go one by one.
            return [.. inputs.Cast<PatchBatch>().SelectMany(batch => ((Siglip2Model)clip.Model).Vision.Forward(
                device is null ? batch : new(batch.PixelValues.to(device), batch.PixelAttentionMask.to(device), batch.SpatialShapes)).Embedding.cpu().to(ScalarType.Float32).data<float>().ToArray())];
        }
    }
}
