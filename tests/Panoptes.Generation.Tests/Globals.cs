global using Panoptes.Tests;
global using TorchSharp;
global using static TorchSharp.torch;
global using Tensor = TorchSharp.torch.Tensor;

// Live tensors are counted for the whole process, and libtorch uses every core by itself.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
