using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Training;
using Panoptes.Text;

namespace Panoptes.Generation.Training;

/// <summary>Builds the models that recipes describe.</summary>
static class RecipeModels
{
    /// <summary>A model of one part, initialized, or loaded in float32.</summary>
    /// <exception cref="PanoptesException">It is no <typeparamref name="T"/>, or its config or weights do not fit.</exception>
    public static T Build<T>(SceneSetting setting) where T : Module
    {
        var m = setting.Recipe.Model;
        if (m.TowerFrom is not null || m.Tokenizer is not null && !typeof(CaptionedImageModel).IsAssignableFrom(typeof(T))) throw new PanoptesException("This model takes no tower from elsewhere (tower_from), and a tokenizer only if it reads texts.");
        if (m.From is { } from)
        {
            if (m.Config is not null || m.Architecture is not null) throw new PanoptesException("A model is trained either from another one's weights (from) or from its config (architecture, config), not both.");
            return GenerationModels.Load<T>(setting.Recipe.ResolveModel(from), new() { Dtype = ScalarType.Float32 });
        }
        var config = Given(m);
        var entry = GenerationModels.All.FirstOrDefault(e => e.Architecture == m.Architecture && typeof(T).IsAssignableFrom(e.Type))
            ?? throw new PanoptesException($"The architecture {m.Architecture} does not go with this task; expected {string.Join(" or ", GenerationModels.All.Where(static e => typeof(T).IsAssignableFrom(e.Type)).Select(static e => e.Architecture))}.");
        return (T)Initialized(entry, config.Where(static p => p.Value is not null).ToDictionary(static p => p.Key, static p => p.Value), setting);
    }

    /// <summary>
    /// A pipeline, each part by its config (<c>unet</c>, <c>text_encoder</c>, <c>scheduler</c>), or loaded in float32 from a folder; with the autoencoder of a folder, or with none: it works on pixels then.
    /// </summary>
    /// <param name="setting">Of the run.</param>
    /// <param name="autoencoder">A folder, or null.</param>
    /// <exception cref="PanoptesException">Another class of pipelines, a part that is missing or does not fit.</exception>
    public static StableDiffusion Pipeline(SceneSetting setting, string? autoencoder)
    {
        var (r, m) = (setting.Recipe, setting.Recipe.Model);
        if (m.From is { } from)
        {
            if (m.Config is not null || m.Architecture is not null || autoencoder is not null) throw new PanoptesException("A pipeline is trained either from another one's weights (from) or from its config (architecture, config, autoencoder), not both.");
            var loaded = PipelineFolder.Load(r.ResolveModel(from), new() { Dtype = ScalarType.Float32 });
            if (loaded is StableDiffusion and not StableDiffusionXl) return m.Tokenizer is { } own ? Reading(own, (StableDiffusion)loaded, setting) : (StableDiffusion)loaded;
            loaded.Dispose();
            throw new PanoptesException($"{from} is a {loaded.GetType().Name}; expected a StableDiffusionPipeline.");
        }
        var config = Given(m);
        if (m.Architecture != "StableDiffusionPipeline") throw new PanoptesException($"The architecture {m.Architecture} does not go with this task; expected StableDiffusionPipeline.");
        foreach (var part in config.Keys)
            if (part is not ("unet" or "text_encoder" or "scheduler")) throw new PanoptesException($"The pipeline's config has a part {part}; expected unet, text_encoder and scheduler.");
        var scheduler = Scheduler.Parse(Json("scheduler"), "the recipe's scheduler") as DiffusionScheduler ?? throw new PanoptesException("The recipe's scheduler samples tokens; expected one of diffusion.");
        var made = new List<Module>();
        try
        {
            var vae = autoencoder is null ? null : Track(GenerationModels.Load<AutoencoderKl>(r.ResolveModel(autoencoder), new() { Dtype = ScalarType.Float32 }));
            var text = (ClipTextModel)Track(Initialized(Models.All.First(static e => e.Architecture == "CLIPTextModel"), Part("text_encoder"), setting));
            var unet = (UNet2DConditionModel)Track(Initialized(GenerationModels.All.First(static e => e.Architecture == "UNet2DConditionModel"), Part("unet"), setting));
            var tokenizer = RecipeParts.TokenizerOf(m.Tokenizer ?? throw new PanoptesException("A model that reads texts needs a tokenizer."), r.Folder, setting.Run, text.ContextLength, text.VocabularySize);
            var model = new StableDiffusion(unet, vae, new(text, tokenizer), scheduler);
            if (unet.Config.InChannels != model.LatentChannels || unet.Config.OutChannels != model.LatentChannels) throw new PanoptesException($"The unet reads {unet.Config.InChannels} channels and gives {unet.Config.OutChannels}, but what it works on has {model.LatentChannels}.");
            if (setting.Side % model.Multiple != 0) throw new PanoptesException($"Scenes of {setting.Side} pixels were asked for; this model makes sides that are multiples of {model.Multiple}.");
            return model;
        }
        catch
        {
            foreach (var module in made) module.Dispose();
            throw;
        }

        T Track<T>(T module) where T : Module
        {
            made.Add(module);
            return module;
        }

        string Json(string part) => JsonSerializer.Serialize(config.GetValueOrDefault(part) ?? throw new PanoptesException($"The pipeline's config has no {part}."));

        Dictionary<string, object?> Part(string part) => JsonSerializer.Deserialize<Dictionary<string, object?>>(Json(part)) ?? [];
    }

    /// <summary>
    /// The pipeline with another vocabulary. Tokens that both have keep their embeddings. New ones point anywhere, and are as long as what they were before is on average: as they are drawn for training from scratch,
    /// they would be too short beside the others to be told apart.
    /// </summary>
    /// <exception cref="PanoptesException">A tokenizer without start or end.</exception>
    static StableDiffusion Reading(RecipeTokenizer wanted, StableDiffusion model, SceneSetting setting)
    {
        var (encoder, before) = (model.Prompts.Encoder, model.Prompts.Tokenizer);
        ClipTextModel? changed = null;
        try
        {
            var tokenizer = RecipeParts.TokenizerOf(wanted, setting.Recipe.Folder, setting.Run, encoder.ContextLength);
            var config = encoder.Config with { VocabSize = tokenizer.VocabularySize, BosTokenId = tokenizer.StartId, EosTokenId = tokenizer.EndId!.Value, PadTokenId = tokenizer.PadId };
            changed = new(config, encoder.TextProjection?.OutFeatures);
            using var scope = NewDisposeScope();
            using var noGrad = no_grad();
            foreach (var (ours, theirs) in changed.Parameters().Zip(encoder.Parameters()))
                ours.Assign(ours == changed.TextModel.Embeddings.TokenEmbedding.Weight ? Rows(theirs.Value, tokenizer) : theirs.Value.detach().clone());
            encoder.Dispose();
            return new(model.UNet, model.Autoencoder, new(changed, tokenizer), model.Scheduler) { Defaults = model.Defaults };
        }
        catch
        {
            changed?.Dispose();
            model.Dispose();
            throw;
        }

        Tensor Rows(Tensor old, Tokenizer tokenizer) => stack([.. Enumerable.Range(0, tokenizer.VocabularySize).Select(id =>
        {
            var token = tokenizer.TokenOf(id)!;
            if (before.IdOf(token) is { } known) return old[known];
            var parts = before.Encode(token.Replace(ClipVocabulary.EndOfWord, "", StringComparison.Ordinal), addSpecialTokens: false);
            var length = old.index_select(0, tensor([.. parts.Select(static p => (long)p)])).norm(1).mean();
            var direction = randn([old.shape[1]], generator: setting.Generator);
            return direction * (length / direction.norm());
        })]);
    }

    /// <summary>A model that reads captions itself, initialized, or loaded in float32; with its tokenizer.</summary>
    /// <exception cref="PanoptesException">It is no <typeparamref name="T"/>, or its config, weights or tokenizer do not fit.</exception>
    public static (T Model, Tokenizer Tokenizer) Captioned<T>(SceneSetting setting) where T : CaptionedImageModel
    {
        var (r, m) = (setting.Recipe, setting.Recipe.Model);
        if (m.From is { } from)
        {
            if (m.Config is not null || m.Architecture is not null || m.Tokenizer is not null) throw new PanoptesException("A model is trained either from another one's weights (from) or from its config (architecture, config, tokenizer), not both.");
            var path = ModelFolder.Resolve(r.ResolveModel(from));
            return (GenerationModels.Load<T>(path, new() { Dtype = ScalarType.Float32 }), Tokenizer.Load(ModelFolder.FolderOf(path)));
        }
        var model = Build<T>(setting);
        try
        {
            return (model, RecipeParts.TokenizerOf(m.Tokenizer ?? throw new PanoptesException("A model that reads texts needs a tokenizer."), r.Folder, setting.Run, model.TextEncoder.ContextLength, model.TextEncoder.VocabularySize));
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>Gives a model the weights of a trained tokenizer of images, which are then left as they are.</summary>
    /// <exception cref="PanoptesException">Another autoencoder than the model has.</exception>
    public static void TakeTokenizer(VqModel model, string path)
    {
        using var trained = Models.Load<VqModel>(path, new() { Dtype = ScalarType.Float32 });
        // What is not about the network itself may differ.
        string Network(VqConfig config) => (config with { VqEmbedDim = config.CodeSize, SampleSize = 1, ScalingFactor = 1, ForceUpcast = false, Unknown = null }).ToJson();
        if (Network(trained.Config) != Network(model.Config)) throw new PanoptesException($"The tokenizer {path} is built otherwise than the model's vq_config says; expected the fields of its config.json.");
        using var noGrad = no_grad();
        var own = model.NamedParameters().ToDictionary(static p => p.Key, static p => p.Parameter);
        foreach (var (name, parameter) in trained.NamedParameters()) own[name].Value.copy_(parameter.Value);
        model.RequiresGrad(false);
    }

    static IReadOnlyDictionary<string, object?> Given(SceneModel m) => m is { Architecture: not null, Config: { } config } ? config : throw new PanoptesException("A model needs architecture and config, or the model whose weights it starts from (from).");

    static Module Initialized(ModelEntry entry, Dictionary<string, object?> config, SceneSetting setting)
    {
        // diffusers' configs name their class in one way, transformers' in another.
        var named = new Dictionary<string, object?>(config);
        if (GenerationModels.All.Contains(entry)) named["_class_name"] = entry.Architecture;
        else named["architectures"] = new[] { entry.Architecture };
        var json = JsonSerializer.Serialize(named);
        var model = entry.Build(new(json, $"the recipe's config of {entry.Architecture}", static _ => null));
        model.Initialize(setting.Generator);
        return model;
    }
}
