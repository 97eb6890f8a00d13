"""Queries: questions that people and programs ask of a tier 2 database. Never writes."""
