using Panoptes.Data;

namespace Panoptes.Understanding;

/// <summary>
/// Parts of masks that hang together, pixels that touch at corners included (remove_small_regions of segment-anything's utils/amg.py). Computed on the runs: what a mask takes is by its outline, not its
/// area.
/// </summary>
public static class MaskRegions
{
    /// <summary>Fills holes, and whatever else is outside and hangs together, that have fewer than <paramref name="area"/> pixels. The mask itself where there are none.</summary>
    public static RunLengthMask FillHoles(RunLengthMask mask, int area) => Without(mask, area, inside: false);

    /// <summary>Takes away parts that have fewer than <paramref name="area"/> pixels; of parts that are all smaller, the largest (of equal ones the uppermost) stays. The mask itself where there are none.</summary>
    public static RunLengthMask RemoveIslands(RunLengthMask mask, int area) => Without(mask, area, inside: true);

    /// <summary>Pixels of one column: from a row to before another.</summary>
    readonly record struct Strip(int Column, int Start, int End);

    static RunLengthMask Without(RunLengthMask mask, int area, bool inside)
    {
        var strips = Strips(mask, inside);
        var region = Regions(strips);
        var sizes = new long[strips.Count];
        for (var i = 0; i < strips.Count; i++) sizes[region[i]] += strips[i].End - strips[i].Start;
        var roots = Enumerable.Range(0, strips.Count).Where(i => region[i] == i).ToArray();
        if (!roots.Any(r => sizes[r] < area)) return mask;
        // Of holes all may go.
        var least = inside && roots.All(r => sizes[r] < area) ? roots.Max(r => sizes[r]) : area;
        var kept = roots.Where(r => sizes[r] >= least).ToHashSet();
        if (kept.Count > 1 && least < area)
        {
            var upper = Enumerable.Range(0, strips.Count).Where(i => kept.Contains(region[i])).MinBy(i => (strips[i].Start, strips[i].Column));
            kept = [region[upper]];
        }
        // What stays, and what lies between, in the order of the columns.
        var (runs, state, at) = (new List<int> { 0 }, false, 0);
        for (var i = 0; i < strips.Count; i++)
        {
            if (!kept.Contains(region[i])) continue;
            var start = (strips[i].Column * mask.Height) + strips[i].Start;
            Add(start - at, !inside);
            Add(strips[i].End - strips[i].Start, inside);
            at = start + strips[i].End - strips[i].Start;
        }
        Add((mask.Width * mask.Height) - at, !inside);
        return RunLengthMask.FromRuns(mask.Height, mask.Width, [.. runs]);

        void Add(int length, bool value)
        {
            if (length == 0) return;
            if (value == state) runs[^1] += length;
            else runs.Add(length);
            state = value;
        }
    }

    static List<Strip> Strips(RunLengthMask mask, bool inside)
    {
        var strips = new List<Strip>();
        for (var (i, at) = (0, 0L); i < mask.Runs.Count; at += mask.Runs[i], i++)
        {
            if (i % 2 == 1 != inside) continue;
            for (var (from, end) = (at, at + mask.Runs[i]); from < end;)
            {
                var (column, row) = Math.DivRem(from, mask.Height);
                var length = Math.Min(end - from, mask.Height - row);
                strips.Add(new((int)column, (int)row, (int)(row + length)));
                from += length;
            }
        }
        return strips;
    }

    /// <summary>For every strip the first of its region (union and find).</summary>
    static int[] Regions(List<Strip> strips)
    {
        var parent = Enumerable.Range(0, strips.Count).ToArray();
        for (var (before, now) = (0, 0); now < strips.Count; now++)
        {
            // Strips of the column before that end above this one meet nothing further down either.
            while (strips[before].Column < strips[now].Column - 1 || (strips[before].Column == strips[now].Column - 1 && strips[before].End < strips[now].Start)) before++;
            for (var i = before; strips[i].Column == strips[now].Column - 1 && strips[i].Start <= strips[now].End; i++) Join(i, now);
        }
        for (var i = 0; i < parent.Length; i++) parent[i] = Find(i);
        return parent;

        int Find(int i)
        {
            while (parent[i] != i) i = parent[i] = parent[parent[i]];
            return i;
        }

        void Join(int a, int b)
        {
            (a, b) = (Find(a), Find(b));
            if (a != b) parent[Math.Max(a, b)] = Math.Min(a, b);
        }
    }
}
