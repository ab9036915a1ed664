using System.CommandLine;
using Panoptes.Data;
using Panoptes.Data.Emoji;
using Spectre.Console;

namespace Panoptes.Cli.Commands;

/// <summary>The data sets that come with the project.</summary>
sealed class DataCommand : ExampleCommand
{
    public DataCommand() : base("data", "Build and look at the bundled data sets.", """
        panoptes data build emoji --out data/emoji
        panoptes data info emoji
        """)
    {
        Add(new Build());
        Add(new Info());
    }

    static Argument<string> Set()
    {
        var set = new Argument<string>("SET") { Description = "emoji" };
        set.AcceptOnlyFromAmong("emoji");
        return set;
    }

    sealed class Build : ExampleCommand
    {
        readonly Argument<string> set = Set();
        readonly Option<string> output = new("--out", "-o") { Description = "The folder that it goes to.", HelpName = "DIR", DefaultValueFactory = static _ => Path.Combine("data", "emoji") };
        readonly Option<int> size = new("--size") { Description = "The side of every image in pixels.", HelpName = "PIXELS", DefaultValueFactory = static _ => 72 };

        public Build() : base("build", "Build a data set from its published sources (downloads about 30 MB once); the same sources give the same bytes.", """
            panoptes data build emoji
            panoptes data build emoji --out /tmp/emoji --size 128
            """)
        {
            Add(set);
            Add(output);
            Add(size);
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
        readonly Argument<string> set = Set();

        public Info() : base("info", "Tell what a bundled data set holds.", "panoptes data info emoji --json")
        {
            Add(set);
            SetAction(Run);
        }

        static int Run(ParseResult parsed)
        {
            var terminal = new Terminal(parsed);
            var emoji = EmojiSet.Open();
            if (terminal.IsJson)
            {
                terminal.WriteJson(new
                {
                    emoji.Size, images = emoji.Images.Count, concepts = emoji.Concepts.Count, held_out_concepts = emoji.Concepts.Count(static c => c.HeldOut), emoji.Styles,
                });
                return App.Success;
            }
            terminal.WriteLine($"{emoji.Images.Count} images of {emoji.Size}x{emoji.Size} pixels: {emoji.Concepts.Count} concepts ({emoji.Concepts.Count(static c => c.HeldOut)} held out) in {emoji.Styles.Count} styles.");
            var table = Terminal.Table("Style", "Images", "License", "Author", "");
            foreach (var style in emoji.Styles)
                table.AddRow(Markup.Escape(style.Title), $"{style.Count}", style.License, Markup.Escape(style.Author), style.HeldOut ? "held out" : "");
            terminal.Write(table);
            return App.Success;
        }
    }

    sealed class Steps(IProgress<Step> progress) : IProgress<EmojiBuildProgress>
    {
        public void Report(EmojiBuildProgress value) => progress.Report(new(value.Done, value.Total));
    }
}
