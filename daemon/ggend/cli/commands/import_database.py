"""`ggend import database`: import the rows of another tier2.db that are missing here."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import click

from ggend.cli.common.chosen import chosen_database, chosen_socket
from ggend.cli.common.command import command
from ggend.cli.common.delivery import Delivery, require_daemon
from ggend.cli.common.options import (
    PATH,
    batch_timeout_option,
    database_option,
    format_option,
    socket_option,
)
from ggend.cli.render.formats import Format
from ggend.cli.render.import_report import Problems, show_reports
from ggend.cli.render.output import complain, progress
from ggend.database.readonly import open_readonly
from ggend.errors import AlreadyRunning, DaemonUnreachable, DatabaseUnusable, UsageMistake
from ggend.importers.merge.merge import TABLES, Merge, Tally
from ggend.queries.snapshot import columns_of, snapshot
from ggend_client import ClientError, ask
from ggend_client.errors import DaemonAbsent
from ggend_schema.events import Event
from ggend_schema.migrations import schema_version
from ggend_schema.places import client_sockets

__all__ = ["import_database"]

#: The client name of a merge; the next merge uses it to find unfinished events.
_SENDER = "ggend import database"

#: Seconds between two checks whether all events are stored.
_LOOK_SECONDS = 0.1


@command("database")
@click.argument("other", type=PATH, metavar="OTHER.db", help="The database to import rows from.")
@database_option
@socket_option
@batch_timeout_option
@format_option
def import_database(
    *, other: Path, database: Path | None, socket: Path | None, timeout: float, form: Format
) -> None:
    """Merge another tier2.db, of version 1.0.0 or this version, into the daemon's database.

    Missing rows are sent to the daemon as events with their original timestamps; OTHER.db is only
    read. Rows are compared by content, so merging again adds nothing, and an interrupted merge can
    be run again. Only one merge runs at a time.

    If both databases have an execution or a session with different content, that is a conflict: it
    is reported, this database keeps its row, and the rows of OTHER.db that belong to it are
    skipped. The later memory of an agent wins.

    Some rows are not imported. Rows that are not valid events (invalid times, invalid JSON, control
    characters in a name) are reported by table and id. Stages and collisions whose parent is in
    neither database are orphans. Parked events in OTHER.db are not copied. Violations are not
    copied either: the daemon evaluates the imported executions and stages itself. Ids and
    created_at are new.

    Exit status: 0 all rows are imported, 65 there were conflicts or invalid rows, 69 the daemon
    is not reachable, 75 another merge is running.

    Example:

        ggend import database other.db
    """
    place = chosen_socket(socket)
    require_daemon(place)
    place, database_id, path = _daemons_database(place, database, timeout)
    _check_other(other, path)
    problems = Problems(str(other))
    with (
        _alone(other),
        _alone(path),
        _after_others(place, timeout),
        closing(open_readonly(path)) as here,
        snapshot(other) as there,
        Delivery(place, name=_SENDER, timeout_seconds=timeout) as delivery,
        progress(rows=True) as bar,
    ):
        _check_identity(here, path, database_id)
        _check_version(there, other)
        rows = {table: _count(there, table) for table in (*TABLES, "slo_violations")}
        waiting, releasing = _waiting(there), _releasing(there)
        task = bar.add_task(other.name, total=sum(rows[table] for table in TABLES))

        def flush() -> int:
            delivery.flush()
            return delivery.rejected

        tallies = Merge(
            there,
            here,
            send=lambda event, size: _send(delivery, event, size),
            flush=flush,
            tell=problems.tell,
            advance=partial(bar.advance, task),
        ).run()
        for reject in delivery.rejects():
            problems.tell(f"rejected: {reject.code}: {reject.message}")
    problems.end()
    if rows["slo_violations"]:
        complain(
            f"{rows['slo_violations']:,} violations are not copied: the daemon evaluates the "
            "imported rows itself"
        )
    if waiting:
        complain(
            f"{waiting:,} parked events of {other} are not copied",
            hint=f"the parents of some are stored: start a daemon once on {other}, then merge again"
            if releasing
            else "",
        )
    show_reports(tallies, form)
    if any(_is_bad(tally) for tally in tallies):
        raise click.exceptions.Exit(os.EX_DATAERR)


def _is_bad(tally: Tally) -> bool:
    return bool(tally.conflicts or tally.unreadable)


def _send(delivery: Delivery, event: Event, size: int) -> None:
    delivery.send([event], size=size)


def _daemons_database(
    socket: Path | None, flag: Path | None, timeout: float
) -> tuple[Path, str, Path]:
    """Return the socket of the daemon that answers, and the id and path of its database.

    All requests use this socket: another daemon has another database.
    """
    absent: ClientError | None = None
    for place in client_sockets(os.environ) if socket is None else [socket]:
        try:
            status = ask(place, "status", timeout=timeout)
        except DaemonAbsent as error:
            absent = absent or error
        except ClientError as error:
            raise DaemonUnreachable(str(error), hint=error.hint) from error
        else:
            return place, status["database_id"], flag or _written_to(Path(status["database"]))
    raise DaemonUnreachable(str(absent), hint=absent.hint if absent else "") from absent


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Keep other merges from a database, until this process has closed its connections to it.

    Raises AlreadyRunning, DatabaseUnusable.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield  # opening it as a database says what is wrong
        return
    try:
        # SQLite takes locks of another kind (fcntl), and closing the file would drop those.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise AlreadyRunning(
            f"another import is using {file}", hint="wait until it ends, then run this again"
        ) from None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _after_others(place: Path, timeout: float) -> Iterator[None]:
    """Wait until all events of an earlier, interrupted import are settled.

    Rows are compared with the stored ones: an event stored after that would be there twice.
    Raises AlreadyRunning, DaemonUnreachable.
    """
    deadline = time.monotonic() + timeout
    try:
        while others := ask(place, "senders", {"client": _SENDER}, timeout=timeout):
            if time.monotonic() >= deadline:
                raise AlreadyRunning(
                    f"the events of another import (pid {others[0]}) are not stored yet",
                    hint="wait until it ends, then run this again",
                )
            time.sleep(_LOOK_SECONDS)
    except ClientError as error:
        raise DaemonUnreachable(str(error), hint=error.hint) from error
    yield


def _written_to(path: Path) -> Path:
    """Return the path as the daemon names it or, where it could not spell it, as configured."""
    configured = chosen_database(None)
    return configured if configured.exists() and not path.exists() else path


def _check_other(other: Path, own: Path) -> None:
    try:
        is_same = other.samefile(own)
    except OSError:
        return  # opening it says what is wrong
    if is_same:
        raise UsageMistake(
            f"{other} is the daemon's own database",
            hint="give another database; a backup copy of this one can be merged",
        )


def _check_identity(here: sqlite3.Connection, path: Path, database_id: str) -> None:
    """Raise DatabaseUnusable unless the rows are compared with the daemon's own database."""
    found = None
    if "database_identity" in columns_of(here):
        (found,) = here.execute("SELECT id FROM database_identity").fetchone()
    if found != database_id:
        raise DatabaseUnusable(
            f"{path} is not the database that the daemon writes to",
            hint="give the daemon's socket with --socket, and its database with --database",
        )


def _check_version(there: sqlite3.Connection, other: Path) -> None:
    (version,) = there.execute("PRAGMA user_version").fetchone()
    if version > schema_version():
        raise DatabaseUnusable(
            f"{other} has schema version {version}; this ggend knows versions up to "
            f"{schema_version()}",
            hint="upgrade ggend",
        )


def _waiting(there: sqlite3.Connection) -> int:
    if "parked_events" not in columns_of(there):
        return 0
    (events,) = there.execute("SELECT coalesce(sum(events), 0) FROM parked_events").fetchone()
    return int(events)


def _releasing(there: sqlite3.Connection) -> bool:
    """Whether a daemon ended before it had released all events whose parent is stored."""
    if "pending_releases" not in columns_of(there):
        return False
    return there.execute("SELECT 1 FROM pending_releases").fetchone() is not None


def _count(there: sqlite3.Connection, table: str) -> int:
    if table not in columns_of(there):
        raise DatabaseUnusable(
            f"this is not a tier 2 database: it has no table {table}",
            hint="versions 1.0.0 and later have seven tables",
        )
    (rows,) = there.execute(f"SELECT COUNT(*) FROM {table}").fetchone()  # noqa: S608 - TABLES
    return int(rows)
