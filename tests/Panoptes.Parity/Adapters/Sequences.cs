using System.Globalization;
using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Understanding;

namespace Panoptes.Parity.Adapters;

/// <summary>Florence-2: what it says of texts that are known, and what it writes by itself.</summary>
sealed class Florence2Adapter : IAdapter, ILayoutAdapter
{
    const string Name = "Florence2ForConditionalGeneration";

    public bool Matches(ParityCase c) => c.Architecture == Name && c.Call == "forward";

    public bool Matches(ParityLayout layout) => layout.Architecture == Name;

    public Module Build(ParityLayout layout) => new Florence2Model(ModelConfig.Parse<Florence2Config>(layout.Config.GetRawText(), layout.Name));

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = PromptableModels.Load<Florence2Model>(c.Folder);
        using var noGrad = no_grad();
        var (ids, mask) = (c.Input("input_ids"), c.Input("attention_mask"));
        var output = model.Forward(c.Input("pixel_values"), ids, c.Input("decoder_input_ids"), mask);
        yield return ("logits", output.Logits);
        yield return ("encoder_last_hidden_state", output.Memory);
        yield return ("image_features", output.ImageFeatures);
        var options = SequenceOptions.Load(c.Folder) with { MaxTokens = c.Arguments.GetProperty("max_new_tokens").GetInt32() };
        foreach (var beams in c.Arguments.GetProperty("num_beams").EnumerateArray().Select(static b => b.GetInt32()))
        {
            var written = model.Generate(output.ImageFeatures, ids, mask, options with { Beams = beams, StopEarly = c.Arguments.GetProperty("early_stopping").GetBoolean() });
            var text = model.Config.TextConfig;
            yield return (beams == 1 ? "greedy_ids" : "beam_ids", Written([.. written.Select(w => (int[])[text.DecoderStartTokenId, .. w.Ids])], text.EosTokenId, text.PadTokenId, options.MaxTokens + 1));
        }
    }

    /// <summary>Rows as generate() gives them: with the end where there was room for one, filled up to the longest.</summary>
    internal static Tensor Written(int[][] rows, int end, int padding, int most)
    {
        int[][] whole = [.. rows.Select(r => r.Length < most ? [.. r, end] : r)];
        var longest = whole.Max(static r => r.Length);
        return tensor([.. whole.SelectMany(r => r.Concat(Enumerable.Repeat(padding, longest - r.Length))).Select(static i => (long)i)], [whole.Length, longest]);
    }
}

/// <summary>Kosmos-2.</summary>
sealed class Kosmos2Adapter : IAdapter
{
    public bool Matches(ParityCase c) => c.Architecture == "Kosmos2ForConditionalGeneration" && c.Call == "forward";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var model = PromptableModels.Load<Kosmos2Model>(c.Folder);
        using var noGrad = no_grad();
        var (ids, places, mask) = (c.Input("input_ids"), c.Input("image_embeds_position_mask"), c.Input("attention_mask"));
        var output = model.Forward(c.Input("pixel_values"), ids, places, mask);
        yield return ("logits", output.Logits);
        yield return ("image_embeds", output.ImageEmbeds);
        var most = c.Arguments.GetProperty("max_new_tokens").GetInt32();
        var written = model.Generate(output.ImageEmbeds, ids, places, mask, SequenceOptions.Load(c.Folder) with { MaxTokens = most });
        var text = model.Config.TextConfig;
        yield return ("greedy_ids", Florence2Adapter.Written([.. written.Select((w, i) => (int[])[.. ids[i].data<long>().Select(static t => (int)t), .. w.Ids])], text.EosTokenId, text.PadTokenId, (int)ids.shape[1] + most));
    }
}

/// <summary>The token schemes, encoded and decoded; texts and ids to the letter.</summary>
sealed class SequenceTokensAdapter : IAdapter
{
    const double Tolerance = 1e-4;

    public bool Matches(ParityCase c) => c.Architecture == "token schemes";

    public IEnumerable<(string Output, Tensor Ours)> Run(ParityCase c)
    {
        using var cases = JsonDocument.Parse(File.ReadAllText(c.File("cases.json")));
        foreach (var scheme in cases.RootElement.EnumerateObject())
        {
            foreach (var (x, i) in scheme.Value.EnumerateArray().Select(static (x, i) => (x, i)))
            {
                var where = string.Create(CultureInfo.InvariantCulture, $"{scheme.Name} {i} ({x.GetProperty("task")})");
                switch (scheme.Name)
                {
                    case "pix2seq_v2":
                        Pix2Seq(x, where);
                        break;
                    case "unified_io":
                        UnifiedIo(x, where);
                        break;
                    case "unitab":
                        UniTab(x, where);
                        break;
                    case "florence2":
                        Florence2(x, where);
                        break;
                    case "kosmos2":
                        Kosmos2(x, where);
                        break;
                    default:
                        throw new PanoptesException($"{c.Name} has the scheme {scheme.Name}, which is unknown.");
                }
            }
        }
        var detection = cases.RootElement.GetProperty("pix2seq_v2").EnumerateArray().First(static x => Text(x, "task") == "detection");
        var (height, width) = Size(detection);
        var boxes = c.Input("pix2seq_boxes");
        var rows = Enumerable.Range(0, (int)boxes.shape[0]).Select(i => Yxyx(boxes[i].data<float>().Select(static v => (double)v).ToArray())).ToArray();
        var labels = Numbers(detection, "labels");
        yield return ("pix2seq_tokens", tensor(rows.SelectMany((b, i) => new Pix2SeqTokens().OfObject(b, (int)labels[i], width, height)).Select(static t => (long)t).ToArray()));
        yield return ("florence2_bins", tensor(rows.SelectMany(b => Florence2Tokens.BinsOf(b, width, height)).ToArray(), [rows.Length, 4]));
    }

    static void Pix2Seq(JsonElement x, string where)
    {
        var scheme = new Pix2SeqTokens().Checked();
        if (Text(x, "task") == "quantize")
        {
            scheme = scheme with { Bins = x.GetProperty("bins").GetInt32() };
            Same(Numbers(x, "expected"), Numbers(x, "values").Select(scheme.Quantize), where);
            return;
        }
        if (Text(x, "task") == "captioning")
        {
            var written = Pix2SeqTokens.Pad(scheme.OfText([.. Numbers(x, "text_ids").Select(static i => (int)i)]), x.GetProperty("max_length").GetInt32());
            Same(Numbers(x, "tokens"), written, where);
            Same(Numbers(x, "decoded"), scheme.Text(written), where);
            Same(Numbers(x, "prompt"), [Pix2SeqTokens.Captioning], where);
            return;
        }
        var (height, width) = Size(x);
        if (Text(x, "task") == "detection")
        {
            var (boxes, labels) = (Rows(x, "boxes_yxyx"), Numbers(x, "labels"));
            var tokens = boxes.SelectMany((b, i) => scheme.OfObject(Yxyx(b), (int)labels[i], width, height)).ToArray();
            Same(Numbers(x, "tokens"), tokens, where);
            var objects = scheme.Objects(tokens, width, height);
            Same(Rows(x, "decoded_boxes").SelectMany(static b => b), objects.SelectMany(static o => Yxyx(o.Box)), where);
            Same(Numbers(x, "decoded_labels"), objects.Select(static o => o.Label), where);
            Same(Numbers(x, "prompt"), [Pix2SeqTokens.Detection], where);
            return;
        }
        var polygons = Text(x, "task") == "instance_segmentation";
        Same(Numbers(x, "prompt"), scheme.Prompt(polygons ? Pix2SeqTokens.InstanceSegmentation : Pix2SeqTokens.KeypointDetection, Yxyx(Numbers(x, "box_yxyx")), x.GetProperty("label").GetInt32(), width, height), where);
        if (!polygons)
        {
            Same(Numbers(x, "tokens"), scheme.OfKeypoints(Keypoints(x), width, height), where);
            return;
        }
        var given = x.GetProperty("polygons_yx").EnumerateArray().Select(static p => (IReadOnlyList<ImagePoint>)[.. p.EnumerateArray().Select(static q => new ImagePoint(q[1].GetDouble(), q[0].GetDouble()))]).ToArray();
        var padded = Pix2SeqTokens.Pad(scheme.OfPolygons(given, width, height), x.GetProperty("max_length").GetInt32());
        Same(Numbers(x, "tokens"), padded, where);
        Same(x.GetProperty("decoded_polygons").EnumerateArray().SelectMany(static p => p.EnumerateArray()).SelectMany(static q => q.EnumerateArray()).Select(static v => v.GetDouble()),
            scheme.Polygons(padded, width, height).SelectMany(static p => p).SelectMany(static q => new[] { q.Y, q.X }), where);
    }

    static void UnifiedIo(JsonElement x, string where)
    {
        var (height, width) = Size(x);
        var scheme = new UnifiedIoTokens { FirstExtraId = x.GetProperty("first_extra_id").GetInt32() };
        var text = Text(x, "text");
        switch (Text(x, "task"))
        {
            case "box":
                var box = Yxyx(Numbers(x, "box_yxyx"));
                var bins = scheme.BinsOf(box, width, height);
                Same(Numbers(x, "bins"), bins, where);
                Same(text, scheme.OfBox(box, width, height), where);
                Same(Numbers(x, "decoded_box"), Yxyx(scheme.BoxOf(bins, width, height)), where);
                break;
            case "keypoint":
                Same(text, scheme.OfKeypoints(Keypoints(x), width, height), where);
                Same(Keypoints(x).Select(static p => p.Visibility), scheme.Keypoints(text, width, height).Select(static p => p.Visibility), where);
                break;
            default:
                NamedBox[] objects = [.. Rows(x, "boxes_yxyx").Zip(x.GetProperty("names").EnumerateArray(), static (b, n) => new NamedBox(Yxyx(b), n.GetString()!))];
                Same(text, scheme.OfObjects(objects, width, height), where);
                Same(string.Join('|', objects.Select(static o => o.Name)), string.Join('|', scheme.Objects(text, width, height).Select(static o => o.Name)), where);
                break;
        }
    }

    static void UniTab(JsonElement x, string where)
    {
        var (height, width) = Size(x);
        var scheme = new UniTabTokens { TextVocabulary = x.GetProperty("text_vocabulary").GetInt32(), Bins = x.GetProperty("bins").GetInt32() };
        Same([x.GetProperty("obj_start_id").GetDouble(), x.GetProperty("obj_end_id").GetDouble()], [scheme.OpenId, scheme.CloseId], where);
        CaptionPiece[] pieces = [.. x.GetProperty("phrases").EnumerateArray().Select(static p => new CaptionPiece(p[0].GetString()!, p[1].ValueKind == JsonValueKind.Null ? null : Yxyx(Numbers(p[1]))))];
        var text = scheme.ToText(pieces, width, height);
        Same(Text(x, "text"), text, where);
        var ids = scheme.Encode(pieces, width, height, static words => [.. words.Select(static c => (int)c)]);
        Same(Rows(x, "box_ids").SelectMany(static b => b), ids.Where(id => id >= scheme.FirstBin), where);
        foreach (var decoded in (IReadOnlyList<CaptionPiece>[])[scheme.Parse(text, width, height), scheme.Decode(ids, width, height, static part => new([.. part.Select(static c => (char)c)]))])
        {
            var boxed = decoded.Where(static p => p.Box is not null).ToArray();
            foreach (var (expected, i) in x.GetProperty("decoded").EnumerateArray().Select(static (e, i) => (e, i)))
            {
                Same(expected[0].GetString()!, boxed[i].Text, where);
                Same(Numbers(expected[1]), Xyxy(boxed[i].Box!.Value), where);
            }
        }
    }

    static void Florence2(JsonElement x, string where)
    {
        var size = Numbers(x, "size_wh");
        var (width, height) = ((int)size[0], (int)size[1]);
        switch (Text(x, "task"))
        {
            case "box":
                var box = Xyxy(Numbers(x, "box_xyxy"));
                var bins = Florence2Tokens.BinsOf(box, width, height);
                Same(Numbers(x, "bins"), bins, where);
                Same(Text(x, "text"), Florence2Tokens.OfBox(box, width, height), where);
                Same(Numbers(x, "decoded_box"), Xyxy(Florence2Tokens.BoxOf(bins, width, height)), where);
                break;
            case "point":
                var point = Numbers(x, "point_xy");
                var (across, down) = (Florence2Tokens.Quantize(point[0], width), Florence2Tokens.Quantize(point[1], height));
                Same(Numbers(x, "bins"), [across, down], where);
                var decoded = Florence2Tokens.PointOf(across, down, width, height);
                Same(Numbers(x, "decoded_point"), [decoded.X, decoded.Y], where);
                break;
            default:
                var found = Florence2Tokens.Boxes(Text(x, "text"), width, height);
                var expected = x.GetProperty("parsed").EnumerateArray().ToArray();
                Same(string.Join('|', expected.Select(static e => Text(e, "cat_name"))), string.Join('|', found.Select(static f => f.Name)), where);
                Same(expected.SelectMany(static e => Numbers(e, "bbox")), found.SelectMany(static f => f.Boxes).SelectMany(Xyxy), where);
                break;
        }
    }

    static void Kosmos2(JsonElement x, string where)
    {
        if (Text(x, "task") == "box")
        {
            var scheme = new Kosmos2Tokens(x.GetProperty("patches_per_side").GetInt32());
            var box = Xyxy(Numbers(x, "box_xyxy_normalised"));
            var (first, last) = scheme.PatchesOf(box);
            Same(Numbers(x, "indices"), [first, last], where);
            Same(Text(x, "text"), scheme.OfBox(box), where);
            Same(Numbers(x, "decoded"), Xyxy(scheme.BoxOf(first, last)), where);
            return;
        }
        var caption = new Kosmos2Tokens().Parse(Text(x, "text"));
        Same(Text(x, "clean_text"), caption.Text, where);
        var entities = x.GetProperty("entities").EnumerateArray().ToArray();
        Same(string.Join('|', entities.Select(static e => e[0].GetString())), string.Join('|', caption.Phrases.Select(static p => p.Text)), where);
        Same(entities.SelectMany(static e => Numbers(e[1])), caption.Phrases.SelectMany(static p => new double[] { p.Start, p.End }), where);
        Same(entities.SelectMany(static e => e[2].EnumerateArray()).SelectMany(Numbers), caption.Phrases.SelectMany(static p => p.Boxes).SelectMany(Xyxy), where);
    }

    static string Text(JsonElement x, string name) => x.GetProperty(name).GetString()!;

    static double[] Numbers(JsonElement x) => [.. x.EnumerateArray().Select(static v => v.GetDouble())];

    static double[] Numbers(JsonElement x, string name) => Numbers(x.GetProperty(name));

    static double[][] Rows(JsonElement x, string name) => [.. x.GetProperty(name).EnumerateArray().Select(Numbers)];

    static (int Height, int Width) Size(JsonElement x) => Numbers(x, "image_size") is [var height, var width] ? ((int)height, (int)width) : throw new PanoptesException("image_size is no pair.");

    static ImageBox Yxyx(double[] b) => new(b[1], b[0], b[3], b[2]);

    static double[] Yxyx(ImageBox b) => [b.Top, b.Left, b.Bottom, b.Right];

    static ImageBox Xyxy(double[] b) => new(b[0], b[1], b[2], b[3]);

    static double[] Xyxy(ImageBox b) => [b.Left, b.Top, b.Right, b.Bottom];

    static Keypoint[] Keypoints(JsonElement x) => [.. Rows(x, "keypoints_yxv").Select(static p => new Keypoint(p[1], p[0], (int)p[2]))];

    static void Same(string expected, string found, string where)
    {
        if (expected != found) throw new PanoptesException($"{where}: expected \"{expected}\", found \"{found}\".");
    }

    static void Same(IEnumerable<double> expected, IEnumerable<int> found, string where)
    {
        if (!expected.Select(static v => (int)v).SequenceEqual(found)) throw new PanoptesException($"{where}: expected {string.Join(", ", expected)}, found {string.Join(", ", found)}.");
    }

    static void Same(IEnumerable<int> expected, IEnumerable<int> found, string where) => Same(expected.Select(static v => (double)v), found, where);

    static void Same(IEnumerable<double> expected, IEnumerable<double> found, string where)
    {
        var (e, f) = (expected.ToArray(), found.ToArray());
        if (e.Length != f.Length || e.Zip(f).Any(static p => Math.Abs(p.First - p.Second) > Tolerance * Math.Max(1, Math.Abs(p.First))))
            throw new PanoptesException($"{where}: expected {string.Join(", ", e)}, found {string.Join(", ", f)}.");
    }
}
