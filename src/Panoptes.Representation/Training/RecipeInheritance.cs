using Panoptes.Checkpoints;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Panoptes.Representation.Training;

/// <summary>
/// A recipe that begins with <c>extends: other.yaml</c> is that one of the same folder with its own fields put over it: mappings are merged, everything
/// else is replaced, and a field without a value is taken away. So a method's recipe shows what is its own.
/// </summary>
static class RecipeInheritance
{
    const string Field = "extends";
    const int MostLevels = 4;

    /// <returns>The text with everything that it extends; the text itself where it extends nothing.</returns>
    /// <exception cref="PanoptesException">The other recipe is missing, in another folder, or there are too many.</exception>
    /// <exception cref="YamlException">One of the texts is no YAML.</exception>
    internal static string Expand(string text, string source)
    {
        if (!text.Contains(Field + ":", StringComparison.Ordinal)) return text;
        var root = Read(text, source, 0);
        if (root is null) return text;
        using var writer = new StringWriter(System.Globalization.CultureInfo.InvariantCulture);
        new YamlStream(new YamlDocument(root)).Save(writer, assignAnchors: false);
        return writer.ToString();
    }

    /// <summary>The whole recipe; null where it extends nothing.</summary>
    static YamlMappingNode? Read(string text, string source, int level)
    {
        if (text.Length > Recipe.MaxLength) throw new PanoptesException($"{source} has {text.Length} characters; a recipe has at most {Recipe.MaxLength}.");
        var stream = new YamlStream();
        using (var reader = new StringReader(text)) stream.Load(reader);
        if (stream.Documents.Count != 1 || stream.Documents[0].RootNode is not YamlMappingNode own) return null;
        var key = new YamlScalarNode(Field);
        if (!own.Children.TryGetValue(key, out var value)) return level == 0 ? null : own;
        // A node that stands in several places would be written out in each.
        if (own.AllNodes.FirstOrDefault(static n => !n.Anchor.IsEmpty) is { } anchored) throw new PanoptesException($"{source}, line {anchored.Start.Line}: anchors do not go with {Field}.");
        var name = (value as YamlScalarNode)?.Value;
        if (string.IsNullOrEmpty(name) || name != Path.GetFileName(name)) throw new PanoptesException($"{source}, line {value.Start.Line}: {Field} is \"{name}\"; expected the name of a recipe in the same folder.");
        if (level == MostLevels) throw new PanoptesException($"{source} extends a recipe that extends another one, and so on for more than {MostLevels} times.");
        var path = Path.Combine(Path.GetDirectoryName(Path.GetFullPath(source)) ?? "", name);
        var whole = Read(ModelFolder.ReadText(path), path, level + 1) ?? throw new PanoptesException($"{path} is no recipe to extend: expected one mapping.");
        if (whole.AllNodes.Any(static n => !n.Anchor.IsEmpty)) throw new PanoptesException($"{path}: anchors do not go with {Field}.");
        own.Children.Remove(key);
        Merge(whole, own);
        return whole;
    }

    static void Merge(YamlMappingNode whole, YamlMappingNode own)
    {
        foreach (var (key, value) in own.Children)
        {
            if (value is YamlMappingNode inner && whole.Children.TryGetValue(key, out var old) && old is YamlMappingNode outer) Merge(outer, inner);
            else if (value is YamlScalarNode { Style: ScalarStyle.Plain, Value: null or "" or "~" or "null" }) whole.Children.Remove(key);
            else whole.Children[key] = value;
        }
    }
}
