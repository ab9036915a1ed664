using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Text;
using TorchSharp;
using static TorchSharp.torch;

namespace Panoptes.Representation.Tests.Evaluation;

/// <summary>A complete folder with a small CLIP of random weights whose texts may be long.</summary>
sealed class TinyClip : IDisposable
{
    public TinyClip(int imageSize = 16)
    {
        Folder = Directory.CreateTempSubdirectory("panoptes-evaluation-").FullName;
        var merges = Path.Combine(Folder, "all-merges.txt");
        File.WriteAllText(merges, "#version: 0.2\na n\ne r\ni n\nf a\nfa c\nfac e</w>\n");
        var ids = ClipVocabulary.Truncate(merges, 6, Folder, 96);
        var config = $$"""
            {"projection_dim":12,
             "text_config":{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":96,"vocab_size":{{ids}},"eos_token_id":{{ids - 1}} },
             "vision_config":{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":1,"num_attention_heads":2,"image_size":{{imageSize}},"patch_size":8} }
            """;
        using var model = Models.All.First(static e => e.Architecture == "CLIPModel").Build(new(config, "CLIPModel", static _ => null));
        using (var generator = new Generator(11)) model.Initialize(generator);
        Models.Save(Folder, model);
        File.WriteAllText(Path.Combine(Folder, "preprocessor_config.json"), $$"""{"image_processor_type":"CLIPImageProcessor","size":{"shortest_edge":{{imageSize}} },"crop_size":{{imageSize}} }""");
    }

    public string Folder { get; }

    public Clip Load() => Clip.Load(Folder);

    /// <summary>The model as it is in training, with its parts.</summary>
    public (DualEncoder Model, ImageProcessor Processor, Tokenizer Tokenizer) LoadForTraining()
    {
        var model = (DualEncoder)Models.Load(Folder, new LoadOptions { Dtype = ScalarType.Float32 });
        model.Train();
        return (model, ImageProcessor.Load(Folder), Tokenizer.Load(Folder));
    }

    public void Dispose() => Directory.Delete(Folder, recursive: true);
}
