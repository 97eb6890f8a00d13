"""Choice: the type of an option that takes one of a few words."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import click
from click.shell_completion import CompletionItem

from ggend_schema.spelling import or_nearest

if TYPE_CHECKING:
    from click import Context, Parameter

__all__ = ["OneOf"]

E = TypeVar("E", bound=StrEnum)


class OneOf(click.ParamType[E, str]):
    """The values of an enumeration. An error names them all, and the nearest first."""

    def __init__(self, words: type[E]) -> None:
        self.name = words.__name__
        self._words = words

    @property
    def values(self) -> list[str]:
        """The words."""
        return [word.value for word in self._words]

    def get_metavar(self, param: Parameter, ctx: Context) -> str:  # noqa: ARG002 - as click calls it
        """Return the words."""
        return f"[{'|'.join(self._words)}]"

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> E:
        """Return the member. Raises click.BadParameter."""
        try:
            return self._words(value)
        except ValueError:
            near = or_nearest(value, self._words)
            self.fail(f"{value!r}{near} is none of {', '.join(self._words)}", param, ctx)

    def shell_complete(
        self,
        ctx: Context,  # noqa: ARG002
        param: Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the words that begin so."""
        return [CompletionItem(word) for word in self._words if word.startswith(incomplete)]
