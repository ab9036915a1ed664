using System.CommandLine;
using Panoptes.Audio;
using Panoptes.Data;
using Panoptes.Data.Speech;
using Panoptes.Imaging;

namespace Panoptes.Cli.Commands;

/// <summary>Draws what the emoji are in other modalities, for the eye, and their spoken names as files.</summary>
sealed class ShowSensorsCommand : ExampleCommand
{
    const int Side = 96, Series = 200;

    static readonly string[] Shown = ["cat", "fish", "racing car", "snowboarder", "pizza"];

    readonly Argument<string[]> names = new("NAME") { Description = "English names of the emoji; by default some that are spoken.", Arity = ArgumentArity.ZeroOrMore };
    readonly Option<string> output = new("--out", "-o") { Description = "The picture to write (.png, .jpg or .webp).", HelpName = "FILE", DefaultValueFactory = static _ => "sensors.png" };
    readonly Option<string?> wav = new("--wav") { Description = "Write the spoken names that there are as .wav files into this folder, too.", HelpName = "DIR" };
    readonly Option<string?> voice = new("--voice") { Description = "Who speaks; by default the voice that no model is trained on.", HelpName = "VOICE" };

    public ShowSensorsCommand() : base("sensors", "Draw emoji as other modalities have them: the spoken name's spectrogram, a scene's depth, and a simulated thermal camera and motion sensor.", """
        panoptes data show sensors --out sensors.png
        panoptes data show sensors pizza "racing car" --wav spoken
        """)
    {
        Add(names);
        foreach (var option in (ReadOnlySpan<Option>)[output, wav, voice]) Add(option);
        SharedOptions.EndsIn(output, ".png", ".jpg", ".jpeg", ".webp");
        SetAction(Run);
    }

    int Run(ParseResult parsed)
    {
        var terminal = new Terminal(parsed);
        var (set, speech, asked) = (EmojiSet.Open(), SpeechSet.Open(), parsed.GetValue(names) ?? []);
        var speaker = Enumerable.Range(0, speech.Voices.Count).FirstOrDefault(v => parsed.GetValue(voice) is { } name ? speech.Voices[v].Name == name : speech.Voices[v].HeldOut, -1);
        if (speaker < 0) throw new PanoptesException($"There is no voice {parsed.GetValue(voice)}, but {string.Join(", ", speech.Voices.Select(static v => v.Name))}.");
        var concepts = (asked.Length > 0 ? asked : Shown).Select(n => set.Concepts.FirstOrDefault(c => c.Name == n)
            ?? (asked.Length > 0 ? throw new PanoptesException($"No emoji is called \"{n}\".") : null)).OfType<EmojiConcept>().ToArray();
        var sheet = new ContactSheet { Title = "One concept, five modalities", Rows = [.. concepts.Select(c => Row(set, speech, speaker, c))], CellSize = 144, Columns = 5 };
        sheet.Save(parsed.GetRequiredValue(output));
        var spoken = new List<string>();
        if (parsed.GetValue(wav) is { } folder)
        {
            Directory.CreateDirectory(folder);
            foreach (var concept in concepts)
                if (speech.Find(concept.Code, speaker) is { } clip)
                {
                    spoken.Add(Path.Combine(folder, $"{concept.Name.Replace(' ', '-')}.wav"));
                    WavFile.Save(spoken[^1], speech.Sound(clip.Index));
                }
        }
        if (terminal.IsJson) terminal.WriteJson(new { file = parsed.GetRequiredValue(output), voice = speech.Voices[speaker].Name, spoken });
        else terminal.WriteLine($"{concepts.Length} concepts in {parsed.GetRequiredValue(output)}{(spoken.Count > 0 ? $", {spoken.Count} sounds in {parsed.GetValue(wav)}" : "")}.");
        return App.Success;
    }

    static SheetRow Row(EmojiSet set, SpeechSet speech, int speaker, EmojiConcept concept)
    {
        var drawing = set.Images.First(i => i.Concept == concept.Index && !set.Styles[i.Style].HeldOut).Index;
        var cells = new List<SheetCell> { new(new Image(set.Size, set.Size, 4, set.Pixels(drawing).ToArray()).ToRgb(), "image") };
        if (speech.Find(concept.Code, speaker) is { } clip) cells.Add(new(Spectrogram(speech.Sound(clip.Index)), "audio: its name spoken"));
        var scene = new SceneGenerator(set, [drawing], new() { Size = Side, MinObjects = 1, MaxObjects = 1, Scale = new(0.6f, 0.9f) }).Generate(0);
        cells.Add(new(Gray(scene.Depth(), Side, Side, 0, 1), "depth: of a scene"));
        var random = new SampleRandom(1, 0, concept.Index);
        var thermal = new float[Side * Side];
        SimulatedSensors.WriteThermal(set, drawing, Side, 0, ref random, thermal);
        cells.Add(new(Gray(thermal, Side, Side, -0.9f, 1.9f), FormattableString.Invariant($"thermal, SIMULATED: {SimulatedSensors.TemperatureOf(concept):0} °C")));
        var motion = new float[SimulatedSensors.MotionChannels * Series];
        SimulatedSensors.WriteMotion(concept, ref random, motion);
        cells.Add(new(Curves(motion), $"IMU, SIMULATED: {SimulatedSensors.MotionOf(concept).ToString().ToLowerInvariant()}"));
        return new(concept.Name, cells);
    }

    /// <summary>Low frequencies at the bottom.</summary>
    static Image Spectrogram(Waveform sound)
    {
        using var computed = new SpectrogramProcessor().Spectrogram(sound);
        var (bands, frames) = ((int)computed.shape[1], (int)computed.shape[2]);
        var values = computed.data<float>().ToArray();
        var flipped = new float[values.Length];
        for (var b = 0; b < bands; b++) values.AsSpan(b * frames, frames).CopyTo(flipped.AsSpan((bands - 1 - b) * frames));
        return Gray(flipped, frames, bands, -1.2f, 1.2f);
    }

    /// <summary>The six channels below each other.</summary>
    static Image Curves(float[] motion)
    {
        var (band, image) = (Series / SimulatedSensors.MotionChannels, new Image(Series, Series, 3));
        image.Pixels.AsSpan().Fill(255);
        for (var c = 0; c < SimulatedSensors.MotionChannels; c++)
        {
            var last = -1;
            for (var x = 0; x < Series; x++)
            {
                var y = (c * band) + Math.Clamp((int)((band / 2) - ((motion[(c * Series) + x] - (c == 2 ? 1 : 0)) * band / 3)), 0, band - 1);
                for (var at = Math.Min(y, last < 0 ? y : last); at <= Math.Max(y, last); at++) image.Pixels.AsSpan(((at * Series) + x) * 3, 3).Fill(40);
                last = y;
            }
        }
        return image;
    }

    static Image Gray(float[] values, int width, int height, float darkest, float brightest)
    {
        var image = new Image(width, height, 3);
        for (var i = 0; i < values.Length; i++) image.Pixels.AsSpan(3 * i, 3).Fill((byte)Math.Clamp((values[i] - darkest) / (brightest - darkest) * 255, 0, 255));
        return image;
    }
}
