using CsCheck;
using Panoptes.Training;

namespace Panoptes.Core.Tests.Training;

public sealed class ScheduleTests
{
    [Fact]
    public void Every_rate_of_every_schedule_is_between_zero_and_the_highest() =>
        Gen.Select(Gen.Long[1, 40], Gen.Long[0, 50]).Sample(static (total, warmup) =>
        {
            Schedule[] schedules =
            [
                new CosineSchedule(0.4, total) { WarmupSteps = warmup, FinalRate = 0.01 },
                new TimmCosineSchedule(0.4, total) { WarmupSteps = warmup, WarmupRate = 0.02, FinalRate = 0.01 },
                new OneCycleSchedule(0.4, total) { WarmupSteps = warmup },
                new LinearSchedule(0.4, total) { WarmupSteps = warmup },
                new ConstantSchedule(0.4, total) { WarmupSteps = warmup },
            ];
            foreach (var schedule in schedules)
                for (var step = 0L; step <= total + 3; step++) Assert.InRange(schedule.At(step), 0, 0.4 + 1e-12);
        });

    [Fact]
    public void Falling_schedules_end_where_they_are_told_to_and_stay_there()
    {
        foreach (var step in (long[])[100, 101, 1000])
        {
            Assert.Equal(0.01, new CosineSchedule(0.4, 100) { FinalRate = 0.01 }.At(step), 1e-12);
            Assert.Equal(0.01, new TimmCosineSchedule(0.4, 100) { FinalRate = 0.01 }.At(step), 1e-12);
            Assert.Equal(0.4 / 25 / 1e4, new OneCycleSchedule(0.4, 100).At(step), 1e-12);
            Assert.Equal(0, new LinearSchedule(0.4, 100).At(step), 1e-12);
        }
    }

    [Fact]
    public void One_cycle_peaks_where_its_warm_up_ends()
    {
        var schedule = new OneCycleSchedule(0.4, 100) { WarmupSteps = 11 };
        Assert.Equal(0.4 / 25, schedule.At(0), 1e-12);
        Assert.Equal(0.4, schedule.At(10), 1e-12);
        Assert.True(schedule.At(9) < 0.4 && schedule.At(11) < 0.4);
    }
}
