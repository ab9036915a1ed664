using Panoptes.Nn;

namespace Panoptes.Understanding;

// DETR's masks (Carion et al. 2020, section 4.4) with the keys of Hugging Face's DetrForSegmentation as its hub has them.

/// <summary>Where each query looks, of each head: a share of 1 over all heads and places together. Keys: q_linear, k_linear.</summary>
public sealed class DetrAttentionMap(int width, int heads) : Module
{
    public Linear QLinear { get; } = new(Nn.Attention.Divisible(width, heads), width, initializer: Init.XavierUniform);

    public Linear KLinear { get; } = new(width, width, initializer: Init.XavierUniform);

    /// <param name="queries">[b, queries, width]</param>
    /// <param name="image">[b, places, width]</param>
    /// <param name="real">[b, rows, columns] bool: which places are of the image.</param>
    /// <returns>[b, queries, heads, rows, columns]</returns>
    internal Tensor Forward(Tensor queries, Tensor image, Tensor real)
    {
        using var scope = NewDisposeScope();
        var asking = Nn.Attention.SplitHeads(QLinear.Forward(queries), heads) * Math.Pow((double)width / heads, -0.5);
        var seen = asking.matmul(Nn.Attention.SplitHeads(KLinear.Forward(image), heads).transpose(-1, -2)).transpose(1, 2);   // [b, queries, heads, places]
        seen = seen.masked_fill(real.flatten(1).view(real.shape[0], 1, 1, -1).logical_not(), float.NegativeInfinity);
        return seen.flatten(2).softmax(-1).view(seen.shape[0], seen.shape[1], heads, real.shape[1], real.shape[2]).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// From where a query looks to its mask: convolutions over the image's map and that, and over the maps of three stages, each of twice the size. What the image's own maps come to is computed once for all queries.
/// Keys: lay1 to lay5, gn1 to gn5, adapter1 to adapter3, out_lay.
/// </summary>
public sealed class DetrMaskHead : Module
{
    readonly Activation activation;
    readonly int width;

    internal DetrMaskHead(DetrConfig c, IReadOnlyList<int> channels)
    {
        (activation, width) = (c.ActivationFunction, c.DModel);
        var first = c.DModel + c.EncoderAttentionHeads;
        if (first % 8 != 0) throw new PanoptesException($"d_model and encoder_attention_heads are {c.DModel} and {c.EncoderAttentionHeads}; expected a multiple of 8 together.");
        if (channels.Count < 4) throw new PanoptesException($"The backbone has {channels.Count} stages; expected 4, of which masks are made.");
        int[] widths = [first, width / 2, width / 4, width / 8, width / 16];
        (Lay1, Lay2, Lay3, Lay4, Lay5) = (Layer(first, widths[0]), Layer(first, widths[1]), Layer(widths[1], widths[2]), Layer(widths[2], widths[3]), Layer(widths[3], widths[4]));
        (Gn1, Gn2, Gn3, Gn4, Gn5) = (Norm(widths[0]), Norm(widths[1]), Norm(widths[2]), Norm(widths[3]), Norm(widths[4]));
        (Adapter1, Adapter2, Adapter3) = (Adapter(channels[^2], widths[1]), Adapter(channels[^3], widths[2]), Adapter(channels[^4], widths[3]));
        OutLay = Layer(widths[4], 1);

        static Conv2d Layer(int inputs, int outputs) => new(inputs, outputs, 3, padding: 1, initializer: Init.Uniform(Math.Sqrt(3.0 / (9 * inputs))));

        static Conv2d Adapter(int inputs, int outputs) => new(inputs, outputs, 1, initializer: Init.Uniform(Math.Sqrt(3.0 / inputs)));

        static GroupNorm Norm(int channels) => new(Math.Min(8, channels), channels);
    }

    public Conv2d Lay1 { get; }

    public GroupNorm Gn1 { get; }

    public Conv2d Lay2 { get; }

    public GroupNorm Gn2 { get; }

    public Conv2d Adapter1 { get; }

    public Conv2d Lay3 { get; }

    public GroupNorm Gn3 { get; }

    public Conv2d Adapter2 { get; }

    public Conv2d Lay4 { get; }

    public GroupNorm Gn4 { get; }

    public Conv2d Adapter3 { get; }

    public Conv2d Lay5 { get; }

    public GroupNorm Gn5 { get; }

    public Conv2d OutLay { get; }

    /// <param name="map">[b, width, rows, columns]</param>
    /// <param name="attention">[b, queries, heads, rows, columns]</param>
    /// <param name="stages">The backbone's maps, from the largest on.</param>
    /// <returns>[b, queries, rows of the largest, its columns] logits</returns>
    internal Tensor Forward(Tensor map, Tensor attention, IReadOnlyList<Tensor> stages)
    {
        using var scope = NewDisposeScope();
        var (batch, queries) = (attention.shape[0], attention.shape[1]);
        var weight = Lay1.Weight.Value;
        var own = Conv2d.Apply(attention.flatten(0, 1), weight.narrow(1, width, weight.shape[1] - width), null, padding: 1);
        var x = Refined(Gn1, ForAll(Conv2d.Apply(map, weight.narrow(1, 0, width), Lay1.Bias!.Value, padding: 1)) + own);
        x = Refined(Gn2, Lay2.Forward(x));
        foreach (var (adapter, layer, norm, stage) in ((Conv2d, Conv2d, GroupNorm, Tensor)[])[(Adapter1, Lay3, Gn3, stages[^2]), (Adapter2, Lay4, Gn4, stages[^3]), (Adapter3, Lay5, Gn5, stages[^4])])
        {
            var shown = adapter.Forward(stage);
            x = Refined(norm, layer.Forward(ForAll(shown) + nn.functional.interpolate(x, [shown.shape[2], shown.shape[3]], mode: InterpolationMode.Nearest)));
        }
        var masks = OutLay.Forward(x);
        return masks.view(batch, queries, masks.shape[2], masks.shape[3]).MoveToOuterDisposeScope();

        Tensor ForAll(Tensor image) => image.unsqueeze(1).expand(-1, queries, -1, -1, -1).flatten(0, 1);

        Tensor Refined(GroupNorm norm, Tensor y) => activation.Apply(norm.Forward(y));
    }
}

/// <summary>DETR with a mask a query. Keys: detr, mask_head, bbox_attention.</summary>
public sealed class DetrForSegmentation : Module, IMaskSegmenter
{
    public DetrForSegmentation(DetrConfig config)
    {
        Detr = new(config);
        MaskHead = new(config, Detr.Model.Backbone.Channels);
        BboxAttention = new(config.DModel, config.EncoderAttentionHeads);
    }

    public DetrConfig Config => Detr.Config;

    public DetrForObjectDetection Detr { get; }

    public DetrMaskHead MaskHead { get; }

    public DetrAttentionMap BboxAttention { get; }

    /// <summary>Every decoder layer's prediction (or the last alone), of which the last has masks: logits [b, queries, rows, columns] of a quarter of the images' size.</summary>
    /// <inheritdoc cref="DetrForObjectDetection.Forward"/>
    public IReadOnlyList<DetectionPrediction> Forward(Tensor pixels, Tensor? mask = null, bool allLayers = false)
    {
        using var scope = NewDisposeScope();
        var stages = new List<Tensor>();
        var seen = Detr.Model.Forward(pixels, mask, stages);
        var attention = BboxAttention.Forward(seen.Queries[^1], seen.Image, seen.Real);
        var masks = MaskHead.Forward(seen.Map, attention, stages);
        var layers = seen.Queries.Skip(allLayers ? 0 : seen.Queries.Count - 1).Select(Detr.Predict).ToArray();
        layers[^1] = layers[^1] with { Masks = masks };
        foreach (var layer in layers)
        {
            layer.Logits.MoveToOuterDisposeScope();
            layer.Boxes.MoveToOuterDisposeScope();
            layer.Masks?.MoveToOuterDisposeScope();
        }
        return layers;
    }

    /// <inheritdoc cref="DetrForObjectDetection.Loss"/>
    public Tensor Loss(Tensor pixels, IReadOnlyList<DetectionTarget> targets, Tensor? mask = null)
    {
        using var scope = NewDisposeScope();
        return DetrLoss.Total(Forward(pixels, mask, allLayers: true), targets, Config.Loss).MoveToOuterDisposeScope();
    }

    IReadOnlyList<string> IMaskSegmenter.Labels => Config.Labels();

    MaskPrediction IMaskSegmenter.Predict(Tensor pixels, Tensor? task)
    {
        using var scope = NewDisposeScope();
        var last = Forward(pixels)[^1];
        return new(last.Logits.MoveToOuterDisposeScope(), last.Masks!.MoveToOuterDisposeScope());
    }
}
