"""Pairs: an event as it waits, the msgpack array of its stamp (ns since 1970) and itself."""

from __future__ import annotations

from time import time_ns

import msgspec

from ggend_schema import EVENT_TYPES, Event, limits
from ggend_schema.portable import portable_event

__all__ = ["EVENT_CLASSES", "PAIR_BYTES", "PAIR_BYTES_MAX", "encode", "opened", "pair_of"]

#: Bytes of a pair beside its event: the array's head and the stamp.
PAIR_BYTES = 10

#: Bytes of a pair at most.
PAIR_BYTES_MAX = limits.EVENT_BYTES + PAIR_BYTES

EVENT_CLASSES = frozenset(EVENT_TYPES.values())

encode = msgspec.msgpack.Encoder().encode
_pair = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])


def pair_of(event: Event) -> bytes:
    """Encode a pair. Raises TypeError for what is no event, and what encoding raises.

    Texts that are not Unicode and integers of more than 64 bits are made `portable` first.
    """
    if type(event) not in EVENT_CLASSES:
        raise TypeError(f"{type(event).__name__} is not an event")
    try:
        return encode((time_ns(), event))
    except (UnicodeEncodeError, OverflowError):
        return encode((time_ns(), portable_event(event)))


def opened(pair: bytes) -> tuple[int, msgspec.Raw]:
    """Return the stamp and the encoded event, however deeply that is nested.

    Raises msgspec.DecodeError.
    """
    try:
        return _pair.decode(pair)
    except RecursionError:
        return int.from_bytes(pair[2:PAIR_BYTES]), msgspec.Raw(pair[PAIR_BYTES:])
