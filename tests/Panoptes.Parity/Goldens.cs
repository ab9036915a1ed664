namespace Panoptes.Parity;

/// <summary>The golden cases of the repository, for the theories of the test projects.</summary>
/// <example><code>
/// public static TheoryData&lt;string&gt; Cases => [.. Goldens.Names("language")];
/// [Theory, MemberData(nameof(Cases))]
/// public void A_golden_case_gives_the_numbers_of_the_peer(string name) => Goldens.Check(name);
/// </code></example>
public static class Goldens
{
    /// <summary>The repository that the program was built in.</summary>
    public static string Repository { get; } = FindRepository();

    /// <summary>The folder tests/goldens of the repository.</summary>
    public static string Root { get; } = Path.Combine(Repository, "tests", "goldens");

    /// <summary>The cases of an area (as <c>AREA/NAME</c>, or <c>layouts/NAME.json</c>), all or those that <paramref name="where"/> picks by name.</summary>
    public static IEnumerable<string> Names(string area, Func<string, bool>? where = null)
    {
        var folder = Path.Combine(Root, area);
        if (!Directory.Exists(folder)) return [];
        return ParityRunner.Find(folder).Select(p => Path.GetRelativePath(Root, p).Replace('\\', '/')).Where(n => where?.Invoke(n[(n.LastIndexOf('/') + 1)..]) ?? true);
    }

    /// <summary>Runs the case and throws unless it passes.</summary>
    /// <exception cref="PanoptesException">The case failed, or no adapter answers it; the message says what was wrong.</exception>
    public static void Check(string name)
    {
        var result = ParityRunner.Run(Path.Combine(Root, name));
        if (result.Status != CaseStatus.Pass) throw new PanoptesException(result.ToString());
    }

    static string FindRepository()
    {
        for (var d = new DirectoryInfo(AppContext.BaseDirectory); d is not null; d = d.Parent)
            if (File.Exists(Path.Combine(d.FullName, "Panoptes.slnx"))) return d.FullName;
        throw new PanoptesException($"No folder above {AppContext.BaseDirectory} holds Panoptes.slnx.");
    }
}
