"""Every command has an example in its help, and every example works as it stands.

Commands are found in the application, so that a new one is taken in without a change here. An
example runs in a directory of its own that holds `events.ndjson`, `receipt-log.jsonl`,
`receipt.json`, `other.db` (a database of version 1.0.0) and `tier2.db`, beside a daemon with some
events in it, one of them rejected.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, NamedTuple

import click
import pytest

from ggend.cli.app import app
from ggend.cli.common.command import leaves
from support.daemon_process import Daemon, free_place
from support.patience import PATIENCE_SECONDS, wait_until
from support.processes import Process, start_ggend
from support.version_1 import make_version_1

#: Lines of the log that are imported: enough for receipts and audit entries.
_LOG_LINES = 3

#: What runs until it is told to stop, and then says that all is well.
_ENDLESS = re.compile(r"ggend serve\b|--follow\b")

#: What a shell does with an example, beside taking it apart.
_SHELL = re.compile(r"[|&;<>$`*?~]|^\S+=")

_EXAMPLE = re.compile(r"([A-Z_]+=\S+ )*ggend ")


class _Leaf(NamedTuple):
    """A command that does something, with the examples of its help."""

    name: str
    examples: list[str]


def _examples(text: str) -> list[str]:
    """Return the lines that are indented under `Example:` or `Examples:`."""
    found = re.search(r"^Examples?:\n(.*)", text, re.MULTILINE | re.DOTALL)
    lines = found[1].replace("\\\n", " ").splitlines() if found else []
    return [line.strip() for line in lines if line.startswith("    ")]


_LEAVES = [
    _Leaf(name, _examples(inspect.cleandoc(command.help or "")))
    for name, command in leaves(app, "ggend")
    if not isinstance(command, click.Group)
]
_ALL = [example for leaf in _LEAVES for example in leaf.examples]


@pytest.mark.parametrize("leaf", _LEAVES, ids=lambda leaf: leaf.name)
def test_a_command_has_an_example_of_itself(leaf: _Leaf) -> None:
    assert leaf.examples, f"the help of `{leaf.name}` has no example"
    for example in leaf.examples:
        assert _EXAMPLE.match(example), f"{example!r} is not a command to type"
        assert f"{leaf.name} " in f"{example} ", f"{example!r} is not an example of `{leaf.name}`"


@pytest.fixture(scope="module")
def filled() -> Iterator[Daemon]:
    """A daemon that has stored some events."""
    with free_place() as place, Daemon(Path(place)) as daemon:
        daemon.exchange(_events().encode())
        daemon.exchange(b'{"type":"nonsense"}\n')  # rejected event 1
        daemon.wait_for_hooks()
        make_version_1(daemon.place / "other.db", executions=20, odd=False)
        with (
            closing(sqlite3.connect(daemon.database)) as source,
            closing(sqlite3.connect(daemon.place / "copy.db")) as copy,
        ):
            source.backup(copy)
        yield daemon


@pytest.mark.slow
@pytest.mark.parametrize(("number", "example"), list(enumerate(_ALL)), ids=_ALL)
def test_an_example_works(number: int, example: str, filled: Daemon, place: Path) -> None:
    _put_files(place, filled, number)
    with (place / ".output").open("w+b") as output:
        process = _start(example, _environ(filled, place), place, output)
        try:
            if _ENDLESS.search(example):
                _wait_until_it_can_be_stopped(process)
                process.send_signal(signal.SIGTERM)
            status = process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        said = output.read().decode(errors="replace")
    assert status == 0, said
    assert "Traceback" not in said, said


def _start(example: str, environ: dict[str, str], place: Path, output: IO[bytes]) -> Process:
    """Start an example as it would be typed; without a shell where it is one plain command."""
    words = shlex.split(example)
    if words[0] == "ggend" and not _SHELL.search(example):
        return start_ggend(
            *words[1:],
            environ=environ,
            directory=place,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    return subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", example],
        cwd=place,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )


def _put_files(place: Path, daemon: Daemon, number: int) -> None:
    """Put there the files that examples name."""
    place.joinpath("events.ndjson").write_text(_events(), encoding="utf-8")
    # Each example has other lines: a receipt belongs to the agent for which it came first.
    first = 1 + number * _LOG_LINES
    log = b"".join(_log_line(first + line) for line in range(_LOG_LINES))
    place.joinpath("receipt-log.jsonl").write_bytes(log)
    receipt = {"execution_id": f"receipt-{number}", "operation": "generation", "status": "success"}
    place.joinpath("receipt.json").write_text(json.dumps({"receipt": receipt}), encoding="utf-8")
    place.joinpath("objectives.toml").write_text(
        '[[threshold]]\nmetric = "execution.duration_ms"\nwarning = 500\n', encoding="utf-8"
    )
    shutil.copy(daemon.place / "other.db", place / "other.db")
    shutil.copy(daemon.place / "copy.db", place / "tier2.db")


def _log_line(number: int) -> bytes:
    """One record of a receipt log; its hash and the one before it are its number."""
    record = {
        "activity": "ggen.sync",
        "chain_hash_hex": f"{number:064x}",
        "prev_chain_hash_hex": f"{number - 1:064x}",
        "payload_hash_hex": "ab" * 32,
        "andon": "Green",
        "ts_ns": 0,
    }
    payload = {"graph_hash": "cd" * 32, "outputs": {"a.rs": "ef" * 32}, "decisions": {"a.rs": "w"}}
    return json.dumps({"record": record, "payload": payload}).encode() + b"\n"


def _environ(daemon: Daemon, home: Path) -> dict[str, str]:
    ours = ("GGEND_", "XDG_", "NOTIFY_")
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(ours)},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": os.fspath(home),
        "GGEND_SOCKET": os.fspath(daemon.socket),
        "GGEND_DATABASE": os.fspath(daemon.database),
    }


def _wait_until_it_can_be_stopped(process: Process) -> None:
    """Wait until SIGTERM no longer just kills it: it is caught, or held back to be looked at."""

    def can_be_stopped() -> bool:
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        )
        caught, blocked = _signals(status["SigCgt"]), _signals(status["SigBlk"])
        # All of them are blocked for a moment while a thread is started: that holds nothing back.
        held = signal.SIGTERM in blocked and signal.SIGHUP not in blocked
        return status["Name"] != "bash" and (held or signal.SIGTERM in caught)

    wait_until(lambda: process.poll() is not None or can_be_stopped(), "it cannot be stopped")


def _signals(mask: str) -> set[int]:
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1}


def _events() -> str:
    """Events of each type, by the names that examples use: agent-1, e1."""
    receipts = [
        {
            "type": "receipt_emitted",
            "execution_id": f"e{number}",
            "agent_id": f"agent-{number % 2}",
            "operation": "generation",
            "status": "failed" if number == 3 else "passed",
            "duration_ms": 1500 * number,
            "files_generated": 3,
            "session_id": "s1",
        }
        for number in range(1, 5)
    ]
    stages = [
        {
            "type": "stage_completed",
            "execution_id": "e1",
            "stage": stage,
            "status": "passed",
            "duration_ms": 300,
        }
        for stage in ("normalize", "extract", "emit", "canonicalize", "receipt")
    ]
    others = [
        {"type": "session_started", "session_id": "s1", "agent_count": 2},
        {
            "type": "audit",
            "agent_id": "agent-1",
            "operation": "write",
            "status": "failed",
            "error_message": "timeout",
            "execution_id": "e1",
        },
        {
            "type": "collision",
            "session_id": "s1",
            "agent_id_1": "agent-0",
            "agent_id_2": "agent-1",
            "collision_type": "file_conflict",
            "description": "both write src/lib.rs",
            "severity": "warning",
        },
        {"type": "memory_saved", "agent_id": "agent-1", "memory": {"step": 3}},
        {"type": "session_ended", "session_id": "s1", "status": "completed"},
    ]
    return "".join(json.dumps(event) + "\n" for event in others + receipts + stages)
