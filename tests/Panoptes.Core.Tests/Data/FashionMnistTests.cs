using System.Buffers.Binary;
using System.IO.Compression;
using CsCheck;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

public sealed class FashionMnistTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Images_and_labels_are_read_as_they_were_written(bool compressed)
    {
        using var folder = new TemporaryFolder();
        Write(folder, compressed);
        var data = FashionMnist.Open(folder.Path);
        Assert.Equal((6, 4, 3, 5), (data.Train.Count, data.Test.Count, data.Train.Width, data.Train.Height));
        Assert.Equal([0, 1, 2, 3, 4, 5], data.Train.Labels);
        var image = data.Train[2];
        Assert.Equal((3, 5, 1), (image.Width, image.Height, image.Channels));
        Assert.Equal([.. Enumerable.Range(30, 15).Select(static v => (byte)v)], image.Pixels);
        using var pixels = data.Test.PixelTensor();
        Assert.Equal([4, 15], pixels.shape);
        Assert.Equal(16 / 255f, pixels[1, 1].item<float>(), 1e-7f);
    }

    [Fact]
    public void Few_images_have_every_class_alike_and_are_among_those_of_more()
    {
        var images = new LabeledImages(1, 1, [.. Enumerable.Range(0, 30).Select(static i => (byte)i)], [.. Enumerable.Range(0, 30).Select(static i => i < 20 ? 0 : i % 2 + 1)]);
        var (few, more) = (images.Balanced(6), images.Balanced(18));
        Assert.All(few, i => Assert.Contains(i, more));
        foreach (var (label, count) in new[] { (0, 8), (1, 5), (2, 5) }) Assert.Equal((2, count), (few.Count(i => images.Labels[i] == label), more.Count(i => images.Labels[i] == label)));
        var some = images.Select(few);
        Assert.Equal([.. few.Select(static i => (byte)i)], some.Pixels);
        Assert.Equal([.. few.Select(i => images.Labels[i])], some.Labels);
        Assert.Equal(Enumerable.Range(0, 30), images.Balanced(30));
        Assert.Contains("31 images", Assert.Throws<PanoptesException>(() => images.Balanced(31)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Gray_images_are_served_in_three_equal_channels_with_their_classes_names()
    {
        var images = new LabeledImages(2, 2, [0, 50, 100, 150, 255, 200, 150, 100], [1, 0]);
        using var loader = ImageLoader.Create(images, ["dark", "light"], new() { BatchSize = 2, Training = false, Augmentation = Augmentation.None(2) with { Mean = [0, 0, 0], Std = [1, 1, 1] } });
        using var batch = loader.Next();
        Assert.Equal(["light", "dark"], batch.Texts);
        Assert.Equal([1, 0], batch.Labels);
        Assert.Equal([2, 3, 2, 2], batch.Images.shape);
        for (var c = 0; c < 3; c++) Assert.Equal(50 / 255f, batch.Images[0, c, 0, 1].item<float>(), 1e-6f);
    }

    [RealDataFact]
    public void The_real_data_set_is_read_whole()
    {
        var data = FashionMnist.Open();
        Assert.Equal((60000, 10000, 28, 28), (data.Train.Count, data.Test.Count, data.Train.Width, data.Train.Height));
        for (var c = 0; c < 10; c++) Assert.Equal((6000, 1000), (data.Train.Labels.Count(l => l == c), data.Test.Labels.Count(l => l == c)));
        // Published with the data set: mean and deviation of the training pixels, 0.2860 and 0.3530.
        Assert.Equal(0.2860, data.Train.Pixels.Average(static v => v / 255.0), 1e-4);
    }

    [Fact]
    public void Files_that_are_missing_or_do_not_go_together_are_named()
    {
        using var folder = new TemporaryFolder();
        Refused("train-images-idx3-ubyte");
        Write(folder, true);
        File.Delete(folder["t10k-labels-idx1-ubyte.gz"]);
        Refused("t10k-labels-idx1-ubyte");
        Idx(folder["t10k-labels-idx1-ubyte"], [3], [1, 2, 3], false);
        Refused("holds 4 images, but");
        Idx(folder["t10k-labels-idx1-ubyte"], [4], [1, 2, 3, 10], false);
        Refused("the label 10");
        Idx(folder["t10k-labels-idx1-ubyte"], [4, 1], [1, 2, 3, 4], false);
        Refused("begins with 00000802; expected 00000801");
        File.WriteAllText(folder["t10k-labels-idx1-ubyte"], "no labels at all");
        Refused("expected 00000801");

        void Refused(string part)
        {
            var message = Assert.Throws<PanoptesException>(() => FashionMnist.Open(folder.Path)).Message;
            Assert.Contains(part, message);
            Assert.Contains(folder.Path, message);
            Assert.DoesNotContain('\n', message);
        }
    }

    [Fact]
    public void A_head_that_lies_about_the_size_is_refused_before_memory_is_taken()
    {
        using var folder = new TemporaryFolder();
        var path = folder["file"];
        Lie([60000, 28, 28], false, "more than fit");
        Lie([60000, 28, 28], true, "more than fit");
        Lie([uint.MaxValue, 28, 28], true, "dimension 1");
        Lie([65536, 65536, 28], true, "dimension 2");
        Lie([0, 28, 28], false, "dimension 1");
        Lie([1, 4, 4], true, "cut short");
        Lie([1, 4, 4], false, "cut short");
        Lie([1, 1, 2], false, "goes on after");

        void Lie(uint[] shape, bool compressed, string part)
        {
            Idx(path, shape, new byte[15], compressed);
            var before = GC.GetAllocatedBytesForCurrentThread();
            var message = Assert.Throws<PanoptesException>(() => IdxFile.Read(path, 3)).Message;
            Assert.True(part == "cut short" ? message.Contains("cut short", StringComparison.Ordinal) || message.Contains("more than fit", StringComparison.Ordinal) : message.Contains(part, StringComparison.Ordinal), message);
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1 << 20);
        }
    }

    [Fact]
    public void A_damaged_file_is_an_array_or_one_clear_error()
    {
        using var folder = new TemporaryFolder();
        var path = folder["file"];
        byte[][] seeds = [Bytes([3, 4, 5], Enumerable.Range(0, 60).Select(static v => (byte)v).ToArray(), false), Bytes([3, 4, 5], new byte[60], true)];
        Gen.Select(Gen.Int[0, 1], Gen.Select(Gen.Int[0, 79], Gen.Byte).Array[0, 6], Gen.Int[0, 80]).Sample((seed, edits, length) =>
        {
            var bytes = seeds[seed].ToArray();
            foreach (var (at, value) in edits) bytes[at % bytes.Length] = value;
            File.WriteAllBytes(path, bytes[..Math.Min(length, bytes.Length)]);
            var before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                var array = IdxFile.Read(path, 3);
                Assert.Equal(array.Values.Length, array.Shape.Aggregate(1, static (a, b) => a * b));
            }
            catch (PanoptesException e)
            {
                Assert.StartsWith(path, e.Message);
                Assert.DoesNotContain('\n', e.Message);
            }
            return GC.GetAllocatedBytesForCurrentThread() - before < 1 << 20;
        }, iter: 2000, threads: 1);
    }

    static void Write(TemporaryFolder folder, bool compressed)
    {
        var ending = compressed ? ".gz" : "";
        Idx(folder["train-images-idx3-ubyte" + ending], [6, 5, 3], Enumerable.Range(0, 90).Select(static v => (byte)v).ToArray(), compressed);
        Idx(folder["train-labels-idx1-ubyte" + ending], [6], [0, 1, 2, 3, 4, 5], compressed);
        Idx(folder["t10k-images-idx3-ubyte" + ending], [4, 5, 3], Enumerable.Range(0, 60).Select(static v => (byte)v).ToArray(), compressed);
        Idx(folder["t10k-labels-idx1-ubyte" + ending], [4], [9, 8, 7, 6], compressed);
    }

    static void Idx(string path, uint[] shape, byte[] values, bool compressed) => File.WriteAllBytes(path, Bytes(shape, values, compressed));

    static byte[] Bytes(uint[] shape, byte[] values, bool compressed)
    {
        var bytes = new byte[4 + (4 * shape.Length) + values.Length];
        (bytes[2], bytes[3]) = (8, (byte)shape.Length);
        for (var i = 0; i < shape.Length; i++) BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(4 + (4 * i)), shape[i]);
        values.CopyTo(bytes.AsSpan(4 + (4 * shape.Length)));
        if (!compressed) return bytes;
        var stream = new MemoryStream();
        using (var gzip = new GZipStream(stream, CompressionLevel.Fastest)) gzip.Write(bytes);
        return stream.ToArray();
    }

    /// <summary>Skipped where the data set is not installed.</summary>
    sealed class RealDataFactAttribute : FactAttribute
    {
        public RealDataFactAttribute()
        {
            if (FashionMnist.Find() is null) Skip = "Fashion-MNIST is not installed (Debian package dataset-fashion-mnist).";
        }
    }
}
