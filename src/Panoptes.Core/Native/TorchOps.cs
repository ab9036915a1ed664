namespace Panoptes.Native;

/// <summary>
/// The operators of libtorch that TorchSharp lacks or wraps only in part, under typed names. Each falls back to TorchSharp's own
/// operators where <see cref="Dispatcher.IsAvailable"/> is false, with the same results but for rounding.
/// </summary>
public static class TorchOps
{
    /// <summary>x Φ(x) by the tanh approximation.</summary>
    public static Tensor GeluTanh(Tensor x) => Dispatcher.IsAvailable
        ? Dispatcher.Call("aten::gelu").Tensor(x).String("tanh").InvokeTensor()
        : 0.5 * x * (1 + (Math.Sqrt(2 / Math.PI) * (x + 0.044715 * x.pow(3))).tanh());

    /// <summary>Rows of <paramref name="table"/> [count, features] by <paramref name="indices"/> (int64, any shape).</summary>
    /// <returns>[..., features]</returns>
    public static Tensor Embedding(Tensor table, Tensor indices) => Dispatcher.IsAvailable
        ? Dispatcher.Call("aten::embedding").Tensor(table).Tensor(indices).Int(-1).Bool(false).Bool(false).InvokeTensor()
        : table.index_select(0, indices.flatten()).view([.. indices.shape, table.shape[1]]);

    /// <summary>softmax(q kᵀ · scale + mask) v by libtorch's fused kernel; see <see cref="Nn.Attention.Apply"/>.</summary>
    public static Tensor Attention(Tensor query, Tensor key, Tensor value, Tensor? mask, bool causal, double? scale)
    {
        var grouped = key.shape[1] != query.shape[1];
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
    /// One AdamW step (decoupled decay, Loshchilov and Hutter, arXiv:1711.05101) over whole lists in one call, in place.
    /// </summary>
    /// <remarks>
    /// The five lists run in parallel; the running means of gradients and of their squares are updated with the parameters.
    /// <paramref name="steps"/> holds the number of this step (from 1, already counted up), one float32 scalar tensor a parameter.
    /// </remarks>
    public static void AdamW(IReadOnlyList<Tensor> parameters, IReadOnlyList<Tensor> gradients, IReadOnlyList<Tensor> means, IReadOnlyList<Tensor> squares,
        IReadOnlyList<Tensor> steps, double learningRate, double beta1, double beta2, double weightDecay, double eps)
    {
        if (parameters.Count == 0) return;
        if (Dispatcher.IsAvailable)
        {
            Dispatcher.Call("aten::_fused_adamw_")
                .Tensors(parameters).Tensors(gradients).Tensors(means).Tensors(squares).Tensors([]).Tensors(steps)
                .Double(learningRate).Double(beta1).Double(beta2).Double(weightDecay).Double(eps).Bool(false).Bool(false).OptionalTensor(null).OptionalTensor(null)
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
            var denominator = (s.sqrt() / Math.Sqrt(1 - Math.Pow(beta2, step))).add_(eps);
            p.addcdiv_(m, denominator, -learningRate / (1 - Math.Pow(beta1, step)));
        }
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
        for (var i = 0; i < targets.Count; i++) targets[i].add_(sources[i]).Dispose();
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
