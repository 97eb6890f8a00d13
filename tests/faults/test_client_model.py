"""Model: programs that fork, end in every way, meet clock jumps and damaged files, one by one.

Each step is one thing that happens to a user's programs. What their emit() took is noted after
it returned, and afterwards, when a daemon is there and a replay has run, is stored once: all of
it but events of a producer of which a file was damaged.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ggend_client import Client
from ggend_client.replay import replay
from ggend_client.spool.spool import EXPIRY_NS
from ggend_client.testing import FakeDaemon
from support.daemon_process import free_place
from support.examples import share_of_examples
from support.patience import PATIENCE_SECONDS

#: Seconds that a program's end waits for a daemon.
_EXIT_SECONDS = 0.2


def _return(client: Client) -> None:
    client.close(_EXIT_SECONDS)


def _be_killed(number: signal.Signals) -> Callable[[Client], None]:
    def end(_: Client) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    return end


ENDS: dict[str, Callable[[Client], object]] = {
    "returns": _return,
    "flushes": lambda client: client.flush(_EXIT_SECONDS),
    "exits at once": lambda _: os._exit(0),
    "is terminated": _be_killed(signal.SIGTERM),
    "is killed": _be_killed(signal.SIGKILL),
    "becomes another": lambda _: os.execv("/bin/true", ["true"]),  # noqa: S606
}
FORKS: dict[str, Callable[[], int] | None] = {
    "none": None,
    "seen": os.fork,
    "unseen": lambda: int(ctypes.PyDLL(None).fork()),
}

PROGRAM = st.tuples(
    st.just("program"),
    st.sampled_from([1, 3, 700]),  # the last ones fill more than a file
    st.sampled_from(sorted(FORKS)),
    st.sampled_from(sorted(ENDS)),
    st.booleans(),
)
CLOCK = st.tuples(st.just("clock"), st.sampled_from([-2 * EXPIRY_NS, -EXPIRY_NS // 2, EXPIRY_NS]))
DAMAGE = st.tuples(st.just("damage"), st.integers(0, 5), st.floats(0, 1))
OTHERS = st.tuples(st.sampled_from(["daemon comes", "daemon goes", "replay"]))


class World:
    """A user's directory, a daemon that comes and goes, and what is known of the programs."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.spool = place / "spool"
        self.daemon = FakeDaemon(place / "g.sock")
        self.programs = 0
        #: Producers of which a file was damaged.
        self.damaged: set[bytes] = set()

    def program(self, events: int, fork: str, end: str, durable: bool) -> None:
        """Run one to its end, and its child."""
        self.programs += 1
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                self._be_a_program(events, FORKS[fork], ENDS[end], durable)
            os._exit(1)
        os.waitpid(pid, 0)

    def clock(self, jump_ns: int) -> None:
        """Let every file be as old as if the clock had been set."""
        for path in self.spool.iterdir() if self.spool.exists() else ():
            moment = path.stat().st_mtime_ns + jump_ns
            os.utime(path, ns=(moment, moment))

    def damage(self, index: int, where: float) -> None:
        """Change a byte of a segment."""
        segments = sorted(self.spool.glob("*.segment"))
        if index < len(segments):
            path = segments[index]
            content = bytearray(path.read_bytes())
            content[round(where * (len(content) - 1))] ^= 0x20
            path.write_bytes(content)
            self.damaged.add(bytes.fromhex(path.name.partition("-")[0]))

    def replay(self) -> None:
        """Bring what the dead left."""
        replay(self.spool, lambda: [self.daemon.socket], timeout=PATIENCE_SECONDS)

    def check(self) -> None:
        """Bring everything, and compare what came with what was noted."""
        if not self.daemon.is_running:
            self.daemon.start()
        self.replay()
        left = [path for path in self.spool.glob("*") if path.suffix != ".corrupt"]
        assert left == []
        stored = Counter(event.operation for event in self.daemon.events)  # type: ignore[union-attr]
        doubled = [name for name, times in stored.items() if times > 1]
        assert doubled == []
        notes = self.place / "notes"
        noted = notes.read_text().split() if notes.exists() else []
        lost = [name for name in noted if not stored[name.partition("/")[2]]]
        assert [name for name in lost if bytes.fromhex(name[:32]) not in self.damaged] == []

    def _be_a_program(
        self,
        events: int,
        fork: Callable[[], int] | None,
        end: Callable[[Client], object],
        durable: bool,
    ) -> None:
        notes = os.open(self.place / "notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        client = Client(self.daemon.socket, spool_dir=self.spool, durable=durable)

        def say(who: str, count: int) -> None:
            for number in range(count):
                name = f"{self.programs}-{who}-{number}"
                if client.audit(agent_id="a", operation=name, status="completed"):
                    producer = client._session.producer.hex()
                    os.write(notes, f"{producer}/{name}\n".encode())

        pid = 0
        if fork is not None:
            # Before the client's thread begins (docs/CLIENT.md says what CPython does else).
            pid = fork()
            if pid == 0:
                say("child", events)
                end(client)
                os._exit(0)
        say("itself", min(events, 20) if durable else events)
        if pid:
            os.waitpid(pid, 0)
        end(client)
        os._exit(0)


@settings(max_examples=share_of_examples(0.5))
@given(steps=st.lists(st.one_of(PROGRAM, PROGRAM, CLOCK, DAMAGE, OTHERS), max_size=8))
def test_whatever_happens_to_programs_what_they_said_is_stored_once(
    steps: list[tuple[object, ...]],
) -> None:
    with free_place() as name:
        world = World(Path(name))
        try:
            for step, *arguments in steps:
                if step == "daemon comes":
                    if not world.daemon.is_running:
                        world.daemon.start()
                elif step == "daemon goes":
                    if world.daemon.is_running:
                        world.daemon.stop()
                else:
                    getattr(world, str(step))(*arguments)
            world.check()
        finally:
            if world.daemon.is_running:
                world.daemon.stop()
