namespace Panoptes.Data;

/// <summary>How a thing moves, by CLDR's subgroup of its concept.</summary>
public enum Motion
{
    /// <summary>Only noise.</summary>
    Still,

    /// <summary>About two steps a second: people and animals on legs.</summary>
    Walking,

    /// <summary>About eight wing beats a second: birds, insects, aircraft.</summary>
    Flying,

    /// <summary>A slow roll: what lives or sails in water.</summary>
    Swimming,

    /// <summary>An engine's fast, small vibration: vehicles.</summary>
    Driving,

    /// <summary>Jerks of about four a second: sports, games and musical instruments.</summary>
    Playing,
}

/// <summary>
/// Sensors that nobody pointed at an emoji: a thermal camera and an accelerometer with a gyroscope, SIMULATED from what CLDR says about the concept (and, for
/// the camera, from the drawing's outline). They stand in for real sensors where a method needs more modalities than there are data of, and
/// show nothing about real ones. Everything follows from the concept, the drawing and the random stream that is given.
/// </summary>
public static class SimulatedSensors
{
    /// <summary>Measurements a second of <see cref="WriteMotion"/>.</summary>
    public const int MotionRate = 100;

    /// <summary>Channels of <see cref="WriteMotion"/>: acceleration along x, y and z, rotation about x, y and z.</summary>
    public const int MotionChannels = 6;

    /// <summary>What surrounds everything, in degrees Celsius.</summary>
    public const float Ambient = 20;

    /// <summary>How a concept moves.</summary>
    public static Motion MotionOf(EmojiConcept concept) => concept.Subgroup switch
    {
        "animal-mammal" or "animal-reptile" or "animal-amphibian" or "person" or "person-role" or "person-activity" or "person-fantasy" or "person-gesture" or "family" => Motion.Walking,
        "animal-bird" or "animal-bug" or "transport-air" => Motion.Flying,
        "animal-marine" or "transport-water" => Motion.Swimming,
        "transport-ground" => Motion.Driving,
        "sport" or "person-sport" or "game" or "musical-instrument" => Motion.Playing,
        _ => Motion.Still,
    };

    /// <summary>A concept's temperature in degrees Celsius: its subgroup's, and up to two degrees of its own.</summary>
    public static float TemperatureOf(EmojiConcept concept)
    {
        var kind = concept.Subgroup switch
        {
            "animal-mammal" or "animal-bird" => 37,
            "animal-bug" or "animal-reptile" or "animal-amphibian" => 24,
            "animal-marine" => 14,
            "food-prepared" or "food-asian" => 55,
            "food-sweet" or "drink" => 8,
            "food-fruit" or "food-vegetable" => 16,
            "transport-ground" or "transport-air" or "transport-water" => 45,
            "light-video" or "computer" or "phone" => 40,
            "sky-weather" => 4,
            _ when concept.Group is "people-body" or "smileys-emotion" => 34,
            _ => 22,
        };
        return kind + Own(concept, 1).Next(-2, 2);
    }

    /// <summary>
    /// What a thermal camera would see of a drawing: the surroundings at <see cref="Ambient"/>, the drawing's outline at its concept's temperature, blurred as
    /// such cameras are, with noise of 0.3 degrees.
    /// </summary>
    /// <param name="set">The drawings.</param>
    /// <param name="image">Position in <see cref="EmojiSet.Images"/>.</param>
    /// <param name="side">Of the square picture.</param>
    /// <param name="shift">The drawing is moved by up to so many pixels.</param>
    /// <param name="random">Draws the move and the noise.</param>
    /// <param name="to">[side, side]: (degrees - 20) / 20.</param>
    public static void WriteThermal(EmojiSet set, int image, int side, int shift, ref SampleRandom random, Span<float> to)
    {
        var pixels = set.Pixels(image);
        var warmer = TemperatureOf(set.Concepts[set.Images[image].Concept]) - Ambient;
        var (dx, dy) = (random.Next(-shift, shift + 1), random.Next(-shift, shift + 1));
        var (covered, half) = (new float[side * side], new float[side * side]);
        for (var y = 0; y < side; y++)
        {
            for (var x = 0; x < side; x++)
            {
                var (u, v) = ((int)((x + dx + 0.5f) * set.Size / side), (int)((y + dy + 0.5f) * set.Size / side));
                if (u >= 0 && v >= 0 && u < set.Size && v < set.Size) covered[(y * side) + x] = pixels[(((v * set.Size) + u) * 4) + 3] / 255f;
            }
        }
        var reach = Math.Max(1, side / 32);
        Blur(covered, half, side, 1, side, reach);
        Blur(half, covered, side, side, 1, reach);
        for (var i = 0; i < to.Length; i++) to[i] = ((covered[i] * warmer) + (0.3f * random.NextNormal())) / 20;
    }

    /// <summary>The mean over 2 · reach + 1 neighbors along one axis; what is beyond the edge counts as nothing.</summary>
    static void Blur(float[] from, float[] to, int side, int step, int line, int reach)
    {
        for (var l = 0; l < side; l++)
        {
            for (var i = 0; i < side; i++)
            {
                var sum = 0f;
                for (var k = Math.Max(0, i - reach); k <= Math.Min(side - 1, i + reach); k++) sum += from[(l * line) + (k * step)];
                to[(l * line) + (i * step)] = sum / ((2 * reach) + 1);
            }
        }
    }

    /// <summary>
    /// What an accelerometer (in g, with gravity along z) and a gyroscope (in radians a second) would measure on a thing: the pattern of its <see cref="Motion"/> with
    /// a rate and a strength of the concept's own, from a random moment on, with noise.
    /// </summary>
    /// <param name="concept">Whose motion.</param>
    /// <param name="random">Draws the moment and the noise.</param>
    /// <param name="to">[6, samples], <see cref="MotionRate"/> of them a second.</param>
    public static void WriteMotion(EmojiConcept concept, ref SampleRandom random, Span<float> to)
    {
        var own = Own(concept, 2);
        var (rate, strength) = (own.Next(0.85f, 1.18f) * random.Next(0.97f, 1.03f), own.Next(0.8f, 1.25f));
        var (length, start) = (to.Length / MotionChannels, random.Next(0, 100));
        // By channel: cycles a second and amplitude, of the ground wave and of the one twice as fast.
        (float, float[], float[]) wave = MotionOf(concept) switch
        {
            Motion.Walking => (1.9f, [0.15f, 0.08f, 0.35f, 0.2f, 0.3f, 0.1f], [0.05f, 0.03f, 0.2f, 0.1f, 0.1f, 0.05f]),
            Motion.Flying => (8f, [0.05f, 0.05f, 0.6f, 0.5f, 0.1f, 0.05f], [0, 0, 0.1f, 0.1f, 0, 0]),
            Motion.Swimming => (0.6f, [0.2f, 0.25f, 0.1f, 0.15f, 0.15f, 0.6f], [0.05f, 0.05f, 0, 0, 0, 0.1f]),
            Motion.Driving => (14f, [0.06f, 0.06f, 0.12f, 0.02f, 0.02f, 0.02f], [0.03f, 0.03f, 0.08f, 0, 0, 0]),
            Motion.Playing => (4f, [0.7f, 0.5f, 0.6f, 0.8f, 0.8f, 0.7f], [0.4f, 0.3f, 0.3f, 0.4f, 0.4f, 0.3f]),
            _ => (1f, new float[MotionChannels], new float[MotionChannels]),
        };
        var (cycles, first, second) = wave;
        for (var c = 0; c < MotionChannels; c++)
        {
            var gravity = c == 2 ? 1f : 0;
            for (var i = 0; i < length; i++)
            {
                var phase = MathF.Tau * ((start + ((float)i / MotionRate)) * cycles * rate) + c;
                to[(c * length) + i] = gravity + (strength * ((first[c] * MathF.Sin(phase)) + (second[c] * MathF.Sin(2 * phase)))) + (0.03f * random.NextNormal());
            }
        }
    }

    /// <summary>What a concept has of its own, whatever else is drawn: a stream by its code (FNV-1a).</summary>
    static SampleRandom Own(EmojiConcept concept, long purpose)
    {
        var hash = 14695981039346656037UL;
        foreach (var c in concept.Code) hash = (hash ^ c) * 1099511628211UL;
        return new(hash, -2, purpose);
    }
}
