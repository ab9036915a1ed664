using System.Globalization;
using System.Reflection;

namespace Panoptes.Generation;

/// <summary>A kind of condition.</summary>
/// <param name="Name">What users call it.</param>
/// <param name="Shows">What it shows, in a few words.</param>
/// <param name="Create">Makes its maker from what the caller knows.</param>
public sealed record ConditionKind(string Name, string Shows, Func<ConditionSources, ConditionMaker> Create);

/// <summary>Every kind of condition by its name.</summary>
public static class ConditionMakers
{
    public static IReadOnlyList<ConditionKind> All { get; } =
    [
        new("canny", "thin edges (Canny)", static _ => new CannyCondition()),
        new("lines", "straight lines", static _ => new LinesCondition()),
        new("softedge", "soft edges of things, little of textures", static _ => new SoftEdgeCondition()),
        new("scribble", "thick strokes, as if scribbled", static _ => new ScribbleCondition()),
        new("sketch", "thin strokes along the strongest edges", static _ => new SketchCondition()),
        new("lineart", "a line drawing", static _ => new LineArtCondition()),
        new("pose", "skeletons of people", static s => new PoseCondition { Poses = s.Poses ?? throw Missing("pose", "keypoints") }),
        new("segmentation", "a color for every class", static s => new SegmentationCondition { Classes = s.Classes ?? throw Missing("segmentation", "a class for every pixel") }),
        new("depth", "what is near, bright", static s => new DepthCondition { Depth = s.Depth ?? throw Missing("depth", "depth") }),
        new("normal", "where surfaces face", static s => new NormalCondition { Depth = s.Depth ?? throw Missing("normal", "depth") }),
        new("blur", "the image, blurred", static _ => new BlurCondition()),
        new("shuffle", "the image's colors, flowing elsewhere", static _ => new ShuffleCondition()),
    ];

    static readonly Dictionary<string, ConditionKind> Kinds = All.ToDictionary(static k => k.Name, StringComparer.OrdinalIgnoreCase);

    /// <summary>The maker of a kind.</summary>
    /// <param name="name">One of <see cref="All"/>.</param>
    /// <param name="sources">What it is drawn from, for the kinds that no image tells by itself.</param>
    /// <param name="options">Options of it that are not the usual ones, by their names: numbers, true or false.</param>
    /// <exception cref="PanoptesException">There is no such kind or option, a value does not fit, or the kind needs what was not given.</exception>
    public static ConditionMaker Create(string name, ConditionSources? sources = null, IReadOnlyDictionary<string, string>? options = null)
    {
        if (!Kinds.TryGetValue(name, out var kind)) throw new PanoptesException($"There is no condition '{name}'; expected {string.Join(", ", All.Select(static k => k.Name))}.");
        var maker = kind.Create(sources ?? new());
        foreach (var (option, value) in options ?? new Dictionary<string, string>()) Set(kind, maker, option, value);
        return maker;
    }

    static void Set(ConditionKind kind, ConditionMaker maker, string option, string value)
    {
        PropertyInfo[] known = [.. maker.GetType().GetProperties().Where(static p => p.CanWrite && Plain(p) is not null)];
        var property = Array.Find(known, p => p.Name.Equals(option.Replace("_", "", StringComparison.Ordinal), StringComparison.OrdinalIgnoreCase))
            ?? throw new PanoptesException($"The condition {kind.Name} has no option '{option}'; expected {string.Join(", ", known.Select(static p => p.Name.ToLowerInvariant()).Order(StringComparer.Ordinal))}.");
        try
        {
            property.SetValue(maker, Read(Plain(property)!, value));
        }
        catch (Exception e) when (e is FormatException or OverflowException)
        {
            throw new PanoptesException($"{kind.Name}.{option} is '{value}'; expected {(Plain(property) == typeof(bool) ? "true or false" : Plain(property) == typeof(double) ? "a number" : Plain(property) == typeof(ulong) ? "a whole number, 0 or more" : "a whole number")}.", e);
        }
    }

    // A comma separates no thousands here: it may be meant as a point.
    static object Read(Type type, string value)
    {
        if (type == typeof(bool)) return bool.Parse(value);
        if (type == typeof(double)) return double.Parse(value, NumberStyles.Float, CultureInfo.InvariantCulture);
        if (type == typeof(ulong)) return ulong.Parse(value, NumberStyles.None, CultureInfo.InvariantCulture);
        return int.Parse(value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
    }

    /// <summary>A type that text tells; null: the property is no option.</summary>
    static Type? Plain(PropertyInfo property) => (Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType) is var type && (type == typeof(bool) || type == typeof(double) || type == typeof(int) || type == typeof(ulong)) ? type : null;

    static PanoptesException Missing(string kind, string what) => new($"The condition {kind} is drawn from {what}, which no image tells by itself: none was given.");
}
