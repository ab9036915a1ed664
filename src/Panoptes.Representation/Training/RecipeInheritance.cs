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

    /// <param name="text">A recipe.</param>
    /// <param name="source">Its file.</param>
    /// <param name="changes">Fields that are given other values at last: <c>data.concepts=200</c>, <c>objectives.0.weight=2</c>; nothing behind the sign takes a field away.</param>
    /// <returns>The text with everything that it extends and every change; the text itself where there is neither.</returns>
    /// <exception cref="PanoptesException">The other recipe is missing, in another folder, or there are too many; or a change has no place.</exception>
    /// <exception cref="YamlException">One of the texts is no YAML.</exception>
    internal static string Expand(string text, string source, IReadOnlyList<string> changes)
    {
        if (changes.Count == 0 && !text.Contains(Field + ":", StringComparison.Ordinal)) return text;
        var root = Read(text, source, 0) ?? (changes.Count > 0 ? Mapping(text) ?? throw new PanoptesException($"{source} is no recipe: expected one mapping.") : null);
        if (root is null) return text;
        foreach (var change in changes) Change(root, change);
        using var writer = new StringWriter(System.Globalization.CultureInfo.InvariantCulture);
        new YamlStream(new YamlDocument(root)).Save(writer, assignAnchors: false);
        return writer.ToString();
    }

    /// <summary>Whether a recipe, or one that it extends, has a field at its top.</summary>
    internal static bool HasField(string text, string source, string field) => (Read(text, source, 0) ?? Mapping(text))?.Children.ContainsKey(new YamlScalarNode(field)) == true;

    /// <summary>The whole recipe; null where it extends nothing.</summary>
    static YamlMappingNode? Read(string text, string source, int level)
    {
        if (text.Length > RecipeYaml.MaxLength) throw new PanoptesException($"{source} has {text.Length} characters; a recipe has at most {RecipeYaml.MaxLength}.");
        if (Mapping(text) is not { } own) return null;
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

    static YamlMappingNode? Mapping(string text)
    {
        var stream = new YamlStream();
        using (var reader = new StringReader(text)) stream.Load(reader);
        return stream.Documents.Count == 1 ? stream.Documents[0].RootNode as YamlMappingNode : null;
    }

    /// <summary>Sets one field to a value, which is YAML itself; mappings on the way are made where they are not there.</summary>
    static void Change(YamlMappingNode root, string change)
    {
        var sign = change.IndexOf('=', StringComparison.Ordinal);
        if (sign < 1) throw new PanoptesException($"\"{change}\" is no change of a recipe; expected FIELD=VALUE, such as data.concepts=200.");
        var (parts, stream) = (change[..sign].Split('.'), new YamlStream());
        try
        {
            using var reader = new StringReader(change[(sign + 1)..]);
            stream.Load(reader);
        }
        catch (Exception e) when (RecipeYaml.IsOfReader(e))
        {
            throw new PanoptesException($"\"{change}\" is no change of a recipe: its value is no YAML.", e);
        }
        var value = stream.Documents.Count == 0 ? null : stream.Documents[0].RootNode;
        YamlNode at = root;
        for (var i = 0; i < parts.Length; i++)
        {
            var (part, last) = (parts[i], i == parts.Length - 1);
            if (at is YamlMappingNode mapping && part.Length > 0)
            {
                var key = new YamlScalarNode(part);
                if (last && value is null) mapping.Children.Remove(key);
                else if (last) mapping.Children[key] = value!;
                else if (!mapping.Children.TryGetValue(key, out var next) || next is YamlScalarNode) mapping.Children[key] = at = new YamlMappingNode();
                else at = next;
            }
            else if (at is YamlSequenceNode list && int.TryParse(part, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out var index) && index < list.Children.Count)
            {
                if (last && value is null) list.Children.RemoveAt(index);
                else if (last) list.Children[index] = value!;
                else at = list.Children[index];
            }
            else throw new PanoptesException($"\"{change}\" does not fit the recipe: there is no \"{part}\" {(at is YamlSequenceNode all ? $"in a list of {all.Children.Count}, which counts from 0" : "in a plain value")}.");
        }
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
