"""Dialogue: what a connection expects of an encoding, and why a dialogue ends."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from ggend.storage.accounts import Sender

__all__ = ["Dialogue", "End", "Owner"]


class Owner(Protocol):
    """A dialogue that speaks for a producer."""

    sender: Sender | None

    def take_over(self) -> None:
        """A newer connection speaks for the producer now."""


class Dialogue(Protocol):
    """What a peer and ggend say to each other, in one of the two encodings."""

    @property
    def is_partial(self) -> bool:
        """Whether half a frame or line is waiting for the rest."""

    @property
    def partial_bytes(self) -> int:
        """How many bytes of that half are kept."""

    @property
    def completed(self) -> int:
        """How many frames or blocks of lines are complete so far."""

    async def feed(self, chunk: bytes) -> bool:
        """Take in what the peer sent; return False when the dialogue is over."""

    async def feed_end(self) -> None:
        """Take in that the peer has finished sending."""

    def end(self, reason: End) -> None:
        """Everything is settled: tell the peer the last words. Also after half-sent input."""


class End(Enum):
    """Why nothing more is read from a peer."""

    PEER_FINISHED = "the peer closed its sending side or said goodbye"
    HALF_SENT = "half a frame or line came, and then nothing"
    STALLED = "half a frame or line came, and then nothing, while others waited for room"
    IDLE = "nothing came for long"
    DRAINING = "the daemon is stopping"
