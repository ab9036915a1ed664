namespace Panoptes;

/// <summary>
/// An error that the user can mend: a bad file, prompt, size or option. Its message is one clear sentence that names what was found
/// and what was expected; the command prints it alone and exits with 1, the server answers 4xx.
/// </summary>
public class PanoptesException : Exception
{
    public PanoptesException(string message) : base(message) { }

    public PanoptesException(string message, Exception inner) : base(message, inner) { }
}
