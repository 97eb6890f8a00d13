"""Delivery: brings numbered NDJSON lines to the daemon, and adds up its answers.

Never numbers a line and never reads a file. A connection carries one chunk: write, shut down the
sending side, read the one line that answers. Lines are numbered, so what may or may not have been
settled when a connection is lost is sent again, and the daemon recognises it; where a draining
daemon says how far it got, the rest goes to the next one.
"""

from __future__ import annotations

import os
import socket as sockets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ggend.errors import DaemonUnreachable
from ggend.runtime.backoff import Backoff
from ggend_schema.codec import encode_event_line
from ggend_schema.codes import EventCode
from ggend_schema.events import Event
from ggend_schema.messages import LineError, LinesAnswer
from ggend_schema.places import client_sockets

__all__ = ["CHUNK_BYTES", "CHUNK_LINES", "LineDelivery", "numbered", "numbered_line"]

#: Bytes and lines of one connection, about: enough that connecting costs nothing, few enough that
#: memory is bounded, progress is seen, and the daemon spells out nearly every error.
CHUNK_BYTES = 2 * 1024 * 1024
CHUNK_LINES = 4_096

#: Bytes written at once: a few times what the kernel holds for a socket.
_WRITE_BYTES = 1024 * 1024

#: The answer is one line of at most 100 errors; more than this is no daemon of ours.
_ANSWER_BYTES = 4 * 1024 * 1024

#: The pauses between two attempts, in seconds: a restart takes less than a second.
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0

_answers = msgspec.json.Decoder(LinesAnswer)
_NOTHING = LinesAnswer(
    lines=0,
    stored=0,
    replayed=0,
    duplicate=0,
    superseded=0,
    rejected=0,
    refused=0,
    parked=0,
    errors=[],
)


def numbered(line: bytes, producer: bytes, sequence: int) -> bytes:
    """Put the numbers of a permanent producer into a line that is one JSON object.

    They stand last: of a key that is there twice the last one counts.
    """
    content = line.strip()[:-1].rstrip()
    comma = "" if content == b"{" else ","
    numbers = f'{comma}"producer":"{producer.hex()}","sequence":{sequence},"permanent":true}}\n'
    return content + numbers.encode()


def numbered_line(event: Event, producer: bytes, sequence: int) -> bytes:
    """Encode an event as a numbered line of a permanent producer."""
    return numbered(encode_event_line(event), producer, sequence)


class LineDelivery:
    """The way to one daemon, over as many connections as it takes."""

    __slots__ = ("_clock", "_notice", "_patience", "_pause", "_places", "_timeout")

    def __init__(
        self,
        socket: Path | None,
        *,
        timeout_seconds: float,
        patience_seconds: float,
        notice: Callable[[str], None],
        pause: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect nowhere yet.

        `timeout_seconds` is for one connection, `patience_seconds` for attempts without progress.
        `notice` is told once when the daemon has gone away, and once when it is back.
        """
        self._places = client_sockets(os.environ) if socket is None else [socket]
        self._timeout = timeout_seconds
        self._patience = patience_seconds
        self._notice = notice
        self._pause = pause
        self._clock = clock

    def send(self, lines: Sequence[bytes]) -> LinesAnswer:
        """Send one chunk, and return what became of it; errors count lines from 1.

        Raises DaemonUnreachable once nothing has moved for as long as patience lasts.
        """
        total = _NOTHING
        progress_at = self._clock()
        backoff = Backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        is_away = False
        while total.lines < len(lines):
            failure = "the daemon is stopping"
            try:
                answer = self._exchange(lines[total.lines :])
            except OSError as error:
                failure = str(error)
            else:
                total = _sum(total, answer)
                if answer.lines:
                    progress_at = self._clock()
                    backoff.reset()
                    if is_away:
                        self._notice("the daemon is back")
                        is_away = False
                    continue
            if self._clock() - progress_at >= self._patience:
                raise DaemonUnreachable(
                    f"some events are not stored: {failure}",
                    hint="`ggend status` shows the daemon's health; run this again to resume: "
                    "stored events are not added twice",
                )
            if not is_away:
                self._notice(f"waiting for the daemon: {failure}")
                is_away = True
            self._pause(backoff.next_delay())
        return total

    def _exchange(self, lines: Sequence[bytes]) -> LinesAnswer:
        """Send lines over a connection of their own. Raises OSError, told in words for people."""
        with self._connect() as stream:
            try:
                for block in _blocks(lines):
                    stream.sendall(block)
                stream.shutdown(sockets.SHUT_WR)
            except TimeoutError:
                raise OSError(f"the daemon read nothing for {self._timeout:g} s") from None
            except OSError:
                pass  # it reads no more; the answer that says why may be there
            try:
                return _without_half_line(_answers.decode(_read(stream)))
            except TimeoutError:
                raise OSError(f"no answer within {self._timeout:g} s") from None
            except msgspec.DecodeError:
                raise OSError("the connection was lost before the answer arrived") from None

    def _connect(self) -> sockets.socket:
        failures = []
        for place in self._places:
            stream = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
            stream.settimeout(self._timeout)
            try:
                stream.connect(str(place))
            except OSError as error:
                stream.close()
                failures.append(f"{place}: {error.strerror or error}")
            else:
                # The next chunk goes to this daemon or, while it restarts, nowhere.
                self._places = [place]
                return stream
        raise OSError(f"no daemon answers ({'; '.join(failures)})")


def _blocks(lines: Sequence[bytes]) -> list[bytes]:
    blocks: list[bytes] = []
    block: list[bytes] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line)
        if size >= _WRITE_BYTES:
            blocks.append(b"".join(block))
            block, size = [], 0
    return [*blocks, b"".join(block)]


def _read(stream: sockets.socket) -> bytes:
    received = bytearray()
    while len(received) < _ANSWER_BYTES and (chunk := stream.recv(64 * 1024)):
        received += chunk
    return bytes(received)


def _without_half_line(answer: LinesAnswer) -> LinesAnswer:
    """Leave out a line that came too slowly: refused when half of it was there, and not settled.

    No other line is refused as malformed. Where errors were omitted, its own may be among them:
    a line that was settled after all is recognised when it comes again.
    """
    if not answer.refused:
        return answer
    if not answer.errors_omitted and answer.errors[-1].code != EventCode.MALFORMED:
        return answer
    return msgspec.structs.replace(
        answer,
        lines=answer.lines - 1,
        refused=answer.refused - 1,
        errors=[error for error in answer.errors if error.line < answer.lines],
    )


def _sum(total: LinesAnswer, answer: LinesAnswer) -> LinesAnswer:
    """Add the answer to the rest of a chunk."""
    return LinesAnswer(
        lines=total.lines + answer.lines,
        stored=total.stored + answer.stored,
        replayed=total.replayed + answer.replayed,
        duplicate=total.duplicate + answer.duplicate,
        superseded=total.superseded + answer.superseded,
        rejected=total.rejected + answer.rejected,
        refused=total.refused + answer.refused,
        parked=total.parked + answer.parked,
        errors=[
            *total.errors,
            *(
                LineError(line=error.line + total.lines, code=error.code, message=error.message)
                for error in answer.errors
            ),
        ],
        errors_omitted=total.errors_omitted + answer.errors_omitted,
        imported_by=sorted({*(total.imported_by or ()), *(answer.imported_by or ())}),
    )
