using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Tests;

namespace Panoptes.Generation.Tests;

public sealed class UNetTests
{
    const string Config = """{"block_out_channels":[8,12],"layers_per_block":1,"down_block_types":["CrossAttnDownBlock2D","DownBlock2D"],"up_block_types":["UpBlock2D","CrossAttnUpBlock2D"],"cross_attention_dim":16,"attention_head_dim":2,"norm_num_groups":4}""";

    [Fact]
    public void A_hook_that_computes_what_is_seen_step_by_step_changes_nothing_and_sees_every_layer_with_its_key()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Unet();
        var hook = new Recorder(static call => call.See(call.Probabilities()));
        var plain = model.Forward(Inputs());
        var hooked = model.Forward(Inputs() with { Hook = hook });
        Assert.True((plain - hooked).abs().max().item<float>() < 1e-5);
        Assert.Equal(
            model.NamedModules().Where(static m => m.Module is CrossAttention).Select(static m => m.Key).Order(),
            hook.Calls.Select(static c => c.Layer).Order());
        Assert.All(hook.Calls, static c => Assert.Equal(c.Layer.EndsWith("attn2", StringComparison.Ordinal), c.Cross));
        Assert.Equal([(64L, 5L), (16L, 5L), (64L, 5L), (64L, 5L)], hook.Calls.Where(static c => c.Cross).Select(static c => (c.Map.Rows * c.Map.Columns, c.Keys)));
    }

    [Fact]
    public void Maps_of_what_attends_to_what_have_gradients_to_the_latents()
    {
        using var scope = NewDisposeScope();
        using var model = Unet();
        model.RequiresGrad(false);
        var maps = new List<Tensor>();
        var inputs = Inputs();
        inputs = inputs with
        {
            Sample = inputs.Sample.requires_grad_(),
            Hook = new Recorder(call =>
            {
                if (!call.IsCross) return null;
                var probabilities = call.Probabilities();
                maps.Add(probabilities.alias().DetachFromDisposeScope());
                return call.See(probabilities);
            }),
        };
        model.Forward(inputs);
        var loss = maps[^1].select(3, 2).square().sum();
        var gradient = autograd.grad([loss], [inputs.Sample])[0];
        Assert.True(gradient.abs().max().item<float>() > 0);
        foreach (var map in maps) map.Dispose();
    }

    /// <summary>Without gradients, many tokens go through in parts.</summary>
    [Theory]
    [InlineData("geglu", 3000)]
    [InlineData("swiglu", 2999)]
    [InlineData("gelu", 6001)]
    [InlineData("geglu", 0)]
    public void Between_the_layers_of_a_feed_forward_many_tokens_are_what_each_of_them_is(string activation, int tokens)
    {
        using var layers = new FeedForward(96, activation, 1000);
        using var generator = new Generator(2);
        layers.Initialize(generator);
        using var scope = NewDisposeScope();
        var x = randn([2, tokens, 96], generator: generator);
        var whole = layers.Forward(x);
        using var noGrad = no_grad();
        var inParts = layers.Forward(x);
        Assert.Equal(x.shape, inParts.shape);
        Assert.True(whole.requires_grad);
        Assert.True(inParts.allclose(whole, 1e-5, 1e-5));
    }

    [Fact]
    public void A_hook_may_see_keys_and_values_of_its_own()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Unet();
        var plain = model.Forward(Inputs());
        var added = model.Forward(Inputs() with { Hook = new Recorder(static call => call.IsCross ? call.See(call.Key, call.Value) + call.See(call.Key, call.Value) * 0.5 : null) });
        Assert.True((plain - added).abs().max().item<float>() > 1e-4);
    }

    [Fact]
    public void A_low_rank_change_of_attention_starts_from_the_model_as_it_was()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Unet();
        var plain = model.Forward(Inputs());
        using var changes = LowRank.Of(model, static key => key.Contains(".attn", StringComparison.Ordinal), 2, 2);
        changes.Initialize(new Generator(3));
        Assert.Equal(4 * 8, changes.Count);
        Assert.True((plain - model.Forward(Inputs())).abs().max().item<float>() < 1e-5);
    }

    [Fact]
    public void Grounding_whose_gates_are_closed_changes_nothing_at_all()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Unet(""","attention_type":"gated"}""");
        var grounding = new Grounding { Boxes = rand(2, 3, 4), Masks = ones(2, 3), Embeddings = randn(2, 3, 16) };
        Assert.Equal(model.Forward(Inputs()).data<float>().ToArray(), model.Forward(Inputs() with { Grounding = grounding }).data<float>().ToArray());
    }

    [Theory]
    [InlineData("A sample of [2, 3, 8, 8] was given; expected [batch, 4, rows, columns].")]
    [InlineData("This UNet2DConditionModel is conditioned on its text; none was given.")]
    [InlineData("A text of [2, 5, 12] was given; expected [2, tokens, 16].")]
    [InlineData("Grounding was given to a UNet that has no position net (attention_type is default).")]
    [InlineData("Residuals of a ControlNet were given for only one of the downward path and the middle; expected both or none.")]
    public void What_does_not_fit_is_refused_with_one_sentence(string message)
    {
        using var scope = NewDisposeScope();
        using var model = Unet();
        var inputs = message switch
        {
            _ when message.StartsWith("A sample", StringComparison.Ordinal) => Inputs() with { Sample = randn(2, 3, 8, 8) },
            _ when message.StartsWith("This", StringComparison.Ordinal) => Inputs() with { Text = null },
            _ when message.StartsWith("A text", StringComparison.Ordinal) => Inputs() with { Text = randn(2, 5, 12) },
            _ when message.StartsWith("Grounding", StringComparison.Ordinal) => Inputs() with { Grounding = new() { Boxes = rand(2, 3, 4), Masks = ones(2, 3), Embeddings = randn(2, 3, 16) } },
            _ => Inputs() with { MidResidual = randn(2, 12, 4, 4) },
        };
        Assert.Equal(message, Assert.Throws<PanoptesException>(() => model.Forward(inputs)).Message);
    }

    [Theory]
    [InlineData("""{"num_attention_heads":8}""", "num_attention_heads is set; expected null: the number of heads is called attention_head_dim in these models.")]
    [InlineData("""{"down_block_types":["KDownBlock2D"]}""", "block_out_channels has 4 levels, down_block_types 1; expected as many of each, from 1 to 16.")]
    [InlineData("""{"mid_block_type":"MidBlock"}""", "mid_block_type is MidBlock; expected UNetMidBlock2DCrossAttn, UNetMidBlock2DSimpleCrossAttn, UNetMidBlock2D or null.")]
    [InlineData("""{"attention_head_dim":[5,10]}""", "attention_head_dim is a list of 2; expected one value, or 4 of them.")]
    [InlineData("""{"class_embed_type":"projection"}""", "class_embed_type projection needs projection_class_embeddings_input_dim; found null.")]
    public void A_config_that_no_model_has_is_refused_with_one_sentence(string config, string message) =>
        Assert.Equal(message, Assert.Throws<PanoptesException>(() => new UNet2DConditionModel(ModelConfig.Parse<UNet2DConditionConfig>(config, "config.json"))).Message);

    [Fact]
    public void Fields_of_one_value_or_a_list_are_written_as_they_were_read()
    {
        const string json = """{"attention_head_dim":[5,10],"transformer_layers_per_block":[1,[2,3]],"cross_attention_dim":16,"mid_block_type":null,"only_cross_attention":true}""";
        var written = ModelConfig.Parse<UNet2DConditionConfig>(ModelConfig.Parse<UNet2DConditionConfig>(json, "a").ToJson(), "b");
        Assert.Equal([5, 10], written.AttentionHeadDim.Many!);
        Assert.Equal([2, 3], written.TransformerLayersPerBlock[1].Many!);
        Assert.Equal((16, true, null), (written.CrossAttentionDim.One, written.OnlyCrossAttention.One, written.MidBlockType));
    }

    [Fact]
    public void Old_names_of_the_autoencoders_attention_go_there_and_back()
    {
        using var model = new AutoencoderKl(new() { BlockOutChannels = [8], NormNumGroups = 4 });
        string[] keys = [.. model.NamedParameters().Select(static p => p.Key)];
        Assert.Contains("encoder.mid_block.attentions.0.proj_attn.bias", keys.Select(OldAttentionKeys.ToOld));
        Assert.Equal(keys, keys.Select(OldAttentionKeys.ToOld).Select(OldAttentionKeys.ToNew));
    }

    [Fact]
    public void Latents_are_unscaled_to_what_they_were()
    {
        using var scope = NewDisposeScope();
        var latents = randn(1, 4, 2, 2);
        foreach (var config in (AutoencoderKlConfig[])[new(), new() { ShiftFactor = 0.1, ScalingFactor = 0.3 }, new() { LatentsMean = [1, 2, 3, 4], LatentsStd = [1, 2, 1, 2] }])
        {
            using var model = new AutoencoderKl(config with { BlockOutChannels = [8], NormNumGroups = 4 });
            Assert.True((model.Unscale(model.Scale(latents)) - latents).abs().max().item<float>() < 1e-5);
        }
    }

    [Theory]
    [InlineData(null)]
    [InlineData(""","resnet_time_scale_shift":"scale_shift","transformer_layers_per_block":2}""")]
    [InlineData(""","down_block_types":["SimpleCrossAttnDownBlock2D","ResnetDownsampleBlock2D"],"mid_block_type":"UNetMidBlock2DSimpleCrossAttn","up_block_types":["ResnetUpsampleBlock2D","SimpleCrossAttnUpBlock2D"]}""")]
    [InlineData(""","attention_type":"gated"}""")]
    public void Checkpointed_activations_have_the_same_gradients(string? ending)
    {
        using var scope = NewDisposeScope();
        using var model = Unet(ending);
        model.Train();
        foreach (var (key, parameter) in model.NamedParameters())
            if (key.Contains("alpha_", StringComparison.Ordinal)) parameter.Assign(ones_like(parameter.Value) * 0.7);
        var (plain, checkpointed) = (Gradients(false), Gradients(true));
        Assert.Equal(plain.Keys, checkpointed.Keys);
        Assert.Contains("text", plain.Keys);
        var largest = plain.Values.Max(static g => g.abs().max().item<float>());
        foreach (var (key, gradient) in plain)
        {
            Assert.True((gradient - checkpointed[key]).abs().max().item<float>() <= 2e-6 * largest, key);
            Assert.True(gradient.abs().max().item<float>() > 0 || key.Contains("to_k.bias", StringComparison.Ordinal), key);
        }

        Dictionary<string, Tensor> Gradients(bool on)
        {
            model.CheckpointActivations(on);
            var (given, random) = (Inputs(), new Generator(5));
            given = given with { Sample = given.Sample.requires_grad_(), Text = given.Text!.requires_grad_() };
            if (model.PositionNet is not null) given = given with { Grounding = new Grounding { Boxes = rand([2, 3, 4], generator: random), Masks = tensor(new float[,] { { 1, 1, 0 }, { 1, 0, 0 } }), Embeddings = randn([2, 3, 16], generator: random) } };
            foreach (var parameter in model.Parameters()) parameter.Value.grad = null;
            model.Forward(given).square().sum().backward();
            var gradients = model.NamedParameters().Where(static p => p.Parameter.Grad is not null).ToDictionary(static p => p.Key, static p => p.Parameter.Grad!.clone());
            (gradients["sample"], gradients["text"]) = (given.Sample.grad!.clone(), given.Text!.grad!.clone());
            return gradients;
        }
    }

    [Fact]
    public void Checkpointed_activations_take_less_memory_between_forward_and_backward()
    {
        if (!OperatingSystem.IsLinux()) return;
        using var scope = NewDisposeScope();
        using var model = new UNet2DConditionModel(ModelConfig.Parse<UNet2DConditionConfig>(Config.Replace("[8,12]", "[32,64]", StringComparison.Ordinal).Replace("\"layers_per_block\":1", "\"layers_per_block\":3", StringComparison.Ordinal), "config.json"));
        model.Initialize(new Generator(1));
        var inputs = Inputs() with { Sample = randn(2, 4, 32, 32) };
        var (plain, checkpointed) = MemoryInUse.Kept(model, () => model.Forward(inputs));
        Assert.True(checkpointed < 0.6 * plain, $"{checkpointed} bytes are kept, {plain} without checkpoints");
    }

    static UNet2DConditionModel Unet(string? ending = null)
    {
        var model = new UNet2DConditionModel(ModelConfig.Parse<UNet2DConditionConfig>(ending is null ? Config : Config[..^1] + ending, "config.json"));
        model.Initialize(new Generator(1));
        return model;
    }

    static UNetInputs Inputs()
    {
        var random = new Generator(2);
        return new() { Sample = randn([2, 4, 8, 8], generator: random), Timestep = tensor(500L), Text = randn([2, 5, 16], generator: random) };
    }

    sealed class Recorder(Func<AttentionCall, Tensor?> attend) : IAttentionHook
    {
        public List<(string Layer, bool Cross, (long Rows, long Columns) Map, long Keys)> Calls { get; } = [];

        public Tensor? Attend(AttentionCall call)
        {
            Calls.Add((call.Layer, call.IsCross, call.Map, call.Key.shape[2]));
            return attend(call);
        }
    }
}
