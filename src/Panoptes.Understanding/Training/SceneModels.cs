using System.Globalization;
using System.Text.Json;
using Panoptes.Checkpoints;
using Panoptes.Nn;
using Panoptes.Representation;
using Panoptes.Representation.Training;
using Panoptes.Text;

namespace Panoptes.Understanding.Training;

/// <summary>Builds the models of this library that recipes describe.</summary>
static class SceneModels
{
    /// <summary>Models of the library below this one that a task here may train.</summary>
    static IEnumerable<ModelEntry> Trained => Models.All.Where(static e => e.Type == typeof(ClipModel) || e.Type == typeof(OpenClipModel));

    extension(SceneModel recipe)
    {
        /// <summary>Builds what trains a model that begins with the CLIP of <see cref="SceneModel.TowerFrom"/>, or with towers of its config or of <see cref="SceneModel.From"/>.</summary>
        /// <param name="setting">Of the run.</param>
        /// <param name="clipOf">Where the model has its CLIP.</param>
        /// <param name="make">What trains it, given also what reads its texts.</param>
        /// <exception cref="PanoptesException">As for <see cref="Build{T}"/>, or it is no CLIP of open_clip's.</exception>
        internal SceneObjective TrainUponClip<T>(SceneSetting setting, Func<T, OpenClipModel> clipOf, Func<T, SceneTexts, SceneObjective> make) where T : Module
        {
            var model = recipe.BuildUponClip(setting, clipOf);
            try
            {
                return make(model, SceneTexts.Of(setting, clipOf(model)));
            }
            catch
            {
                model.Dispose();
                throw;
            }
        }

        T BuildUponClip<T>(SceneSetting setting, Func<T, OpenClipModel> clipOf) where T : Module
        {
            if (recipe.TowerFrom is null) return recipe.Build<T>(setting);
            if (recipe.From is not null) throw new PanoptesException("A model begins with another one's towers (tower_from) or with all of its weights (from), not both.");
            using var clip = recipe.LoadClip(setting);
            var model = recipe.Build<T>(setting, clip: clip);
            ClipTowers.Copy(clip, clipOf(model));
            return model;
        }

        /// <summary>The CLIP of <see cref="SceneModel.TowerFrom"/> in float32.</summary>
        /// <exception cref="PanoptesException">None is named, or it is another model.</exception>
        internal OpenClipModel LoadClip(SceneSetting setting) => Models.Load<OpenClipModel>(setting.Recipe.ResolveModel(recipe.TowerFrom ?? throw new PanoptesException("This task needs the CLIP that it begins with (model.tower_from).")), new() { Dtype = ScalarType.Float32 });

        /// <summary>Builds a model that reads texts, with its tokenizer; where the recipe names a CLIP (tower_from), with that one's towers and tokenizer.</summary>
        /// <param name="setting">The recipe.</param>
        /// <param name="with">A config with a CLIP's towers.</param>
        /// <param name="begin">A model of such a config.</param>
        /// <param name="texts">How many tokens the model takes, and how many ids it knows.</param>
        /// <inheritdoc cref="Build{T}"/>
        internal (T Model, Tokenizer Tokenizer) BuildWithTexts<T, TConfig>(SceneSetting setting, Func<TConfig, OpenClipModel, TConfig> with, Func<TConfig, OpenClipModel, Generator, T> begin, Func<T, ClipTextConfig> texts)
            where T : Module
            where TConfig : ModelConfig
        {
            if (recipe.TowerFrom is { } tower)
            {
                if (recipe.From is not null || recipe.Config is null || recipe.Tokenizer is not null) throw new PanoptesException("A model that begins with a CLIP's towers (tower_from) has its tokenizer, too, and a config of its own for the rest.");
                using var clip = recipe.LoadClip(setting);
                return (begin(with(ModelConfig.Parse<TConfig>(JsonSerializer.Serialize(recipe.Config), "the recipe's config"), clip), clip, setting.Generator), Text.Tokenizer.Load(ModelFolder.FolderOf(ModelFolder.Resolve(setting.Recipe.ResolveModel(tower)))));
            }
            var model = recipe.Build<T>(setting);
            try
            {
                var (r, c) = (setting.Recipe, texts(model));
                return (model, recipe.From is { } from
                    ? Text.Tokenizer.Load(ModelFolder.FolderOf(ModelFolder.Resolve(r.ResolveModel(from))))
                    : RecipeParts.TokenizerOf(recipe.Tokenizer ?? throw new PanoptesException("A model that reads texts needs a tokenizer."), r.Folder, setting.Run, c.MaxPositionEmbeddings, c.VocabSize));
            }
            catch
            {
                model.Dispose();
                throw;
            }
        }

        /// <summary>Builds the model (initialized, or loaded in float32).</summary>
        /// <param name="labels">The classes that it tells apart, where the config names none itself.</param>
        /// <param name="clip">What the config's clip is, for a model that is built upon one.</param>
        /// <param name="fits">Which of the models of this library are meant; null: all that are a <typeparamref name="T"/>.</param>
        /// <param name="field">Where the config has the classes: a list; null: DETR's <c>id2label</c>.</param>
        /// <exception cref="PanoptesException">It is no <typeparamref name="T"/>, or its config or weights do not fit.</exception>
        internal T Build<T>(SceneSetting setting, IReadOnlyList<string>? labels = null, OpenClipModel? clip = null, Func<ModelEntry, bool>? fits = null, string? field = null) where T : Module
        {
            if (recipe.From is { } from)
            {
                if (recipe.Config is not null || recipe.Architecture is not null) throw new PanoptesException("A model is trained either from another one's weights (from) or from its config (architecture, config), not both.");
                var path = setting.Recipe.ResolveModel(from);
                var load = new LoadOptions { Dtype = ScalarType.Float32 };
                if (fits is not null)
                {
                    var loaded = PromptableModels.Load(path, load);
                    if (fits(PromptableModels.All.First(e => e.Type == loaded.GetType()))) return (T)loaded;
                    loaded.Dispose();
                    throw new PanoptesException($"{from} holds a {loaded.GetType().Name}, which does not go with this task.");
                }
                return PromptableModels.Registry.Knows(path) || !Trained.Any(static e => typeof(T).IsAssignableFrom(e.Type)) ? PromptableModels.Load<T>(path, load) : Models.Load<T>(path, load);
            }
            if (recipe.Architecture is null || recipe.Config is null) throw new PanoptesException("A model needs architecture and config, or the model whose weights it starts from (from).");
            ModelEntry[] fitting = [.. PromptableModels.All.Concat(Trained).Where(static e => typeof(T).IsAssignableFrom(e.Type)).Where(fits ?? (static _ => true))];
            var entry = Array.Find(fitting, e => e.Architecture == recipe.Architecture)
                ?? throw new PanoptesException($"The architecture {recipe.Architecture} does not go with this task; expected {string.Join(" or ", fitting.Select(static e => e.Architecture))}.");
            var config = new Dictionary<string, object?>(recipe.Config) { ["architectures"] = new[] { recipe.Architecture } };
            if (clip is not null) config["clip"] = JsonSerializer.Deserialize<JsonElement>(clip.Config.ToJson());
            if (labels is not null && field is not null) config.TryAdd(field, labels);
            else if (labels is not null) config.TryAdd("id2label", labels.Select(static (name, i) => (name, i)).ToDictionary(static l => l.i.ToString(CultureInfo.InvariantCulture), static l => l.name));
            var json = JsonSerializer.Serialize(config);
            var model = (T)entry.Build(new(json, $"the recipe's config of {recipe.Architecture}", static _ => null));
            model.Initialize(setting.Generator);
            return model;
        }
    }
}
