"""Options: what a client is told, by its constructor or by the environment. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from ggend_schema.places import spool_directory

__all__ = ["Options"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Settled options. An argument wins over the environment, the environment over a default."""

    socket: Path | None
    #: Name of the program, for people who look at the daemon's producers.
    service: str
    agent: str | None
    session: str | None
    execution: str | None
    #: None: nothing is spooled.
    spool_directory: Path | None
    is_enabled: bool
    #: Whether a call that says what the daemon would not store raises.
    is_strict: bool
    #: Whether to say of every event why it is dropped, not of the first of a kind only.
    is_debugged: bool

    @staticmethod
    def of(
        environ: Mapping[str, str],
        *,
        socket: str | Path | None = None,
        service: str | None = None,
        agent: str | None = None,
        session: str | None = None,
        spool_dir: str | Path | None = None,
        strict: bool | None = None,
        enabled: bool = True,
    ) -> Options:
        """Look up in the environment what was not given: GGEND_SOCKET, GGEND_SERVICE and so on.

        A `spool_dir` that is empty means none.
        """
        spool = spool_directory(environ) if spool_dir is None else spool_dir
        if spool_dir is None and environ.get("GGEND_SPOOL_DIR") == "":
            spool = ""
        return Options(
            socket=None if socket is None else Path(socket),
            service=service or environ.get("GGEND_SERVICE") or "ggend_client",
            agent=agent or environ.get("GGEND_AGENT") or None,
            session=session or environ.get("GGEND_SESSION") or None,
            execution=environ.get("GGEND_EXECUTION") or None,
            spool_directory=Path(spool) if str(spool) else None,
            is_enabled=enabled and not _is_set(environ, "GGEND_DISABLED"),
            is_strict=_is_set(environ, "GGEND_STRICT") if strict is None else strict,
            is_debugged=_is_set(environ, "GGEND_DEBUG"),
        )


def _is_set(environ: Mapping[str, str], variable: str) -> bool:
    return environ.get(variable, "").lower() not in {"", "0", "false", "no"}
