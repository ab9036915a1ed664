using System.Text;

namespace Panoptes.Data;

/// <summary>
/// Reads comma- or tab-separated values row by row (RFC 4180): fields in quotes may hold separators, line breaks and doubled quotes;
/// lines end in LF, CR LF or CR; blank lines are skipped. A quote within a field that does not begin with one is a plain character, and
/// what follows a closing quote is kept, as Python's csv module has it.
/// </summary>
/// <param name="reader">The text. It is not closed.</param>
/// <param name="separator">Between fields, not a quote or a line break.</param>
/// <param name="source">Names the text in errors.</param>
sealed class CsvReader(TextReader reader, char separator, string source)
{
    /// <summary>A quote that is never closed would make one field of the rest of the file.</summary>
    internal const int MaxFieldLength = 1 << 20;

    internal const int MaxFields = 1 << 14;

    readonly char[] buffer = new char[1 << 14];
    readonly StringBuilder field = new();
    readonly List<string> fields = [];
    int at, length;

    /// <summary>The line on which the row last read began, from 1.</summary>
    internal int Line { get; private set; }

    int line = 1;

    /// <summary>The next row that is not blank; null at the end.</summary>
    /// <exception cref="PanoptesException">A field or a row is longer than any real one, or a quote is not closed.</exception>
    internal string[]? Read()
    {
        while (Peek() >= 0)
        {
            fields.Clear();
            Line = line;
            var quoted = false;
            while (ReadField(ref quoted)) { }
            if (fields.Count > 1 || fields[0].Length > 0 || quoted) return [.. fields];
        }
        return null;
    }

    /// <summary>Reads one field and what ends it; false where it is the row's last.</summary>
    bool ReadField(ref bool quoted)
    {
        field.Clear();
        if (Peek() == '"')
        {
            quoted = true;
            at++;
            ReadQuoted();
        }
        while (true)
        {
            var c = Peek();
            if (c == separator)
            {
                at++;
                Add();
                return true;
            }
            if (c is < 0 or '\r' or '\n')
            {
                Add();
                if (c >= 0) EndLine();
                return false;
            }
            Append((char)c);
            at++;
        }
    }

    /// <summary>Up to and with the closing quote.</summary>
    void ReadQuoted()
    {
        while (true)
        {
            var c = Peek();
            if (c < 0) throw new PanoptesException($"{source}: the row that begins in line {Line} has a quote that is never closed.");
            if (c is '\r' or '\n')
            {
                Append((char)c);
                if (c == '\r' && Next() == '\n') Append('\n');
                EndLine();
                continue;
            }
            at++;
            if (c == '"')
            {
                if (Peek() != '"') return;
                at++;
            }
            Append((char)c);
        }
    }

    void EndLine()
    {
        if (Peek() == '\r' && Next() == '\n') at++;
        at++;
        line++;
    }

    void Append(char c)
    {
        if (field.Length == MaxFieldLength) throw new PanoptesException($"{source}: a field of the row that begins in line {Line} has more than {MaxFieldLength:N0} characters; is a quote not closed?");
        field.Append(c);
    }

    void Add()
    {
        if (fields.Count == MaxFields) throw new PanoptesException($"{source}: the row in line {Line} has more than {MaxFields:N0} fields.");
        fields.Add(field.ToString());
    }

    int Peek()
    {
        if (at < length || Fill(0)) return buffer[at];
        return -1;
    }

    /// <summary>The character after the present one.</summary>
    int Next()
    {
        if (at + 1 < length) return buffer[at + 1];
        buffer[0] = buffer[at];
        return Fill(1) ? buffer[1] : -1;
    }

    /// <summary>Reads on behind <paramref name="kept"/> characters at the buffer's beginning.</summary>
    bool Fill(int kept)
    {
        var read = reader.Read(buffer, kept, buffer.Length - kept);
        (at, length) = (0, kept + read);
        return read > 0;
    }
}
