"""Dialogues: what a client says from its first byte to its last, and what must come of it.

Some are valid to the end, most are not. Pure functions of a `random.Random`, as `mutations`.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

import ggend_schema
from ggend_schema import limits
from ggend_schema.codec import encode_frame
from ggend_schema.framing import frame
from support.framed_peer import STAMP_NS, audit, batch
from torture.mutations import NUMBERS, TEXTS, bomb, event, mangled, odd_line, odd_map

__all__ = ["Spoken", "frames", "lines", "noise", "spoken"]

#: Each is a valid frame, or valid lines.
_GOLDEN = [
    file.read_bytes()
    for file in sorted(Path(ggend_schema.__file__).parent.glob("golden/*"))
    if file.suffix in (".bin", ".ndjson")
]

#: Arguments of requests, few of them right.
_ARGUMENTS: list[object] = [
    None, {}, [], {"agent_id": "fuzz-1"}, {"agent_id": "\0"}, {"agent_id": 5}, {"ids": [1, -1]},
    {"ids": []}, {"ids": [2**63]}, {"ids": [1.5]}, {"ids": "all"}, {"ids": list(range(5000))},
    {"cutoff": "2000-01-01 00:00:00"}, {"cutoff": "2000-01-01 00:00:00", "position": []},
    {"cutoff": "2000-99-99 99:99:99"}, {"cutoff": "2000-01-01 00:00:00", "limit": 0},
    {"cutoff": "2000-01-01 00:00:00", "position": {"table": "x"}}, {"a": float("nan")},
    {"limit": True}, {"limit": 2**64 - 1},
]  # fmt: skip


class Spoken(Struct, frozen=True):
    """What one client says, and what must be true of it afterwards."""

    sent: bytes
    #: Whose batches these are; None where a mutation may have changed it.
    producer: bytes | None = None
    #: Audit entries that are stored once their number is acked: the number is their operation.
    clean: frozenset[int] = frozenset()
    #: The number that is acked in any case when all is delivered.
    acked: int = 0
    #: Whether it says that it is done, so that its producer is forgotten.
    finishes: bool = False


def spoken(rng: random.Random, operations: Sequence[str], *, bomb_bytes: int = 4096) -> Spoken:
    """Return what some client says. `operations` are the requests to ask."""
    fate = rng.random()
    if fate < 0.1:
        return noise(rng)
    return lines(rng) if fate < 0.4 else frames(rng, operations, bomb_bytes=bomb_bytes)


def noise(rng: random.Random) -> Spoken:
    """Anything: random bytes, pieces of valid streams, lengths without what they announce."""
    kind = rng.randrange(4)
    if kind == 0:
        return Spoken(rng.randbytes(rng.choice((0, 1, 3, 4, 5, 64, 4096))))
    if kind == 1:
        size = rng.choice((0, 1, limits.FRAME_BYTES, limits.FRAME_BYTES + 1, 2**32 - 1))
        return Spoken(struct.pack(">I", size) + rng.randbytes(rng.randrange(20)))
    pieces = rng.choices(_GOLDEN, k=rng.randint(1, 6))
    return Spoken(b"".join(pieces if kind == 2 else (mangled(rng, piece) for piece in pieces)))


def lines(rng: random.Random) -> Spoken:
    """NDJSON, of which some lines are broken and some numbered."""
    producer = rng.randbytes(16)
    out: list[bytes] = []
    clean: list[int] = []
    is_numbered = rng.random() < 0.5
    is_valid = rng.random() < 0.3
    for _ in range(rng.randint(1, 40)):
        kind = rng.random()
        if is_numbered and kind < 0.5:
            clean.append(len(clean) + 1)
            numbered = audit(producer.hex(), operation=str(clean[-1]))
            out.append(_json(numbered | {"producer": producer.hex(), "sequence": clean[-1]}))
        elif is_numbered and kind < 0.6:
            odd = rng.choice((*NUMBERS, "1", None, 1.5, True))
            out.append(_json(event(rng) | {"producer": rng.randbytes(16).hex(), "sequence": odd}))
        elif is_valid:
            # A whole event on its line, now and then two on one, or one on two.
            one = _json(event(rng))
            out.append(rng.choice((*[one] * 30, one + one, one.replace(b",", b",\n", 1))))
        elif kind < 0.9:
            out.append(odd_line(rng, event(rng)))
        else:
            out.append(
                rng.choice((b"", b" ", b"\r", b"\xef\xbb\xbf{}", b"{", b"}", b"{}{}", b"\0"))
            )
    if rng.random() < 0.02:
        out.insert(
            0, b'{"type":"' + b"x" * (limits.EVENT_BYTES - 10 + rng.choice((0, 1, 2, 10**6)))
        )
    ending = rng.choice((b"\n", b"\n", b"\r\n"))
    sent = rng.choice((b"{}", b"", b"")) * (not is_valid) + ending + ending.join(out)
    if rng.random() < 0.3:
        return Spoken(mangled(rng, sent))
    return Spoken(sent + ending * rng.randint(0, 2), producer, frozenset(clean), len(clean))


def frames(rng: random.Random, operations: Sequence[str], *, bomb_bytes: int = 4096) -> Spoken:
    """A framed dialogue: Hello, then anything that may follow it, then anything at all."""
    return _Dialogue(rng, operations, bomb_bytes).spoken()


class _Dialogue:
    """One framed dialogue in the making: the frames so far, and what they will have come to."""

    def __init__(self, rng: random.Random, operations: Sequence[str], bomb_bytes: int) -> None:
        self._rng = rng
        self._operations = operations
        self._bomb_bytes = bomb_bytes
        self._producer = rng.randbytes(16)
        self._frames: list[bytes] = []
        self._next = 1
        self._clean: set[int] = set()
        #: The daemon may read nothing after this.
        self._is_over = False

    def spoken(self) -> Spoken:
        rng = self._rng
        hello = {"type": "hello", "protocol": 1, "producer": self._producer, "client": "fuzz"}
        fate = rng.random()
        self._add(odd_map(rng, hello) if fate < 0.1 else _pack(hello))
        steps: list[Callable[[], None]] = [
            self._valid, self._valid, self._valid, self._valid, self._replay, self._odd_events,
            self._odd_events, self._request, self._request, self._lost, self._broken, self._goodbye,
        ]  # fmt: skip
        for _ in range(rng.randint(0, 12)):
            if self._is_over and rng.random() < 0.7:
                break
            rng.choice(steps)()
        sent = b"".join(self._frames)
        if fate < 0.1:
            return Spoken(sent)
        if fate < 0.3:
            return Spoken(mangled(rng, sent))
        if fate < 0.4:
            # The first again, or another encoding on the same connection.
            sent += rng.choice((b"{}\n", b"\n", sent, b"\0", b"\0\0\0\0"))
        # A golden frame says it too.
        is_done = b"\xa4done" in sent
        return Spoken(sent, self._producer, frozenset(self._clean), self._next - 1, is_done)

    def _add(self, payload: bytes) -> None:
        self._frames.append(frame(payload))

    def _batch(self, first: int, events: Sequence[bytes], **others: object) -> None:
        self._add(_batch(first, events, **others))

    def _valid(self) -> None:
        count = self._rng.choice((1, 1, 3, 20, 200))
        numbers = range(self._next, self._next + count)
        name = self._producer.hex()
        self._batch(self._next, [_pack(audit(name, operation=str(n))) for n in numbers])
        if not self._is_over:
            self._clean.update(numbers)
            self._next += count

    def _replay(self) -> None:
        """From a number that is settled already, up to one that is perhaps not."""
        first = self._rng.randint(1, self._next)
        count = self._rng.randint(0, 30)
        self._batch(first, [_pack(event(self._rng))] * count)
        if not self._is_over:
            self._next = max(self._next, first + count)

    def _odd_events(self) -> None:
        rng = self._rng
        events = [
            odd_map(rng, event(rng), bomb_bytes=self._bomb_bytes) for _ in range(rng.randint(1, 6))
        ]
        self._batch(self._next, events)
        # One that is not exactly one value breaks the Batch around it.
        size = sum(map(len, events))
        if size > limits.FRAME_BYTES // 2 or not all(map(_is_whole, events)):
            self._is_over = True
        if not self._is_over:
            self._next += len(events)

    def _lost(self) -> None:
        rng = self._rng
        lost = rng.choice((1, 5, 10**6, 10**12))
        first = self._next + lost
        self._batch(first, [_pack(event(rng))], lost=lost + rng.choice((0, 0, self._next - 1)))
        if not self._is_over:
            self._next = first + 1

    def _broken(self) -> None:
        """A Batch whose numbers do not fit, or a message that the daemon does not expect."""
        rng = self._rng
        one = _pack(event(rng))
        number = rng.choice(NUMBERS)
        envelope = {
            "type": "batch", "first_sequence": self._next, "stamps": [STAMP_NS],
            "events": [msgspec.Raw(one)], "shed": 0, "lost": 0,
        }  # fmt: skip
        broken: list[Callable[[], None]] = [
            lambda: self._batch(number, [one], lost=rng.choice(NUMBERS)),
            lambda: self._batch(self._next + 2, [one]),
            lambda: self._batch(self._next, [one], stamps=[STAMP_NS] * rng.choice((0, 2, 9))),
            lambda: self._batch(self._next, [one], stamps=[number]),
            lambda: self._batch(self._next, [one], shed=number),
            lambda: self._batch(self._next, [one] * rng.choice((4096, 4097, 20_000))),
            lambda: self._add(odd_map(rng, envelope)),
            lambda: self._add(mangled(rng, _batch(self._next, [one]))),
            lambda: self._add(bomb(rng, self._bomb_bytes)),
            lambda: self._add(rng.choice(_GOLDEN)[4:]),
            lambda: self._add(b""),
            lambda: self._frames.append(struct.pack(">I", rng.choice((5, 2**22, 2**32 - 1)))),
        ]
        self._is_over = True
        rng.choice(broken)()

    def _request(self) -> None:
        rng = self._rng
        op = rng.choice((*self._operations, *self._operations, rng.choice(TEXTS)))
        arguments = rng.choice(_ARGUMENTS)
        request = {"type": "request", "id": rng.choice((0, 1, 2**63 - 1)), "op": op}
        if arguments is not None or rng.random() < 0.5:
            request["arguments"] = arguments
        is_odd = rng.random() < 0.2
        if is_odd or len(op) > limits.NAME_CHARS or not isinstance(arguments, dict):
            self._is_over = True
        self._add(odd_map(rng, request) if is_odd else _pack(request))

    def _goodbye(self) -> None:
        code = self._rng.choice(("done", "done", "nothing", ""))
        self._add(_pack({"type": "goodbye", "code": code}))
        self._is_over = True


def _is_whole(encoded: bytes) -> bool:
    try:
        msgspec.msgpack.decode(encoded)
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError, TypeError):
        return False
    return True


def _batch(first: int, events: Sequence[bytes], **others: object) -> bytes:
    """The payload of a Batch with these encoded events; its numbers may be anything."""
    return encode_frame(batch(first, *events, **others))[4:]  # type: ignore[arg-type]


def _pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
