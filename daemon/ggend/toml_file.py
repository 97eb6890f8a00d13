"""TOML file: reads a file that a person wrote, and reports the line of a mistake."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from ggend.encodings import conversion, other_encoding
from ggend.errors import BadConfig

__all__ = ["read_toml"]


def read_toml(path: Path, what: str, *, example: str) -> dict[str, object]:
    """Return the tables of a file. Raises BadConfig.

    `what` names the file's purpose in errors; `example` is an example of its content.
    """
    import tomllib  # late: a client without a configuration file does not need it

    try:
        if path.exists() and not path.is_file():  # a FIFO would hold up the daemon
            raise BadConfig(
                f"{path} is not a regular file", hint=f"the {what} must be a regular file"
            )
        content = path.read_bytes()
    except OSError as error:
        raise BadConfig(
            f"the {what} {path} cannot be read: {error.strerror}",
            hint="it must be a regular file that this user may read",
        ) from error
    if (encoding := other_encoding(content)) is not None:
        raise BadConfig(f"the {what} {path} is {encoding}, not UTF-8", hint=conversion(encoding))
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BadConfig(
            f"{path}, line {line}: not UTF-8 text", hint="TOML files must be UTF-8"
        ) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found.group(1)) if found else text.count("\n") + 1
        raise BadConfig(f"{path}, line {line}: not TOML: {error}", hint=example) from error
