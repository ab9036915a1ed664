using System.Text.Json.Nodes;
using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Core.Tests.Checkpoints;

public sealed class ModelFolderTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    sealed class Block : Module
    {
        public Linear Fc1 { get; } = new(3, 4);

        public LayerNorm Norm { get; } = new(4);
    }

    sealed class Model : Module
    {
        public Model()
        {
            Tokens = new(5, 3);
            Head = new Tied(Tokens.Weight);
        }

        public Embedding Tokens { get; }

        public ModuleList<Block> Blocks { get; } = new(2, static _ => new());

        public Parameter Steps { get; } = new([], Init.Zeros) { Trainable = false };

        public Tied Head { get; }
    }

    sealed class Tied(Parameter weight) : Module
    {
        public Parameter Weight { get; } = weight;
    }

    sealed record Config : ModelConfig
    {
        public int HiddenSize { get; init; } = 3;
    }

    static Model Initialized()
    {
        var model = new Model();
        using var generator = new Generator(1);
        model.Initialize(generator);
        return model;
    }

    [Fact]
    public void A_saved_model_loads_back_to_the_same_numbers_and_its_config_keeps_unknown_fields()
    {
        var config = ModelConfig.Parse<Config>("""{"hidden_size": 3, "torch_dtype": "float32", "model_type": "test", "nested": {"a": [1, "é"]}}""", "config.json");
        using var model = Initialized();
        ModelFolder.Save(folder["m"], model, config, new() { Dtype = ScalarType.BFloat16 });
        using var again = new Model();
        ModelFolder.Load(again, folder["m"]);
        foreach (var ((key, ours), (_, theirs)) in model.NamedParameters().Zip(again.NamedParameters()))
        {
            using var scope = NewDisposeScope();
            Assert.True(ours.Value.to(ScalarType.BFloat16).to(ScalarType.Float32).allclose(theirs.Value, 0, 0), key);
            Assert.Equal(ScalarType.Float32, theirs.Value.dtype);
        }
        var json = JsonNode.Parse(File.ReadAllText(Path.Combine(folder["m"], "config.json")))!;
        Assert.Equal("bfloat16", (string?)json["torch_dtype"]);
        Assert.Equal("é", (string?)json["nested"]!["a"]![1]);
        Assert.Equal(3, ModelFolder.ReadConfig<Config>(folder["m"]).HiddenSize);
        Assert.Equal(["config.json", "model.safetensors"], Directory.GetFiles(folder["m"]).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void One_error_lists_every_missing_unexpected_and_misshapen_key_and_nothing_is_assigned()
    {
        using var scope = NewDisposeScope();
        using var model = Initialized();
        var tensors = model.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter.Value);
        tensors.Remove("blocks.1.norm.bias");
        tensors.Remove("blocks.0.fc1.weight");
        tensors["blocks.0.fc1.bias"] = ones(7);
        tensors["blocks.0.extra"] = ones(1);
        tensors["blocks.0.position_ids"] = ones(1);                                  // ignored everywhere
        SafeTensors.Save(folder["w.safetensors"], tensors);
        using var fresh = new Model();
        var message = Assert.Throws<PanoptesException>(() => ModelFolder.Load(fresh, folder["w.safetensors"])).Message;
        Assert.Contains("w.safetensors does not fit the model (4 ", message, StringComparison.Ordinal);
        Assert.Contains("missing: blocks.1.norm.bias [4]", message, StringComparison.Ordinal);
        Assert.Contains("missing: blocks.0.fc1.weight [4, 3]", message, StringComparison.Ordinal);
        Assert.Contains("wrong shape: blocks.0.fc1.bias is [7], expected [4]", message, StringComparison.Ordinal);
        Assert.Contains("unexpected: blocks.0.extra", message, StringComparison.Ordinal);
        Assert.DoesNotContain("position_ids", message, StringComparison.Ordinal);
        Assert.All(fresh.Parameters(), static p => Assert.False(p.HasValue));
    }

    [Fact]
    public void Loading_stops_before_the_next_weight_when_it_is_told_to()
    {
        using var scope = NewDisposeScope();
        using var model = Initialized();
        ModelFolder.Save(folder["m"], model, new Config());
        using var again = new Model();
        using var stop = new CancellationTokenSource();
        // Keys are looked at first; it is told to stop while they are.
        var options = new LoadOptions { Cancel = stop.Token, Mapping = key => { stop.Cancel(); return key; } };
        Assert.Throws<OperationCanceledException>(() => ModelFolder.Load(again, folder["m"], options));
        Assert.All(again.Parameters(), static p => Assert.False(p.HasValue));
    }

    [Fact]
    public void A_tied_weight_is_found_under_any_of_its_keys_and_written_once()
    {
        using var scope = NewDisposeScope();
        using var model = Initialized();
        ModelFolder.Save(folder["m"], model, new Config());
        using (var saved = Weights.Open(folder["m"]))
        {
            Assert.True(saved.Contains("tokens.weight"));
            Assert.False(saved.Contains("head.weight"));
        }
        var tensors = SafeTensors.Load(Path.Combine(folder["m"], "model.safetensors"));
        tensors["head.weight"] = tensors["tokens.weight"];
        tensors.Remove("tokens.weight");
        using var again = new Model();
        ModelFolder.Load(again, Weights.From(tensors, "memory"));
        Assert.Same(again.Tokens.Weight, again.Head.Weight);
        Assert.Equal(0, (again.Tokens.Weight.Value - model.Tokens.Weight.Value).abs().sum().item<float>());
    }

    [Fact]
    public void Prefix_mapping_and_ignored_keys_pick_a_part_out_of_a_larger_file()
    {
        using var scope = NewDisposeScope();
        using var block = new Block();
        using var generator = new Generator(2);
        block.Initialize(generator);
        var tensors = block.NamedParameters().ToDictionary(static p => "vision." + p.Key.Replace("fc1", "linear"), static p => p.Parameter.Value);
        tensors["text.weight"] = ones(3);
        tensors["vision.pooler"] = ones(3);
        using var again = new Block();
        using var weights = Weights.From(tensors, "memory");
        ModelFolder.Load(again, weights, new() { Prefix = "vision.", Mapping = static k => k.Replace("linear", "fc1"), Ignored = static k => k == "pooler" });
        Assert.All(again.Parameters(), static p => Assert.True(p.HasValue));
        var error = Assert.Throws<PanoptesException>(() => ModelFolder.Load(again, weights, new() { Prefix = "vision.", Mapping = static _ => "fc1.weight" }));
        Assert.Contains("twice", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Large_models_are_saved_in_shards_with_an_index_and_a_smaller_save_removes_them()
    {
        using var model = Initialized();
        ModelFolder.Save(folder["m"], model, new Config(), new() { ShardSize = 64 });
        var index = JsonNode.Parse(File.ReadAllText(Path.Combine(folder["m"], "model.safetensors.index.json")))!;
        Assert.Equal(model.Parameters().Sum(static p => p.ElementCount) * 4, (long)index["metadata"]!["total_size"]!);
        Assert.True(Directory.GetFiles(folder["m"], "model-*-of-*.safetensors").Length > 2);
        using (var again = new Model()) ModelFolder.Load(again, folder["m"]);
        ModelFolder.Save(folder["m"], model, new Config());
        Assert.Equal(["config.json", "model.safetensors"], Directory.GetFiles(folder["m"]).Select(Path.GetFileName).Order());
    }

    [Theory]
    [InlineData("../outside.safetensors")]
    [InlineData("/etc/passwd")]
    [InlineData("sub/shard.safetensors")]
    [InlineData("..\\\\outside.safetensors")]
    [InlineData("..")]
    [InlineData("model.safetensors.index.json")]
    public void A_shard_outside_the_folder_is_refused(string shard)
    {
        folder.Write("outside.safetensors", SafeTensorsTests.File("{}", []));
        var path = folder.Write("m/model.safetensors.index.json", $$$"""{"weight_map": {"x": "{{{shard}}}"}}""");
        var error = Assert.Throws<PanoptesException>(() => Weights.Open(path));
        Assert.Contains("plain name", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_index_that_disagrees_with_its_shards_is_refused()
    {
        using var x = ones(2);
        SafeTensors.Save(folder["m/a.safetensors"], [new("x", x)]);
        SafeTensors.Save(folder["m/b.safetensors"], [new("y", x), new("stray", x)]);
        folder.Write("m/model.safetensors.index.json", """{"weight_map": {"x": "a.safetensors", "z": "a.safetensors"}}""");
        Assert.Contains("z (a.safetensors)", Assert.Throws<PanoptesException>(() => Weights.Open(folder["m"])).Message, StringComparison.Ordinal);
        folder.Write("m/model.safetensors.index.json", """{"weight_map": {"x": "a.safetensors", "y": "c.safetensors"}}""");
        Assert.Contains("c.safetensors, which is not beside it", Assert.Throws<PanoptesException>(() => Weights.Open(folder["m"])).Message, StringComparison.Ordinal);
        folder.Write("m/model.safetensors.index.json", """{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}""");
        using var weights = Weights.Open(folder["m"]);
        Assert.Equal(["stray", "x", "y"], weights.Keys.Order());                      // what a shard has besides is not hidden from strict loading
    }

    [Fact]
    public void What_is_neither_a_folder_nor_a_file_nor_an_id_is_refused_in_one_sentence()
    {
        Assert.Contains("is neither a folder, nor a file, nor a hub id", Assert.Throws<PanoptesException>(() => ModelFolder.Resolve("./no/such/model")).Message, StringComparison.Ordinal);
        Assert.Contains("holds no weights", Assert.Throws<PanoptesException>(() => Weights.Open(folder.Path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Loading_keeps_no_tensor_but_the_parameters()
    {
        using var model = Initialized();
        ModelFolder.Save(folder["m"], model, new Config(), new() { Dtype = ScalarType.BFloat16 });
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        using (var again = new Model())
        {
            ModelFolder.Load(again, folder["m"]);
            Assert.Equal(before + again.Parameters().Count(), DisposeScopeManager.Statistics.ThreadTotalLiveCount);
            ModelFolder.Load(again, folder["m"], new() { Dtype = null });
            Assert.Equal(before + again.Parameters().Count(), DisposeScopeManager.Statistics.ThreadTotalLiveCount);
            ModelFolder.Save(folder["n"], again, new Config());
        }
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }
}
