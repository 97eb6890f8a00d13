"""Spelling: the known word that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

__all__ = ["did_you_mean", "nearest", "or_nearest"]

#: Characters of a word that are compared: no known word is longer, and the time grows with it.
_COMPARED_CHARS = 64


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known word that is spelled most like this one; None where none is close.

    `cutoff` is the ratio of `difflib` from which on a word is close; at 0 one always is.
    """
    return _nearest(word[:_COMPARED_CHARS], tuple(known), cutoff)


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return the question with the nearest known word; None where none is close.

    Upper case and `-` are no mistake of their own: the known words are lower case with `_`.
    """
    similar = nearest(word[:_COMPARED_CHARS].strip().lower().replace("-", "_"), known)
    return f"did you mean `{similar}`?" if similar else None


def or_nearest(word: str, known: Iterable[str]) -> str:
    """Return the same to put behind the wrong word: in parentheses, or nothing."""
    question = did_you_mean(word, known)
    return f" ({question})" if question else ""


@lru_cache(maxsize=256)  # a program makes the same mistake in each of its events
def _nearest(word: str, known: tuple[str, ...], cutoff: float) -> str | None:
    import difflib  # late: few runs need it

    found = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return found[0] if found else None
