"""Tools: programs that some tests use and that a machine may lack.

A test without its tool is skipped, and the end of the run names the tool once. Where
`GGEND_TEST_TOOLS=required`, as in continuous integration, such a skip is a failure.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence

import pytest

__all__ = ["are_required", "missing_in", "need", "summary_of"]

#: The package of Debian that brings each tool.
_PACKAGES = {
    "bash": "bash",
    "fish": "fish",
    "groff": "groff-base",
    "iconv": "libc-bin",
    "mandoc": "mandoc",
    "nc": "netcat-openbsd",
    "perl": "perl",
    "shellcheck": "shellcheck",
    "socat": "socat",
    "sqlite3": "sqlite3",
    "strace": "strace",
    "zsh": "zsh",
}

_REASON = re.compile(rf"\b({'|'.join(_PACKAGES)}) is not installed")


def need(name: str) -> str:
    """Return the path of a tool; skip the test where it is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def are_required() -> bool:
    """Whether a test may not be skipped for want of a tool."""
    return os.environ.get("GGEND_TEST_TOOLS") == "required"


def missing_in(reason: str) -> str | None:
    """Return the tool that a reason for skipping names."""
    found = _REASON.search(reason)
    return found and found[1]


def summary_of(reasons: Iterable[str]) -> Sequence[str]:
    """Return the lines that end a run: which tools are missing, and what installs them."""
    missing = sorted({tool for reason in reasons if (tool := missing_in(reason))})
    if not missing:
        return ()
    packages = " ".join(_PACKAGES[tool] for tool in missing)
    return (
        f"Some tests were skipped because these tools are missing: {', '.join(missing)}.",
        f"On Debian and Ubuntu this installs them: apt-get install {packages}",
    )
