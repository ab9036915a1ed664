using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation.Objectives;
using Panoptes.Text;

namespace Panoptes.Representation.Tests;

/// <summary>Live tensors before a public call and after it: equal, but for what it returns to the caller.</summary>
public sealed class LeakTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-leaks-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    public static TheoryData<string> Architectures => ["CLIPModel", "SiglipModel", "Siglip2Model", "CLIP", "CoCa"];

    [Theory, MemberData(nameof(Architectures))]
    public void Loading_and_saving_leave_the_parameters_only(string architecture)
    {
        TinyClip.Write(folder, architecture);
        var before = LiveTensors.Settle();
        using (var model = Models.Load(folder))
        {
            Assert.Equal(before + model.Parameters().Count(), Tensor.TotalCount);
            AddsNothing(() => Models.Save(Path.Combine(folder, "copy"), model));
            AddsNothing(() => Models.Save(Path.Combine(folder, "small"), model, new() { Dtype = ScalarType.BFloat16 }));
            AddsNothing(() => model.To(ScalarType.BFloat16));
            AddsNothing(() => model.To(ScalarType.Float32));
            AddsNothing(() => model.Train());
            AddsNothing(() => model.Train(false));
            AddsNothing(() => model.RequiresGrad(false));
            AddsNothing(model.Pack);
            // Wrong weights are refused, and what was loaded until then is given back.
            File.Delete(Path.Combine(folder, "copy", architecture is "CLIP" or "CoCa" ? "open_clip_config.json" : "config.json"));
            AddsNothing(() => Assert.Throws<PanoptesException>(() => Models.Load(Path.Combine(folder, "copy"))));
        }
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Theory, MemberData(nameof(Architectures))]
    public void Towers_and_features_leave_what_they_return(string architecture)
    {
        TinyClip.Write(folder, architecture);
        using var noGrad = no_grad();
        using var model = (DualEncoder)Models.Load(folder);
        using var pixels = randn(2, 3, 16, 16);
        using var ids = zeros(2, 16, dtype: ScalarType.Int64);
        using var mask = ones(2, 16, dtype: ScalarType.Int64);
        Adds(1, () => model.Images.Encode(pixels));
        Adds(1, () => model.Texts.Encode(ids));
        Adds(1, () => model.Texts.Encode(ids, mask));
        Adds(null, () => model.Images.Forward(pixels));
        if (architecture is not ("CLIP" or "CoCa"))
        {
            Adds(null, () => model.Images.Forward(pixels, hiddenStates: true));
            Adds(null, () => model.Texts.Forward(ids, mask, hiddenStates: true));
        }
        Adds(3, () => model.Features(pixels, ids, mask));
        AddsNothing(() => model.Images.LayerGroups.Lock(1));
    }

    [Fact]
    public void Objectives_leave_their_losses()
    {
        using var image = randn(4, 8);
        using var text = randn(4, 8);
        image.requires_grad = true;
        using var scale = tensor(10f);
        using var bias = tensor(-10f);
        var pairs = new PairFeatures(image, text, scale, bias);
        Adds(1, () => pairs.Logits());
        Adds(1, () => DualEncoder.Normalize(text));
        Adds(1, () => ContrastiveLoss.Of(pairs));
        Adds(1, () => SigmoidLoss.Of(pairs));
        Adds(2, () => DistillationLoss.Losses(pairs, pairs with { Bias = null }));
    }

    [Fact]
    public void Image_processors_leave_what_they_return()
    {
        Image[] pictures = [new(20, 16, 3), new(30, 40, 4)];
        foreach (var config in (string[])["""{"image_processor_type":"CLIPImageProcessor","size":{"shortest_edge":16},"crop_size":16}""", """{"image_processor_type":"SiglipImageProcessor","size":{"height":16,"width":16}}""", """{"preprocess_cfg":{"size":16,"resize_mode":"longest"}}"""])
        {
            var processor = ImageProcessor.Parse(config, "test");
            Adds(1, () => processor.Process(pictures));
            Adds(1, () => processor.Process(pictures[0]));
            AddsNothing(() => processor.Save(folder));
        }
        var naFlex = (NaFlexImageProcessor)ImageProcessor.Parse("""{"image_processor_type":"Siglip2ImageProcessor","patch_size":8,"max_num_patches":9}""", "test");
        Adds(3, () => naFlex.ProcessPatches(pictures));
        Adds(1, () => naFlex.Process(pictures));
        AddsNothing(() => Assert.Throws<PanoptesException>(() => ImageProcessor.Parse("""{"image_processor_type":"CLIPImageProcessor","do_center_crop":false,"size":{"shortest_edge":16}}""", "test").Process(pictures)));
    }

    [Fact]
    public void A_cancelled_or_failed_call_gives_everything_back()
    {
        TinyClip.Write(folder);
        using var clip = Clip.Load(folder, new() { BatchSize = 2 });
        var path = Path.Combine(folder, "a.png");
        new Image(20, 16, 3).Save(path);
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        AddsNothing(() => Assert.ThrowsAny<OperationCanceledException>(() => clip.EmbedFiles([path, path, path, path], cancellation: cancelled.Token)));
        AddsNothing(() => Assert.Throws<PanoptesException>(() => clip.EmbedFiles([path, path, path, Path.Combine(folder, "none.png")])));
        AddsNothing(() => Assert.Throws<PanoptesException>(() => clip.EmbedTexts(["a cat", "a cat", new string('x', 300)])));
        AddsNothing(() => Assert.Throws<PanoptesException>(() => clip.Classify(new Image(20, 16, 3), [new string('x', 300)])));
    }

    /// <summary>Runs it outside of any scope, so that whatever it forgets stays alive; null: as many as are in what it returns.</summary>
    static void Adds(int? expected, Func<object?> call)
    {
        Dispose(call());                                                             // what is made once, such as packed weights and masks
        // Batches that were read ahead are given back by another thread, a little later: those of the first call, too.
        var before = LiveTensors.Settle();
        for (var i = 0; i < 50 && expected == 0; i++)
        {
            Thread.Sleep(20);
            var now = Tensor.TotalCount;
            if (now == before) break;
            before = now;
        }
        var result = call();
        for (var i = 0; i < 50 && expected == 0 && Tensor.TotalCount > before; i++) Thread.Sleep(20);
        Assert.Equal(before + (expected ?? Tensors(result).Count), Tensor.TotalCount);
        Dispose(result);
    }

    static void AddsNothing(Action call) => Adds(0, () =>
    {
        call();
        return null;
    });

    static HashSet<Tensor> Tensors(object? result)
    {
        IEnumerable<Tensor?> all = result switch
        {
            null => [],
            Tensor one => [one],
            TowerOutput t => [t.LastHiddenState, t.Pooled, t.Embedding, .. t.HiddenStates ?? []],
            PairFeatures f => [f.Image, f.Text, f.Scale],
            DistillationLosses d => [d.Contrastive, d.Distillation],
            PatchBatch p => [p.PixelValues, p.PixelAttentionMask, p.SpatialShapes],
            _ => throw new InvalidOperationException(result.GetType().Name),
        };
        return all.OfType<Tensor>().ToHashSet<Tensor>(ReferenceEqualityComparer.Instance);
    }

    static void Dispose(object? result)
    {
        foreach (var tensor in Tensors(result)) tensor.Dispose();
    }
}
