using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Panoptes.Benchmarks;

// What Panoptes reaches on this machine: one JSON line a case.
//
//     Panoptes.Benchmarks CASE... [--threads 2] [--seconds 10]        (--list prints the cases)
//
// Every case builds a full-size public architecture with random weights, warms up once, then repeats for the given time and reports the
// median. peak_rss_mib is the process's own peak; bfloat16_products tells what a product of bfloat16 numbers is computed in here.

var (names, threads, seconds, list) = (new List<string>(), 2, 10.0, false);
for (var i = 0; i < args.Length; i++)
{
    if (args[i] == "--list") list = true;
    else if (args[i] == "--threads" && i + 1 < args.Length && int.TryParse(args[i + 1], CultureInfo.InvariantCulture, out threads) && threads > 0) i++;
    else if (args[i] == "--seconds" && i + 1 < args.Length && double.TryParse(args[i + 1], CultureInfo.InvariantCulture, out seconds) && seconds >= 0) i++;
    else if (!args[i].StartsWith('-') && Case.All.ContainsKey(args[i])) names.Add(args[i]);
    else
    {
        Console.Error.WriteLine($"\"{args[i]}\" is neither a case nor an option: CASE... [--threads N] [--seconds S] [--list]. Cases: {string.Join(", ", Case.All.Keys)}.");
        return 2;
    }
}
if (list || names.Count == 0)
{
    foreach (var name in Case.All.Keys) Console.WriteLine(name);
    return 0;
}

foreach (var name in names)
{
    var benchmark = Case.All[name];
    if (benchmark.KeepsFreedMemory) Panoptes.Native.NativeMemoryPolicy.KeepFreedMemory();
    torch.set_num_threads(threads);
    torch.manual_seed(0);
    using var run = benchmark.Build();
    run.Step();
    var times = new List<double>();
    for (var clock = Stopwatch.StartNew(); clock.Elapsed.TotalSeconds < seconds || times.Count < 3;)
    {
        var start = Stopwatch.GetTimestamp();
        run.Step();
        times.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
    }
    times.Sort();
    var median = (times[(times.Count - 1) / 2] + times[times.Count / 2]) / 2;
    Console.WriteLine(JsonSerializer.Serialize(new
    {
        @case = name,
        value = Math.Round(benchmark.Per / median, 4),
        unit = benchmark.Unit,
        threads,
        runs = times.Count,
        bfloat16_products = Panoptes.Native.TorchOps.HasFastBFloat16 ? "bfloat16" : "float32",
        peak_rss_mib = Case.PeakMemoryMiB(),
    }));
}
return 0;
