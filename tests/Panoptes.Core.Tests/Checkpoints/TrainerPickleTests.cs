using Panoptes.Checkpoints;

namespace Panoptes.Core.Tests.Checkpoints;

public sealed class TrainerPickleTests
{
    [Fact]
    public void A_class_of_Lightning_is_a_name_that_nothing_can_be_made_of()
    {
        Assert.Equal("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", Read("cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n."u8)?.ToString());
        Assert.Contains("ModelCheckpoint is called", Assert.Throws<PanoptesException>(static () => Read("cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n)R."u8)).Message, StringComparison.Ordinal);
        Assert.Contains("its pickle names lightning.x", Assert.Throws<PanoptesException>(static () => Read("clightning\nx\n."u8)).Message, StringComparison.Ordinal);
    }

    static object? Read(ReadOnlySpan<byte> pickle) => new Unpickler("a.ckpt", false, static (_, _, _, _) => throw new PanoptesException("It has no storages.")).Read(pickle).Value;
}
