"""Queries: reads a tier 2 database for people and programs. Never writes."""
