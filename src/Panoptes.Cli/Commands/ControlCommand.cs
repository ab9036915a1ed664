using System.CommandLine;
using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Understanding;
using TorchSharp;
using static TorchSharp.torch;

namespace Panoptes.Cli.Commands;

/// <summary>Makes images of words that obey more than words: edges, poses and other conditions, boxes, a CLIP.</summary>
sealed class ControlCommand : ImageCommand
{
    readonly Option<string[]> photo = new("--image", "-i") { Description = "What the condition is drawn of, or, without --kind, the condition itself. May be repeated: one for each network, or one for all.", HelpName = "IMAGE" };
    readonly Option<string[]> kind = new("--kind", "-k") { Description = $"What is drawn of the image: {string.Join(", ", ConditionMakers.All.Select(static k => k.Name))}. May be repeated: one for each network, or one for all.", HelpName = "KIND" };
    readonly Option<string[]> controlnet = new("--controlnet") { Description = "A ControlNet: a folder, a file of the original form, or a hub id. May be repeated; what several say is summed. Without one, and without an adapter, those of the model's own folder.", HelpName = "MODEL" };
    readonly Option<string[]> adapter = new("--adapter") { Description = "A T2I-Adapter: a folder or a hub id. May be repeated; counts behind the ControlNets.", HelpName = "MODEL" };
    readonly Option<double[]> scale = new("--scale") { Description = "How strongly; 1 by default. May be repeated: one for each network, or one for all.", HelpName = "SCALE" };
    readonly Option<double[]> start = new("--start") { Description = "From which part of the steps on ControlNets speak, from 0 to 1. May be repeated: one for each ControlNet, or one for all.", HelpName = "SHARE" };
    readonly Option<double[]> end = new("--end") { Description = "Until which part of the steps networks speak, from 0 to 1; of --boxes 0.3 by default. May be repeated: one for each network and a last one for --boxes, or one for all.", HelpName = "SHARE" };
    // As often as there are ControlNets; words behind it are the prompt's.
    readonly Option<bool> guess = new("--guess") { Description = "ControlNets alone say what is to be seen: for an empty prompt. May be repeated with true or false: one for each ControlNet, or one for all.", Arity = ArgumentArity.ZeroOrMore, CustomParser = static _ => true };
    readonly Option<string?> boxes = new("--boxes") { Description = "For a GLIGEN or a ReCo: phrases and their boxes, as panoptes ground --json writes them, or by hand.", HelpName = "JSON" };
    readonly Option<string?> layout = new("--layout") { Description = "For any Stable Diffusion: words of the prompt and their boxes, in the same forms; the words are led into them, with nothing trained.", HelpName = "JSON" };
    readonly Option<double?> layoutScale = new("--layout-scale") { Description = "How far words are led: 30 by default.", HelpName = "SCALE" };
    readonly Option<string?> guideBoxes = new("--guide-boxes") { Description = "Boxes, in the same forms, in which a detector is to find what they are called: universal guidance.", HelpName = "JSON" };
    readonly Option<string[]> guideMask = new("--guide-mask") { Description = "A mask in which a segmenter is to find what it is called, white where that is to be: universal guidance. May be repeated.", HelpName = "NAME=PNG" };
    readonly Option<string> guideDetector = new("--guide-detector") { Description = "What finds them: an X-Decoder, or, in boxes alone, a DETR, whose names the boxes then have.", HelpName = "MODEL", DefaultValueFactory = static _ => SharedOptions.DefaultFinder };
    readonly Option<string?> guideStyle = new("--guide-style") { Description = "A picture whose style the image is to have, as a CLIP sees it: universal guidance.", HelpName = "IMAGE" };
    readonly Option<int[]> guideBackward = new("--guide-backward") { Description = "Steps of backward guidance, too: 0 by default. May be repeated as --guide-scale.", HelpName = "N" };
    readonly Option<string?> guideText = new("--guide-text") { Description = "What a CLIP is to see in the image: universal guidance.", HelpName = "WORDS" };
    readonly Option<string?> guideClass = new("--guide-class") { Description = "A class that an image classifier is to see in the image, by its name or its number: universal guidance.", HelpName = "NAME" };
    readonly Option<string> guideClassifier = new("--guide-classifier") { Description = "The classifier: a ViT, a Swin, a ConvNeXt … for image classification: a folder or a hub id.", HelpName = "MODEL" };
    readonly Option<string> guideModel = new("--guide-model") { Description = "The CLIP.", HelpName = "MODEL", DefaultValueFactory = static _ => SharedOptions.DefaultModel };
    readonly Option<double[]> guideScale = new("--guide-scale") { Description = "How strongly it leads: 10 by default. May be repeated: one for each guide, in the order text, style, class, boxes, masks, or one for all.", HelpName = "SCALE" };
    readonly ConditionOptions told = new();

    public ControlCommand() : base("control", "Make images of words that obey more than words: a ControlNet's or a T2I-Adapter's condition, drawn of an image; boxes of phrases (GLIGEN, or any Stable Diffusion by layout guidance); what a CLIP is to see. Each PNG says how it was made, and holds its conditions.", """
        panoptes control "a house" --model stable-diffusion-v1-5 --controlnet lllyasviel/sd-controlnet-canny --image photo.jpg --kind canny
        panoptes control "a house" --model M --controlnet canny --controlnet depth --image photo.jpg --kind canny --kind depth --depth depth.png --scale 0.7 --scale 0.4
        panoptes control "a house" --model M --adapter TencentARC/t2iadapter_sketch_sd15v2 --image sketch.png --end 0.5
        panoptes control "a red apple left of a cat" --model gligen --boxes found.json
        panoptes control "a red apple left of a cat" --model stable-diffusion-v1-5 --layout boxes.json
        panoptes control "an animal" --model stable-diffusion-v1-5 --guide-text "a cat" --repeats 3
        panoptes control "a cat" --model stable-diffusion-v1-5 --guide-style painting.jpg --guide-backward 5
        panoptes control "a cat" --model zoo/sd-emoji --guide-boxes boxes.json --guide-scale 5
        panoptes control "a cat beside a tree" --model zoo/sd-emoji --guide-mask cat=left.png --guide-mask tree=right.png --guide-text "a cat" --guide-scale 10 --guide-scale 5
        panoptes control "an animal" --model stable-diffusion-v1-5 --guide-class "tabby cat" --guide-classifier google/vit-base-patch16-224
        panoptes control --from house.png --steps 50
        """, new("--init") { Description = "A picture to be changed, too.", HelpName = "IMAGE" })
    {
        foreach (var option in (ReadOnlySpan<Option>)[photo, kind, controlnet, adapter, scale, start, end, guess, boxes, layout, layoutScale, guideText, guideStyle, guideModel, guideClass, guideClassifier, guideBoxes, guideMask, guideDetector, guideScale, guideBackward, .. told.All]) Add(option);
        foreach (var option in (ReadOnlySpan<Option>)[start, end]) SharedOptions.Share(option);
        kind.CompletionSources.Add([.. ConditionMakers.All.Select(static k => k.Name)]);
    }

    protected override IReadOnlyList<ImageControl> Controls(ParseResult parsed, Made? before, List<IDisposable> held)
    {
        string[] networks = parsed.GetValue(controlnet) ?? [], adapters = parsed.GetValue(adapter) ?? [];
        // A picture for networks that nobody names is for the model's own.
        if (before is null && networks.Length + adapters.Length == 0 && SharedOptions.IsGiven(parsed, photo)) (networks, adapters) = OwnNetworks(parsed, before);
        HashSet<string> kinds = [.. Sources.Where(s => SharedOptions.IsGiven(parsed, s.Option)).Select(static s => s.Kind), .. networks.Take(1).Select(static _ => ControlParameters.ControlNet), .. adapters.Take(1).Select(static _ => ControlParameters.Adapter)];
        if (kinds.Count == 0 && before is not null)
            return [.. Said(parsed, Again(parsed, before)).Select((c, i) => Control(parsed, c, () => ImageParameters.ReadCondition(before.Png, i) ?? throw new PanoptesException($"{before.File} does not hold the condition of its {c.Kind}; name the image and the network again."), held))];
        Idle(parsed, kinds, "");
        if (kinds.Count == 0) throw new UsageException($"Nothing controls the image; expected {Listed([.. Sources.Select(static s => s.Option)])}.");
        var masks = Masks(parsed);
        var controls = Said(parsed, Named(parsed, networks, adapters, masks));
        var pictures = Pictures(parsed, controls.Count(IsNetwork));
        return [.. controls.Select((c, i) => Control(parsed, c, () => i < pictures.Length ? pictures[i] : c.Kind == ControlParameters.Masks ? NamedMask.Stack(masks) : Image.Load(Existing(parsed.GetValue(guideStyle)!)), held))];
    }

    /// <summary>The controls that options name, networks first, as an image says them that was made under them.</summary>
    List<ControlParameters> Named(ParseResult parsed, string[] networks, string[] adapters, NamedMask[] masks)
    {
        var clip = parsed.GetRequiredValue(guideModel);
        ControlParameters?[] all =
        [
            .. networks.Select(static m => new ControlParameters { Kind = ControlParameters.ControlNet, Model = m }),
            .. adapters.Select(static m => new ControlParameters { Kind = ControlParameters.Adapter, Model = m }),
            parsed.GetValue(boxes) is { } grounded ? new() { Kind = ControlParameters.Grounded, Boxes = BoxFile.Read(grounded), End = 0.3 } : null,
            parsed.GetValue(layout) is { } placed ? new() { Kind = ControlParameters.Layout, Boxes = BoxFile.Read(placed), Scale = 30 } : null,
            parsed.GetValue(guideText) is { } words ? new() { Kind = ControlParameters.Said, Model = clip, Text = words, Scale = 10 } : null,
            parsed.GetValue(guideStyle) is not null ? new() { Kind = ControlParameters.Style, Model = clip, Scale = 10 } : null,
            parsed.GetValue(guideClass) is { } shown ? new() { Kind = ControlParameters.Class, Model = parsed.GetValue(guideClassifier) ?? throw new UsageException("--guide-class is told by a classifier; expected --guide-classifier."), Text = shown, Scale = 10 } : null,
            parsed.GetValue(guideBoxes) is { } wanted ? new() { Kind = ControlParameters.Found, Model = parsed.GetRequiredValue(guideDetector), Boxes = BoxFile.Read(wanted), Scale = 10 } : null,
            masks.Length > 0 ? new() { Kind = ControlParameters.Masks, Model = parsed.GetRequiredValue(guideDetector), Names = [.. masks.Select(static m => m.Name)], Scale = 10 } : null,
        ];
        return [.. all.OfType<ControlParameters>()];
    }

    /// <summary>What is to be where, by masks.</summary>
    NamedMask[] Masks(ParseResult parsed)
    {
        NamedMask[] masks = [.. (parsed.GetValue(guideMask) ?? []).Select(static m => m.IndexOf('=', StringComparison.Ordinal) is > 0 and var at && at + 1 < m.Length && !string.IsNullOrWhiteSpace(m[..at])
            ? new NamedMask(m[..at].Trim(), Image.Load(Existing(m[(at + 1)..])).ToRgb(Rgb.Black).ToGray()) : throw new UsageException($"--guide-mask is '{m}'; expected NAME=PNG, such as cat=mask.png."))];
        foreach (var (name, mask) in masks)
            if (!mask.Pixels.AsSpan().ContainsAnyInRange<byte>(128, 255)) throw new PanoptesException($"The mask of '{name}' is black everywhere; expected white where it is to be.");
        return masks.GroupBy(static m => m.Name, StringComparer.Ordinal).FirstOrDefault(static g => g.Count() > 1) is { } twice ? throw new UsageException($"--guide-mask names '{twice.Key}' {twice.Count()} times; expected one mask of everything that is called so.") : masks;
    }

    /// <summary>The controls that an image says it was made under; the models that lead may be named anew.</summary>
    List<ControlParameters> Again(ParseResult parsed, Made before)
    {
        var controls = before.Parameters.Controls ?? [];
        SharedOptions.Idle(parsed, "goes with a network that is named: name it again", [photo, kind, .. told.All]);
        Idle(parsed, [.. controls.Select(static c => c.Kind)], $", under which {before.File} was not made");
        return [.. controls.Select((c, i) => c.Kind is ControlParameters.Grounded or ControlParameters.Layout ? c with { Boxes = Boxes(c, i) } : c with
        {
            Model = ModelOf(c.Kind) is { } option && SharedOptions.IsGiven(parsed, option) ? parsed.GetValue(option) : c.Model ?? throw new PanoptesException($"{before.File} does not say which model its {c.Kind} is; name it again."),
            Boxes = c.Kind == ControlParameters.Found ? Boxes(c, i) : null,
        })];

        IReadOnlyList<PhraseBox> Boxes(ControlParameters c, int i) => [.. (c.Boxes ?? throw Lacking("boxes", c)).Select((b, k) => b.Shown is null ? b : b with { Example = ImageParameters.ReadExample(before.Png, i, k) ?? throw Lacking("examples", c) })];

        PanoptesException Lacking(string what, ControlParameters c) => new($"{before.File} does not hold the {what} of its {c.Kind}; name them again.");
    }

    /// <summary>What names the model that leads to what a control of a kind wants; null: none does.</summary>
    Option<string>? ModelOf(string kind) => kind switch
    {
        ControlParameters.Said or ControlParameters.Style => guideModel,
        ControlParameters.Class => guideClassifier,
        ControlParameters.Found or ControlParameters.Masks => guideDetector,
        _ => null,
    };

    static bool IsNetwork(ControlParameters control) => control.Kind is ControlParameters.ControlNet or ControlParameters.Adapter;

    static bool IsGuide(ControlParameters control) => control.Kind is ControlParameters.Said or ControlParameters.Style or ControlParameters.Class or ControlParameters.Found or ControlParameters.Masks;

    /// <summary>The controls, as strongly and in such steps as the options say, where they say it.</summary>
    List<ControlParameters> Said(ParseResult parsed, List<ControlParameters> controls)
    {
        Each(parsed.GetValue(scale), scale, static (c, v) => c with { Scale = v }, "network", IsNetwork);
        Each(parsed.GetValue(start), start, static (c, v) => c with { Start = v }, "ControlNet", static c => c.Kind == ControlParameters.ControlNet);
        Each(parsed.GetValue(end), end, static (c, v) => c with { End = v }, "network", IsNetwork, static c => c.Kind == ControlParameters.Grounded);
        Each(Guesses(parsed), guess, static (c, v) => c with { Guess = v }, "ControlNet", static c => c.Kind == ControlParameters.ControlNet);
        if (parsed.GetValue(layoutScale) is { } led) Each([led], layoutScale, static (c, v) => c with { Scale = v }, "layout", static c => c.Kind == ControlParameters.Layout);
        Each(parsed.GetValue(guideScale), guideScale, static (c, v) => c with { Scale = v }, "guide", IsGuide);
        Each(parsed.GetValue(guideBackward), guideBackward, static (c, v) => c with { Backward = v }, "guide", IsGuide);
        return controls;

        // One value for each control of a kind, and behind them those of another, or one for all.
        void Each<T>(T[]? given, Option option, Func<ControlParameters, T, ControlParameters> with, string name, Func<ControlParameters, bool> of, Func<ControlParameters, bool>? then = null)
        {
            if (given is null or []) return;
            int[] first = [.. Enumerable.Range(0, controls.Count).Where(i => of(controls[i]))], last = [.. Enumerable.Range(0, controls.Count).Where(i => then?.Invoke(controls[i]) == true)], all = [.. first, .. last];
            if (given.Length > 1 && given.Length != all.Length) throw Uneven(option, given.Length, $"{Counted(first.Length, name)}{(last.Length == 0 ? "" : " and boxes")}");
            foreach (var (place, k) in all.Select(static (p, k) => (p, k))) controls[place] = with(controls[place], given[given.Length == 1 ? 0 : k]);
        }
    }

    /// <summary>Whether ControlNets guess: alone, --guess says it of all.</summary>
    bool[]? Guesses(ParseResult parsed)
    {
        if (parsed.GetResult(guess) is not { Implicit: false } said) return null;
        if (said.Tokens.Count == 0 && said.IdentifierTokenCount == 1) return [true];
        return said.Tokens.Count == said.IdentifierTokenCount ? [.. said.Tokens.Select(static t => bool.Parse(t.Value))] : throw new UsageException("--guess is given several times; expected true or false behind each.");
    }

    static string Counted(int count, string name) => $"{count} {name}{(count == 1 ? "" : "s")}";

    static string Listed(Option[] options) => options.Length == 1 ? options[0].Name : $"{string.Join(", ", options[..^1].Select(static o => o.Name))} or {options[^1].Name}";

    /// <summary>What a control says, with its model in memory.</summary>
    /// <param name="picture">The control's, where it has one.</param>
    static ImageControl Control(ParseResult parsed, ControlParameters c, Func<Image> picture, List<IDisposable> held) => c.Kind switch
    {
        ControlParameters.ControlNet => new ControlNetControl(Load<ControlNetModel>(parsed, c.Model!, held), picture()) { Model = c.Model, Scale = c.Scale, Start = c.Start, End = c.End, Guess = c.Guess },
        ControlParameters.Adapter => new T2IAdapterControl(Load<T2IAdapter>(parsed, c.Model!, held), picture()) { Model = c.Model, Scale = c.Scale, Share = c.End },
        ControlParameters.Grounded => new BoxesControl(c.Boxes!) { Share = c.End },
        ControlParameters.Layout => new LayoutControl(c.Boxes!) { Scale = c.Scale },
        _ => Guide(parsed, c, picture, held) with { Model = c.Model, Scale = c.Scale, BackwardSteps = c.Backward ?? 0 },
    };

    static LossControl Guide(ParseResult parsed, ControlParameters c, Func<Image> picture, List<IDisposable> held) => c.Kind switch
    {
        ControlParameters.Said => new TextControl(LoadClip(parsed, c.Model!, held), c.Text ?? ""),
        ControlParameters.Style => new StyleControl(LoadClip(parsed, c.Model!, held), picture()),
        ControlParameters.Class => new ClassControl(Hold(ModelLoader.LoadEncoder(parsed, ModelLoader.Resolve(parsed, c.Model!)), held), c.Text ?? ""),
        ControlParameters.Found => Found(parsed, c.Model!, c.Boxes!, held),
        ControlParameters.Masks => Found(parsed, c.Model!, NamedMask.Of(picture(), c.Names ?? []), held),
        _ => throw new PanoptesException($"The image was made under a {c.Kind}, which is not known."),
    };

    /// <summary>What a control of a kind is named by.</summary>
    (string Kind, Option Option)[] Sources =>
    [
        (ControlParameters.ControlNet, controlnet), (ControlParameters.Adapter, adapter), (ControlParameters.Grounded, boxes), (ControlParameters.Layout, layout),
        (ControlParameters.Said, guideText), (ControlParameters.Style, guideStyle), (ControlParameters.Class, guideClass), (ControlParameters.Found, guideBoxes), (ControlParameters.Masks, guideMask),
    ];

    /// <summary>Refuses what says how controls work that there are none of.</summary>
    void Idle(ParseResult parsed, IReadOnlyCollection<string> kinds, string where)
    {
        Goes([controlnet], start, guess);
        Goes([controlnet, adapter], [scale, .. told.All]);
        Goes([controlnet, adapter, boxes], end);
        Goes([layout], layoutScale);
        Goes([guideText, guideStyle], guideModel);
        Goes([guideClass], guideClassifier);
        Goes([guideBoxes, guideMask], guideDetector);
        Goes([guideText, guideStyle, guideClass, guideBoxes, guideMask], guideScale, guideBackward);

        void Goes(Option[] with, params ReadOnlySpan<Option> options)
        {
            if (Sources.Any(s => with.Contains(s.Option) && kinds.Contains(s.Kind))) return;
            SharedOptions.Idle(parsed, $"goes with {Listed(with)}{where}", options);
        }
    }

    static Clip LoadClip(ParseResult parsed, string model, List<IDisposable> held)
    {
        var path = ModelLoader.Resolve(parsed, model);
        return PipelineFolder.Is(path) ? throw new PanoptesException($"{model} holds a whole pipeline; expected a CLIP, such as {SharedOptions.DefaultModel}.") : Hold(ModelLoader.Load(parsed, path), held);
    }

    static FoundBoxesControl Found(ParseResult parsed, string model, IReadOnlyList<PhraseBox> boxes, List<IDisposable> held)
    {
        foreach (var box in boxes) box.Check();
        var path = ModelLoader.Resolve(parsed, model);
        var type = PromptableModels.Registry.TypeOf(path);
        // What cannot lead is not loaded first.
        if (type != typeof(XDecoderModel) && type != typeof(DetrForObjectDetection) && type != typeof(DetrForSegmentation)) throw new PanoptesException($"{model} holds no X-Decoder and no DETR; expected one of them, such as {SharedOptions.DefaultFinder}.");
        // In thousandths of the sides, which pixels of any image are.
        const int side = 1000;
        Detection[] wanted = [.. boxes.Select(static b => new Detection((float)b.Left * side, (float)b.Top * side, (float)b.Right * side, (float)b.Bottom * side, 1, b.Phrase))];
        var loss = PictureLosses.Boxes(Hold(ModelLoader.LoadGrounder(parsed, path, []), held), wanted, (side, side));
        return new(loss, boxes);
    }

    static FoundMasksControl Found(ParseResult parsed, string model, IReadOnlyList<NamedMask> masks, List<IDisposable> held)
    {
        var path = ModelLoader.Resolve(parsed, model);
        if (PromptableModels.Registry.TypeOf(path) != typeof(XDecoderModel)) throw new PanoptesException($"{model} holds no X-Decoder, which alone leads to masks; expected one, such as {SharedOptions.DefaultFinder}.");
        var segmenter = Hold(XDecoderSegmenter.Load(path, [], ModelLoader.Load(parsed)), held);
        var wanted = Hold(NamedMask.White(masks).DetachFromDisposeScope(), held);
        return new(PictureLosses.Masks(segmenter, [.. masks.Select(static m => m.Name)], wanted), masks);
    }

    /// <summary>The condition of every network.</summary>
    Image[] Pictures(ParseResult parsed, int count)
    {
        string[] files = parsed.GetValue(photo) ?? [], kinds = [.. (parsed.GetValue(kind) ?? []).Select(static k => k.ToLowerInvariant())];
        if (count == 0) return files.Length + kinds.Length == 0 ? [] : throw new UsageException("--image and --kind are for a network; expected --controlnet or --adapter.");
        if (files.Length == 0) throw new UsageException("No condition is named; expected --image.");
        foreach (var name in kinds) told.Check(parsed, name);
        foreach (var (name, given) in (ReadOnlySpan<(Option, int)>)[(photo, files.Length), (kind, kinds.Length)])
            if (given > 1 && given != count) throw Uneven(name, given, Counted(count, "network"));
        foreach (var name in files) Existing(name);
        var options = told.Settings(parsed, kinds);
        var file = "";
        var models = new List<IDisposable>();
        try
        {
            var sources = told.Sources(parsed, kinds, models, () => file, resized: false);
            return [.. Enumerable.Range(0, count).Select(i =>
            {
                var picture = Image.Load(file = files[files.Length == 1 ? 0 : i]);
                return kinds.Length == 0 ? picture.ToRgb() : ConditionMakers.Create(kinds[kinds.Length == 1 ? 0 : i], sources, options.GetValueOrDefault(kinds[kinds.Length == 1 ? 0 : i])).Make(picture);
            })];
        }
        finally
        {
            foreach (var one in models) one.Dispose();
        }
    }

    static UsageException Uneven(Option option, int given, string of) => new($"{option.Name} is given {given} times for {of}; expected one for each, or one for all.");

    static string Existing(string file) => File.Exists(file) ? file : throw new PanoptesException($"{file} does not exist.");

    static T Load<T>(ParseResult parsed, string model, List<IDisposable> held) where T : Module => Hold(ModelLoader.LoadControl<T>(parsed, model), held);

    static T Hold<T>(T one, List<IDisposable> held) where T : IDisposable
    {
        held.Add(one);
        return one;
    }
}
