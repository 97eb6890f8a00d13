"""Maintenance: what deletes, expires or tries again, by the daemon or in a file without one."""
