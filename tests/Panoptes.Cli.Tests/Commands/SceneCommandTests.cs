using System.Text.Json;
using Panoptes.Imaging;

namespace Panoptes.Cli.Tests.Commands;

/// <summary>Scenes by command.</summary>
public sealed class SceneCommandTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task Scenes_are_built_into_a_folder_once()
    {
        string[] args = ["data", "build", "scenes", "--out", folder["s"], "--count", "5", "--size", "48", "--seed", "3"];
        var built = await Command.Succeeds(args);
        Assert.StartsWith($"5 scenes of 48x48 pixels in {folder["s"]};", built.Output, StringComparison.Ordinal);
        Assert.Equal(5, Directory.GetFiles(Path.Combine(folder["s"], "images")).Length);
        Assert.Equal(5, JsonDocument.Parse(File.ReadAllText(Path.Combine(folder["s"], "annotations.json"))).RootElement.GetProperty("images").GetArrayLength());
        await Command.Fails(args, folder["s"], "is there already");
        Assert.InRange((await Command.Succeeds("data", "build", "scenes", "--out", folder["few"], "--count", "2", "--size", "48", "--concepts", "60", "--photographs", "--ground", "0.5", "--json")).Json.GetProperty("concepts").GetInt32(), 10, 60);
    }

    [Fact]
    public async Task Scenes_are_drawn_on_a_sheet()
    {
        var shown = await Command.Succeeds("data", "show", "scenes", "--out", folder["s.png"], "--count", "2", "--cell", "64", "--split", "held-out-style", "--json");
        Assert.Equal(2, shown.Json.GetProperty("scenes").GetArrayLength());
        Assert.InRange(Image.Load(folder["s.png"]).Width, 300, 1000);
    }

    [Fact]
    public async Task Impossible_options_are_told_and_nothing_is_written()
    {
        await Command.Fails(["data", "build", "scenes", "--out", folder["s"], "--size", "20"], "Size is 20", "32 to 1024");
        await Command.Fails(["data", "build", "scenes", "--out", folder["s"], "--ground", "2"], "Ground is 2", "0 to 1");
        await Command.Fails(["data", "build", "scenes", "--out", folder["s"], "--min-objects", "5"], "MinObjects is 5", "1 to 4");
        await Command.Fails(["data", "build", "scenes", "--out", folder["s"], "--concepts", "0"], "0 concepts were asked for");
        await Command.Fails(["data", "show", "scenes", "--out", folder["s.png"], "--count", "500"], "500", "at most 200");
        await Command.Fails(["data", "show", "scenes", "--out", folder["s.png"], "--cell", "4"], "cell size of 4");
        Assert.Empty(Directory.GetFileSystemEntries(folder.Path));
        Assert.Equal(App.WrongUsage, (await Command.Run("data", "build", "scenes", "--split", "other")).Code);
    }
}
