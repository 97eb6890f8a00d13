"""Spool: events on disk that the daemon has not acknowledged."""
