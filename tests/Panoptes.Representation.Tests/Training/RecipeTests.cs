using CsCheck;
using Panoptes.Representation.Objectives;
using Panoptes.Representation.Training;

namespace Panoptes.Representation.Tests.Training;

public sealed class RecipeTests
{
    const string Minimal = """
        name: small
        model: {from: some/model}
        data: {set: emoji, batch_size: 8, augmentation: {crop_scale: [0.5, 1], random_convolution_kernels: [1, 7], background: {white: 1, plain: 0.5}}}
        objectives: [{name: sigmoid, weight: 0.5}]
        schedule: {learning_rate: 1e-3, steps: 20}
        """;

    [Fact]
    public void A_recipe_says_what_is_given_and_has_defaults_for_the_rest()
    {
        var recipe = Recipe.Parse(Minimal, "small.yaml");
        Assert.Equal(("small", "some/model", 8), (recipe.Name, recipe.Model.From, recipe.Data.BatchSize));
        Assert.Equal((0.5f, 1f), (recipe.Data.Augmentation.CropScale.Min, recipe.Data.Augmentation.CropScale.Max));
        Assert.Equal((1f, 0.5f), (recipe.Data.Augmentation.Background.White, recipe.Data.Augmentation.Background.Plain));
        Assert.Equal([1, 7], recipe.Data.Augmentation.RandomConvolutionKernels);
        Assert.Equal(12, recipe.Data.Augmentation.Rotation);                           // as for drawings
        Assert.Equal(("sigmoid", 0.5), (recipe.Objectives.Single().Name, recipe.Objectives.Single().Weight));
        Assert.Equal((0.001, 20, "cosine"), (recipe.Schedule.LearningRate, recipe.Schedule.Steps, recipe.Schedule.Name));
        Assert.Equal("adamw", recipe.Optimizer.Name);
    }

    [Fact]
    public void The_recipes_of_the_repository_can_be_read()
    {
        var folder = Path.Combine(Parity.Goldens.Repository, "recipes");
        // Those with a task train models of another library.
        string[] files = [.. Directory.GetFiles(folder, "*.yaml").Where(static f => !HasTask(f))];
        Assert.NotEmpty(files);
        foreach (var file in files) Assert.Equal(Path.GetFileNameWithoutExtension(file), Recipe.Load(file).Name);

        // In the file itself, or in what it extends.
        static bool HasTask(string file) => File.ReadLines(file).Any(l => l.StartsWith("task:", StringComparison.Ordinal) || (l.StartsWith("extends:", StringComparison.Ordinal) && HasTask(Path.Combine(Path.GetDirectoryName(file)!, l["extends:".Length..].Trim()))));
    }

    [Theory]
    [InlineData("name: small", "nom: small", "line 1")]
    [InlineData("batch_size: 8", "batch_size: eight", "line 3")]
    [InlineData("batch_size: 8", "batch_size: 8, batch_size: 9", "line 3")]
    [InlineData("crop_scale: [0.5, 1]", "crop_scale: [0.5]", "[min, max]")]
    [InlineData("learning_rate: 1e-3, ", "", "learning_rate")]
    [InlineData("name: small", "name: ../small", "../small")]
    [InlineData("[{name: sigmoid", "[{name: &a [*a]", "line 4")]
    public void What_is_wrong_is_told_with_the_file(string part, string instead, string expected)
    {
        var e = Assert.Throws<PanoptesException>(() => Recipe.Parse(Minimal.Replace(part, instead, StringComparison.Ordinal), "small.yaml"));
        Assert.StartsWith("small.yaml", e.Message, StringComparison.Ordinal);
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', e.Message);
    }

    [Fact]
    public void A_recipe_extends_another_one_of_its_folder()
    {
        var folder = Directory.CreateTempSubdirectory("panoptes-recipes-").FullName;
        try
        {
            File.WriteAllText(Path.Combine(folder, "small.yaml"), Minimal);
            File.WriteAllText(Path.Combine(folder, "middle.yaml"), "extends: small.yaml\nname: middle\ndata: {batch_size: 16, augmentation: {rotation: 3}}\n");
            var recipe = Parse("extends: middle.yaml\nname: last\nobjectives: [{name: simclr, temperature: 0.2}]\ndata: {augmentation: {background: }}\n");
            Assert.Equal(("last", "some/model", 16, 20), (recipe.Name, recipe.Model.From, recipe.Data.BatchSize, recipe.Schedule.Steps));
            Assert.Equal((3f, 0.5f), (recipe.Data.Augmentation.Rotation, recipe.Data.Augmentation.CropScale.Min));
            Assert.Equal(new BackgroundMixOf(recipe), new BackgroundMixOf(Parse("name: x\nmodel: {from: m}\ndata: {set: emoji}\nschedule: {learning_rate: 1, steps: 1}")));
            Assert.Equal(0.2, Assert.IsType<SimClrOptions>(recipe.Objectives.Single()).Temperature);
            Assert.DoesNotContain("extends", recipe.Text, StringComparison.Ordinal);
            Assert.Equal(recipe.Text, Recipe.Parse(recipe.Text, "elsewhere.yaml").Text);                     // what a run keeps is whole

            Refused("extends: none.yaml\nname: a", "none.yaml");
            Refused("extends: ../small.yaml\nname: a", "same folder");
            Refused("extends: [a]\nname: a", "same folder");
            Refused("extends: small.yaml\nname: &a a\nb: *a", "anchors");
            Refused("extends: small.yaml\nnom: a", "nom");
            File.WriteAllText(Path.Combine(folder, "loop.yaml"), "extends: loop.yaml\nname: loop");
            Refused("extends: loop.yaml\nname: a", "and so on");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }

        Recipe Parse(string text) => Recipe.Parse(text, Path.Combine(folder, "own.yaml"));

        void Refused(string text, string expected)
        {
            var e = Assert.Throws<PanoptesException>(() => Parse(text));
            Assert.Contains(expected, e.Message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', e.Message);
        }
    }

    sealed record BackgroundMixOf(float White, float Plain)
    {
        public BackgroundMixOf(Recipe recipe) : this(recipe.Data.Augmentation.Background.White, recipe.Data.Augmentation.Background.Plain) { }
    }

    [Fact]
    public void A_seed_given_from_outside_is_in_the_text_that_a_run_keeps()
    {
        var recipe = Recipe.Parse(Minimal, "small.yaml").WithSeed(7);
        Assert.Equal((7UL, 7UL), (recipe.Seed, Recipe.Parse(recipe.Text, "small.yaml").Seed));
        Assert.Equal((9UL, 9UL), (recipe.WithSeed(9).Seed, Recipe.Parse(recipe.WithSeed(9).Text, "small.yaml").Seed));
    }

    [Fact]
    public void Fields_changed_from_outside_are_in_the_text_that_a_run_keeps()
    {
        var recipe = Recipe.Parse(Minimal, "small.yaml", "data.batch_size=48", "objectives=[{name: contrastive}, {name: unicl}]", "objectives.1.weight=0.5", "training.ema_decay=0.75", "data.augmentation.crop_scale=[0.5, 1]");
        Assert.Equal((48, 0.5, 0.75, 0.5f), (recipe.Data.BatchSize, recipe.Objectives[1].Weight, recipe.Training.EmaDecay, recipe.Data.Augmentation.CropScale.Min));
        var again = Recipe.Parse(recipe.Text, "small.yaml", "training.ema_decay=", "objectives.0=");
        Assert.Equal((48, "unicl", null), (again.Data.BatchSize, again.Objectives.Single().Name, again.Training.EmaDecay));
        Assert.Equal(48, Recipe.Parse(recipe.WithSeed(3).Text, "small.yaml").Data.BatchSize);
    }

    [Theory]
    [InlineData("data.batch_size", "expected FIELD=VALUE")]
    [InlineData("=3", "expected FIELD=VALUE")]
    [InlineData("data.batch_size=[3", "its value is no YAML")]
    [InlineData("data.batch_size=... 3", "its value is no YAML")]
    [InlineData("data..batch_size=3", "there is no \"\"")]
    [InlineData("objectives.2.weight=3", "there is no \"objectives\"", "objectives.2")]
    [InlineData("data.batch_size=many", "batch_size", "many")]
    [InlineData("data.batch=3", "batch")]
    public void A_change_that_does_not_fit_is_refused(string change, params string[] expected)
    {
        var e = Assert.Throws<PanoptesException>(() => Recipe.Parse(Minimal, "small.yaml", change));
        Assert.True(expected.Any(part => e.Message.Contains(part, StringComparison.Ordinal)), e.Message);
        Assert.DoesNotContain('\n', e.Message);
    }

    [Theory]
    [InlineData("...\n")]
    [InlineData("... ")]
    public void A_recipe_that_begins_with_the_end_of_a_document_is_refused(string start)
    {
        foreach (var changes in new string[][] { [], ["data.batch_size=3"] })
        {
            var e = Assert.Throws<PanoptesException>(() => Recipe.Parse(start + Minimal, "small.yaml", changes));
            Assert.StartsWith("small.yaml is no YAML: ", e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Mutated_recipes_are_read_or_refused_with_one_sentence() =>
        Gen.Select(Gen.Int[0, Minimal.Length - 1], Gen.Int[0, 12], Gen.OneOf(Gen.String, Gen.Int[0, 9].Select(static i => new[] { "[", "{", "&a", "*a", "!!int ", "\t", "- ", ": ", "\0", "..." }[i]))).Sample((at, length, noise) =>
        {
            var text = Minimal[..at] + noise + Minimal[Math.Min(Minimal.Length, at + length)..];
            try
            {
                Assert.NotNull(Recipe.Parse(text, "small.yaml"));
            }
            catch (PanoptesException e)
            {
                Assert.DoesNotContain('\n', e.Message);
            }
        }, iter: 500, threads: 1);
}
