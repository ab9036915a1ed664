using Panoptes.Imaging;

namespace Panoptes.Evaluation;

/// <summary>How well drawn edges agree with wanted ones, each being right that has one of the others within some pixels. Scores of several images add up.</summary>
/// <param name="Drawn">Edge pixels that were drawn.</param>
/// <param name="Right">Those of them with a wanted one nearby.</param>
/// <param name="Wanted">Edge pixels that were wanted.</param>
/// <param name="Found">Those of them with a drawn one nearby.</param>
public sealed record EdgeScores(long Drawn, long Right, long Wanted, long Found)
{
    /// <summary>The share of drawn edges that are right; 1 where none was drawn.</summary>
    public double Precision => Drawn == 0 ? 1 : (double)Right / Drawn;

    /// <summary>The share of wanted edges that were found; 1 where none was wanted.</summary>
    public double Recall => Wanted == 0 ? 1 : (double)Found / Wanted;

    /// <summary>The harmonic mean of both; 0 where nothing agrees.</summary>
    public double F1 => Precision + Recall is > 0 and var sum ? 2 * Precision * Recall / sum : 0;

    /// <summary>The scores of two sets of images together.</summary>
    public static EdgeScores operator +(EdgeScores a, EdgeScores b) => new(a.Drawn + b.Drawn, a.Right + b.Right, a.Wanted + b.Wanted, a.Found + b.Found);

    /// <summary>Compares two maps of edges.</summary>
    /// <param name="drawn">Gray or in colors; what is brighter than 127 is an edge.</param>
    /// <param name="wanted">Of the same size.</param>
    /// <param name="tolerance">How far edges may be apart, in pixels.</param>
    /// <exception cref="PanoptesException">The sizes differ, or the tolerance is below 0 or no number.</exception>
    public static EdgeScores Of(Image drawn, Image wanted, double tolerance = 2)
    {
        if ((drawn.Width, drawn.Height) != (wanted.Width, wanted.Height)) throw new PanoptesException($"Edges of {drawn.Width}x{drawn.Height} and {wanted.Width}x{wanted.Height} pixels were given; expected one size.");
        if (!(tolerance >= 0)) throw new PanoptesException($"The tolerance is {tolerance}; expected 0 or more pixels.");
        var (a, b) = (Between(drawn), Between(wanted));
        var ((ofDrawn, right), (ofWanted, found)) = (Near(a, b), Near(b, a));
        return new(ofDrawn, right, ofWanted, found);

        // 1 between the edges, 0 on them.
        static byte[] Between(Image image) => [.. image.ToGray().Pixels.Select(static p => p > 127 ? (byte)0 : (byte)1)];

        (long All, long Near) Near(byte[] edges, byte[] others)
        {
            var (squared, all, near) = (DistanceTransform.Squared(others, drawn.Height, drawn.Width), 0L, 0L);
            var none = !others.AsSpan().Contains((byte)0);
            for (var i = 0; i < edges.Length; i++)
            {
                if (edges[i] != 0) continue;
                all++;
                if (!none && squared[i] <= tolerance * tolerance) near++;
            }
            return (all, near);
        }
    }
}
