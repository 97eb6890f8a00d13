"""Choices: the stored word that a person means by one of its spellings."""

from __future__ import annotations

from collections.abc import Mapping

from ggend.errors import UsageMistake
from ggend_schema.spelling import or_nearest

__all__ = ["known_word"]


def known_word(word: str, choices: Mapping[str, str], *, kind: str, option: str) -> str:
    """Return what is stored for a spelling. Raises UsageMistake, with the words that are known."""
    stored = choices.get(word)
    if stored is None:
        # Spellings with letters that keyboards lack are accepted, and need not be offered.
        offered = [choice for choice in choices if choice.isascii()]
        raise UsageMistake(
            f"there is no {kind} {word!r}{or_nearest(word, offered)}",
            hint=f"--{option} takes one of: {', '.join(offered)}",
        )
    return stored
