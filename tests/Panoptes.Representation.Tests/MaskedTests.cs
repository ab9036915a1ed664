using Panoptes.Checkpoints;
using Panoptes.Nn;

namespace Panoptes.Representation.Tests;

/// <summary>Masked image modelling, beyond what the peers' numbers show.</summary>
public sealed class MaskedTests : IDisposable
{
    static readonly MaeConfig TinyMae = new()
    {
        HiddenSize = 16,
        IntermediateSize = 32,
        NumHiddenLayers = 2,
        NumAttentionHeads = 2,
        ImageSize = 16,
        PatchSize = 4,
        DecoderHiddenSize = 12,
        DecoderIntermediateSize = 24,
        DecoderNumHiddenLayers = 2,
        DecoderNumAttentionHeads = 3,
    };

    static readonly BeitConfig TinyBeit = new()
    {
        HiddenSize = 16,
        IntermediateSize = 24,
        NumHiddenLayers = 2,
        NumAttentionHeads = 2,
        ImageSize = 16,
        PatchSize = 4,
        VocabSize = 11,
        UseMaskToken = true,
        UseMeanPooling = false,
        UseSharedRelativePositionBias = true,
        AuxiliaryChannels = 6,
    };

    readonly string folder = Directory.CreateTempSubdirectory("panoptes-masked-").FullName;
    readonly DisposeScope scope = NewDisposeScope();

    public void Dispose()
    {
        scope.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void The_loss_of_an_autoencoder_and_its_gradients_agree_with_the_full_reconstruction()
    {
        using var mae = Fresh(new MaeForPreTraining(TinyMae));
        var pixels = randn([3, 3, 16, 16], generator: new Generator(1));
        var mask = mae.Vit.DrawMask(pixels, new Generator(2));
        var (cheap, full) = (Gradients(mae, () => mae.Loss(pixels, mask)), Gradients(mae, () => mae.Reconstruct(pixels, mask).Loss));
        Assert.Equal(full.Keys, cheap.Keys);
        foreach (var (key, expected) in full) Assert.True((expected - cheap[key]).abs().max().item<float>() < 1e-6f, key);
    }

    [Fact]
    public void Checkpointed_blocks_give_the_same_gradients()
    {
        using var mae = Fresh(new MaeForPreTraining(TinyMae));
        var pixels = randn([3, 3, 16, 16], generator: new Generator(1));
        var mask = mae.Vit.DrawMask(pixels, new Generator(2));
        var plain = Gradients(mae, () => mae.Loss(pixels, mask));
        mae.CheckpointActivations();
        var checkpointed = Gradients(mae, () => mae.Loss(pixels, mask));
        foreach (var (key, expected) in plain) Assert.True((expected - checkpointed[key]).abs().max().item<float>() < 1e-6f, key);
    }

    [Fact]
    public void A_mask_shows_its_share_of_every_image_and_follows_its_generator()
    {
        using var mae = Fresh(new MaeForPreTraining(TinyMae));
        var pixels = zeros(3, 3, 16, 16);
        var (mask, again, other) = (mae.Vit.DrawMask(pixels, new Generator(5)), mae.Vit.DrawMask(pixels, new Generator(5)), mae.Vit.DrawMask(pixels, new Generator(6)));
        Assert.Equal((4, 12), (mask.Seen, mask.Masked));
        Assert.Equal([12f, 12f, 12f], mask.ToTensor().sum(1).data<float>().ToArray());
        Assert.Equal(mask.Order.data<long>().ToArray(), again.Order.data<long>().ToArray());
        Assert.NotEqual(mask.Order.data<long>().ToArray(), other.Order.data<long>().ToArray());
        Assert.Equal(5, mae.Vit.Forward(pixels, mask).LastHiddenState.shape[1]);
    }

    [Fact]
    public void Patches_that_are_masked_cannot_change_what_the_encoder_sees()
    {
        using var mae = Fresh(new MaeForPreTraining(TinyMae));
        using var noGrad = no_grad();
        var pixels = randn([2, 3, 16, 16], generator: new Generator(1));
        var mask = mae.Vit.DrawMask(pixels, new Generator(2));
        var patches = mae.Patchify(pixels);
        var changed = mae.Unpatchify(patches + (100 * mask.ToTensor().unsqueeze(-1)));
        Assert.Equal(mae.Vit.Forward(pixels, mask).LastHiddenState.data<float>().ToArray(), mae.Vit.Forward(changed, mask).LastHiddenState.data<float>().ToArray());
    }

    [Fact]
    public void In_training_patches_may_be_left_out_of_the_tower()
    {
        using var mae = Fresh(new MaeModel(TinyMae));
        using var noGrad = no_grad();
        var pixels = randn([2, 3, 16, 16], generator: new Generator(1));
        (mae.PatchDropout, mae.Random) = (0.5, new Generator(3));
        var whole = mae.Encode(pixels);
        mae.Train();
        Assert.NotEqual(whole.data<float>().ToArray(), mae.Encode(pixels).data<float>().ToArray());
    }

    [Theory]
    [InlineData(1.0)]
    [InlineData(-0.1)]
    [InlineData(double.NaN)]
    public void A_mask_ratio_that_leaves_nothing_to_learn_from_is_refused(double ratio) =>
        Assert.Contains("mask_ratio", Assert.Throws<PanoptesException>(() => new MaeForPreTraining(TinyMae with { MaskRatio = ratio })).Message, StringComparison.Ordinal);

    [Fact]
    public void Images_of_another_size_are_refused()
    {
        using var mae = Fresh(new MaeForPreTraining(TinyMae));
        Assert.Contains("20x16", Assert.Throws<PanoptesException>(() => mae.Encode(zeros(1, 3, 16, 20))).Message, StringComparison.Ordinal);
        mae.Vit.InterpolatePositions = true;
        Assert.Contains("20 patches", Assert.Throws<PanoptesException>(() => mae.Loss(zeros(1, 3, 16, 20))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_papers_own_files_are_written_and_read_back()
    {
        using var mae = Fresh(new MaeForPreTraining(TinyMae));
        var path = Path.Combine(folder, "mae.safetensors");
        SafeTensors.Save(path, MaeOriginal.Export(mae));
        Assert.Contains("blocks.1.attn.qkv.weight", SafeTensors.Load(path).Keys);
        using var loaded = (MaeForPreTraining)MaeOriginal.Load(path, new()
        {
            ImgSize = 16,
            PatchSize = 4,
            EmbedDim = 16,
            Depth = 2,
            NumHeads = 2,
            DecoderEmbedDim = 12,
            DecoderDepth = 2,
            DecoderNumHeads = 3,
            MlpRatio = 2,
        });
        foreach (var ((key, saved), (_, read)) in mae.NamedParameters().Zip(loaded.NamedParameters()))
            Assert.True(saved.Value.Equals(read.Value), key);
    }

    [Fact]
    public void An_encoder_alone_is_read_by_its_shapes()
    {
        using var mae = Fresh(new MaeModel(TinyMae with { HiddenSize = 128, NumAttentionHeads = 2 }));
        var path = Path.Combine(folder, "mae.safetensors");
        SafeTensors.Save(path, MaeOriginal.Export(mae));
        using var loaded = (MaeModel)MaeOriginal.Load(path);
        Assert.Equal((16, 4, 128, 2, 2, 32), (loaded.Config.ImageSize, loaded.Config.PatchSize, loaded.Config.HiddenSize, loaded.Config.NumHiddenLayers, loaded.Config.NumAttentionHeads, loaded.Config.IntermediateSize));
        Assert.True(mae.Layers[1].Value.Weight.Value.Equals(loaded.Layers[1].Value.Weight.Value));
        SafeTensors.Save(path, [KeyValuePair.Create("blocks.0.norm1.weight", ones(3))]);
        Assert.Contains("cls_token", Assert.Throws<PanoptesException>(() => MaeOriginal.Load(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_encoder_loads_out_of_a_pretrained_models_folder()
    {
        using var mae = Fresh(new MaeForPreTraining(TinyMae));
        using var noGrad = no_grad();
        Models.Save(folder, mae);
        using var encoder = Models.Load<MaeModel>(folder);
        var pixels = randn([2, 3, 16, 16], generator: new Generator(1));
        Assert.Equal(mae.Encode(pixels).data<float>().ToArray(), encoder.Encode(pixels).data<float>().ToArray());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Checkpointed_blocks_of_BEiT_give_the_same_gradients_to_its_tables_too(bool shared)
    {
        using var beit = Fresh(new BeitForMaskedImageModeling(TinyBeit with { UseSharedRelativePositionBias = shared, UseRelativePositionBias = !shared, DropPathRate = 0.5 }));
        beit.Train();
        var (pixels, masked) = (randn([3, 3, 16, 16], generator: new Generator(1)), BlockwiseMask.Draw(3, 4, 4, 6, new Generator(2), smallest: 2));
        var labels = randint(0, 11, [3, 4, 4], ScalarType.Int64, generator: new Generator(3));
        var plain = Step();
        beit.CheckpointActivations();
        var checkpointed = Step();
        Assert.Contains(plain, static p => p.Key.EndsWith("relative_position_bias_table", StringComparison.Ordinal) && p.Value.abs().max().item<float>() > 0);
        foreach (var (key, expected) in plain) Assert.True((expected - checkpointed[key]).abs().max().item<float>() < 1e-6f, key);

        Dictionary<string, Tensor> Step()
        {
            beit.Random = new Generator(9);
            return Gradients(beit, () => beit.Loss(pixels, masked, labels));
        }
    }

    [Fact]
    public void Labels_of_all_patches_and_of_the_masked_ones_give_the_same_loss()
    {
        using var beit = Fresh(new BeitForMaskedImageModeling(TinyBeit));
        using var noGrad = no_grad();
        var (pixels, masked) = (randn([3, 3, 16, 16], generator: new Generator(1)), BlockwiseMask.Draw(3, 4, 4, 6, new Generator(2), smallest: 2));
        var labels = randint(0, 11, [3, 16], ScalarType.Int64, generator: new Generator(3));
        var (all, some) = (beit.Loss(pixels, masked, labels), beit.Loss(pixels, masked, labels[masked]));
        Assert.Equal(all.item<float>(), some.item<float>());
        Assert.Equal(nn.functional.cross_entropy(beit.Logits(beit.Forward(pixels, masked).LastHiddenState)[masked], labels[masked]).item<float>(), all.item<float>(), 1e-5f);
        Assert.Contains("No patch", Assert.Throws<PanoptesException>(() => beit.Loss(pixels, zeros_like(masked), labels)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Branches_are_left_out_in_training_only_and_as_the_generator_decides()
    {
        using var beit = Fresh(new BeitModel(TinyBeit with { DropPathRate = 0.5, LayerScaleInitValue = 1 }));
        using var noGrad = no_grad();
        var pixels = randn([8, 3, 16, 16], generator: new Generator(1));
        var calm = beit.Encode(pixels);
        beit.Train();
        var (first, again, other) = (Draw(1), Draw(1), Draw(2));
        Assert.Equal(first.data<float>().ToArray(), again.data<float>().ToArray());
        Assert.NotEqual(first.data<float>().ToArray(), other.data<float>().ToArray());
        Assert.NotEqual(first.data<float>().ToArray(), calm.data<float>().ToArray());

        Tensor Draw(ulong seed)
        {
            beit.Random = new Generator(seed);
            return beit.Encode(pixels);
        }
    }

    [Theory]
    [InlineData(14, 14, 75, 16)]
    [InlineData(4, 6, 9, 4)]
    [InlineData(1, 3, 2, 1)]
    [InlineData(2, 2, 4, 16)]
    public void Blockwise_masks_cover_nearly_what_was_asked_for_and_never_more(int rows, int columns, int count, int smallest)
    {
        var masks = BlockwiseMask.Draw(64, rows, columns, count, new Generator(4), smallest);
        var covered = masks.sum(1).data<long>().ToArray();
        Assert.All(covered, c => Assert.InRange(c, 1, count));
        if (rows == 14) Assert.True(covered.Average() > 70, $"{covered.Average()} patches are masked on average");
        Assert.Equal(masks.data<bool>().ToArray(), BlockwiseMask.Draw(64, rows, columns, count, new Generator(4), smallest).data<bool>().ToArray());
        Assert.True(masks.ne(masks[0]).any().item<bool>());
        Assert.Throws<PanoptesException>(() => BlockwiseMask.Draw(1, rows, columns, rows * columns + 1));
    }

    [Fact]
    public void A_segmentation_needs_four_states_of_its_encoder()
    {
        foreach (var states in (int[]?[])[null, [1, 2, 3], [1, 2, 3, 4]])
            Assert.Contains("out_indices", Assert.Throws<PanoptesException>(() => new BeitForSemanticSegmentation(TinyBeit with { OutIndices = states })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Masked_models_leave_what_they_return()
    {
        using var mae = Fresh(new MaeForPreTraining(TinyMae));
        using var beit = Fresh(new BeitForMaskedImageModeling(TinyBeit));
        using var segmentation = Fresh(new BeitForSemanticSegmentation(TinyBeit with { OutIndices = [1, 2, 3, 3] }));
        var pixels = randn([2, 3, 16, 16], generator: new Generator(1));
        var (masked, labels) = (BlockwiseMask.Draw(2, 4, 4, 6, new Generator(2), smallest: 2), zeros(2, 16, dtype: ScalarType.Int64));
        var classes = zeros(2, 16, 16, dtype: ScalarType.Int64);
        foreach (var training in (bool[])[true, false])
        {
            foreach (var model in (Module[])[mae, beit, segmentation]) model.Train(training);
            Leaves(1, () => mae.Vit.DrawMask(pixels));
            Leaves(1, () => mae.Loss(pixels));
            Leaves(6, () => mae.Reconstruct(pixels));
            Leaves(1, () => mae.Patchify(pixels));
            Leaves(1, () => BlockwiseMask.Draw(2, 4, 4, 6));
            Leaves(1, () => beit.Loss(pixels, masked, labels));
            Leaves(1, () => segmentation.Forward(pixels));
            Leaves(1, () => segmentation.Loss(pixels, classes));
        }

        static void Leaves(int count, Func<object> call)
        {
            using var inner = NewDisposeScope();
            var before = LiveTensors.Settle();
            call();
            Assert.Equal(before + count, Tensor.TotalCount);
        }
    }

    static T Fresh<T>(T model) where T : Module
    {
        model.Initialize(new Generator(7));
        return model;
    }

    /// <summary>Every trained weight's gradient.</summary>
    static Dictionary<string, Tensor> Gradients(Module model, Func<Tensor> loss)
    {
        foreach (var parameter in model.Parameters()) parameter.ClearGrad();
        loss().backward();
        return model.NamedParameters().Where(static p => p.Parameter.Trainable).ToDictionary(static p => p.Key, static p => p.Parameter.Grad!.clone());
    }
}
