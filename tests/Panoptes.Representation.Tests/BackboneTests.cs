using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Representation.Tests;

/// <summary>What the image backbones can do beyond what every model must: be trained with parts left out, be masked, be taken out of a classifier's file.</summary>
public sealed class BackboneTests : IDisposable
{
    readonly string folder = Directory.CreateTempSubdirectory("panoptes-backbones-").FullName;

    public static TheoryData<string> Deep => [.. Of<IStochasticDepth>()];

    public static TheoryData<string> Masked => [.. Of<IMaskedImageTower>()];

    public static TheoryData<string> Droppable => [.. Of<IPatchDropout>().Where(static a => !a.StartsWith("CLIP", StringComparison.Ordinal))];

    public static TheoryData<string> Classifiers => [.. Of<ImageClassifier>()];

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Theory, MemberData(nameof(Deep))]
    public void Branches_are_left_out_in_training_only_and_as_the_generator_draws(string architecture)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Excited(architecture);
        var (tower, pixels) = (Tower(model), Pixels(model));
        var whole = Encode(0, 1);
        ((IStochasticDepth)model).DropPath = 0.5;
        Assert.Equal(whole, Encode(0, 1));
        model.Train();
        Assert.Equal(Encode(0.5, 1), Encode(0.5, 1));
        Assert.NotEqual(Encode(0.5, 1), Encode(0.5, 2));
        Assert.NotEqual(whole, Encode(0.5, 1));
        Assert.Equal(whole, Encode(0, 1));
        Assert.Throws<PanoptesException>(() => Encode(1, 1));

        float[] Encode(double rate, ulong seed)
        {
            using var generator = new Generator(seed);
            (((IStochasticDepth)model).DropPath, ((IStochasticDepth)model).Random) = (rate, generator);
            return tower.Encode(pixels).data<float>().ToArray();
        }
    }

    [Theory, MemberData(nameof(Deep))]
    public void Blocks_that_are_computed_twice_leave_out_the_same_branches(string architecture)
    {
        using var scope = NewDisposeScope();
        var (plain, checkpointed) = (Step(false), Step(true));
        Assert.Equal(plain.Keys, checkpointed.Keys);
        foreach (var (key, expected) in plain)
            Assert.True((expected - checkpointed[key]).abs().max().item<float>() <= 1e-5 * Math.Max(1, expected.abs().max().item<float>()), key);

        Dictionary<string, Tensor> Step(bool on)
        {
            using var model = Excited(architecture);
            model.Train();
            model.CheckpointActivations(on);
            using var generator = new Generator(5);
            (((IStochasticDepth)model).DropPath, ((IStochasticDepth)model).Random) = (0.4, generator);
            Tower(model).Encode(Pixels(model)).square().sum().backward();
            return model.NamedParameters().Where(static p => p.Parameter.Grad is not null).ToDictionary(static p => p.Key, static p => p.Parameter.Grad!.clone());
        }
    }

    [Theory, MemberData(nameof(Deep))]
    public void All_outputs_leave_what_they_hold(string architecture)
    {
        using var noGrad = no_grad();
        using var model = Excited(architecture);
        using var pixels = Pixels(model);
        var tower = Tower(model);
        Measure(false);                                                              // what is made once a size
        Measure(true);

        void Measure(bool count)
        {
            var before = LiveTensors.Settle();
            var output = tower.Forward(pixels, hiddenStates: true);
            using var tokens = tower.EmbedTokens(output.LastHiddenState);
            var held = new HashSet<Tensor>([output.LastHiddenState, output.Pooled, output.Embedding, tokens, .. output.HiddenStates!], ReferenceEqualityComparer.Instance);
            if (count) Assert.Equal(before + held.Count, Tensor.TotalCount);
            foreach (var tensor in held) tensor.Dispose();
        }
    }

    [Theory, MemberData(nameof(Deep))]
    public void Tokens_embed_as_the_image_does(string architecture)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Excited(architecture);
        var tower = Tower(model);
        var output = tower.Forward(Pixels(model));
        Assert.Equal(tower.TokenSize, output.LastHiddenState.shape[2]);
        Assert.Equal(tower.EmbeddingSize, output.Embedding.shape[1]);
        if (model is ConvNextModel or BeitModel { Pooler: not null } or BeitForImageClassification) return;   // normalizes after the mean
        var tokens = tower.EmbedTokens(output.LastHiddenState);
        var same = tower.PrefixTokens > 0 ? tokens.select(1, 0) : tokens.mean([1]);
        Assert.True((same - output.Embedding).abs().max().item<float>() < 1e-5f);
    }

    [Fact]
    public void Pixels_become_the_nearest_colors_after_a_start()
    {
        using var scope = NewDisposeScope();
        var palette = tensor(new float[] { -1, -1, -1, 1, 1, 1, 1, -1, -1 }, [3, 3]);
        var pixels = tensor(new float[] { 0.9f, -0.8f, 0.7f, -0.9f, -0.9f, 0.8f, -0.7f, -0.8f, -0.9f, 0.9f, -0.6f, -1 }, [1, 3, 2, 2]);
        // Red, white; red, black: the last is only guessed.
        Assert.Equal([3L, 2, 1, 2], ImageGptModel.Tokens(pixels, palette).data<long>().ToArray());
    }

    [Fact]
    public void Branches_that_stay_make_up_for_those_left_out()
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(3);
        var factors = StochasticDepth.Draw([0, 0.25, 0.5], 2, zeros(4000, 1), generator)!;
        Assert.Equal([3, 2, 4000], factors.shape);
        Assert.Equal([1f], factors[0].flatten().unique().output.data<float>().ToArray());
        Assert.Equal([0, 2f], factors[2].flatten().unique().output.data<float>().ToArray());
        Assert.All(factors.mean([1, 2]).data<float>().ToArray(), static mean => Assert.InRange(mean, 0.96f, 1.04f));
        Assert.Null(StochasticDepth.Draw([0, 0], 2, zeros(4, 1), generator));
        Assert.Equal([0, 0.1, 0.2], StochasticDepth.Rising(0.2, 3));
    }

    [Theory, MemberData(nameof(Droppable))]
    public void Patches_are_left_out_in_training_only(string architecture)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Excited(architecture);
        var (tower, pixels) = ((IPatchDropout)model, Pixels(model));
        var whole = Tower(model).Encode(pixels);
        tower.PatchDropout = 0.5;
        Assert.Equal(whole.data<float>().ToArray(), Tower(model).Encode(pixels).data<float>().ToArray());
        model.Train();
        Assert.Equal(Encode(1), Encode(1));
        Assert.NotEqual(whole.data<float>().ToArray(), Encode(1));

        float[] Encode(ulong seed)
        {
            using var generator = new Generator(seed);
            tower.Random = generator;
            return Tower(model).Encode(pixels).data<float>().ToArray();
        }
    }

    [Theory, MemberData(nameof(Masked))]
    public void Masked_patches_are_not_seen(string architecture)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Excited(architecture);
        var (tower, pixels) = ((IMaskedImageTower)model, Pixels(model));
        var side = tower.ImageSize;
        // The patches of the right half.
        var masked = zeros(2, 2, 2, dtype: ScalarType.Bool);
        masked[TensorIndex.Colon, TensorIndex.Colon, 1] = ones(1, dtype: ScalarType.Bool);
        masked = masked.flatten(1);
        var others = pixels.clone();
        others.narrow(3, side / 2, side / 2).normal_(0, 1, new Generator(99));
        Assert.NotEqual(Encode(pixels, null), Encode(others, null));
        Assert.NotEqual(Encode(pixels, null), Encode(pixels, masked));
        Assert.Equal(Encode(pixels, masked), Encode(others, masked));

        float[] Encode(Tensor pixels, Tensor? masked) => (masked is null ? tower.Forward(pixels) : tower.Forward(pixels, masked)).Pooled.data<float>().ToArray();
    }

    [Theory, MemberData(nameof(Classifiers))]
    public void A_tower_loads_out_of_a_classifiers_file(string architecture)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = (ImageClassifier)Excited(architecture);
        Models.Save(folder, model);
        using var loaded = (ImageClassifier)Models.Load(folder);
        var pixels = Pixels(model);
        Assert.Equal(["cat", "dog", "owl"], loaded.Labels);
        Assert.Equal(model.Logits(pixels).data<float>().ToArray(), loaded.Logits(pixels).data<float>().ToArray());
        // As its class is named, or as the config's model_type says where no class is known.
        File.WriteAllText(Path.Combine(folder, "config.json"), File.ReadAllText(Path.Combine(folder, "config.json")).Replace(architecture, "ForSomethingElse", StringComparison.Ordinal));
        using var tower = Models.Load(folder);
        Assert.Equal(model.Tower.GetType(), tower.GetType());
        Assert.Equal(model.Encode(pixels).data<float>().ToArray(), ((IImageTower)tower).Encode(pixels).data<float>().ToArray());
    }

    [Fact]
    public void A_mean_of_patches_pools_without_a_pooler()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = new VitModel(ModelConfig.Parse<VitConfig>(ModelTests.Tiny["ViTModel"], "test") with { MeanPooling = true });
        model.Initialize(new Generator(7));
        var pixels = Pixels(model);
        var output = model.Forward(pixels);
        Assert.Null(model.Pooler);
        Assert.Equal(output.LastHiddenState.narrow(1, 1, 4).mean([1]).data<float>().ToArray(), output.Pooled.data<float>().ToArray());
        Assert.Contains("24x16", Assert.Throws<PanoptesException>(() => model.Encode(randn(1, 3, 16, 24))).Message);
        model.InterpolatePositions = true;
        Assert.Equal([1, 7, 16], model.Forward(randn(1, 3, 16, 24)).LastHiddenState.shape);
    }

    [Fact]
    public void Places_are_moved_in_training_only()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var config = ModelConfig.Parse<Dinov3VitConfig>(ModelTests.Tiny["DINOv3ViTModel"], "test");
        Assert.Null(config.PosEmbedRescale);
        Assert.Null(ModelConfig.Parse<Dinov3VitConfig>(config.ToJson(), "test").PosEmbedRescale);
        foreach (var moving in (Dinov3VitConfig[])[config with { PosEmbedShift = 0.5 }, config with { PosEmbedJitter = 2 }, config with { PosEmbedRescale = 2 }])
        {
            using var model = new Dinov3VitModel(moving);
            model.Initialize(new Generator(7));
            foreach (var parameter in model.Parameters()) parameter.Value.normal_(0, 0.5, new Generator(8));
            var still = Encode(model, 1);
            Assert.Equal(still, Encode(model, 2));
            model.Train();
            Assert.Equal(Encode(model, 1), Encode(model, 1));
            Assert.NotEqual(Encode(model, 1), Encode(model, 2));
            Assert.NotEqual(still, Encode(model, 1));
        }

        static float[] Encode(Dinov3VitModel model, ulong seed)
        {
            using var generator = new Generator(seed);
            model.Random = generator;
            return model.Encode(Pixels(model)).data<float>().ToArray();
        }
    }

    [Fact]
    public void A_grid_smaller_than_a_window_is_one_window_with_the_biases_of_its_places()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var config = new SwinConfig { ImageSize = 12, PatchSize = 4, EmbedDim = 8, Depths = [2], NumHeads = [2], WindowSize = 3 };
        using var large = new SwinModel(config);
        using var small = new SwinModel(config with { WindowSize = 2 });
        var generator = new Generator(7);
        foreach (var ((key, parameter), (_, same)) in large.NamedParameters().Zip(small.NamedParameters()))
        {
            parameter.Initialize(generator);
            parameter.Value.normal_(0, 0.5, generator);
            // Of the 5x5 relative places the inner 3x3.
            var value = key.EndsWith("bias_table", StringComparison.Ordinal) ? parameter.Value.view(5, 5, 2).narrow(0, 1, 3).narrow(1, 1, 3).reshape(9, 2) : parameter.Value;
            same.Assign(value.clone());
        }
        var pixels = randn([2, 3, 8, 7], generator: generator);                                    // two patches each way, the last one filled up
        Assert.Equal((2, 2), large.Grid(8, 7, 0));
        Assert.True((large.Encode(pixels) - small.Encode(pixels)).abs().max().item<float>() < 1e-5f);
    }

    [Fact]
    public void DINOs_backbone_needs_no_config()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = new DinoVit(new() { ImgSize = [12], PatchSize = 4, EmbedDim = 128, Depth = 2, NumHeads = 2, MlpRatio = 2 });
        model.Initialize(new Generator(7));
        var path = Path.Combine(folder, "dino_deitsmall16_pretrain.safetensors");
        SafeTensors.Save(path, model.NamedParameters().Select(static p => KeyValuePair.Create(p.Key, p.Parameter.Value)));
        using var loaded = Models.Load<DinoVit>(path);
        Assert.Equal(model.Config with { ImgSize = loaded.Config.ImgSize }, loaded.Config);
        Assert.Equal([12], loaded.Config.ImgSize);
        var pixels = randn(2, 3, 12, 12);
        Assert.Equal(model.Encode(pixels).data<float>().ToArray(), loaded.Encode(pixels).data<float>().ToArray());
        using var named = Models.Load(path);
        Assert.IsType<DinoVit>(named);
        SafeTensors.Save(path, model.NamedParameters().Where(static p => p.Key != "patch_embed.proj.weight").Select(static p => KeyValuePair.Create(p.Key, p.Parameter.Value)));
        Assert.Contains("patch_embed.proj.weight", Assert.Throws<PanoptesException>(() => Models.Load(path)).Message);
    }

    [Theory]
    [InlineData("SwinModel", """{"depths":[2,2],"num_heads":[2]}""", "num_heads")]
    [InlineData("SwinModel", """{"depths":[2],"num_heads":[5],"embed_dim":8}""", "5 attention heads")]
    [InlineData("ConvNextModel", """{"num_stages":3}""", "num_stages")]
    [InlineData("FocalNetModel", """{"focal_levels":[2]}""", "focal_levels")]
    [InlineData("FocalNetModel", """{"drop_path_rate":1.5}""", "1.5")]
    [InlineData("ViTModel", """{"pooler_act":"relu"}""", "pooler_act")]
    [InlineData("DINOv3ViTModel", """{"hidden_size":12,"num_attention_heads":2}""", "multiple of 4")]
    [InlineData("DINOv3ViTModel", """{"num_register_tokens":-1}""", "num_register_tokens")]
    public void A_config_that_cannot_be_built_is_refused_by_name(string architecture, string config, string named)
    {
        var entry = Models.All.Single(e => e.Architecture == architecture);
        Assert.Contains(named, Assert.Throws<PanoptesException>(() => entry.Build(new(config, "config.json", static _ => null))).Message);
    }

    static IEnumerable<string> Of<T>() => Models.All.Where(static e => typeof(T).IsAssignableFrom(e.Type)).Select(static e => e.Architecture);

    /// <summary>A tiny model whose weights are large enough for each of them to show.</summary>
    static Module Excited(string architecture)
    {
        using var scope = NewDisposeScope();
        var model = ModelTests.Build(architecture);
        var generator = new Generator(7);
        model.Initialize(generator);
        using var noGrad = no_grad();
        foreach (var parameter in model.Parameters().Where(static p => p.Trainable)) parameter.Value.add_(randn(parameter.Shape, generator: generator), 0.3);
        return model;
    }

    static IImageTower Tower(Module model) => (IImageTower)model;

    static Tensor Pixels(Module model) => randn([2, 3, Tower(model).ImageSize, Tower(model).ImageSize], generator: new Generator(3));
}
