using System.Runtime.InteropServices;
using Panoptes.Checkpoints;

namespace Panoptes.Search;

/// <summary>A vector of the index that answers a query, and their inner product.</summary>
public readonly record struct Posting(int Vector, float Score);

/// <summary>
/// Exact search by inner products over sparse, non-negative vectors such as STAIR's: for every dimension the vectors in which it is at work, so that
/// a query costs as much as its own dimensions have entries, not as there are vectors. Immutable, and safe for any number of threads.
/// </summary>
public sealed class InvertedIndex
{
    readonly int[] offsets, vectors;
    readonly float[] weights;

    InvertedIndex(int count, int[] offsets, int[] vectors, float[] weights) => (Count, this.offsets, this.vectors, this.weights) = (count, offsets, vectors, weights);

    /// <summary>How many vectors there are.</summary>
    public int Count { get; }

    public int Dimensions => offsets.Length - 1;

    /// <summary>How many entries all vectors have together.</summary>
    public int Entries => vectors.Length;

    /// <summary>The share of its dimensions that a vector has at work, on the average.</summary>
    public double ActiveShare => Count == 0 ? 0 : Entries / ((double)Count * Dimensions);

    /// <summary>The weights of one vector, one a dimension; empty for one that is not there.</summary>
    internal delegate ReadOnlySpan<float> Weights(int vector);

    /// <param name="embeddings">[vectors, dimensions], none below zero.</param>
    /// <param name="threshold">Smaller weights are left out.</param>
    /// <exception cref="PanoptesException">A weight is below zero or no number.</exception>
    public static InvertedIndex Build(Tensor embeddings, float threshold = 0)
    {
        if (embeddings.dim() != 2) throw new PanoptesException($"Vectors of shape [{string.Join(", ", embeddings.shape)}] were given; expected [vectors, dimensions].");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var plain = embeddings.detach().cpu().to(ScalarType.Float32).contiguous();
        var (count, dimensions) = ((int)plain.shape[0], (int)plain.shape[1]);
        return Build(count, dimensions, v => MemoryMarshal.Cast<byte, float>(plain.bytes).Slice(v * dimensions, dimensions), threshold);
    }

    /// <summary>The same of vectors that are read when they are needed, each twice.</summary>
    internal static InvertedIndex Build(int count, int dimensions, Weights read, float threshold = 0)
    {
        var offsets = new int[dimensions + 1];
        for (var v = 0; v < count; v++)
        {
            var row = read(v);
            for (var d = 0; d < row.Length; d++)
            {
                if (!(row[d] >= 0) || float.IsInfinity(row[d])) throw new PanoptesException($"Vector {v} has the weight {row[d]} in dimension {d}; expected 0 or more.");
                if (row[d] > threshold) offsets[d + 1]++;
            }
        }
        for (var d = 0; d < dimensions; d++) offsets[d + 1] = checked(offsets[d + 1] + offsets[d]);
        var (vectors, weights, next) = (new int[offsets[^1]], new float[offsets[^1]], offsets.AsSpan(0, dimensions).ToArray());
        for (var v = 0; v < count; v++)
        {
            var row = read(v);
            for (var d = 0; d < row.Length; d++)
                if (row[d] > threshold) (vectors[next[d]], weights[next[d]++]) = (v, row[d]);
        }
        return new(count, offsets, vectors, weights);
    }

    /// <summary>The vectors with the largest inner products with the query, the largest first; those with none in common with it are left out.</summary>
    /// <param name="query">One weight a dimension.</param>
    /// <param name="top">How many at most.</param>
    /// <exception cref="PanoptesException">The query has another number of dimensions.</exception>
    public IReadOnlyList<Posting> Search(ReadOnlySpan<float> query, int top)
    {
        if (query.Length != Dimensions) throw new PanoptesException($"A query of {query.Length} dimensions was given to an index of {Dimensions}.");
        if (top < 1) throw new PanoptesException($"{top} results were asked for; expected 1 or more.");
        var scores = new float[Count];
        for (var d = 0; d < query.Length; d++)
        {
            if (query[d] == 0) continue;
            var (weight, from, to) = (query[d], offsets[d], offsets[d + 1]);
            var at = vectors.AsSpan(from, to - from);
            var with = weights.AsSpan(from, to - from);
            for (var i = 0; i < at.Length; i++) scores[at[i]] += weight * with[i];
        }
        var best = new TopK(top);
        for (var v = 0; v < scores.Length; v++)
            if (scores[v] > 0 && scores[v] > best.Threshold) best.Add(scores[v], v);
        return [.. best.Sorted().Select(static r => new Posting((int)r.Row, r.Score))];
    }

    /// <summary>Writes the index as a safetensors file, whole or not at all.</summary>
    /// <exception cref="PanoptesException">The file cannot be written.</exception>
    public void Save(string path)
    {
        using var scope = NewDisposeScope();
        SafeTensors.Save(path, new Dictionary<string, Tensor>
        {
            ["offsets"] = tensor(offsets),
            ["vectors"] = tensor(vectors),
            ["weights"] = tensor(weights),
        }, new Dictionary<string, string> { ["kind"] = Kind, ["count"] = Count.ToString(System.Globalization.CultureInfo.InvariantCulture) });
    }

    const string Kind = "panoptes inverted index";

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    /// <exception cref="PanoptesException">The file is no such index, or its parts do not fit together.</exception>
    public static InvertedIndex Load(string path)
    {
        using var scope = NewDisposeScope();
        int[] offsets, vectors;
        float[] weights;
        int count;
        using (var file = SafeTensorsFile.Open(path))
        {
            if (file.Metadata.GetValueOrDefault("kind") != Kind || !int.TryParse(file.Metadata.GetValueOrDefault("count"), System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out count))
                throw new PanoptesException($"{path} is not an inverted index.");
            (offsets, vectors, weights) = (Read<int>(file, "offsets", ScalarType.Int32), Read<int>(file, "vectors", ScalarType.Int32), Read<float>(file, "weights", ScalarType.Float32));
        }
        var fits = offsets.Length > 0 && offsets[0] == 0 && offsets[^1] == vectors.Length && vectors.Length == weights.Length;
        for (var d = 1; fits && d < offsets.Length; d++) fits = offsets[d] >= offsets[d - 1];
        foreach (var v in vectors) fits &= (uint)v < (uint)count;
        foreach (var w in weights) fits &= w >= 0 && !float.IsInfinity(w);
        return fits ? new(count, offsets, vectors, weights) : throw new PanoptesException($"{path} is a damaged inverted index: its parts do not fit together.");

        T[] Read<T>(SafeTensorsFile file, string name, ScalarType type) where T : unmanaged
        {
            if (!file.Entries.TryGetValue(name, out var entry)) throw new PanoptesException($"{path} has no {name}; expected an inverted index.");
            if (entry.Shape.Length != 1 || entry.ScalarType != type) throw new PanoptesException($"{path}: {name} has the shape [{string.Join(", ", entry.Shape)}] and the type {entry.ScalarType}; expected one dimension of {type}.");
            return MemoryMarshal.Cast<byte, T>(file.ReadBytes(name)).ToArray();
        }
    }
}
