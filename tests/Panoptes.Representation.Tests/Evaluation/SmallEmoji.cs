using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Panoptes.Data;
using Parquet;
using Parquet.Schema;

namespace Panoptes.Representation.Tests.Evaluation;

/// <summary>A folder with a part of the bundled emoji: every twenty-fourth concept, in two train styles and the held-out one.</summary>
sealed class SmallEmoji : IDisposable
{
    static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public SmallEmoji(Action<int, JsonObject>? changeConcept = null)
    {
        var all = EmojiSet.Open();
        EmojiConcept[] concepts = [.. all.Concepts.Where(static c => c.Index % 24 == 0)];
        EmojiStyle[] styles = [.. all.Styles.Where(static s => s.Name is "noto" or "twemoji" or "openmoji")];
        File.WriteAllLines(Path.Combine(Folder, "concepts.jsonl"), concepts.Select((c, i) =>
        {
            var node = JsonSerializer.SerializeToNode(c with { Index = i }, Json)!.AsObject();
            changeConcept?.Invoke(i, node);
            return node.ToJsonString(Json);
        }));
        for (var s = 0; s < styles.Length; s++)
        {
            EmojiImage[] images = [.. concepts.Select(c => all.Find(c.Index, styles[s].Index)).OfType<EmojiImage>()];
            Write(Path.Combine(Folder, styles[s].Name + ".parquet"), [.. images.Select(i => all.Concepts[i.Concept].Code)], [.. images.Select(i => all.Encoded(i.Index).ToArray())]).GetAwaiter().GetResult();
            styles[s] = styles[s] with { Index = s, Count = images.Length };
        }
        File.WriteAllText(Path.Combine(Folder, "styles.json"), JsonSerializer.Serialize(new { size = all.Size, concepts = concepts.Length, styles }, Json));
    }

    public string Folder { get; } = Directory.CreateTempSubdirectory("panoptes-emoji-").FullName;

    public EmojiSet Open() => EmojiSet.Open(Folder);

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    static async Task Write(string path, string[] codes, byte[][] images)
    {
        await using var file = File.Create(path);
        var (code, image) = (new DataField<string>("code", false), new DataField<byte[]>("image", false));
        await using var writer = await ParquetWriter.CreateAsync(new ParquetSchema(code, image), file);
        using var group = writer.CreateRowGroup();
        await group.WriteAsync(code, codes);
        await group.WriteAsync(image, images);
    }
}
