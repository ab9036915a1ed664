using Panoptes.Parity;
using Panoptes.Representation;
using Panoptes.Representation.Training;

namespace Panoptes.Generation.Tests;

/// <summary>The bundled generator; its card has the numbers of more images.</summary>
public sealed class ZooTests
{
    static string Zoo(string name) => Path.Combine(Goldens.Repository, "zoo", name);

    [Fact]
    public void What_the_bundled_generator_makes_of_a_name_is_what_the_bundled_CLIP_calls_so()
    {
        var names = SceneRecipe.Load(Path.Combine(Goldens.Repository, "recipes", "sd-emoji.yaml"), Panoptes.Generation.Training.GenerationTasks.All).Tests(4).Names;
        using var diffusion = Diffusion.Load(Zoo("sd-emoji"));
        Assert.Equal((3, 25, 64), (diffusion.Model.UsualGuidance, diffusion.Model.UsualSteps, diffusion.Model.Side));
        var made = diffusion.Generate([.. names.Select(static n => new ImageRequest($"a large {n}") { Seed = 1, Steps = 12 })]);
        using var clip = Clip.Load(Zoo("clip-emoji"));
        var right = names.Zip(made).Count(m => clip.Classify(m.Second.Image, names)[0].Label == m.First);
        // By chance one of them.
        Assert.True(right > names.Count / 2, $"{right} of {names.Count}");
    }
}
