using System.CommandLine;
using System.Text.Encodings.Web;
using System.Text.Json;
using Panoptes.Checkpoints;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace Panoptes.Cli;

/// <summary>How far something long has come.</summary>
readonly record struct Step(double Done, double Total);

/// <summary>What a command prints with: results to standard output, messages and progress to standard error, and progress only where a person looks.</summary>
sealed class Terminal
{
    static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(700);

    internal static readonly JsonSerializerOptions JsonOptions = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DictionaryKeyPolicy = null,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };

    readonly TextWriter output, error;
    readonly Lazy<IAnsiConsole> results, messages;
    readonly int? threads;

    public Terminal(ParseResult parsed)
    {
        (output, error) = (parsed.InvocationConfiguration.Output, parsed.InvocationConfiguration.Error);
        (IsJson, threads) = (parsed.GetValue(SharedOptions.Json), parsed.GetValue(SharedOptions.Threads));
        results = new(() => Create(output, ReferenceEquals(output, Console.Out) && !Console.IsOutputRedirected));
        messages = new(() => Create(error, IsInteractive));
    }

    /// <summary>Whether the result is to be JSON and nothing else.</summary>
    public bool IsJson { get; }

    /// <summary>Whether a person sees the messages.</summary>
    public bool IsInteractive => ReferenceEquals(error, Console.Error) && !Console.IsErrorRedirected;

    /// <summary>The console for results: colors on a terminal, plain text when piped.</summary>
    public IAnsiConsole Results => results.Value;

    public IAnsiConsole Messages => messages.Value;

    public void WriteJson(object value) => output.WriteLine(JsonSerializer.Serialize(value, JsonOptions));

    public void WriteLine(string line = "") => output.WriteLine(line);

    /// <summary>A message beside the result.</summary>
    public void Note(string message) => error.WriteLine(Plain(message));

    /// <summary>A text, which may come from a file, as it is safe to be shown: what would command the terminal stands as a replacement character.</summary>
    internal static string Plain(string text) => text.Any(IsCommand) ? string.Concat(text.Select(static c => IsCommand(c) ? '\uFFFD' : c)) : text;

    static bool IsCommand(char c) => char.IsControl(c) && c is not ('\n' or '\r' or '\t');

    /// <summary>The same between markup.</summary>
    internal static string Escape(string text) => Markup.Escape(Plain(text));

    public void Write(IRenderable what) => Results.Write(what);

    public static Table Table(params ReadOnlySpan<string> columns)
    {
        var table = new Table { Border = TableBorder.Rounded, UseSafeBorder = true };
        foreach (var column in columns) table.AddColumn(new TableColumn($"[bold]{Terminal.Escape(column)}[/]"));
        return table;
    }

    /// <summary>Runs something that may take long on another thread; after a moment a bar shows how far it is, if a person looks.</summary>
    public async Task<T> WithProgress<T>(string title, Func<IProgress<Step>, T> work) => await WithProgressAsync(title, progress => Task.FromResult(work(progress)));

    /// <summary>The same over files, a chunk of them at a time, so that no more images or sounds than that are in memory at once.</summary>
    /// <param name="title">What is going on.</param>
    /// <param name="files">All of them.</param>
    /// <param name="work">Gives one result a file of the chunk, in their order.</param>
    /// <param name="cancel">Stops between chunks.</param>
    /// <param name="size">How many files a chunk has.</param>
    public Task<List<T>> InChunks<T>(string title, string[] files, Func<string[], IReadOnlyList<T>> work, CancellationToken cancel, int size = 64) => WithProgress(title, progress =>
    {
        var all = new List<T>(files.Length);
        foreach (var chunk in files.Chunk(size))
        {
            cancel.ThrowIfCancellationRequested();
            all.AddRange(work(chunk));
            progress.Report(new(all.Count, files.Length));
        }
        return all;
    });

    /// <inheritdoc cref="WithProgress{T}"/>
    public async Task<T> WithProgressAsync<T>(string title, Func<IProgress<Step>, Task<T>> work)
    {
        var state = new Latest();
        var running = Task.Run(() =>
        {
            // libtorch counts the threads of each thread that computes; one that has computed before keeps its own.
            if (threads is { } count) TorchSharp.torch.set_num_threads(count);
            return work(state);
        });
        if (!IsInteractive || await Task.WhenAny(running, Task.Delay(Patience)) == running) return await running;
        await Messages.Progress().AutoClear(true).HideCompleted(true)
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn(), new SpinnerColumn())
            .StartAsync(async context =>
            {
                var bar = context.AddTask(Terminal.Escape(title));
                bar.IsIndeterminate = true;
                while (!running.IsCompleted)
                {
                    if (state.Value is { Total: > 0 } step)
                    {
                        bar.IsIndeterminate = false;
                        bar.MaxValue = step.Total;
                        bar.Value = step.Done;
                    }
                    await Task.WhenAny(running, Task.Delay(100));
                }
            });
        return await running;
    }

    static IAnsiConsole Create(TextWriter writer, bool interactive)
    {
        var console = AnsiConsole.Create(new()
        {
            Out = new AnsiConsoleOutput(writer),
            Ansi = interactive ? AnsiSupport.Detect : AnsiSupport.No,
            ColorSystem = interactive ? ColorSystemSupport.Detect : ColorSystemSupport.NoColors,
            Interactive = interactive ? InteractionSupport.Detect : InteractionSupport.No,
        });
        if (!interactive) console.Profile.Width = 160;                                // a pipe has no width: do not wrap at 80
        return console;
    }

    /// <summary>Keeps the last report only: a bar is drawn ten times a second, however often there is news.</summary>
    sealed class Latest : IProgress<Step>
    {
        volatile object? value;

        public Step? Value => (Step?)value;

        public void Report(Step step) => value = step;
    }
}

/// <summary>A count's progress as a bar's.</summary>
sealed class CountedSteps(IProgress<Step> progress, int total) : IProgress<int>
{
    public void Report(int value) => progress.Report(new(value, total));
}

/// <summary>A download's progress as a bar's.</summary>
sealed class HubSteps(IProgress<Step> progress) : IProgress<HubProgress>
{
    public void Report(HubProgress value) => progress.Report(new(value.Bytes, value.Size));
}
