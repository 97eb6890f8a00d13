"""Support: what tests share. Nothing here is a test."""
