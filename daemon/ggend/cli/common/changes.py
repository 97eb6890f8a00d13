"""Changes: change a database, in the file if no daemon has it open, else by its daemon."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from ggend.cli.common.daemon_client import REFUSED_HINT, daemon_socket
from ggend.errors import AlreadyRunning, DatabaseUnusable, RefusedByDatabase, UsageMistake

__all__ = ["Changes", "confirm_deletion"]

T = TypeVar("T")


class Changes:
    """Changes of one database. All go the same way: in the file, or by the same daemon."""

    def __init__(
        self, path: Path, socket: Path | None, *, hint: str = "run it again to resume"
    ) -> None:
        """`hint` says what to do when the file cannot be written."""
        self._path = path
        self._socket = socket
        self._hint = hint
        self._daemon: Path | None = None

    def apply(self, in_file: Callable[[], T], by_daemon: Callable[[Path], T]) -> T:
        """Call `in_file`; if a daemon has the database, call `by_daemon` with its socket.

        Raises RefusedByDatabase, DatabaseUnusable, AlreadyRunning, and what both raise.
        """
        if self._daemon is None:
            try:
                return in_file()
            except AlreadyRunning as error:
                # Use only this socket from here on: another daemon has another database.
                self._daemon = daemon_socket(self._path, self._socket, otherwise=error)
            except sqlite3.IntegrityError as error:
                raise RefusedByDatabase(str(error), hint=REFUSED_HINT) from error
            except sqlite3.Error as error:
                raise DatabaseUnusable(
                    f"{self._path} cannot be written: {error}", hint=self._hint
                ) from error
        return by_daemon(self._daemon)


def confirm_deletion(count: int, one: str, many: str) -> None:
    """Ask whether so many things are to be deleted. Raises UsageMistake, click.Abort."""
    these = f"1 {one}" if count == 1 else f"{count:,} {many}"
    if not sys.stdin.isatty():
        raise UsageMistake(f"refusing to delete {these} without confirmation", hint="pass --yes")
    click.confirm(f"Delete {these} permanently?", abort=True, err=True)
