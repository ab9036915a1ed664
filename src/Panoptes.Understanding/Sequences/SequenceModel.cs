using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

/// <summary>What all of the sequence models that are trained here have: an image tower, a reader over its tokens (and a prompt's, where it is read with them), and a writer.</summary>
public abstract record SequenceConfig : ModelConfig
{
    /// <summary>The image tower's own config with its model_type.</summary>
    public JsonElement VisionConfig { get; init; }
    public int HiddenSize { get; init; } = 192;
    public int NumAttentionHeads { get; init; } = 3;
    public int IntermediateSize { get; init; } = 768;
    public int EncoderLayers { get; init; } = 1;
    public int DecoderLayers { get; init; } = 3;
    public Activation HiddenAct { get; init; } = Activation.Gelu;
    public double LayerNormEps { get; init; } = 1e-5;

    /// <summary>The deviation in which tokens and positions start.</summary>
    public double InitializerRange { get; init; } = 0.02;

    /// <summary>The most tokens that an image may have. Where they are a square, as those of most towers are, their positions start as the sines and cosines of its rows and columns.</summary>
    public int MaxImageTokens { get; init; } = 256;

    /// <summary>The most tokens of a prompt that is read with the image.</summary>
    public int MaxPromptTokens { get; init; } = 64;

    /// <summary>The most tokens that the writer takes: a prompt that it goes on from, and the answer.</summary>
    public int MaxSequenceTokens { get; init; } = 192;

    /// <summary>How much a task counts in the loss; 1 where it is not named.</summary>
    public Dictionary<string, double> TaskWeights { get; init; } = [];
}

/// <summary>One thing to learn: what is asked, and what the answer is.</summary>
/// <param name="Task">Its name.</param>
/// <param name="Prompt">What is asked.</param>
/// <param name="Target">The answer, up to and with its end.</param>
/// <param name="Weights">How much each token of the answer counts.</param>
public record SequenceExample(string Task, int[] Prompt, int[] Target, float[] Weights)
{
    /// <summary>What the writer reads of the answer, where that is not what it is to say (noise objects); null: the answer itself.</summary>
    public int[]? Read { get; init; }

    /// <summary>An answer that is a picture, whose tokens the loss makes; the target is then empty.</summary>
    public Image? Picture { get; init; }

    /// <summary>An answer that counts everywhere alike.</summary>
    internal static SequenceExample Of(string task, int[] prompt, params int[] target)
    {
        var weights = new float[target.Length];
        Array.Fill(weights, 1);
        return new(task, prompt, target, weights);
    }
}

/// <summary>A model that learns tasks over scenes as sequences.</summary>
public interface ISequenceModel
{
    SequenceCore Core { get; }

    /// <summary>The tasks that it can learn of a scene.</summary>
    IReadOnlyList<string> Tasks { get; }

    /// <summary>A task's question and answer about a scene; null where the scene has none. Follows from the scene and the random numbers alone; safe for any number of threads.</summary>
    /// <param name="scene">What is seen.</param>
    /// <param name="references">Expressions that mean objects of it (<see cref="Data.SceneGenerator.References"/>, or those of a batch); without one there is no grounding.</param>
    /// <param name="task">One of <see cref="Tasks"/>.</param>
    /// <param name="text">The tokenizer of the model's texts.</param>
    /// <param name="random">Draws order, noise and what is asked about.</param>
    /// <exception cref="PanoptesException">No such task.</exception>
    SequenceExample? Example(Data.Scene scene, IReadOnlyList<Data.SceneReference> references, string task, Text.Tokenizer text, ref Data.SampleRandom random);

    /// <summary>The mean over the examples of how unlikely their answers' tokens are, each task with its weight: a scalar.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="examples">One an image, or as many of each, those of the first image first.</param>
    Tensor Loss(Tensor pixels, IReadOnlyList<SequenceExample> examples);
}

/// <summary>Where a prompt goes: with the image's tokens, before the answer, or both.</summary>
[Flags]
public enum PromptPlace
{
    Reader = 1,
    Writer = 2,
}

/// <summary>A block of the writer, which normalizes before each of its three parts. Keys: self_attn, layer_norm1, cross_attn, layer_norm2, mlp, layer_norm3.</summary>
public sealed class SequenceLayer(SequenceConfig c) : Module
{
    public SelfAttention SelfAttn { get; } = new(c.HiddenSize, c.NumAttentionHeads);

    public LayerNorm LayerNorm1 { get; } = new(c.HiddenSize, c.LayerNormEps);

    public SelfAttention CrossAttn { get; } = new(c.HiddenSize, c.NumAttentionHeads);

    public LayerNorm LayerNorm2 { get; } = new(c.HiddenSize, c.LayerNormEps);

    public Mlp Mlp { get; } = new(c.HiddenSize, c.IntermediateSize, c.HiddenAct);

    public LayerNorm LayerNorm3 { get; } = new(c.HiddenSize, c.LayerNormEps);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="memory">[b, read tokens, width]</param>
    /// <param name="mask">[b, 1, 1, read tokens] bool, or null</param>
    public Tensor Forward(Tensor x, Tensor memory, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        x = EncoderLayer.Residual(x, SelfAttn.Forward(LayerNorm1.Forward(x), causal: true));
        var (key, value) = CrossAttn.KeysAndValues(memory);
        return Rest(x, CrossAttn.Attend(LayerNorm2.Forward(x), key, value, mask)).MoveToOuterDisposeScope();
    }

    /// <summary>Tokens that come after what the cache holds, [b · beams, tokens, width]; all beams of an image share its keys and values.</summary>
    internal Tensor Next(Tensor x, KeyValueCache cache, (Tensor Key, Tensor Value) memory, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        x = EncoderLayer.Residual(x, SelfAttn.Next(LayerNorm1.Forward(x), cache));
        var together = LayerNorm2.Forward(x).reshape(memory.Key.shape[0], -1, x.shape[2]);
        return Rest(x, CrossAttn.Attend(together, memory.Key, memory.Value, mask).view(x.shape)).MoveToOuterDisposeScope();
    }

    Tensor Rest(Tensor x, Tensor attended)
    {
        x = EncoderLayer.Residual(x, attended);
        return EncoderLayer.Residual(x, Mlp.Forward(LayerNorm3.Forward(x)));
    }
}

/// <summary>
/// The encoder-decoder that Pix2Seq v2, UniTAB, Unified-IO and VisionLLM share; they differ in their vocabulary, in what a task asks and answers, and in where the prompt goes. Keys: vision_model
/// (the tower's own), vision_projection, image_positions, prompt_positions, encoder, encoder_norm, embed_tokens (also the head), embed_positions, decoder.N, norm, head_bias.
/// </summary>
public sealed class SequenceCore : Module
{
    readonly IImageTower tower;

    /// <param name="config">The sizes.</param>
    /// <param name="source">Where the config comes from.</param>
    /// <param name="vocabulary">How many tokens there are.</param>
    /// <param name="prompts">Where they go.</param>
    /// <param name="places">The tokens that are bins of a place, in order. Neighbors start alike, as waves of their number: what is learned of one says something of those beside it from the first step.</param>
    /// <exception cref="PanoptesException">No such image tower.</exception>
    public SequenceCore(SequenceConfig config, ModelSource source, int vocabulary, PromptPlace prompts, (int First, int Count) places)
    {
        if (vocabulary > 1 << 20) throw new PanoptesException($"A vocabulary of {vocabulary} tokens was asked for; expected at most {1 << 20}.");
        var normal = Init.Normal(config.InitializerRange);
        (Config, Vocabulary, Prompts) = (config, vocabulary, prompts);
        tower = Models.ImageTower(source, config.VisionConfig, "vision", "vision_model");
        VisionModel = (Module)tower;
        VisionProjection = new(tower.TokenSize, config.HiddenSize);
        ImagePositions = new([config.MaxImageTokens, config.HiddenSize], Grid(config) ?? normal);
        PromptPositions = prompts.HasFlag(PromptPlace.Reader) ? new([config.MaxPromptTokens, config.HiddenSize], normal) : null;
        Encoder = new(config.EncoderLayers, config.HiddenSize, config.NumAttentionHeads, config.IntermediateSize, config.HiddenAct, config.LayerNormEps);
        EncoderNorm = new(config.HiddenSize, config.LayerNormEps);
        EmbedTokens = new(vocabulary, config.HiddenSize, (t, g) =>
        {
            normal(t, g);
            using var waves = Waves(places.Count, config.HiddenSize, config.InitializerRange);
            using var rows = t.narrow(0, places.First, places.Count);
            rows.copy_(waves);
        });
        EmbedPositions = new([config.MaxSequenceTokens, config.HiddenSize], normal);
        Decoder = new(config.DecoderLayers, _ => new(config));
        Norm = new(config.HiddenSize, config.LayerNormEps);
        HeadBias = new([vocabulary], Init.Zeros);
    }

    /// <summary>Sines and cosines of numbers from 0 to 1, from half a wave on, with a deviation: [count, width].</summary>
    static Tensor Waves(int count, int width, double deviation)
    {
        var (table, half) = (new float[count * width], width / 2);
        for (var i = 0; i < count; i++)
            for (var k = 0; k < half; k++)
            {
                var (sin, cos) = Math.SinCos(Math.PI * i / Math.Max(1, count - 1) * Math.Pow(Math.Max(1, count / 4.0), (double)k / half));
                (table[i * width + k], table[i * width + half + k]) = ((float)(Math.Sqrt(2) * deviation * sin), (float)(Math.Sqrt(2) * deviation * cos));
            }
        return tensor(table, [count, width]);
    }

    /// <summary>Places as a square grid has them: learned from noise alone, where things are comes hundreds of steps after what they are.</summary>
    static Initializer? Grid(SequenceConfig config)
    {
        var side = (int)Math.Sqrt(config.MaxImageTokens);
        return side * side != config.MaxImageTokens || config.HiddenSize % 4 != 0 ? null : (t, _) =>
        {
            using var places = Positions.SinCos(side, side, config.HiddenSize);
            t.copy_(places.narrow(0, 1, side * side));
        };
    }

    public SequenceConfig Config { get; }

    /// <summary>How many tokens there are.</summary>
    public int Vocabulary { get; }

    public PromptPlace Prompts { get; }

    public Module VisionModel { get; }

    public Linear VisionProjection { get; }

    public Parameter ImagePositions { get; }

    public Parameter? PromptPositions { get; }

    public Encoder Encoder { get; }

    public LayerNorm EncoderNorm { get; }

    public Embedding EmbedTokens { get; }

    public Parameter EmbedPositions { get; }

    public ModuleList<SequenceLayer> Decoder { get; }

    public LayerNorm Norm { get; }

    public Parameter HeadBias { get; }

    /// <summary>The image tower, whose weights may come from elsewhere.</summary>
    [NotAChild]
    public IImageTower Images => tower;

    /// <summary>What the writer looks at.</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="prompts">A prompt an image, or as many of each, those of the first image first; null: none. An image is looked at once, whatever is asked about it.</param>
    /// <returns>[prompts, tokens, width], and which of them are there: [prompts, 1, 1, tokens] bool, or null for all.</returns>
    /// <exception cref="PanoptesException">More tokens than there is room for, or a number of prompts that does not go with the images.</exception>
    public (Tensor Memory, Tensor? Mask) Read(Tensor pixels, IReadOnlyList<int[]>? prompts)
    {
        using var scope = NewDisposeScope();
        var (memory, mask) = ReadSeen(See(pixels), prompts);
        return (memory.MoveToOuterDisposeScope(), mask?.MoveToOuterDisposeScope());
    }

    /// <summary>The tokens of images, with their places: [b, tokens, width].</summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <exception cref="PanoptesException">More tokens than there is room for.</exception>
    internal Tensor See(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var tokens = VisionProjection.Forward(tower.Forward(pixels).LastHiddenState);
        var images = tokens.shape[1];
        if (images > Config.MaxImageTokens) throw new PanoptesException($"An image has {images} tokens; the model takes at most {Config.MaxImageTokens}.");
        return tokens.add(ImagePositions.Value.narrow(0, 0, images)).MoveToOuterDisposeScope();
    }

    /// <summary>What the writer looks at, of images whose tokens are known.</summary>
    /// <param name="tokens">As <see cref="See"/> gives them.</param>
    /// <inheritdoc cref="Read"/>
    internal (Tensor Memory, Tensor? Mask) ReadSeen(Tensor tokens, IReadOnlyList<int[]>? prompts)
    {
        using var scope = NewDisposeScope();
        var (images, device) = (tokens.shape[1], tokens.device);
        Tensor? mask = null;
        var (count, each) = prompts is null ? (tokens.shape[0], 1L) : (prompts.Count, prompts.Count / tokens.shape[0]);
        if (each < 1 || each * tokens.shape[0] != count) throw new PanoptesException($"{count} prompts go with {tokens.shape[0]} images; expected one an image, or as many of each.");
        if (PromptPositions is not null && prompts is not null && prompts.Max(static p => p.Length) is > 0 and var longest)
        {
            if (each > 1) (tokens, each) = (tokens.repeat_interleave(each, 0), 1);
            if (longest > Config.MaxPromptTokens) throw new PanoptesException($"A prompt has {longest} tokens; the model takes at most {Config.MaxPromptTokens}.");
            var (ids, own) = Padded(prompts, longest, device);
            tokens = cat([tokens, EmbedTokens.Forward(ids).add(PromptPositions.Value.narrow(0, 0, longest)).to(tokens.dtype)], 1);
            mask = KeyMask.Of(cat([ones(tokens.shape[0], images, dtype: ScalarType.Int64, device: device), own], 1));
        }
        var memory = EncoderNorm.Forward(Encoder.Forward(tokens, mask));
        return ((each > 1 ? memory.repeat_interleave(each, 0) : memory).MoveToOuterDisposeScope(), mask?.MoveToOuterDisposeScope());
    }

    /// <summary>What the writer says after each token of sequences that are known.</summary>
    /// <param name="ids">[b, tokens] int64</param>
    /// <param name="memory">[b, read tokens, width]</param>
    /// <param name="mask">As <see cref="Read"/> gives it.</param>
    /// <param name="which">Indices of the tokens of all sequences, in their order, that are to tell; null: all.</param>
    /// <returns>[b, tokens, vocabulary], or [which, vocabulary]</returns>
    public Tensor Write(Tensor ids, Tensor memory, Tensor? mask, Tensor? which = null)
    {
        using var scope = NewDisposeScope();
        return Say(Enter(ids, 0), memory, mask, which).MoveToOuterDisposeScope();
    }

    /// <summary>The same of what has entered already.</summary>
    /// <param name="x">[b, tokens, width]</param>
    internal Tensor Say(Tensor x, Tensor memory, Tensor? mask, Tensor? which)
    {
        using var scope = NewDisposeScope();
        foreach (var layer in Decoder) x = layer.Forward(x, memory, mask);
        if (which is not null) x = x.flatten(0, 1).index_select(0, which);
        return Head(x).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// The mean over the examples of how unlikely the tokens of their answers are: every task's tokens share its examples' part of the batch, times the task's weight. A scalar.
    /// </summary>
    /// <param name="pixels">[b, 3, height, width]</param>
    /// <param name="examples">One an image, or as many of each, those of the first image first.</param>
    /// <param name="startId">What the writer begins with where no prompt stands before the answer.</param>
    public Tensor Loss(Tensor pixels, IReadOnlyList<SequenceExample> examples, int startId)
    {
        Fit(pixels, examples);
        using var scope = NewDisposeScope();
        return LossSeen(See(pixels), examples, startId).MoveToOuterDisposeScope();
    }

    /// <exception cref="PanoptesException">A number of examples that does not go with the images.</exception>
    internal static void Fit(Tensor pixels, IReadOnlyList<SequenceExample> examples)
    {
        if (examples.Count == 0 || examples.Count % pixels.shape[0] != 0) throw new PanoptesException($"{examples.Count} examples go with {pixels.shape[0]} images; expected one an image, or as many of each.");
    }

    /// <summary>The same of images whose tokens are known.</summary>
    /// <param name="tokens">As <see cref="See"/> gives them.</param>
    /// <inheritdoc cref="Loss"/>
    internal Tensor LossSeen(Tensor tokens, IReadOnlyList<SequenceExample> examples, int startId)
    {
        using var scope = NewDisposeScope();
        var leads = examples.Select(e => Prompts.HasFlag(PromptPlace.Writer) && e.Prompt.Length > 0 ? e.Prompt : [startId]).ToArray();
        int[][] given = [.. examples.Select((e, i) => (int[])[.. leads[i], .. (e.Read ?? e.Target).SkipLast(1)])];
        var longest = given.Max(static g => g.Length);
        if (longest > Config.MaxSequenceTokens) throw new PanoptesException($"A sequence has {longest} tokens; the model takes at most {Config.MaxSequenceTokens}.");
        var shares = examples.GroupBy(static e => e.Task).ToDictionary(static g => g.Key,
            g => Config.TaskWeights.GetValueOrDefault(g.Key, 1) * g.Count() / examples.Count / Math.Max(1e-12, g.Sum(static e => e.Weights.Sum(static w => (double)w))));
        var (which, targets, factors) = (new List<long>(), new List<long>(), new List<float>());
        for (var i = 0; i < examples.Count; i++)
        {
            var example = examples[i];
            if (example.Weights.Length != example.Target.Length || (example.Read ?? example.Target).Length != example.Target.Length) throw new ArgumentException("An example needs a weight, and a token to read, for every token of its answer.");
            for (var k = 0; k < example.Target.Length; k++)
            {
                if (example.Weights[k] == 0) continue;
                which.Add((long)i * longest + leads[i].Length - 1 + k);
                targets.Add(example.Target[k]);
                factors.Add((float)(example.Weights[k] * shares[example.Task]));
            }
        }
        if (which.Count == 0) throw new PanoptesException("No token of the examples counts; expected one at least.");
        var (memory, mask) = ReadSeen(tokens, [.. examples.Select(static e => e.Prompt)]);
        var device = tokens.device;
        var logits = Write(Padded(given, longest, device).Ids, memory, mask, tensor(which.ToArray(), device: device));
        var losses = nn.functional.cross_entropy(logits.to(ScalarType.Float32), tensor(targets.ToArray(), device: device), reduction: nn.Reduction.None);
        return losses.dot(tensor(factors.ToArray(), device: device)).MoveToOuterDisposeScope();
    }

    /// <summary>Asks the writer token by token. The memory stays the caller's while it lives.</summary>
    /// <param name="room">The most tokens, the first ones included.</param>
    internal SequenceWriter Writer(Tensor memory, Tensor? mask, int room) =>
        room <= Config.MaxSequenceTokens ? new(this, memory, mask, room) : throw new PanoptesException($"A sequence of {room} tokens was asked for; the model takes at most {Config.MaxSequenceTokens}.");

    internal Tensor Enter(Tensor ids, int position)
    {
        using var scope = NewDisposeScope();
        return EmbedTokens.Forward(ids).add(EmbedPositions.Value.narrow(0, position, ids.shape[1])).MoveToOuterDisposeScope();
    }

    internal Tensor Head(Tensor x)
    {
        using var scope = NewDisposeScope();
        return TorchOps.Linear(Norm.Forward(x), EmbedTokens.Weight, HeadBias).MoveToOuterDisposeScope();
    }

    /// <summary>Rows filled up with 0, and which are their own: [rows, longest] int64 each.</summary>
    internal static (Tensor Ids, Tensor Own) Padded(IReadOnlyList<int[]> rows, int longest, Device device)
    {
        var (ids, own) = (new long[rows.Count * longest], new long[rows.Count * longest]);
        for (var i = 0; i < rows.Count; i++)
            for (var k = 0; k < rows[i].Length; k++) (ids[i * longest + k], own[i * longest + k]) = (rows[i][k], 1);
        return (tensor(ids, [rows.Count, longest], device: device), tensor(own, [rows.Count, longest], device: device));
    }
}

/// <summary>The writer with what it was given so far.</summary>
sealed class SequenceWriter(SequenceCore core, Tensor memory, Tensor? mask, int room) : ISequenceDecoder
{
    readonly KeyValueCache[] caches = [.. core.Decoder.Select(_ => new KeyValueCache(room))];
    readonly (Tensor, Tensor)[] read = [.. core.Decoder.Select(l => l.CrossAttn.KeysAndValues(memory))];
    int count;

    /// <summary>The likeliest answer of every image by beam search: what comes after the prompt, without the end.</summary>
    /// <param name="prompts">One for all images or one each, all of one length, of one token or more.</param>
    /// <param name="allowed">[vocabulary], 0 or negative infinity, added to what is said; or null.</param>
    internal static IReadOnlyList<GeneratedCaption> Search(SequenceCore core, Tensor memory, Tensor? mask, IReadOnlyList<int[]> prompts, int endId, SequenceOptions options, Tensor? allowed = null)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (images, length) = (memory.shape[0], prompts[0].Length);
        var room = core.Config.MaxSequenceTokens - length + 1;
        using var writer = core.Writer(memory, mask, length + options.Most(room) - 1);
        var start = writer.Lead(prompts, options.Beams);
        return SequenceSearch.Run(allowed is null ? writer : new Constrained(writer, allowed), start, (int)images, endId, room, options);
    }

    /// <summary>Gives the writer all of the prompts but their last token.</summary>
    /// <param name="prompts">One for all images or one each, all of one length.</param>
    /// <param name="beams">Rows of every image.</param>
    /// <returns>The last tokens: [images · beams, 1] int64.</returns>
    internal Tensor Lead(IReadOnlyList<int[]> prompts, int beams = 1)
    {
        using var scope = NewDisposeScope();
        var (images, length) = (memory.shape[0], prompts[0].Length);
        if ((prompts.Count != 1 && prompts.Count != images) || prompts.Any(p => p.Length != length)) throw new ArgumentException("The writer goes on from one prompt, or from one an image, all of one length.");
        var rows = tensor([.. prompts.SelectMany(static p => p.Select(static t => (long)t))], [prompts.Count, length], device: memory.device).repeat_interleave(images / prompts.Count * beams, 0);
        if (length > 1) Hidden(rows.narrow(1, 0, length - 1));
        return rows.narrow(1, length - 1, 1).contiguous().MoveToOuterDisposeScope();
    }

    public Tensor Next(Tensor ids)
    {
        using var scope = NewDisposeScope();
        return core.Head(Hidden(ids).squeeze(1)).MoveToOuterDisposeScope();
    }

    Tensor Hidden(Tensor ids)
    {
        var x = core.Enter(ids, count);
        for (var i = 0; i < caches.Length; i++) x = core.Decoder[i].Next(x, caches[i], read[i], mask);
        count += (int)ids.shape[1];
        return x;
    }

    public void Reorder(Tensor rows)
    {
        foreach (var cache in caches) cache.Reorder(rows);
    }

    public void Dispose()
    {
        foreach (var cache in caches) cache.Dispose();
    }

    /// <summary>The same with tokens ruled out; the writer stays another's.</summary>
    sealed class Constrained(SequenceWriter writer, Tensor allowed) : ISequenceDecoder
    {
        public Tensor Next(Tensor ids)
        {
            using var scope = NewDisposeScope();
            return writer.Next(ids).add(allowed).MoveToOuterDisposeScope();
        }

        public void Reorder(Tensor rows) => writer.Reorder(rows);

        public void Dispose() { }
    }
}
