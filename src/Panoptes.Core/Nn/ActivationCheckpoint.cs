using Panoptes.Native;

namespace Panoptes.Nn;

/// <summary>
/// Activation checkpointing (Chen et al. 2016, arXiv:1604.06174): of a block only the input is kept for the gradient, and what is between is
/// computed again when the gradient comes to it. The same numbers but for rounding, a third more time, a fraction of the memory.
/// </summary>
static class ActivationCheckpoint
{
    /// <summary>Whether this thread computes something for the second time: what a forward pass changes beside its output (running statistics) has been changed already.</summary>
    [field: ThreadStatic]
    internal static bool IsRecomputing { get; private set; }

    /// <summary>Until the result is disposed, forward passes of this thread repeat what was computed before.</summary>
    internal static Repetition Repeating()
    {
        var before = IsRecomputing;
        IsRecomputing = true;
        return new(before);
    }

    internal readonly ref struct Repetition(bool before) : IDisposable
    {
        public void Dispose() => IsRecomputing = before;
    }

    /// <param name="block">Whose weights <paramref name="forward"/> uses.</param>
    /// <param name="forward">Computes the block's output from <paramref name="x"/> and <paramref name="mask"/>; the same numbers every time.</param>
    internal static Tensor Run(Module block, Func<Tensor, Tensor?, Tensor> forward, Tensor x, Tensor? mask) =>
        Run(block, (x, mask, _) => forward(x, mask), x, mask, null);

    /// <summary>With a second tensor that is kept beside the mask; neither gets a gradient.</summary>
    internal static Tensor Run(Module block, Func<Tensor, Tensor?, Tensor?, Tensor> forward, Tensor x, Tensor? mask, Tensor? constant)
    {
        if (!is_grad_enabled()) return forward(x, mask, constant);
        // Autograd comes by only for an input with a gradient: where the block's own has none (all below is frozen), a weight stands in.
        var witness = x.requires_grad ? null : block.Parameters().FirstOrDefault(static p => p.RequiresGrad)?.Value;
        if (witness is null && !x.requires_grad) return forward(x, mask, constant);
        using var scope = NewDisposeScope();
        return Recomputed.apply(x, mask!, constant!, witness!, forward).MoveToOuterDisposeScope();
    }

    sealed class Recomputed : autograd.SingleTensorFunction<Recomputed>
    {
        // The gradient handed back belongs to the scope around the whole backward pass; it has been used once the next block's turn comes.
        [ThreadStatic] static Tensor? handedBack;

        public override string Name => nameof(ActivationCheckpoint);

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            var (x, mask, constant, forward) = ((Tensor)vars[0], (Tensor?)vars[1], (Tensor?)vars[2], (Func<Tensor, Tensor?, Tensor?, Tensor>)vars[4]);
            ctx.set_materialize_grads(false);
            ctx.save_for_backward([x, mask!, constant!]);
            ctx.save_data(nameof(forward), forward);
            ctx.save_data(nameof(Autocast), Autocast.Dtype ?? ScalarType.Float32);
            return forward(x, mask, constant);
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad)
        {
            handedBack?.Dispose();
            handedBack = null;
            if (grad.IsInvalid) return [null!, null!, null!, null!, null!];
            using var scope = NewDisposeScope();
            var saved = ctx.get_saved_variables();
            var x = saved[0].detach().requires_grad_(saved[0].requires_grad);
            Tensor y;
            using (Repeating())
            using (enable_grad())
            using (Autocast.To((ScalarType)ctx.get_data(nameof(Autocast))))
                y = ((Func<Tensor, Tensor?, Tensor?, Tensor>)ctx.get_data(nameof(forward)))(x, saved[1], saved[2]);
            using (grad) y.backward([grad]);
            handedBack = x.grad?.MoveToOuterDisposeScope();
            return [handedBack!, null!, null!, null!, null!];
        }
    }
}
