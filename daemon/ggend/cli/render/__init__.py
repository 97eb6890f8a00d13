"""Render: the output of commands as text, tables and JSON."""
