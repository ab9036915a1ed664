using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Generation.Tests;

/// <summary>The transformers beyond what every model must do: another type, packed weights, hooks, and what they refuse.</summary>
public sealed class TransformerTests
{
    public static TheoryData<string> Architectures => [.. TransformersTiny.Tiny.Keys];

    /// <summary>A tiny model none of whose weights is zero.</summary>
    static Module Model(string architecture)
    {
        var model = GenerationModels.All.Single(e => e.Architecture == architecture).Build(new(TransformersTiny.Tiny[architecture].Config, architecture, static _ => null));
        using var generator = new Generator(11);
        using var noGrad = no_grad();
        model.Initialize(generator);
        foreach (var (key, parameter) in model.NamedParameters())
            if (parameter.Value.std().item<float>() is 0 or float.NaN) parameter.Value.add_(randn(parameter.Shape, generator: generator) * 0.1);
        return model;
    }

    [Theory, MemberData(nameof(Architectures))]
    public void Half_the_bits_and_packed_weights_give_nearly_the_same(string architecture)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Model(architecture);
        var run = TransformersTiny.Tiny[architecture].Run;
        var exact = run(model);
        Assert.True(exact.std().item<float>() > 0.01f);
        model.Pack();
        Assert.True((run(model) - exact).abs().max().item<float>() < 1e-4f);
        model.To(ScalarType.BFloat16);
        model.Pack();
        var half = run(model).to(ScalarType.Float32);
        Assert.True((half - exact).norm().item<float>() < 0.03f * exact.norm().item<float>(), $"off by {((half - exact).norm() / exact.norm()).item<float>()}");
    }

    [Theory]
    [InlineData("DiTTransformer2DModel", "transformer_blocks.0.attn1, transformer_blocks.1.attn1", 8)]
    [InlineData("PixArtTransformer2DModel", "transformer_blocks.0.attn1, transformer_blocks.0.attn2, transformer_blocks.1.attn1, transformer_blocks.1.attn2", 8)]
    [InlineData("SD3Transformer2DModel", "transformer_blocks.0.attn, transformer_blocks.0.attn2, transformer_blocks.1.attn, transformer_blocks.2.attn", 8)]
    [InlineData("FluxTransformer2DModel", "transformer_blocks.0.attn, transformer_blocks.1.attn, single_transformer_blocks.0.attn", 6)]
    public void A_hook_is_called_once_a_layer_and_changes_nothing_unless_it_says_so(string architecture, string layers, int places)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Model(architecture);
        var (seen, blind) = (new Hook(see: true), new Hook(see: false));
        Tensor Run(IAttentionHook? hook) => model switch
        {
            DitTransformer dit => dit.Forward(ones(1, 4, 4, 8), tensor(5f).view(1), zeros(1, dtype: ScalarType.Int64), hook),
            PixArtTransformer pixArt => pixArt.Forward(ones(1, 4, 4, 8), tensor(5f).view(1), new() { Text = ones(1, 3, 10), Resolution = ones(1, 2), AspectRatio = ones(1, 1) }, hook),
            Sd3Transformer sd3 => sd3.Forward(ones(1, 4, 4, 8), tensor(5f).view(1), ones(1, 3, 12), ones(1, 10), hook),
            FluxTransformer flux => flux.Forward(new() { Latents = ones(1, 6, 16), Rows = 2, Timesteps = tensor(0.5f).view(1), Text = ones(1, 3, 12), Pooled = ones(1, 10), Guidance = ones(1) }, hook),
            _ => throw new InvalidOperationException(architecture),
        };
        var plain = Run(null);
        Assert.True((Run(seen) - plain).abs().max().item<float>() < 1e-5f);
        Assert.True((Run(blind) - plain).abs().max().item<float>() > 1e-5f);
        Assert.Equal(layers, string.Join(", ", seen.Layers));
        Assert.All(seen.Maps, m => Assert.Equal(places, m.Rows * m.Columns));
    }

    [Fact]
    public void An_older_file_that_calls_DiT_a_Transformer2DModel_is_a_DiT()
    {
        using var model = GenerationModels.All.Single(static e => e.Architecture == "Transformer2DModel").Build(new(
            TransformersTiny.Tiny["DiTTransformer2DModel"].Config.Replace("\"DiTTransformer2DModel\"", "\"Transformer2DModel\",\"norm_type\":\"ada_norm_zero\"", StringComparison.Ordinal), "config.json", static _ => null));
        Assert.IsType<DitTransformer>(model);
    }

    [Fact]
    public void What_a_model_does_not_take_is_refused_with_one_sentence()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var dit = (DitTransformer)Model("DiTTransformer2DModel");
        using var sd3 = (Sd3Transformer)Model("SD3Transformer2DModel");
        using var flux = (FluxTransformer)Model("FluxTransformer2DModel");
        using var pixArt = (PixArtTransformer)Model("PixArtTransformer2DModel");
        var (time, label) = (tensor(5f).view(1), zeros(1, dtype: ScalarType.Int64));
        Refused("5x4", () => dit.Forward(ones(1, 4, 4, 5), time, label));
        Refused("[1, 3, 4, 4]", () => dit.Forward(ones(1, 3, 4, 4), time, label));
        Refused("14x4", () => sd3.Forward(ones(1, 4, 4, 14), time, ones(1, 3, 12), ones(1, 10)));
        Refused("5 image tokens", () => flux.Forward(new() { Latents = ones(1, 5, 16), Timesteps = time, Text = ones(1, 3, 12), Pooled = ones(1, 10), Guidance = ones(1) }));
        Refused("expected its scale", () => flux.Forward(new() { Latents = ones(1, 4, 16), Timesteps = time, Text = ones(1, 3, 12), Pooled = ones(1, 10) }));
        Refused("aspect ratio", () => pixArt.Forward(ones(1, 4, 4, 8), time, new() { Text = ones(1, 3, 10) }));
    }

    [Theory]
    [InlineData("DiTTransformer2DModel", "\"num_layers\":2", "\"num_layers\":2,\"norm_type\":\"layer_norm\"", "norm_type")]
    [InlineData("DiTTransformer2DModel", "\"num_layers\":2", "\"num_layers\":2,\"activation_fn\":\"gelu_10\"", "activation_fn")]
    [InlineData("DiTTransformer2DModel", "\"attention_head_dim\":8", "\"attention_head_dim\":1000000", "attention_head_dim")]
    [InlineData("SD3Transformer2DModel", "\"rms_norm\"", "\"layer_norm\"", "qk_norm")]
    [InlineData("SD3Transformer2DModel", "\"caption_projection_dim\":16", "\"caption_projection_dim\":24", "caption_projection_dim")]
    [InlineData("FluxTransformer2DModel", "[4,6,6]", "[4,6,8]", "axes_dims_rope")]
    [InlineData("PixArtTransformer2DModel", "\"attention_head_dim\":12", "\"attention_head_dim\":10", "multiple of 3")]
    [InlineData("Transformer2DModel", "\"num_vector_embeds\":17,", "", "num_vector_embeds")]
    [InlineData("UVit2DModel", "\"hidden_size\":16", "\"hidden_size\":17", "17")]
    public void A_config_that_is_not_supported_is_refused_by_name(string architecture, string what, string instead, string named)
    {
        var config = TransformersTiny.Tiny[architecture].Config;
        Assert.Contains(what, config, StringComparison.Ordinal);
        var entry = GenerationModels.All.Single(e => e.Architecture == architecture);
        Assert.Contains(named, Assert.Throws<PanoptesException>(() => entry.Build(new(config.Replace(what, instead, StringComparison.Ordinal), architecture, static _ => null))).Message, StringComparison.Ordinal);
    }

    static void Refused(string named, Func<Tensor> call) => Assert.Contains(named, Assert.Throws<PanoptesException>(call).Message, StringComparison.Ordinal);

    sealed class Hook(bool see) : IAttentionHook
    {
        public List<string> Layers { get; } = [];

        public List<(long Rows, long Columns)> Maps { get; } = [];

        public Tensor? Attend(AttentionCall call)
        {
            Layers.Add(call.Layer);
            Maps.Add(call.Map);
            Assert.Equal(call.Query.shape[2], call.Tokens.shape[1]);
            Assert.Equal(call.Key.shape[2], call.Context.shape[1]);
            return see ? call.See(call.Probabilities()) : zeros_like(call.Query);
        }
    }
}
