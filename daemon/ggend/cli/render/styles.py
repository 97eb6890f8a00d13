"""Styles: the colours of words, where a terminal has colours."""

from __future__ import annotations

__all__ = ["STYLES"]

#: Colours of words that fill a whole cell.
STYLES = {
    "passed": "green",
    "completed": "green",
    "ok": "green",
    "partial": "yellow",
    "warning": "yellow",
    "running": "cyan",
    "failed": "red",
    "critical": "red",
    "degraded": "red",
}
