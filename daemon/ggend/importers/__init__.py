"""Importers: what other programs recorded, as events for the daemon. Never write to a database."""
