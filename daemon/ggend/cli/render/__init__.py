"""Render: what the commands show, as text, tables and JSON."""
