using System.Buffers.Binary;
using System.Text;
using Panoptes.Checkpoints;

namespace Panoptes.Core.Tests.Checkpoints;

public sealed class SafeTensorsTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    public static TheoryData<string> DTypes => [.. TensorDType.All.Select(static d => d.Name)];

    [Theory, MemberData(nameof(DTypes))]
    public void Every_type_of_the_format_is_read_and_those_of_libtorch_are_written_back_to_the_same_bytes(string name)
    {
        var dtype = TensorDType.Find(name)!;
        var data = Enumerable.Range(0, 4 * 3 * dtype.Bits / 8).Select(i => (byte)(name == "BOOL" ? i % 2 : i * 7)).ToArray();
        var path = folder.Write("a.safetensors", File($$$"""{"x":{"dtype":"{{{name}}}","shape":[4,3],"data_offsets":[0,{{{data.Length}}}]}}""", data));
        using var file = SafeTensorsFile.Open(path);
        Assert.Equal(data, file.ReadBytes("x"));
        if (dtype.ScalarType is null)
        {
            Assert.Contains("libtorch cannot hold", Assert.Throws<PanoptesException>(() => file.Read("x")).Message, StringComparison.Ordinal);
            return;
        }
        using var tensor = file.Read("x");
        Assert.Equal([4, 3], tensor.shape);
        Assert.Equal(dtype.ScalarType, tensor.dtype);
        SafeTensors.Save(folder["b.safetensors"], [new("x", tensor)]);
        using var again = SafeTensorsFile.Open(folder["b.safetensors"]);
        Assert.Equal(name, again.Entries["x"].DType.Name);
        Assert.Equal(data, again.ReadBytes("x"));
    }

    [Fact]
    public void Eight_bit_floats_convert_to_the_values_that_they_stand_for()
    {
        var path = folder.Write("a.safetensors", File("""{"x":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}""", [0x38, 0xC0]));
        using var scope = NewDisposeScope();
        Assert.Equal([1f, -2f], SafeTensors.Load(path)["x"].to(ScalarType.Float32).data<float>().ToArray());
    }

    [Fact]
    public void Tensors_outlive_the_file_they_were_read_from_and_writing_into_them_leaves_it_alone()
    {
        using var scope = NewDisposeScope();
        SafeTensors.Save(folder["a.safetensors"], [new("x", arange(1000, ScalarType.Float32)), new("y", ones(3, ScalarType.Int64))]);
        var before = System.IO.File.ReadAllBytes(folder["a.safetensors"]);
        var tensors = SafeTensors.Load(folder["a.safetensors"]);
        tensors["x"].add_(1);
        System.IO.File.Delete(folder["a.safetensors"]);
        GC.Collect();
        Assert.Equal(500500, tensors["x"].sum().item<float>());
        Assert.Equal(3, tensors["y"].sum().item<long>());
        SafeTensors.Save(folder["b.safetensors"], [new("x", tensors["x"].sub(1)), new("y", tensors["y"])]);
        Assert.Equal(before, System.IO.File.ReadAllBytes(folder["b.safetensors"]));
    }

    [Fact]
    public void Reading_the_same_tensor_twice_and_dropping_both_unmaps_the_file()
    {
        SafeTensors.Save(folder["a.safetensors"], [new("x", ones(1 << 16))]);
        var file = SafeTensorsFile.Open(folder["a.safetensors"]);
        var first = file.Read("x");
        var second = file.Read("x");
        file.Dispose();
        Assert.True(IsMapped());
        first.Dispose();
        Assert.Equal(1 << 16, second.sum().item<float>());
        second.Dispose();
        Assert.False(IsMapped());

        // Elsewhere there is no list of mappings to look at.
        bool IsMapped() => OperatingSystem.IsLinux() ? System.IO.File.ReadLines("/proc/self/maps").Any(l => l.EndsWith(folder["a.safetensors"], StringComparison.Ordinal)) : !second.IsInvalid;
    }

    [Fact]
    public void Transposed_expanded_and_gradient_tracking_tensors_are_written_dense()
    {
        using var scope = NewDisposeScope();
        var x = arange(6, ScalarType.Float32).view(2, 3);
        SafeTensors.Save(folder["a.safetensors"], [new("t", x.t()), new("e", ones(1, 1).expand(2, 2)), new("g", ones(2, requires_grad: true))]);
        var read = SafeTensors.Load(folder["a.safetensors"]);
        Assert.Equal([0f, 3, 1, 4, 2, 5], read["t"].data<float>().ToArray());
        Assert.Equal([2, 2], read["e"].shape);
        Assert.Equal(2, read["g"].sum().item<float>());
    }

    [Fact]
    public void The_writer_sorts_by_type_then_name_pads_the_header_and_keeps_metadata()
    {
        using var scope = NewDisposeScope();
        SafeTensors.Save(folder["a.safetensors"], [new("b", ones(1)), new("a", ones(1)), new("z", ones(1, ScalarType.Int64)), new("é\"\n", ones(1, ScalarType.Bool))],
            new Dictionary<string, string> { ["note"] = "é \" \\ 你", ["format"] = "pt" });
        var bytes = System.IO.File.ReadAllBytes(folder["a.safetensors"]);
        var length = (int)BinaryPrimitives.ReadInt64LittleEndian(bytes);
        Assert.Equal(0, length % 8);
        const string expected = """{"__metadata__":{"format":"pt","note":"é \" \\ 你"},"z":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},"é\"\n":{"dtype":"BOOL","shape":[1],"data_offsets":[16,17]}}""";
        Assert.Equal(expected, Encoding.UTF8.GetString(bytes, 8, length).TrimEnd(' '));
        using var file = SafeTensorsFile.Open(folder["a.safetensors"]);
        Assert.Equal("é \" \\ 你", file.Metadata["note"]);
    }

    [Fact]
    public void A_save_that_fails_leaves_the_old_file_and_nothing_beside_it()
    {
        SafeTensors.Save(folder["a.safetensors"], [new("x", ones(2))]);
        var before = System.IO.File.ReadAllBytes(folder["a.safetensors"]);
        using var tensor = ones(2);
        using var gone = ones(2);
        gone.Dispose();
        Assert.ThrowsAny<Exception>(() => SafeTensors.Save(folder["a.safetensors"], [new("x", tensor), new("y", gone)]));
        Assert.ThrowsAny<PanoptesException>(() => AtomicFile.Write(folder["a.safetensors"], static s =>
        {
            s.Write(new byte[100]);
            throw new IOException("the disk is full");
        }));
        Assert.Equal(before, System.IO.File.ReadAllBytes(folder["a.safetensors"]));
        Assert.Single(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void A_name_given_twice_is_refused()
    {
        using var tensor = ones(2);
        var error = Assert.Throws<PanoptesException>(() => SafeTensors.Save(folder["a.safetensors"], [new("x", tensor), new("x", tensor)]));
        Assert.Contains("x was given twice", error.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    [Theory]
    [InlineData("""{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"dtype":"F32"}}""", 4, "dtype twice")]
    [InlineData("""{"x":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}""", 2, "takes")]
    [InlineData("""{"x":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}""", 4, "whole numbers")]
    [InlineData("""{"x":{"dtype":"F32","shape":[0,18446744073709551616],"data_offsets":[0,0]}}""", 0, "whole numbers")]
    [InlineData("""{"__metadata__":{"a":"b"},"__metadata__":{}}""", 0, "__metadata__ twice")]
    [InlineData("""{"\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 4, "not valid JSON")]
    public void A_malformed_header_is_refused_with_the_file_name_and_the_fault(string header, int data, string fault)
    {
        var error = Assert.Throws<PanoptesException>(() => SafeTensorsFile.Open(folder.Write("bad.safetensors", File(header, new byte[data]))));
        Assert.Contains("bad.safetensors", error.Message, StringComparison.Ordinal);
        Assert.Contains(fault, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_missing_file_and_a_folder_are_refused_in_one_sentence()
    {
        Assert.Contains("does not exist", Assert.Throws<PanoptesException>(() => SafeTensorsFile.Open(folder["none.safetensors"])).Message, StringComparison.Ordinal);
        Assert.Contains("is a folder", Assert.Throws<PanoptesException>(() => SafeTensorsFile.Open(folder.Path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Loading_and_saving_keep_no_tensor()
    {
        using (var x = ones(5, 5)) SafeTensors.Save(folder["a.safetensors"], [new("x", x)]);
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        using (var x = ones(5, 5))
        using (var transposed = x.t()) SafeTensors.Save(folder["a.safetensors"], [new("x", transposed)]);
        foreach (var tensor in SafeTensors.Load(folder["a.safetensors"]).Values) tensor.Dispose();
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }

    internal static byte[] File(string header, byte[] data)
    {
        var json = Encoding.UTF8.GetBytes(header);
        var bytes = new byte[8 + json.Length + data.Length];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, json.Length);
        json.CopyTo(bytes, 8);
        data.CopyTo(bytes, 8 + json.Length);
        return bytes;
    }
}
