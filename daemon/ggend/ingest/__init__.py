"""Ingest: from the queue to the committed row. Intake, writer, store, settle and outcomes."""
