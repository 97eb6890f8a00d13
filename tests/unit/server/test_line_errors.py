"""What finding the lines of rejected events costs: once through a block, however many they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, TypeVarTuple, cast

import anyio.lowlevel
import pytest

from ggend.ingest.intake import Outcome, Submission
from ggend.server import ndjson
from ggend.server.connection import HEAVY_BYTES, READ_BYTES, Connection
from ggend.server.dialogue import End
from ggend.server.ndjson import NdjsonDialogue
from ggend.storage.accounts import Sender
from ggend_schema.codes import EventCode
from ggend_schema.limits import REPORTED_ERRORS

T = TypeVar("T")
Args = TypeVarTuple("Args")

_STARTED = b'{"type":"session_started","session_id":"s","agent_count":2}\n'


class Refusing:
    """A connection of which every event is rejected at once."""

    peer = Sender(uid=1000, gid=1000, pid=1)

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.submitted: list[int] = []
        #: What was to be decoded weighed so much.
        self.weights: list[int] = []

    def try_reserve(self, _size: int) -> int:
        """There is room for all."""
        return 0

    def release(self, _size: int) -> None:
        """Nothing was reserved."""

    def settled(self, _submission: Submission) -> None:
        """Nobody waits for that."""

    def send(self, encoded: bytes) -> None:
        """Keep the answer."""
        self.told.append(json.loads(encoded))

    async def offload_if_large(
        self, size: int, function: Callable[[*Args], T], *arguments: *Args
    ) -> T:
        """Call it here."""
        self.weights.append(size)
        return function(*arguments)

    async def submit(self, submission: Submission) -> None:
        """Reject every event."""
        count = len(submission.entries)
        self.submitted.append(count)
        outcome = Outcome()
        outcome.first_sequence = 7
        outcome.rejected = count
        outcome.rejects = [(7 + at, EventCode.CONFLICT, "why") for at in range(count)]
        submission.done(submission, outcome)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lines of each look through a block."""
    seen: list[int] = []
    look = ndjson._nonblank_lines

    def counted(block: bytes, first_line: int) -> Sequence[int]:
        seen.append(block.count(b"\n") + 1)
        return look(block, first_line)

    monkeypatch.setattr(ndjson, "_nonblank_lines", counted)
    return seen


async def _answer(connection: Refusing, *blocks: bytes) -> dict[str, Any]:
    dialogue = NdjsonDialogue(cast("Connection", connection))
    for block in blocks:
        await dialogue.feed(block)
    dialogue.end(End.PEER_FINISHED)
    (answer,) = connection.told
    return answer


async def test_a_block_is_looked_through_once_for_all_its_errors(looks: list[int]) -> None:
    answer = await _answer(Refusing(), 50 * _STARTED)
    assert [error["line"] for error in answer["errors"]] == list(range(1, 51))
    assert looks == [50]


async def test_a_block_of_which_no_error_is_told_is_not_looked_through(looks: list[int]) -> None:
    answer = await _answer(Refusing(), *4 * [1000 * _STARTED])
    assert answer["rejected"] == 4000
    assert len(answer["errors"]) == REPORTED_ERRORS
    assert answer["errors_omitted"] == 4000 - REPORTED_ERRORS
    assert looks == [1000]


async def test_bad_lines_are_taken_in_by_turns() -> None:
    """Each is decoded alone: nobody else would be served meanwhile."""
    connection = Refusing()
    await _answer(connection, 10_000 * b'{"type":"x"}\n')
    assert sum(connection.submitted) == 10_000
    assert max(connection.submitted) <= 256


@pytest.mark.parametrize(("size", "is_apart"), [(READ_BYTES, False), (3 * READ_BYTES, True)])
async def test_a_long_text_is_mended_apart(size: int, is_apart: bool) -> None:
    """It takes long, and others are served meanwhile."""
    connection = Refusing()
    await _answer(connection, b'{"type":"audit","operation":"' + size * b"\xff" + b'"}\n')
    assert connection.submitted == [1]
    assert (max(connection.weights) > HEAVY_BYTES) == is_apart


async def test_others_have_a_turn_once_in_so_many_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where numbered and unnumbered lines alternate, so that each is submitted alone."""
    turns: list[int] = []
    connection = Refusing()

    async def turn() -> None:
        turns.append(len(connection.submitted))

    monkeypatch.setattr(anyio.lowlevel, "checkpoint", turn)
    audit = b'"type":"audit","agent_id":"a","operation":"o","status":"completed"}\n'
    numbered = b'{"producer":"%s","sequence":1,' % (32 * b"0") + audit
    await _answer(connection, 500 * (numbered + b"{" + audit))
    assert connection.submitted == [1] * 1_000
    assert 1_000 / 256 <= len(turns) <= 1_000 / 256 + 2
