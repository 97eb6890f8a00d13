"""Recovered: what a database holds after a power cut, compared with what was offered and acked.

All that a producer offered is known, so that its last_sequence alone says which rows there must
be: every event up to it exactly once, in its table or parked, and nothing else. Recovery is left
to SQLite, which any program that opens the file does, or to a daemon that starts on it.
"""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec import Struct

from ggend.database.wal_record import check_wal
from ggend.errors import WalNotOurs
from ggend_schema import (
    Audit,
    Collision,
    Event,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)
from ggend_schema.codec import encode_event
from ggend_schema.messages import Ack, EncodedBatch
from ggend_schema.migrations import schema_version
from support.daemon_process import Daemon, free_place
from support.framed_peer import Peer
from support.moved_database import FILES, as_made_here
from torture.disk import Files
from torture.work import SLOW_EXECUTIONS

__all__ = ["Oracle", "encoded_batch"]

#: Bytes of a SQLite header without which there is no database yet.
_HEADER_BYTES = 100

#: Events in a batch when everything is sent again.
_AGAIN_EVENTS = 500


class _Image(Struct, frozen=True):
    """What was found in a recovered database."""

    settled: dict[bytes, int]
    problems: list[str]


class Oracle:
    """Judges recovered databases, each different content once."""

    def __init__(self, offered: Mapping[bytes, list[Event]], place: Path) -> None:
        self._offered = offered
        self._place = place
        self._seen: dict[bytes, _Image] = {}

    @property
    def contents(self) -> int:
        """How many different contents were recovered."""
        return len(self._seen)

    def judge(self, files: Files, acked: Mapping[bytes, int]) -> list[str]:
        """Recover with a plain open; return the broken promises."""
        database = self._place / "tier2.db"
        for suffix in (*FILES, "-shm"):
            path = Path(f"{database}{suffix}")
            path.unlink(missing_ok=True)
            if suffix in files:
                path.write_bytes(files[suffix])
        as_made_here(database, power_cut=True)
        try:
            check_wal(database)
        except WalNotOurs as error:
            return [f"a false alarm: {error}"]
        try:
            with closing(sqlite3.connect(database, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = OFF")  # nobody cuts the power here
                image = self._image(connection)
        except sqlite3.Error as error:
            return [f"cannot be read: {type(error).__name__}: {error}"]
        return [*image.problems, *_missing(image.settled, acked)]

    def judge_restart(self, files: Files, acked: Mapping[bytes, int]) -> list[str]:
        """Start a daemon on it, send again what it does not have, and compare the end."""
        with free_place() as name:
            daemon = Daemon(Path(name), log_level="warning")
            for suffix, content in files.items():
                Path(f"{daemon.database}{suffix}").write_bytes(content)
            as_made_here(daemon.database, power_cut=True)
            settled = {}
            try:
                with daemon:
                    for producer, events in self._offered.items():
                        with Peer(daemon.socket) as peer:
                            settled[producer] = peer.hello(producer).last_sequence
                            _send_rest(peer, events, settled[producer])
                    status = daemon.stop()
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                return [f"the daemon: {error}"]
            with closing(sqlite3.connect(daemon.database)) as connection:
                image = self._image(connection)
            log = daemon.log.read_text(errors="replace")
        everything = {producer: len(events) for producer, events in self._offered.items()}
        problems = [*image.problems, *_missing(settled, acked)]
        problems += _missing(image.settled, everything)
        problems += [f"the daemon ended with status {status}"] if status else []
        problems += [f"the daemon's log: {log}"] if "Traceback" in log else []
        return problems

    def _image(self, connection: sqlite3.Connection) -> _Image:
        if not connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]:
            return _Image({}, [])
        digest = hashlib.blake2b(connection.serialize(), digest_size=16).digest()
        if digest not in self._seen:
            self._seen[digest] = self._look(connection)
        return self._seen[digest]

    def _look(self, connection: sqlite3.Connection) -> _Image:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != schema_version():
            return _Image({}, [f"half a creation: user_version {version}"])
        sound = connection.execute("PRAGMA integrity_check").fetchall()
        orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
        settled = dict(connection.execute(_SETTLED))
        problems = [f"integrity_check: {sound[:3]}"] if sound != [("ok",)] else []
        problems += [f"foreign_key_check: {orphans[:3]}"] if orphans else []
        wanted: Counter[str] = Counter()
        for producer, number in settled.items():
            events = self._offered.get(producer, [])
            if number > len(events):
                problems.append(f"nobody offered number {number} of {producer.hex()}")
            wanted.update(_rows(producer, events[:number]))
        found = Counter(row for sql in _FOUND for (row,) in connection.execute(sql))
        problems += [f"is not there: {row}" for row in list((wanted - found).keys())[:3]]
        problems += [
            f"nobody offered, or twice: {row}" for row in list((found - wanted).keys())[:3]
        ]
        problems += [text for sql in _WRONG for (text,) in connection.execute(sql).fetchmany(3)]
        return _Image(settled, problems)


def encoded_batch(first_sequence: int, events: list[Event]) -> EncodedBatch:
    """Return a Batch of these events, stamped now: of two saves of a memory the later one stays."""
    return EncodedBatch(
        first_sequence=first_sequence,
        stamps=[time.time_ns()] * len(events),
        events=[msgspec.Raw(encode_event(event)) for event in events],
    )


def _send_rest(peer: Peer, events: list[Event], settled: int) -> None:
    while settled < len(events):
        rest = events[settled : settled + _AGAIN_EVENTS]
        peer.send(encoded_batch(settled + 1, rest))
        settled += len(rest)
        answer = peer.read()
        assert answer == Ack(sequence=settled), answer


def _missing(settled: Mapping[bytes, int], acked: Mapping[bytes, int]) -> list[str]:
    return [
        f"{number} of {producer.hex()} were acked, {settled.get(producer, 0)} are there"
        for producer, number in acked.items()
        if settled.get(producer, 0) < number
    ]


def _rows(producer: bytes, events: list[Event]) -> Iterator[str]:
    """What these events are in the tables, when they are all that came of this producer."""
    receipts = {event.execution_id for event in events if isinstance(event, ReceiptEmitted)}
    sessions = {
        event.session_id: "running" for event in events if isinstance(event, SessionStarted)
    }
    memory: dict[str, object] = {}
    parked: Counter[str] = Counter()
    for event in events:
        if isinstance(event, Audit):
            yield f"audit {event.operation}"
        elif isinstance(event, ReceiptEmitted):
            yield f"receipt {event.execution_id}"
        elif isinstance(event, StageCompleted):
            if event.execution_id in receipts:
                yield f"stage {event.execution_id} {event.stage}"
            else:
                parked[event.execution_id] += 1
        elif isinstance(event, Collision):
            if event.session_id in sessions:
                yield f"collision {event.description}"
            else:
                parked[event.session_id] += 1
        elif isinstance(event, SessionEnded):
            sessions[event.session_id] = event.status
        elif isinstance(event, MemorySaved):
            memory[event.agent_id] = event.memory["number"]
    yield from (f"session {name} {status}" for name, status in sessions.items())
    yield from (f"memory {agent} {number}" for agent, number in memory.items())
    yield from (f"parked {parent} {number}" for parent, number in parked.items())
    waiting = parked.total()
    yield f"account {producer.hex()} {len(events) - waiting} {waiting}"


#: Every row of the tables as one line, as `_rows` has them.
_FOUND = (
    "SELECT 'audit ' || operation FROM audit_log",
    "SELECT 'receipt ' || execution_id FROM receipts",
    """
    SELECT 'stage ' || execution_id || ' ' || substr(stage, instr(stage, '_') + 1)
    FROM pipeline_metrics""",
    "SELECT 'collision ' || description FROM collision_detection",
    "SELECT 'session ' || session_id || ' ' || status FROM workflow_sessions",
    """
    SELECT 'memory ' || agent_id || ' ' || json_extract(memory_json, '$.number')
    FROM agent_memory""",
    """
    SELECT 'parked ' || parent_id || ' ' || SUM(events)
    FROM parked_events
    GROUP BY parent_id""",
    """
    SELECT 'account ' || lower(hex(coalesce(source, producer))) || ' ' || stored || ' ' || parked
    FROM producers""",
)

#: What there must be no row of. Hooks judge later, so that what they write may be missing.
_WRONG = (
    "SELECT 'rejected: ' || message FROM rejected_events",
    """
    SELECT 'does not add up: ' || hex(producer)
    FROM producers
    WHERE last_sequence <> stored + duplicate + superseded + parked + rejected + lost""",
    f"""
    SELECT 'a breach of nothing, or twice: ' || subject
    FROM slo_breaches
    GROUP BY subject
    HAVING COUNT(*) > 1
        OR CAST(substr(subject, instr(subject, '-') + 1) AS INTEGER) % {SLOW_EXECUTIONS} <> 0""",
)

#: A permanent producer is known by what it says.
_SETTLED = "SELECT coalesce(source, producer), last_sequence FROM producers"
