using System.Text;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Data;
using Parquet;
using Parquet.Schema;

namespace Panoptes.Core.Tests.Data;

/// <summary>Folders and tables of images.</summary>
public sealed class ImageCollectionTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Subfolders_are_classes_in_the_order_of_their_names()
    {
        foreach (var name in new[] { "zebra/a.png", "golden_retriever/deep/er/b.PNG", "golden_retriever/a.png", "Zoo/c.png" }) folder.Write(name, Pictures.Png(name.Length));
        folder.Write("zebra/notes.md", "not an image");
        folder.Write(".hidden/x.png", Pictures.Png(1));
        var images = ImageFolder.Open(folder.Path);
        Assert.Equal(["Zoo", "golden_retriever", "zebra"], images.Classes);
        Assert.Equal(["Zoo/c.png:0:Zoo", "golden_retriever/a.png:1:golden retriever", "golden_retriever/deep/er/b.PNG:1:golden retriever", "zebra/a.png:2:zebra"],
            Enumerable.Range(0, images.Count).Select(i => $"{Path.GetRelativePath(folder.Path, images.PathOf(i))}:{images.LabelOf(i)}:{images.Read(i).Text}"));
        Assert.Equal(Pictures.Png(9), images.Read(0).Encoded.ToArray());
        Assert.True(images.HasText);
    }

    [Fact]
    public void A_flat_folder_has_neither_labels_nor_texts()
    {
        folder.Write("b.png", Pictures.Png(2));
        folder.Write("a.png", Pictures.Png(1));
        var images = ImageFolder.Open(folder.Path);
        Assert.Equal(["a.png", "b.png"], Enumerable.Range(0, 2).Select(i => Path.GetFileName(images.PathOf(i))));
        Assert.Equal((-1, "", false, 0), (images.LabelOf(0), images.Read(0).Text, images.HasText, images.Classes.Count));
    }

    [Fact]
    public void A_text_file_beside_an_image_is_its_caption_and_where_one_has_it_all_must()
    {
        folder.Write("a.png", Pictures.Png(1));
        folder.Write("a.txt", "\uFEFF a cat \r\n");
        folder.Write("b.png", Pictures.Png(2));
        folder.Write("c.png", Pictures.Png(3));
        folder.Write("c.txt", " \n");
        var images = ImageFolder.Open(folder.Path);
        Assert.Equal(2, images.Count);
        Assert.Equal("a cat", images.Read(0).Text);
        Assert.Contains("c.txt is empty", Assert.ThrowsAny<PanoptesException>(() => images.Read(1)).Message, StringComparison.Ordinal);
        Assert.Equal([$"{folder["b.png"]} has no caption: b.txt is missing beside it."], images.Problems.First.Select(static p => p.Message));
        Assert.Contains("b.txt", Assert.Throws<PanoptesException>(() => ImageFolder.Open(folder.Path, new(strict: true))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_no_folder_of_images_is_one_sentence()
    {
        Assert.Equal($"The folder {folder["none"]} does not exist.", Assert.Throws<PanoptesException>(() => ImageFolder.Open(folder["none"])).Message);
        folder.Write("a.txt", "text");
        Assert.Contains("holds no images", Assert.Throws<PanoptesException>(() => ImageFolder.Open(folder.Path)).Message, StringComparison.Ordinal);
        Assert.Contains("is a file", Assert.Throws<PanoptesException>(() => ImageFolder.Open(folder["a.txt"])).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("t.csv", "filepath,title\nimg/a.png,\"a cat, asleep\"\n./img/b.png,a dog\n")]
    [InlineData("t.csv", "filepath\ttitle\r\nimg/a.png\ta cat, asleep\r\nimg/b.png\ta dog\r\n")]
    [InlineData("t.tsv", "Caption\tIMAGE\na cat, asleep\timg/a.png\na dog\timg/../img/b.png")]
    public void A_table_of_paths_and_captions_is_read_by_the_names_that_are_in_use(string name, string content)
    {
        folder.Write("img/a.png", Pictures.Png(1));
        folder.Write("img/b.png", Pictures.Png(2));
        var images = ImageTable.Open(folder.Write(name, content));
        Assert.Equal(0, images.Problems.Count);
        Assert.Equal([(folder["img/a.png"], "a cat, asleep", -1), (folder["img/b.png"], "a dog", -1)],
            Enumerable.Range(0, images.Count).Select(i => (images.PathOf(i), images.Read(i).Text, images.LabelOf(i))));
        Assert.Equal(Pictures.Png(2), images.Read(1).Encoded.ToArray());
    }

    [Fact]
    public void Labels_are_whole_numbers_or_names_of_classes()
    {
        var numbers = ImageTable.Open(folder.Write("n.csv", "path,label\na.png, 7\nb.png,-1\n"));
        Assert.Equal([7, -1], Enumerable.Range(0, 2).Select(numbers.LabelOf));
        Assert.Empty(numbers.Classes);
        Assert.False(numbers.HasText);
        var names = ImageTable.Open(folder.Write("c.csv", "path,class,extra\na.png,zebra,\nb.png,ant,\nc.png,zebra,\nd.png,,\n"));
        Assert.Equal(["ant", "zebra"], names.Classes);
        Assert.Equal([1, 0, 1], Enumerable.Range(0, names.Count).Select(names.LabelOf));
        Assert.Equal(DataProblemKind.BadRow, Assert.Single(names.Problems.First).Kind);
    }

    [Fact]
    public void Columns_can_be_named_and_one_that_is_not_there_is_told_with_those_that_are()
    {
        var file = folder.Write("t.csv", "filepath,title,alt\na.png,first,second\n");
        Assert.Equal("second", ReadText(ImageTable.Open(file, new() { TextColumn = "ALT" })));
        Assert.Equal($"The table {file} has no column 'label', but 'filepath', 'title', 'alt'.",
            Assert.Throws<PanoptesException>(() => ImageTable.Open(file, new() { LabelColumn = "label" })).Message);
        var other = folder.Write("o.csv", "a.png,a cat\n");
        Assert.StartsWith($"The table {other} has the columns 'a.png', 'a cat', but for the image paths one of filepath,", Assert.Throws<PanoptesException>(() => ImageTable.Open(other)).Message, StringComparison.Ordinal);

        string ReadText(ImageCollection images)
        {
            folder.Write("a.png", Pictures.Png(1));
            return images.Read(0).Text;
        }
    }

    [Fact]
    public void Rows_that_cannot_be_used_are_counted_and_skipped_or_an_error()
    {
        const string Content = "filepath,title\na.png,fine\nb.png\n,no path\nc.png,\n../out.png,outside\n/etc/hostname,absolute\nd.png,one,more\na\0.png,null\n";
        var file = folder.Write("data/t.csv", Content);
        var images = ImageTable.Open(file);
        Assert.Equal(1, images.Count);
        Assert.Equal(7, images.Problems.Count);
        Assert.Equal((6, 1), (images.Problems.CountOf(DataProblemKind.BadRow), images.Problems.CountOf(DataProblemKind.NoCaption)));
        Assert.Equal("7 samples are not used: 1 missing caption, 6 bad rows.", images.Problems.Lines()[0]);
        Assert.Contains($"{file} line 3 has 1 fields, but the header names 2.", images.Problems.Lines());
        Assert.Contains($"{file} line 6 names ../out.png, which is not in {folder["data"]}.", images.Problems.Lines());
        Assert.Contains("line 3", Assert.Throws<PanoptesException>(() => ImageTable.Open(file, problems: new(strict: true))).Message, StringComparison.Ordinal);

        var wide = ImageTable.Open(file, new() { Root = "/" });
        Assert.Equal(["/a.png", "/out.png", "/etc/hostname"], Enumerable.Range(0, wide.Count).Select(wide.PathOf));
    }

    [Fact]
    public void A_sibling_whose_name_begins_like_the_folder_is_outside_it()
    {
        var images = ImageTable.Open(folder.Write("set/t.csv", "path\na.png\n../set-private/x.png\n"));
        Assert.Equal(1, images.Count);
    }

    [Fact]
    public void A_file_that_is_not_there_is_told_when_it_is_read()
    {
        var images = ImageTable.Open(folder.Write("t.csv", "path\nnone.png\nsub\n"));
        Directory.CreateDirectory(folder["sub"]);
        Assert.Equal($"{folder["none.png"]} does not exist, but an image was expected.", Assert.ThrowsAny<PanoptesException>(() => images.Read(0)).Message);
        Assert.StartsWith($"{folder["sub"]} cannot be read", Assert.ThrowsAny<PanoptesException>(() => images.Read(1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_table_without_a_row_to_use_is_an_error_that_says_why()
    {
        Assert.Contains("is empty", Assert.Throws<PanoptesException>(() => ImageTable.Open(folder.Write("e.csv", ""))).Message, StringComparison.Ordinal);
        var message = Assert.Throws<PanoptesException>(() => ImageTable.Open(folder.Write("t.csv", "path,caption\na.png,\n"))).Message;
        Assert.Contains("has no image that can be used", message, StringComparison.Ordinal);
        Assert.Contains("line 2 has an empty caption", message, StringComparison.Ordinal);
        Assert.Contains("does not exist", Assert.Throws<PanoptesException>(() => ImageTable.Open(folder["none.csv"])).Message, StringComparison.Ordinal);
        Assert.Contains("its format is not known", Assert.Throws<PanoptesException>(() => ImageTable.Open(folder.Write("t.xls", "x"))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(typeof(int))]
    [InlineData(typeof(long))]
    [InlineData(typeof(string))]
    public async Task Parquet_tables_are_read_with_labels_of_every_usual_type(Type label)
    {
        await WriteParquet(folder["t.parquet"], label, ["img/a.png", "img/b.png", null, "img/c.png"], ["a", "b", "c", null], [3, 1, 2, 0]);
        var images = ImageTable.Open(folder["t.parquet"]);
        Assert.Equal([folder["img/a.png"], folder["img/b.png"]], Enumerable.Range(0, images.Count).Select(images.PathOf));
        Assert.Equal([3, 1], Enumerable.Range(0, images.Count).Select(images.LabelOf));
        Assert.Equal([$"{folder["t.parquet"]} row 3 names no image.", $"{folder["t.parquet"]} row 4 has an empty caption."], images.Problems.First.Select(static p => p.Message));
    }

    [Fact]
    public async Task A_parquet_column_of_another_type_is_one_sentence()
    {
        await WriteParquet(folder["t.parquet"], typeof(int), ["a.png"], ["a"], [1]);
        Assert.Equal($"The column label of {folder["t.parquet"]} holds Int32 values, but text was expected.",
            Assert.Throws<PanoptesException>(() => ImageTable.Open(folder["t.parquet"], new() { TextColumn = "label" })).Message);
        var text = folder.Write("x.parquet", "PAR1 but nothing else");
        Assert.StartsWith($"{text} is not a Parquet file that can be read: ", Assert.Throws<PanoptesException>(() => ImageTable.Open(text)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Problems_are_counted_once_each_and_the_first_are_kept()
    {
        var problems = new DataProblems();
        Assert.Empty(problems.Lines());
        Parallel.For(0, 1000, i => problems.Add(new(i % 4 == 0 ? DataProblemKind.MissingFile : DataProblemKind.BadImage, $"file {i % 100}", $"file {i % 100} is bad.")));
        Assert.Equal(100, problems.Count);
        Assert.Equal(DataProblems.Kept, problems.First.Count);
        Assert.Equal("100 samples are not used: 25 missing files, 75 unreadable images.", problems.Lines()[0]);
        Assert.Equal("… and 90 more.", problems.Lines()[^1]);
    }

    internal static async Task WriteParquet(string path, Type label, string?[] paths, string?[] texts, int[] labels, CompressionMethod compression = CompressionMethod.Snappy)
    {
        var (image, text, number) = (new DataField("image", typeof(string), true), new DataField("caption", typeof(string), true), new DataField("label", label, label == typeof(long)));
        await using var stream = File.Create(path);
        await using var writer = await ParquetWriter.CreateAsync(new ParquetSchema(text, image, number), stream, new ParquetOptions { CompressionMethod = compression });
        using var group = writer.CreateRowGroup();
        await group.WriteAsync(text, texts);
        await group.WriteAsync(image, paths);
        if (label == typeof(int)) await group.WriteAsync<int>(number, labels);
        else if (label == typeof(long)) await group.WriteAsync<long>(number, labels.Select(static l => (long?)l).ToArray());
        else await group.WriteAsync(number, labels.Select(static l => $"{l}").ToArray());
        group.CompleteValidate();
    }
}
