"""Maintenance: deletes, expires or requeues rows, in the daemon or in a file without a daemon."""
