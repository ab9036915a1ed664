using Panoptes;
using Panoptes.Parity;

// dotnet run -c Release --project tests/Panoptes.Parity -- DIR...: answers every golden case and layout below the folders.
if (args.Length == 0)
{
    Console.Error.WriteLine("usage: Panoptes.Parity DIR...   folders with case.json below them, or layouts");
    return 2;
}
int passed = 0, failed = 0, unsupported = 0;
try
{
    foreach (var path in args.SelectMany(ParityRunner.Find))
    {
        CaseResult result;
        try
        {
            result = ParityRunner.Run(path);
        }
        catch (PanoptesException e)
        {
            result = new(Path.GetFileName(Path.GetDirectoryName(Path.GetFullPath(path))) ?? "", Path.GetFileName(path), CaseStatus.Fail, double.NaN, 0, [e.Message]);
        }
        Console.WriteLine(result);
        _ = result.Status switch { CaseStatus.Pass => passed++, CaseStatus.Fail => failed++, _ => unsupported++ };
    }
}
catch (PanoptesException e)
{
    Console.Error.WriteLine(e.Message);
    return 1;
}
Console.WriteLine($"{passed} passed, {failed} failed, {unsupported} unsupported");
return failed > 0 ? 1 : 0;
