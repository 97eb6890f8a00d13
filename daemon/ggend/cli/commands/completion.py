"""`ggend completion`: the script that completes commands of ggend in a shell."""

from __future__ import annotations

import click

from ggend.cli.common.choice import OneOf
from ggend.cli.common.command import command
from ggend.cli.common.shells import Shell, script
from ggend.cli.render.output import show_text

__all__ = ["completion"]


@command()
@click.argument("shell", type=OneOf(Shell), metavar="SHELL", help="bash, zsh or fish.")
@click.pass_context
def completion(ctx: click.Context, *, shell: Shell) -> None:
    """Print the script with which a shell completes commands of ggend.

    Tab then completes commands, options and values: also ids of agents, sessions, executions and
    rejected events, from the database that the line chooses.

    bash: write it to ~/.local/share/bash-completion/completions/ggend, or, without the package
    bash-completion, source it in ~/.bashrc. zsh: write it to a file `_ggend` in a directory of
    `$fpath`, or source it in ~/.zshrc after `compinit`. fish: write it to
    ~/.config/fish/completions/ggend.fish. New shells use it.

    Examples:

        ggend completion bash > ggend.bash
        ggend completion zsh > _ggend
        ggend completion fish > ggend.fish
    """
    show_text(script(ctx.find_root().command, shell))
