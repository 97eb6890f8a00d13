"""Logs: structured lines on standard error, `key=value` after the message (logfmt).

ggend never logs into itself: what it has to say about itself goes here and to `status`.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

__all__ = ["set_up_logs"]

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
    return json.dumps(text, ensure_ascii=False)


def set_up_logs(level: Literal["debug", "info", "warning", "error"]) -> None:
    """Send this process's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Logfmt())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # aiosqlite logs every call twice at debug level; ours says what each batch was.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
