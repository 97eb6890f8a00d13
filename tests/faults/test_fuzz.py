"""Whatever a client sends, it is answered or cut off, and nobody else notices.

The long form is `./dev torture fuzz`; what was found about memory on the way is kept here.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import time
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest

from ggend.runtime.memory_budget import estimate_json_memory, estimate_memory
from ggend_schema import limits
from ggend_schema.codec import decode_event, decode_line
from ggend_schema.framing import frame
from ggend_schema.messages import Ack, Answer
from support.daemon_process import Daemon
from support.framed_peer import Peer, audit, batch, new_producer, packed
from torture.decoding import problems_of
from torture.dialogues import Spoken, spoken
from torture.fuzz import fuzz, memory_mib
from torture.mutations import UNITS, bomb, mangled

#: Requests to ask of nobody: here is no daemon.
_OPERATIONS = ["status"]

#: Connections that each send one message, and the empty arrays in each: 43 MiB when decoded.
_CROWD = 8
_ARRAYS = 600_000

#: Seconds in which a daemon without a bound decodes enough of them to be over it.
_CROWDED_SECONDS = 1.0

#: MiB for events until they are stored: one of these is more than that, and has it for itself.
_INTAKE_MIB = 32

#: MiB that a daemon may take while they wait: itself and a few of these. Without
#: a bound it is 390 and more.
_CROWDED_MIB = 250


@pytest.mark.parametrize("seed", range(4))
def test_decoding_fails_only_with_the_documented_errors(seed: int) -> None:
    """However it is cut; and what is accepted has rows that SQLite and JSON readers take."""
    for number in range(150):
        where = f"{seed}/{number}"
        rng = random.Random(where)
        said = spoken(rng, _OPERATIONS)
        assert problems_of(said.sent, rng) == [], where


@pytest.mark.parametrize("seed", range(8))
def test_the_largest_frames_are_decoded_in_time(seed: int) -> None:
    """Also where each of four million bytes is a value, or one more level of nesting."""
    rng = random.Random(seed)
    payload = bomb(rng, limits.FRAME_BYTES - 16)
    assert len(payload) <= limits.FRAME_BYTES
    assert problems_of(frame(payload), rng) == []
    assert problems_of(b'{"type":"audit","context":' + payload, rng) == []


def test_the_same_seed_says_the_same() -> None:
    """A problem that names its seed can be looked at again."""
    one, other = (spoken(random.Random("7/7/7"), _OPERATIONS) for _ in range(2))
    assert isinstance(one, Spoken)
    assert one == other
    assert mangled(random.Random(1), one.sent) == mangled(random.Random(1), other.sent)


def test_odd_clients_are_answered_and_a_good_one_notices_nothing() -> None:
    """No crash, no traceback, memory in bounds, and what was acked is there once."""
    done = fuzz(seconds=3, seed=5, clients=4)
    assert done.problems == []
    assert done.conversations > 20
    assert done.acked > 0
    assert done.rejected > 0
    assert done.canary_acks > 0


@pytest.mark.parametrize(
    "unit",
    UNITS,
    ids=bytes.hex,
)
def test_what_decoding_takes_is_estimated_before(unit: bytes) -> None:
    """The daemon waits for the memory, and then decodes; twice that is near enough."""
    packed_event = packed(audit("a", context=None))[:-1] + _array(unit, 20_000)
    json_event = msgspec.json.encode(msgspec.msgpack.decode(packed_event))
    assert _memory_of(lambda: decode_event(packed_event)) < 2 * estimate_memory(packed_event)
    assert _memory_of(lambda: decode_line(json_event)) < 2 * estimate_json_memory(json_event)


def _memory_of(decode: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        decoded = decode()
        return tracemalloc.get_traced_memory()[0] - sys.getsizeof(decoded)
    finally:
        tracemalloc.stop()


def _array(unit: bytes, count: int) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + unit * count


def _batch_of_arrays() -> bytes:
    """Two events with half of the empty arrays each: one with all would be over the limit."""
    event = packed(audit("crowd", context=None))[:-1] + _array(b"\x90", _ARRAYS // 2)
    return frame(msgspec.msgpack.encode(batch(1, *[event] * 2)))


def _request_of_arrays() -> bytes:
    request = {"type": "request", "id": 1, "op": "load_memory"}
    request["arguments"] = {"agent_id": "crowd", "more": None}
    return frame(msgspec.msgpack.encode(request)[:-1] + _array(b"\x90", _ARRAYS))


@pytest.mark.parametrize(
    "said",
    [
        _batch_of_arrays,
        _request_of_arrays,
    ],
)
def test_what_grows_when_decoded_waits_in_a_bounded_memory(
    said: Callable[[], bytes], place: Path
) -> None:
    """While the writer cannot write, and many send at once; afterwards each is answered."""
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(place, intake_mib=_INTAKE_MIB))
        peers = [stack.enter_context(Peer(daemon.socket)) for _ in range(_CROWD)]
        for peer in peers:
            peer.hello(new_producer())
        connection = stack.enter_context(closing(sqlite3.connect(daemon.database)))
        connection.execute("BEGIN IMMEDIATE")
        for peer in peers:
            peer.send(said())
        watched = time.monotonic() + _CROWDED_SECONDS
        while time.monotonic() < watched and memory_mib(daemon, "VmRSS") < _CROWDED_MIB:
            time.sleep(0.02)  # watching, not hoping
        connection.rollback()
        answers = [peer.read() for peer in peers]
        assert answers in ([Ack(sequence=2)] * _CROWD, [Answer(id=1)] * _CROWD)
        assert memory_mib(daemon, "VmHWM") < _CROWDED_MIB
