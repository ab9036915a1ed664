using System.Formats.Tar;
using System.IO.Compression;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Xml.Linq;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Data;
using Panoptes.Data.Emoji;

namespace Panoptes.Core.Tests.Data;

/// <summary>The parts of the emoji set's builder that need no network.</summary>
public sealed class EmojiBuilderTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task A_package_is_taken_from_the_registry_once_and_only_if_it_is_the_pinned_one()
    {
        var tarball = Tarball(("package/icons.json", "{}"), ("package/other.txt", "x"));
        var package = new NpmPackage("@scope/icons", "1.2.3", Convert.ToBase64String(SHA512.HashData(tarball)));
        var asked = new List<string>();
        var answer = tarball;
        using var server = new HttpListener();
        var address = Start(server);
        var serving = Task.Run(async () =>
        {
            while (server.IsListening)
            {
                try
                {
                    var context = await server.GetContextAsync();
                    asked.Add(context.Request.RawUrl!);
                    await context.Response.OutputStream.WriteAsync(answer);
                    context.Response.Close();
                }
                catch (Exception e) when (e is HttpListenerException or ObjectDisposedException)
                {
                    return;
                }
            }
        });
        using var http = new HttpClient();
        for (var i = 0; i < 2; i++)
        {
            var files = await package.FetchAsync(http, address, folder["cache"], static p => p == "icons.json");
            Assert.Equal("{}", Encoding.UTF8.GetString(Assert.Single(files, static f => f.Key == "icons.json").Value));
        }
        Assert.Equal(["/@scope/icons/-/icons-1.2.3.tgz"], asked);

        // A kept file that was damaged is fetched again; one from the registry that is another is refused, and nothing is kept.
        var kept = Assert.Single(Directory.GetFiles(folder["cache"]));
        File.WriteAllText(kept, "damaged");
        Assert.Single(await package.FetchAsync(http, address, folder["cache"], static p => p == "icons.json"));
        answer = Tarball(("package/icons.json", "{\"evil\":1}"));
        var message = (await Assert.ThrowsAsync<PanoptesException>(() => package.FetchAsync(http, address, folder["other"], static _ => true))).Message;
        Assert.Contains(package.Integrity, message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(folder["other"]));
        server.Stop();
        await serving;
        Assert.Contains("could not be downloaded", (await Assert.ThrowsAsync<PanoptesException>(() => package.FetchAsync(http, address, folder["other"], static _ => true))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Icons_are_drawn_whole_and_aliases_may_mirror_them()
    {
        var package = IconPackage.Parse(EmojiSources.Styles[0], new Dictionary<string, byte[]>
        {
            ["info.json"] = """{"name":"Set","author":{"name":"A","url":"https://a"},"license":{"spdx":"MIT","url":"https://l"}}"""u8.ToArray(),
            ["chars.json"] = """{"1f34e-fe0f":"apple"}"""u8.ToArray(),
            ["icons.json"] = """{"width":32,"height":24,"icons":{"apple":{"body":"<path d='M0 0'/>"},"pear":{"body":"<g/>","left":2,"width":10,"hidden":true}},"aliases":{"mirrored":{"parent":"apple","hFlip":true},"same":{"parent":"apple"},"lost":{"parent":"none"}}}"""u8.ToArray(),
        });
        Assert.Equal(("Set", "A", "MIT"), (package.Title, package.Author, package.License));
        Assert.Equal(["apple", "mirrored", "pear"], package.Icons.Keys.Order());
        Assert.Equal([("same", "apple")], package.Aliases);
        Assert.Equal("apple", package.Characters["1F34E"]);
        var svg = XDocument.Parse(Encoding.UTF8.GetString(package.Icons["apple"].ToSvg(72))).Root!;
        Assert.Equal(("72", "72", "0 0 32 24"), (svg.Attribute("width")!.Value, svg.Attribute("height")!.Value, svg.Attribute("viewBox")!.Value));
        Assert.Equal("translate(32 0) scale(-1 1)", XDocument.Parse(Encoding.UTF8.GetString(package.Icons["mirrored"].ToSvg(72))).Root!.Elements().Single().Attribute("transform")!.Value);
        Assert.True(package.Icons["pear"].Hidden);
        Assert.Contains("not in Iconify's JSON form", Assert.Throws<PanoptesException>(() => IconPackage.Parse(EmojiSources.Styles[0], new Dictionary<string, byte[]>())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Spellings_of_one_name_share_a_key_and_selectors_are_dropped_from_codes()
    {
        Assert.Equal(EmojiNames.Key("flag-for-côte-d’ivoire"), EmojiNames.Key("Flag: Côte d'Ivoire"));
        Assert.Equal(EmojiNames.Key("bread and butter"), EmojiNames.Key("Bread-&-Butter"));
        Assert.Equal("1F468-200D-1F373", EmojiNames.WithoutVariation("1f468-fe0f-200d-1f373-FE0E"));
    }

    [Fact]
    public void Which_concepts_are_held_out_follows_from_the_code_alone_and_variants_go_together()
    {
        var set = EmojiSetTests.Set;
        Assert.All(set.Concepts, static c => Assert.Equal(c.HeldOut, EmojiNames.IsHeldOut(c.Code)));
        foreach (var concept in set.Concepts)
            Assert.Equal(EmojiNames.IsHeldOut(concept.Code.Replace("1F468", "1F9D1", StringComparison.Ordinal)), concept.HeldOut);
        Assert.Equal(EmojiNames.IsHeldOut("1F3C3"), EmojiNames.IsHeldOut("1F3C3-200D-2640"));
    }

    static byte[] Tarball(params (string Name, string Content)[] files)
    {
        using var bytes = new MemoryStream();
        using (var gzip = new GZipStream(bytes, CompressionLevel.Fastest, leaveOpen: true))
        using (var tar = new TarWriter(gzip))
        {
            foreach (var (name, content) in files)
                tar.WriteEntry(new UstarTarEntry(TarEntryType.RegularFile, name) { DataStream = new MemoryStream(Encoding.UTF8.GetBytes(content)) });
        }
        return bytes.ToArray();
    }

    static string Start(HttpListener server)
    {
        using var probe = new System.Net.Sockets.TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        var address = $"http://127.0.0.1:{((IPEndPoint)probe.LocalEndpoint).Port}";
        probe.Stop();
        server.Prefixes.Add(address + "/");
        server.Start();
        return address;
    }
}
