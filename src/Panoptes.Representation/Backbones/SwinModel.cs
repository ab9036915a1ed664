using Panoptes.Nn;

namespace Panoptes.Representation;

// Swin (Liu et al. 2021, arXiv:2103.14030) with the keys and the config.json of Hugging Face's SwinModel and SwinForImageClassification.

/// <summary>The config ("swin").</summary>
public sealed record SwinConfig : ImageModelConfig
{
    public int ImageSize { get; init; } = 224;
    public int PatchSize { get; init; } = 4;

    /// <summary>The width of the first stage; every next one has twice that of the one before.</summary>
    public int EmbedDim { get; init; } = 96;
    public int[] Depths { get; init; } = [2, 2, 6, 2];
    public int[] NumHeads { get; init; } = [3, 6, 12, 24];
    public int WindowSize { get; init; } = 7;
    public double MlpRatio { get; init; } = 4;
    public bool QkvBias { get; init; } = true;

    /// <summary>The probability that a branch of the last block is left out in training; it rises evenly from 0 in the first.</summary>
    public double DropPathRate { get; init; } = 0.1;
    public bool UseAbsoluteEmbeddings { get; init; }
    public double LayerNormEps { get; init; } = 1e-5;

    /// <summary>Which stages a backbone gives: "stage1" and so on; null: the last.</summary>
    public string[]? OutFeatures { get; init; }

    /// <summary>The same by their numbers, where <see cref="OutFeatures"/> is not given.</summary>
    public int[]? OutIndices { get; init; }
    public string ModelType { get; init; } = "swin";
}

/// <summary>What follows from the sizes of windows and grids alone.</summary>
sealed class SwinWindows(int size) : IDisposable
{
    // Which row of the bias table belongs to two places of a window: [w² · w²].
    readonly SizeCache<int> indices = new(used =>
    {
        var at = new long[used * used * used * used];
        for (var (i, q) = (0, 0); q < used * used; q++)
            for (var k = 0; k < used * used; k++, i++)
                at[i] = (q / used - k / used + size - 1) * (2L * size - 1) + (q % used - k % used + size - 1);
        return tensor(at);
    });

    // What is added to the scores in a grid that was shifted, whose last windows hold what was far apart: [windows, 1, w², w²].
    readonly SizeCache<(int Rows, int Columns, int Window, int Shift)> masks = new(static g =>
    {
        var (rows, columns) = (Regions(g.Rows), Regions(g.Columns));
        var regions = (rows.view(-1, 1) * 3 + columns.view(1, -1)).view(1, g.Rows, g.Columns, 1);
        var windows = Partition(regions, g.Window).squeeze(-1);                                   // [windows, w²]
        return windows.unsqueeze(1).ne(windows.unsqueeze(2)).to(ScalarType.Float32).mul(-100).unsqueeze(1);

        Tensor Regions(int length)
        {
            var at = arange(length, dtype: ScalarType.Int64);
            return at.ge(length - g.Window).to(ScalarType.Int64) + at.ge(length - g.Shift).to(ScalarType.Int64);
        }
    });

    internal int Size => size;

    internal Tensor Index(int used) => indices.Get(used);

    internal Tensor Mask(int rows, int columns, int window, int shift) => masks.Get((rows, columns, window, shift));

    /// <summary>[b, rows, columns, channels] to [b · windows, window², channels].</summary>
    internal static Tensor Partition(Tensor x, int window)
    {
        var (rows, columns) = (x.shape[1] / window, x.shape[2] / window);
        return x.reshape(-1, rows, window, columns, window, x.shape[3]).transpose(2, 3).reshape(-1, window * window, x.shape[3]);
    }

    /// <summary>[b · windows, window², channels] back to [b, rows, columns, channels].</summary>
    internal static Tensor Reverse(Tensor windows, int window, long rows, long columns) =>
        windows.reshape(-1, rows / window, columns / window, window, window, windows.shape[2]).transpose(2, 3).reshape(-1, rows, columns, windows.shape[2]);

    public void Dispose()
    {
        indices.Dispose();
        masks.Dispose();
    }
}

/// <summary>
/// Attention inside windows, with a learned bias for every relative place. Keys: self.query, self.key, self.value,
/// self.relative_position_bias_table [(2 window - 1)², heads], output.dense.
/// </summary>
public sealed class SwinAttention : Module
{
    readonly SwinWindows windows;
    readonly int heads;

    internal SwinAttention(SwinConfig c, int width, int heads, SwinWindows windows)
    {
        (this.windows, this.heads) = (windows, heads);
        Query = new(Attention.Divisible(width, heads), width, c.QkvBias, c.Normal);
        Key = new(width, width, c.QkvBias, c.Normal);
        Value = new(width, width, c.QkvBias, c.Normal);
        RelativePositionBiasTable = new([(2L * c.WindowSize - 1) * (2L * c.WindowSize - 1), heads], Init.Zeros);
        Output = new(width, width, initializer: c.Normal);
    }

    [Key("self.query")]
    public Linear Query { get; }

    [Key("self.key")]
    public Linear Key { get; }

    [Key("self.value")]
    public Linear Value { get; }

    [Key("self.relative_position_bias_table")]
    public Parameter RelativePositionBiasTable { get; }

    [Key("output.dense")]
    public Linear Output { get; }

    /// <param name="x">[b · windows, window², width]</param>
    /// <param name="window">The side of a window.</param>
    /// <param name="mask">[windows, 1, window², window²], added to the scores; or null.</param>
    public Tensor Forward(Tensor x, int window, Tensor? mask)
    {
        using var scope = NewDisposeScope();
        var places = x.shape[1];
        var bias = RelativePositionBiasTable.Value.index_select(0, windows.Index(window).to(x.device)).view(places, places, heads).permute(2, 0, 1).unsqueeze(0);   // [1, heads, w², w²]
        var (q, k, v) = (Split(Query), Split(Key), Split(Value));                                 // [b · windows, heads, w², size]
        if (mask is null) return Output.Forward(Attention.MergeHeads(Attention.Apply(q, k, v, bias))).MoveToOuterDisposeScope();

        // Every window has a mask of its own, the same in each image: windows count as heads, so that it need not be repeated.
        var count = mask.shape[0];
        bias = (bias + mask.to(bias.dtype, bias.device)).reshape(1, -1, places, places);          // [1, windows · heads, w², w²]
        var seen = Attention.Apply(Together(q), Together(k), Together(v), bias);
        return Output.Forward(Attention.MergeHeads(seen.reshape(-1, heads, places, seen.shape[3]))).MoveToOuterDisposeScope();

        Tensor Split(Linear projection) => Attention.SplitHeads(projection.Forward(x), heads);

        Tensor Together(Tensor t) => t.reshape(-1, count * heads, places, t.shape[3]);
    }
}

/// <summary>
/// A block that attends inside windows, shifted by half a window in every second block. Keys: attention, layernorm_before, layernorm_after,
/// intermediate.dense, output.dense.
/// </summary>
public sealed class SwinLayer : Module
{
    readonly SwinWindows windows;
    readonly Activation activation;
    readonly bool shifted;

    internal SwinLayer(SwinConfig c, int width, int heads, bool shifted, SwinWindows windows)
    {
        (this.windows, this.shifted, activation) = (windows, shifted, c.HiddenAct);
        Attention = new(c, width, heads, windows);
        LayernormBefore = new(width, c.LayerNormEps);
        LayernormAfter = new(width, c.LayerNormEps);
        Intermediate = new(width, (int)(c.MlpRatio * width), initializer: c.Normal);
        Output = new((int)(c.MlpRatio * width), width, initializer: c.Normal);
    }

    public SwinAttention Attention { get; }

    public LayerNorm LayernormBefore { get; }

    public LayerNorm LayernormAfter { get; }

    [Key("intermediate.dense")]
    public Linear Intermediate { get; }

    [Key("output.dense")]
    public Linear Output { get; }

    /// <param name="x">[b, rows · columns, width]</param>
    /// <param name="rows">Of the grid.</param>
    /// <param name="columns">Of the grid.</param>
    /// <param name="kept">[2, b] of <see cref="StochasticDepth"/>, or null. (The peer leaves only attention out; the paper's code both branches.)</param>
    /// <param name="wholeWindows">Whether windows keep their size and shift in a grid that fits into one, which is filled up then, as backbones do.</param>
    public Tensor Forward(Tensor x, int rows, int columns, Tensor? kept = null, bool wholeWindows = false)
    {
        using var scope = NewDisposeScope();
        x = x + StochasticDepth.Apply(Attend(LayernormBefore.Forward(x), rows, columns, wholeWindows), kept, 0);
        var mlp = Mlp.Apply(Intermediate, Output, activation, LayernormAfter.Forward(x));
        return (x + StochasticDepth.Apply(mlp, kept, 1)).MoveToOuterDisposeScope();
    }

    Tensor Attend(Tensor x, int rows, int columns, bool wholeWindows)
    {
        // A grid that fits into one window is not shifted.
        var window = wholeWindows ? windows.Size : Math.Min(windows.Size, Math.Min(rows, columns));
        var shift = shifted && (wholeWindows || (window == windows.Size && window < Math.Min(rows, columns))) ? window / 2 : 0;
        var (down, right) = ((window - rows % window) % window, (window - columns % window) % window);
        var grid = x.unflatten(1, [rows, columns]);
        if (down + right > 0) grid = nn.functional.pad(grid, [0, 0, 0, right, 0, down]);
        if (shift > 0) grid = grid.roll([-shift, -shift], [1, 2]);
        var mask = shift > 0 ? windows.Mask(rows + down, columns + right, window, shift) : null;
        var seen = SwinWindows.Reverse(Attention.Forward(SwinWindows.Partition(grid, window), window, mask), window, rows + down, columns + right);
        if (shift > 0) seen = seen.roll([shift, shift], [1, 2]);
        return seen.narrow(1, 0, rows).narrow(2, 0, columns).flatten(1, 2);
    }
}

/// <summary>Four neighbors side by side, normalized and halved in width. Keys: norm, reduction.</summary>
public sealed class SwinPatchMerging(SwinConfig c, int width) : Module
{
    public LayerNorm Norm { get; } = new(4 * width);

    public Linear Reduction { get; } = new(4 * width, 2 * width, bias: false, c.Normal);

    /// <param name="x">[b, rows · columns, width]</param>
    /// <returns>[b, ⌈rows / 2⌉ · ⌈columns / 2⌉, 2 width]</returns>
    public Tensor Forward(Tensor x, int rows, int columns)
    {
        using var scope = NewDisposeScope();
        var grid = x.unflatten(1, [rows, columns]);
        if (rows % 2 + columns % 2 > 0) grid = nn.functional.pad(grid, [0, 0, 0, columns % 2, 0, rows % 2]);
        var fours = grid.reshape(-1, (rows + 1) / 2, 2, (columns + 1) / 2, 2, width).permute(0, 1, 3, 4, 2, 5).flatten(3).flatten(1, 2);   // column by column
        return Reduction.Forward(Norm.Forward(fours)).MoveToOuterDisposeScope();
    }
}

/// <summary>Blocks over one grid, then merging. Keys: blocks.N, downsample.</summary>
public sealed class SwinStage : Module
{
    internal SwinStage(SwinConfig c, int stage, SwinWindows windows)
    {
        var width = c.EmbedDim << stage;
        Blocks = new(c.Depths[stage], i => new SwinLayer(c, width, c.NumHeads[stage], i % 2 == 1, windows));
        Downsample = stage < c.Depths.Length - 1 ? new(c, width) : null;
    }

    public ModuleList<SwinLayer> Blocks { get; }

    public SwinPatchMerging? Downsample { get; }

    /// <param name="x">[b, rows · columns, width]</param>
    /// <param name="rows">Of the grid.</param>
    /// <param name="columns">Of the grid.</param>
    /// <param name="kept">[blocks, 2, b] of <see cref="StochasticDepth"/>, or null.</param>
    public Tensor Forward(Tensor x, int rows, int columns, Tensor? kept)
    {
        using var scope = NewDisposeScope();
        x = RunBlocks(x, rows, columns, kept);
        return (Downsample?.Forward(x, rows, columns) ?? x).MoveToOuterDisposeScope();
    }

    /// <summary>The blocks alone.</summary>
    internal Tensor RunBlocks(Tensor x, int rows, int columns, Tensor? kept, bool wholeWindows = false) =>
        BlockStack.Forward(Blocks, x, (layer, x, kept, _) => layer.Forward(x, rows, columns, kept, wholeWindows), kept, checkpointed: ActivationsCheckpointed);
}

/// <summary>Small patches, normalized. Keys: patch_embeddings.projection, norm, position_embeddings.</summary>
public sealed class SwinEmbeddings(SwinConfig c) : Module
{
    readonly int side = c.ImageSize / c.PatchSize;

    [Key("patch_embeddings.projection")]
    public PatchEmbedding PatchEmbeddings { get; } = new(c.NumChannels, c.EmbedDim, c.PatchSize, bias: true, c.Normal);

    public LayerNorm Norm { get; } = new(c.EmbedDim);

    public Parameter? PositionEmbeddings { get; } = c.UseAbsoluteEmbeddings ? new([1, c.ImageSize / c.PatchSize * (c.ImageSize / c.PatchSize), c.EmbedDim], Init.Zeros) : null;

    /// <param name="pixels">[b, channels, height, width]; what does not fill a patch is filled with zeros.</param>
    /// <returns>[b, rows · columns, width]</returns>
    public Tensor Forward(Tensor pixels, int rows, int columns)
    {
        using var scope = NewDisposeScope();
        var (down, right) = (rows * c.PatchSize - pixels.shape[2], columns * c.PatchSize - pixels.shape[3]);
        if (down + right > 0) pixels = nn.functional.pad(pixels, (0, right, 0, down));
        var x = Norm.Forward(PatchEmbeddings.Forward(pixels));
        if (PositionEmbeddings is null) return x.MoveToOuterDisposeScope();
        var positions = rows == side && columns == side ? PositionEmbeddings.Value[0] : Positions.ResizeBicubic(PositionEmbeddings.Value[0], side, side, rows, columns);
        return x.add(positions).MoveToOuterDisposeScope();
    }
}

/// <summary>The stages. Keys: layers.N.</summary>
public sealed class SwinEncoder : Module
{
    internal SwinEncoder(SwinConfig c, SwinWindows windows) => Layers = new(c.Depths.Length, i => new SwinStage(c, i, windows));

    public ModuleList<SwinStage> Layers { get; }
}

/// <summary>
/// Swin. Keys: embeddings, encoder.layers.N, layernorm. Images of any size; the pooled feature is the mean of the last grid after the norm.
/// </summary>
public sealed class SwinModel : Module, IImageTower, IStochasticDepth
{
    readonly SwinWindows windows;

    public SwinModel(SwinConfig config)
    {
        Check(config);
        Config = config;
        windows = new(config.WindowSize);
        Embeddings = new(config);
        Encoder = new(config, windows);
        Layernorm = new(EmbeddingSize, config.LayerNormEps);
        DropPath = StochasticDepth.Check(config.DropPathRate);
    }

    public SwinConfig Config { get; }

    public SwinEmbeddings Embeddings { get; }

    public SwinEncoder Encoder { get; }

    public LayerNorm Layernorm { get; }

    public int ImageSize => Config.ImageSize;

    public int EmbeddingSize => Config.EmbedDim << (Config.Depths.Length - 1);

    public double DropPath { get; set; }

    public Generator? Random { get; set; }

    public LayerGroups LayerGroups => LayerGroups.Of([Embeddings], Encoder.Layers, [Layernorm], []);

    public Tensor EmbedTokens(Tensor tokens) => tokens.alias();

    /// <summary>The grid after so many stages (0: of the patches).</summary>
    public (int Rows, int Columns) Grid(long height, long width, int stages) => Grid(Config, height, width, stages);

    internal static (int Rows, int Columns) Grid(SwinConfig c, long height, long width, int stages)
    {
        var (rows, columns) = ((int)(height + c.PatchSize - 1) / c.PatchSize, (int)(width + c.PatchSize - 1) / c.PatchSize);
        for (var i = 0; i < Math.Min(stages, c.Depths.Length - 1); i++) (rows, columns) = ((rows + 1) / 2, (columns + 1) / 2);
        return (rows, columns);
    }

    internal static void Check(SwinConfig c)
    {
        if (c.Depths.Length is 0 or > 8 || c.NumHeads.Length != c.Depths.Length)
            throw new PanoptesException($"depths has {c.Depths.Length} stages and num_heads {c.NumHeads.Length}; expected as many, 1 to 8.");
    }

    public Tensor Encode(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        return Layernorm.Forward(Stages(pixels, null)).mean([1]).MoveToOuterDisposeScope();
    }

    /// <summary>The hidden states are the patches and every stage's output after its merging, each [b, rows · columns, width] of <see cref="Grid(long, long, int)"/>.</summary>
    public TowerOutput Forward(Tensor pixels, bool hiddenStates = false)
    {
        using var scope = NewDisposeScope();
        var states = hiddenStates ? new List<Tensor>() : null;
        var tokens = Layernorm.Forward(Stages(pixels, states));
        var pooled = tokens.mean([1]);
        TowerOutput.Keep(tokens, pooled, states);
        return new(tokens, pooled, pooled, states);
    }

    Tensor Stages(Tensor pixels, List<Tensor>? states)
    {
        var (rows, columns) = Grid(pixels.shape[2], pixels.shape[3], 0);
        var x = Embeddings.Forward(pixels, rows, columns);
        var kept = Training ? StochasticDepth.Draw(StochasticDepth.Rising(DropPath, Config.Depths.Sum()), 2, x, Random) : null;
        states?.Add(x);
        for (var (i, block) = (0, 0); i < Encoder.Layers.Count; block += Config.Depths[i], i++)
        {
            var before = x;
            x = Encoder.Layers[i].Forward(x, rows, columns, kept?.narrow(0, block, Config.Depths[i]));
            (rows, columns) = Grid(pixels.shape[2], pixels.shape[3], i + 1);
            if (states is not null) states.Add(x);
            else before.Dispose();                                                                // the gradient keeps its own reference
        }
        return x;
    }

    protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        if (disposing) windows.Dispose();
    }
}

/// <summary>A norm for each stage that a backbone gives. Keys: stageN.</summary>
public sealed class SwinStageNorms : Module
{
    readonly (int Stage, LayerNorm Norm)[] norms;

    internal SwinStageNorms(SwinConfig c, IEnumerable<int> stages) => norms = [.. stages.Select(s => (s, new LayerNorm(c.EmbedDim << (s - 1))))];

    protected override IEnumerable<(string Key, object? Child)> Children() => norms.Select(static n => (FormattableString.Invariant($"stage{n.Stage}"), (object?)n.Norm));

    /// <summary>The stages, from 1.</summary>
    public IReadOnlyList<int> Stages => [.. norms.Select(static n => n.Stage)];

    internal LayerNorm? Of(int stage) => norms.FirstOrDefault(n => n.Stage == stage).Norm;
}

/// <summary>
/// Swin as what detectors and segmenters stand on (Hugging Face's SwinBackbone): the grids of some stages before they are merged, normalized.
/// Keys: embeddings, encoder.layers.N, hidden_states_norms.stageN. Images of any size.
/// </summary>
public sealed class SwinBackbone : Module
{
    readonly SwinWindows windows;

    /// <exception cref="PanoptesException">Stages that there are not.</exception>
    public SwinBackbone(SwinConfig config)
    {
        SwinModel.Check(config);
        Config = config;
        windows = new(config.WindowSize);
        Embeddings = new(config);
        Encoder = new(config, windows);
        var all = Enumerable.Range(1, config.Depths.Length).ToArray();
        var stages = config.OutFeatures is { } names ? [.. names.Select(n => Array.Find(all, i => n == FormattableString.Invariant($"stage{i}")))] : config.OutIndices ?? [all[^1]];
        if (stages.Length == 0 || stages.Any(s => !all.Contains(s)) || stages.Zip(stages.Skip(1)).Any(static p => p.First >= p.Second))
            throw new PanoptesException($"out_features is [{string.Join(", ", config.OutFeatures ?? [])}] and out_indices [{string.Join(", ", config.OutIndices ?? [])}]; expected stages from 1 to {all.Length} in order.");
        HiddenStatesNorms = new(config, stages);
        DropPath = StochasticDepth.Check(config.DropPathRate);
    }

    public SwinConfig Config { get; }

    public SwinEmbeddings Embeddings { get; }

    public SwinEncoder Encoder { get; }

    public SwinStageNorms HiddenStatesNorms { get; }

    /// <summary>How wide each of the maps is.</summary>
    public IReadOnlyList<int> Channels => [.. HiddenStatesNorms.Stages.Select(s => Config.EmbedDim << (s - 1))];

    /// <summary>The probability that a branch of the last block is left out in training.</summary>
    public double DropPath { get; set; }

    /// <summary>What decides which; null: libtorch's own.</summary>
    public Generator? Random { get; set; }

    /// <param name="pixels">[b, channels, height, width]</param>
    /// <returns>[b, channels, rows, columns] of each stage asked for, the largest first</returns>
    public IReadOnlyList<Tensor> Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var (rows, columns) = SwinModel.Grid(Config, pixels.shape[2], pixels.shape[3], 0);
        var x = Embeddings.Forward(pixels, rows, columns);
        var kept = Training ? StochasticDepth.Draw(StochasticDepth.Rising(DropPath, Config.Depths.Sum()), 2, x, Random) : null;
        var maps = new List<Tensor>();
        for (var (i, block) = (0, 0); i < Encoder.Layers.Count; block += Config.Depths[i], i++)
        {
            var stage = Encoder.Layers[i];
            x = stage.RunBlocks(x, rows, columns, kept?.narrow(0, block, Config.Depths[i]), wholeWindows: true);
            if (HiddenStatesNorms.Of(i + 1) is { } norm) maps.Add(norm.Forward(x).transpose(1, 2).unflatten(2, [rows, columns]).contiguous().MoveToOuterDisposeScope());
            if (stage.Downsample is { } merge) x = merge.Forward(x, rows, columns);
            (rows, columns) = SwinModel.Grid(Config, pixels.shape[2], pixels.shape[3], i + 1);
        }
        return maps;
    }

    protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        if (disposing) windows.Dispose();
    }
}

/// <summary>Swin with a classifier on its pooled feature. Keys: swin, classifier.</summary>
public sealed class SwinForImageClassification(SwinConfig config) : ImageClassifier(config.EmbedDim << (config.Depths.Length - 1), config)
{
    public SwinModel Swin { get; } = new(config);

    public override IImageTower Tower => Swin;
}
