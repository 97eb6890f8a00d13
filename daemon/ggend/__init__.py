"""ggend: the event-ingestion daemon of ggen. The wiring is in `topology`."""

from functools import cache

__all__ = ["version"]


@cache
def version() -> str:
    """Return the version that is installed."""
    # Late: it is a third of what every command would take to start.
    from importlib import metadata

    return metadata.version("ggend")
