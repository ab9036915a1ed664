using Panoptes.Nn;

namespace Panoptes.Representation;

// ImageBind (Girdhar et al. 2023, arXiv:2305.05665) with the keys of its public checkpoint (facebookresearch/ImageBind, imagebind_huge):
// six towers of one design (tokens, blocks, a head) whose embeddings meet in the images' space.

/// <summary>A kind of input.</summary>
public enum Modality
{
    /// <summary>Images [b, 3, height, width] or, as two frames or more each, [b, 3, frames, height, width].</summary>
    Vision,

    /// <summary>Token ids [b, tokens] int64; the largest id is the one that is pooled.</summary>
    Text,

    /// <summary>Log-mel spectrograms [b, 1, mel bands, frames], or clips of a sound [b, clips, 1, mel bands, frames] (<see cref="Panoptes.Audio.SpectrogramProcessor"/>).</summary>
    Audio,

    /// <summary>Disparities [b, 1, height, width].</summary>
    Depth,

    /// <summary>Infrared images [b, 1, height, width].</summary>
    Thermal,

    /// <summary>What accelerometers and gyroscopes measure: [b, 6, samples].</summary>
    Imu,
}

/// <summary>The sizes, under the names of the peer's constructor; the defaults are those of imagebind_huge, whose file has no config.</summary>
public sealed record ImageBindConfig : ModelConfig
{
    public int VideoFrames { get; init; } = 2;

    /// <summary>Frames, height and width of a patch of a video.</summary>
    public int[] KernelSize { get; init; } = [2, 14, 14];
    public int AudioKernelSize { get; init; } = 16;
    public int AudioStride { get; init; } = 10;
    public int OutEmbedDim { get; init; } = 1024;
    public int VisionEmbedDim { get; init; } = 1280;
    public int VisionNumBlocks { get; init; } = 32;
    public int VisionNumHeads { get; init; } = 16;
    public int AudioEmbedDim { get; init; } = 768;
    public int AudioNumBlocks { get; init; } = 12;
    public int AudioNumHeads { get; init; } = 12;
    public int AudioNumMelBins { get; init; } = 128;
    public int AudioTargetLen { get; init; } = 204;

    /// <summary>The probability that a branch of the last block is left out in training; it rises evenly from 0 in the first.</summary>
    public double AudioDropPath { get; init; } = 0.1;
    public int TextEmbedDim { get; init; } = 1024;
    public int TextNumBlocks { get; init; } = 24;
    public int TextNumHeads { get; init; } = 16;
    public int DepthEmbedDim { get; init; } = 384;
    public int DepthKernelSize { get; init; } = 16;
    public int DepthNumBlocks { get; init; } = 12;
    public int DepthNumHeads { get; init; } = 8;
    public double DepthDropPath { get; init; }
    public int ThermalEmbedDim { get; init; } = 768;
    public int ThermalKernelSize { get; init; } = 16;
    public int ThermalNumBlocks { get; init; } = 12;
    public int ThermalNumHeads { get; init; } = 12;
    public double ThermalDropPath { get; init; }
    public int ImuEmbedDim { get; init; } = 512;
    public int ImuKernelSize { get; init; } = 8;
    public int ImuNumBlocks { get; init; } = 6;
    public int ImuNumHeads { get; init; } = 8;
    public double ImuDropPath { get; init; } = 0.7;

    // What the peer's code has as plain numbers.
    public int ImageSize { get; init; } = 224;
    public int VocabSize { get; init; } = 49408;
    public int ContextLength { get; init; } = 77;
    public int ImuLength { get; init; } = 2000;

    /// <summary>What makes spectrograms of sounds for the audio tower.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public Audio.SpectrogramProcessor Sounds => new() { Filters = new() { Bands = AudioNumMelBins }, TargetLength = AudioTargetLen };
    public string[] Architectures { get; init; } = ["ImageBindModel"];
}

/// <summary>An input as tokens.</summary>
public abstract class ImageBindInput : Module
{
    /// <returns>[b, tokens, width], with positions</returns>
    public abstract Tensor Forward(Tensor input);
}

/// <summary>Cuts an input into pieces and projects each.</summary>
public abstract class ImageBindStem : Module
{
    /// <returns>[b, pieces, width]</returns>
    public abstract Tensor Forward(Tensor input);
}

/// <summary>Patches of a video. Keys: proj.1.weight [width, 3, frames, height, width].</summary>
public sealed class ImageBindVideoStem(int width, int[] kernel) : ImageBindStem
{
    [Key("proj.1.weight")]
    public Parameter Weight { get; } = new([width, 3, kernel[0], kernel[1], kernel[2]], Init.Uniform(1 / Math.Sqrt(3.0 * kernel[0] * kernel[1] * kernel[2])));

    public override Tensor Forward(Tensor input)
    {
        using var scope = NewDisposeScope();
        var weight = Weight.Value;
        var video = input.dim() == 4 ? input.unsqueeze(2) : input;                                 // [b, 3, frames, height, width]
        // An image counts as two frames: where one patch holds both, their weights are added up instead.
        if (video.shape[2] == 1 && kernel[0] == 2) weight = weight.sum(2, keepdim: true);
        else if (video.shape[2] == 1) video = video.expand(-1, -1, 2, -1, -1);
        var (frames, height, breadth) = (weight.shape[2], weight.shape[3], weight.shape[4]);
        var (times, rows, columns) = (video.shape[2] / frames, video.shape[3] / height, video.shape[4] / breadth);
        var patches = video.narrow(2, 0, times * frames).narrow(3, 0, rows * height).narrow(4, 0, columns * breadth)
            .reshape(-1, 3, times, frames, rows, height, columns, breadth).permute(0, 2, 4, 6, 1, 3, 5, 7)
            .reshape(-1, times * rows * columns, 3 * frames * height * breadth);
        return Native.TorchOps.Linear(patches.to(weight.dtype), weight.flatten(1), null).MoveToOuterDisposeScope();
    }
}

/// <summary>Patches side by side. Keys: proj, norm_layer.</summary>
public sealed class ImageBindPatchStem(int width, int kernel) : ImageBindStem
{
    public PatchEmbedding Proj { get; } = new(1, width, kernel);

    public LayerNorm NormLayer { get; } = new(width);

    public override Tensor Forward(Tensor input)
    {
        using var scope = NewDisposeScope();
        return NormLayer.Forward(Proj.Forward(input)).MoveToOuterDisposeScope();
    }
}

/// <summary>Patches that overlap, of a spectrogram. Keys: proj, norm_layer.</summary>
public sealed class ImageBindAudioStem(int width, int kernel, int stride) : ImageBindStem
{
    public Conv2d Proj { get; } = new(1, width, kernel, stride, bias: false);

    public LayerNorm NormLayer { get; } = new(width);

    public override Tensor Forward(Tensor input)
    {
        using var scope = NewDisposeScope();
        return NormLayer.Forward(Proj.Forward(input.to(Proj.Weight.Value.dtype)).flatten(2).transpose(1, 2)).MoveToOuterDisposeScope();
    }
}

/// <summary>Pieces of a series of measurements, each channel by channel. Keys: proj, norm_layer.</summary>
public sealed class ImageBindSeriesStem(int width, int kernel) : ImageBindStem
{
    public Linear Proj { get; } = new(6 * kernel, width, bias: false);

    public LayerNorm NormLayer { get; } = new(width);

    public override Tensor Forward(Tensor input)
    {
        using var scope = NewDisposeScope();
        var pieces = input.shape[2] / kernel;
        var series = input.narrow(2, 0, pieces * kernel).reshape(-1, 6, pieces, kernel).transpose(1, 2).flatten(2);
        return NormLayer.Forward(Proj.Forward(series.to(Proj.Weight.Value.dtype))).MoveToOuterDisposeScope();
    }
}

/// <summary>The table of positions of a grid. Key: pos_embed [1, 1 + places, width].</summary>
public sealed class ImageBindPositions(int places, int width) : Module
{
    public Parameter PosEmbed { get; } = new([1, 1 + places, width], Init.Normal(1 / Math.Sqrt(width)));
}

/// <summary>A class token before the patches of an image, a video or a spectrogram. Keys: cls_token, rgbt_stem or depth_stem, pos_embedding_helper.</summary>
/// <param name="stem">Cuts the patches.</param>
/// <param name="isDepth">Whether the stem's key is depth_stem.</param>
/// <param name="grid">Patches in time, in height and in width.</param>
/// <param name="width">Of a token.</param>
public sealed class ImageBindGridInput(ImageBindStem stem, bool isDepth, (int Times, int Rows, int Columns) grid, int width) : ImageBindInput
{
    public Parameter ClsToken { get; } = new([1, 1, width], Init.Normal(1 / Math.Sqrt(width)));

    public ImageBindStem? RgbtStem { get; } = isDepth ? null : stem;

    public ImageBindStem? DepthStem { get; } = isDepth ? stem : null;

    public ImageBindPositions PosEmbeddingHelper { get; } = new(grid.Times * grid.Rows * grid.Columns, width);

    public override Tensor Forward(Tensor input)
    {
        using var scope = NewDisposeScope();
        var patches = stem.Forward(input);
        var positions = PosEmbeddingHelper.PosEmbed.Value;
        var (count, side) = (patches.shape[1], (int)Math.Sqrt(patches.shape[1]));
        if (count != grid.Times * grid.Rows * grid.Columns)
        {
            if (grid.Rows != grid.Columns || side * side != count)
                throw new PanoptesException($"An input of {count} patches was given to a tower for {grid.Times * grid.Rows * grid.Columns}; expected as many, or both square.");
            // Of a video's positions, those of the first frames are the image's.
            var first = positions[0].narrow(0, 1, grid.Rows * grid.Columns);
            if (side != grid.Rows) first = Positions.ResizeBicubic(first, grid.Rows, grid.Columns, side, side);
            positions = cat([positions.narrow(1, 0, 1), first.unsqueeze(0)], 1);
        }
        return cat([ClsToken.Value.expand(patches.shape[0], 1, -1), patches], 1).add(positions).MoveToOuterDisposeScope();
    }
}

/// <summary>A class token before the pieces of a series. Keys: pos_embed [1, 1 + pieces, width], cls_token, imu_stem.</summary>
public sealed class ImageBindSeriesInput(int pieces, int kernel, int width) : ImageBindInput
{
    public Parameter PosEmbed { get; } = new([1, 1 + pieces, width], Init.Normal(1 / Math.Sqrt(width)));

    public Parameter ClsToken { get; } = new([1, 1, width], Init.Normal(1 / Math.Sqrt(width)));

    public ImageBindSeriesStem ImuStem { get; } = new(width, kernel);

    public override Tensor Forward(Tensor input)
    {
        if (input.shape[2] / kernel != pieces) throw new PanoptesException($"A series of {input.shape[2]} samples was given to a tower for {pieces * kernel}.");
        using var scope = NewDisposeScope();
        var tokens = ImuStem.Forward(input);
        return cat([ClsToken.Value.expand(tokens.shape[0], 1, -1), tokens], 1).add(PosEmbed.Value).MoveToOuterDisposeScope();
    }
}

/// <summary>Words and their places. Keys: pos_embed [1, context, width], mask [context, context] (the causal mask, which is not looked at), token_embedding.</summary>
public sealed class ImageBindTextInput(int context, int vocabulary, int width) : ImageBindInput
{
    public Parameter PosEmbed { get; } = new([1, context, width], Init.Normal(0.01));

    public Parameter Mask { get; } = new([context, context], static (t, _) => t.fill_(float.NegativeInfinity).triu_(1)) { Trainable = false };

    public Embedding TokenEmbedding { get; } = new(vocabulary, width, Init.Normal(0.02));

    public override Tensor Forward(Tensor input)
    {
        if (input.shape[1] > context) throw new PanoptesException($"A text of {input.shape[1]} tokens was given to a model whose texts have at most {context}.");
        using var scope = NewDisposeScope();
        return TokenEmbedding.Forward(input).add(PosEmbed.Value.narrow(1, 0, input.shape[1])).MoveToOuterDisposeScope();
    }
}

/// <summary>Keys: attn, norm_1, mlp, norm_2.</summary>
public sealed class ImageBindBlock(int width, int heads, bool learnedKey) : Module
{
    public FusedAttention Attn { get; } = new(width, heads, Init.XavierUniform, Init.XavierUniform, learnedKey);

    [Key("norm_1")]
    public LayerNorm Norm1 { get; } = new(width, 1e-6);

    public Mlp Mlp { get; } = new(width, 4 * width, Activation.Gelu, Init.XavierUniform, Init.XavierUniform);

    [Key("norm_2")]
    public LayerNorm Norm2 { get; } = new(width, 1e-6);

    /// <param name="x">[b, tokens, width]</param>
    /// <param name="causal">Whether a token sees only itself and those before it.</param>
    /// <param name="kept">[2, b] of <see cref="StochasticDepth"/>, or null.</param>
    /// <param name="at">[b] int64: only this token's output is computed, [b, 1, width]; null: all.</param>
    public Tensor Forward(Tensor x, bool causal, Tensor? kept = null, Tensor? at = null)
    {
        using var scope = NewDisposeScope();
        var all = Norm1.Forward(x);
        var attended = at is null ? Attn.Forward(all, causal: causal)
            : Attn.Forward(all, causal ? Encoder.SeenFrom(at, x.shape[1], null) : null, queries: Encoder.TokenAt(all, at));
        x = (at is null ? x : Encoder.TokenAt(x, at)) + StochasticDepth.Apply(attended, kept, 0);
        return (x + StochasticDepth.Apply(Mlp.Forward(Norm2.Forward(x)), kept, 1)).MoveToOuterDisposeScope();
    }
}

/// <summary>
/// The blocks of a tower. Keys: pre_transformer_layer.0 (a norm, of images only), blocks.N. Branches are left out for some samples, as stochastic
/// depth is meant; the peer's code, where tokens come before samples, leaves them out for some tokens of all samples.
/// </summary>
public sealed class ImageBindTrunk(int width, int blocks, int heads, bool firstNorm, bool learnedKey, bool causal, double dropPath) : Module, IStochasticDepth
{
    [Key("pre_transformer_layer.0")]
    public LayerNorm? FirstNorm { get; } = firstNorm ? new(width, 1e-6) : null;

    public ModuleList<ImageBindBlock> Blocks { get; } = new(blocks, _ => new ImageBindBlock(width, heads, learnedKey));

    public double DropPath { get; set; } = StochasticDepth.Check(dropPath);

    public Generator? Random { get; set; }

    /// <param name="tokens">[b, tokens, width]</param>
    /// <param name="at">[b] int64: of the last block only this token's output is computed, [b, 1, width]; null: all.</param>
    public Tensor Forward(Tensor tokens, Tensor? at = null)
    {
        using var scope = NewDisposeScope();
        var x = FirstNorm?.Forward(tokens) ?? tokens.alias();
        var drawn = Training ? StochasticDepth.Draw(StochasticDepth.Rising(DropPath, Blocks.Count), 2, x, Random) : null;
        for (var i = 0; i < Blocks.Count; i++)
        {
            var (block, before, kept, one) = (Blocks[i], x, drawn?[i], i == Blocks.Count - 1 ? at : null);
            x = ActivationsCheckpointed ? ActivationCheckpoint.Run(block, (x, kept, one) => block.Forward(x, causal, kept, one), x, kept, one) : block.Forward(x, causal, kept, one);
            before.Dispose();
        }
        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>A norm and a projection, under keys that differ from tower to tower.</summary>
public sealed class ImageBindHead(int width, int embedding, string normKey, string linearKey, double dropout) : Module
{
    public LayerNorm Norm { get; } = new(width, 1e-6);

    public Linear Linear { get; } = new(width, embedding, bias: false);

    /// <summary>Draws what is dropped in training; null: libtorch's own generator.</summary>
    public Generator? Random { get; set; }

    /// <param name="token">[..., width], normalized</param>
    /// <returns>[..., embedding]</returns>
    public Tensor Project(Tensor token) => Training && dropout > 0 ? Dropped(token) : Linear.Forward(token);

    Tensor Dropped(Tensor token)
    {
        using var scope = NewDisposeScope();
        var kept = rand(token.shape, generator: Random).ge(dropout).to(token.device).to(token.dtype);
        return Linear.Forward(token * kept / (1 - dropout)).MoveToOuterDisposeScope();
    }

    protected override IEnumerable<(string Key, object? Child)> Children() => [(normKey, Norm), (linearKey, Linear)];
}

/// <summary>What normalized embeddings are multiplied by, at most 100. Key: 1.log_logit_scale.</summary>
public sealed class ImageBindScale(double initial, bool learned) : Module
{
    [Key("1.log_logit_scale")]
    public Parameter LogLogitScale { get; } = new([], Init.Constant(Math.Log(initial))) { Trainable = learned };
}

/// <summary>One of the towers. In the checkpoint its parts stand below modality_preprocessors, modality_trunks and modality_heads.</summary>
public class ImageBindTower(Modality modality, ImageBindInput input, ImageBindTrunk trunk, ImageBindHead head, int embeddingSize) : Module, ITower
{
    public Modality Modality => modality;

    public ImageBindInput Input { get; } = input;

    public ImageBindTrunk Trunk { get; } = trunk;

    public ImageBindHead Head { get; } = head;

    public int EmbeddingSize => embeddingSize;

    public int PooledSize => (int)Head.Norm.Weight.ElementCount;

    public int TokenSize => PooledSize;

    public Tensor EmbedTokens(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return Head.Project(Head.Norm.Forward(tokens)).MoveToOuterDisposeScope();
    }

    /// <summary>Draws what is left out in training; null: libtorch's own generator.</summary>
    public Generator? Random
    {
        get => Trunk.Random;
        set => Trunk.Random = Head.Random = value;
    }

    public LayerGroups LayerGroups => LayerGroups.Of([Input, Trunk.FirstNorm], Trunk.Blocks, [], [Head]);

    /// <param name="input">As <see cref="Representation.Modality"/> says.</param>
    /// <returns>[b, embedding], not normalized</returns>
    public Tensor Encode(Tensor input)
    {
        using var scope = NewDisposeScope();
        var at = PooledAt(input);
        if (modality == Modality.Text) input = input.narrow(1, 0, at.max().item<long>() + 1);         // what follows the pooled tokens cannot change them
        var token = Trunk.Forward(Input.Forward(input), at).squeeze(1);
        return Head.Project(Head.Norm.Forward(token)).MoveToOuterDisposeScope();
    }

    /// <summary>All tokens after the blocks, too.</summary>
    /// <param name="input">As <see cref="Representation.Modality"/> says.</param>
    /// <param name="hiddenStates">Not kept here.</param>
    public TowerOutput Forward(Tensor input, bool hiddenStates = false)
    {
        if (hiddenStates) throw new PanoptesException("The states between the layers are kept for Hugging Face's models only.");
        using var scope = NewDisposeScope();
        var tokens = Trunk.Forward(Input.Forward(input));
        var pooled = Head.Norm.Forward(Encoder.TokenAt(tokens, PooledAt(input)).squeeze(1));
        return new(tokens.MoveToOuterDisposeScope(), pooled.MoveToOuterDisposeScope(), Head.Project(pooled).MoveToOuterDisposeScope());
    }

    /// <summary>The token that is pooled: the class token, of a text the largest id.</summary>
    Tensor PooledAt(Tensor input) => modality == Modality.Text ? input.argmax(-1) : zeros(input.shape[0], dtype: ScalarType.Int64, device: input.device);
}

/// <summary>The tower of images and videos.</summary>
public sealed class ImageBindVision(ImageBindConfig c, ImageBindInput input, ImageBindTrunk trunk, ImageBindHead head)
    : ImageBindTower(Modality.Vision, input, trunk, head, c.OutEmbedDim), IImageTower
{
    public int ImageSize => c.ImageSize;

    public int PrefixTokens => 1;
}

/// <summary>The tower of texts.</summary>
public sealed class ImageBindText(ImageBindConfig c, ImageBindInput input, ImageBindTrunk trunk, ImageBindHead head)
    : ImageBindTower(Modality.Text, input, trunk, head, c.OutEmbedDim), ITextTower
{
    public int ContextLength => c.ContextLength;

    public int VocabularySize => c.VocabSize;

    /// <param name="inputIds">[b, tokens] int64</param>
    /// <param name="attentionMask">Not looked at: what follows the pooled token cannot change it.</param>
    public Tensor Encode(Tensor inputIds, Tensor? attentionMask) => Encode(inputIds);

    public TowerOutput Forward(Tensor inputIds, Tensor? attentionMask, bool hiddenStates) => Forward(inputIds, hiddenStates);
}

/// <summary>Towers by their modality, with what they are compared by. Keys: modality_preprocessors, modality_trunks, modality_heads and modality_postprocessors, each with the modalities below.</summary>
sealed class ImageBindTowers
{
    readonly Modality[] modalities;
    readonly Dictionary<Modality, ImageBindTower> towers = [];
    readonly Dictionary<Modality, ImageBindScale> scales = [];

    public ImageBindTowers(ImageBindConfig c, IEnumerable<Modality> modalities)
    {
        this.modalities = [.. modalities];
        foreach (var modality in this.modalities)
        {
            towers[modality] = Build(c, modality);
            if (modality != Modality.Vision) scales[modality] = ScaleOf(modality);
        }
    }

    public IReadOnlyList<Modality> Modalities => modalities;

    /// <exception cref="PanoptesException">There is no such tower.</exception>
    public ImageBindTower this[Modality modality] => towers.GetValueOrDefault(modality)
        ?? throw new PanoptesException($"The model has no tower for {modality.ToString().ToLowerInvariant()}, but for {string.Join(", ", modalities).ToLowerInvariant()}.");

    /// <summary>The logarithm of what the modality's normalized embeddings are multiplied by; images have none.</summary>
    public Parameter LogScale(Modality modality) => scales[modality].LogLogitScale;

    public Tensor Scale(Modality modality)
    {
        using var scope = NewDisposeScope();
        return (modality == Modality.Vision ? ones([]) : LogScale(modality).Value.exp().clamp(max: 100)).MoveToOuterDisposeScope();
    }

    public Tensor Embed(Modality modality, Tensor input)
    {
        using var scope = NewDisposeScope();
        var hasClips = input.dim() >= 5;
        var clips = hasClips ? input.flatten(0, 1) : input;
        var embedded = DualEncoder.Normalize(this[modality].Encode(clips));
        if (modality != Modality.Vision) embedded = embedded * Scale(modality).to(embedded.dtype);
        return (hasClips ? embedded.view(input.shape[0], input.shape[1], -1).mean([1]) : embedded).MoveToOuterDisposeScope();
    }

    public IEnumerable<(string Key, object? Child)> Children()
    {
        foreach (var m in modalities) yield return ($"modality_preprocessors.{Name(m)}", towers[m].Input);
        foreach (var m in modalities) yield return ($"modality_trunks.{Name(m)}", towers[m].Trunk);
        foreach (var m in modalities) yield return ($"modality_heads.{Name(m)}", towers[m].Head);
        foreach (var m in modalities)
            if (scales.TryGetValue(m, out var scale)) yield return ($"modality_postprocessors.{Name(m)}", scale);

        static string Name(Modality modality) => Module.SnakeCase(modality.ToString());
    }

    /// <summary>Of the scales the texts' alone is learned.</summary>
    static ImageBindScale ScaleOf(Modality modality) => modality switch
    {
        Modality.Text => new(1 / 0.07, learned: true),
        Modality.Audio => new(20, learned: false),
        Modality.Thermal => new(10, learned: false),
        _ => new(5, learned: false),
    };

    static ImageBindTower Build(ImageBindConfig c, Modality modality)
    {
        switch (modality)
        {
            case Modality.Vision:
                if (c.KernelSize.Length != 3) throw new PanoptesException($"kernel_size has {c.KernelSize.Length} numbers; expected 3.");
                return new ImageBindVision(c, new ImageBindGridInput(new ImageBindVideoStem(c.VisionEmbedDim, c.KernelSize), false,
                    (c.VideoFrames / c.KernelSize[0], c.ImageSize / c.KernelSize[1], c.ImageSize / c.KernelSize[2]), c.VisionEmbedDim), new(c.VisionEmbedDim, c.VisionNumBlocks, c.VisionNumHeads, true, false, false, 0), Head(c.VisionEmbedDim));
            case Modality.Text:
                return new ImageBindText(c, new ImageBindTextInput(c.ContextLength, c.VocabSize, c.TextEmbedDim),
                    new(c.TextEmbedDim, c.TextNumBlocks, c.TextNumHeads, false, false, causal: true, 0), Head(c.TextEmbedDim, "proj.0", "proj.1"));
            case Modality.Audio:
                return Tower(new ImageBindGridInput(new ImageBindAudioStem(c.AudioEmbedDim, c.AudioKernelSize, c.AudioStride), false,
                    (1, (c.AudioNumMelBins - c.AudioKernelSize) / c.AudioStride + 1, (c.AudioTargetLen - c.AudioKernelSize) / c.AudioStride + 1), c.AudioEmbedDim), c.AudioEmbedDim, c.AudioNumBlocks, c.AudioNumHeads, c.AudioDropPath);
            case Modality.Depth:
                return Tower(Square(c.DepthEmbedDim, c.DepthKernelSize, isDepth: true), c.DepthEmbedDim, c.DepthNumBlocks, c.DepthNumHeads, c.DepthDropPath);
            case Modality.Thermal:
                return Tower(Square(c.ThermalEmbedDim, c.ThermalKernelSize), c.ThermalEmbedDim, c.ThermalNumBlocks, c.ThermalNumHeads, c.ThermalDropPath);
            default:
                return Tower(new ImageBindSeriesInput(c.ImuLength / c.ImuKernelSize, c.ImuKernelSize, c.ImuEmbedDim), c.ImuEmbedDim, c.ImuNumBlocks, c.ImuNumHeads, c.ImuDropPath);
        }

        ImageBindTower Tower(ImageBindInput input, int width, int blocks, int heads, double dropPath) =>
            new(modality, input, new(width, blocks, heads, false, learnedKey: true, false, dropPath), modality == Modality.Imu ? Head(width, "0", "3", 0.5) : Head(width), c.OutEmbedDim);

        ImageBindGridInput Square(int width, int kernel, bool isDepth = false) =>
            new(new ImageBindPatchStem(width, kernel), isDepth, (1, c.ImageSize / kernel, c.ImageSize / kernel), width);

        ImageBindHead Head(int width, string norm = "0", string linear = "2", double dropout = 0) => new(width, c.OutEmbedDim, norm, linear, dropout);
    }
}

/// <summary>A dual encoder to whose images other modalities are bound: each has a tower into the images' space.</summary>
public interface IBoundModel
{
    /// <summary>The sizes of the towers.</summary>
    ImageBindConfig Encoders { get; }

    /// <summary>What there are ImageBind's towers for.</summary>
    IReadOnlyList<Modality> Modalities { get; }

    /// <exception cref="PanoptesException">There is no such tower.</exception>
    ImageBindTower Tower(Modality modality);

    /// <summary>The logarithm of what the modality's normalized embeddings are multiplied by; images have none.</summary>
    Parameter LogScale(Modality modality);

    /// <summary>
    /// Embeds as the peer does: normalized, then multiplied by the modality's scale, so that a product with an image's embedding is a logit. Inputs of
    /// five dimensions or more are [b, clips, ...]: the mean of the clips' embeddings is taken after that and not normalized again.
    /// </summary>
    /// <param name="modality">What <paramref name="input"/> is.</param>
    /// <param name="input">As the modality says, or clips of it (a video is [b, clips, 3, frames, height, width]).</param>
    /// <returns>[b, embedding]</returns>
    Tensor Embed(Modality modality, Tensor input);
}

/// <summary>
/// Six towers in one space. Keys: modality_preprocessors, modality_trunks, modality_heads and modality_postprocessors, each with the modalities below.
/// </summary>
public sealed class ImageBindModel(ImageBindConfig config) : DualEncoder, IBoundModel
{
    readonly ImageBindTowers towers = new(config, Enum.GetValues<Modality>());

    public ImageBindConfig Config => config;

    ImageBindConfig IBoundModel.Encoders => config;

    public IReadOnlyList<Modality> Modalities => towers.Modalities;

    public override IImageTower Images => (IImageTower)towers[Modality.Vision];

    public override ITextTower Texts => (ITextTower)towers[Modality.Text];

    /// <summary>The texts' scale, the only one that is learned.</summary>
    public override Parameter LogitScale => towers.LogScale(Modality.Text);

    public ImageBindTower Tower(Modality modality) => towers[modality];

    public Parameter LogScale(Modality modality) => towers.LogScale(modality);

    /// <summary>What normalized embeddings of the modality are multiplied by, a scalar that the caller owns: at most 100, of images 1.</summary>
    public Tensor Scale(Modality modality) => towers.Scale(modality);

    /// <inheritdoc/>
    public Tensor Embed(Modality modality, Tensor input) => towers.Embed(modality, input);

    protected override IEnumerable<(string Key, object? Child)> Children() => towers.Children();
}
