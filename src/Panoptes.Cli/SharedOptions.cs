using System.CommandLine;
using System.Globalization;
using Panoptes.Imaging;

namespace Panoptes.Cli;

/// <summary>The options that every command has. One set for the process: they hold no state.</summary>
static class SharedOptions
{
    public const string DefaultModel = "zoo/clip-emoji";

    /// <summary>The bundled model that makes images of words.</summary>
    public const string DefaultGenerator = "zoo/sd-emoji";

    /// <summary>The bundled ControlNet of lines.</summary>
    public const string DefaultLines = "zoo/controlnet-lines-emoji";

    /// <summary>What answers places where no other model is named, and what finds boxes for it, and for whoever asks in words.</summary>
    public const string DefaultSegmenter = "zoo/sam-emoji", DefaultFinder = "zoo/xdecoder-emoji";

    public static Option<bool> Json { get; } = new("--json") { Description = "Print the result as JSON.", Recursive = true };

    public static Option<string> Device { get; } = Completed(new Option<string>("--device")
    {
        Description = "Where the model runs: cpu, cuda, cuda:1, mps.",
        HelpName = "DEVICE",
        DefaultValueFactory = static _ => "cpu",
        Recursive = true,
    }, "cpu", "cuda", "mps");

    public static Option<string> Precision { get; } = new("--precision")
    {
        Description = "What the model computes in: float32, bfloat16, or auto (bfloat16 where the processor has it).",
        HelpName = "TYPE",
        DefaultValueFactory = static _ => "float32",
        Recursive = true,
    };

    public static Option<int?> Threads { get; } = new("--threads") { Description = "Threads of computation; all cores by default.", HelpName = "N", Recursive = true };

    public static Option<bool> Verbose { get; } = new("--verbose") { Description = "Show where an unexpected error happened.", Recursive = true };

    public static Option[] All { get; } = Check();

    public static Option<string> Model() => new("--model", "-m")
    {
        Description = "The model: a folder, a file or a hub id (OWNER/NAME[@REVISION]).",
        HelpName = "MODEL",
        DefaultValueFactory = static _ => DefaultModel,
    };

    /// <summary>Refuses 0 and less; what is no number at all is refused before this is asked.</summary>
    public static void AtLeastOne(Option option) => option.Validators.Add(result =>
    {
        if (result.Tokens is [var token] && int.TryParse(token.Value, out var number) && number < 1) result.AddError($"{option.Name} is {number}; expected 1 or more.");
    });

    /// <summary>Refuses what is above <paramref name="most"/>, too.</summary>
    public static void OneTo(Option option, int most) => option.Validators.Add(result =>
    {
        foreach (var token in result.Tokens)
            if (int.TryParse(token.Value, out var number) && (number < 1 || number > most)) result.AddError($"{option.Name} is {number}; expected 1 to {most.ToString("N0", CultureInfo.InvariantCulture)}.");
    });

    /// <summary>Refuses what is none of <paramref name="values"/>.</summary>
    public static void OneOf(Option option, params string[] values)
    {
        option.CompletionSources.Add(values);
        option.Validators.Add(result =>
        {
            foreach (var token in result.Tokens)
                if (!values.Contains(token.Value, StringComparer.Ordinal)) result.AddError($"{option.Name} is '{token.Value}'; expected {string.Join(", ", values[..^1])} or {values[^1]}.");
        });
    }

    /// <summary>Refuses what is no number where one is expected, also by a comma that stands for its point: it would be taken for one that separates thousands.</summary>
    public static void Numbers(Option option)
    {
        var type = option.ValueType.IsArray ? option.ValueType.GetElementType()! : option.ValueType;
        type = Nullable.GetUnderlyingType(type) ?? type;
        var (isWhole, isNumber) = (type == typeof(int) || type == typeof(long), type == typeof(double) || type == typeof(float));
        if (!isWhole && !isNumber) return;
        option.Validators.Add(result =>
        {
            foreach (var token in result.Tokens)
                if (!(isNumber ? double.TryParse(token.Value, NumberStyles.Float, CultureInfo.InvariantCulture, out _)
                    : long.TryParse(token.Value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var whole) && (type == typeof(long) || whole is >= int.MinValue and <= int.MaxValue)))
                    result.AddError($"{option.Name} is '{token.Value}'; expected a {(isWhole ? "whole number" : "number")}.");
        });
    }

    /// <summary>Whether the user has said it.</summary>
    public static bool IsGiven(ParseResult parsed, Option option) => parsed.GetResult(option) is { Implicit: false };

    /// <summary>Refuses options that would do nothing.</summary>
    /// <param name="parsed">What the user has said.</param>
    /// <param name="why">What they go with, a whole clause: "goes with a ControlNet".</param>
    /// <param name="options">Of which none may be given.</param>
    /// <exception cref="UsageException">One is.</exception>
    public static void Idle(ParseResult parsed, string why, params ReadOnlySpan<Option> options)
    {
        foreach (var option in options)
            if (IsGiven(parsed, option)) throw new UsageException($"{option.Name} {why}.");
    }

    /// <summary>Refuses what is not from 0 to 1.</summary>
    public static void Share(Option option) => option.Validators.Add(result =>
    {
        foreach (var token in result.Tokens)
            if (double.TryParse(token.Value, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && number is not (>= 0 and <= 1)) result.AddError($"{option.Name} is {token.Value}; expected 0 to 1.");
    });

    /// <summary>The templates that were given, or null; <paramref name="what"/> is what goes into their {}.</summary>
    /// <exception cref="UsageException">One has no place for it.</exception>
    public static string[]? Templates(ParseResult parsed, Option<string[]> option, string what)
    {
        var templates = parsed.GetValue(option) is { Length: > 0 } given ? given : null;
        foreach (var bad in templates ?? [])
            if (!bad.Contains("{}", StringComparison.Ordinal)) throw new UsageException($"The template '{bad}' has no {{}} where the {what} would go.");
        return templates;
    }

    /// <summary>Refuses a file's name that ends in none of <paramref name="endings"/>.</summary>
    public static void EndsIn(Option option, params string[] endings) => option.Validators.Add(result =>
    {
        if (result.Tokens is [var token] && !endings.Contains(Path.GetExtension(token.Value), StringComparer.OrdinalIgnoreCase))
            result.AddError($"{option.Name} is '{token.Value}'; expected a name that ends in {string.Join(", ", endings[..^1])} or {endings[^1]}.");
    });

    static Option[] Check()
    {
        Device.Validators.Add(static result =>
        {
            if (result.Tokens is [var token] && !IsDevice(token.Value)) result.AddError($"--device is '{token.Value}'; expected cpu, cuda, cuda:N or mps.");
        });
        OneOf(Precision, "float32", "bfloat16", "auto");
        AtLeastOne(Threads);
        Numbers(Threads);
        return [Json, Device, Precision, Threads, Verbose];
    }

    static bool IsDevice(string name) => name is "cpu" or "cuda" or "mps"
        || (name.StartsWith("cuda:", StringComparison.Ordinal) && int.TryParse(name.AsSpan(5), NumberStyles.None, CultureInfo.InvariantCulture, out _));

    static Option<string> Completed(Option<string> option, params string[] values)
    {
        option.CompletionSources.Add(values);
        return option;
    }

    /// <summary>Image files that are given one by one, all of which must be there before any is looked at.</summary>
    /// <exception cref="PanoptesException">One is missing, or is a folder.</exception>
    internal static string[] ImageFiles(ParseResult parsed, Argument<string[]> images)
    {
        var files = parsed.GetRequiredValue(images);
        foreach (var file in files)
            if (!File.Exists(file)) throw new PanoptesException(Directory.Exists(file) ? $"{file} is a folder; expected an image file." : $"{file} does not exist.");
        return files;
    }

    /// <summary>Reads and decodes image files on all cores, in their order.</summary>
    internal static Image[] LoadImages(string[] files) => [.. files.AsParallel().AsOrdered().Select(static f => Image.Load(f))];
}
