"""Check: whether a database is sound, and the place where it lies."""
