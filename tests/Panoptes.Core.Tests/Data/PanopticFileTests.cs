using System.Text;
using CsCheck;
using Panoptes.Core.Tests.Checkpoints;
using Panoptes.Core.Tests.Hostile;
using Panoptes.Data;
using Panoptes.Evaluation;
using Panoptes.Imaging;

namespace Panoptes.Core.Tests.Data;

public sealed class PanopticFileTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    static readonly CocoImage Photo = new(7, "photos/a.jpg", 4, 3);

    static readonly int[] Ids = [0, 5, 5, 5, 0, 5, 70000, 70000, 0, 0, 70000, 9];

    PanopticFile Written()
    {
        var annotation = PanopticFile.WriteIds(folder["panoptic"], Photo, "a.png", Ids, [new(5, 1), new(70000, 2, Crowd: true), new(9, 1), new(1234, 2)]);
        var file = new PanopticFile { Images = [Photo], Categories = [new(1, "cat", true, "animal"), new(2, "sky", false)], Annotations = [annotation] };
        file.Save(folder["panoptic.json"]);
        return file;
    }

    [Fact]
    public void Segments_are_written_and_read_with_their_areas_and_boxes()
    {
        Written();
        var file = PanopticFile.Load(folder["panoptic.json"]);
        Assert.Equal([Photo], file.Images);
        Assert.Equal([new(1, "cat", true, "animal"), new(2, "sky", false)], file.Categories);
        var annotation = Assert.Single(file.Annotations);
        Assert.Equal([new(5, 1, 4, new(1, 0, 3, 2)), new(70000, 2, 3, new(2, 1, 2, 2), true), new(9, 1, 1, new(3, 2, 1, 1))], annotation.Segments);
        Assert.Equal(Ids, file.ReadIds(annotation, PanopticFile.FolderOf(folder["panoptic.json"])));
    }

    [Fact]
    public void A_picture_has_its_ids_in_the_colors_of_COCO_and_the_JSON_its_names()
    {
        Written();
        var picture = Image.Load(folder["panoptic/a.png"]);
        Assert.Equal([70000 & 255, 70000 >> 8 & 255, 70000 >> 16], picture.Pixels[18..21]);
        var json = File.ReadAllText(folder["panoptic.json"]);
        Assert.Contains("""{"image_id":7,"file_name":"a.png","segments_info":[{"id":5,"category_id":1,"area":4,"bbox":[1,0,3,2],"iscrowd":0},""", json, StringComparison.Ordinal);
        Assert.Contains("""{"id":2,"name":"sky","isthing":0}""", json, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("../a.png", "leads out of its folder")]
    [InlineData("/etc/a.png", "leads out of its folder")]
    [InlineData("..\\\\a.png", "leads out of its folder")]
    [InlineData("", "leads out of its folder")]
    public void A_picture_outside_its_folder_is_refused(string name, string problem)
    {
        Written();
        File.WriteAllText(folder["panoptic.json"], File.ReadAllText(folder["panoptic.json"]).Replace("\"a.png\"", $"\"{name}\"", StringComparison.Ordinal));
        Assert.Contains(problem, Assert.Throws<PanoptesException>(() => PanopticFile.Load(folder["panoptic.json"])).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("\"id\":9", "\"id\":5", "each once")]
    [InlineData("\"id\":9", "\"id\":0", "each once")]
    [InlineData("\"id\":9", "\"id\":16777216", "each once")]
    [InlineData("\"category_id\":2", "\"category_id\":3", "not among the categories")]
    [InlineData("\"image_id\":7", "\"image_id\":8", "not among the images")]
    [InlineData("\"segments_info\"", "\"segments\"", "no list \"segments_info\"")]
    [InlineData("\"isthing\":0", "\"thing\":0", "\"isthing\" is missing")]
    [InlineData("[1,0,3,2]", "[1,0,3]", "a bbox is not")]
    public void A_file_that_contradicts_itself_is_refused_with_one_sentence(string part, string other, string problem)
    {
        Written();
        File.WriteAllText(folder["panoptic.json"], File.ReadAllText(folder["panoptic.json"]).Replace(part, other, StringComparison.Ordinal));
        Assert.Contains(problem, Assert.Throws<PanoptesException>(() => PanopticFile.Load(folder["panoptic.json"])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_picture_that_does_not_fit_its_image_or_segments_is_refused()
    {
        var file = Written();
        var annotation = file.Annotations[0];
        Assert.Contains("no segment's id", Assert.Throws<PanoptesException>(() => file.ReadIds(annotation with { Segments = [annotation.Segments[0]] }, folder["panoptic"])).Message, StringComparison.Ordinal);
        Assert.Contains("expected the image's 5x3", Assert.Throws<PanoptesException>(() => new PanopticFile { Images = [Photo with { Width = 5 }] }.ReadIds(annotation, folder["panoptic"])).Message, StringComparison.Ordinal);
        Assert.Throws<PanoptesException>(() => file.ReadIds(annotation, folder["nowhere"]));
        Assert.Contains("no segment's", Assert.Throws<PanoptesException>(() => PanopticFile.WriteIds(folder["p"], Photo, "b.png", Ids, [new(5, 1)])).Message, StringComparison.Ordinal);
        Assert.Throws<PanoptesException>(() => PanopticFile.WriteIds(folder["p"], Photo, "../b.png", Ids, [new(5, 1)]));
        Assert.Throws<PanoptesException>(() => PanopticFile.WriteIds(folder["p"], Photo, "b.png", new int[5], []));
        Assert.False(File.Exists(folder["p/b.png"]));
    }

    [Fact]
    public void A_damaged_file_is_read_or_refused()
    {
        Written();
        byte[][] seeds = [File.ReadAllBytes(folder["panoptic.json"])];
        Mutation.OfJson(seeds).Sample(bytes => Try(bytes), iter: 600, threads: 1, print: Mutation.Print);
        Mutation.OfBytes(seeds).Sample(bytes => Try(bytes), iter: 600, threads: 1, print: Mutation.Print);

        void Try(byte[] bytes)
        {
            File.WriteAllBytes(folder["damaged.json"], bytes);
            try
            {
                var file = PanopticFile.Load(folder["damaged.json"]);
                foreach (var annotation in file.Annotations) file.ReadIds(annotation, folder["panoptic"]);
            }
            catch (PanoptesException e)
            {
                Assert.DoesNotContain(e.Message, char.IsControl);
            }
        }
    }
}
