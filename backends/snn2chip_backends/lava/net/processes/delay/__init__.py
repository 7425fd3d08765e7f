"""See `process`."""
