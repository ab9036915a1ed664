using System.Text.Json;

namespace Panoptes.Cli.Tests;

/// <summary>What a command line gave.</summary>
sealed record Command(int Code, string Output, string Error)
{
    public JsonElement Json => JsonDocument.Parse(Output).RootElement;

    /// <summary>Runs a command line in this process.</summary>
    public static async Task<Command> Run(params string[] args)
    {
        using StringWriter output = new(), error = new();
        var code = await App.RunAsync(args, output, error);
        return new(code, output.ToString(), error.ToString());
    }

    /// <summary>Runs a command that must work.</summary>
    public static async Task<Command> Succeeds(params string[] args)
    {
        var result = await Run(args);
        Assert.True(result.Code == App.Success, $"panoptes {string.Join(' ', args)}\n{result.Error}");
        return result;
    }

    /// <summary>Runs a command that must fail with exit code 1 and one sentence that holds all of <paramref name="parts"/>.</summary>
    public static async Task Fails(string[] args, params string[] parts)
    {
        var result = await Run(args);
        Assert.Equal((App.Failed, ""), (result.Code, result.Output));
        OneSentence(result.Error, parts);
    }

    public static void OneSentence(string error, params string[] parts)
    {
        Assert.StartsWith("panoptes: ", error, StringComparison.Ordinal);
        Assert.Equal('\n', error[^1]);
        Assert.DoesNotContain('\n', error[..^1]);
        Assert.Contains(error.TrimEnd()[^1], ".:)");
        Assert.DoesNotContain("fault of the program", error, StringComparison.Ordinal);
        Assert.All(parts, p => Assert.Contains(p, error, StringComparison.Ordinal));
    }
}
