"""Books: what the writer's thread keeps between batches; the database holds it too.

Never writes by itself: each of the three does, in the transaction of its batch.
"""

from __future__ import annotations

from ggend.accounts import Accounts
from ggend.parking import Parking
from ggend.quarantine import Quarantine

__all__ = ["Books"]


class Books:
    """The accounts, the parked and the rejected events of one database."""

    __slots__ = ("accounts", "parking", "quarantine")

    def __init__(self, parking: Parking, quarantine: Quarantine) -> None:
        self.accounts = Accounts()
        self.parking = parking
        self.quarantine = quarantine
