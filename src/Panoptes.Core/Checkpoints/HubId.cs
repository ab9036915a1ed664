using System.Text.RegularExpressions;

namespace Panoptes.Checkpoints;

/// <summary>A model on the hub: <c>OWNER/NAME</c>, and a branch, tag or commit after <c>@</c> (main where there is none).</summary>
public sealed partial record HubId(string Owner, string Name, string Revision = "main")
{
    /// <summary>The id's form, or null where <paramref name="text"/> is something else.</summary>
    public static HubId? TryParse(string text)
    {
        var match = Form().Match(text);
        if (!match.Success || text.Contains("..", StringComparison.Ordinal) || text.Contains("--", StringComparison.Ordinal)) return null;
        var revision = match.Groups[3];
        if (revision.Value.Split('/') is { Length: > 1 } parts && parts.Any(static p => p is "" or ".")) return null;
        return new(match.Groups[1].Value, match.Groups[2].Value, revision.Success ? revision.Value : "main");
    }

    /// <exception cref="PanoptesException"><paramref name="text"/> has another form.</exception>
    public static HubId Parse(string text) => TryParse(text) ?? throw new PanoptesException($"{text} is not a hub id; expected OWNER/NAME or OWNER/NAME@REVISION.");

    public override string ToString() => Revision == "main" ? $"{Owner}/{Name}" : $"{Owner}/{Name}@{Revision}";

    /// <summary>The name of its folder in the cache.</summary>
    internal string FolderName => $"models--{Owner}--{Name}";

    [GeneratedRegex(@"^([A-Za-z0-9_][A-Za-z0-9._-]{0,95})/([A-Za-z0-9_][A-Za-z0-9._-]{0,95})(?:@([A-Za-z0-9_][A-Za-z0-9._/-]{0,199}))?\z", RegexOptions.CultureInvariant)]
    private static partial Regex Form();
}
