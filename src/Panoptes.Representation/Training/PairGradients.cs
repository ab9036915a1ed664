using Panoptes.Native;
using Panoptes.Nn;
using Panoptes.Representation.Objectives;

namespace Panoptes.Representation.Training;

/// <summary>An objective and how much it counts.</summary>
/// <param name="Name">What its loss is logged as.</param>
/// <param name="Objective">What is made small.</param>
/// <param name="Weight">Its factor in the sum.</param>
public sealed record WeightedObjective(string Name, Objective Objective, double Weight = 1);

/// <summary>
/// From one batch to gradients. A batch too large for memory goes through the towers in pieces, with the numbers of the whole: first all features
/// without gradients, then the loss's gradient with respect to them, then each piece again with its part of that gradient (GradCache, Gao et
/// al. 2021, arXiv:2101.06983; open_clip's accum_freq). What is left out at random is the same both times. Objectives of single samples
/// count each piece by its share of the batch. Batch norms alone see pieces: their means are a piece's, and each piece counts once in their running statistics.
/// </summary>
public sealed record PairGradients
{
    public required IReadOnlyList<WeightedObjective> Objectives { get; init; }

    /// <summary>Samples that go through the towers at once; null: all.</summary>
    public int? MicroBatch { get; init; }

    /// <summary>What the towers compute in; weights and losses stay float32.</summary>
    public ScalarType Precision { get; init; } = ScalarType.Float32;

    /// <summary>Adds the batch's gradients to the model's and the objectives'.</summary>
    /// <param name="towers">In training mode.</param>
    /// <param name="input">The batch.</param>
    /// <param name="seed">Of what is drawn at random in this step.</param>
    /// <returns>The weighted sum as <c>loss</c>, and each objective's own as <c>loss/NAME</c> where there are several.</returns>
    public IReadOnlyDictionary<string, double> Backward(Towers towers, PairInput input, ulong seed = 0)
    {
        if (Objectives.Count == 0) throw new PanoptesException("Training needs at least one objective.");
        var piece = Math.Min(MicroBatch ?? input.Count, input.Count);
        if (piece < 1) throw new PanoptesException($"The micro-batch is {piece}; expected 1 or more.");
        using var random = new Generator(0);
        var randomized = new[] { towers.Images.Backbone as IRandomTower, towers.Texts as IRandomTower }.OfType<IRandomTower>().ToArray();
        foreach (var tower in randomized) tower.Random = random;
        try
        {
            return new Step(this, towers, input, seed, piece, random).Backward();
        }
        finally
        {
            foreach (var tower in randomized) tower.Random = null;
        }
    }

    /// <summary>One batch on its way.</summary>
    sealed class Step(PairGradients options, Towers towers, PairInput input, ulong seed, int piece, Generator random)
    {
        readonly WeightedObjective[] overFeatures = [.. options.Objectives.Where(static o => o.Objective is FeatureObjective)];
        readonly WeightedObjective[] overSamples = [.. options.Objectives.Where(static o => o.Objective is SampleObjective)];
        readonly Dictionary<string, double> losses = [];
        Feature[] needs = [];

        internal Dictionary<string, double> Backward()
        {
            using var scope = NewDisposeScope();
            needs = [.. overFeatures.SelectMany(static o => ((FeatureObjective)o.Objective).Needs).Distinct()];
            var count = input.Count;
            if (piece == count)
            {
                var sum = OfSamples(input, 0);
                if (overFeatures.Length > 0)
                {
                    var whole = OfFeatures(Features(input, 0));
                    sum = sum is null ? whole : sum + whole;
                }
                sum!.backward();
            }
            else
            {
                var gradients = overFeatures.Length > 0 ? FeatureGradients() : [];
                for (var start = 0; start < count; start += piece)
                {
                    using var inner = NewDisposeScope();
                    var part = input.Piece(start, Math.Min(piece, count - start));
                    var (outputs, outputGradients) = (new List<Tensor>(), new List<Tensor>());
                    if (gradients.Count > 0)
                    {
                        Dictionary<Feature, Tensor> features;
                        using (ActivationCheckpoint.Repeating()) features = Features(part, start);
                        foreach (var (feature, output) in features)
                        {
                            if (!output.requires_grad || gradients[feature] is not { } gradient) continue;     // a locked tower
                            outputs.Add(output);
                            outputGradients.Add(gradient.narrow(0, start, part.Count));
                        }
                    }
                    if (OfSamples(part, start) is { } loss)
                    {
                        outputs.Add(loss);
                        outputGradients.Add(ones_like(loss));
                    }
                    if (outputs.Count > 0) autograd.backward(outputs, outputGradients);
                }
            }
            var total = options.Objectives.Sum(o => o.Weight * losses[o.Name]);
            var logged = options.Objectives.Count == 1 ? [] : losses.ToDictionary(static l => $"loss/{l.Key}", static l => l.Value);
            foreach (var (name, objective, _) in options.Objectives)
                foreach (var (what, value) in objective.Report) logged[$"{name}/{what}"] = value;
            logged["loss"] = total;
            return logged;
        }

        /// <summary>All features without a gradient, then the objectives' gradient with respect to each (null where none reaches it).</summary>
        Dictionary<Feature, Tensor?> FeatureGradients()
        {
            var parts = needs.ToDictionary(static f => f, static _ => new List<Tensor>());
            using (no_grad())
            {
                for (var start = 0; start < input.Count; start += piece)
                {
                    using var inner = NewDisposeScope();
                    foreach (var (feature, tensor) in Features(input.Piece(start, Math.Min(piece, input.Count - start)), start)) parts[feature].Add(tensor.MoveToOuterDisposeScope());
                }
            }
            var leaves = needs.ToDictionary(static f => f, f => cat(parts[f]).requires_grad_());
            OfFeatures(leaves).backward();
            return needs.ToDictionary(static f => f, f => leaves[f].grad);
        }

        /// <summary>What the objectives need of some of the samples, each tower run once a view.</summary>
        Dictionary<Feature, Tensor> Features(PairInput part, int start)
        {
            random.manual_seed((long)(seed * 0x9E3779B97F4A7C15 + (ulong)start));
            var features = new Dictionary<Feature, Tensor>();
            foreach (var run in needs.GroupBy(static f => (f.Side, f.View)).OrderBy(static g => g.Key))
            {
                using var inner = NewDisposeScope();
                TowerOutput output;
                using (Autocast.To(options.Precision)) output = Run(part, run.Key.Side, run.Key.View, tokens: run.Any(static f => f.Level != Level.Embedding));
                foreach (var feature in run)
                {
                    var tensor = (feature.Level switch { Level.Embedding => output.Embedding, Level.Pooled => output.Pooled, _ => output.LastHiddenState }).to(ScalarType.Float32);
                    if (feature.Level == Level.Embedding) tensor = towers.Comparable(tensor);
                    features.Add(feature, tensor.MoveToOuterDisposeScope());
                }
            }
            return features;
        }

        TowerOutput Run(PairInput part, Side side, int view, bool tokens)
        {
            if (side == Side.Image)
            {
                if (tokens) return towers.Images.Forward(part.Images[view]);
                var image = towers.Images.Encode(part.Images[view]);
                return new(image, image, image);
            }
            var texts = towers.Texts ?? throw new PanoptesException("An objective over texts was given a model without a text tower.");
            if (tokens) return texts.Forward(part.Ids[view], part.Masks?[view]);
            var text = texts.Encode(part.Ids[view], part.Masks?[view]);
            return new(text, text, text);
        }

        Tensor OfFeatures(Dictionary<Feature, Tensor> features)
        {
            var batch = new BatchFeatures(towers, input, features) { Precision = options.Precision };
            return Sum(overFeatures, o => ((FeatureObjective)o).Loss(batch), 1)!;
        }

        Tensor? OfSamples(PairInput part, int start)
        {
            random.manual_seed((long)((seed * 0x9E3779B97F4A7C15) ^ 0xD1B54A32D192ED03 + (ulong)start));
            return Sum(overSamples, o =>
            {
                using var autocast = Autocast.To(options.Precision);
                return ((SampleObjective)o).Loss(towers, part, random);
            }, (double)part.Count / input.Count);
        }

        Tensor? Sum(WeightedObjective[] objectives, Func<Objective, Tensor> loss, double share)
        {
            Tensor? sum = null;
            foreach (var (name, objective, weight) in objectives)
            {
                var own = loss(objective).to(ScalarType.Float32);
                losses[name] = losses.GetValueOrDefault(name) + (share * own.item<float>());
                var part = weight * share == 1 ? own : own * (weight * share);
                sum = sum is null ? part : sum + part;
            }
            return sum;
        }
    }
}
