"""What a command imports: nothing heavy before it is called, and then only what it uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: What takes long to import, or belongs to the daemon alone.
_HEAVY = frozenset(
    {
        "aiosqlite",
        "anyio",
        "asyncio",
        "ggend.database",
        "ggend.ingest",
        "ggend.maintenance",
        "ggend.queries.run",
        "ggend.server",
        "ggend.topology",
        "ggend_client",
        "rich",
        "sqlite3",
        "ssl",
    }
)
#: What reads the database, and what talks to the daemon.
_READS = frozenset({"ggend.database", "ggend.queries.run", "sqlite3"})
_ASKS = frozenset({"ggend_client"})


def _imported(module: str) -> set[str]:
    """Return what of the heavy modules an interpreter has after importing this one."""
    program = f"import sys, {module}; print(*sys.modules)"
    arguments = [sys.executable, "-c", program]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return set(ended.stdout.split()) & _HEAVY


def test_the_command_line_imports_no_command() -> None:
    assert _imported("ggend.cli.app") == set()


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("emit", _ASKS),
        ("status", _ASKS),
        ("reload", _ASKS | {"ggend.database"}),  # whose lock says who has the database
        ("query", _READS),
        ("stats", _READS),
        ("accounts", _READS),
        ("config", frozenset()),
        ("serve", frozenset()),
    ],
)
def test_a_command_imports_what_it_uses(command: str, allowed: frozenset[str]) -> None:
    assert _imported(f"ggend.cli.commands.{command}") <= allowed


def test_an_event_that_is_emitted_without_options_needs_no_parser(place: Path) -> None:
    program = (
        "import sys\n"
        "sys.argv = ['ggend', 'emit', 'audit', 'agent_id=a', 'operation=o', 'status=completed']\n"
        "from ggend.__main__ import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*sys.modules)\n"
    )
    environ = {"PATH": os.environ["PATH"], "HOME": str(place), "GGEND_SOCKET": str(place / "none")}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    assert "1 of 1 events spooled" in ended.stderr
    assert not {"click", "rich", "tomllib", "sqlite3"} & set(ended.stdout.split())
