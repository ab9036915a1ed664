namespace Panoptes.Generation;

/// <summary>Words of a prompt, and where what they mean belongs.</summary>
/// <param name="Tokens">Their places in the text encoder's tokens, the start token being 0; those of a long prompt's parts follow each other, a context length each.</param>
/// <param name="Boxes">Together: left, top, right and bottom, parts of the image's sides from 0 to 1.</param>
public sealed record LayoutBox(IReadOnlyList<int> Tokens, IReadOnlyList<(double Left, double Top, double Right, double Bottom)> Boxes)
{
    /// <summary>Phrases of a prompt and their boxes, together where one has several.</summary>
    /// <param name="prompts">Reads the prompt.</param>
    /// <param name="prompt">In words.</param>
    /// <param name="boxes">At least one.</param>
    /// <exception cref="PanoptesException">No boxes, one that is none, or a phrase that is not in one part of the prompt.</exception>
    public static IReadOnlyList<LayoutBox> Of(ClipPrompts prompts, string prompt, IReadOnlyList<PhraseBox> boxes)
    {
        if (boxes.Count == 0) throw new PanoptesException("The layout has no boxes; expected one at least.");
        // All parts of a long prompt stand behind each other.
        int[] ids = [.. prompts.TokensOf(prompt).Windows.SelectMany(static w => w)];
        return [.. boxes.GroupBy(static b => b.Phrase.Trim(), StringComparer.OrdinalIgnoreCase).Select(group =>
        {
            foreach (var box in group) box.Check();
            var phrase = prompts.Tokenizer.Encode(group.Key, addSpecialTokens: false);
            var start = phrase.Length == 0 ? -1 : ids.AsSpan().IndexOf(phrase);
            if (start < 0) throw new PanoptesException($"'{group.Key}' has a box, but does not occur in the prompt as it is read; expected words of \"{PromptTokens.Shown(prompt)}\".");
            return new LayoutBox([.. Enumerable.Range(start, phrase.Length)], [.. group.Select(static b => (b.Left, b.Top, b.Right, b.Bottom))]);
        })];
    }
}

/// <summary>
/// Layout guidance (Chen et al. 2023, arXiv:2304.03373, backward guidance): in the first steps the latents are moved until the words' attention in the middle and in upward levels up to the first that is finer lies in their boxes.
/// Nothing is trained.
/// </summary>
public sealed class LayoutGuidance : IStepHook
{
    /// <summary>Of all images, or of each.</summary>
    readonly IReadOnlyList<IReadOnlyList<LayoutBox>> layouts;

    LayoutGuidance(IReadOnlyList<IReadOnlyList<LayoutBox>> layouts) => this.layouts = layouts;

    /// <param name="layout">Of all images; at least one object.</param>
    public LayoutGuidance(IReadOnlyList<LayoutBox> layout) : this([layout]) { }

    /// <summary>The same of images that have layouts of their own.</summary>
    /// <param name="layouts">Each image's; at least one object.</param>
    /// <param name="scale">As <see cref="Scale"/>.</param>
    public static LayoutGuidance OfEach(IReadOnlyList<IReadOnlyList<LayoutBox>> layouts, double scale = 30) => new(layouts) { Scale = scale };

    /// <summary>How far latents are moved: the paper's η.</summary>
    public double Scale { get; init; } = 30;

    /// <summary>In how many of the first steps.</summary>
    public int Steps { get; init; } = 10;

    /// <summary>How often in each at most.</summary>
    public int Iterations { get; init; } = 5;

    /// <summary>Images whose loss is no more than this are not moved.</summary>
    public double Enough { get; init; } = 0.2;

    public void Asking(DenoisingStep step)
    {
        if (step.Before >= Steps) return;
        using var scope = NewDisposeScope();
        var latents = step.Latents;
        if (layouts.Count != 1 && layouts.Count != latents.shape[0]) throw new PanoptesException($"Layouts of {layouts.Count} images were given for {latents.shape[0]}; expected those of each, or once that of all.");
        for (var i = 0; i < Iterations; i++)
        {
            step.Cancel.ThrowIfCancellationRequested();
            using var grad = enable_grad();
            var at = latents.detach().requires_grad_();
            using var maps = new Maps();
            // Only what is wanted is looked at: one half of guidance.
            using (step.Denoising.Model.Predict(step.Ask(at, guided: false) with { Attention = maps })) { }
            if (maps.Of.Count == 0) throw new PanoptesException("Layout guidance needs a network whose middle or upward levels attend to the text; this one has none.");
            // Each image is moved as if it were alone.
            var losses = stack(Enumerable.Range(0, (int)latents.shape[0]).Select(k => Loss([.. maps.Of.Select(m => m[k])], layouts[layouts.Count == 1 ? 0 : k], maps.Sizes)));
            var far = losses.detach().gt(Enough);
            if (!far.any().item<bool>()) break;
            latents = Moved(at.detach(), autograd.grad([losses.masked_select(far).sum()], [at])[0], step.Run.Level(step.Index).Sigma, Scale).detach();
        }
        if (ReferenceEquals(latents, step.Latents)) return;
        step.Latents = latents.MoveToOuterDisposeScope();
        step.Call = step.Call with { Sample = step.Ask(step.Latents).Sample.MoveToOuterDisposeScope() };
    }

    /// <summary>How much of the words' attention lies outside their boxes: the mean over objects, maps, words and heads of (1 - the share inside)², a scalar.</summary>
    /// <param name="maps">[heads, places, tokens] each, or [images, heads, places, tokens]</param>
    /// <param name="layout">At least one object.</param>
    /// <param name="sizes">The rows and columns that each map's places lie in; null: squares.</param>
    public static Tensor Loss(IReadOnlyList<Tensor> maps, IReadOnlyList<LayoutBox> layout, IReadOnlyList<(int Rows, int Columns)>? sizes = null)
    {
        using var scope = NewDisposeScope();
        var sum = zeros([]);
        foreach (var (map, k) in maps.Select(static (m, k) => (m, k)))
        {
            var side = (int)Math.Sqrt(map.shape[^2]);
            var (rows, columns) = sizes?[k] ?? (side, side);
            foreach (var item in layout)
            {
                // [..., words, places]
                var words = map.to(ScalarType.Float32).index_select(-1, tensor(item.Tokens.Select(static t => (long)t).ToArray())).transpose(-1, -2);
                sum = sum + (1 - words.matmul(tensor(Inside(item.Boxes, rows, columns))) / words.sum(-1)).square().mean();
            }
        }
        return (sum / (layout.Count * maps.Count)).MoveToOuterDisposeScope();
    }

    /// <summary>1 at the places of a map that lie in a box, as the paper's code rounds them; an object that is smaller than a place has the one that it begins in.</summary>
    static float[] Inside(IReadOnlyList<(double Left, double Top, double Right, double Bottom)> boxes, int rows, int columns)
    {
        var inside = new float[rows * columns];
        for (var least = 0; least <= 1 && !inside.Contains(1); least++)
        {
            foreach (var (left, top, right, bottom) in boxes)
            {
                var (first, from) = (Math.Min((int)(top * rows), rows - 1), Math.Min((int)(left * columns), columns - 1));
                for (var y = first; y < Math.Max((int)(bottom * rows), first + least); y++)
                    inside.AsSpan((y * columns) + from, Math.Max((int)(right * columns) - from, least)).Fill(1);
            }
        }
        return inside;
    }

    /// <summary>
    /// Latents against the loss's gradient, by as much as there is noise: x - η σ² ∇. The paper's latents, as Euler's and LMS's, hold the clean sample whole, and σ² is there (1 - ᾱ) / ᾱ;
    /// those that are √ᾱ times as large, with gradients that are so many times smaller, are moved to the same place with σ² = 1 - ᾱ, which is their own noise's.
    /// </summary>
    /// <param name="sigma">The deviation of the noise that the latents hold.</param>
    public static Tensor Moved(Tensor latents, Tensor gradient, double sigma, double scale)
    {
        using var factor = (-scale * sigma * sigma).ToScalar();
        using var step = gradient.mul(factor);
        return latents.add(step);
    }

    /// <summary>
    /// Keeps the attention to the text of the middle, and of upward levels up to the first whose maps are finer: in Stable Diffusion the 8 x 8 and 16 x 16 places that the paper takes. Where the upward levels begin with
    /// one as coarse as the middle, that alone would not tell where in a box things are.
    /// </summary>
    internal sealed class Maps : IAttentionHook, IDisposable
    {
        string? last;
        long middle;

        public List<Tensor> Of { get; } = [];

        public List<(int Rows, int Columns)> Sizes { get; } = [];

        public Tensor? Attend(AttentionCall call)
        {
            if (!call.IsCross) return null;
            var places = call.Map.Rows * call.Map.Columns;
            if (call.Layer.StartsWith("mid_block", StringComparison.Ordinal)) middle = places;
            else if (call.Layer.StartsWith("up_blocks.", StringComparison.Ordinal))
            {
                var level = call.Layer[..call.Layer.IndexOf('.', "up_blocks.".Length)];
                if (last is not null && level != last) return null;
                if (places > middle) last = level;
            }
            else
                return null;
            var probabilities = call.Probabilities();
            // The graph keeps what it needs; this handle must outlive the layer's scope.
            Of.Add(probabilities.alias().DetachFromDisposeScope());
            Sizes.Add(((int)call.Map.Rows, (int)call.Map.Columns));
            return call.See(probabilities);
        }

        public void Dispose()
        {
            foreach (var map in Of) map.Dispose();
        }
    }
}
