namespace Panoptes.Representation.Objectives;

/// <summary>
/// What a slowly moving copy of the tower teaches: MoCo's contrast with a queue of its keys (He et al. 2020, arXiv:1911.05722) and BYOL's
/// prediction of its outputs, without negatives (Grill et al. 2020, arXiv:2006.07733).
/// </summary>
public static class MomentumContrast
{
    /// <summary>Every query with its own key first and all of the queue after it, over the temperature: [b, 1 + queue].</summary>
    public static Tensor Logits(Tensor queries, Tensor keys, Tensor queue, double temperature)
    {
        using var scope = NewDisposeScope();
        var (q, k) = (nn.functional.normalize(queries, dim: -1), nn.functional.normalize(keys.detach(), dim: -1));
        return (cat([(q * k).sum(-1, keepdim: true), q.matmul(queue.detach().t())], 1) / temperature).MoveToOuterDisposeScope();
    }

    /// <summary>The cross-entropy of picking the own key.</summary>
    public static Tensor OfLogits(Tensor logits)
    {
        using var scope = NewDisposeScope();
        return (logits.logsumexp(1).mean() - logits.select(1, 0).mean()).MoveToOuterDisposeScope();
    }

    /// <summary>BYOL: each view's prediction against the other's projection, which gets no gradient; the squared distances of both on the unit sphere.</summary>
    public static Tensor Byol(Tensor p1, Tensor p2, Tensor z1, Tensor z2)
    {
        using var scope = NewDisposeScope();
        return (4 + (4 * DeclipLoss.SimSiam(p1, p2, z1, z2))).MoveToOuterDisposeScope();
    }
}
