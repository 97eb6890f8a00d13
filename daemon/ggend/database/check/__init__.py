"""Check: verifies a database, its directory and its file system."""
