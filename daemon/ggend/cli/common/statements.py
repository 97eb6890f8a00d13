"""Statements: the SQL of a person from standard input, and the values of its parameters."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

import msgspec

from ggend.errors import UsageMistake
from ggend_schema.spelling import or_nearest

__all__ = ["check_names", "read_text", "values_of"]

#: What may be the name of a parameter in a statement, wherever it stands.
_NAME = re.compile(r"[:@$](\w+)")

#: SQLite's own limit for a statement.
_STATEMENT_BYTES = 1_000_000

_HINT = "give name=text, or name:=json for a number, true, false or null"


def read_text(descriptor: int) -> str:
    """Read a statement to its end. Raises UsageMistake."""
    read = b""
    try:
        while chunk := os.read(descriptor, _STATEMENT_BYTES):
            read += chunk
            if len(read) > _STATEMENT_BYTES:
                raise UsageMistake(
                    f"the statement is over the limit of {_STATEMENT_BYTES:,} bytes",
                    hint="give a single statement",
                )
        return read.decode()
    except OSError as error:
        raise UsageMistake(
            f"standard input cannot be read: {error.strerror}",
            hint='redirect a file or a pipe: echo "SELECT 1" | ggend query sql -',
        ) from error
    except UnicodeDecodeError as error:
        raise UsageMistake(
            "the statement is not UTF-8 text", hint="convert it with `iconv -t UTF-8`"
        ) from error


def values_of(params: Sequence[str]) -> dict[str, object]:
    """Return the values by their names. Raises UsageMistake."""
    values: dict[str, object] = {}
    for param in params:
        name, sign, text = param.partition("=")
        if not sign or not name.removesuffix(":").lstrip(":"):
            raise UsageMistake(f"{param!r} is not a parameter", hint=_HINT)
        key = name.removesuffix(":").lstrip(":")
        if key in values:
            raise UsageMistake(f"`{key}` is given twice", hint="give each parameter once")
        values[key] = _value(key, text) if name.endswith(":") else text
    return values


def check_names(statement: str, values: Iterable[str]) -> None:
    """Raise UsageMistake for a value of which the statement has no parameter."""
    names = set(_NAME.findall(statement))
    for name in values:
        if name not in names:
            raise UsageMistake(
                f"the statement has no parameter :{name}{or_nearest(name, names)}",
                hint="parameters are written as :name",
            )


def _value(key: str, text: str) -> object:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise UsageMistake(f"`{key}` is not JSON: {error}", hint=_HINT) from error
    if isinstance(value, dict | list):
        return text  # SQLite's JSON functions take it as a text
    return value
