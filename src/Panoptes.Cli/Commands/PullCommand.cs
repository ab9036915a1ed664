using System.CommandLine;
using Panoptes.Checkpoints;

namespace Panoptes.Cli.Commands;

/// <summary>Downloads a model from the hub.</summary>
sealed class PullCommand : ExampleCommand
{
    readonly Argument<string> id = new("ID") { Description = "OWNER/NAME, or OWNER/NAME@REVISION." };
    readonly Option<string[]> include = new("--include") { Description = "Only files like this (* and ?); may be repeated. By default the settings and one set of weights; of a diffusion pipeline those of all its parts.", HelpName = "PATTERN" };

    public PullCommand() : base("pull", "Download a model from the hub into the cache that the Python tools use too. HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE count.", """
        panoptes pull openai/clip-vit-base-patch32
        panoptes pull google/siglip-base-patch16-224@main --json
        panoptes pull stable-diffusion-v1-5/stable-diffusion-v1-5
        """)
    {
        Add(id);
        Add(include);
        SetAction(RunAsync);
    }

    async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        var terminal = new Terminal(parsed);
        var name = parsed.GetRequiredValue(id);
        if (HubId.TryParse(name) is null) throw new UsageException($"'{name}' is no hub id; expected OWNER/NAME or OWNER/NAME@REVISION.");
        var options = HubOptions.FromEnvironment() with { Files = parsed.GetValue(include) ?? [] };
        var folder = await terminal.WithProgressAsync($"Pulling {name}", progress => Hub.DownloadAsync(name, options, new HubSteps(progress), cancel));
        if (terminal.IsJson)
            terminal.WriteJson(new { model = name, folder, files = Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(folder, f)).Order(StringComparer.Ordinal) });
        else terminal.WriteLine(folder);
        return App.Success;
    }
}
