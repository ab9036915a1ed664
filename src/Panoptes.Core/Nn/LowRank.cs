using Panoptes.Native;

namespace Panoptes.Nn;

/// <summary>
/// A low-rank change of a linear layer whose own weight stays as it is (LoRA, Hu et al. 2021, arXiv:2106.09685): y += alpha / rank · B A x. B starts at zero, so that training starts from
/// the layer as it was. Keys: lora_a [rank, in], lora_b [out, rank].
/// </summary>
public sealed class LowRank : Module
{
    readonly Linear layer;
    readonly double scale;

    /// <exception cref="PanoptesException">The rank is not below both sides of the weight, or the layer has such a change already.</exception>
    public LowRank(Linear layer, int rank, double alpha)
    {
        var (outputs, inputs) = (layer.Weight.Shape[0], layer.Weight.Shape[1]);
        if (rank < 1 || rank >= Math.Min(inputs, outputs)) throw new PanoptesException($"A change of rank {rank} was asked for of a weight of {outputs} x {inputs}; expected from 1 to below both.");
        if (layer.Change is not null) throw new PanoptesException("A linear layer was to get a second low-rank change; expected one.");
        (this.layer, scale) = (layer, alpha / rank);
        LoraA = new([rank, inputs], Init.Uniform(1 / Math.Sqrt(inputs)));
        LoraB = new([outputs, rank], Init.Zeros);
        layer.Change = this;
    }

    public Parameter LoraA { get; }

    public Parameter LoraB { get; }

    /// <summary>
    /// Freezes <paramref name="model"/> and changes those of its linear layers whose key <paramref name="which"/> picks.
    /// </summary>
    /// <returns>The changes; disposing them leaves the layers as they were.</returns>
    /// <exception cref="PanoptesException">None is picked, or the rank is too large for one.</exception>
    public static ModuleList<LowRank> Of(Module model, Func<string, bool> which, int rank, double alpha)
    {
        Linear[] layers = [.. model.NamedModules().Where(m => m.Module is Linear && which(m.Key)).Select(static m => (Linear)m.Module)];
        if (layers.Length == 0) throw new PanoptesException($"None of the linear layers of {model.GetType().Name} was picked for a low-rank change.");
        model.RequiresGrad(false);
        return new(layers.Select(layer => new LowRank(layer, rank, alpha)));
    }

    /// <summary>Puts changes into the layers' own weights until what is returned is disposed: so a model is saved as any other.</summary>
    public static IDisposable Merge(IEnumerable<LowRank> changes) => new Merged([.. changes]);

    /// <param name="x">[..., in]</param>
    /// <param name="y">[..., out], what the layer gives; disposed</param>
    /// <returns>[..., out]</returns>
    internal Tensor Add(Tensor x, Tensor y)
    {
        using var scope = NewDisposeScope();
        var sum = y + TorchOps.Linear(TorchOps.Linear(x, LoraA.Value, null), LoraB.Value, null) * scale;
        y.Dispose();
        return sum.MoveToOuterDisposeScope();
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing && layer.Change == this) layer.Change = null;
        base.Dispose(disposing);
    }

    sealed class Merged : IDisposable
    {
        readonly (LowRank Change, Tensor Before)[] kept;

        public Merged(LowRank[] changes)
        {
            using var noGrad = no_grad();
            using var scope = NewDisposeScope();
            kept = [.. changes.Select(static c => (c, c.layer.Weight.Value.clone().DetachFromDisposeScope()))];
            foreach (var c in changes)
            {
                c.layer.Weight.Assign(c.layer.Weight.Value + (c.LoraB.Value.matmul(c.LoraA.Value) * c.scale).to(c.layer.Weight.Value.dtype));
                c.layer.Change = null;
            }
        }

        public void Dispose()
        {
            using var noGrad = no_grad();
            foreach (var (change, before) in kept)
            {
                change.layer.Weight.Assign(before);
                change.layer.Change = change;
            }
        }
    }
}
