"""Importing: what other programs recorded, as events for the daemon. Never writes to a database."""
