using ArchUnitNET.Domain;
using ArchUnitNET.Fluent;
using ArchUnitNET.Loader;
using Panoptes.Generation;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Understanding;
using static ArchUnitNET.Fluent.ArchRuleDefinition;
using Assembly = System.Reflection.Assembly;

namespace Panoptes.Cli.Tests;

/// <summary>The map of docs/architecture.md: the arrows go one way, and the core knows no model.</summary>
public sealed class ArchitectureTests
{
    static readonly Assembly Core = typeof(Module).Assembly, Representation = typeof(Clip).Assembly, Understanding = typeof(PromptableModels).Assembly, Generation = typeof(GenerationModels).Assembly, Cli = typeof(App).Assembly;

    static readonly Architecture House = new ArchLoader().LoadAssemblies(Core, Representation, Understanding, Generation, Cli).Build();

    [Fact]
    public void Arrows_go_from_the_command_to_understanding_and_generation_to_representation_to_the_core()
    {
        var questions = Types().That().ResideInAssembly(Understanding).Or().ResideInAssembly(Generation);
        Holds(Types().That().ResideInAssembly(Core).Should().NotDependOnAny(Types().That().ResideInAssembly(Representation).Or().ResideInAssembly(Understanding).Or().ResideInAssembly(Generation).Or().ResideInAssembly(Cli)));
        Holds(Types().That().ResideInAssembly(Representation).Should().NotDependOnAny(Types().That().ResideInAssembly(Understanding).Or().ResideInAssembly(Generation).Or().ResideInAssembly(Cli)));
        Holds(questions.Should().NotDependOnAny(Types().That().ResideInAssembly(Cli)));
        Holds(Types().That().ResideInAssembly(Understanding).Should().NotDependOnAny(Types().That().ResideInAssembly(Generation)));
        Holds(Types().That().ResideInAssembly(Generation).Should().NotDependOnAny(Types().That().ResideInAssembly(Understanding)));
    }

    [Fact]
    public void Only_the_command_knows_command_lines_and_terminals() => Assert.All((Assembly[])[Core, Representation, Understanding, Generation], static a =>
        Assert.DoesNotContain(a.GetReferencedAssemblies(), static r => r.Name!.StartsWith("Spectre", StringComparison.Ordinal) || r.Name.StartsWith("System.CommandLine", StringComparison.Ordinal)));

    [Fact]
    public void The_core_knows_no_model()
    {
        // Layers live in Nn; a module elsewhere would be somebody's model, and a config record one's settings.
        Holds(Classes().That().ResideInAssembly(Core).And().AreAssignableTo(typeof(Module)).Should().ResideInNamespace(typeof(Module).Namespace!));
        Assert.DoesNotContain(Core.GetTypes(), static t => t.IsSubclassOf(typeof(ModelConfig)));
    }

    [Fact]
    public void Layers_know_nothing_of_files_images_texts_or_data()
    {
        foreach (var inner in (string[])["Panoptes.Nn", "Panoptes.Native"])
            Holds(Types().That().ResideInNamespace(inner).Should().NotDependOnAny(Types().That().ResideInNamespaceMatching(@"^Panoptes\.(Checkpoints|Imaging|Text|Data|Search|Training|Evaluation)(\.|$)")));
        foreach (var part in (string[])["Checkpoints", "Imaging", "Text"])
            Holds(Types().That().ResideInNamespace($"Panoptes.{part}").Should().NotDependOnAny(Types().That().ResideInNamespaceMatching(@"^Panoptes\.(Data|Search|Training|Evaluation)(\.|$)")));
    }

    static void Holds(IArchRule rule)
    {
        var broken = rule.Evaluate(House).Where(static r => !r.Passed).Select(static r => r.Description).ToArray();
        Assert.True(broken.Length == 0, string.Join('\n', broken.Take(10)));
    }
}
