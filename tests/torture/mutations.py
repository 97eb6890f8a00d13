"""Mutations: values and bytes that are almost right, and some that are not right at all.

Pure functions of a `random.Random`: the same seed gives the same bytes. It knows nothing of who
says what when (`dialogues`), opens no socket and judges nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec

from support.framed_peer import audit, receipt, stage

__all__ = ["NUMBERS", "TEXTS", "UNITS", "bomb", "cuts", "event", "mangled", "odd_line", "odd_map"]

#: Numbers at which something begins or ends, for lengths, counts and sequences alike.
NUMBERS = sorted(
    {
        sign * (edge + step)
        for edge in (0, 16, 32, 128, 256, 2**15, 2**16, 2**31, 2**32, 2**53, 2**62, 10**12, 10**15)
        for step in (-1, 0, 1)
        for sign in (1, -1)
    }
    | {2**63 - 1, -(2**63), 2**64 - 1, 2**63}
)

#: Texts that something along the way may mistake: for an end, a sign, a number, SQL or a path.
TEXTS = [
    "", "\0", "a\0b", "\n", "\r\n", "\u2028", "\ufeff", "\x7f", "\x85", "\ufffd", "μ₁_normalize",
    "é" * 100, "𝄞" * 200, "n" * 200, "n" * 201, "o" * 1001, "e" * 10_001, "NaN", "null", "-0",
    "'; DROP TABLE producers; --", "%s%n", "../../etc", "2026-01-29T12:34:56.789Z",
    "9999-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00+14:00", "1970-01-01", "20260129T123456Z",
    "2026-02-30T00:00:00Z", "2026-01-29T24:00:00Z", "2026-W05-4", "-1-01-01", "٢٠٢٦-٠١-٢٩",
]  # fmt: skip

#: Values by their bytes: broken texts, bytes, extensions, timestamps, the format that does not
#: exist, containers that declare more than they hold, and the same key twice.
_PACKED = [
    b"\xa2\xff\xfe", b"\xa3\xed\xa0\x80", b"\xa2\xc0\x80", b"\xc1", b"\xc4\x00", b"\xc4\x03abc",
    b"\xd6\xff\x69\x7b\x4a\x00", b"\xd7\xff" + b"\xff" * 8, b"\xc7\x0c\xff" + b"\xff" * 12,
    b"\xc7\x0c\xff" + b"\0" * 11 + b"\1", b"\xd4\x05\x00", b"\xc7\x00\x01",
    b"\xc9\xff\xff\xff\xff\x01", b"\xdb\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xde\xff\xff",
    b"\xcb\x7f\xf8\0\0\0\0\0\0", b"\xcb\x7f\xf0\0\0\0\0\0\0", b"\xca\xff\x80\0\0", b"\xca\0\0\0\1",
    b"\x82\xa1a\x01\xa1a\x02", b"\x81\xc0\x01", b"\x81\x01\x02", b"\x81\x91\x01\x02", b"\xcf" * 9,
    b"\x81\xa1a\xc4\x01b", b"\x91" * 70 + b"\xc0", b"\x81\xa1a" * 70 + b"\xc0",
]  # fmt: skip

#: The same for JSON.
_JSON = [
    b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b'"\xff"', b'"\xed\xa0\x80"', b"NaN", b"1e999",
    b"-1e-999", b"1" * 400, b"0." + b"1" * 400, b"-0", b"01", b"1.", b"\\u0031", b'"\\x"', b'"\t"',
    b'{"a":1,"a":2}', b"[" * 200 + b"]" * 200, b"[" * 5000, b'{"a":' * 100 + b"1" + b"}" * 100,
    b'{"\\ud800":1}', b"18446744073709551616", b"-9223372036854775809", b"1e400", b"123456789e99",
    b"tru", b"", b"{}", b"[]", b"\0", b"/**/1", b"Infinity", b"1\r", b'"\r\n"',
]  # fmt: skip

#: Bytes that begin a value with a length, in msgpack.
_WIDE = b"\xc4\xc5\xc6\xc7\xc8\xc9\xd9\xda\xdb\xdc\xdd\xde\xdf"

#: What a decoded value takes many times its bytes of.
UNITS = [
    b"\x90",
    b"\x80",
    b"\x81\xa1a\x01",
    b"\xcd\x01\x2c",
    b"\xd0\xe0",
    b"\xe0",
    b"\xa2ab",
    b"\xc0",
    b"\xcb" + b"\1" * 8,
]


def cuts(rng: random.Random, stream: bytes, most: int = 12) -> list[bytes]:
    """Cut a stream at random places; nothing is lost."""
    at = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.randint(0, most)))
    return [stream[start:stop] for start, stop in zip([0, *at], [*at, len(stream)], strict=True)]


def mangled(rng: random.Random, stream: bytes) -> bytes:
    """Change some bytes: flipped, gone, repeated, moved, or a type or length among them."""
    out = bytearray(stream)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        if not out:
            break
        at = rng.randrange(len(out))
        end = min(len(out), at + rng.choice((1, 2, 4, 9, 100)))
        match rng.randrange(8):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at] = rng.choice(_WIDE)
            case 2:
                out[at:end] = rng.randbytes(end - at)
            case 3:
                del out[at:end]
            case 4:
                out[at:at] = out[at:end] * rng.choice((1, 2, 50))
            case 5:
                out[at:end] = rng.choice((b"\xff", b"\0", b"\x7f")) * (end - at)
            case 6:
                out[at:at] = rng.choice((*_PACKED, *_JSON))
            case _:
                del out[at + rng.randrange(len(out) - at) :]
    return bytes(out)


def bomb(rng: random.Random, size: int) -> bytes:
    """Return about so many bytes of msgpack that are much larger, or deeper, when decoded."""
    unit = rng.choice(UNITS)
    count = max(1, size // len(unit))
    flat = b"\xdd" + count.to_bytes(4, "big") + unit * count
    deep = rng.choice((b"\x91", b"\x81\xa1a"))
    return rng.choice((flat, flat, deep * (size // len(deep)) + b"\xc0"))


def event(rng: random.Random) -> dict[str, object]:
    """Return a valid event. The few ids make repetitions, parents and conflicts likely."""
    name = f"fuzz-{rng.randrange(50)}"
    collision: dict[str, object] = {
        "type": "collision", "session_id": name, "agent_id_1": "a", "agent_id_2": "b",
        "collision_type": "file_conflict", "description": "both", "severity": "info",
    }  # fmt: skip
    return rng.choice(
        [
            audit(name, context={"n": rng.choice((1, 0.5, None, "x", [{}]))}),
            stage(name, rng.choice(("extract", "μ₃_emit", "receipt"))),
            receipt(name, receipt={"files": ["a"] * rng.randrange(3)}),
            collision,
            {"type": "session_started", "session_id": name, "agent_count": 2},
            {"type": "session_ended", "session_id": name, "status": "completed"},
            {"type": "memory_saved", "agent_id": name, "memory": [name] * rng.randrange(4)},
        ]
    )


def odd_map(rng: random.Random, fields: Mapping[str, object], *, bomb_bytes: int = 64) -> bytes:
    """Return these fields as a msgpack map in which some are odd, missing, or there twice."""
    pairs = [[msgspec.msgpack.encode(key), _packed(value)] for key, value in fields.items()]
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        pair = rng.choice(pairs)
        match rng.randrange(9):
            case 0 if len(pairs) > 1:
                pairs.remove(pair)
            case 1:
                pairs.append([pair[0], _packed(rng.choice(NUMBERS))])
            case 2:
                pairs.append([rng.choice(_PACKED), pair[1]])
            case 3:
                pair[1] = mangled(rng, pair[1])
            case 4:
                pair[1] = _packed(rng.choice(NUMBERS))
            case 5:
                pair[1] = _packed(rng.choice(TEXTS))
            case 6:
                pair[1] = rng.choice(_PACKED)
            case 7:
                pair[1] = bomb(rng, bomb_bytes)
            case _:
                pair[1] = rng.choice((b"\xc0", b"\xc2", b"\xc3", b"\x90", b"\x80", b"\xa0"))
    rng.shuffle(pairs)
    count = len(pairs) + (rng.choice((-1, 1, 100)) if rng.random() < 0.05 else 0)
    head = (
        bytes([0x80 | count]) if 0 <= count < 16 else b"\xde" + (count % 2**16).to_bytes(2, "big")
    )
    return head + b"".join(key + value for key, value in pairs)


def odd_line(rng: random.Random, fields: Mapping[str, object]) -> bytes:
    """Return these fields as a JSON line in which some are odd, missing, or there twice."""
    pairs = [(msgspec.json.encode(key), msgspec.json.encode(fields[key])) for key in fields]
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        at = rng.randrange(len(pairs))
        odd = rng.choice(
            (
                rng.choice(_JSON),
                msgspec.json.encode(rng.choice(TEXTS)),
                msgspec.json.encode(rng.choice(NUMBERS)),
            )
        )
        key, value = pairs[at]
        pairs[at] = rng.choice(((key, odd), (key, odd), (odd, value), (key, mangled(rng, value))))
        if rng.random() < 0.2:
            pairs.append((key, odd))
    space = rng.choice((b"", b"", b" ", b"\t", b"\r"))
    return b"{" + b",".join(key + b":" + space + value for key, value in pairs) + b"}"


def _packed(value: object) -> bytes:
    return msgspec.msgpack.encode(value)
