"""Spelling: the known word that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["nearest"]


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known word that is spelled most like this one; None where none is close.

    `cutoff` is the ratio of `difflib` from which on a word is close; at 0 one always is.
    """
    import difflib  # late: few runs need it

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return found[0] if found else None
