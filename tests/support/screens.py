"""Screens: what commands show on a terminal of some width, from a database that is always the same.

python tests/support/screens.py     writes tests/integration/screens/*.txt anew
"""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from unittest import mock

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a script

from ggend.cli.app import app
from ggend.cli.render.status_view import status_view
from ggend.database.migrate import create
from ggend.storage.parking import Parked
from ggend_schema.events import StageCompleted

__all__ = ["COMMANDS", "SCREENS", "WIDTHS", "screen"]

WIDTHS = (80, 140)

SCREENS = Path(__file__).resolve().parents[1] / "integration" / "screens"

#: Every listing, and what else a person looks at.
COMMANDS = (
    *("query executions", "query agents", "query stages", "query percentiles", "query sessions"),
    *("query collisions", "query violations", "query audit", "query memory", "query recent"),
    "query execution 7f3a1c09",
    *("rejected list", "rejected show 1", "parked list", "accounts", "stats", "report collisions"),
    *("config show", "slo check", "slo explain 1", "schema receipts"),
    "query executions --columns agent_id,status,error_message",
)


def screen(width: int) -> str:
    """Return the commands and what they show on a terminal of this width."""
    with tempfile.TemporaryDirectory(prefix="ggend-") as name:
        database = Path(name) / "tier2.db"
        _fill(database)
        parts = [f"$ ggend status\n{_on_terminal(width, None, database)}"]
        for command in COMMANDS:
            place = Path("/home/me/tier2.db") if command == "config show" else database
            shown = _on_terminal(width, command.split(), place)
            parts.append(f"$ ggend {command}\n{shown.replace(name, '/home/me')}")
    return "\n".join(parts)


def _on_terminal(width: int, arguments: list[str] | None, database: Path) -> str:
    output = _Terminal()
    environ = {
        "HOME": str(database.parent),
        "PATH": os.environ["PATH"],
        "COLUMNS": str(width),
        "LINES": "1000",
        "TERM": "dumb",
        "GGEND_DATABASE": str(database),
        "GGEND_SOCKET": str(database.with_name("ggend.sock")),
    }
    with (
        mock.patch.dict(os.environ, environ, clear=True),
        mock.patch("time.time_ns", return_value=_NOW_NS),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        if arguments is None:
            output.write(status_view(STATUS))
        else:
            app.main(arguments, prog_name="ggend", standalone_mode=False)
    # A version of the file system or of SQLite may make the file larger.
    return (
        "\n".join(line for line in output.getvalue().splitlines() if not line.startswith("size "))
        + "\n"
    )


class _Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        """Pretend to be one."""
        return True


#: Two hours after the parked event.
_NOW_NS = 1_769_697_298_000_000_000

#: An answer to `status`.
STATUS: Mapping[str, object] = {
    "health": "degraded",
    "trouble": None,
    "uptime_seconds": 8_058.2,
    "connections": 12,
    "connections_total": 40_213,
    "max_connections": 4096,
    "commits": 15_204,
    "last_commit_age_seconds": 0.4,
    "events_per_second": 1_204.5,
    "batch_events_median": 87,
    "batch_events_max": 4096,
    "commit_ms_median": 4.21,
    "commit_ms_max": 131.9,
    "hook_seen_rows": {"slo:receipts": 20_014, "rollups:receipts": 18_779},
    "hook_lag_rows": {"slo:receipts": 0, "rollups:receipts": 1_235},
    "hook_errors": {"rollups:receipts": "the table agent_totals is missing; `ggend init` makes it"},
    "objectives_error": None,
    "last_sequence": 1_320_004,
    "stored": 1_319_870,
    "duplicate": 90,
    "superseded": 12,
    "parked": 25,
    "rejected": 7,
    "lost": 0,
    "replayed": 310,
    "purged": 0,
    "shed": 0,
    "since_start": {"last_sequence": 20_004, "stored": 20_110, "parked": -113, "rejected": 7},
    "queued_events": 411,
    "queued_bytes": 120_331,
    "wal_bytes": 190_113_544,
    "wal_pinned_by": [{"pid": 4711, "command": "sqlite3", "seconds": 901.4}],
    "database": "/var/lib/ggend/tier2.db",
    "database_id": "cffa489c8c425f6d7ab608548bdd6fee",
    "schema_version": 6,
    "socket": "/run/ggend/ggend.sock",
    "pid": 2856,
    "version": "0.1.0",
    "log_lines_dropped": 0,
}

#: Of hexadecimal digits, as ggen makes them, and of words, as people do.
_IDS = (
    "7f3a1c0958d2e64b7f3a1c0958d2e64b7f3a1c0958d2e64b7f3a1c0958d2e64b",
    "b81e0d77c3f59a26b81e0d77c3f59a26b81e0d77c3f59a26b81e0d77c3f59a26",
    "nightly-build-of-the-eastern-region-0003",
    "e4",
)
_SESSIONS = ("session-2026-01-29-of-the-eastern-region", "s2")
_ERROR = (
    "SHACL validation failed: sh:minCount on ex:Invoice (ex:hasLine) at node "
    "_:b0, while the shapes of ontology billing.ttl were applied"
)
_TIME = "2026-01-29T12:34:{:02d}.{:03d}Z"


def _fill(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        create(connection)
        for sql, rows in _ROWS.items():
            connection.executemany(sql, rows)
        connection.execute("UPDATE database_identity SET id = ?", ("ab" * 16,))


def _times() -> Iterator[str]:
    for second in range(60):
        yield _TIME.format(second, 7 * second)


_STAGES = ("μ₁_normalize", "μ₂_extract", "μ₃_emit", "μ₄_canonicalize", "μ₅_receipt")
_TIMES = list(_times())
_STAGE = StageCompleted(execution_id="7" * 64, stage="μ₃_emit", status="passed", duration_ms=4)
_PARKED = msgspec.msgpack.encode([Parked(1, 16, 1_769_690_098_000_000_000, _STAGE)])
_ROWS: dict[str, list[tuple[object, ...]]] = {
    """INSERT INTO workflow_sessions (session_id, start_time, end_time, status, agent_count,
        total_duration_ms, successful_operations, failed_operations, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, '2026-01-29 12:34:00')""": [
        (_SESSIONS[0], _TIMES[0], _TIMES[30], "completed", 12, 30_210, 3, 1),
        (_SESSIONS[1], _TIMES[1], None, "running", 2, None, 0, 0),
    ],
    """INSERT INTO receipts (execution_id, agent_id, operation, status, timestamp, manifest_hash,
        files_generated, files_modified, duration_ms, receipt_json, error_message, environment,
        session_id, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '2026-01-29 12:34:00')""": [
        (_IDS[0], "agent-1", "generation", "failed", _TIMES[3], "ab" * 32, 12, 4, 3_204,
         '{"graph":"billing"}', _ERROR, "production", _SESSIONS[0]),
        (_IDS[1], "agent-2", "normalization", "passed", _TIMES[4], None, 3, 0, 612,
         None, None, "production", _SESSIONS[0]),
        (_IDS[2], "canonicaliser-of-the-eastern-region", "canonicalization", "partial", _TIMES[5],
         None, 0, 0, 90, None, "two of seven files were skipped", None, _SESSIONS[0]),
        (_IDS[3], "agent-1", "emission", "passed", _TIMES[6], None, None, None, 48_000,
         None, None, None, None),
    ],
    """INSERT INTO pipeline_metrics (execution_id, stage, duration_ms, status, timestamp,
        input_size_bytes, output_size_bytes, error_message, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, '2026-01-29 12:34:00')""": [
        (_IDS[0], stage, 400 + 90 * place, "failed" if place == 4 else "passed", _TIMES[3], 2_048,
         4_096, _ERROR if place == 4 else None)
        for place, stage in enumerate(_STAGES)
    ],
    """INSERT INTO audit_log (timestamp, agent_id, operation, status, duration_ms, error_message,
        context_json, execution_id, session_id, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '2026-01-29 12:34:00')""": [
        (_TIMES[2], "agent-1", "plan", "completed", 12, None, '{"step":1}', _IDS[0], _SESSIONS[0]),
        (_TIMES[3], "agent-1", "write_file", "failed", None, "no space left on the device", None,
         _IDS[0], _SESSIONS[0]),
    ],
    """INSERT INTO collision_detection (session_id, timestamp, agent_id_1, agent_id_2,
        collision_type, description, severity, resolution, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, '2026-01-29 12:34:00')""": [
        (_SESSIONS[0], _TIMES[7], "agent-1", "canonicaliser-of-the-eastern-region",
         "file_conflict", "both write src/generated/module_77.rs", "warning", None),
        (_SESSIONS[0], _TIMES[9], "agent-2", "agent-1", "semantic_overlap",
         "both wait for the lock of ontology billing.ttl", "critical",
         "agent-2 was told to wait until agent-1 has finished"),
    ],
    """INSERT INTO slo_violations (execution_id, metric, target_value, actual_value, severity,
        timestamp, description, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, '2026-01-29 12:34:00')""": [
        (_IDS[0], "execution.duration_ms", 2_000, 3_204, "warning", _TIMES[3],
         "The execution took 3,204 ms, over the warning limit of 2,000 ms."),
        (_IDS[0], "stage.μ₄_canonicalize.duration_ms", 600, 670, "warning", _TIMES[3],
         "Stage μ₄_canonicalize took 670 ms, over the warning limit of 600 ms."),
    ],
    """INSERT INTO slo_breaches (metric, subject, severity, target_value, actual_value, description,
        execution_id, timestamp, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, '2026-01-29 12:34:00')""": [
        ("execution.duration_ms", _IDS[0], "warning", 2_000, 3_204,
         "The execution took 3,204 ms, over the warning limit of 2,000 ms.", _IDS[0], _TIMES[3]),
    ],
    """INSERT INTO agent_memory (agent_id, memory_json, retry_count, last_error, updated_at,
        created_at)
    VALUES (?, ?, ?, ?, '2026-01-29 12:34:08.000', '2026-01-29 12:34:00')""": [
        ("agent-1", '{"step":3}', 2, "the ontology billing.ttl could not be read: it was moved"),
        ("agent-2", '{"step":1}', 0, None),
    ],
    """INSERT INTO producers (kind, producer, uid, client, first_seen, last_seen, last_sequence,
        stored, duplicate, superseded, parked, rejected)
    VALUES (?, ?, 1000, ?, '2026-01-29T12:30:00.000Z', '2026-01-29T12:34:59.000Z', ?, ?, ?, ?, ?,
        ?)""": [
        ("producer", bytes(range(16)), "ggend_client", 16, 14, 0, 1, 1, 0),
        ("anonymous", None, None, 3, 1, 0, 0, 0, 2),
    ],
    """INSERT INTO parked_events (parent_id, parent, arrival_ns, schema_version, events, payload)
    VALUES (?, 'receipt', 1769690098000000000, 6, 1, ?)""": [("7" * 64, _PARKED)],
    """INSERT INTO rejected_events (received_at, code, message, account_id, producer, sequence, uid,
        client, schema_version, encoding, stamp_ns, size_bytes, sha256, event)
    VALUES (?, ?, ?, 2, NULL, ?, 1000, NULL, 6, 'json', 1769690098000000000, ?, ?, ?)""": [
        ("2026-01-29T12:34:56.789Z", "unknown_type",
         'there is no event type "nonsense"; the event types are receipt_emitted, '
         "stage_completed, collision, audit, session_started, session_ended, memory_saved",
         1, 19, bytes(32), b'{"type":"nonsense"}'),
        ("2026-01-29T12:34:58.001Z", "invalid", "Object missing required field `operation`",
         2, 31, bytes(32), b'{"type":"audit","agent_id":"x"}'),
    ],
}  # fmt: skip


if __name__ == "__main__":
    SCREENS.mkdir(exist_ok=True)
    for columns in WIDTHS:
        SCREENS.joinpath(f"{columns}.txt").write_text(screen(columns), encoding="utf-8")
