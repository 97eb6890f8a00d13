"""Merge: the rows of another tier 2 database that this one has not, as events to be sent."""
