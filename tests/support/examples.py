"""Examples: how many a test tries of something that can be tried without end.

Property tests, and those marked `scaled`, take the number from the profile of the run:
`./dev check` tries few, `./dev torture properties` twenty times as many.
"""

from __future__ import annotations

from hypothesis import settings

__all__ = ["share_of_examples"]


def share_of_examples(share: float) -> int:
    """Return this share of the profile's examples, for a test whose examples are costly."""
    return max(1, round(settings().max_examples * share))
