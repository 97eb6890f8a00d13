"""Logs: structured lines on standard error, `key=value` after the message (logfmt).

ggend never logs into itself: what it has to say about itself goes here and to `status`. Nor does it
ever wait for whoever reads: see `log_queue`.
"""

from __future__ import annotations

import atexit
import io
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from ggend.runtime.log_queue import LogQueue

__all__ = ["dropped_lines", "queue_standard_error", "set_up_logs"]

#: Seconds that the end of the process waits for the last lines to be read.
LAST_LINES_SECONDS = 1.0

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Logfmt(logging.Formatter):
    """`time=… level=… logger=… msg="…" key=value …`, one line whatever the values hold."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        moment = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        fields.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return " ".join(f"{key}={_plain(value)}" for key, value in fields.items())


def _plain(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not set(' "=') & set(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    # JSON lets C1 controls and marks that reorder text stand; a terminal acts on them.
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in quoted)


def queue_standard_error() -> None:
    """From now on nothing that this process says on standard error waits for its reader.

    That is the log, the named error at the end, and what Python says of itself.
    """
    queue = LogQueue(2, _missing)
    atexit.register(queue.drain, LAST_LINES_SECONDS)
    sys.stderr = io.TextIOWrapper(
        queue,
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def dropped_lines() -> int:
    """Return how many lines of the log nobody could read."""
    queue = getattr(sys.stderr, "buffer", None)
    return queue.dropped if isinstance(queue, LogQueue) else 0


def _missing(count: int) -> bytes:
    """Return the line that stands where `count` others are missing."""
    record = logging.LogRecord(
        "ggend.logs", logging.WARNING, __file__, 0, "log lines dropped", None, None
    )
    record.dropped = count
    return f"{_Logfmt().format(record)}\n".encode()


def set_up_logs(level: Literal["debug", "info", "warning", "error"]) -> None:
    """Send this process's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Logfmt())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # aiosqlite logs every call twice at debug level; ours says what each batch was.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
