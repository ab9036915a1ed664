using Panoptes.Nn;

namespace Panoptes.Parity;

/// <summary>Answers golden cases of some kind with this library. Every class that implements it (with an empty constructor) is found by itself.</summary>
public interface IAdapter
{
    /// <summary>Whether this adapter answers the case, by its architecture and call (or, for plain functions, its name).</summary>
    bool Matches(ParityCase c);

    /// <summary>Computes every output of the case. Called inside a dispose scope; sizes and options come from the case's own files.</summary>
    IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c);
}

/// <summary>Builds the model of a full-size layout, without weights, so that its keys and shapes can be compared.</summary>
public interface ILayoutAdapter
{
    bool Matches(ParityLayout layout);

    /// <summary>The model that the layout's config describes.</summary>
    Module Build(ParityLayout layout);

    /// <summary>The keys and shapes that the checkpoint of <paramref name="model"/> has; formats with names of their own override it.</summary>
    IEnumerable<(string Key, long[] Shape)> Keys(Module model, ParityLayout layout) =>
        model.NamedParameters().Select(static p => (p.Key, p.Parameter.Shape));

    /// <summary>Whether a key of the file is not a weight of the model, beyond those that every format has.</summary>
    bool Ignores(string key) => false;
}
