"""Patience: how long a test waits for an event before it fails.

No test judges how long something took: these limits end a test that hangs, and nothing else. Set
`GGEND_TEST_PATIENCE=4` on a machine that is so slow that they run out all the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

__all__ = ["LOOK_SECONDS", "PATIENCE_SECONDS", "TEST_SECONDS", "wait_until"]

#: What every limit is multiplied by.
_FACTOR = float(os.environ.get("GGEND_TEST_PATIENCE", "1"))

#: Seconds that a test waits for one event: enough beside four busy loops on two cores.
PATIENCE_SECONDS = 60.0 * _FACTOR

#: Seconds that one test may take, by pytest-timeout.
TEST_SECONDS = 300.0 * _FACTOR

#: Seconds between two looks at something that tells nobody when it happens.
LOOK_SECONDS = 0.01


def wait_until(condition: Callable[[], object], what: str = "it does not happen") -> None:
    """Wait until something is true. Raises AssertionError, with `what`, when patience ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(LOOK_SECONDS)
