namespace Panoptes.Understanding.Tests;

public sealed class HungarianMatchingTests
{
    [Fact]
    public void Random_costs_are_assigned_as_cheaply_as_by_trying_every_way()
    {
        var random = new Random(3);
        for (var round = 0; round < 200; round++)
        {
            var (rows, columns) = (random.Next(1, 6), random.Next(1, 6));
            // Every third with many ties.
            var cost = Enumerable.Range(0, rows * columns).Select(_ => round % 3 == 0 ? random.Next(-2, 3) : random.NextDouble() * 4 - 2).ToArray();
            var found = HungarianMatching.Assign(cost, rows, columns);
            Assert.Equal(Math.Min(rows, columns), found.Count);
            Assert.Equal(found.Rows.Order().Distinct(), found.Rows);
            Assert.Equal(found.Count, found.Columns.Distinct().Count());
            Assert.Equal(Cheapest(cost, rows, columns), found.Rows.Zip(found.Columns).Sum(p => cost[p.First * columns + p.Second]), 1e-9);
        }
    }

    [Fact]
    public void A_known_example_is_assigned_as_scipy_does()
    {
        var found = HungarianMatching.Assign([4, 1, 3, 2, 0, 5, 3, 2, 2], 3, 3);
        Assert.Equal([0, 1, 2], found.Rows);
        Assert.Equal([1, 0, 2], found.Columns);
    }

    [Fact]
    public void Equal_costs_give_the_identity_both_ways()
    {
        Assert.Equal([0, 1, 2], HungarianMatching.Assign(new double[12], 3, 4).Columns);
        var tall = HungarianMatching.Assign(new double[12], 4, 3);
        Assert.Equal([0, 1, 2], tall.Rows);
        Assert.Equal([0, 1, 2], tall.Columns);
    }

    [Fact]
    public void Infinity_forbids_a_pair()
    {
        const double no = double.PositiveInfinity;
        Assert.Equal([1, 0], HungarianMatching.Assign([no, 9, 9, 1], 2, 2).Columns);
        Assert.Contains("no assignment", Assert.Throws<PanoptesException>(() => HungarianMatching.Assign([no, no, 1, 1], 2, 2)).Message, StringComparison.Ordinal);
        Assert.Throws<PanoptesException>(() => HungarianMatching.Assign([double.NaN], 1, 1));
        Assert.Equal(0, HungarianMatching.Assign([], 0, 5).Count);
    }

    static double Cheapest(double[] cost, int rows, int columns)
    {
        return rows <= columns ? Try(0, 0) : Cheapest([.. Enumerable.Range(0, rows * columns).Select(i => cost[i % rows * columns + i / rows])], columns, rows);

        double Try(int row, int taken) => row == rows ? 0
            : Enumerable.Range(0, columns).Where(c => (taken >> c & 1) == 0).Min(c => cost[row * columns + c] + Try(row + 1, taken | 1 << c));
    }
}

public sealed class BoxesTests
{
    [Fact]
    public void Centers_become_corners_and_come_back()
    {
        using var scope = NewDisposeScope();
        var boxes = tensor(new[] { 10f, 20, 4, 6 }, [1, 4]);
        Assert.Equal([8, 17, 12, 23], Boxes.ToCorners(boxes).data<float>().ToArray());
        Assert.Equal([10, 20, 4, 6], Boxes.ToCenters(Boxes.ToCorners(boxes)).data<float>().ToArray());
    }

    [Fact]
    public void Overlap_is_intersection_over_union_in_every_image_of_a_batch()
    {
        using var scope = NewDisposeScope();
        // 2 x 2 against itself, half of itself, one beside it, and one of no area.
        var a = tensor(new[] { 0f, 0, 2, 2 }, [1, 1, 4]).expand(3, 1, 4);
        var b = tensor(new[] { 0f, 0, 2, 2, 1, 0, 3, 2, 2, 0, 4, 2, 1, 1, 1, 1 }, [4, 4]);
        Assert.Equal([3, 1, 4], Boxes.Iou(a, b).shape);
        Assert.Equal([1, 1 / 3f, 0, 0], Boxes.Iou(a, b)[2].flatten().data<float>().ToArray());
        Assert.Equal([1, 1 / 3f, 0, 0], Boxes.GeneralizedIou(a, b)[0].flatten().data<float>().ToArray());
        // With a gap of 2 between them, a third of the box around both belongs to neither.
        Assert.Equal(-1 / 3f, Boxes.GeneralizedIou(a, tensor(new[] { 4f, 0, 6, 2 }, [1, 4]))[0].item<float>(), 1e-6);
    }

    [Fact]
    public void Suppression_keeps_the_best_of_those_that_overlap_and_knows_groups()
    {
        using var scope = NewDisposeScope();
        var boxes = tensor(new[] { 0f, 0, 10, 10, 1, 1, 11, 11, 20, 20, 30, 30 }, [3, 4]);
        var scores = tensor(new[] { 0.5f, 0.9f, 0.1f });
        Assert.Equal([1, 2], Boxes.Nms(boxes, scores, 0.5));
        Assert.Equal([1, 0, 2], Boxes.Nms(boxes, scores, 0.7));
        Assert.Equal([1, 0, 2], Boxes.Nms(boxes, scores, 0.5, tensor(new long[] { 0, 1, 1 })));
        Assert.Empty(Boxes.Nms(zeros(0, 4), zeros(0), 0.5));
        Assert.Throws<PanoptesException>(() => Boxes.Nms(boxes, scores.narrow(0, 0, 2), 0.5));
    }

    [Fact]
    public void Of_two_detections_with_one_label_that_overlap_the_surer_stays()
    {
        Detection[] found = [new(0, 0, 10, 10, 0.5f, "cat"), new(1, 1, 11, 11, 0.9f, "cat"), new(0, 0, 10, 10, 0.7f, "dog"), new(20, 20, 30, 30, 0.1f, "cat")];
        Assert.Equal([found[1], found[2], found[3]], BoxNms.Keep(found, 0.5));
        Assert.Equal([found[1], found[2], found[0], found[3]], BoxNms.Keep(found, 0.7));
        Assert.Empty(BoxNms.Keep([], 0.5));
    }
}

public sealed class DetrTests
{
    [Theory]
    [InlineData("resnet18", "basic", "64, 128, 256, 512", "2, 2, 2, 2")]
    [InlineData("resnet50", "bottleneck", "256, 512, 1024, 2048", "3, 4, 6, 3")]
    public void A_backbone_of_timm_computes_what_one_of_Hugging_Face_does(string name, string type, string sizes, string depths)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var theirs = new ResNetBackbone(Nn.ModelConfig.Parse<ResNetConfig>($$"""{"layer_type": "{{type}}", "hidden_sizes": [{{sizes}}], "depths": [{{depths}}]}""", "test"));
        using var timm = new TimmResNet(name, 3, dilated: false);
        var generator = new Generator(5);
        timm.Initialize(generator);
        foreach (var (key, parameter) in timm.NamedParameters().Where(static p => !p.Parameter.Trainable))
            parameter.Assign(rand(parameter.Shape, generator: generator) * 0.2 + (key.EndsWith("bias", StringComparison.Ordinal) || key.EndsWith("mean", StringComparison.Ordinal) ? 0 : 0.9));
        var own = theirs.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter);
        foreach (var (key, parameter) in timm.NamedParameters()) own[Renamed(key)].Assign(parameter.Value.clone());
        var pixels = randn(1, 3, 64, 40, generator: generator);
        var (a, b) = (theirs.Forward(pixels), timm.Forward(pixels));
        Assert.Equal([1, timm.Channels[^1], 2, 2], b.shape);
        Assert.True((a - b).abs().max().item<float>() <= 1e-4 * b.abs().max().item<float>());

        // A dilated last stage sees, at every second place, what the halving one sees.
        using var dilated = new TimmResNet(name, 3, dilated: true);
        foreach (var ((_, mine), (_, given)) in dilated.NamedParameters().Zip(timm.NamedParameters())) mine.Assign(given.Value.clone());
        var kept = new List<Tensor>();
        var fine = dilated.Forward(pixels, kept);
        Assert.Equal([1, timm.Channels[^1], 4, 3], fine.shape);
        Assert.Equal(timm.Channels, kept.Select(static k => (int)k.shape[1]));
        Assert.True((fine[TensorIndex.Colon, TensorIndex.Colon, TensorIndex.Slice(step: 2), TensorIndex.Slice(step: 2)] - b).abs().max().item<float>() <= 1e-4 * b.abs().max().item<float>());

        // conv1 is embedder.embedder.convolution, layer2.0.bn1 is encoder.stages.1.layers.0.layer.0.normalization, layer2.0.downsample.0 is encoder.stages.1.layers.0.shortcut.convolution.
        static string Renamed(string key)
        {
            var parts = key.Split('.');
            if (parts.Length < 4 && !key.StartsWith("layer", StringComparison.Ordinal)) return $"embedder.embedder.{Kind(parts[0])}.{parts[^1]}";
            var block = $"encoder.stages.{parts[0][^1] - '1'}.layers.{parts[1]}";
            return parts[2] == "downsample" ? $"{block}.shortcut.{(parts[3] == "0" ? "convolution" : "normalization")}.{parts[^1]}" : $"{block}.layer.{parts[2][^1] - '1'}.{Kind(parts[2])}.{parts[^1]}";
        }

        static string Kind(string part) => part.StartsWith("bn", StringComparison.Ordinal) ? "normalization" : "convolution";
    }

    [Fact]
    public void A_saved_config_has_whole_numbers_where_the_peer_takes_no_others()
    {
        var config = Nn.ModelConfig.Parse<DetrConfig>("""{"class_cost": 2, "giou_cost": 1.5, "backbone": "resnet18", "some_field": [1]}""", "test");
        var json = config.ToJson();
        Assert.Contains("\"class_cost\": 2,", json, StringComparison.Ordinal);
        Assert.Contains("\"bbox_cost\": 5,", json, StringComparison.Ordinal);
        Assert.Contains("\"giou_cost\": 1.5,", json, StringComparison.Ordinal);
        Assert.Contains("\"eos_coefficient\": 0.1,", json, StringComparison.Ordinal);
        Assert.Contains("some_field", json, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"backbone": "vgg"}""", "backbone is \"vgg\"")]
    [InlineData("""{"dilation": true, "backbone_config": {"model_type": "resnet"}}""", "dilation is true")]
    [InlineData("""{"backbone_config": {"model_type": "timm_backbone", "output_stride": 8}}""", "backbone_config.output_stride is 8")]
    [InlineData("""{"position_embedding_type": "rotary"}""", "position_embedding_type is \"rotary\"")]
    [InlineData("""{"backbone_config": {"model_type": "swin"}}""", "backbone_config.model_type is \"swin\"")]
    public void What_is_not_supported_is_one_sentence_that_names_the_field(string config, string expected) =>
        Assert.Contains(expected, Assert.Throws<PanoptesException>(() => new DetrForObjectDetection(Nn.ModelConfig.Parse<DetrConfig>(config, "test"))).Message, StringComparison.Ordinal);
}

public sealed class DetrSegmentationTests
{
    [Fact]
    public void A_query_looks_at_the_places_of_the_image_alone_and_all_its_heads_share_one()
    {
        using var scope = NewDisposeScope();
        using var map = new DetrAttentionMap(16, 8);
        map.Initialize(new Generator(3));
        var real = ones(2, 3, 4, dtype: ScalarType.Bool);
        real[1].narrow(1, 3, 1).fill_(false);
        var seen = map.Forward(randn(2, 5, 16, generator: new Generator(1)), randn(2, 12, 16, generator: new Generator(2)), real);
        Assert.Equal([2, 5, 8, 3, 4], seen.shape);
        Assert.True(seen.flatten(2).sum(-1).allclose(ones(2, 5)));
        Assert.Equal(0, seen[1].narrow(-1, 3, 1).abs().max().item<float>());
    }

    [Fact]
    public void Learned_places_end_where_the_table_does()
    {
        using var scope = NewDisposeScope();
        using var places = new DetrLearnedPositions(2);
        places.Initialize(new Generator(3));
        var of = places.Of(2, 3);
        Assert.Equal([6, 4], of.shape);
        // Row 1, column 2: the column's half first.
        Assert.Equal(cat([places.ColumnEmbeddings.Weight.Value[2], places.RowEmbeddings.Weight.Value[1]]).data<float>().ToArray(), of[5].data<float>().ToArray());
        Assert.Contains("51 x 3 places; a model with learned positions takes at most 50 x 50", Assert.Throws<PanoptesException>(() => places.Of(51, 3)).Message, StringComparison.Ordinal);
    }
}

public sealed class DetrLossTests
{
    [Fact]
    public void What_is_predicted_rightly_costs_nothing()
    {
        using var scope = NewDisposeScope();
        var boxes = tensor(new[] { 0.3f, 0.3f, 0.2f, 0.2f, 0.7f, 0.7f, 0.2f, 0.4f }, [1, 2, 4]);
        // Query 0 is the target's second thing, of class 1; query 1 its first, of class 0.
        var logits = tensor(new[] { 0f, 100, 0, 100, 0, 0 }, [1, 2, 3]);
        var losses = DetrLoss.Of(new(logits, boxes), [new(tensor(new long[] { 0, 1 }), boxes[0].flip(0))]);
        Assert.Equal(0, losses.Total.item<float>(), 1e-5);
        Assert.Equal(0, losses.CardinalityError.item<float>());
    }

    [Fact]
    public void A_batch_without_things_is_judged_by_its_classes_alone_and_has_gradients()
    {
        using var scope = NewDisposeScope();
        var (logits, boxes, masks) = (zeros(2, 3, 4, requires_grad: true), rand(2, 3, 4).requires_grad_(), rand(2, 3, 5, 5).requires_grad_());
        var empty = new DetectionTarget(zeros(0, ScalarType.Int64), zeros(0, 4), zeros(0, 8, 8));
        var losses = DetrLoss.Of(new(logits, boxes, masks), [empty, empty]);
        Assert.Equal(Math.Log(4), losses.Total.item<float>(), 1e-5);
        losses.Total.backward();
        Assert.True(logits.grad!.isfinite().all().item<bool>());
    }

    [Fact]
    public void A_model_that_diverged_is_matched_all_the_same()
    {
        using var scope = NewDisposeScope();
        var logits = full([1, 2, 3], float.NaN, ScalarType.Float32);
        var match = DetrLoss.Match(new DetectionPrediction(logits, rand(1, 2, 4)), [new(zeros(1, ScalarType.Int64), rand(1, 4))]);
        Assert.Equal(1, match[0].Count);
    }

    [Fact]
    public void Targets_of_another_number_of_images_or_shape_are_refused_with_one_sentence()
    {
        using var scope = NewDisposeScope();
        var predicted = new DetectionPrediction(zeros(1, 2, 3), zeros(1, 2, 4));
        Assert.Contains("expected one an image", Assert.Throws<PanoptesException>(() => DetrLoss.Of(predicted, [])).Message, StringComparison.Ordinal);
        Assert.Contains("expected [n], [n, 4]", Assert.Throws<PanoptesException>(() => DetrLoss.Of(predicted, [new(zeros(1, ScalarType.Int64), zeros(2, 4))])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_trained_weight_follows_from_the_loss_of_a_batch_of_images_with_different_counts_of_things()
    {
        using var scope = NewDisposeScope();
        DetectionTarget[] targets = [new(tensor(new long[] { 1, 0 }), tensor(new[] { 0.3f, 0.3f, 0.2f, 0.2f, 0.6f, 0.5f, 0.4f, 0.3f }, [2, 4])), new(zeros(0, ScalarType.Int64), zeros(0, 4))];
        var pixels = randn(2, 3, 64, 96, generator: new Generator(3));
        Follows("DetrForObjectDetection", m => ((DetrForObjectDetection)m).Loss(pixels, targets));
        var ids = tensor(new long[] { 101, 5, 7, 1012, 8, 1012, 102, 0, 101, 5, 6, 8, 1012, 7, 1012, 102 }, [2, 8]);
        Follows("GroundingDinoForObjectDetection", m => ((GroundingDinoForObjectDetection)m).Loss(pixels, ids, targets, ids.ne(0)));
        // One stage: where the queries start is learned, too.
        Follows("GroundingDinoForObjectDetection", m => ((GroundingDinoForObjectDetection)m).Loss(pixels, ids, targets, ids.ne(0)), "\"d_model\": 32", "\"two_stage\": false, \"d_model\": 32");
        DetectionTarget[] masked = [.. targets.Select(static t => t with { Masks = rand([t.Labels.shape[0], 64, 96], generator: new Generator(4)).gt(0.5).to(ScalarType.Float32) })];
        Follows("DetrForSegmentation", m => ((DetrForSegmentation)m).Loss(pixels, masked));

        static void Follows(string architecture, Func<Nn.Module, Tensor> lossOf, string from = "{", string to = "{")
        {
            using var model = PromptableModels.All.First(e => e.Architecture == architecture).Build(new(DetectorsTiny.Tiny[architecture].Config.Replace(from, to, StringComparison.Ordinal), architecture, static _ => null));
            model.Initialize(new Generator(7));
            var loss = lossOf(model);
            Assert.True(loss.isfinite().item<bool>());
            loss.backward();
            Assert.Empty(model.NamedParameters().Where(static p => p.Parameter.Trainable && !(p.Parameter.Grad is { } g && g.isfinite().all().item<bool>())).Select(static p => p.Key));
        }
    }

    [Fact]
    public void A_label_that_is_no_phrase_of_its_text_is_refused_with_one_sentence()
    {
        using var scope = NewDisposeScope();
        var phrases = GroundingDinoLoss.Phrases(tensor(new long[] { 101, 5, 7, 1012, 8, 1012, 102, 0 }, [1, 8]), 10);
        Assert.Equal([2, 10], phrases[0].shape);
        Assert.Equal([0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0], phrases[0].flatten().data<float>().ToArray());
        var predicted = new DetectionPrediction(zeros(1, 2, 10), zeros(1, 2, 4));
        Assert.Equal("A target has the label 2, but its text has 2 phrases.", Assert.Throws<PanoptesException>(() => GroundingDinoLoss.Costs(predicted, [new(full([1], 2, ScalarType.Int64), zeros(1, 4))], phrases)).Message);
    }

    [Fact]
    public void Losses_and_outputs_leave_no_tensor_behind()
    {
        Once();
        var before = LiveTensors.Settle();
        Once();
        Assert.Equal(before, Tensor.TotalCount);

        static void Once()
        {
            using var scope = NewDisposeScope();
            var (logits, boxes) = (rand(2, 5, 4), rand(2, 5, 4));
            var target = new DetectionTarget(zeros(1, ScalarType.Int64), rand(1, 4), ones(1, 6, 6));
            var inside = NewDisposeScope();
            using (inside)
            {
                DetrLoss.Of(new(logits, boxes, rand(2, 5, 3, 3)), [target, target]);
                Boxes.Nms(Boxes.ToCorners(boxes[0]), logits[0].select(1, 0), 0.5);
            }
            DetectionOutput.FromImage(logits, boxes, [(10, 10), (20, 20)]);
            DetectionOutput.FromClasses(logits, boxes, [(10, 10), (20, 20)], 0.1, static _ => "x");
        }
    }
}
