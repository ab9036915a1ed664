using System.Text.Json;
using Panoptes.Nn;

namespace Panoptes.Representation;

// ImageBind's way of training (Girdhar et al. 2023, arXiv:2305.05665) for any dual encoder: its images and texts stay as they are, and other modalities get
// towers of ImageBind's design (and keys) that are bound to its images.

/// <summary>The dual encoder's own config, and the towers that are bound to it.</summary>
public sealed record BoundEncoderConfig : ModelConfig
{
    /// <summary>The dual encoder's class, as its config.json names it.</summary>
    public string BaseArchitecture { get; init; } = "CLIPModel";

    /// <summary>Its config.json, of open_clip's the part model_cfg.</summary>
    public JsonElement BaseConfig { get; init; }

    /// <summary>Of audio, depth, thermal and imu those that have a tower.</summary>
    public string[] Modalities { get; init; } = ["audio", "depth", "thermal", "imu"];

    /// <summary>The towers' sizes; their space is the dual encoder's.</summary>
    public ImageBindConfig Encoders { get; init; } = new();
    public string ModelType { get; init; } = "bound_encoder";
    public string[] Architectures { get; init; } = ["BoundEncoder"];
}

/// <summary>A dual encoder with further modalities in its space. Keys: base (with the dual encoder's own), and ImageBind's for every other modality.</summary>
public sealed class BoundEncoder : DualEncoder, IBoundModel
{
    readonly ImageBindTowers towers;

    /// <param name="config">Names the modalities and their towers' sizes.</param>
    /// <param name="dualEncoder">Owned by this one from now on.</param>
    /// <exception cref="PanoptesException">A modality is none that can be bound.</exception>
    public BoundEncoder(BoundEncoderConfig config, DualEncoder dualEncoder)
    {
        Base = dualEncoder;
        Config = config with { Encoders = config.Encoders with { OutEmbedDim = dualEncoder.Images.EmbeddingSize } };
        towers = new(Config.Encoders, config.Modalities.Distinct().Select(Bound));

        static Modality Bound(string name) => Enum.TryParse<Modality>(name, ignoreCase: true, out var modality) && modality is Modality.Audio or Modality.Depth or Modality.Thermal or Modality.Imu ? modality
            : throw new PanoptesException($"modalities names {name}; expected audio, depth, thermal or imu.");
    }

    /// <summary>A model that is in memory, with new towers whose weights are not there yet.</summary>
    /// <param name="dualEncoder">Owned by the result.</param>
    /// <param name="modalities">Of audio, depth, thermal and IMU.</param>
    /// <param name="encoders">The towers' sizes.</param>
    public static BoundEncoder Over(DualEncoder dualEncoder, IEnumerable<Modality> modalities, ImageBindConfig encoders)
    {
        var entry = Models.All.FirstOrDefault(e => e.Type == dualEncoder.GetType() && e.Type != typeof(BoundEncoder)) ?? throw new PanoptesException($"Nothing can be bound to a {dualEncoder.GetType().Name}.");
        using var json = JsonDocument.Parse(entry.Config(dualEncoder).ToJson());
        return new(new() { BaseArchitecture = entry.Architecture, BaseConfig = json.RootElement.Clone(), Modalities = [.. modalities.Distinct().Select(static m => SnakeCase(m.ToString()))], Encoders = encoders }, dualEncoder);
    }

    public BoundEncoderConfig Config { get; }

    /// <summary>What images and texts go through.</summary>
    public DualEncoder Base { get; }

    public ImageBindConfig Encoders => Config.Encoders;

    public IReadOnlyList<Modality> Modalities => towers.Modalities;

    public override IImageTower Images => Base.Images;

    public override ITextTower Texts => Base.Texts;

    public override Parameter LogitScale => Base.LogitScale;

    public override Parameter? LogitBias => Base.LogitBias;

    public override Tensor Comparable(Tensor embedding) => Base.Comparable(embedding);

    public ImageBindTower Tower(Modality modality) => towers[modality];

    public Parameter LogScale(Modality modality) => towers.LogScale(modality);

    public Tensor Embed(Modality modality, Tensor input) => towers.Embed(modality, input);

    protected override IEnumerable<(string Key, object? Child)> Children() => [("base", Base), .. towers.Children()];
}
