"""`ggend import database`: the rows of another tier2.db that this one has not."""

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
from typing import Annotated

import typer

from ggend.cli.common.delivery import Delivery, require_daemon
from ggend.cli.common.options import (
    DatabaseOption,
    FormatOption,
    SocketOption,
    chosen_database,
    chosen_socket,
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

__all__ = ["database"]

#: The name under which a merge sends, by which the next one finds what is left of it.
_SENDER = "ggend import database"

#: Seconds between two looks at whether it is all stored.
_LOOK_SECONDS = 0.1


def database(
    other: Annotated[
        Path, typer.Argument(metavar="OTHER.db", help="The database whose rows are taken in.")
    ],
    *,
    own: DatabaseOption = None,
    socket: SocketOption = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds to wait for the daemon to store a part.")
    ] = 30.0,
    form: FormatOption = Format.TABLE,
) -> None:
    """Merge another tier2.db, of version 1.0.0 or this one, into the daemon's database.

    What is missing is sent to the daemon as events with their own timestamps; OTHER.db is only
    read. Rows are compared by content, so merging twice adds nothing, and a merge that was cut
    short can be run again. One merge runs at a time: a second one is refused.

    An execution or a session that is in both with other content is a conflict: it is reported, it
    stays as it is here, and what belongs to it is skipped. The later memory of an agent wins. Rows
    that no event may hold (a time that is none, text that is no JSON, control characters in a
    name) are reported by table and id, and stay where they are. Stages and collisions whose parent
    is in neither database are orphans, and stay too, as do events that wait there for their parent.
    Violations are not copied: executions and stages are judged again here. Ids and created_at are
    new.

    Exit status: 0 all is here, 65 there were conflicts or unreadable rows, 69 the daemon is not
    there, 75 another merge runs.

    Example:

        ggend import database other.db
    """
    place = chosen_socket(socket)
    require_daemon(place)
    place, database_id, path = _daemons_database(place, own, timeout)
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
            f"{rows['slo_violations']:,} violations are not copied: they are judged again here"
        )
    if waiting:
        complain(
            f"{waiting:,} events that wait there for their parent are not copied",
            hint=f"some have their parent already: start a daemon once on {other}, and merge again"
            if releasing
            else "",
        )
    show_reports(tallies, form)
    if any(_is_bad(tally) for tally in tallies):
        raise typer.Exit(os.EX_DATAERR)


def _is_bad(tally: Tally) -> bool:
    return bool(tally.conflicts or tally.unreadable)


def _send(delivery: Delivery, event: Event, size: int) -> None:
    delivery.send([event], size=size)


def _daemons_database(
    socket: Path | None, flag: Path | None, timeout: float
) -> tuple[Path, str, Path]:
    """Return the socket of the daemon that answers, and the id and path of its database.

    All goes through this one socket: another daemon has another database.
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
            f"another import has {file}", hint="wait for its end, and run this again"
        ) from None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _after_others(place: Path, timeout: float) -> Iterator[None]:
    """Wait until all is settled that an import sent before it was cut short.

    It is compared with what is here: what comes later would be there twice.
    Raises AlreadyRunning, DaemonUnreachable.
    """
    deadline = time.monotonic() + timeout
    try:
        while others := ask(place, "senders", {"client": _SENDER}, timeout=timeout):
            if time.monotonic() >= deadline:
                raise AlreadyRunning(
                    f"what another import (pid {others[0]}) has sent is not stored yet",
                    hint="wait for its end, and run this again",
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
            hint="give another one; a backup copy of it can be merged",
        )


def _check_identity(here: sqlite3.Connection, path: Path, database_id: str) -> None:
    """What is compared must be what the daemon writes to."""
    found = None
    if "database_identity" in columns_of(here):
        (found,) = here.execute("SELECT id FROM database_identity").fetchone()
    if found != database_id:
        raise DatabaseUnusable(
            f"{path} is not the database that the daemon writes to",
            hint="name the daemon's socket with --socket, and its database with --database",
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
    """Whether a daemon was ended before it had released all that waits for a stored parent."""
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
