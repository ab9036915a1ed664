using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Understanding;

/// <summary>One scale of a <see cref="DecoderPyramid"/>. Keys: lateral, lateral_norm, output, output_norm.</summary>
public sealed class PyramidLevel(int channels, int width) : Module
{
    public Conv2d Lateral { get; } = new(channels, width, 1, bias: false);

    public GroupNorm LateralNorm { get; } = new(Groups(width), width);

    public Conv2d Output { get; } = new(width, width, 3, padding: 1, bias: false);

    public GroupNorm OutputNorm { get; } = new(Groups(width), width);

    /// <param name="map">[b, channels, rows, columns] of the tower</param>
    /// <param name="coarser">[b, width, ...] of the next coarser scale; null: this is the coarsest.</param>
    /// <returns>[b, width, rows, columns]</returns>
    public Tensor Forward(Tensor map, Tensor? coarser)
    {
        using var scope = NewDisposeScope();
        var x = LateralNorm.Forward(Lateral.Forward(map));
        if (coarser is not null) x = x + nn.functional.interpolate(coarser, [map.shape[2], map.shape[3]], mode: InterpolationMode.Nearest);
        return nn.functional.relu(OutputNorm.Forward(Output.Forward(x))).MoveToOuterDisposeScope();
    }

    static int Groups(int width) => width % 32 == 0 ? 32 : width % 8 == 0 ? 8 : 1;
}

/// <summary>
/// Any image tower with maps of one width at four scales or more (Lin et al. 2017, arXiv:1612.03144). A tower of one scale gets finer and coarser ones as in ViTDet (Li et al. 2022,
/// arXiv:2203.16527): by transposed convolutions and pooling. Keys: backbone, twice, fourfold.0, fourfold.1, levels.N (the finest first), mask_features.
/// </summary>
public sealed class DecoderPyramid : Module
{
    readonly IImageTower tower;
    readonly bool hierarchical;

    /// <param name="tower">A module; owned by this one from now on.</param>
    /// <param name="width">Of the maps that the decoder looks at.</param>
    /// <param name="maskSize">How many channels the map has that masks are read from.</param>
    /// <param name="scales">How many scales the decoder looks at, of which the finest is the second of the pyramid.</param>
    public DecoderPyramid(IImageTower tower, int width, int maskSize, int scales)
    {
        this.tower = tower;
        Backbone = (Module)tower;
        int[] channels = tower switch
        {
            SwinModel swin => [.. Enumerable.Range(0, swin.Config.Depths.Length).Select(i => swin.Config.EmbedDim << i)],
            FocalNetModel focal => [.. Enumerable.Range(0, focal.Config.Depths.Length).Select(focal.Config.Width)],
            ConvNextModel convNext => convNext.Config.HiddenSizes,
            OpenClipResNet resNet => [.. Enumerable.Range(0, 4).Select(i => resNet.TokenSize >> (3 - i))],
            _ => [],
        };
        hierarchical = channels.Length > 0;
        if (!hierarchical)
        {
            channels = [tower.TokenSize, tower.TokenSize, tower.TokenSize, tower.TokenSize];
            Twice = new(tower.TokenSize, tower.TokenSize, 2);
            Fourfold = new([new(tower.TokenSize, tower.TokenSize, 2), new(tower.TokenSize, tower.TokenSize, 2)]);
        }
        if (scales >= channels.Length) throw new PanoptesException($"num_feature_levels is {scales}; expected fewer than the {channels.Length} scales of the image tower, whose finest one masks are read from.");
        Scales = scales;
        Levels = new(channels.Select(c => new PyramidLevel(c, width)));
        MaskFeatures = new(width, maskSize, 1);
    }

    public Module Backbone { get; }

    public ConvTranspose2d? Twice { get; }

    public ModuleList<ConvTranspose2d>? Fourfold { get; }

    public ModuleList<PyramidLevel> Levels { get; }

    public Conv2d MaskFeatures { get; }

    /// <summary>How many scales the decoder looks at.</summary>
    public int Scales { get; }

    /// <summary>The image tower.</summary>
    public IImageTower Tower => tower;

    /// <param name="pixels">[b, channels, height, width]</param>
    public DecoderMaps Forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var maps = hierarchical ? Stages(pixels) : Plain(pixels);
        var outputs = new Tensor[maps.Length];
        for (var i = maps.Length - 1; i >= 0; i--) outputs[i] = Levels[i].Forward(maps[i], i + 1 < maps.Length ? outputs[i + 1] : null);
        Tensor[] features = [.. outputs.Skip(1).Take(Scales).Reverse()];
        Tensor[] positions = [.. features.Select(static f => Places(f))];
        return new DecoderMaps(features, positions, MaskFeatures.Forward(outputs[0])).MoveToOuter();
    }

    /// <summary>DETR's sines and cosines of a map's rows and columns: [1, width, rows, columns].</summary>
    static Tensor Places(Tensor map)
    {
        var (width, rows, columns) = ((int)map.shape[1], map.shape[2], map.shape[3]);
        if (width % 4 != 0) throw new PanoptesException($"hidden_size is {width}; expected a multiple of 4 for the sines and cosines of places.");
        return SinePositions.Of(ones([1, rows, columns], ScalarType.Bool, map.device), width / 2, 10000).transpose(1, 2).unflatten(2, [rows, columns]).to(map.dtype);
    }

    /// <summary>The tower's own scales, the finest first.</summary>
    Tensor[] Stages(Tensor pixels)
    {
        if (tower is OpenClipResNet resNet)
        {
            // After the stem's map come the stages'.
            var maps = new List<Tensor>();
            resNet.Map(pixels, maps);
            return [.. maps.Skip(1)];
        }
        var states = tower.Forward(pixels, hiddenStates: true).HiddenStates!;
        var count = Levels.Count;
        return tower switch
        {
            // After every stage comes its halving, but for the last.
            SwinModel swin => [.. Enumerable.Range(0, count).Select(i => Map(states[i == count - 1 ? count : i], swin.Grid(pixels.shape[2], pixels.shape[3], i)))],
            FocalNetModel => [.. Enumerable.Range(0, count).Select(i => states[i == count - 1 ? count : i])],
            _ => [.. states.Skip(states.Count - count)],
        };
    }

    static Tensor Map(Tensor tokens, (int Rows, int Columns) grid) => tokens.transpose(1, 2).unflatten(2, [grid.Rows, grid.Columns]);

    Tensor[] Plain(Tensor pixels)
    {
        // open_clip's transformer takes images of other sizes in this way only.
        if (tower is OpenClipVision clip) return Scaled(FeaturePyramid.Maps(clip, pixels)[0]);
        var tokens = tower.Forward(pixels).LastHiddenState;
        var patches = tokens.narrow(1, tower.PrefixTokens, tokens.shape[1] - tower.PrefixTokens);
        var side = Math.Sqrt((double)(pixels.shape[2] * pixels.shape[3]) / patches.shape[1]);
        return Scaled(Map(patches, ((int)Math.Floor(pixels.shape[2] / side), (int)(patches.shape[1] / Math.Floor(pixels.shape[2] / side)))));
    }

    Tensor[] Scaled(Tensor x) => [Fourfold![1].Forward(nn.functional.gelu(Fourfold[0].Forward(x))), Twice!.Forward(x), x, nn.functional.max_pool2d(x, 2)];

    /// <summary>The image tower that a part of a model's config describes: any of Panoptes.Representation by its model_type, or an open_clip model by its vision_cfg.</summary>
    /// <exception cref="PanoptesException">None, or of no known kind.</exception>
    internal static IImageTower Build(JsonElement config, ModelSource source, string prefix)
    {
        if (config.ValueKind != JsonValueKind.Object) throw new PanoptesException($"{source.Path}: backbone_config is missing; expected the image tower's own config with its model_type.");
        if (config.TryGetProperty("vision_cfg", out _) || config.TryGetProperty("model_cfg", out _)) return OpenClipVisual.Create(OpenClipConfig.Read(config.GetRawText(), $"{source.Path}, backbone_config"));
        return Models.ImageTower(source, config, "backbone", prefix);
    }
}
