using Panoptes.Imaging;
using Panoptes.Representation;

namespace Panoptes.Understanding;

/// <summary>How a sequence is sought.</summary>
public sealed record SequenceOptions
{
    /// <summary>How many sequences are followed at once; 1 takes the likeliest token every time (greedy).</summary>
    public int Beams { get; init; } = 1;

    /// <summary>The most tokens, the end included; never more than the model has room for.</summary>
    public int MaxTokens { get; init; } = 1024;

    /// <summary>Scores are divided by the number of tokens to this power: 0 prefers short sequences, more than 1 long ones.</summary>
    public double LengthPenalty { get; init; } = 1;

    /// <summary>Whether the search ends once as many sequences have ended as are followed.</summary>
    public bool StopEarly { get; init; }

    /// <summary>So many tokens in a row come only once; 0: any number of times.</summary>
    public int NoRepeatNgram { get; init; }

    /// <summary>What the first token is; null: whatever the model says.</summary>
    public int? ForcedFirstId { get; init; }

    /// <summary>What the last token is where the room ends; null: whatever the model says.</summary>
    public int? ForcedLastId { get; init; }

    /// <summary>Reads what generation_config.json beside a model says of this; what it leaves out is as in <paramref name="defaults"/>. Fields for sampling are not looked at.</summary>
    /// <exception cref="PanoptesException">A field that cannot be read.</exception>
    public static SequenceOptions Load(string folder, SequenceOptions? defaults = null)
    {
        defaults ??= new();
        var path = Path.Combine(folder, "generation_config.json");
        if (!File.Exists(path)) return defaults;
        var fields = JsonFields.Parse(Checkpoints.ModelFolder.ReadText(path), path);
        return new()
        {
            Beams = fields.Count("num_beams", 256) ?? defaults.Beams,
            MaxTokens = fields.Count("max_new_tokens") ?? defaults.MaxTokens,
            LengthPenalty = fields.Number("length_penalty", defaults.LengthPenalty),
            StopEarly = fields.Node("early_stopping") is System.Text.Json.Nodes.JsonValue value && value.TryGetValue<bool>(out var early) ? early : defaults.StopEarly,
            NoRepeatNgram = Id("no_repeat_ngram_size") ?? defaults.NoRepeatNgram,
            ForcedFirstId = Id("forced_bos_token_id") ?? defaults.ForcedFirstId,
            ForcedLastId = Id("forced_eos_token_id") ?? defaults.ForcedLastId,
        };

        int? Id(string name) => fields.Number(name, -1) is var id && id == Math.Floor(id) && id is >= -1 and < int.MaxValue ? id < 0 ? null : (int)id : throw fields.Wrong(name, "a whole number");
    }

    /// <summary>The most tokens where there is room for <paramref name="room"/>.</summary>
    /// <exception cref="PanoptesException">The search cannot be.</exception>
    internal int Most(int room)
    {
        var most = Math.Min(MaxTokens, room);
        if (Beams is < 1 or > 256 || most < 1 || NoRepeatNgram < 0)
            throw new PanoptesException($"A sequence of at most {most} tokens by {Beams} beams was asked for, with {NoRepeatNgram} tokens in a row only once; expected 1 to 256 beams, at least 1 token, and 0 or more in a row.");
        return most;
    }
}

/// <summary>A decoder that is asked token by token and remembers what it was given.</summary>
interface ISequenceDecoder : IDisposable
{
    /// <summary>What comes after a token of every row.</summary>
    /// <param name="ids">[rows, 1] int64</param>
    /// <returns>[rows, vocabulary] logits</returns>
    Tensor Next(Tensor ids);

    /// <summary>Row i goes on from what row <paramref name="rows"/>[i] was given.</summary>
    void Reorder(Tensor rows);
}

/// <summary>Sequences out of a decoder, token by token: the likeliest by beam search, or drawn.</summary>
static class SequenceSearch
{
    /// <summary>The likeliest sequence of every image that a beam search finds, as transformers' generate() does.</summary>
    /// <param name="decoder">Has as many rows as <paramref name="start"/>.</param>
    /// <param name="start">[images · beams, 1] int64: the tokens to begin after, those of one image's beams alike.</param>
    /// <param name="images">How many.</param>
    /// <param name="endId">The id that ends a sequence.</param>
    /// <param name="room">The most tokens that the decoder takes.</param>
    /// <param name="before">What every sequence begins with already, for <see cref="SequenceOptions.NoRepeatNgram"/>.</param>
    /// <returns>The ids without the start and the end.</returns>
    internal static IReadOnlyList<GeneratedCaption> Run(ISequenceDecoder decoder, Tensor start, int images, int endId, int room, SequenceOptions options, IReadOnlyList<int>? before = null)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (beams, most) = (options.Beams, options.Most(room));
        var search = new BeamSearch(images, beams, endId, options.LengthPenalty, options.StopEarly);
        var ids = start.alias();
        for (var step = 0; step < most; step++)
        {
            using var inner = NewDisposeScope();
            var said = decoder.Next(ids).to(ScalarType.Float32).log_softmax(-1);
            if (options.NoRepeatNgram > 0) Ban(said, search, options.NoRepeatNgram, before ?? []);
            if (step == 0 && options.ForcedFirstId is { } first) said = Only(said, first);
            if (step == most - 1 && options.ForcedLastId is { } final) said = Only(said, final);
            if (search.Step(said, last: step == most - 1)) break;
            ids.Dispose();
            ids = tensor(search.NextIds, [images * beams, 1], device: start.device).MoveToOuterDisposeScope();
            if (beams > 1) decoder.Reorder(tensor(search.Origins, device: start.device));
        }
        return search.Best();
    }

    /// <summary>Sequences of a fixed length, each token chosen by the caller from its logits.</summary>
    /// <param name="start">[rows, 1] int64</param>
    /// <param name="choose">The ids [rows] int64 that are chosen at a step from its logits [rows, vocabulary].</param>
    /// <param name="endId">Once every row has come to this id the rest is left out; null: there is none.</param>
    /// <returns>The ids of every row, as many of each.</returns>
    internal static int[][] Draw(ISequenceDecoder decoder, Tensor start, int steps, Func<int, Tensor, Tensor> choose, int? endId = null)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var rows = (int)start.shape[0];
        var drawn = Enumerable.Range(0, rows).Select(_ => new List<int>(steps)).ToArray();
        var ended = new bool[rows];
        var ids = start.alias();
        for (var step = 0; step < steps; step++)
        {
            using var inner = NewDisposeScope();
            var chosen = choose(step, decoder.Next(ids).to(ScalarType.Float32));
            var values = chosen.cpu().data<long>().ToArray();
            for (var i = 0; i < rows; i++)
            {
                drawn[i].Add((int)values[i]);
                ended[i] |= values[i] == endId;
            }
            if (Array.TrueForAll(ended, static e => e)) break;
            ids.Dispose();
            ids = chosen.view(rows, 1).MoveToOuterDisposeScope();
        }
        return [.. drawn.Select(static d => d.ToArray())];
    }

    /// <summary>Draws a token of every row among the likeliest that have <paramref name="share"/> of the probability together (nucleus sampling, Holtzman et al. 2019, arXiv:1904.09751); 0: the likeliest.</summary>
    /// <param name="logits">[rows, vocabulary]</param>
    /// <returns>[rows] int64</returns>
    internal static Tensor Nucleus(Tensor logits, double share, double temperature, Generator? generator)
    {
        using var scope = NewDisposeScope();
        if (share <= 0) return logits.argmax(-1).MoveToOuterDisposeScope();
        var (likely, which) = (logits / temperature).softmax(-1).sort(-1, descending: true);
        // A token belongs to it if those before it do not have the share yet: the first always does.
        var kept = likely.masked_fill((likely.cumsum(-1) - likely).ge(share), 0);
        var sums = kept.cumsum(-1);
        var at = rand([logits.shape[0], 1], generator: generator).to(logits.device) * sums.narrow(-1, sums.shape[1] - 1, 1);
        var place = sums.le(at).sum(-1, keepdim: true).clamp(max: logits.shape[1] - 1);
        return which.gather(-1, place).squeeze(-1).MoveToOuterDisposeScope();
    }

    static Tensor Only(Tensor said, int id)
    {
        var only = full_like(said, double.NegativeInfinity);
        only[TensorIndex.Colon, id] = 0;
        return only;
    }

    /// <summary>Rules out what would repeat the last tokens and the one after them.</summary>
    static void Ban(Tensor said, BeamSearch search, int size, IReadOnlyList<int> before)
    {
        var (rows, vocabulary) = ((int)said.shape[0], said.shape[1]);
        var banned = new List<long>();
        for (var row = 0; row < rows; row++)
        {
            int[] text = [.. before, .. search.TextOf(row)];
            var tail = text.AsSpan(Math.Max(0, text.Length - size + 1));
            for (var i = 0; i + size <= text.Length; i++)
                if (text.AsSpan(i, size - 1).SequenceEqual(tail)) banned.Add(row * vocabulary + text[i + size - 1]);
        }
        if (banned.Count == 0) return;
        using var at = tensor(banned.ToArray(), device: said.device);
        using var flat = said.view(-1);
        flat.index_fill_(0, at, double.NegativeInfinity).Dispose();
    }
}
