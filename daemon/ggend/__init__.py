"""ggend: the event-ingestion daemon of ggen. The wiring is in `topology`."""
