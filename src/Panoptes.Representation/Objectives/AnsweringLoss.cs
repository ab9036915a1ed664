namespace Panoptes.Representation.Objectives;

/// <summary>
/// Answers to questions about images (BEiT-3, Wang et al. 2022, arXiv:2208.10442): image and question go through the network together, and the answer is one of
/// a list. The texts of the data are the questions, their labels the answers.
/// </summary>
public sealed class AnsweringLoss : SampleObjective
{
    public override Tensor Loss(Towers towers, PairInput input, Generator random)
    {
        using var scope = NewDisposeScope();
        var labels = input.Labels ?? throw new PanoptesException("Answering needs labels, which the data do not have.");
        var logits = ((Beit3ForVisualQuestionAnswering)towers.Model).Logits(input.Images[0], input.Ids[0], input.Masks?[0]);
        return ClassificationLoss.Of(logits.to(ScalarType.Float32), labels).MoveToOuterDisposeScope();
    }
}

/// <summary>Answers in a recipe; the model must be a BEiT3ForVisualQuestionAnswering, which has the data's answers where its config names none.</summary>
public sealed record AnsweringOptions : ObjectiveOptions
{
    public override Objective Create(ObjectiveSetting setting)
    {
        if (setting.Towers.Model is not Beit3ForVisualQuestionAnswering model) throw new PanoptesException($"answering needs a BEiT3ForVisualQuestionAnswering; found a {setting.Towers.Model.GetType().Name}.");
        if (model.Answers.Count != setting.Classes.Count) throw new PanoptesException($"The model gives {model.Answers.Count} answers, but the data have {setting.Classes.Count}; leave num_labels out, and ask questions about scenes.");
        return new AnsweringLoss();
    }
}
