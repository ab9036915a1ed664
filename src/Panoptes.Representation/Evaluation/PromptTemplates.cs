namespace Panoptes.Representation.Evaluation;

/// <summary>Sentences around a class's name, <c>{}</c> being the name; a class's embedding is the mean over them.</summary>
public static class PromptTemplates
{
    /// <summary>
    /// OpenAI's seven for images of any kind: those of their eighty that together served ImageNet best
    /// (github.com/openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet.ipynb).
    /// </summary>
    public static IReadOnlyList<string> General { get; } =
        ["itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.", "a {} in a video game.", "art of the {}.", "a photo of the small {}."];
}
