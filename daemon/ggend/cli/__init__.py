"""Command line: the commands, what they share, and how they print.

A command only reads its options, calls the module that does the work, and prints through `output`.
"""
