using System.Diagnostics;
using System.Globalization;
using Panoptes.Imaging;
using Panoptes.Parity;
using Panoptes.Representation.Tests;
using Panoptes.Search;

namespace Panoptes.Cli.Tests;

/// <summary>The program as a process of its own: signals, and the environment that the hub's settings are in.</summary>
public sealed class ProcessTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("INT", App.Interrupted)]
    [InlineData("TERM", App.Terminated)]
    public async Task A_signal_during_a_long_search_ends_it_and_what_was_indexed_counts(string signal, int code)
    {
        if (OperatingSystem.IsWindows()) return;                                     // there are no such signals
        TinyClip.Write(folder["model"]);
        Directory.CreateDirectory(folder["pictures"]);
        new Image(2000, 2000, 3).Save(folder["one.png"]);
        var png = File.ReadAllBytes(folder["one.png"]);
        for (var i = 0; i < 600; i++) File.WriteAllBytes(folder[$"pictures/{i}.png"], [.. png, .. BitConverter.GetBytes(i)]);   // different contents, slow to decode
        using var process = Start("search", folder["pictures"], "a cat", "--model", folder["model"]);
        var error = process.StandardError.ReadToEndAsync();
        while (!File.Exists(folder["pictures/.panoptes/lock"]) && !process.HasExited) await Task.Delay(5);
        await Task.Delay(200);
        Assert.False(process.HasExited, "it was done before it could be interrupted");
        using (var kill = Process.Start("kill", [$"-{signal}", process.Id.ToString(CultureInfo.InvariantCulture)])) await kill.WaitForExitAsync();
        await process.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(60));
        Assert.Equal((code, "panoptes: interrupted.\n"), (process.ExitCode, await error));
        Assert.DoesNotContain(Directory.GetFiles(folder.Path, "*", SearchOption.AllDirectories), static f => f.EndsWith(".tmp", StringComparison.Ordinal));
        if (!VectorIndex.Exists(folder["pictures/.panoptes"])) return;
        using var index = VectorIndex.Open(folder["pictures/.panoptes"]);
        index.Verify();
        Assert.True(index.Count < 600);
    }

    [Fact]
    public async Task Pull_fetches_a_model_that_every_command_then_takes_by_its_id()
    {
        using var hub = new HubServer();
        TinyClip.Write(folder["model"]);
        foreach (var file in Directory.GetFiles(folder["model"])) hub.Files[Path.GetFileName(file)] = File.ReadAllBytes(file);
        hub.Revisions["v1"] = new string('c', 40);
        (string, string)[] environment = [("HF_HOME", folder["home"]), ("HF_ENDPOINT", hub.Endpoint.AbsoluteUri), ("HF_TOKEN", "hf_secret")];

        var pulled = await Run(environment, "pull", HubServer.Model, "--json");
        Assert.Equal((0, ""), (pulled.Code, pulled.Error));
        Assert.Equal(folder[$"home/hub/models--owner--tiny/snapshots/{HubServer.Commit}"], pulled.Json.GetProperty("folder").GetString());
        Assert.Equal(hub.Files.Keys.Order(StringComparer.Ordinal), pulled.Json.GetProperty("files").EnumerateArray().Select(static f => f.GetString()!));
        Assert.All(hub.Requests, static r => Assert.Equal("Bearer hf_secret", r.Header("Authorization")));
        Assert.Contains(new string('c', 40), (await Run(environment, "pull", $"{HubServer.Model}@v1")).Output, StringComparison.Ordinal);

        hub.Requests.Clear();
        Assert.Equal("CLIPModel", (await Run([.. environment, ("HF_HUB_OFFLINE", "1")], "info", HubServer.Model, "--json")).Json.GetProperty("architecture").GetString());
        Assert.Empty(hub.Requests);

        var missing = await Run(environment, "pull", "owner/none");
        Assert.Equal((App.Failed, ""), (missing.Code, missing.Output));
        Command.OneSentence(missing.Error, "owner/none was not found on");
        var offline = await Run([.. environment, ("HF_HUB_OFFLINE", "1")], "info", "owner/none");
        Assert.Equal(App.Failed, offline.Code);
        Command.OneSentence(offline.Error, "owner/none", "HF_HUB_OFFLINE");
        var address = await Run([("HF_ENDPOINT", "huggingface.co")], "pull", HubServer.Model);
        Assert.Equal(App.Failed, address.Code);
        Command.OneSentence(address.Error, "HF_ENDPOINT is huggingface.co");
    }

    [Fact]
    public async Task A_pipeline_is_fetched_by_its_id_and_makes_the_image_of_its_folder()
    {
        using var hub = new HubServer();
        var pipeline = Path.Combine(Goldens.Root, "generation", "sd_text2img");
        foreach (var file in Directory.GetFiles(pipeline, "*", SearchOption.AllDirectories)) hub.Files[Path.GetRelativePath(pipeline, file)] = File.ReadAllBytes(file);
        (string, string)[] environment = [("HF_HOME", folder["home"]), ("HF_ENDPOINT", hub.Endpoint.AbsoluteUri)];
        string[] words = ["generate", "a red apple", "--size", "16", "--steps", "1", "--seed", "1"];
        Assert.Equal((0, ""), await Run(environment, [.. words, "--model", HubServer.Model, "--out", folder["hub.png"], "--json"]) is var made ? (made.Code, made.Error) : default);
        Assert.DoesNotContain(hub.Requests, static r => r.Path.Contains("outputs.safetensors", StringComparison.Ordinal));
        hub.Requests.Clear();
        var again = await Run([.. environment, ("HF_HUB_OFFLINE", "1")], "generate", "--from", folder["hub.png"], "--out", folder["again.png"], "--json");
        Assert.Equal((0, ""), (again.Code, again.Error));
        Assert.Empty(hub.Requests);
        Assert.Equal(File.ReadAllBytes(folder["hub.png"]), File.ReadAllBytes(folder["again.png"]));
        await Run(environment, [.. words, "--model", pipeline, "--out", folder["local.png"]]);
        Assert.Equal(Imaging.Image.Load(folder["local.png"]).Pixels, Imaging.Image.Load(folder["hub.png"]).Pixels);
    }

    [Fact]
    public async Task Whoever_stops_a_command_stops_the_download_of_its_model()
    {
        using var hub = new HubServer();
        var pipeline = Path.Combine(Goldens.Root, "generation", "sd_text2img");
        foreach (var file in Directory.GetFiles(pipeline, "*", SearchOption.AllDirectories)) hub.Files[Path.GetRelativePath(pipeline, file)] = File.ReadAllBytes(file);
        hub.Instead = static r => r.Method == "GET" && r.Path.Contains("unet/diffusion_pytorch_model", StringComparison.Ordinal) ? new(200, new byte[100]) { Length = 1000, Cut = 50, Stalls = true } : null;
        using var process = Start(["generate", "a red apple", "--size", "16", "--steps", "1", "--model", HubServer.Model, "--out", folder["hub.png"]], [("HF_HOME", folder["home"]), ("HF_ENDPOINT", hub.Endpoint.AbsoluteUri)]);
        var error = process.StandardError.ReadToEndAsync();
        while (!hub.Requests.Any(static r => r.Method == "GET" && r.Path.Contains("unet/diffusion_pytorch_model", StringComparison.Ordinal)) && !process.HasExited) await Task.Delay(20);
        Assert.False(process.HasExited, "it was done before it could be interrupted");
        using (var kill = Process.Start("kill", ["-INT", process.Id.ToString(CultureInfo.InvariantCulture)])) await kill.WaitForExitAsync();
        await process.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(20));
        Assert.Equal(App.Interrupted, process.ExitCode);
        Assert.EndsWith("panoptes: interrupted.\n", await error, StringComparison.Ordinal);
        Assert.False(File.Exists(folder["hub.png"]));
    }

    static async Task<Command> Run((string Name, string Value)[] environment, params string[] args)
    {
        using var process = Start(args, environment);
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.WaitForExitAsync();
        return new(process.ExitCode, await output, await error);
    }

    static Process Start(params string[] args) => Start(args, []);

    static Process Start(string[] args, (string Name, string Value)[] environment)
    {
        // Tests that run in the background may have been told to ignore signals, which a child would inherit.
        string[] command = OperatingSystem.IsLinux() ? ["env", "--default-signal=INT,TERM", "dotnet"] : ["dotnet"];
        var start = new ProcessStartInfo(command[0], [.. command[1..], typeof(App).Assembly.Location, .. args]) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var name in start.Environment.Keys.Where(static k => k.StartsWith("HF_", StringComparison.Ordinal)).ToArray()) start.Environment.Remove(name);
        foreach (var (name, value) in environment) start.Environment[name] = value;
        return Process.Start(start)!;
    }
}
