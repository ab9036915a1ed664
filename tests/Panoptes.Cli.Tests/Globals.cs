// The commands set libtorch's threads for the whole process, and time is measured.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
