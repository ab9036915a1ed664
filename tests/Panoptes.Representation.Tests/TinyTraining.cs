using Panoptes.Representation.Training;
using Panoptes.Training;

namespace Panoptes.Tests;

/// <summary>What tests that train tiny models have in common.</summary>
static class TinyTraining
{
    public const string Clip = """
        model:
          architecture: CLIP
          config:
            embed_dim: 12
            vision_cfg: {layers: 2, width: 16, head_width: 8, image_size: 32, patch_size: 8}
            text_cfg: {context_length: 40, vocab_size: 614, width: 16, heads: 2, layers: 1}
          tokenizer: {merges: MERGES, count: 100}
        """;

    /// <summary>A part of a recipe with the path of CLIP's merges where it says MERGES.</summary>
    public static string WithMerges(string model) => model.Replace("MERGES", Path.Combine(Parity.Goldens.Repository, "data", "tokenizers", "clip", "merges.txt"), StringComparison.Ordinal);

    public static TrainingResult Train(SceneRecipe recipe, string run, Action<TrainingProgress>? seen = null, CancellationToken cancel = default)
    {
        using var ready = recipe.Start(run);
        return ready.Trainer.Run(seen is null ? null : new Now(seen), cancel);
    }

    /// <summary>Trains at once, and again with a break after three steps, without keeping a tensor.</summary>
    /// <returns>What the second gave, and the folders of both runs.</returns>
    public static (TrainingResult Result, string Unbroken, string Broken) TrainWithBreak(Func<SceneRecipe> recipe, string folder)
    {
        var (unbroken, broken) = (Path.Combine(folder, "unbroken"), Path.Combine(folder, "broken"));
        Train(recipe(), unbroken);
        var before = LiveTensors.Settle();
        using (var cancel = new CancellationTokenSource())
            Assert.Throws<OperationCanceledException>(() => Train(recipe(), broken, p => { if (p.Step == 3) cancel.Cancel(); }, cancel.Token));
        var result = Train(recipe(), broken);
        Assert.Equal(before, Tensor.TotalCount);
        return (result, unbroken, broken);
    }

    /// <summary>Tells at once, on the thread that reports.</summary>
    public sealed class Now(Action<TrainingProgress> seen) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value) => seen(value);
    }
}
