"""Tab in real shells, beside a running daemon: what is on the line then, or what is offered."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon_process import Daemon, free_place
from support.patience import PATIENCE_SECONDS
from support.tools import need

pytestmark = pytest.mark.slow

#: Ends what a shell is to show: Control-G runs a widget that prints the line.
_PRINT_LINE = "\x07"

#: What a shell runs before the prompt `READY>`: the script, and the widget.
_STARTS = {
    "bash": """
        source <(ggend completion bash)
        bind 'set bell-style none'
        print_line() { printf 'LINE<%s>\\n' "$READLINE_LINE"; }
        bind -x '"\\C-g": print_line'
        PS1='READY>'
    """,
    "zsh": """
        autoload -U compinit && compinit -D -u
        source <(ggend completion zsh)
        print_line() { print -r -- "LINE<$BUFFER>" }
        zle -N print_line
        bindkey '^G' print_line
        PS1='READY>'
    """,
}

_COMMANDS = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}


@pytest.fixture(scope="module")
def filled() -> Iterator[Daemon]:
    with free_place() as place, Daemon(Path(place)) as daemon:
        event = {"type": "audit", "operation": "o", "status": "completed"}
        agents = ("planner-1", "two words", "writer-1", "writer-2")
        lines = [json.dumps({**event, "agent_id": agent}) for agent in agents]
        daemon.exchange("\n".join([*lines, '{"type":"nonsense"}', ""]).encode())
        (daemon.place / "proposed.toml").touch()
        yield daemon


def _environ(daemon: Daemon) -> dict[str, str]:
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("GGEND_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(daemon.place),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "GGEND_DATABASE": str(daemon.database),
    }


class Terminal:
    """An interactive shell that has sourced the script."""

    def __init__(self, shell: str, daemon: Daemon) -> None:
        program = need(shell)
        start = daemon.place / f"start.{shell}"
        start.write_text(_STARTS[shell], encoding="utf-8")
        self._descriptor, other = pty.openpty()
        self._process = subprocess.Popen(
            [program, *_COMMANDS[shell]],
            cwd=daemon.place,
            env=_environ(daemon),
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self._seen = ""
        self._send(f" stty -echo; source {shlex.quote(str(start))}\n")
        self._read_until("READY>")

    def after(self, typed: str) -> str:
        """Return the line after typing this and Tab, which is then deleted."""
        self._seen = ""
        self._send(f"{typed}\t{_PRINT_LINE}")
        self._read_until("LINE<", ">")
        line = self._seen.rpartition("LINE<")[2].partition(">")[0]
        self._send("\x15")
        return line

    def close(self) -> None:
        """End the shell."""
        self._process.kill()
        self._process.wait()
        os.close(self._descriptor)

    def _send(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def _read_until(self, *wanted: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._has(*wanted):
            ready, _, _ = select.select([self._descriptor], [], [], deadline - time.monotonic())
            assert ready, f"waited for {wanted}, and read {self._seen!r}"
            self._seen += (
                os.read(self._descriptor, 65536).decode(errors="replace").replace("\r", "")
            )

    def _has(self, *wanted: str) -> bool:
        rest = self._seen
        for each in wanted:
            _, found, rest = rest.partition(each)
            if not found:
                return False
        return True


@pytest.fixture(scope="module", params=list(_STARTS))
def terminal(request: pytest.FixtureRequest, filled: Daemon) -> Iterator[Terminal]:
    opened = Terminal(request.param, filled)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ggend stat", "ggend stat"),  # status or stats
        ("ggend query exec", "ggend query execution"),  # or executions
        ("ggend query audit --agent pl", "ggend query audit --agent planner-1 "),
        ("ggend query audit --agent=pl", "ggend query audit --agent=planner-1 "),
        ("ggend query audit --agent two", "ggend query audit --agent two\\ words "),
        ("ggend query audit --agent w", "ggend query audit --agent writer-"),
        (
            "ggend query audit --columns timestamp,op",
            "ggend query audit --columns timestamp,operation ",
        ),
        ("ggend emit au", "ggend emit audit "),
        ("ggend emit audit ag", "ggend emit audit agent_id="),
        ("ggend emit audit agent_id=pl", "ggend emit audit agent_id=planner-1 "),
        ("ggend emit audit status=comp", "ggend emit audit status=completed "),
        ("ggend emit audit cont", "ggend emit audit context:="),
        ("ggend rejected show ", "ggend rejected show 1 "),
        ("ggend slo check prop", "ggend slo check proposed.toml "),
        ("ggend query audit --database=prop", "ggend query audit --database=proposed.toml "),
        ("ggend nonsense ", "ggend nonsense "),
    ],
)
def test_tab_completes_the_line(typed: str, expected: str, terminal: Terminal) -> None:
    assert terminal.after(typed) == expected


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ggend stat", ["stats", "status"]),
        ("ggend query audit --agent w", ["writer-1", "writer-2"]),
        ("ggend query audit --agent=w", ["--agent=writer-1", "--agent=writer-2"]),
        ("ggend query audit --agent tw", ["two words"]),
        ("ggend query audit --columns timestamp,op", ["timestamp,operation"]),
        ("ggend emit audit ag", ["agent_id="]),
        ("ggend emit audit status=comp", ["status=completed"]),
        ("ggend rejected show ", ["1"]),
        ("ggend slo check prop", ["proposed.toml"]),
        ("ggend query audit --database=prop", ["--database=proposed.toml"]),
        ("ggend nonsense ", []),
    ],
)
def test_fish_offers_completions(typed: str, expected: list[str], filled: Daemon) -> None:
    program = f"ggend completion fish | source; complete -C {shlex.quote(typed)}"
    ran = subprocess.run(
        [need("fish"), "--no-config", "-c", program],
        env=_environ(filled),
        cwd=filled.place,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ran.stderr == ""
    assert sorted(line.partition("\t")[0] for line in ran.stdout.splitlines()) == expected


def test_an_event_is_not_sent_where_completions_are_asked_for(filled: Daemon) -> None:
    event = ["audit", "agent_id=nobody", "operation=o", "status=completed"]
    ran = subprocess.run(
        [sys.executable, "-m", "ggend", "emit", *event],
        env={
            **_environ(filled),
            "GGEND_SOCKET": str(filled.socket),
            "_GGEND_COMPLETE": "bash_complete",
            "COMP_LINE": "ggend emit au",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("plain,audit\n", "", 0)
    assert filled.query("SELECT COUNT(*) FROM audit_log WHERE agent_id = 'nobody'") == [(0,)]
