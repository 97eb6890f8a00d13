"""Statistics: what became of a client's events, as values that do not change."""

from __future__ import annotations

import msgspec

__all__ = ["Dropped", "Statistics"]


class Dropped(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Events that emit() refused, by cause. Their sum is reported to the daemon as `shed`."""

    #: The bound on events or bytes was reached.
    full: int
    #: The client was closed.
    closed: int
    #: Not an event, or a JSON field that msgpack cannot carry.
    unencodable: int
    #: Over `ggend_schema.limits.EVENT_BYTES`.
    too_large: int

    @property
    def total(self) -> int:
        """All causes together."""
        return self.full + self.closed + self.unencodable + self.too_large


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of a client: accepted = acked + lost + queued."""

    #: emit() returned True.
    accepted: int
    #: Settled by the daemon, durably; the rejected ones included.
    acked: int
    #: Not settled yet: waiting, or sent and not acked.
    queued: int
    #: Of the acked, those in the daemon's quarantine.
    rejected: int
    #: Numbered, but over the limits of the daemon that answered; declared to it as lost.
    lost: int
    #: emit() returned False.
    dropped: Dropped
    #: Events sent again after a connection was lost.
    resent: int
    #: Whether a daemon has welcomed this client on a connection that is still open.
    connected: bool
    #: What went wrong last, for people.
    last_error: str | None
