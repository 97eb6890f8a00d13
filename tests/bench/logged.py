"""Logged: the same event through `logging`, as its documentation has it for programs in a hurry.

A QueueHandler puts the record in a `queue.Queue`; the thread of a QueueListener formats it as the
line of NDJSON that the event is, with the standard library's `json`, and writes it to the
daemon's socket, or to /dev/null. Nothing is acked, numbered, bounded or spooled. The thread that
logs does only what `logging` itself does: it makes no event and encodes nothing.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from typing import Any, TextIO

__all__ = ["logged", "queued"]

#: Seconds that the daemon may take to store everything.
_PATIENCE_SECONDS = 60.0


class _Lines(logging.Formatter):
    """Makes the line of NDJSON that the event is."""

    def format(self, record: logging.LogRecord) -> str:
        given = record.__dict__
        return json.dumps(
            {
                "type": "audit",
                "agent_id": given["agent_id"],
                "operation": record.getMessage(),
                "status": given["status"],
                "duration_ms": given["duration_ms"],
                "execution_id": given["execution_id"],
                "timestamp": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            }
        )


def queued() -> tuple[queue.Queue[Any], logging.Logger]:
    """Return a logger, and the queue in which its records stay."""
    records: queue.Queue[Any] = queue.Queue(-1)
    logger = logging.Logger("yardstick", logging.INFO)
    logger.addHandler(QueueHandler(records))
    return records, logger


@contextmanager
def logged(address: str | None) -> Iterator[tuple[logging.Logger, str, Callable[[], None]]]:
    """Return a logger, the name of the thread behind it, and what waits until all is written."""
    records, logger = queued()
    with _sink(address) as sink:
        handler = logging.StreamHandler(sink)
        handler.setFormatter(_Lines())
        listener = QueueListener(records, handler)
        others = set(threading.enumerate())
        listener.start()
        (worker,) = set(threading.enumerate()) - others
        try:
            yield logger, worker.name, records.join
        finally:
            listener.stop()


@contextmanager
def _sink(address: str | None) -> Iterator[TextIO]:
    """Open what is written to; in the end the daemon says what it stored."""
    if address is None:
        with Path(os.devnull).open("w") as sink:
            yield sink
        return
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(_PATIENCE_SECONDS)
        peer.connect(address)
        with peer.makefile("w") as sink:
            yield sink
        peer.shutdown(socket.SHUT_WR)
        with peer.makefile("r") as answers:
            answer = json.load(answers)
    assert answer["stored"] == answer["lines"] > 0, answer
