using Panoptes.Native;
using Panoptes.Nn;

namespace Panoptes.Understanding;

// What SAM (Kirillov et al. 2023, arXiv:2304.02643) and SAM 2 (Ravi et al. 2024, arXiv:2408.00714) decode masks with: prompts as a few tokens, and a transformer in which they
// and the image's tokens attend to each other. Keys of Hugging Face's SamModel and Sam2Model, which differ in the names of two layers.

/// <summary>Linear layers with an activation between. Keys: proj_in, layers.N, proj_out.</summary>
public sealed class SamFeedForward(int width, int hidden, int outputs, int layers, Activation activation = Activation.Relu) : Module
{
    public Linear ProjIn { get; } = new(width, hidden);

    public Linear ProjOut { get; } = new(hidden, outputs);

    public ModuleList<Linear> Layers { get; } = new(Math.Max(0, layers - 2), _ => new Linear(hidden, hidden));

    /// <param name="x">[..., width]</param>
    /// <returns>[..., outputs]</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = ProjIn.Forward(x, activation);
        foreach (var layer in Layers) x = layer.Forward(x, activation);
        return ProjOut.Forward(x).MoveToOuterDisposeScope();
    }
}

/// <summary>An MLP of SAM 1. Keys: lin1, lin2.</summary>
public sealed class SamMlp(int width, int hidden, Activation activation) : Module
{
    public Linear Lin1 { get; } = new(width, hidden);

    public Linear Lin2 { get; } = new(hidden, width);

    public Tensor Forward(Tensor x) => Mlp.Apply(Lin1, Lin2, activation, x);
}

/// <summary>
/// Attention in a narrower space. Keys: q_proj, k_proj, v_proj, and out_proj (SAM) or o_proj (SAM 2).
/// </summary>
/// <remarks>
/// Prompts are a handful of tokens, images thousands. Between the two the projections of the image's side are moved over to the prompts' side, where they cost next to nothing:
/// q·(W x + b) = (Wᵀq)·x + q·b, and the sum of weighted W v is W times the weighted sum. So an image's token is multiplied with one row a head and prompt token, instead
/// of being projected, attending and being projected back. The numbers are the same but for rounding.
/// </remarks>
public sealed class SamAttention(int width, int heads, int downsampling, bool sam2) : Module
{
    readonly int inner = Attention.Divisible(width / downsampling, heads);
    readonly double scale = 1 / Math.Sqrt(width / downsampling / heads);

    public Linear QProj { get; } = new(width, width / downsampling);

    public Linear KProj { get; } = new(width, width / downsampling);

    public Linear VProj { get; } = new(width, width / downsampling);

    public Linear? OutProj { get; } = sam2 ? null : new(width / downsampling, width);

    public Linear? OProj { get; } = sam2 ? new(width / downsampling, width) : null;

    Linear Output => OutProj ?? OProj!;

    /// <summary>Tokens attend to tokens: [n, tokens, width] each, to the same.</summary>
    public Tensor Forward(Tensor query, Tensor key, Tensor value)
    {
        using var scope = NewDisposeScope();
        var (q, k, v) = (Heads(QProj, query), Heads(KProj, key), Heads(VProj, value));
        return Output.Forward(Attention.MergeHeads(Attention.Apply(q, k, v))).MoveToOuterDisposeScope();
    }

    /// <summary>Tokens attend to images.</summary>
    /// <param name="tokens">[n, tokens, width]</param>
    /// <param name="keys">[m, places, width]: image i belongs to the tokens' rows i · n / m and following.</param>
    /// <param name="values">[m, places, width]</param>
    /// <returns>[n, tokens, width]</returns>
    public Tensor ToImage(Tensor tokens, Tensor keys, Tensor values)
    {
        using var scope = NewDisposeScope();
        var (n, t, m) = (tokens.shape[0], tokens.shape[1], keys.shape[0]);
        var q = Heads(QProj, tokens) * scale;                                                     // [n, heads, tokens, size]
        var asked = q.matmul(ByHead(KProj.Weight.Value));                                         // [n, heads, tokens, width]
        var offset = q.matmul(KProj.Bias!.Value.view(heads, -1, 1));                              // [n, heads, tokens, 1]
        var scores = AddProduct(offset.reshape(m, -1, 1), asked.reshape(m, -1, width), keys.transpose(1, 2));
        var seen = scores.softmax(-1).bmm(values).view(n, heads, t, width);
        var v = seen.matmul(ByHead(VProj.Weight.Value).transpose(1, 2)) + VProj.Bias!.Value.view(heads, 1, -1);
        return Output.Forward(Attention.MergeHeads(v)).MoveToOuterDisposeScope();
    }

    /// <summary>Images attend to tokens, added to what they were.</summary>
    /// <param name="keys">[m, places, width]: what asks.</param>
    /// <param name="tokenKeys">[n, tokens, width]</param>
    /// <param name="tokenValues">[n, tokens, width]</param>
    /// <param name="image">[m, places, width]: what the result is added to.</param>
    /// <returns>[n, places, width]</returns>
    public Tensor FromImage(Tensor keys, Tensor tokenKeys, Tensor tokenValues, Tensor image)
    {
        using var scope = NewDisposeScope();
        var (n, t, m, places) = (tokenKeys.shape[0], tokenKeys.shape[1], keys.shape[0], keys.shape[1]);
        var k = Heads(KProj, tokenKeys) * scale;
        var asked = k.matmul(ByHead(QProj.Weight.Value));                                         // [n, heads, tokens, width]
        var offset = k.matmul(QProj.Bias!.Value.view(heads, -1, 1));
        var scores = AddProduct(offset.reshape(m, -1, 1), asked.reshape(m, -1, width), keys.transpose(1, 2));
        var share = scores.view(n, heads, t, places).softmax(2).view(n, -1, places);              // [n, heads · tokens, places]
        // Every head's shares add up to 1, so that each brings its part of the bias along.
        var v = Heads(VProj, tokenValues).matmul(Output.Weight.Value.view(width, heads, -1).permute(1, 2, 0)) + Output.Bias!.Value / heads;
        if (n != m) image = image.unsqueeze(1).expand(-1, n / m, -1, -1).reshape(n, places, width);
        return AddProduct(image, share.transpose(1, 2), v.view(n, -1, width)).MoveToOuterDisposeScope();
    }

    /// <summary>TorchSharp's <c>torch.baddbmm</c> mixes its arguments up; the tensor's own method is told the products first.</summary>
    static Tensor AddProduct(Tensor input, Tensor left, Tensor right) => left.baddbmm(right, input);

    /// <summary>[heads · size, width] to [heads, size, width].</summary>
    Tensor ByHead(Tensor weight) => weight.view(heads, inner / heads, width);

    Tensor Heads(Linear projection, Tensor x) => Attention.SplitHeads(projection.Forward(x), heads);
}

/// <summary>What the two-way transformer is made of.</summary>
/// <param name="Width">Of every token.</param>
/// <param name="MlpDim">Of the hidden layer.</param>
/// <param name="Layers">How many blocks.</param>
/// <param name="Heads">Of every attention.</param>
/// <param name="Downsampling">How much narrower attention between tokens and image is.</param>
/// <param name="Eps">Of the blocks' norms.</param>
/// <param name="Act">Of the blocks' MLPs.</param>
/// <param name="Sam2">Whether keys are SAM 2's.</param>
sealed record SamTransformerSizes(int Width, int MlpDim, int Layers, int Heads, int Downsampling, double Eps, Activation Act, bool Sam2);

/// <summary>
/// Tokens attend to each other, to the image, go through an MLP, and the image attends to them. Keys: self_attn, layer_norm1, cross_attn_token_to_image, layer_norm2,
/// mlp, layer_norm3, layer_norm4, cross_attn_image_to_token.
/// </summary>
public sealed class SamTwoWayBlock : Module
{
    readonly bool first;
    readonly SamMlp? mlp;
    readonly SamFeedForward? mlp2;

    internal SamTwoWayBlock(SamTransformerSizes s, bool first)
    {
        this.first = first;
        SelfAttn = new(s.Width, s.Heads, 1, s.Sam2);
        (LayerNorm1, LayerNorm2, LayerNorm3, LayerNorm4) = (new(s.Width, s.Eps), new(s.Width, s.Eps), new(s.Width, s.Eps), new(s.Width, s.Eps));
        CrossAttnTokenToImage = new(s.Width, s.Heads, s.Downsampling, s.Sam2);
        CrossAttnImageToToken = new(s.Width, s.Heads, s.Downsampling, s.Sam2);
        // The peer gives SAM 2's MLPs as many layers as there are blocks.
        Mlp = s.Sam2 ? mlp2 = new(s.Width, s.MlpDim, s.Width, s.Layers, s.Act) : mlp = new(s.Width, s.MlpDim, s.Act);
    }

    public SamAttention SelfAttn { get; }

    public LayerNorm LayerNorm1 { get; }

    public SamAttention CrossAttnTokenToImage { get; }

    public LayerNorm LayerNorm2 { get; }

    public Module Mlp { get; }

    public LayerNorm LayerNorm3 { get; }

    public LayerNorm LayerNorm4 { get; }

    public SamAttention CrossAttnImageToToken { get; }

    /// <param name="tokens">[n, tokens, width]</param>
    /// <param name="image">[m, places, width], where m divides n</param>
    /// <param name="tokenPositions">[n, tokens, width]: what the tokens were at first.</param>
    /// <param name="imagePositions">[1, places, width]</param>
    /// <returns>[n, tokens, width] and [n, places, width]</returns>
    public (Tensor Tokens, Tensor Image) Forward(Tensor tokens, Tensor image, Tensor tokenPositions, Tensor imagePositions)
    {
        using var scope = NewDisposeScope();
        if (first) tokens = SelfAttn.Forward(tokens, tokens, tokens);                             // they are their own positions
        else
        {
            var placed = tokens + tokenPositions;
            tokens = tokens + SelfAttn.Forward(placed, placed, tokens);
        }
        tokens = LayerNorm1.Forward(tokens);
        var keys = image + imagePositions;
        tokens = LayerNorm2.Forward(tokens + CrossAttnTokenToImage.ToImage(tokens + tokenPositions, keys, image));
        tokens = LayerNorm3.Forward(tokens + (mlp?.Forward(tokens) ?? mlp2!.Forward(tokens)));
        image = LayerNorm4.Forward(CrossAttnImageToToken.FromImage(keys, tokens + tokenPositions, tokens, image));
        return (tokens.MoveToOuterDisposeScope(), image.MoveToOuterDisposeScope());
    }
}

/// <summary>The blocks, and a last look of the tokens at the image. Keys: layers.N, final_attn_token_to_image, layer_norm_final_attn.</summary>
public sealed class SamTwoWayTransformer : Module
{
    internal SamTwoWayTransformer(SamTransformerSizes s)
    {
        Layers = new(s.Layers, i => new SamTwoWayBlock(s, i == 0));
        FinalAttnTokenToImage = new(s.Width, s.Heads, s.Downsampling, s.Sam2);
        LayerNormFinalAttn = new(s.Width);
    }

    public ModuleList<SamTwoWayBlock> Layers { get; }

    public SamAttention FinalAttnTokenToImage { get; }

    public LayerNorm LayerNormFinalAttn { get; }

    /// <param name="tokens">[n, tokens, width]</param>
    /// <param name="image">[m, places, width], where m divides n: prompts that share an image follow each other.</param>
    /// <param name="imagePositions">[1, places, width]</param>
    /// <returns>[n, tokens, width] and [n, places, width] (of [m, …] where there are no blocks)</returns>
    public (Tensor Tokens, Tensor Image) Forward(Tensor tokens, Tensor image, Tensor imagePositions)
    {
        using var scope = NewDisposeScope();
        var (positions, given) = (tokens, image);
        foreach (var layer in Layers)
        {
            var before = image;
            (tokens, image) = layer.Forward(tokens, image, positions, imagePositions);
            if (!ReferenceEquals(before, given)) before.Dispose();                                // the gradient keeps its own reference
        }
        var seen = FinalAttnTokenToImage.ToImage(tokens + positions, image + imagePositions, image);
        return (LayerNormFinalAttn.Forward(tokens + seen).MoveToOuterDisposeScope(), image.MoveToOuterDisposeScope());
    }
}

/// <summary>Places as sines and cosines of random directions (Tancik et al. 2020, arXiv:2006.10739). Key: positional_embedding [2, width / 2].</summary>
public sealed class SamPositionalEmbedding(int features) : Module
{
    Tensor? grid;

    public Parameter PositionalEmbedding { get; } = new([2, features], Init.Normal(1)) { Trainable = false };

    /// <param name="places">[..., 2] x and y from 0 to 1</param>
    /// <returns>[..., width] float32</returns>
    public Tensor Forward(Tensor places)
    {
        using var scope = NewDisposeScope();
        var angles = (places.to(ScalarType.Float32) * 2 - 1).matmul(PositionalEmbedding.Value.to(ScalarType.Float32)) * (2 * Math.PI);
        return cat([angles.sin(), angles.cos()], -1).MoveToOuterDisposeScope();
    }

    /// <summary>The centers of a square grid's places, row by row: [1, side², width], kept for the next call and not the caller's.</summary>
    public Tensor Grid(int side, ScalarType dtype = ScalarType.Float32)
    {
        if (grid is { } kept && kept.shape[1] == (long)side * side && kept.dtype == dtype) return kept;
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var at = (arange(side, dtype: ScalarType.Float32, device: PositionalEmbedding.Value.device) + 0.5) / side;
        var places = stack([at.view(1, -1).expand(side, -1), at.view(-1, 1).expand(-1, side)], -1).view(1, -1, 2);
        grid?.Dispose();
        return grid = Forward(places).to(dtype).DetachFromDisposeScope();
    }

    protected override void OnTrainingChanged()
    {
        grid?.Dispose();
        grid = null;
    }

    protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        if (disposing) OnTrainingChanged();
    }
}

/// <summary>A mask as the image's places see it. Keys: conv1, conv2, conv3, layer_norm1, layer_norm2.</summary>
public sealed class SamMaskEmbedding(int channels, int width, Activation activation, double eps) : Module
{
    public Conv2d Conv1 { get; } = new(1, channels / 4, 2, 2);

    public Conv2d Conv2 { get; } = new(channels / 4, channels, 2, 2);

    public Conv2d Conv3 { get; } = new(channels, width, 1);

    public LayerNorm LayerNorm1 { get; } = new(channels / 4, eps);

    public LayerNorm LayerNorm2 { get; } = new(channels, eps);

    /// <param name="masks">[b, 1, 4 side, 4 side] logits</param>
    /// <returns>[b, width, side, side]</returns>
    public Tensor Forward(Tensor masks)
    {
        using var scope = NewDisposeScope();
        var x = activation.Apply(Begin(masks));
        return Conv3.Forward(activation.Apply(Normalize(LayerNorm2, Conv2.Forward(x)))).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// The first convolution and its norm. The norm is over a few channels; where a mask makes these nearly equal it divides by little, so that rounding grows by up to 1 / sqrt(eps), a thousand. In float64 it does not
    /// matter, and with so few channels costs next to nothing; not every device has it.
    /// </summary>
    Tensor Begin(Tensor masks)
    {
        if (masks.dtype != ScalarType.Float32 || masks.device_type != DeviceType.CPU) return Normalize(LayerNorm1, Conv1.Forward(masks));
        var x = Conv2d.Apply(Wide(masks), Wide(Conv1.Weight.Value), Wide(Conv1.Bias!.Value), stride: 2).permute(0, 2, 3, 1);
        return nn.functional.layer_norm(x, [x.shape[3]], Wide(LayerNorm1.Weight.Value), Wide(LayerNorm1.Bias.Value), eps).permute(0, 3, 1, 2).to(ScalarType.Float32);

        static Tensor Wide(Tensor x) => x.to(ScalarType.Float64);
    }

    /// <summary>Normalizes the channels of each place: [b, channels, height, width] to the same.</summary>
    internal static Tensor Normalize(LayerNorm norm, Tensor x) => norm.Forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2);
}

/// <summary>Prompts as tensors, in pixels of the model's input image.</summary>
/// <param name="Points">[b, prompts, points, 2] x and y; null for none.</param>
/// <param name="Labels">[b, prompts, points] int64: 1 on the thing, 0 beside it, -1 no point, -10 filling (its token is zero); null: all 1.</param>
/// <param name="Boxes">[b, prompts, 4] left, top, right, bottom; null for none.</param>
/// <param name="Masks">[b, 1, 4 grid, 4 grid] logits, one for all prompts of a row; null for none.</param>
public sealed record SamPrompts(Tensor? Points = null, Tensor? Labels = null, Tensor? Boxes = null, Tensor? Masks = null);

/// <summary>An image as a SAM sees it, to be prompted many times.</summary>
/// <param name="Maps">[b, channels, height, width], the finest first; the last has as many channels as prompts' tokens. SAM has one, SAM 2 three.</param>
public sealed record SamFeatures(IReadOnlyList<Tensor> Maps) : IDisposable
{
    /// <summary>What prompts attend to.</summary>
    public Tensor Embeddings => Maps[^1];

    public void Dispose()
    {
        foreach (var map in Maps) map.Dispose();
    }

    internal SamFeatures MoveToOuterDisposeScope()
    {
        foreach (var map in Maps) map.MoveToOuterDisposeScope();
        return this;
    }
}

/// <summary>What prompts were answered with.</summary>
/// <param name="Logits">[b, prompts, masks, 4 grid, 4 grid]: a pixel is in a mask where it is above 0.</param>
/// <param name="IouScores">[b, prompts, masks]: how well each is thought to fit.</param>
/// <param name="ObjectScores">[b, prompts, 1] logits of whether there is a thing at all; null for SAM, which does not say.</param>
public sealed record SamMasks(Tensor Logits, Tensor IouScores, Tensor? ObjectScores) : IDisposable
{
    public void Dispose()
    {
        Logits.Dispose();
        IouScores.Dispose();
        ObjectScores?.Dispose();
    }

    internal SamMasks MoveToOuterDisposeScope()
    {
        Logits.MoveToOuterDisposeScope();
        IouScores.MoveToOuterDisposeScope();
        ObjectScores?.MoveToOuterDisposeScope();
        return this;
    }
}

/// <summary>A model that segments what prompts point at: <see cref="SamModel"/> and its like.</summary>
public interface ISegmentAnything
{
    /// <summary>The side of the images that it takes, in pixels.</summary>
    int ImageSize { get; }

    /// <summary>The side of the masks that it gives and takes, in pixels.</summary>
    int MaskSize { get; }

    /// <param name="pixels">[b, 3, size, size] as its processor prepares them</param>
    /// <returns>The features, owned by the caller.</returns>
    SamFeatures EncodeImage(Tensor pixels);

    /// <summary>The masks that belong to the prompts.</summary>
    /// <param name="image">Of as many images as the prompts have rows, or of one for all of them.</param>
    /// <param name="prompts">What is pointed at; where there is none of any kind, one mask prompt is answered by the image alone.</param>
    /// <param name="multimask">Whether to give several masks of different extent, or one.</param>
    /// <returns>The masks, owned by the caller.</returns>
    SamMasks Decode(SamFeatures image, SamPrompts prompts, bool multimask = true);
}

/// <summary>The parts that both models' mask decoders share.</summary>
static class SamDecoding
{
    /// <summary>The tokens of points and boxes, by the rule of the model: [b, prompts, tokens, width], or null where there are neither.</summary>
    /// <param name="table">[4, width]: what is added at points beside, points on it, upper left and lower right corners.</param>
    /// <param name="none">[1, width]: the token of what is no point.</param>
    /// <param name="padBoxes">Whether such a token follows boxes, too, as in SAM 2.</param>
    internal static Tensor? Tokens(SamPrompts prompts, SamPositionalEmbedding positions, Tensor table, Tensor none, int imageSize, bool padBoxes)
    {
        if (prompts.Points is null && prompts.Boxes is null) return null;
        using var scope = NewDisposeScope();
        var (places, labels) = (new List<Tensor>(), new List<Tensor>());
        if (prompts.Points is { } points)
        {
            places.Add(points);
            labels.Add(prompts.Labels ?? ones([points.shape[0], points.shape[1], points.shape[2]], ScalarType.Int64, device: points.device));
            if (prompts.Boxes is null) AddNone(points);
        }
        if (prompts.Boxes is { } boxes)
        {
            places.Add(boxes.view(boxes.shape[0], boxes.shape[1], 2, 2));
            labels.Add(tensor(new long[] { 2, 3 }, device: boxes.device).expand(boxes.shape[0], boxes.shape[1], 2));
            if (padBoxes) AddNone(boxes);
        }
        var (at, label) = (cat([.. places], 2), cat([.. labels], 2).to(ScalarType.Int64).unsqueeze(-1));   // [b, prompts, tokens, 2], [b, prompts, tokens, 1]
        var kinds = cat([zeros_like(none), none, zeros_like(none), table]).to(table.dtype);       // filling, no point, (free), then the labels
        var isPlace = label.ge(0);
        var index = where(isPlace, label + 3, where(label.eq(-1), ones_like(label), zeros_like(label))).clamp_(0, 6);
        var kind = TorchOps.Embedding(kinds, index.squeeze(-1));
        var placed = positions.Forward((at + 0.5) / imageSize).to(table.dtype);
        // Other negative labels, which mean nothing, keep their place as in the peer.
        var keepsPlace = isPlace.logical_or(label.ne(-1).logical_and(label.ne(-10)));
        return (where(keepsPlace, placed, zeros_like(placed)) + kind).MoveToOuterDisposeScope();

        void AddNone(Tensor like)
        {
            places.Add(zeros([like.shape[0], like.shape[1], 1, 2], like.dtype, device: like.device));
            labels.Add(full([like.shape[0], like.shape[1], 1], -1, ScalarType.Int64, device: like.device));
        }
    }

    /// <summary>A transposed convolution of kernel 2 whose squares lie last: [n, ..., in] to [n, ..., 4, out], row by row.</summary>
    internal static Tensor Squares(ConvTranspose2d up, Tensor x, Activation? activation = null)
    {
        var weight = up.Weight.Value;
        var y = TorchOps.Linear(x, weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0]), up.Bias.Value.repeat(4)).unflatten(x.dim() - 1, [4, weight.shape[1]]);
        return activation?.Apply(y) ?? y;
    }

    /// <summary>The two steps up; what lies between, which is large, is given back at once (the gradient keeps its own reference).</summary>
    /// <param name="places">[n, places, width], which is disposed</param>
    /// <param name="fine1">Added after the first step, or null.</param>
    /// <param name="fine0">Added after the second step, or null.</param>
    /// <returns>[n, places, 4, 4, width / 8]</returns>
    internal static Tensor Upscale(ConvTranspose2d first, LayerNorm norm, ConvTranspose2d second, Tensor places, Func<Tensor, Tensor>? fine1 = null, Func<Tensor, Tensor>? fine0 = null)
    {
        var x = Next(places, x => Squares(first, x));                                             // [n, places, 4, width / 4]
        if (fine1 is not null) x = Next(x, fine1);
        x = Next(Next(x, norm.Forward), static x => Activation.Gelu.Apply(x));
        if (fine0 is null) return Next(x, x => Squares(second, x, Activation.Gelu));
        return Next(Next(Next(x, x => Squares(second, x)), fine0), static x => Activation.Gelu.Apply(x));

        static Tensor Next(Tensor x, Func<Tensor, Tensor> step)
        {
            using (x)
            using (var scope = NewDisposeScope()) return step(x).MoveToOuterDisposeScope();
        }
    }

    /// <summary>Masks from nested squares: the product comes first, so that only it has to be brought into order.</summary>
    /// <param name="squares">[n, places, 4, 4, channels]</param>
    /// <param name="hyper">[n, masks, channels]</param>
    /// <returns>[n, masks, 4 side, 4 side]</returns>
    internal static Tensor Masks(Tensor squares, Tensor hyper, int side)
    {
        var n = squares.shape[0];
        var product = squares.view(n, -1, squares.shape[^1]).bmm(hyper.transpose(1, 2));          // [n, places · 16, masks]
        return product.view(n, side, side, 2, 2, 2, 2, -1).permute(0, 7, 1, 3, 5, 2, 4, 6).reshape(n, -1, 4 * side, 4 * side);
    }
}
