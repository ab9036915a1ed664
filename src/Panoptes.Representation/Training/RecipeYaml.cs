using System.Text.RegularExpressions;
using Panoptes.Data;
using YamlDotNet.Core;
using YamlDotNet.Serialization;
using YamlDotNet.Serialization.NamingConventions;

namespace Panoptes.Representation.Training;

/// <summary>How recipes of every kind are written: YAML with snake_case fields, of which unknown ones are errors, that may extend another file.</summary>
static partial class RecipeYaml
{
    internal const int MaxLength = 1 << 20;

    /// <param name="text">What is in the file.</param>
    /// <param name="source">The file.</param>
    /// <param name="changes">Fields with other values than the file's.</param>
    /// <param name="configure">What this kind of recipe adds.</param>
    /// <returns>The recipe, and its text with everything that it extends and every change.</returns>
    /// <exception cref="PanoptesException">No YAML, or an unknown, missing or wrong field; the message names the line.</exception>
    internal static (T Recipe, string Text) Parse<T>(string text, string source, IReadOnlyList<string> changes, Func<DeserializerBuilder, DeserializerBuilder> configure) where T : class
    {
        if (text.Length > MaxLength) throw new PanoptesException($"{source} has {text.Length} characters; a recipe has at most {MaxLength}.");
        try
        {
            text = RecipeInheritance.Expand(text, source, changes);
            var deserializer = configure(new DeserializerBuilder()
                .WithNamingConvention(UnderscoredNamingConvention.Instance)
                .WithEnumNamingConvention(UnderscoredNamingConvention.Instance)
                .WithDuplicateKeyChecking()
                .WithEnforceRequiredMembers()
                .WithAttemptingUnquotedStringTypeDeserialization()
                .WithTypeConverter(new IntervalConverter())
                .WithTypeMapping<IReadOnlyDictionary<string, object?>, Dictionary<string, object?>>()
                .WithTypeMapping<IReadOnlyList<string>, List<string>>()
                .WithTypeMapping<IReadOnlyList<float>, List<float>>()
                .WithTypeMapping<IReadOnlyList<int>, List<int>>())
                .Build();
            return (deserializer.Deserialize<T?>(text) ?? throw new PanoptesException($"{source} is empty; expected a recipe with name, model, data and schedule."), text);
        }
        catch (Exception e) when (IsOfReader(e))
        {
            throw Refusal(e, source);
        }
    }

    /// <summary>Whether an exception is the YAML reader's word on a text: a text that begins with the end of a document makes it throw an InvalidOperationException.</summary>
    internal static bool IsOfReader(Exception e) => e is YamlException or InvalidOperationException;

    static PanoptesException Refusal(Exception e, string source) => e is YamlException yaml
        ? new($"{source}, line {yaml.Start.Line}: {(e.InnerException is { } inner and not YamlException ? inner : e).Message.TrimEnd('.')}.", e)
        : new($"{source} is no YAML: {e.Message.TrimEnd('.')}.", e);

    /// <summary>Whether a recipe, or one that it extends, has a field at its top.</summary>
    /// <exception cref="PanoptesException">One of the texts is no YAML.</exception>
    internal static bool HasField(string text, string source, string field)
    {
        if (text.Length > MaxLength) throw new PanoptesException($"{source} has {text.Length} characters; a recipe has at most {MaxLength}.");
        try
        {
            return RecipeInheritance.HasField(text, source, field);
        }
        catch (Exception e) when (IsOfReader(e))
        {
            throw Refusal(e, source);
        }
    }

    /// <exception cref="PanoptesException">The name cannot name a run's folder.</exception>
    internal static void CheckName(string name, string source)
    {
        if (string.IsNullOrEmpty(name) || name != Path.GetFileName(name) || name is "." or "..") throw new PanoptesException($"{source}: the name is \"{name}\"; expected one that can name a folder.");
    }

    /// <summary>A recipe's text with another seed.</summary>
    internal static string WithSeed(string text, ulong seed)
    {
        var line = string.Create(System.Globalization.CultureInfo.InvariantCulture, $"seed: {seed}");
        return SeedLine().IsMatch(text) ? SeedLine().Replace(text, line, 1) : $"{line}\n{text}";
    }

    [GeneratedRegex(@"^seed:.*$", RegexOptions.Multiline)]
    private static partial Regex SeedLine();

    /// <summary>A range is written [min, max].</summary>
    sealed class IntervalConverter : IYamlTypeConverter
    {
        public bool Accepts(Type type) => type == typeof(Interval);

        public object ReadYaml(IParser parser, Type type, ObjectDeserializer rootDeserializer)
        {
            var start = parser.Current?.Start ?? default;
            if (rootDeserializer(typeof(float[])) is float[] { Length: 2 } both) return new Interval(both[0], both[1]);
            throw new YamlException(start, start, "expected a range as [min, max]");
        }

        public void WriteYaml(IEmitter emitter, object? value, Type type, ObjectSerializer serializer) => throw new InvalidOperationException("Recipes are read only.");
    }
}
