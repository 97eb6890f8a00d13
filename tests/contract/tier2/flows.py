"""Flows: what programs do with the tables: JSON, upserts, one run through them all.

Each flow uses SQL that a program outside of ggend would use.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial

from contract.tier2.check import Check, expect, refused
from contract.tier2.promise import OWN_TABLES, TABLES, VIEWS, WORDS
from contract.tier2.replica import Absent, Replica

__all__ = ["checks"]

_JSON_COLUMNS = (
    ("receipts", "receipt_json"),
    ("agent_memory", "memory_json"),
    ("agent_memory", "collision_history"),
    ("audit_log", "context_json"),
    ("workflow_sessions", "context_json"),
)

_DOCUMENT = '{"files": ["a.rs", "b.rs", "μ.rs"], "hash": {"kind": "blake3"}, "n": 3, "none": null}'


def checks() -> Iterator[Check]:
    """All checks of flows."""
    for table, column in _JSON_COLUMNS:
        name = f"{table}.{column}"
        yield Check(f"{name}: json_extract", partial(_extracts, table, column))
        yield Check(f"{name}: json_each", partial(_lists, table, column))
        yield Check(f"{name}: text as it came", partial(_keeps_any_text, table, column))
    yield Check("environment takes any word", _takes_any_environment)
    yield Check("session_id of receipts needs no session", _needs_no_session, added=True)
    yield Check("audit_log needs neither session nor receipt", _needs_no_receipt, added=True)
    yield Check("agent_memory: upsert", _upserts)
    yield Check("agent_memory: INSERT OR REPLACE", _replaces)
    yield Check("receipts: INSERT OR IGNORE", _ignores)
    yield Check("slo_violations: the same twice", _repeats_violations)
    yield Check("slo_breaches: one of a kind", _breaches_are_unique, added=True)
    yield Check("from a session to the views", _flows_through_all)


def _extracts(table: str, column: str, replica: Replica) -> None:
    with replica.probe() as probe:
        probe.insert(table, **{column: _DOCUMENT})
        for path, wanted in (
            ("$.n", 3),
            ("$.files[1]", "b.rs"),
            ("$.hash.kind", "blake3"),
            ("$.none", None),
            ("$.nowhere", None),
        ):
            found = probe.value(f"SELECT json_extract({column}, ?) FROM {table}", path)
            expect(
                found == wanted,
                f"{table}.{column}: json_extract of {path} is {found!r}: {wanted!r}",
            )


def _lists(table: str, column: str, replica: Replica) -> None:
    with replica.probe() as probe:
        probe.insert(table, **{column: '["a.rs", "b.rs", "μ.rs"]'})
        probe.insert(table, **{column: '["c.rs"]'})
        found = [
            row[0]
            for row in probe.rows(
                f"SELECT j.value FROM {table} AS t, json_each(t.{column}) AS j ORDER BY t.id, j.key"
            )
        ]
        wanted = ["a.rs", "b.rs", "μ.rs", "c.rs"]
        expect(found == wanted, f"{table}.{column}: json_each gives {found!r}")


def _keeps_any_text(table: str, column: str, replica: Replica) -> None:
    """There is no CHECK on JSON: what version 1.0.0 let in stays as it is."""
    with replica.probe() as probe:
        for text in (' { "a" :1 } ', "not json", "", "\x00\x01"):
            try:
                row = probe.insert(table, **{column: text})
            except sqlite3.IntegrityError as error:
                raise AssertionError(f"{table}.{column}: {text!r} is refused: {error}") from error
            found = probe.value(f"SELECT {column} FROM {table} WHERE id = ?", row)
            expect(found == text, f"{table}.{column}: {text!r} is stored as {found!r}")


def _takes_any_environment(replica: Replica) -> None:
    with replica.probe() as probe:
        for word in ("dev", "staging", "production", "ci-7", "Ümlaut", ""):
            try:
                probe.insert("receipts", environment=word)
            except sqlite3.IntegrityError as error:
                raise AssertionError(
                    f"receipts.environment: {word!r} is refused, the contract takes any word"
                ) from error


def _needs_no_session(replica: Replica) -> None:
    with replica.probe(foreign_keys=True) as probe:
        try:
            probe.insert("receipts", session_id="unknown")
        except sqlite3.IntegrityError as error:
            raise AssertionError(
                f"receipts.session_id: an unknown session is refused: {error}"
            ) from error


def _needs_no_receipt(replica: Replica) -> None:
    with replica.probe(foreign_keys=True) as probe:
        for column in ("execution_id", "session_id"):
            try:
                probe.insert("audit_log", **{column: "unknown"})
            except sqlite3.IntegrityError as error:
                raise AssertionError(
                    f"audit_log.{column}: an unknown one is refused: {error}"
                ) from error


def _upserts(replica: Replica) -> None:
    upsert = """
        INSERT INTO agent_memory (agent_id, memory_json, retry_count) VALUES ('a', ?, ?)
        ON CONFLICT (agent_id) DO UPDATE
        SET memory_json = excluded.memory_json, retry_count = retry_count + excluded.retry_count
    """
    with replica.probe() as probe:
        replica.columns("agent_memory")
        for memory in ('{"n": 1}', '{"n": 2}', '{"n": 3}'):
            probe.connection.execute(upsert, (memory, 1))
        found = probe.rows("SELECT count(*), max(memory_json), max(retry_count) FROM agent_memory")
        expect(found == [(1, '{"n": 3}', 3)], f"agent_memory: three upserts of one agent: {found}")


def _replaces(replica: Replica) -> None:
    with replica.probe() as probe:
        replica.columns("agent_memory")
        for memory in ("1", "2"):
            probe.connection.execute(
                "INSERT OR REPLACE INTO agent_memory (agent_id, memory_json) VALUES ('a', ?)",
                (memory,),
            )
        found = probe.rows("SELECT id, memory_json FROM agent_memory")
        expect(found == [(2, "2")], f"agent_memory: INSERT OR REPLACE of one agent: {found}")


def _ignores(replica: Replica) -> None:
    with replica.probe() as probe:
        replica.columns("receipts")
        for status in ("passed", "failed"):
            probe.connection.execute(
                "INSERT OR IGNORE INTO receipts "
                "(execution_id, agent_id, operation, status, timestamp, duration_ms) "
                "VALUES ('e', 'a', 'watch', ?, '2026-01-29T12:00:00.000Z', 1)",
                (status,),
            )
        found = probe.rows("SELECT status FROM receipts")
        expect(found == [("passed",)], f"receipts: INSERT OR IGNORE of one execution: {found}")


def _repeats_violations(replica: Replica) -> None:
    with replica.probe(foreign_keys=True) as probe:
        probe.insert("receipts", execution_id="e")
        for _ in range(2):
            try:
                probe.insert("slo_violations", execution_id="e", metric="m")
            except sqlite3.IntegrityError as error:
                raise AssertionError(
                    f"slo_violations: the same violation twice is refused: {error}"
                ) from error


def _breaches_are_unique(replica: Replica) -> None:
    values = {
        "metric": "m",
        "subject": "s",
        "severity": "warning",
        "target_value": 1.0,
        "actual_value": 2.0,
        "description": "slow",
        "timestamp": "2026-01-29T12:00:00.000Z",
    }
    replica.columns("slo_breaches")
    with replica.probe() as probe:
        insert = "INSERT INTO slo_breaches ({}) VALUES ({})".format(
            ", ".join(values), ", ".join("?" * len(values))
        )
        probe.connection.execute(insert, tuple(values.values()))
        for name, other in (("metric", "n"), ("subject", "t"), ("severity", "critical")):
            probe.connection.execute(insert, tuple({**values, name: other}.values()))
        with refused("slo_breaches: the same metric, subject and severity twice is accepted"):
            later = {"actual_value": 3.0, "timestamp": "2026-01-29T13:00:00.000Z"}
            probe.connection.execute(insert, tuple({**values, **later}.values()))


def _flows_through_all(replica: Replica) -> None:
    """A session, its receipt with five stages, audit entries, a collision, a violation, views."""
    for view in VIEWS:
        if ("view", view) not in replica.schema:
            raise Absent(f"{view} is missing")
    start = "2026-01-29T12:00:00.000Z"
    with replica.fresh() as probe:
        run = probe.connection.execute
        run("BEGIN")
        probe.insert("workflow_sessions", session_id="s", start_time=start, agent_count=2)
        probe.insert(
            "receipts",
            execution_id="e",
            agent_id="a",
            operation="generation",
            status="passed",
            timestamp=start,
            duration_ms=2500,
            files_generated=4,
        )
        for place, stage in enumerate(WORDS["pipeline_metrics", "stage"], start=1):
            probe.insert(
                "pipeline_metrics",
                execution_id="e",
                stage=stage,
                duration_ms=100 * place,
                status="passed",
            )
        for status in ("started", "completed"):
            probe.insert("audit_log", agent_id="a", status=status, timestamp=start)
        probe.insert("collision_detection", session_id="s", agent_id_1="a", agent_id_2="b")
        probe.insert("slo_violations", execution_id="e", metric="execution.duration_ms")
        probe.insert("agent_memory", agent_id="a", memory_json='{"last": "e"}')
        run(
            "UPDATE workflow_sessions SET status = 'completed', end_time = ?, "
            "successful_operations = 1 WHERE session_id = 's'",
            ("2026-01-29T12:00:02.500Z",),
        )
        run("COMMIT")
        recent = probe.rows(
            "SELECT execution_id, status, duration_ms, slo_violations FROM recent_executions"
        )
        expect(recent == [("e", "passed", 2500, 1)], f"recent_executions: shows {recent}")
        agents = probe.rows(
            "SELECT agent_id, total_executions, total_files_generated "
            "FROM agent_performance_summary"
        )
        expect(agents == [("a", 1, 4)], f"agent_performance_summary: shows {agents}")
        stages = probe.rows("SELECT stage, avg_duration_ms FROM pipeline_stage_performance")
        wanted = [
            (stage, 100.0 * place)
            for place, stage in enumerate(WORDS["pipeline_metrics", "stage"], start=1)
        ]
        expect(stages == wanted[::-1], f"pipeline_stage_performance: shows {stages}")
        joined = probe.rows(
            "SELECT s.status, count(*) FROM workflow_sessions AS s "
            "JOIN collision_detection AS c ON c.session_id = s.session_id "
            "JOIN receipts AS r ON r.agent_id = c.agent_id_1 "
            "JOIN pipeline_metrics AS m ON m.execution_id = r.execution_id "
            "JOIN audit_log AS l ON l.agent_id = r.agent_id GROUP BY s.status"
        )
        expect(joined == [("completed", 10)], f"a join through the tables gives {joined}")
        with refused("receipts: a receipt with stages can be deleted, foreign keys are on"):
            run("DELETE FROM receipts")
        for table in (*OWN_TABLES, *TABLES):
            if ("table", table) in replica.schema:
                probe.rows(f"SELECT * FROM {table}")
