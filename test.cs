// Restores, builds and runs every test, then prints one line: N passed, N failed, N skipped.    dotnet run test.cs
#:property PublishAot=false
using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Xml.Linq;

var root = Root();
var results = Path.Combine(root, "artifacts", "tests");
if (Directory.Exists(results)) Directory.Delete(results, recursive: true);

// One project at a time: libtorch takes every core by itself.
var exit = Run(["test", Path.Combine(root, "Panoptes.slnx"), "-c", "Release", "--nologo", "-m:1", "--logger", "trx", "--results-directory", results, .. args]);

int passed = 0, failed = 0, skipped = 0;
foreach (var file in Directory.Exists(results) ? Directory.GetFiles(results, "*.trx", SearchOption.AllDirectories) : [])
{
    var counters = XDocument.Load(file).Descendants().First(e => e.Name.LocalName == "Counters");
    int Count(string name) => int.Parse(counters.Attribute(name)?.Value ?? "0", CultureInfo.InvariantCulture);
    passed += Count("passed");
    failed += Count("failed") + Count("error") + Count("timeout") + Count("aborted");
    skipped += Count("total") - Count("executed");
}
if (exit != 0 && failed == 0)
{
    Console.Error.WriteLine("The build or a test host failed before its tests could report; see above.");
    failed = 1;
}
Console.WriteLine($"{passed} passed, {failed} failed, {skipped} skipped");
return failed == 0 && passed > 0 ? 0 : 1;

static string Root([CallerFilePath] string file = "") => Path.GetDirectoryName(file)!;

static int Run(string[] arguments)
{
    using var process = Process.Start(new ProcessStartInfo("dotnet", arguments))!;
    process.WaitForExit();
    return process.ExitCode;
}
