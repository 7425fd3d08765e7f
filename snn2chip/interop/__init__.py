"""Formats of others: what can be read and written, and the writers."""
