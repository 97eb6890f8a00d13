"""Bad input is answered, not suffered: by a code and a cause, and nobody else notices."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from ggend_schema import limits
from ggend_schema.codec import encode_frame
from ggend_schema.framing import frame
from ggend_schema.messages import Ack, Answer, Goodbye, Hello, Reject, Request
from support.daemon_process import Daemon, free_place
from support.framed_peer import (
    STAMP_NS,
    EventLike,
    Peer,
    audit,
    batch,
    line_of,
    new_producer,
    packed,
    receipt,
    unbalanced_accounts,
)
from support.patience import PATIENCE_SECONDS
from support.tools import need


class Bad(NamedTuple):
    """An event that must be rejected: its code and what the message must name."""

    event: EventLike
    code: str
    named: str


def _without(event: dict[str, object], field: str) -> dict[str, object]:
    return {key: value for key, value in event.items() if key != field}


def _nested(depth: int, innermost: object) -> object:
    value = innermost
    for _ in range(depth):
        value = [value]
    return value


def _packed_with_context(context: bytes) -> bytes:
    """An audit event whose `context` is these bytes."""
    whole = packed(audit("bad", context=None))
    assert whole.endswith(b"\xa7context\xc0")
    return whole[:-1] + context


def _line_with_context(context: bytes) -> bytes:
    return line_of(audit("bad", context=0)).replace(b'"context":0', b'"context":' + context)[:-1]


def _line(event: EventLike) -> bytes:
    return event if isinstance(event, bytes) else line_of(event)[:-1]


#: What is wrong in both encodings.
BAD: dict[str, Bad] = {
    "a name that is a number": Bad(audit("bad", agent_id=5), "invalid", "$.agent_id"),
    "a number that is a text": Bad(audit("bad", duration_ms="5"), "invalid", "$.duration_ms"),
    "a number that is a float": Bad(audit("bad", duration_ms=1.5), "invalid", "$.duration_ms"),
    "a number that is a bool": Bad(audit("bad", duration_ms=True), "invalid", "$.duration_ms"),
    "a required field that is null": Bad(audit("bad", operation=None), "invalid", "$.operation"),
    "a status that does not exist": Bad(audit("bad", status="done"), "invalid", "$.status"),
    "a status that is misspelt": Bad(
        audit("bad", status="complete"), "invalid", "did you mean `completed`?"
    ),
    "a stage that does not exist": Bad(
        {
            "type": "stage_completed",
            "execution_id": "bad",
            "stage": "μ₆_rest",
            "duration_ms": 1,
            "status": "passed",
        },
        "invalid",
        "$.stage",
    ),
    "an empty name": Bad(audit(""), "invalid", "$.agent_id"),
    "a name of 201 characters": Bad(
        audit("n" * 201), "invalid", "200 characters - at `$.agent_id`"
    ),
    "an operation of 1,001 characters": Bad(
        audit("bad", operation="o" * 1_001), "invalid", "1000 characters - at `$.operation`"
    ),
    "an error text of 10,001 characters": Bad(
        audit("bad", error_message="e" * 10_001),
        "invalid",
        "10000 characters - at `$.error_message`",
    ),
    "a hash that is not hex": Bad(
        receipt("bad", manifest_hash="xyz"), "invalid", "$.manifest_hash"
    ),
    "a negative duration": Bad(audit("bad", duration_ms=-1), "invalid", "0 - at `$.duration_ms`"),
    "a duration over 10^12": Bad(
        audit("bad", duration_ms=10**12 + 1), "invalid", "1000000000000 - at `$.duration_ms`"
    ),
    "a duration of 2^64 - 1": Bad(
        audit("bad", duration_ms=2**64 - 1), "invalid", "1000000000000 - at `$.duration_ms`"
    ),
    "a duration of -2^63": Bad(audit("bad", duration_ms=-(2**63)), "invalid", "$.duration_ms"),
    "an unknown type": Bad(audit("bad", type="audits"), "unknown_type", "mean `audit`?"),
    "a type that is a number": Bad(audit("bad", type=5), "unknown_type", "$.type"),
    "no type": Bad(_without(audit("bad"), "type"), "unknown_type", "`type`"),
    "a missing field": Bad(_without(audit("bad"), "status"), "invalid", "`status`"),
    "65 levels around a number": Bad(audit("bad", context=_nested(65, 1)), "too_deep", "64"),
    "65 levels around nothing": Bad(audit("bad", context=_nested(64, [])), "too_deep", "64"),
    "65 levels of maps": Bad(
        audit("bad", context=json.loads('{"a":' * 65 + "1" + "}" * 65)), "too_deep", "`$.context`"
    ),
    "a JSON field over 1 MiB": Bad(
        audit("bad", context="c" * limits.JSON_BYTES), "too_large", "`$.context`"
    ),
    "a line feed in a name": Bad(audit("a\nb"), "invalid", "$.agent_id"),
    "a NUL in a name": Bad(audit("a\0b"), "invalid", "$.agent_id"),
    "a C1 control character in a name": Bad(audit("a\x85b"), "invalid", "$.agent_id"),
    "a control character in an optional name": Bad(
        audit("bad", session_id="s\x7f"), "invalid", "$.session_id"
    ),
    "a control character in an environment": Bad(
        receipt("bad", environment="dev\x1b[31m"), "invalid", "$.environment"
    ),
    "a timestamp that is none": Bad(audit("bad", timestamp="yesterday"), "invalid", "ISO 8601"),
    "a timestamp that is a number": Bad(audit("bad", timestamp=5), "invalid", "$.timestamp"),
    "an empty timestamp": Bad(audit("bad", timestamp=""), "invalid", "$.timestamp"),
    "a timestamp in 1969": Bad(
        audit("bad", timestamp="1969-12-31T23:59:59.999Z"), "invalid", "1970 to 9999"
    ),
    "a timestamp in 1969 by its offset": Bad(
        audit("bad", timestamp="1970-01-01T00:00:00+01:00"), "invalid", "1970 to 9999"
    ),
    "a timestamp in the year 10000": Bad(
        audit("bad", timestamp="10000-01-01T00:00:00Z"), "invalid", "timestamp"
    ),
    "a timestamp in the year 10000 by its offset": Bad(
        audit("bad", timestamp="9999-12-31T23:59:59-01:00"), "invalid", "1970 to 9999"
    ),
    "a timestamp before the year 1 by its offset": Bad(
        audit("bad", timestamp="0001-01-01T00:00:00+14:00"), "invalid", "1970 to 9999"
    ),
}

#: What only msgpack can get wrong.
BAD_PACKED: dict[str, Bad] = {
    "10,000 levels": Bad(
        _packed_with_context(b"\x91" * 10_000 + b"\xc0"), "too_deep", str(limits.JSON_DEPTH)
    ),
    "10,000 levels of maps": Bad(
        _packed_with_context(b"\x81\xa1a" * 10_000 + b"\xc0"), "too_deep", str(limits.JSON_DEPTH)
    ),
    "NaN in a JSON field": Bad(audit("bad", context=[float("nan")]), "invalid", "`$.context`"),
    "infinity in a JSON field": Bad(audit("bad", context=float("-inf")), "invalid", "`$.context`"),
    "bytes in a JSON field": Bad(audit("bad", context={"a": b"b"}), "invalid", "`$.context`"),
    "a number as a key": Bad(audit("bad", context={1: 2}), "invalid", "`$.context`"),
    "null as a key": Bad(audit("bad", context={None: 2}), "invalid", "`$.context`"),
    "an array as a key": Bad(_packed_with_context(b"\x81\x91\x01\x02"), "invalid", "`$.context`"),
    "a timestamp extension": Bad(
        _packed_with_context(b"\xd6\xff\x00\x00\x00\x01"), "invalid", "$.context"
    ),
    "a timestamp extension out of range": Bad(
        _packed_with_context(b"\xc7\x0c\xff\x00\x00\x00\x00" + b"\x7f" + b"\xff" * 7),
        "invalid",
        "$.context",
    ),
    "another extension": Bad(_packed_with_context(b"\xd4\x05\x00"), "invalid", "$.context"),
    "bytes in a name": Bad(audit("bad", agent_id=b"bad"), "invalid", "$.agent_id"),
    "an event that is a number": Bad(b"\x05", "invalid", "object"),
    "an event that is nil": Bad(b"\xc0", "invalid", "object"),
    "an event that is an array": Bad(packed([1, 2]), "invalid", "object"),  # type: ignore[arg-type]
}

#: What only JSON can get wrong: whole lines, without the LF.
BAD_LINES: dict[str, Bad] = {
    "10,000 levels": Bad(
        _line_with_context(b"[" * 10_000 + b"]" * 10_000), "too_deep", str(limits.JSON_DEPTH)
    ),
    "10,000 levels that are never closed": Bad(
        _line_with_context(b"[" * 10_000), "too_deep", str(limits.JSON_DEPTH)
    ),
    "NaN": Bad(_line_with_context(b"NaN"), "malformed", "byte"),
    "a number beyond every float": Bad(_line_with_context(b"1e400"), "invalid", "$.context"),
    "a duration of 2^64": Bad(
        line_of(audit("bad", duration_ms=7)).replace(b":7", b":18446744073709551616")[:-1],
        "invalid",
        "$.duration_ms",
    ),
    "no JSON at all": Bad(b"Jan 29 12:34:56 host kernel: hello", "malformed", "byte"),
    "control bytes": Bad(b"\x01\x02\x03\x7f", "malformed", "byte"),
    "half an object": Bad(b'{"type":"audit"', "malformed", "truncated"),
    "two objects": Bad(line_of(audit("a"))[:-1] + line_of(audit("b"))[:-1], "malformed", "trail"),
    "a number": Bad(b"5", "invalid", "object"),
    "an array": Bad(b"[1,2]", "invalid", "object"),
    "a sequence without a producer": Bad(
        line_of(audit("bad", sequence=1))[:-1], "invalid", "`producer` and `sequence`"
    ),
    "a producer that is no id": Bad(
        line_of(audit("bad", producer="me", sequence=1))[:-1], "invalid", "32 hex digits"
    ),
    "sequence 0": Bad(
        line_of(audit("bad", producer="ab" * 16, sequence=0))[:-1], "invalid", "$.sequence"
    ),
    "a line over the limit": Bad(
        _line_with_context(b'"' + b"c" * limits.EVENT_BYTES + b'"'),
        "too_large",
        str(limits.EVENT_BYTES),
    ),
}

_FRAMED = [pytest.param(bad, id=name) for name, bad in {**BAD, **BAD_PACKED}.items()]
_LINES = [
    pytest.param(bad._replace(event=_line(bad.event)), id=name)
    for name, bad in {**BAD, **BAD_LINES}.items()
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """One daemon that has to bear all of this module; every test is another producer."""
    with free_place() as name, Daemon(Path(name)) as running:
        yield running
        assert unbalanced_accounts(running) == []


def _stored(daemon: Daemon, agent_id: str) -> int:
    """How many audit entries of this agent are in the table."""
    ((count,),) = daemon.query("SELECT COUNT(*) FROM audit_log WHERE agent_id = ?", agent_id)
    assert isinstance(count, int)
    return count


def _still_serves(daemon: Daemon) -> bool:
    """Whether another connection gets an event stored."""
    return b'"stored":1' in daemon.exchange(line_of(audit("another")))


def _send_framed(daemon: Daemon, bad: Bad) -> tuple[bytes, list[Reject]]:
    """Send the bad event between two good ones in one frame."""
    producer = new_producer()
    with Peer(daemon.socket) as peer:
        peer.hello(producer)
        good = audit(producer.hex())
        peer.send(batch(1, good, bad.event, good))
        return producer, peer.read_to_ack(3)


def _send_lines(daemon: Daemon, bad: Bad) -> tuple[str, dict[str, Any]]:
    """Send the bad line between two good ones."""
    agent_id = new_producer().hex()
    good = line_of(audit(agent_id))
    answer = daemon.exchange(good + packed(bad.event) + b"\n" + good)
    return agent_id, json.loads(answer)


@pytest.mark.parametrize("bad", _FRAMED)
def test_a_bad_event_in_a_frame_is_answered_with_its_code_and_cause(
    shared: Daemon, bad: Bad
) -> None:
    """Exactly the bad event is rejected, and the message names the field or the limit."""
    _, rejects = _send_framed(shared, bad)
    assert [(reject.sequence, reject.code) for reject in rejects] == [(2, bad.code)]
    assert bad.named in rejects[0].message


@pytest.mark.parametrize("bad", _FRAMED)
def test_a_bad_event_in_a_frame_harms_no_neighbour(shared: Daemon, bad: Bad) -> None:
    """The events before and after it are stored, the account adds up, and others are served."""
    producer, _ = _send_framed(shared, bad)
    assert _stored(shared, producer.hex()) == 2
    assert shared.query(
        "SELECT last_sequence, stored, rejected FROM producers WHERE producer = ?", producer
    ) == [(3, 2, 1)]
    assert _still_serves(shared)


@pytest.mark.parametrize("bad", _FRAMED)
def test_a_bad_event_in_a_frame_is_kept_with_its_bytes(shared: Daemon, bad: Bad) -> None:
    """The quarantine holds exactly the event's bytes, why, and whose they are."""
    producer, (reject,) = _send_framed(shared, bad)
    encoded = packed(bad.event)
    assert shared.query(
        "SELECT code, message, sequence, uid, client, encoding, stamp_ns, size_bytes, sha256, event"
        " FROM rejected_events WHERE producer = ?",
        producer,
    ) == [
        (
            bad.code,
            reject.message,
            2,
            os.getuid(),
            "test",
            "msgpack",
            STAMP_NS,
            len(encoded),
            hashlib.sha256(encoded).digest(),
            encoded,
        )
    ]


@pytest.mark.parametrize("bad", _LINES)
def test_a_bad_line_is_answered_with_its_code_and_cause(shared: Daemon, bad: Bad) -> None:
    """The answer names the bad line, its code, and the field or the limit."""
    _, answer = _send_lines(shared, bad)
    (error,) = answer["errors"]
    assert (error["line"], error["code"]) == (2, bad.code)
    assert bad.named in error["message"]


@pytest.mark.parametrize("bad", _LINES)
def test_a_bad_line_harms_no_neighbour(shared: Daemon, bad: Bad) -> None:
    """The lines before and after it are stored, and others are served."""
    agent_id, answer = _send_lines(shared, bad)
    assert (answer["lines"], answer["stored"], answer["rejected"]) == (3, 2, 1)
    assert _stored(shared, agent_id) == 2
    assert _still_serves(shared)


@pytest.mark.parametrize("bad", [param for param in _LINES if param.id != "a line over the limit"])
def test_a_bad_line_is_kept_with_its_bytes(shared: Daemon, bad: Bad) -> None:
    """The quarantine holds exactly the line, why, and the uid that sent it."""
    _, answer = _send_lines(shared, bad)
    assert shared.query(
        "SELECT code, message, producer, uid, encoding, size_bytes, sha256, event"
        " FROM rejected_events ORDER BY id DESC LIMIT 1"
    ) == [
        (
            bad.code,
            answer["errors"][0]["message"],
            None,
            os.getuid(),
            "json",
            len(bad.event),
            hashlib.sha256(packed(bad.event)).digest(),
            bad.event,
        )
    ]


def test_a_bad_numbered_line_is_kept_with_its_number(shared: Daemon) -> None:
    """A line that says producer and sequence, and is wrong otherwise, settles its number."""
    producer = new_producer()
    line = line_of(audit("bad", status="done", producer=producer.hex(), sequence=1))
    shared.exchange(line)
    assert shared.query(
        "SELECT sequence, uid, encoding, event FROM rejected_events WHERE producer = ?", producer
    ) == [(1, os.getuid(), "json", line[:-1])]
    assert shared.query(
        "SELECT last_sequence, rejected FROM producers WHERE producer = ?", producer
    ) == [(1, 1)]


@pytest.mark.parametrize("innermost", [1, []], ids=["a number", "nothing"])
def test_64_levels_are_accepted(shared: Daemon, innermost: object) -> None:
    """The limit of nesting is 64, not less."""
    depth = 64 if innermost == 1 else 63
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, audit(producer.hex(), context=_nested(depth, innermost))))
        assert peer.read_to_ack(1) == []
    assert _stored(shared, producer.hex()) == 1


def test_values_at_their_limits_are_accepted(shared: Daemon) -> None:
    """200 characters, 1,000, 10,000, 10^12 and a JSON value of 1 MiB are all right."""
    name = new_producer().hex() * 6 + "12345678"
    assert len(name) == 200
    with Peer(shared.socket) as peer:
        peer.hello(new_producer())
        peer.send(
            batch(
                1,
                audit(
                    name,
                    operation="o" * 1_000,
                    error_message="e" * 10_000,
                    duration_ms=10**12,
                    context="c" * (limits.JSON_BYTES - 2),
                ),
            )
        )
        assert peer.read_to_ack(1) == []
    assert _stored(shared, name) == 1


def test_a_start_before_1970_by_its_duration_is_1970(shared: Daemon) -> None:
    """A stamp is the end of an execution, and a clock may begin in 1970."""
    with Peer(shared.socket) as peer:
        peer.hello(new_producer())
        peer.send(batch(1, receipt("early", duration_ms=20_000), stamps=[12 * 10**9]))
        assert peer.read_to_ack(1) == []
    assert shared.query("SELECT timestamp FROM receipts WHERE execution_id = 'early'") == [
        ("1970-01-01T00:00:00.000Z",)
    ]


def test_a_neighbour_does_not_decide_about_an_event(shared: Daemon) -> None:
    """An event with a huge unknown field meets the same fate alone and beside a broken one."""
    huge = packed(audit("huge", unknown="u" * limits.EVENT_BYTES))
    fates = []
    for events in ([huge], [huge, b"\x05"]):
        with Peer(shared.socket) as peer:
            peer.hello(new_producer())
            peer.send(batch(1, *events))
            rejects = peer.read_to_ack(len(events))
        fates.append([reject.code for reject in rejects if reject.sequence == 1])
    assert fates[0] == fates[1]


def test_a_bad_event_is_found_however_its_keys_are_encoded(shared: Daemon) -> None:
    """A client may write the key `events` as a str 8; its bad event is still rejected alone."""
    producer = new_producer()
    good = audit(producer.hex())
    whole = msgspec.msgpack.encode(batch(1, good, audit("a\nb"), good))
    wide = whole.replace(b"\xa6events", b"\xd9\x06events")
    assert wide != whole
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(frame(wide))
        assert [reject.sequence for reject in peer.read_to_ack(3)] == [2]
    assert _stored(shared, producer.hex()) == 2


def test_a_parked_event_that_is_rejected_later_is_kept_with_its_origin(shared: Daemon) -> None:
    """The second of two ends that contradict each other waits, and is not anonymous then."""
    producer, session = new_producer(), new_producer().hex()
    end = {"type": "session_ended", "session_id": session}
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, {**end, "status": "completed"}, {**end, "status": "failed"}))
        assert peer.read_to_ack(2) == []
        peer.send(batch(3, {"type": "session_started", "session_id": session, "agent_count": 1}))
        peer.read_to_ack(3)
    assert shared.query(
        "SELECT code, sequence, client FROM rejected_events WHERE producer = ?", producer
    ) == [("conflict", 2, "test")]
    assert shared.query(
        "SELECT stored, parked, rejected FROM producers WHERE producer = ?", producer
    ) == [(2, 0, 1)]


class Fatal(NamedTuple):
    """Bytes after which a connection cannot go on."""

    sent: bytes
    code: str
    named: str


def _raw_batch(**fields: object) -> bytes:
    message = {"type": "batch", "first_sequence": 2, "stamps": [], "events": [], **fields}
    return frame(msgspec.msgpack.encode(message))


_HELLO_AGAIN = encode_frame(Hello(protocol=1, producer=b"p" * 16))
_WHOLE = msgspec.msgpack.encode(batch(2, audit("cut")))

#: What a peer may not send after its Hello and a good Batch of one event.
FATAL: dict[str, Fatal] = {
    "fewer stamps than events": Fatal(
        encode_frame(batch(2, audit("a"), audit("b"), stamps=[STAMP_NS])), "protocol", "1 stamps"
    ),
    "more stamps than events": Fatal(
        encode_frame(batch(2, audit("a"), stamps=[STAMP_NS] * 2)), "protocol", "2 stamps"
    ),
    "fewer stamps than events, one of them bad": Fatal(
        encode_frame(batch(2, audit("a"), b"\x05", stamps=[STAMP_NS])), "protocol", "1 stamps"
    ),
    "a second Hello": Fatal(_HELLO_AGAIN, "protocol", "second Hello"),
    "msgpack that ends inside an event": Fatal(frame(_WHOLE[:-9]), "protocol", "ends inside"),
    "msgpack that ends inside the map": Fatal(frame(b"\x82\xa4type\xa5batch"), "protocol", "ends"),
    "bytes behind the message": Fatal(frame(_WHOLE + b"\xc0"), "protocol", "1 bytes follow"),
    "a byte that is not msgpack": Fatal(
        encode_frame(batch(2, b"\xc1")), "protocol", "0xc1 at offset"
    ),
    "an empty frame": Fatal(frame(b""), "protocol", "msgpack map"),
    "a message that is no map": Fatal(frame(b"\x05"), "protocol", "msgpack map"),
    "a message of an unknown type": Fatal(
        frame(msgspec.msgpack.encode({"type": "batches"})), "protocol", "$.type"
    ),
    "a message without a type": Fatal(frame(b"\x80"), "protocol", "`type`"),
    "100,000 levels instead of a message": Fatal(
        frame(b"\x91" * 100_000 + b"\xc0"), "protocol", "msgpack map"
    ),
    "a Batch nested 100,000 deep": Fatal(
        frame(b"\x82\xa4type\xa5batch\xa6stamps" + b"\x91" * 100_000 + b"\xc0"), "protocol", ""
    ),
    "first_sequence 0": Fatal(_raw_batch(first_sequence=0), "protocol", "first_sequence"),
    "first_sequence over the limit": Fatal(
        _raw_batch(first_sequence=limits.SEQUENCE_MAX + 1), "protocol", "first_sequence"
    ),
    "first_sequence of 2^64 - 1": Fatal(
        _raw_batch(first_sequence=2**64 - 1), "protocol", "first_sequence"
    ),
    "numbers that run over the limit": Fatal(
        encode_frame(
            batch(limits.SEQUENCE_MAX, audit("a"), audit("b"), lost=limits.SEQUENCE_MAX - 2)
        ),
        "protocol",
        f"1 to {limits.SEQUENCE_MAX}",
    ),
    "negative lost": Fatal(_raw_batch(lost=-1), "protocol", "lost"),
    "more lost than there are numbers": Fatal(_raw_batch(lost=2), "protocol", "2 lost"),
    "negative shed": Fatal(_raw_batch(shed=-1), "protocol", "shed"),
    "a negative stamp": Fatal(
        _raw_batch(stamps=[-1], events=[audit("a")]), "protocol", "$.stamps[0]"
    ),
    "a stamp of 2^63": Fatal(
        _raw_batch(stamps=[2**63], events=[audit("a")]), "protocol", "$.stamps[0]"
    ),
    "events that are no array": Fatal(_raw_batch(events={}), "protocol", "events"),
    "4,097 events": Fatal(
        encode_frame(batch(2, *[audit("many")] * (limits.BATCH_EVENTS + 1))), "protocol", "4096"
    ),
    "a Request with a negative id": Fatal(
        frame(msgspec.msgpack.encode({"type": "request", "id": -1, "op": "status"})),
        "protocol",
        "$.id",
    ),
    "a frame over the limit": Fatal(
        frame(bytes(limits.FRAME_BYTES + 1)), "frame_too_large", str(limits.FRAME_BYTES)
    ),
    "a length of 2^32 - 1": Fatal(b"\xff\xff\xff\xff", "frame_too_large", str(limits.FRAME_BYTES)),
    "NDJSON behind frames": Fatal(line_of(audit("line")), "frame_too_large", "NDJSON"),
}

#: What a peer may not begin with.
FATAL_AT_FIRST: dict[str, Fatal] = {
    "a Batch before Hello": Fatal(encode_frame(batch(1, audit("a"))), "protocol", "before a Hello"),
    "a Request before Hello": Fatal(
        encode_frame(Request(id=1, op="status")), "protocol", "before Hello"
    ),
    "a Batch after a Hello without producer": Fatal(
        encode_frame(Hello(protocol=1)) + encode_frame(batch(1, audit("a"))),
        "protocol",
        "producer id",
    ),
    "protocol 2": Fatal(encode_frame(Hello(protocol=2)), "unsupported_version", "protocol 1"),
    "protocol 0": Fatal(encode_frame(Hello(protocol=0)), "unsupported_version", "not 0"),
    "protocol 2 and a Batch": Fatal(
        encode_frame(Hello(protocol=2, producer=b"2" * 16)) + encode_frame(batch(1, audit("a"))),
        "unsupported_version",
        "protocol 1",
    ),
    "a producer id of 15 bytes": Fatal(
        encode_frame(Hello(protocol=1, producer=b"p" * 15)), "protocol", "$.producer"
    ),
    "a producer id that is text": Fatal(
        frame(msgspec.msgpack.encode({"type": "hello", "protocol": 1, "producer": "p" * 16})),
        "protocol",
        "$.producer",
    ),
    "a client name of 201 characters": Fatal(
        encode_frame(Hello(protocol=1, client="c" * 201)), "protocol", "$.client"
    ),
    "HTTP": Fatal(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "frame_too_large", "frame"),
    "TLS": Fatal(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "frame_too_large", "frame"),
    "a JSON array": Fatal(b'[{"type":"audit"}]\n', "frame_too_large", "NDJSON"),
    "UTF-16": Fatal(
        line_of(audit("bom")).decode().encode("utf-16"), "frame_too_large", "NDJSON is UTF-8"
    ),
    "garbage": Fatal(bytes(range(255, 127, -1)), "frame_too_large", "frame"),
}


@pytest.mark.parametrize("fatal", FATAL.values(), ids=FATAL.keys())
def test_what_breaks_the_protocol_ends_the_connection_with_a_reason(
    shared: Daemon, fatal: Fatal
) -> None:
    """What came before it is stored and acked, then Goodbye says why; others are served."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        good = encode_frame(batch(1, audit(producer.hex())))
        peer.send_to_deaf_ears(good + fatal.sent)
        messages = peer.read_to_end()
    acks = [message.sequence for message in messages if isinstance(message, Ack)]
    goodbyes = [message for message in messages if isinstance(message, Goodbye)]
    assert acks == [1]
    assert [goodbye.code for goodbye in goodbyes] == [fatal.code]
    assert fatal.named in goodbyes[0].message
    assert _stored(shared, producer.hex()) == 1
    assert shared.query(
        "SELECT last_sequence, stored FROM producers WHERE producer = ?", producer
    ) == [(1, 1)]
    assert _still_serves(shared)


@pytest.mark.parametrize("fatal", FATAL_AT_FIRST.values(), ids=FATAL_AT_FIRST.keys())
def test_what_is_not_the_protocol_is_told_so(shared: Daemon, fatal: Fatal) -> None:
    """A stranger gets a Goodbye with a reason, stores nothing, and others are served."""
    before = shared.query("SELECT MAX(id) FROM audit_log")
    with Peer(shared.socket) as peer:
        peer.send_to_deaf_ears(fatal.sent)
        goodbye = peer.read_goodbye()
    assert goodbye.code == fatal.code
    assert fatal.named in goodbye.message
    assert shared.query("SELECT MAX(id) FROM audit_log") == before
    assert _still_serves(shared)


@pytest.mark.parametrize("cut", [1, 4, 5, 40, -1])
def test_half_a_frame_and_the_end_is_nothing(shared: Daemon, cut: int) -> None:
    """A peer that dies within a frame leaves no trace of it; it was not acked."""
    producer = new_producer()
    whole = encode_frame(batch(2, audit(producer.hex())))
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, audit(producer.hex())), whole[:cut])
        peer.finish()
        assert peer.read_to_end() == [Ack(sequence=1)]
    assert _stored(shared, producer.hex()) == 1


def test_an_overlong_line_is_recognisable_in_the_quarantine(shared: Daemon) -> None:
    """Of a line that cannot be kept whole, the quarantine never holds anything made up."""
    line = packed(BAD_LINES["a line over the limit"].event)
    shared.exchange(line + b"\n")
    ((code, event),) = shared.query(
        "SELECT code, event FROM rejected_events ORDER BY id DESC LIMIT 1"
    )
    assert code == "too_large"
    assert event is None or (isinstance(event, bytes) and event and line.startswith(event))


#: Seconds that the daemon waits for the other half of something, where the test sends it in time.
#: The pauses of a stream are a tenth of it.
_HALF_SECONDS = 2.0


@pytest.fixture(scope="module")
def impatient() -> Iterator[Daemon]:
    """A daemon that waits a third of a second for the other half of something."""
    with free_place() as name, Daemon(Path(name), partial_timeout_seconds=0.3) as running:
        yield running
        assert unbalanced_accounts(running) == []


@pytest.mark.parametrize("cut", [2, 4, 40])
def test_half_a_frame_and_silence_ends_with_a_timeout(impatient: Daemon, cut: int) -> None:
    """What was whole is acked, then Goodbye says that the other half did not come."""
    producer = new_producer()
    with Peer(impatient.socket) as peer:
        peer.hello(producer)
        half = encode_frame(batch(2, audit(producer.hex())))[:cut]
        peer.send(batch(1, audit(producer.hex())), half)
        assert peer.read() == Ack(sequence=1)
        goodbye = peer.read_goodbye()
    assert goodbye.code == "timeout"
    assert "0.3 s" in goodbye.message
    assert _stored(impatient, producer.hex()) == 1
    assert _still_serves(impatient)


def _exchange_without_end(daemon: Daemon, sent: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(daemon.exchange(sent, shut_down=False))
    return answer


def test_half_a_line_and_silence_is_answered(impatient: Daemon) -> None:
    """The whole lines are stored, the half one is refused and named, and others are served."""
    agent_id = new_producer().hex()
    whole = line_of(audit(agent_id))
    answer = _exchange_without_end(impatient, whole + whole + whole[:30])
    assert (answer["lines"], answer["stored"], answer["refused"]) == (3, 2, 1)
    ((line, code, message),) = [tuple(error.values()) for error in answer["errors"]]
    assert (line, code) == (3, "malformed")
    assert "0.3 s" in message
    assert _stored(impatient, agent_id) == 2
    assert _still_serves(impatient)


def test_an_overlong_line_and_silence_is_counted_once(impatient: Daemon) -> None:
    """One line without an end is one line in the answer."""
    answer = _exchange_without_end(impatient, b"{" + b" " * (limits.EVENT_BYTES + 1))
    assert answer["lines"] == 1
    assert [error["code"] for error in answer["errors"]] == ["too_large"]


def _paced(pieces: list[bytes]) -> Iterator[bytes]:
    """Yield pieces one by one, evenly, over more time than a half may take."""
    for piece in pieces:
        yield piece
        time.sleep(1.2 * _HALF_SECONDS / len(pieces))  # the pace is the point


@pytest.fixture(scope="module")
def patient() -> Iterator[Daemon]:
    with free_place() as name, Daemon(Path(name), partial_timeout_seconds=_HALF_SECONDS) as running:
        yield running


def test_lines_that_keep_coming_in_halves_are_not_cut_off(patient: Daemon) -> None:
    """The time limit is for one half line, not for a stream that is never at a line's end."""
    line = line_of(audit(new_producer().hex()))
    with Peer(patient.socket) as peer:
        peer.send_to_deaf_ears(line[:10])
        for piece in _paced([line[10:] + line[:10]] * 12):
            peer.send_to_deaf_ears(piece)
    assert patient.exchange(line)  # behind the last of them in the queue
    (agent_id,) = [json.loads(line)["agent_id"]]
    assert _stored(patient, agent_id) == 13


def test_frames_that_keep_coming_in_halves_are_not_cut_off(patient: Daemon) -> None:
    """The time limit is for one half frame, not for a stream that is never at a frame's end."""
    producer = new_producer()
    whole = [encode_frame(batch(number, audit(producer.hex()))) for number in range(1, 14)]
    stream = b"".join(whole)
    size = len(whole[0])
    with Peer(patient.socket) as peer:
        peer.hello(producer)
        peer.send(stream[:10])
        for piece in _paced([stream[at : at + size] for at in range(10, 12 * size, size)]):
            peer.send_to_deaf_ears(piece)
        peer.finish()
        assert peer.read_to_end()[-1] == Ack(sequence=12)


# What once ended the whole daemon


def _survives(daemon: Daemon) -> bool:
    assert daemon.process is not None
    return _still_serves(daemon) and daemon.process.poll() is None


def test_two_events_on_one_line_do_not_end_the_daemon(daemon: Daemon) -> None:
    """An error that is found in the second event of a line is an answer."""
    daemon.exchange(line_of(receipt("x"))[:-1] + line_of(receipt("x", status="failed")))
    assert _survives(daemon)


def test_a_conflict_with_a_huge_number_in_it_does_not_end_the_daemon(daemon: Daemon) -> None:
    """JSON has integers that msgpack has not; such an event can still be rejected and kept."""
    answer = json.loads(
        daemon.exchange(
            line_of(receipt("x"))
            + line_of(receipt("x", receipt=0)).replace(b'"receipt":0', b'"receipt":1' + b"0" * 30)
        )
    )
    assert [error["code"] for error in answer["errors"]] == ["conflict"]
    assert _survives(daemon)


def test_a_memory_with_a_huge_number_in_it_does_not_end_the_daemon(daemon: Daemon) -> None:
    """JSON has integers that msgpack has not; who asks for such a memory gets some answer."""
    event = {"type": "memory_saved", "agent_id": "a", "memory": 0}
    daemon.exchange(line_of(event).replace(b'"memory":0', b'"memory":1' + b"0" * 30))
    with Peer(daemon.socket) as peer:
        peer.hello()
        peer.send(Request(id=1, op="load_memory", arguments={"agent_id": "a"}))
        assert isinstance(peer.read(), Answer)
    assert _survives(daemon)


def test_a_row_that_somebody_broke_does_not_end_the_daemon(daemon: Daemon) -> None:
    """A receipt_json that is no JSON, by plain SQL: the same receipt again has other content."""
    daemon.exchange(line_of(receipt("x", receipt={"a": 1})))
    connection = sqlite3.connect(daemon.database)
    with connection:
        connection.execute("UPDATE receipts SET receipt_json = '{broken'")
    connection.close()
    answer = json.loads(daemon.exchange(line_of(receipt("x", receipt={"a": 1}))))
    assert [error["code"] for error in answer["errors"]] == ["conflict"]
    assert _survives(daemon)


def test_a_reason_does_not_quote_all_that_came(daemon: Daemon) -> None:
    """The decoder names the unknown type in full, and that is 900 KB."""
    answer = daemon.exchange(line_of({"type": "x" * 900_000}))
    assert len(answer) < 5_000
    assert daemon.query("SELECT length(message) < 2000, size_bytes FROM rejected_events") == [
        (1, 900_011)
    ]
    with Peer(daemon.socket) as peer:
        peer.send(frame(msgspec.msgpack.encode({"type": "x" * 900_000})))
        assert len(peer.read_goodbye().message) < 2_000


# Two users on one socket: needs root to become another one.

_ANOTHER_UID = 65_534


@pytest.fixture
def open_to_all(place: Path) -> Iterator[Daemon]:
    """A daemon that every user of the host may connect to."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    place.chmod(0o711)
    with Daemon(place, socket_mode="0666") as running:
        yield running
        assert unbalanced_accounts(running) == []


def _send_as_another_user(daemon: Daemon, sent: bytes) -> None:
    socat = need("socat")
    subprocess.run(
        [socat, "-t", str(PATIENCE_SECONDS), "-", f"UNIX-CONNECT:{daemon.socket}"],
        input=sent,
        user=_ANOTHER_UID,
        check=False,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(lambda: batch(2, audit("stolen")), id="a Batch"),
        pytest.param(lambda: batch(5, lost=3), id="lost"),
        pytest.param(lambda: Goodbye(code="done"), id="Goodbye done"),
    ],
)
def test_a_producer_of_another_user_cannot_be_touched(
    open_to_all: Daemon, more: Callable[[], Any]
) -> None:
    """What a stranger sends behind a Hello with somebody's producer id changes nothing of it."""
    producer = new_producer()
    with Peer(open_to_all.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, audit(producer.hex())))
        peer.read_to_ack(1)
    hello = encode_frame(Hello(protocol=1, producer=producer))
    _send_as_another_user(open_to_all, hello + encode_frame(more()))
    assert open_to_all.query(
        "SELECT uid, last_sequence FROM producers WHERE kind = 'producer'"
    ) == [(os.getuid(), 1)]
    assert _stored(open_to_all, "stolen") == 0
