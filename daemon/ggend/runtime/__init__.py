"""Runtime: the process itself. Its end, systemd, logs, counters, memory, descriptors, streams."""
