using System.CommandLine;

namespace Panoptes.Cli.Commands;

/// <summary>Prints the script that lets a shell complete this command by asking it (the <c>[suggest]</c> directive).</summary>
sealed class CompletionCommand : ExampleCommand
{
    readonly Argument<string> shell = new("SHELL") { Description = "bash, zsh, fish or pwsh." };

    public CompletionCommand() : base("completion", "Print a script for tab completion.", """
        panoptes completion bash >> ~/.bashrc
        panoptes completion zsh >> ~/.zshrc
        panoptes completion fish > ~/.config/fish/completions/panoptes.fish
        panoptes completion pwsh >> $PROFILE
        """)
    {
        shell.AcceptOnlyFromAmong("bash", "zsh", "fish", "pwsh");
        Add(shell);
        SetAction(parsed => new Terminal(parsed).WriteLine(Script(parsed.GetRequiredValue(shell))));
    }

    static string Script(string shell) => shell switch
    {
        "bash" => """
            _panoptes() {
                local IFS=$'\n'
                COMPREPLY=($(compgen -W "$(panoptes "[suggest:${COMP_POINT}]" "${COMP_LINE}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
            }
            complete -o default -F _panoptes panoptes
            """,
        "zsh" => """
            _panoptes() {
                local -a found
                found=("${(@f)$(panoptes "[suggest:${CURSOR}]" "${BUFFER}" 2>/dev/null)}")
                [[ -n "${found}" ]] && compadd -- "${found[@]}" || _files
            }
            compdef _panoptes panoptes
            """,
        "fish" => """
            complete -c panoptes -a '(panoptes "[suggest:"(commandline -C)"]" (commandline -b) 2>/dev/null)'
            """,
        _ => """
            Register-ArgumentCompleter -Native -CommandName panoptes -ScriptBlock {
                param($word, $line, $position)
                panoptes "[suggest:$position]" "$line" 2>$null | ForEach-Object { [System.Management.Automation.CompletionResult]::new($_) }
            }
            """,
    };
}
