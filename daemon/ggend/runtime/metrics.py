"""Metrics: what the running daemon counts, for `status`. Numbers only; nobody waits here."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

__all__ = ["Metrics"]

#: Over which a rate is taken.
_RATE_SECONDS = 60.0

#: Batches whose sizes and times are remembered for the median and the largest.
_REMEMBERED_BATCHES = 1_000


class Metrics:
    """Counters since the start of the daemon."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._batches: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED_BATCHES)
        #: Of `_batches`, until there is another.
        self._figures: dict[str, float | None] | None = None
        self._last_commit: float | None = None
        #: Second, and the events committed in it.
        self._minute: deque[tuple[int, int]] = deque()
        self.commits = 0
        #: Events stored since the start, for the state that systemd shows.
        self.stored = 0
        self.connections = 0
        self.connections_total = 0
        #: Connections at the same time at most: as configured, or as the descriptors allow.
        self.max_connections = 0
        #: Why the writer cannot write at the moment; None when it can.
        self.trouble: str | None = None
        #: Since when the writer has not returned, in words; None while it does.
        self.hang: str | None = None
        #: Why clients cannot find the socket; None when they can.
        self.socket_trouble: str | None = None
        #: Why the file of objectives was not taken when it was read again; None when it was.
        self.objectives_error: str | None = None
        #: The newest row seen, the rows behind the table's newest, and the last error, by hook.
        self.hook_seen: dict[str, int] = {}
        self.hook_lag: dict[str, int] = {}
        self.hook_errors: dict[str, str] = {}

    def count_commit(self, events: int, seconds: float) -> None:
        """A batch of `events` was committed in `seconds`."""
        self.commits += 1
        self._last_commit = self._clock()
        if events:
            self._count_in_second(int(self._last_commit), events)
            self._batches.append((events, seconds))
            self._figures = None

    def _count_in_second(self, second: int, events: int) -> None:
        if self._minute and self._minute[-1][0] == second:
            events += self._minute.pop()[1]
        self._minute.append((second, events))
        self._forget_older()

    def _forget_older(self) -> None:
        oldest = self._clock() - _RATE_SECONDS
        while self._minute and self._minute[0][0] < oldest:
            self._minute.popleft()

    @property
    def events_per_second(self) -> float:
        """Events committed in the last minute, or since the start, a second."""
        self._forget_older()
        seconds = max(1.0, min(_RATE_SECONDS, self._clock() - self._started))
        return round(sum(events for _, events in self._minute) / seconds, 1)

    @property
    def idle_seconds(self) -> float:
        """Seconds since the last commit, or since the start."""
        return self._clock() - (self._started if self._last_commit is None else self._last_commit)

    @property
    def degraded(self) -> str | None:
        """Why not everything is as it should be; None when it is."""
        hooks = "; ".join(f"{hook}: {error}" for hook, error in self.hook_errors.items())
        trouble = self.hang or self.trouble or self.socket_trouble
        return trouble or hooks or self.objectives_error or None

    def _batch_figures(self) -> dict[str, float | None]:
        """Return medians and maxima, sorted once a commit however many ask."""
        if self._figures is None:
            sizes = sorted(size for size, _ in self._batches)
            times = sorted(seconds for _, seconds in self._batches)
            self._figures = {
                "batch_events_median": sizes[len(sizes) // 2] if sizes else None,
                "batch_events_max": sizes[-1] if sizes else None,
                "commit_ms_median": round(times[len(times) // 2] * 1000, 3) if times else None,
                "commit_ms_max": round(times[-1] * 1000, 3) if times else None,
            }
        return self._figures

    def snapshot(self) -> dict[str, object]:
        """Return everything as plain values."""
        now = self._clock()
        return {
            "health": "ok" if self.degraded is None else "degraded",
            "trouble": self.hang or self.trouble or self.socket_trouble,
            "uptime_seconds": round(now - self._started, 3),
            "connections": self.connections,
            "connections_total": self.connections_total,
            "max_connections": self.max_connections,
            "commits": self.commits,
            "last_commit_age_seconds": (
                None if self._last_commit is None else round(now - self._last_commit, 3)
            ),
            "events_per_second": self.events_per_second,
            **self._batch_figures(),
            "hook_seen_rows": dict(self.hook_seen),
            "hook_lag_rows": dict(self.hook_lag),
            "hook_errors": dict(self.hook_errors),
            "objectives_error": self.objectives_error,
        }
