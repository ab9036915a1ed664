using Panoptes.Nn;
using Panoptes.Representation.Objectives;
using Panoptes.Representation.Training;

namespace Panoptes.Representation.Tests;

/// <summary>Towers whose blocks are computed again for the gradient: the same numbers, less memory.</summary>
public class CheckpointingTests
{
    /// <summary>Whatever has blocks, with 4 of them or more.</summary>
    static Module Build(string tower)
    {
        Module built = tower switch
        {
            "open_clip" or "open_clip, text" or "ResNet" => Models.All.Single(static e => e.Architecture == "CLIP").Build(new($$"""
                {"embed_dim":12,"vision_cfg":{{(tower == "ResNet" ? """{"image_size":64,"layers":[2,3,2,2],"width":4,"head_width":16}""" : """{"image_size":32,"layers":4,"width":32,"head_width":8,"patch_size":8}""")}},
                 "text_cfg":{"context_length":8,"vocab_size":40,"width":32,"heads":2,"layers":4} }
                """, tower, static _ => null)),
            "EVA" => new TimmEva(new() { Architecture = "eva02_base_patch14_224", NumClasses = 0, ModelArgs = new() { ImgSize = [32], PatchSize = 8, EmbedDim = 32, Depth = 4, NumHeads = 2, MlpRatio = 2, InitValues = 0.5 } }),
            _ => new TimmVisionTransformer(new(32, 4, 2, 64, 8, Activation.Gelu), 32, attentionPool: true),
        };
        built.Initialize(new Generator(7));
        // ResNet blocks start as the identity, where a wrong gradient would not show.
        using var noGrad = no_grad();
        foreach (var (key, parameter) in built.NamedParameters())
            if (key.EndsWith("bn3.weight", StringComparison.Ordinal)) parameter.Value.uniform_(0.5, 1.5, new Generator(8));
        built.Train();
        return built;
    }

    static Tensor Run(Module model, string tower)
    {
        if (tower == "open_clip, text") return ((OpenClipModel)model).Texts.Encode(tensor(new long[] { 5, 9, 39, 0, 0, 0, 0, 0, 7, 1, 2, 3, 39, 0, 0, 0 }, [2, 8]));
        var side = tower == "ResNet" ? 64 : 32;
        var pixels = randn([4, 3, side, side], generator: new Generator(3));
        return model is OpenClipModel openClip ? openClip.Images.Encode(pixels) : ((TimmTrunk)model).Forward(pixels).Pooled;
    }

    [Theory]
    [InlineData("open_clip")]
    [InlineData("open_clip, text")]
    [InlineData("ResNet")]
    [InlineData("timm")]
    [InlineData("EVA")]
    public void Outputs_gradients_and_running_statistics_are_the_same(string tower)
    {
        using var scope = NewDisposeScope();
        var (plain, checkpointed) = (Step(false), Step(true));
        Assert.Equal(plain.Keys, checkpointed.Keys);
        Assert.True(plain.Count > 20);
        foreach (var (key, expected) in plain)
            Assert.True((expected - checkpointed[key]).abs().max().item<float>() <= 2e-6 * Math.Max(1, expected.abs().max().item<float>()), key);

        Dictionary<string, Tensor> Step(bool on)
        {
            using var model = Build(tower);
            model.CheckpointActivations(on);
            var output = Run(model, tower);
            (output * output).sum().backward();
            var all = new Dictionary<string, Tensor> { [""] = output.detach() };
            foreach (var (key, parameter) in model.NamedParameters())
                if (parameter.Grad is { } gradient) all[key] = gradient.clone();
                else if (!parameter.Trainable) all[key] = parameter.Value.clone();
            return all;
        }
    }

    [Fact]
    public void Running_statistics_count_a_batch_once()
    {
        using var scope = NewDisposeScope();
        using var model = Build("ResNet");
        model.CheckpointActivations();
        var norm = ((OpenClipResNet)((OpenClipModel)model).Visual).Layer1[0].Bn1;
        var start = norm.RunningMean.Value.clone();
        var output = Run(model, "ResNet");
        var once = norm.RunningMean.Value.clone();
        output.sum().backward();
        Assert.NotEqual(start.data<float>().ToArray(), once.data<float>().ToArray());
        Assert.Equal(once.data<float>().ToArray(), norm.RunningMean.Value.data<float>().ToArray());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Running_statistics_count_a_piece_of_a_large_batch_once(bool checkpointed)
    {
        using var scope = NewDisposeScope();
        using OpenClipModel model = (OpenClipModel)Build("ResNet"), other = (OpenClipModel)Build("ResNet");
        model.CheckpointActivations(checkpointed);
        var pixels = randn([4, 3, 64, 64], generator: new Generator(3));
        var ids = randint(1, 39, [4, 8], ScalarType.Int64, generator: new Generator(4));
        new PairGradients { Objectives = [new("contrastive", new ContrastiveLoss())], MicroBatch = 2 }.Backward(Towers.Of(model), new(pixels, ids));
        using (no_grad())
            for (var start = 0; start < 4; start += 2) other.Images.Encode(pixels.narrow(0, start, 2));
        Assert.Equal(Statistics(other), Statistics(model));

        static float[] Statistics(OpenClipModel model) => [.. model.NamedParameters().Where(static p => !p.Parameter.Trainable).SelectMany(static p => p.Parameter.Value.data<float>().ToArray())];
    }

    [Theory]
    [InlineData("open_clip")]
    [InlineData("ResNet")]
    [InlineData("timm")]
    public void Less_memory_is_in_use_between_forward_and_backward(string tower)
    {
        if (!OperatingSystem.IsLinux()) return;
        using var scope = NewDisposeScope();
        using var model = Build(tower);
        var (plain, checkpointed) = MemoryInUse.Kept(model, () => Run(model, tower));
        Assert.True(checkpointed < plain / 2, $"{checkpointed} bytes are kept, {plain} without checkpoints");
    }
}
