"""Transactions: a row is there or it is not, in each of the seven tables.

Copies with foreign keys on, as programs use them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from contract.tier2.check import Check, expect, refused
from contract.tier2.promise import TABLES
from contract.tier2.replica import Probe, Replica

__all__ = ["checks"]


def checks() -> Iterator[Check]:
    """All checks of transactions."""
    for table in TABLES:
        yield Check(f"{table}: rollback", partial(_rolls_back, table))
        yield Check(f"{table}: savepoint", partial(_rolls_back_to_savepoint, table))
        yield Check(f"{table}: a failed statement", partial(_fails_whole, table))
        yield Check(f"{table}: update and delete", partial(_updates_and_deletes, table))
    yield Check("commit", _commits)


def _count(probe: Probe, table: str) -> int:
    count: int = probe.value(f"SELECT count(*) FROM {table}")
    return count


def _insert_child(probe: Probe, table: str) -> None:
    """Insert a row and the row that it refers to, if there is one."""
    if table in ("pipeline_metrics", "slo_violations"):
        name = f"parent-{_count(probe, 'receipts')}"
        probe.insert("receipts", execution_id=name)
        probe.insert(table, execution_id=name)
    elif table == "collision_detection":
        name = f"parent-{_count(probe, 'workflow_sessions')}"
        probe.insert("workflow_sessions", session_id=name)
        probe.insert(table, session_id=name)
    else:
        probe.insert(table)


def _rolls_back(table: str, replica: Replica) -> None:
    with replica.fresh() as probe:
        before = list(probe.connection.iterdump())
        probe.connection.execute("BEGIN")
        for _ in range(3):
            _insert_child(probe, table)
        inside = _count(probe, table)
        probe.connection.execute("ROLLBACK")
        expect(inside == 3, f"{table}: a transaction sees {inside} of its 3 rows")
        expect(before == list(probe.connection.iterdump()), f"{table}: a rollback leaves something")


def _rolls_back_to_savepoint(table: str, replica: Replica) -> None:
    with replica.fresh() as probe:
        for statement in ("BEGIN", "SAVEPOINT outer"):
            probe.connection.execute(statement)
        _insert_child(probe, table)
        probe.connection.execute("SAVEPOINT inner")
        _insert_child(probe, table)
        for statement in ("ROLLBACK TO inner", "RELEASE inner", "RELEASE outer", "COMMIT"):
            probe.connection.execute(statement)
        found = _count(probe, table)
        expect(found == 1, f"{table}: {found} rows are there after a savepoint of 1 of 2")


def _fails_whole(table: str, replica: Replica) -> None:
    """A statement that fails at its second row takes the first one back, and nothing else."""
    needed = next(column.name for column in TABLES[table] if column.not_null)
    with replica.probe() as probe:
        probe.insert(table)
        good, bad = probe.valid_row(table), {**probe.valid_row(table), needed: None}
        marks = ", ".join("?" * len(good))
        with refused(f"{table}.{needed}: NULL is accepted in the second of two rows"):
            probe.connection.execute(
                f"INSERT INTO {table} ({', '.join(good)}) VALUES ({marks}), ({marks})",
                (*good.values(), *bad.values()),
            )
        found = _count(probe, table)
        expect(found == 1, f"{table}: a failed statement leaves {found} rows, not 1")


def _updates_and_deletes(table: str, replica: Replica) -> None:
    with replica.probe() as probe:
        first, second = probe.insert(table), probe.insert(table)
        for column in replica.columns(table):
            if column != "id":
                probe.connection.execute(f"UPDATE {table} SET {column} = {column}")
        probe.connection.execute(f"DELETE FROM {table} WHERE id = ?", (first,))
        found = probe.rows(f"SELECT id FROM {table}")
        expect(found == [(second,)], f"{table}: DELETE of a row leaves {found}")


def _commits(replica: Replica) -> None:
    with replica.fresh() as probe:
        probe.connection.execute("BEGIN IMMEDIATE")
        for table in TABLES:
            _insert_child(probe, table)
        probe.connection.execute("COMMIT")
        for table in TABLES:
            expect(_count(probe, table) > 0, f"{table}: a committed row is not there")
        broken = probe.rows("PRAGMA foreign_key_check")
        expect(broken == [], f"foreign_key_check: {broken}")
        sound = probe.value("PRAGMA integrity_check")
        expect(sound == "ok", f"integrity_check: {sound}")
