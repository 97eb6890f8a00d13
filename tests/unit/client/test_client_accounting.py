"""offered = acked + queued + spooled + rejected + dropped, whatever happens, at every moment."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend_client import Audit, Client, Event, Statistics, fork_hooks
from ggend_schema.limits import EVENT_BYTES
from support.daemon_process import free_place
from support.patience import PATIENCE_SECONDS
from support.scripted_daemon import ScriptedDaemon


def audit_accounts(stats: Statistics) -> None:
    """The parts are never negative, and make up the whole."""
    parts = (stats.acked, stats.queued, stats.spooled, stats.rejected, stats.dropped.total)
    assert min(parts) >= 0, stats
    assert stats.offered == sum(parts), stats


def good(number: int) -> Event:
    return Audit(agent_id="a", operation=str(number), status="completed")


def bad(_number: int) -> Event:
    return Audit(agent_id="a", operation="o", status="completed", context=object())


def large(_number: int) -> Event:
    return Audit(agent_id="a", operation="o", status="completed", context="x" * EVENT_BYTES)


class Watch:
    """Looks at a client's statistics from a thread of its own, all the time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stop = threading.Event()
        self.failure: AssertionError | None = None
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.0002):  # expected to run out: it looks again
            try:
                audit_accounts(self._client.stats())
            except AssertionError as error:
                self.failure = error
                return

    def close(self) -> None:
        """Stop, and say what was seen."""
        self._stop.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure


def be_slow(daemon: ScriptedDaemon) -> None:
    daemon.acks = False


def be_well(daemon: ScriptedDaemon) -> None:
    daemon.acks = True
    daemon.hang_up()  # what was not acked is sent again


def be_older(daemon: ScriptedDaemon) -> None:
    daemon.restore(1)
    daemon.hang_up()


def refuse_some(daemon: ScriptedDaemon) -> None:
    daemon.rejects |= set(range(0, 500, 7))


def forget_to_ack(daemon: ScriptedDaemon) -> None:
    daemon.swallows += 1


MOODS: list[Callable[[ScriptedDaemon], None]] = [
    be_slow,
    be_well,
    be_older,
    refuse_some,
    forget_to_ack,
    ScriptedDaemon.hang_up,
]

STEPS = st.one_of(
    st.tuples(st.just("good"), st.integers(1, 60)),
    st.tuples(st.sampled_from(["bad", "large", "flush"]), st.just(1)),
    st.tuples(st.just("mood"), st.integers(0, len(MOODS) - 1)),
)


@given(
    steps=st.lists(STEPS, max_size=15),
    max_events=st.sampled_from([5, 65_536]),
    spooled=st.booleans(),
)
def test_whatever_happens_every_event_is_counted_once(
    steps: list[tuple[str, int]], max_events: int, spooled: bool
) -> None:
    offered = taken = 0
    with free_place() as name:
        place = Path(name)
        daemon = ScriptedDaemon(place / "s")
        client = Client(
            daemon.path,
            max_events=max_events,
            linger_seconds=0.001,
            spool_dir=place / "spool" if spooled else "",
        )
        try:
            with closing(Watch(client)):
                for step, amount in steps:
                    if step == "mood":
                        MOODS[amount](daemon)
                    elif step == "flush":
                        client.flush(0.01)
                    else:
                        make = {"good": good, "bad": bad, "large": large}[step]
                        for _ in range(amount):
                            offered += 1
                            taken += client.emit(make(offered))
                be_well(daemon)
                assert client.flush(PATIENCE_SECONDS), client.stats()
        finally:
            client.close(PATIENCE_SECONDS)
            daemon.stop()
        stats = client.stats()
        audit_accounts(stats)
        assert (stats.offered, stats.accepted) == (offered, taken)
        assert (stats.queued, stats.spooled) == (0, 0)
        assert stats.acked + stats.rejected + stats.dropped.lost == taken


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_spooled_is_counted_there(place: Path, durable: bool) -> None:
    client = Client(place / "nobody", spool_dir=place / "spool", durable=durable)
    for number in range(100):
        assert client.emit(good(number))
    client.close(PATIENCE_SECONDS)
    stats = client.stats()
    audit_accounts(stats)
    assert (stats.spooled, stats.queued) == (100, 0)


def test_a_client_that_spools_nothing_says_what_is_lost_with_it(place: Path) -> None:
    client = Client(place / "nobody", spool_dir="")
    assert client.emit(good(1))
    assert not client.close(0.05)
    audit_accounts(client.stats())
    assert client.stats().queued == 1


def test_durable_events_that_cannot_be_kept_are_dropped_and_counted(place: Path) -> None:
    (place / "spool").write_text("not a directory")
    told: list[str] = []
    client = Client(
        place / "nobody",
        spool_dir=place / "spool",
        durable=True,
        on_drop=lambda cause, _event: told.append(cause),
    )
    assert not client.emit(good(1))
    assert told == ["spool"]
    audit_accounts(client.stats())
    assert "not a directory" in (client.stats().last_drop or "")
    assert client.close(1)


def test_a_short_idle_makes_no_segment(place: Path) -> None:
    """What is sent at once after a rest is not late."""
    daemon = ScriptedDaemon(place / "s")
    client = Client(daemon.path, spool_dir=place / "spool", linger_seconds=0.001)
    try:
        for number in range(3):
            assert client.emit(good(number))
            assert client.flush(PATIENCE_SECONDS)
            client._worker._progress_at -= 60  # as after a minute
        assert not [*(place / "spool").glob("*.segment")]
    finally:
        client.close(1)
        daemon.stop()


def test_clients_that_are_gone_leave_nothing_behind(place: Path) -> None:
    """Neither one that was never used, nor one that was closed."""
    gc.collect()
    before = len(fork_hooks.watched())
    for _ in range(5):
        Client(place / "nobody", spool_dir="")
        used = Client(place / "nobody", spool_dir="")
        used.emit(good(1))
        used.close(0)
        del used
    gc.collect()
    assert len(fork_hooks.watched()) == before
    assert not [one for one in threading.enumerate() if one.name == "ggend-client"]
