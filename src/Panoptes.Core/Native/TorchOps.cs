namespace Panoptes.Native;

/// <summary>
/// The operators of libtorch that TorchSharp lacks or wraps only in part, under typed names. Each falls back to TorchSharp's own
/// operators where <see cref="Dispatcher.IsAvailable"/> is false, with the same results but for rounding.
/// </summary>
public static class TorchOps
{
    /// <summary>Whether bfloat16 products are faster than float32 ones on this processor; where not, <see cref="Autocast"/> leaves products in float32.</summary>
    public static bool HasFastBFloat16 => !Processor.PrefersFloat32Products;

    /// <summary>x Φ(x) by the tanh approximation.</summary>
    public static Tensor GeluTanh(Tensor x) => Dispatcher.IsAvailable
        ? Dispatcher.Call("aten::gelu").Tensor(x).String("tanh").InvokeTensor()
        : 0.5 * x * (1 + (Math.Sqrt(2 / Math.PI) * (x + 0.044715 * x.pow(3))).tanh());

    /// <summary>x / √(mean x² + eps) · weight over the last dimension, computed in float32.</summary>
    /// <param name="x">[..., features]</param>
    /// <param name="features">The size of the last dimension.</param>
    /// <param name="weight">[features] or null</param>
    /// <param name="eps">Added to the mean square.</param>
    public static Tensor RmsNorm(Tensor x, long features, Tensor? weight, double eps)
    {
        if (Dispatcher.IsAvailable) return Dispatcher.Call("aten::rms_norm").Tensor(x).Ints(features).OptionalTensor(weight).OptionalDouble(eps).InvokeTensor();
        using var scope = NewDisposeScope();
        var wide = x.to(ScalarType.Float32);
        var y = (wide * (wide.square().mean([-1], keepdim: true) + eps).rsqrt()).to(x.dtype);
        return (weight is null ? y : y * weight).MoveToOuterDisposeScope();
    }

    /// <summary>Rows of <paramref name="table"/> [count, features] by <paramref name="indices"/> (int64, any shape).</summary>
    /// <returns>[..., features]</returns>
    public static Tensor Embedding(Tensor table, Tensor indices) => Dispatcher.IsAvailable
        ? Dispatcher.Call("aten::embedding").Tensor(table).Tensor(indices).Int(-1).Bool(false).Bool(false).InvokeTensor()
        : table.index_select(0, indices.flatten()).view([.. indices.shape, table.shape[1]]);

    /// <summary>
    /// x Wᵀ + b with gradients. Large float32 products go to libtorch as a convolution with a 1x1 kernel where MKL, to which matrix products are
    /// left, would not use AVX-512: on other processors than Intel's. Convolutions are computed by oneDNN, as bfloat16 products are anyway.
    /// docs/performance.md has the figures.
    /// </summary>
    /// <param name="x">[..., in]</param>
    /// <param name="weight">[out, in]</param>
    /// <param name="bias">[out] or null</param>
    /// <returns>[..., out]</returns>
    public static Tensor Linear(Tensor x, Tensor weight, Tensor? bias)
    {
        var (width, features) = (weight.shape[1], weight.shape[0]);
        var rows = x.numel() / Math.Max(1, width);
        if (GainsByFloat32(x, rows)) return LinearByFloat32(x, weight, bias);
        if (!GainsByConvolution(x, weight, rows)) return nn.functional.linear(x, weight, bias);

        using var scope = NewDisposeScope();
        var shape = x.shape;
        var image = x.reshape(1, rows, 1, width).permute(0, 3, 1, 2);                              // [1, in, rows, 1], channels last
        var kernel = weight.view(features, width, 1, 1);
        var half = OneDnn.Half(features);
        var y = OneDnn.WantsParts(features)
            ? cat([Part(0, half), Part(half, features - half)], 1)
            : nn.functional.conv2d(image, kernel, bias);                                           // [1, out, rows, 1], channels last
        shape[^1] = features;
        return y.permute(0, 2, 3, 1).reshape(shape).MoveToOuterDisposeScope();

        Tensor Part(long start, long length) => nn.functional.conv2d(image, kernel.narrow(0, start, length), bias?.narrow(0, start, length));
    }

    static bool GainsByConvolution(Tensor x, Tensor weight, long rows)
    {
        if (!OneDnn.IsRight(weight.shape[1], weight.shape[0])) return false;
        if (x.shape[^1] != weight.shape[1] || x.device_type != TorchSharp.DeviceType.CPU || weight.numel() < 1 << 14) return false;
        return (Autocast.Dtype ?? x.dtype) == ScalarType.Float32 && rows >= 128 && !Processor.MklUsesAvx512;
    }

    /// <summary>
    /// Where the processor multiplies float32 faster: the products of bfloat16 numbers are the same in float32, and sums are kept in it either
    /// way, so only the conversions are to be earned back.
    /// </summary>
    static bool GainsByFloat32(Tensor x, long rows) =>
        Processor.PrefersFloat32Products && rows >= (Processor.LacksBFloat16 ? FewestRows : 256) && x.dtype == ScalarType.BFloat16 && x.device_type == TorchSharp.DeviceType.CPU;

    /// <summary>The same of convolutions, to which also whole weights are to be converted and brought over each time: only without any instruction for bfloat16.</summary>
    internal static bool ConvolutionGainsByFloat32(Tensor x, long places) => Processor.LacksBFloat16 && GainsByFloat32(x, places);

    /// <summary>From how many rows on float32 is ahead where the processor has no instruction for bfloat16.</summary>
    const int FewestRows = 16;

    static Tensor LinearByFloat32(Tensor x, Tensor weight, Tensor? bias, Nn.Activation? activation = null)
    {
        using var scope = NewDisposeScope();
        var y = nn.functional.linear(x.to(ScalarType.Float32), weight.to(ScalarType.Float32), bias?.to(ScalarType.Float32));
        if (activation == Nn.Activation.QuickGelu && !is_grad_enabled()) QuickGeluInPlace(y);
        else if (activation is { } f) y = Nn.Activations.Apply(f, y);
        return y.to(ScalarType.BFloat16).MoveToOuterDisposeScope();
    }

    /// <summary>softmax(q kᵀ · scale + mask) v; see <see cref="Nn.Attention.Apply"/>.</summary>
    public static Tensor Attention(Tensor query, Tensor key, Tensor value, Tensor? mask, bool causal, double? scale)
    {
        var grouped = key.shape[1] != query.shape[1];
        if (GainsByFloat32(query, query.shape[0] * query.shape[^2]))
        {
            using var scope = NewDisposeScope();
            return Attention(query.to(ScalarType.Float32), key.to(ScalarType.Float32), value.to(ScalarType.Float32),
                mask?.dtype == ScalarType.BFloat16 ? mask.to(ScalarType.Float32) : mask, causal, scale).to(ScalarType.BFloat16).MoveToOuterDisposeScope();
        }
        // The fused kernel wants keys and values of one width; libtorch's own fallback would hold all scores at once, twice.
        if (!grouped && (GainsByProducts(query, key, GoesInParts(query, mask, causal)) || value.shape[^1] != query.shape[^1])) return AttentionByProducts(query, key, value, mask, causal, scale);
        if (Dispatcher.IsAvailable)
            return Dispatcher.Call("aten::scaled_dot_product_attention")
                .Tensor(query).Tensor(key).Tensor(value).OptionalTensor(mask).Double(0).Bool(causal).OptionalDouble(scale).Bool(grouped)
                .InvokeTensor();

        // TorchSharp's own wrapper knows neither: fold the scale into the query and repeat the shared heads.
        if (scale is { } s) query = query * (s * Math.Sqrt(query.shape[^1]));
        if (grouped)
        {
            var times = query.shape[1] / key.shape[1];
            (key, value) = (key.repeat_interleave(times, 1), value.repeat_interleave(times, 1));
        }
        return nn.functional.scaled_dot_product_attention(query, key, value, mask, 0, causal);
    }

    /// <summary>
    /// libtorch's fused kernel for the CPU works through bfloat16 in small blocks: over a few hundred tokens two batched products with a
    /// softmax between are three times as fast, with gradients eight times. Longer rows would take too much memory for the scores.
    /// </summary>
    static bool GainsByProducts(Tensor query, Tensor key, bool inParts) =>
        query.dtype == ScalarType.BFloat16 && query.device_type == TorchSharp.DeviceType.CPU && (inParts || query.shape[^2] * key.shape[^2] <= 512 * 512);

    /// <summary>Whether heads, or rows of them, can go one after the other, so that scores take no more memory however many they are.</summary>
    static bool GoesInParts(Tensor query, Tensor? mask, bool causal) => mask is null && !causal && !is_grad_enabled() && query.dim() == 4;

    static Tensor AttentionByProducts(Tensor query, Tensor key, Tensor value, Tensor? mask, bool causal, double? scale)
    {
        using var scope = NewDisposeScope();
        query = scale == 1 ? query : query * (scale ?? 1 / Math.Sqrt(query.shape[^1]));
        if (GoesInParts(query, mask, causal) && query.numel() / query.shape[^1] * key.shape[^2] > MostScores)
            return AttentionInParts(query, key, value).MoveToOuterDisposeScope();
        var scores = query.matmul(key.transpose(-2, -1));
        if (causal)
        {
            using var hidden = ones(query.shape[^2], key.shape[^2], dtype: ScalarType.Bool, device: query.device).triu(1);
            scores = scores.masked_fill_(hidden, double.NegativeInfinity);
        }
        // The lowest finite number, not infinity: a row with nothing to see becomes a mean, not a NaN.
        if (mask is not null) scores = mask.dtype == ScalarType.Bool ? scores.masked_fill_(mask.logical_not(), -3.3e38) : scores.add_(mask);
        return scores.softmax(-1).matmul(value).MoveToOuterDisposeScope();
    }

    /// <summary>How many scores lie in memory at once where gradients need none: few enough for the processor's caches, many enough for its products.</summary>
    const long MostScores = 1 << 22;

    /// <summary>Heads, or rows of a head, one after the other.</summary>
    static Tensor AttentionInParts(Tensor query, Tensor key, Tensor value)
    {
        var (rows, keys) = (query.shape[2], key.shape[2]);
        var result = empty([query.shape[0], query.shape[1], rows, value.shape[3]], query.dtype, device: query.device);
        var (q, k, v, r) = (query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), value.flatten(0, 1), result.flatten(0, 1));
        var (heads, some) = (Math.Max(1, MostScores / (rows * keys)), Math.Clamp(MostScores / keys, 1, rows));
        for (var head = 0L; head < q.shape[0]; head += heads)
            for (var row = 0L; row < rows; row += some)
            {
                using var part = NewDisposeScope();
                var (h, n) = (Math.Min(heads, q.shape[0] - head), Math.Min(some, rows - row));
                var shares = q.narrow(0, head, h).narrow(1, row, n).bmm(k.narrow(0, head, h)).softmax(-1);
                r.narrow(0, head, h).narrow(1, row, n).copy_(shares.bmm(v.narrow(0, head, h)));
            }
        return result;
    }

    /// <summary>
    /// The weight of <see cref="Linear"/> in the blocked layout that oneDNN computes with, or null where it gains nothing or is not to be
    /// had (small, other types, no stable interface, or a processor that does not get it right). <c>to_dense()</c> gives exactly the weight again.
    /// </summary>
    /// <param name="weight">[out, in] without a gradient</param>
    public static Tensor? Pack(Tensor weight)
    {
        if (!Dispatcher.IsAvailable || weight.dim() != 2 || weight.numel() < 1 << 12 || weight.device_type != TorchSharp.DeviceType.CPU) return null;
        if (weight.dtype is not (ScalarType.Float32 or ScalarType.BFloat16) || !CanPack(weight.dtype)) return null;
        using var noGrad = no_grad();
        var packed = Dispatcher.Call("mkldnn::_reorder_linear_weight").Tensor(weight).OptionalInt(null).InvokeTensor();
        return Same(weight, packed);
    }

    /// <summary>The packed weight, if it is the same after all: on some processors (AMD's family 26) oneDNN 3.7.1 loses what is left over from whole blocks.</summary>
    static Tensor? Same(Tensor weight, Tensor packed)
    {
        if (weight.shape[0] % OneDnn.PackedBlock == 0 && weight.shape[1] % OneDnn.PackedBlock == 0) return packed;
        using var back = packed.to_dense();
        using var equal = back.eq(weight);
        using var same = equal.all();
        if (same.item<bool>()) return packed;
        packed.Dispose();
        return null;
    }

    /// <summary>
    /// The weight of a convolution in the layout that oneDNN computes with, or null where it gains nothing or is not to be had, as of <see cref="Pack"/>; of kernel 1 it is that of a product.
    /// </summary>
    /// <param name="weight">[out, in, kernel, kernel] without a gradient</param>
    /// <param name="size">[b, in, height, width], what it is packed for; null: for any, as far as there is a layout for any.</param>
    internal static Tensor? PackConvolution(Tensor weight, int stride, int padding, long[]? size = null)
    {
        if (weight.shape[2] == 1 && weight.shape[3] == 1 && stride == 1 && padding == 0)
        {
            using var product = weight.flatten(1);
            return Pack(product);
        }
        if (!Dispatcher.IsAvailable || weight.device_type != TorchSharp.DeviceType.CPU || weight.dtype is not (ScalarType.Float32 or ScalarType.BFloat16)) return null;
        if (OneDnn.Missing(weight.shape[0]) + OneDnn.Missing(weight.shape[1]) > 0 || weight.numel() < 1 << 12 || !CanPack(weight.dtype)) return null;
        // Below AVX-512 oneDNN packs in blocks of 16 or 32 where it knows no size, and computes in blocks of 24, as the picture's size has it: every call would bring the packed weight over by its slowest way, at several times the convolution's own cost.
        if ((!Processor.HasAvx512 && size is null) || (Processor.LacksBFloat16 && weight.dtype == ScalarType.BFloat16)) return null;
        using var noGrad = no_grad();
        var call = Dispatcher.Call("mkldnn::_reorder_convolution_weight").Tensor(weight).Ints(padding, padding).Ints(stride, stride).Ints(1, 1).Int(1);
        var packed = (size is null ? call.OptionalInt(null) : call.OptionalInts(size)).InvokeTensor();
        return Same(weight, packed);
    }

    /// <summary>The convolution by a weight of <see cref="PackConvolution"/>, without gradients.</summary>
    /// <param name="x">[b, in, height, width], best with channels last</param>
    /// <param name="added">[b, out, height, width] that the result is added to along with it; null: nothing</param>
    internal static Tensor PackedConvolution(Tensor x, Tensor packed, Tensor? bias, int stride, int padding, Tensor? added)
    {
        if (packed.dim() == 2)
        {
            using var scope = NewDisposeScope();
            var (rows, beside) = (x.permute(0, 2, 3, 1), added?.permute(0, 2, 3, 1));
            // The sum is computed along with the product only where both lie alike.
            var fused = beside is not null && beside.is_contiguous() && !GainsByFloat32(rows, rows.numel() / rows.shape[^1]);
            var y = fused
                ? Dispatcher.Call("mkldnn::_linear_pointwise", "binary").Tensor(rows).Tensor(beside!).Tensor(packed).OptionalTensor(bias).String("add").InvokeTensor()
                : PackedLinear(rows, packed, bias);
            if (!fused && beside is not null) y = y.add_(beside);
            return y.permute(0, 3, 1, 2).MoveToOuterDisposeScope();
        }
        // A map of one place lies in memory in several ways at once, of which oneDNN takes another than the sum's.
        if (added is { } one && one.shape[2] == 1 && one.shape[3] == 1) return PackedConvolution(x, packed, bias, stride, padding, null).add_(one);
        var call = Dispatcher.Call("mkldnn::_convolution_pointwise", added is null ? "" : "binary").Tensor(x);
        if (added is not null) call.Tensor(added);
        call.Tensor(packed).OptionalTensor(bias).Ints(padding, padding).Ints(stride, stride).Ints(1, 1).Int(1);
        return added is null
            ? call.String("none").NoOptionalTensors().OptionalString(null).InvokeTensor()
            : call.String("add").OptionalInt(null).OptionalString(null).NoOptionalTensors().OptionalString(null).InvokeTensor();
    }

    /// <summary>activation(x Wᵀ + b) without gradients.</summary>
    /// <param name="x">[..., in] of the weight's type</param>
    /// <param name="packed">A weight from <see cref="Pack"/>.</param>
    /// <param name="bias">[out] or null</param>
    /// <param name="activation">Computed along with the product where oneDNN knows it, else after it.</param>
    /// <returns>[..., out]</returns>
    public static Tensor PackedLinear(Tensor x, Tensor packed, Tensor? bias, Nn.Activation? activation = null)
    {
        if (GainsByFloat32(x, x.numel() / Math.Max(1, x.shape[^1])))
        {
            using var dense = Dispatcher.Call("aten::to_dense").Tensor(packed).OptionalInt((long)ScalarType.Float32).OptionalInt(null).InvokeTensor();
            return LinearByFloat32(x, dense, bias, activation);
        }
        var (name, algorithm) = activation switch
        {
            Nn.Activation.Gelu => ("gelu", "none"),
            Nn.Activation.GeluTanh => ("gelu", "tanh"),
            Nn.Activation.Relu => ("relu", ""),
            Nn.Activation.Silu => ("swish", ""),
            _ => ("none", ""),
        };
        var y = Dispatcher.Call("mkldnn::_linear_pointwise").Tensor(x).Tensor(packed).OptionalTensor(bias)
            .String(name).NoOptionalTensors().OptionalString(algorithm.Length > 0 ? algorithm : null).InvokeTensor();
        if (activation == Nn.Activation.QuickGelu) QuickGeluInPlace(y);
        return y;
    }

    /// <summary>x σ(1.702 x) over x itself, as silu(1.702 x) / 1.702.</summary>
    static void QuickGeluInPlace(Tensor x) => nn.functional.silu(x.mul_(Nn.Activations.QuickGeluFactor), inplace: true).mul_(1 / Nn.Activations.QuickGeluFactor);

    // Whether the processor has the instructions is oneDNN's to say: a small product is tried once.
    static readonly Lazy<bool> PacksFloat32 = new(static () => TryPack(ScalarType.Float32)), PacksBFloat16 = new(static () => TryPack(ScalarType.BFloat16));

    static bool CanPack(ScalarType dtype) => (dtype == ScalarType.Float32 ? PacksFloat32 : PacksBFloat16).Value;

    static bool TryPack(ScalarType dtype)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        try
        {
            var weight = ones(32, 32, dtype: dtype);
            var packed = Dispatcher.Call("mkldnn::_reorder_linear_weight").Tensor(weight).OptionalInt(null).InvokeTensor();
            return PackedLinear(ones(4, 32, dtype: dtype), packed, null).eq(32).all().item<bool>();
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }

    /// <summary>
    /// One AdamW step (decoupled decay, Loshchilov and Hutter, arXiv:1711.05101) over whole lists in one call, in place.
    /// </summary>
    /// <remarks>
    /// The five lists run in parallel; the running means of gradients and of their squares are updated with the parameters.
    /// <paramref name="steps"/> holds the number of this step (from 1, already counted up), one float32 scalar tensor a parameter.
    /// With <paramref name="largestSquares"/> (AMSGrad) the step is divided by the largest mean of squares so far, which is kept there.
    /// </remarks>
    public static void AdamW(IReadOnlyList<Tensor> parameters, IReadOnlyList<Tensor> gradients, IReadOnlyList<Tensor> means, IReadOnlyList<Tensor> squares,
        IReadOnlyList<Tensor> steps, double learningRate, double beta1, double beta2, double weightDecay, double eps,
        IReadOnlyList<Tensor>? largestSquares = null)
    {
        if (parameters.Count == 0) return;
        if (Dispatcher.IsAvailable && AreLaidOutAlike(parameters, gradients, means))
        {
            Dispatcher.Call("aten::_fused_adamw_")
                .Tensors(parameters).Tensors(gradients).Tensors(means).Tensors(squares).Tensors(largestSquares ?? []).Tensors(steps)
                .Double(learningRate).Double(beta1).Double(beta2).Double(weightDecay).Double(eps).Bool(largestSquares is not null).Bool(false).OptionalTensor(null).OptionalTensor(null)
                .Invoke();
            return;
        }
        for (var i = 0; i < parameters.Count; i++)
        {
            using var scope = NewDisposeScope();
            var (p, g, m, s) = (parameters[i], gradients[i], means[i], squares[i]);
            var step = steps[i].ToDouble();
            p.mul_(1 - learningRate * weightDecay);
            m.lerp_(g, 1 - beta1);
            s.mul_(beta2).addcmul_(g, g, 1 - beta2);
            if (largestSquares is not null) s = largestSquares[i].copy_(s.maximum(largestSquares[i]));
            var denominator = (s.sqrt() / Math.Sqrt(1 - Math.Pow(beta2, step))).add_(eps);
            p.addcdiv_(m, denominator, -learningRate / (1 - Math.Pow(beta1, step)));
        }
    }

    // The fused kernel walks through memory and does not look at strides. Means and squares are made alike.
    static bool AreLaidOutAlike(IReadOnlyList<Tensor> parameters, IReadOnlyList<Tensor> gradients, IReadOnlyList<Tensor> means)
    {
        for (var i = 0; i < parameters.Count; i++)
        {
            if (parameters[i].is_contiguous() && gradients[i].is_contiguous() && means[i].is_contiguous()) continue;
            var strides = parameters[i].stride().AsSpan();
            if (!strides.SequenceEqual(gradients[i].stride()) || !strides.SequenceEqual(means[i].stride())) return false;
        }
        return true;
    }

    /// <summary>Copies every source into the target beside it, converting the type.</summary>
    public static void Copy(IReadOnlyList<Tensor> targets, IReadOnlyList<Tensor> sources)
    {
        if (targets.Count == 0) return;
        if (Dispatcher.IsAvailable) Dispatcher.Call("aten::_foreach_copy_").Tensors(targets).Tensors(sources).Bool(false).Invoke();
        else
            for (var i = 0; i < targets.Count; i++) targets[i].copy_(sources[i]);
    }

    /// <summary>Fills every tensor with zeros.</summary>
    public static void Zero(IReadOnlyList<Tensor> tensors)
    {
        if (tensors.Count == 0) return;
        if (Dispatcher.IsAvailable) Dispatcher.Call("aten::_foreach_zero_").Tensors(tensors).Invoke();
        else
            foreach (var tensor in tensors) tensor.zero_();
    }

    /// <summary>Multiplies every tensor by <paramref name="factor"/>, in place.</summary>
    public static void Scale(IReadOnlyList<Tensor> tensors, double factor)
    {
        if (tensors.Count == 0) return;
        if (Dispatcher.IsAvailable)
        {
            using var scalar = torch.tensor(factor, ScalarType.Float32);
            Dispatcher.Call("aten::_foreach_mul_", "Tensor").Tensors(tensors).Tensor(scalar).Invoke();
        }
        else
            foreach (var tensor in tensors) tensor.mul_(factor);
    }

    /// <summary>Adds every source to the target beside it, in place.</summary>
    public static void Add(IReadOnlyList<Tensor> targets, IReadOnlyList<Tensor> sources)
    {
        for (var i = 0; i < targets.Count; i++) targets[i].add_(sources[i]);
    }

    /// <summary>The Euclidean norm of all elements of all tensors together.</summary>
    public static double Norm(IReadOnlyList<Tensor> tensors)
    {
        double sum = 0;
        foreach (var tensor in tensors)
        {
            using var norm = tensor.norm();
            var value = norm.to(ScalarType.Float64).item<double>();
            sum += value * value;
        }
        return Math.Sqrt(sum);
    }
}
