"""Line delivery: chunks of numbered lines to daemons that stop, vanish, and come back."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ggend.errors import DaemonUnreachable
from ggend.importers.delivery import LineDelivery, numbered, numbered_line
from ggend_schema.codec import decode_line, decode_line_number
from ggend_schema.events import Audit
from support.patience import PATIENCE_SECONDS

_OUTCOMES = ("replayed", "duplicate", "superseded", "rejected", "refused", "parked")

#: What one connection does with the lines that came: the answer, b"" for none.
Turn = Callable[[list[bytes]], bytes]


def stores(count: int | None = None, *, bad: int | None = None) -> Turn:
    """Store that many lines, all but perhaps one, and say so."""

    def answer(lines: list[bytes]) -> bytes:
        taken = len(lines) if count is None else count
        rejected = 0 if bad is None else 1
        errors = [] if bad is None else [{"line": bad, "code": "conflict", "message": "no"}]
        told: dict[str, object] = dict.fromkeys(_OUTCOMES, 0)
        told |= {"lines": taken, "stored": taken - rejected, "rejected": rejected}
        return json.dumps({**told, "errors": errors}).encode() + b"\n"

    return answer


def vanishes(lines: list[bytes]) -> bytes:
    return b""


@contextmanager
def daemon(place: Path, *turns: Turn) -> Iterator[list[list[bytes]]]:
    """Something that answers one connection after the other; gives what came on each."""
    came: list[list[bytes]] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(place / "s"))
        listening.listen()

        def serve() -> None:
            for turn in turns:
                stream, _ = listening.accept()
                with stream, stream.makefile("rb") as lines:
                    came.append(list(lines))
                    stream.sendall(turn(came[-1]))

        thread = threading.Thread(target=serve)
        thread.start()
        yield came
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


class Way:
    """A delivery whose pauses take no time, and what it said."""

    def __init__(self, place: Path, *, patience: float = 100) -> None:
        self.now = 0.0
        self.said: list[str] = []
        self.delivery = LineDelivery(
            place / "s",
            timeout_seconds=PATIENCE_SECONDS,
            patience_seconds=patience,
            notice=self.said.append,
            pause=self.pause,
            clock=lambda: self.now,
        )

    def pause(self, seconds: float) -> None:
        """Let the time pass."""
        self.now += seconds


LINES = [b'{"n":%d}\n' % number for number in range(5)]


def test_a_chunk_is_sent_and_its_answer_returned(place: Path) -> None:
    way = Way(place)
    with daemon(place, stores()) as came:
        answer = way.delivery.send(LINES)
    assert came == [LINES]
    assert (answer.lines, answer.stored, way.said) == (5, 5, [])


def test_what_a_stopping_daemon_had_not_read_goes_to_the_next(place: Path) -> None:
    way = Way(place)
    with daemon(place, stores(2, bad=1), stores(0), stores(bad=3)) as came:
        answer = way.delivery.send(LINES)
    assert came == [LINES, LINES[2:], LINES[2:]]
    assert (answer.lines, answer.stored, answer.rejected) == (5, 3, 2)
    assert [error.line for error in answer.errors] == [1, 5], "lines of the chunk"


def test_without_an_answer_everything_is_sent_again(place: Path) -> None:
    way = Way(place)
    with daemon(place, vanishes, vanishes, stores()) as came:
        assert way.delivery.send(LINES).stored == 5
    assert came == [LINES] * 3
    assert len(way.said) == 2, "once that it is away, once that it is back"
    assert way.now == pytest.approx(0.3), "two pauses, the second longer"


def test_patience_ends_in_an_error_that_says_where_it_looked(place: Path) -> None:
    way = Way(place, patience=3)
    with pytest.raises(DaemonUnreachable, match=str(place)) as caught:
        way.delivery.send(LINES)
    assert "again" in caught.value.hint
    assert 3 <= way.now < 10


def test_numbers_are_put_into_a_line(place: Path) -> None:
    producer = bytes(range(16))
    event = Audit(agent_id="a", operation="o", status="started")
    line = numbered_line(event, producer, 7)
    assert decode_line_number(line) == (producer, 7, True)
    assert decode_line(line) == event
    assert decode_line_number(numbered(b" { } \r", producer, 8)) == (producer, 8, True)


def test_of_a_key_that_is_there_twice_the_importers_counts() -> None:
    line = numbered(b'{"a":1,"permanent":false}', bytes(16), 3)
    assert decode_line_number(line) == (bytes(16), 3, True)


def cut_short(settled: int, *, rejected: int = 0) -> Turn:
    """Settle so many lines, and refuse one of which half came."""

    def answer(lines: list[bytes]) -> bytes:
        errors = [{"line": n, "code": "invalid", "message": ""} for n in range(1, rejected + 1)]
        errors.append({"line": settled + 1, "code": "malformed", "message": "half a line came"})
        told: dict[str, object] = dict.fromkeys(_OUTCOMES, 0)
        told |= {"refused": 1, "rejected": rejected, "stored": settled - rejected}
        told |= {"lines": settled + 1, "errors": errors[:2]}
        return json.dumps({**told, "errors_omitted": len(errors[2:])}).encode() + b"\n"

    return answer


@pytest.mark.parametrize("rejected", [0, 1, 2], ids=["alone", "told", "omitted"])
def test_a_line_of_which_half_came_is_sent_again(place: Path, rejected: int) -> None:
    """An importer that was suspended, and a daemon that waited too long for the other half."""
    way = Way(place)
    with daemon(place, cut_short(3, rejected=rejected), stores()) as came:
        answer = way.delivery.send(LINES)
    assert came == [LINES, LINES[3:]]
    assert (answer.lines, answer.stored, answer.refused) == (5, 5 - rejected, 0)


def test_the_daemon_that_answered_first_gets_everything(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one has another database."""
    (place / "other").mkdir()
    places = [place / "s", place / "other" / "s"]
    monkeypatch.setattr("ggend.importers.delivery.client_sockets", lambda _: places)
    delivery = LineDelivery(
        None,
        timeout_seconds=PATIENCE_SECONDS,
        patience_seconds=0,
        notice=lambda _: None,
        pause=lambda _: None,
    )
    with daemon(place, stores()):
        delivery.send(LINES)
    with daemon(place / "other", stores()) as came:
        with pytest.raises(DaemonUnreachable):
            delivery.send(LINES)
        Way(place / "other").delivery.send(LINES)
    assert len(came) == 1
