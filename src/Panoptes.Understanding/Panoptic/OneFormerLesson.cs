using Panoptes.Text;

namespace Panoptes.Understanding;

/// <summary>What OneFormer can be told to do.</summary>
public enum SegmentationTask
{
    /// <summary>Every class as a whole.</summary>
    Semantic,

    /// <summary>Things one by one; no stuff.</summary>
    Instance,

    /// <summary>Things one by one, and stuff.</summary>
    Panoptic,
}

/// <summary>
/// What OneFormer is trained with for one image and one task, all three out of the same panoptic labels (Jain et al. 2023, section 3.1). As transformers' OneFormerImageProcessor, but that
/// the texts are of this image alone: there they are also of the images before it in the batch.
/// </summary>
/// <param name="Task">"the task is panoptic"</param>
/// <param name="Target">The masks that are to be found.</param>
/// <param name="Texts">One a mask, "a photo with a cat", in the order of classes, and then what fills them up.</param>
public sealed record OneFormerLesson(string Task, MaskTarget Target, IReadOnlyList<string> Texts)
{
    /// <param name="task">What is to be learned.</param>
    /// <param name="ids">The segments' pixels.</param>
    /// <param name="classes">The class of each id; other ids are nothing.</param>
    /// <param name="names">The classes' names by number.</param>
    /// <param name="things">Which of them can be counted.</param>
    /// <param name="texts">How many texts there are: the queries without the learned ones. Masks beyond that have none.</param>
    /// <exception cref="PanoptesException">A class without a name.</exception>
    public static OneFormerLesson Of(SegmentationTask task, LabelMap ids, IReadOnlyDictionary<int, int> classes, IReadOnlyList<string> names, IReadOnlySet<int> things, int texts)
    {
        foreach (var c in classes.Values)
            if (c < 0 || c >= names.Count) throw new PanoptesException($"A segment is of class {c}; expected 0 to {names.Count - 1}.");
        var wanted = task == SegmentationTask.Instance ? classes.Where(p => things.Contains(p.Value)).ToDictionary() : classes;
        if (task == SegmentationTask.Semantic)
        {
            // All segments of a class are one: ids become classes.
            ids = new(ids.Width, ids.Height, [.. ids.Labels.Select(i => classes.TryGetValue(i, out var c) ? c : -1)]);
            wanted = classes.Values.Distinct().ToDictionary(static c => c);
        }
        var said = ids.Areas().Keys.Where(wanted.ContainsKey).Select(i => wanted[i]).Order().Select(c => $"a photo with a {names[c]}").Take(texts).ToList();
        var word = task.ToString().ToLowerInvariant();
        var filler = task == SegmentationTask.Semantic ? "a semantic photo" : $"an {word} photo";           // the peer's words
        said.AddRange(Enumerable.Repeat(filler, texts - said.Count));
        return new($"the task is {word}", MaskTarget.Of(ids, wanted), said);
    }

    /// <summary>Texts as the model takes them: token ids with zeros after the end.</summary>
    /// <param name="tokenizer">CLIP's.</param>
    /// <param name="texts">Tasks, or descriptions.</param>
    /// <param name="length">task_seq_len, or text_encoder_context_length. Longer texts lose what is before their end.</param>
    /// <returns>[texts, length] int64</returns>
    public static Tensor Encode(Tokenizer tokenizer, IReadOnlyList<string> texts, int length)
    {
        var all = new long[texts.Count * length];
        for (var t = 0; t < texts.Count; t++)
        {
            var ids = tokenizer.Encode(texts[t]);
            for (var i = 0; i < Math.Min(ids.Length, length); i++) all[(t * length) + i] = ids[i];
            if (ids.Length > length) all[(t * length) + length - 1] = ids[^1];
        }
        return tensor(all, [texts.Count, length]);
    }
}
