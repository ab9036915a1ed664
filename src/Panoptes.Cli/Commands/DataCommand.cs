using System.Collections.Concurrent;
using System.CommandLine;
using Panoptes.Data;
using Panoptes.Data.Emoji;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>The bundled data sets, and images of one's own: what they hold, whether all of it can be used, and as shards.</summary>
sealed class DataCommand : ExampleCommand
{
    public DataCommand() : base("data", "Build and look at data sets, check images of your own, and pack them into shards.", """
        panoptes data build emoji --out data/emoji
        panoptes data build scenes --out data/scenes
        panoptes data build knowledge
        panoptes data build speech
        panoptes data show scenes --out scenes.png
        panoptes data info emoji
        panoptes data check captions.csv
        panoptes data shards captions.csv shards
        """)
    {
        Add(new Group("build", "Build a data set; the same sources and options give the same bytes.", """
            panoptes data build emoji
            panoptes data build scenes --out data/scenes --count 1000
            """, new BuildEmoji(), new BuildScenesCommand(), new BuildKnowledgeCommand(), new BuildSpeechCommand()));
        Add(new Group("show", "Draw a data set for the eye.", "panoptes data show scenes --out scenes.png", new ShowScenesCommand(), new ShowSensorsCommand()));
        Add(new Info());
        Add(new Check());
        Add(new Shards());
    }

    /// <summary>What is done, of one data set or another.</summary>
    sealed class Group : ExampleCommand
    {
        internal Group(string name, string description, string example, params ReadOnlySpan<ExampleCommand> sets) : base(name, description, example)
        {
            foreach (var set in sets) Add(set);
        }
    }

    /// <summary>Images of one's own, and how a table of them is read.</summary>
    sealed class Source
    {
        internal Argument<string> Path { get; } = new("SOURCE") { Description = "A folder of images (subfolders are classes, a .txt beside an image is its caption), a .csv, .tsv or .parquet table of paths, or .tar shards: 'shard-{000000..000009}.tar'." };

        readonly Option<string?> image = new("--image-column") { Description = "The table's column of image paths; by default filepath, path, image, …", HelpName = "NAME" };
        readonly Option<string?> text = new("--text-column") { Description = "The column of captions; by default title, caption, text, …", HelpName = "NAME" };
        readonly Option<string?> label = new("--label-column") { Description = "The column of labels; by default label, class, …", HelpName = "NAME" };
        readonly Option<string?> root = new("--root") { Description = "The folder that a table's paths start from and must not leave; by default the table's own.", HelpName = "DIR" };

        internal Option[] Options => [image, text, label, root];

        internal ImageData Open(ParseResult parsed, DataProblems? problems = null) => ImageData.Open(parsed.GetRequiredValue(Path),
            new() { ImageColumn = parsed.GetValue(image), TextColumn = parsed.GetValue(text), LabelColumn = parsed.GetValue(label), Root = parsed.GetValue(root) }, problems);
    }

    /// <summary>What a set of images holds, as far as it can be told without decoding.</summary>
    static object Describe(ImageData data, int count) => new
    {
        source = data.Source,
        kind = data is WebDataset ? "shards" : Directory.Exists(data.Source) ? "folder" : "table",
        images = count,
        captions = data.HasText,
        classes = (data as ImageCollection)?.Classes,
        shards = (data as WebDataset)?.Shards.Count,
    };

    static string Summary(ImageData data, int count)
    {
        var classes = (data as ImageCollection)?.Classes.Count ?? 0;
        var parts = new List<string> { $"{count:N0} images" };
        if (data is WebDataset { Shards.Count: var shards }) parts[0] += $" in {shards:N0} {(shards == 1 ? "shard" : "shards")}";
        parts.Add(data.HasText ? "with captions" : "without captions");
        if (classes > 0) parts.Add($"{classes:N0} classes ({string.Join(", ", ((ImageCollection)data).Classes.Take(5))}{(classes > 5 ? ", …" : "")})");
        return string.Join(", ", parts) + ".";
    }

    static object Problems(DataProblems problems) => new { count = problems.Count, first = problems.First.Select(static p => new { kind = p.Kind.ToString(), where = p.Where, message = p.Message }) };

    static void Tell(Terminal terminal, DataProblems problems)
    {
        foreach (var line in problems.Lines()) terminal.Note(line);
    }

    sealed class BuildEmoji : ExampleCommand
    {
        readonly Option<string> output = new("--out", "-o") { Description = "The folder that it goes to.", HelpName = "DIR", DefaultValueFactory = static _ => Path.Combine("data", "emoji") };
        readonly Option<int> size = new("--size") { Description = "The side of every image in pixels.", HelpName = "PIXELS", DefaultValueFactory = static _ => 72 };

        public BuildEmoji() : base("emoji", "Build the emoji set from its published sources (downloads about 30 MB once).", """
            panoptes data build emoji
            panoptes data build emoji --out /tmp/emoji --size 128
            """)
        {
            Add(output);
            Add(size);
            size.Validators.Add(static result =>
            {
                if (result.Tokens is [var token] && int.TryParse(token.Value, out var pixels) && pixels is < 8 or > 1024) result.AddError($"--size is {pixels}; expected 8 to 1024 pixels.");
            });
            SetAction(RunAsync);
        }

        async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
        {
            var terminal = new Terminal(parsed);
            var folder = parsed.GetRequiredValue(output);
            var styles = await terminal.WithProgressAsync("Building emoji", progress =>
                EmojiBuilder.BuildAsync(new() { Output = folder, Size = parsed.GetValue(size) }, new Steps(progress), cancel));
            if (terminal.IsJson) terminal.WriteJson(new { folder, images = styles.Sum(static s => s.Count), styles });
            else terminal.WriteLine($"{styles.Sum(static s => s.Count)} images in {styles.Count} styles in {folder}.");
            return App.Success;
        }
    }

    sealed class Info : ExampleCommand
    {
        readonly Source source = new();

        public Info() : base("info", "Tell what a data set holds: the bundled one ('emoji') or images of your own.", """
            panoptes data info emoji --json
            panoptes data info ~/Pictures
            """)
        {
            Add(source.Path);
            foreach (var option in source.Options) Add(option);
            SetAction(RunAsync);
        }

        async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
        {
            var path = parsed.GetRequiredValue(source.Path);
            if (path == "emoji" && !Directory.Exists(path)) return RunEmoji(parsed);
            var terminal = new Terminal(parsed);
            var (data, count) = await terminal.WithProgress("Reading", _ =>
            {
                var data = source.Open(parsed);
                return (data, data.CountSamples(cancel));
            });
            if (terminal.IsJson) terminal.WriteJson(new { set = Describe(data, count), problems = Problems(data.Problems) });
            else terminal.WriteLine(Summary(data, count));
            if (!terminal.IsJson) Tell(terminal, data.Problems);
            return App.Success;
        }

        static int RunEmoji(ParseResult parsed)
        {
            var terminal = new Terminal(parsed);
            var emoji = EmojiSet.Open();
            if (terminal.IsJson)
            {
                terminal.WriteJson(new
                {
                    emoji.Size,
                    images = emoji.Images.Count,
                    concepts = emoji.Concepts.Count,
                    held_out_concepts = emoji.Concepts.Count(static c => c.HeldOut),
                    emoji.Styles,
                });
                return App.Success;
            }
            terminal.WriteLine($"{emoji.Images.Count} images of {emoji.Size}x{emoji.Size} pixels: {emoji.Concepts.Count} concepts ({emoji.Concepts.Count(static c => c.HeldOut)} held out) in {emoji.Styles.Count} styles.");
            var table = Terminal.Table("Style", "Images", "License", "Author", "");
            foreach (var style in emoji.Styles)
                table.AddRow(Terminal.Escape(style.Title), $"{style.Count}", style.License, Terminal.Escape(style.Author), style.HeldOut ? "held out" : "");
            terminal.Write(table);
            return App.Success;
        }
    }

    /// <summary>Reads and decodes everything.</summary>
    sealed class Check : ExampleCommand
    {
        readonly Source source = new();

        public Check() : base("check", "Read and decode every image of a set: how many can be used, their sizes, and what is wrong with the others. Exit code 1 if anything is.", """
            panoptes data check ~/Pictures
            panoptes data check pairs.tsv --root /data/images --text-column alt
            panoptes data check 'shards/shard-{000000..000009}.tar' --json
            """)
        {
            Add(source.Path);
            foreach (var option in source.Options) Add(option);
            SetAction(RunAsync);
        }

        async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
        {
            var terminal = new Terminal(parsed);
            var (data, count, bytes, sides) = await terminal.WithProgress("Checking", progress =>
            {
                var data = source.Open(parsed);
                var total = data.CountSamples(cancel);
                var (gate, done, bytes, sides) = (new Lock(), 0, 0L, new List<(int Width, int Height)>());
                // No sample waits in a buffer: a set may be of any size.
                var samples = Partitioner.Create(data.Read(cancel), EnumerablePartitionerOptions.NoBuffering);
                Parallel.ForEach(samples, new ParallelOptions { CancellationToken = cancel, MaxDegreeOfParallelism = Environment.ProcessorCount }, sample =>
                {
                    var image = Decode(sample, data.Problems);
                    lock (gate)
                    {
                        progress.Report(new(++done, total));
                        if (image is null) return;
                        bytes += sample.Encoded.Length;
                        sides.Add((image.Width, image.Height));
                    }
                });
                return (data, sides.Count, bytes, sides);
            });
            if (count == 0) throw new PanoptesException($"{data.Source} has no image that can be used.", data.Problems.Lines());
            var (smallest, largest) = (sides.MinBy(static s => (long)s.Width * s.Height), sides.MaxBy(static s => (long)s.Width * s.Height));
            if (terminal.IsJson)
            {
                terminal.WriteJson(new
                {
                    set = Describe(data, count),
                    bytes,
                    smallest = new { smallest.Width, smallest.Height },
                    largest = new { largest.Width, largest.Height },
                    problems = Problems(data.Problems),
                });
            }
            else
            {
                terminal.WriteLine(Summary(data, count));
                terminal.WriteLine($"{smallest.Width}x{smallest.Height} to {largest.Width}x{largest.Height} pixels, {bytes / 1e6:N1} MB.");
                Tell(terminal, data.Problems);
            }
            return data.Problems.Count == 0 ? App.Success : App.Failed;
        }
    }

    static Panoptes.Imaging.Image? Decode(ImageSample sample, DataProblems problems)
    {
        try
        {
            return sample.Decode();
        }
        catch (PanoptesException e)
        {
            problems.Add(new(DataProblemKind.BadImage, sample.Name, e.Message));
            return null;
        }
    }

    /// <summary>Any set to WebDataset shards.</summary>
    sealed class Shards : ExampleCommand
    {
        readonly Source source = new();
        readonly Argument<string> output = new("DIR") { Description = "The folder that the shards go to; it must hold none yet." };
        readonly Option<int> samples = new("--samples") { Description = "Samples a shard.", HelpName = "N", DefaultValueFactory = static _ => new WebDatasetWriterOptions().MaxSamples };
        readonly Option<int> megabytes = new("--megabytes") { Description = "The most a shard may hold.", HelpName = "MB", DefaultValueFactory = static _ => 1000 };
        readonly Option<bool> strict = new("--strict") { Description = "An image that cannot be used is an error; by default it is counted and left out." };

        public Shards() : base("shards", "Pack images with captions and labels into WebDataset tar shards; images that cannot be decoded are left out.", """
            panoptes data shards pairs.csv shards
            panoptes data shards ~/Pictures shards --samples 1000 --strict
            """)
        {
            Add(source.Path);
            Add(output);
            foreach (var option in (ReadOnlySpan<Option>)[samples, megabytes, strict, .. source.Options]) Add(option);
            SharedOptions.AtLeastOne(samples);
            SharedOptions.AtLeastOne(megabytes);
            SetAction(RunAsync);
        }

        async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
        {
            var terminal = new Terminal(parsed);
            var folder = parsed.GetRequiredValue(output);
            var (data, count, shards) = await terminal.WithProgress("Packing", progress =>
            {
                var data = source.Open(parsed, new(parsed.GetValue(strict)));
                var (total, done, count) = (data.CountSamples(cancel), 0, 0);
                var shards = WebDatasetWriter.Write(folder, Good(), new() { MaxSamples = parsed.GetValue(samples), MaxBytes = parsed.GetValue(megabytes) * 1_000_000L }, cancel);
                return (data, count, shards);

                IEnumerable<ImageSample> Good()
                {
                    foreach (var sample in data.Read(cancel))
                    {
                        progress.Report(new(++done, total));
                        if (Decode(sample, data.Problems) is null) continue;
                        count++;
                        yield return sample;
                    }
                }
            });
            if (terminal.IsJson) terminal.WriteJson(new { folder, images = count, shards, problems = Problems(data.Problems) });
            else
            {
                terminal.WriteLine($"{count:N0} images in {shards.Count:N0} {(shards.Count == 1 ? "shard" : "shards")} in {folder}.");
                Tell(terminal, data.Problems);
            }
            return App.Success;
        }
    }

    sealed class Steps(IProgress<Step> progress) : IProgress<EmojiBuildProgress>
    {
        public void Report(EmojiBuildProgress value) => progress.Report(new(value.Done, value.Total));
    }
}
