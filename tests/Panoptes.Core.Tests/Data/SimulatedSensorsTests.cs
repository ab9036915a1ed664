using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

public sealed class SimulatedSensorsTests
{
    static EmojiSet Set => EmojiSetTests.Set;

    static EmojiConcept Concept(string subgroup) => Set.Concepts.First(c => c.Subgroup == subgroup);

    [Fact]
    public void A_warm_drawing_is_warm_where_it_is_and_its_surroundings_are_not()
    {
        const int side = 24;
        var mammal = Set.Find(Concept("animal-mammal").Index, 0)!.Value;
        var picture = Thermal(mammal.Index, 5);
        Assert.Equal(picture, Thermal(mammal.Index, 5));
        Assert.NotEqual(picture, Thermal(mammal.Index, 6));                                 // other noise
        Assert.InRange((picture.Max() * 20) + 20, 34, 40);                                   // 37 degrees, two of its own, noise
        Assert.InRange((picture.Min() * 20) + 20, 18.5f, 21);
        var cold = Set.Find(Concept("sky-weather").Index, 0)!.Value;
        Assert.InRange((Thermal(cold.Index, 5).Min() * 20) + 20, 0, 14);

        float[] Thermal(int image, ulong seed)
        {
            var random = new SampleRandom(seed, 0, 0);
            var to = new float[side * side];
            SimulatedSensors.WriteThermal(Set, image, side, 0, ref random, to);
            return to;
        }
    }

    [Fact]
    public void Motion_follows_the_kind_of_thing_and_gravity_is_always_there()
    {
        Assert.Equal(
            [Motion.Walking, Motion.Flying, Motion.Swimming, Motion.Driving, Motion.Playing, Motion.Still],
            new[] { "animal-mammal", "animal-bird", "animal-marine", "transport-ground", "sport", "food-fruit" }.Select(static s => SimulatedSensors.MotionOf(Concept(s))));
        const int length = 500;
        Assert.InRange(Deviation("food-fruit", 2), 0.02, 0.04);                              // noise alone
        Assert.InRange(Deviation("animal-mammal", 2), 0.2, 0.5);
        Assert.True(Deviation("sport", 0) > 2 * Deviation("animal-mammal", 0));
        foreach (var subgroup in (string[])["food-fruit", "animal-mammal", "sport"])
        {
            Assert.InRange(Signal(subgroup).AsSpan(2 * length, length).ToArray().Average(), 0.85f, 1.15f);
            Assert.InRange(Signal(subgroup).AsSpan(0, length).ToArray().Average(), -0.15f, 0.15f);
        }
        Assert.Equal(Signal("sport"), Signal("sport"));

        float[] Signal(string subgroup)
        {
            var random = new SampleRandom(3, 0, 0);
            var to = new float[6 * length];
            SimulatedSensors.WriteMotion(Concept(subgroup), ref random, to);
            return to;
        }

        double Deviation(string subgroup, int channel)
        {
            var values = Signal(subgroup).AsSpan(channel * length, length).ToArray();
            var mean = values.Average();
            return Math.Sqrt(values.Average(v => (v - mean) * (double)(v - mean)));
        }
    }
}
