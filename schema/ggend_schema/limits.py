"""Limits: every bound that the contract and the protocol set, each with its reason.

Both sides of the socket import these; neither may invent another.
"""

from __future__ import annotations

__all__ = [
    "BATCH_EVENTS",
    "COUNT_MAX",
    "ERROR_CHARS",
    "EVENT_BYTES",
    "FRAME_BYTES",
    "JSON_BYTES",
    "JSON_DEPTH",
    "MESSAGE_CHARS",
    "NAME_CHARS",
    "OPERATION_CHARS",
    "PRODUCER_BYTES",
    "REPORTED_ERRORS",
    "SEQUENCE_MAX",
]

#: Characters in an id or a name. Long enough for two SHA-256 in hex and a prefix; short
#: enough that an index entry never leaves its B-tree page.
NAME_CHARS = 200

#: Characters in the free `operation` text of an audit entry.
OPERATION_CHARS = 1_000

#: Characters in an error text: a long traceback, not a core dump.
ERROR_CHARS = 10_000

#: Bytes of one JSON field as compact text. Real receipts are 2 to 72 KB.
JSON_BYTES = 1024 * 1024

#: Characters of the reason why an event was rejected: names that it quotes are at most 200.
MESSAGE_CHARS = 1_000

#: Nesting of a JSON field. SQLite's own parser and most others stop at 1,000 or less, and
#: the interpreter's C stack is finite.
JSON_DEPTH = 64

#: Largest duration (ms), size (bytes) or count. SQLite's SUM() over larger integers can
#: overflow 64 bits, which breaks a view until the row is deleted.
COUNT_MAX = 10**12

#: Bytes of one encoded event, and so of one NDJSON line: two JSON fields at their limit
#: and the texts beside them.
EVENT_BYTES = 2 * JSON_BYTES + 256 * 1024

#: Bytes of one frame payload. A frame must hold the largest event; beyond a few hundred
#: events a larger frame is no faster (tests/bench).
FRAME_BYTES = 4 * 1024 * 1024

#: Events in one Batch message.
BATCH_EVENTS = 4_096

#: A producer id is a random 128-bit number.
PRODUCER_BYTES = 16

#: The largest sequence: 100,000 events a second of one producer for three years. Far enough below
#: 64 bits that sums over producers which lie about it do not overflow (docs/adr/0007).
SEQUENCE_MAX = 10**13

#: Errors spelled out in an NDJSON answer; the rest is only counted.
REPORTED_ERRORS = 100
