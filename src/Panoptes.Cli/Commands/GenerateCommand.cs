using System.CommandLine;
using Panoptes.Generation;

namespace Panoptes.Cli.Commands;

/// <summary>Makes images of words, or of words and a picture.</summary>
sealed class GenerateCommand() : ImageCommand("generate", "Make images of words by a diffusion model: from noise, from a picture, or into a picture's masked part. Each PNG says how it was made.", """
    panoptes generate "a red apple left of a cat" --model stable-diffusion-v1-5/stable-diffusion-v1-5 --precision auto
    panoptes generate "a red apple" "a green apple" --model M --count 4 --seed 1 --grid --out apples
    panoptes generate "a cat" "a dog" --model M --seed 7 --interpolate 9 --grid --out between
    panoptes generate "a castle" --model M --upscale 2
    panoptes generate --from castle.png --variation 0.2 --count 4 --out variations
    panoptes generate "a watercolor of a cat" --model M --image cat.png --strength 0.6
    panoptes generate "a dog" --model M --image cat.png --mask where.png
    panoptes generate "a red apple" --model v2-1_768-ema-pruned.safetensors
    panoptes generate --from apple.png --steps 50
    panoptes generate "a red apple" --scheduler ddim --scheduler dpmpp-2m --steps 5 --steps 25 --count 4 --grid --out ways
    """, new("--image", "-i") { Description = "A picture to be changed.", HelpName = "IMAGE" })
{
    protected override IReadOnlyList<ImageControl> Controls(ParseResult parsed, Made? before, List<IDisposable> held)
    {
        if (before?.Parameters.Controls is not null) throw new UsageException($"{before.File} was made under control; expected panoptes control --from.");
        var (networks, adapters) = OwnNetworks(parsed, before);
        if (networks.Length + adapters.Length > 0) new Terminal(parsed).Note($"The model's folder has a {(networks.Length > 0 ? "ControlNet" : "T2I-Adapter")}, which says nothing here; panoptes control --image uses it.");
        return [];
    }
}
