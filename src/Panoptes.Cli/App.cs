using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.CommandLine.Parsing;
using System.Runtime.InteropServices;
using Panoptes.Cli.Commands;

namespace Panoptes.Cli;

/// <summary>The command as a function: arguments in, exit code out.</summary>
public static class App
{
    /// <summary>What the exit code says.</summary>
    public const int Success = 0, Failed = 1, WrongUsage = 2, Interrupted = 130, Terminated = 143;

    static readonly AsyncLocal<CancellationToken> stopping = new();

    /// <summary>Cancelled when whoever runs the command stops it: what fetches and loads models listens to it, wherever it is called from.</summary>
    internal static CancellationToken Stopping => stopping.Value;

    /// <summary>Runs one command line.</summary>
    /// <param name="output">Where results go; null: the process's standard output.</param>
    /// <param name="error">Where messages and progress go; null: the process's standard error.</param>
    /// <returns>0; 1 when it failed with a sentence on <paramref name="error"/>; 2 for wrong usage; 130 when it was interrupted (143 by SIGTERM).</returns>
    public static async Task<int> RunAsync(string[] args, TextWriter? output = null, TextWriter? error = null, CancellationToken cancel = default)
    {
        output ??= Console.Out;
        error ??= Console.Error;
        var root = BuildTree();
        var parsed = root.Parse(args);
        var stray = Stray(parsed, args) ?? (parsed.Tokens.Count(Empty) > ((parsed.CommandResult.Command as ExampleCommand)?.MayBeEmpty.Sum(words => parsed.GetResult(words)?.Tokens.Count(Empty) ?? 0) ?? 0) ? "An argument is empty." : null);
        if ((parsed.Errors.Count > 0 && parsed.Action is ParseErrorAction) || (stray is not null && parsed.Action == parsed.CommandResult.Command.Action))
        {
            await error.WriteLineAsync($"panoptes: {stray ?? Complaint(parsed)}");
            await error.WriteLineAsync($"Try '{PathOf(parsed.CommandResult.Command)} --help'.");
            return WrongUsage;
        }
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        stopping.Value = stop.Token;
        var signal = 0;
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, context => Stop(context, Interrupted));
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, context => Stop(context, Terminated));
        try
        {
            return await parsed.InvokeAsync(new() { Output = output, Error = error, EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }, stop.Token);
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            await error.WriteLineAsync("panoptes: interrupted.");
            return signal == 0 ? Interrupted : signal;
        }
        catch (UsageException e)
        {
            await error.WriteLineAsync($"panoptes: {Terminal.Plain(e.Message)}");
            await error.WriteLineAsync($"Try '{PathOf(parsed.CommandResult.Command)} --help'.");
            return WrongUsage;
        }
        catch (Exception e)
        {
            await Report(e, parsed.GetValue(SharedOptions.Verbose), error);
            return Failed;
        }

        static bool Empty(Token token) => token.Value.Length == 0;

        void Stop(PosixSignalContext context, int code)
        {
            // The first signal lets the command put things in order; a second one ends the process as it is, which nothing half-written survives either.
            if (Interlocked.CompareExchange(ref signal, code, 0) != 0) return;
            context.Cancel = true;
            stop.Cancel();
        }
    }

    internal static RootCommand BuildTree()
    {
        var root = new RootCommand("Vision foundation models at the command line: search images by text, segment, detect, caption, generate, classify, embed, train and evaluate.");
        root.Add(new DemoCommand());
        root.Add(new SearchCommand());
        root.Add(new SegmentCommand());
        root.Add(new DetectCommand());
        root.Add(new GroundCommand());
        root.Add(new SessionCommand());
        root.Add(new CaptionCommand());
        root.Add(new DepthCommand());
        root.Add(new ConditionCommand());
        root.Add(new AnswerCommand());
        root.Add(new GenerateCommand());
        root.Add(new ControlCommand());
        root.Add(new ClassifyCommand());
        root.Add(new EmbedCommand());
        root.Add(new EvaluateCommand());
        root.Add(new EvaluateImagesCommand());
        root.Add(new ExplainCommand());
        root.Add(new InfoCommand());
        root.Add(new PullCommand());
        root.Add(new ConvertCommand());
        root.Add(new TrainCommand());
        root.Add(new ClaimsCommand());
        root.Add(new DataCommand());
        root.Add(new CompletionCommand());
        // Those that all command lines of the process share are checked where they are made.
        foreach (var option in OptionsOf(root)) SharedOptions.Numbers(option);
        foreach (var option in SharedOptions.All) root.Add(option);
        foreach (var option in root.Options)
            if (option is HelpOption { Action: HelpAction action } help) help.Action = new HelpWithExample(action);
        return root;
    }

    static IEnumerable<Option> OptionsOf(Command command) => [.. command.Options, .. command.Subcommands.SelectMany(OptionsOf)];

    /// <summary>A word that no command or option takes explains more than the command that is then missing, and a sentence of ours more than the parser's.</summary>
    static string Complaint(ParseResult parsed)
    {
        if (parsed.UnmatchedTokens is not [var word, ..]) return string.Join(' ', (parsed.Errors.FirstOrDefault(static e => e.Message.Contains("; expected ", StringComparison.Ordinal)) ?? parsed.Errors[0]).Message.Split((char[])['\n', '\r', '\t'], StringSplitOptions.RemoveEmptyEntries));
        string[] commands = [.. parsed.CommandResult.Command.Subcommands.Select(static c => c.Name)];
        return commands.Length == 0 || word.StartsWith('-') ? $"'{word}' is not expected here." : $"'{word}' is no command; expected one of {string.Join(", ", commands)}.";
    }

    /// <summary>An option that the command does not have, where any text may stand: it is a slip of the hand, unless it comes after <c>--</c>.</summary>
    static string? Stray(ParseResult parsed, string[] args)
    {
        var literal = Array.IndexOf(args, "--");
        var words = parsed.CommandResult.Children.OfType<ArgumentResult>().SelectMany(static a => a.Tokens).Select(static t => t.Value);
        return words.FirstOrDefault(w => w.StartsWith("--", StringComparison.Ordinal) && (literal < 0 || Array.IndexOf(args, w) < literal)) is { } word ? $"'{word}' is no option of this command." : null;
    }

    static async Task Report(Exception e, bool verbose, TextWriter error)
    {
        if (e is AggregateException { InnerExceptions.Count: 1 }) e = e.InnerException!;
        // libtorch's own allocator tells it in its own words.
        if (e is OutOfMemoryException || e.Message.Contains("alloc_cpu", StringComparison.Ordinal)) await error.WriteLineAsync("panoptes: There is not enough memory for this; expected smaller images, fewer at once (--batch), or fewer bytes a number (--precision bfloat16).");
        else if (e is PanoptesException) await error.WriteLineAsync($"panoptes: {Terminal.Plain(e.Message)}");
        else await error.WriteLineAsync($"panoptes: {OneLine(e)}{(verbose ? "" : " This is a fault of the program; --verbose shows where it happened.")}");
        if (verbose) await error.WriteLineAsync(e.ToString());
    }

    static string OneLine(Exception e)
    {
        var end = e.Message.AsSpan().IndexOfAny('\r', '\n');
        var message = (end < 0 ? e.Message : e.Message[..end]).TrimEnd();
        return message.EndsWith('.') ? message : message + ".";
    }

    internal static string PathOf(Command command) =>
        command.Parents.OfType<Command>().FirstOrDefault() is { } parent ? $"{PathOf(parent)} {command.Name}" : "panoptes";
}

/// <summary>Arguments that parse and yet do not fit together: exit code 2.</summary>
public sealed class UsageException(string message) : Exception(message);

/// <summary>A command whose help ends with a worked example.</summary>
abstract class ExampleCommand(string name, string description, string example) : Command(name, description)
{
    public string Example { get; } = example;

    /// <summary>Where no words may stand, too: images of nothing in particular, or of a model that reads none.</summary>
    public virtual IEnumerable<Symbol> MayBeEmpty => [];
}

/// <summary>The usual help, then the command's example.</summary>
sealed class HelpWithExample(HelpAction inner) : SynchronousCommandLineAction
{
    public override bool Terminating => true;

    public override bool ClearsParseErrors => true;

    public override int Invoke(ParseResult parsed)
    {
        var result = inner.Invoke(parsed);
        var output = parsed.InvocationConfiguration.Output;
        var example = (parsed.CommandResult.Command as ExampleCommand)?.Example ?? """
            panoptes demo
            panoptes search ~/Pictures "a dog on a beach" --sheet found.png
            panoptes classify photo.jpg --labels "an apple,a pear,a cat"
            """;
        output.WriteLine("Examples:");
        foreach (var line in example.Split('\n')) output.WriteLine("  " + line.TrimEnd('\r'));
        output.WriteLine();
        return result;
    }
}
