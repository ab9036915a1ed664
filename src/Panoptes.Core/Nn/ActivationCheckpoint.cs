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
    /// <param name="forward">Computes the block's output from the inputs; the same numbers every time. What else it uses must still be there when the gradient comes: tensors of the forward pass go into the inputs.</param>
    /// <param name="inputs">What is kept; each gets its gradient if it needs one.</param>
    internal static Tensor Run(Module block, Func<IReadOnlyList<Tensor?>, Tensor> forward, params IReadOnlyList<Tensor?> inputs)
    {
        if (!is_grad_enabled()) return forward(inputs);
        // Autograd comes by only for an input with a gradient: where the block's own have none (all below is frozen), a weight stands in.
        var needed = inputs.Any(static t => t is { requires_grad: true });
        var witness = needed ? null : block.Parameters().FirstOrDefault(static p => p.RequiresGrad)?.Value;
        if (witness is null && !needed) return forward(inputs);
        using var scope = NewDisposeScope();
        return Recomputed.apply([forward, witness!, .. inputs]).MoveToOuterDisposeScope();
    }

    /// <summary>Of an input with a mask.</summary>
    internal static Tensor Run(Module block, Func<Tensor, Tensor?, Tensor> forward, Tensor x, Tensor? mask) => Run(block, inputs => forward(inputs[0]!, inputs[1]), x, mask);

    /// <summary>With a third tensor beside the mask.</summary>
    internal static Tensor Run(Module block, Func<Tensor, Tensor?, Tensor?, Tensor> forward, Tensor x, Tensor? mask, Tensor? other) => Run(block, inputs => forward(inputs[0]!, inputs[1], inputs[2]), x, mask, other);

    sealed class Recomputed : autograd.SingleTensorFunction<Recomputed>
    {
        // The function and the witness, which get no gradient here.
        const int First = 2;

        // The gradients handed back belong to the scope around the whole backward pass; they have been used once the next block's turn comes.
        [ThreadStatic] static List<Tensor>? handedBack;

        public override string Name => nameof(ActivationCheckpoint);

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            var (forward, inputs) = ((Func<IReadOnlyList<Tensor?>, Tensor>)vars[0], vars.Skip(First).Cast<Tensor?>().ToList());
            ctx.set_materialize_grads(false);
            ctx.save_for_backward(inputs!);
            ctx.save_data(nameof(forward), forward);
            ctx.save_data(nameof(Autocast), Autocast.Dtype ?? ScalarType.Float32);
            return forward(inputs);
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad)
        {
            foreach (var used in handedBack ?? []) used?.Dispose();
            handedBack = null;
            using var scope = NewDisposeScope();
            var saved = ctx.get_saved_variables();
            if (grad.IsInvalid) return [.. new Tensor[First + saved.Count]];
            var inputs = saved.Select(static t => t?.detach().requires_grad_(t.requires_grad)).ToList();
            Tensor y;
            using (Repeating())
            using (enable_grad())
            using (Autocast.To((ScalarType)ctx.get_data(nameof(Autocast))))
                y = ((Func<IReadOnlyList<Tensor?>, Tensor>)ctx.get_data(nameof(forward)))(inputs);
            using (grad) y.backward([grad]);
            handedBack = [.. new Tensor[First], .. inputs.Select(static t => t?.grad?.MoveToOuterDisposeScope()!)];
            return handedBack;
        }
    }
}
