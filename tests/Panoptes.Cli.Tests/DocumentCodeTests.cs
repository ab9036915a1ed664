using System.Reflection;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Panoptes.Generation;
using Panoptes.Parity;
using Panoptes.Representation;
using Panoptes.Understanding;
using static TorchSharp.torch;

namespace Panoptes.Cli.Tests;

/// <summary>The C# of the documents is code that compiles, as a reader would paste it.</summary>
public sealed class DocumentCodeTests
{
    /// <summary>What documents take for granted: the reader's own.</summary>
    const string Given = """
        static class Given
        {
            public static Diffusion diffusion = null!;
            public static Image photo = null!;
            public static Tensor pixels = null!, noise = null!, wanted = null!;
            public static UNet2DModel model = null!;
            public static Generator generator = null!;
            public static void Show(Image picture) { }
            public static Tensor Classify(Tensor noisy, Tensor timesteps) => noisy;
        }
        """;

    /// <summary>As a new project has them.</summary>
    const string Implicit = "global using System; global using System.Collections.Generic; global using System.IO; global using System.Linq; global using System.Net.Http; global using System.Threading; global using System.Threading.Tasks;";

    const string Torch = "using TorchSharp; using static TorchSharp.torch; using Tensor = TorchSharp.torch.Tensor;";

    static readonly string Everything = Torch + string.Concat(((Assembly[])[typeof(Nn.Module).Assembly, typeof(Clip).Assembly, typeof(PromptableModels).Assembly, typeof(GenerationModels).Assembly])
        .SelectMany(static a => a.GetExportedTypes()).Select(static t => t.Namespace!).Distinct().Order().Select(static n => $" using {n};"));

    static readonly CSharpParseOptions Language = new(LanguageVersion.Preview);

    /// <summary>What any document is compiled with, read once.</summary>
    static readonly CSharpCompilation Empty = CSharpCompilation.Create("document",
        [CSharpSyntaxTree.ParseText(Implicit, Language), CSharpSyntaxTree.ParseText(Everything + Given, Language)],
        ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(Path.PathSeparator).Select(static p => MetadataReference.CreateFromFile(p)),
        new(OutputKind.DynamicallyLinkedLibrary, nullableContextOptions: NullableContextOptions.Enable));

    public static TheoryData<string> Documents => [.. ((string[])["README.md", .. Directory.EnumerateFiles(Path.Combine(Goldens.Repository, "docs"), "*.md", SearchOption.AllDirectories).Select(static p => Path.GetRelativePath(Goldens.Repository, p)).Order(StringComparer.Ordinal)])
        .Where(static d => Blocks(d).Count > 0)];

    [Theory]
    [MemberData(nameof(Documents))]
    public void Code_of_documents_compiles(string document)
    {
        var blocks = Blocks(document);
        // A block with usings is a whole file, and has all that it needs; others go on from those before.
        foreach (var whole in blocks.Where(static b => b.IsWhole)) Compiles(document, "", [whole]);
        if (blocks.Where(static b => !b.IsWhole).ToArray() is { Length: > 0 } parts) Compiles(document, Everything + " using static Given;", parts);
    }

    [Theory]
    [InlineData("var clip = Clip.Load();", 7)]                                  // an argument is missing
    [InlineData("Console.WriteLine(nothing);", 7)]                              // a name that nobody has
    [InlineData("using Panoptes.Representation;\n\nImage.Load(\"a.png\");", 9)] // a using is missing
    public void Code_that_does_not_compile_is_told_with_its_line(string code, int line)
    {
        var block = new Block(7, code);
        var found = Assert.Single(Errors("a.md", block.IsWhole ? "" : Everything + " using static Given;", [block]));
        Assert.StartsWith($"a.md({line},", found, StringComparison.Ordinal);
    }

    sealed record Block(int Line, string Code)
    {
        internal bool IsWhole => Code.StartsWith("using Panoptes.", StringComparison.Ordinal);
    }

    static void Compiles(string document, string usings, IReadOnlyList<Block> blocks)
    {
        var errors = Errors(document, usings, blocks);
        Assert.True(errors.Count == 0, string.Join('\n', errors));
    }

    static IReadOnlyList<string> Errors(string document, string usings, IReadOnlyList<Block> blocks)
    {
        // Each block is a function within that of the block before, so that it sees its names and may have the same ones.
        var directives = string.Concat(blocks.Select(b => $"{At(b)}{string.Join('\n', b.Code.Split('\n').TakeWhile(IsDirective))}\n"));
        var bodies = string.Concat(blocks.Select((b, i) => $"async Task Block{i}()\n{{\n{At(b)}{string.Join('\n', b.Code.Split('\n').Select(static line => IsDirective(line) ? "" : line))}\n"));
        var text = $"{usings}\n{directives}class Document\n{{\n{bodies}{new string('}', blocks.Count)}\n}}";
        return [.. Empty.AddSyntaxTrees(CSharpSyntaxTree.ParseText(text, Language)).GetDiagnostics().Where(static d => d.Severity == DiagnosticSeverity.Error).Select(static d => d.ToString())];

        string At(Block block) => $"#line {block.Line} \"{document}\"\n";

        static bool IsDirective(string line) => line.Length == 0 || (line.StartsWith("using ", StringComparison.Ordinal) && line.EndsWith(';') && !line.Contains('='));
    }

    static List<Block> Blocks(string document)
    {
        var (lines, blocks) = (File.ReadAllLines(Path.Combine(Goldens.Repository, document)), new List<Block>());
        for (var i = 0; i < lines.Length; i++)
        {
            if (lines[i] != "```csharp") continue;
            var end = Array.IndexOf(lines, "```", i + 1);
            Assert.True(end > 0, $"{document}({i + 1}): the code has no end.");
            blocks.Add(new(i + 2, string.Join('\n', lines[(i + 1)..end])));
            i = end;
        }
        return blocks;
    }
}
