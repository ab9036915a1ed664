using System.Text;

namespace Panoptes.Data.Emoji;

/// <summary>Writes who drew what under which license, with the license texts that must travel with the drawings.</summary>
static class EmojiLicenses
{
    const string Mit = """
        Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files
        (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify,
        merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
        furnished to do so, subject to the following conditions:

        The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

        THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
        MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE
        LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
        CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
        """;

    internal static string Write(IReadOnlyList<IconPackage> packages)
    {
        var text = new StringBuilder("""
            # Licenses of the emoji set

            The images in this folder are the work of the artists named below. They were changed in one way: each vector drawing was
            rendered to pixels. Every style keeps its own license, which covers that style's file alone. The styles under CC BY-SA 4.0
            may be shared and changed under that same license only.

            | File | Drawings | Author | License | Package |
            |---|---|---|---|---|

            """);
        foreach (var p in packages)
            text.Append($"| {p.Source.Name}.parquet | {p.Title} | [{p.Author}]({p.AuthorUrl}) | [{p.License}]({p.LicenseUrl}) | {p.Source.Package.Name}@{p.Source.Package.Version} |\n");
        text.Append($"| concepts.jsonl | names, tags and groups of Unicode CLDR | [Miles Johnson](https://github.com/milesj/emojibase), [Unicode, Inc.](https://www.unicode.org/license.txt) | MIT, Unicode-3.0 | {EmojiSources.Names.Name}@{EmojiSources.Names.Version} |\n");

        foreach (var p in packages.Where(static p => p.License.StartsWith("CC-", StringComparison.Ordinal)))
            text.Append($"\n## {p.Title}\n\n{p.Source.Copyright}. Used under {p.License}, whose text is at {p.LicenseUrl}legalcode. Rendered to pixels.\n");
        foreach (var p in packages.Where(static p => p.License == "MIT"))
            text.Append($"\n## {p.Title}\n\nMIT License\n\n{p.Source.Copyright}\n\n{Mit}\n");
        text.Append($"\n## Emojibase\n\nMIT License\n\nCopyright (c) 2017-2019 Miles Johnson\n\n{Mit}\n");
        text.Append("\nThe names come from the Unicode Common Locale Data Repository, Copyright © 1991-2025 Unicode, Inc., under the Unicode License V3 (https://www.unicode.org/license.txt).\n");
        var apache = packages.Where(static p => p.License == "Apache-2.0").ToList();
        if (apache.Count > 0)
        {
            text.Append("\n## ").AppendJoin(", ", apache.Select(static p => p.Title)).Append("\n\n");
            foreach (var p in apache) text.Append($"{p.Title}: {p.Source.Copyright}\n");
            using var stream = typeof(EmojiLicenses).Assembly.GetManifestResourceStream("Panoptes.Data.Emoji.Apache-2.0.txt")!;
            using var reader = new StreamReader(stream);
            text.Append("\n```\n").Append(reader.ReadToEnd().ReplaceLineEndings("\n")).Append("```\n");
        }
        return text.Replace("\r\n", "\n").ToString();
    }
}
