"""Stats: what became of a client's events, as values that do not change."""

from __future__ import annotations

import msgspec

__all__ = ["Dropped", "Statistics"]


class Dropped(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Events that were given up, by cause. All but `lost` were refused by emit()."""

    #: The bound on events or bytes was reached.
    full: int = 0
    #: The client was closed.
    closed: int = 0
    #: The client was made with `enabled=False`, or GGEND_DISABLED is set.
    disabled: int = 0
    #: Not an event, or one that lacks something, or a JSON field that msgpack cannot carry.
    invalid: int = 0
    #: Over `ggend_schema.limits.EVENT_BYTES`.
    too_large: int = 0
    #: `durable=True`, and the spool did not take it.
    spool: int = 0
    #: Accepted, but over the limits of the daemon that answered, or spooled and not readable
    #: any more; declared to the daemon as lost.
    lost: int = 0

    @property
    def total(self) -> int:
        """All causes together."""
        return (
            self.full
            + self.closed
            + self.disabled
            + self.invalid
            + self.too_large
            + self.spool
            + self.lost
        )


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of a client: offered = acked + queued + spooled + rejected + dropped.total."""

    #: Calls of emit().
    offered: int
    #: emit() returned True.
    accepted: int
    #: Stored by the daemon, durably.
    acked: int
    #: In the queue: waiting, or sent and not acked.
    queued: int
    #: On disk, and not acked.
    spooled: int
    #: In the daemon's quarantine.
    rejected: int
    dropped: Dropped
    #: Of those that are settled, the ones that came from the spool; those that this client
    #: delivered for processes that have ended are included here, and nowhere else.
    replayed: int
    #: Events sent again after a connection was lost.
    resent: int
    #: Whether a daemon has welcomed this client on a connection that is still open.
    connected: bool
    #: What went wrong last, for people.
    last_error: str | None
    #: Why the last event was dropped, for people.
    last_drop: str | None
