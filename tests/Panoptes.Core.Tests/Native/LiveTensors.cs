using TorchSharp;

namespace Panoptes.Tests;

/// <summary>The number of tensors that are alive, to compare with <c>Tensor.TotalCount</c> after a call that shall leave none.</summary>
static class LiveTensors
{
    /// <summary>
    /// The count after what earlier tests dropped was collected, so that no finalizer lowers it while the test runs.
    /// Afterwards the test reads the plain count: collecting there, too, would forgive every leak.
    /// </summary>
    public static long Settle()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        return torch.Tensor.TotalCount;
    }
}
