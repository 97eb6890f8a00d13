"""Commands: one module for each command or group of commands."""
