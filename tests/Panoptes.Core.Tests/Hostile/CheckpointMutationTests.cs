using System.Text;
using CsCheck;
using Panoptes.Checkpoints;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Parity;

namespace Panoptes.Core.Tests.Hostile;

/// <summary>Damaged checkpoints of every format: tensors or one sentence, in bounded time and memory.</summary>
public sealed class CheckpointMutationTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void A_damaged_safetensors_file_is_read_or_refused()
    {
        using (var scope = NewDisposeScope())
            SafeTensors.Save(folder["seed"], [new("a.weight", randn(3, 4)), new("b", ones(2, 2, 2, dtype: ScalarType.BFloat16)), new("empty", zeros(0, 5)), new("scalar", tensor(1L))],
                new Dictionary<string, string> { ["format"] = "pt", ["note"] = "é" });
        byte[][] seeds = [File.ReadAllBytes(folder["seed"]), .. Files("language/malformed_safetensors/malformed_safetensors", "*.safetensors").Where(static b => b.Length < 10_000)];
        Mutation.OfBytes(seeds).Sample(bytes => ReadAll("m.safetensors", bytes), iter: 1000, threads: 1, print: Mutation.Print);
    }

    [Fact]
    public void A_safetensors_header_with_any_fields_is_read_or_refused()
    {
        byte[][] headers =
        [
            """{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[16,24]},"c":{"dtype":"BOOL","shape":[],"data_offsets":[24,25]},"d":{"dtype":"F4","shape":[14],"data_offsets":[25,32]}}"""u8.ToArray(),
            """{"__metadata__":{"format":"pt"},"x":{"dtype":"I64","shape":[1,0,3],"data_offsets":[0,0]},"y":{"dtype":"F8_E4M3","shape":[2,16],"data_offsets":[0,32]}}"""u8.ToArray(),
        ];
        Mutation.OfJson(headers).Sample(header => ReadAll("m.safetensors", SafeTensorsTests.File(Encoding.UTF8.GetString(header), new byte[32])), iter: 1000, threads: 1, print: Mutation.Print);
    }

    [Fact]
    public void A_damaged_index_of_shards_is_read_or_refused()
    {
        using (var scope = NewDisposeScope())
            ShardedWeights.Save(folder.Path, [new("a", ones(4)), new("b", ones(4)), new("c", ones(2))], null, shardSize: 16);
        var path = folder["model.safetensors.index.json"];
        byte[][] seeds = [File.ReadAllBytes(path)];
        Mutation.OfJson(seeds).Sample(bytes => ReadAll("model.safetensors.index.json", bytes), iter: 600, threads: 1, print: Mutation.Print);
    }

    [Fact]
    public void A_damaged_PyTorch_file_is_read_or_refused()
    {
        byte[][] seeds =
        [
            .. Files("language/pickle_zip", "*.pt"), .. Files("language/pickle_zip", "*.bin"), .. Files("language/pickle_legacy", "*.pth"),
            .. Files("checkpoints", "*.pt"), .. Files("checkpoints", "*.pth"), .. Files("language/pickle_malicious/files", "*").Where(static b => b.Length < 20_000),
        ];
        Assert.True(seeds.Length > 20);
        Mutation.OfBytes(seeds).Sample(bytes => ReadAll("m.pt", bytes), iter: 1500, threads: 1, print: Mutation.Print);
    }

    [Fact]
    public void Any_opcodes_at_all_are_read_or_refused()
    {
        // Opcodes of every kind with what they might take, so that many get past the first.
        byte[] opcodes = [.. "(.012FGIJKLMNPRSTUVXabcdeghijlopqrstu})]BC"u8, 0x80, 0x81, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x91, 0x93, 0x94, 0x95, 0x96];
        string[] phrases = ["ctorch._utils\n_rebuild_tensor_v2\n", "ccollections\nOrderedDict\n", "ctorch\nFloatStorage\n", "X\u0003\0\0\0abc", "I1\n", "cos\nsystem\n"];
        var step = Gen.Frequency((6, Gen.Int[0, opcodes.Length - 1].Select(i => (byte[])[opcodes[i]])), (2, Gen.Byte[0, 4].Select(static b => (byte[])[b])), (1, Gen.Byte.Array[0, 8]),
            (1, Gen.Int[0, phrases.Length - 1].Select(i => Encoding.Latin1.GetBytes(phrases[i]))));
        step.Array[1, 60].Sample(steps => ReadAll("m.pkl", [0x80, 2, .. steps.SelectMany(static s => s), (byte)'.']), iter: 1500, threads: 1);
    }

    [Fact]
    public void Memory_that_the_pickle_does_not_pay_for_is_not_given()
    {
        // Doubling: each tuple holds the one before twice; read by length it would be 2^40 values.
        byte[] doubling = [0x80, 2, .. "]q\0"u8, .. Enumerable.Range(0, 40).SelectMany(static i => (byte[])[(byte)'h', (byte)i, (byte)'h', (byte)i, 0x86, (byte)'q', (byte)(i + 1)]), (byte)'.'];
        ReadAll("m.pkl", doubling);
        // A memo and a stack of as many entries as there are bytes, and numbers of any length.
        ReadAll("m.pkl", [0x80, 2, .. Enumerable.Repeat((byte)']', 200_000), (byte)'.']);
        ReadAll("m.pkl", [0x80, 2, (byte)'N', .. Enumerable.Repeat((byte)0x94, 200_000), (byte)'.']);
        ReadAll("m.pkl", [0x80, 2, 0x8b, 0x40, 0x0d, 0x03, 0, .. Enumerable.Repeat((byte)0x7f, 200_000), (byte)'.']);
        ReadAll("m.pkl", [0x80, 2, (byte)'L', .. Enumerable.Repeat((byte)'9', 200_000), .. "L\n."u8]);
        ReadAll("m.pkl", [0x80, 2, .. "(((((((("u8, .. Enumerable.Repeat((byte)'1', 9), (byte)'.']);
    }

    static IEnumerable<byte[]> Files(string area, string pattern) =>
        Directory.EnumerateFiles(Path.Combine(Goldens.Root, area), pattern, SearchOption.AllDirectories).Order(StringComparer.Ordinal).Select(File.ReadAllBytes);

    /// <summary>Opens the file as a checkpoint and reads every tensor of it.</summary>
    void ReadAll(string name, byte[] bytes) => Mutation.Check(folder[name], bytes, () =>
    {
        using var scope = NewDisposeScope();
        using var weights = Weights.Open(folder[name]);
        long size = 0;
        foreach (var key in weights.Keys)
        {
            if (weights is SafeTensorsWeights && !TryInfo(key)) continue;
            var tensor = weights.Read(key);
            size += tensor.numel() * tensor.element_size();
        }
        Assert.True(size <= 20L * (bytes.Length + (1 << 16)), $"{size} bytes of tensors");

        bool TryInfo(string key)
        {
            try
            {
                weights.Info(key);
                return true;
            }
            catch (PanoptesException)
            {
                return false;                                                        // a type that libtorch lacks
            }
        }
    }, factor: 128);                                                                 // one byte of a pickle makes a value and its place in the memo
}
