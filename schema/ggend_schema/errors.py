"""Errors of the contract package: what is wrong with bytes or values, in typed fields."""

from __future__ import annotations

from ggend_schema.codes import EventCode, GoodbyeCode
from ggend_schema.limits import MESSAGE_CHARS

__all__ = ["FrameTooLarge", "InvalidEvent", "MessageMalformed", "ProtocolError", "SchemaError"]


class SchemaError(Exception):
    """Root of this package's errors."""


class InvalidEvent(SchemaError):
    """One event cannot be accepted; its neighbours can."""

    def __init__(self, code: EventCode, message: str) -> None:
        self.code = code
        self.message = _shortened(message)
        super().__init__(f"{code}: {self.message}")


class ProtocolError(SchemaError):
    """The connection cannot go on: `code` and `message` are what Goodbye carries."""

    code = GoodbyeCode.PROTOCOL

    def __init__(self, message: str) -> None:
        self.message = _shortened(message)
        super().__init__(self.message)


class FrameTooLarge(ProtocolError):
    """A length prefix is over the size limit."""

    code = GoodbyeCode.FRAME_TOO_LARGE

    def __init__(self, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(
            f"a frame of {size} bytes is over the limit of {limit}; a frame is a big-endian "
            "32-bit length and that many bytes of msgpack, NDJSON is UTF-8 and begins with '{'"
        )


class MessageMalformed(ProtocolError):
    """A frame's payload is not a message of this protocol."""


def _shortened(message: str) -> str:
    """What the decoder says may quote all that came."""
    return message if len(message) <= MESSAGE_CHARS else f"{message[:MESSAGE_CHARS]}…"
