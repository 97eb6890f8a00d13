"""Database: what a tier 2 file is, how it is made, upgraded, checked and opened for reading.

Holds no connection open; the one that writes events is in `ggend.store`.
"""
