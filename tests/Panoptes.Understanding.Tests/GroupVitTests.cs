using Panoptes.Data;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Training;

namespace Panoptes.Understanding.Tests;

public sealed class GroupVitTests
{
    static GroupVitModel Model(string config = GroupVitTiny.Config)
    {
        var model = new GroupVitModel(ModelConfig.Parse<GroupVitConfig>(config, "config.json"));
        model.Initialize(new Generator(7));
        return model;
    }

    [Fact]
    public void Gumbel_noise_comes_from_the_given_generator_in_training_and_from_nowhere_otherwise()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Model();
        var pixels = GroupVitTiny.Pixels(16);
        var still = Groups(null);
        Assert.Equal(still, Groups(null));
        model.Train();
        using var first = new Generator(1);
        using var again = new Generator(1);
        using var other = new Generator(2);
        var drawn = Groups(first);
        Assert.Equal(drawn, Groups(again));
        Assert.NotEqual(drawn, Groups(other));
        Assert.NotEqual(drawn, still);

        float[] Groups(Generator? generator)
        {
            model.Vision.Random = generator;
            return model.Vision.Groups(pixels).Groups.data<float>().ToArray();
        }
    }

    [Fact]
    public void A_hard_assignment_passes_the_gradient_of_the_soft_one()
    {
        using var scope = NewDisposeScope();
        using var model = Model();
        var assign = model.Vision.VisionModel.Encoder.Stages[0].Downsample!.Assign;
        var (groups, tokens) = (randn([1, 3, 16], generator: new Generator(1)), randn([1, 6, 16], generator: new Generator(2)));
        var (values, soft) = assign.Forward(groups, tokens, null);
        Assert.Equal([1, 3, 6], soft.shape);
        Assert.True((soft.sum(1) - 1).abs().max().item<float>() < 1e-5);
        // By hand: each token goes to its largest group, whose value is the sum over (count + 1).
        var hard = nn.functional.one_hot(soft.argmax(1), 3).transpose(1, 2).to(ScalarType.Float32);
        var expected = assign.Proj.Forward((hard / (hard.sum(-1, keepdim: true) + 1)).matmul(assign.VProj.Forward(tokens)));
        Assert.True((values - expected).abs().max().item<float>() < 1e-5);
        (values * randn(values.shape, generator: new Generator(3))).sum().backward();
        Assert.True(assign.QProj.Weight.Grad!.abs().max().item<float>() > 0);
    }

    [Fact]
    public void The_multi_label_loss_is_the_papers_sum_over_an_images_own_prompts()
    {
        using var scope = NewDisposeScope();
        var (images, prompts) = (DualEncoder.Normalize(randn([3, 4], generator: new Generator(1))), DualEncoder.Normalize(randn([3, 2, 4], generator: new Generator(2))));
        var scale = tensor(5f);
        var (z, t) = (images.data<float>().ToArray(), prompts.data<float>().ToArray());
        double fromImages = 0, fromPrompts = 0;
        for (var i = 0; i < 3; i++)
        {
            double all = 0, own = 0;
            for (var j = 0; j < 3; j++)
                for (var k = 0; k < 2; k++)
                {
                    all += Likeness(i, j, k);
                    if (j == i) own += Likeness(i, j, k);
                }
            fromImages -= Math.Log(own / all) / 3;
            for (var k = 0; k < 2; k++) fromPrompts -= Math.Log(Likeness(i, i, k) / Enumerable.Range(0, 3).Sum(j => Likeness(j, i, k))) / 6;
        }
        Assert.Equal((fromImages + fromPrompts) / 2, MultiLabelLoss.Of(images, prompts, scale).item<float>(), 1e-4);

        double Likeness(int image, int sample, int noun) => Math.Exp(5 * Enumerable.Range(0, 4).Sum(d => z[4 * image + d] * t[8 * sample + 4 * noun + d]));
    }

    [Fact]
    public void It_learns_from_pairs_of_images_and_texts_alone()
    {
        using var scope = NewDisposeScope();
        using var model = Model();
        model.Train();
        var gradients = new PairGradients { Objectives = [new("multi_label", new MultiLabelLoss(nouns: 1))], MicroBatch = 2 };
        // The bright half says what it is.
        var pixels = randn([4, 3, 16, 16], generator: new Generator(3)) * 0.1;
        for (var i = 0; i < 4; i++) pixels[i, i % 3].narrow(i / 2, 0, 8).add_(2);
        var ids = tensor((long[])[1, 5, 39, 2, 1, 6, 39, 2, 1, 7, 39, 2, 1, 8, 39, 2], [4, 4]);
        var trained = model.Parameters().Where(static p => p.Trainable).ToArray();
        var losses = new List<double>();
        for (var step = 0; step < 16; step++)
        {
            using var inner = NewDisposeScope();
            foreach (var parameter in trained) parameter.ClearGrad();
            losses.Add(gradients.Backward(Towers.Of(model), new([pixels], [ids, ids]), seed: (ulong)step)["loss"]);
            using var noGrad = no_grad();
            foreach (var parameter in trained) parameter.Value.sub_(parameter.Grad!.sign() * 0.002);
        }
        Assert.True(losses.TakeLast(3).Average() < losses.Take(3).Average() - 0.3, string.Join(", ", losses));
        Assert.Null(model.Vision.Random);
    }

    [Fact]
    public void Prompts_are_different_nouns_filled_up_with_the_caption()
    {
        var random = new SampleRandom(1, 0, 0);
        var prompts = MultiLabelLoss.Prompts("a cat and a dog", ["cat", "dog", "cat"], 3, ref random);
        Assert.Equal(3, prompts.Length);
        Assert.Equal("a cat and a dog", prompts[2]);
        Assert.Equal(1, prompts.Take(2).Count(static p => p.Contains("cat", StringComparison.Ordinal)));
        Assert.Equal(1, prompts.Take(2).Count(static p => p.Contains("dog", StringComparison.Ordinal)));
    }

    [Fact]
    public void Segments_are_probabilities_over_the_texts_times_those_of_the_whole_image_at_any_size()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Model();
        var texts = DualEncoder.Normalize(model.Text.Encode(GroupVitTiny.Ids));
        var pixels = randn([1, 3, 24, 12], generator: new Generator(3));
        var dense = model.Segment(pixels, texts, 31, 17);
        Assert.Equal([1, 2, 31, 17], dense.shape);
        var whole = model.Forward(pixels, GroupVitTiny.Ids).LogitsPerImage.softmax(-1).view(1, 2, 1, 1);
        Assert.True((whole.amax() - whole.amin()).item<float>() > 1e-3);
        Assert.True(((dense / whole).sum(1) - 1).abs().max().item<float>() < 1e-4);
    }

    [Fact]
    public void Stages_that_do_not_go_together_are_refused_with_one_sentence()
    {
        var wrong = GroupVitTiny.Config.Replace("\"num_output_groups\": [5, 3, 3]", "\"num_output_groups\": [4, 3, 3]", StringComparison.Ordinal);
        Assert.Equal("num_output_groups of stage 0 is 4, but it has 5 group tokens for the stage after it; expected as many.", Assert.Throws<PanoptesException>(() => Model(wrong)).Message);
    }
}
