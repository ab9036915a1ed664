namespace Panoptes.Understanding;

/// <summary>Which row has which column: pair i is (<paramref name="Rows"/>[i], <paramref name="Columns"/>[i]), with rows rising.</summary>
public sealed record Assignment(IReadOnlyList<int> Rows, IReadOnlyList<int> Columns)
{
    public int Count => Rows.Count;
}

/// <summary>
/// The assignment of rows to columns, one to one, whose costs come to the least: exact, by shortest augmenting paths (Jonker and Volgenant 1987, in the rectangular form of
/// Crouse 2016, which scipy's linear_sum_assignment computes as well; ties are broken as there). Of n rows and m columns the smaller number is assigned.
/// </summary>
public static class HungarianMatching
{
    /// <param name="cost">[rows, columns]</param>
    /// <inheritdoc cref="Assign(ReadOnlySpan{double}, int, int)"/>
    public static Assignment Assign(Tensor cost)
    {
        if (cost.dim() != 2) throw new PanoptesException($"Costs have the shape [{string.Join(", ", cost.shape)}]; expected [rows, columns].");
        if (cost.numel() == 0) return new([], []);
        using var scope = NewDisposeScope();
        return Assign(cost.detach().cpu().to(ScalarType.Float64).contiguous().data<double>().ToArray(), (int)cost.shape[0], (int)cost.shape[1]);
    }

    /// <param name="cost">rows · columns numbers, row by row; infinity forbids a pair.</param>
    /// <param name="rows">How many.</param>
    /// <param name="columns">How many.</param>
    /// <exception cref="PanoptesException">A cost is no number or minus infinity, or so many pairs are forbidden that no assignment is left.</exception>
    public static Assignment Assign(ReadOnlySpan<double> cost, int rows, int columns)
    {
        if (rows < 0 || columns < 0 || cost.Length != (long)rows * columns) throw new PanoptesException($"{cost.Length} costs were given for {rows} rows and {columns} columns.");
        foreach (var c in cost)
            if (double.IsNaN(c) || double.IsNegativeInfinity(c)) throw new PanoptesException($"A cost is {c}; expected numbers, or infinity for what may not be.");
        if (rows == 0 || columns == 0) return new([], []);
        if (rows <= columns) return new([.. Enumerable.Range(0, rows)], ColumnOfRow(cost, rows, columns));

        // The long side waits: every column looks for a row.
        var turned = new double[cost.Length];
        for (var r = 0; r < rows; r++)
            for (var c = 0; c < columns; c++) turned[c * rows + r] = cost[r * columns + c];
        var rowOfColumn = ColumnOfRow(turned, columns, rows);
        int[] order = [.. Enumerable.Range(0, columns).OrderBy(c => rowOfColumn[c])];
        return new([.. order.Select(c => rowOfColumn[c])], order);
    }

    /// <summary>For at most as many rows as columns.</summary>
    static int[] ColumnOfRow(ReadOnlySpan<double> cost, int rows, int columns)
    {
        // Prices of rows and columns: no pair costs less than both together, and assigned pairs cost exactly that.
        var (rowPrice, columnPrice) = (new double[rows], new double[columns]);
        var (columnOf, rowOf, from) = (new int[rows], new int[columns], new int[columns]);
        var (distance, open) = (new double[columns], new int[columns]);
        var (rowSeen, columnSeen) = (new bool[rows], new bool[columns]);
        columnOf.AsSpan().Fill(-1);
        rowOf.AsSpan().Fill(-1);
        for (var row = 0; row < rows; row++)
        {
            // The cheapest way from this row to a free column, over columns that others have and would change for.
            rowSeen.AsSpan().Clear();
            columnSeen.AsSpan().Clear();
            distance.AsSpan().Fill(double.PositiveInfinity);
            for (var i = 0; i < columns; i++) open[i] = columns - 1 - i;               // of equal columns the first is taken
            var (left, at, least, free) = (columns, row, 0.0, -1);
            while (free < 0)
            {
                rowSeen[at] = true;
                var (nearest, lowest) = (-1, double.PositiveInfinity);
                for (var i = 0; i < left; i++)
                {
                    var column = open[i];
                    var reached = least + cost[at * columns + column] - rowPrice[at] - columnPrice[column];
                    if (reached < distance[column]) (distance[column], from[column]) = (reached, at);
                    // Of equally near columns a free one ends the search.
                    if (distance[column] < lowest || (distance[column] == lowest && rowOf[column] < 0)) (nearest, lowest) = (i, distance[column]);
                }
                if (double.IsPositiveInfinity(lowest)) throw new PanoptesException("So many pairs are forbidden that no assignment is left.");
                least = lowest;
                var taken = open[nearest];
                columnSeen[taken] = true;
                open[nearest] = open[--left];
                if (rowOf[taken] < 0) free = taken;
                else at = rowOf[taken];
            }

            rowPrice[row] += least;
            for (var r = 0; r < rows; r++)
                if (rowSeen[r] && r != row) rowPrice[r] += least - distance[columnOf[r]];
            for (var c = 0; c < columns; c++)
                if (columnSeen[c]) columnPrice[c] -= least - distance[c];

            // Everyone on the way changes to the next column.
            for (var column = free; ;)
            {
                var r = from[column];
                rowOf[column] = r;
                (columnOf[r], column) = (column, columnOf[r]);
                if (r == row) break;
            }
        }
        return columnOf;
    }
}
