"""Lazy group: a command's module is imported when it is called, or when help lists it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

__all__ = ["lazy_group"]


def lazy_group(places: Mapping[str, str]) -> type[TyperGroup]:
    """Return a group class with these commands, in this order.

    `places` maps each name to its function or Typer, written as `package.module:attribute`.
    """

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = _Commands(places)

    return LazyGroup


class _Commands(MutableMapping[str, Any]):
    """The commands by name; one is imported when it is looked up."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._found: dict[str, Any] = dict.fromkeys(places)
        self._places = places

    def __getitem__(self, name: str) -> Any:
        command = self._found[name]
        if command is None:
            command = self._found[name] = _load(name, self._places[name])
        return command

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __setitem__(self, name: str, command: Any) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def _load(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        found.rich_markup_mode = "markdown"  # for its own help and that of its commands
        group = get_group(found)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    alone.command(name)(found)
    return get_command(alone)
