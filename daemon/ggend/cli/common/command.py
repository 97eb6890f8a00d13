"""Command: ggend's commands and groups of commands, on click.

The help of a command is its docstring. A paragraph that is indented by four spaces is an example,
and is shown as it stands. The commands of a group are imported when they are called, or when help
lists them.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["Command", "Group", "LazyGroup", "command", "group", "leaves"]

#: Shared by every command: `-h`, and help that shows defaults and uses wide terminals.
_SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "show_default": True,
    "max_content_width": 100,
}

_SETTINGS_OF_GROUPS: dict[str, Any] = {"no_args_is_help": True, "context_settings": _SETTINGS}

#: How a paragraph with examples begins.
_EXAMPLE = "    "


class Command(click.Command):
    """A command whose help keeps the lines of its examples."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. What was imported for it is kept out of garbage collection."""
        gc.freeze()
        gc.enable()
        return super().invoke(ctx)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the help, paragraph by paragraph."""
        _write_help(self, formatter)


class Group(click.Group):
    """A group of commands; help describes each by its first sentence."""

    command_class = Command

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the help, paragraph by paragraph."""
        _write_help(self, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands."""
        self.write_commands("Commands", self.list_commands(ctx), ctx, formatter)

    def write_commands(
        self,
        title: str,
        names: Iterable[str],
        ctx: click.Context,
        formatter: click.HelpFormatter,
    ) -> None:
        """Write some of the commands under a title."""
        with formatter.section(title):
            formatter.write_dl(
                [(name, _first_sentence(self.get_command(ctx, name))) for name in names]
            )

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        """Return the names in the order in which the commands were added."""
        return list(self.commands)


class LazyGroup(Group):
    """A group whose commands are imported when they are called, shown in sections."""

    def __init__(self, name: str, sections: Mapping[str, Mapping[str, str]], **given: Any) -> None:
        """`sections`: title → name of a command → `package.module:attribute`."""
        super().__init__(name, **_SETTINGS_OF_GROUPS, **given)
        self.sections = sections
        self._places = {name: place for part in sections.values() for name, place in part.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        """Return the names in the order of help."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Complete the name of a command, without a description: that would import all of them."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name) for name in self._places if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names. Raises click.NoSuchCommand."""
        if not args[0].startswith("-") and args[0] not in self._places:
            raise click.NoSuchCommand(args[0], possibilities=self._places, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, section by section."""
        for title, places in self.sections.items():
            self.write_commands(title, places, ctx, formatter)


def group(name: str, help_text: str) -> Group:
    """Return a group, to which commands are added by its method `command`."""
    return Group(name, help=help_text, **_SETTINGS_OF_GROUPS)


def command(
    name: str | None = None, *, cls: type[Command] = Command
) -> Callable[[Callable[..., None]], Command]:
    """Make a function a command of this name, or of its own."""
    return click.command(name, cls=cls, context_settings=_SETTINGS)


def leaves(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """Return a group and all commands in it, by their full names, in the order of help."""
    yield name, group
    context = click.Context(group)
    for part in group.list_commands(context):
        found = group.get_command(context, part)
        if isinstance(found, click.Group):
            yield from leaves(found, f"{name} {part}")
        elif found is not None:
            yield f"{name} {part}", found


def _write_help(of: click.Command, formatter: click.HelpFormatter) -> None:
    for paragraph in inspect.cleandoc(of.help or "").split("\n\n"):
        formatter.write_paragraph()
        with formatter.indentation():
            if paragraph.startswith(_EXAMPLE):
                formatter.write("".join(f"{line}\n" for line in paragraph.rstrip().split("\n")))
            else:
                formatter.write_text(" ".join(paragraph.split()))


def _first_sentence(of: click.Command | None) -> str:
    text = " ".join(((of and of.help) or "").split("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".") + "."
