using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Panoptes.Data.Emoji;

/// <summary>The concepts of the set and every name that an icon package may know them by.</summary>
sealed class EmojiNames
{
    /// <summary>CLDR's own names beat names from other packages, those beat aliases, Unicode's character names, and chat shortcodes.</summary>
    const int FromLabel = 0, FromPackage = 1, FromAlias = 2, FromUnicode = 3, FromShortcode = 4;

    readonly Dictionary<string, Dictionary<string, int>> byKey = new(StringComparer.Ordinal);

    EmojiNames(IReadOnlyList<EmojiConcept> concepts)
    {
        Concepts = concepts;
        Codes = concepts.Select(static c => c.Code).ToHashSet(StringComparer.Ordinal);
    }

    internal IReadOnlyList<EmojiConcept> Concepts { get; }

    internal IReadOnlySet<string> Codes { get; }

    internal static bool Wants(string path) =>
        path is "LICENSE" or "meta/groups.json" or "meta/unicode-names.json"
        || path.StartsWith("en/shortcodes/", StringComparison.Ordinal) && path.EndsWith(".json", StringComparison.Ordinal)
        || EmojiSources.Languages.Any(l => path == l + "/data.json");

    /// <summary>Reads emojibase's data: every emoji but the components (skin tones, hair, regional indicators), in CLDR's order.</summary>
    internal static EmojiNames Parse(IReadOnlyDictionary<string, byte[]> files)
    {
        using var groups = JsonDocument.Parse(files["meta/groups.json"]);
        string Group(string kind, int id) => groups.RootElement.GetProperty(kind).GetProperty(id.ToString(CultureInfo.InvariantCulture)).GetString()!;

        var names = new Dictionary<string, Dictionary<string, string>>(StringComparer.Ordinal);
        var tags = new Dictionary<string, Dictionary<string, IReadOnlyList<string>>>(StringComparer.Ordinal);
        for (var i = 0; i < EmojiSources.Languages.Count; i++)
        {
            var language = EmojiSources.Languages[i];
            using var data = JsonDocument.Parse(files[language + "/data.json"]);
            foreach (var emoji in data.RootElement.EnumerateArray())
            {
                var code = WithoutVariation(emoji.GetProperty("hexcode").GetString()!);
                if (!names.TryGetValue(code, out var named))
                    (names[code], tags[code]) = (named = new(StringComparer.Ordinal), new(StringComparer.Ordinal));
                named[language] = emoji.GetProperty("label").GetString()!;
                if (i < 2 && emoji.TryGetProperty("tags", out var list)) tags[code][language] = [.. list.EnumerateArray().Select(static t => t.GetString()!)];
            }
        }

        var concepts = new List<(int Order, EmojiConcept Concept)>();
        using var english = JsonDocument.Parse(files["en/data.json"]);
        foreach (var emoji in english.RootElement.EnumerateArray())
        {
            if (!emoji.TryGetProperty("group", out var group) || Group("groups", group.GetInt32()) == "component") continue;
            var code = WithoutVariation(emoji.GetProperty("hexcode").GetString()!);
            concepts.Add((emoji.GetProperty("order").GetInt32(), new()
            {
                Index = 0,
                Code = code,
                Emoji = emoji.GetProperty("emoji").GetString()!,
                Names = names[code],
                Tags = tags[code],
                Group = Group("groups", group.GetInt32()),
                Subgroup = Group("subgroups", emoji.GetProperty("subgroup").GetInt32()),
                UnicodeVersion = emoji.GetProperty("version").GetDouble(),
                HeldOut = IsHeldOut(code),
            }));
        }
        concepts.Sort(static (a, b) => a.Order.CompareTo(b.Order));

        var result = new EmojiNames([.. concepts.Select(static (c, i) => c.Concept with { Index = i })]);
        foreach (var concept in result.Concepts) result.Add(concept.Name, concept.Code, FromLabel);
        using (var unicode = JsonDocument.Parse(files["meta/unicode-names.json"]))
            foreach (var name in unicode.RootElement.EnumerateObject()) result.Add(name.Value.GetString()!, WithoutVariation(name.Name), FromUnicode);
        foreach (var (path, bytes) in files.OrderBy(static f => f.Key, StringComparer.Ordinal))
        {
            if (!path.StartsWith("en/shortcodes/", StringComparison.Ordinal)) continue;
            using var shortcodes = JsonDocument.Parse(bytes);
            foreach (var entry in shortcodes.RootElement.EnumerateObject())
            {
                var code = WithoutVariation(entry.Name);
                if (entry.Value.ValueKind == JsonValueKind.String) result.Add(entry.Value.GetString()!, code, FromShortcode);
                else foreach (var shortcode in entry.Value.EnumerateArray()) result.Add(shortcode.GetString()!, code, FromShortcode);
            }
        }
        return result;
    }

    /// <summary>Learns the names that a package with code points has for them; they are what packages without code points use too.</summary>
    internal void Learn(IconPackage package)
    {
        var codes = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var (code, icon) in package.Characters)
        {
            if (!Codes.Contains(code)) continue;
            codes[icon] = code;
            Add(icon, code, FromPackage);
        }
        foreach (var (alias, icon) in package.Aliases)
            if (codes.TryGetValue(icon, out var code)) Add(alias, code, FromAlias);
    }

    /// <summary>
    /// Which icon draws which concept: by the package's own code points, or by its icons' names. A name that ends in a variant's
    /// number (<c>artist-2</c>) counts as the name without it, after every icon that has the plain name; the first variant wins.
    /// </summary>
    internal SortedDictionary<string, Icon> Match(IconPackage package)
    {
        var matched = new SortedDictionary<string, Icon>(StringComparer.Ordinal);
        var curated = EmojiCuration.For(package.Source.Name);
        if (package.Characters.Count > 0)
        {
            foreach (var (code, name) in package.Characters)
                if (Codes.Contains(code) && !curated.ContainsKey(name) && package.Find(name) is { } icon) matched[code] = icon;
            return matched;
        }

        var aliases = package.Aliases.ToLookup(static a => a.Icon, static a => a.Alias, StringComparer.Ordinal);
        var candidates = new List<(int Priority, string Name, string Code)>();
        foreach (var icon in package.Icons.Values)
        {
            if (icon.Hidden) continue;
            if (curated.TryGetValue(icon.Name, out var fixedCode))
            {
                if (fixedCode is not null) candidates.Add((-1, icon.Name, fixedCode));
                continue;
            }
            (int Priority, string Code)? best = null;
            foreach (var name in aliases[icon.Name].Prepend(icon.Name))
            {
                var alias = name == icon.Name ? 0 : 1;                                // an icon's own name says more than its aliases
                Look(name, alias);
                var digits = name.Length;
                while (digits > 0 && char.IsAsciiDigit(name[digits - 1])) digits--;
                if (digits > 1 && digits < name.Length && name[digits - 1] == '-') Look(name[..(digits - 1)], 20 + alias);
            }
            if (best is { } found) candidates.Add((found.Priority, icon.Name, found.Code));

            void Look(string name, int penalty)
            {
                if (!byKey.TryGetValue(Key(name), out var codes)) return;
                foreach (var (code, priority) in codes)
                    if (best is not { } b || ((2 * priority) + penalty).CompareTo(b.Priority) is var order && (order < 0 || order == 0 && string.CompareOrdinal(code, b.Code) < 0))
                        best = ((2 * priority) + penalty, code);
            }
        }
        candidates.Sort(static (a, b) => a.Priority != b.Priority ? a.Priority.CompareTo(b.Priority) : string.CompareOrdinal(a.Name, b.Name));
        foreach (var (_, name, code) in candidates) matched.TryAdd(code, package.Icons[name]);
        return matched;
    }

    void Add(string name, string code, int priority)
    {
        if (!Codes.Contains(code) || Key(name) is not { Length: > 0 } key) return;
        if (!byKey.TryGetValue(key, out var codes)) byKey[key] = codes = new(StringComparer.Ordinal);
        codes.TryAdd(code, priority);
        if (priority < codes[code]) codes[code] = priority;
    }

    /// <summary>What two spellings of one name share: ASCII letters and digits, lower case, accents folded, "flag for" as "flag".</summary>
    internal static string Key(string name)
    {
        var key = new StringBuilder(name.Length);
        foreach (var c in name.ToLowerInvariant())
        {
            if (char.IsAsciiLetterOrDigit(c)) key.Append(c);
            else if (c == '&') key.Append("and");
            else if ("ñãáåéçôíü".IndexOf(c) is >= 0 and var i) key.Append("naaaecoiu"[i]);
        }
        var text = key.ToString();
        return text.StartsWith("flagfor", StringComparison.Ordinal) ? "flag" + text[7..] : text;
    }

    /// <summary>Code points as <c>1F468-200D-1F373</c>: upper case, without the selectors U+FE0E and U+FE0F that packages give or leave out.</summary>
    internal static string WithoutVariation(string code) =>
        string.Join('-', code.ToUpperInvariant().Split('-').Where(static p => p is not "FE0E" and not "FE0F"));

    /// <summary>
    /// One concept in ten, by a hash of its code points. Man, woman and person forms and the two directions of one emoji share the
    /// hash, since many styles draw them alike: were they split, a "new" concept would have been seen.
    /// </summary>
    internal static bool IsHeldOut(string code)
    {
        var parts = code.Split('-').Where(static p => p is not ("200D" or "2640" or "2642" or "27A1")).Select(static p => p is "1F468" or "1F469" ? "1F9D1" : p);
        var hash = SHA256.HashData(Encoding.ASCII.GetBytes(string.Join('-', parts)));
        return (hash[0] << 8 | hash[1]) % 10 == 0;
    }
}
