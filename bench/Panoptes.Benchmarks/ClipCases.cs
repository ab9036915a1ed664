using Panoptes.Representation;
using Panoptes.Representation.Objectives;

namespace Panoptes.Benchmarks;

/// <summary>CLIP ViT-B/32 embedding images and texts, and training of a small CLIP.</summary>
static class ClipCases
{
    const int EndOfText = 49407;

    public static IRun Images(ScalarType dtype) => new Embedding(dtype, static m => m.Vision.Encode, randn([16, 3, 224, 224], dtype));

    public static IRun Texts(ScalarType dtype) => new Embedding(dtype, static m => ids => m.Text.Encode(ids, ones_like(ids)), TextIds(32, 77));

    /// <summary>One AdamW step over ViT-S/8 at 64 pixels (384 wide, 12 deep) with a text tower 256 wide and 6 deep, batch 64.</summary>
    public static IRun Training(ScalarType dtype, bool checkpointed = false) => new TrainingRun(dtype, checkpointed);

    static Tensor TextIds(int count, int length)
    {
        var ids = randint(1, 49000, [count, length], ScalarType.Int64);
        ids[.., -1] = EndOfText;
        return ids;
    }

    sealed class Embedding : IRun
    {
        readonly ClipModel model = new(new ClipConfig());
        readonly Tensor input;
        readonly Func<Tensor, Tensor> embed;

        public Embedding(ScalarType dtype, Func<ClipModel, Func<Tensor, Tensor>> embed, Tensor input)
        {
            using var generator = new Generator(0);
            foreach (var parameter in model.Parameters()) parameter.Initialize(generator, dtype);
            model.Pack();
            (this.embed, this.input) = (embed(model), input);
        }

        public void Step()
        {
            using var noGrad = no_grad();
            using var scope = NewDisposeScope();
            embed(input);
        }

        public void Dispose() => model.Dispose();
    }

    sealed class TrainingRun(ScalarType dtype, bool checkpointed) : TrainingStep<ClipModel>(new(new ClipConfig
    {
        VisionConfig = new() { HiddenSize = 384, IntermediateSize = 1536, NumHiddenLayers = 12, NumAttentionHeads = 6, ImageSize = 64, PatchSize = 8 },
        TextConfig = new() { HiddenSize = 256, IntermediateSize = 1024, NumHiddenLayers = 6, NumAttentionHeads = 4, MaxPositionEmbeddings = 32 },
        ProjectionDim = 256,
    }), dtype, checkpointed)
    {
        readonly Tensor pixels = randn(64, 3, 64, 64), ids = TextIds(64, 32);

        protected override Tensor Loss() => ContrastiveLoss.Of(Model.Features(pixels, ids));
    }
}
