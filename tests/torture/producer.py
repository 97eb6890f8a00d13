"""Producer: a process that emits as fast as it can, whatever happens to the daemon.

    python tests/torture/producer.py client|lines SOCKET TAG PRODUCER_HEX LOG

`client` is the real client, which sends on from where the daemon says it is; `lines` are numbered
NDJSON lines, sent again until they are answered, however many of them are stored already, and now
and then without waiting for the answer.

LOG gets a line with the number of events acked so far, again and again: whoever reads one may rely
on it. On SIGTERM it finishes what is late, waits until everything is acked, and prints how many
executions and events that were.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import socket as sockets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, not installed

import msgspec

from ggend_client import Client
from ggend_schema import Event, MemorySaved
from ggend_schema.codec import encode_event_line
from ggend_schema.timestamps import format_ms
from torture.work import emitted

#: Events between two lines of the log, and lines of a connection.
_NOTED = 500
_LINES = 200

#: Seconds to wait before an event is offered again to a client that is full, and before lines are
#: sent again.
_FULL_SECONDS = 0.005
_AGAIN_SECONDS = 0.05

#: Share of the connections that are closed before the answer comes.
_IMPATIENT = 0.1

#: Seconds that the last acks may take: the daemon may have to start.
_LAST_SECONDS = 60.0

#: Notes how many events are acked.
_Note: TypeAlias = Callable[[int], object]


def main() -> int:
    """Run until SIGTERM."""
    kind, socket, tag, producer, log_path = sys.argv[1:]
    stopped = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    executions = 0

    def numbers() -> Iterator[int]:
        nonlocal executions
        for number in itertools.count():
            if stopped:
                return
            executions = number + 1
            yield number

    produce = {"client": _emit, "lines": _send_lines}[kind]
    with Path(log_path).open("w", buffering=1) as log:
        offered, acked = produce(
            socket, tag, producer, emitted(tag, numbers()), lambda acked: log.write(f"{acked}\n")
        )
    sys.stdout.write(f"{executions} {offered}\n")
    return 0 if acked == offered else 1


def _emit(
    socket: str, tag: str, producer: str, events: Iterator[Event], note: _Note
) -> tuple[int, int]:
    client = Client(
        socket, service=tag, producer=bytes.fromhex(producer), permanent=True, exit_timeout=0
    )
    offered = 0
    for event in events:
        while not client.emit(event):
            time.sleep(_FULL_SECONDS)
        offered += 1
        if offered % _NOTED == 0:
            note(client.stats().acked)
    client.flush(_LAST_SECONDS)
    acked = client.stats().acked
    note(acked)
    client.close()
    return offered, acked


def _send_lines(
    socket: str, tag: str, producer: str, events: Iterator[Event], note: _Note
) -> tuple[int, int]:
    rng = random.Random(tag)
    settled = 0
    while chunk := list(itertools.islice(events, _LINES)):
        text = b"".join(
            b'{"producer":"%s","sequence":%d,"permanent":true,%s'
            % (producer.encode(), sequence, encode_event_line(_timed(event))[1:])
            for sequence, event in enumerate(chunk, settled + 1)
        )
        while not _is_answered(socket, text, len(chunk), patient=rng.random() > _IMPATIENT):
            time.sleep(_AGAIN_SECONDS)
        settled += len(chunk)
        note(settled)
    return settled, settled


def _timed(event: Event) -> Event:
    """The later memory wins: its time is said, since the clock of the daemon may be wrong."""
    if not isinstance(event, MemorySaved):
        return event
    return msgspec.structs.replace(event, timestamp=format_ms(time.time_ns() // 1_000_000))


def _is_answered(socket: str, text: bytes, lines: int, *, patient: bool) -> bool:
    """Send lines on a connection of their own; say whether all are settled."""
    try:
        with sockets.socket(sockets.AF_UNIX) as peer:
            peer.connect(socket)
            peer.sendall(text)
            peer.shutdown(sockets.SHUT_WR)
            if not patient:
                return False
            answered = b"".join(iter(lambda: peer.recv(65536), b""))
    except OSError:
        return False
    if not answered.endswith(b"\n"):
        return False
    answer = json.loads(answered)
    return bool(answer["stored"] + answer["replayed"] + answer["duplicate"] == lines)


if __name__ == "__main__":
    sys.exit(main())
