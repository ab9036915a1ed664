using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Generation;

/// <summary>The kinds of pipelines that are kept as one original file.</summary>
enum OriginalFamily
{
    StableDiffusion1,
    StableDiffusion2,
    StableDiffusionXl,
    StableDiffusion3,
    Flux,
}

/// <summary>
/// What a config.json would say of a part of an original file, told from its keys and shapes. What no shape tells is as in the public checkpoints of the family, whose configs the peer takes: numbers of heads, groups, scales of
/// latents, the schedule. All shapes are asked for behind the part's prefix.
/// </summary>
static class OriginalConfigs
{
    /// <summary>More of anything than any model has.</summary>
    const int Most = 1000;

    /// <summary>Attention's heads are so wide in every family but Stable Diffusion 1 and Flux.</summary>
    const int HeadWidth = 64;

    /// <summary>The last layer of Stable Diffusion 2's text encoder, which it leaves out.</summary>
    public const int LeftOutLayer = 23;

    /// <summary>A downward path: the channels of every level and whether they attend to a text, resnets a level, transformer blocks a level and in the middle, the text's width.</summary>
    sealed record Encoder(int[] Channels, int[] Transformers, int Resnets, int Middle, int Context)
    {
        public static Encoder Of(Func<string, long[]?> shape)
        {
            var (channels, transformers, resnets) = (new List<int>(), new List<int>(), new List<int>());
            var fresh = true;
            var context = 0;
            for (var i = 1; i < Most; i++)
            {
                if (shape($"input_blocks.{i}.0.op.weight") is not null)
                {
                    fresh = true;
                    continue;
                }
                if (shape($"input_blocks.{i}.0.in_layers.2.weight") is not { Length: 4 } conv) break;
                if (fresh)
                {
                    channels.Add((int)conv[0]);
                    transformers.Add(Count(d => shape($"input_blocks.{i}.1.transformer_blocks.{d}.attn1.to_q.weight")));
                    resnets.Add(0);
                    fresh = false;
                }
                if (context == 0 && shape($"input_blocks.{i}.1.transformer_blocks.0.attn2.to_k.weight") is { Length: 2 } keys) context = (int)keys[1];
                resnets[^1]++;
            }
            if (channels.Count == 0 || context == 0) throw new PanoptesException("the UNet has no levels, or none that looks at a text.");
            if (resnets.Exists(n => n != resnets[0])) throw new PanoptesException($"the UNet's levels have {string.Join(", ", resnets)} resnets; expected as many each.");
            return new([.. channels], [.. transformers], resnets[0], Count(d => shape($"middle_block.1.transformer_blocks.{d}.attn1.to_q.weight")), context);
        }

        public string[] DownBlockTypes => [.. Transformers.Select(static t => t > 0 ? "CrossAttnDownBlock2D" : "DownBlock2D")];

        public OneOrMany<OneOrMany<int>> TransformerLayers
        {
            get
            {
                // A level without attention may still say how many blocks the middle has.
                int[] depths = [.. Transformers.Select((t, level) => level == Channels.Length - 1 ? Math.Max(1, Middle) : Math.Max(1, t))];
                return depths.All(static d => d == 1) ? (OneOrMany<int>)1 : new OneOrMany<OneOrMany<int>>(null, [.. depths.Select(static d => (OneOrMany<int>)d)]);
            }
        }

        /// <summary>The numbers of heads: eight in Stable Diffusion 1, whose projections are convolutions.</summary>
        public OneOrMany<int> Heads(bool linear) => linear ? (OneOrMany<int>)Channels.Select(static c => OriginalConfigs.Heads(c, "UNet")).ToArray() : 8;
    }

    public static UNet2DConditionConfig UNet(Func<string, long[]?> shape, OriginalFamily family, int pooledWidth)
    {
        var (first, encoder) = (Shape(shape, "input_blocks.0.0.weight", 4), Encoder.Of(shape));
        var (linear, added, fills) = (family != OriginalFamily.StableDiffusion1, shape("label_emb.0.0.weight"), first[1] > 4);
        return new()
        {
            InChannels = (int)first[1],
            OutChannels = (int)Shape(shape, "out.2.weight", 4)[0],
            SampleSize = family switch { OriginalFamily.StableDiffusionXl => 128, OriginalFamily.StableDiffusion2 when !fills => 96, _ => 64 },
            BlockOutChannels = encoder.Channels,
            LayersPerBlock = encoder.Resnets,
            DownBlockTypes = encoder.DownBlockTypes,
            UpBlockTypes = [.. encoder.Transformers.AsEnumerable().Reverse().Select(static t => t > 0 ? "CrossAttnUpBlock2D" : "UpBlock2D")],
            TransformerLayersPerBlock = encoder.TransformerLayers,
            CrossAttentionDim = encoder.Context,
            AttentionHeadDim = encoder.Heads(linear),
            UseLinearProjection = linear,
            UpcastAttention = family == OriginalFamily.StableDiffusion2 && !fills,
            AdditionEmbedType = added is null ? null : "text_time",
            AdditionTimeEmbedDim = added is null ? null : added[1] - pooledWidth is >= 6 and <= 1 << 16 and var sizes && sizes % 6 == 0 ? (int)(sizes / 6) : throw new PanoptesException($"label_emb.0.0.weight reads {added[1]} numbers; expected the {pooledWidth} of the text, and as many of each of six sizes."),
            ProjectionClassEmbeddingsInputDim = added is null ? null : (int)added[1],
        };
    }

    /// <summary>A ControlNet of Stable Diffusion 1 or 2.</summary>
    public static ControlNetConfig ControlNet(Func<string, long[]?> shape)
    {
        var (first, image, encoder) = (Shape(shape, "input_blocks.0.0.weight", 4), Shape(shape, "input_hint_block.0.weight", 4), Encoder.Of(shape));
        // Stable Diffusion 1 projects by convolutions, 2 by matrices.
        var linear = Enumerable.Range(1, Most).Select(i => shape($"input_blocks.{i}.1.proj_in.weight")).FirstOrDefault(static s => s is not null) is { Length: 2 };
        // Behind the first layer two a level, the second of which halves the image, and one more.
        var layers = Count(n => shape($"input_hint_block.{2 * n}.weight"));
        if (layers < 2 || layers % 2 != 0) throw new PanoptesException($"the image is read by {layers} layers; expected two a level.");
        return new()
        {
            InChannels = (int)first[1],
            ConditioningChannels = (int)image[1],
            ConditioningEmbeddingOutChannels = [.. Enumerable.Range(0, layers / 2).Select(k => (int)Shape(shape, $"input_hint_block.{4 * k}.weight", 4)[0])],
            BlockOutChannels = encoder.Channels,
            LayersPerBlock = encoder.Resnets,
            DownBlockTypes = encoder.DownBlockTypes,
            TransformerLayersPerBlock = encoder.TransformerLayers,
            CrossAttentionDim = encoder.Context,
            AttentionHeadDim = encoder.Heads(linear),
            UseLinearProjection = linear,
        };
    }

    public static AutoencoderKlConfig Autoencoder(Func<string, long[]?> shape, OriginalFamily family)
    {
        int[] channels = [.. Enumerable.Range(0, Count(b => shape($"encoder.down.{b}.block.0.conv1.weight"))).Select(b => (int)Shape(shape, $"encoder.down.{b}.block.0.conv1.weight", 4)[0])];
        if (channels.Length == 0) throw new PanoptesException("the autoencoder has no levels.");
        var (scale, shift) = family switch
        {
            OriginalFamily.StableDiffusionXl => (0.13025, null),
            OriginalFamily.StableDiffusion3 => (1.5305, 0.0609),
            OriginalFamily.Flux => (0.3611, 0.1159),
            _ => (0.18215, (double?)null),
        };
        return new()
        {
            BlockOutChannels = channels,
            LayersPerBlock = Count(l => shape($"encoder.down.0.block.{l}.conv1.weight")),
            DownBlockTypes = [.. channels.Select(static _ => "DownEncoderBlock2D")],
            UpBlockTypes = [.. channels.Select(static _ => "UpDecoderBlock2D")],
            LatentChannels = (int)Shape(shape, "decoder.conv_in.weight", 4)[1],
            SampleSize = family switch { OriginalFamily.StableDiffusion1 => 512, OriginalFamily.StableDiffusion2 => 768, _ => 1024 },
            ScalingFactor = scale,
            ShiftFactor = shift,
            UseQuantConv = shape("quant_conv.weight") is not null,
            UsePostQuantConv = shape("post_quant_conv.weight") is not null,
            MidBlockAddAttention = shape("encoder.mid.attn_1.q.weight") is not null,
        };
    }

    /// <summary>A CLIP under Hugging Face's names.</summary>
    public static ClipTextConfig Clip(Func<string, long[]?> shape, Activation act) => Clip(act, Shape(shape, "text_model.embeddings.token_embedding.weight", 2), Shape(shape, "text_model.embeddings.position_embedding.weight", 2),
        Count(l => shape($"text_model.encoder.layers.{l}.layer_norm1.weight")), (int)Shape(shape, "text_model.encoder.layers.0.mlp.fc1.weight", 2)[0]);

    /// <summary>A CLIP under open_clip's names.</summary>
    public static ClipTextConfig OpenClip(Func<string, long[]?> shape, OriginalFamily family) => Clip(Activation.Gelu, Shape(shape, "token_embedding.weight", 2), Shape(shape, "positional_embedding", 2),
        Count(l => family == OriginalFamily.StableDiffusion2 && l >= LeftOutLayer ? null : shape($"transformer.resblocks.{l}.ln_1.weight")), (int)Shape(shape, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0]);

    static ClipTextConfig Clip(Activation act, long[] words, long[] positions, int layers, int wide) => new()
    {
        HiddenAct = act,
        VocabSize = (int)words[0],
        HiddenSize = (int)words[1],
        IntermediateSize = wide,
        NumHiddenLayers = layers,
        NumAttentionHeads = Heads((int)words[1], "text encoder"),
        MaxPositionEmbeddings = (int)positions[0],
        // The start and the end are the last of the vocabulary.
        BosTokenId = (int)words[0] - 2,
        EosTokenId = (int)words[0] - 1,
    };

    public static T5Config T5(Func<string, long[]?> shape)
    {
        var (words, heads) = (Shape(shape, "shared.weight", 2), (int)Shape(shape, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 2)[1]);
        return new()
        {
            VocabSize = (int)words[0],
            DModel = (int)words[1],
            NumHeads = heads,
            DKv = (int)Shape(shape, "encoder.block.0.layer.0.SelfAttention.q.weight", 2)[0] / heads,
            DFf = (int)Shape(shape, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 2)[0],
            NumLayers = Count(l => shape($"encoder.block.{l}.layer.0.SelfAttention.q.weight")),
            FeedForwardProj = "gated-gelu",
            TieWordEmbeddings = false,
        };
    }

    public static Sd3Config Sd3(Func<string, long[]?> shape)
    {
        var (places, patches) = (Shape(shape, "pos_embed", 3), Shape(shape, "x_embedder.proj.weight", 4));
        var (width, patch) = ((int)patches[0], (int)patches[2]);
        return new()
        {
            SampleSize = 128,
            PatchSize = patch,
            InChannels = (int)patches[1],
            OutChannels = (int)(Shape(shape, "final_layer.linear.weight", 2)[0] / ((long)patch * patch)),
            NumLayers = Count(l => shape($"joint_blocks.{l}.x_block.attn.qkv.weight")),
            AttentionHeadDim = HeadWidth,
            NumAttentionHeads = Heads(width, "transformer"),
            JointAttentionDim = (int)Shape(shape, "context_embedder.weight", 2)[1],
            CaptionProjectionDim = width,
            PooledProjectionDim = (int)Shape(shape, "y_embedder.mlp.0.weight", 2)[1],
            PosEmbedMaxSize = (int)Math.Sqrt(places[1]),
            DualAttentionLayers = [.. Enumerable.Range(0, Most).TakeWhile(l => shape($"joint_blocks.{l}.x_block.attn.qkv.weight") is not null).Where(l => shape($"joint_blocks.{l}.x_block.attn2.qkv.weight") is not null).Select(static l => (long)l)],
            QkNorm = shape("joint_blocks.0.x_block.attn.ln_q.weight") is null ? null : "rms_norm",
        };
    }

    public static FluxConfig Flux(Func<string, long[]?> shape)
    {
        const int headWidth = 128;
        var (image, made) = (Shape(shape, "img_in.weight", 2), (int)Shape(shape, "final_layer.linear.weight", 2)[0]);
        return new()
        {
            InChannels = (int)image[1],
            OutChannels = made == image[1] ? null : made,
            NumLayers = Count(l => shape($"double_blocks.{l}.img_attn.qkv.weight")),
            NumSingleLayers = Count(l => shape($"single_blocks.{l}.linear1.weight")),
            AttentionHeadDim = headWidth,
            NumAttentionHeads = Heads((int)image[0], "transformer", headWidth),
            JointAttentionDim = (int)Shape(shape, "txt_in.weight", 2)[1],
            PooledProjectionDim = (int)Shape(shape, "vector_in.in_layer.weight", 2)[1],
            GuidanceEmbeds = shape("guidance_in.in_layer.weight") is not null,
        };
    }

    /// <summary>The scheduler_config.json of the family's public checkpoints.</summary>
    /// <param name="family">The family.</param>
    /// <param name="fills">Whether the network fills masks: Stable Diffusion 2's does so by its noise.</param>
    /// <param name="guided">Whether Flux is told how strong guidance is: the one that is not takes few steps.</param>
    public static string Scheduler(OriginalFamily family, bool fills, bool guided)
    {
        const string betas = """ "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1""";
        return family switch
        {
            OriginalFamily.StableDiffusion1 => $$"""{"_class_name": "PNDMScheduler",{{betas}}, "skip_prk_steps": true, "set_alpha_to_one": false}""",
            OriginalFamily.StableDiffusion2 when fills => $$"""{"_class_name": "PNDMScheduler",{{betas}}, "skip_prk_steps": true, "set_alpha_to_one": false}""",
            // No key tells the version for 768 pixels, which predicts velocities, from the one for 512: the peer takes the former.
            OriginalFamily.StableDiffusion2 => $$"""{"_class_name": "DDIMScheduler",{{betas}}, "clip_sample": false, "set_alpha_to_one": false, "prediction_type": "v_prediction"}""",
            OriginalFamily.StableDiffusionXl => $$"""{"_class_name": "EulerDiscreteScheduler",{{betas}}, "timestep_spacing": "leading", "interpolation_type": "linear"}""",
            OriginalFamily.StableDiffusion3 => """{"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}""",
            _ when guided => """{"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": true, "base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}""",
            _ => """{"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": false}""",
        };
    }

    static int Heads(int width, string of, int headWidth = HeadWidth) => width % headWidth == 0 && width > 0 ? width / headWidth
        : throw new PanoptesException($"the {of} is {width} wide, which is no multiple of {headWidth}, so that its number of heads cannot be told.");

    static int Count(Func<int, long[]?> shape)
    {
        var n = 0;
        while (n < Most && shape(n) is not null) n++;
        return n;
    }

    static long[] Shape(Func<string, long[]?> shape, string key, int dimensions) => shape(key) is { } found && found.Length == dimensions && found.All(static n => n is > 0 and < 1 << 24) ? found
        : throw new PanoptesException(shape(key) is { } other ? $"{key} is [{string.Join(", ", other)}]; expected {dimensions} dimensions." : $"{key} is missing.");
}
