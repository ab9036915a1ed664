namespace Panoptes.Search;

/// <summary>The best few of many scores: a heap with the worst of them on top. Rows are added in ascending order.</summary>
sealed class TopK(int capacity)
{
    readonly PriorityQueue<(float Score, long Row), (float, long)> heap = new();

    /// <summary>What a score must exceed to get in.</summary>
    public float Threshold { get; private set; } = float.NegativeInfinity;

    public void Add(float score, long row)
    {
        // Rows come in ascending order, so among equal scores the later one has to go first.
        if (heap.Count < capacity) heap.Enqueue((score, row), (score, -row));
        else heap.EnqueueDequeue((score, row), (score, -row));
        if (heap.Count == capacity) Threshold = heap.Peek().Score;
    }

    public IEnumerable<(float Score, long Row)> Sorted() => heap.UnorderedItems.Select(static i => i.Element).OrderByDescending(static e => e.Score).ThenBy(static e => e.Row);
}
