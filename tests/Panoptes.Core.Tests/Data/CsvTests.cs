using CsCheck;
using Panoptes.Data;

namespace Panoptes.Core.Tests.Data;

public sealed class CsvTests
{
    [Theory]
    [InlineData("a,b\n1,2\n", "a|b;1|2")]
    [InlineData("a,b\r\n1,2", "a|b;1|2")]
    [InlineData("a,b\r1,2\r", "a|b;1|2")]
    [InlineData("\n\r\na\n\n", "a")]
    [InlineData("a,,\n", "a||")]
    [InlineData("\"x,y\",\"he said \"\"no\"\"\"\n", "x,y|he said \"no\"")]
    [InlineData("\"two\r\nlines\",z", "two\r\nlines|z")]
    [InlineData("\"\"\n", "")]
    [InlineData("5\" disk,\"a\"b\n", "5\" disk|ab")]
    public void Rows_are_those_that_the_rules_and_Python_give(string text, string expected)
    {
        var reader = new CsvReader(new StringReader(text), ',', "t.csv");
        var rows = new List<string[]>();
        while (reader.Read() is { } row) rows.Add(row);
        Assert.Equal(expected, string.Join(';', rows.Select(static r => string.Join('|', r))));
    }

    [Fact]
    public void What_is_written_by_the_rules_is_read_back_wherever_the_reads_break_off()
    {
        var cell = Gen.OneOf(Gen.String[Gen.Char["ab,\t\"\r\n é漢"], 0, 8], Gen.Int.Select(static i => $"{i}"));
        Gen.Select(cell.Array[1, 5].Array[1, 6], Gen.Char[",\t"], Gen.OneOf(Gen.Const("\n"), Gen.Const("\r\n"), Gen.Const("\r")), Gen.Int[1, 5]).Sample(t =>
        {
            var (rows, separator, end, step) = t;
            var text = string.Concat(rows.Select(r => string.Join(separator, r.Select(static c => $"\"{c.Replace("\"", "\"\"")}\"")) + end));
            var reader = new CsvReader(new SlowReader(text, step), separator, "t.csv");
            foreach (var row in rows)
                if (reader.Read() is not { } read || !read.SequenceEqual(row)) return false;
            return reader.Read() is null;
        }, iter: 2000, threads: 1);
    }

    [Fact]
    public void Any_text_is_rows_or_one_clear_error() =>
        Gen.String[Gen.Char["a,\"\r\n\0\uD800"], 0, 60].Sample(text =>
        {
            var reader = new CsvReader(new StringReader(text), ',', "t.csv");
            try
            {
                var cells = 0;
                while (reader.Read() is { } row) cells += row.Length;
                return cells <= text.Length + 1;
            }
            catch (PanoptesException e)
            {
                return e.Message.Contains("never closed", StringComparison.Ordinal);
            }
        }, iter: 3000, threads: 1);

    [Fact]
    public void A_row_knows_the_line_that_it_began_in()
    {
        var reader = new CsvReader(new StringReader("a\n\n\"b\nb\nb\"\r\nc"), ',', "t.csv");
        var lines = new List<int>();
        while (reader.Read() is not null) lines.Add(reader.Line);
        Assert.Equal([1, 3, 6], lines);
    }

    [Fact]
    public void A_field_without_end_is_refused_before_it_fills_the_memory()
    {
        var reader = new CsvReader(new StringReader("\"" + new string('x', CsvReader.MaxFieldLength + 1)), ',', "t.csv");
        Assert.Contains("t.csv: a field of the row that begins in line 1 has more than", Assert.Throws<PanoptesException>(reader.Read).Message, StringComparison.Ordinal);
        reader = new CsvReader(new StringReader(new string(',', CsvReader.MaxFields)), ',', "t.csv");
        Assert.Contains("fields", Assert.Throws<PanoptesException>(reader.Read).Message, StringComparison.Ordinal);
    }

    /// <summary>Gives a few characters at a time, as a pipe may.</summary>
    sealed class SlowReader(string text, int step) : TextReader
    {
        int at;

        public override int Read(char[] buffer, int index, int count)
        {
            var n = Math.Min(Math.Min(step, count), text.Length - at);
            text.CopyTo(at, buffer, index, n);
            at += n;
            return n;
        }
    }
}
