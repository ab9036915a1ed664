using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;
using Panoptes.Checkpoints;
using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Text;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>Tells what a model is without loading it.</summary>
sealed class InfoCommand : ExampleCommand
{
    static readonly string[] ConfigFiles = ["config.json", "open_clip_config.json"];

    readonly Argument<string> model = new("MODEL") { Description = "A folder, a file or a hub id; or a PNG that panoptes generate has made.", DefaultValueFactory = static _ => SharedOptions.DefaultModel };
    readonly Option<bool> keys = new("--keys") { Description = "List every tensor with its type and shape." };

    public InfoCommand() : base("info", "Tell what a model is: architecture, parameters, types, sizes, configuration, tokenizer, image processor; what a pipeline is made of; or what an image was made with.", """
        panoptes info zoo/clip-emoji
        panoptes info zoo/sd-emoji
        panoptes info openai/clip-vit-base-patch32 --keys
        panoptes info model.safetensors --json
        panoptes info a-red-apple-7.png
        """)
    {
        Add(model);
        Add(keys);
        SetAction(Run);
    }

    sealed record TensorInfo(string Key, string Type, long[] Shape)
    {
        public long Count => Shape.Aggregate(1L, static (a, b) => checked(a * b));
    }

    /// <summary>Tells what an image was made with.</summary>
    static int Made(Terminal terminal, string file)
    {
        var made = ImageParameters.Read(Pictures.Read(file), file) ?? throw new PanoptesException($"{file} does not say how it was made; expected a PNG that panoptes generate has written (other kinds of images keep nothing of it), or a model.");
        if (terminal.IsJson)
        {
            terminal.WriteJson(made);
            return App.Success;
        }
        var table = Terminal.Table("", "").HideHeaders();
        using var fields = JsonDocument.Parse(made.ToJson());
        foreach (var field in fields.RootElement.EnumerateObject()) table.AddRow(Terminal.Escape(field.Name.Replace('_', ' ')), Terminal.Escape(field.Value.ToString()));
        terminal.Write(table);
        return App.Success;
    }

    /// <summary>Tells what a pipeline is made of.</summary>
    static int Pipeline(Terminal terminal, string path)
    {
        var (name, parts) = PipelineFolder.Describe(path);
        var told = parts.Select(static p => (Part: p, Held: Weigh(p.Folder))).ToArray();
        if (terminal.IsJson)
        {
            terminal.WriteJson(new { model = path, pipeline = name, parameters = told.Sum(static t => t.Held?.Parameters ?? 0), parts = told.Select(static t => new { name = t.Part.Name, @class = t.Part.Class, missing = t.Part.Folder is null, parameters = t.Held?.Parameters, types = t.Held?.Types, bytes = t.Held?.Bytes }) });
            return App.Success;
        }
        terminal.Note($"{path} is a {name}, {told.Sum(static t => t.Held?.Parameters ?? 0):n0} parameters; panoptes info {Path.Combine(path, told.FirstOrDefault(static t => t.Held is not null).Part?.Name ?? "PART")} tells more of a part.");
        var table = Terminal.Table("Part", "Class", "Parameters", "Types", "Size");
        foreach (var (part, held) in told)
            table.AddRow(Terminal.Escape(part.Name), Terminal.Escape(part.Class), held is { } h ? $"{h.Parameters:n0}" : part.Folder is null ? "missing" : "", held is null ? "" : string.Join(", ", held.Types), held is { } w ? Size(w.Bytes) : "");
        terminal.Write(table);
        return App.Success;
    }

    sealed record Weighed(long Parameters, IReadOnlyList<string> Types, long Bytes);

    /// <summary>A part's weights; null where it has none, as schedulers and tokenizers have.</summary>
    static Weighed? Weigh(string? folder)
    {
        if (folder is null || !Directory.EnumerateFiles(folder).Any(static f => Path.GetExtension(f) is ".safetensors" or ".bin" or ".pth" or ".pt")) return null;
        using var weights = Weights.Open(folder);
        var tensors = weights.Keys.Select(key => (weights.Info(key), File: weights.FileOf(key))).Select(static t => (t.Item1.Item1, t.Item1.Item2, t.File)).ToArray();
        return new(tensors.Sum(static t => t.Item2.Aggregate(1L, static (a, b) => checked(a * b))), [.. tensors.Select(static t => TypeName(t.Item1)).Distinct().Order(StringComparer.Ordinal)], tensors.Select(static t => t.File).Distinct().Sum(static f => new FileInfo(f).Length));
    }

    int Run(ParseResult parsed)
    {
        var terminal = new Terminal(parsed);
        if (parsed.GetRequiredValue(model) is var named && File.Exists(named) && Pictures.Holds(named)) return Made(terminal, named);
        var path = ModelLoader.Resolve(parsed, named);
        if (PipelineFolder.Is(path)) return Pipeline(terminal, path);
        using var weights = Weights.Open(path);
        TensorInfo[] tensors = [.. weights.Keys.Select(key => weights.Info(key) is var (type, shape) ? new TensorInfo(key, TypeName(type), shape) : null!)];
        var folder = Directory.Exists(path) ? path : Path.GetDirectoryName(path)!;
        var (configFile, config) = Config(folder);
        var files = tensors.Select(t => weights.FileOf(t.Key)).Distinct().Select(static f => (Name: f, Bytes: new FileInfo(f).Length)).ToArray();
        var summary = new
        {
            model = path,
            architecture = Architecture(config, tensors),
            parameters = tensors.Sum(static t => t.Count),
            tensors = tensors.Length,
            types = tensors.GroupBy(static t => t.Type).ToDictionary(static g => g.Key, static g => g.Sum(static t => t.Count)),
            files = files.Select(static f => new { name = Path.GetFileName(f.Name), bytes = f.Bytes }),
            tokenizer = Part(folder, TokenizerFiles, static f => Tokenizer.Load(f).GetType().Name),
            processor = Part(folder, ["preprocessor_config.json", "open_clip_config.json"], static f => Describe(ImageProcessor.Load(f))),
            config,
            keys = parsed.GetValue(keys) ? tensors : null,
        };
        if (terminal.IsJson)
        {
            terminal.WriteJson(summary);
            return App.Success;
        }
        var table = Terminal.Table("", "").HideHeaders();
        table.AddRow("Model", Terminal.Escape(path));
        table.AddRow("Architecture", Terminal.Escape(summary.architecture));
        table.AddRow("Parameters", $"{summary.parameters:n0} in {tensors.Length} tensors");
        table.AddRow("Types", string.Join(", ", summary.types.Select(static t => $"{t.Key} {t.Value:n0}")));
        foreach (var (name, bytes) in files) table.AddRow("File", $"{Terminal.Escape(Path.GetFileName(name))} ({Size(bytes)})");
        table.AddRow("Tokenizer", Terminal.Escape(summary.tokenizer ?? "none"));
        table.AddRow("Processor", Terminal.Escape(summary.processor ?? "none"));
        terminal.Write(table);
        if (config is not null)
        {
            var tree = new Tree($"[bold]{Path.GetFileName(configFile)}[/]");
            AddFields(tree, config);
            terminal.Write(tree);
        }
        if (parsed.GetValue(keys))
        {
            var list = Terminal.Table("Key", "Type", "Shape");
            foreach (var t in tensors) list.AddRow(Terminal.Escape(t.Key), t.Type, Terminal.Escape($"[{string.Join(", ", t.Shape)}]"));
            terminal.Write(list);
        }
        return App.Success;
    }

    static readonly string[] TokenizerFiles = ["tokenizer.json", "vocab.json", "tokenizer_config.json", "open_clip_config.json"];

    static string TypeName(TorchSharp.torch.ScalarType type) => TensorDType.All.FirstOrDefault(d => d.ScalarType == type)?.Name ?? type.ToString();

    static (string? File, JsonObject? Config) Config(string folder)
    {
        foreach (var name in ConfigFiles)
        {
            var file = Path.Combine(folder, name);
            if (!File.Exists(file)) continue;
            try
            {
                return (file, JsonNode.Parse(ModelFolder.ReadText(file)) as JsonObject ?? throw new PanoptesException($"{file} holds no JSON object."));
            }
            catch (JsonException e)
            {
                throw new PanoptesException($"{file} is not JSON: {e.Message.TrimEnd('.')}.", e);
            }
        }
        return (null, null);
    }

    static string Architecture(JsonObject? config, TensorInfo[] tensors)
    {
        if (config?["architectures"] is JsonArray { Count: > 0 } list) return string.Join(", ", list.Select(static a => a?.ToString()));
        if (config?["model_type"] is { } type) return type.ToString();
        if (config?["model_cfg"] is not null) return "open_clip CLIP";
        return tensors.Any(static t => t.Key == "visual.conv1.weight") ? "OpenAI CLIP" : "unknown (no config.json beside the weights)";
    }

    /// <summary>What a part says of itself, what is wrong with it, or null where the folder has none.</summary>
    static string? Part(string folder, string[] files, Func<string, string> describe)
    {
        if (!files.Any(f => File.Exists(Path.Combine(folder, f)))) return null;
        try
        {
            return describe(folder);
        }
        catch (PanoptesException e)
        {
            return $"cannot be read: {e.Message}";
        }
    }

    static string Describe(ImageProcessor processor)
    {
        var size = processor is PictureProcessor picture && picture.OutputSize(new Image(512, 512, 3)) is var (height, width) ? $", to {width}x{height} pixels" : "";
        return $"{processor.GetType().Name}{size}, mean {Numbers(processor.Mean)}, deviation {Numbers(processor.Std)}";
    }

    static string Numbers(float[] values) => string.Join(" ", values.Select(static v => $"{v:0.###}"));

    static void AddFields(IHasTreeNodes tree, JsonObject fields)
    {
        foreach (var (name, value) in fields)
        {
            if (value is JsonObject inner) AddFields(tree.AddNode($"[bold]{Terminal.Escape(name)}[/]"), inner);
            else tree.AddNode(Terminal.Escape($"{name}: {value?.ToJsonString() ?? "null"}"));
        }
    }

    internal static string Size(long bytes) => bytes < 1 << 20 ? $"{bytes / 1024.0:0.0} KiB" : bytes < 1L << 30 ? $"{bytes / 1048576.0:0.0} MiB" : $"{bytes / 1073741824.0:0.00} GiB";
}
