using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using Panoptes.Checkpoints;
using Panoptes.Generation;
using Panoptes.Nn;
using Panoptes.Representation;
using TorchSharp;
using static TorchSharp.torch;

namespace Panoptes.Cli.Commands;

/// <summary>Writes a model anew: another type, another file format, other shards, other names.</summary>
sealed class ConvertCommand : ExampleCommand
{
    static readonly string[] Settings = [".json", ".txt", ".model", ".md", ".jinja"];

    readonly Argument<string> model = new("MODEL") { Description = "A folder, a file or a hub id: safetensors, shards, or PyTorch's formats." };
    readonly Option<string> output = new("--out", "-o") { Description = "The folder to write, or a .safetensors file for the weights alone: of a pipeline's folder, a whole one in the original form.", HelpName = "PATH", Required = true };
    readonly Option<string?> dtype = new("--dtype") { Description = "Store floating-point weights as float32, float16 or bfloat16; by default as they are.", HelpName = "TYPE" };
    readonly Option<string?> shard = new("--shard-size") { Description = "The most that one file may take, such as 500MB or 5GB; by default 5GB.", HelpName = "SIZE" };
    readonly Option<string?> to = new("--to") { Description = "Whose keys and configuration: hf (Hugging Face's CLIP) or open_clip; by default as they are.", HelpName = "NAMES" };
    readonly Option<string?> below = new("--base") { Description = "A model that this one was made of: what is the same there is not written again, but read from there whenever this one is loaded. For this project's own use; other libraries read whole models.", HelpName = "MODEL" };
    readonly Option<string?> config = new("--config") { Description = "For a pipeline in one file that is to be a folder: a diffusers folder that says what the file does not (scheduler, tokenizers, a part's config.json), and has the parts that the file lacks.", HelpName = "FOLDER" };
    readonly Option<bool> force = new("--force") { Description = "Replace the file or the model at the output." };

    public ConvertCommand() : base("convert", "Write a model anew: bfloat16 instead of float32, safetensors instead of PyTorch's pickle, one file instead of shards, Hugging Face's names instead of open_clip's, a diffusers folder instead of a pipeline in one file, or the other way.", """
        panoptes convert zoo/clip-emoji --out small --dtype bfloat16
        panoptes convert pytorch_model.bin --out model.safetensors
        panoptes convert stable-diffusion-v1-5 --out half --dtype bfloat16
        panoptes convert v1-5-pruned-emaonly.safetensors --out stable-diffusion-v1-5
        panoptes convert stable-diffusion-v1-5 --out v1-5.safetensors --dtype float16
        panoptes convert runs/gligen/last --out zoo/gligen-emoji --dtype bfloat16 --base zoo/sd-emoji
        panoptes convert laion/CLIP-ViT-B-32-laion2B-s34B-b79K --out clip-hf --to hf
        """)
    {
        Add(model);
        foreach (var option in (ReadOnlySpan<Option>)[output, dtype, shard, to, below, config, force]) Add(option);
        SharedOptions.OneOf(dtype, "float32", "float16", "bfloat16");
        SharedOptions.OneOf(to, "hf", "open_clip");
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var target = Path.TrimEndingDirectorySeparator(Path.GetFullPath(parsed.GetRequiredValue(output)));
        var asFile = target.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase);
        if (asFile && parsed.GetValue(to) is not null) throw new UsageException("--to writes a configuration too, so that --out must be a folder.");
        if (asFile && parsed.GetValue(shard) is not null) throw new UsageException("--shard-size makes several files, so that --out must be a folder.");
        if (parsed.GetValue(below) is not null && (asFile || parsed.GetValue(shard) is not null || parsed.GetValue(to) is not null)) throw new UsageException("--base does not go with --shard-size, --to, or a file as --out.");
        var size = parsed.GetValue(shard) is { } text ? ParseSize(text) : ShardedWeights.DefaultShardSize;
        var there = asFile ? File.Exists(target) : Directory.Exists(target) && Directory.EnumerateFileSystemEntries(target).Any();
        if (there && !parsed.GetValue(force)) throw new PanoptesException($"{target} exists already; --force replaces it.");
        if (there && !asFile && !Weights.IsIn(target) && !PipelineFolder.Is(target)) throw new PanoptesException($"{target} holds no model but something else, which --force does not replace; expected a model's folder, an empty one or none.");
        var named = parsed.GetRequiredValue(model);
        var source = PipelineFolder.Is(named) ? named : ModelLoader.Resolve(parsed, named);
        var (isFolder, isWhole) = (PipelineFolder.Is(source), !asFile && SingleFile.HoldsPipeline(source));
        if ((isFolder || isWhole) && parsed.GetValue(to) is not null) throw new UsageException("A pipeline has diffusers' names in a folder and the original ones in a file; --to does not go with one.");
        if (isWhole && parsed.GetValue(below) is not null) throw new UsageException("A pipeline in one file is written whole as a folder; --base does not go with one.");
        if (!isWhole) SharedOptions.Idle(parsed, "goes with a pipeline in one file that is written as a folder", config);
        if (Path.GetFullPath(source) == target) throw new PanoptesException($"{target} is the model itself; expected another place.");
        ScalarType? type = parsed.GetValue(dtype) switch { "float32" => ScalarType.Float32, "float16" => ScalarType.Float16, "bfloat16" => ScalarType.BFloat16, _ => null };
        var under = parsed.GetValue(below) is { } first ? Path.GetFullPath(PipelineFolder.Is(first) ? first : ModelFolder.FolderOf(ModelLoader.Resolve(parsed, first))) : null;
        if (under is not null && PipelineFolder.Is(under) != isFolder) throw new PanoptesException($"{named} and {parsed.GetValue(below)} are a pipeline and a model; expected two of a kind.");
        await terminal.WithProgress("Converting", progress =>
        {
            if (asFile && isFolder) Join(source, target, type);
            else if (asFile) WriteFile(source, target, type, progress, cancel);
            else AtomicFolder.Write(target, folder =>
            {
                if (parsed.GetValue(to) is { } names) Rename(source, folder, names, new() { Dtype = type, ShardSize = size });
                else if (isWhole) Part(source, folder, parsed.GetValue(config), new() { Dtype = type, ShardSize = size });
                else if (isFolder) CopyPipeline(source, folder, type, size, under is null ? null : (under, target), progress, cancel);
                else Copy(source, folder, type, size, under is null ? null : (under, target), progress, cancel);
            }, cancel);
            return 0;
        });
        if (isWhole && SingleFile.HoldsControlNet(source)) terminal.Note($"The ControlNet in {source} is no part of the folder; panoptes control --controlnet reads it from the file.");
        if (asFile && isFolder) terminal.Note($"One file holds no settings, no tokenizers and no networks that control; where they are not the family's usual ones, name {source} by --config.");
        var bytes = asFile ? new FileInfo(target).Length : Directory.EnumerateFiles(target, "*", SearchOption.AllDirectories).Sum(static f => new FileInfo(f).Length);
        if (terminal.IsJson) terminal.WriteJson(new { model = source, output = target, bytes });
        else terminal.WriteLine($"{target} ({InfoCommand.Size(bytes)})");
        return App.Success;
    }

    static long ParseSize(string text)
    {
        var (digits, factor) = text.ToUpperInvariant() switch
        {
            var t when t.EndsWith("GB", StringComparison.Ordinal) => (t[..^2], 1_000_000_000L),
            var t when t.EndsWith("MB", StringComparison.Ordinal) => (t[..^2], 1_000_000L),
            var t when t.EndsWith("KB", StringComparison.Ordinal) => (t[..^2], 1_000L),
            var t => (t, 1L),
        };
        return double.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number) && number * factor is >= 1 and <= 1e15
            ? (long)(number * factor) : throw new UsageException($"--shard-size is '{text}'; expected a size such as 500MB or 5GB.");
    }

    static List<KeyValuePair<string, Tensor>> Read(string source, ScalarType? type, IProgress<Step> progress, CancellationToken cancel)
    {
        using var weights = Weights.Open(source);
        var tensors = new List<KeyValuePair<string, Tensor>>();
        foreach (var key in weights.Keys)
        {
            cancel.ThrowIfCancellationRequested();
            var tensor = weights.Read(key);
            tensors.Add(new(key, type is { } wanted && tensor.is_floating_point() ? tensor.to(wanted) : tensor));
            progress.Report(new(tensors.Count, weights.Keys.Count));
        }
        return tensors;
    }

    static void WriteFile(string source, string target, ScalarType? type, IProgress<Step> progress, CancellationToken cancel)
    {
        using var scope = NewDisposeScope();
        SafeTensors.Save(target, Read(source, type, progress, cancel), new Dictionary<string, string> { ["format"] = "pt" });
    }

    /// <param name="under">What it was made of, and where the folder will be; null: it is written whole.</param>
    static void Copy(string source, string folder, ScalarType? type, long shardSize, (string Base, string Target)? under, IProgress<Step> progress, CancellationToken cancel)
    {
        using var scope = NewDisposeScope();
        var tensors = Read(source, type, progress, cancel);
        var metadata = new Dictionary<string, string> { ["format"] = "pt" };
        if (under is var (below, target) && Weights.IsIn(below))
        {
            using var before = Weights.Open(below);
            var had = tensors.Select(static t => t.Key).ToHashSet(StringComparer.Ordinal);
            if (string.Join(' ', before.Keys.Where(key => !had.Contains(key)).Order(StringComparer.Ordinal)) is { Length: > 0 } gone) metadata[Weights.WithoutKey] = gone;
            tensors.RemoveAll(t => before.Contains(t.Key) && before.Info(t.Key) is var (dtype, shape) && dtype == t.Value.dtype && shape.AsSpan().SequenceEqual(t.Value.shape) && before.Read(t.Key).Equals(t.Value));
            metadata[Weights.BaseKey] = Path.GetRelativePath(target, below).Replace('\\', '/');
            shardSize = long.MaxValue;
        }
        ShardedWeights.Save(folder, tensors, metadata, shardSize, IsOfDiffusers(source) ? "diffusion_pytorch_model" : "model");
        if (!Directory.Exists(source)) source = Path.GetDirectoryName(source)!;
        CopySettings(source, folder, type);
        // open_clip looks for the weights beside its config under this name alone. Other models have its config as their tokenizer's, and their weights under the usual name.
        var whole = Path.Combine(folder, "model.safetensors");
        if (File.Exists(Path.Combine(folder, "open_clip_config.json")) && File.Exists(whole) && !File.Exists(Path.Combine(source, "model.safetensors"))) File.Move(whole, Path.Combine(folder, "open_clip_model.safetensors"));
    }

    /// <summary>A pipeline of diffusers: a folder a part, with weights or without.</summary>
    static void CopyPipeline(string source, string folder, ScalarType? type, long shardSize, (string Base, string Target)? under, IProgress<Step> progress, CancellationToken cancel)
    {
        CopySettings(source, folder, null);
        foreach (var part in Directory.EnumerateDirectories(source))
        {
            var name = Path.GetFileName(part);
            var to = Path.Combine(folder, name);
            Directory.CreateDirectory(to);
            if (Weights.IsIn(part)) Copy(part, to, type, shardSize, under is var (below, target) && Directory.Exists(Path.Combine(below, name)) ? (Path.Combine(below, name), Path.Combine(target, name)) : null, progress, cancel);
            else CopySettings(part, to, null);
        }
    }

    /// <summary>A pipeline in one file of the original form as a folder of diffusers.</summary>
    static void Part(string source, string folder, string? config, SaveOptions options)
    {
        using var model = DiffusionModel.Load(source, new() { Dtype = null }, config);
        PipelineFolder.Save(folder, model, options);
    }

    /// <summary>The other way.</summary>
    static void Join(string source, string target, ScalarType? type)
    {
        using var model = DiffusionModel.Load(source, new() { Dtype = null });
        SingleFile.Save(target, model, new() { Dtype = type });
    }

    /// <summary>Whether a model is one of diffusers, which looks for weights under a name of its own.</summary>
    static bool IsOfDiffusers(string source) => GenerationModels.Registry.Knows(source);

    static void CopySettings(string source, string folder, ScalarType? type)
    {
        foreach (var file in Directory.EnumerateFiles(source))
        {
            if (!Settings.Contains(Path.GetExtension(file)) || file.EndsWith(".index.json", StringComparison.Ordinal)) continue;
            var copy = Path.Combine(folder, Path.GetFileName(file));
            if (Path.GetFileName(file) == "config.json" && type is { } wanted) AtomicFile.WriteText(copy, WithType(file, wanted));
            else File.Copy(file, copy);
        }
    }

    /// <summary>The configuration with the stored type in the fields that name it.</summary>
    static string WithType(string file, ScalarType type)
    {
        try
        {
            var config = JsonNode.Parse(ModelFolder.ReadText(file)) as JsonObject ?? throw new PanoptesException($"{file} holds no JSON object.");
            foreach (var field in (ReadOnlySpan<string>)["dtype", "torch_dtype"])
                if (config.ContainsKey(field)) config[field] = type.ToString().ToLowerInvariant();
            return config.ToJsonString(ModelConfig.JsonOptions) + "\n";
        }
        catch (System.Text.Json.JsonException e)
        {
            throw new PanoptesException($"{file} is not JSON: {e.Message.TrimEnd('.')}.", e);
        }
    }

    static void Rename(string source, string folder, string names, SaveOptions options)
    {
        using var clip = Clip.Load(source, new() { Dtype = null });
        Panoptes.Nn.Module converted = (clip.Model, names) switch
        {
            (OpenClipModel openClip, "hf") => OpenClipConversion.ToClip(openClip),
            (ClipModel hf, "open_clip") => OpenClipConversion.FromClip(hf),
            (OpenClipModel or ClipModel, _) => throw new PanoptesException($"{source} has {names}'s names already."),
            _ => throw new PanoptesException($"{source} holds a {clip.Model.GetType().Name}; names can be converted between Hugging Face's CLIP and open_clip's only."),
        };
        using var renamed = new Clip((DualEncoder)converted, clip.Processor, clip.Tokenizer);
        renamed.Save(folder, options);
    }
}
