using Panoptes.Nn;
using Panoptes.Training;

namespace Panoptes.Representation.Tests;

/// <summary>Which of a tower's weights belong together, for locking (as open_clip's lock) and for rates that fall towards the input.</summary>
public class LayerGroupTests
{
    const string OpenClipText = """{"context_length":8,"vocab_size":40,"width":16,"heads":2,"layers":2}""";

    static readonly Dictionary<string, (string Architecture, string Config)> Models = new()
    {
        ["CLIP"] = ("CLIPModel", """{"projection_dim":12,"text_config":{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"max_position_embeddings":8,"vocab_size":40},"vision_config":{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"image_size":16,"patch_size":8}}"""),
        ["CLIP, images only"] = ("CLIPVisionModel", """{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"image_size":16,"patch_size":8}"""),
        ["SigLIP"] = ("SiglipModel", """{"text_config":{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"max_position_embeddings":8,"vocab_size":40,"projection_size":16},"vision_config":{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,"image_size":16,"patch_size":8}}"""),
        ["open_clip"] = ("CLIP", $$$"""{"embed_dim":12,"vision_cfg":{"image_size":16,"layers":2,"width":16,"head_width":8,"patch_size":8},"text_cfg":{{{OpenClipText}}}}"""),
        ["ResNet"] = ("CLIP", $$$"""{"embed_dim":12,"vision_cfg":{"image_size":64,"layers":[1,2,1,1],"width":4,"head_width":16},"text_cfg":{{{OpenClipText}}}}"""),
        ["timm"] = ("CustomTextCLIP", """{"embed_dim":768,"custom_text":true,"vision_cfg":{"image_size":32,"timm_model_name":"vit_base_patch16_siglip_224","timm_pool":"map","timm_proj":"none"},"text_cfg":{"context_length":8,"vocab_size":40,"width":16,"heads":2,"layers":2}}"""),
        ["EVA"] = ("CustomTextCLIP", """{"embed_dim":12,"custom_text":true,"vision_cfg":{"image_size":16,"timm_model_name":"eva02_base_patch16_clip_224","timm_pool":"token","timm_model_args":{"patch_size":8,"embed_dim":16,"depth":2,"num_heads":2}},"text_cfg":{"context_length":8,"vocab_size":40,"width":16,"heads":2,"layers":2}}"""),
        ["timm, mean"] = ("CustomTextCLIP", """{"embed_dim":768,"custom_text":true,"vision_cfg":{"image_size":32,"timm_model_name":"vit_base_patch16_siglip_gap_224","timm_pool":"avg","timm_proj":"none"},"text_cfg":{"context_length":8,"vocab_size":40,"width":16,"heads":2,"layers":2}}"""),
    };

    [Theory]
    [InlineData("CLIP", 0, "")]
    [InlineData("CLIP", 1, "visual_projection")]
    [InlineData("CLIP", 2, "vision_model.encoder.layers.1 vision_model.post_layernorm visual_projection")]
    [InlineData("CLIP, images only", 1, "vision_model.encoder.layers.1 vision_model.post_layernorm")]
    [InlineData("SigLIP", 2, "vision_model.encoder.layers.1 vision_model.post_layernorm vision_model.head")]
    [InlineData("open_clip", 2, "visual.transformer.resblocks.1 visual.ln_post visual.proj")]
    [InlineData("ResNet", 2, "visual.layer4 visual.attnpool")]
    [InlineData("timm", 2, "visual.trunk.blocks.11 visual.trunk.norm visual.trunk.attn_pool")]
    [InlineData("timm, mean", 1, "visual.trunk.blocks.11 visual.trunk.norm")]
    [InlineData("EVA", 2, "visual.trunk.blocks.1 visual.trunk.norm visual.trunk.head")]
    public void Unlocking_groups_from_the_end_leaves_what_open_clip_leaves(string model, int groups, string unlocked)
    {
        using var built = Build(model);
        Images(built).LayerGroups.Lock(groups);
        var prefixes = unlocked.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        foreach (var (key, parameter) in Vision(built))
            if (parameter.Trainable) Assert.True(prefixes.Any(p => Below(key, p)) == parameter.RequiresGrad, key);
    }

    [Theory]
    [InlineData("CLIP", "vision_model.embeddings 3 vision_model.pre_layrnorm 3 vision_model.encoder.layers.0 2 vision_model.encoder.layers.1 1 vision_model.post_layernorm 0 visual_projection 0")]
    [InlineData("CLIP, images only", "vision_model.embeddings 3 vision_model.pre_layrnorm 3 vision_model.encoder.layers.0 2 vision_model.encoder.layers.1 1 vision_model.post_layernorm 0")]
    [InlineData("SigLIP", "vision_model.embeddings 3 vision_model.encoder.layers.0 2 vision_model.encoder.layers.1 1 vision_model.post_layernorm 0 vision_model.head 0")]
    [InlineData("open_clip", "visual.conv1 3 visual.class_embedding 3 visual.positional_embedding 3 visual.ln_pre 3 visual.transformer.resblocks.0 2 visual.transformer.resblocks.1 1 visual.ln_post 0 visual.proj 0")]
    [InlineData("ResNet", "visual.conv1 5 visual.bn1 5 visual.conv2 5 visual.bn2 5 visual.conv3 5 visual.bn3 5 visual.layer1 4 visual.layer2 3 visual.layer3 2 visual.layer4 1 visual.attnpool 0")]
    [InlineData("timm", "visual.trunk.patch_embed 13 visual.trunk.pos_embed 13 visual.trunk.blocks.0 12 visual.trunk.blocks.10 2 visual.trunk.blocks.11 1 visual.trunk.norm 0 visual.trunk.attn_pool 0")]
    [InlineData("timm, mean", "visual.trunk.patch_embed 13 visual.trunk.pos_embed 13 visual.trunk.blocks.0 12 visual.trunk.blocks.11 1 visual.trunk.norm 0")]
    [InlineData("EVA", "visual.trunk.patch_embed 3 visual.trunk.cls_token 3 visual.trunk.pos_embed 3 visual.trunk.blocks.0 2 visual.trunk.blocks.1 1 visual.trunk.norm 0 visual.trunk.head 0")]
    public void All_that_follows_the_last_block_trains_at_the_full_rate(string model, string depths)
    {
        using var built = Build(model);
        var scale = ParameterGroup.LayerDecay([Images(built).LayerGroups.ForLayerDecay], 0.5);
        var words = depths.Split(' ');
        for (var i = 0; i < words.Length; i += 2)
        {
            var below = Vision(built).Where(p => Below(p.Key, words[i]) && p.Parameter.Trainable).ToArray();
            Assert.NotEmpty(below);
            Assert.All(below, p => Assert.Equal(Math.Pow(0.5, int.Parse(words[i + 1])), scale(p.Parameter)));
        }
    }

    [Theory]
    [InlineData("CLIP", "text_model.encoder.layers.1", "text_model.final_layer_norm", "text_projection")]
    [InlineData("SigLIP", "text_model.encoder.layers.1", "text_model.final_layer_norm", "text_model.head")]
    [InlineData("open_clip", "transformer.resblocks.1", "ln_final", "text_projection")]
    [InlineData("timm", "text.transformer.resblocks.1", "text.ln_final", "text.text_projection")]
    public void Text_towers_go_by_the_same_rules(string model, string block, string norm, string head)
    {
        using var built = Build(model);
        var groups = ((DualEncoder)built).Texts.LayerGroups;
        var scale = ParameterGroup.LayerDecay([groups.ForLayerDecay], 0.5);
        groups.Lock(2);
        foreach (var (key, parameter) in built.NamedParameters().Where(p => Below(p.Key, block) || Below(p.Key, norm) || Below(p.Key, head)))
        {
            Assert.Equal(Below(key, block) ? 0.5 : 1, scale(parameter));
            Assert.True(parameter.RequiresGrad, key);
        }
        groups.Lock(1);
        foreach (var (key, parameter) in built.NamedParameters().Where(p => Below(p.Key, block) || Below(p.Key, norm) || Below(p.Key, head)))
            Assert.True(Below(key, head) == parameter.RequiresGrad, key);
    }

    static Module Build(string name) => Representation.Models.All.Single(e => e.Architecture == Models[name].Architecture).Build(new(Models[name].Config, name, static _ => null));

    static IImageTower Images(Module model) => (model as DualEncoder)?.Images ?? (IImageTower)model;

    static (string Key, Parameter Parameter)[] Vision(Module model)
    {
        var own = ((Module)Images(model)).Parameters().ToHashSet();
        return [.. model.NamedParameters().Where(p => own.Contains(p.Parameter))];
    }

    static bool Below(string key, string prefix) => key == prefix || key.StartsWith(prefix + ".", StringComparison.Ordinal);
}
