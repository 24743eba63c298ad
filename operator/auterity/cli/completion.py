"""`auterity completion`: completion of commands and options in a shell."""

from typing import Literal

from auterity.cli.output import write


def completion(shell: Literal["bash", "zsh", "fish", "powershell"]) -> None:
    """Print the script that completes this command in a shell.

    For bash: `source <(auterity completion bash)`. For zsh, write it to a file `_auterity` in a
    folder of `$fpath`; for fish, to `~/.config/fish/completions/auterity.fish`.

    Parameters
    ----------
    shell
        The shell to complete in.
    """
    from auterity.cli.main import app

    write(app.generate_completion(shell=shell).rstrip("\n"))
