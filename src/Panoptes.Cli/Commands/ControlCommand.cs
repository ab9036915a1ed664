using System.CommandLine;
using Panoptes.Generation;
using Panoptes.Imaging;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Understanding;

namespace Panoptes.Cli.Commands;

/// <summary>Makes images of words that obey more than words: edges, poses and other conditions, boxes, a CLIP.</summary>
sealed class ControlCommand : ImageCommand
{
    readonly Option<string[]> photo = new("--image", "-i") { Description = "What the condition is drawn of, or, without --kind, the condition itself. May be repeated: one for each network, or one for all.", HelpName = "IMAGE" };
    readonly Option<string[]> kind = new("--kind", "-k") { Description = $"What is drawn of the image: {string.Join(", ", ConditionMakers.All.Select(static k => k.Name))}. May be repeated: one for each network, or one for all.", HelpName = "KIND" };
    readonly Option<string[]> controlnet = new("--controlnet") { Description = "A ControlNet: a folder or a hub id. May be repeated; what several say is summed. Without one, and without an adapter, those of the model's own folder.", HelpName = "MODEL" };
    readonly Option<string[]> adapter = new("--adapter") { Description = "A T2I-Adapter: a folder or a hub id. May be repeated; counts behind the ControlNets.", HelpName = "MODEL" };
    readonly Option<double[]> scale = new("--scale") { Description = "How strongly; 1 by default. May be repeated: one for each network, or one for all.", HelpName = "SCALE" };
    readonly Option<double?> start = new("--start") { Description = "From which part of the steps on ControlNets speak, from 0 to 1.", HelpName = "SHARE" };
    readonly Option<double?> end = new("--end") { Description = "Until which part of the steps networks speak, from 0 to 1; of boxes 0.3 by default.", HelpName = "SHARE" };
    readonly Option<bool> guess = new("--guess") { Description = "ControlNets alone say what is to be seen: for an empty prompt." };
    readonly Option<string?> boxes = new("--boxes") { Description = "For a GLIGEN: phrases and their boxes, as panoptes ground --json writes them, or by hand.", HelpName = "JSON" };
    readonly Option<string?> layout = new("--layout") { Description = "For any Stable Diffusion: words of the prompt and their boxes, in the same forms; the words are led into them, with nothing trained.", HelpName = "JSON" };
    readonly Option<double?> layoutScale = new("--layout-scale") { Description = "How far words are led: 30 by default.", HelpName = "SCALE" };
    readonly Option<string?> guideBoxes = new("--guide-boxes") { Description = "Boxes, in the same forms, in which a detector is to find what they are called: universal guidance.", HelpName = "JSON" };
    readonly Option<string> guideDetector = new("--guide-detector") { Description = "What finds them: an X-Decoder, or a DETR, whose names the boxes then have.", HelpName = "MODEL", DefaultValueFactory = static _ => SharedOptions.DefaultFinder };
    readonly Option<string?> guideStyle = new("--guide-style") { Description = "A picture whose style the image is to have, as a CLIP sees it: universal guidance.", HelpName = "IMAGE" };
    readonly Option<int?> guideBackward = new("--guide-backward") { Description = "Steps of backward guidance, too: 0 by default.", HelpName = "N" };
    readonly Option<string?> guideText = new("--guide-text") { Description = "What a CLIP is to see in the image: universal guidance.", HelpName = "WORDS" };
    readonly Option<string> guideModel = new("--guide-model") { Description = "The CLIP.", HelpName = "MODEL", DefaultValueFactory = static _ => SharedOptions.DefaultModel };
    readonly Option<double?> guideScale = new("--guide-scale") { Description = "How strongly it leads: 10 by default.", HelpName = "SCALE" };
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
        panoptes control --from house.png --steps 50
        """, new("--init") { Description = "A picture to be changed, too.", HelpName = "IMAGE" })
    {
        foreach (var option in (ReadOnlySpan<Option>)[photo, kind, controlnet, adapter, scale, start, end, guess, boxes, layout, layoutScale, guideBoxes, guideDetector, guideStyle, guideBackward, guideText, guideModel, guideScale, .. told.All]) Add(option);
        foreach (var option in (ReadOnlySpan<Option>)[start, end]) SharedOptions.Share(option);
        kind.CompletionSources.Add([.. ConditionMakers.All.Select(static k => k.Name)]);
    }

    protected override IReadOnlyList<ImageControl> Controls(ParseResult parsed, Made? before, List<IDisposable> held)
    {
        string[] networks = parsed.GetValue(controlnet) ?? [], adapters = parsed.GetValue(adapter) ?? [];
        // A picture for networks that nobody names is for the model's own.
        if (before is null && networks.Length + adapters.Length == 0 && SharedOptions.IsGiven(parsed, photo)) (networks, adapters) = OwnNetworks(parsed, before);
        HashSet<string> kinds = [.. Sources.Where(s => SharedOptions.IsGiven(parsed, s.Option)).Select(static s => s.Kind), .. networks.Take(1).Select(static _ => ControlParameters.ControlNet), .. adapters.Take(1).Select(static _ => ControlParameters.Adapter)];
        var any = kinds.Count > 0;
        if (!any && before is not null) return Again(parsed, before, held);
        Idle(parsed, kinds, "");
        if (!any) throw new UsageException("Nothing controls the image; expected --controlnet, --adapter, --boxes, --layout, --guide-text, --guide-boxes or --guide-style.");
        var controls = new List<ImageControl>();
        string[] all = [.. networks, .. adapters];
        var pictures = Pictures(parsed, all.Length, held);
        var scales = Each(parsed.GetValue(scale) ?? [], all.Length, scale.Name, 1);
        for (var i = 0; i < all.Length; i++)
        {
            ImageControl one = i < networks.Length
                ? new ControlNetControl(Load<ControlNetModel>(parsed, all[i], held), pictures[i]) { Scale = scales[i], Start = parsed.GetValue(start) ?? 0, End = parsed.GetValue(end) ?? 1, Guess = parsed.GetValue(guess) }
                : new T2IAdapterControl(Load<T2IAdapter>(parsed, all[i], held), pictures[i]) { Scale = scales[i], Share = parsed.GetValue(end) ?? 1 };
            controls.Add(one with { Model = all[i] });
        }
        if (parsed.GetValue(boxes) is { } grounded) controls.Add(new BoxesControl(BoxFile.Read(grounded)) { Share = parsed.GetValue(end) ?? 0.3 });
        if (parsed.GetValue(layout) is { } placed) controls.Add(new LayoutControl(BoxFile.Read(placed)) { Scale = parsed.GetValue(layoutScale) ?? 30 });
        var (strength, backward, clip) = (parsed.GetValue(guideScale) ?? 10, parsed.GetValue(guideBackward) ?? 0, parsed.GetRequiredValue(guideModel));
        if (parsed.GetValue(guideText) is { } words) controls.Add(new TextControl(LoadClip(parsed, clip, held), words) { Model = clip, Scale = strength, BackwardSteps = backward });
        if (parsed.GetValue(guideStyle) is { } style)
        {
            if (!File.Exists(style)) throw new PanoptesException($"{style} does not exist.");
            controls.Add(new StyleControl(LoadClip(parsed, clip, held), Image.Load(style)) { Model = clip, Scale = strength, BackwardSteps = backward });
        }
        if (parsed.GetValue(guideBoxes) is { } wanted) controls.Add(Found(parsed, parsed.GetRequiredValue(guideDetector), BoxFile.Read(wanted), held) with { Scale = strength, BackwardSteps = backward });
        return controls;
    }

    /// <summary>What a control of a kind is named by.</summary>
    (string Kind, Option Option)[] Sources =>
    [
        (ControlParameters.ControlNet, controlnet), (ControlParameters.Adapter, adapter), (ControlParameters.Grounded, boxes), (ControlParameters.Layout, layout),
        (ControlParameters.Said, guideText), (ControlParameters.Style, guideStyle), (ControlParameters.Found, guideBoxes),
    ];

    /// <summary>Refuses what says how controls work that there are none of.</summary>
    void Idle(ParseResult parsed, IReadOnlyCollection<string> kinds, string where)
    {
        Goes([controlnet], start, guess);
        Goes([controlnet, adapter], [scale, .. told.All]);
        Goes([controlnet, adapter, boxes], end);
        Goes([layout], layoutScale);
        Goes([guideText, guideStyle], guideModel);
        Goes([guideBoxes], guideDetector);
        Goes([guideText, guideStyle, guideBoxes], guideScale, guideBackward);

        void Goes(Option[] with, params ReadOnlySpan<Option> options)
        {
            if (Sources.Any(s => with.Contains(s.Option) && kinds.Contains(s.Kind))) return;
            SharedOptions.Idle(parsed, $"goes with {(with.Length == 1 ? with[0].Name : $"{string.Join(", ", with[..^1].Select(static o => o.Name))} or {with[^1].Name}")}{where}", options);
        }
    }

    static Clip LoadClip(ParseResult parsed, string model, List<IDisposable> held) => Hold(ModelLoader.Load(parsed, ModelLoader.Resolve(model)), held);

    static FoundBoxesControl Found(ParseResult parsed, string model, IReadOnlyList<PhraseBox> boxes, List<IDisposable> held)
    {
        foreach (var box in boxes) box.Check();
        var path = ModelLoader.Resolve(model);
        var type = PromptableModels.Registry.TypeOf(path);
        // What cannot lead is not loaded first.
        if (type != typeof(XDecoderModel) && type != typeof(DetrForObjectDetection) && type != typeof(DetrForSegmentation)) throw new PanoptesException($"{model} holds no X-Decoder and no DETR; expected one of them, such as {SharedOptions.DefaultFinder}.");
        // In thousandths of the sides, which pixels of any image are.
        const int side = 1000;
        Detection[] wanted = [.. boxes.Select(static b => new Detection((float)b.Left * side, (float)b.Top * side, (float)b.Right * side, (float)b.Bottom * side, 1, b.Phrase))];
        var loss = PictureLosses.Boxes(Hold(ModelLoader.LoadGrounder(parsed, path, []), held), wanted, (side, side));
        return new(loss, boxes) { Model = model };
    }

    /// <summary>The controls that an image says it was made under, with the pictures that its file holds; how strongly, and in which steps, may be said anew.</summary>
    List<ImageControl> Again(ParseResult parsed, Made before, List<IDisposable> held)
    {
        var told = before.Parameters.Controls ?? [];
        SharedOptions.Idle(parsed, "goes with a network that is named: name it again", [photo, kind, .. this.told.All]);
        var networks = told.Count(static c => c.Kind is ControlParameters.ControlNet or ControlParameters.Adapter);
        Idle(parsed, [.. told.Select(static c => c.Kind)], $", under which {before.File} was not made");
        var scales = parsed.GetValue(scale) is { Length: > 0 } given ? Each(given, networks, scale.Name, 1) : [.. told.Where(static c => c.Kind is ControlParameters.ControlNet or ControlParameters.Adapter).Select(static c => c.Scale)];
        var controls = new List<ImageControl>();
        var network = 0;
        foreach (var (own, i) in told.Select(static (c, i) => (c, i)))
        {
            var c = own.Kind switch
            {
                ControlParameters.ControlNet or ControlParameters.Adapter => own with { Scale = scales[network++], Start = parsed.GetValue(start) ?? own.Start, End = parsed.GetValue(end) ?? own.End, Guess = own.Guess || parsed.GetValue(guess) },
                ControlParameters.Grounded => own with { End = parsed.GetValue(end) ?? own.End },
                ControlParameters.Layout => own with { Scale = parsed.GetValue(layoutScale) ?? own.Scale },
                _ => own with
                {
                    Scale = parsed.GetValue(guideScale) ?? own.Scale,
                    Backward = parsed.GetValue(guideBackward) ?? own.Backward,
                    Model = own.Kind == ControlParameters.Found ? Named(guideDetector) ?? own.Model : Named(guideModel) ?? own.Model,
                },
            };
            Image Picture() => ImageParameters.ReadCondition(before.Png, i) ?? throw new PanoptesException($"{before.File} does not hold the condition of its {c.Kind}; name the image and the network again.");
            string Model() => c.Model ?? throw new PanoptesException($"{before.File} does not say which model its {c.Kind} is; name it again.");
            IReadOnlyList<PhraseBox> Boxes() => [.. (c.Boxes ?? throw Lacking("boxes")).Select((b, k) => b.Shown is null ? b : b with { Example = ImageParameters.ReadExample(before.Png, i, k) ?? throw Lacking("examples") })];
            PanoptesException Lacking(string what) => new($"{before.File} does not hold the {what} of its {c.Kind}; name them again.");
            controls.Add(c.Kind switch
            {
                ControlParameters.ControlNet => new ControlNetControl(Load<ControlNetModel>(parsed, Model(), held), Picture()) { Model = c.Model, Scale = c.Scale, Start = c.Start, End = c.End, Guess = c.Guess },
                ControlParameters.Adapter => new T2IAdapterControl(Load<T2IAdapter>(parsed, Model(), held), Picture()) { Model = c.Model, Scale = c.Scale, Share = c.End },
                ControlParameters.Grounded => new BoxesControl(Boxes()) { Share = c.End },
                ControlParameters.Layout => new LayoutControl(Boxes()) { Scale = c.Scale },
                ControlParameters.Said => new TextControl(LoadClip(parsed, Model(), held), c.Text ?? "") { Model = c.Model, Scale = c.Scale, BackwardSteps = c.Backward ?? 0 },
                ControlParameters.Style => new StyleControl(LoadClip(parsed, Model(), held), Picture()) { Model = c.Model, Scale = c.Scale, BackwardSteps = c.Backward ?? 0 },
                ControlParameters.Found => Found(parsed, Model(), Boxes(), held) with { Scale = c.Scale, BackwardSteps = c.Backward ?? 0 },
                _ => throw new PanoptesException($"{before.File} was made under a {c.Kind}, which is not known."),
            });
        }
        return controls;

        string? Named(Option<string> option) => SharedOptions.IsGiven(parsed, option) ? parsed.GetValue(option) : null;
    }

    /// <summary>The condition of every network.</summary>
    Image[] Pictures(ParseResult parsed, int count, List<IDisposable> held)
    {
        string[] files = parsed.GetValue(photo) ?? [], kinds = [.. (parsed.GetValue(kind) ?? []).Select(static k => k.ToLowerInvariant())];
        if (count == 0) return files.Length + kinds.Length == 0 ? [] : throw new UsageException("--image and --kind are for a network; expected --controlnet or --adapter.");
        if (files.Length == 0) throw new UsageException("No condition is named; expected --image.");
        foreach (var name in kinds) told.Check(parsed, name);
        foreach (var name in files)
            if (!File.Exists(name)) throw new PanoptesException($"{name} does not exist.");
        var options = told.Settings(parsed, kinds);
        var file = "";
        var models = new List<IDisposable>();
        try
        {
            var sources = told.Sources(parsed, kinds, models, () => file, resized: false);
            string[] of = Each(files, count, photo.Name, "");
            string?[] drawn = Each<string?>(kinds, count, kind.Name, null);
            return [.. of.Zip(drawn).Select(p =>
            {
                var picture = Image.Load(file = p.First);
                return p.Second is { } name ? ConditionMakers.Create(name, sources, options.GetValueOrDefault(name)).Make(picture) : picture.ToRgb();
            })];
        }
        finally
        {
            foreach (var one in models) one.Dispose();
        }
    }

    /// <summary>One value for each, or one for all.</summary>
    static T[] Each<T>(T[] given, int count, string option, T usual) => given.Length == 0 ? [.. Enumerable.Repeat(usual, count)] : given.Length == 1 ? [.. Enumerable.Repeat(given[0], count)] : given.Length == count ? given
        : throw new UsageException($"{option} is given {given.Length} times for {count} network{(count == 1 ? "" : "s")}; expected one for each, or one for all.");

    static T Load<T>(ParseResult parsed, string model, List<IDisposable> held) where T : Module => Hold(ModelLoader.LoadControl<T>(parsed, model), held);

    static T Hold<T>(T one, List<IDisposable> held) where T : IDisposable
    {
        held.Add(one);
        return one;
    }
}
