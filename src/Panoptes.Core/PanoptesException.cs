using System.Text;

namespace Panoptes;

/// <summary>
/// An error that the user can mend: a bad file, prompt, size or option. Its message is one clear sentence that names what was found
/// and what was expected; the command prints it alone and exits with 1, the server answers 4xx.
/// </summary>
/// <remarks>
/// What a message quotes from files may hold anything: control characters (line breaks, a terminal's escape sequences) become spaces.
/// </remarks>
public class PanoptesException : Exception
{
    /// <param name="message">The sentence.</param>
    public PanoptesException(string message) : base(OneLine(message)) { }

    /// <param name="message">The sentence.</param>
    /// <param name="inner">What it came from.</param>
    public PanoptesException(string message, Exception inner) : base(OneLine(message), inner) { }

    /// <inheritdoc cref="PanoptesException(string)"/>
    public PanoptesException(InvariantMessage message) : this(message.ToStringAndClear()) { }

    /// <inheritdoc cref="PanoptesException(string, Exception)"/>
    public PanoptesException(InvariantMessage message, Exception inner) : this(message.ToStringAndClear(), inner) { }

    /// <inheritdoc cref="PanoptesException(string, IEnumerable{string})"/>
    public PanoptesException(InvariantMessage message, IEnumerable<string> details) : this(message.ToStringAndClear(), details) { }

    /// <param name="message">The sentence.</param>
    /// <param name="details">What follows it, a line each.</param>
    public PanoptesException(string message, IEnumerable<string> details) : base(string.Join("\n  ", [OneLine(message), .. details.Select(OneLine)])) { }

    static string OneLine(string message)
    {
        if (!message.Any(char.IsControl)) return message;
        var line = new StringBuilder(message.Length);
        foreach (var c in message)
        {
            if (!char.IsControl(c)) line.Append(c);
            else if (line.Length > 0 && line[^1] != ' ') line.Append(' ');
        }
        return line.ToString().TrimEnd();
    }
}
