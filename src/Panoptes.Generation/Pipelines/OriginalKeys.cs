using Panoptes.Nn;
using Panoptes.Representation;

namespace Panoptes.Generation;

/// <summary>How a weight lies in an original file.</summary>
enum OriginalForm
{
    AsIs,

    /// <summary>[in, out] for [out, in].</summary>
    Transposed,

    /// <summary>A convolution of one pixel, [out, in, 1, 1], for a matrix.</summary>
    Pointwise,

    /// <summary>The second half of its rows first: shift and scale for scale and shift.</summary>
    Swapped,
}

/// <summary>Where a weight is in an original file.</summary>
/// <param name="Name">Its key there.</param>
/// <param name="Form">How it lies there.</param>
/// <param name="Part">Which of several weights that lie in one tensor, row after row.</param>
readonly record struct OriginalKey(string Name, OriginalForm Form = OriginalForm.AsIs, int Part = 0);

/// <summary>
/// The one place that knows how the names of the original code (CompVis' latent-diffusion, Stability AI's generative-models and SD 3, Black Forest Labs' flux), in which whole pipelines are kept as
/// one file, correspond to diffusers'. From diffusers' key to the original's; <see cref="OriginalWeights"/> reads by it, and <see cref="SingleFile"/> writes by it.
/// <code>
/// diffusers                                            original
/// UNet (n: resnets a level)                            model.diffusion_model.
///   time_embedding.linear_1, 2                           time_embed.0, 2
///   add_embedding.linear_1, 2                            label_emb.0.0, 0.2
///   conv_in; conv_norm_out, conv_out                     input_blocks.0.0; out.0, out.2
///   down_blocks.B.resnets.L, attentions.L                input_blocks.(B(n+1)+L+1).0, .1
///   down_blocks.B.downsamplers.0.conv                    input_blocks.((B+1)(n+1)).0.op
///   mid_block.resnets.0, attentions.0, resnets.1         middle_block.0, 1, 2
///   up_blocks.B.resnets.L, attentions.L                  output_blocks.(B(n+1)+L).0, .1
///   up_blocks.B.upsamplers.0.conv                        output_blocks.(B(n+1)+n).1.conv, behind attention .2.conv
///     norm1, conv1, norm2, conv2                           in_layers.0, 2, out_layers.0, 3
///     time_emb_proj, conv_shortcut                         emb_layers.1, skip_connection
/// ControlNet: as a UNet's downward path                control_model.
///   controlnet_cond_embedding.conv_in, blocks.N, conv_out  input_hint_block.0, 2(N+1), behind the last
///   controlnet_down_blocks.N, controlnet_mid_block       zero_convs.N.0, middle_block_out.0
/// autoencoder                                          first_stage_model., or vae.
///   encoder.down_blocks.B.resnets.L                      encoder.down.B.block.L
///   decoder.up_blocks.B.resnets.L                        decoder.up.(levels-1-B).block.L
///   …downsamplers.0.conv, …upsamplers.0.conv             …downsample.conv, …upsample.conv
///   mid_block.resnets.0, 1; conv_norm_out                mid.block_1, 2; norm_out
///   mid_block.attentions.0.group_norm                    mid.attn_1.norm
///     to_q, to_k, to_v, to_out.0 [out, in]                 q, k, v, proj_out [out, in, 1, 1]
///   conv_shortcut                                        nin_shortcut
/// text encoders of SD 1, SDXL (first), SD 3 and Flux   cond_stage_model.transformer., conditioner.embedders.0.transformer., text_encoders.clip_l.transformer., clip_g, t5xxl
/// text encoders of SD 2 and SDXL (second)              cond_stage_model.model., conditioner.embedders.1.model.: open_clip's names
///   text_model.encoder.layers.N                          transformer.resblocks.N
///     self_attn.q_proj, k_proj, v_proj                     attn.in_proj_weight, in_proj_bias, row after row
///     layer_norm1, 2; mlp.fc1, fc2                         ln_1, 2; mlp.c_fc, c_proj
///   text_projection.weight [out, in]                     text_projection [in, out]
/// SD 3                                                 model.diffusion_model.
///   transformer_blocks.N.attn.to_q, to_k, to_v           joint_blocks.N.x_block.attn.qkv, row after row; attn2 as well
///   transformer_blocks.N.attn.add_q_proj, …              joint_blocks.N.context_block.attn.qkv
///   norm1.linear, norm1_context.linear                   x_block.adaLN_modulation.1, context_block.adaLN_modulation.1 (the last block's: shift and scale the other way)
///   norm_out.linear                                      final_layer.adaLN_modulation.1, shift and scale the other way
/// Flux                                                 model.diffusion_model., or nothing
///   transformer_blocks.N                                 double_blocks.N: img_attn, img_mod, img_mlp and txt_attn, txt_mod, txt_mlp
///   single_transformer_blocks.N                          single_blocks.N
///     attn.to_q, to_k, to_v, proj_mlp                      linear1, row after row
/// </code>
/// </summary>
static class OriginalKeys
{
    static readonly (string Ours, string Original)[] Resnet = [("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("norm2", "out_layers.0"), ("conv2", "out_layers.3"), ("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection")];

    static readonly (string Ours, string Original)[] UNetEnds =
    [
        ("time_embedding.linear_1.", "time_embed.0."), ("time_embedding.linear_2.", "time_embed.2."), ("add_embedding.linear_1.", "label_emb.0.0."), ("add_embedding.linear_2.", "label_emb.0.2."),
        ("class_embedding.linear_1.", "label_emb.0.0."), ("class_embedding.linear_2.", "label_emb.0.2."), ("conv_in.", "input_blocks.0.0."), ("conv_norm_out.", "out.0."), ("conv_out.", "out.2."),
        ("mid_block.resnets.0.", "middle_block.0."), ("mid_block.attentions.0.", "middle_block.1."), ("mid_block.resnets.1.", "middle_block.2."),
    ];

    static readonly (string Ours, string Original)[] OpenClip =
    [
        ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"), ("text_model.embeddings.position_embedding.weight", "positional_embedding"), ("text_model.final_layer_norm.", "ln_final."),
        ("text_model.encoder.layers.", "transformer.resblocks."),
    ];

    static readonly (string Ours, string Original)[] OpenClipLayer = [(".layer_norm1.", ".ln_1."), (".layer_norm2.", ".ln_2."), (".mlp.fc1.", ".mlp.c_fc."), (".mlp.fc2.", ".mlp.c_proj."), (".self_attn.out_proj.", ".attn.out_proj.")];

    static readonly (string Ours, string Original)[] Sd3Ends =
    [
        ("pos_embed.pos_embed", "pos_embed"), ("pos_embed.proj.", "x_embedder.proj."), ("time_text_embed.timestep_embedder.linear_1.", "t_embedder.mlp.0."), ("time_text_embed.timestep_embedder.linear_2.", "t_embedder.mlp.2."),
        ("time_text_embed.text_embedder.linear_1.", "y_embedder.mlp.0."), ("time_text_embed.text_embedder.linear_2.", "y_embedder.mlp.2."), ("proj_out.", "final_layer.linear."),
    ];

    static readonly (string Ours, string Original)[] Sd3Block =
    [
        ("attn.norm_added_q.", "context_block.attn.ln_q."), ("attn.norm_added_k.", "context_block.attn.ln_k."), ("attn.norm_q.", "x_block.attn.ln_q."), ("attn.norm_k.", "x_block.attn.ln_k."), ("attn.to_out.0.", "x_block.attn.proj."),
        ("attn.to_add_out.", "context_block.attn.proj."), ("attn2.norm_q.", "x_block.attn2.ln_q."), ("attn2.norm_k.", "x_block.attn2.ln_k."), ("attn2.to_out.0.", "x_block.attn2.proj."), ("norm1.linear.", "x_block.adaLN_modulation.1."),
        ("ff.net.0.proj.", "x_block.mlp.fc1."), ("ff.net.2.", "x_block.mlp.fc2."), ("ff_context.net.0.proj.", "context_block.mlp.fc1."), ("ff_context.net.2.", "context_block.mlp.fc2."),
    ];

    static readonly (string Ours, string Original)[] FluxEnds =
    [
        ("time_text_embed.timestep_embedder.linear_1.", "time_in.in_layer."), ("time_text_embed.timestep_embedder.linear_2.", "time_in.out_layer."), ("time_text_embed.text_embedder.linear_1.", "vector_in.in_layer."),
        ("time_text_embed.text_embedder.linear_2.", "vector_in.out_layer."), ("time_text_embed.guidance_embedder.linear_1.", "guidance_in.in_layer."), ("time_text_embed.guidance_embedder.linear_2.", "guidance_in.out_layer."),
        ("context_embedder.", "txt_in."), ("x_embedder.", "img_in."), ("proj_out.", "final_layer.linear."),
    ];

    static readonly (string Ours, string Original)[] FluxBlock =
    [
        ("norm1.linear.", "img_mod.lin."), ("norm1_context.linear.", "txt_mod.lin."), ("attn.norm_q.weight", "img_attn.norm.query_norm.scale"), ("attn.norm_k.weight", "img_attn.norm.key_norm.scale"),
        ("attn.norm_added_q.weight", "txt_attn.norm.query_norm.scale"), ("attn.norm_added_k.weight", "txt_attn.norm.key_norm.scale"), ("ff.net.0.proj.", "img_mlp.0."), ("ff.net.2.", "img_mlp.2."), ("ff_context.net.0.proj.", "txt_mlp.0."),
        ("ff_context.net.2.", "txt_mlp.2."), ("attn.to_out.0.", "img_attn.proj."), ("attn.to_add_out.", "txt_attn.proj."),
    ];

    static readonly (string Ours, string Original)[] FluxSingle = [("norm.linear.", "modulation.lin."), ("attn.norm_q.weight", "norm.query_norm.scale"), ("attn.norm_k.weight", "norm.key_norm.scale"), ("proj_out.", "linear2.")];

    /// <summary>The keys of a UNet behind its prefix.</summary>
    public static Func<string, OriginalKey> UNet(UNet2DConditionConfig config) => UNet(config.LayersPerBlock[0], config.UpBlockTypes);

    /// <summary>The keys of a ControlNet behind its prefix.</summary>
    public static Func<string, OriginalKey> ControlNet(ControlNetConfig config)
    {
        var (encoder, last) = (UNet(config.LayersPerBlock[0], []), 2 * (2 * (config.ConditioningEmbeddingOutChannels.Length - 1) + 1));
        return key => key.Split('.') switch
        {
            ["controlnet_cond_embedding", "conv_in", var end] => new($"input_hint_block.0.{end}"),
            ["controlnet_cond_embedding", "conv_out", var end] => new($"input_hint_block.{last}.{end}"),
            ["controlnet_cond_embedding", "blocks", var n, var end] => new($"input_hint_block.{2 * (int.Parse(n, null) + 1)}.{end}"),
            ["controlnet_down_blocks", var n, var end] => new($"zero_convs.{n}.0.{end}"),
            ["controlnet_mid_block", var end] => new($"middle_block_out.0.{end}"),
            _ => encoder(key),
        };
    }

    static Func<string, OriginalKey> UNet(int n, string[] upBlockTypes)
    {
        return key =>
        {
            if (Begins(UNetEnds, key) is { } end) return new(end.Contains("middle_block.0", StringComparison.Ordinal) || end.Contains("middle_block.2", StringComparison.Ordinal) ? Renamed(Resnet, end) : end);
            // down_blocks.B.resnets.L.rest
            var parts = key.Split('.', 5);
            if (parts is not ["down_blocks" or "up_blocks", _, _, _, _] || !int.TryParse(parts[1], out var level) || !int.TryParse(parts[3], out var layer)) return new(key);
            var (down, first) = (parts[0] == "down_blocks", level * (n + 1));
            return new(parts[2] switch
            {
                "resnets" => $"{Block(first + layer)}.0.{Renamed(Resnet, parts[4])}",
                "attentions" => $"{Block(first + layer)}.1.{parts[4]}",
                "downsamplers" when parts[4].StartsWith("conv.", StringComparison.Ordinal) => $"{Block(first + n)}.0.op.{parts[4]["conv.".Length..]}",
                "upsamplers" => $"{Block(first + n)}.{(upBlockTypes[level].StartsWith("Cross", StringComparison.Ordinal) ? 2 : 1)}.{parts[4]}",
                _ => key,
            });

            string Block(int i) => down ? $"input_blocks.{i + 1}" : $"output_blocks.{i}";
        };
    }

    /// <summary>The keys of an autoencoder behind its prefix.</summary>
    public static Func<string, OriginalKey> Autoencoder(AutoencoderKlConfig config)
    {
        var levels = config.BlockOutChannels.Length;
        return key =>
        {
            var parts = key.Split('.');
            if (parts is not ["encoder" or "decoder", ..]) return new(key);
            var (side, rest) = (parts[0], string.Join('.', parts.Skip(4)).Replace("conv_shortcut", "nin_shortcut", StringComparison.Ordinal));
            return parts switch
            {
                [_, "conv_norm_out", var end] => new($"{side}.norm_out.{end}"),
                [_, "mid_block", "resnets", var l, ..] => new($"{side}.mid.block_{int.Parse(l, null) + 1}.{rest}"),
                [_, "mid_block", "attentions", _, "group_norm", var end] => new($"{side}.mid.attn_1.norm.{end}"),
                [_, "mid_block", "attentions", _, var name, .., var end] => new($"{side}.mid.attn_1.{(name == "to_out" ? "proj_out" : name[3..])}.{end}", end == "weight" ? OriginalForm.Pointwise : OriginalForm.AsIs),
                [_, "down_blocks", var b, "resnets", var l, ..] => new($"{side}.down.{b}.block.{l}.{Behind(rest)}"),
                [_, "up_blocks", var b, "resnets", var l, ..] => new($"{side}.up.{levels - 1 - int.Parse(b, null)}.block.{l}.{Behind(rest)}"),
                [_, "down_blocks", var b, "downsamplers", _, "conv", var end] => new($"{side}.down.{b}.downsample.conv.{end}"),
                [_, "up_blocks", var b, "upsamplers", _, "conv", var end] => new($"{side}.up.{levels - 1 - int.Parse(b, null)}.upsample.conv.{end}"),
                _ => new(key),
            };

            // Behind the number of the resnet.
            static string Behind(string rest) => rest[(rest.IndexOf('.', StringComparison.Ordinal) + 1)..];
        };
    }

    /// <summary>The keys of a text encoder with open_clip's names behind its prefix.</summary>
    public static OriginalKey OpenClipText(string key)
    {
        if (key == "text_projection.weight") return new("text_projection", OriginalForm.Transposed);
        var name = Begins(OpenClip, key) ?? key;
        foreach (var (k, projection) in (ReadOnlySpan<(int, string)>)[(0, "q_proj"), (1, "k_proj"), (2, "v_proj")])
            if (name.IndexOf($".self_attn.{projection}.", StringComparison.Ordinal) is > 0 and var at) return new($"{name[..at]}.attn.in_proj_{name[(name.LastIndexOf('.') + 1)..]}", OriginalForm.AsIs, k);
        return new(Renamed(OpenClipLayer, name));
    }

    /// <summary>The keys of SD 3's transformer behind its prefix.</summary>
    public static Func<string, OriginalKey> Sd3(Sd3Config config)
    {
        var last = $"{config.NumLayers - 1}";
        return key =>
        {
            if (key.StartsWith("norm_out.linear.", StringComparison.Ordinal)) return new($"final_layer.adaLN_modulation.1.{key["norm_out.linear.".Length..]}", OriginalForm.Swapped);
            if (key.Split('.', 3) is not ["transformer_blocks", var i, var rest]) return new(Begins(Sd3Ends, key) ?? key);
            var block = $"joint_blocks.{i}.";
            if (Fused(rest, "attn.to_", "") is var (k, end)) return new($"{block}x_block.attn.qkv.{end}", OriginalForm.AsIs, k);
            if (Fused(rest, "attn2.to_", "") is var (k2, end2)) return new($"{block}x_block.attn2.qkv.{end2}", OriginalForm.AsIs, k2);
            if (Fused(rest, "attn.add_", "_proj") is var (k3, end3)) return new($"{block}context_block.attn.qkv.{end3}", OriginalForm.AsIs, k3);
            // The last block has nothing to say to the text any more: its modulation is the one behind a network.
            if (rest.StartsWith("norm1_context.linear.", StringComparison.Ordinal)) return new($"{block}context_block.adaLN_modulation.1.{rest["norm1_context.linear.".Length..]}", i == last ? OriginalForm.Swapped : OriginalForm.AsIs);
            return new(block + (Begins(Sd3Block, rest) ?? rest));
        };
    }

    /// <summary>The keys of Flux' transformer behind its prefix.</summary>
    public static OriginalKey Flux(string key)
    {
        if (key.StartsWith("norm_out.linear.", StringComparison.Ordinal)) return new($"final_layer.adaLN_modulation.1.{key["norm_out.linear.".Length..]}", OriginalForm.Swapped);
        switch (key.Split('.', 3))
        {
            case ["transformer_blocks", var i, var rest]:
                if (Fused(rest, "attn.to_", "") is var (k, end)) return new($"double_blocks.{i}.img_attn.qkv.{end}", OriginalForm.AsIs, k);
                if (Fused(rest, "attn.add_", "_proj") is var (k2, end2)) return new($"double_blocks.{i}.txt_attn.qkv.{end2}", OriginalForm.AsIs, k2);
                return new($"double_blocks.{i}.{Begins(FluxBlock, rest) ?? rest}");
            case ["single_transformer_blocks", var i, var rest]:
                if (Fused(rest, "attn.to_", "") is var (k3, end3)) return new($"single_blocks.{i}.linear1.{end3}", OriginalForm.AsIs, k3);
                if (rest.StartsWith("proj_mlp.", StringComparison.Ordinal)) return new($"single_blocks.{i}.linear1.{rest["proj_mlp.".Length..]}", OriginalForm.AsIs, 3);
                return new($"single_blocks.{i}.{Begins(FluxSingle, rest) ?? rest}");
            default:
                return new(Begins(FluxEnds, key) ?? key);
        }
    }

    /// <summary>Which of query, key and value, and what follows.</summary>
    static (int Part, string End)? Fused(string rest, string before, string behind)
    {
        for (var k = 0; k < 3; k++)
            if ($"{before}{"qkv"[k]}{behind}." is var name && rest.StartsWith(name, StringComparison.Ordinal)) return (k, rest[name.Length..]);
        return null;
    }

    static string? Begins((string Ours, string Original)[] names, string key)
    {
        foreach (var (ours, original) in names)
            if (key.StartsWith(ours, StringComparison.Ordinal)) return original + key[ours.Length..];
        return null;
    }

    static string Renamed((string Ours, string Original)[] names, string key)
    {
        foreach (var (ours, original) in names)
            if (key.Contains(ours, StringComparison.Ordinal)) return key.Replace(ours, original, StringComparison.Ordinal);
        return key;
    }
}
