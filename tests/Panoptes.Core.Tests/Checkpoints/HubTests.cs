using System.Text;
using Panoptes.Checkpoints;

namespace Panoptes.Core.Tests.Checkpoints;

/// <summary>Downloads over real connections from a hub that is honest, careless or hostile.</summary>
public sealed class HubTests : IDisposable
{
    const string Id = HubServer.Model;

    static readonly byte[] Config = Encoding.UTF8.GetBytes("""{"model_type": "clip"}""");
    static readonly byte[] WeightsFile = Noise(300_000);

    readonly TemporaryFolder folder = new();
    readonly HubServer store = new();
    readonly HubServer hub;

    public HubTests()
    {
        hub = new() { Store = store };
        foreach (var server in (HubServer[])[hub, store])
        {
            server.Files["config.json"] = Config;
            server.Files["model.safetensors"] = WeightsFile;
            server.Files["pytorch_model.bin"] = Noise(2000);
            server.Files["onnx/model.onnx"] = Noise(2000);
        }
    }

    string Repository => folder["models--owner--tiny"];

    string Snapshot => Path.Combine(Repository, "snapshots", HubServer.Commit);

    string Incomplete => Path.Combine(Repository, "blobs", HubServer.Sha256(WeightsFile) + ".incomplete");

    HubOptions Options => new()
    {
        Endpoint = hub.Endpoint,
        CacheFolder = folder.Path,
        Backoff = TimeSpan.FromMilliseconds(1),
        Attempts = 3,
        StallTimeout = TimeSpan.FromSeconds(10),
    };

    public void Dispose()
    {
        hub.Dispose();
        store.Dispose();
        folder.Dispose();
    }

    [Fact]
    public async Task A_pulled_model_lies_in_the_cache_as_the_Python_tools_lay_it()
    {
        Assert.Equal(Snapshot, await Hub.DownloadAsync(Id, Options));
        string[] expected =
        [
            $"blobs/{HubServer.GitHash(Config)}", $"blobs/{HubServer.Sha256(WeightsFile)}", "refs/main",
            $"snapshots/{HubServer.Commit}/config.json", $"snapshots/{HubServer.Commit}/model.safetensors",
        ];
        Assert.Equal(expected.Order(StringComparer.Ordinal), Tree());
        Assert.Equal(HubServer.Commit, File.ReadAllText(Path.Combine(Repository, "refs", "main")));
        Assert.Equal($"../../blobs/{HubServer.GitHash(Config)}", new FileInfo(Path.Combine(Snapshot, "config.json")).LinkTarget);
        Assert.Equal(Config, File.ReadAllBytes(Path.Combine(Snapshot, "config.json")));
        Assert.Equal(WeightsFile, File.ReadAllBytes(Path.Combine(Snapshot, "model.safetensors")));
        Assert.Equal(Snapshot, Hub.FindCached(Id, Options));
    }

    /// <summary>A pipeline as the hub has them: weights twice, in halves of precision, in other formats, and whole in one file.</summary>
    void MakePipeline()
    {
        hub.Files.Clear();
        hub.Files["model_index.json"] = Encoding.UTF8.GetBytes("""{"_class_name": "SomePipeline", "unet": ["diffusers", "UNet"], "text_encoder": ["transformers", "Text"], "scheduler": ["diffusers", "S"], "safety_checker": ["x", "y"], "image_encoder": [null, null]}""");
        foreach (var name in (string[])["unet/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json", "safety_checker/config.json", "image_encoder/config.json", "README.md"]) hub.Files[name] = Encoding.UTF8.GetBytes($$"""{"of": "{{name}}"}""");
        foreach (var name in (string[])["unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors", "unet/diffusion_pytorch_model.bin", "text_encoder/model.fp16.safetensors",
            "text_encoder/pytorch_model.bin", "safety_checker/model.safetensors", "whole-pruned.safetensors", "image_encoder/model.safetensors"]) hub.Files[name] = Encoding.UTF8.GetBytes(name);
    }

    [Fact]
    public async Task Of_a_pipeline_come_the_settings_and_one_set_of_weights_of_every_part()
    {
        MakePipeline();
        Assert.Equal(Snapshot, await Hub.DownloadAsync(Id, Options));
        Assert.Equal(["README.md", "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "text_encoder/model.fp16.safetensors", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"],
            Directory.EnumerateFiles(Snapshot, "*", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(Snapshot, f)).Order(StringComparer.Ordinal));
        Assert.Equal(Snapshot, Hub.FindCached(Id, Options));
        File.Delete(Path.Combine(Snapshot, "unet", "diffusion_pytorch_model.safetensors"));
        Assert.Null(Hub.FindCached(Id, Options));
        Directory.Delete(Path.Combine(Snapshot, "unet"), recursive: true);
        Assert.Null(Hub.FindCached(Id, Options));
    }

    [Fact]
    public async Task Of_a_pipeline_with_several_ControlNets_come_those_that_have_numbers_too()
    {
        hub.Files.Clear();
        hub.Files["model_index.json"] = Encoding.UTF8.GetBytes("""{"_class_name": "SomePipeline", "unet": ["diffusers", "UNet"], "controlnet": ["diffusers", "MultiControlNetModel"]}""");
        foreach (var name in (string[])["unet/config.json", "unet_1/config.json", "controlnet/config.json", "controlnet/diffusion_pytorch_model.safetensors", "controlnet_1/config.json", "controlnet_1/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.safetensors"]) hub.Files[name] = "{}"u8.ToArray();
        await Hub.DownloadAsync(Id, Options);
        Assert.Equal(["controlnet", "controlnet_1", "unet"], Directory.EnumerateDirectories(Snapshot).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        Assert.Equal(2, Directory.EnumerateFiles(Path.Combine(Snapshot, "controlnet_1")).Count());
    }

    [Theory, InlineData("[]", "expected an object"), InlineData("{", "does not name a pipeline's parts")]
    public async Task An_index_of_a_pipeline_that_is_none_is_refused_with_one_sentence(string index, string sentence)
    {
        MakePipeline();
        hub.Files["model_index.json"] = Encoding.UTF8.GetBytes(index);
        Assert.Contains(sentence, (await Assert.ThrowsAsync<PanoptesException>(() => Hub.DownloadAsync(Id, Options))).Message, StringComparison.Ordinal);
        hub.Files["model_index.json"] = new byte[(1 << 20) + 1];
        Assert.Contains("bytes; expected at most 1048576", (await Assert.ThrowsAsync<PanoptesException>(() => Hub.DownloadAsync(Id, Options))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Progress_ends_at_the_size_of_all_files()
    {
        var seen = new List<HubProgress>();
        await Hub.DownloadAsync(Id, Options, new Immediate(seen.Add));
        Assert.All(seen, static p => Assert.InRange(p.Bytes, p.FileBytes, p.Size));
        Assert.Equal(seen.Select(static p => p.Bytes).Order(), seen.Select(static p => p.Bytes));
        Assert.Equal((Config.Length + WeightsFile.Length, Config.Length + WeightsFile.Length), (seen[^1].Bytes, seen[^1].Size));
    }

    [Fact]
    public async Task What_is_there_already_is_not_fetched_again_and_a_new_commit_only_fetches_what_changed()
    {
        await Hub.DownloadAsync(Id, Options);
        hub.Requests.Clear();
        store.Requests.Clear();
        await Hub.DownloadAsync(Id, Options);
        Assert.All(hub.Requests, static r => Assert.True(r.Method == "HEAD" || r.Path.StartsWith("/api/", StringComparison.Ordinal)));
        Assert.Empty(store.Requests);

        var next = new string('b', 40);
        hub.Revisions["main"] = next;
        hub.Files["config.json"] = Encoding.UTF8.GetBytes("{}");
        Assert.Equal(Path.Combine(Repository, "snapshots", next), await Hub.DownloadAsync(Id, Options));
        Assert.Empty(store.Requests);
        Assert.Equal("{}", File.ReadAllText(Path.Combine(Repository, "snapshots", next, "config.json")));
        Assert.Equal(Config, File.ReadAllBytes(Path.Combine(Snapshot, "config.json")));
        Assert.Equal(WeightsFile, File.ReadAllBytes(Path.Combine(Repository, "snapshots", next, "model.safetensors")));
    }

    [Fact]
    public void A_snapshot_that_the_Python_tools_made_is_found_without_asking_the_hub()
    {
        var blob = folder.Write($"models--owner--tiny/blobs/{HubServer.Sha256(WeightsFile)}", WeightsFile);
        folder.Write("models--owner--tiny/refs/refs/pr/7", HubServer.Commit);
        Directory.CreateDirectory(Snapshot);
        File.CreateSymbolicLink(Path.Combine(Snapshot, "model.safetensors"), $"../../blobs/{Path.GetFileName(blob)}");
        Assert.Equal(Snapshot, Hub.FindCached($"{Id}@refs/pr/7", Options));
        Assert.Equal(Snapshot, Hub.FindCached($"{Id}@{HubServer.Commit}", Options));
        Assert.Null(Hub.FindCached(Id, Options));
        Assert.Empty(hub.Requests);

        File.Move(blob, blob + ".incomplete");                                       // a link whose blob never came is no weights
        Assert.Null(Hub.FindCached($"{Id}@refs/pr/7", Options));
    }

    [Fact]
    public async Task A_sharded_model_counts_as_cached_only_with_all_of_its_shards()
    {
        hub.Files.Remove("model.safetensors");
        hub.Files["model.safetensors.index.json"] = Encoding.UTF8.GetBytes("""{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}""");
        hub.Files["model-00001-of-00002.safetensors"] = Noise(10);
        hub.Files["model-00002-of-00002.safetensors"] = Noise(20);
        await Hub.DownloadAsync(Id, Options);
        Assert.Equal(["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"], Names());
        Assert.Equal(Snapshot, Hub.FindCached(Id, Options));
        File.Delete(Path.Combine(Repository, "blobs", HubServer.GitHash(Noise(20))));
        Assert.Null(Hub.FindCached(Id, Options));
        await Hub.DownloadAsync(Id, Options);
        Assert.Equal(Snapshot, Hub.FindCached(Id, Options));
    }

    [Fact]
    public async Task Named_files_are_fetched_into_their_folders_and_nothing_else()
    {
        await Hub.DownloadAsync(Id, Options with { Files = ["onnx/*.onnx", "conf?g.json"] });
        Assert.Equal(["config.json", "onnx/model.onnx"], Names());
        Assert.StartsWith("../../../blobs/", new FileInfo(Path.Combine(Snapshot, "onnx", "model.onnx")).LinkTarget, StringComparison.Ordinal);
        await Refused(Options with { Files = ["*.gguf"] }, "none of the wanted files (*.gguf)", "onnx/model.onnx");
    }

    [Fact]
    public async Task A_download_resumes_where_the_connection_dropped()
    {
        store.Instead = r => HubServer.Content(r, WeightsFile) with { Cut = Math.Min(70_000, WeightsFile.Length - r.From) };
        await Hub.DownloadAsync(Id, Options);
        Assert.Equal([0, 70_000, 140_000, 210_000, 280_000], store.Requests.Select(static r => r.From));
        Assert.Equal(WeightsFile, File.ReadAllBytes(Path.Combine(Snapshot, "model.safetensors")));
    }

    [Fact]
    public async Task A_connection_that_falls_silent_counts_as_dropped()
    {
        store.Instead = r => HubServer.Content(r, WeightsFile) with { Cut = Math.Min(200_000, WeightsFile.Length - r.From), Stalls = r.From == 0 };
        await Hub.DownloadAsync(Id, Options with { StallTimeout = TimeSpan.FromMilliseconds(300) });
        Assert.Equal([0, 200_000], store.Requests.Select(static r => r.From));
        Assert.Equal(WeightsFile, File.ReadAllBytes(Path.Combine(Snapshot, "model.safetensors")));
    }

    [Fact]
    public async Task A_hub_that_says_nothing_is_named_after_a_while()
    {
        hub.Instead = static _ => new(200) { Length = 100, Stalls = true };
        await Refused(Options with { StallTimeout = TimeSpan.FromMilliseconds(50), Attempts = 2 }, "could not be reached", "sent nothing for");
    }

    [Fact]
    public async Task A_download_that_never_gets_on_ends_with_what_came_and_the_next_one_resumes_it()
    {
        store.Instead = r => r.From == 0 ? HubServer.Content(r, WeightsFile) with { Cut = 100_000 } : HubServer.Content(r, WeightsFile) with { Cut = 0 };
        await Refused(Options, "could not be downloaded after 3 attempts", "the next attempt resumes it");
        Assert.Equal(100_000, new FileInfo(Incomplete).Length);
        Assert.Null(Hub.FindCached(Id, Options));
        Assert.Equal(["config.json"], Names());

        store.Instead = null;
        store.Requests.Clear();
        await Hub.DownloadAsync(Id, Options);
        Assert.Equal([100_000], store.Requests.Select(static r => r.From));
        Assert.Equal(WeightsFile, File.ReadAllBytes(Path.Combine(Snapshot, "model.safetensors")));
    }

    [Fact]
    public async Task A_server_without_ranges_sends_the_whole_again()
    {
        folder.Write(Path.GetRelativePath(folder.Path, Incomplete), WeightsFile[..1000]);
        store.Instead = static _ => new(200, WeightsFile);
        await Hub.DownloadAsync(Id, Options);
        Assert.Equal(WeightsFile, File.ReadAllBytes(Path.Combine(Snapshot, "model.safetensors")));
    }

    [Fact]
    public async Task A_beginning_of_other_content_is_thrown_away()
    {
        folder.Write(Path.GetRelativePath(folder.Path, Incomplete), Noise(1000, seed: 9));
        await Hub.DownloadAsync(Id, Options);
        Assert.Equal([1000, 0], store.Requests.Select(static r => r.From));
        Assert.Equal(WeightsFile, File.ReadAllBytes(Path.Combine(Snapshot, "model.safetensors")));
        Assert.False(File.Exists(Incomplete));
    }

    [Fact]
    public async Task A_length_that_is_too_short_is_made_up_for_and_one_that_is_too_long_does_no_harm()
    {
        // Less than there is: the connection seems to end early, and the rest is asked for.
        store.Instead = r => HubServer.Content(r, WeightsFile) is var whole && r.From == 0 ? whole with { Length = 1234, Cut = 1234 } : whole;
        await Hub.DownloadAsync(Id, Options);
        Assert.Equal(WeightsFile, File.ReadAllBytes(Path.Combine(Snapshot, "model.safetensors")));
        Directory.Delete(Repository, recursive: true);
        // More than there is: everything has come when the connection breaks off.
        store.Instead = r => HubServer.Content(r, WeightsFile) with { Length = WeightsFile.Length + 50 };
        await Hub.DownloadAsync(Id, Options);
        Assert.Equal(WeightsFile, File.ReadAllBytes(Path.Combine(Snapshot, "model.safetensors")));
    }

    [Fact]
    public async Task More_bytes_than_the_hub_announced_are_refused()
    {
        store.Instead = static _ => new(200, [.. WeightsFile, 1, 2, 3]);
        await Refused(Options, "sends more than the 300000 bytes");
        NothingHalfWritten();
    }

    [Theory]
    [InlineData("model.safetensors")]
    [InlineData("config.json")]
    public async Task Bytes_that_do_not_fit_the_checksum_are_refused_and_not_kept(string name)
    {
        var content = hub.Files[name].ToArray();
        content[^1] ^= 1;
        HubResponse? Wrong(HubRequest r) => r.Method == "GET" && r.Path.EndsWith(name, StringComparison.Ordinal) && !r.Path.StartsWith("/api/", StringComparison.Ordinal)
            ? HubServer.Content(r, content) : null;
        (name == "config.json" ? hub : store).Instead = Wrong;
        await Refused(Options, $"sent {content.Length} bytes whose checksum is not", "nothing was kept");
        NothingHalfWritten();
        Assert.Null(Hub.FindCached(Id, Options));
    }

    [Fact]
    public async Task The_token_goes_to_the_hub_and_to_no_other_host()
    {
        using var gated = new HubServer { Store = store, Token = "hf_secret" };
        foreach (var (name, content) in store.Files) gated.Files[name] = content;
        var options = Options with { Endpoint = gated.Endpoint };
        await Refused(options, "is gated", "HF_TOKEN");
        await Hub.DownloadAsync(Id, options with { Token = "hf_secret" });
        Assert.Single(store.Requests);
        Assert.All(store.Requests, static r => Assert.Null(r.Header("Authorization")));
    }

    [Fact]
    public async Task Redirects_within_the_hub_are_followed_with_the_token()
    {
        using var renamed = new HubServer { Token = "t", Large = int.MaxValue };
        renamed.Files["model.safetensors"] = WeightsFile;
        renamed.Instead = r => r.Path.Contains("/old/", StringComparison.Ordinal) ? new(307, ("Location", r.Path.Replace("/old/", "/owner/", StringComparison.Ordinal))) : null;
        var snapshot = await Hub.DownloadAsync("old/tiny", Options with { Endpoint = renamed.Endpoint, Token = "t" });
        Assert.Equal(WeightsFile, File.ReadAllBytes(Path.Combine(snapshot, "model.safetensors")));
        Assert.Contains("models--old--tiny", snapshot, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("/api/models/owner/tiny/revision/main", "redirects without end")]
    [InlineData("file:///etc/passwd", "redirects to file, which is refused")]
    public async Task Redirects_that_lead_nowhere_are_refused(string location, string expected)
    {
        hub.Instead = _ => new(302, ("Location", location));
        await Refused(Options, expected);
    }

    [Theory]
    [InlineData("v1.0", "v1.0")]
    [InlineData("refs/pr/12", "refs%2Fpr%2F12")]
    [InlineData("feature/long-texts", "feature%2Flong-texts")]
    [InlineData("cccccccccccccccccccccccccccccccccccccccc", "cccccccccccccccccccccccccccccccccccccccc")]
    public async Task A_revision_is_a_branch_a_tag_a_pull_request_or_a_commit(string revision, string asked)
    {
        var commit = new string('c', 40);
        if (revision != commit) hub.Revisions[revision] = commit;
        else hub.Revisions["other"] = commit;
        Assert.Equal(Path.Combine(Repository, "snapshots", commit), await Hub.DownloadAsync($"{Id}@{revision}", Options));
        Assert.Equal($"/api/models/{Id}/revision/{asked}", hub.Requests.First().Path);
        if (revision == commit) Assert.False(Directory.Exists(Path.Combine(Repository, "refs")));
        else Assert.Equal(commit, File.ReadAllText(Path.Combine(Repository, "refs", revision)));
        Assert.NotNull(Hub.FindCached($"{Id}@{revision}", Options with { Offline = true }));
    }

    [Theory]
    [InlineData(401, "", "does not exist on", "HF_TOKEN is not set")]
    [InlineData(401, "RepoNotFound", "does not exist on", "HF_TOKEN is not set")]
    [InlineData(403, "GatedRepo", "is gated", "HF_TOKEN")]
    [InlineData(403, "", "refuses", "has no access")]
    [InlineData(404, "RepoNotFound", "owner/tiny was not found on", "the list of its files")]
    [InlineData(404, "RevisionNotFound", "has no revision main", "owner/tiny")]
    [InlineData(418, "", "answered 418", "owner/tiny")]
    [InlineData(429, "", "answered 429 3 times", "try again later")]
    [InlineData(500, "", "answered 500 3 times", "try again later")]
    [InlineData(503, "", "answered 503 3 times", "try again later")]
    public async Task What_the_hub_refuses_is_told_in_one_sentence(int status, string code, params string[] expected)
    {
        hub.Instead = _ => new(status, [("X-Error-Code", code)]);
        await Refused(Options, expected);
        Assert.False(Directory.Exists(Repository));
    }

    [Fact]
    public async Task A_revision_that_does_not_exist_is_named() => Assert.Contains("owner/tiny has no revision v9",
        (await Assert.ThrowsAsync<PanoptesException>(() => Hub.DownloadAsync($"{Id}@v9", Options))).Message, StringComparison.Ordinal);

    [Fact]
    public async Task A_hub_that_is_busy_for_a_moment_is_asked_again()
    {
        var left = 4;
        store.Instead = hub.Instead = _ => Interlocked.Decrement(ref left) >= 0 && left % 2 == 0 ? new(left == 0 ? 503 : 429, ("Retry-After", "0")) : null;
        await Hub.DownloadAsync(Id, Options);
        Assert.Equal(["config.json", "model.safetensors"], Names());
    }

    [Fact]
    public async Task An_address_where_nothing_listens_is_told_at_once()
    {
        var gone = new HubServer();
        gone.Dispose();
        var watch = System.Diagnostics.Stopwatch.StartNew();
        await Refused(Options with { Endpoint = gone.Endpoint, Backoff = TimeSpan.FromSeconds(30) }, "could not be reached", gone.Endpoint.Authority);
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20));
    }

    [Theory]
    [InlineData("../config.json")]
    [InlineData("/config.json")]
    [InlineData("a/../../config.json")]
    [InlineData("a//config.json")]
    [InlineData("./config.json")]
    [InlineData("..\\config.json")]
    [InlineData("config.json\0.json")]
    [InlineData("a\nb.json")]
    [InlineData("")]
    public async Task A_file_name_that_would_leave_the_cache_is_refused(string name)
    {
        hub.Files[name] = Config;
        await Refused(Options, "would leave the cache");
        await Refused(Options with { Files = ["*"] }, "would leave the cache");
        Assert.False(Directory.Exists(Repository));
        Assert.Empty(Directory.GetFileSystemEntries(folder.Path));
    }

    [Fact]
    public async Task A_name_that_only_other_systems_forbid_does_not_stand_in_the_way()
    {
        hub.Files["runs/12:30 what?.log"] = Noise(5);
        await Hub.DownloadAsync(Id, Options);
        Assert.Equal(["config.json", "model.safetensors"], Names());
        await Refused(Options with { Files = ["*"] }, "12:30 what?.log, which is no name of a file on every system");
    }

    [Theory]
    [InlineData("no json", "did not answer with a list of files")]
    [InlineData("[]", "did not answer with a list of files")]
    [InlineData("""{"sha": 5, "siblings": []}""", "did not answer with a list of files")]
    [InlineData("""{"sha": "../../x", "siblings": []}""", "expected 40 hexadecimal digits")]
    [InlineData("""{"sha": "0123456789abcdef0123456789abcdef01234567"}""", "did not answer with a list of files")]
    [InlineData("""{"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": [{"rfilename": null}]}""", "would leave the cache")]
    [InlineData("""{"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": ["\ud800"]}""", "did not answer with a list of files")]
    public async Task An_answer_that_is_no_list_of_files_is_refused(string answer, string expected)
    {
        hub.Instead = _ => new(200, Encoding.UTF8.GetBytes(answer));
        await Refused(Options, expected);
        Assert.Empty(Directory.GetFileSystemEntries(folder.Path));
    }

    [Theory]
    [InlineData("ETag", "\"../../../evil\"", "has no ETag")]
    [InlineData("ETag", "", "has no ETag")]
    [InlineData("X-Linked-Size", "-5", "-5 bytes")]
    public async Task A_checksum_or_size_that_is_none_is_refused(string header, string value, string expected)
    {
        hub.Instead = r => r.Method == "HEAD" ? new(200, Config, header == "ETag" ? [(header, value)] : [("ETag", "\"abc\""), (header, value)]) : null;
        await Refused(Options, expected);
        NothingHalfWritten();
    }

    [Fact]
    public async Task Pulls_at_the_same_time_share_the_work()
    {
        store.Instead = r =>
        {
            Thread.Sleep(200);
            return null;
        };
        var folders = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(() => Hub.DownloadAsync(Id, Options))));
        Assert.All(folders, f => Assert.Equal(Snapshot, f));
        Assert.Single(store.Requests);
        Assert.Equal(WeightsFile, File.ReadAllBytes(Path.Combine(Snapshot, "model.safetensors")));
        Assert.DoesNotContain(Tree(), static f => f.Contains("tmp", StringComparison.Ordinal) || f.Contains("incomplete", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_cancelled_pull_stops_at_once_and_is_resumed_by_the_next()
    {
        using var cancel = new CancellationTokenSource();
        store.Instead = r => r.From == 0 ? HubServer.Content(r, WeightsFile) with { Cut = 150_000, Stalls = true } : null;
        var progress = new Immediate(p =>
        {
            if (p.FileBytes == 150_000) cancel.Cancel();
        });
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Hub.DownloadAsync(Id, Options, progress, cancel.Token));
        Assert.Equal(150_000, new FileInfo(Incomplete).Length);
        Assert.Null(Hub.FindCached(Id, Options));
        await Hub.DownloadAsync(Id, Options);
        Assert.Equal([0, 150_000], store.Requests.Select(static r => r.From));
        Assert.Equal(WeightsFile, File.ReadAllBytes(Path.Combine(Snapshot, "model.safetensors")));
    }

    [Fact]
    public async Task Offline_nothing_is_asked_and_only_the_cache_answers()
    {
        var offline = Options with { Offline = true };
        await Refused(offline, "is not in", "HF_HUB_OFFLINE");
        Assert.Empty(hub.Requests);
        await Hub.DownloadAsync(Id, Options);
        hub.Requests.Clear();
        Assert.Equal(Snapshot, await Hub.DownloadAsync(Id, offline));
        Assert.Empty(hub.Requests);
    }

    [Fact]
    public async Task A_cache_that_cannot_be_written_is_named()
    {
        folder.Write("file", "in the way");
        await Refused(Options with { CacheFolder = folder["file"] }, "cannot be", folder["file"]);
    }

    [Theory]
    [InlineData("https://huggingface.co", "/home/.cache/huggingface/hub")]
    [InlineData("https://huggingface.co", "/x/huggingface/hub", "XDG_CACHE_HOME=/x")]
    [InlineData("https://huggingface.co", "/h/hub", "XDG_CACHE_HOME=/x", "HF_HOME=/h")]
    [InlineData("https://huggingface.co", "/c", "HF_HOME=/h", "HF_HUB_CACHE=/c")]
    [InlineData("https://huggingface.co", "/h/hub", "HF_HOME=/h", "HF_HUB_CACHE= ")]
    [InlineData("http://127.0.0.1:8080", "/home/.cache/huggingface/hub", "HF_ENDPOINT=http://127.0.0.1:8080/")]
    public void The_environment_sets_address_and_cache_as_for_the_Python_tools(string endpoint, string cache, params string[] variables)
    {
        var options = HubOptions.From(Variables(variables));
        Assert.Equal(new Uri(endpoint), options.Endpoint);
        Assert.Equal(cache.Replace("/home", Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), StringComparison.Ordinal), options.CacheFolder);
        Assert.False(options.Offline);
    }

    [Fact]
    public void The_environment_sets_token_and_offline_as_for_the_Python_tools()
    {
        folder.Write("token", "from-file\n");
        Assert.Equal("from-file", HubOptions.From(Variables($"HF_HOME={folder.Path}")).Token);
        Assert.Equal("from-variable", HubOptions.From(Variables($"HF_HOME={folder.Path}", "HF_TOKEN=from-variable")).Token);
        Assert.Equal("from-file", HubOptions.From(Variables($"HF_TOKEN_PATH={folder["token"]}")).Token);
        Assert.Null(HubOptions.From(Variables($"HF_TOKEN_PATH={folder["none"]}")).Token);
        foreach (var (value, offline) in ((string, bool)[])[("1", true), ("true", true), ("ON", true), ("Yes", true), ("0", false), ("no", false)])
            Assert.Equal(offline, HubOptions.From(Variables($"HF_HUB_OFFLINE={value}")).Offline);
        Assert.Contains("HF_ENDPOINT is ftp://x", Assert.Throws<PanoptesException>(() => HubOptions.From(Variables("HF_ENDPOINT=ftp://x"))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("owner/name", "owner", "name", "main")]
    [InlineData("Owner-1/na.me_2@v1.0", "Owner-1", "na.me_2", "v1.0")]
    [InlineData("owner/name@refs/pr/3", "owner", "name", "refs/pr/3")]
    public void An_id_is_an_owner_a_name_and_a_revision(string text, string owner, string name, string revision) =>
        Assert.Equal(new HubId(owner, name, revision), HubId.TryParse(text));

    [Theory]
    [InlineData("name")]
    [InlineData("a/b/c")]
    [InlineData("../b")]
    [InlineData("a/..")]
    [InlineData("a/b@../../x")]
    [InlineData("a/b@/x")]
    [InlineData("a/b@x//y")]
    [InlineData("a/b@x/./y")]
    [InlineData("a/b@x/")]
    [InlineData("a/b@")]
    [InlineData("a--b/c")]
    [InlineData("a/b c")]
    [InlineData("a/b\n")]
    public void What_could_not_be_an_id_or_would_leave_the_cache_is_none(string text) => Assert.Null(HubId.TryParse(text));

    static byte[] Noise(int length, int seed = 1)
    {
        var bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    static Func<string, string?> Variables(params string[] pairs) => name => pairs.FirstOrDefault(p => p.StartsWith(name + "=", StringComparison.Ordinal))?[(name.Length + 1)..];

    static async Task Refused(HubOptions options, params string[] parts)
    {
        var message = (await Assert.ThrowsAsync<PanoptesException>(() => Hub.DownloadAsync(Id, options))).Message;
        Assert.All(parts, p => Assert.Contains(p, message, StringComparison.Ordinal));
        Assert.DoesNotContain('\n', message);
        Assert.EndsWith(".", message, StringComparison.Ordinal);
    }

    /// <summary>Every file below the repository's folder but locks.</summary>
    string[] Tree() => Directory.Exists(Repository) ? [.. Directory.GetFiles(Repository, "*", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(Repository, f)).Order(StringComparer.Ordinal)] : [];

    string[] Names() => [.. Directory.GetFiles(Snapshot, "*", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(Snapshot, f)).Order(StringComparer.Ordinal)];

    /// <summary>No incomplete blob, no temporary file, and in the snapshots only links to blobs that are there.</summary>
    void NothingHalfWritten() => Assert.All(Tree(), f =>
    {
        Assert.DoesNotContain("incomplete", f, StringComparison.Ordinal);
        Assert.DoesNotContain("tmp", f, StringComparison.Ordinal);
        Assert.DoesNotContain("refs/", f, StringComparison.Ordinal);
        Assert.True(File.ResolveLinkTarget(Path.Combine(Repository, f), true)?.Exists ?? true, f);
    });

    /// <summary><see cref="Progress{T}"/> reports on another thread, some time later.</summary>
    sealed class Immediate(Action<HubProgress> report) : IProgress<HubProgress>
    {
        public void Report(HubProgress value) => report(value);
    }
}
