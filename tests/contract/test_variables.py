"""The known environment variables are those that the code and the documents name, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ggend.config import Config
from ggend.variables import KNOWN_VARIABLES

ROOT = Path(__file__).resolve().parents[2]

#: Code that reads variables; `tests` for those of the tests themselves.
CODE = ("clients", "daemon", "schema", "systemd", "tests/support", "dev")

DOCUMENTS = ("docs", "examples", "README.md", "CONTRIBUTING.md", "SECURITY.md")

#: Stands for any key of the configuration.
PLACEHOLDER = "GGEND_KEY"

SUFFIXES = {".py", ".sh", ".md", ".service", ".socket", ".pl", ""}

LIST = ROOT / "daemon" / "ggend" / "variables.py"


def _texts(places: tuple[str, ...]) -> Iterator[str]:
    for place in places:
        found = [ROOT / place] if (ROOT / place).is_file() else (ROOT / place).rglob("*")
        for file in found:
            if file.is_file() and file.suffix in SUFFIXES and file != LIST:
                yield file.read_text(encoding="utf-8")


def _named(places: tuple[str, ...]) -> set[str]:
    """Return the names in these files; what ends in `_` is the beginning of one."""
    names = {name for text in _texts(places) for name in re.findall(r"\bGGEND_[A-Z0-9_]+", text)}
    return {name for name in names if not name.endswith("_")} - {PLACEHOLDER}


def test_every_variable_that_is_named_is_known() -> None:
    assert _named((*CODE, *DOCUMENTS)) - KNOWN_VARIABLES == set()


def test_every_known_variable_is_a_setting_or_is_read() -> None:
    settings = {f"GGEND_{key.upper()}" for key in Config.__struct_fields__}
    assert KNOWN_VARIABLES - settings - _named(CODE) == set()
