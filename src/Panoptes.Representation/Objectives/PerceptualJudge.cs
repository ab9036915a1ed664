using Panoptes.Checkpoints;
using Panoptes.Imaging;
using Panoptes.Nn;

namespace Panoptes.Representation.Objectives;

/// <summary>A trained image tower, frozen, whose features say how alike pictures are (<see cref="PerceptualDistance"/>).</summary>
public sealed class PerceptualJudge : IDisposable
{
    readonly Module model;
    readonly IImageTower tower;
    readonly Renormalization view;

    PerceptualJudge(Module model, IImageTower tower, Renormalization view)
    {
        (this.model, this.tower, this.view) = (model, tower, view);
        model.RequiresGrad(false);
    }

    /// <summary>Loads one in float32.</summary>
    /// <param name="path">A folder or a file.</param>
    /// <param name="view">From the pixels that are compared to those of the model, by what prepares the model's images.</param>
    /// <exception cref="PanoptesException">No model, or one without an image tower.</exception>
    public static PerceptualJudge Load(string path, Func<ImageProcessor, Renormalization> view)
    {
        var model = Models.Load(path, new() { Dtype = ScalarType.Float32 });
        try
        {
            return new(model, Towers.Of(model).Images, view(ImageProcessor.Load(ModelFolder.FolderOf(path))));
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>The mean distance over all maps, with gradients to the second pictures: a scalar in at least float32.</summary>
    /// <param name="first">[b, 3, height, width]</param>
    /// <param name="second">As many.</param>
    public Tensor Distance(Tensor first, Tensor second)
    {
        using var scope = NewDisposeScope();
        IReadOnlyList<Tensor> real;
        using (no_grad()) real = Features(first);
        return PerceptualDistance.Of(real, Features(second), -1).mean().MoveToOuterDisposeScope();

        IReadOnlyList<Tensor> Features(Tensor pixels)
        {
            var output = tower.Forward(view.Apply(pixels, tower.ImageSize), hiddenStates: true);
            return [.. (output.HiddenStates ?? [output.LastHiddenState]).Select(VqVae.Exact)];
        }
    }

    public void Dispose() => model.Dispose();
}
