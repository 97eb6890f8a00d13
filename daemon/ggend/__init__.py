"""ggend: the event-ingestion daemon of ggen. The wiring is in `topology`."""

__all__ = ["__version__"]

#: Here alone; the package's metadata is made from it.
__version__ = "0.1.0"
