"""ggend: the event-ingestion daemon of ggen. The wiring is in `topology`."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("ggend")
