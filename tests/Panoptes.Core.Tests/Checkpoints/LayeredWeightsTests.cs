using Panoptes.Checkpoints;

namespace Panoptes.Core.Tests.Checkpoints;

/// <summary>Files that hold only what another checkpoint has not.</summary>
public sealed class LayeredWeightsTests : IDisposable
{
    readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    string Save(string name, string? below, params (string Key, float Value)[] tensors) => SaveWithout("", name, below, tensors);

    string SaveWithout(string without, string name, string? below, params (string Key, float Value)[] tensors)
    {
        using var scope = NewDisposeScope();
        var path = Path.Combine(folder.Path, name);
        var metadata = new Dictionary<string, string> { ["format"] = "pt" };
        if (below is not null) metadata[Weights.BaseKey] = below;
        if (without.Length > 0) metadata[Weights.WithoutKey] = without;
        SafeTensors.Save(path, [.. tensors.Select(static t => KeyValuePair.Create(t.Key, full([2], t.Value)))], metadata);
        return path;
    }

    [Fact]
    public void What_a_file_has_not_is_read_from_the_one_that_it_names_and_what_it_has_comes_first()
    {
        Save("base/model.safetensors", null, ("a", 1), ("b", 2));
        var middle = Save("middle/model.safetensors", "../base", ("b", 3), ("c", 4));
        using var scope = NewDisposeScope();
        using var weights = Weights.Open(Save("top/model.safetensors", "../middle/model.safetensors"));
        Assert.Equal(["a", "b", "c"], weights.Keys.Order(StringComparer.Ordinal));
        Assert.Equal([1f, 3f, 4f], ((string[])["a", "b", "c"]).Select(k => weights.Read(k)[0].item<float>()));
        Assert.Equal([2L], weights.Info("a").Shape);
        Assert.Equal(middle, weights.FileOf("c"));
        Assert.Contains("no tensor d", Assert.Throws<PanoptesException>(() => weights.Read("d")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_a_file_says_that_it_has_not_is_not_read_from_below_but_what_it_has_itself_is()
    {
        Save("base/model.safetensors", null, ("a", 1), ("b", 2), ("c", 3));
        using var scope = NewDisposeScope();
        using var weights = Weights.Open(SaveWithout("b c unknown", "top/model.safetensors", "../base", ("c", 4)));
        Assert.Equal(["a", "c"], weights.Keys.Order(StringComparer.Ordinal));
        Assert.Equal(4, weights.Read("c")[0].item<float>());
        Assert.False(weights.Contains("b"));
        Assert.Contains("no tensor b", Assert.Throws<PanoptesException>(() => weights.Read("b")).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("../nowhere", "is not there")]
    [InlineData("/etc", "is not there")]
    [InlineData("model.safetensors", "or on itself")]
    public void A_file_over_nothing_or_over_itself_is_refused_with_one_sentence(string below, string named) =>
        Assert.Contains(named, Assert.Throws<PanoptesException>(() => Weights.Open(Save("model.safetensors", below, ("a", 1)))).Message, StringComparison.Ordinal);

    [Fact]
    public void Layers_may_lie_on_each_other_again_after_a_refusal()
    {
        for (var i = 0; i < 20; i++) Assert.Throws<PanoptesException>(() => Weights.Open(Save("model.safetensors", "model.safetensors", ("a", 1))));
        Save("base/model.safetensors", null, ("a", 1));
        using var weights = Weights.Open(Save("model.safetensors", "base", ("b", 1)));
        Assert.Equal(2, weights.Keys.Count);
    }
}
