using System.CommandLine;
using Panoptes.Data.Knowledge;
using Panoptes.Data.Speech;

namespace Panoptes.Cli.Commands;

/// <summary>What WordNet says about the emoji's concepts.</summary>
sealed class BuildKnowledgeCommand : ExampleCommand
{
    readonly Option<string> output = new("--out", "-o") { Description = "The folder that it goes to.", HelpName = "DIR", DefaultValueFactory = static _ => Path.Combine("data", "knowledge") };

    public BuildKnowledgeCommand() : base("knowledge", "Look up the emoji's concepts in WordNet: definitions and hypernyms beside their keywords, as JSON lines (downloads about 10 MB once).", """
        panoptes data build knowledge
        panoptes data build knowledge --out /tmp/knowledge
        """)
    {
        Add(output);
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var folder = parsed.GetRequiredValue(output);
        var found = await KnowledgeBuilder.BuildAsync(new() { Output = folder }, cancel);
        if (terminal.IsJson) terminal.WriteJson(new { folder, coverage = found });
        else terminal.WriteLine($"{found.Concepts} concepts in {folder}: {found.Definitions} with a definition, {found.Hypernyms} with hypernyms, {found.Keywords} with keywords.");
        return App.Success;
    }
}

/// <summary>Names of the emoji's concepts, spoken.</summary>
sealed class BuildSpeechCommand : ExampleCommand
{
    readonly Option<string> output = new("--out", "-o") { Description = "The folder that it goes to.", HelpName = "DIR", DefaultValueFactory = static _ => Path.Combine("data", "speech") };

    public BuildSpeechCommand() : base("speech", "Have the names of 400 concepts spoken in six voices by espeak-ng, which has to be installed (apt-get install espeak-ng).", """
        panoptes data build speech
        panoptes data build speech --out /tmp/speech
        """)
    {
        Add(output);
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var folder = parsed.GetRequiredValue(output);
        var built = await terminal.WithProgressAsync("Building speech", progress => SpeechBuilder.BuildAsync(new() { Output = folder }, new Clips(progress), cancel));
        var seconds = built.Clips.Sum(static c => (double)c.Samples) / SpeechSet.SampleRate;
        if (terminal.IsJson) terminal.WriteJson(new { folder, clips = built.Clips.Count, concepts = built.Concepts.Count, voices = built.Voices, seconds });
        else terminal.WriteLine($"{built.Clips.Count} recordings in {folder}: {built.Concepts.Count} names in {built.Voices.Count} voices, {seconds / 60:F0} minutes.");
        return App.Success;
    }

    sealed class Clips(IProgress<Step> progress) : IProgress<SpeechBuildProgress>
    {
        public void Report(SpeechBuildProgress value) => progress.Report(new(value.Done, value.Total));
    }
}
