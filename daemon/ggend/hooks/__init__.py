"""Hooks: what looks at committed rows, after the commit and off the ack path."""
