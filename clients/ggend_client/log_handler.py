"""AuditHandler: records of `logging` as audit events. Never imported by the client itself.

    logging.getLogger("my_program").addHandler(AuditHandler(client, level=logging.INFO))

A record becomes one Audit:

    operation      the first line of the message, so that a list of audit events can be read
    status         failed for ERROR and above, else completed
    error_message  the exception, or else the message of what failed
    agent_id       of the record (`extra={"agent_id": …}`), or what `client.bind` bound, or the
                   handler's option, or the client's own, or else `logging`; session_id and
                   execution_id of the record or of what is bound
    timestamp      when the record was made, which may be long before a QueueListener handles it
    context        level, logger, message, module, line; traceback and stack where there are any;
                   under `extra` what the program added, as far as JSON has it

It never raises, never waits and never logs: what cannot be made into an event is refused by the
client with its reason and counted. It holds no lock, so there is none that a fork could leave
locked. Records of the client itself (`ggend_client` and below) are passed over, and records that
are made while one is being turned into an event, by a `__str__` that logs, are refused. A
formatter is not used.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ggend_client.context import Binding, binding_here
from ggend_client.error_text import error_text
from ggend_client.errors import InvalidCall
from ggend_client.jsonable import text_of, to_jsonable
from ggend_client.mistakes import LOGGER
from ggend_schema.limits import ERROR_CHARS, NAME_CHARS, OPERATION_CHARS

if TYPE_CHECKING:
    from ggend_client.events import TypedEvents
    from ggend_schema.events import AuditStatus

__all__ = ["AuditHandler"]

#: Whose events they are when nobody says so.
AGENT = "logging"

#: What every record has, whoever made it; all else was added by the program.
_OWN_FIELDS = frozenset(
    {*logging.LogRecord("", 0, "", 0, "", (), None).__dict__, "asctime", "message", "taskName"}
)
_IDS = ("agent_id", "session_id", "execution_id")

_busy = threading.local()


class AuditHandler(logging.Handler):
    """Turns each record that passes its level and filters into an audit event of a client."""

    def __init__(
        self, client: TypedEvents, *, agent: str | None = None, level: int | str = logging.NOTSET
    ) -> None:
        """`client` is a Client or an AsyncClient; closing it remains its owner's."""
        super().__init__(level)
        self._client = client
        self._agent = agent

    def createLock(self) -> None:  # noqa: N802 (the name is logging's)
        """Make none: emit() of the client needs none, and nobody shall wait for one."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit the record if the filters let it pass; return whether they did."""
        if f"{record.name}.".startswith(f"{LOGGER}."):
            return False  # it is about events that do not reach the daemon
        if getattr(_busy, "is_set", False):
            return self._refuse("a record was made while another was turned into an event")
        _busy.is_set = True
        try:
            passed = self.filter(record)
            if isinstance(passed, logging.LogRecord):  # Python 3.12: a filter may replace it
                record = passed
            if passed:
                self._audit(record)
        except Exception as error:  # filters, arguments and extras are the program's own
            return self._refuse(f"a log record: {error_text(error)}")
        finally:
            _busy.is_set = False
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Do as `handle` does, which does not come here."""
        self.handle(record)

    def _refuse(self, reason: str) -> bool:
        with suppress(InvalidCall):  # a strict client's: it is not the caller's mistake
            self._client.refuse(reason)
        return False

    def _audit(self, record: logging.LogRecord) -> None:
        message = _message(record)
        failed = record.levelno >= logging.ERROR
        error = _error(record)
        status: AuditStatus = "failed" if failed else "completed"
        ids = {name: value for name in _IDS if _is_name(value := record.__dict__.get(name))}
        agent_id = ids.get("agent_id") or binding_here(Binding(agent=self._agent)).agent
        self._client.audit(
            agent_id=agent_id or self._client.bound().agent or AGENT,
            operation=text_of(message.strip().partition("\n")[0] or record.name, OPERATION_CHARS),
            status=status,
            error_message=error_text(error) if error else message if failed else None,
            context=_context(record, message, error, ids),
            session_id=ids.get("session_id"),
            execution_id=ids.get("execution_id"),
            timestamp=_timestamp(record.created),
        )


def _message(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except Exception as error:  # the arguments do not fit the message
        message = f"{text_of(record.msg, ERROR_CHARS)} ({error_text(error)})"
    return text_of(message, ERROR_CHARS)


def _error(record: logging.LogRecord) -> BaseException | None:
    found = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    return found if isinstance(found, BaseException) else None


def _context(
    record: logging.LogRecord, message: str, error: BaseException | None, ids: Mapping[str, object]
) -> dict[str, object]:
    context: dict[str, object] = {
        "level": text_of(record.levelname, NAME_CHARS),
        "logger": text_of(record.name, NAME_CHARS),
        "message": message,
        "module": text_of(record.module, NAME_CHARS),
        "line": to_jsonable(record.lineno),
    }
    if error is not None:
        # Its end says where it was raised.
        context["traceback"] = text_of("".join(_lines(error))[-ERROR_CHARS:], ERROR_CHARS)
    elif record.exc_text:
        context["traceback"] = text_of(record.exc_text[-ERROR_CHARS:], ERROR_CHARS)
    if record.stack_info:
        context["stack"] = text_of(record.stack_info, ERROR_CHARS)
    added = {
        name: value
        for name, value in record.__dict__.items()
        if name not in _OWN_FIELDS and name not in ids
    }
    if added:
        context["extra"] = to_jsonable(added)
    return context


def _timestamp(created: float) -> str | None:
    try:
        moment = datetime.fromtimestamp(created, UTC)
    except (OverflowError, OSError, ValueError):
        return None  # the moment of emit() stands in
    return moment.isoformat(timespec="milliseconds")


def _lines(error: BaseException) -> list[str]:
    try:
        return traceback.format_exception(error)
    except Exception:  # it formats the host's objects
        return [error_text(error)]


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= NAME_CHARS and value.isprintable()
